//! MQTT over WebSocket: [MQTT-6.0.0-1] to [MQTT-6.0.0-4].

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use weir::broker::{BrokerSettings, ListenerSettings, Transport, WebSocketSettings};
use weir::stats::HandshakeFailure;
use weir_mqtt::{Connect, Packet, ProtocolVersion, ReasonCode, Utf8, codec};
use weir_test_support::Authority;

use super::tls::{self, Visitor};
use super::{Scene, speaks_mqtt};
use crate::client::{ALL, Client, V3_1, V5, publish};

fn listener() -> ListenerSettings {
    ListenerSettings {
        name: "ws".into(),
        transport: Transport::Ws,
        allow_anonymous: true,
        web_socket: Some(WebSocketSettings::default()),
        ..ListenerSettings::default()
    }
}

/// Asks for a WebSocket with these headers.
async fn upgrade<S>(
    stream: S,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocketStream<S>, String), u16>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("ws://localhost{path}")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match client_async(request, stream).await {
        Ok((socket, answer)) => {
            let protocol = answer.headers().get("sec-websocket-protocol").unwrap();
            Ok((socket, protocol.to_str().unwrap().to_owned()))
        }
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

const MQTT: [(&str, &str); 1] = [("sec-websocket-protocol", "mqtt")];

async fn open(scene: &Scene) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(scene.address).await.unwrap();
    upgrade(stream, "/mqtt", &MQTT).await.unwrap().0
}

/// A stream of bytes through a WebSocket: what is written together is one message.
fn bytes_through<S>(socket: WebSocketStream<S>) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (near, far) = tokio::io::duplex(1 << 20);
    let (mut from_test, mut to_test) = tokio::io::split(far);
    let (mut sink, mut stream) = socket.split();
    tokio::spawn(async move {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from_test.read(&mut chunk).await {
            let message = Message::binary(chunk[..n].to_vec());
            if sink.send(message).await.is_err() {
                return;
            }
        }
        drop(sink.close().await);
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            if message.is_binary() {
                to_test.write_all(&message.into_data()).await.unwrap();
            }
        }
        drop(to_test.shutdown().await);
    });
    near
}

fn encoded(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(packet, version, &mut bytes).unwrap();
    bytes
}

fn connect(version: ProtocolVersion) -> Vec<u8> {
    let connect = Connect::new(version, Utf8::from("ws"));
    encoded(&Packet::Connect(Box::new(connect)), version)
}

/// The next message that is no answer to a ping.
async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Message> {
    tokio::time::timeout(Duration::from_secs(10), socket.next())
        .await
        .expect("nothing came")
        .and_then(Result::ok)
}

#[tokio::test]
async fn every_version_of_mqtt_is_spoken_over_web_socket_with_and_without_tls() {
    let authority = Authority::new();
    let plain = Scene::start(listener()).await;
    let secret = Scene::start(ListenerSettings {
        web_socket: Some(WebSocketSettings::default()),
        ..tls::listener(tls::settings(&authority))
    })
    .await;
    for version in ALL {
        let stream = bytes_through(open(&plain).await);
        speaks_mqtt(Client::over(stream, version), "plain").await;
        let stream = Visitor::of(&authority)
            .connect(secret.address)
            .await
            .unwrap();
        let (socket, _) = upgrade(stream, "/mqtt", &MQTT).await.unwrap();
        speaks_mqtt(Client::over(bytes_through(socket), version), "secret").await;
    }
}

