//! Bodies of the fuzz targets as plain functions, so that property tests run them too.

use bytes::Bytes;

use crate::compile::{Catalog, compile};
use crate::diagnostic::Origin;
use crate::json;
use crate::path::{self, PathSet};
use crate::payload;
use crate::value::Value;

/// Any text compiles or is refused with diagnostics that can be rendered.
pub fn rule_text(sql: &str) {
    let diagnostics = match compile(sql, &Catalog::default()) {
        Ok((_, warnings)) => warnings,
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal says why");
            errors
        }
    };
    for diagnostic in diagnostics {
        assert!(diagnostic.span.start <= diagnostic.span.end && diagnostic.span.end <= sql.len());
        diagnostic.render(sql, &Origin::default());
    }
}

/// A partial decode gives what a full decode and a look-up give.
pub fn payload(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    let full = payload::decode(&shared, &PathSet::everything());
    let mut needs = PathSet::default();
    needs.add(&["a", "b"]);
    needs.add(&["c"]);
    let partial = payload::decode(&shared, &needs);
    if let (Ok(full), Ok(partial)) = (&full, &partial) {
        for keys in [&["a", "b"][..], &["c"]] {
            let look = |value: &Value| {
                keys.iter()
                    .fold(value.clone(), |at, key| path::member(&at, key).into_owned())
            };
            assert!(look(full).strict_equals(&look(partial)));
        }
        let text = json::to_text(full).expect("what was decoded can be encoded");
        let again = json::decode(text.as_bytes()).expect("what was encoded can be decoded");
        assert!(again.strict_equals(full));
    }
    // A partial decode may pass over a number that is out of range, never the other way round.
    assert!(full.is_err() || partial.is_ok());
}
