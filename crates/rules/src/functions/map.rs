//! Objects: members by path or key, and objects made from others. JSON text of an object is taken for the object.

use std::sync::Arc;

use super::call::{self, Call};
use super::string::size;
use super::{Category, Function, Param, StrictBody};
use crate::error::Fault;
use crate::json;
use crate::value::{Key, Object, Value};

const M: &[&[Param]] = &[&[Param::map("m")]];
const GET: &[&[Param]] = &[
    &[Param::text("path"), Param::any("m")],
    &[Param::text("path"), Param::any("m"), Param::any("default")],
];
const MGET: &[&[Param]] = &[
    &[Param::any("key"), Param::map("m")],
    &[Param::any("key"), Param::map("m"), Param::any("default")],
];
const MPUT: &[&[Param]] = &[&[Param::any("key"), Param::any("value"), Param::map("m")]];
const PUT: &[&[Param]] = &[&[Param::text("path"), Param::any("value"), Param::any("m")]];

const fn map(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Map, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    map(
        "map_new",
        &[&[]],
        "An empty object.",
        &[("map_new()", "{}")],
        |_| Ok(Object::default().into()),
    ),
    map(
        "map_get",
        GET,
        "The member at a dot path; default, or undefined, when it is missing or m is no object.",
        &[
            ("map_get('a.b', {'a': {'b': 1}})", "1"),
            ("map_get('x', {'a': 1}, 0)", "0"),
            ("map_get('a', '{\"a\":2}')", "2"),
        ],
        |call| {
            let path = call.text(0)?;
            let found = call
                .object(1)
                .ok()
                .and_then(|object| at_path(&Value::Object(object), path));
            Ok(found.unwrap_or_else(|| call.value(2).clone()))
        },
    ),
    map(
        "map_put",
        PUT,
        "A copy of the object with the member at a dot path set.",
        &[("map_put('a.b', 1, {'c': 2})", "{'c': 2, 'a': {'b': 1}}")],
        |call| {
            let keys: Vec<&str> = call.text(0)?.split('.').collect();
            put(call, &keys)
        },
    ),
    map(
        "mget",
        MGET,
        "The member of that key, in which dots mean nothing, or at the path that an array of keys gives.",
        &[
            ("mget('a.b', {'a.b': 1})", "1"),
            ("mget(['a', 'b'], {'a': {'b': 2}})", "2"),
            ("mget('x', {}, 'none')", "'none'"),
        ],
        |call| {
            let mut here = Value::Object(call.object(1)?);
            for key in &keys(call)? {
                match here.get(key).cloned() {
                    Some(member) => here = member,
                    None => return Ok(call.value(2).clone()),
                }
            }
            Ok(here)
        },
    ),
    map(
        "mput",
        MPUT,
        "A copy of the object with the member of that key, or at that array of keys, set.",
        &[
            ("mput('a.b', 1, {})", "{'a.b': 1}"),
            ("mput(['a', 'b'], 1, {})", "{'a': {'b': 1}}"),
        ],
        |call| {
            let keys = keys(call)?;
            put(call, &keys.iter().map(String::as_str).collect::<Vec<_>>())
        },
    ),
    map(
        "map_keys",
        M,
        "The keys, in the object's order.",
        &[("map_keys({'b': 1, 'a': 2})", "['b', 'a']")],
        object_keys,
    ),
    map(
        "keys",
        M,
        "Another name of `map_keys`.",
        &[("keys({'b': 1})", "['b']")],
        object_keys,
    ),
    map(
        "map_values",
        M,
        "The values, in the object's order.",
        &[("map_values({'b': 1, 'a': 2})", "[1, 2]")],
        object_values,
    ),
    map(
        "values",
        M,
        "Another name of `map_values`.",
        &[("values({'b': 1})", "[1]")],
        object_values,
    ),
    map(
        "map_size",
        M,
        "How many members the object has.",
        &[("map_size({'a': 1})", "1"), ("map_size('{}')", "0")],
        |call| Ok(size(call.object(0)?.len())),
    ),
    map(
        "map_to_entries",
        M,
        "The members as an array of objects with `key` and `value`.",
        &[("map_to_entries({'a': 1})", "[{'key': 'a', 'value': 1}]")],
        entries,
    ),
    map(
        "items",
        M,
        "Another name of `map_to_entries`.",
        &[("items({'a': 1})", "[{'key': 'a', 'value': 1}]")],
        entries,
    ),
    map(
        "map_merge",
        &[&[Param::map("a"), Param::map("b").and_more()]],
        "The members of all objects; later ones win.",
        &[("map_merge({'a': 1, 'b': 1}, {'b': 2})", "{'a': 1, 'b': 2}")],
        |call| {
            let mut merged = (*call.object(0)?).clone();
            for index in 1..call.count() {
                merged.extend(
                    call.object(index)?
                        .iter()
                        .map(|(key, value)| (key.clone(), value.clone())),
                );
            }
            Ok(merged.into())
        },
    ),
    map(
        "map_remove",
        &[&[Param::text("key"), Param::map("m")]],
        "A copy of the object without that key.",
        &[("map_remove('a', {'a': 1, 'b': 2})", "{'b': 2}")],
        |call| {
            let mut object = (*call.object(1)?).clone();
            object.shift_remove(call.text(0)?);
            Ok(object.into())
        },
    ),
    map(
        "map_has",
        &[&[Param::text("key"), Param::map("m")]],
        "Whether the object has that key.",
        &[
            ("map_has('a', {'a': NULL})", "true"),
            ("map_has('b', {'a': 1})", "false"),
        ],
        |call| {
            let key = call.text(0)?;
            Ok(Value::Bool(
                call.object(1)?
                    .get(key)
                    .is_some_and(|value| !value.is_undefined()),
            ))
        },
    ),
    map(
        "map_pick",
        &[&[Param::array("keys"), Param::map("m")]],
        "A copy of the object with those keys only.",
        &[("map_pick(['b', 'x'], {'a': 1, 'b': 2})", "{'b': 2}")],
        |call| {
            let (keys, object) = (call.array(0)?, call.object(1)?);
            let wanted: Vec<Key> = keys
                .iter()
                .map(|key| key.as_str().map(Key::from))
                .collect::<Option<_>>()
                .ok_or_else(|| call.bad(0, "must be an array of strings"))?;
            let picked = wanted.into_iter().filter_map(|key| {
                let value = object.get(&key)?.clone();
                Some((key, value))
            });
            Ok(picked.collect::<Object>().into())
        },
    ),
];

