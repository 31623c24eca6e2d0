//! weir: an MQTT broker with a SQL rule engine inside.
//!
//! A device publishes; rules in text files pick, reshape and route the data to databases, webhooks and other
//! brokers. The binary `weir` is [`cli::main`]; everything it does is here.

pub mod app;
pub mod cli;
pub mod config;
pub mod problem;
pub mod project;
pub mod reload;

pub mod pipeline;

pub mod auth;
pub mod broker;
mod builder;
pub mod core;
mod driver;
mod net;
pub mod stats;
pub mod store;

pub mod admin;
pub mod client;
pub mod demo;

pub use broker::Broker;
pub use builder::{BrokerBuilder, StartError};
