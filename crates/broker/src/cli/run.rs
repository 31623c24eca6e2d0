//! `weir run`: the broker in the foreground.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::{Common, Exit, count, print_problems, say};
use crate::app::{App, StartError};
use crate::auth::Access;
use crate::config::{Config, Durable, Loaded, LogFormat, StartPolicy};
use crate::problem::Problem;
use crate::project::files::Folders;
use crate::reload::Project;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Refuse to start when any file is bad
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let Loaded { mut config, file } = match common.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if args.strict {
        config.rules.start_policy = StartPolicy::Strict;
    }
    if let Err(problem) = start_log(common, &config) {
        print_problems(&[*problem]);
        return Exit::ConfigInvalid;
    }
    super::raise_file_limit();
    super::without_huge_pages();
    super::on_a_runtime(serve(common, &config, file.as_deref()))
}

async fn serve(common: &Common, config: &Config, file: Option<&std::path::Path>) -> Exit {
    let access = match Access::open(&config.auth) {
        Ok(access) => access,
        Err(problems) => {
            print_problems(&problems);
            return Exit::ConfigInvalid;
        }
    };
    let project = Project::Folders(Folders::of(&config.rules));
    let started = App::start(config, project, access).await;
    let app = match started {
        Ok(app) => app,
        Err(StartError::Config(problems)) => {
            print_problems(&problems);
            say("weir: not started");
            return Exit::ConfigInvalid;
        }
        Err(error @ StartError::Unusable(_)) => {
            say(&format!("weir: {error}"));
            return Exit::Unusable;
        }
    };
    if !common.quiet {
        banner(config, file, &app);
    }
    for problem in app.first_load.problems() {
        say(&problem.to_string());
    }
    let mut hang_up = signal(tokio::signal::unix::SignalKind::hangup());
    let mut terminate = signal(tokio::signal::unix::SignalKind::terminate());
    let deadline = super::deadline(common);
    tokio::pin!(deadline);
    let exit = loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break Exit::Interrupted,
            () = &mut deadline => break Exit::Timeout,
            () = received(&mut terminate) => break Exit::Ok,
            () = received(&mut hang_up) => app.reloader.reload(false).await.log(),
        }
    };
    tracing::info!("stopping");
    let left = tokio::select! {
        left = app.stop() => left,
        // Asked twice: now.
        _ = tokio::signal::ctrl_c() => return exit,
    };
    if left > 0 {
        let place = match config.durability {
            Durable::Memory => format!("in {}", config.data_dir().join("dead_letters").display()),
            Durable::Fsync | Durable::Os => "which `weir dlq ls` shows".to_owned(),
        };
        say(&format!(
            "weir: {} could not be delivered in time; see the dead letters {place}",
            count(usize::try_from(left).unwrap_or(usize::MAX), "row"),
        ));
    }
    exit
}

fn banner(config: &Config, file: Option<&std::path::Path>, app: &App) {
    let source = file.map_or_else(
        || "config built in".to_owned(),
        |file| format!("config {}", file.display()),
    );
    say(&format!(
        "weir {}   {source}   data {}",
        env!("CARGO_PKG_VERSION"),
        config.data_dir().display()
    ));
    for (transport, place) in &app.listeners {
        say(&format!("{} {place}", transport.scheme()));
    }
    say(&format!("http {}", app.http));
    let stale = app.reloader.stale().len();
    let rules = app.pipeline.rules().len();
    let more = if stale == 0 {
        String::new()
    } else {
        format!(", {} bad", count(stale, "file"))
    };
    say(&format!(
        "rules {rules} ok{more}   from {}",
        config.rules.dir.display()
    ));
}

fn signal(kind: tokio::signal::unix::SignalKind) -> Option<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(kind)
        .map_err(|error| tracing::warn!(%error, "a signal is not listened to"))
        .ok()
}

async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Starts logging to stderr.
pub(super) fn start_log(common: &Common, config: &Config) -> Result<(), Box<Problem>> {
    let level = match common.verbose {
        0 => config.log.level.as_str(),
        1 => "info,weir=debug,weir_sinks=debug",
        _ => "debug,weir=trace,weir_sinks=trace",
    };
    let filter = EnvFilter::try_new(level)
        .map_err(|error| {
            Problem::whole(
                "weir.toml",
                "E1006",
                format!("log.level `{level}`: {error}"),
            )
            .help("for example \"info\" or \"info,weir::reload=debug\"")
        })
        .map_err(Box::new)?;
    let json = match config.log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => common.json || !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if json {
        builder.json().try_init()
    } else {
        builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init()
    };
    // A second start in one process (tests) keeps the first log.
    let _ = started;
    Ok(())
}
