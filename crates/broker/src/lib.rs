//! weir: an MQTT broker with a SQL rule engine inside.
//!
//! A device publishes; rules in text files pick, reshape and route the data to databases, webhooks and other
//! brokers. The binary `weir` is [`cli::main`]; everything it does is here.
//!
//! # In a program of yours
//!
//! [`Broker::builder`] puts a broker together; [`hooks`], [`auth`] and [`store`] are the places where your code looks on
//! or decides; a [`Broker`] publishes, and knows its [`clients`].
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use weir::{Broker, Message};
//!
//! let broker = Broker::builder()
//!     .listen("127.0.0.1:0")
//!     .on_message(|message: &Message| println!("{}", message.topic.as_str()))
//!     .start()
//!     .await?;
//! broker.publish(Message::text("greeting", "hello")?);
//! # broker.stop(std::time::Duration::ZERO).await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

#[doc(hidden)]
pub mod admin;
#[doc(hidden)]
pub mod app;
pub mod auth;
mod bridge_home;
mod bridge_status;
pub mod broker;
mod builder;
#[doc(hidden)]
pub mod capture;
pub mod cli;
#[doc(hidden)]
pub mod client;
pub mod clients;
pub mod config;
#[doc(hidden)]
pub mod core;
#[doc(hidden)]
pub mod dead_letters;
#[doc(hidden)]
pub mod demo;
mod driver;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod hooks;
#[cfg(feature = "jq")]
#[doc(hidden)]
pub mod jq;
mod net;
#[doc(hidden)]
pub mod pipeline;
#[doc(hidden)]
pub mod problem;
#[doc(hidden)]
pub mod project;
#[doc(hidden)]
pub mod reload;
mod settings;
#[cfg(test)]
mod simulation;
pub mod stats;
pub mod store;
mod threads;
mod torture;

/// The words of MQTT: packets, topics, reason codes.
pub use weir_mqtt as mqtt;

pub use crate::core::message::{Message, Origin};
pub use broker::{Broker, BrokerSettings, Published};
pub use builder::{BrokerBuilder, StartError};
pub use threads::OnThreads;
pub use weir_rules::event::RuleId;
