//! Messages that cross a bridge as they are: what `out` takes, in the queue and on the way.
//!
//! A message is named for the remote when it is accepted, and keeps its `QoS`, flag and properties. The remote's packet
//! id follows from its number in the queue, so that a message of `QoS` 2 is the same one after a restart.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;
use weir_mqtt::properties::{PayloadFormat, PublishProperties};
use weir_mqtt::{TopicName, Utf8};
use weir_rules::value::{Object, Text, Value};

use crate::bridge::home::mark;
use crate::bridge::lanes::Whose;
use crate::bridge::link::{Answer, BridgeLink, NotSent, Outgoing};
use crate::bridge::numbering::{Kept, Numbering};
use crate::bridge::route::{NOT_OWNED, OutRoute, Sender, Unmapped};
use crate::mqtt::{LINK_WAIT, lost, outcome};
use crate::{Batch, Outcome, Record, Sink, SinkError, codes, now_ms};

/// The response topic among the properties that rules see.
const RESPONSE_TOPIC: &str = "Response-Topic";

/// A message of the broker that `out` wants.
#[derive(Clone, Copy, Debug)]
pub struct Crossing<'a> {
    /// Its topic here.
    pub topic: &'a str,
    /// Its bytes.
    pub payload: &'a Bytes,
    /// Its `QoS`.
    pub qos: u8,
    /// Its RETAIN flag.
    pub retain: bool,
    /// Its properties, under the names that rules see.
    pub properties: Option<&'a Arc<Object>>,
    /// Who sent it.
    pub sender: Sender<'a>,
    /// What names this broker in the paths of messages.
    pub node_id: &'a str,
}

/// The row that a message leaves in the queue.
///
/// # Errors
/// When the message has no name at the remote.
pub fn row(route: &OutRoute, message: Crossing<'_>) -> Result<Value, Unmapped> {
    let topic = route.name(message.topic, message.sender)?;
    let qos = route.leaves_with(message.qos);
    let retain = route.retain.apply(message.retain);
    let payload = payload(route, message.topic, message.sender, retain)?;
    let responds = message.properties.and_then(|properties| {
        let topic = properties.get(RESPONSE_TOPIC)?.as_str()?;
        let name = route.response(topic, message.sender)?;
        Some(Arc::new(responding(properties, &name)))
    });
    let named = Crossing {
        payload: payload.as_ref().unwrap_or(message.payload),
        properties: responds.as_ref().or(message.properties),
        ..message
    };
    let members = carried(named, &topic, qos, retain);
    Ok(members.into_iter().collect())
}

/// The payload that a message has at the remote, where it is another one.
fn payload(
    route: &OutRoute,
    topic: &str,
    sender: Sender<'_>,
    retain: bool,
) -> Result<Option<Bytes>, Unmapped> {
    let Some(map) = &route.payload else {
        return Ok(None);
    };
    let changed = map.changed(topic, sender, retain)?;
    Ok(changed.map(Bytes::from))
}

/// The same properties with another response topic.
fn responding(properties: &Object, topic: &str) -> Object {
    let mut properties = properties.clone();
    properties.insert(RESPONSE_TOPIC.into(), Value::from(topic));
    properties
}

/// What goes along with a message under a name.
fn carried<'k>(message: Crossing<'_>, topic: &str, qos: u8, retain: bool) -> Vec<(&'k str, Value)> {
    let mut members = vec![
        ("topic", Value::from(topic)),
        (
            "payload",
            Value::Text(Text::from_bytes(message.payload.clone())),
        ),
        ("qos", Value::Int(qos.into())),
        ("retain", Value::Bool(retain)),
        ("node", Value::from(message.node_id)),
    ];
    if let Some(properties) = message
        .properties
        .filter(|properties| !properties.is_empty())
    {
        members.push(("properties", Value::Object(Arc::clone(properties))));
    }
    members
}

/// The row of a message that has no name at the remote: it goes to the dead letters from the queue, with everything that a
/// name may be made of once the file was corrected.
pub fn unmapped_row(route: &OutRoute, message: Crossing<'_>, why: Unmapped) -> Value {
    let mut members = vec![
        ("unmapped", Value::from(why.to_string().as_str())),
        ("filter", Value::from(route.filter.as_str())),
        ("from_node", Value::from(message.sender.node)),
    ];
    if let Some(username) = message.sender.username {
        members.push(("username", Value::from(username)));
    }
    let qos = route.leaves_with(message.qos);
    let retain = route.retain.apply(message.retain);
    members.extend(carried(message, message.topic, qos, retain));
    members.into_iter().collect()
}

