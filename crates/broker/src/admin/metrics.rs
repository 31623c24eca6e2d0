//! `/metrics`: the model's nine names unchanged, and weir's own (user-experience §7).

use std::sync::atomic::Ordering::Relaxed;

use weir_sinks::Histogram;

use super::Admin;
use super::exposition::{Exposition, Type};
use crate::hooks::{Hook, Panics};
use crate::pipeline::counters::KINDS;
use crate::pipeline::world::now_ms;
use crate::reload::Pile;
use crate::stats::{
    BrokerStats, CloseReason, Counter, DropReason, HandshakeFailure, ListenerStats, ReasonCounters,
};
use weir_mqtt::ReasonCode;

/// One scrape.
pub(super) fn render(admin: &Admin) -> String {
    let mut out = Exposition::default();
    nine(admin, &mut out);
    broker(admin, &mut out);
    rules(admin, &mut out);
    sinks(admin, &mut out);
    waiting(admin, &mut out);
    connectors(admin, &mut out);
    super::bridge_metrics::bridges(admin, &mut out);
    process(admin, &mut out);
    out.finish()
}

/// The names that dashboards of the model's users read.
fn nine(admin: &Admin, out: &mut Exposition) {
    let stats = admin.broker.stats();
    for (name, kind, help, counter) in [
        (
            "mqtt_connections_accepted",
            Type::Counter,
            "Connections accepted.",
            &stats.connections_accepted,
        ),
        (
            "mqtt_connections_closed",
            Type::Counter,
            "Connections closed.",
            &stats.connections_closed,
        ),
        (
            "mqtt_connections_size",
            Type::Gauge,
            "Connections open now.",
            &stats.connections_size,
        ),
        (
            "mqtt_messages_handled_packets",
            Type::Counter,
            "Packets handled.",
            &stats.handled_packets,
        ),
        (
            "mqtt_messages_handled_bytes",
            Type::Counter,
            "Bytes of packets handled.",
            &stats.handled_bytes,
        ),
        (
            "mqtt_messages_received_packets",
            Type::Counter,
            "Packets received.",
            &stats.received_packets,
        ),
        (
            "mqtt_messages_received_bytes",
            Type::Counter,
            "Bytes received.",
            &stats.received_bytes,
        ),
        (
            "mqtt_messages_send_packets",
            Type::Counter,
            "Packets sent.",
            &stats.sent_packets,
        ),
        (
            "mqtt_messages_send_bytes",
            Type::Counter,
            "Bytes sent.",
            &stats.sent_bytes,
        ),
    ] {
        out.metric(name, kind, help).value(counter.get());
    }
}

