//! What one link puts on the wire: messages that fit, under the packet ids that are theirs.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use weir_mqtt::properties::PublishProperties;
use weir_mqtt::{PacketId, PubRel, Publish, QoS, TopicAlias, Utf8};

use super::{Asked, MOST_ALIASES, NotSent, Outgoing, Pending, Up, Who};
use crate::bridge::client::{Limits, Version};
use crate::bridge::lanes::{ASK_IDS, LANE_IDS, RING_IDS};
use crate::bridge::plan::BridgePlan;
use crate::codes;
use crate::error::SinkError;

/// Whether the remote can take the message at all.
pub(super) fn check_fit(
    message: &Outgoing<'_>,
    up: &Up,
    plan: &BridgePlan,
) -> Result<(), SinkError> {
    let payload = message.payload.len();
    if plan.max_payload.is_some_and(|limit| payload > limit) {
        let message = format!("a payload of {payload} bytes is over the bridge's limit");
        return Err(SinkError::new(codes::TOO_LARGE, message));
    }
    let largest = [up.limits.maximum_packet_size, plan.max_packet];
    if let Some(limit) = largest.into_iter().flatten().min()
        && about(message) > limit
    {
        // [MQTT-3.1.2-24] Measured, for it comes near.
        let packet = up.size_of(message, plan);
        if packet > limit {
            let message =
                format!("a packet of {packet} bytes is over the remote's limit of {limit}");
            return Err(SinkError::new(codes::TOO_LARGE, message));
        }
    }
    if let Some(limits) = plan.preset.topic_limits
        && !limits.allow(message.topic)
    {
        let message = format!("the topic has more than {limits}");
        return Err(SinkError::new(codes::TOO_LARGE, message));
    }
    Ok(())
}

/// At most how large the packet is: fixed header, topic length, packet id and properties stand beside topic and payload.
pub(super) fn about(message: &Outgoing<'_>) -> usize {
    let around = 32 + message.properties.as_ref().map_or(0, properties_size);
    message.payload.len() + message.topic.len() + around
}

fn properties_size(properties: &PublishProperties) -> usize {
    let pairs = properties.user_properties.iter();
    pairs
        .map(|(name, value)| 5 + name.len() + value.len())
        .sum::<usize>()
        + properties
            .content_type
            .as_ref()
            .map_or(0, |text| text.len())
        + properties
            .response_topic
            .as_ref()
            .map_or(0, |topic| topic.as_str().len())
        + properties.correlation_data.as_ref().map_or(0, Bytes::len)
}

impl Up {
    /// Puts a message on the wire; true when it goes with a lower `QoS` than it wanted.
    pub(super) fn send(
        &mut self,
        message: Outgoing<'_>,
        plan: &BridgePlan,
        mut pending: Pending,
    ) -> Result<bool, NotSent> {
        let qos = message.qos.min(self.limits.maximum_qos).min(plan.qos_cap);
        let lowered = qos < message.qos;
        let may_retain = plan.retain_allowed && plan.preset.may_retain(message.topic);
        let retain = message.retain && self.limits.retain_available && may_retain;
        let numbered = message.numbered.filter(|_| qos > 0);
        if let Some(numbered) = numbered
            && let Some(packet_id) = PacketId::new(numbered.id())
            && self.resumed
            && numbered.released.contains(numbered.seq)
        {
            // The remote has it already: from PUBREC on only PUBREL may follow. [MQTT-4.3.3-6]
            pending.released = Some((Arc::clone(numbered.released), numbered.seq));
            pending.who = None;
            self.outstanding.insert(packet_id.get(), pending);
            self.append(|version, out| PubRel::success(packet_id).encode(version, out));
            return Ok(false);
        }
        let packet_id = match (qos, numbered) {
            (0, _) => None,
            (_, Some(numbered)) => PacketId::new(numbered.id()),
            (2, None) => Some(self.ring_id()),
            (_, None) => Some(self.free_id()),
        };
        let mut publish = Publish {
            // [MQTT-3.3.1-1] As far as it is known.
            dup: self.resumed && numbered.is_some_and(|numbered| numbered.again),
            qos: qos_of(qos),
            retain,
            topic: Utf8::new(message.topic).map_err(|_| unfit("the topic is no MQTT text"))?,
            packet_id,
            properties: None,
            payload: message.payload.clone(),
        };
        if self.version == Version::V5 {
            let size = about(&message);
            let mut properties = message.properties.unwrap_or_default();
            // An alias costs three bytes where it is given.
            if (self.limits.maximum_packet_size).is_none_or(|limit| size <= limit) {
                self.shorten(&mut publish.topic, &mut properties);
            }
            publish.properties =
                (properties != PublishProperties::default()).then(|| properties.into());
        }
        let mut fits = true;
        self.append(|version, out| {
            let encoded = publish.encode(version, out);
            fits = encoded.is_ok();
            encoded
        });
        if !fits {
            return Err(unfit("the message cannot be written as a PUBLISH"));
        }
        match packet_id {
            None => {
                self.unanswered_to += 1;
                self.unwritten.push_back((self.out_total, pending));
            }
            Some(packet_id) => {
                pending.again = publish.dup;
                if qos == 2 {
                    pending.released =
                        numbered.map(|numbered| (Arc::clone(numbered.released), numbered.seq));
                }
                self.outstanding.insert(packet_id.get(), pending);
            }
        }
        Ok(lowered)
    }

