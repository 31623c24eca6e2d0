//! Filters of sessions that have ended, until they are out of the index.
//!
//! A client may have very many. Nobody waits for them to go: they lead to nobody any more. Where a connection is there
//! that has caused it, it takes them out when its loop has time; what is left to nobody is swept out by a task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::slices::Left;
use super::{CHANGES_AT_ONCE, Shared};
use crate::core::filters::Leftover;
use crate::core::subscriptions::SessionKey;

/// How long the sweep goes on at most until it rests.
const SWEEP_TURN: Duration = Duration::from_micros(300);

/// Then it rests so many times as long, if little is left: publishers need the index too, and the processor.
const SWEEP_REST: u32 = 3;

/// The more filters are left the shorter it rests; with so many not at all.
const NO_REST: usize = 64 * 1024;

/// Where so many are left, whoever leaves more behind takes them out itself.
const MOST_LEFT: usize = 256 * 1024;

/// How long the sweep rests after a turn.
fn rest_after(took: Duration, left: usize) -> Duration {
    let of_full = NO_REST.saturating_sub(left) as f64 / NO_REST as f64;
    (took * SWEEP_REST).mul_f64(of_full)
}

/// Filters that are still to be taken out of the index. Those that are left when this goes are swept out.
pub(crate) struct Forgotten {
    shared: Arc<Shared>,
    session: SessionKey,
    filters: Option<Leftover>,
}

impl Forgotten {
    /// All of these; some go at once.
    pub(super) fn new(shared: &Arc<Shared>, session: SessionKey, filters: Leftover) -> Self {
        let mut forgotten = Self {
            shared: Arc::clone(shared),
            session,
            filters: Some(filters),
        };
        forgotten.take_out_some();
        forgotten
    }

    /// Takes some out of the index.
    pub(crate) fn take_out_some(&mut self) -> Left {
        let Some(filters) = &mut self.filters else {
            return Left::Nothing;
        };
        let left = self.shared.take_out_some(self.session, filters);
        if left == Left::Nothing {
            self.filters = None;
        }
        left
    }

    /// Whether none is left.
    pub(crate) fn is_done(&self) -> bool {
        self.filters.is_none()
    }
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        while self.shared.sweep.is_full() && self.take_out_some() == Left::Some {}
        if let Some(filters) = self.filters.take() {
            self.shared.sweep.put(self.session, filters);
        }
    }
}

/// Filters of sessions that have ended, and no connection to take them out of the index.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    left: Mutex<VecDeque<(SessionKey, Leftover)>>,
    /// How many filters these are.
    filters: AtomicUsize,
    more: Notify,
}

impl Sweep {
    fn put(&self, session: SessionKey, filters: Leftover) {
        self.filters.fetch_add(filters.len(), Ordering::Relaxed);
        self.left.lock().push_back((session, filters));
        self.more.notify_one();
    }

    fn filters(&self) -> usize {
        self.filters.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.filters() >= MOST_LEFT
    }
}

impl Shared {
    fn take_out_some(&self, session: SessionKey, filters: &mut Leftover) -> Left {
        let some: Vec<_> = filters.take(CHANGES_AT_ONCE).collect();
        self.forget_subscriptions(session, &some);
        match filters.len() {
            0 => Left::Nothing,
            _ => Left::Some,
        }
    }

    /// Takes some of the filters that nobody else cares for out of the index.
    pub(crate) fn sweep_some(&self) -> Left {
        let first = self.sweep.left.lock().pop_front();
        let Some((session, mut filters)) = first else {
            return Left::Nothing;
        };
        let before = filters.len();
        let left = self.take_out_some(session, &mut filters);
        let gone = before - filters.len();
        self.sweep.filters.fetch_sub(gone, Ordering::Relaxed);
        let mut all = self.sweep.left.lock();
        if left == Left::Some {
            all.push_front((session, filters));
        }
        if all.is_empty() {
            Left::Nothing
        } else {
            Left::Some
        }
    }

    /// Lives as long as the broker. What is left at its end goes with the index.
    pub(crate) async fn keep_sweeping(self: Arc<Self>) {
        let mut ending = self.ending.subscribe();
        let work = async {
            loop {
                self.sweep.more.notified().await;
                while self.sweep_for_a_turn().await == Left::Some {}
            }
        };
        tokio::select! {
            () = work => {}
            _ = ending.wait_for(|ending| *ending) => {}
        }
    }