#[tokio::test]
async fn the_sub_protocol_is_mqtt() {
    // [MQTT-6.0.0-3] [MQTT-6.0.0-4] [MQTT3-6.0.0-3] [MQTT3-6.0.0-4]
    let scene = Scene::start(listener()).await;
    let ask = async |path: &str, headers: &[(&'static str, &str)]| {
        let stream = TcpStream::connect(scene.address).await.unwrap();
        upgrade(stream, path, headers)
            .await
            .map(|(_, protocol)| protocol)
    };
    let protocols = |list| [("sec-websocket-protocol", list)];
    assert_eq!(
        ask("/mqtt", &protocols("chat, mqttv3.1, mqtt"))
            .await
            .unwrap(),
        "mqtt"
    );
    assert_eq!(
        ask("/mqtt?token=1", &protocols("mqttv3.1")).await.unwrap(),
        "mqttv3.1"
    );
    assert_eq!(ask("/mqtt", &protocols("chat")).await, Err(400));
    assert_eq!(ask("/mqtt", &[]).await, Err(400));
    assert_eq!(ask("/other", &MQTT).await, Err(404));
    scene.failed(HandshakeFailure::WebSocket, 3).await;
}

#[tokio::test]
async fn a_page_from_elsewhere_is_refused_where_origins_are_listed() {
    let settings = WebSocketSettings {
        origins: vec!["https://example.org".to_owned()],
        ..WebSocketSettings::default()
    };
    let scene = Scene::start(ListenerSettings {
        web_socket: Some(settings),
        ..listener()
    })
    .await;
    for (origin, expected) in [
        ("https://example.org", true),
        ("https://example.com", false),
    ] {
        let stream = TcpStream::connect(scene.address).await.unwrap();
        let headers = [MQTT[0], ("origin", origin)];
        assert_eq!(upgrade(stream, "/mqtt", &headers).await.is_ok(), expected);
    }
}

#[tokio::test]
async fn packets_and_frames_need_not_begin_or_end_together() {
    // [MQTT-6.0.0-2]
    let scene = Scene::start(listener()).await;
    let mut socket = open(&scene).await;
    let ping = encoded(&Packet::PingReq, V5);
    // One packet in many messages and many frames of one message, with empty ones and a ping between.
    let mut data = OpCode::Data(Data::Binary);
    let bytes = connect(V5);
    let (first, rest) = bytes.split_at(3);
    for byte in first {
        socket.send(Message::binary(vec![*byte])).await.unwrap();
        socket.send(Message::binary(Vec::new())).await.unwrap();
    }
    for (at, byte) in rest.iter().enumerate() {
        let is_last = at + 1 == rest.len();
        let frame = Frame::message(vec![*byte], data, is_last);
        socket.send(Message::Frame(frame)).await.unwrap();
        data = OpCode::Data(Data::Continue);
        socket.send(Message::Ping("x".into())).await.unwrap();
    }
    let mut pongs = 0;
    let connack = loop {
        match next(&mut socket).await.unwrap() {
            Message::Pong(payload) => {
                assert_eq!(&payload[..], b"x");
                pongs += 1;
            }
            other => break other.into_data(),
        }
    };
    assert_eq!(connack[0], 0x20);
    assert!(
        pongs > 0,
        "only pings that a later one has overtaken go unanswered"
    );
    // Many packets in one message are answered with one.
    let many = [&ping[..], &ping, &ping, &ping].concat();
    socket.send(Message::binary(many)).await.unwrap();
    let answer = loop {
        match next(&mut socket).await.unwrap() {
            Message::Pong(_) => {}
            other => break other.into_data(),
        }
    };
    assert_eq!(&answer[..], [0xD0, 0].repeat(4));
}

/// A watcher of the will of a client over WebSocket, and that client's socket.
async fn mortal(scene: &Scene) -> (Client, WebSocketStream<TcpStream>) {
    let mut watcher = Client::over(bytes_through(open(scene).await), V5);
    watcher.hello("watcher").await;
    watcher.subscribe("last/words", 0).await;
    let mut socket = open(scene).await;
    let connect = b"\x10\x1f\x00\x04MQTT\x04\x06\x00\x3c\x00\x01m\x00\x0alast/words\x00\x04gone";
    socket
        .send(Message::binary(connect.to_vec()))
        .await
        .unwrap();
    assert!(next(&mut socket).await.unwrap().is_binary());
    (watcher, socket)
}

#[tokio::test]
async fn text_ends_the_connection_with_its_code_and_the_will_is_published() {
    // [MQTT-6.0.0-1] [MQTT3-6.0.0-1]
    let scene = Scene::start(listener()).await;
    let (mut watcher, mut socket) = mortal(&scene).await;
    socket.send(Message::text("hello")).await.unwrap();
    let Some(Message::Close(Some(close))) = next(&mut socket).await else {
        panic!("no close frame")
    };
    assert_eq!(close.code, CloseCode::Unsupported);
    assert!(next(&mut socket).await.is_none());
    assert_eq!(&watcher.receive_publish().await.payload[..], b"gone");
}

#[tokio::test]
async fn a_connection_that_breaks_or_closes_without_disconnect_publishes_the_will() {
    let scene = Scene::start(listener()).await;
    let (mut watcher, socket) = mortal(&scene).await;
    drop(socket);
    watcher.receive_publish().await;
    let (mut watcher, mut socket) = mortal(&scene).await;
    // The browser's `close()`: a close frame, which is answered, and no DISCONNECT.
    socket.close(None).await.unwrap();
    assert!(matches!(
        next(&mut socket).await,
        None | Some(Message::Close(_))
    ));
    watcher.receive_publish().await;
}

#[tokio::test]
async fn the_broker_closes_with_a_frame_that_says_so() {
    let scene = Scene::start(listener()).await;
    let mut socket = open(&scene).await;
    socket.send(Message::binary(connect(V3_1))).await.unwrap();
    next(&mut socket).await.unwrap();
    socket.send(Message::binary(vec![0xE0, 0])).await.unwrap();
    let Some(Message::Close(Some(close))) = next(&mut socket).await else {
        panic!("no close frame")
    };
    assert_eq!(close.code, CloseCode::Normal);
}

#[tokio::test]
async fn what_is_written_together_is_one_message() {
    let scene = Scene::start(listener()).await;
    let mut publisher = Client::over(bytes_through(open(&scene).await), V5);
    publisher.hello("publisher").await;
    for n in 0..50 {
        let mut message = publish(&format!("r/{n}"), "x", 1, 1);
        message.retain = true;
        let reason = publisher.publish(message).await;
        assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
    }
    let mut socket = open(&scene).await;
    socket.send(Message::binary(connect(V5))).await.unwrap();
    next(&mut socket).await.unwrap();
    let subscribe = b"\x82\x09\x00\x01\x00\x00\x03r/#\x00";
    socket
        .send(Message::binary(subscribe.to_vec()))
        .await
        .unwrap();
    let (mut bytes, mut messages, mut packets) = (Vec::new(), 0, 0);
    while packets < 51 {
        bytes.extend_from_slice(&next(&mut socket).await.unwrap().into_data());
        messages += 1;
        while let Some(len) = codec::frame_length(&bytes, usize::MAX).unwrap() {
            bytes.drain(..len);
            packets += 1;
        }
    }
    assert!(
        messages < 10,
        "{packets} packets came in {messages} messages"
    );
}

#[tokio::test]
async fn a_request_that_does_not_end_is_not_waited_for() {
    let settings = BrokerSettings {
        connect_timeout: Duration::from_millis(200),
        ..BrokerSettings::default()
    };
    let scene = Scene::with(settings, listener()).await;
    let mut slow = TcpStream::connect(scene.address).await.unwrap();
    slow.write_all(b"GET /mqtt HTTP/1.1\r\n").await.unwrap();
    assert_eq!(slow.read(&mut [0; 10]).await.unwrap_or(0), 0);
    scene.failed(HandshakeFailure::Timeout, 1).await;
    let mut long = TcpStream::connect(scene.address).await.unwrap();
    let endless = [b"GET /mqtt HTTP/1.1\r\nx: ", &[b'y'; 20_000][..]].concat();
    long.write_all(&endless).await.unwrap();
    let mut answer = [0; 12];
    long.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    // CONNECT has the same deadline.
    let mut silent = open(&scene).await;
    assert!(!matches!(next(&mut silent).await, Some(Message::Binary(_))));
}
