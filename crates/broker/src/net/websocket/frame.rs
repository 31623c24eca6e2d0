//! WebSocket frames as a client sends them, unwrapped piece by piece, and headers as the server writes them.
//!
//! Pure: no socket, no allocation but for the payload of a control frame.

/// The longest header that the server writes: opcode, length in nine bytes; it masks nothing.
pub(crate) const HEADER_MAX: usize = 10;
/// The longest payload of a control frame.
pub(crate) const CONTROL_MAX: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
/// Closes.
pub(crate) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The end of a message.
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Why the server closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// The connection has done what it was for.
    Normal,
    /// The client broke RFC 6455.
    ProtocolError,
    /// The client sent text, which carries no MQTT.
    UnsupportedData,
}

impl CloseCode {
    /// The number in the frame.
    pub(crate) const fn as_u16(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ProtocolError => 1002,
            Self::UnsupportedData => 1003,
        }
    }

    /// For logs.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "closed",
            Self::ProtocolError => "a WebSocket frame is malformed",
            Self::UnsupportedData => "a WebSocket frame holds text",
        }
    }
}

/// How the client's side has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a frame that closes.
    Closed,
    /// With something that is not allowed.
    Failed(CloseCode),
}

/// Unwraps frames, wherever their bytes are cut.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The header that is coming in: at most two bytes, eight of length, four of mask.
    header: [u8; 14],
    header_len: u8,
    /// Bytes of the present frame that are still to come.
    left: u64,
    mask: [u8; 4],
    /// The opcode of the present frame.
    opcode: u8,
    /// A message has begun and its last frame has not come.
    within_message: bool,
    /// The payload of the present control frame.
    control: Vec<u8>,
    ended: Option<End>,
}

impl Reader {
    /// How the client's side has ended; `None` while it has not.
    pub(crate) fn ended(&self) -> Option<&End> {
        self.ended.as_ref()
    }

    /// Takes the next bytes and leaves the payload of data frames at their beginning; gives its length. `answer` gets
    /// opcode and payload of each control frame that is to be sent back.
    pub(crate) fn unwrap(&mut self, bytes: &mut [u8], mut answer: impl FnMut(u8, &[u8])) -> usize {
        let (mut read, mut written) = (0, 0);
        while self.ended.is_none() {
            if self.left == 0 {
                if read == bytes.len() {
                    break;
                }
                read += self.take_header(&bytes[read..]);
                if self.header_len > 0 || self.ended.is_some() {
                    continue;
                }
            }
            let rest = bytes.len() - read;
            let len = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
            unmask(&mut bytes[read..read + len], &mut self.mask);
            self.left -= len as u64;
            if self.opcode & 0x8 == 0 {
                bytes.copy_within(read..read + len, written);
                written += len;
            } else {
                self.control.extend_from_slice(&bytes[read..read + len]);
            }
            read += len;
            if self.left > 0 {
                break;
            }
            if self.opcode & 0x8 != 0 {
                self.control_frame(&mut answer);
            }
        }
        written
    }

