//! The durable form of [`Persist`] records, for storages that keep bytes.
//!
//! A record is its length, then one byte for its kind, then its fields. Lengths and numbers are unsigned LEB128, texts
//! and payloads stand behind their length, what may be absent is announced by a bit before it. Times are milliseconds
//! since the Unix epoch, as [`Millis`](crate::core::Millis) is, and so mean the same after a restart.
//!
//! A later version may append fields to a record or to the block of a message: a reader skips what it does not know
//! there. A message that one batch owes to several sessions stands in the first of these records alone; the others say
//! which of the batch's messages it is. A kind, a flag or a tag that it does not know is an error, so that nothing is half read. There is no checksum
//! here: bytes that were damaged may still be a record.

use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use ahash::HashMap;
use bytes::Bytes;
use thiserror::Error;
use weir_mqtt::properties::{PayloadFormat, PublishProperties};
use weir_mqtt::{PacketId, QoS, SubscriptionFilter, SubscriptionId, TopicFilter, TopicName, Utf8};
use weir_rules::Value;
use weir_rules::value::{Bits, Key, Object, Text};

use super::{Persist, SessionId, SubscriptionOptions, Waiting};
use crate::core::bans::{Ban, Who};
use crate::core::message::{Message, Origin};
use crate::core::shared_groups::{Group, Strategies};
use crate::core::will::Will;

/// The kinds of records. The numbers stand in files: each is fixed for ever, and none is given a second time.
mod kind {
    pub(super) const SESSION: u8 = 1;
    pub(super) const DISCONNECTED: u8 = 2;
    pub(super) const SESSION_ENDED: u8 = 3;
    pub(super) const SUBSCRIBED: u8 = 4;
    pub(super) const UNSUBSCRIBED: u8 = 5;
    pub(super) const OWED: u8 = 6;
    pub(super) const IN_FLIGHT: u8 = 7;
    pub(super) const RELEASED: u8 = 8;
    pub(super) const SETTLED: u8 = 9;
    pub(super) const RECEIVED: u8 = 10;
    pub(super) const RECEIVED_DONE: u8 = 11;
    pub(super) const RETAINED: u8 = 12;
    pub(super) const RETAINED_CLEARED: u8 = 13;
    pub(super) const WILL: u8 = 14;
    pub(super) const DELAYED: u8 = 15;
    pub(super) const DELAYED_DONE: u8 = 16;
    pub(super) const BEGAN: u8 = 17;
    pub(super) const BANNED: u8 = 18;
    pub(super) const UNBANNED: u8 = 19;
}

/// What stands before a value of the rule language: fixed for ever as well.
mod tag {
    pub(super) const UNDEFINED: u8 = 0;
    pub(super) const NULL: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const TRUE: u8 = 3;
    pub(super) const INT: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const BITS: u8 = 7;
    pub(super) const ARRAY: u8 = 8;
    pub(super) const OBJECT: u8 = 9;
}

/// Arrays and objects in a publisher's attributes that nest deeper are written as undefined, since a reader has to stop
/// somewhere. JSON that nests deeper is refused when it is read, so only a hook can make them.
const MAX_DEPTH: usize = 128;

/// Bytes that are no record, or one of a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} was expected at byte {at}")]
pub(crate) struct BadRecord {
    /// Where, in bytes from the beginning of what was to be decoded.
    pub(crate) at: usize,
    /// What was expected there.
    pub(crate) what: &'static str,
}

/// The messages that are owed by records of one batch: each is written once, however many sessions it is owed to.
#[derive(Default)]
struct Seen(HashMap<usize, u64>);

impl Seen {
    /// Where in the batch a message stands already; `None` when it comes for the first time.
    fn place(&mut self, message: &Arc<Message>) -> Option<u64> {
        let next = self.0.len() as u64;
        // The batch holds the message, so that its place in memory is its own.
        match self.0.entry(Arc::as_ptr(message).addr()) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(new) => {
                new.insert(next);
                None
            }
        }
    }
}

/// Appends one record.
#[cfg(test)]
pub(crate) fn encode(record: &Persist, out: &mut Vec<u8>) {
    write_block(out, |out| write_record(record, &mut Seen::default(), out));
}

