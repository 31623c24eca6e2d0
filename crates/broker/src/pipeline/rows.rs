//! Where what a rule made goes: to its sinks, back into the broker, and into its counters.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use weir_rules::event::{Event, Publish, RuleId, What};
use weir_rules::value::{Text, Value};
use weir_sinks::bridge::home::path_through;
use weir_sinks::plan::Target as PlanTarget;
use weir_sinks::{Rendered, SinkPlan, record, render};

use super::counters::{self, Here, RuleError};
use super::{
    Address, INTERNAL_CLIENT, LiveRule, LiveSink, Note, Outcome, Row, RowValue, Target, crossing,
    paths,
};
use crate::project::rule_file::OnError;

/// Sends a rule's rows to its sinks: into the plan, or back into the broker. `node` names this broker in paths.
pub(super) fn route(
    (set, rule_place): (usize, usize),
    rule: &LiveRule,
    rows: Vec<Value>,
    event: &Event,
    node: &str,
    outcome: &mut Outcome,
) -> Note {
    let (client_id, message_id) = match &event.what {
        What::Publish(publish) => (publish.client_id.clone(), publish.id),
        _ => (INTERNAL_CLIENT, rand::random()),
    };
    let (mut republished, mut republish_failed) = (0, Vec::new());
    let marked = rule.sinks.iter().any(|sink| sink.marks);
    let path = if marked {
        Text::from(path_through(paths::of(event), node))
    } else {
        Text::default()
    };
    let waits =
        |sink: &LiveSink| matches!(&sink.target, Target::Queue(queue) if !queue.is_durable());
    let waits = rule.sinks.iter().any(waits);
    for mut row in rows {
        if waits {
            // Texts of the row are views of the publisher's read buffer, which a waiting row must not keep alive.
            row.detach();
        }
        // Made for the first sink that wants it, shared by the others.
        let (mut encoded, mut on_path): (Option<Bytes>, Option<Bytes>) = (None, None);
        for (place, sink) in rule.sinks.iter().enumerate() {
            let address = Address {
                set,
                rule: rule_place,
                sink: place,
            };
            match &sink.target {
                Target::Queue(queue) => {
                    let (kept, path) = if sink.marks {
                        (&mut on_path, path.clone())
                    } else {
                        (&mut encoded, Text::default())
                    };
                    let value = if queue.is_durable() {
                        let at = event.timestamp_ms;
                        let encode =
                            || record::encode_with_path(message_id, &client_id, at, &path, &row);
                        RowValue::Encoded(if rule.sinks.len() == 1 {
                            encode()
                        } else {
                            kept.get_or_insert_with(encode).clone()
                        })
                    } else {
                        RowValue::Plain(row.clone())
                    };
                    outcome.add_row(address, |demand| Row {
                        demand,
                        client_id: client_id.clone(),
                        message_id,
                        path,
                        value,
                    });
                }
                Target::Republish(plan) => match republish(rule, plan, &row, event) {
                    Ok(copy) => {
                        republished += 1;
                        if outcome.republish.is_empty() {
                            // Mostly there is only this one, which is large.
                            outcome.republish.reserve_exact(1);
                        }
                        outcome.republish.push(copy);
                    }
                    Err(reason) => republish_failed.push(reason),
                },
            }
        }
    }
    Note::Passed {
        republished,
        republish_failed,
    }
}

/// The message that a republish sink makes of a row.
fn republish(
    rule: &LiveRule,
    plan: &SinkPlan,
    row: &Value,
    event: &Event,
) -> Result<Publish, String> {
    let hops = event.hops();
    let PlanTarget::Republish(message) = &plan.target else {
        return Err("the sink makes no messages".to_owned());
    };
    if u32::from(hops) >= message.max_hops {
        return Err(format!(
            "[E3301] the message was republished {hops} times, which is this sink's max_hops"
        ));
    }
    let rendered = match render(plan, row, event.timestamp_ms) {
        Ok(Rendered::Mqtt(rendered)) => rendered,
        Ok(_) => return Err("the sink makes no messages".to_owned()),
        Err(error) => return Err(format!("[{}] {error}", error.code)),
    };
    Ok(Publish {
        id: rand::random(),
        topic: rendered.topic.into(),
        payload: rendered.payload.0,
        client_id: INTERNAL_CLIENT,
        qos: rendered.qos,
        retain: rendered.retain,
        received_at_ms: event.timestamp_ms,
        hops: hops + 1,
        made_by: Some(RuleId::from(&*rule.id)),
        came_over: crossing::came_over(event).filter(|_| !message.clear_origin),
        properties: paths::of(event)
            .filter(|_| !message.clear_origin)
            .map(|path| Arc::new(paths::properties(path))),
        ..Publish::default()
    })
}

/// Counts what became of one evaluation, once the message is accepted.
pub(super) fn settle(rule: &LiveRule, note: Note, here: Here, now_ms: i64) {
    use Ordering::Relaxed;
    let counters = &rule.counters;
    match note {
        Note::Own => {}
        Note::Passed {
            republished,
            republish_failed,
        } => {
            counters.count(here, now_ms, Some(true));
            counters.count_republished(here, republished);
            for message in republish_failed {
                let count = counters.republish_failed.fetch_add(1, Relaxed) + 1;
                if counters::is_power_of_ten(count) {
                    tracing::warn!(rule = %rule.id, count, "a row was not republished: {message}");
                }
                counters.remember(RuleError {
                    at_ms: now_ms,
                    kind: "republish",
                    message,
                    topic: String::new(),
                });
            }
        }
        Note::Error(error, topic) => {
            counters.count(here, now_ms, None);
            let entry = RuleError {
                at_ms: now_ms,
                kind: error.kind.name(),
                message: error.to_string(),
                topic: topic.clone(),
            };
            let entry = (rule.on_error == OnError::DeadLetter).then_some(entry);
            if counters.error(error.kind, entry) {
                // The value is part of a payload: it is kept with the rule's last errors, never logged.
                let at = format!("{}:{}", error.line, error.column);
                tracing::warn!(rule = %rule.id, kind = error.kind.name(), topic, at, "{}", error.message);
            }
        }
    }
}
