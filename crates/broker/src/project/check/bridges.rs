//! Warnings about what a rule has to do with bridges: what it reads from one, and what it sends over one.

use std::collections::BTreeMap;

use weir_rules::{Rule, SourceFilter};
use weir_sinks::ConnectorConfig;
use weir_sinks::bridge::plan::BridgePlan;
use weir_sinks::bridge::route::{InRoute, Sender, overlap};
use weir_sinks::config::connector::Protocol;

use super::CheckedConnector;
use super::lint::sql_place;
use crate::problem::{Problem, Severity, Source};
use crate::project::rule_file::{RuleFile, SinkTable};

type Connectors = BTreeMap<String, CheckedConnector>;

/// What a rule reads that nothing comes from, and what it sends that comes back to it.
pub(super) fn problems(
    source: &Source,
    file: &RuleFile,
    rule: &Rule,
    connectors: &Connectors,
) -> Vec<Problem> {
    let bridges = rule.sources().iter().filter_map(bridge_of);
    let silent = bridges.filter_map(|name| nothing_comes(source, name, connectors));
    let circles = file
        .sinks
        .iter()
        .filter_map(|table| comes_back(source, table, rule, connectors));
    silent.chain(circles).collect()
}

/// The bridge that a source names: `$bridges/mqtt:NAME`.
fn bridge_of(source: &SourceFilter) -> Option<&str> {
    let SourceFilter::Bridge { text } = source else {
        return None;
    };
    let rest = text
        .strip_prefix("$bridges/")
        .or_else(|| text.strip_prefix("$sources/"))?;
    rest.strip_prefix("mqtt:")
}

fn nothing_comes(source: &Source, name: &str, connectors: &Connectors) -> Option<Problem> {
    let (message, help) = match connectors.get(name).map(|connector| &*connector.config) {
        _ if name == "*" => return None,
        Some(ConnectorConfig::Mqtt(bridge)) if !bridge.inbound.is_empty() => return None,
        Some(ConnectorConfig::Mqtt(_)) => (
            format!("nothing comes from the bridge `{name}`: its file has no `in`"),
            format!(
                "add to connectors/{name}.toml: [[in]] filter = \"…\", and `rules_only = true` to keep it from clients"
            ),
        ),
        Some(_) => (
            format!("`{name}` is no bridge: its connector is of another type"),
            "a bridge has `type = \"mqtt\"`".to_owned(),
        ),
        None => (
            format!("there is no bridge `{name}`"),
            format!("create connectors/{name}.toml, or correct the name"),
        ),
    };
    Some(
        Problem::at(source, sql_place(source), "W4105", message)
            .severity(Severity::Warning)
            .help(help),
    )
}

/// A sink whose messages an `in` of the same bridge takes back to what the rule reads.
fn comes_back(
    source: &Source,
    table: &SinkTable,
    rule: &Rule,
    connectors: &Connectors,
) -> Option<Problem> {
    let name = table.config.connector.as_deref()?;
    let topic = table.config.topic.as_deref()?;
    let ConnectorConfig::Mqtt(bridge) = &*connectors.get(name)?.config else {
        return None;
    };
    // Its own mistakes are reported with its own file.
    let (plan, _) = BridgePlan::check(bridge).ok()?;
    let at_remote = filter_of(topic);
    let kept_back = plan.protocol == Protocol::V5 || plan.bridge_flag || plan.echo_guard;
    let (at, taken) = plan.inbound.iter().enumerate().find(|(_, route)| {
        // A shared subscription cannot be told No Local. [MQTT-3.8.3-4]
        (!kept_back || route.share.is_some())
            && overlap(route.filter.as_str(), &at_remote)
            && reads(rule, name, route, &at_remote)
    })?;
    let message = format!(
        "the rule reads again what it sends: `in[{at}]` of the bridge `{name}` ({}) brings `{topic}` back",
        taken.filter.as_str()
    );
    Some(
        Problem::at(source, table.place("topic"), "W4104", message)
            .severity(Severity::Warning)
            .help("`protocol = \"5\"` in the connector lets the remote keep own messages back; or send to a topic that `in` does not take"),
    )
}

/// A filter that every topic matches which may come of a template.
fn filter_of(topic: &str) -> String {
    let Some(place) = topic.find("${") else {
        return topic.to_owned();
    };
    match topic[..place].rfind('/') {
        Some(end) => format!("{}/#", &topic[..end]),
        None => "#".to_owned(),
    }
}

/// Whether what comes in for `route` is what the rule reads.
fn reads(rule: &Rule, bridge: &str, route: &InRoute, at_remote: &str) -> bool {
    let here = route.map.as_ref().map(|map| {
        let exact = (!at_remote.ends_with('#'))
            .then(|| map.apply(at_remote, Sender::default()).ok())
            .flatten();
        exact.unwrap_or_else(|| map.names(route.filter.as_str()))
    });
    rule.sources().iter().any(|source| match source {
        SourceFilter::Topic(filter) => here
            .as_ref()
            .is_some_and(|here| overlap(filter.as_str(), here)),
        other => bridge_of(other).is_some_and(|name| name == "*" || name == bridge),
    })
}
