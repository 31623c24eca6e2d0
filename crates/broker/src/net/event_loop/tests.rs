//! Loops with real sockets.

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::yield_now;

use super::listening::ACCEPTS;
use super::*;
use crate::net::wire::Wire as _;

/// Says everything back. `p`: it panics; `b`: it blocks its thread until the gate opens; `s`: the same, and its loop
/// with it; `t`: it waits for an alarm; `m`: it makes a timer of the runtime at the end of a long step; `w`: it waits
/// for its loop to have time; `l`: so it does fifty times.
struct Echo {
    gate: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
    /// How often a loop was made to wait at the gate.
    stuck: AtomicUsize,
    /// Who came in, and what was said.
    log: std::sync::Mutex<Vec<String>>,
    open: AtomicUsize,
    panicked: AtomicUsize,
    /// Steps of work that can wait.
    later: AtomicUsize,
}

struct Guests(Arc<Echo>);

struct Open(Arc<Echo>);

impl Drop for Open {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked.fetch_add(1, Ordering::SeqCst);
        }
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Echo {
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(what.to_owned());
    }
}

impl Doorkeeper for Guests {
    fn admit(&self, mut socket: LoopSocket, _: SocketAddr) -> Option<Serving> {
        let echo = Arc::clone(&self.0);
        echo.open.fetch_add(1, Ordering::SeqCst);
        echo.note("somebody comes in");
        Some(Box::pin(async move {
            let open = Open(echo);
            let mut buffer = vec![0; 1 << 20];
            loop {
                let n = socket.read(&mut buffer).await.unwrap_or(0);
                socket.admitted(1);
                if n < 20 {
                    open.0.note(&String::from_utf8_lossy(&buffer[..n]));
                }
                match &buffer[..n] {
                    [] => break,
                    b"s" => {
                        open.0.stuck.fetch_add(1, Ordering::SeqCst);
                        open.0.gate.lock().unwrap().recv().unwrap();
                    }
                    b"p" => panic!("asked to"),
                    b"b" => crate::driver::flush::around_blocking(|| {
                        open.0.gate.lock().unwrap().recv().unwrap();
                    }),
                    b"w" => has_time(&socket).await,
                    b"l" => {
                        for _ in 0..50 {
                            has_time(&socket).await;
                            open.0.later.fetch_add(1, Ordering::SeqCst);
                            yield_now().await;
                        }
                    }
                    b"m" => {
                        open.0.stuck.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(100));
                        tokio::time::sleep(Duration::ZERO).await;
                    }
                    b"t" => {
                        let soon = tokio::time::Instant::now() + Duration::from_millis(20);
                        let never = std::future::pending::<()>();
                        assert!(socket.alarm().until(soon, never).await.is_none());
                    }
                    _ => {}
                }
                if socket.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            }
        }))
    }

    fn failed(&self, _: &io::Error) -> bool {
        true
    }
}

