//! Sinks against real far sides: SQLite, Postgres, an HTTP server, mosquitto; and the worker against a scripted one.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod bench;
mod closed_over;
mod contract;
mod crossing;
mod durable;
mod exact;
mod filters;
mod halfway;
mod http;
mod link_state;
mod logs;
mod mirror;
mod mqtt;
mod postgres;
mod sqlite;
mod tls;
mod worker;
