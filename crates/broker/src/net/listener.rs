//! The accept loop: one task for each connection, within the listener's limit.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::event_loop::{Doorkeeper, LoopSocket, Serving};
use super::settings::ListenerSettings;
use super::socket::{AcceptOptions, Accepted, Socket, TcpListening};
use super::stream::AnyStream;
use super::{connection, handshake};
use crate::driver::Shared;
use crate::driver::admission::Door;
use crate::stats::ListenerStats;

/// How long to wait when the process has no more file descriptors: connections that end give some back.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Lets clients in at one place.
pub(crate) struct Listener {
    shared: Arc<Shared>,
    settings: Arc<ListenerSettings>,
    stats: Arc<ListenerStats>,
}

/// A connection that counts towards its listener's limit.
struct Place(Arc<ListenerStats>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.sub(1);
    }
}

impl Listener {
    /// A listener that is counted from now on.
    pub(crate) fn new(shared: Arc<Shared>, settings: ListenerSettings) -> Self {
        let stats = shared.stats.listener(&settings.name, settings.transport);
        Self {
            shared,
            settings: Arc::new(settings),
            stats,
        }
    }

    /// Accepts connections until `shutdown` resolves or the broker ends.
    pub(crate) async fn serve(self, socket: Socket, shutdown: impl Future<Output = ()>) {
        let mut ending = self.shared.ending.subscribe();
        tokio::pin!(shutdown);
        let socket = match socket {
            Socket::Tcp(socket) if self.settings.is_plain() => {
                let shutdown = async {
                    tokio::select! {
                        () = &mut shutdown => {}
                        _ = ending.wait_for(|ending| *ending) => {}
                    }
                };
                return self.serve_on_loops(socket, shutdown).await;
            }
            other => other,
        };
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = &mut shutdown => return,
                _ = ending.wait_for(|ending| *ending) => return,
            };
            match accepted {
                Ok(accepted) => self.take(accepted),
                Err(error) => self.pause_after(&error).await,
            }
        }
    }

    /// Plain TCP needs nothing of the runtime.
    async fn serve_on_loops(self, socket: TcpListening, shutdown: impl Future<Output = ()>) {
        let name = Arc::clone(&self.settings.name);
        let shared = Arc::clone(&self.shared);
        let served = async {
            let (socket, options) = socket.into_parts()?;
            let guests = Arc::new(Guests {
                listener: self,
                options,
            });
            shared.event_loops()?.listen(socket, guests, shutdown).await;
            io::Result::Ok(())
        };
        if let Err(error) = served.await {
            tracing::error!(listener = %name, %error, "cannot accept connections");
        }
    }

    fn take(&self, accepted: Accepted) {
        let Some(place) = self.place() else { return };
        match accepted {
            Accepted::Tcp(stream, peer, local) => {
                let door = self.door(Some(peer), local);
                self.shake_hands(Box::new(stream), door, place);
            }
            Accepted::Unix(stream) => {
                let door = self.door(None, None);
                self.shake_hands(Box::new(stream), door, place);
            }
        }
    }

    fn shake_hands(&self, stream: AnyStream, door: Box<Door>, place: Place) {
        let (shared, settings) = (Arc::clone(&self.shared), Arc::clone(&self.settings));
        tokio::spawn(async move {
            let stats = Arc::clone(&place.0);
            handshake::serve(shared, stream, door, settings, stats).await;
            drop(place);
        });
    }

    /// Serves a connection whose handshakes somebody else has done.
    pub(crate) fn adopt(&self, stream: AnyStream, peer: SocketAddr) {
        let Some(place) = self.place() else { return };
        let (shared, door) = (Arc::clone(&self.shared), self.door(Some(peer), None));
        tokio::spawn(async move {
            connection::serve(shared, stream, door).await;
            drop(place);
        });
    }

    /// What the listener decides for itself.
    pub(crate) fn settings(&self) -> &ListenerSettings {
        &self.settings
    }

    /// The counters.
    pub(crate) fn stats(&self) -> &ListenerStats {
        &self.stats
    }

    /// A place for one more; `None` when all are taken, which is counted.
    fn place(&self) -> Option<Place> {
        if self.stats.open.get() >= self.settings.max_connections as u64 {
            self.stats.over_limit.add(1);
            self.shared.stats.connections_over_limit.add(1);
            return None;
        }
        self.stats.accepted.add(1);
        self.stats.open.add(1);
        Some(Place(Arc::clone(&self.stats)))
    }

    fn door(&self, peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Box<Door> {
        Box::new(Door {
            peer,
            local,
            listener: Arc::clone(&self.settings.name),
            transport: self.settings.transport,
            certificate: None,
            identity: None,
            deadline: Instant::now() + self.shared.settings.connect_timeout,
            allow_anonymous: self.settings.allow_anonymous,
            durability: self.settings.durability,
            bridge: None,
        })
    }

    /// An accept error never ends the loop: it is the fate of one connection, or of too many.
    async fn pause_after(&self, error: &io::Error) {
        if self.must_pause(error) {
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        }
    }

    fn must_pause(&self, error: &io::Error) -> bool {
        let of_one_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        );
        if !of_one_connection {
            self.stats.accept_errors.add(1);
            tracing::error!(listener = %self.settings.name, %error, "cannot accept connections");
        }
        !of_one_connection
    }
}

/// Those who come in over plain TCP.
struct Guests {
    listener: Listener,
    options: AcceptOptions,
}

impl Doorkeeper for Guests {
    fn admit(&self, socket: LoopSocket, peer: SocketAddr) -> Option<Serving> {
        let place = self.listener.place()?;
        let local = self.options.apply(socket.fd());
        let door = self.listener.door(Some(peer), local);
        let shared = Arc::clone(&self.listener.shared);
        Some(Box::pin(async move {
            connection::serve(shared, socket, door).await;
            drop(place);
        }))
    }

    fn failed(&self, error: &io::Error) -> bool {
        self.listener.must_pause(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_other_transports_need_is_not_held_for_plain_tcp() {
        let plain = size(connection::serve::<LoopSocket>);
        let other = size(connection::serve::<AnyStream>);
        assert!(plain <= other + 64, "{plain} and {other} bytes");
    }
}
