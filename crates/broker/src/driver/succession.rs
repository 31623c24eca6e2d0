//! Who has the session of a client identifier next: connections in the order in which their CONNECT came.
//!
//! Each has the session in its turn and loses it to the next, so that the newest keeps it. `[MQTT-3.1.4-3]`

use std::collections::BTreeMap;

use ahash::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use weir_mqtt::Utf8;

use super::handle::ConnectionKey;

/// Connections that want sessions, by client identifier. There is an entry only while somebody wants one.
#[derive(Debug, Default)]
pub(super) struct Successions(Mutex<HashMap<Utf8, Succession>>);

#[derive(Debug)]
struct Succession {
    /// Whose turn it is.
    turn: ConnectionKey,
    /// The others, the oldest first.
    waiting: BTreeMap<ConnectionKey, oneshot::Sender<()>>,
}

/// The place of a connection among those that want the same session. When it goes, the next has its turn.
pub(super) struct Place<'a> {
    all: &'a Successions,
    client_id: &'a Utf8,
    key: ConnectionKey,
    /// Says that it is this connection's turn; `None` when it was at once.
    turn: Option<oneshot::Receiver<()>>,
}

impl Successions {
    /// A place for `key`, behind all that are older.
    pub(super) fn enter<'a>(&'a self, client_id: &'a Utf8, key: ConnectionKey) -> Place<'a> {
        let mut all = self.0.lock();
        let turn = match all.get_mut(client_id) {
            Some(succession) => {
                let (sender, turn) = oneshot::channel();
                succession.waiting.insert(key, sender);
                Some(turn)
            }
            None => {
                let first = Succession {
                    turn: key,
                    waiting: BTreeMap::new(),
                };
                all.insert(client_id.clone(), first);
                None
            }
        };
        Place {
            all: self,
            client_id,
            key,
            turn,
        }
    }

    /// Whether nobody wants any session.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Place<'_> {
    /// Resolves when it is this connection's turn.
    pub(super) async fn turn(&mut self) {
        if let Some(turn) = self.turn.take() {
            // Whoever has the turn gives it on, however it ends.
            let _ = turn.await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        let Some(succession) = all.get_mut(self.client_id) else {
            return;
        };
        if succession.turn != self.key {
            succession.waiting.remove(&self.key);
            return;
        }
        let Some((next, turn)) = succession.waiting.pop_first() else {
            all.remove(self.client_id);
            return;
        };
        succession.turn = next;
        drop(all);
        // One that does not listen any more is about to go, and gives it on.
        let _ = turn.send(());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn has_turn(place: &mut Place<'_>) -> bool {
        let Some(turn) = &mut place.turn else {
            return true;
        };
        turn.now_or_never().is_some()
    }

    #[test]
    fn turns_go_from_the_oldest_to_the_newest_however_they_came_to_wait() {
        let (all, id) = (Successions::default(), Utf8::from("c"));
        let first = all.enter(&id, 1);
        let mut waiting: Vec<_> = [5, 3, 9, 4].map(|key| all.enter(&id, key)).into();
        let mut before = first;
        for key in [3, 4, 5, 9] {
            assert!(waiting.iter_mut().all(|place| !has_turn(place)));
            drop(before);
            let at = waiting.iter().position(|place| place.key == key).unwrap();
            before = waiting.swap_remove(at);
            assert!(has_turn(&mut before), "{key}");
        }
        drop(before);
        assert!(all.is_empty());
    }

    #[test]
    fn one_that_gives_up_keeps_nobody_waiting() {
        let (all, id) = (Successions::default(), Utf8::from("c"));
        let other = Utf8::from("d");
        let first = all.enter(&id, 1);
        let second = all.enter(&id, 2);
        let third = all.enter(&id, 3);
        let mut fourth = all.enter(&id, 4);
        assert!(has_turn(&mut all.enter(&other, 5)), "another client");
        // One while it waits, one that has its turn and does not know it yet.
        drop(third);
        drop(first);
        assert!(!has_turn(&mut fourth));
        drop(second);
        assert!(has_turn(&mut fourth));
        drop(fourth);
        assert!(all.is_empty());
    }
}
