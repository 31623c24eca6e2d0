//! What `strace -f -yy -xx` has written, and whether any answer left before what it promises was on the disk.
//!
//! A call that other threads' calls come between has two lines, one where it begins and one where it ends. strace holds a
//! thread at both, so that a call that begins in a later line than another one has ended could know what came of that one,
//! and one that begins in an earlier line could not.

use std::collections::HashMap;
use std::fmt;

/// A system call that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The file or socket that it was asked of.
    pub(crate) on: String,
    /// What was read or written, as far as it was.
    pub(crate) bytes: Vec<u8>,
    /// The lines of its beginning and its end.
    pub(crate) begins: usize,
    pub(crate) ends: usize,
}

/// An answer, and what has to be on the disk before it leaves.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    /// What it is called in a report.
    pub(crate) what: String,
    /// The client's end of the connection.
    pub(crate) port: u16,
    /// The packet that is answered.
    pub(crate) request: Vec<u8>,
    /// The packet that answers it.
    pub(crate) answer: Vec<u8>,
    /// Bytes that stand in what is written for it.
    pub(crate) written: Vec<u8>,
}

/// How an answer did not keep its promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The packet that is answered was not received.
    Unasked,
    /// It did not leave at all.
    Unanswered,
    /// It left, and nothing was written before.
    Unwritten,
    /// What was written was not synced, or not before the answer left.
    Unsynced,
}

/// A promise that was not kept.
#[derive(Debug)]
pub(crate) struct Broken<'a> {
    pub(crate) promise: &'a Promise,
    pub(crate) wrong: Wrong,
    /// The line in which the answer began to leave.
    pub(crate) line: Option<usize>,
}

impl fmt::Display for Broken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.promise.what, self.wrong)?;
        match self.line {
            Some(line) => write!(f, ", it left in line {}", line + 1),
            None => Ok(()),
        }
    }
}

/// The calls of a trace that have succeeded, in the order of their ends.
///
/// # Errors
/// A line that cannot be read, or one with fewer bytes than there were.
pub(crate) fn calls(trace: &str) -> Result<Vec<Call>, String> {
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
        let (thread, rest) = line.split_once(' ').ok_or_else(|| wrong("no thread"))?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(first) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread, (number, first));
            continue;
        }
        let (begins, text) = match rest.strip_prefix("<... ") {
            None => (number, rest.to_owned()),
            Some(resumed) => {
                let (_, end) = resumed
                    .split_once(" resumed>")
                    .ok_or_else(|| wrong("neither begun nor resumed"))?;
                let (begins, first) = begun.remove(thread).ok_or_else(|| wrong("never begun"))?;
                (begins, format!("{first}{end}"))
            }
        };
        calls.extend(call(&text, begins, number).map_err(|what| wrong(&what))?);
    }
    Ok(calls)
}

/// One call; `None` when it has failed or was not on a descriptor.
fn call(text: &str, begins: usize, ends: usize) -> Result<Option<Call>, String> {
    let (name, rest) = text.split_once('(').ok_or("no call")?;
    let (arguments, result) = rest.rsplit_once(" = ").ok_or("no result")?;
    let result = result.split(' ').next().unwrap_or_default();
    // `?` is the result of a call that the end of the process has cut off.
    let Ok(count) = result.parse::<usize>() else {
        return Ok(None);
    };
    let Some((_, on)) = arguments.split_once('<') else {
        return Ok(None);
    };
    // Between two sockets stands `->`.
    let end = on
        .match_indices('>')
        .find(|(at, _)| !on[..*at].ends_with('-'))
        .ok_or("no end of the name")?
        .0;
    let (on, data) = on.split_at(end);
    let mut bytes = Vec::new();
    for (place, part) in data.split('"').enumerate() {
        if place % 2 == 1 {
            bytes.extend(unescape(part)?);
        } else if place > 0 && part.starts_with("...") {
            return Err("strace was told to shorten what was written".to_owned());
        }
    }
    let on = match on.starts_with("\\x") {
        true => String::from_utf8_lossy(&unescape(on)?).into_owned(),
        false => on.to_owned(),
    };
    if !bytes.is_empty() {
        bytes.truncate(count);
    }
    Ok(Some(Call {
        name: name.to_owned(),
        on,
        bytes,
        begins,
        ends,
    }))
}

