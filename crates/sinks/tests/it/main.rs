//! Sinks against real far sides: SQLite, Postgres, an HTTP server, mosquitto; and the worker against a scripted one.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod at_least_once;
mod bench;
mod bounds;
mod bridge_flag;
mod closed_over;
mod contract;
mod crossing;
mod durable;
mod evicted;
mod exact;
mod fence;
mod filters;
mod fits;
mod halfway;
mod http;
mod link_state;
mod logs;
mod mirror;
mod mqtt;
mod postgres;
mod rates;
mod sqlite;
mod stages;
mod tls;
mod worker;
