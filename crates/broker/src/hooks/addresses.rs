//! What each network address has done lately, and what becomes of those that do too much.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ahash::HashMap;
use parking_lot::Mutex;

use super::{Hook, Panics};

/// A window is counted in so many parts: what is older than the window is forgotten a part at a time.
const PARTS: usize = 12;

/// Addresses that have been silent are forgotten when more than this many are known.
const DEFAULT_MAX_ADDRESSES: usize = 100_000;

/// Listeners hear of bytes at most this often for each address.
const BYTES_EVERY: Duration = Duration::from_secs(1);

/// What one address did within one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressWindow {
    /// How far the window reaches back.
    pub span: Duration,
    /// Connections that were accepted.
    pub accepts: u64,
    /// Bytes that have come.
    pub received_bytes: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Connections that were refused or broke the protocol.
    pub errors: u64,
}

/// What is to become of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressAction {
    /// It goes on.
    Keep,
    /// Its connections end, and new ones are refused for this long.
    Ban(Duration),
}

/// Hears of what addresses do, and may ban them.
///
/// Called after each accept and each error, and for bytes at most once a second; on the connection's task, so it must
/// not wait.
///
/// ```
/// use std::net::IpAddr;
/// use std::time::Duration;
/// use weir::hooks::{AddressAction, AddressSettings, AddressWindow};
///
/// let settings = AddressSettings::new(|_: IpAddr, windows: &[AddressWindow]| {
///     if windows[0].errors > 20 {
///         AddressAction::Ban(Duration::from_secs(600))
///     } else {
///         AddressAction::Keep
///     }
/// })
/// .windows([Duration::from_secs(60)]);
/// let builder = weir::Broker::builder().addresses(settings);
/// # drop(builder);
/// ```
pub trait AddressListener: Send + Sync + 'static {
    /// What `address` did lately, one entry for each window of [`AddressSettings::windows`].
    fn seen(&self, address: IpAddr, windows: &[AddressWindow]) -> AddressAction;
}

impl<F> AddressListener for F
where
    F: Fn(IpAddr, &[AddressWindow]) -> AddressAction + Send + Sync + 'static,
{
    fn seen(&self, address: IpAddr, windows: &[AddressWindow]) -> AddressAction {
        self(address, windows)
    }
}

/// Which windows are counted, and who hears of them.
#[derive(Clone)]
#[must_use = "settings do nothing until the builder gets them"]
pub struct AddressSettings {
    listener: Arc<dyn AddressListener>,
    windows: Vec<Duration>,
    max_addresses: usize,
}

impl AddressSettings {
    /// One window of a minute.
    pub fn new(listener: impl AddressListener) -> Self {
        Self {
            listener: Arc::new(listener),
            windows: vec![Duration::from_secs(60)],
            max_addresses: DEFAULT_MAX_ADDRESSES,
        }
    }

    /// How far back it is counted: each span is a window of its own.
    pub fn windows(mut self, spans: impl IntoIterator<Item = Duration>) -> Self {
        self.windows = spans.into_iter().collect();
        self
    }

    /// How many addresses are remembered. Of more, those are forgotten that are neither connected nor banned.
    pub fn max_addresses(mut self, max: usize) -> Self {
        self.max_addresses = max;
        self
    }
}

/// Every address that is remembered.
pub(crate) struct Addresses {
    settings: AddressSettings,
    panics: Arc<Panics>,
    started: Instant,
    known: Mutex<HashMap<IpAddr, Arc<Entry>>>,
    /// Ends the connections of an address.
    close: Box<dyn Fn(IpAddr) + Send + Sync>,
    this: Weak<Self>,
}

/// One address.
pub(crate) struct Entry {
    address: IpAddr,
    all: Weak<Addresses>,
    seen: Mutex<Seen>,
}

struct Seen {
    windows: Vec<Sliding>,
    banned_until: Option<Duration>,
    told_at: Duration,
}

