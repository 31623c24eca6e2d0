//! The sockets where connections come in at a loop.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::sync::oneshot;

use super::Doorkeeper;
use super::core::millis;
use super::task::NEVER;

/// Connections that are accepted at once: those that are open get their turn between.
pub(super) const ACCEPTS: usize = 8;

/// The tokens of listening sockets have this bit, and the place among them below it.
const LISTENER: u64 = 1 << 63;

/// How long a listening socket rests when there are no file descriptors: connections that end give some back.
const EXHAUSTED_PAUSE_MS: u64 = 100;

/// A socket where connections come in.
pub(super) struct Listening {
    id: u64,
    socket: OwnedFd,
    doorkeeper: Arc<dyn Doorkeeper>,
    _closed: oneshot::Sender<()>,
}

impl Listening {
    /// `closed` is dropped when it no longer listens.
    pub(super) fn new(
        id: u64,
        socket: OwnedFd,
        doorkeeper: Arc<dyn Doorkeeper>,
        closed: oneshot::Sender<()>,
    ) -> Self {
        Self {
            id,
            socket,
            doorkeeper,
            _closed: closed,
        }
    }
}

/// A connection that has just come in, and who takes it.
pub(super) type Guest = (OwnedFd, SocketAddr, Arc<dyn Doorkeeper>);

/// What came of looking who waits.
pub(super) enum Accepted {
    /// One of those who wait.
    Guest(Guest),
    /// One who is gone already.
    Lost,
    /// Nobody waits, or nobody can be taken in for a while.
    Nobody,
}

/// All listening sockets of one loop.
pub(super) struct Entrances {
    places: Vec<Option<Listening>>,
    /// Those where somebody waits.
    called: Vec<usize>,
    /// When sockets that rest are tried again.
    rested_at: u64,
}

impl Default for Entrances {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            called: Vec::new(),
            rested_at: NEVER,
        }
    }
}

impl Entrances {
    /// The place that an event is about, if that is a listening socket.
    pub(super) fn place_of(token: u64) -> Option<usize> {
        let is_listener = token & LISTENER != 0;
        let place = usize::try_from(token & u64::from(u32::MAX));
        is_listener.then_some(place.unwrap_or(usize::MAX))
    }

    /// When sockets that rest are tried again, as alarms have it.
    pub(super) fn rested_at(&self) -> u64 {
        self.rested_at
    }

    pub(super) fn open(&mut self, listening: Listening, epoll: &OwnedFd) {
        let place = self.places.iter().position(Option::is_none);
        let place = place.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        watch(place, &listening, epoll);
        self.places[place] = Some(listening);
    }

    pub(super) fn close(&mut self, id: u64) {
        for place in &mut self.places {
            if place.as_ref().is_some_and(|listening| listening.id == id) {
                *place = None;
            }
        }
    }

    /// Somebody waits at a place.
    pub(super) fn call(&mut self, place: usize) {
        if !self.called.contains(&place) {
            self.called.push(place);
        }
    }

    /// Whether somebody waits.
    pub(super) fn is_called(&self) -> bool {
        !self.called.is_empty()
    }

    /// Where somebody waits.
    pub(super) fn called(&self) -> Vec<usize> {
        self.called.clone()
    }

    /// Nobody waits at a place any more.
    fn end_call(&mut self, place: usize) {
        self.called.retain(|called| *called != place);
    }

    /// Takes in one of those who wait at a place.
    pub(super) fn accept(&mut self, place: usize, epoll: &OwnedFd) -> Accepted {
        let accepted = self.try_accept(place, epoll);
        if matches!(accepted, Accepted::Nobody) {
            self.end_call(place);
        }
        accepted
    }

    fn try_accept(&mut self, place: usize, epoll: &OwnedFd) -> Accepted {
        let Some(Some(listening)) = self.places.get(place) else {
            return Accepted::Nobody;
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match acceptfrom_with(&listening.socket, flags) {
            Ok((socket, peer)) => match peer.and_then(|peer| SocketAddr::try_from(peer).ok()) {
                Some(peer) => Accepted::Guest((socket, peer, Arc::clone(&listening.doorkeeper))),
                None => Accepted::Lost,
            },
            Err(Errno::AGAIN) => Accepted::Nobody,
            Err(error) if listening.doorkeeper.failed(&error.into()) => {
                // It would be reported as ready at once, and again.
                let _ = epoll::delete(epoll, &listening.socket);
                self.rested_at = millis(Instant::now()) + EXHAUSTED_PAUSE_MS;
                Accepted::Nobody
            }
            Err(_) => Accepted::Lost,
        }
    }

    /// Tries again those that had to rest.
    pub(super) fn end_rest(&mut self, epoll: &OwnedFd) {
        self.rested_at = NEVER;
        for place in 0..self.places.len() {
            if let Some(listening) = &self.places[place] {
                watch(place, listening, epoll);
                // Whether the system tells of those who waited meanwhile or not.
                self.call(place);
            }
        }
    }
}

fn watch(place: usize, listening: &Listening, epoll: &OwnedFd) {
    let token = epoll::EventData::new_u64(LISTENER | place as u64);
    // An edge for each who comes: those who wait are remembered, and the loop may sleep meanwhile.
    let interest = epoll::EventFlags::IN | epoll::EventFlags::ET;
    let added = epoll::add(epoll, &listening.socket, token, interest);
    // One that did not rest is there already.
    if let Err(error) = added
        && error != Errno::EXIST
    {
        tracing::error!(%error, "cannot listen");
    }
}
