//! Publishers write to the sockets of their receivers themselves.
//!
//! Waking a receiver's task only to make one system call costs more than the call. So whoever has put something into
//! an outbox notes it for its thread, and when the thread has nothing else to do, or enough has come together, one
//! write carries all that each receiver is owed. What a socket does not take is left to its own task, and so are
//! transports that cannot be written to from outside.
//!
//! Threads that are not told when they run out of work (see [`prepare`]) write at once.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

use super::handle::{SessionHandle, Slot, Writer};
use crate::core::outbox::WriteBatch;
use crate::core::subscriptions::SessionKey;
use crate::net::event_loop;
use crate::net::wire::SocketWriter;

/// Receivers that a thread keeps waiting at most.
const MAX_WAITING: usize = 512;

/// Steps of connections that receivers wait at most while their thread has other work.
const MAX_STEPS: u32 = 32;

/// Writes to one receiver before others get their turn: more has come while it was written to.
const MAX_WRITES: usize = 4;

/// Buffers of up to this size are used again.
const BUFFER_KEPT: usize = 64 * 1024;

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::default();
    /// Who has last got a message since this was last asked; 0: nobody.
    static RECEIVER: Cell<SessionKey> = const { Cell::new(0) };
    /// Whether this thread is told when it runs out of work.
    static TOLD: Cell<bool> = const { Cell::new(false) };
}

/// What one thread has promised.
#[derive(Default)]
struct Thread {
    /// Who is owed something.
    waiting: Vec<Arc<SessionHandle>>,
    /// Steps since the first of them was noted.
    steps: u32,
    /// For writing.
    batch: WriteBatch,
}

/// Has the threads of a runtime told when they run out of work. Without it everything works, with more system calls.
pub(crate) fn prepare(runtime: &mut tokio::runtime::Builder) {
    runtime.on_thread_park(|| {
        begin_telling();
        flush();
    });
}

/// This thread is told when it runs out of work from now on.
pub(crate) fn begin_telling() {
    TOLD.set(true);
}

/// Whether this thread is told when it runs out of work.
pub(crate) fn is_told() -> bool {
    TOLD.get()
}

/// This thread is no longer told.
pub(crate) fn end_telling() {
    TOLD.set(false);
    flush();
}

/// Runs `work`, which may take its time, in a way that takes the thread away from its other connections.
pub(crate) fn around_blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    end_telling();
    if event_loop::give_away() {
        return work();
    }
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

/// The receivers' outboxes have got something.
pub(crate) fn owe(receivers: impl Iterator<Item = Arc<SessionHandle>>) {
    let full = THREAD.with_borrow_mut(|thread| {
        thread.waiting.extend(receivers);
        thread.waiting.len() >= MAX_WAITING
    });
    if full || !TOLD.get() {
        flush();
    }
}

/// A message went to this session, and perhaps to others.
pub(crate) fn note_receiver(session: SessionKey) {
    RECEIVER.set(session);
}

/// Who has last got a message from this thread since this was last asked.
pub(crate) fn take_receiver() -> Option<SessionKey> {
    Some(RECEIVER.take()).filter(|receiver| *receiver != 0)
}

/// A connection's step is over.
pub(crate) fn step_done() {
    let due = THREAD.with_borrow_mut(|thread| {
        thread.steps += 1;
        thread.steps >= MAX_STEPS && !thread.waiting.is_empty()
    });
    if due {
        flush();
    }
}

/// Writes to everyone who waits: for when this thread has nothing else to do.
pub(crate) fn flush() {
    let (mut waiting, mut batch) = THREAD.with_borrow_mut(|thread| {
        thread.steps = 0;
        (
            std::mem::take(&mut thread.waiting),
            std::mem::take(&mut thread.batch),
        )
    });
    if waiting.is_empty() {
        return;
    }
    for handle in waiting.drain(..) {
        write_to(&handle, &mut batch);
    }
    batch.shrink_to(BUFFER_KEPT);
    THREAD.with_borrow_mut(|thread| {
        thread.batch = batch;
        // Nobody has been noted meanwhile: writing calls nobody.
        if thread.waiting.capacity() == 0 && waiting.capacity() <= MAX_WAITING * 2 {
            thread.waiting = waiting;
        }
    });
}

/// Writes to one receiver what it is owed, or has its own task do it.
fn write_to(handle: &SessionHandle, batch: &mut WriteBatch) {
    for _ in 0..MAX_WRITES {
        let Some(socket) = begin(handle, batch) else {
            return;
        };
        let written = write_all(&socket, batch);
        handle.stats.sent_bytes.add(written as u64);
        match settle(handle, &socket, batch) {
            Settled::Done => return,
            Settled::More => {}
            Settled::ForItsTask => return handle.wake(),
        }
    }
    handle.wake();
}

