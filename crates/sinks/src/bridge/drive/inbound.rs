//! What the remote sends: to the broker, and what that says of it back to the remote, in the order in which it came.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use weir_mqtt::{Disconnect, Packet, PacketId, PubAck, PubRec, Publish, QoS, codec};

use super::Link;
use crate::bridge::client::Failure;
use crate::bridge::home::Dropped;
use crate::bridge::home_line::home_failure;

/// Messages of one `QoS` that the remote has sent on this link and that were not acknowledged yet. Those that are dropped
/// here must not be acknowledged ahead of those that the broker has still to take.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Line(VecDeque<Waits>);

#[derive(Debug)]
struct Waits {
    id: PacketId,
    /// What is said of it; `None` until it is known.
    answer: Option<Packet>,
}

impl Line {
    /// A message goes to the broker.
    fn given(&mut self, id: PacketId) {
        self.0.push_back(Waits { id, answer: None });
    }

    /// A message is answered here.
    fn dropped(&mut self, id: PacketId, answer: Packet) {
        let answer = Some(answer);
        self.0.push_back(Waits { id, answer });
    }

    /// The broker has answered.
    fn answered(&mut self, id: PacketId, answer: Packet) {
        let mut waiting = self.0.iter_mut();
        match waiting.find(|waits| waits.id == id && waits.answer.is_none()) {
            Some(waits) => waits.answer = Some(answer),
            // It is of a message before this link.
            None => self.dropped(id, answer),
        }
    }

    /// The next answer that may leave.
    fn next(&mut self) -> Option<Packet> {
        let first = self.0.front()?;
        first.answer.as_ref()?;
        self.0.pop_front()?.answer
    }
}

/// The two lines of a link: the order is that of each `QoS` by itself.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Lines {
    /// [MQTT-4.6.0-2] PUBACK in the order of PUBLISH.
    acks: Line,
    /// [MQTT-4.6.0-3] PUBREC too.
    recs: Line,
}

impl Link {
    /// A message of the remote, to the broker under the id that it has.
    pub(super) fn received(&mut self, publish: Publish) {
        self.inner.stats.received.fetch_add(1, Relaxed);
        self.inner
            .stats
            .received_bytes
            .fetch_add(publish.payload.len() as u64, Relaxed);
        let taken = self.home.as_ref().is_some_and(|home| home.takes(&publish));
        if self.home.is_some() && !taken {
            self.inner.gateway.count_dropped(Dropped::TooLarge);
            tracing::warn!(connector = %self.inner.health.name(), bytes = publish.payload.len(), "a message of the remote is larger than mqtt.max_packet_size and is dropped");
        }
        match &mut self.home {
            Some(home) if taken => {
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => self.lines.acks.given(id),
                    (QoS::ExactlyOnce, Some(id)) => self.lines.recs.given(id),
                    _ => {}
                }
                home.send(&Packet::Publish(publish));
            }
            // Too large; or of a session of before, when there was an `in`. It would only come again.
            _ => self.goes_nowhere(&publish),
        }
    }

    /// A message of which the broker never hears is acknowledged when its turn comes.
    pub(super) fn goes_nowhere(&mut self, publish: &Publish) {
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => {
                let ack = Packet::PubAck(PubAck::success(id));
                self.lines.acks.dropped(id, ack);
            }
            (QoS::ExactlyOnce, Some(id)) => {
                let rec = Packet::PubRec(PubRec::success(id));
                self.lines.recs.dropped(id, rec);
            }
            _ => return,
        }
        self.answer();
    }

    /// What the broker says of the remote's messages goes to the remote: it is kept.
    pub(super) fn read_home(&mut self) -> Result<(), Failure> {
        let Some(home) = &mut self.home else {
            return Ok(());
        };
        while let Some(packet) = home
            .reader
            .next()
            .map_err(|_| home_failure("was told what it does not understand"))?
        {
            match packet {
                Packet::PubAck(ack) => {
                    self.inner.stats.received_acknowledged.fetch_add(1, Relaxed);
                    self.lines.acks.answered(ack.packet_id, Packet::PubAck(ack));
                }
                Packet::PubRec(rec) => self.lines.recs.answered(rec.packet_id, Packet::PubRec(rec)),
                Packet::PubComp(comp) => {
                    self.inner.stats.received_acknowledged.fetch_add(1, Relaxed);
                    let comp = Packet::PubComp(comp);
                    self.inner
                        .with_up(|up| up.append(|version, out| codec::encode(&comp, version, out)));
                }
                Packet::Disconnect(Disconnect { reason, .. }) => {
                    return Err(home_failure(reason.name()));
                }
                _ => {}
            }
        }
        self.answer();
        Ok(())
    }

    /// Every answer whose turn it is.
    fn answer(&mut self) {
        let Lines { acks, recs } = &mut self.lines;
        self.inner.with_up(|up| {
            for line in [acks, recs] {
                while let Some(answer) = line.next() {
                    up.append(|version, out| codec::encode(&answer, version, out));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn ack(number: u16) -> Packet {
        Packet::PubAck(PubAck::success(id(number)))
    }

    fn leaves(line: &mut Line) -> Vec<u16> {
        let answers = std::iter::from_fn(|| line.next());
        let number = |answer| match answer {
            Packet::PubAck(ack) => ack.packet_id.get(),
            other => panic!("{other:?}"),
        };
        answers.map(number).collect()
    }

    /// [MQTT-4.6.0-2]
    #[test]
    fn what_is_dropped_is_acknowledged_behind_what_came_before_it() {
        let mut line = Line::default();
        line.given(id(1));
        line.dropped(id(2), ack(2));
        line.given(id(3));
        line.dropped(id(4), ack(4));
        assert!(leaves(&mut line).is_empty(), "the broker has taken nothing");
        line.answered(id(1), ack(1));
        assert_eq!(leaves(&mut line), [1, 2]);
        line.answered(id(3), ack(3));
        assert_eq!(leaves(&mut line), [3, 4]);
        line.dropped(id(5), ack(5));
        assert_eq!(leaves(&mut line), [5]);
    }

    #[test]
    fn an_answer_to_a_message_of_before_waits_for_its_turn_like_any_other() {
        let mut line = Line::default();
        line.answered(id(9), ack(9));
        assert_eq!(leaves(&mut line), [9]);
        line.given(id(1));
        line.answered(id(9), ack(9));
        assert!(leaves(&mut line).is_empty());
        line.answered(id(1), ack(1));
        assert_eq!(leaves(&mut line), [1, 9]);
    }

    #[test]
    fn one_packet_identifier_that_comes_twice_is_answered_twice_in_order() {
        let mut line = Line::default();
        line.given(id(1));
        line.given(id(2));
        line.given(id(1));
        line.answered(id(1), ack(1));
        assert_eq!(leaves(&mut line), [1]);
        line.answered(id(2), ack(2));
        line.answered(id(1), ack(1));
        assert_eq!(leaves(&mut line), [2, 1]);
    }
}
