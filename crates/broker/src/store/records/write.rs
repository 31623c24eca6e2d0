//! Records, and what they are made of, to bytes.

use std::net::SocketAddr;

use weir_mqtt::SubscriptionFilter;
use weir_mqtt::properties::{PayloadFormat, PublishProperties};
use weir_rules::Value;
use weir_rules::value::Object;

use super::{MAX_DEPTH, Seen, kind, tag};
use crate::core::bans::{Ban, Who};
use crate::core::message::{Message, Origin};
use crate::store::{Persist, SessionId, SubscriptionOptions, Waiting};

pub(super) fn write_record(record: &Persist, seen: &mut Seen, out: &mut Vec<u8>) {
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
pub(super) fn write_waiting(waiting: &Waiting, place: Option<u64>, out: &mut Vec<u8>) {
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
        retain_s: _,
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

pub(super) fn write_object(object: &Object, depth: usize, out: &mut Vec<u8>) {
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
pub(super) fn write_block(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
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

pub(super) fn write_number(number: impl Into<u64>, out: &mut Vec<u8>) {
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