fn broker(admin: &Admin, out: &mut Exposition) {
    let stats = admin.broker.stats();
    listeners(stats, out);
    by_code(
        out,
        "weir_connects_refused_total",
        "CONNECT packets refused, and connections of the banned.",
        &stats.connects_refused,
    );
    by_code(
        out,
        "weir_subscribes_refused_total",
        "Filters of SUBSCRIBE packets that were refused.",
        &stats.subscribes_refused,
    );
    by_code(
        out,
        "weir_protocol_errors_total",
        "Connections that ended because the client broke the protocol or a limit.",
        &stats.protocol_errors,
    );
    let mut closed = out.metric(
        "weir_disconnects_total",
        Type::Counter,
        "Connections that ended, by reason.",
    );
    for (reason, counter) in CloseReason::ALL.iter().zip(&stats.disconnects) {
        closed.sample(&[("reason", reason.name())], counter.get());
    }
    let connected = stats.sessions_connected.get();
    out.metric("weir_sessions", Type::Gauge, "Sessions by state.")
        .sample(&[("state", "connected")], connected)
        .sample(
            &[("state", "offline")],
            stats.sessions.get().saturating_sub(connected),
        );
    out.metric("weir_subscriptions", Type::Gauge, "Subscriptions.")
        .value(stats.subscriptions.get());
    out.metric(
        "weir_delayed_messages",
        Type::Gauge,
        "Messages of $delayed topics that wait.",
    )
    .value(stats.delayed_messages.get());
    out.metric(
        "weir_store_full",
        Type::Gauge,
        "1 while the store has no room: publishers that need it are held back.",
    )
    .value(stats.store_full.get());
    if let Some(capture) = &admin.capture {
        let tally = capture.tally();
        out.metric(
            "weir_capture_messages_total",
            Type::Counter,
            "Messages that were captured.",
        )
        .value(tally.entries);
        out.metric(
            "weir_capture_lost_total",
            Type::Counter,
            "Messages that are missing in the capture: there was no room in memory, or the disk refused them.",
        )
        .value(tally.lost);
        out.metric(
            "weir_capture_bytes",
            Type::Gauge,
            "Bytes of the capture's files.",
        )
        .value(tally.bytes);
    }
    out.metric("weir_retained_messages", Type::Gauge, "Retained messages.")
        .value(stats.retained_messages.get());
    out.metric(
        "weir_retained_bytes",
        Type::Gauge,
        "Bytes of retained messages.",
    )
    .value(stats.retained_bytes.get());
    let mut messages = out.metric(
        "weir_messages_total",
        Type::Counter,
        "PUBLISH packets by direction and QoS.",
    );
    for (dir, counters) in [("in", &stats.messages_in), ("out", &stats.messages_out)] {
        for (qos, counter) in ["0", "1", "2"].into_iter().zip(counters) {
            messages.sample(&[("dir", dir), ("qos", qos)], counter.get());
        }
    }
    let mut dropped = out.metric(
        "weir_messages_dropped_total",
        Type::Counter,
        "Messages that did not reach a session.",
    );
    for (reason, counter) in DropReason::ALL.iter().zip(&stats.messages_dropped) {
        dropped.sample(&[("reason", reason.name())], counter.get());
    }
    by_code(
        out,
        "weir_auth_failures_total",
        "CONNECT packets whose credentials were refused.",
        &stats.auth_failures,
    );
    if let Some(devices) = &admin.devices {
        let mut refused = out.metric(
            "weir_devices_refused_total",
            Type::Counter,
            "Devices of auth.devices that were refused, by scheme and reason.",
        );
        for (scheme, reason, count) in devices.refusals() {
            refused.sample(&[("scheme", scheme), ("reason", reason)], count);
        }
    }
    out.metric(
        "weir_clients_throttled_total",
        Type::Counter,
        "Times that a client had to wait because it sent more than it may.",
    )
    .value(stats.throttled.get());
    out.metric(
        "weir_subscriptions_revoked_total",
        Type::Counter,
        "Subscriptions that ended because they were no longer allowed.",
    )
    .value(stats.subscriptions_revoked.get());
    hook_panics(admin.broker.hook_panics(), out);
}

/// A counter for each reason code that was counted at least once.
fn by_code(
    out: &mut Exposition,
    name: &'static str,
    help: &'static str,
    counters: &ReasonCounters,
) {
    let mut metric = out.metric(name, Type::Counter, help);
    for (code, count) in counters.nonzero() {
        let reason = ReasonCode::from_u8(code).map_or("unknown", ReasonCode::name);
        metric.sample(&[("reason", reason)], count);
    }
}

fn hook_panics(panics: &Panics, out: &mut Exposition) {
    let mut metric = out.metric(
        "weir_hook_panics_total",
        Type::Counter,
        "Calls of a hook that panicked, by hook.",
    );
    for hook in Hook::ALL {
        metric.sample(&[("hook", hook.name())], panics.of(hook));
    }
}

