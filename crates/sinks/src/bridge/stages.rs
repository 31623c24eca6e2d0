//! `weir bridge test`: a bridge's way to its remote, stage by stage, each with what it found.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use tokio::io::AsyncWriteExt as _;
use weir_mqtt::properties::DisconnectProperties;
use weir_mqtt::{
    Disconnect, Packet, PacketId, Publish, QoS, ReasonCode, Subscribe, SubscribeOptions,
    SubscriptionFilter, SubscriptionRequest, TopicName, codec,
};

use super::client::{self, Conn, Failure, Greeting, Version, Welcome};
use super::dial;
use super::plan::{Address, BridgePlan};
use super::reconnect::Loss;
use super::signer::{ConnectCreds, Moment, ShownCreds};
use crate::config::connector::{BridgeConfig, Protocol};
use crate::error::SinkError;
use crate::now_ms;

mod likely;
mod reach;

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
    /// The machines that were asked, where the address is a name of several (stages `tcp` and `tls` alone).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<Machine>,
    /// The derived credentials (stage `config` alone). The caller masks the password unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ShownCreds>,
    /// Which of the bridge's addresses it is about, `scheme://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// One of the machines that a name stands for.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Its number and port.
    pub address: SocketAddr,
    /// Whether it went well there.
    pub ok: bool,
    /// What was found there.
    pub detail: String,
}

/// Tests a bridge: the configuration, and with `online` also names, sockets, TLS, the sign-in, the filters of `in`, and
/// with `publish_to` a message to that topic. Each of its addresses is tested, up to the first stage that fails there.
pub async fn test(
    config: &BridgeConfig,
    base: &Path,
    online: bool,
    publish_to: Option<&str>,
) -> Vec<Stage> {
    let began = Instant::now();
    let plan = match BridgePlan::check(config) {
        Ok((plan, _)) => plan,
        Err(errors) => {
            let detail = errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            let code = errors.first().map(|error| error.code);
            return vec![Stage::failed("config", began, detail, code, None)];
        }
    };
    let mut stages = Vec::new();
    let mut spacing = Spacing {
        least: plan.backoff.spacing,
        last: None,
    };
    for address in &plan.addresses {
        let mut test = Test {
            plan: &plan,
            address,
            base,
            spacing: &mut spacing,
            stages: Vec::new(),
        };
        test.run(online, publish_to).await;
        let endpoint = address.to_string();
        stages.extend(test.stages.into_iter().map(|stage| Stage {
            endpoint: Some(endpoint.clone()),
            ..stage
        }));
    }
    stages
}

/// What keeps CONNECTs as far apart as the cloud wants them, those of the test too.
struct Spacing {
    least: Duration,
    /// When the last one was, at the latest.
    last: Option<Instant>,
}

impl Spacing {
    async fn wait(&self) {
        if let Some(last) = self.last {
            tokio::time::sleep(self.least.saturating_sub(last.elapsed())).await;
        }
    }
}

/// The test of one address.
struct Test<'a> {
    plan: &'a BridgePlan,
    address: &'a Address,
    base: &'a Path,
    spacing: &'a mut Spacing,
    stages: Vec<Stage>,
}

