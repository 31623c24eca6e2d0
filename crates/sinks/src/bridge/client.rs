//! rumqttc's two clients behind one face. Each attempt to connect gets a client of its own, so that fresh
//! credentials are signed for it and nothing of a lost link lives on inside the client.

use bytes::Bytes;
use rumqttc::{Outgoing, TlsConfiguration, Transport, v5};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::plan::{Address, BridgePlan};
use super::reconnect::Loss;
use super::signer::ConnectCreds;
use crate::error::SinkError;
use crate::render::MqttMessage;
use crate::{codes, tls};

/// Which version an attempt speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// Where publishes go in.
#[derive(Clone)]
pub(crate) enum Publisher {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// What moves bytes when it is polled.
pub(crate) enum Driver {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// What happened on the link.
#[derive(Debug)]
pub(crate) enum Happening {
    Connected(Limits),
    /// The next publish, in the order of the calls, went out under that packet id (0 at `QoS` 0).
    Sent(u16),
    /// The remote has taken that packet.
    Taken(u16),
    /// The remote has refused that packet.
    Refused(u16, Refusal),
    /// The client has said goodbye.
    Left,
    Other,
}

/// Why the remote refused a message.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    /// The same message may be taken later.
    pub(crate) later: bool,
    /// The client's window has lost a place by it.
    pub(crate) leaks: bool,
}

/// What the remote said in its CONNACK.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) maximum_qos: u8,
    pub(crate) retain_available: bool,
    pub(crate) maximum_packet_size: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_maximum: None,
            maximum_qos: 2,
            retain_available: true,
            maximum_packet_size: None,
        }
    }
}

/// Why the link is gone.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) loss: Loss,
    pub(crate) error: SinkError,
}

/// More than any window, so that packet ids are never used again while one is outstanding.
const PACKET_IDS: u16 = 8192;
const CHANNEL: usize = 8192;
/// What the remote may send to us.
const MAX_INCOMING: usize = 1024 * 1024;

/// A client for one attempt.
pub(crate) fn connect(
    plan: &BridgePlan,
    address: &Address,
    version: Version,
    creds: &ConnectCreds,
    base: &Path,
) -> Result<(Publisher, Driver), SinkError> {
    if creds.url.is_some() {
        let message = "bridges over WebSocket are not supported yet";
        return Err(SinkError::new(codes::NOT_YET, message).configuration());
    }
    let transport = if address.tls {
        let mut config = tls::client_config(&plan.tls, base)?;
        if let Some(Some(alpn)) = &creds.alpn {
            Arc::make_mut(&mut config).alpn_protocols = vec![alpn.clone().into_bytes()];
        }
        Transport::tls_with_config(TlsConfiguration::Rustls(config))
    } else {
        Transport::tcp()
    };
    let timeout = plan.connect_timeout.as_secs().max(1);
    Ok(match version {
        Version::V311 => {
            let mut options =
                rumqttc::MqttOptions::new(&creds.client_id, &address.host, address.port);
            options
                .set_transport(transport)
                .set_keep_alive(plan.keepalive)
                .set_clean_session(true)
                .set_inflight(PACKET_IDS)
                .set_max_packet_size(MAX_INCOMING, usize::MAX);
            if let Some(username) = &creds.username {
                let password = creds
                    .password
                    .as_ref()
                    .map(|password| password.as_str())
                    .unwrap_or_default();
                options.set_credentials(username, password);
            }
            let (client, mut driver) = rumqttc::AsyncClient::new(options, CHANNEL);
            let mut network = driver.network_options();
            network.set_connection_timeout(timeout);
            network.set_tcp_nodelay(true);
            driver.set_network_options(network);
            (Publisher::V311(client), Driver::V311(Box::new(driver)))
        }
        Version::V5 => {
            let mut options = v5::MqttOptions::new(&creds.client_id, &address.host, address.port);
            options
                .set_transport(transport)
                .set_keep_alive(plan.keepalive)
                .set_clean_start(true)
                .set_connection_timeout(timeout)
                .set_outgoing_inflight_upper_limit(PACKET_IDS)
                .set_max_packet_size(u32::try_from(MAX_INCOMING).ok());
            let mut network = options.network_options();
            network.set_tcp_nodelay(true);
            options.set_network_options(network);
            if let Some(username) = &creds.username {
                let password = creds
                    .password
                    .as_ref()
                    .map(|password| password.as_str())
                    .unwrap_or_default();
                options.set_credentials(username, password);
            }
            let (client, driver) = v5::AsyncClient::new(options, CHANNEL);
            (Publisher::V5(client), Driver::V5(Box::new(driver)))
        }
    })
}