/// Takes one record off the front of `bytes`.
///
/// # Errors
/// When there is none, or one that this version does not know; then `bytes` is as before.
#[cfg(test)]
pub(crate) fn decode(bytes: &mut &[u8]) -> Result<Persist, BadRecord> {
    let mut reader = Reader::new(bytes);
    let record = reader.record(&mut Vec::new())?;
    *bytes = reader.rest;
    Ok(record)
}

/// Appends records one after another.
pub(crate) fn encode_batch(records: &[Persist], out: &mut Vec<u8>) {
    let is_owed = |record: &&Persist| matches!(record, Persist::Owed { .. });
    let owed = records.iter().filter(is_owed).count();
    let mut seen = Seen(HashMap::with_capacity_and_hasher(owed, Default::default()));
    let is_record = |record: &&Persist| !matches!(record, Persist::Row { .. });
    for record in records.iter().filter(is_record) {
        write_block(out, |out| write_record(record, &mut seen, out));
    }
}

/// Gives each record of `bytes` to `each`, in order.
///
/// # Errors
/// When something is no record; those before it were given.
pub(crate) fn decode_batch(bytes: &[u8], each: &mut dyn FnMut(Persist)) -> Result<(), BadRecord> {
    let mut reader = Reader::new(bytes);
    let (mut records, mut seen, mut ended) = (Vec::new(), Vec::new(), Ok(()));
    while !reader.rest.is_empty() && ended.is_ok() {
        ended = reader.record(&mut seen).map(|record| records.push(record));
    }
    // Who takes a message sees then whether others hold it too.
    drop(seen);
    records.into_iter().for_each(each);
    ended
}

fn write_record(record: &Persist, seen: &mut Seen, out: &mut Vec<u8>) {
    match record {
        Persist::Session {
            session,
            expiry_interval_s,
        } => {
            begin(kind::SESSION, session, out);
            write_number(*expiry_interval_s, out);
        }
        Persist::Disconnected { session, at } => {
            begin(kind::DISCONNECTED, session, out);
            write_number(*at, out);
        }
        Persist::SessionEnded { session } => begin(kind::SESSION_ENDED, session, out),
        Persist::Subscribed {
            session,
            filter,
            options,
        } => {
            begin(kind::SUBSCRIBED, session, out);
            write_filter(filter, out);
            write_options(*options, out);
        }
        Persist::Unsubscribed { session, filter } => {
            begin(kind::UNSUBSCRIBED, session, out);
            write_filter(filter, out);
        }
        Persist::Owed { session, waiting } => {
            begin(kind::OWED, session, out);
            write_waiting(waiting, seen.place(&waiting.message), out);
        }
        Persist::InFlight {
            session,
            number,
            packet_id,
        } => {
            begin(kind::IN_FLIGHT, session, out);
            write_number(*number, out);
            write_number(packet_id.get(), out);
        }
        Persist::Released { session, number } => {
            begin(kind::RELEASED, session, out);
            write_number(*number, out);
        }
        Persist::Settled { session, number } => {
            begin(kind::SETTLED, session, out);
            write_number(*number, out);
        }
        Persist::Received { session, packet_id } => {
            begin(kind::RECEIVED, session, out);
            write_number(packet_id.get(), out);
        }
        Persist::ReceivedDone { session, packet_id } => {
            begin(kind::RECEIVED_DONE, session, out);
            write_number(packet_id.get(), out);
        }
        Persist::Retained { message, change } => {
            out.push(kind::RETAINED);
            write_number(*change, out);
            write_message(message, out);
        }
        Persist::Will { session, will } => {
            begin(kind::WILL, session, out);
            write_flags([will.is_some()], out);
            write_option(will.as_deref(), out, |will, out| {
                write_number(will.delay_s(), out);
                write_message(will.message(), out);
            });
        }
        Persist::Delayed {
            number,
            at,
            message,
        } => {
            out.push(kind::DELAYED);
            write_number(*number, out);
            write_number(*at, out);
            write_message(message, out);
        }
        Persist::DelayedDone { number } => {
            out.push(kind::DELAYED_DONE);
            write_number(*number, out);
        }
        Persist::Began { change, epoch } => {
            out.push(kind::BEGAN);
            write_number(*change, out);
            write_number(*epoch, out);
        }
        Persist::RetainedCleared { topic, change } => {
            out.push(kind::RETAINED_CLEARED);
            write_number(*change, out);
            write_bytes(topic.as_bytes(), out);
        }
        Persist::Banned { who, ban } => {
            out.push(kind::BANNED);
            write_who(who, out);
            write_ban(ban, out);
        }
        Persist::Unbanned { who } => {
            out.push(kind::UNBANNED);
            write_who(who, out);
        }
        // Rows stand beside the records of their batch.
        Persist::Row { .. } => {}
    }
}

