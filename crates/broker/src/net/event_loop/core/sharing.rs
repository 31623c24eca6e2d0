//! Which connections a busy loop gives to another: about half of its work, and whoever talks to each other stays together.
//!
//! What one connection has for another costs least where both live on one loop: nobody waits for a lock that the other
//! thread has, and no thread wakes another. Of a publisher it is known who got its last message; where a message goes to
//! several, one of them.

use std::cmp::Reverse;

use ahash::HashMap;

use crate::core::subscriptions::SessionKey;

/// A connection that keeps its loop busy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy {
    pub(super) place: usize,
    /// How often it was polled.
    pub(super) polls: u32,
    /// Whose session its client has; 0: none yet.
    pub(super) session: SessionKey,
    /// Who last got a message from it.
    pub(super) talks_to: Option<SessionKey>,
}

/// A session that more than so many publish to is nobody's friend: it hears what a whole crowd has to say.
const CROWD: usize = 16;

/// The places of those that go.
pub(super) fn given_away(mut busy: Vec<Busy>) -> Vec<usize> {
    busy.sort_unstable_by_key(|one| (Reverse(one.polls), one.place));
    let all = polls(&busy);
    let mut parts = Vec::new();
    for circle in circles(&busy) {
        // What is most of the work by itself cannot stay together.
        if polls(&circle) > all / 3 * 2 {
            parts.extend(circle.into_iter().map(|one| vec![one]));
        } else {
            parts.push(circle);
        }
    }
    parts.sort_by_key(|part| Reverse(polls(part)));
    let (mut stays, mut goes) = (0, 0);
    let mut given = Vec::new();
    // The largest stays.
    for part in parts {
        if stays <= goes {
            stays += polls(&part);
        } else {
            goes += polls(&part);
            given.extend(part.iter().map(|one| one.place));
        }
    }
    given
}

fn polls(some: &[Busy]) -> u64 {
    some.iter().map(|one| u64::from(one.polls)).sum()
}

/// Those who talk to each other, or to the same, in the order in which the first of them come.
fn circles(busy: &[Busy]) -> Vec<Vec<Busy>> {
    let mut hear: HashMap<SessionKey, usize> = HashMap::default();
    for session in busy.iter().filter_map(|one| one.talks_to) {
        *hear.entry(session).or_default() += 1;
    }
    let mut forest = Forest::default();
    for one in busy.iter().filter(|one| one.session != 0) {
        if let Some(other) = one.talks_to.filter(|other| hear[other] <= CROWD) {
            forest.join(one.session, other);
        }
    }
    let mut circles: Vec<Vec<Busy>> = Vec::new();
    let mut known: HashMap<SessionKey, usize> = HashMap::default();
    for one in busy {
        let circle = match one.session {
            0 => circles.len(),
            session => *known.entry(forest.top(session)).or_insert(circles.len()),
        };
        match circles.get_mut(circle) {
            Some(circle) => circle.push(*one),
            None => circles.push(vec![*one]),
        }
    }
    circles
}

/// Sessions that point to others of their circle, up to one that points to none.
#[derive(Default)]
struct Forest {
    above: HashMap<SessionKey, SessionKey>,
    /// How many there are below a top, itself included, if there are others.
    sizes: HashMap<SessionKey, usize>,
}

impl Forest {
    /// The top of a session's circle. The way there is halved, so that long ways do not stay long.
    fn top(&mut self, session: SessionKey) -> SessionKey {
        let mut at = session;
        while let Some(above) = self.above.get(&at).copied() {
            match self.above.get(&above).copied() {
                Some(higher) => {
                    self.above.insert(at, higher);
                    at = higher;
                }
                None => at = above,
            }
        }
        at
    }

