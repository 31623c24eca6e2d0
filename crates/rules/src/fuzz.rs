//! Bodies of the fuzz targets as plain functions, so that property tests run them too.

use bytes::Bytes;

use crate::compile::{Catalog, compile};
use crate::diagnostic::Origin;
use crate::event::Event;
use crate::format::format;
use crate::input::Input;
use crate::json;
use crate::path::{self, PathSet};
use crate::payload;
use crate::value::{Key, Value};

/// What rules find at `paths` is what the decoder gives there.
fn short_way(payload: &Bytes, paths: &[&[&str]]) {
    let mut needs = PathSet::default();
    for path in paths {
        needs.add(path);
    }
    let event = Event::publish("t", payload.clone());
    let input = Input::new(&event, &needs);
    let decoded = payload::decode(payload, &needs);
    for path in paths {
        let keys: Vec<Key> = path.iter().map(|key| Key::from(*key)).collect();
        match (input.at(&keys), &decoded) {
            (Ok(found), Ok(decoded)) => {
                let wanted = path.iter().fold(decoded.clone(), |at, key| {
                    path::member(&at, key).into_owned()
                });
                assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "at {path:?}");
                if let Some(value) = needs.value_at(&keys).and_then(|number| input.value(number)) {
                    assert_eq!(format!("{value:?}"), format!("{wanted:?}"), "{path:?}");
                }
            }
            (Err(found), Err(wanted)) => assert_eq!(found.message(), wanted.message()),
            (found, wanted) => panic!("{path:?} gives {found:?}, not {wanted:?}"),
        }
    }
}

/// Any text compiles or is refused with diagnostics that can be rendered; its layout, if it has one, is stable.
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
    if let Ok(formatted) = format(sql) {
        assert_eq!(format(&formatted).as_ref(), Ok(&formatted));
    }
}

/// A partial decode gives what a full decode and a look-up give, and the short way what the long way gives.
pub fn payload(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    short_way(&shared, &[&["a", "b"], &["c"]]);
    short_way(&shared, &[&["a"], &["b", "a"], &["b", "c"]]);
    short_way(&shared, &[&[]]);
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
