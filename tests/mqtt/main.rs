//! The MQTT server over real sockets, packet by packet, for all three versions of the protocol.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;
mod raw;

mod access;
mod alias;
mod authenticators;
mod capabilities;
mod cloud_rules;
mod cloud_tokens;
mod conformance;
mod connect;
mod connect_packet;
mod delayed;
mod delivery;
mod enhanced_auth;
mod flow_control;
mod keep_alive;
mod lessons;
mod lessons_of_clients;
mod malformed;
mod packet_size;
mod publish;
mod retained;
mod retry;
mod rewrite;
mod session;
mod shared;
mod shared_groups;
mod subscribe;
mod sys;
mod topics;
mod transports;
mod unsubscribe;
mod will;
mod wire;
