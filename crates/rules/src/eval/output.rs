//! Putting values where their aliases say (rule-SQL §7.3).

use std::sync::Arc;

use crate::ast::AliasStep;
use crate::error::{ErrorKind, Fault};
use crate::json;
use crate::path;
use crate::value::{Object, Value};

/// Whether an alias of this first name goes into the payload's members.
pub(crate) fn first_is_payload(name: &str) -> bool {
    name == "payload"
}

/// Puts `value` at `steps` of the output.
///
/// # Errors
/// The output holds a payload that is no JSON, and the steps go into it.
pub(crate) fn put_item(
    output: &mut Object,
    steps: &[AliasStep],
    value: Value,
) -> Result<(), Fault> {
    let Some((AliasStep::Key(name), rest)) = steps.split_first() else {
        return Ok(());
    };
    if rest.is_empty() {
        set_member(output, name, value);
        return Ok(());
    }
    let place = output.entry(name.clone()).or_default();
    if first_is_payload(name) {
        decode_payload(place)?;
    }
    put(place, rest, value);
    Ok(())
}

/// A payload that is still text becomes what it decodes to.
pub(crate) fn decode_payload(payload: &mut Value) -> Result<(), Fault> {
    if let Value::Text(text) = payload {
        *payload = json::decode(text.as_bytes()).map_err(|fault| {
            Fault::new(ErrorKind::PayloadDecode, fault.message().to_owned())
                .with_value(payload.clone())
        })?;
    }
    Ok(())
}

/// Puts `value` at `steps` of a container; what is no container of the right type on the way is replaced by one.
pub(crate) fn put(container: &mut Value, steps: &[AliasStep], value: Value) {
    let Some((step, rest)) = steps.split_first() else {
        *container = value;
        return;
    };
    match step {
        AliasStep::Key(key) => {
            if !matches!(container, Value::Object(_)) {
                *container = Object::default().into();
            }
            let Value::Object(object) = container else {
                return;
            };
            let object = Arc::make_mut(object);
            if rest.is_empty() {
                set_member(object, key, value);
            } else {
                put(object.entry(key.clone()).or_default(), rest, value);
            }
        }
        AliasStep::Prepend | AliasStep::Append | AliasStep::At(_) => {
            put_element(container, step, rest, value)
        }
    }
}

fn put_element(container: &mut Value, step: &AliasStep, rest: &[AliasStep], value: Value) {
    let built = |value: Value| {
        let mut element = Value::Undefined;
        put(&mut element, rest, value);
        element
    };
    let Value::Array(elements) = container else {
        *container = vec![built(value)].into();
        return;
    };
    let elements = Arc::make_mut(elements);
    match step {
        AliasStep::Prepend => elements.insert(0, built(value)),
        AliasStep::Append => elements.push(built(value)),
        AliasStep::At(index) => {
            if let Some(at) = path::position(elements.len(), *index) {
                put(&mut elements[at], rest, value);
            }
        }
        AliasStep::Key(_) => {}
    }
}

/// Undefined members are left out of outputs.
fn set_member(object: &mut Object, key: &crate::value::Key, value: Value) {
    if value.is_undefined() {
        object.shift_remove(key);
    } else {
        object.insert(key.clone(), value);
    }
}
