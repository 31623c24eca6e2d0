//! The one place where a session is reached from several threads: a short lock around the state machine,
//! and the means to wake the connection that serves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use weir_mqtt::{ReasonCode, Utf8};

use super::events::ClientInfo;

use crate::auth::Subject;
use crate::core::Millis;
use crate::core::outbox::WriteBatch;
use crate::core::session::Session;
use crate::core::subscriptions::SessionKey;
use crate::net::wire::SocketWriter;
use crate::stats::{BrokerStats, CloseReason};

/// Identifies a network connection for as long as the process lives.
pub(crate) type ConnectionKey = u64;

/// A session with its lock. Outlives connections; publishers and the index hold it.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    /// Tells sessions apart in the index.
    pub(crate) key: SessionKey,
    /// Whose session it is.
    pub(crate) client_id: Utf8,
    /// Counts what is written.
    pub(crate) stats: Arc<BrokerStats>,
    slot: Mutex<Slot>,
    /// The task of the connection that serves the session.
    task: AtomicWaker,
    /// The task has something to do: output waits or the connection must close.
    ready: AtomicBool,
    /// Tells those who want the session that its connection has let go.
    released: Notify,
}

/// Who is writing to a connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// Nobody: whoever has something for it may.
    Nobody,
    /// Its own task.
    Connection,
    /// A thread that had something for it.
    Publisher,
}

/// What an operator has a client told at the end.
#[derive(Clone, Debug)]
pub(crate) struct Farewell {
    /// The reason code of DISCONNECT.
    pub(crate) code: ReasonCode,
    /// Where the client should go.
    pub(crate) server: Option<Utf8>,
}

/// A time that does not come.
pub(crate) const NEVER: Millis = Millis::MAX;

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The state machine.
    pub(crate) session: Session,
    /// Who the client is that has the session, or had it last.
    pub(crate) subject: Option<Arc<Subject>>,
    /// The connection that serves the session, from admission to the last word.
    pub(crate) owner: Option<ConnectionKey>,
    /// Who the owner is, once it was welcomed.
    pub(crate) info: Option<Arc<ClientInfo>>,
    /// Why the owner must let go.
    pub(crate) close: Option<CloseReason>,
    /// What the client is told then, if not what the reason says.
    pub(crate) farewell: Option<Box<Farewell>>,
    /// A client has had the session.
    pub(crate) begun: bool,
    /// The session has ended; a client of this name needs a new one.
    pub(crate) ended: bool,
    /// When the session expires, while it has no owner; [`NEVER`] otherwise.
    pub(crate) expires_at: Millis,
    /// When the Will is due, while there is one and the session has no owner.
    pub(crate) will_at: Millis,
    /// The earliest alarm that is set for this session.
    pub(crate) alarm: Millis,
    /// The socket of the connection that serves the session, where others may write to it.
    pub(crate) socket: Option<SocketWriter>,
    /// Who is writing to it now.
    pub(crate) writer: Writer,
    /// What a publisher could not write; it goes before everything in the outbox.
    pub(crate) carried: Option<Box<WriteBatch>>,
    /// The connection's task wants to know when the publisher has ended.
    pub(crate) task_waits: bool,
    /// A publisher has written since the connection's task last looked.
    pub(crate) warm: bool,
}

impl From<ReasonCode> for Farewell {
    fn from(code: ReasonCode) -> Self {
        Self { code, server: None }
    }
}

impl SessionHandle {
    /// A handle around a new session that nobody owns.
    pub(crate) fn new(
        key: SessionKey,
        client_id: Utf8,
        session: Session,
        stats: Arc<BrokerStats>,
    ) -> Arc<Self> {
        let slot = Slot {
            session,
            subject: None,
            owner: None,
            info: None,
            close: None,
            farewell: None,
            begun: false,
            ended: false,
            expires_at: NEVER,
            will_at: NEVER,
            alarm: NEVER,
            socket: None,
            writer: Writer::Nobody,
            carried: None,
            task_waits: false,
            warm: false,
        };
        Arc::new(Self {
            key,
            client_id,
            stats,
            slot: Mutex::new(slot),
            task: AtomicWaker::new(),
            ready: AtomicBool::new(false),
            released: Notify::new(),
        })
    }

    /// The lock. Never held over an await, never two at once.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock()
    }

    /// The connection's task has something to do.
    pub(crate) fn wake(&self) {
        self.ready.store(true, Ordering::Release);
        self.task.wake();
    }

    /// The connection's task wants to be woken; tells whether there is something to do already.
    pub(crate) fn poll_ready(&self, cx: &std::task::Context<'_>) -> bool {
        // Registered before looking, so that a wake in between is not missed.
        self.task.register(cx.waker());
        self.ready.swap(false, Ordering::AcqRel)
    }

    /// Asks the owner to let go for `reason`, and waits until nobody owns the session.
    pub(crate) async fn evict(&self, reason: CloseReason) {
        loop {
            let released = self.released.notified();
            {
                let mut slot = self.lock();
                if slot.owner.is_none() {
                    return;
                }
                slot.close.get_or_insert(reason);
            }
            self.wake();
            released.await;
        }
    }

    /// Asks the owner, if there is one, to let go for `reason`.
    pub(crate) fn request_close(&self, reason: CloseReason) {
        self.lock().close.get_or_insert(reason);
        self.wake();
    }

    /// Asks the owner to let go because an operator wants so, and what to say; false when there is none.
    pub(crate) fn kick(&self, farewell: Farewell) -> bool {
        {
            let mut slot = self.lock();
            if slot.owner.is_none() {
                return false;
            }
            if slot.close.is_none() {
                slot.close = Some(CloseReason::Kicked);
                slot.farewell = Some(Box::new(farewell));
            }
        }
        self.wake();
        true
    }

    /// The owner's task is not to be woken any more; said before it lets go.
    pub(crate) fn retire_task(&self) {
        self.task.take();
    }

    /// The owner has let go.
    pub(crate) fn released(&self) {
        self.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for each session. The next larger block that the allocator gives has 896 bytes.
    #[test]
    fn a_session_fits_a_block_of_768_bytes() {
        const COUNTERS_OF_ARC: usize = 16;
        let size = size_of::<SessionHandle>() + COUNTERS_OF_ARC;
        assert!(size <= 768, "{size}");
    }
}
