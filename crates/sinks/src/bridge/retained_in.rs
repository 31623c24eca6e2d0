//! Retained messages that an MQTT 3.1.1 remote sends once more, each time that it is subscribed to anew. Those that are as
//! they were go no further.
//!
//! Only messages with the flag are compared: what comes as it is published has none, and may not be what the remote keeps.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};
use weir_mqtt::Publish;

/// So many topics are remembered, some six megabytes. What the remote has beyond them passes each time.
const MOST: usize = 100_000;

/// The first half of a SHA-256.
type Print = [u8; 16];

fn print_of(bytes: &[u8]) -> Print {
    let mut print = Print::default();
    let digest = Sha256::digest(bytes);
    print.copy_from_slice(&digest[..16]);
    print
}

/// The payload by topic of the retained messages of the remote that this broker has taken.
#[derive(Debug)]
pub(super) struct RetainedIn {
    taken: HashMap<Print, Print>,
    most: usize,
}

impl Default for RetainedIn {
    fn default() -> Self {
        Self {
            taken: HashMap::new(),
            most: MOST,
        }
    }
}

impl RetainedIn {
    /// Whether the broker has this message already.
    pub(super) fn is_known(&mut self, publish: &Publish) -> bool {
        if publish.retain {
            let known = self.taken.get(&print_of(publish.topic.as_bytes()));
            return known.is_some_and(|known| *known == print_of(&publish.payload));
        }
        if publish.payload.is_empty() && !self.taken.is_empty() {
            // The remote may have deleted it: the same message would be a new one.
            self.taken.remove(&print_of(publish.topic.as_bytes()));
        }
        false
    }

    /// The broker has taken a retained message: not before that, or one that is lost on the way would never come.
    pub(super) fn has_taken(&mut self, publish: &Publish) {
        let topic = print_of(publish.topic.as_bytes());
        if self.taken.len() < self.most || self.taken.contains_key(&topic) {
            self.taken.insert(topic, print_of(&publish.payload));
        }
    }

    /// Messages have other names here now: they come as new ones.
    pub(super) fn forget(&mut self) {
        self.taken = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use weir_mqtt::Utf8;

    fn message(topic: &str, payload: &str, retain: bool) -> Publish {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Publish {
            retain,
            ..Publish::new(Utf8::new(topic).unwrap(), payload)
        }
    }

    #[test]
    fn an_equal_message_is_known_once_the_broker_has_taken_it() {
        let mut retained = RetainedIn::default();
        let one = message("t", "1", true);
        assert!(!retained.is_known(&one) && !retained.is_known(&one));
        retained.has_taken(&one);
        assert!(retained.is_known(&one));
        for other in [
            message("t", "2", true),
            message("u", "1", true),
            message("t", "1", false),
        ] {
            assert!(!retained.is_known(&other), "{other:?}");
        }
        retained.forget();
        assert!(!retained.is_known(&one));
    }

    #[test]
    fn a_message_that_was_deleted_meanwhile_is_a_new_one() {
        let mut retained = RetainedIn::default();
        let one = message("t", "1", true);
        retained.has_taken(&one);
        assert!(!retained.is_known(&message("t", "live", false)));
        assert!(retained.is_known(&one));
        assert!(!retained.is_known(&message("t", "", false)));
        assert!(!retained.is_known(&one));
    }

    #[test]
    fn beyond_what_there_is_room_for_the_first_stay_and_the_others_pass() {
        let mut retained = RetainedIn {
            most: 10,
            ..RetainedIn::default()
        };
        for n in 0..=10 {
            retained.has_taken(&message(&n.to_string(), "1", true));
        }
        assert!(retained.is_known(&message("0", "1", true)));
        assert!(!retained.is_known(&message("10", "1", true)));
        retained.has_taken(&message("0", "2", true));
        assert!(retained.is_known(&message("0", "2", true)));
    }
}
