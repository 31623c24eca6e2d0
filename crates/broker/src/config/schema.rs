//! What an editor is told about texts of `weir.toml` with a form of their own.
//!
//! A value may come from outside (`${env:NAME}`), so each form also lets through what has a `${`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::{Bind, ByteSize, FileMode, Span};

/// As a file would say it; defaults are shown in the schema like this.
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

/// As a file would say it, in the largest binary unit that has no rest.
impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.bytes();
        let (unit, factor) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        serializer.collect_str(&format_args!("{}{unit}", bytes / factor))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit: ms, s, m, h, d; parts may follow each other.",
            "type": "string",
            "pattern": r"^\s*0\s*$|^(\s*[0-9]+\s*[A-Za-zµ]+)+\s*$|\$\{",
            "examples": ["300ms", "5s", "1h 30m"],
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes with its unit: B, KiB, MiB, GiB, or the decimal kB, MB, GB.",
            "type": "string",
            "pattern": r"^[0-9]+\s*([KMG]i|[kMG])?B$|\$\{",
            "examples": ["64KiB", "1MiB"],
        })
    }
}

impl JsonSchema for Bind {
    fn schema_name() -> Cow<'static, str> {
        "Bind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An address with its port, or the path of a unix socket.",
            "type": "string",
            "pattern": r":[0-9]+$|/|\$\{",
            "examples": ["127.0.0.1:1883", "[::1]:1883", "./mqtt.sock"],
        })
    }
}

impl JsonSchema for FileMode {
    fn schema_name() -> Cow<'static, str> {
        "FileMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The permissions of a file, in octal digits.",
            "type": "string",
            "pattern": r"^0*[0-7]{1,3}$|\$\{",
            "examples": ["0660"],
        })
    }
}

#[test]
fn a_size_or_duration_is_written_as_a_file_says_it() {
    for text in ["0B", "20B", "1536B", "64KiB", "1MiB", "2GiB"] {
        let size: ByteSize = serde_json::from_value(text.into()).unwrap();
        assert_eq!(serde_json::to_value(size).unwrap(), text);
    }
    for text in ["0s", "300ms", "2h"] {
        let span: Span = serde_json::from_value(text.into()).unwrap();
        assert_eq!(serde_json::to_value(span).unwrap(), text);
    }
}
