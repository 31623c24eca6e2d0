//! Authenticators that ask others: a web service and a PostgreSQL database, both real, over real MQTT connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use weir::auth::Authenticator;
use weir::auth::access_list::{AccessList, DenyAction, NoMatch};
use weir::auth::chain::Chain;
use weir::auth::devices::{
    DeviceSettings, Devices, DevicesPostgres, PostgresDevices, Source as DeviceSource, Table,
    device_statement,
};
use weir::auth::http::{HttpService, HttpSettings};
use weir::auth::password_file::hash_password;
use weir::auth::password_hash::SaltPosition;
use weir::auth::postgres::{PostgresSettings, PostgresUsers, Statement};
use weir::broker::{Broker, BrokerSettings};
use weir::problem::Source as Text;
use weir_mqtt::{Connect, ProtocolVersion, ReasonCode, Utf8};
use weir_sinks::Secret;
use weir_sinks::bridge::sign_vector;
use weir_test_support::{Answer, Database, Postgres, Webhook};

use crate::client::{ALL, Client, TestBroker, V3_1_1, V5, publish};

/// A broker that asks `authenticator` and nobody else.
async fn broker_of(authenticator: impl Authenticator) -> TestBroker {
    let mut chain = Chain::new();
    chain.push(Arc::new(authenticator));
    let list = AccessList::new(None, Some(NoMatch::Allow), DenyAction::Ignore);
    TestBroker::built(Broker::builder().authenticator(chain).authorizer(list)).await
}

/// A client that logs in, and the answer.
async fn login(
    broker: &TestBroker,
    version: ProtocolVersion,
    user: &str,
    password: &str,
) -> (Client, ReasonCode) {
    let mut connect = Connect::new(version, Utf8::new(&format!("id-{user}")).unwrap());
    connect.username = Some(Utf8::new(user).unwrap());
    connect.password = Some(Bytes::copy_from_slice(password.as_bytes()));
    let (client, connack) = broker.connect_with(connect).await;
    (client, connack.reason)
}

