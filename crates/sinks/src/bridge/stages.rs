//! `weir bridge test`: a bridge's way to its remote, stage by stage, each with what it found.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use tokio::io::AsyncWriteExt as _;
use weir_mqtt::properties::DisconnectProperties;
use weir_mqtt::{
    Disconnect, Packet, PacketId, Publish, QoS, ReasonCode, Subscribe, SubscribeOptions,
    SubscriptionFilter, SubscriptionRequest, TopicName, codec,
};

use super::client::{self, Conn, Greeting, Version, Welcome};
use super::plan::{Address, BridgePlan};
use super::reconnect::Loss;
use super::signer::{Moment, ShownCreds};
use crate::config::connector::{BridgeConfig, Protocol};
use crate::error::SinkError;
use crate::{now_ms, tls};

/// One stage.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// `config`, `dns`, `tcp`, `tls`, `connect`, `subscribe` or `publish`.
    pub name: &'static str,
    /// Whether it went well.
    pub ok: bool,
    /// What was found, in a sentence.
    pub detail: String,
    /// Of a failure: what is usually behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub likely: Option<&'static str>,
    /// The code of a failure.
    pub code: Option<&'static str>,
    /// How long it took.
    pub millis: u64,
    /// The derived credentials (stage `config` alone). The caller masks the password unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ShownCreds>,
    /// Where the credentials are sent to (stage `config` alone).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Tests a bridge: the configuration, and with `online` also names, sockets, TLS, the sign-in, the filters of `in`, and
/// with `publish_to` a message to that topic. Stops at the first stage that fails.
pub async fn test(
    config: &BridgeConfig,
    base: &Path,
    online: bool,
    publish_to: Option<&str>,
) -> Vec<Stage> {
    let mut stages = Vec::new();
    let began = Instant::now();
    let plan = match BridgePlan::check(config) {
        Ok((plan, _)) => plan,
        Err(errors) => {
            let detail = errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            stages.push(Stage::failed(
                "config",
                began,
                detail,
                errors.first().map(|error| error.code),
            ));
            return stages;
        }
    };
    let signed = plan
        .credentials
        .sign(Moment::at(now_ms().saturating_add(plan.clock_offset_ms)))
        .map_err(SinkError::from);
    let creds = match signed {
        Ok(creds) => creds,
        Err(error) => {
            stages.push(Stage::failed(
                "config",
                began,
                error.to_string(),
                Some(error.code()),
            ));
            return stages;
        }
    };
    let address = plan.addresses[0].clone();
    let mut config_stage =
        Stage::passed("config", began, format!("{address} as {}", creds.client_id));
    config_stage.credentials = Some(creds.show());
    config_stage.endpoint = Some(address.to_string());
    stages.push(config_stage);
    if !online {
        return stages;
    }
    if !reach(&plan, &address, base, &mut stages).await {
        return stages;
    }
    let began = Instant::now();
    let (mut conn, version, welcome) = match sign_in(&plan, &address, base).await {
        Ok(signed_in) => signed_in,
        Err(error) => {
            stages.push(Stage::of("connect", began, Err(error)));
            return stages;
        }
    };
    stages.push(Stage::passed("connect", began, describe(version, &welcome)));
    if !plan.inbound.is_empty() {
        let began = Instant::now();
        let done = subscribe(&plan, &mut conn, version).await;
        stages.push(Stage::of("subscribe", began, done));
    }
    if let Some(topic) = publish_to
        && stages.iter().all(|stage| stage.ok)
    {
        let began = Instant::now();
        let done = publish(&plan, &mut conn, (version, &welcome), topic).await;
        stages.push(Stage::of("publish", began, done));
    }
    // The bridge itself must learn that the remote has no session of before: the one made by this test goes.
    let made = !welcome.session_present && !is_clean(&plan);
    leave(&mut conn, version, made).await;
    if made && version == Version::V311 {
        drop(conn);
        remove_session(&plan, &address, base).await;
    }
    stages
}

/// A session that rules' sinks may need is left as it is.
const fn is_clean(plan: &BridgePlan) -> bool {
    plan.clean_start && !plan.session_if_exact
}

