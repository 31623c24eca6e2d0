//! Which connections a busy loop gives to another: about half of its work, and whoever talks to each other stays together.
//!
//! What one connection has for another costs least where both live on one loop: nobody waits for a lock that the other
//! thread has, and no thread wakes another.

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
    /// Who got something from it last.
    pub(super) talks_to: Option<SessionKey>,
}

/// The places of those that go.
pub(super) fn given_away(mut busy: Vec<Busy>) -> Vec<usize> {
    busy.sort_unstable_by_key(|one| (std::cmp::Reverse(one.polls), one.place));
    let all: u64 = busy.iter().map(|one| u64::from(one.polls)).sum();
    let mut circles = circles(&busy);
    // What is most of the work by itself cannot stay together: each for itself then.
    let is_too_large = |circle: &Vec<Busy>| polls(circle) > all / 3 * 2;
    if circles.iter().any(is_too_large) {
        circles = busy.into_iter().map(|one| vec![one]).collect();
    }
    circles.sort_by_key(|circle| std::cmp::Reverse(polls(circle)));
    let (mut stays, mut goes) = (0, 0);
    let mut given = Vec::new();
    // The largest stays.
    for circle in circles {
        if stays <= goes {
            stays += polls(&circle);
        } else {
            goes += polls(&circle);
            given.extend(circle.iter().map(|one| one.place));
        }
    }
    given
}

fn polls(circle: &[Busy]) -> u64 {
    circle.iter().map(|one| u64::from(one.polls)).sum()
}

/// Those who talk to each other, or to the same, in the order in which the first of them come.
fn circles(busy: &[Busy]) -> Vec<Vec<Busy>> {
    // A forest of sessions: each points to another of its circle, until one points to itself.
    let mut points_to: HashMap<SessionKey, SessionKey> = HashMap::default();
    fn top(points_to: &mut HashMap<SessionKey, SessionKey>, of: SessionKey) -> SessionKey {
        let mut at = of;
        while let Some(next) = points_to.get(&at).copied()
            && next != at
        {
            at = next;
        }
        points_to.insert(of, at);
        at
    }
    for one in busy {
        if let Some(other) = one.talks_to.filter(|_| one.session != 0) {
            let (one, other) = (top(&mut points_to, one.session), top(&mut points_to, other));
            points_to.insert(one, other);
        }
    }
    let mut circles: Vec<Vec<Busy>> = Vec::new();
    let mut known: HashMap<SessionKey, usize> = HashMap::default();
    for one in busy {
        if one.session == 0 {
            circles.push(vec![*one]);
            continue;
        }
        let circle = *known
            .entry(top(&mut points_to, one.session))
            .or_insert(circles.len());
        match circles.get_mut(circle) {
            Some(circle) => circle.push(*one),
            None => circles.push(vec![*one]),
        }
    }
    circles
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
    fn a_crowd_around_one_is_shared_all_the_same() {
        let all: Vec<_> = (0..50)
            .map(|_| (10, Some(51)))
            .chain([(100, None)])
            .collect();
        let given = given_away(busy(&all));
        let work: u32 = given.iter().map(|place| all[*place].0).sum();
        assert_eq!(work, 300, "half of it");
        assert!(!given.contains(&50), "the busiest stays");
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
