//! `weir torture`: breaks everything around a weir of its own, and counts what was promised.

use std::ffi::OsString;
use std::time::Duration;

use super::{Common, Exit, block_on, out, out_json, say};
use crate::torture::plan::Kind;
use crate::torture::{RemoteKind, Settings, name, process};

#[derive(clap::Args)]
#[command(
    after_help = "Everything it starts is its own, on loopback, in a temporary folder, and ends with it.\n\
                  PostgreSQL takes part where it is installed; --postgres URL names a server that is there instead, \
                  in which the table weir_torture is made anew.\n\
                  Exit codes: 0 all promises kept, 1 one was broken, 6 the scene could not be set."
)]
pub(super) struct Args {
    /// How long things are broken, e.g. 30m
    #[arg(long = "for", default_value = "1m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    time: Duration,
    /// How often weir is killed; unless said, once in eight seconds
    #[arg(long, value_name = "NUMBER")]
    kills: Option<u32>,
    /// Repeats the faults of an earlier run; unless said, a new one
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Clients that publish, at QoS 1 and 2 in turn
    #[arg(long, default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    publishers: u16,
    /// Messages a second, all publishers together
    #[arg(long, default_value = "400", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// What is broken; `disk` only when it stands here, since weir's data then lies in memory
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "kill,postgres,webhook,remote,hang,cut,slow",
        value_name = "KIND,…"
    )]
    faults: Vec<Kind>,
    /// A PostgreSQL server that is there; it is not killed
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// What rows are bridged to
    #[arg(long, default_value = "weir")]
    remote: RemoteKind,
    /// Keep the folder, with all data and logs
    #[arg(long)]
    keep: bool,
}

/// weir is killed once in so much time.
const KILL_EVERY: Duration = Duration::from_secs(8);
/// A seed that is easy to write down.
const SEEDS: u64 = 1_000_000_000;

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    if args.time < Duration::from_secs(5) {
        say("weir: --for is at least 5s, else nothing has time to break");
        return Exit::Usage;
    }
    let kills = args.time.as_millis() / KILL_EVERY.as_millis();
    let settings = Settings {
        seed: args.seed.unwrap_or_else(|| rand::random::<u64>() % SEEDS),
        time: args.time,
        kills: args
            .kills
            .unwrap_or_else(|| u32::try_from(kills).unwrap_or(u32::MAX).max(1)),
        kinds: args.faults.clone(),
        publishers: usize::from(args.publishers),
        rate: args.rate,
        keep: args.keep,
        postgres: args.postgres.clone(),
        remote: args.remote,
    };
    if settings.time / settings.kills.max(1) < Duration::from_millis(500) {
        say(
            "weir: --kills leaves less than half a second between two kills; give more time with --for",
        );
        return Exit::Usage;
    }
    super::raise_file_limit();
    block_on(common, async {
        tokio::select! {
            exit = torture(common, &settings) => exit,
            () = terminated() => Exit::Interrupted,
        }
    })
}

async fn torture(common: &Common, settings: &Settings) -> Exit {
    let kinds: Vec<String> = settings.kinds.iter().map(|kind| name(*kind)).collect();
    let again = format!(
        "weir torture --seed {} --for {} --kills {} --publishers {} --rate {} --faults {}",
        settings.seed,
        humantime::format_duration(settings.time)
            .to_string()
            .replace(' ', ""),
        settings.kills,
        settings.publishers,
        settings.rate,
        kinds.join(",")
    );
    let tell = |line: &str| {
        if !common.quiet {
            say(line);
        }
    };
    tell(&format!(
        "seed {}   the same faults again: {again}",
        settings.seed
    ));
    let report = match crate::torture::run(settings, &tell).await {
        Ok(report) => report,
        Err(error) => {
            say(&format!("weir: {error}"));
            return Exit::Unusable;
        }
    };
    if common.json {
        out_json(&report.json());
    } else {
        out(&report.text());
        let words = format!("seed {}", settings.seed);
        out(&if report.holds() {
            format!("{}   {words}\n", common.good("all promises kept"))
        } else {
            format!(
                "{}   {words}   again: {again}\n",
                common.bad("a promise was broken")
            )
        });
    }
    if report.holds() {
        Exit::Ok
    } else {
        Exit::Problems
    }
}

/// Resolves at SIGTERM, so that what was started ends in order.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// The arguments of `weir guarded`.
#[derive(clap::Args)]
pub(super) struct GuardedArgs {
    /// The process that has started this
    parent: u32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes a program that ends when the process that has started it does.
pub(super) fn guarded(args: &GuardedArgs) -> Exit {
    if let Some((program, rest)) = args.command.split_first() {
        let error = process::become_guarded(args.parent, program, rest);
        say(&format!("weir: {}: {error}", program.display()));
    }
    Exit::Unusable
}

/// The arguments of `weir kill-after`.
#[derive(clap::Args)]
pub(super) struct KillAfterArgs {
    /// The processes
    #[arg(required = true)]
    pids: Vec<i32>,
}

/// Waits for the end of the process that has started this.
pub(super) fn kill_after(args: &KillAfterArgs) -> Exit {
    match process::kill_after(&args.pids) {
        Ok(()) => Exit::Ok,
        Err(_) => Exit::Unusable,
    }
}
