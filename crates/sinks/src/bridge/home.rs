//! This side of a bridge: where what the remote sends goes, and what is remembered of a session at the remote.
//!
//! The broker takes the remote's packets as those of a client: it acknowledges when what they made is kept, and it knows
//! `QoS` 2 packet identifiers again after a restart. The link only carries them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use tokio::io::DuplexStream;
use weir_mqtt::properties::PublishProperties;
use weir_mqtt::{SubscriptionId, Utf8};

use super::guards::Guards;
use super::link::BridgeStats;
use super::route::InRoute;

/// The broker that a bridge belongs to.
pub trait Home: Send + Sync + fmt::Debug {
    /// A connection into the broker for what the remote sends. It speaks MQTT, begins with CONNECT as the client
    /// [`Gateway::client_id`], and takes topics as they are at the remote.
    fn dial(&self, gateway: &Arc<Gateway>) -> DuplexStream;

    /// How many messages of `QoS` 1 and 2 it takes unacknowledged.
    fn receive_maximum(&self) -> u16;

    /// The largest packet that it takes, in bytes.
    fn max_packet_size(&self) -> usize;

    /// Whether the broker takes connections yet.
    fn is_ready(&self) -> bool;

    /// The bridge has a link now, or has none any more.
    fn linked(&self, bridge: &str, up: bool);

    /// Something about the state of a bridge has changed. Called from tasks that carry packets: nothing may wait here.
    fn changed(&self) {}

    /// Where a bridge keeps what it must remember.
    fn data_dir(&self) -> &Path;
}

/// What names the nodes that a message has crossed (MQTT 5).
pub const PATH_PROPERTY: &str = "weir-path";
/// A message that has crossed as many is not taken any further.
pub const MOST_NODES: usize = 8;

/// The nodes that a message has crossed, oldest first.
pub fn path_of(properties: Option<&PublishProperties>) -> Option<&str> {
    let pairs = &properties?.user_properties;
    let path = pairs
        .iter()
        .find(|(name, _)| name.as_str() == PATH_PROPERTY);
    path.map(|(_, path)| path.as_str())
}

/// Adds `node` to the path of a message.
pub fn mark(properties: &mut PublishProperties, node: &str) {
    let path = path_through(path_of(Some(properties)), node);
    if let (Ok(path), Ok(name)) = (Utf8::try_from(path), Utf8::new(PATH_PROPERTY)) {
        let pairs = &mut properties.user_properties;
        pairs.retain(|(name, _)| name.as_str() != PATH_PROPERTY);
        pairs.push((name, path));
    }
}

/// Whether a message with this path has been at `node`, or has gone far enough.
pub fn has_come_round(path: &str, node: &str) -> bool {
    path.split(',').any(|at| at == node) || path.split(',').count() >= MOST_NODES
}

/// The path of a message that leaves `node`.
pub fn path_through(path: Option<&str>, node: &str) -> String {
    match path {
        Some(path) if path.rsplit(',').next() == Some(node) => path.to_owned(),
        Some(path) if !path.is_empty() => format!("{path},{node}"),
        _ => node.to_owned(),
    }
}

/// How a bridge's messages come into the broker. Read for every message, changed by a reload.
#[derive(Debug)]
pub struct Gateway {
    bridge: String,
    /// The remote's address.
    server: RwLock<String>,
    routes: RwLock<Arc<[InRoute]>>,
    stats: Arc<BridgeStats>,
    pub(super) guards: Guards,
}

impl Gateway {
    pub(crate) fn new(bridge: &str, routes: Arc<[InRoute]>, stats: Arc<BridgeStats>) -> Self {
        Self {
            bridge: bridge.to_owned(),
            server: RwLock::default(),
            routes: RwLock::new(routes),
            stats,
            guards: Guards::default(),
        }
    }

    /// The connector's name.
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// As whom the bridge is known in the broker. No client from the network may have such a name.
    pub fn client_id(&self) -> String {
        format!("{CLIENTS}{}", self.bridge)
    }

    /// What marks the bridge's messages.
    pub fn origin(&self) -> String {
        origin_of(&self.bridge)
    }

    /// `host:port` of the remote that is connected, or was last.
    pub fn server(&self) -> String {
        self.server.read().clone()
    }

    pub(crate) fn set_server(&self, server: String) {
        *self.server.write() = server;
    }

    pub(crate) fn routes(&self) -> Arc<[InRoute]> {
        Arc::clone(&self.routes.read())
    }

    pub(crate) fn set_routes(&self, routes: Arc<[InRoute]>) {
        *self.routes.write() = routes;
    }