async fn has_time(socket: &LoopSocket) {
    poll_fn(|_| {
        if socket.has_time() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

struct Server {
    address: SocketAddr,
    echo: Arc<Echo>,
    gate: std::sync::mpsc::Sender<()>,
    loops: Arc<EventLoops>,
    ending: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
}

fn server(threads: usize) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (gate, waits) = std::sync::mpsc::channel();
    let echo = Arc::new(Echo {
        gate: std::sync::Mutex::new(waits),
        stuck: AtomicUsize::new(0),
        log: std::sync::Mutex::default(),
        open: AtomicUsize::new(0),
        panicked: AtomicUsize::new(0),
        later: AtomicUsize::new(0),
    });
    let (ending, mut ends) = watch::channel(false);
    let context = runtime.enter();
    let ends = async move { drop(ends.wait_for(|ends| *ends).await) };
    let loops = Arc::new(EventLoops::start(NonZeroUsize::new(threads), ends).unwrap());
    drop(context);
    let mut server = Server {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        echo,
        gate,
        loops,
        ending,
        runtime,
    };
    server.address = server.listen();
    server
}

impl Server {
    /// Listens at one more address.
    fn listen(&self) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (loops, guests) = (
            Arc::clone(&self.loops),
            Arc::new(Guests(Arc::clone(&self.echo))),
        );
        let mut shutdown = self.ending.subscribe();
        self.runtime.spawn(async move {
            let shutdown = async { drop(shutdown.wait_for(|ends| *ends).await) };
            loops.listen(listener.into(), guests, shutdown).await;
        });
        address
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Clients that talk until they are told to stop: they keep a loop busy, whatever else the machine does.
    fn busy_clients(&self, stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<u64>> {
        let one = |number: u8| {
            let (stop, mut client) = (Arc::clone(stop), self.connect());
            std::thread::spawn(move || {
                let mut round = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let text = format!("{number} {round} {}", "x".repeat(20_000));
                    assert!(say(&mut client, text.as_bytes()) == text.as_bytes());
                    round += 1;
                }
                round
            })
        };
        (0..8).map(one).collect()
    }

    fn has_shared(&self) -> bool {
        let adopted = |home: &Arc<Home>| home.adopted.load(Ordering::Relaxed) > 0;
        self.loops.homes.iter().any(adopted)
    }
}

fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}

fn say(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

#[test]
fn many_connections_are_served_by_one_loop_and_end_with_their_clients() {
    let server = server(1);
    let mut clients: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    for round in 0..3_u8 {
        for (number, client) in clients.iter_mut().enumerate() {
            let text = format!("{round} {number}");
            assert_eq!(say(client, text.as_bytes()), text.as_bytes());
        }
    }
    assert_eq!(server.echo.open.load(Ordering::SeqCst), 100);
    drop(clients);
    while server.echo.open.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_does_not_read_gets_everything_when_it_does() {
    let server = server(1);
    let mut slow = TcpStream::connect(server.address).unwrap();
    let mut other = TcpStream::connect(server.address).unwrap();
    let sent: Vec<u8> = (0..8 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let mut writer = slow.try_clone().unwrap();
    let writing = std::thread::spawn({
        let sent = sent.clone();
        move || writer.write_all(&sent).unwrap()
    });
    // Served while the other one's socket is full.
    assert_eq!(say(&mut other, b"hello"), b"hello");
    let mut received = vec![0; sent.len()];
    slow.read_exact(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent);
}

#[test]
fn a_connection_that_panics_harms_no_other() {
    let server = server(1);
    let mut clients = [(); 3].map(|()| TcpStream::connect(server.address).unwrap());
    clients[1].write_all(b"p").unwrap();
    assert!(matches!(clients[1].read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(say(&mut clients[0], b"a"), b"a");
    assert_eq!(say(&mut clients[2], b"c"), b"c");
}

#[test]
fn a_connection_that_blocks_keeps_no_other_waiting_and_goes_on_afterwards() {
    let server = server(1);
    let mut clients = [(); 3].map(|()| TcpStream::connect(server.address).unwrap());
    for _ in 0..3 {
        clients[0].write_all(b"b").unwrap();
        clients[1].write_all(b"b").unwrap();
        // Two threads are taken away by now or soon, and the third client does not notice.
        for _ in 0..10 {
            assert_eq!(say(&mut clients[2], b"hello"), b"hello");
        }
        server.gate.send(()).unwrap();
        server.gate.send(()).unwrap();
        for client in &mut clients[..2] {
            let mut answer = [0];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"b");
            assert_eq!(say(client, b"after"), b"after");
        }
    }
}

#[test]
fn an_alarm_rings_without_anything_on_the_socket() {
    let server = server(1);
    let mut client = TcpStream::connect(server.address).unwrap();
    assert_eq!(say(&mut client, b"t"), b"t");
    assert_eq!(say(&mut client, b"t"), b"t");
}

#[test]
fn work_that_can_wait_is_done_in_steps_between_which_others_are_served() {
    let server = server(1);
    let mut clients = [(); 4].map(|()| TcpStream::connect(server.address).unwrap());
    for client in &mut clients[..3] {
        client.write_all(b"l").unwrap();
    }
    for _ in 0..100 {
        assert_eq!(say(&mut clients[3], b"hello"), b"hello");
    }
    for client in &mut clients[..3] {
        let mut answer = [0];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"l");
    }
    assert_eq!(server.echo.later.load(Ordering::SeqCst), 150);
}

#[test]
fn connections_move_to_a_loop_that_has_time_and_lose_nothing() {
    let server = server(2);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = server.busy_clients(&stop);
    until(|| server.has_shared());
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
}

#[test]
fn what_a_busy_loop_would_share_with_one_that_has_ended_stays_and_is_served() {
    let server = server(2);
    drop(server.loops.homes[1].order(Order::End));
    until(|| server.loops.homes[1].is_closed());
    let stop = Arc::new(AtomicBool::new(false));
    let clients = server.busy_clients(&stop);
    until(|| server.has_shared());
    // Every second newcomer would live on the other loop.
    for _ in 0..6 {
        assert_eq!(say(&mut server.connect(), b"hello"), b"hello");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
}

#[test]
fn a_broker_that_stops_while_its_loops_share_connections_loses_none() {
    let server = server(2);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = server.busy_clients(&stop);
    until(|| server.has_shared());
    server.ending.send_replace(true);
    // One whose clients are all on the other loop may have ended by now.
    let mut late = TcpStream::connect(server.address);
    if let Ok(late) = &mut late {
        let _ = late.write_all(b"hello");
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(clients.iter().all(|client| !client.is_finished()));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    drop(late);
    until(|| server.loops.homes.iter().all(|home| home.is_closed()));
    assert_eq!(server.echo.open.load(Ordering::SeqCst), 0);
}

#[test]
fn newcomers_at_every_listener_stand_behind_those_who_are_connected() {
    let server = server(1);
    let second = server.listen();
    let [mut blocker, mut connected] = [(); 2].map(|()| server.connect());
    say(&mut blocker, b"hello");
    say(&mut connected, b"hello");
    server.echo.log.lock().unwrap().clear();
    blocker.write_all(b"s").unwrap();
    until(|| server.echo.stuck.load(Ordering::SeqCst) == 1);
    // All this lies there when the loop looks again.
    let mut newcomers =
        [server.address, second, server.address].map(|at| TcpStream::connect(at).unwrap());
    connected.write_all(b"first").unwrap();
    server.gate.send(()).unwrap();
    for newcomer in &mut newcomers {
        say(newcomer, b"new");
    }
    let log = server.echo.log.lock().unwrap();
    assert_eq!(log[..3], ["s", "first", "somebody comes in"]);
}

#[test]
fn a_crowd_that_comes_at_once_is_let_in_while_others_are_served_all_the_time() {
    let server = server(1);
    let [mut blocker, mut connected] = [(); 2].map(|()| server.connect());
    say(&mut blocker, b"hello");
    say(&mut connected, b"hello");
    blocker.write_all(b"s").unwrap();
    until(|| server.echo.stuck.load(Ordering::SeqCst) == 1);
    // The listening socket tells once of all of them, who are more than are accepted at once.
    let mut crowd: Vec<_> = (0..8 * ACCEPTS).map(|_| server.connect()).collect();
    server.gate.send(()).unwrap();
    let all_are_in = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !all_are_in.load(Ordering::Relaxed) {
                say(&mut connected, b"hello");
            }
        });
        for newcomer in &mut crowd {
            assert_eq!(say(newcomer, b"new"), b"new");
        }
        all_are_in.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_newcomers_say_is_heard_after_what_the_connected_say() {
    let server = server(1);
    let [mut blocker, mut connected] = [(); 2].map(|()| server.connect());
    say(&mut blocker, b"hello");
    say(&mut connected, b"hello");
    // They are let in, and nobody has heard of them yet.
    let mut newcomers = [(); 4].map(|()| server.connect());
    until(|| server.echo.open.load(Ordering::SeqCst) == 6);
    say(&mut connected, b"hello");
    server.echo.log.lock().unwrap().clear();
    blocker.write_all(b"s").unwrap();
    until(|| server.echo.stuck.load(Ordering::SeqCst) == 1);
    for newcomer in &mut newcomers {
        newcomer.write_all(b"new").unwrap();
    }
    connected.write_all(b"old").unwrap();
    server.gate.send(()).unwrap();
    for newcomer in &mut newcomers {
        newcomer.read_exact(&mut [0; 3]).unwrap();
    }
    let log = server.echo.log.lock().unwrap();
    assert_eq!(log[..6], ["s", "old", "new", "new", "new", "new"]);
}

#[test]
fn those_who_sent_what_can_wait_are_heard_after_the_others() {
    let server = server(1);
    let [mut blocker, mut patient, mut other] = [(); 3].map(|()| server.connect());
    for client in [&mut blocker, &mut patient, &mut other] {
        say(client, b"hello");
    }
    say(&mut patient, b"w");
    for expected in [["s", "other", "patient"], ["s", "patient", "other"]] {
        server.echo.log.lock().unwrap().clear();
        let stuck = server.echo.stuck.load(Ordering::SeqCst);
        blocker.write_all(b"s").unwrap();
        until(|| server.echo.stuck.load(Ordering::SeqCst) > stuck);
        patient.write_all(b"patient").unwrap();
        other.write_all(b"other").unwrap();
        server.gate.send(()).unwrap();
        blocker.read_exact(&mut [0]).unwrap();
        patient.read_exact(&mut [0; 7]).unwrap();
        other.read_exact(&mut [0; 5]).unwrap();
        // What it sent this time was nothing that can wait: the next time it is one of them again.
        assert_eq!(server.echo.log.lock().unwrap()[..], expected);
    }
}

#[test]
fn a_connection_that_blocks_needs_no_thread_of_the_runtime() {
    let server = server(1);
    let (runs, is_running) = std::sync::mpsc::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    server.runtime.spawn_blocking(move || {
        runs.send(()).unwrap();
        let _ = ends.recv();
    });
    is_running.recv().unwrap();
    let mut clients = [(); 2].map(|()| server.connect());
    clients[0].write_all(b"b").unwrap();
    assert_eq!(say(&mut clients[1], b"hello"), b"hello");
    server.gate.send(()).unwrap();
    clients[0].read_exact(&mut [0]).unwrap();
    drop(end);
}

#[test]
fn connections_that_block_take_so_many_threads_and_no_more_and_all_of_them_end() {
    let server = server(1);
    let mut clients: Vec<_> = (0..crew::MAX_KEPT + 5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"b").unwrap();
    }
    // The last of them make their loop wait.
    until(|| server.loops.crew.threads() == 1 + crew::MAX_KEPT);
    for _ in &clients {
        server.gate.send(()).unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut [0]).unwrap();
        assert_eq!(say(client, b"after"), b"after");
    }
    assert_eq!(server.loops.crew.threads(), 1 + crew::MAX_KEPT);
    drop(clients);
    server.ending.send_replace(true);
    until(|| server.loops.crew.threads() == 0);
}

#[test]
fn loops_that_have_ended_keep_no_file_descriptors() {
    let server = server(3);
    let mut client = server.connect();
    say(&mut client, b"a");
    drop(client);
    let before = of_the_system();
    server.ending.send_replace(true);
    until(|| of_the_system() == before - 3 * 2);
}

/// File descriptors that are neither files nor sockets: those of epoll and of eventfd.
fn of_the_system() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("anon_inode:"))
        .count()
}

#[test]
fn the_loops_end_with_the_last_connection_after_the_broker_or_with_the_runtime() {
    let quiet = server(2);
    let mut client = TcpStream::connect(quiet.address).unwrap();
    say(&mut client, b"a");
    quiet.ending.send_replace(true);
    assert_eq!(
        say(&mut client, b"yes"),
        b"yes",
        "an open connection goes on"
    );
    drop(client);
    while !quiet.loops.homes.iter().all(|home| home.is_closed()) {
        std::thread::yield_now();
    }
    let cut_off = server(2);
    let mut client = TcpStream::connect(cut_off.address).unwrap();
    say(&mut client, b"a");
    cut_off.runtime.shutdown_background();
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    while cut_off.echo.open.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_runtime_ends_after_the_loops_that_make_timers_of_it() {
    let server = server(2);
    let mut client = server.connect();
    client.write_all(b"m").unwrap();
    until(|| server.echo.stuck.load(Ordering::SeqCst) == 1);
    drop(server.runtime);
    until(|| server.echo.open.load(Ordering::SeqCst) == 0);
    assert_eq!(server.echo.panicked.load(Ordering::SeqCst), 0);
}
