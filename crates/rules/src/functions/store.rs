//! Identifiers, the key-value stores, and what the operator handed in.
//!
//! Store functions are impure: never folded, never skipped, at most once per evaluation of an item.

use super::call::{self, Call};
use super::{Category, Function, Param, StrictBody};
use crate::error::{ErrorKind, Fault};
use crate::value::Value;

const KEY: &[&[Param]] = &[&[Param::any("key")]];
const GET: &[&[Param]] = &[
    &[Param::any("key")],
    &[Param::any("key"), Param::any("default")],
];
const PUT: &[&[Param]] = &[&[Param::any("key"), Param::any("value")]];

const fn store(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Store, name, forms, doc, examples, body).impure()
}

pub(super) const FUNCTIONS: &[Function] = &[
    store(
        "uuid_v4",
        &[&[]],
        "A random UUID.",
        &[("strlen(uuid_v4())", "36")],
        |call| Ok(uuid_v4(call).hyphenated().to_string().into()),
    ),
    store(
        "newuuid",
        &[&[]],
        "Another name of `uuid_v4`.",
        &[("strlen(newuuid())", "36")],
        |call| Ok(uuid_v4(call).hyphenated().to_string().into()),
    ),
    store(
        "uuid_v4_no_hyphen",
        &[&[]],
        "A random UUID without hyphens.",
        &[("strlen(uuid_v4_no_hyphen())", "32")],
        |call| Ok(uuid_v4(call).simple().to_string().into()),
    ),
    store(
        "uuid_v7",
        &[&[]],
        "A UUID that starts with the time, so that later ones sort behind earlier ones.",
        &[("substr(uuid_v7(), 14, 1)", "'7'")],
        |call| {
            let random = random_bytes(call);
            let mut tail = [0; 10];
            tail.copy_from_slice(&random[..10]);
            Ok(
                uuid::Builder::from_unix_timestamp_millis(now_ms(call), &tail)
                    .into_uuid()
                    .hyphenated()
                    .to_string()
                    .into(),
            )
        },
    ),
    store(
        "ulid",
        &[&[]],
        "A ULID: 26 characters that sort by time.",
        &[("strlen(ulid())", "26")],
        |call| {
            const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
            let random = u128::from_be_bytes(random_bytes(call)) >> 48;
            let bits = u128::from(now_ms(call) & 0xffff_ffff_ffff) << 80 | random;
            let letters = (0..26)
                .rev()
                .map(|place| LETTERS[usize::from((bits >> (5 * place)).to_le_bytes()[0] & 31)]);
            call::text(letters.collect::<Vec<u8>>())
        },
    ),
    store(
        "kv_store_put",
        PUT,
        "Sets a key of the store that all rules share, in memory. Gives true.",
        &[("kv_store_put('k', 1)", "true")],
        |call| {
            call.env
                .store()
                .put(call.args[0].clone(), call.args[1].clone());
            Ok(Value::Bool(true))
        },
    ),
    store(
        "kv_store_get",
        GET,
        "The value of a key of the shared store; default, or undefined, when it has none.",
        &[("kv_store_get('no such key', 0)", "0")],
        |call| {
            let found = call.env.store().get(&call.args[0]);
            Ok(found.unwrap_or_else(|| call.value(1).clone()))
        },
    ),
    store(
        "kv_store_del",
        KEY,
        "Removes a key from the shared store. Gives true.",
        &[("kv_store_del('k')", "true")],
        |call| {
            call.env.store().remove(&call.args[0]);
            Ok(Value::Bool(true))
        },
    ),
    store(
        "kv_store_incr",
        &[
            &[Param::any("key")],
            &[Param::any("key"), Param::number("n")],
        ],
        "Adds 1, or n, to a key of the shared store, which starts at 0. Gives the new number.",
        &[("kv_store_incr('a counter of its own', 5)", "5")],
        |call| {
            let old = call.env.store().get(&call.args[0]).unwrap_or(Value::Int(0));
            let new = sum(call, &old)?;
            call.env.store().put(call.args[0].clone(), new.clone());
            Ok(new)
        },
    ),
    store(
        "proc_dict_put",
        PUT,
        "Sets a key for the rest of this evaluation. Gives its earlier value.",
        &[("is_null(proc_dict_put('k', 1))", "true")],
        |call| {
            Ok(call
                .env
                .scratch()
                .put(call.args[0].clone(), call.args[1].clone())
                .unwrap_or_default())
        },
    ),
    store(
        "proc_dict_get",
        KEY,
        "The value that this evaluation has given a key.",
        &[
            ("is_null(proc_dict_get('k'))", "true"),
            ("[proc_dict_put('k', 1), proc_dict_get('k')][2]", "1"),
        ],
        |call| Ok(call.env.scratch().get(&call.args[0]).unwrap_or_default()),
    ),
    store(
        "proc_dict_del",
        KEY,
        "Removes a key of this evaluation. Gives its value.",
        &[("is_null(proc_dict_del('k'))", "true")],
        |call| Ok(call.env.scratch().remove(&call.args[0]).unwrap_or_default()),
    ),
    Function::new(
        Category::Store,
        "hostname",
        &[&[]],
        "The name of the machine that the broker runs on.",
        &[("is_str(hostname())", "true")],
        |call| Ok(call.env.hostname().into()),
    )
    .reads(),
    Function::new(
        Category::Store,
        "getenv",
        &[&[Param::text("name")]],
        "The environment variable `WEIRVAR_name`, else `EMQXVAR_name`, else `''`.",
        &[("getenv('no such variable')", "''")],
        |call| Ok(call.env.variable(call.text(0)?).unwrap_or_default().into()),
    )
    .reads(),
];

fn random_bytes(call: &mut Call<'_>) -> [u8; 16] {
    (u128::from(call.env.random()) << 64 | u128::from(call.env.random())).to_be_bytes()
}

fn uuid_v4(call: &mut Call<'_>) -> uuid::Uuid {
    uuid::Builder::from_random_bytes(random_bytes(call)).into_uuid()
}

fn now_ms(call: &Call<'_>) -> u64 {
    u64::try_from(call.env.now_ns().div_euclid(1_000_000)).unwrap_or(0)
}

fn sum(call: &Call<'_>, old: &Value) -> Result<Value, Fault> {
    let step = if call.count() > 1 {
        call.value(1)
    } else {
        &Value::Int(1)
    };
    match (old, step) {
        (Value::Int(old), Value::Int(step)) => {
            old.checked_add(*step).map(Value::Int).ok_or_else(|| {
                Fault::new(
                    ErrorKind::Overflow,
                    "the counter would leave the 64-bit integers",
                )
            })
        }
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            call::float(as_float(old) + as_float(step))
        }
        (Value::Int(_) | Value::Float(_), _) => Err(call.wrong(1, "a number")),
        _ => Err(call.bad(0, "is a key whose value is not a number")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a float sum is a float")]
fn as_float(number: &Value) -> f64 {
    match number {
        Value::Int(int) => *int as f64,
        Value::Float(float) => *float,
        _ => 0.0,
    }
}