impl Addresses {
    pub(crate) fn new(
        settings: AddressSettings,
        panics: Arc<Panics>,
        close: Box<dyn Fn(IpAddr) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            settings,
            panics,
            started: Instant::now(),
            known: Mutex::default(),
            close,
            this: this.clone(),
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A connection was accepted; `None` when its address is banned.
    pub(crate) fn accepted(&self, address: IpAddr) -> Option<Arc<Entry>> {
        let now = self.now();
        let entry = self.entry(address, now);
        {
            let mut seen = entry.seen.lock();
            if seen.banned_until.is_some_and(|until| now < until) {
                return None;
            }
            seen.banned_until = None;
        }
        entry.note(|tally| tally.accepts += 1, Tell::Always);
        let banned = entry.seen.lock().banned_until.is_some();
        (!banned).then_some(entry)
    }

    /// What an address did lately.
    pub(crate) fn windows(&self, address: IpAddr) -> Vec<AddressWindow> {
        let entry = self.known.lock().get(&address).cloned();
        entry.map_or_else(Vec::new, |entry| entry.seen.lock().windows(self.now()))
    }

    /// Refuses an address for a while and ends its connections.
    pub(crate) fn ban(&self, address: IpAddr, duration: Duration) {
        let now = self.now();
        self.entry(address, now).seen.lock().banned_until = Some(now.saturating_add(duration));
        (self.close)(address);
    }

    /// Lets an address in again and forgets what it did, which would have it banned again at once.
    pub(crate) fn unban(&self, address: IpAddr) {
        if let Some(entry) = self.known.lock().get(&address) {
            let mut seen = entry.seen.lock();
            seen.banned_until = None;
            for window in &mut seen.windows {
                *window = Sliding::new(window.span);
            }
        }
    }

    fn entry(&self, address: IpAddr, now: Duration) -> Arc<Entry> {
        let mut known = self.known.lock();
        if let Some(entry) = known.get(&address) {
            return Arc::clone(entry);
        }
        if known.len() >= self.settings.max_addresses {
            known.retain(|_, entry| {
                let banned = entry.seen.lock().banned_until;
                Arc::strong_count(entry) > 1 || banned.is_some_and(|until| now < until)
            });
        }
        let spans = self.settings.windows.iter();
        let entry = Arc::new(Entry {
            address,
            all: self.this.clone(),
            seen: Mutex::new(Seen {
                windows: spans.map(|span| Sliding::new(*span)).collect(),
                banned_until: None,
                told_at: Duration::ZERO,
            }),
        });
        // Should all of them be connected or banned, this one is not remembered beyond its connection.
        if known.len() < self.settings.max_addresses {
            known.insert(address, Arc::clone(&entry));
        }
        entry
    }
}

/// When the listener hears of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell {
    Always,
    NowAndThen,
}

impl Entry {
    pub(crate) fn received(&self, bytes: u64) {
        self.note(|tally| tally.received_bytes += bytes, Tell::NowAndThen);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.note(|tally| tally.sent_bytes += bytes, Tell::NowAndThen);
    }

    pub(crate) fn failed(&self) {
        self.note(|tally| tally.errors += 1, Tell::Always);
    }

    fn note(&self, add: impl Fn(&mut Tally), tell: Tell) {
        // Gone with the broker.
        let Some(all) = self.all.upgrade() else {
            return;
        };
        let now = all.now();
        let windows = {
            let mut seen = self.seen.lock();
            for window in &mut seen.windows {
                add(window.tally(now));
            }
            if tell == Tell::NowAndThen && now < seen.told_at + BYTES_EVERY {
                return;
            }
            seen.told_at = now;
            seen.windows(now)
        };
        let listener = &all.settings.listener;
        let ask = || listener.seen(self.address, &windows);
        match all.panics.guard(Hook::Address, ask) {
            None | Some(AddressAction::Keep) => {}
            Some(AddressAction::Ban(duration)) => {
                tracing::warn!(address = %self.address, for_s = duration.as_secs(), "an address is banned");
                // This entry too, should it be one that is not remembered.
                self.seen.lock().banned_until = Some(now.saturating_add(duration));
                all.ban(self.address, duration);
            }
        }
    }
}

