//! The accept loop: one task for each connection, within the listener's limit.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection;
use crate::broker::ListenerSettings;
use crate::driver::Shared;
use crate::driver::admission::Door;

/// How long to wait when the process has no more file descriptors: connections that end give some back.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `shutdown` resolves or the broker ends.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    settings: ListenerSettings,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(
        settings.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let mut ending = shared.ending.subscribe();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => return,
            _ = ending.wait_for(|ending| *ending) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    shared.stats.connections_over_limit.add(1);
                    continue;
                };
                let local = stream.local_addr().ok();
                let door = Box::new(Door {
                    peer: Some(peer),
                    local,
                    listener: Arc::clone(&settings.name),
                    transport: settings.transport,
                    certificate: None,
                    identity: None,
                    deadline: Instant::now() + shared.settings.connect_timeout,
                    allow_anonymous: settings.allow_anonymous,
                });
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    prepare(&stream);
                    connection::serve(shared, stream, door).await;
                    drop(place);
                });
            }
            Err(error) => pause_after(&error, &settings).await,
        }
    }
}

/// Small packets must not wait for the peer's delayed acknowledgements: batching is done before the socket.
fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
}

/// An accept error never ends the loop: it is the fate of one connection, or of too many.
async fn pause_after(error: &io::Error, settings: &ListenerSettings) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !of_one_connection {
        tracing::error!(listener = %settings.name, %error, "cannot accept connections");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}
