//! `relay`: speaks MQTT for the handshakes and then copies bytes from publisher to subscriber and back.
//!
//! It parses nothing more, so no broker can be cheaper with the same system calls: the limit to compare with.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use rustix::net::{SocketFlags, accept_with, sockopt};
use weir_mqtt::{ConnAck, Packet, ProtocolVersion, ReasonCode, SubAck, codec};

use super::socket::{Moved, Poller, prepare_process, read, write};
use super::{Common, Exit, Failure};
use crate::cli::say;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:1884", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Which scenario it serves
    #[arg(long, default_value = "pairs")]
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// `weir bench pairs`, at any QoS
    Pairs,
    /// `weir bench fanout` at QoS 0
    Fanout,
}

const LISTENER: usize = usize::MAX;

pub(super) fn run(common: &Common, args: &Args) -> Result<Exit, Failure> {
    prepare_process();
    let listener = TcpListener::bind(args.listen)?;
    listener.set_nonblocking(true)?;
    if !common.quiet {
        say(&format!("relay {}", listener.local_addr()?));
    }
    let listener = OwnedFd::from(listener);
    let mut relay = Relay {
        poller: Poller::new()?,
        ends: Vec::new(),
        publishers: HashMap::new(),
        subscribers: HashMap::new(),
        mode: args.mode,
    };
    relay.poller.add(&listener, LISTENER, false)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let ready = relay.poller.wait(Duration::from_secs(60))?;
        for index in 0..ready {
            let ready = relay.poller.ready(index);
            if ready.key == LISTENER {
                relay.accept(&listener);
                continue;
            }
            if ready.writable {
                relay.flush(ready.key);
            }
            if ready.readable {
                relay.readable(ready.key, &mut buffer);
            }
        }
    }
}

/// One client.
struct End {
    socket: OwnedFd,
    version: ProtocolVersion,
    /// Its place and its letter, once CONNECT has said so.
    known: Option<(char, usize)>,
    /// Whether its bytes are copied unread.
    raw: bool,
    unread: Vec<u8>,
    out: Vec<u8>,
    waits: bool,
    /// Where its bytes go.
    to: Vec<usize>,
}

struct Relay {
    poller: Poller,
    ends: Vec<Option<End>>,
    /// By number: their places.
    publishers: HashMap<usize, usize>,
    subscribers: HashMap<usize, usize>,
    mode: Mode,
}

