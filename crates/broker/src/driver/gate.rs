//! The one place where acknowledgements leave: in order, and only when what they promise is on stable storage.
//!
//! Reading goes on meanwhile; the connection stops reading only when the gate is full.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use crate::core::outbox::Outbox;
use crate::store::Ticket;

/// Batches of acknowledgements that wait for their commits; a connection with this many stops reading.
const MAX_WAITING: usize = 64;

/// The acknowledgements of one socket read, encoded.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// The packets.
    pub(crate) bytes: Vec<u8>,
    /// How many.
    pub(crate) packets: u64,
    /// How many publishes of the client they acknowledge for good.
    pub(crate) publishes: usize,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    replies: Replies,
}

/// Acknowledgements that wait.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting: VecDeque<Waiting>,
    publishes: usize,
    /// A batch was not kept: what waits for it must never leave.
    failed: bool,
}

impl Gate {
    /// Sends `replies` once `ticket` is ready and everything before has been sent. `replies` is empty afterwards.
    pub(crate) fn acknowledge(
        &mut self,
        ticket: Ticket,
        replies: &mut Replies,
        outbox: &mut Outbox,
    ) {
        if replies.packets == 0 {
            return;
        }
        if self.waiting.is_empty() && ticket.is_ready() {
            outbox.append(&replies.bytes, replies.packets);
            replies.clear();
            return;
        }
        self.publishes += replies.publishes;
        self.waiting.push_back(Waiting {
            ticket,
            replies: std::mem::take(replies),
        });
    }

    /// Sends what may be sent by now; the task is woken when there is more. True when something was sent.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, outbox: &mut Outbox) -> bool {
        let before = self.waiting.len();
        while let Some(Poll::Ready(kept)) = self
            .waiting
            .front()
            .map(|first| first.ticket.poll_ready(cx))
        {
            if kept.is_err() {
                self.failed = true;
                break;
            }
            if let Some(Waiting { replies, .. }) = self.waiting.pop_front() {
                self.publishes -= replies.publishes;
                outbox.append(&replies.bytes, replies.packets);
            }
        }
        self.waiting.len() < before
    }

    /// Whether a batch was not kept, so that the connection must end.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether reading must stop.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    /// How many of the client's publishes are not acknowledged yet.
    pub(crate) fn publishes(&self) -> usize {
        self.publishes
    }
}

impl Replies {
    fn clear(&mut self) {
        self.bytes.clear();
        self.packets = 0;
        self.publishes = 0;
    }

    /// Gives the buffer's memory back when there is nothing in it.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;
    use crate::core::outbox::WriteBatch;

    fn replies(text: &[u8]) -> Replies {
        Replies {
            bytes: text.to_vec(),
            packets: 1,
            publishes: 1,
        }
    }

    fn sent(outbox: &mut Outbox) -> Vec<u8> {
        let mut batch = WriteBatch::default();
        outbox.take_into(&mut batch);
        batch.contiguous().unwrap().to_vec()
    }

    #[test]
    fn an_acknowledgement_waits_for_its_commit_and_for_those_before_it() {
        let (ticket, done) = Ticket::new();
        let (mut gate, mut outbox) = (Gate::default(), Outbox::default());
        let cx = Context::from_waker(Waker::noop());
        gate.acknowledge(ticket, &mut replies(b"a"), &mut outbox);
        gate.acknowledge(Ticket::ready(), &mut replies(b"b"), &mut outbox);
        assert!(!gate.poll(&cx, &mut outbox));
        assert!(
            outbox.is_empty(),
            "b needs no storage, but must not overtake a"
        );
        assert_eq!(gate.publishes(), 2);
        done.kept();
        assert!(gate.poll(&cx, &mut outbox));
        assert_eq!(sent(&mut outbox), b"ab");
        gate.acknowledge(Ticket::ready(), &mut replies(b"c"), &mut outbox);
        assert_eq!(sent(&mut outbox), b"c");
        assert_eq!(gate.publishes(), 0);
    }

    #[test]
    fn the_task_is_woken_by_the_commit() {
        struct Flag(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let (ticket, done) = Ticket::new();
        let flag = Arc::new(Flag(false.into()));
        let waker = Waker::from(Arc::clone(&flag));
        let (mut gate, mut outbox) = (Gate::default(), Outbox::default());
        gate.acknowledge(ticket, &mut replies(b"a"), &mut outbox);
        assert!(!gate.poll(&Context::from_waker(&waker), &mut outbox));
        done.kept();
        assert!(flag.0.load(std::sync::atomic::Ordering::Relaxed));
    }

    #[test]
    fn a_full_gate_says_so() {
        let mut unanswered = Vec::new();
        let (mut gate, mut outbox) = (Gate::default(), Outbox::default());
        for _ in 0..MAX_WAITING {
            assert!(!gate.is_full());
            let (ticket, done) = Ticket::new();
            unanswered.push(done);
            gate.acknowledge(ticket, &mut replies(b"a"), &mut outbox);
        }
        assert!(gate.is_full());
    }

    #[test]
    fn what_was_not_kept_is_never_acknowledged() {
        let (ticket, done) = Ticket::new();
        let (mut gate, mut outbox) = (Gate::default(), Outbox::default());
        let cx = Context::from_waker(Waker::noop());
        gate.acknowledge(ticket, &mut replies(b"a"), &mut outbox);
        gate.acknowledge(Ticket::ready(), &mut replies(b"b"), &mut outbox);
        done.failed();
        assert!(!gate.poll(&cx, &mut outbox) && gate.has_failed());
        assert!(outbox.is_empty());
    }
}
