//! What breaks when: a pure function of a seed, so that a run can be repeated.

use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// A kind of fault that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// weir is killed and started again
    Kill,
    /// PostgreSQL is killed and started again
    Postgres,
    /// The webhook dies, answers 500 or 429, or ends its answers half way
    Webhook,
    /// The remote broker is killed and started again
    Remote,
    /// A process stands still (SIGSTOP), weir too
    Hang,
    /// Connections are cut, and nothing new gets through for a while
    Cut,
    /// Connections carry a few bytes at a time
    Slow,
    /// The disk of weir's data is full (a tmpfs of its own; needs the right to mount)
    Disk,
}

/// A process, or what plays one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Weir,
    Postgres,
    Webhook,
    Remote,
}

/// Connections that pass through a proxy of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Clients,
    Postgres,
    Webhook,
    Remote,
}

/// How a webhook that is there answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 500, and the request is not taken.
    Error,
    /// 429 with Retry-After, and the request is not taken.
    TooMany,
    /// The request is taken, and the connection closed in the middle of the answer.
    Half,
}

/// Something that is broken for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill(Who),
    Hang(Who),
    Answers(Answer),
    Cut(Line),
    Slow(Line),
    FullDisk,
}

impl Fault {
    /// Two faults of one place cannot be told apart, so they never overlap.
    fn place(self) -> u8 {
        match self {
            Self::Kill(who) | Self::Hang(who) => who as u8,
            Self::Answers(_) => Who::Webhook as u8,
            Self::Cut(line) | Self::Slow(line) => 8 + line as u8,
            Self::FullDisk => 16,
        }
    }

    /// The kind that it is of.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Kill(Who::Weir) => Kind::Kill,
            Self::Kill(Who::Postgres) => Kind::Postgres,
            Self::Kill(Who::Webhook) | Self::Answers(_) => Kind::Webhook,
            Self::Kill(Who::Remote) => Kind::Remote,
            Self::Hang(_) => Kind::Hang,
            Self::Cut(_) => Kind::Cut,
            Self::Slow(_) => Kind::Slow,
            Self::FullDisk => Kind::Disk,
        }
    }
}

/// The beginning or the end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Since the start of the load.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) begins: bool,
}

/// What a plan is made of.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    /// How often weir is killed.
    pub(crate) kills: u32,
    pub(crate) kinds: Vec<Kind>,
    /// Who is there to be broken.
    pub(crate) peers: Vec<Who>,
}

/// About one fault beside the kills begins in so much time.
const EVERY: Duration = Duration::from_secs(2);
/// Longer than a client waits for an answer, so that some give up and some do not.
const LONGEST: Duration = Duration::from_secs(8);
/// weir stays away for less than this.
const LONGEST_AWAY: Duration = Duration::from_millis(1500);

/// What happens, in order. Every fault that begins ends within the time.
pub(crate) fn plan(wishes: &Wishes) -> Vec<Event> {
    let mut rng = StdRng::seed_from_u64(wishes.seed);
    let mut taken: Vec<(u8, Duration, Duration)> = Vec::new();
    let mut events = Vec::new();
    let mut add = |fault: Fault, from: Duration, to: Duration| {
        let place = fault.place();
        let (from, to) = (from, to.min(wishes.time));
        let overlaps = |(other, begin, end): &(u8, Duration, Duration)| {
            *other == place && from <= *end && *begin <= to
        };
        if from >= to || taken.iter().any(overlaps) {
            return;
        }
        taken.push((place, from, to));
        for (at, begins) in [(from, true), (to, false)] {
            events.push(Event { at, fault, begins });
        }
    };
    if wishes.kinds.contains(&Kind::Kill) && wishes.kills > 0 {
        let slot = wishes.time / wishes.kills;
        for number in 0..wishes.kills {
            let at = slot * number + slot.mul_f64(rng.random_range(0.05..0.6));
            // Most starts come at once, as a supervisor makes them.
            let away = if rng.random_ratio(2, 3) {
                Duration::from_millis(rng.random_range(1..60))
            } else {
                LONGEST_AWAY.mul_f64(rng.random_range(0.05..1.0))
            };
            add(
                Fault::Kill(Who::Weir),
                at,
                at + away.min(slot.mul_f64(0.35)),
            );
        }
    }
    let mut choices = choices(wishes);
    choices.shuffle(&mut rng);
    let others = if choices.is_empty() {
        0
    } else {
        (wishes.time.as_millis() / EVERY.as_millis()).max(2)
    };
    for number in 0..others {
        // Each choice has its turn, at a time of its own.
        let turn = usize::try_from(number).unwrap_or(0);
        let fault = if turn < choices.len() {
            choices[turn]
        } else {
            choices[rng.random_range(0..choices.len())]
        };
        let from = wishes.time.mul_f64(rng.random_range(0.02..0.95));
        let long = LONGEST.min(wishes.time / 6);
        let lasts = long.mul_f64(rng.random_range(0.05..1.0));
        add(fault, from, from + lasts);
    }
    // What ends goes before what begins at the same moment.
    events.sort_by_key(|event| (event.at, event.begins));
    events
}