impl Publisher {
    /// Hands a message to the client; false when it takes no more (its channel is full or closed).
    pub(crate) fn publish(&self, message: &MqttMessage, qos: u8, retain: bool) -> bool {
        match self {
            Self::V311(client) => {
                let qos = match qos {
                    0 => rumqttc::QoS::AtMostOnce,
                    1 => rumqttc::QoS::AtLeastOnce,
                    _ => rumqttc::QoS::ExactlyOnce,
                };
                client
                    .try_publish(
                        &message.topic,
                        qos,
                        retain,
                        Vec::from(message.payload.0.clone()),
                    )
                    .is_ok()
            }
            Self::V5(client) => {
                use v5::mqttbytes::QoS;
                use v5::mqttbytes::v5::PublishProperties;
                let qos = match qos {
                    0 => QoS::AtMostOnce,
                    1 => QoS::AtLeastOnce,
                    _ => QoS::ExactlyOnce,
                };
                let payload: Bytes = message.payload.0.clone();
                match &message.content_type {
                    None => client
                        .try_publish(&message.topic, qos, retain, payload)
                        .is_ok(),
                    Some(content_type) => {
                        let properties = PublishProperties {
                            content_type: Some(content_type.clone()),
                            ..PublishProperties::default()
                        };
                        client
                            .try_publish_with_properties(
                                &message.topic,
                                qos,
                                retain,
                                payload,
                                properties,
                            )
                            .is_ok()
                    }
                }
            }
        }
    }

    /// Says goodbye.
    pub(crate) fn disconnect(&self) {
        let _ = match self {
            Self::V311(client) => client.try_disconnect().is_ok(),
            Self::V5(client) => client.try_disconnect().is_ok(),
        };
    }
}

impl Driver {
    /// The next happening. After an error the driver is of no more use: polling it again would connect at once.
    pub(crate) async fn poll(&mut self) -> Result<Happening, Failure> {
        match self {
            Self::V311(driver) => match driver.poll().await {
                Ok(rumqttc::Event::Outgoing(outgoing)) => Ok(outgoing_happening(&outgoing)),
                Ok(rumqttc::Event::Incoming(packet)) => Ok(incoming_v311(&packet)),
                Err(error) => Err(failure_v311(&error)),
            },
            Self::V5(driver) => match driver.poll().await {
                Ok(v5::Event::Outgoing(outgoing)) => Ok(outgoing_happening(&outgoing)),
                Ok(v5::Event::Incoming(packet)) => Ok(incoming_v5(&packet)),
                Err(error) => Err(failure_v5(&error)),
            },
        }
    }
}

fn outgoing_happening(outgoing: &Outgoing) -> Happening {
    match outgoing {
        Outgoing::Publish(packet_id) => Happening::Sent(*packet_id),
        Outgoing::Disconnect => Happening::Left,
        _ => Happening::Other,
    }
}

fn incoming_v311(packet: &rumqttc::Packet) -> Happening {
    match packet {
        rumqttc::Packet::ConnAck(_) => Happening::Connected(Limits::default()),
        rumqttc::Packet::PubAck(ack) => Happening::Taken(ack.pkid),
        rumqttc::Packet::PubComp(ack) => Happening::Taken(ack.pkid),
        _ => Happening::Other,
    }
}

