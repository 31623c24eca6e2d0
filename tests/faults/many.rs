//! Many persistent sessions with queued messages: all of it is there when weir is ready again.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_test_support::{Site, Weir};

use crate::WEIR;

const SESSIONS: usize = 1500;
const MESSAGES: usize = 10;

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

#[tokio::test]
async fn every_session_and_every_message_is_there_when_weir_is_ready_again() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    for session in 0..SESSIONS {
        let (mut stream, _) = connect(&weir, &client_id(session)).await;
        let rest = [&b"\x00\x01"[..], &text(&format!("cmd/{session}")), b"\x01"].concat();
        stream.write_all(&framed(0x82, &rest)).await.unwrap();
        let mut suback = [0; 5];
        stream.read_exact(&mut suback).await.unwrap();
        assert_eq!(suback[4], 1);
        stream.write_all(b"\xe0\x00").await.unwrap();
    }
    let (mut publisher, _) = connect(&weir, "publisher").await;
    for number in 0..MESSAGES {
        let mut packets = Vec::new();
        for session in 0..SESSIONS {
            let id = u16::try_from(session + 1).unwrap().to_be_bytes();
            let topic = text(&format!("cmd/{session}"));
            let payload = format!("{session} {number}");
            let rest = [&topic[..], &id, payload.as_bytes()].concat();
            packets.extend(framed(0x32, &rest));
        }
        let (mut read, mut write) = publisher.split();
        let mut pubacks = vec![0; 4 * SESSIONS];
        let (sent, read) = tokio::join!(write.write_all(&packets), read.read_exact(&mut pubacks));
        sent.unwrap();
        read.unwrap();
        assert!(
            pubacks
                .chunks_exact(4)
                .all(|puback| puback[..2] == [0x40, 2])
        );
    }
    weir.kill().await;

    let weir = site.start(WEIR).await;
    // The publisher's session was kept, too.
    let offline = [("state", "offline")];
    assert_eq!(
        weir.metric("weir_sessions", &offline).await,
        (SESSIONS + 1) as f64
    );
    assert_eq!(
        weir.metric("weir_subscriptions", &[]).await,
        SESSIONS as f64
    );
    for session in 0..SESSIONS {
        let (mut stream, present) = connect(&weir, &client_id(session)).await;
        assert!(present, "session {session}");
        for number in 0..MESSAGES {
            let mut head = [0; 2];
            stream.read_exact(&mut head).await.unwrap();
            let mut rest = vec![0; usize::from(head[1])];
            stream.read_exact(&mut rest).await.unwrap();
            assert_eq!(head[0], 0x32, "the first time");
            let payload = format!("{session} {number}");
            assert!(rest.ends_with(payload.as_bytes()), "{payload}: {rest:?}");
        }
    }
}