/// Every fault that the wishes allow, beside the kills of weir.
fn choices(wishes: &Wishes) -> Vec<Fault> {
    let has = |who: Who| wishes.peers.contains(&who);
    let mut faults = Vec::new();
    for kind in &wishes.kinds {
        let of_peers = |of: fn(Who) -> Fault| wishes.peers.iter().copied().map(of);
        match kind {
            Kind::Kill => {}
            Kind::Postgres if has(Who::Postgres) => faults.push(Fault::Kill(Who::Postgres)),
            Kind::Remote if has(Who::Remote) => faults.push(Fault::Kill(Who::Remote)),
            Kind::Postgres | Kind::Remote => {}
            Kind::Webhook => {
                faults.push(Fault::Kill(Who::Webhook));
                let answers = [Answer::Error, Answer::TooMany, Answer::Half];
                faults.extend(answers.map(Fault::Answers));
            }
            Kind::Hang => faults.extend(of_peers(Fault::Hang)),
            Kind::Cut => faults.extend(lines(&wishes.peers).map(Fault::Cut)),
            Kind::Slow => faults.extend(lines(&wishes.peers).map(Fault::Slow)),
            Kind::Disk => faults.push(Fault::FullDisk),
        }
    }
    faults
}

fn lines(peers: &[Who]) -> impl Iterator<Item = Line> {
    peers.iter().map(|who| match who {
        Who::Weir => Line::Clients,
        Who::Postgres => Line::Postgres,
        Who::Webhook => Line::Webhook,
        Who::Remote => Line::Remote,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(seed: u64) -> Wishes {
        Wishes {
            seed,
            time: Duration::from_secs(600),
            kills: 60,
            kinds: Kind::value_variants().to_vec(),
            peers: vec![Who::Weir, Who::Postgres, Who::Webhook, Who::Remote],
        }
    }

    fn begins(events: &[Event], wanted: impl Fn(Fault) -> bool) -> usize {
        let begun = events.iter().filter(|event| event.begins);
        begun.filter(|event| wanted(event.fault)).count()
    }

    #[test]
    fn one_seed_gives_one_plan_and_another_seed_another() {
        assert_eq!(plan(&wishes(7)), plan(&wishes(7)));
        assert_ne!(plan(&wishes(7)), plan(&wishes(8)));
    }

    #[test]
    fn every_fault_ends_within_the_time_and_none_overlaps_another_of_its_place() {
        for seed in 0..50 {
            let mut open: Vec<Fault> = Vec::new();
            for event in plan(&wishes(seed)) {
                assert!(event.at <= wishes(seed).time);
                if event.begins {
                    let place = event.fault.place();
                    assert!(open.iter().all(|fault| fault.place() != place), "{seed}");
                    open.push(event.fault);
                } else {
                    open.retain(|fault| *fault != event.fault);
                }
            }
            assert!(open.is_empty(), "{seed}: {open:?}");
        }
    }

    #[test]
    fn all_kills_that_were_asked_for_are_there_and_all_kinds_have_their_turn() {
        for seed in 0..20 {
            let events = plan(&wishes(seed));
            assert_eq!(begins(&events, |fault| fault == Fault::Kill(Who::Weir)), 60);
            for kind in Kind::value_variants() {
                assert!(
                    begins(&events, |fault| fault.kind() == *kind) > 0,
                    "{kind:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_there_or_not_chosen_is_not_broken() {
        let few = Wishes {
            kinds: vec![Kind::Kill, Kind::Postgres, Kind::Cut],
            peers: vec![Who::Weir],
            ..wishes(1)
        };
        for event in plan(&few) {
            let allowed = [Fault::Kill(Who::Weir), Fault::Cut(Line::Clients)];
            assert!(allowed.contains(&event.fault), "{event:?}");
        }
    }
}