/// The row of a message that had no name, under the name that the entry of its filter gives it now.
fn named_anew(record: &Record, routes: &[OutRoute]) -> Option<Record> {
    let text = |key: &str| record.row.get(key).and_then(Value::as_str);
    let route = routes
        .iter()
        .find(|route| Some(route.filter.as_str()) == text("filter"))?;
    let qos = match record.row.get("qos")? {
        Value::Int(qos) => u8::try_from(*qos).ok()?,
        _ => return None,
    };
    let sender = Sender {
        client_id: record.client_id.as_str().unwrap_or_default(),
        username: text("username"),
        qos,
        node: text("from_node").unwrap_or_default(),
        payload: record.row.get("payload")?.as_text()?.as_bytes(),
    };
    let name = route.name(text("topic")?, sender).ok()?;
    let mut members = record.row.as_object()?.clone();
    members.insert("topic".into(), Value::from(name.as_str()));
    let retain = matches!(record.row.get("retain"), Some(Value::Bool(true)));
    if let Some(payload) = payload(route, text("topic")?, sender, retain).ok()? {
        members.insert("payload".into(), Value::Text(Text::from_bytes(payload)));
    }
    if let Some(Value::Object(properties)) = record.row.get("properties")
        && let Some(response) = properties.get(RESPONSE_TOPIC).and_then(Value::as_str)
        && let Some(response) = route.response(response, sender)
    {
        let properties = responding(properties, &response);
        members.insert("properties".into(), Value::from(properties));
    }
    Some(Record {
        row: Value::from(members),
        ..record.clone()
    })
}

fn not_owned(what: &str, topic: &str, device: &str) -> SinkError {
    let message = format!("{NOT_OWNED}: {what} `{topic}` does not belong to device `{device}`");
    SinkError::new(codes::TOPIC_NOT_OWNED, message)
}

fn unreadable() -> SinkError {
    SinkError::new(codes::DEFECT, "a message of the queue cannot be read")
}

/// Sends what waits in the queue of `out`.
pub(crate) struct CrossingSink {
    link: BridgeLink,
    numbering: Numbering,
}

impl CrossingSink {
    pub(crate) fn new(link: BridgeLink, kept: Option<Kept>) -> Self {
        Self {
            link,
            numbering: Numbering::new(Whose::Out, kept),
        }
    }

    /// The message of a row. One that had no name at the remote may have one by now.
    fn message(&self, record: &Record) -> Result<Message, SinkError> {
        let plan = self.link.plan();
        let Some(why) = record.row.get("unmapped").and_then(Value::as_str) else {
            let message = Message::of(record).ok_or_else(unreadable)?;
            // It may have been named for the device of another file.
            return match &plan.owner {
                Some(owner) if !owner.owns(&message.topic) => {
                    Err(not_owned("the name", &message.topic, &owner.device_name))
                }
                _ => Ok(message),
            };
        };
        let named = named_anew(record, &plan.out).ok_or_else(|| {
            let topic = record.row.get("topic").and_then(Value::as_str);
            let topic = topic.unwrap_or_default();
            match &plan.owner {
                Some(owner) if why == NOT_OWNED => {
                    not_owned("the name of a message on", topic, &owner.device_name)
                }
                _ => {
                    let message =
                        format!("a message on `{topic}` has no name at the remote: {why}");
                    SinkError::new(codes::UNMAPPED, message)
                }
            }
        })?;
        Message::of(&named).ok_or_else(unreadable)
    }

    async fn hand_over(
        &mut self,
        record: &Record,
        (epoch, again): (u64, bool),
        link: u64,
    ) -> Result<oneshot::Receiver<Answer>, Outcome> {
        if self.numbering.is_done(record.seq) {
            return Err(Outcome::Delivered);
        }
        let message = match self.message(record) {
            Ok(message) => message,
            Err(error) => return Err(Outcome::Rejected { error }),
        };
        let waited = now_ms().saturating_sub(record.accepted_at_ms);
        let is_old = (self.link.plan().queue_ttl)
            .is_some_and(|ttl| u128::try_from(waited).is_ok_and(|waited| waited > ttl.as_millis()));
        if is_old || message.is_expired() {
            self.numbering
                .gives_up(&self.link, record.seq, again && message.qos == 2);
            self.link
                .stats()
                .expired
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Err(Outcome::Delivered);
        }
        let outgoing = Outgoing {
            topic: &message.topic,
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            properties: Some(message.properties),
            who: (epoch, record.seq),
            numbered: self.numbering.of(record.seq, again),
        };
        match self.link.publish(outgoing, link).await {
            Ok(answer) => Ok(answer),
            Err(NotSent::Unfit(error)) => {
                self.numbering.gives_up(&self.link, record.seq, again);
                Err(Outcome::Rejected { error })
            }
            Err(NotSent::Down) => Err(lost()),
        }
    }
}