    /// The entry that a message belongs to: the first of those that the remote names, else the first that matches.
    /// `None`: of none, as when it was removed while messages for it waited at the remote.
    pub fn route(&self, topic: &str, subscriptions: &[SubscriptionId]) -> Option<InRoute> {
        let routes = self.routes();
        let named = |route: &&InRoute| subscriptions.contains(&subscription_id(route));
        let matches = |route: &&InRoute| route.filter.matches(topic);
        routes
            .iter()
            .filter(named)
            .find(matches)
            .or_else(|| routes.iter().find(matches))
            .cloned()
    }

    /// Counts a message that came and was not taken: why.
    pub fn count_dropped(&self, why: Dropped) {
        self.stats.dropped_in[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a message of the remote goes nowhere. It is acknowledged all the same: it would only come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// No entry of `in` is for its topic.
    NoRoute,
    /// A place of the new topic has no value.
    Template,
    /// The new topic is no topic name.
    BadTopic,
    /// It has been here before.
    Loop,
    /// Its packet is larger than the broker takes. Only remotes of MQTT 3.1.1 send such.
    TooLarge,
    /// It is what the remote was sent (`echo_guard`).
    Echo,
    /// It is retained there, and has come before (`dedupe_retained`).
    Known,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::NoRoute,
        Self::Template,
        Self::BadTopic,
        Self::Loop,
        Self::TooLarge,
        Self::Echo,
        Self::Known,
    ];

    /// The reason in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::Template => "template",
            Self::BadTopic => "bad_topic",
            Self::Loop => "loop",
            Self::TooLarge => "too_large",
            Self::Echo => "echo",
            Self::Known => "known",
        }
    }
}

/// The client identifiers of bridges within their own broker.
pub const CLIENTS: &str = "$bridge/";

/// What marks the messages of a bridge, and names its `out` in lists of rules and sinks.
pub fn origin_of(bridge: &str) -> String {
    format!("$bridges/{bridge}")
}

/// The same for the same filter over restarts and reloads, whatever else the file says.
pub(crate) fn subscription_id(route: &InRoute) -> SubscriptionId {
    let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
    for byte in route.subscription().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    let most = u64::from(SubscriptionId::MAX);
    let id = u32::try_from(1 + (hash ^ hash >> 32) % most).unwrap_or(SubscriptionId::MAX);
    SubscriptionId::new(id).expect("it is not 0 and at most the largest")
}

/// The filters that the session at the remote may hold, and the `QoS` at which it has confirmed them. The remote has no way to tell.
#[derive(Debug)]
pub(crate) struct Subscribed {
    path: PathBuf,
}

impl Subscribed {
    pub(crate) fn of(data_dir: &Path, bridge: &str) -> Self {
        Self {
            path: data_dir.join("bridges").join(format!("{bridge}.filters")),
        }
    }

    pub(crate) fn read(&self) -> BTreeMap<String, Option<u8>> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let filters = text.lines().filter_map(|line| line.split_once(' '));
        let filter = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
        filters
            .map(|(state, text)| (filter(text), state.parse().ok()))
            .collect()
    }

    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, filters: &BTreeMap<String, Option<u8>>) -> io::Result<()> {
        if *filters == self.read() {
            return Ok(());
        }
        let state = |qos: Option<u8>| qos.map_or_else(|| "asked".to_owned(), |qos| qos.to_string());
        // As it is; as JSON where it would be more than one line, or be taken for JSON.
        let line = |filter: &str| {
            if filter.starts_with('"') || filter.contains(char::is_control) {
                serde_json::json!(filter).to_string()
            } else {
                filter.to_owned()
            }
        };
        let text: String = filters
            .iter()
            .map(|(filter, qos)| format!("{} {}\n", state(*qos), line(filter)))
            .collect();
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, text)?;
        File::open(&beside)?.sync_all()?;
        std::fs::rename(beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_subscribed_to_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = Subscribed::of(folder.path(), "hq");
        assert!(file.read().is_empty());
        let filters: BTreeMap<_, _> = [
            ("a b/#".to_owned(), Some(1)),
            ("$share/g/t".to_owned(), None),
            ("two\nlines/\"+\"".to_owned(), Some(0)),
        ]
        .into();
        file.write(&filters).unwrap();
        assert_eq!(file.read(), filters);
        std::fs::write(&file.path, "1 a b/#\nasked t\n").unwrap();
        let older: BTreeMap<_, _> = [("a b/#".to_owned(), Some(1)), ("t".to_owned(), None)].into();
        assert_eq!(file.read(), older);
    }

    #[test]
    fn a_message_that_was_here_or_went_far_enough_has_come_round() {
        let path = path_through(Some(&path_through(None, "a")), "b");
        assert_eq!(path, "a,b");
        assert_eq!(path_through(Some("a,b"), "b"), "a,b");
        assert!(has_come_round(&path, "a") && has_come_round(&path, "b"));
        assert!(!has_come_round(&path, "c") && !has_come_round("", "c"));
        assert!(has_come_round("1,2,3,4,5,6,7,8", "c"));
        assert!(!has_come_round("1,2,3,4,5,6,7", "c"));
    }
}
