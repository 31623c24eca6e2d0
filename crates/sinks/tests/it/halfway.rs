//! Packet ids that a lost link has left half way at the remote: they are freed, and no message is sent under one of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use weir_rules::value::{Object, Value};
use weir_sinks::{Connector, MemoryRows};

use crate::bench::{self, Bench};
use crate::crossing::{Far, Remote, commit, commit_with, open, spec};

/// What a remote knows of messages of `QoS` 2.
#[derive(Default)]
struct Known {
    /// Ids of messages that it has and that are not released.
    half: BTreeSet<u16>,
    completed: usize,
    /// Messages that came anew under such an id. A remote throws them away.
    lost: Vec<u16>,
}

/// The next packet, taken as a remote of 3.1.1 takes it, and answered if told to.
async fn take(far: &mut Far, known: &Mutex<Known>, answer: bool) {
    let (kind, body) = far.packet().await;
    match kind >> 4 {
        3 => {
            let topic = usize::from(body[1]);
            let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
            {
                let mut known = known.lock().unwrap();
                if !known.half.insert(id) {
                    known.lost.push(id);
                }
            }
            if answer {
                far.acknowledge(0x50, id).await;
            }
        }
        6 => {
            let id = u16::from_be_bytes([body[0], body[1]]);
            {
                let mut known = known.lock().unwrap();
                known.completed += usize::from(known.half.remove(&id));
            }
            if answer {
                far.acknowledge(0x70, id).await;
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn ids_of_rule_sinks_that_were_left_half_way_are_freed_before_others_are_sent() {
    let remote = Remote::new().await;
    let more = "protocol = \"3.1.1\"\nclean_start = false\nmax_inflight = 10";
    let bench = Bench::new("topic = \"t\"\nqos = 2", Some(&remote.toml(more)));
    for n in 0..50 {
        bench.push(&format!("{{\"n\":{n}}}"));
    }
    let known = Arc::new(Mutex::new(Known::default()));
    let mut far = remote.accept(false).await;
    while known.lock().unwrap().completed < 37 {
        take(&mut far, &known, true).await;
    }
    while known.lock().unwrap().half.len() < 5 {
        take(&mut far, &known, false).await;
    }
    drop(far);
    let mut far = remote.accept(true).await;
    let answering = {
        let known = Arc::clone(&known);
        tokio::spawn(async move {
            loop {
                take(&mut far, &known, true).await;
            }
        })
    };
    bench.wait("all are delivered", |c| c.delivered == 50).await;
    answering.abort();
    let known = known.lock().unwrap();
    assert!(known.lost.is_empty(), "thrown away: {:?}", known.lost);
    assert!(known.half.is_empty(), "half way for ever: {:?}", known.half);
}

/// PUBREC with Packet Identifier in use, as some remotes answer what they have already.
async fn say_in_use(far: &mut Far, id: u16) {
    let [high, low] = id.to_be_bytes();
    far.send(&[0x50, 3, high, low, 0x91]).await;
}

#[tokio::test]
async fn a_repeat_that_the_remote_calls_in_use_is_with_the_remote() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = remote.config("5");
    let log = Arc::new(MemoryRows::new(1, 79));
    commit(&log, &config, "one");
    let (_connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(false).await;
    let (_, id, _) = far.publish().await;
    // The PUBREC is lost with the link.
    drop(far);
    let mut far = remote.accept(true).await;
    let (kind, again, _) = far.publish().await;
    assert_eq!((kind, again), (0x3C, id), "DUP, under the id that it had");
    say_in_use(&mut far, id).await;
    let (kind, body) = far.packet().await;
    assert_eq!((kind, body), (0x62, id.to_be_bytes().to_vec()), "PUBREL");
    far.acknowledge(0x70, id).await;
    bench::wait(&sink, "it is delivered", |c| c.delivered == 1).await;
}

#[tokio::test]
async fn an_id_that_is_in_use_by_something_else_is_freed_and_the_message_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = remote.config("5");
    let log = Arc::new(MemoryRows::new(1, 80));
    commit(&log, &config, "one");
    let (_connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(false).await;
    let (kind, id, _) = far.publish().await;
    assert_eq!(kind, 0x34, "for the first time");
    say_in_use(&mut far, id).await;
    let (kind, body) = far.packet().await;
    assert_eq!((kind, body), (0x62, id.to_be_bytes().to_vec()), "PUBREL");
    far.acknowledge(0x70, id).await;
    let (_, again, payload) = far.publish().await;
    assert_eq!((again, payload.as_str()), (id, "one"));
    far.acknowledge(0x50, id).await;
    assert_eq!(far.packet().await.0, 0x62);
    far.acknowledge(0x70, id).await;
    bench::wait(&sink, "it is delivered", |c| c.delivered == 1).await;
}

#[tokio::test]
async fn a_message_that_expired_half_way_is_released_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = remote.config("5");
    let log = Arc::new(MemoryRows::new(1, 81));
    // They were in the queue before the restart, the first for longer than it lives.
    let mut properties = Object::default();
    properties.insert("Message-Expiry-Interval".into(), Value::Int(1));
    commit_with(&log, &config, "old", Some(&Arc::new(properties)));
    commit(&log, &config, "two");
    let (_connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(true).await;
    let mut freed = Vec::new();
    let (id, payload) = loop {
        let (kind, body) = far.packet().await;
        if kind == 0x62 {
            let id = u16::from_be_bytes([body[0], body[1]]);
            far.acknowledge(0x70, id).await;
            freed.push(id);
            continue;
        }
        assert_eq!(kind >> 4, 3, "PUBLISH");
        break (u16::from_be_bytes([body[3], body[4]]), body[6..].to_vec());
    };
    assert!(payload.ends_with(b"two"));
    assert!(freed.contains(&(id - 1)), "{id}: {freed:?}");
    far.acknowledge(0x50, id).await;
    assert_eq!(far.packet().await.0, 0x62);
    far.acknowledge(0x70, id).await;
    bench::wait(&sink, "both are settled", |c| c.delivered == 2).await;
}

#[tokio::test]
async fn what_the_old_link_releases_while_a_new_connector_waits_is_known_to_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = remote.config("3.1.1");
    let log = Arc::new(MemoryRows::new(1, 82));
    commit(&log, &config, "one");
    let (old, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(false).await;
    let (_, id, _) = far.publish().await;
    // A reload: the sink is to use another connector, which waits for the old one to end.
    let new = Connector::open("hq", &config, folder.path()).unwrap();
    sink.reconfigure(&spec(folder.path(), &new, &log)).unwrap();
    far.acknowledge(0x50, id).await;
    let (kind, body) = far.packet().await;
    assert_eq!((kind, body), (0x62, id.to_be_bytes().to_vec()), "PUBREL");
    old.end().await;
    drop(far);
    new.start();
    let mut far = remote.accept(true).await;
    loop {
        let (kind, body) = far.packet().await;
        assert_eq!(kind, 0x62, "it is with the remote: only PUBREL may follow");
        let freed = u16::from_be_bytes([body[0], body[1]]);
        far.acknowledge(0x70, freed).await;
        if freed == id {
            break;
        }
    }
    bench::wait(&sink, "it is delivered", |c| c.delivered == 1).await;
}