#[async_trait]
impl Sink for CrossingSink {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        let up = match self.link.up(LINK_WAIT).await {
            Ok(number) => {
                let first = batch.first_seq();
                let prepared = self.numbering.prepare(&self.link, number, first);
                prepared.await.map(|()| number)
            }
            Err(error) => Err(error),
        };
        let link = match up {
            Ok(link) => link,
            Err(error) => {
                let after = Some(Duration::ZERO).filter(|_| error.code() != codes::FILE);
                return vec![Outcome::Retry { after, error }; batch.records.len()];
            }
        };
        let mut answers = Vec::with_capacity(batch.records.len());
        let mut down = false;
        for record in batch.records {
            // After a lost link nothing more of this batch goes out: a later message must not overtake an earlier one.
            if down {
                answers.push(Err(lost()));
                continue;
            }
            let again = record.seq <= batch.given_to;
            let answer = self.hand_over(record, (batch.epoch, again), link).await;
            down = matches!(answer, Err(Outcome::Retry { .. }));
            answers.push(answer);
        }
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(match answer {
                Err(outcome) => outcome,
                Ok(answer) => outcome(answer.await),
            });
        }
        outcomes
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        self.link
            .up(self.link.plan().connect_timeout)
            .await
            .map(|_| ())
    }
}

/// A row of the queue, read again.
struct Message {
    topic: String,
    payload: Bytes,
    qos: u8,
    retain: bool,
    properties: PublishProperties,
}

impl Message {
    fn of(record: &Record) -> Option<Self> {
        let row = record.row.as_object()?;
        let mut properties = match row.get("properties") {
            Some(Value::Object(properties)) => properties_of(properties),
            _ => PublishProperties::default(),
        };
        if let Some(left) = &mut properties.message_expiry_interval_s {
            // [MQTT-3.3.2-6] What the message has waited here is taken off.
            let waited = now_ms().saturating_sub(record.accepted_at_ms).max(0) / 1000;
            *left = left.saturating_sub(u32::try_from(waited).unwrap_or(u32::MAX));
        }
        let node = row.get("node").and_then(Value::as_str).unwrap_or_default();
        mark(&mut properties, node);
        let qos = match row.get("qos")? {
            Value::Int(qos) => u8::try_from(*qos).ok()?,
            _ => return None,
        };
        Some(Self {
            topic: row.get("topic")?.as_str()?.to_owned(),
            payload: row.get("payload")?.as_text()?.bytes().clone(),
            qos,
            retain: matches!(row.get("retain"), Some(Value::Bool(true))),
            properties,
        })
    }

    fn is_expired(&self) -> bool {
        self.properties.message_expiry_interval_s == Some(0)
    }
}

/// Properties under the names that rules see; what does not fit is left out.
fn properties_of(object: &Object) -> PublishProperties {
    let text = |value: &Value| Utf8::try_from(value.as_text()?.bytes().clone()).ok();
    let number = |key: &str| match object.get(key) {
        Some(Value::Int(number)) => u32::try_from(*number).ok(),
        _ => None,
    };
    let pair = |pair: &Value| {
        let pair = pair.as_object()?;
        Some((text(pair.get("key")?)?, text(pair.get("value")?)?))
    };
    let pairs = object.get("User-Property-Pairs").and_then(Value::as_array);
    PublishProperties {
        payload_format_indicator: number("Payload-Format-Indicator").map(|format| {
            if format == 1 {
                PayloadFormat::Utf8
            } else {
                PayloadFormat::Unspecified
            }
        }),
        message_expiry_interval_s: number("Message-Expiry-Interval"),
        content_type: object.get("Content-Type").and_then(text),
        response_topic: object
            .get("Response-Topic")
            .and_then(text)
            .and_then(|topic| TopicName::parse(topic).ok()),
        correlation_data: object
            .get("Correlation-Data")
            .and_then(Value::as_text)
            .map(|data| data.bytes().clone()),
        user_properties: pairs
            .map(|pairs| pairs.iter().filter_map(pair).collect())
            .unwrap_or_default(),
        ..PublishProperties::default()
    }
}
