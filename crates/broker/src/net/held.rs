//! Whole frames that have come and are not handled yet.

use bytes::Bytes;
use weir_mqtt::codec;

use crate::core::Millis;

/// A SUBSCRIBE or UNSUBSCRIBE is held at most this long because others have more urgent things to do. If ten thousand
/// clients send nothing else, it is two thousand of them a second that others have to bear.
pub(super) const HELD_AT_MOST_MS: Millis = 5000;

/// While one is held, it is looked so often whether the client wants to know that it is heard.
pub(super) const LOOK_EVERY_MS: Millis = 500;

/// PINGREQ, the whole packet.
const PINGREQ: [u8; 2] = [0xC0, 0];

/// How DISCONNECT begins.
const DISCONNECT: u8 = 0xE0;

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

    /// Something before them was begun and is to go on: it waits from now on. It is not looked later for that.
    pub(super) fn goes_on(&mut self, now: Millis) {
        self.waits_since = Some(now);
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
    pub(super) fn look_for_ping(&mut self, now: Millis) -> bool {
        self.looked_at = now;
        let mut frames = &self.frames[..];
        let mut pings = 0;
        while let Ok(Some(len)) = codec::frame_length(frames, usize::MAX) {
            pings += usize::from(frames[..len] == PINGREQ);
            if pings > self.answered {
                self.answered += 1;
                return true;
            }
            frames = &frames[len..];
        }
        false
    }

    /// The first DISCONNECT among them; nothing is held any more then.
    pub(super) fn disconnect(&mut self) -> Option<Bytes> {
        let (mut frames, _) = self.take();
        while let Ok(Some(len)) = codec::frame_length(&frames, usize::MAX) {
            let frame = frames.split_to(len);
            if frame.first() == Some(&DISCONNECT) {
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
    use super::*;

    #[test]
    fn each_ping_is_answered_once_however_often_it_is_looked() {
        let mut held = Held::default();
        // SUBSCRIBE stands before them; its packet identifier looks like a PINGREQ.
        let subscribe = [0x82, 6, 0xC0, 0, 0, 1, b'a', 0];
        held.put(Bytes::from([&subscribe[..], &PINGREQ].concat()), 10);
        assert!(held.look_for_ping(1));
        assert!(!held.look_for_ping(2));
        held.append(&Bytes::from_static(&[0xC0, 0, 0xC0, 0]));
        assert!(held.look_for_ping(3) && held.look_for_ping(4));
        assert!(!held.look_for_ping(5));
        assert_eq!(
            [(); 4].map(|()| held.was_answered()),
            [true, true, true, false]
        );
    }

    #[test]
    fn a_goodbye_is_found_behind_what_is_held() {
        let mut held = Held::default();
        held.put(Bytes::from_static(&[0x30, 3, 0, 1, 0xE0, 0xE0, 0]), 7);
        assert_eq!(held.disconnect().as_deref(), Some(&[0xE0, 0][..]));
        held.put(Bytes::from_static(&[0x30, 3, 0, 1, 0xE0, 0xE0, 2, 4]), 8);
        assert_eq!(held.disconnect(), None);
    }

    #[test]
    fn what_goes_on_piece_by_piece_does_not_put_off_the_look() {
        let mut held = Held::default();
        for now in (100..100 + LOOK_EVERY_MS).step_by(10) {
            assert!(held.waits(now));
            held.goes_on(now);
            assert!(held.waits(now));
            assert_eq!(held.next_look(), Some(100 + LOOK_EVERY_MS));
        }
        held.look_for_ping(600);
        held.goes_on(700);
        assert_eq!(held.next_look(), Some(600 + LOOK_EVERY_MS));
        assert!(held.waits(700 + HELD_AT_MOST_MS - 1));
        assert!(!held.waits(700 + HELD_AT_MOST_MS));
    }

    #[test]
    fn it_is_looked_now_and_then_until_it_has_waited_long_enough() {
        let mut held = Held::default();
        assert_eq!(held.next_look(), None);
        assert!(held.waits(100));
        assert_eq!(held.next_look(), Some(100 + LOOK_EVERY_MS));
        held.look_for_ping(4900);
        assert!(held.waits(4901));
        assert_eq!(held.next_look(), Some(100 + HELD_AT_MOST_MS));
        assert!(!held.waits(100 + HELD_AT_MOST_MS));
        held.has_waited();
        assert_eq!(held.next_look(), None);
    }
}
