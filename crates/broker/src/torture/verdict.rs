//! What was promised, held against what came: lost, doubled, out of order. Pure, so that it can be shown to see.

use std::collections::BTreeMap;

/// What a publisher knows of one of its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// How often its PUBLISH was written.
    pub(crate) times: u32,
    pub(crate) fate: Fate,
}

/// How the broker answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not at all, so it may be anywhere or nowhere.
    #[default]
    Open,
    /// PUBACK or PUBCOMP.
    Acknowledged,
    /// With a reason why not.
    Refused,
}

/// One publisher's messages; the first has number 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sender {
    /// 1 or 2.
    pub(crate) qos: u8,
    pub(crate) messages: Vec<Sent>,
}

impl Sender {
    fn get(&self, number: u32) -> Option<&Sent> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        self.messages.get(place)
    }

    /// How many copies of a message the publisher itself has asked for, at most.
    fn copies(&self, sent: &Sent) -> u32 {
        let refused = u32::from(sent.fate == Fate::Refused);
        if self.qos == 2 {
            1 - refused
        } else {
            sent.times.saturating_sub(refused)
        }
    }
}

/// One message that came to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) sender: u32,
    pub(crate) number: u32,
    /// The consumer was told, or could know, that it may have had it before: DUP, or the same key.
    pub(crate) repeat: bool,
}

impl Arrival {
    /// A row of a database whose first two columns are the sender and the number; what is neither belongs to nobody.
    pub(crate) fn of_row(column: impl Fn(usize) -> Option<i64>) -> Self {
        let number = |at| {
            column(at)
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(u32::MAX)
        };
        Self {
            sender: number(0),
            number: number(1),
            repeat: false,
        }
    }
}

/// How often a message may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// As often as it was published, beside what is marked as a repeat.
    AsPublished,
    /// At least once: more are counted and nothing else.
    AnyNumber,
}

/// How many of a kind are shown by name.
const EXAMPLES: usize = 5;

/// What one consumer got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// Acknowledged messages, which all have to be there.
    pub(crate) expected: u64,
    /// Different messages that are there.
    pub(crate) arrived: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) unordered: u64,
    /// Came and were never sent, or were refused.
    pub(crate) uncalled: u64,
    /// Allowed copies: resent by the publisher, or marked as what they are.
    pub(crate) repeats: u64,
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    pub(crate) fn holds(&self) -> bool {
        self.lost + self.doubled + self.unordered + self.uncalled == 0
    }

    fn example(&mut self, what: &str, sender: u32, number: u32) {
        let same = self.examples.iter().filter(|text| text.starts_with(what));
        if same.count() < EXAMPLES {
            self.examples.push(format!("{what} p{sender} n{number}"));
        }
    }
}

/// Judges one consumer by what came to it, in the order in which it came.
pub(crate) fn judge(senders: &[Sender], arrivals: &[Arrival], copies: Copies) -> Verdict {
    let mut verdict = Verdict::default();
    // By sender and number: all copies, and those that are not marked.
    let mut counts: Vec<Vec<(u32, u32)>> = senders
        .iter()
        .map(|sender| vec![(0, 0); sender.messages.len()])
        .collect();
    let mut highest = vec![0; senders.len()];
    for arrival in arrivals {
        let (sender, number) = (arrival.sender, arrival.number);
        let place = usize::try_from(sender).unwrap_or(usize::MAX);
        let index = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let count = index.and_then(|index| counts.get_mut(place)?.get_mut(index));
        let Some(count) = count else {
            verdict.uncalled += 1;
            verdict.example("never sent", sender, number);
            continue;
        };
        if count.0 == 0 {
            verdict.arrived += 1;
            if number < highest[place] {
                verdict.unordered += 1;
                verdict.example("late", sender, number);
            }
            highest[place] = highest[place].max(number);
        } else {
            verdict.repeats += 1;
        }
        count.0 += 1;
        count.1 += u32::from(!arrival.repeat);
    }
    for (place, sender) in (0_u32..).zip(senders) {
        let counts = &counts[place as usize];
        for ((number, sent), (all, unmarked)) in (1_u32..).zip(&sender.messages).zip(counts) {
            if sent.fate == Fate::Acknowledged {
                verdict.expected += 1;
                if *all == 0 {
                    verdict.lost += 1;
                    verdict.example("lost", place, number);
                }
            }
            let allowed = sender.copies(sent);
            if allowed == 0 && *all > 0 {
                verdict.uncalled += 1;
                verdict.example("refused and there", place, number);
            } else if *unmarked > allowed && copies == Copies::AsPublished {
                let more = u64::from(unmarked - allowed);
                verdict.doubled += more;
                verdict.repeats = verdict.repeats.saturating_sub(more);
                verdict.example("doubled", place, number);
            }
        }
    }
    verdict
}

