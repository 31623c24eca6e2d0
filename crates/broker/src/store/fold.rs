//! What the records of a log come to, for a snapshot.
//!
//! Nearly all messages are settled soon after they were owed. So records are kept for a while as they are, and where the
//! end of a message comes meanwhile, its records are passed over: only what stays is ever read whole.

use std::collections::VecDeque;
use std::io;

use ahash::HashMap;

use super::records::{Of, Step, decode_wanted, encode_batch, glance_at_batch};
use super::{Persist, State};

/// So many records of a snapshot are one batch.
const RECORDS_A_BATCH: usize = 64;
/// How much is kept as it is.
const AHEAD_BYTES: usize = 4 << 20;

/// A fold of the records of sessions, retained and delayed messages.
#[derive(Default)]
pub(super) struct Fold {
    state: State,
    /// Batches of which the state knows nothing yet.
    ahead: VecDeque<Vec<u8>>,
    ahead_bytes: usize,
    settled: SettledAhead,
}

/// By session the messages whose end is among the batches ahead, and whether their beginning was passed over.
#[derive(Default)]
struct SettledAhead(HashMap<Vec<u8>, HashMap<u64, bool>>);

impl SettledAhead {
    fn note(&mut self, of: Of<'_>) {
        if of.step != Step::Settled {
            return;
        }
        match self.0.get_mut(of.session) {
            Some(numbers) => {
                numbers.entry(of.number).or_insert(false);
            }
            None => {
                let numbers = HashMap::from_iter([(of.number, false)]);
                self.0.insert(of.session.to_vec(), numbers);
            }
        }
    }

    /// Whether the state has to hear of the next record: not of those between the beginning of a message and its end.
    fn wants(&mut self, of: Of<'_>) -> bool {
        let Some(numbers) = self.0.get_mut(of.session) else {
            return true;
        };
        match of.step {
            Step::Owed => match numbers.get_mut(&of.number) {
                Some(passed) => {
                    *passed = true;
                    false
                }
                None => true,
            },
            Step::Sent => !numbers.contains_key(&of.number),
            Step::Settled => {
                let passed = numbers.remove(&of.number) == Some(true);
                if numbers.is_empty() {
                    self.0.remove(of.session);
                }
                // One whose beginning comes behind it, or came long before.
                !passed
            }
        }
    }
}

impl Fold {
    fn keep_ahead(&mut self, most_bytes: usize) {
        while self.ahead_bytes > most_bytes
            && let Some(batch) = self.ahead.pop_front()
        {
            self.ahead_bytes -= batch.len();
            let (state, settled) = (&mut self.state, &mut self.settled);
            // The same bytes were decoded when they were opened, or were encoded by this very program.
            let _ = decode_wanted(&batch, &mut |of| settled.wants(of), &mut |record| {
                state.apply(record);
            });
        }
    }

    fn take_keeping(&mut self, batch: &[u8], most_ahead_bytes: usize) {
        let settled = &mut self.settled;
        let _ = glance_at_batch(batch, &mut |of| settled.note(of));
        self.ahead_bytes += batch.len();
        self.ahead.push_back(batch.to_vec());
        self.keep_ahead(most_ahead_bytes);
    }
}

impl weir_store::Fold for Fold {
    fn take(&mut self, batch: &[u8]) {
        self.take_keeping(batch, AHEAD_BYTES);
    }

    fn give(mut self: Box<Self>, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.keep_ahead(0);
        let (mut records, mut bytes, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
        let mut write = |records: &mut Vec<Persist>| {
            bytes.clear();
            encode_batch(records, &mut bytes);
            records.clear();
            each(&bytes)
        };
        self.state.records(|record| {
            if outcome.is_ok() {
                records.push(record);
                if records.len() == RECORDS_A_BATCH {
                    outcome = write(&mut records);
                }
            }
        });
        outcome?;
        if records.is_empty() {
            return Ok(());
        }
        write(&mut records)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use weir_mqtt::{PacketId, QoS, Utf8};

    use super::*;
    use crate::core::message::Message;
    use crate::store::{SessionId, Waiting};

    fn session(of: u8) -> SessionId {
        SessionId {
            client_id: Utf8::new(["a", "b"][usize::from(of % 2)]).unwrap(),
            epoch: 1 + u64::from(of / 2),
        }
    }

    fn owed(session: SessionId, number: u64, message: &Arc<Message>) -> Persist {
        let waiting = Waiting {
            message: Arc::clone(message),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: None,
            number,
            group: None,
        };
        Persist::Owed { session, waiting }
    }

    /// A record of one of four sessions and three messages, or the begin of a session or of a broker.
    fn record() -> impl Strategy<Value = Persist> {
        (0..4_u8, 1..4_u64, 0..10_u8).prop_map(|(of, number, what)| {
            let session = session(of);
            match what {
                0..4 => {
                    let message = Message::text("t", &number.to_string()).unwrap();
                    owed(session, number, &Arc::new(message))
                }
                4..6 => Persist::InFlight {
                    session,
                    number,
                    packet_id: PacketId::MIN,
                },
                6..9 => Persist::Settled { session, number },
                _ if number == 1 => Persist::Began {
                    change: 0,
                    epoch: 1,
                },
                _ => Persist::Session {
                    session,
                    expiry_interval_s: 1,
                },
            }
        })
    }

    /// What is there once all that has come in part is whole or forgotten.
    fn shown(state: &State) -> Vec<String> {
        let (mut state, mut shown) = (state.clone(), Vec::new());
        let message = Arc::new(Message::text("t", "late").unwrap());
        for (of, number) in (0..4).flat_map(|of| (1..4).map(move |number| (of, number))) {
            state.apply(owed(session(of), number, &message));
        }
        let (change, epoch) = (0, 0);
        state.apply(Persist::Began { change, epoch });
        state.records(|record| shown.push(format!("{record:?}")));
        shown.sort();
        shown
    }

    proptest! {
        #[test]
        fn what_is_passed_over_changes_nothing(
            batches in proptest::collection::vec(proptest::collection::vec(record(), 1..5), 1..40), most in 0..400_usize,
        ) {
            let (mut fold, mut state) = (Fold::default(), State::default());
            for records in &batches {
                let mut bytes = Vec::new();
                encode_batch(records, &mut bytes);
                fold.take_keeping(&bytes, most);
                records.iter().for_each(|record| state.apply(record.clone()));
            }
            fold.keep_ahead(0);
            prop_assert!(fold.settled.0.is_empty());
            prop_assert_eq!(shown(&fold.state), shown(&state));
        }
    }

    #[test]
    fn a_message_that_was_passed_over_for_one_session_is_there_for_another() {
        let message = Arc::new(Message::text("t", "shared").unwrap());
        let owed = |of| owed(session(of), 1, &message);
        let begun = |of| Persist::Session {
            session: session(of),
            expiry_interval_s: 1,
        };
        let settled = Persist::Settled {
            session: session(0),
            number: 1,
        };
        let mut fold = Fold::default();
        for records in [
            vec![begun(0), begun(1)],
            vec![owed(0), owed(1)],
            vec![settled],
        ] {
            let mut bytes = Vec::new();
            encode_batch(&records, &mut bytes);
            fold.take_keeping(&bytes, AHEAD_BYTES);
        }
        fold.keep_ahead(0);
        let owed = |client| {
            fold.state
                .session(client)
                .map(|session| session.owed().count())
        };
        assert_eq!((owed("a"), owed("b")), (Some(0), Some(1)));
    }
}
