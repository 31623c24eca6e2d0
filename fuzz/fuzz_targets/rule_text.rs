//! Any text as a rule statement.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| weir_rules::fuzz::rule_text(text));
