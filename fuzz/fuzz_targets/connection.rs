//! Any clients of one broker: bytes in, state machines, bytes out.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| weir::fuzz::connection(script));