async fn leave(conn: &mut Conn, version: Version, with_session: bool) {
    let properties = (with_session && version == Version::V5).then(|| {
        // [MQTT-3.1.2-23] It ends with the connection.
        DisconnectProperties {
            session_expiry_interval_s: Some(0),
            ..DisconnectProperties::default()
        }
        .into()
    });
    let disconnect = Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        properties,
    });
    let goodbye = async {
        write(conn, &disconnect, version).await.ok();
        conn.writer.shutdown().await.ok();
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
}

/// In 3.1.1 a session ends with a connection that asked for a clean one.
async fn remove_session(plan: &BridgePlan, address: &Address, base: &Path) {
    let now = now_ms().saturating_add(plan.clock_offset_ms);
    let Ok(creds) = plan.credentials.sign(Moment::at(now)) else {
        return;
    };
    let greeting = Greeting {
        clean_start: true,
        ..greeting(plan, Version::V311)
    };
    if let Ok((mut conn, _)) = client::connect(plan, address, &creds, base, greeting).await {
        leave(&mut conn, Version::V311, false).await;
    }
}

fn greeting(plan: &BridgePlan, version: Version) -> Greeting {
    Greeting {
        version,
        clean_start: is_clean(plan),
        session_expiry: plan.session_expiry,
        receive_maximum: plan.max_inflight,
        max_packet_size: client::MAX_INCOMING,
        bridge_flag: plan.bridge_flag,
    }
}

/// Name, socket and TLS; false when a stage failed.
async fn reach(plan: &BridgePlan, address: &Address, base: &Path, stages: &mut Vec<Stage>) -> bool {
    let began = Instant::now();
    let target = (address.host.as_str(), address.port);
    let found: Vec<_> =
        match tokio::time::timeout(plan.connect_timeout, tokio::net::lookup_host(target)).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => {
                return fail(stages, "dns", began, format!("{}: {error}", address.host));
            }
            Err(_) => return fail(stages, "dns", began, format!("{}: no answer", address.host)),
        };
    stages.push(Stage::passed(
        "dns",
        began,
        format!("{} -> {} addresses", address.host, found.len()),
    ));
    let began = Instant::now();
    let stream = match tokio::time::timeout(
        plan.connect_timeout,
        tokio::net::TcpStream::connect(&*found),
    )
    .await
    {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return fail(stages, "tcp", began, error.to_string()),
        Err(_) => return fail(stages, "tcp", began, "no answer".into()),
    };
    stages.push(Stage::passed(
        "tcp",
        began,
        format!("port {}", address.port),
    ));
    if !address.tls {
        return true;
    }
    let began = Instant::now();
    match handshake(plan, address, base, stream).await {
        Ok(detail) => stages.push(Stage::passed("tls", began, detail)),
        Err(detail) => return fail(stages, "tls", began, detail),
    }
    true
}

fn fail(stages: &mut Vec<Stage>, name: &'static str, began: Instant, detail: String) -> bool {
    stages.push(Stage::failed(
        name,
        began,
        detail,
        Some(crate::codes::UNREACHABLE),
    ));
    false
}

async fn handshake(
    plan: &BridgePlan,
    address: &Address,
    base: &Path,
    stream: tokio::net::TcpStream,
) -> Result<String, String> {
    let config = tls::client_config(&plan.tls, base).map_err(|error| error.to_string())?;
    let name = rustls::pki_types::ServerName::try_from(address.host.clone())
        .map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = tokio::time::timeout(plan.connect_timeout, connector.connect(name, stream))
        .await
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| error.to_string())?;
    let version = stream
        .get_ref()
        .1
        .protocol_version()
        .map_or_else(String::new, |version| format!("{version:?}"));
    Ok(version)
}

/// Signs in as the bridge does, with the session that it has: the test takes the link from a bridge that runs, which
/// makes it anew.
async fn sign_in(
    plan: &BridgePlan,
    address: &Address,
    base: &Path,
) -> Result<(Conn, Version, Welcome), SinkError> {
    let versions: &[Version] = match plan.protocol {
        Protocol::V5 => &[Version::V5],
        Protocol::V311 => &[Version::V311],
        Protocol::Auto => &[Version::V5, Version::V311],
    };
    let mut greetings: Vec<_> = versions.iter().map(|one| greeting(plan, *one)).collect();
    if let Some(flagged) = greetings.last().copied()
        && flagged.version == Version::V311
        && flagged.bridge_flag
        && !plan.needs_bridge_flag()
    {
        greetings.push(Greeting {
            bridge_flag: false,
            ..flagged
        });
    }
    let mut last = SinkError::new(crate::codes::LINK_DOWN, "the remote broker hung up");
    for greeting in greetings {
        let creds = plan
            .credentials
            .sign(Moment::at(now_ms().saturating_add(plan.clock_offset_ms)))?;
        match client::connect(plan, address, &creds, base, greeting).await {
            Ok((conn, welcome)) => return Ok((conn, greeting.version, welcome)),
            Err(failure) => {
                let retry = matches!(failure.loss, Loss::Version | Loss::HungUp);
                last = failure.error;
                if !retry {
                    break;
                }
            }
        }
    }
    Err(last)
}

