//! Who publishes what, and who subscribes to it: the scenarios as data.

/// The messages of one publisher on one topic; order must hold within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub topic: String,
    pub publisher: usize,
    /// How many subscribers each message reaches.
    pub deliveries: u64,
}

/// A client that subscribes, and which streams reach it: each `step`th from `first` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub filters: Vec<String>,
    pub first: usize,
    pub step: usize,
    /// How many streams those are.
    pub streams: usize,
}

/// A scenario.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub publishers: usize,
    pub streams: Vec<Stream>,
    pub subscribers: Vec<Subscriber>,
}

/// A device of `wildcard` is known by four filters, each held by another client.
const KINDS: usize = 4;

impl Plan {
    /// Each publisher has a topic of its own; subscribers share them out, or share them.
    pub(super) fn pairs(publishers: usize, subscribers: usize) -> Self {
        let step = publishers.min(subscribers);
        let topic = |stream: usize| format!("bench/pair/{stream}/up");
        let subscribers: Vec<_> = (0..subscribers)
            .map(|subscriber| {
                let mine = (subscriber % step..publishers).step_by(step);
                // More subscribers than publishers: each has one stream, and some have the same.
                let mine: Vec<usize> = mine.collect();
                Subscriber {
                    filters: mine.iter().map(|stream| topic(*stream)).collect(),
                    first: subscriber % step,
                    step,
                    streams: mine.len(),
                }
            })
            .collect();
        let streams = (0..publishers)
            .map(|stream| Stream {
                topic: topic(stream),
                publisher: stream,
                deliveries: count(&subscribers, stream),
            })
            .collect();
        Self {
            publishers,
            streams,
            subscribers,
        }
    }

    /// Every subscriber gets every message.
    pub(super) fn fanout(publishers: usize, subscribers: usize) -> Self {
        let filter = if publishers == 1 {
            "bench/all/0/up"
        } else {
            "bench/all/+/up"
        };
        let streams = (0..publishers).map(|publisher| Stream {
            topic: format!("bench/all/{publisher}/up"),
            publisher,
            deliveries: subscribers as u64,
        });
        let subscriber = Subscriber {
            filters: vec![filter.to_owned()],
            first: 0,
            step: 1,
            streams: publishers,
        };
        Self {
            publishers,
            streams: streams.collect(),
            subscribers: vec![subscriber; subscribers],
        }
    }

    /// Many filters over a quarter as many devices: a message matches one exact filter, one with `+`,
    /// one that ends in `#` and one with two `+`, each of another client.
    pub(super) fn wildcard(filters: usize, publishers: usize, subscribers: usize) -> Self {
        let devices = (filters / KINDS).max(1);
        let groups = (subscribers / KINDS).clamp(1, devices);
        let publishers = publishers.min(devices);
        let (site, gateway) = (|device: usize| device % 100, |device: usize| device / 100);
        let topic =
            |device: usize| format!("bench/s{}/g{}/d{device}/up", site(device), gateway(device));
        let filter = |kind: usize, device: usize| match kind {
            0 => topic(device),
            1 => format!("bench/s{}/+/d{device}/up", site(device)),
            2 => format!("bench/s{}/g{}/d{device}/#", site(device), gateway(device)),
            _ => format!("bench/+/+/d{device}/up"),
        };
        let streams = (0..devices).map(|device| Stream {
            topic: topic(device),
            publisher: device % publishers,
            deliveries: KINDS as u64,
        });
        let subscribers = (0..KINDS * groups).map(|subscriber| {
            let (kind, first) = (subscriber / groups, subscriber % groups);
            let filters: Vec<String> = (first..devices)
                .step_by(groups)
                .map(|device| filter(kind, device))
                .collect();
            Subscriber {
                streams: filters.len(),
                filters,
                first,
                step: groups,
            }
        });
        Self {
            publishers,
            streams: streams.collect(),
            subscribers: subscribers.collect(),
        }
    }

    /// How many filters there are.
    pub(super) fn filters(&self) -> usize {
        self.subscribers.iter().map(|one| one.filters.len()).sum()
    }
}

fn count(subscribers: &[Subscriber], stream: usize) -> u64 {
    let sees = |one: &&Subscriber| stream % one.step == one.first;
    subscribers.iter().filter(sees).count() as u64
}

#[cfg(test)]
mod tests {
    use weir_mqtt::TopicFilter;

    use super::*;

    /// What the plan says is delivered is what its filters match.
    fn holds(plan: &Plan) {
        for (number, stream) in plan.streams.iter().enumerate() {
            let mut reached = 0;
            for subscriber in &plan.subscribers {
                let matching = subscriber
                    .filters
                    .iter()
                    .filter(|filter| TopicFilter::parse(filter).unwrap().matches(&stream.topic))
                    .count();
                let expected = usize::from(number % subscriber.step == subscriber.first);
                assert_eq!(matching, expected, "{stream:?} {subscriber:?}");
                if expected == 1 {
                    assert!(number / subscriber.step < subscriber.streams);
                }
                reached += matching as u64;
            }
            assert_eq!(reached, stream.deliveries, "{stream:?}");
        }
    }

    #[test]
    fn pairs_reach_one_each_or_are_shared_out() {
        for (publishers, subscribers) in [(5, 5), (7, 3), (3, 7), (1, 4), (4, 1)] {
            holds(&Plan::pairs(publishers, subscribers));
        }
    }

    #[test]
    fn fanout_reaches_everyone() {
        holds(&Plan::fanout(1, 9));
        holds(&Plan::fanout(3, 4));
    }

    #[test]
    fn wildcard_has_four_deliveries_of_four_kinds() {
        let plan = Plan::wildcard(1000, 10, 20);
        holds(&plan);
        assert_eq!(plan.filters(), 1000);
        holds(&Plan::wildcard(8, 10, 100));
    }
}
