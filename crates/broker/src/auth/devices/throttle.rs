//! Who fails too often is not looked at for a while (VF-4).
//!
//! Names are free to say: what fails under a device's name counts against the network that it comes from, and the
//! device itself is heard from everywhere else.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::core::network::network_of;

const MINUTE: Duration = Duration::from_secs(60);
const PER_DEVICE: u32 = 5;
const PER_NETWORK: u32 = 60;
/// Who is counted at once; beyond it newcomers are not.
const MAX_COUNTED: usize = 20_000;
/// Between two looks for those who need not be counted any more.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Where somebody comes from; `None` over a unix socket.
type Network = Option<IpAddr>;

/// Counts failures.
#[derive(Default)]
pub(super) struct Throttle {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    devices: Counts<(String, Network)>,
    networks: Counts<IpAddr>,
}

struct Counts<K> {
    failures: HashMap<K, Failures>,
    swept: Option<Instant>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self {
            failures: HashMap::new(),
            swept: None,
        }
    }
}

struct Failures {
    count: u32,
    since: Instant,
}

impl Throttle {
    /// Whether somebody is looked at now.
    pub(super) fn admits(&self, now: Instant, device: Option<&str>, peer: Option<IpAddr>) -> bool {
        let network = peer.map(network_of);
        let counted = self.counted.lock();
        let device =
            device.and_then(|device| counted.devices.failures.get(&(device.to_owned(), network)));
        let network = network.and_then(|network| counted.networks.failures.get(&network));
        !device.is_some_and(|failures| failures.are_too_many(now, PER_DEVICE))
            && !network.is_some_and(|failures| failures.are_too_many(now, PER_NETWORK))
    }

    /// A device that is known now may fail again there.
    pub(super) fn succeeded(&self, device: Option<&str>, peer: Option<IpAddr>) {
        if let Some(device) = device {
            let key = (device.to_owned(), peer.map(network_of));
            self.counted.lock().devices.failures.remove(&key);
        }
    }

    /// One failure more.
    pub(super) fn failed(&self, now: Instant, device: Option<String>, peer: Option<IpAddr>) {
        let network = peer.map(network_of);
        let mut counted = self.counted.lock();
        if let Some(device) = device {
            counted.devices.count((device, network), now, PER_DEVICE);
        }
        if let Some(network) = network {
            counted.networks.count(network, now, PER_NETWORK);
        }
    }
}

impl Failures {
    fn are_too_many(&self, now: Instant, limit: u32) -> bool {
        self.count >= limit && now.duration_since(self.since) < MINUTE
    }
}

impl<K: Eq + Hash> Counts<K> {
    fn count(&mut self, key: K, now: Instant, limit: u32) {
        if self.failures.len() >= MAX_COUNTED && !self.failures.contains_key(&key) {
            let is_due = |swept| now.duration_since(swept) >= SWEEP_EVERY;
            if self.swept.is_none_or(is_due) {
                self.swept = Some(now);
                self.failures
                    .retain(|_, failures| now.duration_since(failures.since) < MINUTE);
            }
            // Whoever is silent stays so: a crowd of newcomers does not set it free.
            if self.failures.len() >= MAX_COUNTED {
                return;
            }
        }
        let failures = self.failures.entry(key).or_insert(Failures {
            count: 0,
            since: now,
        });
        if now.duration_since(failures.since) >= MINUTE {
            *failures = Failures {
                count: 0,
                since: now,
            };
        }
        failures.count += 1;
        // The minute of silence begins with the last failure that was looked at.
        if failures.count >= limit {
            failures.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_of_a_device_silence_it_for_a_minute_and_nobody_else() {
        let (throttle, begin) = (Throttle::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        for second in 0..5 {
            assert!(throttle.admits(at(second), Some("a"), None));
            throttle.failed(at(second), Some("a".to_owned()), None);
        }
        assert!(!throttle.admits(at(5), Some("a"), None));
        assert!(throttle.admits(at(5), Some("b"), None));
        assert!(!throttle.admits(at(63), Some("a"), None));
        assert!(throttle.admits(at(64), Some("a"), None));
    }

    #[test]
    fn a_success_forgives_a_device() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..3 {
            for _ in 0..4 {
                throttle.failed(now, Some("a".to_owned()), None);
            }
            throttle.succeeded(Some("a"), None);
        }
        assert!(throttle.admits(now, Some("a"), None));
    }

    #[test]
    fn an_address_may_fail_sixty_times_a_minute_whoever_it_says_it_is() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let peer = Some("10.0.0.1".parse().unwrap());
        for number in 0..60 {
            assert!(throttle.admits(now, Some(&number.to_string()), peer));
            throttle.failed(now, Some(number.to_string()), peer);
        }
        assert!(!throttle.admits(now, Some("x"), peer));
        assert!(throttle.admits(now, Some("x"), Some("10.0.0.2".parse().unwrap())));
    }

    #[test]
    fn who_fails_under_a_devices_name_silences_itself_and_not_the_device() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let peer = |text: &str| Some(text.parse().unwrap());
        for (bad, near, far) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
            ("::ffff:10.0.1.1", "10.0.1.1", "10.0.1.2"),
        ] {
            for _ in 0..5 {
                throttle.failed(now, Some("a".to_owned()), peer(bad));
            }
            assert!(!throttle.admits(now, Some("a"), peer(near)), "{near}");
            assert!(throttle.admits(now, Some("a"), peer(far)), "{far}");
            assert!(throttle.admits(now, Some("a"), None));
            // What the device does elsewhere forgives nothing.
            throttle.succeeded(Some("a"), peer(far));
            assert!(!throttle.admits(now, Some("a"), peer(bad)), "{bad}");
        }
    }

    #[test]
    fn a_crowd_sets_nobody_free_and_is_forgotten_when_it_is_old() {
        let (throttle, begin) = (Throttle::default(), Instant::now());
        let fail = |name: &str, now| throttle.failed(now, Some(name.to_owned()), None);
        for _ in 0..5 {
            fail("silent", begin);
        }
        for number in 0..MAX_COUNTED {
            fail(&number.to_string(), begin);
        }
        assert!(!throttle.admits(begin, Some("silent"), None));
        assert_eq!(throttle.counted.lock().devices.failures.len(), MAX_COUNTED);
        fail("new", begin + MINUTE);
        assert_eq!(throttle.counted.lock().devices.failures.len(), 1);
    }
}
