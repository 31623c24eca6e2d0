//! `pairs`, `fanout` and `wildcard`: messages through the broker, as many as it takes or at a given rate.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use weir_mqtt::QoS;

use super::engine::{Engine, Tally};
use super::link::Session;
use super::plan::Plan;
use super::progress::Progress;
use super::report::{Cost, Latency, counts_json, counts_line, per_second, rounded, tenths};
use super::{Common, Exit, Failure, Target, duration, not_connected};
use crate::cli::{out_json, out_line};

#[derive(clap::Args)]
pub(super) struct PairsArgs {
    /// Clients that publish
    #[arg(long, default_value = "50", value_parser = positive)]
    publishers: usize,
    /// Clients that subscribe; with fewer than publishers each takes several topics
    #[arg(long, default_value = "50", value_parser = positive)]
    subscribers: usize,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
pub(super) struct FanoutArgs {
    /// Clients that publish
    #[arg(long, default_value = "1", value_parser = positive)]
    publishers: usize,
    /// Clients that subscribe to all of it
    #[arg(long, default_value = "100", value_parser = positive)]
    subscribers: usize,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
pub(super) struct WildcardArgs {
    /// Filters in all
    #[arg(long, default_value = "50000", value_parser = positive)]
    filters: usize,
    /// Clients that publish
    #[arg(long, default_value = "10", value_parser = positive)]
    publishers: usize,
    /// Clients that hold the filters
    #[arg(long, default_value = "100", value_parser = positive)]
    subscribers: usize,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    target: Target,
}

/// What is sent, and for how long.
#[derive(Clone, clap::Args)]
pub(super) struct Load {
    /// Of publishes and subscriptions: 0, 1 or 2
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Of subscriptions, where it differs
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub subscribe_qos: Option<u8>,
    /// The subscribers' sessions outlive their connections, so that what is on its way to them is kept
    #[arg(long)]
    pub persistent: bool,
    /// Bytes of payload, at least 24
    #[arg(long, default_value = "128", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=200_000_000))]
    pub size: u32,
    /// Messages of one publisher that may be under way
    #[arg(long, default_value = "64", value_parser = positive)]
    pub window: usize,
    /// Messages a second of all publishers together; 0: as many as come back
    #[arg(long, default_value = "0", value_name = "MESSAGES")]
    pub rate: u64,
    /// How long to measure
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    /// How long to wait afterwards for messages that do not come
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub drain: Duration,
    /// Exit with 1 when fewer messages than this are delivered a second
    #[arg(long, value_name = "RATE")]
    pub min: Option<f64>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

pub(super) fn pairs(common: &Common, args: &PairsArgs) -> Result<Exit, Failure> {
    let plan = Plan::pairs(args.publishers, args.subscribers);
    run(common, "pairs", &plan, &args.load, &args.target)
}

pub(super) fn fanout(common: &Common, args: &FanoutArgs) -> Result<Exit, Failure> {
    let plan = Plan::fanout(args.publishers, args.subscribers);
    run(common, "fanout", &plan, &args.load, &args.target)
}

pub(super) fn wildcard(common: &Common, args: &WildcardArgs) -> Result<Exit, Failure> {
    let plan = Plan::wildcard(args.filters, args.publishers, args.subscribers);
    run(common, "wildcard", &plan, &args.load, &args.target)
}

/// Everything that is known after a run.
pub(super) struct Measured {
    tally: Tally,
    lost: u64,
    /// Sent and delivered while it was measured.
    sent: u64,
    acknowledged: u64,
    delivered: u64,
    time: Duration,
    pub latency: Option<Latency>,
    lateness: Option<Latency>,
    subscribing: Duration,
    rss_subscribed_kib: u64,
    cost: Cost,
    last_error: Option<String>,
}

/// Connects the plan's clients.
pub(super) fn connected(
    plan: &Plan,
    load: &Load,
    target: &Target,
    progress: &mut Progress,
) -> Result<(Engine, Duration), Failure> {
    let qos = |number| QoS::try_from(number).expect("clap has checked the range");
    let mut settings = target.settings()?;
    settings.publish_qos = qos(load.qos);
    settings.subscribe_qos = qos(load.subscribe_qos.unwrap_or(load.qos));
    if load.persistent {
        settings.session = Session::Kept;
    }
    settings.size = usize::try_from(load.size).unwrap_or(usize::MAX);
    settings.window = load.window;
    settings.rate = load.rate;
    let mut engine = Engine::new(settings)?;
    engine.take(plan).map_err(Failure::usage)?;
    let begun = Instant::now();
    progress.phase("connecting");
    if !engine.connect_from(0, progress)? {
        return Err(not_connected(&engine));
    }
    Ok((engine, begun.elapsed()))
}

/// Warms up, measures and takes in the rest.
pub(super) fn measured(
    engine: &mut Engine,
    load: &Load,
    target: &Target,
    subscribing: Duration,
    progress: &mut Progress,
) -> Result<Measured, Failure> {
    let processes = target.processes()?;
    let rss_before_kib = processes.rss_kib();
    engine.idle(Duration::from_millis(300), progress)?;
    progress.phase("warming up");
    engine.publish_for(load.warmup, progress)?;
    engine.latency.reset();
    engine.lateness.reset();
    processes.forget_peak();
    let (before, tally) = (processes.cpu_time(), engine.tally);
    let start = Instant::now();
    progress.phase("measuring");
    engine.publish_for(load.duration, progress)?;
    let time = start.elapsed();
    let cost = Cost::since(&processes, before, time, rss_before_kib);
    let latency = Latency::of(&engine.latency);
    let lateness = Latency::of(&engine.lateness);
    let (sent, acknowledged, delivered) = (
        engine.tally.sent - tally.sent,
        engine.tally.acknowledged - tally.acknowledged,
        engine.tally.received - tally.received,
    );
    progress.phase("draining");
    engine.drain(load.drain)?;
    Ok(Measured {
        tally: engine.tally,
        lost: engine.lost_messages(),
        sent,
        acknowledged,
        delivered,
        time,
        latency,
        lateness,
        subscribing,
        rss_subscribed_kib: rss_before_kib,
        cost,
        last_error: engine.last_error.clone(),
    })
}

fn run(
    common: &Common,
    scenario: &str,
    plan: &Plan,
    load: &Load,
    target: &Target,
) -> Result<Exit, Failure> {
    let mut progress = Progress::new(common.quiet);
    // A wrong --pid is told before anything is sent.
    target.processes()?;
    let (mut engine, subscribing) = connected(plan, load, target, &mut progress)?;
    let measured = measured(&mut engine, load, target, subscribing, &mut progress)?;
    engine.disconnect();
    engine.forget_sessions(&mut progress)?;
    drop(progress);
    if common.json {
        out_json(&measured.to_json(scenario, plan, load, target));
    } else {
        out_line(&measured.text(scenario, plan, load));
    }
    Ok(measured.exit(load))
}

impl Measured {
    fn messages_per_s(&self) -> f64 {
        per_second(self.delivered, self.time)
    }

