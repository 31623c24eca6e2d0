//! Work that can wait, done some at a time, so that others have their turns in between.

use std::future::{Future as _, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

/// Work waits at most this long, all its slices together, because others have more urgent things to do. If ten thousand
/// clients have nothing else to be done, it is two thousand of them a second that others have to bear.
pub(crate) const WAITS_AT_MOST: Duration = Duration::from_secs(5);

/// What knows whether there is time for work that can wait.
pub(crate) trait SpareTime {
    /// Whether there is some now. If not, the task is polled when there is.
    fn is_there(&mut self) -> bool;

    /// The work is done without: nothing is waited for any more.
    fn waits_no_more(&mut self) {}
}

impl<F: FnMut() -> bool> SpareTime for F {
    fn is_there(&mut self) -> bool {
        self()
    }
}

/// See [`SpareTime`].
pub(crate) type HasTime<'a> = &'a mut (dyn SpareTime + Send);

/// Does a slice whenever there is time for it, until `slice` says that nothing is left. After [`WAITS_AT_MOST`] there is
/// a slice in every turn.
pub(crate) async fn in_slices(has_time: HasTime<'_>, slice: impl FnMut() -> Left) {
    in_slices_within(WAITS_AT_MOST, has_time, slice).await;
}

async fn in_slices_within(
    waits_at_most: Duration,
    has_time: HasTime<'_>,
    mut slice: impl FnMut() -> Left,
) {
    let (mut patience, mut is_patient) = (None, true);
    poll_fn(|cx| {
        if is_patient && !has_time.is_there() {
            let patience = patience.get_or_insert_with(|| Box::pin(sleep(waits_at_most)));
            if patience.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            has_time.waits_no_more();
            is_patient = false;
        }
        if slice() == Left::Nothing {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What is left of a work after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It is done.
    Nothing,
    /// There is more to do.
    Some,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never has time, and says whether it was told that nobody waits for it.
    struct Never(bool);

    impl SpareTime for Never {
        fn is_there(&mut self) -> bool {
            assert!(!self.0, "nobody waits any more");
            false
        }

        fn waits_no_more(&mut self) {
            self.0 = true;
        }
    }

    #[tokio::test]
    async fn work_for_which_there_is_never_time_waits_once_and_is_done_after_all() {
        const WAITS: Duration = Duration::from_millis(20);
        let (begun, mut never, mut done) = (tokio::time::Instant::now(), Never(false), 0);
        in_slices_within(WAITS, &mut never, || {
            done += 1;
            match done {
                300 => Left::Nothing,
                _ => Left::Some,
            }
        })
        .await;
        assert_eq!(done, 300);
        assert!(begun.elapsed() >= WAITS && never.0);
    }
}
