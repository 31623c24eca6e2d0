//! One loop: waits for its sockets, polls the connections that something happened to.

mod share;
mod sharing;
mod turns;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use tokio::sync::mpsc;

use self::share::{Pauses, Share};
use self::sharing::Busy;
use self::turns::forget;
pub(super) use self::turns::run;
use super::balance::{Advice, Load};
use super::crew::{Crew, NoThread};
use super::home::{BELL, Descriptors, Home, Inbox, Order};
use super::listening::{ACCEPTS, Accepted, Entrances, Guest, Listening};
use super::socket::{LoopSocket, interest};
use super::task::{
    ARMED, CLOSED, LATER, NEVER, NEWCOMER, PATIENT, Place, QUEUED, RANG, READABLE, Task, WAITS,
    WRITABLE, is_only_more,
};
use super::{Doorkeeper, Serving};
use crate::core::subscriptions::SessionKey;
use crate::net::wire::{SocketWriter, writes};

/// Others have something to do while one of them was served within this time.
const OTHERS_WITHIN: Duration = Duration::from_millis(50);

/// Alarms ring at multiples of this: connections whose times lie close together are looked through once.
const ALARM_GRAIN_MS: u64 = 16;

thread_local! {
    /// What connections of this thread's loop leave while they are polled.
    static HERE: RefCell<Here> = RefCell::default();
    /// The loop of this thread, while one of its connections is polled.
    static CORE: Cell<Option<Box<Core>>> = const { Cell::new(None) };
}

#[derive(Default)]
struct Here {
    /// The loop that runs on this thread; 0: none.
    home: u64,
    /// Its connections that are to be polled again.
    woken: Vec<u64>,
    /// Its connections with work that can wait.
    later: Vec<u64>,
    /// Until when such work may be done now.
    later_until: Option<Instant>,
    /// Whoever is polled for it gets something done.
    later_first: bool,
}

/// A connection that can be polled.
pub(super) struct Running {
    pub(super) task: Arc<Task>,
    waker: Waker,
    future: Serving,
    socket: SocketWriter,
}

/// A place for a connection.
#[derive(Default)]
struct Slot {
    /// Which connection at this place: word for an earlier one is not for this.
    generation: u32,
    task: Option<Arc<Task>>,
    /// `None` while it is polled, or has taken its thread away.
    running: Option<Running>,
    /// How often it was polled since the last count began.
    polls: u32,
    /// Who last got a message from it.
    talks_to: Option<SessionKey>,
}

/// What the thread of a loop owns.
pub(super) struct Core {
    home: Arc<Home>,
    /// The same as the home's, for as long as the loop runs.
    descriptors: Arc<Descriptors>,
    /// Where its threads come from.
    crew: Arc<Crew>,
    /// Dropped when the loop has ended.
    _running: mpsc::Sender<()>,
    /// All loops of the broker, this one among them.
    all: Arc<[Arc<Home>]>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// For each place, when its connection's alarm rings.
    alarms: Vec<u64>,
    /// No alarm rings before this.
    next_alarm: u64,
    /// Connections.
    open: usize,
    entrances: Entrances,
    /// Connections that are to be polled.
    ready: VecDeque<u64>,
    /// Those that are polled after them: newcomers, and those who send what can wait.
    behind: VecDeque<u64>,
    /// Connections that are to be polled when no other wants to be.
    later: VecDeque<u64>,
    /// Such work rests until then.
    later_at: Instant,
    /// What part of the time it gets.
    share: Share,
    /// When a connection was last polled that stands behind nobody.
    served_at: Instant,
    /// What can wait is put off when such a connection, or those it has something for, were written to.
    pauses: Pauses,
    /// The thread's writes by then, or those that do not count.
    writes: u64,
    /// When the sockets were last looked at.
    now: Instant,
    mail: Inbox,
    load: Load,
    ends: Ends,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Never,
    WhenIdle,
    Now,
}

