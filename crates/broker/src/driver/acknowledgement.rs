//! PUBACK, PUBREC, PUBREL and PUBCOMP from a client.

use std::sync::Arc;

use weir_mqtt::properties::AckProperties;
use weir_mqtt::{PubAck, PubComp, PubRec, PubRel, ReasonCode};

use super::client::{Client, Leave};
use super::events::{self, Receiver};
use crate::core::message::Message;

/// What is said of a packet identifier that belongs to a publish under way, or to none.
const fn found(known: bool) -> (ReasonCode, &'static str) {
    if known {
        (ReasonCode::Success, "")
    } else {
        let why = "no publish with this packet identifier is under way";
        (ReasonCode::PacketIdentifierNotFound, why)
    }
}

impl Client {
    pub(super) fn puback(&mut self, puback: &PubAck) -> Result<(), Leave> {
        let message = self
            .handle
            .lock()
            .session
            .puback(puback.packet_id, &mut self.router.effects);
        self.arrived(message, puback.properties.as_deref());
        Ok(())
    }

    pub(super) fn pubrec(&mut self, pubrec: &PubRec) -> Result<(), Leave> {
        let (id, refused) = (pubrec.packet_id, pubrec.reason.is_error());
        let (due, message) =
            self.handle
                .lock()
                .session
                .pubrec(id, refused, &mut self.router.effects);
        self.arrived(message, pubrec.properties.as_deref());
        if refused {
            return Ok(());
        }
        // [MQTT-4.3.3-4] Also for an identifier that is not known here, so that the client can forget it.
        let (reason, why) = found(due);
        self.reply_because(why, |properties, version, out| {
            let pubrel = PubRel {
                properties,
                ..PubRel::new(id, reason)
            };
            pubrel.encode(version, out)
        })
    }

    pub(super) fn pubrel(&mut self, pubrel: &PubRel) -> Result<(), Leave> {
        let id = pubrel.packet_id;
        let known = self
            .handle
            .lock()
            .session
            .release(id, &mut self.router.effects);
        // [MQTT-4.3.3-11]
        let (reason, why) = found(known);
        self.reply_because(why, |properties, version, out| {
            let pubcomp = PubComp {
                properties,
                ..PubComp::new(id, reason)
            };
            pubcomp.encode(version, out)
        })
    }

    pub(super) fn pubcomp(&mut self, pubcomp: &PubComp) -> Result<(), Leave> {
        self.acknowledged += 1;
        self.refill |= self
            .handle
            .lock()
            .session
            .pubcomp(pubcomp.packet_id, &mut self.router.effects);
        Ok(())
    }

    /// An acknowledgement has come: there is room for more, and perhaps someone wants to know.
    fn arrived(&mut self, message: Option<Arc<Message>>, said: Option<&AckProperties>) {
        self.refill = true;
        self.acknowledged += 1;
        if let Some(message) = message
            && self.router.watch().acked
        {
            let receiver = Receiver {
                client_id: &self.handle.client_id,
                subject: Some(&self.subject),
            };
            let nothing = AckProperties::default();
            let said = Some(said.unwrap_or(&nothing));
            let event = events::of_receiver(&events::ACKED, &message, receiver, None, said);
            self.router.observe(event);
        }
    }
}
