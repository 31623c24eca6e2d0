//! Registration over MQTT: one short connection, on which the cloud sends the credentials without being asked
//! (cloud-bridges §2.3).

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use weir_mqtt::{Disconnect, Packet, PubAck, Publish, ReasonCode, codec};
use zeroize::Zeroizing;

use super::{MAX_ANSWER, Registered, TIMEOUT, refused};
use crate::bridge::client::{self, Conn, Failure, GOODBYE, Greeting, Version};
use crate::bridge::plan::BridgePlan;
use crate::bridge::reconnect::Loss;
use crate::bridge::signer::ConnectCreds;
use crate::codes;
use crate::config::connector::{BridgeConfig, Protocol, TlsChoice, TlsConfig};
use crate::error::SinkError;

/// Where the cloud sends the secret of a device that it knows.
const KNOWN: &str = "/ext/register";
/// Where it sends the token of a device that it has made just now.
const MADE: &str = "/ext/regnwl";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    product_key: Option<String>,
    device_name: Option<String>,
    device_secret: Option<String>,
    client_id: Option<String>,
    device_token: Option<String>,
}

/// Signs in at `address` (`mqtts://host:port`) and waits for what the cloud sends. Nothing is tried twice: the cloud may
/// give it once.
pub(super) async fn register(
    address: &str,
    tls: &TlsConfig,
    base: &Path,
    creds: &ConnectCreds,
    (product, device): (&str, &str),
) -> Result<Registered, SinkError> {
    let plan = plan(address, tls)?;
    let greeting = Greeting {
        version: Version::V311,
        clean_start: true,
        session_expiry: Duration::ZERO,
        receive_maximum: 1,
        max_packet_size: MAX_ANSWER,
        bridge_flag: false,
    };
    let connected = client::connect(&plan, &plan.addresses[0], creds, base, greeting).await;
    let (mut conn, _) = connected.map_err(unregistered)?;
    let told = tokio::time::timeout(TIMEOUT, told(&mut conn)).await;
    let told = told.unwrap_or_else(|_| {
        Err(refused(format!(
            "the cloud took the connection and sent nothing within {} s",
            TIMEOUT.as_secs()
        )))
    })?;
    // What it sent is here, whether it hears the goodbye or not.
    let _ = tokio::time::timeout(GOODBYE, leave(&mut conn)).await;
    let other = |given: &Option<String>, wanted| given.as_deref().is_some_and(|it| it != wanted);
    if other(&told.product_key, product) || other(&told.device_name, device) {
        return Err(refused(
            "the cloud's answer is about another device".to_owned(),
        ));
    }
    registered(told)
}

fn plan(address: &str, tls: &TlsConfig) -> Result<BridgePlan, SinkError> {
    let config = BridgeConfig {
        addresses: vec![address.to_owned()],
        // Each attempt brings its own.
        client_id: Some("register".to_owned()),
        protocol: Some(Protocol::V311),
        tls: Some(TlsChoice::Settings(tls.clone())),
        ..BridgeConfig::default()
    };
    match BridgePlan::check(&config) {
        Ok((plan, _)) => Ok(plan),
        Err(errors) => {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Err(refused(errors.join("; ")))
        }
    }
}

fn unregistered(failure: Failure) -> SinkError {
    match failure.loss {
        Loss::Credentials | Loss::HungUp => refused(format!(
            "{}: the product secret is another, or the product does not allow dynamic registration",
            failure.error
        )),
        _ => failure.error,
    }
}

async fn told(conn: &mut Conn) -> Result<Told, SinkError> {
    loop {
        let packet = conn.reader.packet().await;
        let Packet::Publish(publish) = packet.map_err(unheard)? else {
            continue;
        };
        acknowledge(conn, &publish).await;
        if matches!(&*publish.topic, KNOWN | MADE) {
            // What the parser would say may quote the answer, and that may be a secret.
            return serde_json::from_slice(&publish.payload).map_err(|_| {
                refused("the cloud's answer is not the JSON that it should be".to_owned())
            });
        }
    }
}

fn unheard(failure: Failure) -> SinkError {
    refused(format!(
        "{}: the cloud took the connection and ended it without an answer; a device that was activated before has its secret in the console",
        failure.error
    ))
}

async fn acknowledge(conn: &mut Conn, publish: &Publish) {
    if let Some(packet_id) = publish.packet_id {
        let _ = send(conn, &Packet::PubAck(PubAck::success(packet_id))).await;
    }
}

async fn leave(conn: &mut Conn) -> Result<(), SinkError> {
    let goodbye = Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        properties: None,
    });
    send(conn, &goodbye).await
}

async fn send(conn: &mut Conn, packet: &Packet) -> Result<(), SinkError> {
    let down = |error: &(dyn std::error::Error + 'static)| {
        SinkError::new(codes::LINK_DOWN, "the link to the cloud is down").caused_by(error)
    };
    let mut bytes = Vec::new();
    codec::encode(packet, Version::V311.wire(), &mut bytes).map_err(|error| down(&error))?;
    let written = conn.writer.write_all(&bytes).await;
    written.map_err(|error| down(&error))?;
    conn.writer.flush().await.map_err(|error| down(&error))
}

fn registered(told: Told) -> Result<Registered, SinkError> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let secret = given(told.device_secret).map(Zeroizing::new);
    let token = given(told.device_token).map(Zeroizing::new);
    match (secret, token, given(told.client_id)) {
        (Some(secret), _, _) => Ok(Registered {
            secret,
            token_of: None,
        }),
        (None, Some(secret), Some(client_id)) => Ok(Registered {
            secret,
            token_of: Some(client_id),
        }),
        _ => Err(refused(
            "the cloud's answer has neither a device secret nor a token with its client id"
                .to_owned(),
        )),
    }
}
