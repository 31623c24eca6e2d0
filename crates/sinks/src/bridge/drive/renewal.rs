//! Credentials that end with the link (CR-4): it is made anew in time, when there are others to sign in with.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::aside::signed;
use super::{Link, Times};
use crate::bridge::signer::ConnectCreds;
use crate::connector::Fault;
use crate::error::SinkError;
use crate::{codes, now_ms};

/// How often weir looks whether there are newer ones: half of what is left, within these.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// What a link was signed with, and its end.
pub(super) struct Ending {
    at: Instant,
    ends_ms: i64,
    /// The address's place in the plan.
    address: usize,
}

impl Ending {
    /// `None` where nothing ends the link.
    pub(super) fn of(creds: &ConnectCreds, now_ms: i64, address: usize) -> Option<Self> {
        let after = u64::try_from(creds.renew_after_ms(now_ms)?).unwrap_or_default();
        Some(Self {
            at: Instant::now() + Duration::from_millis(after),
            ends_ms: creds.expires_at_ms?,
            address,
        })
    }

    /// An end that the remote has told of.
    pub(super) fn at(ends_ms: i64, address: usize) -> Self {
        Self {
            at: Instant::now(),
            ends_ms,
            address,
        }
    }

    /// When to look for others.
    pub(super) fn due(&self) -> Instant {
        self.at
    }

    /// Others are to be looked for at once.
    pub(super) fn look_now(&mut self) {
        self.at = Instant::now();
    }
}

impl Link {
    /// When the credentials are about to end, others are shown to the remote, or the link is to be made anew with them.
    /// While there are none it stays: a new one would end at the same time.
    pub(super) async fn weigh_renewal(&mut self, times: &mut Times) {
        let now = Instant::now();
        let Some(mut ending) =
            (times.ending).take_if(|ending| times.renew_at.is_none() && now >= ending.at)
        else {
            return;
        };
        if self.shows_token() {
            ending.at = now + LOOK_AGAIN.0;
            times.ending = Some(ending);
            return;
        }
        times.ending = self.renewed_or_not(times, ending).await;
    }

    /// The end of what the link lives on from now.
    async fn renewed_or_not(&mut self, times: &mut Times, ending: Ending) -> Option<Ending> {
        let why = match signed(&self.inner, ending.address).await {
            Ok((creds, now)) => {
                let wants_link = self.inner.wants_session();
                let shown = if wants_link {
                    None
                } else {
                    self.show_others_of(&creds)
                };
                let is_later = match (creds.expires_at_ms, shown) {
                    (Some(at), _) => at > ending.ends_ms,
                    // The same as before do not last for ever now: it was the cloud that knew of the end.
                    (None, shown) => shown != Some(0),
                };
                match shown {
                    Some(number) if number > 0 || is_later => {
                        self.inner.signed_with(&creds);
                        return Ending::of(&creds, now, ending.address);
                    }
                    None if is_later => {
                        times.renew_at = Some(Instant::now());
                        return None;
                    }
                    _ => None,
                }
            }
            Err(error) => Some(error),
        };
        let now_ms = now_ms().saturating_add(self.inner.plan().clock_offset_ms);
        let left_ms = ending.ends_ms.saturating_sub(now_ms);
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or_default());
        let error = not_renewed(ending.ends_ms, why.as_ref());
        self.inner.health.fails_in(Fault::Credentials, error);
        Some(Ending {
            at: Instant::now() + (left / 2).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1),
            ..ending
        })
    }
}

fn not_renewed(ends_ms: i64, why: Option<&SinkError>) -> SinkError {
    let since = Duration::from_millis(u64::try_from(ends_ms).unwrap_or_default());
    let end = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    let message =
        format!("the credentials of this link end on {end}, and nobody has renewed them yet");
    let error = SinkError::new(codes::NOT_RENEWED, message);
    match why.filter(|why| why.code() != codes::NOT_RENEWED) {
        Some(why) => error.caused_by(why),
        None => error,
    }
}
