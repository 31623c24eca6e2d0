//! How fast messages leave over a link: as fast as the cloud takes them, which throws away, or cuts, what comes faster.
//!
//! One for all who use the link. Each takes its turn ahead and waits for it, so that they go one after the other.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::plan::BridgePlan;

/// How many messages a second a remote takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many, whatever their `QoS`.
    All(u32),
    /// So many of `QoS` 0, and beside them so many of the others.
    ByQos {
        /// Those of `QoS` 0.
        unacknowledged: u32,
        /// Those of `QoS` 1 and 2.
        acknowledged: u32,
    },
}

impl Rate {
    /// What no message may come faster than, and at which `QoS` that is where it depends on it.
    pub(super) fn least(self, qos_cap: u8) -> (u32, Option<u8>) {
        match self {
            Self::All(rate) => (rate, None),
            Self::ByQos {
                unacknowledged,
                acknowledged,
            } if qos_cap == 0 || unacknowledged < acknowledged => (unacknowledged, Some(0)),
            Self::ByQos { acknowledged, .. } => (acknowledged, Some(1)),
        }
    }
}

/// For so long after an outage a link sends more slowly than the cloud takes it.
const EASED_FOR: Duration = Duration::from_secs(60);
/// So much more slowly.
const EASED: f64 = 0.8;

/// What spaces the messages of a link.
pub(super) struct Pace(Mutex<Buckets>);

struct Buckets {
    /// Where those of `QoS` 0 have one of their own.
    unacknowledged: Option<Bucket>,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    /// The remote was away since the last link.
    was_away: bool,
    eased_until: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Cost {
    Message(u8),
    Bytes(usize),
}

impl Pace {
    pub(super) fn new(plan: &BridgePlan) -> Self {
        let (unacknowledged, messages) = match plan.rate {
            None => (None, None),
            Some(Rate::All(rate)) => (None, Some(rate)),
            Some(Rate::ByQos {
                unacknowledged,
                acknowledged,
            }) => (Some(unacknowledged), Some(acknowledged)),
        };
        Self(Mutex::new(Buckets {
            unacknowledged: unacknowledged.map(Bucket::full),
            messages: messages.map(Bucket::full),
            bytes: plan.byte_rate.map(Bucket::full),
            was_away: false,
            eased_until: None,
        }))
    }

    /// Waits until a message may leave, with so many bytes in its packet. Where it does not leave, it has cost nothing.
    pub(super) async fn wait(&self, qos: u8, bytes: usize) -> Turn<'_> {
        let mut turn = Turn {
            pace: self,
            taken: [None; 2],
        };
        let costs = [Cost::Bytes(bytes), Cost::Message(qos)];
        for (taken, cost) in turn.taken.iter_mut().zip(costs) {
            *taken = Some(cost);
            let at = self.0.lock().take(cost);
            if let Some(at) = at {
                sleep_until(at).await;
            }
        }
        turn
    }

    /// The remote was not reached, or a link to it was lost.
    pub(super) fn remote_is_away(&self) {
        self.0.lock().was_away = true;
    }

    /// A link is up. What has gathered while the remote was away must not come upon it at once.
    pub(super) fn link_is_up(&self) {
        let mut buckets = self.0.lock();
        if std::mem::take(&mut buckets.was_away) {
            buckets.eased_until = Some(Instant::now() + EASED_FOR);
        }
    }
}

/// What a message that waits, or may leave now, has taken: given back unless it is used.
pub(super) struct Turn<'a> {
    pace: &'a Pace,
    taken: [Option<Cost>; 2],
}

impl Turn<'_> {
    /// The message has left.
    pub(super) fn used(mut self) {
        self.taken = [None; 2];
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        for cost in self.taken.into_iter().flatten() {
            self.pace.0.lock().give_back(cost);
        }
    }
}

impl Buckets {
    /// Takes what a message costs; when its turn is, unless that is now.
    fn take(&mut self, cost: Cost) -> Option<Instant> {
        let now = Instant::now();
        let eased = self.eased_until.is_some_and(|until| now < until);
        let (bucket, cost) = self.bucket(cost);
        let wait = bucket?.take(cost, now, eased);
        (!wait.is_zero()).then(|| now + wait)
    }

    fn give_back(&mut self, cost: Cost) {
        if let (Some(bucket), cost) = self.bucket(cost) {
            bucket.level = (bucket.level + cost).min(bucket.per_second);
        }
    }

    /// Where it is taken from, and how much.
    fn bucket(&mut self, cost: Cost) -> (Option<&mut Bucket>, f64) {
        match cost {
            Cost::Bytes(bytes) => {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                (self.bytes.as_mut(), bytes.into())
            }
            Cost::Message(0) if self.unacknowledged.is_some() => {
                (self.unacknowledged.as_mut(), 1.0)
            }
            Cost::Message(_) => (self.messages.as_mut(), 1.0),
        }
    }
}

