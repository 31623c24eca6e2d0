//! The message or event that triggered the rule. What a source lacks is undefined.

use std::sync::Arc;

use weir_mqtt::topic::TopicFilter;

use super::call::Call;
use super::{Category, Function, Param, StrictBody, map};
use crate::error::Fault;
use crate::json;
use crate::value::{Object, Value};

const FILTERS: &[&[Param]] = &[
    &[Param::array("filters"), Param::text("topic")],
    &[
        Param::array("filters"),
        Param::text("topic"),
        Param::int("qos"),
    ],
];

const fn context(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Context, name, forms, doc, examples, body).reads()
}

pub(super) const FUNCTIONS: &[Function] = &[
    context(
        "msgid",
        &[&[]],
        "The message's id.",
        &[("msgid() = id", "true")],
        |call| Ok(call.event.field("id")),
    ),
    context(
        "qos",
        &[&[]],
        "The message's QoS.",
        &[("qos() = qos", "true")],
        |call| Ok(call.event.field("qos")),
    ),
    context(
        "topic",
        &[&[], &[Param::int("n")]],
        "The message's topic, or its n-th level from 1.",
        &[("topic() = topic", "true"), ("is_null(topic(99))", "true")],
        |call| {
            let topic = call.event.field("topic");
            if call.count() == 0 {
                return Ok(topic);
            }
            let level = usize::try_from(call.int(0)?)
                .ok()
                .and_then(|level| level.checked_sub(1));
            let level = level.and_then(|level| topic.as_str()?.split('/').nth(level));
            Ok(level.map_or(Value::Undefined, Value::from))
        },
    ),
    context(
        "clientid",
        &[&[]],
        "The client's identifier.",
        &[("clientid() = clientid", "true")],
        |call| Ok(call.event.field("clientid")),
    ),
    context(
        "username",
        &[&[]],
        "The client's user name.",
        &[("username() = username", "true")],
        |call| Ok(call.event.field("username")),
    ),
    context(
        "principal",
        &[&[]],
        "The client's user name, or its identifier when it has none.",
        &[("principal() = coalesce(username, clientid)", "true")],
        |call| {
            let username = call.event.field("username");
            Ok(if username.is_nullish() {
                call.event.field("clientid")
            } else {
                username
            })
        },
    ),
    context(
        "payload",
        &[&[], &[Param::text("path")]],
        "The payload, or the member of its JSON at a dot path.",
        &[
            ("payload() = payload", "true"),
            ("is_null(payload('no.such'))", "true"),
        ],
        |call| {
            if call.count() == 0 {
                return Ok(call.event.field("payload"));
            }
            let path = call.text(0)?;
            let decoded = call
                .event
                .payload()
                .and_then(|payload| json::decode(payload).ok());
            Ok(decoded
                .and_then(|value| map::at_path(&value, path))
                .unwrap_or_default())
        },
    ),
    context(
        "peerhost",
        &[&[]],
        "The client's address.",
        &[("peerhost() = peerhost", "true")],
        |call| Ok(call.event.field("peerhost")),
    ),
    context(
        "clientip",
        &[&[]],
        "Another name of `peerhost`.",
        &[("clientip() = peerhost()", "true")],
        |call| Ok(call.event.field("peerhost")),
    ),
    context(
        "flags",
        &[&[]],
        "The message's flags, an object.",
        &[("is_map(flags())", "true")],
        |call| Ok(flags(call)),
    ),
    context(
        "flag",
        &[&[Param::text("name")]],
        "One of the message's flags.",
        &[("flag('retain') = flags.retain", "true")],
        |call| Ok(flags(call).get(call.text(0)?).cloned().unwrap_or_default()),
    ),
    context(
        "event",
        &[&[]],
        "The event's name, e.g. `message.publish`.",
        &[("event() = event", "true")],
        |call| Ok(Value::Text(call.event.name())),
    ),
    context(
        "rule_id",
        &[&[]],
        "The rule's id.",
        &[("is_str(rule_id())", "true")],
        |call| Ok(call.rule_id.into()),
    ),
    context(
        "node",
        &[&[]],
        "The broker's name.",
        &[("node() = node", "true")],
        |call| Ok(call.env.node().into()),
    ),
    Function::new(
        Category::Context,
        "contains_topic",
        FILTERS,
        "Whether an array of objects with `topic` and `qos` has this topic (and QoS).",
        &[
            (
                "contains_topic([{'topic': 'a/+', 'qos': 1}], 'a/+')",
                "true",
            ),
            (
                "contains_topic([{'topic': 'a', 'qos': 1}], 'a', 0)",
                "false",
            ),
        ],
        |call| contains_topic(call, |filter, topic| filter == topic),
    ),
    Function::new(
        Category::Context,
        "contains_topic_match",
        FILTERS,
        "Whether an array of objects with `topic` and `qos` has a filter that matches this topic (and has this QoS).",
        &[(
            "contains_topic_match([{'topic': 'a/+', 'qos': 1}], 'a/b')",
            "true",
        )],
        |call| {
            contains_topic(call, |filter, topic| {
                TopicFilter::parse(filter).is_ok_and(|filter| filter.matches(topic))
            })
        },
    ),
];

fn flags(call: &Call<'_>) -> Value {
    match call.event.field("flags") {
        flags @ Value::Object(_) => flags,
        _ => Value::Object(Arc::new(Object::default())),
    }
}

fn contains_topic(call: &Call<'_>, same: fn(&str, &str) -> bool) -> Result<Value, Fault> {
    let (filters, topic) = (call.array(0)?, call.text(1)?);
    let qos = if call.count() > 2 {
        Some(Value::Int(call.int(2)?))
    } else {
        None
    };
    let fits = |entry: &Value| {
        entry
            .get("topic")
            .and_then(Value::as_str)
            .is_some_and(|filter| same(filter, topic))
            && qos
                .as_ref()
                .is_none_or(|qos| entry.get("qos").is_some_and(|own| own.strict_equals(qos)))
    };
    Ok(Value::Bool(filters.iter().any(fits)))
}
