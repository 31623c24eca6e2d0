//! The client's half of a session that outlives connections: what is resent, in which order, and what came already.
//! No socket and no clock.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use weir_mqtt::{
    Packet, PacketId, PubAck, PubComp, PubRec, PubRel, Publish, QoS, ReasonCode, Utf8,
};

use super::verdict::{Arrival, Fate, Sender};

/// What a publisher has under way, and its log.
#[derive(Debug)]
pub(crate) struct Outbound {
    topic: Utf8,
    sender: u32,
    qos: QoS,
    retain: bool,
    window: usize,
    next_id: PacketId,
    /// In the order in which they were sent first. `[MQTT-4.6.0-1]`
    flights: VecDeque<Flight>,
    pub(crate) log: Sender,
    /// PUBLISH packets that were written again.
    pub(crate) resent: u64,
}

#[derive(Debug)]
struct Flight {
    id: PacketId,
    number: u32,
    /// PUBREC has come: from now on only PUBREL is sent. `[MQTT-4.3.3-6]`
    received: bool,
}

impl Outbound {
    pub(crate) fn new(topic: Utf8, sender: u32, qos: QoS, retain: bool, window: usize) -> Self {
        Self {
            topic,
            sender,
            qos,
            retain,
            window,
            next_id: PacketId::MIN,
            flights: VecDeque::new(),
            log: Sender {
                qos: qos as u8,
                messages: Vec::new(),
            },
            resent: 0,
        }
    }

    /// Whether one more may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.flights.len() < self.window
    }

    /// Whether everything that was sent is answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.flights.is_empty()
    }

    /// The next message.
    pub(crate) fn send(&mut self) -> Packet {
        self.log.messages.push(super::verdict::Sent::default());
        let number = u32::try_from(self.log.messages.len()).unwrap_or(u32::MAX);
        let mut id = self.next_id;
        while self.flights.iter().any(|flight| flight.id == id) {
            id = id.next();
        }
        self.next_id = id.next();
        self.flights.push_back(Flight {
            id,
            number,
            received: false,
        });
        self.publish(id, number, false)
    }

    fn publish(&mut self, id: PacketId, number: u32, dup: bool) -> Packet {
        if let Some(sent) = entry(&mut self.log, number) {
            sent.times += 1;
        }
        let payload = format!("{{\"p\":{},\"n\":{number}}}", self.sender);
        let mut publish = Publish::new(self.topic.clone(), Bytes::from(payload));
        publish.qos = self.qos;
        publish.retain = self.retain;
        publish.dup = dup;
        publish.packet_id = Some(id);
        Packet::Publish(publish)
    }

    /// What a new connection begins with: everything that is not answered, as it was sent first. `[MQTT-4.4.0-1]`
    pub(crate) fn resume(&mut self, session_present: bool) -> Vec<Packet> {
        if !session_present {
            // A broker that knows nothing of them knows nothing of a PUBREL either: they are new to it.
            for flight in &mut self.flights {
                flight.received = false;
            }
        }
        let again: Vec<(PacketId, u32, bool)> = self
            .flights
            .iter()
            .map(|flight| (flight.id, flight.number, flight.received))
            .collect();
        again
            .into_iter()
            .map(|(id, number, received)| {
                if received {
                    return Packet::PubRel(PubRel::success(id));
                }
                self.resent += 1;
                self.publish(id, number, session_present)
            })
            .collect()
    }

    /// Takes an acknowledgement in; what is to be answered, if anything.
    pub(crate) fn acknowledged(&mut self, packet: &Packet) -> Option<Packet> {
        match packet {
            Packet::PubAck(ack) => self.settle(ack.packet_id, ack.reason),
            Packet::PubComp(comp) => self.settle(comp.packet_id, comp.reason),
            Packet::PubRec(rec) if rec.reason.is_error() => self.settle(rec.packet_id, rec.reason),
            Packet::PubRec(rec) => {
                let flight = self.flight(rec.packet_id);
                if let Some(flight) = flight {
                    flight.received = true;
                }
                return Some(Packet::PubRel(PubRel::success(rec.packet_id)));
            }
            _ => {}
        }
        None
    }

    fn flight(&mut self, id: PacketId) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.id == id)
    }

    fn settle(&mut self, id: PacketId, reason: ReasonCode) {
        let Some(place) = self.flights.iter().position(|flight| flight.id == id) else {
            return;
        };
        let Some(flight) = self.flights.remove(place) else {
            return;
        };
        // PUBREC has said that the message is taken; a PUBCOMP that does not know it any more takes nothing back.
        let fate = if reason.is_error() && !flight.received {
            Fate::Refused
        } else {
            Fate::Acknowledged
        };
        if let Some(sent) = entry(&mut self.log, flight.number) {
            sent.fate = fate;
        }
    }
}

