//! Publishing ahead of acknowledgements: messages leave in their order, and a bounded number of them is under way.

use std::collections::HashMap;

use tokio::time::{Instant, sleep_until};
use weir_mqtt::properties::MaximumQoS;
use weir_mqtt::{Packet, PacketId, ProtocolVersion, PubRel, Publish, QoS, ReasonCode, Utf8};

use super::{Client, ClientError};
use crate::core::Millis;

/// So many messages are under way, or fewer where the broker takes fewer.
const WINDOW: usize = 256;
/// A packet is longer than its topic, payload and properties by no more than this.
const MOST_HEAD_BYTES: usize = 16;

/// What became of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Written to the connection.
    pub published: u64,
    /// Of QoS 1 and 2: taken over by the broker.
    pub acknowledged: u64,
    /// Not taken by the broker, or of a kind that it has said that it takes none of.
    pub refused: u64,
    /// The first of these: its topic, and why.
    pub first_refusal: Option<(Utf8, ReasonCode)>,
}

/// A client that publishes ahead.
pub struct Ahead {
    client: Client,
    window: usize,
    /// What is under way: its topic, and when it had come, if that is known.
    in_flight: HashMap<PacketId, (Utf8, Option<Millis>)>,
    tally: Tally,
}

impl Ahead {
    /// Publishes over this connection.
    pub fn new(client: Client) -> Self {
        let granted = &client.granted;
        // [MQTT-3.3.4-9] [MQTT-4.9.0-2]
        let window = granted
            .receive_maximum
            .map_or(WINDOW, |most| usize::from(most.get()).min(WINDOW));
        Self {
            client,
            window,
            in_flight: HashMap::new(),
            tally: Tally::default(),
        }
    }

    /// What became of the messages so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many were not answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The smallest time at which one of those had come that were not answered yet.
    pub fn first_in_flight(&self) -> Option<Millis> {
        self.in_flight.values().filter_map(|(_, at)| *at).min()
    }

    /// Resolves when another message may be under way. May be given up at any time.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn room(&mut self) -> Result<(), ClientError> {
        while self.in_flight.len() >= self.window {
            self.take_in().await?;
        }
        Ok(())
    }

    /// Sends a message that had come `at`, for which there is [`room`](Self::room). One that the broker has said that it does not take counts as
    /// refused.
    ///
    /// # Errors
    /// When the connection is lost, or when the message cannot be sent by the protocol.
    pub async fn send(
        &mut self,
        mut publish: Publish,
        at: Option<Millis>,
    ) -> Result<(), ClientError> {
        if self.client.version != ProtocolVersion::V5 {
            publish.properties = None;
        }
        if let Some(reason) = self.is_too_much(&publish) {
            self.refused(publish.topic, reason);
            return Ok(());
        }
        publish.dup = false;
        publish.packet_id = None;
        if publish.qos > QoS::AtMostOnce {
            let id = self.free_id();
            publish.packet_id = Some(id);
            self.in_flight.insert(id, (publish.topic.clone(), at));
        }
        self.client.send(&Packet::Publish(publish)).await?;
        self.tally.published += 1;
        Ok(())
    }

    fn is_too_much(&self, publish: &Publish) -> Option<ReasonCode> {
        let granted = &self.client.granted;
        let most = match granted.maximum_qos {
            Some(MaximumQoS::AtMostOnce) => QoS::AtMostOnce,
            Some(MaximumQoS::AtLeastOnce) => QoS::AtLeastOnce,
            None => QoS::ExactlyOnce,
        };
        // [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15]
        let bytes = publish.topic.len() + publish.payload.len() + MOST_HEAD_BYTES;
        let fits = |most: std::num::NonZeroU32| u32::try_from(bytes).is_ok_and(|n| n <= most.get());
        if publish.qos > most {
            Some(ReasonCode::QoSNotSupported)
        } else if publish.retain && granted.retain_available == Some(false) {
            Some(ReasonCode::RetainNotSupported)
        } else if !granted.maximum_packet_size.is_none_or(fits) {
            Some(ReasonCode::PacketTooLarge)
        } else {
            None
        }
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            let id = self.client.take_id();
            if !self.in_flight.contains_key(&id) {
                return id;
            }
        }
    }

    fn refused(&mut self, topic: Utf8, reason: ReasonCode) {
        self.tally.refused += 1;
        self.tally.first_refusal.get_or_insert((topic, reason));
    }

    /// Handles what the broker sends, until then. May be given up at any time.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn until(&mut self, then: Instant) -> Result<(), ClientError> {
        while Instant::now() < then {
            tokio::select! {
                () = sleep_until(then) => break,
                taken = self.take_in() => taken?,
            }
        }
        Ok(())
    }

    /// Handles the next packet; an idle connection is kept alive. May be given up at any time.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn take_in(&mut self) -> Result<(), ClientError> {
        let (id, reason) = match self.client.receive().await? {
            Packet::PubAck(ack) => (ack.packet_id, ack.reason),
            Packet::PubRec(rec) if !rec.reason.is_error() => {
                let release = PubRel::success(rec.packet_id);
                return self.client.send(&Packet::PubRel(release)).await;
            }
            Packet::PubRec(rec) => (rec.packet_id, rec.reason),
            Packet::PubComp(comp) => (comp.packet_id, comp.reason),
            other => return self.client.take_in(other).await,
        };
        if let Some((topic, _)) = self.in_flight.remove(&id) {
            if reason.is_error() {
                self.refused(topic, reason);
            } else {
                self.tally.acknowledged += 1;
            }
        }
        Ok(())
    }

    /// Resolves when nothing is under way any more. May be given up at any time.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn settled(&mut self) -> Result<(), ClientError> {
        while !self.in_flight.is_empty() {
            self.take_in().await?;
        }
        Ok(())
    }

    /// Says good-bye.
    ///
    /// # Errors
    /// When the connection was lost before.
    pub async fn disconnect(self) -> Result<(), ClientError> {
        self.client.disconnect().await
    }
}