    async fn sweep_for_a_turn(&self) -> Left {
        let begun = Instant::now();
        loop {
            let left = self.sweep_some();
            let took = begun.elapsed();
            if left == Left::Nothing || took >= SWEEP_TURN {
                match rest_after(took, self.sweep.filters()) {
                    Duration::ZERO => tokio::task::yield_now().await,
                    rest => tokio::time::sleep(rest).await,
                }
                return left;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::{QoS, SubscriptionFilter, Utf8};

    use super::*;
    use crate::core::Effects;
    use crate::core::persist::SessionId;
    use crate::core::queue::QueueLimits;
    use crate::core::session::{Session, SessionLimits};
    use crate::core::subscriptions::SubscriptionOptions;
    use crate::driver::handle::SessionHandle;
    use crate::driver::tests::shared;
    use crate::settings::BrokerSettings;

    const FILTERS: usize = CHANGES_AT_ONCE * 3 + 1;

    /// A broker whose index knows many filters of one session, and those filters.
    fn broker() -> (Arc<Shared>, Leftover) {
        let shared = shared(BrokerSettings::default());
        let filters = subscribed(&shared, 1);
        (shared, filters)
    }

    fn subscribed(shared: &Shared, key: SessionKey) -> Leftover {
        let limits = SessionLimits {
            queue: QueueLimits {
                messages: 1,
                bytes: 1,
            },
            outbox_bytes: 1,
        };
        let session = Session::new(SessionId::default(), limits);
        let handle = SessionHandle::new(key, Utf8::from("c"), session, Arc::default());
        let options = SubscriptionOptions {
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            id: None,
        };
        let mut slot = handle.lock();
        for number in 0..FILTERS {
            let filter = SubscriptionFilter::parse(&format!("t/{number}")).unwrap();
            shared.change_index(|index| {
                index.subscribe(key, Arc::clone(&handle), &filter, options);
            });
            let effects = &mut Effects::default();
            slot.session.subscribed(filter, options, effects);
        }
        shared.stats.subscriptions.add(FILTERS as u64);
        slot.session.end(&mut Effects::default())
    }

    fn known(shared: &Shared) -> usize {
        let leads = |number: &usize| !shared.routes(&format!("t/{number}")).1.is_empty();
        (0..FILTERS).filter(leads).count()
    }

    #[test]
    fn many_filters_go_some_at_a_time_and_then_the_sweep_takes_the_rest() {
        let (shared, filters) = broker();
        let mut forgotten = Forgotten::new(&shared, 1, filters);
        assert_eq!(known(&shared), 2 * CHANGES_AT_ONCE + 1);
        assert_eq!(forgotten.take_out_some(), Left::Some);
        assert_eq!(shared.stats.subscriptions.get(), CHANGES_AT_ONCE as u64 + 1);
        assert!(!forgotten.is_done());
        drop(forgotten);
        assert_eq!(
            known(&shared),
            CHANGES_AT_ONCE + 1,
            "nobody was kept waiting"
        );
        assert_eq!(shared.sweep_some(), Left::Some);
        assert_eq!(known(&shared), 1);
        assert_eq!(shared.sweep_some(), Left::Nothing);
        assert_eq!((known(&shared), shared.stats.subscriptions.get()), (0, 0));
        assert_eq!(shared.sweep.filters(), 0);
    }

    #[test]
    fn the_sweep_rests_less_the_more_is_left() {
        let rest = |left| rest_after(SWEEP_TURN, left);
        assert_eq!(rest(0), SWEEP_TURN * SWEEP_REST);
        assert!(rest(NO_REST / 2) < rest(NO_REST / 4));
        assert_eq!([rest(NO_REST), rest(MOST_LEFT * 2)], [Duration::ZERO; 2]);
    }

    #[test]
    fn where_too_much_is_left_it_is_taken_out_by_who_leaves_more() {
        let (shared, filters) = broker();
        let forgotten = Forgotten::new(&shared, 1, filters);
        shared.sweep.filters.store(MOST_LEFT, Ordering::Relaxed);
        drop(forgotten);
        assert_eq!((known(&shared), shared.stats.subscriptions.get()), (0, 0));
        assert_eq!(shared.sweep.filters(), MOST_LEFT, "nothing was left");
    }

    #[test]
    fn whoever_waits_for_the_index_has_it_between_the_changes_of_one_client() {
        let (shared, filters) = broker();
        let before = shared.index_changes().latest();
        let filters: Vec<_> = filters.collect();
        shared.forget_subscriptions(1, &filters);
        assert_eq!(
            shared.index_changes().latest() - before,
            4,
            "so often it was locked"
        );
    }

    #[tokio::test]
    async fn what_is_left_to_nobody_is_swept_out_whenever_it_comes() {
        let (shared, first) = broker();
        let sweeping = tokio::spawn(Arc::clone(&shared).keep_sweeping());
        let second = subscribed(&shared, 2);
        drop(Forgotten::new(&shared, 1, first));
        drop(Forgotten::new(&shared, 2, second));
        let third = subscribed(&shared, 3);
        while known(&shared) > FILTERS || shared.stats.subscriptions.get() > FILTERS as u64 {
            tokio::task::yield_now().await;
        }
        drop(Forgotten::new(&shared, 3, third));
        while shared.stats.subscriptions.get() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(known(&shared), 0);
        shared.ending.send_replace(true);
        sweeping.await.unwrap();
    }
}