fn listeners(stats: &BrokerStats, out: &mut Exposition) {
    let listeners = stats.listeners.read();
    for (name, kind, help, read) in [
        (
            "weir_listener_connections",
            Type::Gauge,
            "Connections open now, by listener.",
            (|listener| &listener.open) as fn(&ListenerStats) -> &Counter,
        ),
        (
            "weir_listener_accepted_total",
            Type::Counter,
            "Connections accepted, by listener.",
            |listener| &listener.accepted,
        ),
        (
            "weir_listener_over_limit_total",
            Type::Counter,
            "Connections turned away because the listener was full.",
            |listener| &listener.over_limit,
        ),
        (
            "weir_listener_accept_errors_total",
            Type::Counter,
            "Times that the system could give the listener no connection.",
            |listener| &listener.accept_errors,
        ),
    ] {
        let mut metric = out.metric(name, kind, help);
        for listener in listeners.iter() {
            let labels = [
                ("listener", &*listener.name),
                ("transport", listener.transport.name()),
            ];
            metric.sample(&labels, read(listener).get());
        }
    }
    let mut failures = out.metric(
        "weir_handshake_failures_total",
        Type::Counter,
        "Connections that did not come to MQTT, by listener and reason.",
    );
    for listener in listeners.iter() {
        for (reason, count) in HandshakeFailure::ALL
            .iter()
            .zip(&listener.handshake_failures)
        {
            let labels = [
                ("listener", &*listener.name),
                ("transport", listener.transport.name()),
                ("reason", reason.name()),
            ];
            failures.sample(&labels, count.get());
        }
    }
}

fn rules(admin: &Admin, out: &mut Exposition) {
    let rules = admin.pipeline.rules();
    for (name, help, read) in [
        (
            "weir_rule_matched_total",
            "Messages whose source matched.",
            (|c| c.matched()) as fn(&crate::pipeline::counters::RuleCounters) -> u64,
        ),
        (
            "weir_rule_passed_total",
            "Evaluations that made at least one row.",
            |c| c.passed(),
        ),
        (
            "weir_rule_no_result_total",
            "Evaluations that made no row.",
            |c| c.no_result(),
        ),
        (
            "weir_rule_republished_total",
            "Messages that republish sinks made.",
            |c| c.republished(),
        ),
        (
            "weir_rule_republish_failed_total",
            "Rows that republish sinks could not make into messages.",
            |c| c.republish_failed.load(Relaxed),
        ),
    ] {
        let mut metric = out.metric(name, Type::Counter, help);
        for rule in &rules {
            metric.sample(&[("rule", &rule.id)], read(&rule.counters));
        }
    }
    let mut errors = out.metric(
        "weir_rule_errors_total",
        Type::Counter,
        "Evaluation errors by kind.",
    );
    for rule in &rules {
        for (kind, count) in KINDS.iter().zip(&rule.counters.errors) {
            let count = count.load(Relaxed);
            if count > 0 {
                errors.sample(&[("rule", &rule.id), ("kind", kind.name())], count);
            }
        }
    }
    let mut last = out.metric(
        "weir_rule_last_match_timestamp_seconds",
        Type::Gauge,
        "When the rule last matched.",
    );
    for rule in &rules {
        last.sample(&[("rule", &rule.id)], rule.counters.last_match_ms() / 1000);
    }
}

