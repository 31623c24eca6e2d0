//! The function `jq` in a build that has it: whatever a program does, it harms nobody but itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../mqtt/client.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "these tests say less than those of the protocol"
)]
mod client;

mod broker;
mod processes;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
