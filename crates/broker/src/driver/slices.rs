//! Work that can wait, done some at a time, so that others have their turns in between.

use std::future::poll_fn;
use std::task::Poll;

/// Whether there is time now for work that can wait. If not, the task is polled when there is.
pub(crate) type HasTime<'a> = &'a mut (dyn FnMut() -> bool + Send);

/// Does a slice whenever there is time for it, until `slice` says that nothing is left.
pub(crate) async fn in_slices(has_time: HasTime<'_>, mut slice: impl FnMut() -> Left) {
    poll_fn(|cx| {
        if !has_time() {
            return Poll::Pending;
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
