//! What waits for a file, away from the tasks that carry packets.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::bridge::certificate;
use crate::bridge::client::Failure;
use crate::bridge::link::Inner;
use crate::bridge::mirror::Mirror;
use crate::bridge::signer::{ConnectCreds, Moment};
use crate::connector::Fault;
use crate::error::SinkError;
use crate::{codes, now_ms};

/// Reads or writes what must be remembered.
pub(super) async fn remember<T: Send + 'static>(
    act: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| failed_to_remember(&error))
}

fn failed_to_remember(error: &std::io::Error) -> Failure {
    let message = "the bridge cannot write what it must remember below data_dir/bridges";
    Failure::network(SinkError::new(codes::FILE, message).caused_by(error))
}

/// Credentials for the address with this place in the plan, and the time at which they were signed. Secrets may be in files.
pub(super) async fn signed(
    inner: &Arc<Inner>,
    address: usize,
) -> Result<(ConnectCreds, i64), SinkError> {
    let of = Arc::clone(inner);
    let sign = move || {
        let plan = of.plan();
        let now = now_ms().saturating_add(plan.clock_offset_ms);
        of.look_at_certificate();
        let signed = (plan.credentials).sign_for(&plan.addresses[address], Moment::at(now));
        Ok((signed?, now))
    };
    let done = tokio::task::spawn_blocking(sign).await;
    done.unwrap_or_else(|error| {
        Err(SinkError::new(codes::BRIDGE, "nothing was signed").caused_by(&error))
    })
}

/// What is here of the session at the remote (`host:port`), and whether it is the one that the remote goes on with. Where
/// it is not, it is forgotten.
pub(super) async fn mirrored(
    inner: &Arc<Inner>,
    has_routes: bool,
    remote: &str,
    session_present: bool,
) -> Result<(Option<Mirror>, bool), Failure> {
    let (of, remote) = (Arc::clone(inner), remote.to_owned());
    remember(move || {
        let Some(home) = &of.home else {
            return Ok((None, session_present));
        };
        let mirror = Mirror::of(home.data_dir(), of.health.name());
        if !(of.is_exact() || has_routes || mirror.is_of_any()) {
            return Ok((None, session_present));
        }
        let resumed = session_present && mirror.is_of(&remote);
        if !resumed {
            // Of what the remote took and had not passed on nothing is left. It says so only this once.
            mirror.begin()?;
            of.forget_released(home.data_dir(), &mirror)?;
        }
        Ok((Some(mirror), resumed))
    })
    .await
}

impl Inner {
    /// Notes when credentials end. Others than those of before are none that nobody has renewed.
    pub(super) fn signed_with(&self, creds: &ConnectCreds) {
        let ends = creds.expires_at_ms.unwrap_or_default();
        let has_another_end = self.stats.credentials_end_ms.swap(ends, Relaxed) != ends;
        let before = std::mem::replace(&mut *self.signed_with.lock(), creds.password.clone());
        if has_another_end || before != creds.password {
            self.health.recovers_in(Fault::Credentials);
        }
    }

    /// Notes when the client's certificate ends, and warns once of each that ends soon.
    fn look_at_certificate(&self) {
        let plan = self.plan();
        let ends = certificate::ends_ms(&plan.tls, &self.base).unwrap_or_default();
        let before = self.stats.certificate_ends_ms.swap(ends, Relaxed);
        if ends != 0
            && ends != before
            && let Some(warning) = certificate::warning(ends, now_ms())
        {
            tracing::warn!(connector = %self.health.name(), code = "W4110", "{warning}");
        }
    }
}
