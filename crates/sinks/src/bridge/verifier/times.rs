//! Whether a signature is of now, and whether it may come again (cloud-bridges §15.4).

use super::{Claim, Reason, Scheme, Shows, Stamp};

/// How closely times are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeCheck {
    /// As the cloud does.
    #[default]
    Cloud,
    /// So that what was overheard is of no use.
    Strict,
}

/// What holds for times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How closely.
    pub check: TimeCheck,
    /// How far a time in a signature may be from now when times are checked strictly.
    pub window_s: i64,
    /// How long after its end a signature is still taken.
    pub skew_s: i64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            check: TimeCheck::Cloud,
            window_s: 300,
            skew_s: 60,
        }
    }
}

/// What has to be remembered of a signature that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing.
    Any,
    /// The device's next one has to be later than this.
    Later(i64),
    /// It may not come again for as long as it would be taken: until then, in seconds since 1970.
    Once(i64),
    /// It may come again from where it came first, for as long as it is taken.
    OnePlace(i64),
}

/// The longest life of a signature that is checked strictly.
const DAY_S: i64 = 86_400;
const HOUR_MS: i64 = 3_600_000;
/// How far into an hour a signature of the one before is still taken.
const GRACE_MS: i64 = 300_000;
/// How far Baidu lets clocks be apart.
const BAIDU_S: i64 = 600;

impl Times {
    /// Whether a claim is of now, and what to remember of it. `encrypted`: it came over TLS.
    ///
    /// # Errors
    /// The reason why it is not.
    pub fn look(&self, claim: &Claim, encrypted: bool, now_ms: i64) -> Result<Freshness, Reason> {
        let strict = self.check == TimeCheck::Strict;
        // What says the same for many devices, or always, cannot be told from what was overheard.
        let says_the_same = matches!(claim.shows, Shows::Tokens(_) | Shows::Product);
        if strict && says_the_same && !encrypted {
            return Err(Reason::NotEncrypted);
        }
        if let Shows::Tokens(_) = claim.shows {
            // They end by themselves.
            return Ok(Freshness::Any);
        }
        match (claim.scheme, claim.stamp) {
            // There is no time to check: what nobody can overhear is as good.
            (Scheme::AliyunMq, Stamp::Timeless) if strict && !encrypted => {
                Err(Reason::NotEncrypted)
            }
            (Scheme::AliyunMq, Stamp::Timeless) => Ok(Freshness::Any),
            (_, Stamp::Timeless) if strict => Err(Reason::NoTime),
            (_, Stamp::Timeless) => Ok(Freshness::Any),
            (scheme, Stamp::Made(at_ms)) => self.made(scheme, at_ms, now_ms),
            (_, Stamp::Hour { checked: false, .. }) if strict => Err(Reason::NoTime),
            (_, Stamp::Hour { checked: false, .. }) => Ok(Freshness::Any),
            (_, Stamp::Hour { began_ms, .. }) => {
                let hours = now_ms.div_euclid(HOUR_MS) - began_ms.div_euclid(HOUR_MS);
                let into_ms = now_ms.rem_euclid(HOUR_MS);
                let fits = match (strict, hours) {
                    (false, -1..=1) | (true, 0) => true,
                    (true, 1) => into_ms < GRACE_MS,
                    _ => false,
                };
                if !fits {
                    return Err(Reason::ClockWrong);
                }
                if !strict {
                    return Ok(Freshness::Any);
                }
                // A device signs the same all through the hour: what tells it from others is where it is.
                let taken_until_ms = began_ms.saturating_add(HOUR_MS + GRACE_MS);
                Ok(Freshness::OnePlace(taken_until_ms.div_euclid(1000)))
            }
            (scheme, Stamp::Until(until_s)) => {
                // Beyond every calendar is as good as never.
                let until_s = i64::try_from(until_s).unwrap_or(i64::MAX);
                let now_s = now_ms.div_euclid(1000);
                if until_s < now_s.saturating_sub(self.skew_s) {
                    Err(Reason::Expired)
                } else if strict && until_s > now_s.saturating_add(DAY_S) {
                    Err(Reason::TooLong)
                } else if !strict {
                    Ok(Freshness::Any)
                } else {
                    let taken_until_s = until_s.saturating_add(self.skew_s);
                    Ok(match scheme {
                        Scheme::TencentIot => Freshness::Once(taken_until_s),
                        _ => Freshness::OnePlace(taken_until_s),
                    })
                }
            }
        }
    }

    fn made(&self, scheme: Scheme, at_ms: i64, now_ms: i64) -> Result<Freshness, Reason> {
        let apart_ms = now_ms.abs_diff(at_ms);
        let within = |seconds: i64| {
            apart_ms <= u64::try_from(seconds.saturating_mul(1000)).unwrap_or_default()
        };
        match (scheme, self.check) {
            (Scheme::AliyunIot, TimeCheck::Cloud) => Ok(Freshness::Any),
            (Scheme::AliyunIot, TimeCheck::Strict) if within(self.window_s) => {
                Ok(Freshness::Later(at_ms))
            }
            (Scheme::AliyunIot, TimeCheck::Strict) => Err(Reason::ClockWrong),
            (_, TimeCheck::Cloud) if at_ms == 0 => Ok(Freshness::Any),
            (_, TimeCheck::Strict) if at_ms == 0 => Err(Reason::NoTime),
            (_, TimeCheck::Cloud) if within(BAIDU_S) => Ok(Freshness::Any),
            (_, TimeCheck::Strict) if within(BAIDU_S) => Ok(Freshness::Later(at_ms)),
            _ => Err(Reason::ClockWrong),
        }
    }
}
