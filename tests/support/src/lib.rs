//! The real things that weir's tests run against: PostgreSQL, mosquitto and its clients, an HTTP
//! server that remembers what it was sent, and weir itself as a child process.
//!
//! Everything listens on loopback, on a port that was free, with its files in a temporary folder,
//! and ends with the value that started it. Nothing here is skipped: what is not installed is a
//! failure that says how to install it. Nothing here is mocked.

mod authority;
mod clients;
mod cluster;
mod devices;
mod files;
mod mosquitto;
mod node;
mod paho;
mod paho_c;
mod ports;
mod postgres;
mod programs;
mod wait;
mod webhook;
mod weir;

pub use authority::Authority;
pub use clients::{LinePublisher, Received, Subscriber, mosquitto_pub};
pub use devices::CLOUD_DEVICES;
pub use files::{example, repository};
pub use mosquitto::Mosquitto;
pub use node::{Browser, browse, mqtt_js, node};
pub use paho::{linkkit, paho};
pub use paho_c::{PahoC, paho_c};
pub use ports::free_port;
pub use postgres::{Database, Postgres};
pub use programs::Finished;
pub use wait::{wait_for, wait_until};
pub use webhook::{Answer, Request, Webhook};
pub use weir::{Site, Weir, http_get};