    /// Too slow, or messages missing that must not be.
    fn exit(&self, load: &Load) -> Exit {
        let too_slow = load.min.is_some_and(|least| self.messages_per_s() < least);
        let wrong = (load.qos >= 1 && self.lost > 0)
            || (load.qos == 2 && self.tally.duplicated > 0)
            || self.tally.closed > 0;
        if too_slow || wrong {
            Exit::Problems
        } else {
            Exit::Ok
        }
    }

    pub(super) fn to_json(
        &self,
        scenario: &str,
        plan: &Plan,
        load: &Load,
        target: &Target,
    ) -> Json {
        let mut json = json!({
            "v": 1, "scenario": scenario, "mqtt": if target.v5 { "5" } else { "3.1.1" },
            "publishers": plan.publishers, "subscribers": plan.subscribers.len(), "filters": plan.filters(),
            "qos": load.qos, "size": load.size, "window": load.window, "rate": load.rate,
            "seconds": tenths(self.time.as_secs_f64()),
            "subscribe_s": self.subscribing.as_secs_f64(),
            "messages_per_s": tenths(self.messages_per_s()),
            "sent_per_s": tenths(per_second(self.sent, self.time)),
            "acknowledged_per_s": tenths(per_second(self.acknowledged, self.time)),
            "persistent": load.persistent,
            "latency_us": self.latency.as_ref().map(Latency::to_json),
            "sent_late_us": self.lateness.as_ref().map(Latency::to_json),
            "counts": counts_json(&self.tally, self.lost),
            "last_error": self.last_error,
        });
        self.cost.add_to(&mut json, "message", self.delivered);
        if self.cost.broker {
            json["broker"]["rss_subscribed_kib"] = json!(self.rss_subscribed_kib);
        }
        json
    }

    fn text(&self, scenario: &str, plan: &Plan, load: &Load) -> String {
        let pace = if load.rate > 0 {
            format!("{} messages a second", load.rate)
        } else {
            format!("window {}", load.window)
        };
        let mut lines = vec![
            format!(
                "{scenario}   {} publishers, {} subscribers, {} filters, QoS {}, {} bytes, {pace}",
                plan.publishers,
                plan.subscribers.len(),
                plan.filters(),
                load.qos,
                load.size
            ),
            format!(
                "throughput   {} messages/s delivered   {}/s sent   {}/s acknowledged",
                rounded(self.messages_per_s()),
                rounded(per_second(self.sent, self.time)),
                rounded(per_second(self.acknowledged, self.time))
            ),
        ];
        lines.extend(
            self.latency
                .as_ref()
                .map(|latency| format!("latency      {}", latency.text())),
        );
        lines.extend(
            self.lateness
                .as_ref()
                .map(|late| format!("sent late    {}", late.text())),
        );
        lines.push(counts_line(&self.tally, self.lost));
        lines.push(format!(
            "errors       {} connections lost, {} packets unexpected{}",
            self.tally.closed,
            self.tally.unexpected,
            self.last_error
                .as_ref()
                .map_or_else(String::new, |error| format!(": {error}"))
        ));
        lines.extend(self.cost.lines("message", self.delivered));
        if let Some(least) = load.min.filter(|least| self.messages_per_s() < *least) {
            lines.push(format!("too slow     below --min {}", rounded(least)));
        }
        lines.join("\n")
    }
}