    /// How large the packet of a message is, without an alias.
    fn size_of(&self, message: &Outgoing<'_>, plan: &BridgePlan) -> usize {
        let qos = message.qos.min(self.limits.maximum_qos).min(plan.qos_cap);
        let properties = (message.properties.clone())
            .filter(|properties| *properties != PublishProperties::default());
        let publish = Publish {
            dup: false,
            qos: qos_of(qos),
            retain: false,
            topic: Utf8::new(message.topic).unwrap_or_default(),
            packet_id: PacketId::new(1).filter(|_| qos > 0),
            properties: properties
                .filter(|_| self.version == Version::V5)
                .map(Into::into),
            payload: message.payload.clone(),
        };
        let mut packet = Vec::new();
        // What cannot be written at all is found when it is sent.
        let _ = publish.encode(self.version.wire(), &mut packet);
        packet.len()
    }

    /// Puts an alias in the place of a topic that was sent before. `[MQTT-3.3.2-9]`
    fn shorten(&mut self, topic: &mut Utf8, properties: &mut PublishProperties) {
        let most = self.limits.topic_alias_maximum.min(MOST_ALIASES);
        if let Some(alias) = self.aliases.get(topic.as_str()) {
            properties.topic_alias = TopicAlias::new(*alias);
            *topic = Utf8::default();
        } else if self.aliases.len() < usize::from(most)
            && let Ok(alias) = u16::try_from(self.aliases.len() + 1)
        {
            self.aliases.insert(topic.as_str().to_owned(), alias);
            properties.topic_alias = TopicAlias::new(alias);
        }
    }

    pub(in crate::bridge) fn append<E: std::fmt::Debug>(
        &mut self,
        write: impl FnOnce(weir_mqtt::ProtocolVersion, &mut Vec<u8>) -> Result<(), E>,
    ) {
        let before = self.out.len();
        if let Err(error) = write(self.version.wire(), &mut self.out) {
            tracing::error!(?error, "a packet for the remote broker cannot be written");
        }
        self.out_total += (self.out.len() - before) as u64;
    }

    /// The remote has answered for the message under this id for good.
    pub(super) fn settle(&mut self, id: PacketId) -> Option<Pending> {
        let pending = self.outstanding.remove(&id.get())?;
        self.busy_at = Instant::now();
        self.heard_to = self.heard_to.max(pending.behind);
        Some(pending)
    }

    /// The messages over one of which the remote may have closed the link, and whether nothing else can have been it.
    pub(super) fn on_their_way(&self) -> (Vec<Who>, bool) {
        let half = self.half_written();
        let messages = self.outstanding.values().chain(half);
        let on_their_way: Vec<Who> = messages.filter_map(|one| one.who).collect();
        let before = half.map_or(self.unanswered_to, |half| half.behind);
        let nothing_else = self.freeing.is_empty()
            && self.heard_to >= before
            && self.outstanding.len() + usize::from(half.is_some()) == on_their_way.len();
        (on_their_way, nothing_else)
    }

    /// The message of `QoS` 0 of which the socket has a part: the remote may have had enough of it already.
    pub(super) fn half_written(&self) -> Option<&Pending> {
        let (_, first) = self.unwritten.front()?;
        Some(first).filter(|first| first.begins < self.written_total)
    }

    /// Asks the remote to free ids that nothing on this link uses.
    pub(super) fn free(&mut self, ids: impl Iterator<Item = u16>) {
        for id in ids.filter_map(PacketId::new) {
            if !self.outstanding.contains_key(&id.get()) && self.freeing.insert(id.get()) {
                self.append(|version, out| PubRel::success(id).encode(version, out));
            }
        }
    }

    /// A packet id for a message of `QoS` 2 without a number.
    fn ring_id(&mut self) -> PacketId {
        loop {
            // Sending waits for the ids of before, and the window is smaller than the ring.
            self.last_ring = (self.last_ring + 1) % self.ring;
            let id = RING_IDS + self.last_ring;
            let taken = self.outstanding.contains_key(&id) || self.freeing.contains(&id);
            if let Some(id) = PacketId::new(id).filter(|_| !taken) {
                return id;
            }
        }
    }

    /// Whether the remote is shown another token now: nothing else leaves meanwhile.
    pub(in crate::bridge) fn shows_token(&mut self, shows: bool) {
        self.shows_token = shows;
        self.freed.notify_waiters();
    }

    /// A packet id for a SUBSCRIBE, UNSUBSCRIBE or token, whose answer is waited for from now on.
    pub(in crate::bridge) fn ask_id(&mut self, asked: Asked) -> PacketId {
        let id = self.free_id();
        self.asked.insert(id.get(), (Instant::now(), asked));
        id
    }

    /// A packet id for a message of `QoS` 1 without a number, or for a SUBSCRIBE.
    fn free_id(&mut self) -> PacketId {
        loop {
            // The window is far smaller than the ids there are.
            self.last_ask = self.last_ask.checked_add(1).unwrap_or(ASK_IDS);
            let taken = self.outstanding.contains_key(&self.last_ask)
                || self.asked.contains_key(&self.last_ask);
            if let Some(id) = PacketId::new(self.last_ask).filter(|_| !taken) {
                return id;
            }
        }
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        let unwritten = self.unwritten.front().map(|(_, pending)| pending.since);
        self.outstanding
            .values()
            .map(|pending| pending.since)
            .chain(unwritten)
            .min()
    }

    pub(in crate::bridge) const fn version(&self) -> Version {
        self.version
    }

    pub(in crate::bridge) const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(in crate::bridge) const fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }
}

pub(super) const fn is_of_ring(id: u16) -> bool {
    id >= RING_IDS && id < LANE_IDS
}

fn unfit(why: &str) -> NotSent {
    NotSent::Unfit(SinkError::new(codes::BAD_TOPIC, why))
}

const fn qos_of(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
