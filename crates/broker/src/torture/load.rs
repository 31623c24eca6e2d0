//! Who publishes and who subscribes, and what all of them know at the end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use weir_mqtt::{ProtocolVersion, QoS, Utf8};

use super::client::{Counters, Identity, Phase, Publisher, Subscriber};
use super::session::Outbound;
use super::verdict::{Arrival, Sender};

/// Publishers of retained messages, beside the others.
const KEEPERS: usize = 2;
/// What each publisher has unacknowledged: less than what any broker takes.
const WINDOW: usize = 16;

/// A subscriber, and what came to it.
pub(crate) struct Watcher {
    pub(crate) name: &'static str,
    pub(crate) came: Arc<Mutex<Vec<Arrival>>>,
    stands: watch::Receiver<bool>,
}

/// All clients.
pub(crate) struct Load {
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) watchers: Vec<Watcher>,
    publishers: JoinSet<(usize, Sender, u64)>,
    subscribers: JoinSet<()>,
    ordinary: usize,
    seed: u64,
}

/// What the publishers know at the end.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    pub(crate) senders: Vec<Sender>,
    /// Those of retained messages; their numbers go on behind the others.
    pub(crate) keepers: Vec<Sender>,
    pub(crate) resent: u64,
    /// Publishers that had something unanswered in the end.
    pub(crate) unfinished: usize,
}

impl Load {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Load),
            counters: Arc::default(),
            watchers: Vec::new(),
            publishers: JoinSet::new(),
            subscribers: JoinSet::new(),
            ordinary: 0,
            seed,
        }
    }

    /// A subscriber at a broker's port.
    pub(crate) fn subscribe(
        &mut self,
        name: &'static str,
        port: u16,
        filter: &str,
        qos: QoS,
        restless: bool,
    ) {
        let number = self.watchers.len() as u64;
        let stands = watch::Sender::new(false);
        let watcher = Watcher {
            name,
            came: Arc::default(),
            stands: stands.subscribe(),
        };
        let subscriber = Subscriber {
            who: Identity {
                client_id: format!("torture-sub-{number}"),
                port,
                version: version(number),
            },
            filter: filter.to_owned(),
            qos,
            restless,
            seed: self.seed ^ (0x5AB << 32) ^ number,
            came: Arc::clone(&watcher.came),
            stands,
        };
        self.watchers.push(watcher);
        let (phase, counters) = (self.phase.subscribe(), Arc::clone(&self.counters));
        self.subscribers.spawn(subscriber.run(phase, counters));
    }

    /// Waits until every subscription stands; nothing is promised to one that does not.
    pub(crate) async fn all_stand(&mut self, limit: Duration) -> Result<(), String> {
        for watcher in &mut self.watchers {
            let stands = timeout(limit, watcher.stands.wait_for(|stands| *stands)).await;
            if !matches!(stands, Ok(Ok(_))) {
                return Err(format!(
                    "the subscriber `{}` gets no subscription",
                    watcher.name
                ));
            }
        }
        Ok(())
    }

    /// Begins to publish: `publishers` clients with `rate` messages a second together, at QoS 1 and 2 in turn.
    pub(crate) fn publish(&mut self, port: u16, publishers: usize, rate: u32) {
        self.ordinary = publishers;
        let every = Duration::from_secs(1).mul_f64(publishers as f64 / f64::from(rate.max(1)));
        for number in 0..publishers + KEEPERS {
            let keeper = number >= publishers;
            let topic = if keeper { "kept" } else { "torture" };
            let topic = Utf8::new(&format!("{topic}/{number}")).expect("a topic of letters");
            let qos = if number % 2 == 0 {
                QoS::AtLeastOnce
            } else {
                QoS::ExactlyOnce
            };
            let sender = u32::try_from(number).unwrap_or(u32::MAX);
            let publisher = Publisher {
                who: Identity {
                    client_id: format!("torture-pub-{number}"),
                    port,
                    version: version(number as u64 / 2),
                },
                out: Outbound::new(topic, sender, qos, keeper, WINDOW),
                every: if keeper { every * 4 } else { every },
                seed: self.seed ^ (0x9B << 32) ^ number as u64,
            };
            let (phase, counters) = (self.phase.subscribe(), Arc::clone(&self.counters));
            self.publishers.spawn(async move {
                let (log, resent) = publisher.run(phase, counters).await;
                (number, log, resent)
            });
        }
    }

    /// Lets the publishers bring to an end what they have begun, within a time.
    pub(crate) async fn finish(&mut self, limit: Duration) -> Result<Logs, String> {
        self.phase.send_replace(Phase::Finish);
        let total = self.publishers.len();
        let mut done = Vec::with_capacity(total);
        let all = async {
            while let Some(log) = self.publishers.join_next().await {
                done.push(log);
            }
        };
        let in_time = timeout(limit, all).await.is_ok();
        let unfinished = total - done.len();
        if !in_time {
            // Those that are still at it are told to stop where they are.
            self.phase.send_replace(Phase::End);
            while let Some(log) = self.publishers.join_next().await {
                done.push(log);
            }
        }
        let mut done = done
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("a publisher of ours has a defect: {error}"))?;
        done.sort_by_key(|(number, ..)| *number);
        let resent = done.iter().map(|(.., resent)| resent).sum();
        let mut senders: Vec<Sender> = done.into_iter().map(|(_, log, _)| log).collect();
        let keepers = senders.split_off(self.ordinary.min(senders.len()));
        Ok(Logs {
            senders,
            keepers,
            resent,
            unfinished,
        })
    }

    /// Sends everybody home.
    pub(crate) async fn end(&mut self) {
        self.phase.send_replace(Phase::End);
        while self.subscribers.join_next().await.is_some() {}
    }
}

fn version(number: u64) -> ProtocolVersion {
    if number.is_multiple_of(2) {
        ProtocolVersion::V5
    } else {
        ProtocolVersion::V3_1_1
    }
}
