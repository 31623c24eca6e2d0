//! Arrays. Positions count from 1; elements are compared strictly.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::call::{self, Call, MAX_ELEMENTS};
use super::string::{joined, length, size};
use super::{Category, Function, Param, StrictBody};
use crate::comparison::strict_key;
use crate::error::{ErrorKind, Fault};
use crate::path::position;
use crate::value::Value;

const A: &[&[Param]] = &[&[Param::array("a")]];
const A_X: &[&[Param]] = &[&[Param::array("a"), Param::any("x")]];
const A_B: &[&[Param]] = &[&[Param::array("a"), Param::array("b")]];

const fn arrays(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Array, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    arrays(
        "nth",
        &[&[Param::int("n"), Param::array("a")]],
        "The element at place n; an error when there is none.",
        &[("nth(2, ['a', 'b'])", "'b'")],
        |call| {
            let (place, values) = (call.int(0)?, call.array(1)?);
            let place = usize::try_from(place)
                .ok()
                .and_then(|place| place.checked_sub(1));
            place
                .and_then(|place| values.get(place))
                .cloned()
                .ok_or_else(|| call.bad(0, "is outside of the array"))
        },
    ),
    arrays(
        "length",
        &[&[Param::array("a")], &[Param::text("s")]],
        "How many elements an array, or characters a text has.",
        &[("length([1, 2])", "2"), ("length('héllo')", "5")],
        |call| match call.value(0) {
            Value::Array(values) => Ok(size(values.len())),
            Value::Text(_) | Value::Bool(_) => Ok(length(call.text(0)?)),
            _ => Err(call.wrong(0, "an array or a string")),
        },
    ),
    arrays(
        "cardinality",
        A,
        "How many elements the array has.",
        &[("cardinality([1, 2])", "2")],
        |call| Ok(size(call.array(0)?.len())),
    ),
    arrays(
        "sublist",
        &[
            &[Param::int("length"), Param::array("a")],
            &[Param::int("start"), Param::int("length"), Param::array("a")],
        ],
        "The first so many elements, or those from a place on.",
        &[
            ("sublist(2, [1, 2, 3])", "[1, 2]"),
            ("sublist(2, 9, [1, 2, 3])", "[2, 3]"),
            ("sublist(5, 1, [1])", "[]"),
        ],
        |call| {
            let last = call.count() - 1;
            let start = if last == 2 { call.size(0)? } else { 1 };
            let (length, values) = (call.size(last - 1)?, call.array(last)?);
            let start = start
                .checked_sub(1)
                .ok_or_else(|| call.bad(0, "must be at least 1"))?;
            Ok(values.iter().skip(start).take(length).cloned().collect())
        },
    ),
    arrays(
        "first",
        A,
        "The first element; an error when the array is empty.",
        &[("first([1, 2])", "1")],
        |call| {
            call.array(0)?
                .first()
                .cloned()
                .ok_or_else(|| call.bad(0, "is empty"))
        },
    ),
    arrays(
        "last",
        A,
        "The last element; an error when the array is empty.",
        &[("last([1, 2])", "2")],
        |call| {
            call.array(0)?
                .last()
                .cloned()
                .ok_or_else(|| call.bad(0, "is empty"))
        },
    ),
    arrays(
        "contains",
        &[&[Param::any("x"), Param::array("a")]],
        "Whether x is an element of the array.",
        &[
            ("contains(2, [1, 2.0])", "true"),
            ("contains('2', [1, 2])", "false"),
        ],
        |call| Ok(Value::Bool(has(call.array(1)?, call.value(0)))),
    ),
    arrays(
        "array_contains",
        A_X,
        "Whether x is an element of the array.",
        &[("array_contains([1, 2], 2)", "true")],
        |call| Ok(Value::Bool(has(call.array(0)?, call.value(1)))),
    ),
    arrays(
        "array_position",
        A_X,
        "The place of the first element that equals x; 0 when there is none.",
        &[
            ("array_position(['a', 'b'], 'b')", "2"),
            ("array_position([], 1)", "0"),
        ],
        |call| {
            let place = call
                .array(0)?
                .iter()
                .position(|value| value.strict_equals(call.value(1)));
            Ok(size(place.map_or(0, |place| place + 1)))
        },
    ),
    arrays(
        "array_append",
        A_X,
        "The array with x behind it.",
        &[("array_append([1], 2)", "[1, 2]")],
        |call| {
            call::array(
                call.array(0)?
                    .iter()
                    .chain([call.value(1)])
                    .cloned()
                    .collect(),
            )
        },
    ),
    arrays(
        "array_concat",
        &[&[Param::array("a"), Param::array("b").and_more()]],
        "The elements of all arrays.",
        &[("array_concat([1], [2, 3], [])", "[1, 2, 3]")],
        |call| {
            let mut all = Vec::new();
            for index in 0..call.count() {
                let values = call.array(index)?;
                if all.len() + values.len() > MAX_ELEMENTS {
                    return Err(call::too_many());
                }
                all.extend_from_slice(values);
            }
            Ok(all.into())
        },
    ),
    arrays(
        "array_distinct",
        A,
        "The array without repeated elements.",
        &[("array_distinct([1, 2, 1.0])", "[1, 2]")],
        |call| distinct(call.array(0)?.iter()),
    ),
    arrays(
        "array_remove",
        A_X,
        "The array without the elements that equal x.",
        &[("array_remove([1, 2, 1], 1)", "[2]")],
        |call| {
            Ok(call
                .array(0)?
                .iter()
                .filter(|value| !value.strict_equals(call.value(1)))
                .cloned()
                .collect())
        },
    ),
    arrays(
        "array_reverse",
        A,
        "The array backwards.",
        &[("array_reverse([1, 2])", "[2, 1]")],
        |call| Ok(call.array(0)?.iter().rev().cloned().collect()),
    ),
    arrays(
        "array_slice",
        &[&[Param::array("a"), Param::int("from"), Param::int("to")]],
        "The elements from one place to another, both included; negative places count from the end.",
        &[
            ("array_slice([1, 2, 3], 2, 3)", "[2, 3]"),
            ("array_slice([1, 2, 3], -2, -1)", "[2, 3]"),
            ("array_slice([1], 3, 2)", "[]"),
        ],
        |call| {
            let values = call.array(0)?;
            let (from, to) = (place(call, 1, values.len())?, place(call, 2, values.len())?);
            let from = from.max(1);
            let count = usize::try_from(to - from + 1).unwrap_or(0);
            Ok(values
                .iter()
                .skip(usize::try_from(from - 1).unwrap_or(usize::MAX))
                .take(count)
                .cloned()
                .collect())
        },
    ),
    arrays(
        "array_flatten",
        A,
        "The array with the elements of its arrays in their place, one level deep.",
        &[("array_flatten([1, [2, [3]]])", "[1, 2, [3]]")],
        |call| {
            let mut flat = Vec::new();
            for value in call.array(0)? {
                let values = value.as_array().unwrap_or(std::slice::from_ref(value));
                if flat.len() + values.len() > MAX_ELEMENTS {
                    return Err(call::too_many());
                }
                flat.extend_from_slice(values);
            }
            Ok(flat.into())
        },
    ),
    arrays(
        "array_sort",
        A,
        "The array in ascending order: all numbers or all strings.",
        &[
            ("array_sort([3, 1.5, 2])", "[1.5, 2, 3]"),
            ("array_sort(['b', 'a'])", "['a', 'b']"),
        ],
        |call| {
            let mut values = call.array(0)?.to_vec();
            let numbers = values
                .iter()
                .all(|value| matches!(value, Value::Int(_) | Value::Float(_)));
            if !numbers && !values.iter().all(|value| matches!(value, Value::Text(_))) {
                return Err(call.bad(0, "must hold numbers only or strings only"));
            }
            values.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
            Ok(values.into())
        },
    ),
    arrays(
        "array_max",
        A,
        "The largest number; undefined and null do not count, and of nothing it is undefined.",
        &[
            ("array_max([1, 3.5, NULL])", "3.5"),
            ("is_null(array_max([]))", "true"),
        ],
        |call| Ok(extreme(&numbers(call)?, Ordering::Greater)),
    ),
    arrays(
        "array_min",
        A,
        "The smallest number, as `array_max`.",
        &[("array_min([2, 1])", "1")],
        |call| Ok(extreme(&numbers(call)?, Ordering::Less)),
    ),
    arrays(
        "array_sum",
        A,
        "The sum of the numbers; 0 of nothing.",
        &[
            ("array_sum([1, 2, NULL])", "3"),
            ("array_sum([1, 0.5])", "1.5"),
            ("array_sum([])", "0"),
        ],
        |call| sum(&numbers(call)?),
    ),
    arrays(
        "array_avg",
        A,
        "The mean of the numbers, a float; undefined of nothing.",
        &[
            ("array_avg([1, 2])", "1.5"),
            ("is_null(array_avg([]))", "true"),
        ],
        |call| {
            let numbers = numbers(call)?;
            if numbers.is_empty() {
                return Ok(Value::Undefined);
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "an array has at most a million elements"
            )]
            call::float(numbers.iter().map(as_float).sum::<f64>() / numbers.len() as f64)
        },
    ),
    arrays(
        "sequence",
        &[
            &[Param::int("from"), Param::int("to")],
            &[Param::int("from"), Param::int("to"), Param::int("step")],
        ],
        "The integers from one to another, both included.",
        &[
            ("sequence(1, 3)", "[1, 2, 3]"),
            ("sequence(5, 1, -2)", "[5, 3, 1]"),
            ("sequence(2, 1)", "[]"),
        ],
        sequence,
    ),
    arrays(
        "array_union",
        A_B,
        "The elements of both arrays, each once.",
        &[("array_union([1, 2], [2, 3])", "[1, 2, 3]")],
        |call| distinct(call.array(0)?.iter().chain(call.array(1)?)),
    ),
    arrays(
        "array_intersect",
        A_B,
        "The elements that both arrays have, each once.",
        &[("array_intersect([1, 2, 2], [2, 3])", "[2]")],
        |call| {
            let other = keys(call.array(1)?);
            distinct(
                call.array(0)?
                    .iter()
                    .filter(|value| other.contains(&strict_key(value))),
            )
        },
    ),
    arrays(
        "array_except",
        A_B,
        "The elements of the first array that the second lacks, each once.",
        &[("array_except([1, 2, 1], [2])", "[1]")],
        |call| {
            let other = keys(call.array(1)?);
            distinct(
                call.array(0)?
                    .iter()
                    .filter(|value| !other.contains(&strict_key(value))),
            )
        },
    ),
    arrays(
        "array_join",
        &[&[Param::array("a"), Param::text("sep")]],
        "The texts of the elements with sep between them.",
        &[("array_join([1, 'a'], '-')", "'1-a'")],
        |call| {
            joined(call.array(0)?, call.bytes(1)?, |value| {
                Ok(value.str_text()?.as_bytes().to_vec())
            })
        },
    ),
    arrays(
        "element_at",
        &[
            &[Param::array("a"), Param::any("i")],
            &[Param::map("m"), Param::any("key")],
        ],
        "The element of an array at a place, or the member of an object of a key; undefined when there is none.",
        &[
            ("element_at(['a', 'b'], -1)", "'b'"),
            ("element_at({'k': 1}, 'k')", "1"),
            ("element_at('{\"k\": 1}', 'k')", "1"),
            ("is_null(element_at([1], 2))", "true"),
        ],
        |call| {
            let object = match call.value(0) {
                Value::Array(values) => {
                    let at = match call.value(1) {
                        Value::Int(at) => position(values.len(), *at),
                        _ => None,
                    };
                    return Ok(at
                        .and_then(|at| values.get(at))
                        .cloned()
                        .unwrap_or_default());
                }
                Value::Object(_) | Value::Text(_) => call.object(0)?,
                _ => return Err(call.wrong(0, "an array, an object or JSON text of one")),
            };
            let key = call.value(1).as_str();
            Ok(key
                .and_then(|key| object.get(key))
                .cloned()
                .unwrap_or_default())
        },
    ),
];