impl Test<'_> {
    async fn run(&mut self, online: bool, publish_to: Option<&str>) {
        let began = Instant::now();
        let creds = match self.sign() {
            Ok(creds) => creds,
            Err(error) => {
                self.end("config", began, Err(error));
                return;
            }
        };
        let detail = format!("{} as {}", self.address, creds.client_id);
        let config = Stage::passed("config", began, detail);
        self.stages.push(Stage {
            credentials: Some(creds.show()),
            ..config
        });
        if !online || !self.reach(&creds).await {
            return;
        }
        self.spacing.wait().await;
        let began = Instant::now();
        let (mut conn, version, welcome) = match self.sign_in().await {
            Ok((signed_in, detail)) => {
                self.end("connect", began, Ok(detail));
                signed_in
            }
            Err(error) => {
                self.end("connect", began, Err(error));
                return;
            }
        };
        let mut goes_on = true;
        if !self.plan.inbound.is_empty() {
            let began = Instant::now();
            let done = subscribe(self.plan, &mut conn, version).await;
            goes_on = self.end("subscribe", began, done);
        }
        if let Some(topic) = publish_to.filter(|_| goes_on) {
            let began = Instant::now();
            let done = publish(self.plan, &mut conn, (version, &welcome), topic).await;
            self.end("publish", began, done);
        }
        // The bridge itself must learn that the remote has no session of before: the one made by this test goes.
        let made = !welcome.session_present && !is_clean(self.plan);
        leave(&mut conn, version, made).await;
        if made && version == Version::V311 {
            drop(conn);
            self.remove_session().await;
        }
    }

    /// Notes how a stage went.
    fn end(&mut self, name: &'static str, began: Instant, done: Result<String, SinkError>) -> bool {
        let stage = match done {
            Ok(detail) => Stage::passed(name, began, detail),
            Err(error) => Stage::failed(
                name,
                began,
                error.to_string(),
                Some(error.code()),
                Some(self.address),
            ),
        };
        let ok = stage.ok;
        self.stages.push(stage);
        ok
    }

    /// Credentials for a CONNECT to this address now.
    fn sign(&self) -> Result<ConnectCreds, SinkError> {
        let at = Moment::at(now_ms().saturating_add(self.plan.clock_offset_ms));
        Ok(self.plan.credentials.sign_for(self.address, at)?)
    }

    /// One CONNECT, to the machine that the bridge would connect to.
    async fn connect(
        &mut self,
        greeting: Greeting,
    ) -> Result<(Conn, Welcome, Option<SocketAddr>), Failure> {
        self.spacing.wait().await;
        let creds = self.sign().map_err(Failure::network)?;
        let stream = dial::reach(self.plan, self.address).await?;
        let machine = stream.peer_addr().ok();
        let connected =
            client::connect_over(stream, self.plan, self.address, &creds, self.base, greeting);
        let connected = connected.await;
        self.spacing.last = Some(Instant::now());
        connected.map(|(conn, welcome)| (conn, welcome, machine))
    }

    /// In 3.1.1 a session ends with a connection that asked for a clean one.
    async fn remove_session(&mut self) {
        let greeting = Greeting {
            clean_start: true,
            ..greeting(self.plan, Version::V311)
        };
        if let Ok((mut conn, ..)) = self.connect(greeting).await {
            leave(&mut conn, Version::V311, false).await;
        }
    }

    /// Signs in as the bridge does, with the session that it has: the test takes the link from a bridge that runs, which
    /// makes it anew.
    async fn sign_in(&mut self) -> Result<((Conn, Version, Welcome), String), SinkError> {
        let plan = self.plan;
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
            match self.connect(greeting).await {
                Ok((conn, welcome, machine)) => {
                    let detail = describe(greeting.version, &welcome, machine);
                    return Ok(((conn, greeting.version, welcome), detail));
                }
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
}

/// A session that rules' sinks may need is left as it is. They need one at `QoS` 2 alone.
const fn is_clean(plan: &BridgePlan) -> bool {
    plan.clean_start && !(plan.session_if_exact && plan.qos_cap == 2)
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

fn describe(version: Version, welcome: &Welcome, machine: Option<SocketAddr>) -> String {
    let limits = &welcome.limits;
    let mut text = format!("{}, CONNACK accepted", version.name());
    if let Some(machine) = machine {
        text.push_str(&format!(" by {machine}"));
    }
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

impl Stage {
    fn passed(name: &'static str, began: Instant, detail: String) -> Self {
        Self {
            name,
            ok: true,
            detail,
            likely: None,
            code: None,
            millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            machines: Vec::new(),
            credentials: None,
            endpoint: None,
        }
    }

    fn failed(
        name: &'static str,
        began: Instant,
        detail: String,
        code: Option<&'static str>,
        address: Option<&Address>,
    ) -> Self {
        Self {
            ok: false,
            likely: likely::cause(name, code, &detail, address),
            code,
            ..Self::passed(name, began, detail)
        }
    }
}