/// What a webhook was given: by key, in the order of the first time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    by_key: BTreeMap<String, Vec<(u32, u32)>>,
    /// What came, for [`judge`].
    pub(crate) arrivals: Vec<Arrival>,
    /// Requests with a key that came before.
    pub(crate) repeated: u64,
    /// Keys that came with other rows than before.
    pub(crate) changed: u64,
}

impl Requests {
    /// One request that the webhook has taken.
    pub(crate) fn take(&mut self, key: &str, rows: Vec<(u32, u32)>) {
        let known = self.by_key.get(key);
        let repeat = known.is_some();
        if let Some(known) = known {
            self.repeated += 1;
            self.changed += u64::from(*known != rows);
        }
        let arrivals = rows.iter().map(|(sender, number)| Arrival {
            sender: *sender,
            number: *number,
            repeat,
        });
        self.arrivals.extend(arrivals);
        if !repeat {
            self.by_key.insert(key.to_owned(), rows);
        }
    }
}

/// Whether a retained message is the last that was acknowledged, or one that was sent later.
pub(crate) fn retained_holds(sender: &Sender, found: Option<u32>) -> bool {
    let last = sender
        .messages
        .iter()
        .rposition(|sent| sent.fate == Fate::Acknowledged)
        .map_or(0, |place| place + 1);
    match found {
        None => last == 0,
        Some(number) => {
            let was_sent = sender.get(number).is_some_and(|sent| sent.times > 0);
            was_sent && usize::try_from(number).is_ok_and(|number| number >= last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACKNOWLEDGED: Sent = Sent {
        times: 1,
        fate: Fate::Acknowledged,
    };

    fn sender(qos: u8, messages: usize) -> Sender {
        Sender {
            qos,
            messages: vec![ACKNOWLEDGED; messages],
        }
    }

    fn came(numbers: &[u32]) -> Vec<Arrival> {
        let arrival = |number: &u32| Arrival {
            sender: 0,
            number: *number,
            repeat: false,
        };
        numbers.iter().map(arrival).collect()
    }

    fn strict(sender: &Sender, arrivals: &[Arrival]) -> Verdict {
        judge(std::slice::from_ref(sender), arrivals, Copies::AsPublished)
    }

    #[test]
    fn all_of_them_once_and_in_order_is_well() {
        let verdict = strict(&sender(1, 4), &came(&[1, 2, 3, 4]));
        assert!(verdict.holds(), "{verdict:?}");
        assert_eq!((verdict.expected, verdict.arrived), (4, 4));
    }

    #[test]
    fn a_lost_row_is_found_and_named() {
        let verdict = strict(&sender(1, 4), &came(&[1, 2, 4]));
        assert_eq!(verdict.lost, 1);
        assert_eq!(verdict.examples, ["lost p0 n3"]);
        assert!(!verdict.holds());
    }

    #[test]
    fn what_was_never_acknowledged_may_be_missing_or_there() {
        let mut open = sender(1, 3);
        open.messages[2].fate = Fate::Open;
        assert!(strict(&open, &came(&[1, 2])).holds());
        assert!(strict(&open, &came(&[1, 2, 3])).holds());
    }

    #[test]
    fn a_row_that_comes_twice_is_found() {
        for qos in [1, 2] {
            let verdict = strict(&sender(qos, 3), &came(&[1, 2, 2, 3]));
            assert_eq!((verdict.doubled, verdict.repeats), (1, 0));
            assert_eq!(verdict.examples, ["doubled p0 n2"]);
        }
    }

    #[test]
    fn a_second_copy_of_qos_1_is_the_publishers_own_if_it_has_resent_it_and_of_qos_2_never() {
        let resent = |qos| {
            let mut sender = sender(qos, 3);
            sender.messages[1].times = 2;
            strict(&sender, &came(&[1, 2, 2, 3]))
        };
        assert!(resent(1).holds());
        assert_eq!(resent(1).repeats, 1);
        assert_eq!(resent(2).doubled, 1);
        let mut sender = sender(1, 3);
        sender.messages[1].times = 2;
        let thrice = strict(&sender, &came(&[1, 2, 2, 2, 3]));
        assert_eq!((thrice.doubled, thrice.repeats), (1, 1));
    }

    #[test]
    fn a_copy_that_is_marked_as_a_repeat_is_none() {
        let mut arrivals = came(&[1, 2, 2, 3]);
        arrivals[2].repeat = true;
        let verdict = strict(&sender(2, 3), &arrivals);
        assert!(verdict.holds());
        assert_eq!(verdict.repeats, 1);
    }

    #[test]
    fn the_first_copies_have_to_come_in_order() {
        let verdict = strict(&sender(1, 4), &came(&[1, 3, 2, 4]));
        assert_eq!((verdict.unordered, verdict.lost), (1, 0));
        assert_eq!(verdict.examples, ["late p0 n2"]);
        let mut resent = sender(1, 3);
        resent.messages[0].times = 2;
        resent.messages[1].times = 2;
        assert!(strict(&resent, &came(&[1, 2, 1, 2, 3])).holds());
    }

    #[test]
    fn two_publishers_have_nothing_to_do_with_each_others_order() {
        let arrivals: Vec<Arrival> = [(0, 1), (1, 1), (0, 2), (1, 2)]
            .map(|(sender, number)| Arrival {
                sender,
                number,
                repeat: false,
            })
            .to_vec();
        let verdict = judge(
            &[sender(1, 2), sender(2, 2)],
            &arrivals,
            Copies::AsPublished,
        );
        assert!(verdict.holds());
    }

    #[test]
    fn what_was_refused_or_never_sent_must_not_come() {
        let mut refused = sender(2, 2);
        refused.messages[1].fate = Fate::Refused;
        assert!(strict(&refused, &came(&[1])).holds());
        assert_eq!(strict(&refused, &came(&[1, 2])).uncalled, 1);
        assert_eq!(strict(&sender(1, 2), &came(&[1, 2, 3])).uncalled, 1);
        assert_eq!(strict(&sender(1, 2), &came(&[0, 1, 2])).uncalled, 1);
        // The first copy may have been taken before the second was refused.
        refused.qos = 1;
        refused.messages[1].times = 2;
        assert!(strict(&refused, &came(&[1, 2])).holds());
    }

    #[test]
    fn at_least_once_counts_copies_but_still_sees_loss_and_order() {
        let any = |numbers| judge(&[sender(2, 3)], &came(numbers), Copies::AnyNumber);
        assert!(any(&[1, 2, 1, 2, 3]).holds());
        assert_eq!(any(&[1, 2, 1, 2, 3]).repeats, 2);
        assert_eq!(any(&[1, 3]).lost, 1);
        assert_eq!(any(&[2, 1, 3]).unordered, 1);
    }

    #[test]
    fn a_request_with_the_same_key_is_a_repeat_and_must_say_the_same() {
        let mut requests = Requests::default();
        requests.take("a", vec![(0, 1), (0, 2)]);
        requests.take("a", vec![(0, 1), (0, 2)]);
        requests.take("b", vec![(0, 3)]);
        assert_eq!((requests.repeated, requests.changed), (1, 0));
        assert!(strict(&sender(2, 3), &requests.arrivals).holds());
        requests.take("b", vec![(0, 2), (0, 3)]);
        assert_eq!(requests.changed, 1);
        requests.take("c", vec![(0, 3)]);
        assert_eq!(strict(&sender(2, 3), &requests.arrivals).doubled, 1);
    }

    #[test]
    fn a_retained_message_is_the_last_acknowledged_one_or_a_later_one() {
        let mut kept = sender(1, 4);
        kept.messages[3].fate = Fate::Open;
        assert!(retained_holds(&kept, Some(3)));
        assert!(retained_holds(&kept, Some(4)));
        assert!(!retained_holds(&kept, Some(2)));
        assert!(!retained_holds(&kept, Some(5)));
        assert!(!retained_holds(&kept, None));
        assert!(retained_holds(&Sender::default(), None));
    }
}