fn describe(version: Version, welcome: &Welcome) -> String {
    let limits = &welcome.limits;
    let mut text = format!("{}, CONNACK accepted", version.name());
    if welcome.session_present {
        text.push_str(", session goes on");
    }
    if let Some(most) = limits.receive_maximum {
        text.push_str(&format!(", receive maximum {most}"));
    }
    if limits.maximum_qos < 2 {
        text.push_str(&format!(", at most QoS {}", limits.maximum_qos));
    }
    if !limits.retain_available {
        text.push_str(", no retained messages");
    }
    if let Some(most) = limits.maximum_packet_size {
        text.push_str(&format!(", packets of at most {most} bytes"));
    }
    text
}

/// Asks for every filter of `in`.
async fn subscribe(
    plan: &BridgePlan,
    conn: &mut Conn,
    version: Version,
) -> Result<String, SinkError> {
    let mut granted = Vec::new();
    for (route, id) in plan.inbound.iter().zip(1..) {
        let filter = route.subscription();
        let (Ok(parsed), Some(packet_id)) = (SubscriptionFilter::parse(&filter), PacketId::new(id))
        else {
            continue;
        };
        let subscribe = Subscribe {
            packet_id,
            requests: vec![SubscriptionRequest {
                filter: parsed,
                options: SubscribeOptions {
                    no_local: version == Version::V5 && route.share.is_none(),
                    ..SubscribeOptions::with_qos(route.qos)
                },
            }],
            properties: None,
        };
        write(conn, &Packet::Subscribe(subscribe), version).await?;
        let answer = answer(plan, conn, |packet| match packet {
            Packet::SubAck(suback) if suback.packet_id == packet_id => {
                suback.reasons.first().copied()
            }
            _ => None,
        });
        let reason = answer.await?;
        if reason.is_error() {
            let message = format!(
                "the remote broker refuses the filter `{filter}`: 0x{:02X} {}",
                reason.as_u8(),
                reason.name()
            );
            return Err(SinkError::new(crate::codes::FILTER_REFUSED, message));
        }
        granted.push(format!("`{filter}` at QoS {}", reason.as_u8()));
    }
    Ok(granted.join(", "))
}

/// Publishes one message and waits until the remote has it.
async fn publish(
    plan: &BridgePlan,
    conn: &mut Conn,
    (version, welcome): (Version, &Welcome),
    topic: &str,
) -> Result<String, SinkError> {
    let bad = |error: &dyn std::fmt::Display| {
        SinkError::new(crate::codes::BAD_TOPIC, format!("`{topic}`: {error}"))
    };
    let topic_name = TopicName::new(topic).map_err(|error| bad(&error))?;
    let qos = plan.qos_cap.min(welcome.limits.maximum_qos).min(1);
    let packet_id = PacketId::new(u16::MAX).filter(|_| qos > 0);
    let message = Publish {
        qos: if qos > 0 {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        },
        packet_id,
        ..Publish::new(
            topic_name.into_utf8(),
            bytes::Bytes::from_static(b"weir bridge test"),
        )
    };
    write(conn, &Packet::Publish(message), version).await?;
    let Some(packet_id) = packet_id else {
        return Ok(format!(
            "`{topic}` at QoS 0; the remote does not confirm it"
        ));
    };
    let reason = answer(plan, conn, |packet| match packet {
        Packet::PubAck(puback) if puback.packet_id == packet_id => Some(puback.reason),
        _ => None,
    });
    let reason = reason.await?;
    if reason.is_error() {
        let message = format!(
            "the remote broker refused the message: 0x{:02X} {}",
            reason.as_u8(),
            reason.name()
        );
        return Err(SinkError::new(crate::codes::PUBLISH_REFUSED, message));
    }
    Ok(format!("`{topic}` at QoS 1, PUBACK {}", reason.name()))
}