/// `\x61\x62` is `ab`.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let byte = |hex: &str| u8::from_str_radix(hex, 16).map_err(|_| format!("no byte: \\x{hex}"));
    text.split("\\x").skip(1).map(byte).collect()
}

/// What went one way through a socket, with the call that carried each byte.
struct Stream<'a> {
    bytes: Vec<u8>,
    carried: Vec<&'a Call>,
}

impl<'a> Stream<'a> {
    fn of(calls: &'a [Call], port: u16, names: &[&str]) -> Self {
        let end = format!(":{port}]");
        let mut stream = Self {
            bytes: Vec::new(),
            carried: Vec::new(),
        };
        let here = |call: &&Call| call.on.ends_with(&end) && names.contains(&call.name.as_str());
        for call in calls.iter().filter(here) {
            stream.bytes.extend_from_slice(&call.bytes);
            stream.carried.resize(stream.bytes.len(), call);
        }
        stream
    }

    /// The packets, each with its first and its last byte's place.
    fn packets(&self) -> Vec<(usize, usize)> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < self.bytes.len() {
            let (mut length, mut shift, mut head) = (0, 0, 1);
            while let Some(byte) = self.bytes.get(at + head) {
                length |= usize::from(byte & 0x7f) << shift;
                (shift, head) = (shift + 7, head + 1);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let end = at + head + length;
            if end > self.bytes.len() {
                break;
            }
            found.push((at, end - 1));
            at = end;
        }
        found
    }

    fn packet(&self, packet: &[u8], from: usize) -> Option<(&'a Call, &'a Call)> {
        self.packets()
            .into_iter()
            .filter(|(first, last)| self.bytes[*first..=*last] == *packet)
            .map(|(first, last)| (self.carried[first], self.carried[last]))
            .find(|(first, _)| first.begins >= from)
    }
}

