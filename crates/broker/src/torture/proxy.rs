//! A TCP proxy on loopback, whose connections can be cut, slowed down and held.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What happens to its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bytes pass.
    Open,
    /// A few at a time.
    Slow,
    /// All are closed, with what was on its way, and new ones too.
    Cut,
}

/// A proxy; it ends with this value.
pub(crate) struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

/// At a time, in `Slow`.
const FEW: usize = 700;
const PAUSE: Duration = Duration::from_millis(25);

impl Proxy {
    /// Listens on a free port of loopback and connects to `target` for each connection.
    pub(crate) async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let mode = watch::Sender::new(Mode::Open);
        let task = tokio::spawn(accept(listener, target, mode.subscribe()));
        Ok(Self { port, mode, task })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.mode.send_replace(Mode::Cut);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mode: watch::Receiver<Mode>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        if *mode.borrow() != Mode::Cut {
            tokio::spawn(serve(client, target, mode.clone()));
        }
    }
}

/// Carries one connection until either side closes it or the line is cut.
async fn serve(client: TcpStream, target: SocketAddr, mode: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let both = async {
        tokio::join!(
            pump(from_client, to_server, mode.clone()),
            pump(from_server, to_client, mode.clone()),
        );
    };
    let mut cut = mode.clone();
    tokio::select! {
        () = both => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let slow = *mode.borrow() == Mode::Slow;
        let most = if slow { FEW } else { buffer.len() };
        let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else {
            let _ = to.shutdown().await;
            return;
        };
        if *mode.borrow() == Mode::Slow {
            sleep(PAUSE).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn bytes_pass_and_a_cut_closes_what_is_there_and_what_comes() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()))
            .await
            .unwrap();
        for mode in [Mode::Open, Mode::Slow] {
            proxy.set(mode);
            client.write_all(&[7; 2000]).await.unwrap();
            let mut back = [0; 2000];
            client.read_exact(&mut back).await.unwrap();
            assert_eq!(back, [7; 2000]);
        }
        proxy.set(Mode::Cut);
        let mut rest = Vec::new();
        let closed = client.read_to_end(&mut rest).await;
        assert!(closed.is_err() || rest.is_empty());
        let mut late = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()))
            .await
            .unwrap();
        assert!(!matches!(late.read(&mut [0; 1]).await, Ok(1..)));
    }
}