fn begin(kind: u8, session: &SessionId, out: &mut Vec<u8>) {
    out.push(kind);
    write_bytes(session.client_id.as_bytes(), out);
    write_number(session.epoch, out);
}

fn write_who(who: &Who, out: &mut Vec<u8>) {
    write_bytes(who.kind().as_bytes(), out);
    write_bytes(who.name().as_bytes(), out);
}

fn write_ban(ban: &Ban, out: &mut Vec<u8>) {
    let Ban {
        since,
        until,
        reason,
    } = ban;
    write_number(*since, out);
    write_flags([until.is_some(), reason.is_some()], out);
    write_option(*until, out, write_number);
    write_option(reason.as_deref(), out, |reason, out| {
        write_bytes(reason.as_bytes(), out);
    });
}

fn write_options(options: SubscriptionOptions, out: &mut Vec<u8>) {
    let SubscriptionOptions {
        qos,
        no_local,
        retain_as_published,
        id,
    } = options;
    out.push(qos.as_u8());
    write_flags([no_local, retain_as_published, id.is_some()], out);
    write_option(id, out, |id, out| write_number(id.get(), out));
}

/// In its parts: as one text a shared filter may be longer than a text can be.
fn write_filter(filter: &SubscriptionFilter, out: &mut Vec<u8>) {
    let SubscriptionFilter { share, filter } = filter;
    write_flags([share.is_some()], out);
    write_option(share.as_ref(), out, |share, out| {
        write_bytes(share.as_bytes(), out);
    });
    write_bytes(filter.as_str().as_bytes(), out);
}

/// `place`: where in the batch the message stands already.
fn write_waiting(waiting: &Waiting, place: Option<u64>, out: &mut Vec<u8>) {
    let Waiting {
        message,
        qos,
        retain,
        subscription_ids,
        number,
        group,
    } = waiting;
    write_number(*number, out);
    out.push(qos.as_u8());
    write_flags(
        [
            *retain,
            subscription_ids.is_some(),
            group.is_some(),
            place.is_some(),
        ],
        out,
    );
    write_option(subscription_ids.as_deref(), out, |ids, out| {
        write_list(ids, out, |id, out| write_number(id.get(), out));
    });
    write_option(group.as_deref(), out, |group, out| {
        write_filter(&group.name, out);
    });
    match place {
        Some(place) => write_number(place, out),
        None => write_message(message, out),
    }
}

/// A message with the way of its delivery, by itself.
pub(super) fn write_delivery(waiting: &Waiting, out: &mut Vec<u8>) {
    write_waiting(waiting, None, out);
}

/// What [`write_delivery`] has written.
///
/// # Errors
/// When the bytes are none.
pub(super) fn read_delivery(bytes: &[u8]) -> Result<Waiting, BadRecord> {
    Reader::new(bytes).waiting(&mut Vec::new())
}

/// A message by itself, as [`write_message`] has written it.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn read_message(bytes: &[u8]) -> Result<Message, BadRecord> {
    Reader::new(bytes).message()
}