    /// Takes bytes of a header; gives how many. When it is whole, `header_len` is 0 again.
    fn take_header(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            let have = usize::from(self.header_len);
            let need = match have {
                0 | 1 => 2,
                _ => header_len(self.header[1]),
            };
            if have >= 2 && have == need {
                self.header_len = 0;
                self.begin(need);
                return taken;
            }
            let n = (need - have).min(bytes.len() - taken);
            if n == 0 {
                return taken;
            }
            self.header[have..have + n].copy_from_slice(&bytes[taken..taken + n]);
            // At most 14.
            self.header_len += u8::try_from(n).unwrap_or(u8::MAX);
            taken += n;
            if self.header_len == 2 && !self.may_begin() {
                self.ended = Some(End::Failed(match self.header[0] & 0x0F {
                    TEXT if self.header[0] & RESERVED == 0 && !self.within_message => {
                        CloseCode::UnsupportedData
                    }
                    _ => CloseCode::ProtocolError,
                }));
                return taken;
            }
        }
    }

    /// What the first two bytes must be: no extension is agreed on, clients mask, control frames are short and whole,
    /// messages follow one another, and all of them are binary.
    fn may_begin(&self) -> bool {
        let [first, second, ..] = self.header;
        let is_last = first & FIN != 0;
        let expected = match first & 0x0F {
            CONTINUATION => self.within_message,
            BINARY => !self.within_message,
            CLOSE | PING | PONG => is_last && usize::from(second & !MASKED) <= CONTROL_MAX,
            _ => false,
        };
        expected && first & RESERVED == 0 && second & MASKED != 0
    }

    /// A header is whole.
    fn begin(&mut self, len: usize) {
        let [first, second, ..] = self.header;
        self.opcode = first & 0x0F;
        if self.opcode & 0x8 == 0 {
            self.within_message = first & FIN == 0;
        }
        let mut left = [0; 8];
        self.left = match second & !MASKED {
            126 => {
                left[6..].copy_from_slice(&self.header[2..4]);
                u64::from_be_bytes(left)
            }
            127 => {
                left.copy_from_slice(&self.header[2..10]);
                u64::from_be_bytes(left)
            }
            short => u64::from(short),
        };
        if self.left > u64::MAX >> 1 {
            self.ended = Some(End::Failed(CloseCode::ProtocolError));
        }
        self.mask.copy_from_slice(&self.header[len - 4..len]);
    }

    /// A control frame is whole.
    fn control_frame(&mut self, answer: &mut impl FnMut(u8, &[u8])) {
        let payload = std::mem::take(&mut self.control);
        match self.opcode {
            PING => answer(PONG, &payload),
            CLOSE => {
                if is_close(&payload) {
                    // The code is sent back, the words are not.
                    answer(CLOSE, &payload[..payload.len().min(2)]);
                    self.ended = Some(End::Closed);
                } else {
                    self.ended = Some(End::Failed(CloseCode::ProtocolError));
                }
            }
            _ => {}
        }
    }
}

/// The whole length of a header by its second byte; a client's always has a mask.
const fn header_len(second: u8) -> usize {
    match second & !MASKED {
        126 => 2 + 2 + 4,
        127 => 2 + 8 + 4,
        _ => 2 + 4,
    }
}

/// A close frame has no payload, or a code that may be sent and a reason in UTF-8.
fn is_close(payload: &[u8]) -> bool {
    match payload {
        [] => true,
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
                && str::from_utf8(reason).is_ok()
        }
        [_] => false,
    }
}

/// Takes the mask off, eight bytes at a time, and turns it so that it fits the bytes that follow.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let [a, b, c, d] = *mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len() % 4);
}

