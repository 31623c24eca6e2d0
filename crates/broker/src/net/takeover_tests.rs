//! Who has a session in the end that many want, whatever the order is in which their connections get their turns.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use weir_mqtt::{Connect, Disconnect, Packet, ProtocolVersion, ReasonCode, Utf8, codec};

use super::connection_tests::parts;
use super::in_memory::{Line, Net};
use crate::auth::{Authenticator, ConnectRequest, Decision, Identity};

/// A connection that has sent its CONNECT.
fn dial(net: &mut Net, version: ProtocolVersion, clean_start: bool) -> Line {
    let mut connect = Connect::new(version, Utf8::from("same"));
    connect.clean_start = clean_start;
    let mut bytes = Vec::new();
    codec::encode(&Packet::Connect(Box::new(connect)), version, &mut bytes).unwrap();
    let line = net.dial(1 << 16);
    line.send(&bytes);
    line
}

fn said(line: &Line, version: ProtocolVersion) -> Vec<Packet> {
    let mut bytes = bytes::Bytes::from(line.take(usize::MAX));
    let mut packets = Vec::new();
    while let Ok(Some(len)) = codec::frame_length(&bytes, usize::MAX) {
        packets.push(codec::decode(bytes.split_to(len), version).unwrap());
    }
    packets
}

fn is_welcome(packet: &Packet) -> bool {
    matches!(packet, Packet::ConnAck(connack) if connack.reason == ReasonCode::Success)
}

/// `[MQTT-3.1.4-3]` `[MQTT3-3.1.4-2]`
#[test]
fn of_many_who_want_one_session_the_newest_has_it_in_the_end() {
    const WAITING: usize = 12;
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let version = match random.random_range(0..2) {
            0 => ProtocolVersion::V3_1_1,
            _ => ProtocolVersion::V5,
        };
        let mut net = Net::new(parts());
        let mut lines = vec![dial(&mut net, version, false)];
        while net.run(1, |_| 0) {}
        for _ in 0..WAITING {
            lines.push(dial(&mut net, version, random.random_bool(0.3)));
            // It comes so far that it waits, before the next comes; the others get no turn.
            net.run(1, |ready| ready - 1);
        }
        assert_eq!(net.open(), 1 + WAITING);
        while net.run(1, |ready| random.random_range(0..ready)) {}
        let newest = lines.pop().unwrap();
        for line in lines {
            let packets = said(&line, version);
            assert!(is_welcome(&packets[0]), "{seed}: {packets:?}");
            let goodbye = match version.is_v5() {
                true => vec![Packet::Disconnect(Disconnect::new(
                    ReasonCode::SessionTakenOver,
                ))],
                false => vec![],
            };
            let mut rest = packets[1..].to_vec();
            for packet in &mut rest {
                if let Packet::Disconnect(disconnect) = packet {
                    disconnect.properties = None;
                }
            }
            assert_eq!(rest, goodbye, "{seed}");
            assert!(line.is_over(), "{seed}");
        }
        let packets = said(&newest, version);
        assert!(
            packets.len() == 1 && is_welcome(&packets[0]),
            "{seed}: {packets:?}"
        );
        assert!(!newest.is_over(), "{seed}");
        assert_eq!(net.broker.stats.sessions_connected.get(), 1);
        assert_eq!(net.broker.stats.sessions.get(), 1);
    }
}

/// Takes its time with whoever it is told to.
#[derive(Default)]
struct Slow(Mutex<Vec<oneshot::Receiver<()>>>);

impl Authenticator for Slow {
    fn authenticate<'a>(&'a self, _: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        let wait = self.0.lock().pop();
        Box::pin(async {
            if let Some(wait) = wait {
                let _ = wait.await;
            }
            Decision::Allow(Identity::default())
        })
    }
}

#[test]
fn one_whose_credentials_take_longer_to_check_does_not_throw_out_one_that_came_later() {
    let slow = Arc::new(Slow::default());
    let mut parts = parts();
    parts.authenticator = Arc::new(Arc::clone(&slow));
    let mut net = Net::new(parts);
    let (checked, wait) = oneshot::channel();
    slow.0.lock().push(wait);
    let version = ProtocolVersion::V5;
    let old = dial(&mut net, version, false);
    while net.run(1, |_| 0) {}
    let new = dial(&mut net, version, false);
    while net.run(1, |_| 0) {}
    assert!(is_welcome(&said(&new, version)[0]));
    checked.send(()).unwrap();
    while net.run(1, |_| 0) {}
    assert!(old.is_over() && said(&old, version).is_empty());
    assert!(!new.is_over() && said(&new, version).is_empty());
    let refused = &net.broker.stats.connects_refused;
    assert_eq!(refused.of(ReasonCode::SessionTakenOver.as_u8()).get(), 1);
    // Where the newer one has gone by then, nobody is thrown out.
    let (checked, wait) = oneshot::channel();
    slow.0.lock().push(wait);
    let old = dial(&mut net, version, false);
    while net.run(1, |_| 0) {}
    new.close();
    while net.run(1, |_| 0) {}
    checked.send(()).unwrap();
    while net.run(1, |_| 0) {}
    assert!(is_welcome(&said(&old, version)[0]));
}
