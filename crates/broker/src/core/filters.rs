//! The subscriptions of one session: mostly a few, which a list holds in less memory than any hash table.
//!
//! Whether few or many, each has a place, so that all of them can be looked at, or let go, some at a time.

use std::{slice, vec};

use ahash::RandomState;
use indexmap::{IndexMap, map};
use weir_mqtt::SubscriptionFilter;

use super::subscriptions::SubscriptionOptions;

/// A list is searched from end to end up to this length.
const FEW: usize = 8;

/// Options by filter.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// All of them, unless there are `many`.
    few: Vec<(SubscriptionFilter, SubscriptionOptions)>,
    many: Option<Box<Many>>,
}

type Many = IndexMap<SubscriptionFilter, SubscriptionOptions, RandomState>;

/// The filters of a session that is over, which the index still has.
#[derive(Debug)]
pub struct Leftover {
    few: vec::IntoIter<(SubscriptionFilter, SubscriptionOptions)>,
    many: Option<map::IntoIter<SubscriptionFilter, SubscriptionOptions>>,
}

impl Iterator for Leftover {
    type Item = SubscriptionFilter;

    fn next(&mut self) -> Option<SubscriptionFilter> {
        let next = self.few.next();
        let (filter, _) = next.or_else(|| self.many.as_mut()?.next())?;
        Some(filter)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.few.len() + self.many.as_ref().map_or(0, ExactSizeIterator::len);
        (len, Some(len))
    }
}

impl ExactSizeIterator for Leftover {}

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
        let mut many: Many = std::mem::take(&mut self.few).into_iter().collect();
        many.insert(filter, options);
        self.many = Some(Box::new(many));
    }

    /// Removes one; false when it was not there. The last one takes its place.
    pub(super) fn remove(&mut self, filter: &SubscriptionFilter) -> bool {
        if let Some(many) = &mut self.many {
            return many.swap_remove(filter).is_some();
        }
        let place = self.few.iter().position(|(known, _)| known == filter);
        place.map(|place| self.few.swap_remove(place)).is_some()
    }

    pub(super) fn iter(
        &self,
    ) -> impl Iterator<Item = (&SubscriptionFilter, SubscriptionOptions)> + '_ {
        let few: slice::Iter<'_, _> = self.few.iter();
        let many: Option<map::Iter<'_, _, _>> = self.many.as_ref().map(|many| many.iter());
        few.map(|(filter, options)| (filter, *options)).chain(
            many.into_iter()
                .flatten()
                .map(|(filter, options)| (filter, *options)),
        )
    }

    /// The one at a place. New ones come to the end.
    pub(super) fn at(&self, place: usize) -> Option<(&SubscriptionFilter, SubscriptionOptions)> {
        let (filter, options) = match &self.many {
            Some(many) => many.get_index(place)?,
            None => {
                let (filter, options) = self.few.get(place)?;
                (filter, options)
            }
        };
        Some((filter, *options))
    }

    /// Lets all of them go, without looking at each.
    pub(super) fn into_leftover(self) -> Leftover {
        Leftover {
            few: self.few.into_iter(),
            many: self.many.map(|many| many.into_iter()),
        }
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
            let at = |place| filters.at(place).map(|(filter, _)| filter.clone());
            let mut placed: Vec<_> = (0..count).filter_map(at).collect();
            placed.sort_by_key(|filter| filter.filter.as_str().to_owned());
            assert_eq!(placed, all);
            assert!(filters.at(count).is_none());
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

    #[test]
    fn few_and_many_are_let_go_one_after_another() {
        for count in [0, 1, FEW, FEW + 1, 100] {
            let mut filters = Filters::default();
            for number in 0..count {
                filters.insert(filter(number), options(QoS::AtMostOnce));
            }
            let mut leftover = filters.into_leftover();
            for gone in 0..count {
                assert_eq!(leftover.len(), count - gone);
                assert_eq!(leftover.next(), Some(filter(gone)));
            }
            assert_eq!((leftover.len(), leftover.next()), (0, None));
        }
    }

    /// A look from the end that goes on after each removal misses none of those that stay.
    #[test]
    fn who_looks_from_the_end_and_removes_looks_at_each_of_the_others() {
        for count in [FEW, 100] {
            for every in 1..5 {
                let mut filters = Filters::default();
                for number in 0..count {
                    filters.insert(filter(number), options(QoS::AtMostOnce));
                }
                let mut seen = Vec::new();
                for place in (0..count).rev() {
                    let (found, _) = filters.at(place).unwrap();
                    let found = found.clone();
                    if seen.len() % every == 0 {
                        filters.remove(&found);
                    }
                    seen.push(found);
                }
                seen.sort_by_key(|filter| filter.filter.as_str().to_owned());
                seen.dedup();
                assert_eq!(seen.len(), count);
            }
        }
    }
}
