//! Values of the rule language as values of rhai, and back.
//!
//! Undefined and null become `()`, and `()` becomes undefined; text that is not UTF-8 becomes a blob.

use rhai::{Array, Blob, Dynamic, Map};

use crate::value::{Object, Value};

/// How deep a result may nest: as deep as JSON may.
const MAX_DEPTH: usize = 128;

/// The longest values that a script may hold.
#[derive(Clone, Copy)]
pub(super) struct Longest {
    pub(super) string_bytes: usize,
    pub(super) array_elements: usize,
    pub(super) map_entries: usize,
}

/// A value for a script; takes its size from `room`. The error ends a sentence that names the argument.
pub(super) fn to_script(
    value: &Value,
    longest: Longest,
    room: &mut usize,
) -> Result<Dynamic, String> {
    take(room, size_of::<Value>())?;
    Ok(match value {
        Value::Undefined | Value::Null => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Int(int) => (*int).into(),
        Value::Float(float) => (*float).into(),
        Value::Text(text) => {
            let bytes = text.as_bytes();
            within(bytes.len(), longest.string_bytes, "bytes")?;
            take(room, bytes.len())?;
            text.as_str().map_or_else(
                || Dynamic::from_blob(bytes.to_vec()),
                |text| text.to_owned().into(),
            )
        }
        Value::Bits(_) => return Err("is a bit sequence, which scripts do not have".to_owned()),
        Value::Array(values) => {
            within(values.len(), longest.array_elements, "elements")?;
            let values: Result<Array, String> = values
                .iter()
                .map(|value| to_script(value, longest, room))
                .collect();
            Dynamic::from_array(values?)
        }
        Value::Object(object) => {
            within(object.len(), longest.map_entries, "entries")?;
            let mut map = Map::new();
            for (key, value) in object.iter() {
                take(room, key.len())?;
                map.insert(key.as_str().into(), to_script(value, longest, room)?);
            }
            Dynamic::from_map(map)
        }
    })
}

/// A script's result. The error names what the script returned instead of a value.
pub(super) fn from_script(value: Dynamic, total_bytes: usize) -> Result<Value, String> {
    from_dynamic(value, MAX_DEPTH, &mut { total_bytes })
}

fn from_dynamic(value: Dynamic, depth: usize, room: &mut usize) -> Result<Value, String> {
    take(room, size_of::<Value>()).map_err(|_| too_much())?;
    if value.is_unit() {
        return Ok(Value::Undefined);
    }
    if let Ok(value) = value.as_bool() {
        return Ok(value.into());
    }
    if let Ok(int) = value.as_int() {
        return Ok(int.into());
    }
    if let Ok(float) = value.as_float() {
        return Value::finite(float).ok_or_else(|| "a float that is not finite".to_owned());
    }
    if let Ok(c) = value.as_char() {
        return Ok(c.to_string().into());
    }
    if value.is_string() {
        let text = value.into_immutable_string().map_err(str::to_owned)?;
        take(room, text.len()).map_err(|_| too_much())?;
        return Ok(text.as_str().into());
    }
    if depth == 0 {
        return Err(format!("arrays or maps that nest deeper than {MAX_DEPTH}"));
    }
    if value.is_blob() {
        let blob: Blob = value.into_blob().map_err(str::to_owned)?;
        take(room, blob.len()).map_err(|_| too_much())?;
        return Ok(Value::Text(blob.into()));
    }
    if value.is_array() {
        let values = value.into_array().map_err(str::to_owned)?;
        let values: Result<Vec<Value>, String> = values
            .into_iter()
            .map(|value| from_dynamic(value, depth - 1, room))
            .collect();
        return Ok(values?.into());
    }
    if value.is_map() {
        let map = value.try_cast::<Map>().ok_or("a map that is in use")?;
        let mut object = Object::default();
        for (key, value) in map {
            take(room, key.len()).map_err(|_| too_much())?;
            object.insert(key.as_str().into(), from_dynamic(value, depth - 1, room)?);
        }
        return Ok(object.into());
    }
    Err(format!(
        "a value of type {}, which SQL does not have",
        value.type_name()
    ))
}

fn within(length: usize, most: usize, of: &str) -> Result<(), String> {
    if length > most {
        return Err(format!(
            "is longer than the {most} {of} that a script may hold"
        ));
    }
    Ok(())
}

fn take(room: &mut usize, bytes: usize) -> Result<(), String> {
    *room = room
        .checked_sub(bytes)
        .ok_or("is larger than a script's memory")?;
    Ok(())
}

fn too_much() -> String {
    "more than a script's result may hold".to_owned()
}
