//! Filters of a session that has ended, until they are out of the index.
//!
//! A client may have very many. Nobody waits for them to go: the session gets nothing any more.

use std::sync::Arc;

use weir_mqtt::SubscriptionFilter;

use super::{CHANGES_AT_ONCE, Shared};
use crate::core::subscriptions::SessionKey;

/// Filters that are still to be taken out of the index. Those that are left go when this does.
pub(crate) struct Forgotten {
    shared: Arc<Shared>,
    session: SessionKey,
    filters: Vec<SubscriptionFilter>,
}

impl Forgotten {
    /// All of these.
    pub(super) fn new(
        shared: &Arc<Shared>,
        session: SessionKey,
        filters: Vec<SubscriptionFilter>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            session,
            filters,
        }
    }

    /// Takes some out of the index.
    pub(crate) fn take_out_some(&mut self) {
        let left = self.filters.len().saturating_sub(CHANGES_AT_ONCE);
        let some = self.filters.split_off(left);
        self.shared.forget_subscriptions(self.session, &some);
    }

    /// Whether none is left.
    pub(crate) fn is_done(&self) -> bool {
        self.filters.is_empty()
    }
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        let filters = std::mem::take(&mut self.filters);
        self.shared.forget_subscriptions(self.session, &filters);
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::{QoS, Utf8};

    use super::*;
    use crate::broker::BrokerSettings;
    use crate::core::persist::SessionId;
    use crate::core::queue::QueueLimits;
    use crate::core::session::{Session, SessionLimits};
    use crate::core::subscriptions::SubscriptionOptions;
    use crate::driver::handle::SessionHandle;
    use crate::driver::tests::shared;

    const FILTERS: usize = CHANGES_AT_ONCE * 3 + 1;

    /// A broker whose index knows many filters of one session, and those filters.
    fn broker() -> (Arc<Shared>, Vec<SubscriptionFilter>) {
        let shared = shared(BrokerSettings::default());
        let limits = SessionLimits {
            queue: QueueLimits {
                messages: 1,
                bytes: 1,
            },
            outbox_bytes: 1,
        };
        let session = Session::new(SessionId::default(), limits);
        let handle = SessionHandle::new(1, Utf8::from("c"), session, Arc::default());
        let options = SubscriptionOptions {
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            id: None,
        };
        let filters: Vec<_> = (0..FILTERS)
            .map(|number| SubscriptionFilter::parse(&format!("t/{number}")).unwrap())
            .collect();
        shared.change_index_by(&filters, |index, filter| {
            index.subscribe(1, Arc::clone(&handle), filter, options);
        });
        shared.stats.subscriptions.add(FILTERS as u64);
        (shared, filters)
    }

    fn known(shared: &Shared) -> usize {
        let leads = |number: &usize| !shared.routes(&format!("t/{number}")).1.is_empty();
        (0..FILTERS).filter(leads).count()
    }

    #[test]
    fn many_filters_go_some_at_a_time_and_then_the_rest() {
        let (shared, filters) = broker();
        let mut forgotten = Forgotten::new(&shared, 1, filters);
        for left in [2 * CHANGES_AT_ONCE + 1, CHANGES_AT_ONCE + 1] {
            forgotten.take_out_some();
            assert_eq!(known(&shared), left);
            assert_eq!(shared.stats.subscriptions.get(), left as u64);
            assert!(!forgotten.is_done());
        }
        drop(forgotten);
        assert_eq!(known(&shared), 0);
        assert_eq!(shared.stats.subscriptions.get(), 0);
    }

    #[test]
    fn whoever_waits_for_the_index_has_it_between_the_changes_of_one_client() {
        let (shared, filters) = broker();
        assert_eq!(shared.index_generation(), 4, "so often it was locked");
        shared.forget_subscriptions(1, &filters);
        assert_eq!(shared.index_generation(), 8);
    }
}
