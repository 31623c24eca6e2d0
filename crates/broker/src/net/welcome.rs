//! The beginning of a connection: CONNECT, and what is said to those who are not let in.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use weir_mqtt::{ConnAck, Connect, DecodeError, Packet, ProtocolVersion, ReasonCode, codec};

use super::connection::{Connection, linger};
use super::exchange::converse;
use super::wire::{TimeOf, Wire};
use crate::core::connect::{Refused, max_packet_size};
use crate::driver::Shared;
use crate::driver::admission::{Door, Refusal};
use crate::driver::events::Caller;
use crate::driver::large_connects::{LargeConnect, SMALL_CONNECT};
use crate::hooks::Tap;

/// The most bytes of one read: most CONNECTs are shorter.
const READ: usize = 1024;

/// Reads CONNECT and answers it, all within the deadline. Gives the connection of a client that is admitted.
pub(super) async fn welcome<S>(
    shared: Arc<Shared>,
    mut stream: S,
    door: Box<Door>,
) -> Option<Box<Connection<S>>>
where
    S: Wire + Send,
{
    // A banned address gets no answer.
    let now = shared.clock.now();
    if door
        .peer
        .is_some_and(|peer| shared.entrance.shuts_out(now, peer.ip()))
    {
        return banned(&shared);
    }
    let Ok(mut tap) = shared.hooks.tap(&door) else {
        return banned(&shared);
    };
    let mut unread = Vec::new();
    let (peer, transport) = (door.peer, door.transport.name());
    let deadline = door.deadline;
    let mut alarm = stream.alarm();
    // Held for as long as the packet is in memory.
    let mut large = None;
    let first = read_connect(
        &shared,
        &mut stream,
        peer,
        &mut unread,
        &mut large,
        &mut tap,
    );
    let refusal = match alarm.until(deadline, first).await.flatten() {
        None => {
            tap.iter().for_each(|tap| tap.failed());
            return None;
        }
        Some(Ok(connect)) => {
            let (version, max) = (connect.version, max_packet_size(&connect));
            let proof = if connect.properties.authentication_method.is_none() {
                Some(Ok(None))
            } else {
                // Boxed: most clients have none, and what is held for it would be moved about with every CONNECT.
                let proof = converse(&shared, &mut stream, &mut unread, &connect, door.peer);
                let proof = Box::pin(unless_it_gives_way(large.as_ref(), proof));
                let proof = alarm.until(deadline, proof).await;
                proof.unwrap_or(Ok(None)).unwrap_or_else(|GaveWay| {
                    let why = GaveWay::WHY;
                    Some(Err(Refused::new(ReasonCode::ServerBusy, why).into()))
                })
            };
            let admitted = match proof {
                None => {
                    tap.iter().for_each(|tap| tap.failed());
                    return None;
                }
                Some(Err(refusal)) => {
                    let caller = Caller {
                        connect: &connect,
                        peer: door.peer,
                        local: door.local,
                    };
                    shared.tell_refused(&caller, &refusal);
                    Err(refusal)
                }
                Some(Ok(proof)) => {
                    let mut has_time = TimeOf(&mut stream);
                    shared.admit(connect, *door, proof, &mut has_time).await
                }
            };
            match admitted {
                Ok(client) => {
                    tap.iter_mut()
                        .for_each(|tap| tap.welcomed(client.client_id()));
                    return Some(Connection::new(shared, stream, client, unread, tap));
                }
                Err(refusal) => {
                    let Refusal { reason, say, .. } = refusal;
                    shared.stats.connects_refused.of(reason.as_u8()).add(1);
                    say.then(|| (version, shared.connack_of(&refusal), max))
                }
            }
        }
        Some(Err(error)) => {
            shared
                .stats
                .connects_refused
                .of(error.reason.as_u8())
                .add(1);
            tracing::debug!(?peer, transport, %error, "the first packet is no CONNECT that can be accepted");
            error.connack().map(|(version, mut connack)| {
                // [MQTT-3.1.2-24] A client that could not say how much it takes gets no more than must be.
                let most = error.max_packet_size;
                connack.properties.reason_string = most.and_then(|_| shared.in_words(error.detail));
                (version, connack, most.unwrap_or(usize::MAX))
            })
        }
    };
    // Nobody reads on; what has come is not kept while the answer is taken.
    drop((unread, large));
    tap.iter().for_each(|tap| tap.failed());
    if let Some((version, connack, max)) = refusal {
        let mut bytes = Vec::new();
        // [MQTT-3.1.2-24]
        let mut fits = connack.encode(version, &mut bytes).is_ok() && bytes.len() <= max;
        if !fits {
            bytes.clear();
            let short = ConnAck::refused(connack.reason);
            fits = short.encode(version, &mut bytes).is_ok() && bytes.len() <= max;
        }
        if fits && stream.write_all(&bytes).await.is_ok() {
            linger(&mut stream).await;
        }
    }
    None
}

