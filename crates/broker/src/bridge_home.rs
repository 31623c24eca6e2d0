//! The broker as its bridges see it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::Notify;
use weir_mqtt::{QoS, TopicName};
use weir_sinks::bridge::{Gateway, Home};

use crate::broker::{Broker, BrokerSettings};
use crate::core::message::Message;
use crate::driver::admission::Door;
use crate::net::connection::serve;
use crate::net::stream::AnyStream;
use crate::net::transport::Transport;
use crate::store::Durability;

/// How far a bridge may be ahead of the broker, in bytes.
const AHEAD: usize = 256 * 1024;
/// How long the broker may take to let a bridge in.
const WELCOME: std::time::Duration = std::time::Duration::from_secs(10);

/// Where bridges bring what they take from remotes. Made before the broker is.
#[derive(Debug)]
pub(crate) struct BridgeHome {
    broker: OnceLock<Broker>,
    /// Which bridges have a link. Held while it is said, so that the last word is the last state.
    links: Mutex<BTreeMap<String, bool>>,
    /// Something about the state of a bridge has changed.
    changed: Notify,
    data_dir: PathBuf,
    receive_maximum: u16,
    max_packet_size: usize,
}

impl BridgeHome {
    /// A home whose broker is still to come.
    pub(crate) fn new(data_dir: &Path, settings: &BrokerSettings) -> Arc<Self> {
        Arc::new(Self {
            broker: OnceLock::new(),
            links: Mutex::default(),
            changed: Notify::new(),
            data_dir: data_dir.to_owned(),
            receive_maximum: settings.max_inflight.max(1),
            max_packet_size: settings.max_packet_size,
        })
    }

    /// Here it is.
    pub(crate) fn begin(&self, broker: &Broker) {
        // Only the first counts, and there is only one.
        let _ = self.broker.set(broker.clone());
        for (bridge, up) in &*self.links.lock() {
            self.say(bridge, *up);
        }
    }

    /// Resolves when something has changed since the last time.
    pub(crate) async fn has_changed(&self) {
        self.changed.notified().await;
    }

    fn say(&self, bridge: &str, up: bool) {
        let Some(broker) = self.broker.get() else {
            return;
        };
        let topic = TopicName::new(&format!("$SYS/broker/connection/{bridge}/state"));
        if let Ok(topic) = topic {
            let state = Bytes::from_static(if up { b"1" } else { b"0" });
            broker.publish(Message::new(topic, state, QoS::AtLeastOnce, true));
        }
    }
}

impl Home for BridgeHome {
    fn dial(&self, gateway: &Arc<Gateway>) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(AHEAD);
        if let Some(broker) = self.broker.get() {
            let door = Door {
                peer: None,
                local: None,
                listener: "bridge".into(),
                transport: Transport::Tcp,
                certificate: None,
                identity: None,
                deadline: tokio::time::Instant::now() + WELCOME,
                allow_anonymous: true,
                durability: Durability::Fsync,
                bridge: Some(Arc::clone(gateway)),
            };
            let stream: AnyStream = Box::new(ours);
            tokio::spawn(serve(Arc::clone(&broker.shared), stream, Box::new(door)));
        }
        theirs
    }

    fn receive_maximum(&self) -> u16 {
        self.receive_maximum
    }

    fn max_packet_size(&self) -> usize {
        self.max_packet_size
    }

    fn is_ready(&self) -> bool {
        self.broker.get().is_some()
    }

    fn linked(&self, bridge: &str, up: bool) {
        let mut links = self.links.lock();
        links.insert(bridge.to_owned(), up);
        self.say(bridge, up);
    }

    fn changed(&self) {
        self.changed.notify_one();
    }

    fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}