fn has(values: &[Value], x: &Value) -> bool {
    values.iter().any(|value| value.strict_equals(x))
}

fn keys(values: &[Value]) -> HashSet<Vec<u8>> {
    values.iter().map(strict_key).collect()
}

fn distinct<'v>(values: impl Iterator<Item = &'v Value>) -> Result<Value, Fault> {
    let mut seen = HashSet::new();
    let kept: Vec<Value> = values
        .filter(|value| seen.insert(strict_key(value)))
        .cloned()
        .collect();
    call::array(kept)
}

/// A place from 1; negative ones count from the end.
fn place(call: &Call<'_>, index: usize, length: usize) -> Result<i64, Fault> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    Ok(match call.int(index)? {
        from_end if from_end < 0 => length.saturating_add(from_end).saturating_add(1),
        from_start => from_start.min(length.saturating_add(1)),
    })
}

fn numbers(call: &Call<'_>) -> Result<Vec<Value>, Fault> {
    let values = call.array(0)?.iter().filter(|value| !value.is_nullish());
    values
        .map(|value| match value {
            Value::Int(_) | Value::Float(_) => Ok(value.clone()),
            _ => Err(call.bad(0, "must hold numbers only")),
        })
        .collect()
}

fn extreme(numbers: &[Value], better: Ordering) -> Value {
    let best = numbers.iter().reduce(|best, number| {
        if number.compare(best) == Some(better) {
            number
        } else {
            best
        }
    });
    best.cloned().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a float sum is a float")]
fn as_float(number: &Value) -> f64 {
    match number {
        Value::Int(int) => *int as f64,
        Value::Float(float) => *float,
        _ => 0.0,
    }
}

fn sum(numbers: &[Value]) -> Result<Value, Fault> {
    let whole = numbers
        .iter()
        .map(Value::as_int)
        .collect::<Option<Vec<i64>>>();
    match whole {
        Some(ints) => ints
            .into_iter()
            .try_fold(0_i64, i64::checked_add)
            .map(Value::Int)
            .ok_or_else(|| {
                Fault::new(
                    ErrorKind::Overflow,
                    "the sum is outside the 64-bit integers",
                )
            }),
        None => call::float(numbers.iter().map(as_float).sum()),
    }
}

fn sequence(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (from, to) = (call.int(0)?, call.int(1)?);
    let step = if call.count() > 2 { call.int(2)? } else { 1 };
    if step == 0 {
        return Err(call.bad(2, "must not be 0"));
    }
    let distance = if step > 0 {
        i128::from(to) - i128::from(from)
    } else {
        i128::from(from) - i128::from(to)
    };
    let count = if distance < 0 {
        0
    } else {
        distance / i128::from(step).abs() + 1
    };
    match usize::try_from(count) {
        Ok(count) if count <= MAX_ELEMENTS => {
            let values = std::iter::successors(Some(from), |last| last.checked_add(step));
            Ok(values.take(count).map(Value::Int).collect())
        }
        _ => Err(call::too_many()),
    }
}
