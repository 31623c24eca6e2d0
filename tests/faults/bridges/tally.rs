//! What was sent on one topic of one publisher, held against what arrived: lost, doubled, late.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Retained messages go to so many topics in turn.
pub(super) const KEPT_TOPICS: u64 = 4;

/// The messages of one publisher at one `QoS`, numbered from 0.
#[derive(Debug)]
pub(super) struct Stream {
    /// What its topics begin with.
    prefix: String,
    /// As it is published.
    pub(super) qos: u8,
    /// The lowest `QoS` on its way.
    pub(super) promised: u8,
    /// Whether each message is retained; then there are [`KEPT_TOPICS`] topics.
    pub(super) retained: bool,
    sent: AtomicU64,
    arrived: AtomicU64,
    copies: Mutex<Copies>,
}

#[derive(Debug, Default)]
struct Copies {
    of: Vec<u32>,
    /// By topic: one more than the highest number that has come.
    next: Vec<u64>,
    late: u64,
}

/// What is to be said of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) sent: u64,
    /// Never came.
    pub(super) lost: u64,
    /// Copies beside the first.
    pub(super) doubled: u64,
    /// Came for the first time after a later one of their topic.
    pub(super) late: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.late += other.late;
    }
}

impl Stream {
    pub(super) fn new(prefix: &str, qos: u8, cap: u8, retained: bool) -> Self {
        Self {
            prefix: prefix.to_owned(),
            qos,
            promised: qos.min(cap),
            retained,
            sent: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            copies: Mutex::default(),
        }
    }

    /// The topic of a message where it is published.
    pub(super) fn topic(&self, number: u64) -> String {
        if self.retained {
            format!("{}r/{}", self.prefix, number % KEPT_TOPICS)
        } else {
            format!("{}q/{}", self.prefix, self.qos)
        }
    }

    /// The number of the next message, which is sent now.
    pub(super) fn send(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Different messages that have arrived.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Takes one arrival down.
    pub(super) fn take(&self, number: u64) {
        let topic = if self.retained {
            number % KEPT_TOPICS
        } else {
            0
        };
        let (index, topic) = (
            usize::try_from(number).unwrap(),
            usize::try_from(topic).unwrap(),
        );
        let mut copies = self.copies.lock();
        if copies.of.len() <= index {
            copies.of.resize(index + 1, 0);
        }
        copies.of[index] += 1;
        if copies.of[index] == 1 {
            self.arrived.fetch_add(1, Ordering::Relaxed);
            copies.next.resize(usize::try_from(KEPT_TOPICS).unwrap(), 0);
            copies.late += u64::from(number < copies.next[topic]);
            copies.next[topic] = copies.next[topic].max(number + 1);
        }
    }

    pub(super) fn count(&self) -> Count {
        let copies = self.copies.lock();
        let all: u64 = copies.of.iter().map(|copies| u64::from(*copies)).sum();
        let arrived = self.arrived();
        assert!(copies.of.len() as u64 <= self.sent(), "never sent");
        Count {
            sent: self.sent(),
            lost: self.sent() - arrived,
            doubled: all - arrived,
            late: copies.late,
        }
    }

    /// The last number of each topic.
    pub(super) fn last(&self) -> Vec<(String, u64)> {
        let sent = self.sent();
        (sent.saturating_sub(KEPT_TOPICS)..sent)
            .map(|number| (self.topic(number), number))
            .collect()
    }
}

#[test]
fn what_is_lost_doubled_and_late_is_seen() {
    let stream = Stream::new("a/", 1, 2, false);
    for _ in 0..6 {
        let _ = stream.send();
    }
    for number in [0, 2, 1, 2, 4] {
        stream.take(number);
    }
    let count = Count {
        sent: 6,
        lost: 2,
        doubled: 1,
        late: 1,
    };
    assert_eq!(stream.count(), count);
}

#[test]
fn between_topics_there_is_no_order() {
    let stream = Stream::new("a/", 1, 2, true);
    for _ in 0..6 {
        let _ = stream.send();
    }
    for number in [1, 0, 5, 3, 2, 4] {
        stream.take(number);
    }
    assert_eq!(stream.count().late, 0);
    stream.take(1);
    assert_eq!(stream.count().doubled, 1);
    assert_eq!(stream.last()[3], ("a/r/1".to_owned(), 5));
}
