//! Any topic name and filters.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_mqtt::fuzz::topic(data));
