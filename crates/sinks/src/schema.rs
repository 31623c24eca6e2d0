//! What an editor is told about texts with a form of their own: durations, sizes, secrets, statuses, templates.
//!
//! A value may come from outside (`${env:NAME}`), so each form also lets through what has a `${`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::config::StatusRange;
use crate::secret::Secret;
use crate::units::{Size, Span};

/// Stands in the schema for a text with `${field}` places; never read.
pub(crate) struct Template;

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A template, filled in from each row: `${field}`, `${a.b[2]}`, `${.}` for the whole row as JSON, `${$}` for a `$`.",
            "type": "string",
            "examples": ["alerts/${device}", "{\"temp\": ${temp}}"],
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit: ms, s, m, h or d; parts may follow each other.",
            "type": "string",
            "pattern": r"^(\s*[0-9.]+\s*(ms|s|min|m|h|d))+\s*$|\$\{",
            "examples": ["50ms", "5s", "1h30m"],
        })
    }
}

/// As a file would say it; defaults are shown in the schema like this.
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.subsec_millis() {
            0 => serializer.collect_str(&format_args!("{}s", self.0.as_secs())),
            _ => serializer.collect_str(&format_args!("{}ms", self.0.as_millis())),
        }
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes with its unit: B, KiB, MiB, GiB, or the decimal kB, MB, GB.",
            "type": "string",
            "pattern": r"^\s*[0-9.]+\s*([KkMmGg][Ii]?)?[Bb]\s*$|\$\{",
            "examples": ["64KiB", "1MiB"],
        })
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: it shows in no output. Better from outside than in the file.",
            "type": "string",
            "writeOnly": true,
            "examples": ["${env:NAME}", "${file:/run/secrets/name}", "${cred:NAME}"],
        })
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A status of HTTP, or the first and the last of several.",
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": r"^\s*[1-5][0-9]{2}\s*(-\s*[1-5][0-9]{2}\s*)?$|\$\{" },
            ],
            "examples": ["200-299", 204],
        })
    }
}

/// The schema's part of `#[serde(alias = "url")]`, which its derive does not see.
pub(crate) fn path_may_be_called_url(schema: &mut Schema) {
    let Some(path) = schema.pointer("/properties/path").cloned() else {
        return;
    };
    if let Some(properties) = schema
        .get_mut("properties")
        .and_then(|all| all.as_object_mut())
    {
        properties.insert("url".to_owned(), path);
    }
    schema.remove("required");
    schema.insert(
        "oneOf".to_owned(),
        serde_json::json!([{ "required": ["path"] }, { "required": ["url"] }]),
    );
}