/// Takes what is to be written, if nobody else is writing and this thread may.
fn begin(handle: &SessionHandle, batch: &mut WriteBatch) -> Option<SocketWriter> {
    let mut slot = handle.lock();
    if slot.writer != Writer::Nobody || slot.carried.is_some() {
        // Whoever writes looks again before it ends; what is carried goes first, and is for the receiver's task.
        return None;
    }
    let socket = slot.socket.clone().filter(|_| slot.close.is_none());
    let Some(socket) = socket else {
        drop(slot);
        handle.wake();
        return None;
    };
    let sent = slot.session.outbox().take_into(batch);
    if batch.is_empty() {
        return None;
    }
    slot.writer = Writer::Publisher;
    drop(slot);
    handle.stats.sent(&sent);
    Some(socket)
}

/// What is to be done after a write.
enum Settled {
    /// Nothing.
    Done,
    /// Another write.
    More,
    /// The receiver's task must go on.
    ForItsTask,
}

fn settle(handle: &SessionHandle, socket: &SocketWriter, batch: &mut WriteBatch) -> Settled {
    let mut slot = handle.lock();
    if !slot.socket.as_ref().is_some_and(|own| own.is(socket)) {
        // The connection has ended meanwhile, and what was for it with it.
        batch.clear();
        return Settled::Done;
    }
    slot.writer = Writer::Nobody;
    let task_waits = std::mem::take(&mut slot.task_waits);
    if !batch.is_empty() {
        slot.carried = Some(Box::new(std::mem::take(batch)));
        return Settled::ForItsTask;
    }
    let first_since_idle = !std::mem::replace(&mut slot.warm, true);
    if task_waits || first_since_idle || slot.session.has_sendable() {
        return Settled::ForItsTask;
    }
    if slot.session.outbox().has_some_to_take() {
        Settled::More
    } else {
        Settled::Done
    }
}

/// Writes as much as the socket takes. An error is the receiver's own to find.
fn write_all(socket: &SocketWriter, batch: &mut WriteBatch) -> usize {
    let mut written = 0;
    while !batch.is_empty() {
        let result = match batch.contiguous() {
            Some(bytes) => socket.try_write(bytes),
            None => {
                let (slices, len) = batch.slices();
                socket.try_write_vectored(&slices[..len])
            }
        };
        match result {
            Ok(0) => break,
            Ok(n) => {
                batch.advance(n);
                written += n;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

impl Slot {
    /// The connection's task takes what is to be written.
    pub(super) fn take_output(&mut self, batch: &mut WriteBatch) -> Output {
        if self.writer == Writer::Publisher {
            self.task_waits = true;
            return Output::Later;
        }
        if let Some(carried) = self.carried.take() {
            *batch = *carried;
            self.writer = Writer::Connection;
            return Output::Taken(Default::default());
        }
        let sent = self.session.outbox().take_into(batch);
        self.writer = if batch.is_empty() {
            Writer::Nobody
        } else {
            Writer::Connection
        };
        Output::Taken(sent)
    }
}

/// What a connection's task gets to write.
pub(super) enum Output {
    /// It is in the batch.
    Taken(crate::core::outbox::SentCounts),
    /// A publisher is writing; the task is woken when it has ended.
    Later,
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use weir_mqtt::Utf8;

    use super::*;
    use crate::core::persist::SessionId;
    use crate::core::queue::QueueLimits;
    use crate::core::session::{Session, SessionLimits};

    /// A session with a socket that takes little, and the client's end of it.
    fn receiver() -> (Arc<SessionHandle>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let limits = SessionLimits {
            queue: QueueLimits {
                messages: 0,
                bytes: 0,
            },
            outbox_bytes: usize::MAX,
        };
        let client_id = Utf8::from("slow");
        let session = Session::new(SessionId::default(), limits);
        let handle = SessionHandle::new(1, client_id, session, Arc::default());
        handle.lock().socket = Some(SocketWriter::new(socket.into()));
        (handle, client)
    }

    #[test]
    fn what_a_socket_did_not_take_goes_before_everything_that_comes_later() {
        let (handle, mut client) = receiver();
        let first: Vec<u8> = (0..8 << 20).map(|at: u32| at.to_le_bytes()[2]).collect();
        handle.lock().session.outbox().append(&first, 1);
        write_to(&handle, &mut WriteBatch::default());
        assert!(handle.lock().carried.is_some(), "more than a socket takes");
        // The client reads, so that there is room again, and another publisher comes before the receiver's task.
        let mut read = vec![0; 1 << 20];
        client.read_exact(&mut read).unwrap();
        handle.lock().session.outbox().append(b"second", 1);
        write_to(&handle, &mut WriteBatch::default());
        // The receiver's task has its turn at last.
        let mut batch = WriteBatch::default();
        let reading = std::thread::spawn(move || {
            let mut rest = vec![0; (8 << 20) - read.len() + b"second".len()];
            client.read_exact(&mut rest).unwrap();
            [read, rest].concat()
        });
        let socket = handle.lock().socket.clone().unwrap();
        while !reading.is_finished() {
            if batch.is_empty() {
                let _taken = handle.lock().take_output(&mut batch);
            }
            write_all(&socket, &mut batch);
        }
        assert!(reading.join().unwrap() == [&first[..], b"second"].concat());
    }
}