/// A block, so that a message can get more fields where others follow it.
pub(crate) fn write_message(message: &Message, out: &mut Vec<u8>) {
    let Message {
        id,
        topic,
        payload,
        qos,
        retain,
        dup,
        properties,
        expires_at,
        accepted_at,
        origin,
        hops,
        made_by,
    } = message;
    write_block(out, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        write_bytes(topic.as_bytes(), out);
        write_bytes(payload, out);
        write_number(*accepted_at, out);
        out.extend_from_slice(&[*hops, qos.as_u8()]);
        write_flags(
            [
                *retain,
                *dup,
                properties.is_some(),
                expires_at.is_some(),
                made_by.is_some(),
            ],
            out,
        );
        write_option(properties.as_deref(), out, write_properties);
        write_option(*expires_at, out, write_number);
        write_option(made_by.as_deref(), out, |rule, out| {
            write_bytes(rule.as_bytes(), out);
        });
        write_origin(origin, out);
    });
}

fn write_origin(origin: &Origin, out: &mut Vec<u8>) {
    let Origin {
        client_id,
        username,
        peer,
        attributes,
    } = origin;
    write_bytes(client_id.as_bytes(), out);
    write_flags(
        [username.is_some(), peer.is_some(), attributes.is_some()],
        out,
    );
    write_option(username.as_ref(), out, |name, out| {
        write_bytes(name.as_bytes(), out);
    });
    write_option(*peer, out, write_address);
    write_option(attributes.as_deref(), out, |attributes, out| {
        write_object(attributes, MAX_DEPTH, out);
    });
}

fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    write_flags([address.is_ipv6()], out);
    match address {
        SocketAddr::V4(address) => {
            out.extend_from_slice(&address.ip().octets());
            write_number(address.port(), out);
        }
        SocketAddr::V6(address) => {
            out.extend_from_slice(&address.ip().octets());
            write_number(address.port(), out);
            write_number(address.flowinfo(), out);
            write_number(address.scope_id(), out);
        }
    }
}

fn write_properties(properties: &PublishProperties, out: &mut Vec<u8>) {
    let PublishProperties {
        payload_format_indicator,
        message_expiry_interval_s,
        response_topic,
        correlation_data,
        user_properties,
        content_type,
        // Of one connection and of one delivery: a message has neither.
        topic_alias: _,
        subscription_identifiers: _,
    } = properties;
    write_flags(
        [
            payload_format_indicator.is_some(),
            message_expiry_interval_s.is_some(),
            response_topic.is_some(),
            correlation_data.is_some(),
            content_type.is_some(),
        ],
        out,
    );
    write_option(*payload_format_indicator, out, |format, out| {
        write_flags([format == PayloadFormat::Utf8], out);
    });
    write_option(*message_expiry_interval_s, out, write_number);
    write_option(response_topic.as_ref(), out, |topic, out| {
        write_bytes(topic.as_bytes(), out);
    });
    write_option(correlation_data.as_deref(), out, write_bytes);
    write_option(content_type.as_ref(), out, |content_type, out| {
        write_bytes(content_type.as_bytes(), out);
    });
    write_list(user_properties, out, |(name, value), out| {
        write_bytes(name.as_bytes(), out);
        write_bytes(value.as_bytes(), out);
    });
}

/// `depth`: how many levels of arrays and objects may begin in it.
fn write_value(value: &Value, depth: usize, out: &mut Vec<u8>) {
    match value {
        Value::Undefined => out.push(tag::UNDEFINED),
        Value::Null => out.push(tag::NULL),
        Value::Bool(false) => out.push(tag::FALSE),
        Value::Bool(true) => out.push(tag::TRUE),
        Value::Int(int) => {
            out.push(tag::INT);
            out.extend_from_slice(&int.to_be_bytes());
        }
        Value::Float(float) => {
            out.push(tag::FLOAT);
            out.extend_from_slice(&float.to_be_bytes());
        }
        Value::Text(text) => {
            out.push(tag::TEXT);
            write_bytes(text.as_bytes(), out);
        }
        Value::Bits(bits) => {
            out.push(tag::BITS);
            write_number(bits.len as u64, out);
            write_bytes(&bits.bytes, out);
        }
        Value::Array(_) | Value::Object(_) if depth == 0 => out.push(tag::UNDEFINED),
        Value::Array(values) => {
            out.push(tag::ARRAY);
            write_list(&**values, out, |value, out| {
                write_value(value, depth - 1, out);
            });
        }
        Value::Object(object) => {
            out.push(tag::OBJECT);
            write_object(object, depth - 1, out);
        }
    }
}

