//! Who may connect, and what they may do, decided by the program.
//!
//! `cargo run --example embed_auth`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, MqttOptions, Packet, QoS, SubscribeReasonCode};
use weir::Broker;
use weir::auth::{
    Authenticator, Authorizer, BoxFuture, ConnectRequest, Decision, Identity, PublishVerdict,
    Subject,
};
use weir::mqtt::{QoS as GrantedQoS, ReasonCode, SubscriptionFilter};

/// Devices log in with a key; a real one would look it up, which may take its time.
struct DeviceKeys;

impl Authenticator for DeviceKeys {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            match (&request.username, &request.password) {
                (Some(name), Some(key)) if key == "device key" => {
                    Decision::Allow(Identity::user(name.clone()))
                }
                _ => Decision::Deny(ReasonCode::BadUserNameOrPassword),
            }
        })
    }
}

/// A device has the topics below its own name.
struct OwnTopics;

fn owns(subject: &Subject, topic: &str) -> bool {
    let name = subject.username.as_ref().map_or("", |name| name.as_str());
    topic
        .strip_prefix(name)
        .is_some_and(|rest| rest.starts_with('/'))
}

impl Authorizer for OwnTopics {
    fn generation(&self) -> u64 {
        0
    }

    fn publish(&self, subject: &Subject, topic: &str, _: GrantedQoS, _: bool) -> PublishVerdict {
        if owns(subject, topic) {
            PublishVerdict::Allow
        } else {
            PublishVerdict::Ignore
        }
    }

    fn subscribe(
        &self,
        subject: &Subject,
        filter: &SubscriptionFilter,
        qos: GrantedQoS,
    ) -> Result<GrantedQoS, ReasonCode> {
        if owns(subject, filter.filter.as_str()) {
            Ok(qos)
        } else {
            Err(ReasonCode::NotAuthorized)
        }
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::builder()
        .authenticator(DeviceKeys)
        .authorizer(OwnTopics)
        .listen("127.0.0.1:0")
        .start()
        .await?;
    let port = broker.addresses()[0].port();

    let mut options = MqttOptions::new("stranger", "127.0.0.1", port);
    options.set_credentials("pump-7", "a guess");
    let (_client, mut events) = AsyncClient::new(options, 10);
    match events.poll().await {
        Err(ConnectionError::ConnectionRefused(code)) => println!("the stranger: {code:?}"),
        other => return Err(format!("the stranger was not refused: {other:?}").into()),
    }

    let mut options = MqttOptions::new("pump", "127.0.0.1", port);
    options.set_credentials("pump-7", "device key");
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe("pump-7/#", QoS::AtLeastOnce).await?;
    client.subscribe("pump-8/#", QoS::AtLeastOnce).await?;
    let mut answers = Vec::new();
    while answers.len() < 2 {
        if let Event::Incoming(Packet::SubAck(suback)) = events.poll().await? {
            answers.extend(suback.return_codes);
        }
    }
    println!("pump-7/#: {:?}, pump-8/#: {:?}", answers[0], answers[1]);
    if answers[1] != SubscribeReasonCode::Failure {
        return Err("the pump may read what is not its own".into());
    }
    broker.stop(Duration::from_secs(1)).await;
    Ok(())
}
