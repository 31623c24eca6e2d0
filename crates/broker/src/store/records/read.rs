//! Bytes to records, and to what they are made of.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use bytes::Bytes;
use weir_mqtt::properties::{PayloadFormat, PublishProperties};
use weir_mqtt::{PacketId, QoS, SubscriptionFilter, SubscriptionId, TopicFilter, TopicName, Utf8};
use weir_rules::Value;
use weir_rules::value::{Bits, Key, Object, Text};

use super::{BadRecord, MAX_DEPTH, kind, tag};
use crate::core::bans::{Ban, Who};
use crate::core::message::{Message, Origin};
use crate::core::shared_groups::{Group, Strategies};
use crate::core::will::Will;
use crate::store::{Persist, SessionId, SubscriptionOptions, Waiting};

/// What is still to be read. Nothing is reserved by what a count says: memory grows with what is really there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    /// How many bytes have been read before `rest`.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// `seen`: the messages of the batch that were owed before.
    pub(super) fn record(&mut self, seen: &mut Vec<Arc<Message>>) -> Result<Persist, BadRecord> {
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

    pub(super) fn subscription_id(&mut self) -> Result<SubscriptionId, BadRecord> {
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

    pub(super) fn waiting(&mut self, seen: &mut Vec<Arc<Message>>) -> Result<Waiting, BadRecord> {
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

    pub(super) fn message(&mut self) -> Result<Message, BadRecord> {
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
            // What is retained has its expiry, what is delayed has its topic.
            retain_s: None,
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

    pub(super) fn object(&mut self, depth: usize) -> Result<Object, BadRecord> {
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

    pub(super) fn number<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, BadRecord> {
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

    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], BadRecord> {
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

    pub(super) fn flags<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[bool; N], BadRecord> {
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

    pub(super) fn list<T, C: FromIterator<T>>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, BadRecord>,
    ) -> Result<C, BadRecord> {
        let count: u64 = self.number(what)?;
        (0..count).map(|_| read(self)).collect()
    }
}
