//! A remote that says what a test wants, packet by packet.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir_mqtt::{Packet, ProtocolVersion, codec};

/// The remote's side of a bridge's connection.
pub(super) struct Link {
    stream: TcpStream,
    read: BytesMut,
    version: ProtocolVersion,
}

impl Link {
    /// Waits for the bridge, which speaks this version.
    pub(super) async fn accept(listener: &TcpListener, version: ProtocolVersion) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        Self {
            stream,
            read: BytesMut::new(),
            version,
        }
    }

    /// Sends them in one write.
    pub(super) async fn send(&mut self, packets: &[Packet]) {
        let mut bytes = Vec::new();
        for packet in packets {
            codec::encode(packet, self.version, &mut bytes).unwrap();
        }
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The packet that comes next.
    pub(super) async fn next(&mut self) -> Packet {
        loop {
            if let Some(length) = codec::frame_length(&self.read, usize::MAX).unwrap()
                && self.read.len() >= length
            {
                let frame = self.read.split_to(length).freeze();
                return codec::decode(frame, self.version).unwrap();
            }
            let count = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(count > 0, "closed");
        }
    }
}