/// The time as alarms have it, rounded up.
pub(super) fn millis(at: Instant) -> u64 {
    /// Long enough ago that no time lies before it.
    static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = at.saturating_duration_since(*BASE);
    let part = u64::from(since.subsec_micros().div_ceil(1000));
    let millis = since.as_secs().saturating_mul(1000).saturating_add(part);
    millis.min(NEVER - 1)
}

/// Has a connection of this thread's own loop polled again; false when `home` is another.
pub(super) fn wake_here(home: &Home, token: u64) -> bool {
    HERE.try_with(|here| {
        let mut here = here.borrow_mut();
        let is_here = here.home == home.id;
        if is_here {
            here.woken.push(token);
        }
        is_here
    })
    .unwrap_or(false)
}

/// Whether work that can wait may be done now. If not, `task`, which must be polled now, is polled again when no other
/// connection of its loop has anything to do; a part of the loop's time is always left for that.
pub(super) fn has_time_for(task: &Task) -> bool {
    HERE.with_borrow_mut(|here| {
        // On a thread that is taken away from its loop nobody waits.
        let may_now = here.home == 0
            || std::mem::take(&mut here.later_first)
            || here.later_until.is_some_and(|until| Instant::now() < until);
        if may_now {
            task.clear(WAITS);
            task.set(PATIENT);
            return true;
        }
        if task.set(LATER | PATIENT | WAITS) & LATER == 0 {
            here.later.push(task.place().token);
        }
        false
    })
}

/// The work that could wait is done after all, or there is none any more: what comes for `task` is heard at once.
pub(super) fn waits_no_more(task: &Task) {
    task.clear(WAITS);
}

/// Lets another thread go on with this thread's loop, because what is polled now is going to take its time. False when
/// no loop polls on this thread, or no other thread can be had: then the loop waits.
pub(crate) fn give_away() -> bool {
    let Some(mut core) = CORE.take() else {
        return false;
    };
    HERE.with_borrow_mut(|here| {
        here.home = 0;
        core.take_words(here);
    });
    let crew = Arc::clone(&core.crew);
    match crew.go_on(core) {
        Ok(()) => {
            HERE.with_borrow_mut(|here| (here.later_until, here.later_first) = (None, false));
            true
        }
        Err(NoThread { core, error }) => {
            tracing::debug!(%error, "a loop waits for one of its connections");
            HERE.with_borrow_mut(|here| here.home = core.home.id);
            CORE.set(Some(core));
            false
        }
    }
}

