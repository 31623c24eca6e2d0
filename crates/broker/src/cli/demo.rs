//! `weir demo`: starts the demo and shows it until it ends.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use super::{Common, Exit, out, out_json, out_line, print_problems, say};
use crate::app::StartError;
use crate::demo::{Demo, Summary};

#[derive(clap::Args)]
pub(super) struct Args {
    /// End after this time, e.g. 10s; the counts of all sinks must agree then
    #[arg(long = "for", value_parser = humantime::parse_duration, value_name = "DURATION")]
    duration: Option<Duration>,
    /// Where its data goes
    #[arg(long, default_value = "weir-demo", value_name = "DIR")]
    data_dir: PathBuf,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let config = crate::config::Config {
        log: crate::config::Log {
            level: "warn".to_owned(),
            ..Default::default()
        },
        ..Default::default()
    };
    if let Err(problem) = super::run::start_log(common, &config) {
        print_problems(&[*problem]);
    }
    super::on_a_runtime(show(common, args))
}

async fn show(common: &Common, args: &Args) -> Exit {
    let postgres = std::env::var("WEIR_DEMO_PG").ok();
    let demo = match Demo::start(&args.data_dir, postgres.as_deref()).await {
        Ok(demo) => demo,
        Err(StartError::Config(problems)) => {
            print_problems(&problems);
            return Exit::ConfigInvalid;
        }
        Err(error) => {
            say(&format!("weir: {error}"));
            return Exit::Unusable;
        }
    };
    if !common.quiet {
        say(&format!("{}\n", demo.banner()));
    }
    let redraw = std::io::stdout().is_terminal() && !common.json;
    let end = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut drawn = 0;
    let mut interrupted = false;
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = tokio::signal::ctrl_c() => {
                interrupted = true;
                break;
            }
            _ = tick.tick() => {
                if common.quiet { continue; }
                let summary = demo.summary().await;
                if redraw {
                    let table = table(&summary, demo.mqtt());
                    // Up to the table's first line, then to the end of the screen.
                    let up = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
                    drawn = table.lines().count();
                    out(&format!("{up}{table}"));
                } else {
                    say(&line(&summary));
                }
            }
        }
    }
    let data_dir = args.data_dir.display();
    let summary = demo.finish().await;
    if common.json {
        out_json(&summary);
    } else {
        out_line(&format!("\n{}", rows(&summary)));
        for difference in &summary.differences {
            say(&format!("weir: {difference}"));
        }
        let verdict = if summary.ok {
            common.good("all counts agree")
        } else {
            common.bad("the counts differ")
        };
        out_line(&format!(
            "{verdict}: {} published in {:.0} s. Data stays in {data_dir}.",
            summary.published, summary.seconds
        ));
        out_line("next: weir init my-site   (then `weir test` and `weir run` there)");
    }
    match (summary.ok, interrupted && args.duration.is_some()) {
        (true, false) => Exit::Ok,
        (true, true) => Exit::Interrupted,
        (false, _) => Exit::Problems,
    }
}

fn line(summary: &Summary) -> String {
    let rules: Vec<String> = summary
        .rules
        .iter()
        .map(|rule| {
            format!(
                "{} {}/{}/{}",
                rule.rule, rule.matched, rule.passed, rule.arrived
            )
        })
        .collect();
    format!(
        "{:>4.0} s  published {:>6}   matched/passed/arrived  {}",
        summary.seconds,
        summary.published,
        rules.join("  ")
    )
}

fn rows(summary: &Summary) -> String {
    let mut text = format!(
        "{:<8} {:>8} {:>8} {:>7} {:>7}  {}\n",
        "rule", "matched", "passed", "errors", "rows/s", "sinks"
    );
    for rule in &summary.rules {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a demo makes far fewer rows than 2^52"
        )]
        let rate = rule.passed as f64 / summary.seconds.max(0.1);
        text.push_str(&format!(
            "{:<8} {:>8} {:>8} {:>7} {rate:>7.1}  {} {}\n",
            rule.rule, rule.matched, rule.passed, rule.errors, rule.sink, rule.arrived
        ));
    }
    text
}

fn table(summary: &Summary, mqtt: std::net::SocketAddr) -> String {
    let host = if mqtt.port() == 1883 {
        String::new()
    } else {
        format!(" -H {mqtt}")
    };
    format!(
        "{}\ntry   weir pub{host} /dev/me/up '{{\"temp\":41}}'      weir sub{host} '/dev/#'\n",
        rows(summary)
    )
}