fn incoming_v5(packet: &v5::mqttbytes::v5::Packet) -> Happening {
    use v5::mqttbytes::v5::{Packet, PubAckReason as Ack, PubRecReason as Rec};
    match packet {
        Packet::ConnAck(connack) => {
            let properties = connack.properties.as_ref();
            Happening::Connected(Limits {
                receive_maximum: properties.and_then(|properties| properties.receive_max),
                maximum_qos: properties
                    .and_then(|properties| properties.max_qos)
                    .unwrap_or(2),
                retain_available: properties.and_then(|properties| properties.retain_available)
                    != Some(0),
                maximum_packet_size: properties
                    .and_then(|properties| properties.max_packet_size)
                    .and_then(|size| usize::try_from(size).ok()),
            })
        }
        Packet::PubAck(ack) => match ack.reason {
            Ack::Success | Ack::NoMatchingSubscribers => Happening::Taken(ack.pkid),
            reason => {
                let later = matches!(
                    reason,
                    Ack::QuotaExceeded
                        | Ack::UnspecifiedError
                        | Ack::ImplementationSpecificError
                        | Ack::PacketIdentifierInUse
                );
                Happening::Refused(
                    ack.pkid,
                    Refusal {
                        reason: format!("{reason:?}"),
                        later,
                        leaks: false,
                    },
                )
            }
        },
        Packet::PubRec(ack) => match ack.reason {
            Rec::Success | Rec::NoMatchingSubscribers => Happening::Other,
            reason => {
                let later = matches!(
                    reason,
                    Rec::QuotaExceeded
                        | Rec::UnspecifiedError
                        | Rec::ImplementationSpecificError
                        | Rec::PacketIdentifierInUse
                );
                Happening::Refused(
                    ack.pkid,
                    Refusal {
                        reason: format!("{reason:?}"),
                        later,
                        leaks: true,
                    },
                )
            }
        },
        Packet::PubComp(ack) => Happening::Taken(ack.pkid),
        _ => Happening::Other,
    }
}

fn link_error(error: &(dyn std::error::Error + 'static)) -> SinkError {
    SinkError::new(codes::LINK_DOWN, "the link to the remote broker is down").caused_by(error)
}

fn refused(reason: &str, code: &'static str) -> SinkError {
    SinkError::new(
        code,
        format!("the remote broker refuses the connection: {reason}"),
    )
}

fn failure_v311(error: &rumqttc::ConnectionError) -> Failure {
    use rumqttc::ConnectReturnCode as Code;
    match error {
        rumqttc::ConnectionError::ConnectionRefused(code) => match code {
            Code::BadUserNamePassword | Code::NotAuthorized => Failure {
                loss: Loss::Credentials,
                error: refused(&format!("CONNACK {} {code:?}", *code as u8), codes::AUTH),
            },
            Code::RefusedProtocolVersion => Failure {
                loss: Loss::Version,
                error: refused("it does not speak MQTT 3.1.1", codes::LINK_DOWN),
            },
            code => Failure {
                loss: Loss::Network,
                error: refused(
                    &format!("CONNACK {} {code:?}", *code as u8),
                    codes::LINK_DOWN,
                ),
            },
        },
        rumqttc::ConnectionError::NetworkTimeout => Failure {
            loss: Loss::Network,
            error: SinkError::new(codes::TIMEOUT, "the remote broker does not answer"),
        },
        other => Failure {
            loss: Loss::Network,
            error: link_error(other),
        },
    }
}

fn failure_v5(error: &v5::ConnectionError) -> Failure {
    use v5::mqttbytes::v5::{ConnectReturnCode as Code, DisconnectReasonCode};
    match error {
        v5::ConnectionError::ConnectionRefused(code) => match code {
            Code::BadUserNamePassword | Code::NotAuthorized | Code::BadAuthenticationMethod => {
                Failure {
                    loss: Loss::Credentials,
                    error: refused(&format!("CONNACK {code:?}"), codes::AUTH),
                }
            }
            Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => Failure {
                loss: Loss::Version,
                error: refused("it does not speak MQTT 5", codes::LINK_DOWN),
            },
            code => Failure {
                loss: Loss::Network,
                error: refused(&format!("CONNACK {code:?}"), codes::LINK_DOWN),
            },
        },
        v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect {
            reason_code, ..
        }) => {
            let loss = if *reason_code == DisconnectReasonCode::SessionTakenOver {
                Loss::TakenOver
            } else {
                Loss::Network
            };
            let code = if loss == Loss::TakenOver {
                codes::EVICTED
            } else {
                codes::LINK_DOWN
            };
            Failure {
                loss,
                error: SinkError::new(
                    code,
                    format!("the remote broker closed the link: {reason_code:?}"),
                ),
            }
        }
        v5::ConnectionError::Timeout(_) => Failure {
            loss: Loss::Network,
            error: SinkError::new(codes::TIMEOUT, "the remote broker does not answer"),
        },
        other => Failure {
            loss: Loss::Network,
            error: link_error(other),
        },
    }
}

/// How long a goodbye may take.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);
