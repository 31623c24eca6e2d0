//! Devices and addresses that fail too often are not looked at for a while (VF-4).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const MINUTE: Duration = Duration::from_secs(60);
const PER_DEVICE: u32 = 5;
const PER_ADDRESS: u32 = 60;
/// Who is counted at once; beyond it the count of all begins anew.
const MAX_COUNTED: usize = 20_000;

/// Counts failures.
#[derive(Default)]
pub(super) struct Throttle {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    devices: HashMap<String, Failures>,
    addresses: HashMap<IpAddr, Failures>,
}

struct Failures {
    count: u32,
    since: Instant,
}

impl Throttle {
    /// Whether somebody is looked at now.
    pub(super) fn admits(&self, now: Instant, device: Option<&str>, peer: Option<IpAddr>) -> bool {
        let counted = self.counted.lock();
        let device = device.and_then(|device| counted.devices.get(device));
        let address = peer.and_then(|peer| counted.addresses.get(&peer));
        !device.is_some_and(|failures| failures.are_too_many(now, PER_DEVICE))
            && !address.is_some_and(|failures| failures.are_too_many(now, PER_ADDRESS))
    }

    /// A device that is known now may fail again.
    pub(super) fn succeeded(&self, device: Option<&str>) {
        if let Some(device) = device {
            self.counted.lock().devices.remove(device);
        }
    }

    /// One failure more.
    pub(super) fn failed(&self, now: Instant, device: Option<String>, peer: Option<IpAddr>) {
        let mut counted = self.counted.lock();
        if let Some(device) = device {
            count(&mut counted.devices, device, now, PER_DEVICE);
        }
        if let Some(peer) = peer {
            count(&mut counted.addresses, peer, now, PER_ADDRESS);
        }
    }
}

impl Failures {
    fn are_too_many(&self, now: Instant, limit: u32) -> bool {
        self.count >= limit && now.duration_since(self.since) < MINUTE
    }
}

fn count<K: Eq + Hash>(counted: &mut HashMap<K, Failures>, key: K, now: Instant, limit: u32) {
    if counted.len() >= MAX_COUNTED && !counted.contains_key(&key) {
        counted.retain(|_, failures| now.duration_since(failures.since) < MINUTE);
        if counted.len() >= MAX_COUNTED {
            counted.clear();
        }
    }
    let failures = counted.entry(key).or_insert(Failures {
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
            throttle.succeeded(Some("a"));
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
}
