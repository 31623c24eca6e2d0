//! Choosing between values. Arguments are computed only as they are needed.

use std::cmp::Ordering;

use super::call::{Call, LazyArgs};
use super::type_test::with_article;
use super::{Category, Function, LazyBody, Param, StrictBody};
use crate::error::{ErrorKind, Fault};
use crate::value::Value;

const SEVERAL: &[&[Param]] = &[
    &[Param::array("values")],
    &[Param::any("a"), Param::any("b").and_more()],
];
const COMPARED: &[&[Param]] = &[&[Param::any("a").and_more()]];

const fn choice(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: LazyBody,
) -> Function {
    Function::lazy(Category::Conditional, name, forms, doc, examples, body)
}

const fn strict(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Conditional, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    choice(
        "coalesce",
        SEVERAL,
        "The first value, or element of one array, that is not undefined; null counts as a value.",
        &[
            ("coalesce(null(), 2, 3)", "2"),
            ("coalesce([null(), 'x'])", "'x'"),
            ("coalesce(null(), NULL, 1)", "NULL"),
        ],
        |args| first(args, |value| !value.is_undefined()),
    ),
    choice(
        "coalesce_ne",
        SEVERAL,
        "As `coalesce`, and skips `''` too.",
        &[("coalesce_ne('', null(), 'x')", "'x'")],
        |args| {
            first(args, |value| {
                !value.is_undefined()
                    && value
                        .as_text()
                        .is_none_or(|text| !text.as_bytes().is_empty())
            })
        },
    ),
    choice(
        "coalesce_var",
        SEVERAL,
        "As `coalesce`, and skips null too.",
        &[("coalesce_var(NULL, 1)", "1")],
        |args| first(args, |value| !value.is_nullish()),
    ),
    strict(
        "null",
        &[&[]],
        "Undefined: no value. The JSON null is `NULL`.",
        &[("typeof(null())", "'undefined'")],
        |_| Ok(Value::Undefined),
    ),
    choice(
        "nanvl",
        &[&[Param::any("x"), Param::any("default")]],
        "x, or the default when x is not a number.",
        &[
            ("nanvl(1.5, 0)", "1.5"),
            ("nanvl('x', 0)", "0"),
            ("nanvl(NULL, 0)", "0"),
        ],
        |args| match args.get(0)? {
            number @ (Value::Int(_) | Value::Float(_)) => Ok(number),
            _ => args.get(1),
        },
    ),
    choice(
        "if",
        &[
            &[Param::any("condition"), Param::any("a")],
            &[Param::any("condition"), Param::any("a"), Param::any("b")],
        ],
        "a when the condition holds, else b, or undefined.",
        &[
            ("if(1 < 2, 'yes', 'no')", "'yes'"),
            ("is_null(if(1 > 2, 'yes'))", "true"),
        ],
        |args| {
            let holds = match args.get(0)? {
                Value::Bool(holds) => holds,
                Value::Undefined | Value::Null => false,
                other => {
                    let message =
                        format!("the condition is {}, not a boolean", with_article(&other));
                    return Err(Fault::new(ErrorKind::NotBoolean, message).with_value(other));
                }
            };
            match (holds, args.len()) {
                (true, _) => args.get(1),
                (false, 3) => args.get(2),
                _ => Ok(Value::Undefined),
            }
        },
    ),
    strict(
        "nullif",
        &[&[Param::any("a"), Param::any("b")]],
        "Undefined when both are equal (`=`), else a.",
        &[
            ("is_null(nullif(1, 1))", "true"),
            ("nullif('a', 'b')", "'a'"),
        ],
        |call| {
            Ok(if call.value(0).equals(call.value(1)) {
                Value::Undefined
            } else {
                call.value(0).clone()
            })
        },
    ),
    strict(
        "greatest",
        COMPARED,
        "The greatest of numbers or of strings; undefined and null do not count.",
        &[
            ("greatest(1, 3.5, NULL)", "3.5"),
            ("greatest('a', 'b')", "'b'"),
        ],
        |call| extreme(call, Ordering::Greater),
    ),
    strict(
        "least",
        COMPARED,
        "The least of numbers or of strings; undefined and null do not count.",
        &[("least(2, 1)", "1"), ("is_null(least(NULL))", "true")],
        |call| extreme(call, Ordering::Less),
    ),
];

fn first(args: &mut dyn LazyArgs, counts: fn(&Value) -> bool) -> Result<Value, Fault> {
    if args.len() == 1 {
        return match args.get(0)? {
            Value::Array(values) => Ok(values
                .iter()
                .find(|value| counts(value))
                .cloned()
                .unwrap_or_default()),
            other => {
                let message = format!("argument 1 must be an array, not {}", with_article(&other));
                Err(Fault::new(ErrorKind::BadArgument, message).with_value(other))
            }
        };
    }
    for index in 0..args.len() {
        let value = args.get(index)?;
        if counts(&value) {
            return Ok(value);
        }
    }
    Ok(Value::Undefined)
}

fn extreme(call: &Call<'_>, better: Ordering) -> Result<Value, Fault> {
    let mut best: Option<&Value> = None;
    for (index, value) in call
        .args
        .iter()
        .enumerate()
        .filter(|(_, value)| !value.is_nullish())
    {
        let is_text = matches!(value, Value::Text(_));
        if !is_text && !matches!(value, Value::Int(_) | Value::Float(_)) {
            return Err(call.wrong(index, "a number or a string"));
        }
        best = match best {
            Some(best) if matches!(best, Value::Text(_)) != is_text => {
                return Err(call.bad(
                    index,
                    "must be of one type with the others: numbers or strings",
                ));
            }
            Some(best) if value.compare(best) != Some(better) => Some(best),
            _ => Some(value),
        };
    }
    Ok(best.cloned().unwrap_or_default())
}