    /// Both are of one circle.
    fn join(&mut self, one: SessionKey, other: SessionKey) {
        let (one, other) = (self.top(one), self.top(other));
        if one == other {
            return;
        }
        let size = |top| self.sizes.get(&top).copied().unwrap_or(1);
        let both = size(one) + size(other);
        let (below, top) = match size(one) <= size(other) {
            true => (one, other),
            false => (other, one),
        };
        self.above.insert(below, top);
        self.sizes.insert(top, both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections at places from 0 on, with sessions from 1 on.
    fn busy(all: &[(u32, Option<SessionKey>)]) -> Vec<Busy> {
        let busy = all.iter().enumerate();
        busy.map(|(place, (polls, talks_to))| Busy {
            place,
            polls: *polls,
            session: place as SessionKey + 1,
            talks_to: *talks_to,
        })
        .collect()
    }

    #[test]
    fn whoever_talks_to_each_other_goes_or_stays_together() {
        // Publishers at places 0 to 9, the receiver of each ten places on; polled in no order.
        let publishers = (0..10).map(|at| (100 + 7 * at % 5, Some(u64::from(at) + 11)));
        let receivers = (0..10).map(|at| (90 + 3 * at % 7, None));
        let all: Vec<_> = publishers.chain(receivers).collect();
        let given = given_away(busy(&all));
        assert_eq!(given.len(), 10);
        for at in 0..10 {
            assert_eq!(given.contains(&at), given.contains(&(at + 10)), "{at}");
        }
    }

    #[test]
    fn a_chain_and_those_who_answer_each_other_are_circles_too() {
        let all = [
            (5, Some(2)),
            (5, Some(3)),
            (5, None),
            (5, Some(5)),
            (5, Some(4)),
            (4, None),
        ];
        assert_eq!(given_away(busy(&all)), [3, 4, 5]);
    }

    #[test]
    fn a_crowd_around_one_is_shared_and_does_not_tear_others_apart() {
        // A pair, and a crowd that publishes to the last one.
        let crowd = (0..50).map(|_| (10, Some(53)));
        let all: Vec<_> = [(60, Some(2)), (40, None)]
            .into_iter()
            .chain(crowd)
            .chain([(100, None)])
            .collect();
        let given = given_away(busy(&all));
        let work: u32 = given.iter().map(|place| all[*place].0).sum();
        assert_eq!(work, 350, "half of it");
        assert_eq!(given.contains(&0), given.contains(&1), "the pair");
    }

    #[test]
    fn a_circle_that_is_most_of_the_work_is_taken_apart() {
        let all: Vec<_> = (0..10)
            .map(|_| (10, Some(11)))
            .chain([(20, None), (5, Some(13)), (5, None)])
            .collect();
        let given = given_away(busy(&all));
        let work: u32 = given.iter().map(|place| all[*place].0).sum();
        assert!((60..=70).contains(&work), "{work}");
        assert_eq!(given.contains(&11), given.contains(&12), "the pair");
    }

    #[test]
    fn long_chains_are_circles_whichever_end_is_known_first() {
        // Where each look would go through half of a chain, these would be billions.
        const LONG: u64 = 50_000;
        let next = |at: u64| (at % LONG != LONG - 1).then_some(at + 2);
        let forwards: Vec<_> = (0..2 * LONG).map(|at| (1, next(at))).collect();
        let before = |at: u64| (!at.is_multiple_of(LONG)).then_some(at);
        let backwards: Vec<_> = (0..2 * LONG).map(|at| (1, before(at))).collect();
        for chains in [forwards, backwards] {
            let given = given_away(busy(&chains));
            assert_eq!(given.len() as u64, LONG);
            let is_of_second = |place: &usize| *place as u64 >= LONG;
            assert!(
                given.iter().all(is_of_second),
                "it goes whole, and the first stays"
            );
        }
    }

    #[test]
    fn one_alone_stays_and_newcomers_are_not_taken_for_friends() {
        assert!(given_away(busy(&[(9, None)])).is_empty());
        assert!(given_away(Vec::new()).is_empty());
        let newcomer = |place| Busy {
            place,
            polls: 1,
            session: 0,
            talks_to: Some(7),
        };
        assert_eq!(given_away(vec![newcomer(0), newcomer(1)]), [1]);
    }
}