fn service(webhook: &Webhook) -> HttpService {
    HttpService::open(HttpSettings {
        url: Secret::new(webhook.url()),
        headers: BTreeMap::from([("authorization".to_owned(), Secret::new("Bearer key"))]),
        timeout: Duration::from_millis(700),
        max_concurrent: 4,
        tls: Default::default(),
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_service_admits_refuses_or_leaves_it_to_others() {
    let webhook = Webhook::start().await;
    let broker = broker_of(service(&webhook)).await;
    for version in ALL {
        for (answer, expected) in [
            (Answer::status(200), ReasonCode::Success),
            (
                Answer::status(200).body(r#"{"result": "allow"}"#),
                ReasonCode::Success,
            ),
            (
                Answer::status(200).body(r#"{"result": "deny"}"#),
                ReasonCode::NotAuthorized,
            ),
            (Answer::status(401), ReasonCode::NotAuthorized),
            (Answer::status(403), ReasonCode::NotAuthorized),
            (Answer::status(204), ReasonCode::BadUserNameOrPassword),
            (
                Answer::status(200).body(r#"{"result": "ignore"}"#),
                ReasonCode::BadUserNameOrPassword,
            ),
        ] {
            webhook.answer_next(answer.clone());
            let (_client, reason) = login(&broker, version, "ann", "secret").await;
            assert_eq!(reason, expected, "{version:?} {answer:?}");
        }
    }
    let asked = webhook.requests().remove(0);
    assert_eq!(
        (&*asked.method, asked.header("authorization")),
        ("POST", Some("Bearer key"))
    );
    let said = asked.json();
    assert_eq!(said["username"], "ann");
    assert_eq!(said["password"], "secret");
    assert_eq!(said["clientid"], "id-ann");
    assert_eq!(said["peerhost"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_service_that_is_of_no_help_admits_nobody() {
    let webhook = Webhook::start().await;
    let broker = broker_of(service(&webhook)).await;
    for version in [V3_1_1, V5] {
        for answer in [
            Answer::status(500),
            Answer::status(302).header("location", "http://127.0.0.1:1/"),
            Answer::status(429),
            Answer::status(200).after(Duration::from_secs(3)),
            Answer::status(200).body("welcome"),
            Answer::status(200).body(r#"{"result": "maybe"}"#),
            Answer::status(200).body(r#"{"acl": {"publish": ["a/#/b"]}}"#),
            Answer::status(200).body(&" ".repeat(100_000)),
        ] {
            webhook.answer_next(answer.clone());
            let (_client, reason) = login(&broker, version, "ann", "x").await;
            assert_eq!(
                reason,
                ReasonCode::ServerUnavailable,
                "{version:?} {:?}",
                answer.status
            );
        }
    }
    drop(webhook);
    let (_client, reason) = login(&broker, V5, "ann", "x").await;
    assert_eq!(reason, ReasonCode::ServerUnavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_service_says_what_a_client_may_do_and_for_how_long() {
    let webhook = Webhook::start().await;
    let broker = broker_of(service(&webhook)).await;
    let rules = json!({"acl": [
        {"permission": "allow", "action": "publish", "topic": "up/${clientid}"},
        {"permission": "deny", "action": "all", "topic": "#"},
    ]});
    webhook.answer_next(Answer::status(200).body(&rules.to_string()));
    let (mut client, _) = login(&broker, V5, "ann", "x").await;
    let allowed = client.publish(publish("up/id-ann", "", 1, 1)).await;
    assert_eq!(allowed, ReasonCode::NoMatchingSubscribers);
    let denied = client.publish(publish("up/id-bob", "", 1, 2)).await;
    assert_eq!(denied, ReasonCode::NotAuthorized);
    assert_eq!(
        client.subscribe("up/#", 0).await,
        [ReasonCode::NotAuthorized]
    );
    webhook.answer_next(Answer::status(200).body(r#"{"expires_at": 1}"#));
    let (client, _) = login(&broker, V5, "eve", "x").await;
    client
        .expect_disconnect(ReasonCode::MaximumConnectTime)
        .await;
}

async fn users() -> (Database, TestBroker) {
    let database = Postgres::shared().await.create_database().await;
    database
        .psql(
            "CREATE TABLE users (name text, password_hash text, salt text, superuser boolean);
               CREATE TABLE acl (id serial, name text, permission text, action text, topic text);",
        )
        .await;
    let broker = broker_of(users_of(&database, Duration::from_secs(10))).await;
    (database, broker)
}

fn users_of(database: &Database, timeout: Duration) -> PostgresUsers {
    let statement = |text| Statement::parse(text).unwrap();
    PostgresUsers::open(PostgresSettings {
        url: Secret::new(database.url()),
        query: statement(
            "SELECT password_hash, salt, superuser FROM users WHERE name = ${username}",
        ),
        acl_query: Some(statement(
            "SELECT permission, action, topic FROM acl WHERE name = ${username} ORDER BY id",
        )),
        salt_position: SaltPosition::Suffix,
        max_connections: 2,
        timeout,
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_database_log_in_with_any_known_hash() {
    let (database, broker) = users().await;
    let argon2 = hash_password("secret").unwrap();
    database
        .psql(&format!(
            "INSERT INTO users VALUES ('ann', '{argon2}', NULL, NULL),
             ('bob', encode(sha256('secretsalt'), 'hex'), 'salt', false), ('nul', NULL, NULL, NULL)"
        ))
        .await;
    for version in ALL {
        for (user, password, expected) in [
            ("ann", "secret", ReasonCode::Success),
            ("ann", "wrong", ReasonCode::BadUserNameOrPassword),
            ("bob", "secret", ReasonCode::Success),
            ("bob", "secretsalt", ReasonCode::BadUserNameOrPassword),
            ("eve", "secret", ReasonCode::BadUserNameOrPassword),
            (
                "' OR name = 'ann' --",
                "secret",
                ReasonCode::BadUserNameOrPassword,
            ),
            // A row that cannot be used is no opinion about the client, and no welcome.
            ("nul", "", ReasonCode::ServerUnavailable),
        ] {
            let (_client, reason) = login(&broker, version, user, password).await;
            assert_eq!(reason, expected, "{version:?} {user}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_says_what_its_users_may_do() {
    let (database, broker) = users().await;
    let hash = hash_password("x").unwrap();
    database
        .psql(&format!(
            "INSERT INTO users VALUES ('ann', '{hash}', NULL, false), ('root', '{hash}', NULL, true);
             INSERT INTO acl (name, permission, action, topic)
             VALUES ('ann', 'allow', 'publish', 'own/%u'), ('ann', 'deny', 'all', '#'), ('root', 'deny', 'all', '#')"
        ))
        .await;
    let (mut ann, _) = login(&broker, V5, "ann", "x").await;
    let allowed = ann.publish(publish("own/ann", "", 1, 1)).await;
    assert_eq!(allowed, ReasonCode::NoMatchingSubscribers);
    let denied = ann.publish(publish("own/bob", "", 1, 2)).await;
    assert_eq!(denied, ReasonCode::NotAuthorized);
    let (mut root, _) = login(&broker, V5, "root", "x").await;
    assert_eq!(root.subscribe("#", 0).await, [ReasonCode::Success]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_admits_nobody_until_it_is_back() {
    let server = Postgres::start().await;
    let database = server.create_database().await;
    let hash = hash_password("x").unwrap();
    database
        .psql(
            "CREATE TABLE users (name text, password_hash text, salt text, superuser boolean);
               CREATE TABLE acl (id serial, name text, permission text, action text, topic text);",
        )
        .await;
    database
        .psql(&format!(
            "INSERT INTO users VALUES ('ann', '{hash}', NULL, false)"
        ))
        .await;
    let broker = broker_of(users_of(&database, Duration::from_secs(2))).await;
    assert_eq!(login(&broker, V5, "ann", "x").await.1, ReasonCode::Success);
    server.stop().await;
    for version in [V3_1_1, V5] {
        let reason = login(&broker, version, "ann", "x").await.1;
        assert_eq!(reason, ReasonCode::ServerUnavailable);
    }
    server.start_again().await;
    assert_eq!(login(&broker, V5, "ann", "x").await.1, ReasonCode::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_a_database_sign_in_as_their_cloud_wants_it() {
    let server = Postgres::start().await;
    let database = server.create_database().await;
    database
        .psql(
            "CREATE TABLE devices (scheme text, tenant_key text, device text, secret text, next_secret text, enabled boolean);
             INSERT INTO devices VALUES ('aliyun_iot', 'pk', 'gw', 'old', 'new', NULL),
             ('tencent_iot', 'WEIRPROD01', 'edge', 'b2xk', NULL, true), ('huawei_iotda', '', '5f_gw', 'old', NULL, false),
             ('onenet', 'pid', 'edge', 'no base64', NULL, true)",
        )
        .await;
    // NULL is not true: who leaves it out means a device that is on.
    let query = "SELECT secret, next_secret, coalesce(enabled, true) AS enabled FROM devices \
                 WHERE scheme = ${scheme} AND tenant_key = ${tenant_key} AND device = ${device}";
    let settings = DevicesPostgres {
        url: Secret::new(database.url()),
        query: device_statement(query).unwrap(),
        max_connections: 2,
        timeout: Duration::from_secs(2),
    };
    let source = DeviceSource::Postgres(PostgresDevices::open(settings).unwrap());
    let broker = broker_of(Devices::new(source, DeviceSettings::default())).await;
    let aliyun =
        |secret: &str| json!({"product_key": "pk", "device_name": "gw", "device_secret": secret});
    let tencent = |device: &str| json!({"product_id": "WEIRPROD01", "device_name": device, "device_secret": "b2xk"});
    let huawei = json!({"device_id": "5f_gw", "device_secret": "old"});
    let onenet = json!({"product_id": "pid", "device_name": "edge", "access_key": "b2xk"});
    let bad = ReasonCode::BadUserNameOrPassword;
    for (provider, inputs, expected) in [
        ("aliyun_iot", aliyun("old"), ReasonCode::Success),
        ("aliyun_iot", aliyun("new"), ReasonCode::Success),
        ("aliyun_iot", aliyun("other"), bad),
        ("tencent_iot", tencent("edge"), ReasonCode::Success),
        ("tencent_iot", tencent("' OR 1 = 1 --"), bad),
        ("huawei_iotda", huawei, bad),
        // A row that cannot be used is no opinion about the device, and no welcome.
        ("onenet", onenet, ReasonCode::ServerUnavailable),
    ] {
        let reason = sign_in(&broker, provider, &inputs).await;
        assert_eq!(reason, expected, "{provider} {inputs}");
    }
    server.stop().await;
    let reason = sign_in(&broker, "aliyun_iot", &aliyun("old")).await;
    assert_eq!(reason, ReasonCode::ServerUnavailable);
    server.start_again().await;
    let reason = sign_in(&broker, "aliyun_iot", &aliyun("old")).await;
    assert_eq!(reason, ReasonCode::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_device_is_nobody_elses() {
    let text = "[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"pk\"\ndevice = \"gw\"\nsecret = \"s\"\n";
    for reserved in [true, false] {
        let settings = BrokerSettings {
            reserve_device_names: reserved,
            ..BrokerSettings::default()
        };
        let devices = Devices::of(
            Table::parse(&Text::new("devices.toml", text)).unwrap_or_default(),
            DeviceSettings::default(),
        );
        let mut chain = Chain::new();
        chain.push(Arc::new(devices));
        let builder = Broker::builder().settings(settings).authenticator(chain);
        let broker = TestBroker::built(builder).await;
        let inputs = json!({"product_key": "pk", "device_name": "gw", "device_secret": "s"});
        let reason = sign_in(&broker, "aliyun_iot", &inputs).await;
        assert_eq!(reason, ReasonCode::Success);
        let taken = if reserved {
            ReasonCode::ClientIdentifierNotValid
        } else {
            ReasonCode::Success
        };
        for (client_id, expected) in [
            ("aliyun_iot:pk:gw", taken),
            ("huawei_iotda:", taken),
            ("aliyun_iotx:pk:gw", ReasonCode::Success),
            ("aliyun_iot", ReasonCode::Success),
        ] {
            for version in ALL {
                let connect = Connect::new(version, Utf8::new(client_id).unwrap());
                let (_client, connack) = broker.connect_with(connect).await;
                assert_eq!(connack.reason, expected, "{client_id} {version:?}");
            }
        }
    }
}

/// What a device is told that signs with these inputs.
async fn sign_in(broker: &TestBroker, provider: &str, inputs: &serde_json::Value) -> ReasonCode {
    let creds = sign_vector(provider, inputs).unwrap().show();
    let mut connect = Connect::new(V5, Utf8::try_from(creds.client_id).unwrap());
    connect.username = creds.username.map(|name| Utf8::try_from(name).unwrap());
    connect.password = creds.password.map(Bytes::from);
    let (_client, connack) = broker.connect_with(connect).await;
    connack.reason
}
