//! The MQTT server over real sockets, packet by packet, for all three versions of the protocol.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;

mod alias;
mod capabilities;
mod connect;
mod keep_alive;
mod malformed;
mod publish;
mod retained;
mod session;
mod subscribe;
mod will;