/// Writes the header of a binary frame that is a whole message; gives its length.
pub(crate) fn binary_header(len: usize, header: &mut [u8; HEADER_MAX]) -> u8 {
    header[0] = FIN | BINARY;
    if let Some(short) = u8::try_from(len).ok().filter(|len| *len < 126) {
        header[1] = short;
        2
    } else if let Ok(len) = u16::try_from(len) {
        header[1] = 126;
        header[2..4].copy_from_slice(&len.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        10
    }
}

/// Writes a control frame; the payload is no longer than [`CONTROL_MAX`].
pub(crate) fn control(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(CONTROL_MAX)];
    // At most 125.
    let len = u8::try_from(payload.len()).unwrap_or(0);
    out.extend_from_slice(&[FIN | opcode, len]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 250];
        let mut header = [0; HEADER_MAX];
        let len = usize::from(binary_header(payload.len(), &mut header));
        header[0] = first;
        header[1] |= MASKED;
        let mut frame = [&header[..len], &mask].concat();
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        frame
    }

    /// Opcode and payload of each control frame that is to be sent back.
    type Answers = Vec<(u8, Vec<u8>)>;

    /// What a reader makes of bytes that come in pieces: data, answers, end.
    fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, Answers, Option<End>) {
        let mut reader = Reader::default();
        let (mut data, mut answers) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            let len = reader.unwrap(&mut piece, |opcode, payload| {
                answers.push((opcode, payload.to_vec()));
            });
            data.extend_from_slice(&piece[..len]);
        }
        (data, answers, reader.ended().copied())
    }

    /// [MQTT-6.0.0-2] [MQTT3-6.0.0-2]
    #[test]
    fn a_message_may_be_cut_anywhere_and_pings_stand_between_its_frames() {
        let bytes = [
            frame(BINARY, b"ab"),
            frame(FIN | PING, b"are you there"),
            frame(CONTINUATION, b""),
            frame(FIN | CONTINUATION, b"cd"),
            frame(FIN | BINARY, &[7; 300]),
            frame(FIN | PONG, b""),
            frame(FIN | BINARY, &vec![8; 70_000]),
            frame(FIN | CLOSE, &[3, 0xE8, b'b', b'y', b'e']),
            frame(FIN | BINARY, b"too late"),
        ]
        .concat();
        let data = [&b"abcd"[..], &[7; 300], &[8; 70_000]].concat();
        for piece in [1, 2, 3, 7, 100, 4096, bytes.len()] {
            let (found, answers, end) = read(&bytes, piece);
            assert!(found == data, "in pieces of {piece}");
            assert_eq!(
                answers,
                [(PONG, b"are you there".to_vec()), (CLOSE, vec![3, 0xE8])]
            );
            assert_eq!(end, Some(End::Closed));
        }
    }

    /// [MQTT-6.0.0-1] [MQTT3-6.0.0-1]
    #[test]
    fn what_is_not_allowed_ends_the_connection_with_its_code() {
        let unmasked = vec![FIN | BINARY, 1, 0];
        let huge = [&[FIN | BINARY, MASKED | 127, 0x80][..], &[0; 11]].concat();
        for (bytes, code) in [
            (frame(FIN | TEXT, b"x"), CloseCode::UnsupportedData),
            (frame(TEXT, b"x"), CloseCode::UnsupportedData),
            (frame(FIN | CONTINUATION, b"x"), CloseCode::ProtocolError),
            (frame(FIN | 0x40 | BINARY, b"x"), CloseCode::ProtocolError),
            (frame(FIN | 0x3, b"x"), CloseCode::ProtocolError),
            (frame(FIN | 0xB, b"x"), CloseCode::ProtocolError),
            (frame(PING, b"x"), CloseCode::ProtocolError),
            (frame(FIN | PING, &[0; 126]), CloseCode::ProtocolError),
            (frame(FIN | CLOSE, &[3]), CloseCode::ProtocolError),
            (frame(FIN | CLOSE, &[3, 0xED]), CloseCode::ProtocolError),
            (frame(FIN | CLOSE, &[0, 0]), CloseCode::ProtocolError),
            (
                frame(FIN | CLOSE, &[3, 0xE8, 0xFF]),
                CloseCode::ProtocolError,
            ),
            (
                [frame(BINARY, b"x"), frame(FIN | BINARY, b"y")].concat(),
                CloseCode::ProtocolError,
            ),
            (unmasked, CloseCode::ProtocolError),
            (huge, CloseCode::ProtocolError),
        ] {
            for piece in [1, bytes.len()] {
                let (_, _, end) = read(&bytes, piece);
                assert_eq!(end, Some(End::Failed(code)), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_came_before_the_end_is_kept() {
        let bytes = [frame(FIN | BINARY, b"last"), frame(FIN | TEXT, b"x")].concat();
        let (data, _, end) = read(&bytes, bytes.len());
        assert_eq!(data, b"last");
        assert_eq!(end, Some(End::Failed(CloseCode::UnsupportedData)));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..20) {
            let (data, _, _) = read(&bytes, piece);
            prop_assert!(data.len() <= bytes.len());
        }

        #[test]
        fn data_comes_out_as_it_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10),
            piece in 1usize..200,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(FIN | BINARY, message)).collect();
            prop_assert_eq!(read(&bytes, piece).0, messages.concat());
        }
    }
}
