//! Whose turn it is: first those who are connected, then newcomers, then work that can wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::super::home::Order;
use super::super::task::{LATER, PATIENT, QUEUED};
use super::{CORE, Core, Ends, HERE, Running};
use crate::driver::flush;
use crate::net::wire::writes;

/// Events that are taken from the system at once.
const EVENTS: usize = 512;

/// How long those who stand behind are served before the sockets are looked at again. Where the others take longer than
/// this, it is a fourth of their time: whoever comes to a busy broker is let in too.
const BEHIND_TIME: Duration = Duration::from_micros(20);
const BEHIND_SHARE: u32 = 4;

/// The same for both while there are no others.
const ALONE_TIME: Duration = Duration::from_micros(250);

/// As what a connection is polled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    First,
    /// Others go before it.
    Behind,
}

/// The loop, until it ends or a connection takes the thread away from it.
pub(in crate::net::event_loop) fn run(mut core: Box<Core>) {
    HERE.with_borrow_mut(|here| here.home = core.home.id);
    // Their type is bound to a thread.
    let mut events = Vec::with_capacity(EVENTS);
    // Of this thread; another may have run the loop before.
    core.writes = writes();
    loop {
        // A connection for which no other thread was to be had has ended it.
        flush::begin_telling();
        core.read_mail();
        core = match poll_those(core) {
            Some(back) => back,
            None => return flush::end_telling(),
        };
        let idle = core.ends == Ends::WhenIdle && core.open == 0;
        if core.ends == Ends::Now || (idle && core.home.close_if_idle()) {
            flush::end_telling();
            return core.end();
        }
        // Writing may wake receivers whose sockets are full.
        flush::flush();
        core.wait(&mut events);
    }
}

/// Polls everyone who is to be polled. `None` when one of them has taken the thread away from the loop.
fn poll_those(mut core: Box<Core>) -> Option<Box<Core>> {
    core = poll_ready(core)?;
    HERE.with_borrow_mut(|here| core.take_words(here));
    if core.later.is_empty() && !core.has_some_behind() {
        return Some(core);
    }
    // Those whom others have written to do not wait for what can wait.
    flush::flush();
    let now = Instant::now();
    core.note_writes(now);
    if core.behind_rest(now) > Duration::ZERO {
        if core.can_go_on(now) {
            core.pauses.hold_back();
        }
        return Some(core);
    }
    if core.has_some_behind() {
        core = poll_behind(core, now)?;
    }
    do_later_work(core)
}

/// Newcomers stand behind those who are here already, so that a crowd at the door is not felt inside; and so do those who
/// sent what can wait: reading what they have sent since is work too. `None` when one has taken the thread away from the
/// loop.
fn poll_behind(mut core: Box<Core>, begun: Instant) -> Option<Box<Core>> {
    let others_took = begun.saturating_duration_since(core.now);
    let time = if core.serves() {
        BEHIND_TIME.max(others_took / BEHIND_SHARE)
    } else {
        ALONE_TIME
    };
    core.pauses.end();
    core.let_in(begun + time);
    while let Some(token) = core.behind.pop_front() {
        core = poll(core, token, Class::Behind)?;
        if begun.elapsed() >= time {
            break;
        }
    }
    // What they are told is nothing that others are to be left alone for.
    flush::flush();
    core.writes = writes();
    Some(core)
}

fn poll_ready(mut core: Box<Core>) -> Option<Box<Core>> {
    while let Some(token) = core.ready.pop_front() {
        core = poll(core, token, Class::First)?;
    }
    Some(core)
}

/// Polls connections with work that can wait, for a while. `None` when one has taken the thread away from the loop.
fn do_later_work(mut core: Box<Core>) -> Option<Box<Core>> {
    HERE.with_borrow_mut(|here| core.take_words(here));
    if core.later.is_empty() {
        return Some(core);
    }
    let begun = Instant::now();
    if core.later_rest(begun) > Duration::ZERO {
        return Some(core);
    }
    let time = if core.serves() {
        core.share.slice()
    } else {
        ALONE_TIME
    };
    core.pauses.end();
    HERE.with_borrow_mut(|here| here.later_until = Some(begun + time));
    while let Some(token) = core.later.pop_front() {
        if let Some(task) = core.slot(token).and_then(|slot| slot.task.as_ref()) {
            task.clear(LATER);
        }
        HERE.with_borrow_mut(|here| here.later_first = true);
        core = poll(core, token, Class::Behind)?;
        if begun.elapsed() >= time {
            break;
        }
    }
    HERE.with_borrow_mut(|here| (here.later_until, here.later_first) = (None, false));
    let took = begun.elapsed();
    core.later_at = begun + took + core.share.rest_after(took, !core.later.is_empty());
    flush::flush();
    core.writes = writes();
    // Such work is nothing to share with other loops: all of it goes through the same locks.
    core.load.rested(took);
    Some(core)
}

/// Polls one connection. `None` when it has taken the thread away from the loop.
fn poll(mut core: Box<Core>, token: u64, class: Class) -> Option<Box<Core>> {
    let Some(mut running) = core.take_running(token) else {
        return Some(core);
    };
    let home = Arc::clone(&core.home);
    running.task.clear(QUEUED | PATIENT);
    // What others have left there is not of this connection.
    flush::take_receiver();
    CORE.set(Some(core));
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let mut context = Context::from_waker(&running.waker);
        running.future.as_mut().poll(&mut context)
    }));
    let goes_on = matches!(polled, Ok(Poll::Pending));
    let Some(mut core) = CORE.take() else {
        if goes_on {
            if let Err(Order::Return(running)) = home.order(Order::Return(running)) {
                forget(running);
            }
        } else {
            forget(running);
            drop(home.order(Order::Ended(token)));
        }
        return None;
    };
    if class == Class::First && !running.task.has(LATER) {
        core.served_at = core.now;
    }
    let receiver = flush::take_receiver();
    if goes_on {
        core.put_back(token, running);
        if let (Some(receiver), Some(slot)) = (receiver, core.slot(token)) {
            slot.talks_to = Some(receiver);
        }
    } else {
        forget(running);
        core.vacate(token);
    }
    Some(core)
}

/// A connection that has panicked may panic again while it is dropped: that is its end, not the loop's.
pub(super) fn forget(running: Running) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(running))));
}