fn entry(log: &mut Sender, number: u32) -> Option<&mut super::verdict::Sent> {
    let place = usize::try_from(number).ok()?.checked_sub(1)?;
    log.messages.get_mut(place)
}

/// What a subscriber remembers over connections.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// QoS 2 messages that were taken and whose PUBREL has not come. `[MQTT-4.3.3-10]`
    received: HashSet<PacketId>,
    /// QoS 1 messages of earlier connections: their acknowledgement may have been lost on its way.
    earlier: HashSet<(u32, u32)>,
    now: HashSet<(u32, u32)>,
}

impl Inbound {
    /// A new connection begins.
    pub(crate) fn resume(&mut self, session_present: bool) {
        if !session_present {
            self.received.clear();
        }
        // Only what came a moment before the connection was lost can be in question, but nothing says how long that is.
        self.earlier.extend(self.now.drain());
    }

    /// Takes a packet in: the message in it, if it is a new one, and the answer.
    pub(crate) fn take(&mut self, packet: &Packet) -> (Option<Arrival>, Option<Packet>) {
        match packet {
            Packet::Publish(publish) => {
                let arrival = read(&publish.payload);
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => {
                        let arrival = arrival.map(|mut arrival| {
                            let message = (arrival.sender, arrival.number);
                            arrival.repeat = publish.dup || self.earlier.contains(&message);
                            self.now.insert(message);
                            arrival
                        });
                        (arrival, Some(Packet::PubAck(PubAck::success(id))))
                    }
                    (QoS::ExactlyOnce, Some(id)) => {
                        let is_new = self.received.insert(id);
                        let answer = Packet::PubRec(PubRec::success(id));
                        (arrival.filter(|_| is_new), Some(answer))
                    }
                    _ => (arrival, None),
                }
            }
            Packet::PubRel(rel) => {
                self.received.remove(&rel.packet_id);
                let answer = Packet::PubComp(PubComp::success(rel.packet_id));
                (None, Some(answer))
            }
            _ => (None, None),
        }
    }
}

