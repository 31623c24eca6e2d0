//! The tables of limits in `docs/bridges/`: made of the presets' own data, so that they cannot say anything else.
//!
//! `UPDATE=1 cargo nextest run -p weir-sinks preset_tables` writes them anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::pace::Rate;
use super::preset::{self, ALL, Filters, Preset};
use super::topic_limits::Longest;

const BEGIN: &str =
    "<!-- made of the preset's data: UPDATE=1 cargo nextest run -p weir-sinks preset_tables -->\n";
const END: &str = "<!-- /made -->\n";
const A_DAY: u64 = 24 * 3600;

fn page(preset: &Preset) -> PathBuf {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bridges");
    PathBuf::from(docs).join(format!("{}.md", preset.name.replace('_', "-")))
}

/// `1,000,000`
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(bytes: usize) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1024 * 1024) => format!("{} MiB", bytes / (1024 * 1024)),
        bytes if bytes.is_multiple_of(1024) => format!("{} KiB", bytes / 1024),
        bytes => format!("{} bytes", number(bytes as u64)),
    }
}

/// What the check says of a value beyond a bound.
fn beyond(is_hard: bool) -> &'static str {
    if is_hard {
        "refused (E4105)"
    } else {
        "warned of (W4102)"
    }
}

fn rate(rate: Rate) -> String {
    match rate {
        Rate::All(all) => number(all.into()),
        Rate::ByQos {
            unacknowledged,
            acknowledged,
        } => format!("{unacknowledged} at QoS 0 and {acknowledged} at QoS 1"),
    }
}

fn a_day(rate: Rate) -> u64 {
    let a_second = match rate {
        Rate::All(all) => u64::from(all),
        Rate::ByQos {
            unacknowledged,
            acknowledged,
        } => u64::from(unacknowledged) + u64::from(acknowledged),
    };
    a_second * A_DAY
}

fn table(preset: &Preset) -> String {
    let mut table = String::from("| limit | preset | beyond it |\n|---|---|---|\n");
    let mut row = |what: &str, value: &str, beyond: &str| {
        writeln!(table, "| {what} | {value} | {beyond} |").expect("text grows");
    };
    let version = if preset.v311 {
        "3.1.1"
    } else {
        "5, else 3.1.1"
    };
    row("MQTT", version, "`protocol` says otherwise");
    let (open, tls) = preset.ports;
    let ports = match open {
        Some(open) if open == tls => format!("{tls}, with TLS and without"),
        Some(open) => format!("{tls} with TLS, {open} without"),
        None => format!("{tls}, with TLS alone"),
    };
    row("port", &ports, "`addresses` says otherwise");
    let qos = preset.qos_cap.to_string();
    let is_bound = preset.hard || preset.qos_cap == 2;
    row("QoS (`qos_cap`)", &qos, beyond(is_bound));
    let (takes, flag) = match (preset.retain, preset.never_retained) {
        (false, _) => (
            "no",
            "the flag is taken off; `\"keep\"` and `\"set\"` are refused (E4105)",
        ),
        (true, Some(_)) => (
            "yes, except on its own topics",
            "the flag is taken off there",
        ),
        (true, None) => ("yes", "what CONNACK says wins"),
    };
    row("retained messages (`retain`)", takes, flag);
    let (will, remote) = if preset.will {
        ("yes", "")
    } else {
        ("no", "`status.remote` is refused (E4105)")
    };
    row("will", will, remote);
    let keepalive = format!("{} s", preset.keepalive.as_secs());
    let (value, crossed) = match preset.keepalive_bounds {
        Some((least, most)) => {
            let is_hard = preset.hard && preset.name != preset::BAIDU_IOTCORE.name;
            let value = format!("{keepalive}; {} to {} s", least.as_secs(), most.as_secs());
            (value, beyond(is_hard))
        }
        None => (keepalive, ""),
    };
    row("keep-alive (`keepalive`)", &value, crossed);
    let dead = "the message is a dead letter (E4108)";
    match (preset.max_payload, preset.max_packet) {
        (Some(most), _) => row("payload (`max_payload`)", &bytes(most), dead),
        (None, Some(most)) => row("whole packet", &bytes(most), dead),
        (None, None) => row("payload (`max_payload`)", "as CONNACK says", dead),
    }
    let shaped = "waits here; a higher one is warned of (W4102)";
    match preset.rate {
        Some(known) => {
            row("messages a second (`rate`)", &rate(known), shaped);
            let most = format!("at most {}", number(a_day(known)));
            row("that is in a day", &most, "");
        }
        None => row("messages a second (`rate`)", "no limit", ""),
    }
    match preset.byte_rate {
        Some(most) => row("bytes a second (`byte_rate`)", &number(most.into()), shaped),
        None => row("bytes a second (`byte_rate`)", "no limit", ""),
    }
    match preset.filters {
        Some(Filters::Hard(most)) => row("filters of `in`", &most.to_string(), beyond(true)),
        Some(Filters::Soft(most)) => row("filters of `in`", &most.to_string(), beyond(false)),
        None => row("filters of `in`", "no limit", ""),
    }
    let spacing = format!("{} s", preset.connect_spacing.as_secs());
    row("between two CONNECTs", &spacing, "weir waits");
    let base = format!("{} s", preset.backoff_base.as_secs());
    row("first wait after a failure (`backoff.base`)", &base, "");
    match &preset.topic_limits {
        Some(limits) => {
            let longest = match limits.longest {
                Longest::Bytes(most) => format!("{most} bytes"),
                Longest::Characters(most) => format!("{most} characters"),
            };
            let slashes = match limits.slashes {
                usize::MAX => String::new(),
                most => format!(", {most} slashes"),
            };
            let behind = limits
                .uncounted
                .map_or_else(String::new, |(beginning, levels)| {
                    format!(" (of `{beginning}…` {levels} levels are not counted)")
                });
            row("topic", &format!("{longest}{slashes}{behind}"), dead);
        }
        None => row("topic", "that of MQTT", ""),
    }
    let window = preset.max_inflight.to_string();
    row(
        "unacknowledged messages (`max_inflight`)",
        &window,
        "weir waits",
    );
    table
}

/// The page with the table that its preset makes.
fn with_table(page: &str, preset: &Preset) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", table(preset)))
}

#[test]
fn every_guide_has_the_limits_of_its_preset() {
    let update = std::env::var_os("UPDATE").is_some();
    for preset in ALL {
        let path = page(preset);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let made = with_table(&text, preset)
            .unwrap_or_else(|| panic!("{} has no place for its limits", path.display()));
        if update {
            std::fs::write(&path, &made).unwrap();
        } else {
            assert_eq!(text, made, "{}: UPDATE=1 makes it anew", path.display());
        }
    }
}

#[test]
fn every_guide_says_what_a_message_costs() {
    for preset in ALL {
        let text = std::fs::read_to_string(page(preset)).unwrap();
        assert!(text.contains("\n## Costs\n"), "{}", preset.name);
    }
}