/// A bucket of one second's messages, or bytes.
struct Bucket {
    per_second: f64,
    /// Below zero: so much is promised to those who wait.
    level: f64,
    at: Instant,
}

impl Bucket {
    fn full(per_second: u32) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self {
            per_second,
            level: per_second,
            at: Instant::now(),
        }
    }

    /// How long it is until there is so much. What is more than the bucket holds leaves when it is full, and those behind
    /// it pay for that.
    fn take(&mut self, cost: f64, now: Instant, eased: bool) -> Duration {
        let rate = self.per_second * if eased { EASED } else { 1.0 };
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + since * rate).min(rate);
        self.at = now;
        let missing = (cost.min(rate) - self.level).max(0.0) / rate;
        self.level -= cost;
        Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: Option<Rate>, bytes: Option<u32>) -> Pace {
        let text = "type = \"mqtt\"\naddresses = [\"mqtt://h\"]\nclient_id = \"w\"";
        let config = toml::from_str(text).unwrap();
        let crate::config::connector::ConnectorConfig::Mqtt(config) = config else {
            unreachable!()
        };
        let (mut plan, _) = BridgePlan::check(&config).unwrap();
        (plan.rate, plan.byte_rate) = (rate, bytes);
        Pace::new(&plan)
    }

    /// How many messages leave in so many seconds.
    async fn within(pace: &Pace, seconds: u64, qos: u8, bytes: usize) -> u32 {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut left = 0;
        while let Ok(turn) = tokio::time::timeout_at(end, pace.wait(qos, bytes)).await {
            turn.used();
            left += 1;
        }
        left
    }

    #[tokio::test(start_paused = true)]
    async fn a_seconds_messages_leave_at_once_and_then_as_many_each_second() {
        let pace = pace(Some(Rate::All(10)), None);
        assert_eq!(within(&pace, 5, 1, 1000).await, 60);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(within(&pace, 1, 0, 1000).await, 20, "no more was saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_go_one_after_the_other() {
        let pace = pace(Some(Rate::All(10)), None);
        (0..10).for_each(|_| _ = pace.0.lock().take(Cost::Message(1)));
        let order = Mutex::new(Vec::new());
        let user = |name: &'static str| {
            let (pace, order) = (&pace, &order);
            async move {
                for _ in 0..4 {
                    pace.wait(1, 0).await.used();
                    order.lock().push(name);
                }
            }
        };
        tokio::join!(user("a"), user("b"), user("c"));
        assert_eq!(*order.lock(), ["a", "b", "c"].repeat(4));
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_cloud_has_two_rates_neither_waits_for_the_other() {
        let by_qos = Rate::ByQos {
            unacknowledged: 30,
            acknowledged: 10,
        };
        let pace = pace(Some(by_qos), None);
        let (zero, one) = tokio::join!(within(&pace, 4, 0, 0), within(&pace, 4, 1, 0));
        assert_eq!((zero, one), (150, 50));
        assert_eq!(
            (by_qos.least(1), by_qos.least(0)),
            ((10, Some(1)), (30, Some(0)))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_counted_beside_messages_and_a_large_one_is_paid_for_afterwards() {
        let pace = pace(Some(Rate::All(1000)), Some(1000));
        assert_eq!(within(&pace, 4, 1, 100).await, 50);
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        pace.wait(1, 5000).await.used();
        assert_eq!(began.elapsed(), Duration::ZERO, "it would never fit");
        pace.wait(1, 100).await.used();
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(4099), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn in_the_first_minute_after_an_outage_four_fifths_of_the_rate_are_used() {
        let pace = pace(Some(Rate::All(10)), None);
        pace.link_is_up();
        assert_eq!(within(&pace, 10, 1, 0).await, 110, "there was no outage");
        pace.remote_is_away();
        tokio::time::advance(Duration::from_secs(600)).await;
        pace.link_is_up();
        assert_eq!(within(&pace, 59, 1, 0).await, 8 * 60);
        tokio::time::advance(Duration::from_secs(2)).await;
        within(&pace, 1, 1, 0).await;
        assert_eq!(within(&pace, 10, 1, 0).await, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_not_leave_has_cost_nothing() {
        let pace = pace(Some(Rate::All(10)), Some(1000));
        // One whose link is gone while it waits, or when its turn is.
        for _ in 0..100 {
            let soon = Duration::from_millis(1);
            let _ = tokio::time::timeout(soon, pace.wait(1, 100)).await;
        }
        let began = Instant::now();
        for _ in 0..10 {
            pace.wait(1, 100).await.used();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(
            tokio::time::timeout(Duration::from_millis(99), pace.wait(1, 100))
                .await
                .is_err()
        );
    }
}
