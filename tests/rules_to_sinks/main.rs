//! From a real client's message, through rule files, to what each sink received.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod access_files;
mod bench;
mod bridge_options;
mod bridge_payloads;
mod bridge_start;
mod bridge_status;
mod bridging;
mod bridging_rules;
mod cases;
mod clients;
mod cloud_limits;
mod clouds;
mod dead_letters;
mod demo;
mod events;
mod examples;
mod explain;
mod fmt;
mod for_machines;
mod import;
mod leftover_queues;
mod mistakes;
mod online;
mod provision;
mod reload;
mod sentence;
mod signing;
mod stand_in;
mod web_sockets;

/// The binary under test.
const WEIR: &str = env!("CARGO_BIN_EXE_weir");
