//! Access lists as files of a running weir: checked, refused with their place, taken over while clients are connected.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use weir_test_support::{Site, Weir, mosquitto_pub, wait_until};

use crate::WEIR;

const CONFIG: &str =
    "rules.watch = false\nauth.acl_file = \"acl\"\nauth.banned_file = \"banned\"\n";

/// [LESSON-18]
#[tokio::test]
async fn a_changed_list_is_taken_over_and_a_bad_one_is_refused_with_its_place() {
    let site = Site::new();
    site.config(CONFIG);
    site.write("acl", "allow all #\n");
    site.write("banned", "");
    let weir = site.start(WEIR).await;
    site.write("acl", "allow all a/#\nallow publsh b\n");
    site.write("banned", "client mallory\n");
    let refused = weir.reload().await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    for said in [
        "acl:2:7",
        "`publsh` is nothing",
        "what it held before goes on",
        "1 entry",
    ] {
        assert!(
            refused.stdout.contains(said),
            "{said} in\n{}",
            refused.stdout
        );
    }
    let (_, ready) = weir.get("/health/ready").await;
    assert!(
        ready.contains("degraded") && ready.contains("acl"),
        "{ready}"
    );
    site.write("acl", "allow all a/#\nallow publish b\n");
    let taken = weir.reload().await;
    assert_eq!(taken.code, Some(0), "{}", taken.stdout);
    assert!(taken.stdout.contains("2 rules"), "{}", taken.stdout);
    // The old list allowed it, the new one does not.
    mosquitto_pub(weir.mqtt_port(), &["-t", "c", "-m", "x"]).await;
    wait_until("the publish to be refused", Duration::from_secs(10), || {
        let dropped = weir.metric("weir_messages_dropped_total", &[("reason", "authz_deny")]);
        async move { dropped.await > 0.0 }
    })
    .await;
    assert_eq!(weir.stop().await, Some(0));
}

#[tokio::test]
async fn a_bad_list_is_found_by_check_and_keeps_weir_from_starting() {
    let site = Site::new();
    site.config(CONFIG);
    site.write("acl", "topic read a/#\n");
    site.write("banned", "nobody\n");
    let checked = site.weir(WEIR, &["check"]).await;
    assert_eq!(checked.code, Some(1), "{}", checked.stdout);
    for said in ["acl:1:1", "allow subscribe a/# user ann", "banned:1:1"] {
        assert!(
            checked.stdout.contains(said),
            "{said} in\n{}",
            checked.stdout
        );
    }
    let started = site.weir(WEIR, &["run"]).await;
    assert_eq!(started.code, Some(5), "{}", started.stderr);
    assert!(started.stderr.contains("acl:1:1"), "{}", started.stderr);
}

#[tokio::test]
async fn a_bad_line_of_scram_users_is_named_by_check_and_at_a_reload() {
    let site = Site::new();
    site.config("rules.watch = false\nauth.scram_file = \"scram\"\n");
    site.write("scram", "# nobody yet\n");
    let weir = site.start(WEIR).await;
    site.write("scram", "# devices\nann:pencil\n");
    for seen in [site.weir(WEIR, &["check"]).await, weir.reload().await] {
        assert_eq!(seen.code, Some(1), "{}", seen.stdout);
        for said in ["scram:2:1", "E1013", "weir passwd --scram"] {
            assert!(seen.stdout.contains(said), "{said} in\n{}", seen.stdout);
        }
        assert!(!seen.stdout.contains("pencil"), "it may be a password");
    }
    assert_eq!(weir.stop().await, Some(0));
}

/// A key that signs tokens, made now.
struct Signer {
    key: EncodingKey,
    /// Its public half, as a set of keys has it.
    jwk: Value,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let point = pair.public_key_raw();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        });
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        Self { key, jwk }
    }

    /// A token that ends so many seconds from now.
    fn token(&self, ends_in_s: i64) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let header = Header {
            kid: self.jwk["kid"].as_str().map(str::to_owned),
            ..Header::new(Algorithm::ES256)
        };
        let claims = json!({
            "sub": "ann", "exp": now.saturating_add_signed(ends_in_s), "acl": {"publish": ["up/#"]},
        });
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    fn set(&self) -> String {
        json!({"keys": [self.jwk]}).to_string()
    }
}

async fn signs_in(weir: &Weir, token: &str, topic: &str) -> bool {
    let args = ["-V", "5", "-P", token, "-u", "ann", "-t", topic, "-m", "x"];
    let published = mosquitto_pub(weir.mqtt_port(), &args).await;
    published.code == Some(0)
}

#[tokio::test]
async fn tokens_of_a_key_in_the_set_sign_in_and_another_set_is_taken_over() {
    let (old, new) = (Signer::new("2025"), Signer::new("2026"));
    let site = Site::new();
    site.config("rules.watch = false\n[auth.jwt]\njwks_file = \"jwks.json\"\n");
    site.write("jwks.json", &old.set());
    let weir = site.start(WEIR).await;
    assert!(signs_in(&weir, &old.token(60), "up/1").await);
    assert!(
        !signs_in(&weir, &old.token(-60), "up/1").await,
        "it is over"
    );
    assert!(!signs_in(&weir, &new.token(60), "up/1").await);
    let dropped = async || {
        weir.metric("weir_messages_dropped_total", &[("reason", "authz_deny")])
            .await
    };
    assert_eq!(dropped().await, 0.0);
    // The token says where its client may publish.
    assert!(signs_in(&weir, &old.token(60), "down/1").await);
    wait_until(
        "the publish to be refused",
        Duration::from_secs(10),
        async || dropped().await == 1.0,
    )
    .await;
    site.write("jwks.json", &new.set());
    let taken = weir.reload().await;
    assert_eq!(taken.code, Some(0), "{}", taken.stdout);
    assert!(signs_in(&weir, &new.token(60), "up/1").await);
    assert!(!signs_in(&weir, &old.token(60), "up/1").await);
    assert_eq!(weir.stop().await, Some(0));
}