fn sinks(admin: &Admin, out: &mut Exposition) {
    let sinks: Vec<_> = admin
        .reloader
        .open_sinks()
        .into_iter()
        .map(|(kind, sink)| {
            (
                kind,
                sink.rule_id().to_owned(),
                sink.sink_id().to_owned(),
                sink.counters(),
            )
        })
        .collect();
    let now = now_ms();
    type Read = fn(&weir_sinks::SinkCounters) -> u64;
    for (name, kind, help, read) in [
        (
            "weir_sink_rows_in_total",
            Type::Counter,
            "Rows given to the sink.",
            (|c| c.rows_in) as Read,
        ),
        (
            "weir_sink_rows_delivered_total",
            Type::Counter,
            "Rows that the far side has confirmed.",
            |c| c.delivered,
        ),
        (
            "weir_sink_dead_letters_evicted_total",
            Type::Counter,
            "Dead letters that made room for newer ones.",
            |c| c.letters_evicted,
        ),
        (
            "weir_sink_retries_total",
            Type::Counter,
            "Batches tried again.",
            |c| c.retries,
        ),
        (
            "weir_sink_buffer_rows",
            Type::Gauge,
            "Rows that wait.",
            |c| c.buffered_rows,
        ),
        (
            "weir_sink_buffer_bytes",
            Type::Gauge,
            "Bytes of rows that wait.",
            |c| c.buffered_bytes,
        ),
        (
            "weir_sink_buffer_limit_bytes",
            Type::Gauge,
            "The buffer's bound.",
            |c| c.buffer_limit_bytes,
        ),
        (
            "weir_sink_inflight_rows",
            Type::Gauge,
            "Rows under delivery.",
            |c| c.inflight_rows,
        ),
    ] {
        let mut metric = out.metric(name, kind, help);
        for (kind, rule, sink, counters) in &sinks {
            metric.sample(
                &[("rule", rule), ("sink", sink), ("type", kind)],
                read(counters),
            );
        }
    }
    for (name, help, label, read) in [
        (
            "weir_sink_rows_dropped_total",
            "Rows that were dropped.",
            "reason",
            (|c| &c.dropped_by)
                as fn(&weir_sinks::SinkCounters) -> &std::collections::BTreeMap<&'static str, u64>,
        ),
        (
            "weir_sink_rows_dead_lettered_total",
            "Rows that went to the dead letters.",
            "code",
            |c| &c.dead_lettered_by,
        ),
    ] {
        let mut metric = out.metric(name, Type::Counter, help);
        for (kind, rule, sink, counters) in &sinks {
            for (why, count) in read(counters) {
                metric.sample(
                    &[("rule", rule), ("sink", sink), ("type", kind), (label, why)],
                    count,
                );
            }
        }
    }
    let mut circuits = out.metric(
        "weir_sink_circuit_state",
        Type::Gauge,
        "Whether a far side that failed again and again is left alone: 0 closed, 1 half open, 2 open.",
    );
    for (kind, sink) in admin.reloader.open_sinks() {
        let labels = [
            ("rule", sink.rule_id()),
            ("sink", sink.sink_id()),
            ("type", kind),
        ];
        circuits.sample(&labels, sink.circuit().number());
    }
    let mut batches = out.metric(
        "weir_sink_batches_total",
        Type::Counter,
        "Batches by result.",
    );
    for (kind, rule, sink, counters) in &sinks {
        for (result, count) in [
            ("ok", counters.batches_ok),
            ("failed", counters.batches_failed),
        ] {
            batches.sample(
                &[
                    ("rule", rule),
                    ("sink", sink),
                    ("type", kind),
                    ("result", result),
                ],
                count,
            );
        }
    }
    let mut oldest = out.metric(
        "weir_sink_oldest_row_age_seconds",
        Type::Gauge,
        "How long the oldest row has waited.",
    );
    for (kind, rule, sink, counters) in &sinks {
        #[expect(
            clippy::cast_precision_loss,
            reason = "an age in milliseconds is far below 2^52"
        )]
        let age = counters
            .oldest_accepted_at_ms
            .map_or(0.0, |at| (now - at).max(0) as f64 / 1000.0);
        oldest.sample(&[("rule", rule), ("sink", sink), ("type", kind)], age);
    }
    for (name, help, read) in [
        (
            "weir_sink_batch_rows",
            "Rows in a batch.",
            (|c| &c.batch_rows) as fn(&weir_sinks::SinkCounters) -> &Histogram,
        ),
        (
            "weir_sink_request_seconds",
            "How long a delivery takes.",
            |c| &c.request_seconds,
        ),
        (
            "weir_sink_end_to_end_seconds",
            "From the publish to the far side's confirmation.",
            |c| &c.end_to_end_seconds,
        ),
    ] {
        let mut metric = out.histogram(name, help);
        for (kind, rule, sink, counters) in &sinks {
            let histogram = read(counters);
            metric.buckets(
                &[("rule", rule), ("sink", sink), ("type", kind)],
                histogram.bounds,
                &histogram.counts,
                histogram.sum,
            );
        }
    }
}

