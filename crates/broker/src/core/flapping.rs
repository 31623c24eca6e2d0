//! Clients that come and go all the time: after too many ends of connections in a while they stay out for a while.
//!
//! Known by client identifier, and only clients that were admitted count: nobody can have a stranger banned.

use ahash::HashMap;
use weir_mqtt::Utf8;

use super::Millis;

/// Windows that are remembered at most; when there are more the old ones are forgotten, and if none is old, all.
const MAX_CLIENTS: usize = 100_000;

/// When a client flaps, and what it gets for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlappingLimits {
    /// Ends of connections in one window that are too many.
    pub disconnects: u32,
    /// The length of the window.
    pub within_ms: Millis,
    /// How long the client stays out.
    pub ban_ms: Millis,
}

/// Who flaps.
#[derive(Debug)]
pub struct Flapping {
    limits: FlappingLimits,
    /// When a client's window began, and how often its connections have ended in it.
    windows: HashMap<Utf8, (Millis, u32)>,
    /// Until when.
    banned: HashMap<Utf8, Millis>,
}

impl Flapping {
    /// Nobody flaps.
    pub fn new(limits: FlappingLimits) -> Self {
        Self {
            limits,
            windows: HashMap::default(),
            banned: HashMap::default(),
        }
    }

    /// A connection of the client has ended; true when it is banned for this.
    pub fn disconnected(&mut self, now: Millis, client_id: &Utf8) -> bool {
        self.forget_old(now);
        let (began, count) = self.windows.entry(client_id.detached()).or_insert((now, 0));
        if *began + self.limits.within_ms <= now {
            (*began, *count) = (now, 0);
        }
        *count += 1;
        if *count < self.limits.disconnects {
            return false;
        }
        self.windows.remove(client_id);
        self.banned
            .insert(client_id.detached(), now + self.limits.ban_ms);
        true
    }

    /// Whether the client is banned now.
    pub fn is_banned(&self, now: Millis, client_id: &str) -> bool {
        self.banned.get(client_id).is_some_and(|until| *until > now)
    }

    /// Who is banned now, and until when.
    pub fn banned(&self, now: Millis) -> impl Iterator<Item = (&Utf8, Millis)> {
        self.banned
            .iter()
            .map(|(client_id, until)| (client_id, *until))
            .filter(move |(_, until)| *until > now)
    }

    fn forget_old(&mut self, now: Millis) {
        let within = self.limits.within_ms;
        if self.windows.len() >= MAX_CLIENTS {
            self.windows.retain(|_, (began, _)| *began + within > now);
            if self.windows.len() >= MAX_CLIENTS {
                self.windows.clear();
            }
        }
        if self.banned.len() >= MAX_CLIENTS {
            self.banned.retain(|_, until| *until > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flapping() -> Flapping {
        Flapping::new(FlappingLimits {
            disconnects: 3,
            within_ms: 1000,
            ban_ms: 5000,
        })
    }

    #[test]
    fn too_many_ends_in_one_window_ban_for_a_while() {
        let (mut flapping, client) = (flapping(), Utf8::from("c"));
        assert!(!flapping.disconnected(0, &client));
        assert!(!flapping.disconnected(10, &client));
        assert!(!flapping.is_banned(10, "c"));
        assert!(flapping.disconnected(20, &client));
        assert!(flapping.is_banned(5019, "c") && !flapping.is_banned(5020, "c"));
        assert!(!flapping.is_banned(20, "d"));
    }

    #[test]
    fn slow_coming_and_going_is_nobodys_business() {
        let (mut flapping, client) = (flapping(), Utf8::from("c"));
        for second in 0..100 {
            assert!(!flapping.disconnected(second * 600, &client), "{second}");
        }
    }

    #[test]
    fn after_the_ban_the_count_starts_over() {
        let (mut flapping, client) = (flapping(), Utf8::from("c"));
        for at in 0..3 {
            flapping.disconnected(at, &client);
        }
        assert!(!flapping.disconnected(6000, &client));
        assert_eq!(flapping.banned(6000).count(), 0);
    }
}