/// The member at a dot path; text on the way is decoded as JSON.
pub(super) fn at_path(value: &Value, path: &str) -> Option<Value> {
    let mut here = value.clone();
    for key in path.split('.') {
        if let Value::Text(text) = &here {
            here = json::decode(text.as_bytes()).ok()?;
        }
        here = here.get(key)?.clone();
    }
    Some(here)
}

/// A copy of argument 3 with the member set to argument 2. Paths end where JSON does: at depth 128.
fn put(call: &Call<'_>, keys: &[&str]) -> Result<Value, Fault> {
    if keys.len() > 128 {
        return Err(call.bad(0, "has more than 128 steps"));
    }
    Ok(with_member(
        Value::Object(call.object(2)?),
        keys,
        call.value(1).clone(),
    ))
}

/// What is no object on the way is replaced by one.
fn with_member(container: Value, keys: &[&str], value: Value) -> Value {
    let Some((first, rest)) = keys.split_first() else {
        return value;
    };
    let mut object = match container {
        Value::Object(object) => Arc::unwrap_or_clone(object),
        _ => Object::default(),
    };
    let member = object.get(*first).cloned().unwrap_or_default();
    object.insert((*first).into(), with_member(member, rest, value));
    object.into()
}

fn keys(call: &Call<'_>) -> Result<Vec<String>, Fault> {
    match call.value(0) {
        Value::Array(keys) => keys
            .iter()
            .map(|key| {
                key.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| call.bad(0, "must hold strings only"))
            })
            .collect(),
        _ => Ok(vec![call.text(0)?.to_owned()]),
    }
}

fn object_keys(call: &mut Call<'_>) -> Result<Value, Fault> {
    call::array(
        call.object(0)?
            .keys()
            .map(|key| key.as_str().into())
            .collect(),
    )
}

fn object_values(call: &mut Call<'_>) -> Result<Value, Fault> {
    call::array(call.object(0)?.values().cloned().collect())
}

fn entries(call: &mut Call<'_>) -> Result<Value, Fault> {
    let object = call.object(0)?;
    let entry = |(key, value): (&Key, &Value)| -> Value {
        [("key", Value::from(key.as_str())), ("value", value.clone())]
            .into_iter()
            .collect()
    };
    call::array(object.iter().map(entry).collect())
}
