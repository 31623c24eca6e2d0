//! Whole frames that have come and are not handled yet.

use bytes::Bytes;
use weir_mqtt::{ProtocolVersion, codec};

use crate::core::Millis;
use crate::driver::slices::WAITS_AT_MOST;

/// A SUBSCRIBE or UNSUBSCRIBE is held at most this long because others have more urgent things to do, and all its slices
/// together wait no longer.
pub(super) const HELD_AT_MOST_MS: Millis = WAITS_AT_MOST.as_secs() * 1000;

/// While one is held, it is looked so often whether the client wants to know that it is heard.
pub(super) const LOOK_EVERY_MS: Millis = 500;

/// PINGREQ, the whole packet.
const PINGREQ: [u8; 2] = [0xC0, 0];

/// How DISCONNECT begins.
const DISCONNECT: u8 = 0xE0;

/// What a first byte of such packets says. `[MQTT-2.1.3-1]` MQTT 3.1 does not use their flags: they may be anything there.
fn kind(first: u8, version: ProtocolVersion) -> u8 {
    match version {
        ProtocolVersion::V3_1 => first & 0xF0,
        _ => first,
    }
}

/// Frames that wait because the client is held back, its loop has no time for them or the step was long enough.
#[derive(Debug, Default)]
pub(super) struct Held {
    frames: Bytes,
    /// The size of the buffer that holds them.
    buffer: usize,
    /// Since when the first of them waits for its loop to have time, or the rest of what is before it.
    waits_since: Option<Millis>,
    /// When it was last looked what stands behind it.
    looked_at: Millis,
    /// PINGREQs among them that are answered.
    answered: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// These are to be handled later. They stand before all that comes.
    pub(super) fn put(&mut self, frames: Bytes, buffer: usize) {
        (self.frames, self.buffer) = (frames, buffer);
    }

    /// More have come.
    pub(super) fn append(&mut self, frames: &Bytes) {
        self.frames = Bytes::from([&self.frames[..], frames].concat());
        self.buffer = self.frames.len();
    }

    /// All of them, and the size of the buffer that holds them.
    pub(super) fn take(&mut self) -> (Bytes, usize) {
        (std::mem::take(&mut self.frames), self.buffer)
    }

    /// The first of them waits for its loop to have time; false when it has waited long enough.
    pub(super) fn waits(&mut self, now: Millis) -> bool {
        let since = match self.waits_since {
            Some(since) => since,
            None => {
                (self.waits_since, self.looked_at) = (Some(now), now);
                now
            }
        };
        now < since.saturating_add(HELD_AT_MOST_MS)
    }

    /// Something before them was begun and is to go on: it waits from now on, if it did not before. What it gets done
    /// puts nothing off.
    pub(super) fn goes_on(&mut self, now: Millis) {
        self.waits_since.get_or_insert(now);
    }

    /// The first of them is handled.
    pub(super) fn has_waited(&mut self) {
        self.waits_since = None;
    }

    /// When to look again, while the first of them waits for its loop to have time.
    pub(super) fn next_look(&self) -> Option<Millis> {
        let since = self.waits_since?;
        let look = self.looked_at.saturating_add(LOOK_EVERY_MS);
        Some(look.min(since.saturating_add(HELD_AT_MOST_MS)))
    }

    /// It is looked what stands behind the first: whether there is a PINGREQ that nobody has answered. It counts as
    /// answered now.
    pub(super) fn look_for_ping(&mut self, now: Millis, version: ProtocolVersion) -> bool {
        self.looked_at = now;
        let mut frames = &self.frames[..];
        let mut pings = 0;
        while let Ok(Some(len)) = codec::frame_length(frames, usize::MAX) {
            let is_ping = [kind(frames[0], version), frames[1]] == PINGREQ;
            pings += usize::from(is_ping);
            if pings > self.answered {
                self.answered += 1;
                return true;
            }
            frames = &frames[len..];
        }
        false
    }

