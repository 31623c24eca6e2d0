//! What receivers' outboxes hold until a step is kept, and who tells them then.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use super::handle::SessionHandle;
use crate::core::outbox::Hold;
use crate::stats::CloseReason;
use crate::store::Ticket;

/// Waits for a ticket, and opens a hold.
pub(super) struct Opening {
    hold: Hold,
    ticket: Ticket,
    receivers: Vec<Arc<SessionHandle>>,
}

impl Opening {
    /// Opens `hold` when the step of `ticket` is kept, and has the receivers written to. If it is not kept, what they
    /// hold must never leave: their connections end.
    pub(super) fn when_kept(hold: Hold, ticket: Ticket, receivers: Vec<Arc<SessionHandle>>) {
        let opening = Arc::new(Self {
            hold,
            ticket,
            receivers,
        });
        let waker = Waker::from(Arc::clone(&opening));
        if opening
            .ticket
            .poll_ready(&Context::from_waker(&waker))
            .is_ready()
        {
            // Decided meanwhile. To be told twice does no harm.
            waker.wake();
        }
    }
}

impl Wake for Opening {
    fn wake(self: Arc<Self>) {
        let kept = self.ticket.is_ready();
        if kept {
            self.hold.open();
        }
        for receiver in &self.receivers {
            if kept {
                receiver.wake();
            } else {
                receiver.request_close(CloseReason::StorageFailed);
            }
        }
    }
}