/// A token's place.
fn place_of(token: u64) -> usize {
    usize::try_from(token & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}

impl Core {
    /// A loop without connections.
    pub(super) fn new(
        home: Arc<Home>,
        all: Arc<[Arc<Home>]>,
        crew: Arc<Crew>,
        running: mpsc::Sender<()>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            descriptors: home.open()?,
            home,
            crew,
            _running: running,
            all,
            slots: Vec::new(),
            free: Vec::new(),
            alarms: Vec::new(),
            next_alarm: NEVER,
            open: 0,
            entrances: Entrances::default(),
            ready: VecDeque::new(),
            behind: VecDeque::new(),
            later: VecDeque::new(),
            later_at: now,
            share: Share::default(),
            served_at: now,
            pauses: Pauses::new(now),
            writes: writes(),
            now,
            mail: Inbox::default(),
            load: Load::new(now),
            ends: Ends::Never,
        })
    }

    /// The place of `token`, if that is still its connection's.
    fn slot(&mut self, token: u64) -> Option<&mut Slot> {
        self.slots
            .get_mut(place_of(token))
            .filter(|slot| u64::from(slot.generation) == token >> 32)
    }

    /// Whether there are those before whom others stand back.
    fn serves(&self) -> bool {
        self.now.saturating_duration_since(self.served_at) <= OTHERS_WITHIN
    }

    /// Whoever was written to since this was last asked has just been served.
    fn note_writes(&mut self, now: Instant) {
        let writes = writes();
        if writes != self.writes {
            self.writes = writes;
            self.pauses.begin(self.now, now);
        }
    }

    /// Whether anybody stands behind the others.
    fn has_some_behind(&self) -> bool {
        !self.behind.is_empty() || self.entrances.is_called()
    }

    /// How long work that can wait is to rest because it has had its part of the time.
    fn share_rest(&self, now: Instant) -> Duration {
        match self.serves() {
            true => self.later_at.saturating_duration_since(now),
            false => Duration::ZERO,
        }
    }

    /// Whether anything that can wait would be done now, but for pauses.
    fn can_go_on(&self, now: Instant) -> bool {
        let later = || !self.later.is_empty() && self.share_rest(now) == Duration::ZERO;
        self.has_some_behind() || later()
    }

    /// How long those who stand behind are to wait from `now`.
    fn behind_rest(&self, now: Instant) -> Duration {
        self.pauses.left(now)
    }

    /// How long work that can wait is to rest from `now`.
    fn later_rest(&self, now: Instant) -> Duration {
        self.share_rest(now).max(self.pauses.left(now))
    }

    fn take_running(&mut self, token: u64) -> Option<Running> {
        let slot = self.slot(token)?;
        slot.polls = slot.polls.saturating_add(1);
        slot.running.take()
    }

    fn put_back(&mut self, token: u64, running: Running) {
        let alarm = running.task.alarm.load(Ordering::Relaxed);
        self.set_alarm(place_of(token), alarm);
        if let Some(slot) = self.slot(token) {
            slot.running = Some(running);
        }
    }

    fn set_alarm(&mut self, place: usize, at: u64) {
        let at = at.checked_next_multiple_of(ALARM_GRAIN_MS).unwrap_or(NEVER);
        self.alarms[place] = at;
        self.next_alarm = self.next_alarm.min(at);
    }

    /// A place for one more connection.
    fn occupy(&mut self) -> u64 {
        let place = match self.free.pop() {
            Some(place) => place as usize,
            None => {
                self.slots.push(Slot::default());
                self.alarms.push(NEVER);
                self.slots.len() - 1
            }
        };
        self.open += 1;
        self.token(place)
    }

    /// What the connection at a place is known by.
    fn token(&self, place: usize) -> u64 {
        u64::from(self.slots[place].generation) << 32 | place as u64
    }

    fn vacate(&mut self, token: u64) {
        let place = place_of(token);
        let Some(slot) = self.slot(token) else { return };
        // The highest bit is that of listening sockets.
        let generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        *slot = Slot {
            generation,
            ..Slot::default()
        };
        self.alarms[place] = NEVER;
        self.free.extend(u32::try_from(place));
        self.open -= 1;
    }

    /// Takes over what connections have left on the thread.
    fn take_words(&mut self, here: &mut Here) {
        if !here.woken.is_empty() {
            self.ready.extend(here.woken.drain(..));
        }
        if !here.later.is_empty() {
            self.later.extend(here.later.drain(..));
        }
    }

    fn read_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        if self.home.take_mail(&mut mail) {
            self.ready.extend(mail.woken.drain(..));
            for order in mail.orders.drain(..) {
                self.obey(order);
            }
        }
        self.mail = mail;
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Listen {
                id,
                socket,
                doorkeeper,
                closed,
            } => {
                let listening = Listening::new(id, socket, doorkeeper, closed);
                self.entrances.open(listening, &self.descriptors.epoll);
            }
            Order::Unlisten(id) => self.entrances.close(id),
            Order::Serve(socket, peer, doorkeeper) => self.serve(socket, peer, &*doorkeeper),
            Order::Adopt(running) => self.adopt(running),
            Order::Return(running) => {
                let token = running.task.place().token;
                // What happened meanwhile found nobody to poll.
                running.task.set(QUEUED);
                self.put_back(token, running);
                self.ready.push_back(token);
            }
            Order::Ended(token) => self.vacate(token),
            Order::EndWhenIdle if self.ends == Ends::Never => self.ends = Ends::WhenIdle,
            Order::EndWhenIdle => {}
            Order::End => self.ends = Ends::Now,
        }
    }

    /// Takes in some of those who wait at listening sockets.
    fn let_in(&mut self, until: Instant) {
        let at_once = ACCEPTS.saturating_sub(self.behind.len());
        // Most of a crowd stands outside; somebody always comes in.
        let places = if at_once == 0 { 1 } else { usize::MAX };
        let at_once = at_once.max(1);
        for place in self.entrances.called().into_iter().take(places) {
            for accepted in 0..at_once {
                if accepted > 0 && Instant::now() >= until {
                    break;
                }
                match self.entrances.accept(place, &self.descriptors.epoll) {
                    Accepted::Guest(guest) => self.welcome(guest),
                    Accepted::Lost => {}
                    Accepted::Nobody => break,
                }
            }
        }
    }

    fn welcome(&mut self, (socket, peer, doorkeeper): Guest) {
        let guest = Order::Serve(socket, peer, doorkeeper);
        let guest = match self.load.place_for_guest(&self.home, &self.all) {
            Some(other) => other.order(guest),
            None => Err(guest),
        };
        // A loop that has ended gives it back.
        if let Err(Order::Serve(socket, peer, doorkeeper)) = guest {
            self.serve(socket, peer, &*doorkeeper);
        }
    }

    fn serve(&mut self, socket: OwnedFd, peer: SocketAddr, doorkeeper: &dyn Doorkeeper) {
        let token = self.occupy();
        let home = Arc::clone(&self.home);
        let task = Arc::new(Task::new(Place { home, token }));
        let socket = SocketWriter::new(socket);
        let stream = LoopSocket::new(socket.clone(), Arc::clone(&task));
        match doorkeeper.admit(stream, peer) {
            Some(future) => self.begin(Running {
                waker: Waker::from(Arc::clone(&task)),
                task,
                future,
                socket,
            }),
            None => self.vacate(token),
        }
    }

    /// Goes on with another loop's connection.
    fn adopt(&mut self, running: Running) {
        self.home.adopted.fetch_add(1, Ordering::Relaxed);
        let token = self.occupy();
        let home = Arc::clone(&self.home);
        running.task.move_to(Place { home, token });
        // It is polled at once and asks again.
        running.task.clear(LATER);
        self.begin(running);
    }

    /// A connection lives here from now on. It is polled at once: whoever woke it meanwhile may have left word elsewhere.
    fn begin(&mut self, running: Running) {
        let token = running.task.place().token;
        let armed = running.task.set(QUEUED) & ARMED != 0;
        let data = epoll::EventData::new_u64(token);
        if let Err(error) = epoll::add(
            &self.descriptors.epoll,
            running.socket.fd(),
            data,
            interest(armed),
        ) {
            tracing::error!(%error, "a connection cannot be served");
            self.vacate(token);
            return forget(running);
        }
        if let Some(slot) = self.slot(token) {
            slot.task = Some(Arc::clone(&running.task));
        }
        let is_newcomer = running.task.has(NEWCOMER);
        self.put_back(token, running);
        if is_newcomer {
            self.behind.push_back(token);
        } else {
            self.ready.push_back(token);
        }
    }

    /// How long the first of those that can wait is to, if there are any.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let behind = self.has_some_behind().then(|| self.behind_rest(now));
        let later = (!self.later.is_empty()).then(|| self.later_rest(now));
        behind.into_iter().chain(later).min()
    }

    /// Takes what connections here have woken, then waits for the sockets, if there is nothing else to do.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) {
        HERE.with_borrow_mut(|here| self.take_words(here));
        let begun = Instant::now();
        self.note_writes(begun);
        let rest = self.rest(begun);
        let idle = self.ready.is_empty() && rest != Some(Duration::ZERO);
        let sleeps = idle && self.home.fall_asleep();
        let timeout = if sleeps {
            let next = self.next_alarm.min(self.entrances.rested_at());
            let millis = next.saturating_sub(millis(begun));
            let alarm = (next != NEVER).then(|| Duration::from_millis(millis));
            alarm.into_iter().chain(rest).min()
        } else {
            Some(Duration::ZERO)
        };
        let timeout = timeout.map(timespec);
        events.clear();
        let waited = epoll::wait(
            &self.descriptors.epoll,
            spare_capacity(events),
            timeout.as_ref(),
        );
        if let Err(error) = waited
            && error != rustix::io::Errno::INTR
        {
            tracing::error!(%error, "cannot wait for sockets");
        }
        let now = if sleeps {
            self.home.wake_up();
            let now = Instant::now();
            self.load.rested(now - begun);
            now
        } else {
            begun
        };
        self.now = now;
        self.take_events(events);
        let now_ms = millis(now);
        if self.next_alarm <= now_ms {
            self.ring_alarms(now_ms);
        }
        if self.entrances.rested_at() <= now_ms {
            self.entrances.end_rest(&self.descriptors.epoll);
        }
        match self.load.look(now, &self.home, &self.all) {
            Advice::GoOn => {}
            Advice::Count => self.slots.iter_mut().for_each(|slot| slot.polls = 0),
            Advice::ShareWith(other) if self.ends == Ends::Never => self.share_with(&other),
            Advice::ShareWith(_) => {}
        }
    }

    fn take_events(&mut self, events: &[epoll::Event]) {
        for event in events {
            // Copied out: the kernel's layout leaves them unaligned.
            let epoll::Event { flags, data, .. } = *event;
            let token = data.u64();
            if token == BELL {
                continue;
            }
            if let Some(place) = Entrances::place_of(token) {
                self.entrances.call(place);
                continue;
            }
            let mut happened = 0;
            if flags.contains(epoll::EventFlags::IN) {
                happened |= READABLE;
            }
            if flags.contains(epoll::EventFlags::OUT) {
                happened |= WRITABLE;
            }
            let ends = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            if flags.intersects(ends) {
                happened |= READABLE | WRITABLE | CLOSED;
            }
            self.tell(token, happened);
        }
    }

    /// Something has happened to a connection. One that is going to be polled anyway, with the work that it waits with, is
    /// not polled only because more of it has come.
    fn tell(&mut self, token: u64, happened: u16) {
        let Some(task) = self.slot(token).and_then(|slot| slot.task.as_ref()) else {
            return;
        };
        let before = task.set(happened);
        if !is_only_more(before, happened) && task.set(QUEUED) & QUEUED == 0 {
            if before & (NEWCOMER | PATIENT) == 0 {
                self.ready.push_back(token);
            } else {
                self.behind.push_back(token);
            }
        }
    }

    fn ring_alarms(&mut self, now_ms: u64) {
        let mut next = NEVER;
        for place in 0..self.alarms.len() {
            let at = self.alarms[place];
            if at > now_ms {
                next = next.min(at);
                continue;
            }
            self.alarms[place] = NEVER;
            if let Some(task) = &self.slots[place].task {
                task.alarm.store(NEVER, Ordering::Relaxed);
                self.tell(self.token(place), RANG);
            }
        }
        self.next_alarm = next;
    }

    /// Gives connections that are half of what keeps this loop busy to another.
    fn share_with(&mut self, other: &Home) {
        let busy = self.slots.iter().enumerate();
        let busy = busy.filter(|(_, slot)| slot.polls > 0);
        let busy = busy.filter_map(|(place, slot)| {
            Some(Busy {
                place,
                polls: slot.polls,
                session: slot.task.as_ref()?.session.load(Ordering::Relaxed),
                talks_to: slot.talks_to,
            })
        });
        for place in sharing::given_away(busy.collect()) {
            let Some(running) = self.slots[place].running.take() else {
                continue;
            };
            let token = self.token(place);
            // A socket that cannot be taken out is closed by now: whoever has it will see.
            let _ = epoll::delete(&self.descriptors.epoll, running.socket.fd());
            self.vacate(token);
            if let Err(Order::Adopt(running)) = other.order(Order::Adopt(running)) {
                self.adopt(running);
            }
        }
    }

    /// Ends with all connections.
    fn end(mut self) {
        self.crew.ended();
        // Whoever they wake is woken in vain.
        HERE.with_borrow_mut(|here| *here = Here::default());
        for slot in &mut self.slots {
            if let Some(running) = slot.running.take() {
                forget(running);
            }
        }
        drop(std::mem::take(&mut self.entrances));
        for order in self.home.close() {
            if let Order::Adopt(running) | Order::Return(running) = order {
                forget(running);
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
