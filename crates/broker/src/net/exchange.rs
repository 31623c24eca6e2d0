//! The conversation of an enhanced authentication between CONNECT and CONNACK: AUTH packets both ways.
//!
//! It runs within the deadline of CONNECT. Until it has succeeded the client may send nothing but AUTH and DISCONNECT.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weir_mqtt::properties::AuthProperties;
use weir_mqtt::{Auth, Connect, Packet, ProtocolVersion, ReasonCode, Utf8, codec};

use crate::auth::enhanced::{Proof, Step};
use crate::core::connect::{Refused, max_packet_size};
use crate::driver::Shared;
use crate::driver::admission::Refusal;

/// What a client shows of itself beyond its CONNECT: nothing without an authentication method. `None` when the socket
/// ends meanwhile.
pub(super) async fn converse<S>(
    shared: &Shared,
    stream: &mut S,
    unread: &mut Vec<u8>,
    connect: &Connect,
    peer: Option<SocketAddr>,
) -> Option<Result<Option<Proof>, Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(method) = &connect.properties.authentication_method else {
        return Some(Ok(None));
    };
    let Some(mechanism) = shared.mechanisms.get(method) else {
        // [MQTT-4.12.0-1]
        let why = "this server does not know the authentication method";
        return Some(Err(refusal(ReasonCode::BadAuthenticationMethod, why)));
    };
    if let Err(reason) = shared.let_in(connect, peer) {
        return Some(Err(reason.into()));
    }
    let mut exchange = mechanism.begin();
    let mut data = connect.properties.authentication_data.clone();
    loop {
        match exchange.step(data.as_deref().unwrap_or_default()) {
            Step::Done { identity, data } => {
                let mechanism = mechanism.clone();
                return Some(Ok(Some(Proof {
                    identity,
                    mechanism,
                    data,
                })));
            }
            Step::Refused(reason) => {
                shared.stats.auth_failures.of(reason.as_u8()).add(1);
                return Some(Err(refusal(reason, "")));
            }
            Step::Continue(asked) => {
                let bytes = auth_packet(method, asked);
                if bytes.len() > max_packet_size(connect) {
                    // [MQTT-3.1.2-24]
                    return None;
                }
                stream.write_all(&bytes).await.ok()?;
                match next_auth(shared, stream, unread, method).await? {
                    Ok(answer) => data = answer,
                    Err(refused) => return Some(Err(refused)),
                }
            }
        }
    }
}

fn refusal(reason: ReasonCode, why: &'static str) -> Refusal {
    Refused::new(reason, why).into()
}

/// `[MQTT-4.12.0-2]` AUTH with reason 0x18.
fn auth_packet(method: &Utf8, data: Bytes) -> Vec<u8> {
    let auth = Auth {
        reason: ReasonCode::ContinueAuthentication,
        properties: Some(Box::new(AuthProperties {
            authentication_method: Some(method.clone()),
            authentication_data: Some(data),
            ..AuthProperties::default()
        })),
    };
    let mut bytes = Vec::new();
    if let Err(error) = auth.encode(ProtocolVersion::V5, &mut bytes) {
        tracing::error!(%error, "an AUTH could not be encoded");
    }
    bytes
}

/// The data of the client's next AUTH.
async fn next_auth<S>(
    shared: &Shared,
    stream: &mut S,
    unread: &mut Vec<u8>,
    method: &Utf8,
) -> Option<Result<Option<Bytes>, Refusal>>
where
    S: AsyncRead + Unpin,
{
    let frame = match next_frame(shared, stream, unread).await? {
        Ok(frame) => frame,
        Err(refused) => return Some(Err(refused)),
    };
    let auth = match codec::decode(frame, ProtocolVersion::V5) {
        Ok(Packet::Auth(auth)) => auth,
        Ok(Packet::Disconnect(_)) => return None,
        Ok(_) => {
            // [MQTT-3.1.2-30]
            let why = "only AUTH and DISCONNECT may come before CONNACK";
            return Some(Err(refusal(ReasonCode::ProtocolError, why)));
        }
        Err(error) => return Some(Err(refusal(error.reason, error.detail))),
    };
    let properties = auth
        .properties
        .map(|properties| *properties)
        .unwrap_or_default();
    // [MQTT-4.12.0-3] [MQTT-4.12.0-5]
    Some(
        if properties.authentication_method.as_ref() != Some(method) {
            let why = "AUTH names another method than CONNECT";
            Err(refusal(ReasonCode::BadAuthenticationMethod, why))
        } else if auth.reason != ReasonCode::ContinueAuthentication {
            let why = "AUTH before CONNACK must go on with the authentication";
            Err(refusal(ReasonCode::ProtocolError, why))
        } else {
            Ok(properties.authentication_data)
        },
    )
}

async fn next_frame<S>(
    shared: &Shared,
    stream: &mut S,
    unread: &mut Vec<u8>,
) -> Option<Result<Bytes, Refusal>>
where
    S: AsyncRead + Unpin,
{
    let mut chunk = [0; 1024];
    loop {
        match codec::frame_length(unread, shared.settings.max_packet_size) {
            Err(error) => return Some(Err(refusal(error.reason, error.detail))),
            Ok(Some(len)) => {
                shared.stats.received_packets.add(1);
                shared.stats.handled_packets.add(1);
                shared.stats.handled_bytes.add(len as u64);
                let frame: Vec<u8> = unread.drain(..len).collect();
                return Some(Ok(Bytes::from(frame)));
            }
            Ok(None) => {}
        }
        let n = stream.read(&mut chunk).await.unwrap_or(0);
        if n == 0 {
            return None;
        }
        shared.stats.received_bytes.add(n as u64);
        unread.extend_from_slice(&chunk[..n]);
    }
}
