//! Packet ids that a lost link has left half way at the remote: they are freed, and no message is sent under one of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::bench::Bench;
use crate::crossing::{Far, Remote};

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
