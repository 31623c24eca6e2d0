//! What bridges have done, for Prometheus.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};

use weir_sinks::Connector;
use weir_sinks::bridge::BridgeStats;
use weir_sinks::bridge::failures::Reason;
use weir_sinks::bridge::home::Dropped;
use weir_sinks::bridge::route::Unmapped;

use super::Admin;
use super::exposition::{Exposition, Type};
use crate::reload::STATES;

type Counter = fn(&BridgeStats) -> &AtomicU64;

const METRICS: [(&str, Type, &str, Counter); 18] = [
    (
        "weir_bridge_connects_total",
        Type::Counter,
        "Attempts to connect.",
        |s| &s.connects,
    ),
    (
        "weir_bridge_connected_total",
        Type::Counter,
        "Attempts that the remote accepted.",
        |s| &s.connected,
    ),
    (
        "weir_bridge_rests_total",
        Type::Counter,
        "Links that have ended since nothing was to be sent (`start = \"lazy\"`).",
        |s| &s.rests,
    ),
    (
        "weir_bridge_sign_calls_total",
        Type::Counter,
        "Signatures made, one for each CONNECT.",
        |s| &s.sign_calls,
    ),
    (
        "weir_bridge_sent_total",
        Type::Counter,
        "Messages handed to the link.",
        |s| &s.sent,
    ),
    (
        "weir_bridge_sent_bytes_total",
        Type::Counter,
        "Their payloads.",
        |s| &s.sent_bytes,
    ),
    (
        "weir_bridge_acknowledged_total",
        Type::Counter,
        "Messages that the remote has taken.",
        |s| &s.acknowledged,
    ),
    (
        "weir_bridge_refused_total",
        Type::Counter,
        "Messages that the remote has refused.",
        |s| &s.refused,
    ),
    (
        "weir_bridge_returned_total",
        Type::Counter,
        "Messages that go out again since the link was lost.",
        |s| &s.returned,
    ),
    (
        "weir_bridge_received_total",
        Type::Counter,
        "Messages that the remote has sent.",
        |s| &s.received,
    ),
    (
        "weir_bridge_received_bytes_total",
        Type::Counter,
        "Their payloads.",
        |s| &s.received_bytes,
    ),
    (
        "weir_bridge_qos_downgrade_total",
        Type::Counter,
        "Messages that went out with a lower QoS.",
        |s| &s.qos_downgrades,
    ),
    (
        "weir_bridge_expired_total",
        Type::Counter,
        "Messages that were too old when their turn came.",
        |s| &s.expired,
    ),
    (
        "weir_bridge_not_kept_total",
        Type::Counter,
        "Messages of QoS 0 that were dropped while the link was down (`store_qos0 = false`).",
        |s| &s.not_kept,
    ),
    (
        "weir_bridge_given_up_total",
        Type::Counter,
        "Messages in the dead letters because the remote closed the link over them, or refused them again and again for their size.",
        |s| &s.given_up,
    ),
    (
        "weir_bridge_filters_refused",
        Type::Gauge,
        "Filters that the remote refuses now.",
        |s| &s.refused_filters,
    ),
    (
        "weir_bridge_inflight",
        Type::Gauge,
        "Messages on their way to the remote.",
        |s| &s.in_flight,
    ),
    (
        "weir_bridge_round_trip_us",
        Type::Gauge,
        "How long the last PINGRESP took, in microseconds.",
        |s| &s.round_trip_us,
    ),
];

pub(super) fn bridges(admin: &Admin, out: &mut Exposition) {
    let connectors = admin.reloader.open_connectors_now();
    let bridges: Vec<(&Arc<Connector>, &BridgeStats)> = connectors
        .iter()
        .filter_map(|connector| Some((connector, connector.bridge_stats()?)))
        .collect();
    for (name, kind, help, counter) in METRICS {
        let mut metric = out.metric(name, kind, help);
        for (connector, stats) in &bridges {
            metric.sample(
                &[("connector", connector.name())],
                counter(stats).load(Relaxed),
            );
        }
    }
    states(&bridges, out);
    ends(&bridges, out);
    let mut failures = out.metric(
        "weir_bridge_failures_total",
        Type::Counter,
        "Attempts and links that failed.",
    );
    for (connector, stats) in &bridges {
        for why in Reason::ALL {
            let count = stats.failures[why as usize].load(Relaxed);
            failures.sample(
                &[("connector", connector.name()), ("reason", why.name())],
                count,
            );
        }
    }
    let mut unmapped = out.metric(
        "weir_bridge_unmapped_total",
        Type::Counter,
        "Messages of `out` without a name at the remote: they go to the dead letters.",
    );
    for (connector, stats) in &bridges {
        for why in Unmapped::ALL {
            let count = stats.unmapped[why as usize].load(Relaxed);
            let reason = why.to_string();
            unmapped.sample(
                &[("connector", connector.name()), ("reason", reason.as_str())],
                count,
            );
        }
    }
    let mut dropped = out.metric(
        "weir_bridge_dropped_total",
        Type::Counter,
        "Messages of the remote that went nowhere.",
    );
    for (connector, stats) in &bridges {
        for why in Dropped::ALL {
            let count = stats.dropped_in[why as usize].load(Relaxed);
            dropped.sample(
                &[("connector", connector.name()), ("reason", why.name())],
                count,
            );
        }
    }
}

fn states(bridges: &[(&Arc<Connector>, &BridgeStats)], out: &mut Exposition) {
    let mut states = out.metric(
        "weir_bridge_state",
        Type::Gauge,
        "1 for the state that the bridge is in.",
    );
    for (connector, _) in bridges {
        let now = connector.state().link;
        for state in STATES {
            let labels = [
                ("connector", connector.name()),
                ("state", state.bridge_name()),
            ];
            states.sample(&labels, u8::from(state == now));
        }
    }
}

/// When what a bridge signs in with ends; nothing of what does not.
fn ends(bridges: &[(&Arc<Connector>, &BridgeStats)], out: &mut Exposition) {
    type End = fn(&BridgeStats) -> &AtomicI64;
    let ends: [(&str, &str, End); 2] = [
        (
            "weir_bridge_credentials_expire_seconds",
            "When the credentials of the last attempt expire (seconds since the epoch).",
            |s| &s.credentials_end_ms,
        ),
        (
            "weir_bridge_certificate_expires_seconds",
            "When the client's certificate expires (seconds since the epoch).",
            |s| &s.certificate_ends_ms,
        ),
    ];
    for (name, help, end) in ends {
        let mut metric = out.metric(name, Type::Gauge, help);
        for (connector, stats) in bridges {
            let ends_ms = end(stats).load(Relaxed);
            if ends_ms != 0 {
                metric.sample(&[("connector", connector.name())], ends_ms / 1000);
            }
        }
    }
}