impl Relay {
    fn accept(&mut self, listener: &OwnedFd) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(socket) = accept_with(listener.as_fd(), flags) {
            let _ = sockopt::set_tcp_nodelay(&socket, true);
            let free = self.ends.iter().position(Option::is_none);
            let key = free.unwrap_or_else(|| {
                self.ends.push(None);
                self.ends.len() - 1
            });
            if self.poller.add(&socket, key, false).is_ok() {
                self.ends[key] = Some(End {
                    socket,
                    version: ProtocolVersion::V3_1_1,
                    known: None,
                    raw: false,
                    unread: Vec::new(),
                    out: Vec::new(),
                    waits: false,
                    to: Vec::new(),
                });
            }
        }
    }

    fn readable(&mut self, key: usize, buffer: &mut [u8]) {
        let Some(end) = &mut self.ends[key] else {
            return;
        };
        let bytes = match read(&end.socket, buffer) {
            Ok(Moved::WouldBlock) => return,
            Ok(Moved::Bytes(bytes)) if bytes > 0 => &buffer[..bytes],
            _ => return self.close(key),
        };
        if end.raw {
            let to = std::mem::take(&mut end.to);
            for other in &to {
                self.send(*other, bytes);
            }
            if let Some(end) = &mut self.ends[key] {
                end.to = to;
            }
            return;
        }
        end.unread.extend_from_slice(bytes);
        if self.handshake(key).is_none() {
            self.close(key);
        }
    }

    /// Answers CONNECT and SUBSCRIBE; `None` when the client says something else.
    fn handshake(&mut self, key: usize) -> Option<()> {
        loop {
            let end = self.ends[key].as_mut()?;
            if end.raw {
                return Some(());
            }
            let Some(length) = codec::frame_length(&end.unread, codec::MAX_PACKET_SIZE).ok()?
            else {
                return Some(());
            };
            let frame: Vec<u8> = end.unread.drain(..length).collect();
            let mut out = Vec::new();
            match codec::decode(Bytes::from(frame), end.version).ok()? {
                Packet::Connect(connect) => {
                    end.version = connect.version;
                    ConnAck::accepted(false)
                        .encode(end.version, &mut out)
                        .ok()?;
                    let known = number_of(connect.client_id.as_str())?;
                    end.known = Some(known);
                    self.send(key, &out);
                    self.join(key, known);
                }
                Packet::Subscribe(subscribe) => {
                    let answer = SubAck {
                        packet_id: subscribe.packet_id,
                        reasons: subscribe
                            .requests
                            .iter()
                            .map(|request| ReasonCode::granted(request.options.qos))
                            .collect(),
                        properties: None,
                    };
                    answer.encode(end.version, &mut out).ok()?;
                    end.raw = true;
                    self.send(key, &out);
                }
                _ => return None,
            }
        }
    }

    /// Subscribers connect first: a publisher finds those that it is for.
    fn join(&mut self, key: usize, (letter, number): (char, usize)) {
        if letter != 'p' {
            self.subscribers.insert(number, key);
            return;
        }
        self.publishers.insert(number, key);
        let to: Vec<usize> = match self.mode {
            Mode::Pairs => self.subscribers.get(&number).copied().into_iter().collect(),
            Mode::Fanout => self.subscribers.values().copied().collect(),
        };
        if self.mode == Mode::Pairs {
            for other in &to {
                // Acknowledgements travel back.
                if let Some(end) = &mut self.ends[*other] {
                    end.to = vec![key];
                }
            }
        }
        if let Some(end) = &mut self.ends[key] {
            end.raw = true;
            end.to = to;
        }
    }

    fn send(&mut self, key: usize, bytes: &[u8]) {
        let Some(end) = &mut self.ends[key] else {
            return;
        };
        let mut written = 0;
        if end.out.is_empty()
            && let Ok(Moved::Bytes(bytes)) = write(&end.socket, bytes)
        {
            written = bytes;
        }
        if written < bytes.len() {
            end.out.extend_from_slice(&bytes[written..]);
            if !end.waits {
                end.waits = self.poller.change(&end.socket, key, true).is_ok();
            }
        }
    }

    fn flush(&mut self, key: usize) {
        let Some(end) = &mut self.ends[key] else {
            return;
        };
        match write(&end.socket, &end.out) {
            Ok(Moved::Bytes(bytes)) => {
                end.out.drain(..bytes);
            }
            Ok(Moved::WouldBlock) => {}
            Err(_) => return self.close(key),
        }
        if end.out.is_empty() && end.waits {
            end.waits = self.poller.change(&end.socket, key, false).is_err();
        }
    }

    fn close(&mut self, key: usize) {
        let Some(end) = self.ends[key].take() else {
            return;
        };
        for other in self.ends.iter_mut().flatten() {
            other.to.retain(|to| *to != key);
        }
        if let Some((letter, number)) = end.known {
            let side = if letter == 'p' {
                &mut self.publishers
            } else {
                &mut self.subscribers
            };
            if side.get(&number) == Some(&key) {
                side.remove(&number);
            }
        }
    }
}

/// The letter and number at the end of a client id of this generator.
fn number_of(client_id: &str) -> Option<(char, usize)> {
    let (_, tail) = client_id.rsplit_once('-')?;
    let letter = tail.chars().next()?;
    Some((letter, tail.strip_prefix(letter)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_says_which_end_it_is() {
        assert_eq!(number_of("weir-bench-0001-p17"), Some(('p', 17)));
        assert_eq!(number_of("weir-bench-0001-s0"), Some(('s', 0)));
        assert_eq!(number_of("x"), None);
        assert_eq!(number_of("x-"), None);
    }
}
