//! Questions about a value's type: any value goes in, a boolean comes out, and nothing fails.

use super::{Category, Function, Param, StrictBody};
use crate::json;
use crate::value::Value;

const X: &[&[Param]] = &[&[Param::any("x")]];

const fn test(
    name: &'static str,
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::TypeTest, name, X, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    test(
        "is_null",
        "Whether x is undefined. The JSON null is a value: see `is_null_var`.",
        &[("is_null(null())", "true"), ("is_null(NULL)", "false")],
        |call| Ok(Value::Bool(matches!(call.args[0], Value::Undefined))),
    ),
    test(
        "is_not_null",
        "Whether x is anything but undefined.",
        &[
            ("is_not_null(1)", "true"),
            ("is_not_null(NULL)", "true"),
            ("is_not_null(null())", "false"),
        ],
        |call| Ok(Value::Bool(!matches!(call.args[0], Value::Undefined))),
    ),
    test(
        "is_null_var",
        "Whether x is undefined or null, as `x IS NULL`.",
        &[
            ("is_null_var(NULL)", "true"),
            ("is_null_var(null())", "true"),
            ("is_null_var(0)", "false"),
        ],
        |call| Ok(Value::Bool(call.args[0].is_nullish())),
    ),
    test(
        "is_not_null_var",
        "Whether x is neither undefined nor null, as `x IS NOT NULL`.",
        &[
            ("is_not_null_var('')", "true"),
            ("is_not_null_var(NULL)", "false"),
        ],
        |call| Ok(Value::Bool(!call.args[0].is_nullish())),
    ),
    test(
        "is_str",
        "Whether x is a string.",
        &[("is_str('a')", "true"), ("is_str(1)", "false")],
        |call| Ok(Value::Bool(matches!(call.args[0], Value::Text(_)))),
    ),
    test(
        "is_bool",
        "Whether x is a boolean.",
        &[("is_bool(false)", "true"), ("is_bool('true')", "false")],
        |call| Ok(Value::Bool(matches!(call.args[0], Value::Bool(_)))),
    ),
    test(
        "is_int",
        "Whether x is an integer.",
        &[("is_int(1)", "true"), ("is_int(1.0)", "false")],
        |call| Ok(Value::Bool(matches!(call.args[0], Value::Int(_)))),
    ),
    test(
        "is_float",
        "Whether x is a float.",
        &[("is_float(1.0)", "true"), ("is_float(1)", "false")],
        |call| Ok(Value::Bool(matches!(call.args[0], Value::Float(_)))),
    ),
    test(
        "is_num",
        "Whether x is a number.",
        &[("is_num(1.5)", "true"), ("is_num('1.5')", "false")],
        |call| {
            Ok(Value::Bool(matches!(
                call.args[0],
                Value::Int(_) | Value::Float(_)
            )))
        },
    ),
    test(
        "is_map",
        "Whether x is an object.",
        &[("is_map({'a': 1})", "true"), ("is_map('{}')", "false")],
        |call| Ok(Value::Bool(matches!(call.args[0], Value::Object(_)))),
    ),
    test(
        "is_array",
        "Whether x is an array.",
        &[("is_array([])", "true"), ("is_array('[]')", "false")],
        |call| Ok(Value::Bool(matches!(call.args[0], Value::Array(_)))),
    ),
    test(
        "is_empty",
        "Whether x is undefined, null, `''`, `[]`, `{}`, or the JSON text of an empty object.",
        &[
            ("is_empty('')", "true"),
            ("is_empty('{ }')", "true"),
            ("is_empty([0])", "false"),
            ("is_empty(0)", "false"),
        ],
        |call| Ok(Value::Bool(is_empty(&call.args[0]))),
    ),
    test(
        "is_bits",
        "Whether x is a bit sequence, as `subbits(…, 'bits')` makes.",
        &[
            ("is_bits(subbits('a', 1, 3, 'bits'))", "true"),
            ("is_bits('a')", "false"),
        ],
        |call| Ok(Value::Bool(matches!(call.args[0], Value::Bits(_)))),
    ),
    test(
        "is_utf8",
        "Whether x is a string of valid UTF-8.",
        &[
            ("is_utf8('é')", "true"),
            ("is_utf8(hexstr2bin('FF'))", "false"),
            ("is_utf8(1)", "false"),
        ],
        |call| {
            Ok(Value::Bool(
                matches!(&call.args[0], Value::Text(text) if text.as_str().is_some()),
            ))
        },
    ),
    test(
        "is_json",
        "Whether x is a string that holds JSON.",
        &[
            ("is_json('[1]')", "true"),
            ("is_json('[1')", "false"),
            ("is_json([1])", "false"),
        ],
        |call| {
            Ok(Value::Bool(
                matches!(&call.args[0], Value::Text(text) if json::decode(text.as_bytes()).is_ok()),
            ))
        },
    ),
    test(
        "typeof",
        "The name of x's type: `undefined`, `null`, `boolean`, `integer`, `float`, `string`, `bits`, `array` or `object`.",
        &[
            ("typeof(1)", "'integer'"),
            ("typeof(null())", "'undefined'"),
            ("typeof({})", "'object'"),
        ],
        |call| Ok(call.args[0].type_name().into()),
    ),
];

/// The type's name as a sentence needs it.
pub(super) const fn with_article(value: &Value) -> &'static str {
    match value {
        Value::Undefined => "undefined",
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Int(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Text(_) => "a string",
        Value::Bits(_) => "bits",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Undefined | Value::Null => true,
        Value::Text(text) if text.as_bytes().is_empty() => true,
        Value::Text(text) => {
            // Only a text as short as braces and white space can be an empty object.
            text.as_bytes()
                .iter()
                .all(|byte| b"{} \t\r\n".contains(byte))
                && matches!(json::decode(text.as_bytes()), Ok(Value::Object(object)) if object.is_empty())
        }
        Value::Array(values) => values.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}
