//! What a cloud enforces of its devices when they connect (cloud-bridges §14, §15.6), so that firmware and bridges meet
//! its rules on the user's own machine. What it enforces on a connection is `driver::emulation`'s.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use weir_sinks::bridge::preset::{self, Preset};
use weir_sinks::bridge::verifier::{Reason, Scheme};

use crate::auth::ConnectRequest;

/// A cloud's rules.
#[derive(Clone, Copy)]
pub struct Cloud(&'static Preset);

impl PartialEq for Cloud {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Cloud {}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

impl Cloud {
    /// The cloud of a scheme.
    pub fn of(scheme: Scheme) -> Option<Self> {
        let mut presets = preset::ALL.iter();
        presets
            .find(|preset| preset.name == scheme.name())
            .map(Self)
    }

    /// What it enforces.
    pub fn rules(self) -> &'static Preset {
        self.0
    }

    /// Whether it takes the keep-alive of a CONNECT, in seconds; 0 is none.
    fn takes_keep_alive(self, seconds: u16) -> bool {
        self.0.keepalive_bounds.is_none_or(|(least, most)| {
            (least..=most).contains(&Duration::from_secs(u64::from(seconds)))
        })
    }

    /// How often it lets a device connect in a minute.
    fn connects_a_minute(self) -> usize {
        let spacing_ms = self.0.connect_spacing.as_millis().max(1);
        usize::try_from(60_000_u128.div_ceil(spacing_ms)).unwrap_or(usize::MAX)
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// Devices whose CONNECTs are counted at once; beyond it those that were long silent are forgotten,
/// and others are let in uncounted.
const MAX_COUNTED: usize = 20_000;

/// How often each device has connected of late.
#[derive(Default)]
pub(super) struct Pace(Mutex<HashMap<String, VecDeque<Instant>>>);

impl Pace {
    /// Whether the cloud lets the device of this name connect now and so.
    pub(super) fn admits(
        &self,
        now: Instant,
        scheme: Scheme,
        device: &str,
        request: &ConnectRequest,
    ) -> Result<(), Reason> {
        let Some(cloud) = Cloud::of(scheme) else {
            return Ok(());
        };
        if !self.counts(now, device, cloud.connects_a_minute()) {
            return Err(Reason::TooOften);
        }
        if cloud.takes_keep_alive(request.keep_alive_s) {
            Ok(())
        } else {
            Err(Reason::KeepAlive)
        }
    }

    fn counts(&self, now: Instant, device: &str, most: usize) -> bool {
        let mut counted = self.0.lock();
        let is_old = |at: &Instant| now.duration_since(*at) >= MINUTE;
        if counted.len() >= MAX_COUNTED && !counted.contains_key(device) {
            counted.retain(|_, times| times.back().is_some_and(|at| !is_old(at)));
            if counted.len() >= MAX_COUNTED {
                return true;
            }
        }
        let times = counted.entry(device.to_owned()).or_default();
        while times.front().is_some_and(is_old) {
            times.pop_front();
        }
        if times.len() >= most {
            return false;
        }
        times.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_connects_as_often_in_a_minute_as_its_cloud_lets_it() {
        let (pace, begin) = (Pace::default(), Instant::now());
        let at = |seconds, device| pace.counts(begin + Duration::from_secs(seconds), device, 5);
        let most = Cloud::of(Scheme::AliyunIot).unwrap().connects_a_minute();
        assert_eq!(most, 5);
        assert_eq!([0, 1, 2, 3, 4].map(|second| at(second, "a")), [true; 5]);
        assert!(!at(5, "a") && at(5, "b"));
        // A refusal is not counted, and the minute slides.
        assert!(!at(59, "a") && at(60, "a") && !at(60, "a"));
        // One in every 12 seconds is never too often.
        assert!((10..40).all(|turn| at(turn * 12, "c")));
    }

    #[test]
    fn when_as_many_devices_are_counted_as_can_be_another_one_is_let_in_uncounted() {
        let (pace, begin) = (Pace::default(), Instant::now());
        for n in 0..MAX_COUNTED {
            assert!(pace.counts(begin, &n.to_string(), 5));
        }
        assert!((0..10).all(|_| pace.counts(begin, "another", 5)));
        assert_eq!(pace.0.lock().len(), MAX_COUNTED);
        let later = begin + MINUTE;
        assert!(pace.counts(later, "another", 1) && !pace.counts(later, "another", 1));
    }

    #[test]
    fn keep_alives_are_taken_up_to_their_bounds() {
        let takes = |scheme, seconds| Cloud::of(scheme).unwrap().takes_keep_alive(seconds);
        for (scheme, least, most) in [
            (Scheme::AliyunIot, 30, 1200),
            (Scheme::TencentIot, 60, 850),
            (Scheme::Onenet, 10, 1800),
            (Scheme::AzureIothub, 1, 1177),
        ] {
            let judged = [least - 1, least, most, most + 1].map(|seconds| takes(scheme, seconds));
            assert_eq!(judged, [false, true, true, false], "{scheme:?}");
            assert!(!takes(scheme, 0), "{scheme:?}");
        }
    }
}
