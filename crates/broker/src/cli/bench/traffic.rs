//! The publishers: windows and rates, numbered and stamped messages, and the wait for what is under way.

use std::time::Duration;

use bytes::Bytes;
use weir_mqtt::{PacketId, Publish, QoS, Utf8};

use super::engine::{Engine, Settings};
use super::plan::Stream;
use super::progress::Progress;

/// What every payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub run: u32,
    pub stream: u32,
    pub number: u64,
    /// When it was sent, by this process's clock.
    pub sent_ns: u64,
}

/// The length of a [`Stamp`].
pub(super) const STAMP: usize = 24;

impl Stamp {
    fn to_bytes(self) -> [u8; STAMP] {
        let mut bytes = [0; STAMP];
        bytes[..4].copy_from_slice(&self.run.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..].copy_from_slice(&self.sent_ns.to_le_bytes());
        bytes
    }

    #[inline]
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (run, rest) = payload.split_first_chunk()?;
        let (stream, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (sent_ns, _) = rest.split_first_chunk()?;
        Some(Self {
            run: u32::from_le_bytes(*run),
            stream: u32::from_le_bytes(*stream),
            number: u64::from_le_bytes(*number),
            sent_ns: u64::from_le_bytes(*sent_ns),
        })
    }
}

/// A stream with its PUBLISH, encoded once up to the padding: a message is a copy with another stamp.
pub(super) struct StreamState {
    pub publisher: usize,
    deliveries: u64,
    /// How many messages were sent.
    pub sent: u64,
    head: Vec<u8>,
    packet_id_at: Option<usize>,
}

impl StreamState {
    pub(super) fn new(stream: &Stream, settings: &Settings) -> Result<Self, String> {
        let size = settings.size.max(STAMP);
        let topic = Utf8::new(&stream.topic).map_err(|error| error.to_string())?;
        let mut publish = Publish::new(topic, Bytes::from(vec![0; size]));
        publish.qos = settings.publish_qos;
        let has_id = settings.publish_qos > QoS::AtMostOnce;
        publish.packet_id = has_id.then_some(PacketId::MIN);
        let mut head = Vec::new();
        publish
            .encode(settings.version, &mut head)
            .map_err(|error| error.to_string())?;
        let payload_at = head.len() - size;
        head.truncate(payload_at + STAMP);
        // MQTT 5 has one byte between them: no properties.
        let properties = usize::from(settings.version.is_v5());
        Ok(Self {
            publisher: stream.publisher,
            deliveries: stream.deliveries,
            sent: 0,
            packet_id_at: has_id.then(|| payload_at - properties - 2),
            head,
        })
    }