/// The promises that were not kept. Nothing of a log's file counts that was not written after the packet had come.
pub(crate) fn broken<'a>(calls: &[Call], promises: &'a [Promise]) -> Vec<Broken<'a>> {
    let is_log = |call: &&Call| call.on.contains("/store/log-");
    let syncs = |call: &&Call| matches!(call.name.as_str(), "fdatasync" | "fsync");
    let check = |promise: &Promise| -> Result<(), (Wrong, Option<usize>)> {
        let received = Stream::of(calls, promise.port, &["recvfrom", "recvmsg", "read"]);
        let sent = Stream::of(
            calls,
            promise.port,
            &["sendto", "sendmsg", "write", "writev"],
        );
        let (_, asked) = received
            .packet(&promise.request, 0)
            .ok_or((Wrong::Unasked, None))?;
        let (answered, _) = sent
            .packet(&promise.answer, asked.begins)
            .ok_or((Wrong::Unanswered, None))?;
        let left = answered.begins;
        let written = calls
            .iter()
            .filter(is_log)
            .filter(|call| !syncs(call))
            .find(|call| call.begins > asked.begins && holds(&call.bytes, &promise.written))
            .filter(|call| call.ends < left)
            .ok_or((Wrong::Unwritten, Some(left)))?;
        calls
            .iter()
            .filter(is_log)
            .filter(syncs)
            .find(|sync| sync.on == written.on && sync.begins > written.ends && sync.ends < left)
            .map(|_| ())
            .ok_or((Wrong::Unsynced, Some(left)))
    };
    promises
        .iter()
        .filter_map(|promise| {
            let (wrong, line) = check(promise).err()?;
            Some(Broken {
                promise,
                wrong,
                line,
            })
        })
        .collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: &str = "9<TCP:[127.0.0.1:1883->127.0.0.1:4000]>";
    const LOG: &str = "12</d/store/log-01>";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    fn promise() -> Promise {
        Promise {
            what: "PUBACK".to_owned(),
            port: 4000,
            request: b"\x32\x06\x00\x01t\x00\x07x".to_vec(),
            answer: b"\x40\x02\x00\x07".to_vec(),
            written: b"x".to_vec(),
        }
    }

    fn received() -> String {
        let bytes = promise().request;
        format!(
            "1 recvfrom({SOCKET}, \"{}\", 65536, 0, NULL, NULL) = {}",
            hex(&bytes),
            bytes.len()
        )
    }

    fn sent() -> String {
        let bytes = promise().answer;
        format!(
            "1 sendto({SOCKET}, \"{}\", 4, MSG_NOSIGNAL, NULL, 0) = 4",
            hex(&bytes)
        )
    }

    fn write() -> String {
        format!("2 write({LOG}, \"{}\", 3) = 3", hex(b"axb"))
    }

    fn sync() -> String {
        format!("2 fdatasync({LOG}) = 0")
    }

    fn verdict(lines: &[String]) -> Option<Wrong> {
        let calls = calls(&lines.join("\n")).unwrap();
        let promises = [promise()];
        let broken = broken(&calls, &promises);
        broken.first().map(|broken| broken.wrong)
    }

    #[test]
    fn an_answer_after_its_sync_is_right() {
        assert_eq!(verdict(&[received(), write(), sync(), sent()]), None);
    }

    #[test]
    fn an_answer_before_its_write_or_its_sync_is_wrong() {
        let cases = [
            (vec![received(), sent()], Wrong::Unwritten),
            (vec![received(), sent(), write(), sync()], Wrong::Unwritten),
            (vec![received(), write(), sent()], Wrong::Unsynced),
            (vec![received(), write(), sent(), sync()], Wrong::Unsynced),
            // A sync of what was written before.
            (vec![received(), sync(), write(), sent()], Wrong::Unsynced),
            (vec![received(), write(), sync()], Wrong::Unanswered),
            (vec![write(), sync(), sent()], Wrong::Unasked),
            // What was written before it came is about something else.
            (vec![write(), sync(), received(), sent()], Wrong::Unwritten),
        ];
        for (lines, wrong) in cases {
            assert_eq!(verdict(&lines), Some(wrong), "{lines:?}");
        }
    }

    #[test]
    fn an_answer_while_its_sync_is_under_way_is_wrong() {
        let begun = format!("2 fdatasync({LOG} <unfinished ...>");
        let ended = "2 <... fdatasync resumed>)          = 0".to_owned();
        let lines = [received(), write(), begun.clone(), sent(), ended.clone()];
        assert_eq!(verdict(&lines), Some(Wrong::Unsynced));
        let lines = [received(), write(), begun, ended, sent()];
        assert_eq!(verdict(&lines), None);
    }

    #[test]
    fn a_sync_of_another_file_or_one_that_failed_is_none() {
        let other = "2 fdatasync(13</d/store/log-02>) = 0".to_owned();
        let failed = format!("2 fdatasync({LOG}) = -1 EIO (Input/output error)");
        for sync in [other, failed] {
            let lines = [received(), write(), sync, sent()];
            assert_eq!(verdict(&lines), Some(Wrong::Unsynced));
        }
    }

    #[test]
    fn a_packet_counts_from_its_first_byte_on_in_whatever_parts_it_came() {
        let parts = [
            format!(
                "1 sendto({SOCKET}, \"{}\", 5, 0, NULL, 0) = 5",
                hex(b"\xd0\x00\x40\x02\x00")
            ),
            format!(
                "1 sendto({SOCKET}, \"{}\", 1, 0, NULL, 0) = 1",
                hex(b"\x07")
            ),
        ];
        let late = [
            received(),
            write(),
            parts[0].clone(),
            sync(),
            parts[1].clone(),
        ];
        assert_eq!(verdict(&late), Some(Wrong::Unsynced));
        let right = [
            received(),
            write(),
            sync(),
            parts[0].clone(),
            parts[1].clone(),
        ];
        assert_eq!(verdict(&right), None);
    }

    #[test]
    fn a_write_that_took_a_part_has_written_that_part() {
        let short = format!("2 write({LOG}, \"{}\", 3) = 1", hex(b"axb"));
        let lines = [received(), short, sync(), sent()];
        assert_eq!(verdict(&lines), Some(Wrong::Unwritten));
    }

    #[test]
    fn names_in_hex_and_vectors_are_read() {
        let line = format!(
            "7 writev(3<{}>, [{{iov_base=\"{}\", iov_len=2}}, {{iov_base=\"{}\", iov_len=1}}], 2) = 3",
            hex(b"/a b"),
            hex(b"ab"),
            hex(b"c")
        );
        let calls = calls(&line).unwrap();
        assert_eq!(
            (calls[0].on.as_str(), &calls[0].bytes[..]),
            ("/a b", &b"abc"[..])
        );
    }

    #[test]
    fn a_shortened_trace_is_refused() {
        let line = format!("2 write({LOG}, \"{}\"..., 900) = 900", hex(b"axb"));
        assert!(calls(&line).is_err());
        assert!(calls("2 <... write resumed>) = 1").is_err());
    }
}
