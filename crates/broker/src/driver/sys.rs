//! `$SYS/broker/#`: what the broker says of itself, under the names that mosquitto gave it.
//!
//! The values are retained messages, set again at an interval when they have changed; they come from the counters and
//! cost nothing in between. `load/…/1min` and its like are averages a minute that forget exponentially.

use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;
use bytes::Bytes;
use weir_mqtt::{QoS, TopicName};

use super::Shared;
use super::router::Router;
use crate::core::Millis;
use crate::core::message::Message;
use crate::stats::BrokerStats;

/// What is averaged, in the order of [`Totals`].
const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

/// The spans of the averages.
const SPANS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// Counters that only grow.
type Totals = [u64; LOADS.len()];

/// What was said last.
#[derive(Debug)]
pub(super) struct SystemTopics {
    every: Duration,
    started: Millis,
    /// When it is time again.
    next: Millis,
    said: HashMap<String, String>,
    totals: Totals,
    averages: [[f64; SPANS.len()]; LOADS.len()],
    last: Millis,
}

impl SystemTopics {
    /// Says everything now and then at the interval.
    pub(super) fn new(every: Duration, now: Millis) -> Self {
        Self {
            every,
            started: now,
            next: now,
            said: HashMap::default(),
            totals: Totals::default(),
            averages: Default::default(),
            last: now,
        }
    }

    /// When it is time again.
    pub(super) fn next(&self) -> Millis {
        self.next
    }

    /// The values that have changed, as topics below `$SYS/broker/` and texts.
    fn changes(&mut self, now: Millis, stats: &BrokerStats) -> Vec<(String, String)> {
        self.next = now + u64::try_from(self.every.as_millis()).unwrap_or(Millis::MAX / 2);
        let totals = totals(stats);
        self.average(now, totals);
        let mut values = self.counts(now, stats, totals);
        for (load, averages) in LOADS.iter().zip(self.averages) {
            for ((span, _), average) in SPANS.iter().zip(averages) {
                values.push((format!("load/{load}/{span}"), format!("{average:.2}")));
            }
        }
        values.retain(|(topic, value)| self.said.get(topic) != Some(value));
        self.said.extend(values.iter().cloned());
        values
    }

    fn counts(&self, now: Millis, stats: &BrokerStats, totals: Totals) -> Vec<(String, String)> {
        let connected = stats.sessions_connected.get();
        let total = stats.sessions.get();
        let [
            received,
            sent,
            publish_in,
            publish_out,
            dropped,
            bytes_in,
            bytes_out,
            ..,
        ] = totals;
        let away = total.saturating_sub(connected);
        let uptime_s = now.saturating_sub(self.started) / 1000;
        let mut values = vec![
            (
                "version",
                concat!("weir version ", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
            ("uptime", format!("{uptime_s} seconds")),
        ];
        let numbers = [
            ("clients/connected", connected),
            ("clients/active", connected),
            ("clients/disconnected", away),
            ("clients/inactive", away),
            ("clients/total", total),
            ("clients/maximum", stats.sessions_connected_most.get()),
            ("messages/received", received),
            ("messages/sent", sent),
            ("publish/messages/received", publish_in),
            ("publish/messages/sent", publish_out),
            ("publish/messages/dropped", dropped),
            ("publish/bytes/received", stats.payload_bytes_in.get()),
            ("publish/bytes/sent", stats.payload_bytes_out.get()),
            ("bytes/received", bytes_in),
            ("bytes/sent", bytes_out),
            ("subscriptions/count", stats.subscriptions.get()),
            ("retained messages/count", stats.retained_messages.get()),
            ("store/messages/count", stats.retained_messages.get()),
            ("store/messages/bytes", stats.retained_bytes.get()),
            ("store/full", stats.store_full.get()),
        ];
        values.extend(numbers.map(|(topic, number)| (topic, number.to_string())));
        values
            .into_iter()
            .map(|(topic, value)| (topic.to_owned(), value))
            .collect()
    }

    fn average(&mut self, now: Millis, totals: Totals) {
        let minutes = Duration::from_millis(now.saturating_sub(self.last)).as_secs_f64() / 60.0;
        if minutes > 0.0 {
            for (place, (new, old)) in self.averages.iter_mut().zip(totals.iter().zip(self.totals))
            {
                let grown = u32::try_from(new.saturating_sub(old)).unwrap_or(u32::MAX);
                let rate = f64::from(grown) / minutes;
                for (average, (_, span)) in place.iter_mut().zip(SPANS) {
                    let kept = (-minutes / span).exp();
                    *average = *average * kept + rate * (1.0 - kept);
                }
            }
            self.last = now;
        }
        self.totals = totals;
    }
}

fn totals(stats: &BrokerStats) -> Totals {
    let sum = |counters: &[crate::stats::Counter]| counters.iter().map(|one| one.get()).sum();
    let connects: u64 = stats.sessions_connected.get() + sum(&stats.disconnects);
    [
        stats.received_packets.get(),
        stats.sent_packets.get(),
        sum(&stats.messages_in),
        sum(&stats.messages_out),
        sum(&stats.messages_dropped),
        stats.received_bytes.get(),
        stats.sent_bytes.get(),
        stats.connections_accepted.get(),
        connects,
    ]
}

impl Shared {
    /// Publishes what has changed of `$SYS/broker/#`.
    pub(super) fn tell_of_itself(self: &Arc<Self>, now: Millis, topics: &mut SystemTopics) {
        let mut router = Router::new(self);
        for (topic, value) in topics.changes(now, &self.stats) {
            let Ok(topic) = TopicName::new(&format!("$SYS/broker/{topic}")) else {
                continue;
            };
            let mut message = Message::new(topic, Bytes::from(value), QoS::AtMostOnce, true);
            message.id = router.message_id(now);
            message.accepted_at = now;
            router.publish_system(now, message);
        }
        drop(router.finish(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(changes: &'a [(String, String)], topic: &str) -> Option<&'a str> {
        let found = changes.iter().find(|(name, _)| name == topic);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn everything_is_said_once_and_then_what_has_changed() {
        let stats = BrokerStats::default();
        let mut topics = SystemTopics::new(Duration::from_secs(10), 1000);
        let first = topics.changes(1000, &stats);
        assert_eq!(of(&first, "uptime"), Some("0 seconds"));
        assert_eq!(of(&first, "clients/connected"), Some("0"));
        assert_eq!(of(&first, "load/bytes/sent/15min"), Some("0.00"));
        assert!(of(&first, "version").unwrap().starts_with("weir version "));
        assert_eq!(topics.next(), 11_000);
        stats.sessions_connected.add(2);
        let second = topics.changes(11_000, &stats);
        assert_eq!(of(&second, "uptime"), Some("10 seconds"));
        assert_eq!(of(&second, "clients/connected"), Some("2"));
        assert_eq!(of(&second, "version"), None);
    }

    #[test]
    fn averages_come_near_a_steady_rate_and_the_short_one_first() {
        let stats = BrokerStats::default();
        let mut topics = SystemTopics::new(Duration::from_secs(10), 0);
        topics.changes(0, &stats);
        let mut now = 0;
        for _ in 0..30 {
            now += 10_000;
            stats.received_packets.add(100);
            topics.changes(now, &stats);
        }
        // 600 a minute for five minutes.
        let [one, five, fifteen] = topics.averages[0];
        assert!((590.0..600.0).contains(&one), "{one}");
        assert!((370.0..390.0).contains(&five), "{five}");
        assert!((165.0..175.0).contains(&fifteen), "{fifteen}");
    }
}
