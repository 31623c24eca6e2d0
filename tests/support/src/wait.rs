//! Waiting for something that happens in another process and sends no event.

use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const POLL_EVERY: Duration = Duration::from_millis(20);

/// Returns as soon as `condition` holds; fails the test when it does not within `deadline`.
///
/// `what` completes the sentence "waited 5s for …".
///
/// # Panics
/// When the deadline passes.
pub async fn wait_until<F, Fut>(what: &str, deadline: Duration, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    wait_for(what, deadline, || {
        let holds = condition();
        async move { holds.await.then_some(()) }
    })
    .await;
}

/// Returns the first value that `probe` finds; fails the test when there is none within `deadline`.
///
/// # Panics
/// When the deadline passes.
pub async fn wait_for<T, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            Instant::now() < end,
            "waited {deadline:?} in vain for {what}"
        );
        sleep(POLL_EVERY).await;
    }
}
