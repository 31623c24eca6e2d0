//! Clients that other people wrote, over everything that carries MQTT: each sees a whole conversation through.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod browser;
mod linkkit;
mod mosquitto;
mod operator;
mod paho;
mod reload;
mod rumqttc;
mod scene;

/// The binary under test.
const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// What a conversation shows.
const ALL_OF_IT: &str = "connect qos retained will shared large";