    /// The first DISCONNECT among them; nothing is held any more then.
    pub(super) fn disconnect(&mut self, version: ProtocolVersion) -> Option<Bytes> {
        let (mut frames, _) = self.take();
        while let Ok(Some(len)) = codec::frame_length(&frames, usize::MAX) {
            let frame = frames.split_to(len);
            if frame.first().map(|first| kind(*first, version)) == Some(DISCONNECT) {
                return Some(frame);
            }
        }
        None
    }

    /// Whether the PINGREQ that comes first was answered while it waited.
    pub(super) fn was_answered(&mut self) -> bool {
        let was = self.answered > 0;
        self.answered = self.answered.saturating_sub(1);
        was
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::ProtocolVersion::{V3_1, V5};

    use super::*;

    #[test]
    fn each_ping_is_answered_once_however_often_it_is_looked() {
        let mut held = Held::default();
        // SUBSCRIBE stands before them; its packet identifier looks like a PINGREQ.
        let subscribe = [0x82, 6, 0xC0, 0, 0, 1, b'a', 0];
        held.put(Bytes::from([&subscribe[..], &PINGREQ].concat()), 10);
        assert!(held.look_for_ping(1, V5));
        assert!(!held.look_for_ping(2, V5));
        held.append(&Bytes::from_static(&[0xC0, 0, 0xC0, 0]));
        assert!(held.look_for_ping(3, V5) && held.look_for_ping(4, V5));
        assert!(!held.look_for_ping(5, V5));
        assert_eq!(
            [(); 4].map(|()| held.was_answered()),
            [true, true, true, false]
        );
    }

    #[test]
    fn a_goodbye_is_found_behind_what_is_held() {
        let mut held = Held::default();
        held.put(Bytes::from_static(&[0x30, 3, 0, 1, 0xE0, 0xE0, 0]), 7);
        assert_eq!(held.disconnect(V5).as_deref(), Some(&[0xE0, 0][..]));
        held.put(Bytes::from_static(&[0x30, 3, 0, 1, 0xE0, 0xE0, 2, 4]), 8);
        assert_eq!(held.disconnect(V5), None);
    }

    /// MQTT 3.1, section 2.1: what a packet does not use of its first byte is ignored.
    #[test]
    fn the_unused_flags_of_old_packets_say_nothing() {
        let mut held = Held::default();
        held.put(Bytes::from_static(&[0xC5, 0, 0xE9, 0]), 4);
        assert!(!held.look_for_ping(1, V5) && held.look_for_ping(2, V3_1));
        assert_eq!(held.disconnect(V3_1).as_deref(), Some(&[0xE9, 0][..]));
        held.put(Bytes::from_static(&[0xE9, 0]), 2);
        assert_eq!(held.disconnect(V5), None);
    }

    #[test]
    fn what_goes_on_piece_by_piece_puts_off_neither_the_look_nor_its_end() {
        let mut held = Held::default();
        for now in (100..100 + LOOK_EVERY_MS).step_by(10) {
            assert!(held.waits(now));
            held.goes_on(now);
            assert!(held.waits(now));
            assert_eq!(held.next_look(), Some(100 + LOOK_EVERY_MS));
        }
        held.look_for_ping(600, V5);
        held.goes_on(700);
        assert_eq!(held.next_look(), Some(600 + LOOK_EVERY_MS));
        assert!(held.waits(100 + HELD_AT_MOST_MS - 1));
        assert!(
            !held.waits(100 + HELD_AT_MOST_MS),
            "however often it went on"
        );
    }

    #[test]
    fn it_is_looked_now_and_then_until_it_has_waited_long_enough() {
        let mut held = Held::default();
        assert_eq!(held.next_look(), None);
        assert!(held.waits(100));
        assert_eq!(held.next_look(), Some(100 + LOOK_EVERY_MS));
        held.look_for_ping(4900, V5);
        assert!(held.waits(4901));
        assert_eq!(held.next_look(), Some(100 + HELD_AT_MOST_MS));
        assert!(!held.waits(100 + HELD_AT_MOST_MS));
        held.has_waited();
        assert_eq!(held.next_look(), None);
    }
}
