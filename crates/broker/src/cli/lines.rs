//! Lines of a file or of stdin, as bytes: one that is not text, or has no end, must not end the others.

use std::io::{self, BufRead, Read};

/// How long a line may be: the largest message of MQTT fits in, and a file without line ends does not fill the memory.
const LONGEST: usize = 300 << 20;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its line end.
    Whole(Vec<u8>),
    /// More than can be taken; it was skipped.
    TooLong,
}

/// Lines with their numbers, from 1; those with nothing on them are left out.
pub(super) struct Lines<R> {
    reader: R,
    number: usize,
    longest: usize,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            longest: LONGEST,
        }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let most = u64::try_from(self.longest).unwrap_or(u64::MAX);
        let read = (&mut self.reader)
            .take(most.saturating_add(1))
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > self.longest {
            self.reader.skip_until(b'\n')?;
            return Ok(Some(Line::TooLong));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            // A byte order mark, as some editors write it.
            line.drain(..3);
        }
        Ok(Some(Line::Whole(line)))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<(usize, Line)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            return match self.read() {
                Ok(None) => None,
                Ok(Some(Line::Whole(line))) if line.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => Some(Ok((self.number, line))),
                Err(error) => Some(Err(error)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], longest: usize) -> Vec<(usize, Line)> {
        let mut lines = Lines::new(text);
        lines.longest = longest;
        lines.map(Result::unwrap).collect()
    }

    fn whole(text: &[u8]) -> Line {
        Line::Whole(text.to_vec())
    }

    #[test]
    fn lines_are_bytes_with_their_numbers_and_blank_ones_are_left_out() {
        assert_eq!(
            lines(b"\xef\xbb\xbfa\r\n\n \t\r\n\xff\nlast", 9),
            [(1, whole(b"a")), (4, whole(b"\xff")), (5, whole(b"last"))]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        assert_eq!(
            lines(b"1234\n12345\n123456789\n1\n12345", 4),
            [
                (1, whole(b"1234")),
                (2, Line::TooLong),
                (3, Line::TooLong),
                (4, whole(b"1")),
                (5, Line::TooLong),
            ]
        );
    }
}
