//! Any bytes as a payload: a partial decode against a full one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| weir_rules::fuzz::payload(bytes));
