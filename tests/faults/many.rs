//! Many persistent sessions with queued messages: all of it is there when weir is ready again.
//!
//! `WEIR_SOAK=1` (`make soak`) is 100,000 of them: ready within ten seconds, and below 600 MiB. A topic is `cmd/99999` and
//! a payload `99999 9`, so that this is about what weir needs beside them.

use std::ops::Range;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_test_support::{Site, Weir};

use crate::WEIR;

const MESSAGES: usize = 10;
/// So many clients connect at a time.
const CROWD: usize = 100;
/// So many messages are sent before their acknowledgements are read: there must be a packet identifier for each.
const SENT_AT_ONCE: usize = 10_000;

fn text(text: &str) -> Vec<u8> {
    [&[0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn framed(first: u8, rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(rest.len()).unwrap();
    assert!(length < 128, "packets are short");
    [&[first, length], rest].concat()
}

fn client_id(session: usize) -> String {
    format!("device-{session}")
}

/// Connects with a session that is kept; whether it was there.
async fn connect(weir: &Weir, id: &str) -> (TcpStream, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", weir.mqtt_port()))
        .await
        .unwrap();
    let rest = [&b"\x00\x04MQTT\x04\x00\x00\x00"[..], &text(id)].concat();
    stream.write_all(&framed(0x10, &rest)).await.unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    (stream, connack[2] == 1)
}

async fn subscribe_and_leave(weir: &Weir, session: usize) {
    let (mut stream, _) = connect(weir, &client_id(session)).await;
    let rest = [&b"\x00\x01"[..], &text(&format!("cmd/{session}")), b"\x01"].concat();
    stream.write_all(&framed(0x82, &rest)).await.unwrap();
    let mut suback = [0; 5];
    stream.read_exact(&mut suback).await.unwrap();
    assert_eq!(suback[4], 1);
    stream.write_all(b"\xe0\x00").await.unwrap();
}

/// One message to each session, acknowledged.
async fn publish(publisher: &mut TcpStream, sessions: Range<usize>, number: usize) {
    let (mut packets, mut pubacks) = (Vec::new(), vec![0; 4 * sessions.len()]);
    for (id, session) in (1_u16..).zip(sessions) {
        let topic = text(&format!("cmd/{session}"));
        let payload = format!("{session} {number}");
        let rest = [&topic[..], &id.to_be_bytes(), payload.as_bytes()].concat();
        packets.extend(framed(0x32, &rest));
    }
    let (mut read, mut write) = publisher.split();
    let (sent, read) = tokio::join!(write.write_all(&packets), read.read_exact(&mut pubacks));
    sent.unwrap();
    read.unwrap();
    assert!(
        pubacks
            .chunks_exact(4)
            .all(|puback| puback[..2] == [0x40, 2])
    );
}

async fn has_its_messages(weir: &Weir, session: usize) {
    let (mut stream, present) = connect(weir, &client_id(session)).await;
    assert!(present, "session {session}");
    for number in 0..MESSAGES {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; usize::from(head[1])];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(head[0], 0x32, "the first time");
        let topic = text(&format!("cmd/{session}"));
        let payload = format!("{session} {number}");
        assert!(rest.starts_with(&topic), "{payload}: {rest:?}");
        assert!(rest.ends_with(payload.as_bytes()), "{payload}: {rest:?}");
    }
}

/// Ranges of so many, up to `end`.
fn steps(end: usize, each: usize) -> impl Iterator<Item = Range<usize>> {
    (0..end)
        .step_by(each)
        .map(move |from| from..end.min(from + each))
}

/// A line of what the system knows of a process, in MiB.
pub(crate) fn mib_of(weir: &Weir, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn every_session_and_every_message_is_there_when_weir_is_ready_again() {
    let soak = std::env::var_os("WEIR_SOAK").is_some();
    let sessions = if soak { 100_000 } else { 1500 };
    let site = Site::new();
    let weir = site.start(WEIR).await;
    for crowd in steps(sessions, CROWD) {
        join_all(crowd.map(|session| subscribe_and_leave(&weir, session))).await;
    }
    let (mut publisher, _) = connect(&weir, "publisher").await;
    for number in 0..MESSAGES {
        for step in steps(sessions, SENT_AT_ONCE) {
            publish(&mut publisher, step, number).await;
        }
    }
    weir.kill().await;

    let before = Instant::now();
    let weir = site.start(WEIR).await;
    let ready = before.elapsed();
    let (now, peak) = (mib_of(&weir, "VmRSS:"), mib_of(&weir, "VmHWM:"));
    eprintln!("{sessions} sessions: ready in {ready:?} with {now} MiB, {peak} MiB at most");
    if soak {
        assert!(ready < Duration::from_secs(10), "{ready:?}");
        assert!(now < 600 && peak < 800, "{now} MiB, {peak} MiB at most");
    }
    // The publisher's session was kept, too.
    let offline = [("state", "offline")];
    assert_eq!(
        weir.metric("weir_sessions", &offline).await,
        (sessions + 1) as f64
    );
    assert_eq!(
        weir.metric("weir_subscriptions", &[]).await,
        sessions as f64
    );
    for crowd in steps(sessions, CROWD) {
        join_all(crowd.map(|session| has_its_messages(&weir, session))).await;
    }
}