/// `{"p":1,"n":2}`
pub(crate) fn read(payload: &[u8]) -> Option<Arrival> {
    let json: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let number = |key: &str| u32::try_from(json.get(key)?.as_u64()?).ok();
    Some(Arrival {
        sender: number("p")?,
        number: number("n")?,
        repeat: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(qos: QoS) -> Outbound {
        Outbound::new(Utf8::new("t").unwrap(), 3, qos, false, 4)
    }

    fn id(id: u16) -> PacketId {
        PacketId::new(id).unwrap()
    }

    /// `P1`, `P1d`, `R1`: a PUBLISH, one with DUP, a PUBREL.
    fn said(packets: &[Packet]) -> Vec<String> {
        let one = |packet: &Packet| match packet {
            Packet::Publish(publish) => {
                let dup = if publish.dup { "d" } else { "" };
                format!("P{}{dup}", publish.packet_id.unwrap())
            }
            Packet::PubRel(rel) => format!("R{}", rel.packet_id),
            other => other.name().to_owned(),
        };
        packets.iter().map(one).collect()
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order_with_its_id_and_dup() {
        let mut outbound = outbound(QoS::AtLeastOnce);
        let first: Vec<Packet> = (0..3).map(|_| outbound.send()).collect();
        assert_eq!(said(&first), ["P1", "P2", "P3"]);
        outbound.acknowledged(&Packet::PubAck(PubAck::success(id(2))));
        assert_eq!(said(&outbound.resume(true)), ["P1d", "P3d"]);
        let times: Vec<u32> = outbound
            .log
            .messages
            .iter()
            .map(|sent| sent.times)
            .collect();
        assert_eq!((times, outbound.resent), (vec![2, 1, 2], 2));
        assert_eq!(outbound.log.messages[1].fate, Fate::Acknowledged);
    }

    #[test]
    fn after_pubrec_only_pubrel_is_sent_again() {
        let mut outbound = outbound(QoS::ExactlyOnce);
        outbound.send();
        outbound.send();
        let answer = outbound.acknowledged(&Packet::PubRec(PubRec::success(id(1))));
        assert_eq!(said(&[answer.unwrap()]), ["R1"]);
        assert_eq!(said(&outbound.resume(true)), ["R1", "P2d"]);
        assert_eq!(outbound.log.messages[0].times, 1);
        outbound.acknowledged(&Packet::PubComp(PubComp::success(id(1))));
        assert_eq!(outbound.log.messages[0].fate, Fate::Acknowledged);
        assert!(!outbound.is_quiet());
    }

    #[test]
    fn a_refusal_is_logged_as_one_and_not_sent_again() {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut outbound = outbound(qos);
            outbound.send();
            let reason = ReasonCode::QuotaExceeded;
            let refusal = match qos {
                QoS::AtLeastOnce => Packet::PubAck(PubAck::new(id(1), reason)),
                _ => Packet::PubRec(PubRec::new(id(1), reason)),
            };
            assert!(outbound.acknowledged(&refusal).is_none());
            assert_eq!(outbound.log.messages[0].fate, Fate::Refused);
            assert!(outbound.resume(true).is_empty());
        }
    }

    #[test]
    fn an_id_in_use_is_not_given_again() {
        let mut outbound = outbound(QoS::AtLeastOnce);
        outbound.send();
        outbound.next_id = id(1);
        assert_eq!(said(&[outbound.send()]), ["P2"]);
    }

    fn message(qos: QoS, packet: u16, dup: bool) -> Packet {
        let payload = Bytes::from_static(b"{\"p\":1,\"n\":2}");
        let mut publish = Publish::new(Utf8::new("t").unwrap(), payload);
        publish.qos = qos;
        publish.dup = dup;
        publish.packet_id = Some(id(packet));
        Packet::Publish(publish)
    }

    #[test]
    fn a_subscriber_takes_a_qos_2_id_once_until_it_is_released() {
        let mut inbound = Inbound::default();
        let came = |inbound: &mut Inbound, dup| {
            let packet = message(QoS::ExactlyOnce, 5, dup);
            inbound.take(&packet).0.is_some()
        };
        assert!(came(&mut inbound, false));
        inbound.resume(true);
        assert!(!came(&mut inbound, true));
        let (_, answer) = inbound.take(&Packet::PubRel(PubRel::success(id(5))));
        assert!(matches!(answer, Some(Packet::PubComp(_))));
        assert!(came(&mut inbound, false), "a new message under an old id");
    }

    #[test]
    fn a_subscriber_marks_qos_1_repeats_that_it_can_explain() {
        let mut inbound = Inbound::default();
        let repeat = |inbound: &mut Inbound, dup| {
            let packet = message(QoS::AtLeastOnce, 5, dup);
            inbound.take(&packet).0.unwrap().repeat
        };
        assert!(!repeat(&mut inbound, false));
        assert!(
            !repeat(&mut inbound, false),
            "twice in one connection without DUP"
        );
        assert!(repeat(&mut inbound, true));
        inbound.resume(true);
        assert!(repeat(&mut inbound, false));
    }
}