    /// Appends the next message.
    #[inline]
    fn write(&mut self, stamp: Stamp, packet_id: u16, padding: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(self.head.len() + padding.len());
        out.extend_from_slice(&self.head[..self.head.len() - STAMP]);
        if let Some(at) = self.packet_id_at {
            out[start + at..start + at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        out.extend_from_slice(&stamp.to_bytes());
        out.extend_from_slice(padding);
        self.sent += 1;
    }
}

/// A publisher's window.
pub(super) struct Publisher {
    link: usize,
    streams: Vec<usize>,
    /// Subscribers that each of its messages reaches.
    deliveries: u64,
    expected: u64,
    pub delivered: u64,
    /// Deliveries that it no longer waits for.
    given_up: u64,
    unacknowledged: usize,
    last_id: u16,
    /// Packet identifiers that are under way, a bit each.
    under_way: Vec<u64>,
    random: u64,
    /// What was delivered when it last looked, and when that was.
    seen: (u64, u64),
}

impl Publisher {
    pub(super) fn new(link: usize, streams: Vec<usize>, deliveries: u64, number: usize) -> Self {
        Self {
            link,
            streams,
            deliveries: deliveries.max(1),
            expected: 0,
            delivered: 0,
            given_up: 0,
            unacknowledged: 0,
            last_id: 0,
            under_way: Vec::new(),
            random: 0x9E37_79B9_7F4A_7C15 ^ (number as u64 + 1).wrapping_mul(0xD134_2543_DE82_EF95),
            seen: (0, 0),
        }
    }

    /// One of its streams, by chance; the same ones in each run.
    fn pick(&mut self) -> usize {
        if let [only] = self.streams[..] {
            return only;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let among = self.streams.len() as u64;
        let place = usize::try_from((self.random >> 11) % among).expect("less than a length");
        self.streams[place]
    }

    /// A packet identifier that is free; 0 without acknowledgements.
    fn take_id(&mut self, qos: QoS) -> u16 {
        if qos == QoS::AtMostOnce {
            return 0;
        }
        if self.under_way.is_empty() {
            self.under_way = vec![0; (usize::from(u16::MAX) + 1) / 64];
        }
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            let (word, bit) = place_of(self.last_id);
            if self.under_way[word] & bit == 0 {
                self.under_way[word] |= bit;
                self.unacknowledged += 1;
                return self.last_id;
            }
        }
    }

    /// Frees a packet identifier; whether it was under way.
    pub(super) fn settle(&mut self, packet_id: u16) -> bool {
        let (word, bit) = place_of(packet_id);
        match self.under_way.get_mut(word) {
            Some(taken) if *taken & bit != 0 => {
                *taken &= !bit;
                self.unacknowledged -= 1;
                true
            }
            _ => false,
        }
    }

    /// Messages that have not reached all their subscribers.
    fn outstanding(&self) -> usize {
        let deliveries = self.expected.saturating_sub(self.delivered + self.given_up);
        usize::try_from(deliveries.div_ceil(self.deliveries)).unwrap_or(usize::MAX)
    }
}

/// The word and the bit of a packet identifier.
fn place_of(packet_id: u16) -> (usize, u64) {
    (usize::from(packet_id / 64), 1 << (packet_id % 64))
}

/// The most messages without an acknowledgement in a paced run, far from all packet identifiers.
const MOST_UNACKNOWLEDGED: usize = 20_000;
/// A publisher with so much unwritten waits for the socket.
const MOST_UNWRITTEN: usize = 64 * 1024;
/// How long a publisher waits for deliveries that do not come.
const GIVE_UP_NS: u64 = 1_000_000_000;
const STALL_CHECK_NS: u64 = 100_000_000;

impl Engine {
    /// Publishes for `time`.
    pub(super) fn publish_for(
        &mut self,
        time: Duration,
        progress: &mut Progress,
    ) -> std::io::Result<()> {
        let start = self.now_ns();
        let length = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let end = start.saturating_add(length);
        let mut pace = Pace {
            start,
            issued: 0,
            turn: 0,
        };
        let mut stall_check = start;
        for publisher in &mut self.publishers {
            publisher.seen.1 = start;
        }
        loop {
            let now = self.now_ns();
            if now >= end {
                return Ok(());
            }
            let mut longest = (end - now).min(50_000_000);
            if self.settings.rate > 0 {
                longest = longest.min(self.publish_due(&mut pace, now));
            } else {
                self.publish_windows(&mut pace);
                if now - stall_check > STALL_CHECK_NS {
                    stall_check = now;
                    self.give_up_stalled(now);
                }
            }
            self.flush_dirty();
            self.step(Duration::from_nanos(longest))?;
            progress.show_time(Duration::from_nanos(now - start), time, "");
        }
    }

    /// Sends what is due by now; nanoseconds until the next one is.
    fn publish_due(&mut self, pace: &mut Pace, now: u64) -> u64 {
        let rate = self.settings.rate;
        let due = pace.due(now, rate);
        while pace.issued < due {
            let publisher = pace.turn % self.publishers.len();
            pace.turn += 1;
            let wanted = pace.time_of(pace.issued, rate);
            pace.issued += 1;
            if self.room(publisher) > 0 {
                self.lateness
                    .saturating_record(now.saturating_sub(wanted).max(1));
                self.publish(publisher, now);
            }
        }
        pace.time_of(pace.issued + 1, rate)
            .saturating_sub(now)
            .max(1)
    }

    /// Fills the windows that have room for a good number of messages.
    fn publish_windows(&mut self, pace: &mut Pace) {
        let publishers = self.publishers.len();
        let batch = (self.settings.window / 2).max(1);
        for offset in 0..publishers {
            let publisher = (offset + pace.turn) % publishers;
            let link = &self.links[self.publishers[publisher].link];
            if link.blocked || link.out.len() > MOST_UNWRITTEN {
                continue;
            }
            let least = if self.settings.publish_qos > QoS::AtMostOnce {
                batch.min(link.receive_maximum.div_ceil(2))
            } else {
                batch
            };
            let room = self.room(publisher);
            if room < least {
                continue;
            }
            let now = self.now_ns();
            for _ in 0..room {
                self.publish(publisher, now);
            }
        }
        pace.turn = (pace.turn + 1) % publishers;
    }

    /// How many messages this publisher may send now.
    #[inline]
    fn room(&self, publisher: usize) -> usize {
        let publisher = &self.publishers[publisher];
        let link = &self.links[publisher.link];
        if !link.is_ready() {
            return 0;
        }
        let paced = self.settings.rate > 0;
        let most = if paced {
            MOST_UNACKNOWLEDGED
        } else {
            self.settings.window
        };
        let mut room = most.saturating_sub(publisher.unacknowledged);
        if self.settings.publish_qos > QoS::AtMostOnce {
            room = room.min(
                link.receive_maximum
                    .saturating_sub(publisher.unacknowledged),
            );
        }
        if !paced {
            room = room.min(most.saturating_sub(publisher.outstanding()));
        }
        room
    }

    fn publish(&mut self, publisher: usize, now: u64) {
        let publisher = &mut self.publishers[publisher];
        let at = publisher.pick();
        let packet_id = publisher.take_id(self.settings.publish_qos);
        let stream = &mut self.streams[at];
        let stamp = Stamp {
            run: self.run,
            stream: u32::try_from(at).expect("fewer streams than that"),
            number: stream.sent,
            sent_ns: now,
        };
        publisher.expected += stream.deliveries;
        self.tally.sent += 1;
        self.tally.expected += stream.deliveries;
        let key = publisher.link;
        stream.write(stamp, packet_id, &self.padding, &mut self.links[key].out);
        self.mark_dirty(key);
    }

    /// A publisher to which nothing comes back for a second goes on without what is under way.
    fn give_up_stalled(&mut self, now: u64) {
        for publisher in &mut self.publishers {
            let missing = publisher
                .expected
                .saturating_sub(publisher.delivered + publisher.given_up);
            if publisher.delivered != publisher.seen.0 || missing == 0 {
                publisher.seen = (publisher.delivered, now);
            } else if now - publisher.seen.1 > GIVE_UP_NS {
                publisher.given_up += missing;
                publisher.seen.1 = now;
                self.tally.given_up += missing;
            }
        }
    }

    /// Takes in what is under way, until all has come or nothing does for `patience`.
    pub(super) fn drain(&mut self, patience: Duration) -> std::io::Result<()> {
        let mut seen = ((0, 0), self.now_ns());
        loop {
            let unacknowledged: usize = self.publishers.iter().map(|one| one.unacknowledged).sum();
            let all = self.tally.received >= self.tally.expected && unacknowledged == 0;
            self.step(Duration::from_millis(20))?;
            // One look more: what comes after all has come is a duplicate.
            if all {
                return Ok(());
            }
            let came = (self.tally.received, self.tally.acknowledged);
            let now = self.now_ns();
            if came != seen.0 {
                seen = (came, now);
            } else if Duration::from_nanos(now - seen.1) > patience {
                return Ok(());
            }
        }
    }

    /// Deliveries that never came.
    pub(super) fn lost_messages(&self) -> u64 {
        let of = |link: &super::link::Link| -> u64 {
            link.arrivals
                .iter()
                .enumerate()
                .filter_map(|(place, arrivals)| {
                    let stream = self.streams.get(place * link.step + link.first)?;
                    Some(arrivals.missing(stream.sent))
                })
                .sum()
        };
        self.links.iter().map(of).sum()
    }
}

/// How far a publishing run has come.
struct Pace {
    start: u64,
    /// Messages whose time has come.
    issued: u64,
    /// Whose turn it is.
    turn: usize,
}

impl Pace {
    /// How many messages are due by `now`.
    fn due(&self, now: u64, rate: u64) -> u64 {
        let due = u128::from(now - self.start) * u128::from(rate) / 1_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// When message `number` is due.
    fn time_of(&self, number: u64, rate: u64) -> u64 {
        let after = u128::from(number) * 1_000_000_000 / u128::from(rate);
        self.start
            .saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp {
            run: 1,
            stream: 2,
            number: 3,
            sent_ns: u64::MAX,
        };
        assert_eq!(Stamp::read(&stamp.to_bytes()), Some(stamp));
        assert_eq!(Stamp::read(&stamp.to_bytes()[..STAMP - 1]), None);
    }

    #[test]
    fn a_pace_is_even() {
        let pace = Pace {
            start: 100,
            issued: 0,
            turn: 0,
        };
        assert_eq!(pace.due(100, 5000), 0);
        assert_eq!(pace.due(100 + 200_000, 5000), 1);
        assert_eq!(pace.due(100 + 1_000_000_000, 5000), 5000);
        assert_eq!(pace.time_of(5, 5000), 100 + 1_000_000);
    }

    #[test]
    fn a_packet_identifier_is_taken_once_until_it_is_settled() {
        let mut publisher = Publisher::new(0, vec![0], 1, 0);
        let first = publisher.take_id(QoS::AtLeastOnce);
        for _ in 1..u16::MAX {
            assert_ne!(publisher.take_id(QoS::AtLeastOnce), first);
        }
        assert!(publisher.settle(first));
        assert!(!publisher.settle(first));
        assert_eq!(publisher.take_id(QoS::AtLeastOnce), first);
    }
}
