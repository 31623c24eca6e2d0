//! Packets as bytes, also those that no right client sends, and how the broker answers them.

use weir_mqtt::{Packet, ProtocolVersion, ReasonCode};

use crate::client::{Client, TestBroker};

/// A frame: first byte, length in its shortest form, body.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = body.len();
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
    out.extend_from_slice(body);
    out
}

/// A text with its length before it, whatever its bytes are.
pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

/// The properties of MQTT 5 with their length before them; nothing before MQTT 5.
pub(crate) fn properties(version: ProtocolVersion, properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    assert!(length < 128, "tests use few properties");
    if version.is_v5() {
        [&[length], properties].concat()
    } else {
        Vec::new()
    }
}

/// A QoS 0 PUBLISH; the properties are those of MQTT 5.
pub(crate) fn publish(version: ProtocolVersion, topic: &[u8], of_v5: &[u8]) -> Vec<u8> {
    frame(
        0x30,
        &[text(topic), properties(version, of_v5), b"x".to_vec()].concat(),
    )
}

/// A SUBSCRIBE for one filter.
pub(crate) fn subscribe(version: ProtocolVersion, filter: &[u8], options: u8) -> Vec<u8> {
    let body = [
        b"\0\x01".to_vec(),
        properties(version, b""),
        text(filter),
        vec![options],
    ];
    frame(0x82, &body.concat())
}

/// An UNSUBSCRIBE for one filter.
pub(crate) fn unsubscribe(version: ProtocolVersion, filter: &[u8]) -> Vec<u8> {
    let body = [b"\0\x01".to_vec(), properties(version, b""), text(filter)];
    frame(0xA2, &body.concat())
}

/// A CONNECT with these flags and this payload, without keep-alive.
pub(crate) fn connect(version: ProtocolVersion, flags: u8, payload: &[u8]) -> Vec<u8> {
    let body = [
        text(version.protocol_name().as_bytes()),
        vec![version.level(), flags, 0, 0],
        properties(version, b""),
        payload.to_vec(),
    ];
    frame(0x10, &body.concat())
}

impl TestBroker {
    /// A connected client that sends these bytes is disconnected; from MQTT 5 on for this reason.
    pub(crate) async fn disconnects(
        &self,
        version: ProtocolVersion,
        what: &str,
        bytes: &[u8],
        reason: ReasonCode,
    ) {
        let mut client = self.connect(version, "wrong").await;
        client.send_bytes(bytes).await;
        if version.is_v5() {
            match client.receive_or_end().await {
                Some(Packet::Disconnect(disconnect)) => {
                    assert_eq!(disconnect.reason, reason, "{what}");
                }
                other => panic!("{what} in {version}: expected DISCONNECT, got {other:?}"),
            }
        }
        assert_eq!(client.receive_or_end().await, None, "{what} in {version}");
    }

    /// A malformed CONNECT ends the connection; only from MQTT 5 on it is answered.
    pub(crate) async fn cuts_off(&self, version: ProtocolVersion, what: &str, connect: &[u8]) {
        let mut client = self.open(version).await;
        client.send_bytes(connect).await;
        if version.is_v5() {
            match client.receive_or_end().await {
                Some(Packet::ConnAck(connack)) => {
                    assert_eq!(connack.reason, ReasonCode::MalformedPacket, "{what}");
                }
                other => panic!("{what}: expected CONNACK, got {other:?}"),
            }
        }
        assert_eq!(client.receive_or_end().await, None, "{what} in {version}");
    }
}

impl Client {
    /// Everything that is received until the connection ends.
    pub(crate) async fn receive_all(&mut self) -> Vec<Packet> {
        let mut all = Vec::new();
        while let Some(packet) = self.receive_or_end().await {
            all.push(packet);
        }
        all
    }
}
