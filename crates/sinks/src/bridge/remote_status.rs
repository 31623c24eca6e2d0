//! A topic at the remote on which stands whether the bridge is connected: 1 or 0, as mosquitto has it. The remote says the
//! 0 when the link is lost: it is the will.

use bytes::Bytes;
use weir_mqtt::{Packet, Publish, QoS, TopicName, Utf8, Will};

use super::link::Inner;
use super::plan::{BridgePlan, Check};
use super::preset::{PLAIN, TopicOwner};
use crate::codes;

const UP: &[u8] = b"1";
const DOWN: &[u8] = b"0";

/// Where the remote shows whether the bridge is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteStatus {
    /// `None`: `$SYS/broker/connection/CLIENT_ID/state`.
    pub topic: Option<String>,
}

impl RemoteStatus {
    fn topic(&self, client_id: &str) -> Option<TopicName> {
        let usual = || format!("$SYS/broker/connection/{client_id}/state");
        TopicName::new(&self.topic.clone().unwrap_or_else(usual)).ok()
    }

    /// What the remote is to say when the link is lost.
    pub(super) fn will(plan: &BridgePlan, client_id: &str) -> Option<Will> {
        let topic = plan.remote_status.as_ref()?.topic(client_id)?;
        Some(Will {
            topic,
            payload: Bytes::from_static(DOWN),
            qos: if plan.qos_cap == 0 {
                QoS::AtMostOnce
            } else {
                QoS::AtLeastOnce
            },
            retain: plan.retain_allowed,
            properties: Default::default(),
        })
    }

    /// What the bridge says itself. At `QoS` 0: nothing of it waits for an answer.
    /// `retain_available`: the remote takes RETAIN.
    pub(super) fn said(
        plan: &BridgePlan,
        client_id: &str,
        up: bool,
        retain_available: bool,
    ) -> Option<Packet> {
        let topic = plan.remote_status.as_ref()?.topic(client_id)?;
        let state = Bytes::from_static(if up { UP } else { DOWN });
        let mut publish = Publish::new(Utf8::new(topic.as_str()).ok()?, state);
        // [MQTT-3.2.2-14] Not where CONNACK says that there is none.
        publish.retain = plan.retain_allowed && retain_available;
        Some(Packet::Publish(publish))
    }
}

impl Check<'_> {
    pub(super) fn remote_status(&mut self, owner: Option<&TopicOwner>) -> Option<RemoteStatus> {
        let status = self.config.status.clone().unwrap_or_default();
        let topic = status.topic;
        if !status.remote {
            if topic.is_some() {
                let help = "remove it, or add `remote = true`";
                let message = "`topic` is that of the status at the remote, which is off";
                self.error(codes::BRIDGE, "status.topic", message, help);
            }
            return None;
        }
        if !self.preset.will {
            let message = format!(
                "`{}` takes no will: nobody would say that the link is lost",
                self.preset.name
            );
            let help = "remove it; here the state is on `$SYS/bridges/NAME`";
            self.error(codes::BOUND, "status.remote", message, help);
            return None;
        }
        match &topic {
            None if self.preset.name != PLAIN.name => {
                let message = "this cloud takes no topic under `$SYS`";
                let help = "`status = { remote = true, topic = \"…\" }`";
                self.error(codes::KEY_MISSING, "status.topic", message, help);
            }
            Some(name) if TopicName::new(name).is_err() => {
                let message = format!("`{name}` is no topic name");
                let help = "it is not empty and has no `+` or `#`";
                self.error(codes::BRIDGE, "status.topic", message, help);
            }
            Some(name) if owner.is_some_and(|owner| !owner.owns(name)) => {
                let message = format!("topic_not_owned: `{name}` does not belong to the device");
                let help = "the cloud takes only topics of the device";
                self.error(codes::TOPIC_NOT_OWNED, "status.topic", message, help);
            }
            _ => {}
        }
        Some(RemoteStatus { topic })
    }
}

impl Inner {
    /// The remote is told that the link is up.
    pub(super) fn says_up(&self, client_id: &str) {
        let plan = self.plan();
        self.with_up(|up| {
            let retains = up.limits().retain_available;
            if let Some(said) = RemoteStatus::said(&plan, client_id, true, retains) {
                up.append(|version, out| weir_mqtt::codec::encode(&said, version, out));
            }
        });
    }
}