/// Others wait for the place of a client's large CONNECT, and it takes too long.
struct GaveWay;

impl GaveWay {
    const WHY: &str = "the CONNECT is large and took too long while others waited";
}

/// What the client does next.
async fn unless_it_gives_way<T>(
    large: Option<&LargeConnect>,
    next: impl Future<Output = T>,
) -> Result<T, GaveWay> {
    let Some(large) = large else {
        return Ok(next.await);
    };
    tokio::select! {
        biased;
        () = large.gives_way() => Err(GaveWay),
        next = next => Ok(next),
    }
}

/// Nobody is welcomed, and that is counted.
fn banned<C>(shared: &Shared) -> Option<C> {
    let counters = &shared.stats.connects_refused;
    counters.of(ReasonCode::Banned.as_u8()).add(1);
    None
}

/// The first packet; `None` when the socket ends before it is there.
async fn read_connect<S>(
    shared: &Shared,
    stream: &mut S,
    peer: Option<SocketAddr>,
    unread: &mut Vec<u8>,
    large: &mut Option<LargeConnect>,
    tap: &mut Option<Box<Tap>>,
) -> Option<Result<Connect, DecodeError>>
where
    S: AsyncRead + Unpin,
{
    loop {
        // [MQTT-3.1.0-1] Anything but CONNECT is refused before it is even complete.
        if unread.first().is_some_and(|first| first >> 4 != 1) {
            return Some(Err(not_connect()));
        }
        match codec::frame_length(unread, shared.settings.max_packet_size) {
            Err(error) => return Some(Err(error)),
            Ok(Some(len)) => {
                shared.stats.received_packets.add(1);
                shared.stats.handled_packets.add(1);
                shared.stats.handled_bytes.add(len as u64);
                let frame: Vec<u8> = unread.drain(..len).collect();
                unread.shrink_to_fit();
                let decoded = codec::decode(Bytes::from(frame), ProtocolVersion::V5);
                if let (Some(tap), Ok(packet)) = (tap, &decoded) {
                    tap.decoded(packet);
                }
                return Some(match decoded {
                    Ok(Packet::Connect(connect)) => Ok(*connect),
                    Ok(_) => Err(not_connect()),
                    Err(error) => Err(error),
                });
            }
            Ok(None) => {}
        }
        if unread.len() > SMALL_CONNECT && large.is_none() {
            // Whoever has not said who it is yet is to cost little memory. The rest waits in the socket.
            let address = peer.map(|peer| peer.ip());
            *large = shared.entrance.large_connects.admit(address).await;
        }
        unread.reserve(READ);
        let room = &mut (&mut *unread).limit(READ);
        let read = async { stream.read_buf(room).await.ok() };
        let Ok(n) = unless_it_gives_way(large.as_ref(), read).await else {
            return Some(Err(DecodeError {
                reason: ReasonCode::ServerBusy,
                detail: GaveWay::WHY,
                answer_in: codec::version_of_connect(unread),
                max_packet_size: None,
            }));
        };
        let n = n.unwrap_or(0);
        if n == 0 {
            return None;
        }
        large.iter_mut().for_each(|large| large.came(n));
        shared.stats.received_bytes.add(n as u64);
        tap.iter().for_each(|tap| tap.received(n));
    }
}

fn not_connect() -> DecodeError {
    DecodeError {
        reason: ReasonCode::ProtocolError,
        detail: "the first packet is not CONNECT",
        answer_in: None,
        max_packet_size: None,
    }
}
