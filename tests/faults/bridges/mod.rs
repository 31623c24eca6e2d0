//! Bridges over days in minutes: the remote is killed and hangs under load both ways, and every message is counted.
//!
//! In short with every other test. `make bridges-long` sends 100,000 messages over each kind of bridge, kills the remote
//! ten times and stops it twice. `BRIDGES_MESSAGES` is the number of messages for each kind, `BRIDGES_BINARY` the weir
//! to run, `BRIDGES_KINDS` names of kinds with commas between them. `make bridges-soak` holds bridges to the limits of their
//! clouds for ten minutes.

mod client;
mod drain;
mod endurance;
mod kinds;
mod link;
mod order_in;
mod remote;
mod renewal;
mod soak;
mod tally;
mod window;

use crate::WEIR;

/// The program under test.
fn weir_binary() -> String {
    std::env::var("BRIDGES_BINARY").unwrap_or_else(|_| WEIR.to_owned())
}

/// Messages for each kind of bridge in the long form; `None`: the short one.
fn long() -> Option<u64> {
    let text = std::env::var("BRIDGES_MESSAGES").ok()?;
    Some(text.parse().expect("BRIDGES_MESSAGES is a number"))
}

/// A line of what was measured.
#[expect(
    clippy::print_stderr,
    reason = "the figures are what a long run is for"
)]
fn say(line: &str) {
    eprintln!("{line}");
}
