//! `$SYS/bridges/NAME`: what each bridge is doing, retained, as JSON.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::MissedTickBehavior;
use weir_mqtt::{QoS, TopicName};

use crate::bridge_home::BridgeHome;
use crate::broker::Broker;
use crate::core::message::Message;
use crate::pipeline::crossing::BRIDGE_STATUS;
use crate::reload::{BridgeStatus, Reloader};

/// How often the numbers of a queue are said at most; everything else is said when it changes.
const NUMBERS: Duration = Duration::from_secs(10);

/// Says what bridges do, until `stopped`.
pub(crate) async fn tell(
    broker: Broker,
    reloader: Arc<Reloader>,
    home: Arc<BridgeHome>,
    stopped: impl Future<Output = ()>,
) {
    let mut stopped = pin!(stopped);
    let mut numbers = tokio::time::interval(NUMBERS);
    numbers.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = BTreeMap::new();
    loop {
        let with_numbers = tokio::select! {
            () = home.has_changed() => false,
            _ = numbers.tick() => true,
            () = &mut stopped => return,
        };
        let now = reloader.bridges_that_tell();
        for (bridge, text) in news(&mut said, now, with_numbers) {
            say(&broker, &bridge, text);
        }
    }
}

/// What is to be said of which bridge; nothing of one that is gone.
fn news(
    said: &mut BTreeMap<String, BridgeStatus>,
    now: BTreeMap<String, BridgeStatus>,
    with_numbers: bool,
) -> Vec<(String, Vec<u8>)> {
    let mut news: Vec<_> = said
        .extract_if(.., |bridge, _| !now.contains_key(bridge))
        .map(|(bridge, _)| (bridge, Vec::new()))
        .collect();
    for (bridge, status) in now {
        let is_new = said
            .get(&bridge)
            .is_none_or(|before| before.differs(&status) || (with_numbers && *before != status));
        if !is_new {
            continue;
        }
        match serde_json::to_vec(&status) {
            Ok(text) => news.push((bridge.clone(), text)),
            Err(error) => tracing::error!(%error, "the state of a bridge cannot be written"),
        }
        said.insert(bridge, status);
    }
    news
}

fn say(broker: &Broker, bridge: &str, text: Vec<u8>) {
    if let Ok(topic) = TopicName::new(&format!("{BRIDGE_STATUS}{bridge}")) {
        broker.publish(Message::new(
            topic,
            Bytes::from(text),
            QoS::AtLeastOnce,
            true,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &'static str, queue_records: u64) -> BridgeStatus {
        BridgeStatus {
            state,
            since: 7,
            address: Some("mqtt://h:1883".to_owned()),
            attempt: 1,
            queue_records,
            queue_bytes: 0,
            last_error: None,
        }
    }

    #[test]
    fn a_change_is_said_at_once_and_numbers_when_it_is_their_time() {
        let mut said = BTreeMap::new();
        let mut of = |state, records, with_numbers| {
            let now = BTreeMap::from([("hq".to_owned(), status(state, records))]);
            let said = news(&mut said, now, with_numbers);
            said.into_iter()
                .map(|(_, text)| String::from_utf8(text).unwrap())
                .collect::<Vec<_>>()
        };
        let first = of("connected", 0, false);
        assert_eq!(
            first,
            [
                r#"{"state":"connected","since":7,"address":"mqtt://h:1883","attempt":1,"queue_records":0,"queue_bytes":0,"last_error":null}"#
            ]
        );
        assert!(of("connected", 5, false).is_empty());
        assert!(of("connected", 5, true)[0].contains("\"queue_records\":5"));
        assert!(of("connected", 5, true).is_empty());
        assert!(of("backoff", 6, false)[0].contains("\"queue_records\":6"));
    }

    #[test]
    fn a_bridge_that_is_gone_leaves_nothing_behind() {
        let mut said = BTreeMap::from([("hq".to_owned(), status("stopped", 3))]);
        let gone = news(&mut said, BTreeMap::new(), false);
        assert_eq!(gone, [("hq".to_owned(), Vec::new())]);
        assert!(news(&mut said, BTreeMap::new(), true).is_empty());
    }
}