impl Seen {
    fn windows(&mut self, now: Duration) -> Vec<AddressWindow> {
        self.windows
            .iter_mut()
            .map(|window| window.sum(now))
            .collect()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    accepts: u64,
    received_bytes: u64,
    sent_bytes: u64,
    errors: u64,
}

/// A window that moves a part at a time.
#[derive(Debug)]
struct Sliding {
    span: Duration,
    parts: [Tally; PARTS],
    /// The number of the present part since the start.
    present: u128,
}

impl Sliding {
    fn new(span: Duration) -> Self {
        Self {
            span,
            parts: [Tally::default(); PARTS],
            present: 0,
        }
    }

    /// The present part, after those that have become too old were forgotten.
    fn tally(&mut self, now: Duration) -> &mut Tally {
        let part = (self.span.as_nanos() / PARTS as u128).max(1);
        let number = now.as_nanos() / part;
        let passed = number.saturating_sub(self.present).min(PARTS as u128);
        for back in 0..passed {
            self.parts[Self::place(number - back)] = Tally::default();
        }
        self.present = self.present.max(number);
        &mut self.parts[Self::place(self.present)]
    }

    fn place(number: u128) -> usize {
        (number % PARTS as u128) as usize
    }

    fn sum(&mut self, now: Duration) -> AddressWindow {
        self.tally(now);
        let start = AddressWindow {
            span: self.span,
            ..AddressWindow::default()
        };
        self.parts.iter().fold(start, |sum, part| AddressWindow {
            accepts: sum.accepts + part.accepts,
            received_bytes: sum.received_bytes + part.received_bytes,
            sent_bytes: sum.sent_bytes + part.sent_bytes,
            errors: sum.errors + part.errors,
            ..sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_what_is_older_than_its_span() {
        let mut window = Sliding::new(Duration::from_secs(12));
        let at = Duration::from_secs;
        window.tally(at(0)).errors += 1;
        window.tally(at(5)).errors += 2;
        assert_eq!(window.sum(at(11)).errors, 3);
        assert_eq!(window.sum(at(12)).errors, 2, "what happened at 0 is gone");
        assert_eq!(window.sum(at(16)).errors, 2);
        assert_eq!(window.sum(at(17)).errors, 0);
        window.tally(at(1_000_000)).errors += 1;
        assert_eq!(window.sum(at(1_000_000)).errors, 1);
    }

    #[test]
    fn a_ban_ends_after_its_time_and_at_a_word() {
        let closed: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
        let close = {
            let closed = Arc::clone(&closed);
            Box::new(move |address| closed.lock().push(address))
        };
        let third = |_: IpAddr, windows: &[AddressWindow]| match windows[0].accepts {
            3 => AddressAction::Ban(Duration::from_secs(3600)),
            _ => AddressAction::Keep,
        };
        let addresses = Addresses::new(AddressSettings::new(third), Arc::default(), close);
        let [one, two]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        for _ in 0..2 {
            assert!(addresses.accepted(one).is_some());
        }
        assert!(addresses.accepted(one).is_none(), "the third is too much");
        assert!(addresses.accepted(one).is_none(), "and so is every other");
        assert!(addresses.accepted(two).is_some());
        assert_eq!(*closed.lock(), [one]);
        assert_eq!(addresses.windows(one)[0].accepts, 3);
        addresses.unban(one);
        assert!(addresses.accepted(one).is_some());
        addresses.ban(one, Duration::ZERO);
        assert!(addresses.accepted(one).is_some());
    }

    #[test]
    fn the_memory_for_addresses_is_bounded() {
        let keep = |_: IpAddr, _: &[AddressWindow]| AddressAction::Keep;
        let settings = AddressSettings::new(keep).max_addresses(2);
        let addresses = Addresses::new(settings, Arc::default(), Box::new(|_| {}));
        let connected = addresses.accepted([10, 0, 0, 1].into());
        for last in 2..100 {
            drop(addresses.accepted([10, 0, 0, last].into()));
            assert!(addresses.known.lock().len() <= 2);
        }
        assert_eq!(addresses.windows([10, 0, 0, 1].into())[0].accepts, 1);
        drop(connected);
    }
}
