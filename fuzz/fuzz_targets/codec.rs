//! Any bytes from a peer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_mqtt::fuzz::codec(data));
