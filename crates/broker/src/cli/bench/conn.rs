//! `conn`: how fast connections come and go, and what each one that stays costs.

use std::time::{Duration, Instant};

use serde_json::json;

use super::engine::Engine;
use super::link::Link;
use super::progress::Progress;
use super::report::{Cost, Latency, as_f64, grouped, per_second, rounded, tenths};
use super::{Common, Exit, Failure, Target, duration, not_connected};
use crate::cli::{out_json, out_line, say};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Connections in all
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Disconnect each client as soon as it is connected
    #[arg(long, conflicts_with_all = ["subscribe", "hold"])]
    churn: bool,
    /// Give each client a subscription of its own
    #[arg(long)]
    subscribe: bool,
    /// Keep the connections for so long
    #[arg(long, default_value = "0s", value_parser = duration)]
    hold: Duration,
    /// Exit with 1 when fewer clients than this connect in a second
    #[arg(long, value_name = "RATE")]
    min: Option<f64>,
    #[command(flatten)]
    target: Target,
}

/// Closed connections keep their ports for a minute: so many addresses are enough for any churn.
const CHURN_SOURCES: u8 = 16;

pub(super) fn run(common: &Common, args: &Args) -> Result<Exit, Failure> {
    let mut settings = args.target.settings()?;
    let on_loopback = settings.target.ip().is_loopback() && settings.target.is_ipv4();
    if args.churn && settings.sources == 0 && on_loopback {
        settings.sources = CHURN_SOURCES;
    }
    let processes = args.target.processes()?;
    let mut engine = Engine::new(settings)?;
    let mut progress = Progress::new(common.quiet);
    let total = usize::try_from(args.clients).unwrap_or(usize::MAX);
    let rss_before = processes.rss_kib();
    processes.forget_peak();
    let before = processes.cpu_time();
    let start = Instant::now();
    progress.phase("connecting");
    let connected = if args.churn {
        engine.churn(total, &mut progress)?
    } else {
        engine.links = (0..total)
            .map(|number| Link::idle(number, args.subscribe))
            .collect();
        engine.connect_from(0, &mut progress)?;
        ready(&engine)
    };
    let time = start.elapsed();
    let cost = Cost::since(&processes, before, time, rss_before);
    if connected == 0 {
        return Err(not_connected(&engine));
    }
    let (before_hold, held_from) = (processes.cpu_time(), Instant::now());
    if !args.hold.is_zero() {
        progress.phase("holding");
        engine.idle(args.hold, &mut progress)?;
    }
    let hold_cores = processes.cpu_time().since(before_hold).broker
        / held_from.elapsed().as_secs_f64().max(0.001);
    drop(progress);
    let held = Held {
        alive: ready(&engine),
        rss_kib: processes.rss_kib(),
        hold_cores,
    };
    report(common, args, &engine, connected, time, &cost, &held);
    engine.disconnect();
    let per_s = per_second(connected as u64, time);
    let lost_some = !args.churn && held.alive < total;
    if connected < total || lost_some || args.min.is_some_and(|least| per_s < least) {
        return Ok(Exit::Problems);
    }
    Ok(Exit::Ok)
}

fn ready(engine: &Engine) -> usize {
    engine.links.iter().filter(|link| link.is_ready()).count()
}

/// What there is after the connections were held.
struct Held {
    alive: usize,
    rss_kib: u64,
    hold_cores: f64,
}

fn report(
    common: &Common,
    args: &Args,
    engine: &Engine,
    connected: usize,
    time: Duration,
    cost: &Cost,
    held: &Held,
) {
    let connects = connected as u64;
    let failed = u64::from(args.clients) - connects;
    let grown_kib = held.rss_kib.saturating_sub(cost.rss_before_kib);
    let bytes_each = as_f64(grown_kib) * 1024.0 / as_f64(connects);
    let shakes = Latency::of(&engine.handshakes);
    if common.json {
        let mut json = json!({
            "v": 1, "scenario": if args.churn { "churn" } else { "conn" },
            "mqtt": if args.target.v5 { "5" } else { "3.1.1" },
            "clients": args.clients, "connected": connects, "failed": failed,
            "seconds": tenths(time.as_secs_f64()),
            "connects_per_s": tenths(per_second(connects, time)),
            "latency_us": shakes.as_ref().map(Latency::to_json),
            "last_error": engine.last_error,
        });
        cost.add_to(&mut json, "connect", connects);
        if !args.churn {
            json["alive"] = json!(held.alive);
            if cost.broker {
                json["broker"]["rss_kib"] = json!(held.rss_kib);
                json["broker"]["rss_bytes_per_connection"] = json!(bytes_each.round());
                json["broker"]["hold_cpu_cores"] = json!(tenths(held.hold_cores * 1000.0) / 1000.0);
            }
        }
        out_json(&json);
        return;
    }
    let what = if args.churn {
        "connected and disconnected"
    } else {
        "connected"
    };
    let mut lines = vec![
        format!(
            "conn         {} of {} {what}   {} failed",
            grouped(connects),
            grouped(u64::from(args.clients)),
            grouped(failed)
        ),
        format!(
            "throughput   {} connects/s",
            rounded(per_second(connects, time))
        ),
    ];
    lines.extend(shakes.map(|latency| format!("to CONNACK   {}", latency.text())));
    lines.extend(cost.lines("connect", connects));
    if !args.churn {
        lines.push(format!(
            "alive        {} at the end",
            grouped(held.alive as u64)
        ));
        if cost.broker {
            lines.push(format!(
                "a connection {} bytes of the broker's memory   {:.3} cores while held",
                rounded(bytes_each),
                held.hold_cores
            ));
        }
    }
    out_line(&lines.join("\n"));
    if let Some(error) = &engine.last_error {
        say(&format!("weir: {error}"));
    }
}