/// What stands in the store for somebody to look at.
fn waiting(admin: &Admin, out: &mut Exposition) {
    let now = now_ms();
    #[expect(
        clippy::cast_precision_loss,
        reason = "an age in milliseconds is far below 2^52"
    )]
    let age = |at: Option<i64>| at.map_or(0.0, |at| (now - at).max(0) as f64 / 1000.0);
    let piles = admin.reloader.letter_piles();
    for (name, help, read) in [
        (
            "weir_dead_letter_rows",
            "Dead letters that nobody has retried or dropped.",
            (|pile| pile.rows) as fn(&Pile) -> u64,
        ),
        ("weir_dead_letter_bytes", "Their bytes.", |pile| pile.bytes),
    ] {
        let mut metric = out.metric(name, Type::Gauge, help);
        for pile in &piles {
            metric.sample(&[("rule", &pile.rule), ("sink", &pile.sink)], read(pile));
        }
    }
    let mut oldest = out.metric(
        "weir_dead_letter_oldest_age_seconds",
        Type::Gauge,
        "How long ago the oldest dead letter was parked.",
    );
    for pile in &piles {
        oldest.sample(
            &[("rule", &pile.rule), ("sink", &pile.sink)],
            age(pile.oldest_at_ms),
        );
    }
    out.metric(
        "weir_dead_letter_limit_bytes",
        Type::Gauge,
        "The most bytes of dead letters that each sink keeps.",
    )
    .value(admin.reloader.letter_bytes());
    let left = admin.reloader.leftovers();
    out.metric(
        "weir_sink_leftover_queues",
        Type::Gauge,
        "Sinks that are in no rule any more and whose rows wait in the store.",
    )
    .value(left.len());
    let mut rows = out.metric(
        "weir_sink_leftover_rows",
        Type::Gauge,
        "Rows of sinks that are in no rule any more.",
    );
    for left in &left {
        rows.sample(
            &[("rule", &left.rule), ("sink", &left.sink)],
            left.standing.rows,
        );
    }
}

fn connectors(admin: &Admin, out: &mut Exposition) {
    let connectors = admin.reloader.open_connectors_now();
    let mut up = out.metric(
        "weir_connector_up",
        Type::Gauge,
        "1 while the far side answers.",
    );
    for connector in &connectors {
        let is_up = u8::from(connector.state().link.is_up());
        up.sample(
            &[("connector", connector.name()), ("type", connector.kind())],
            is_up,
        );
    }
}

fn process(admin: &Admin, out: &mut Exposition) {
    let totals = admin.reloader.totals();
    out.metric("weir_reloads_total", Type::Counter, "Loads of the files.")
        .sample(&[("result", "ok")], totals.ok)
        .sample(&[("result", "refused")], totals.with_refusals);
    out.metric(
        "weir_config_generation",
        Type::Gauge,
        "Changes when the live rules do.",
    )
    .value(admin.pipeline.generation());
    out.metric(
        "weir_config_files_stale",
        Type::Gauge,
        "Files whose last good version runs, or that are left out.",
    )
    .value(admin.reloader.stale().len());
    out.metric("weir_build_info", Type::Gauge, "The version.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.metric(
        "weir_start_time_seconds",
        Type::Gauge,
        "When the process started.",
    )
    .value(admin.started_s);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_that_panic_are_counted_by_hook() {
        let panics = Panics::default();
        let outcome = panics.guard::<()>(Hook::Storage, || panic!("a test's storage"));
        assert_eq!(outcome, None);
        let mut out = Exposition::default();
        hook_panics(&panics, &mut out);
        let text = out.finish();
        assert!(
            text.contains("weir_hook_panics_total{hook=\"storage\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("weir_hook_panics_total{hook=\"message\"} 0\n"),
            "{text}"
        );
    }
}