fn write_object(object: &Object, depth: usize, out: &mut Vec<u8>) {
    write_list(object, out, |(key, value), out| {
        write_bytes(key.as_bytes(), out);
        write_value(value, depth, out);
    });
}

/// Eight yes or no at most, the first in the lowest bit.
fn write_flags<const N: usize>(flags: [bool; N], out: &mut Vec<u8>) {
    const { assert!(N <= 8, "they are one byte") };
    let bits = flags.iter().rev();
    out.push(bits.fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
}

/// What is there; that it is there was said before.
fn write_option<T>(option: Option<T>, out: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>)) {
    if let Some(value) = option {
        write(value, out);
    }
}

/// How many, and each.
fn write_list<I: IntoIterator<IntoIter: ExactSizeIterator>>(
    items: I,
    out: &mut Vec<u8>,
    mut write: impl FnMut(I::Item, &mut Vec<u8>),
) {
    let items = items.into_iter();
    write_number(items.len() as u64, out);
    items.for_each(|item| write(item, out));
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// What `body` appends, behind its length.
fn write_block(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // Most lengths take so many bytes; else the body moves.
    out.extend_from_slice(&[0; 2]);
    body(out);
    let length = out.len() - start - 2;
    let mut bytes = [0; 10];
    let bytes = number_bytes(length as u64, &mut bytes);
    match *bytes {
        [first, second] => out[start..start + 2].copy_from_slice(&[first, second]),
        [only] => {
            out[start] = only;
            out.copy_within(start + 2.., start + 1);
            out.pop();
        }
        _ => drop(out.splice(start..start + 2, bytes.iter().copied())),
    }
}

fn write_number(number: impl Into<u64>, out: &mut Vec<u8>) {
    let number = number.into();
    if number < 0x80 {
        out.push((number & 0x7F) as u8);
        return;
    }
    out.extend_from_slice(number_bytes(number, &mut [0; 10]));
}

fn number_bytes(number: u64, bytes: &mut [u8; 10]) -> &[u8] {
    let (mut rest, mut count) = (number, 0);
    while rest >= 0x80 {
        bytes[count] = (rest & 0x7F) as u8 | 0x80;
        rest >>= 7;
        count += 1;
    }
    bytes[count] = (rest & 0x7F) as u8;
    &bytes[..=count]
}

/// What is still to be read. Nothing is reserved by what a count says: memory grows with what is really there.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    rest: &'a [u8],
    /// How many bytes have been read before `rest`.
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// `seen`: the messages of the batch that were owed before.
    fn record(&mut self, seen: &mut Vec<Arc<Message>>) -> Result<Persist, BadRecord> {
        let mut body = self.block("a record")?;
        let unknown = body.bad("a known kind of record");
        Ok(match body.u8("a kind of record")? {
            kind::SESSION => Persist::Session {
                session: body.session()?,
                expiry_interval_s: body.number("a session expiry interval")?,
            },
            kind::DISCONNECTED => Persist::Disconnected {
                session: body.session()?,
                at: body.number("the end of a connection")?,
            },
            kind::SESSION_ENDED => Persist::SessionEnded {
                session: body.session()?,
            },
            kind::SUBSCRIBED => Persist::Subscribed {
                session: body.session()?,
                filter: body.filter()?,
                options: body.options()?,
            },
            kind::UNSUBSCRIBED => Persist::Unsubscribed {
                session: body.session()?,
                filter: body.filter()?,
            },
            kind::OWED => Persist::Owed {
                session: body.session()?,
                waiting: body.waiting(seen)?,
            },
            kind::IN_FLIGHT => Persist::InFlight {
                session: body.session()?,
                number: body.place()?,
                packet_id: body.packet_id()?,
            },
            kind::RELEASED => Persist::Released {
                session: body.session()?,
                number: body.place()?,
            },
            kind::SETTLED => Persist::Settled {
                session: body.session()?,
                number: body.place()?,
            },
            kind::RECEIVED => Persist::Received {
                session: body.session()?,
                packet_id: body.packet_id()?,
            },
            kind::RECEIVED_DONE => Persist::ReceivedDone {
                session: body.session()?,
                packet_id: body.packet_id()?,
            },
            kind::RETAINED => Persist::Retained {
                change: body.number("the number of a change")?,
                message: Arc::new(body.message()?),
            },
            kind::RETAINED_CLEARED => Persist::RetainedCleared {
                change: body.number("the number of a change")?,
                topic: body.text("a topic")?,
            },
            kind::WILL => {
                let session = body.session()?;
                let [is_there] = body.flags("flags of a will")?;
                let will = body.option(is_there, |body| {
                    let delay_s = body.number("a will delay interval")?;
                    Ok(Box::new(Will::restored(body.message()?, delay_s)))
                })?;
                Persist::Will { session, will }
            }
            kind::DELAYED => Persist::Delayed {
                number: body.number("the number of a delayed message")?,
                at: body.number("the time when a message is due")?,
                message: Arc::new(body.message()?),
            },
            kind::DELAYED_DONE => Persist::DelayedDone {
                number: body.number("the number of a delayed message")?,
            },
            kind::BEGAN => Persist::Began {
                change: body.number("the number of a change")?,
                epoch: body.number("the number of a session")?,
            },
            kind::BANNED => Persist::Banned {
                who: body.who()?,
                ban: body.ban()?,
            },
            kind::UNBANNED => Persist::Unbanned { who: body.who()? },
            _ => return Err(unknown),
        })
    }

    fn who(&mut self) -> Result<Who, BadRecord> {
        let bad = self.bad("someone who is banned");
        let kind = self.string(bad.what)?;
        Who::parse(kind, self.string(bad.what)?).ok_or(bad)
    }

    fn ban(&mut self) -> Result<Ban, BadRecord> {
        let since = self.number("the begin of a ban")?;
        let [ends, has_reason] = self.flags("flags of a ban")?;
        Ok(Ban {
            since,
            until: self.option(ends, |reader| reader.number("the end of a ban"))?,
            reason: self.option(has_reason, |reader| {
                Ok(reader.string("the reason of a ban")?.to_owned())
            })?,
        })
    }

    fn client_id(&mut self) -> Result<Utf8, BadRecord> {
        self.text("a client identifier")
    }

    fn session(&mut self) -> Result<SessionId, BadRecord> {
        Ok(SessionId {
            client_id: self.client_id()?,
            epoch: self.number("the number of a session")?,
        })
    }

    fn place(&mut self) -> Result<u64, BadRecord> {
        self.number("a place in the session's order")
    }

    fn packet_id(&mut self) -> Result<PacketId, BadRecord> {
        let bad = self.bad("a packet identifier");
        PacketId::new(self.number(bad.what)?).ok_or(bad)
    }

    fn subscription_id(&mut self) -> Result<SubscriptionId, BadRecord> {
        let bad = self.bad("a subscription identifier");
        SubscriptionId::new(self.number(bad.what)?).ok_or(bad)
    }

    fn qos(&mut self) -> Result<QoS, BadRecord> {
        let bad = self.bad("a QoS");
        QoS::try_from(self.u8(bad.what)?).map_err(|_| bad)
    }

    fn options(&mut self) -> Result<SubscriptionOptions, BadRecord> {
        let qos = self.qos()?;
        let [no_local, retain_as_published, has_id] = self.flags("flags of a subscription")?;
        Ok(SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            id: self.option(has_id, Self::subscription_id)?,
        })
    }

    fn filter(&mut self) -> Result<SubscriptionFilter, BadRecord> {
        let [shared] = self.flags("flags of a topic filter")?;
        let share = self.option(shared, |reader| reader.text("a share name"))?;
        let bad = self.bad("a topic filter");
        let filter = TopicFilter::try_from(self.text(bad.what)?).map_err(|_| bad)?;
        Ok(SubscriptionFilter { share, filter })
    }

    fn waiting(&mut self, seen: &mut Vec<Arc<Message>>) -> Result<Waiting, BadRecord> {
        let number = self.place()?;
        let qos = self.qos()?;
        let [retain, has_ids, has_group, stands_before] = self.flags("flags of a delivery")?;
        let subscription_ids = self.option(has_ids, |reader| {
            reader.list("subscription identifiers", Self::subscription_id)
        })?;
        // Another member is looked for by the name alone, in the group that the index has.
        let group = self.option(has_group, |reader| {
            let name = reader.filter()?;
            Ok(Group::new(name, &Strategies::default()))
        })?;
        let message = if stands_before {
            let bad = self.bad("a message that stands earlier in the batch");
            let place: usize = self.number(bad.what)?;
            Arc::clone(seen.get(place).ok_or(bad)?)
        } else {
            let message = Arc::new(self.message()?);
            seen.push(Arc::clone(&message));
            message
        };
        Ok(Waiting {
            message,
            qos,
            retain,
            subscription_ids,
            number,
            group,
        })
    }

    fn message(&mut self) -> Result<Message, BadRecord> {
        let mut body = self.block("a message")?;
        let id = u128::from_be_bytes(body.array("the identifier of a message")?);
        let topic = body.text("a topic")?;
        let payload = Bytes::copy_from_slice(body.bytes("a payload")?);
        let accepted_at = body.number("the time of acceptance")?;
        let hops = body.u8("a number of rules")?;
        let qos = body.qos()?;
        let [retain, dup, has_properties, expires, is_made] = body.flags("flags of a message")?;
        Ok(Message {
            id,
            topic,
            payload,
            qos,
            retain,
            dup,
            properties: body.option(has_properties, Self::properties)?.map(Box::new),
            expires_at: body.option(expires, |body| body.number("the time of expiry"))?,
            accepted_at,
            hops,
            made_by: body.option(is_made, |body| Ok(body.string("a rule's name")?.into()))?,
            origin: Arc::new(body.origin()?),
        })
    }

    fn origin(&mut self) -> Result<Origin, BadRecord> {
        let client_id = self.client_id()?;
        let [has_username, has_peer, has_attributes] = self.flags("flags of a publisher")?;
        Ok(Origin {
            client_id,
            username: self.option(has_username, |reader| reader.text("a user name"))?,
            peer: self.option(has_peer, Self::address)?,
            attributes: self
                .option(has_attributes, |reader| reader.object(MAX_DEPTH))?
                .map(Arc::new),
        })
    }

    fn address(&mut self) -> Result<SocketAddr, BadRecord> {
        let [is_v6] = self.flags("flags of a network address")?;
        let (ip, port) = ("an IP address", "a port");
        Ok(if is_v6 {
            SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(self.array::<16>(ip)?),
                self.number(port)?,
                self.number("a flow label")?,
                self.number("a scope identifier")?,
            ))
        } else {
            SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::from(self.array::<4>(ip)?),
                self.number(port)?,
            ))
        })
    }

    fn properties(&mut self) -> Result<PublishProperties, BadRecord> {
        let [
            has_format,
            has_expiry,
            has_response_topic,
            has_correlation_data,
            has_content_type,
        ] = self.flags("flags of properties")?;
        Ok(PublishProperties {
            payload_format_indicator: self.option(has_format, |reader| {
                let [is_utf8] = reader.flags("a payload format indicator")?;
                Ok(if is_utf8 {
                    PayloadFormat::Utf8
                } else {
                    PayloadFormat::Unspecified
                })
            })?,
            message_expiry_interval_s: self.option(has_expiry, |reader| {
                reader.number("a message expiry interval")
            })?,
            response_topic: self.option(has_response_topic, |reader| {
                let bad = reader.bad("a response topic");
                TopicName::parse(reader.text(bad.what)?).map_err(|_| bad)
            })?,
            correlation_data: self.option(has_correlation_data, |reader| {
                Ok(Bytes::copy_from_slice(reader.bytes("correlation data")?))
            })?,
            content_type: self.option(has_content_type, |reader| reader.text("a content type"))?,
            user_properties: self.list("user properties", |reader| {
                Ok((
                    reader.text("the name of a user property")?,
                    reader.text("the value of a user property")?,
                ))
            })?,
            topic_alias: None,
            subscription_identifiers: Vec::new(),
        })
    }

    /// `depth`: as in [`write_value`].
    fn value(&mut self, depth: usize) -> Result<Value, BadRecord> {
        let unknown = self.bad("a known kind of value");
        let too_deep = self.bad("a value that nests less deep");
        Ok(match self.u8("a value")? {
            tag::UNDEFINED => Value::Undefined,
            tag::NULL => Value::Null,
            tag::FALSE => Value::Bool(false),
            tag::TRUE => Value::Bool(true),
            tag::INT => Value::Int(i64::from_be_bytes(self.array("an integer")?)),
            tag::FLOAT => Value::from(f64::from_be_bytes(self.array("a float")?)),
            tag::TEXT => Value::Text(Text::from(self.bytes("a text")?.to_vec())),
            tag::BITS => Value::Bits(Arc::new(self.bits()?)),
            tag::ARRAY => {
                let depth = depth.checked_sub(1).ok_or(too_deep)?;
                let values: Vec<_> = self.list("an array", |reader| reader.value(depth))?;
                Value::from(values)
            }
            tag::OBJECT => Value::from(self.object(depth.checked_sub(1).ok_or(too_deep)?)?),
            _ => return Err(unknown),
        })
    }

    fn bits(&mut self) -> Result<Bits, BadRecord> {
        let len: usize = self.number("a number of bits")?;
        let bad = self.bad("as many bytes as the bits need");
        let bytes = self.bytes(bad.what)?;
        if bytes.len() == len.div_ceil(8) {
            Ok(Bits {
                bytes: bytes.to_vec(),
                len,
            })
        } else {
            Err(bad)
        }
    }

    fn object(&mut self, depth: usize) -> Result<Object, BadRecord> {
        self.list("an object", |reader| {
            Ok((Key::from(reader.string("a key")?), reader.value(depth)?))
        })
    }

    fn bad(&self, what: &'static str) -> BadRecord {
        BadRecord { at: self.at, what }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        self.at += len;
        Some(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], BadRecord> {
        let taken = self.take(N).and_then(|taken| taken.try_into().ok());
        taken.ok_or_else(|| self.bad(what))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, BadRecord> {
        self.array(what).map(|[byte]| byte)
    }

    fn number<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, BadRecord> {
        let bad = self.bad(what);
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array(what).map_err(|_| bad)?;
            let bits = u64::from(byte & 0x7F);
            number |= bits << shift;
            // Of the tenth byte only one bit has a place.
            if number >> shift != bits {
                return Err(bad);
            }
            if byte & 0x80 == 0 {
                return T::try_from(number).map_err(|_| bad);
            }
        }
        Err(bad)
    }

    fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], BadRecord> {
        let bad = self.bad(what);
        let len = self.number(what)?;
        self.take(len).ok_or(bad)
    }

    /// What stands behind its length, as a reader of its own.
    fn block(&mut self, what: &'static str) -> Result<Self, BadRecord> {
        let rest = self.bytes(what)?;
        Ok(Self {
            rest,
            at: self.at - rest.len(),
        })
    }

    fn string(&mut self, what: &'static str) -> Result<&'a str, BadRecord> {
        let bad = self.bad(what);
        std::str::from_utf8(self.bytes(what)?).map_err(|_| bad)
    }

    fn text(&mut self, what: &'static str) -> Result<Utf8, BadRecord> {
        let bad = self.bad(what);
        Utf8::new(self.string(what)?).map_err(|_| bad)
    }

    fn flags<const N: usize>(&mut self, what: &'static str) -> Result<[bool; N], BadRecord> {
        let bad = self.bad(what);
        let byte = u32::from(self.u8(what)?);
        if byte >> N == 0 {
            Ok(std::array::from_fn(|index| byte >> index & 1 == 1))
        } else {
            Err(bad)
        }
    }

    fn option<T>(
        &mut self,
        is_there: bool,
        read: impl FnOnce(&mut Self) -> Result<T, BadRecord>,
    ) -> Result<Option<T>, BadRecord> {
        is_there.then(|| read(self)).transpose()
    }

    fn list<T, C: FromIterator<T>>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, BadRecord>,
    ) -> Result<C, BadRecord> {
        let count: u64 = self.number(what)?;
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests;
