//! The subscriptions of one session: mostly a few, which a list holds in less memory than any hash table.

use std::collections::hash_map;
use std::slice;

use ahash::HashMap;
use weir_mqtt::SubscriptionFilter;

use super::subscriptions::SubscriptionOptions;

/// A list is searched from end to end up to this length.
const FEW: usize = 8;

/// Options by filter.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// All of them, unless there are `many`.
    few: Vec<(SubscriptionFilter, SubscriptionOptions)>,
    many: Option<Box<HashMap<SubscriptionFilter, SubscriptionOptions>>>,
}

impl Filters {
    pub(super) fn len(&self) -> usize {
        match &self.many {
            Some(many) => many.len(),
            None => self.few.len(),
        }
    }

    pub(super) fn get(&self, filter: &SubscriptionFilter) -> Option<&SubscriptionOptions> {
        match &self.many {
            Some(many) => many.get(filter),
            None => {
                let (_, options) = self.few.iter().find(|(known, _)| known == filter)?;
                Some(options)
            }
        }
    }

    /// Adds or replaces one.
    pub(super) fn insert(&mut self, filter: SubscriptionFilter, options: SubscriptionOptions) {
        if let Some(many) = &mut self.many {
            many.insert(filter, options);
            return;
        }
        if let Some((_, place)) = self.few.iter_mut().find(|(known, _)| *known == filter) {
            *place = options;
            return;
        }
        if self.few.len() < FEW {
            self.few.reserve_exact(1);
            self.few.push((filter, options));
            return;
        }
        let mut many: HashMap<_, _> = std::mem::take(&mut self.few).into_iter().collect();
        many.insert(filter, options);
        self.many = Some(Box::new(many));
    }

    /// Removes one; false when it was not there.
    pub(super) fn remove(&mut self, filter: &SubscriptionFilter) -> bool {
        if let Some(many) = &mut self.many {
            return many.remove(filter).is_some();
        }
        let place = self.few.iter().position(|(known, _)| known == filter);
        place.map(|place| self.few.swap_remove(place)).is_some()
    }

    pub(super) fn iter(
        &self,
    ) -> impl Iterator<Item = (&SubscriptionFilter, SubscriptionOptions)> + '_ {
        let few: slice::Iter<'_, _> = self.few.iter();
        let many: Option<hash_map::Iter<'_, _, _>> = self.many.as_ref().map(|many| many.iter());
        few.map(|(filter, options)| (filter, *options)).chain(
            many.into_iter()
                .flatten()
                .map(|(filter, options)| (filter, *options)),
        )
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::QoS;

    use super::*;

    fn filter(number: usize) -> SubscriptionFilter {
        SubscriptionFilter::parse(&format!("a/{number}")).unwrap()
    }

    fn options(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            id: None,
        }
    }

    #[test]
    fn few_and_many_are_kept_replaced_and_removed_alike() {
        for count in [0, 1, FEW - 1, FEW, FEW + 1, 100] {
            let mut filters = Filters::default();
            for number in 0..count {
                filters.insert(filter(number), options(QoS::AtMostOnce));
                filters.insert(filter(number), options(QoS::ExactlyOnce));
            }
            assert_eq!(filters.len(), count);
            let mut all: Vec<_> = filters.iter().map(|(filter, _)| filter.clone()).collect();
            all.sort_by_key(|filter| filter.filter.as_str().to_owned());
            all.dedup();
            assert_eq!(all.len(), count);
            for number in 0..count {
                let found = filters.get(&filter(number)).map(|options| options.qos);
                assert_eq!(found, Some(QoS::ExactlyOnce));
                assert!(filters.remove(&filter(number)));
                assert!(!filters.remove(&filter(number)));
                assert_eq!(filters.get(&filter(number)), None);
            }
            assert_eq!(filters.len(), 0);
        }
    }
}