async fn write(conn: &mut Conn, packet: &Packet, version: Version) -> Result<(), SinkError> {
    let mut bytes = Vec::new();
    let link = |error: &(dyn std::error::Error + 'static)| {
        SinkError::new(
            crate::codes::LINK_DOWN,
            "the link to the remote broker is down",
        )
        .caused_by(error)
    };
    codec::encode(packet, version.wire(), &mut bytes).map_err(|error| link(&error))?;
    conn.writer
        .write_all(&bytes)
        .await
        .map_err(|error| link(&error))?;
    conn.writer.flush().await.map_err(|error| link(&error))
}

/// The first packet that `pick` takes; messages of the remote stay unacknowledged and come again.
async fn answer<T>(
    plan: &BridgePlan,
    conn: &mut Conn,
    pick: impl Fn(&Packet) -> Option<T>,
) -> Result<T, SinkError> {
    let asked = async {
        loop {
            let packet = conn
                .reader
                .packet()
                .await
                .map_err(|failure| failure.error)?;
            if let Packet::Disconnect(disconnect) = &packet {
                return Err(client::dismissed(disconnect).error);
            }
            if let Some(found) = pick(&packet) {
                return Ok(found);
            }
        }
    };
    tokio::time::timeout(plan.ack_timeout, asked)
        .await
        .unwrap_or_else(|_| {
            let message = "the remote broker does not answer";
            Err(SinkError::new(crate::codes::TIMEOUT, message))
        })
}

/// What is usually behind a failure.
fn likely_cause(stage: &str, code: Option<&'static str>, detail: &str) -> Option<&'static str> {
    let detail = detail.to_ascii_lowercase();
    Some(match stage {
        "dns" => "the name is misspelt, or this machine has no way to a name server",
        "tcp" if detail.contains("refused") => {
            "nothing listens at that port: wrong port, or the broker does not run"
        }
        "tcp" => "a firewall drops the packets, or the address is wrong",
        "tls" if detail.contains("unknownissuer") || detail.contains("unknown issuer") => {
            "the certificate is signed by a CA that `tls.ca` does not hold"
        }
        "tls" if detail.contains("notvalidforname") || detail.contains("not valid for name") => {
            "the certificate is for another name: use that name in `addresses`, or `tls.server_name`"
        }
        "tls" if detail.contains("expired") => {
            "the certificate has expired, or this machine's clock is wrong"
        }
        "tls"
            if detail.contains("handshake")
                || detail.contains("certificaterequired")
                || detail.contains("certificate required") =>
        {
            "the remote wants a client certificate: `tls.cert` and `tls.key`"
        }
        "tls"
            if detail.contains("corrupt")
                || detail.contains("invalidcontenttype")
                || detail.contains("eof") =>
        {
            "that port does not speak TLS: write mqtt://, or use another port"
        }
        "tls" => "the port does not speak TLS, or its certificate is not trusted",
        "connect" if code == Some(crate::codes::AUTH) => {
            "user, password or client id are not the ones that the remote knows, or it does not let this address in"
        }
        "connect" if detail.contains("client_identifier") => {
            "the remote does not take this client id"
        }
        "connect" => "that port speaks no MQTT, or wants TLS: write mqtts://",
        "subscribe" => "the remote's access list does not let this user subscribe",
        "publish" => "the remote's access list does not let this user publish",
        _ => return None,
    })
}

impl Stage {
    fn of(name: &'static str, began: Instant, done: Result<String, SinkError>) -> Self {
        match done {
            Ok(detail) => Self::passed(name, began, detail),
            Err(error) => Self::failed(name, began, error.to_string(), Some(error.code())),
        }
    }

    fn passed(name: &'static str, began: Instant, detail: String) -> Self {
        Self {
            name,
            ok: true,
            detail,
            likely: None,
            code: None,
            millis: millis(began),
            credentials: None,
            endpoint: None,
        }
    }

    fn failed(
        name: &'static str,
        began: Instant,
        detail: String,
        code: Option<&'static str>,
    ) -> Self {
        Self {
            name,
            ok: false,
            likely: likely_cause(name, code, &detail),
            detail,
            code,
            millis: millis(began),
            credentials: None,
            endpoint: None,
        }
    }
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
