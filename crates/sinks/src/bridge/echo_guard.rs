//! What an MQTT 3.1.1 remote sends back of what it was sent: there is no No Local. Each send is remembered for a while, and
//! the first message that looks like it is dropped.
//!
//! A message of somebody else that is the same to the byte cannot be told from it, which is why nobody has this unasked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use weir_mqtt::{PacketId, Publish};

/// For so long may a message be on its way back.
const REMEMBERED: Duration = Duration::from_secs(30);
/// So many sends are remembered: some two megabytes.
const MOST: usize = 10_000;
/// So many dropped messages are known again when they are repeated: more than can be unacknowledged.
const MOST_DROPPED: usize = 4096;

/// SHA-256 of topic and payload.
type Print = [u8; 32];

/// A message as it is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    print: Print,
    retain: bool,
}

impl Sent {
    pub(super) fn of(topic: &str, payload: &[u8], retain: bool) -> Self {
        let print = print_of(topic, payload);
        Self { print, retain }
    }
}

fn print_of(topic: &str, payload: &[u8]) -> Print {
    let mut hash = Sha256::new();
    hash.update((topic.len() as u64).to_be_bytes());
    hash.update(topic);
    hash.update(payload);
    hash.finalize().into()
}

/// Sends whose echo may still come.
#[derive(Debug, Default)]
pub(super) struct EchoGuard {
    /// Oldest first, by a number that rises.
    sends: BTreeMap<u64, (Instant, Sent)>,
    last: u64,
    /// The numbers of equal ones, oldest first.
    by_print: HashMap<Print, VecDeque<u64>>,
    /// What was dropped under which packet id, oldest first.
    dropped: VecDeque<(PacketId, Print)>,
}

impl EchoGuard {
    /// A message goes to the remote.
    pub(super) fn sent(&mut self, sent: Sent) {
        self.forget_old();
        if self.sends.len() >= MOST {
            self.forget_first();
        }
        self.last += 1;
        self.sends.insert(self.last, (Instant::now(), sent));
        let equal = self.by_print.entry(sent.print).or_default();
        equal.push_back(self.last);
    }

    /// Whether a message of the remote is one of those that went there: true once for each send, and again where the
    /// remote repeats it because the acknowledgement was lost.
    ///
    /// The flag is off in what comes back at once, whatever it was `[MQTT-3.3.1-9]`; it is on in what the remote has kept,
    /// and that is none of ours where we sent it without.
    pub(super) fn is_echo(&mut self, publish: &Publish) -> bool {
        self.forget_old();
        if self.sends.is_empty() && !publish.dup {
            return false;
        }
        let print = print_of(&publish.topic, &publish.payload);
        let id = publish.packet_id;
        if publish.dup && id.is_some_and(|id| self.dropped.contains(&(id, print))) {
            return true;
        }
        let Some(equal) = self.by_print.get_mut(&print) else {
            return false;
        };
        let may_be = |number: &u64| {
            let known = self.sends.get(number);
            known.is_some_and(|(_, sent)| sent.retain || !publish.retain)
        };
        let Some(at) = equal.iter().position(may_be) else {
            return false;
        };
        if let Some(number) = equal.remove(at) {
            self.sends.remove(&number);
        }
        if equal.is_empty() {
            self.by_print.remove(&print);
        }
        if let Some(id) = id {
            if self.dropped.len() >= MOST_DROPPED {
                self.dropped.pop_front();
            }
            self.dropped.push_back((id, print));
        }
        true
    }

    fn forget_old(&mut self) {
        while let Some((_, (at, _))) = self.sends.first_key_value()
            && at.elapsed() >= REMEMBERED
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((number, (_, sent))) = self.sends.pop_first() else {
            return;
        };
        if let Some(equal) = self.by_print.get_mut(&sent.print) {
            equal.retain(|other| *other != number);
            if equal.is_empty() {
                self.by_print.remove(&sent.print);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use weir_mqtt::{QoS, Utf8};

    fn message(topic: &str, payload: &str, retain: bool) -> Publish {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Publish {
            retain,
            ..Publish::new(Utf8::new(topic).unwrap(), payload)
        }
    }

    fn sent(guard: &mut EchoGuard, topic: &str, payload: &str, retain: bool) {
        guard.sent(Sent::of(topic, payload.as_bytes(), retain));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_is_dropped_once_for_each_send() {
        let mut guard = EchoGuard::default();
        assert!(!guard.is_echo(&message("t", "1", false)));
        sent(&mut guard, "t", "1", false);
        sent(&mut guard, "t", "1", false);
        assert!(!guard.is_echo(&message("t", "2", false)));
        assert!(!guard.is_echo(&message("t1", "", false)));
        assert!(guard.is_echo(&message("t", "1", false)));
        assert!(guard.is_echo(&message("t", "1", false)));
        assert!(!guard.is_echo(&message("t", "1", false)));
        assert!(guard.sends.is_empty() && guard.by_print.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn after_thirty_seconds_the_same_message_is_somebody_elses() {
        let mut guard = EchoGuard::default();
        sent(&mut guard, "t", "1", false);
        tokio::time::advance(REMEMBERED - Duration::from_millis(1)).await;
        sent(&mut guard, "t", "1", false);
        assert!(guard.is_echo(&message("t", "1", false)));
        tokio::time::advance(REMEMBERED).await;
        assert!(!guard.is_echo(&message("t", "1", false)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_remote_had_kept_is_an_echo_only_of_what_it_was_to_keep() {
        let mut guard = EchoGuard::default();
        sent(&mut guard, "t", "1", false);
        assert!(!guard.is_echo(&message("t", "1", true)));
        sent(&mut guard, "t", "1", true);
        assert!(guard.is_echo(&message("t", "1", true)));
        sent(&mut guard, "r", "1", true);
        assert!(guard.is_echo(&message("r", "1", false)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_echo_that_the_remote_repeats_is_dropped_again() {
        let mut guard = EchoGuard::default();
        sent(&mut guard, "t", "1", false);
        let echo = Publish {
            qos: QoS::ExactlyOnce,
            packet_id: PacketId::new(7),
            ..message("t", "1", false)
        };
        let again = Publish {
            dup: true,
            ..echo.clone()
        };
        assert!(!guard.is_echo(&Publish {
            packet_id: PacketId::new(8),
            payload: Bytes::from_static(b"2"),
            ..again.clone()
        }));
        assert!(guard.is_echo(&echo));
        assert!(guard.is_echo(&again) && guard.is_echo(&again));
        assert!(!guard.is_echo(&echo), "a new message under the same id");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_ten_thousand_sends_are_remembered() {
        let mut guard = EchoGuard::default();
        for n in 0..=MOST {
            sent(&mut guard, "t", &n.to_string(), false);
        }
        assert_eq!((guard.sends.len(), guard.by_print.len()), (MOST, MOST));
        assert!(!guard.is_echo(&message("t", "0", false)), "the oldest went");
        assert!(guard.is_echo(&message("t", "1", false)));
    }
}
