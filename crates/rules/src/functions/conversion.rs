//! Values of one type as another.

use super::call::{self, Call};
use super::{Category, Function, Param, StrictBody, decimal, math};
use crate::error::{ErrorKind, Fault};
use crate::value::{Text, Value};

const X: &[&[Param]] = &[&[Param::any("x")]];
const BYTES: &[&[Param]] = &[
    &[Param::text("bytes")],
    &[Param::text("bytes"), Param::text("prefix")],
];

const fn conversion(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Conversion, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    conversion(
        "str",
        X,
        "The text of a value: floats with up to 10 decimals, arrays and objects as JSON.",
        &[
            ("str(7.0)", "'7.0'"),
            ("str([1, 'a'])", "'[1,\"a\"]'"),
            ("str(true)", "'true'"),
            ("str(null())", "'undefined'"),
        ],
        |call| bounded(text_of(call, 0)?),
    ),
    conversion(
        "str_utf8",
        X,
        "As `str`; the text must be valid UTF-8.",
        &[("str_utf8(1)", "'1'"), ("str_utf8('é')", "'é'")],
        |call| bounded(utf8_text_of(call, 0)?),
    ),
    conversion(
        "str_utf16_le",
        X,
        "The text of a value in UTF-16, low bytes first.",
        &[("bin2hexstr(str_utf16_le('h1'))", "'68003100'")],
        |call| {
            let text = utf8_text_of(call, 0)?;
            call::text(
                text.as_str()
                    .unwrap_or_default()
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<u8>>(),
            )
        },
    ),
    conversion(
        "bool",
        X,
        "The boolean that a boolean, 1, 0, `'true'` or `'false'` stands for.",
        &[
            ("bool(1)", "true"),
            ("bool(0.0)", "false"),
            ("bool('true')", "true"),
        ],
        |call| match call.value(0) {
            Value::Bool(value) => Ok(Value::Bool(*value)),
            Value::Int(1) => Ok(Value::Bool(true)),
            Value::Int(0) => Ok(Value::Bool(false)),
            Value::Float(1.0) => Ok(Value::Bool(true)),
            Value::Float(0.0) => Ok(Value::Bool(false)),
            Value::Text(text) if text.as_bytes() == b"true" => Ok(Value::Bool(true)),
            Value::Text(text) if text.as_bytes() == b"false" => Ok(Value::Bool(false)),
            _ => Err(call.wrong(0, "a boolean, 1, 0, 'true' or 'false'")),
        },
    ),
    conversion(
        "int",
        X,
        "The integer of a number (floats are rounded down), a boolean (1 or 0), or a text that spells a number.",
        &[("int(3.7)", "3"), ("int('-3.2')", "-4"), ("int(true)", "1")],
        |call| match number_of(call, true)? {
            Value::Float(float) => math::to_int(float.floor()).map(Value::Int).ok_or_else(|| {
                call.fault(ErrorKind::Overflow, 0, "is outside the 64-bit integers")
            }),
            int => Ok(int),
        },
    ),
    conversion(
        "float",
        &[
            &[Param::any("x")],
            &[Param::any("x"), Param::int("decimals")],
        ],
        "The float of a number or of a text that spells one, rounded to so many decimals (1 to 253).",
        &[
            ("float('20')", "20.0"),
            ("float(3)", "3.0"),
            ("float(1.2345, 2)", "1.23"),
        ],
        |call| {
            let float = match number_of(call, false)? {
                #[expect(clippy::cast_precision_loss, reason = "a float is what is asked for")]
                Value::Int(int) => int as f64,
                Value::Float(float) => float,
                _ => return Err(call.wrong(0, "a number")),
            };
            if call.count() == 1 {
                return Ok(Value::Float(float));
            }
            let decimals = decimals(call, 1)?;
            call::float(decimal::rounded(float, decimals).parse().unwrap_or(float))
        },
    ),
    conversion(
        "float2str",
        &[&[Param::number("x"), Param::int("decimals")]],
        "A number as text with at most so many decimals (0 to 253), correctly rounded, without trailing zeros.",
        &[
            ("float2str(20.2, 1)", "'20.2'"),
            ("float2str(1.45, 1)", "'1.4'"),
            ("float2str(2.5, 0)", "'3'"),
            ("float2str(3, 2)", "'3.0'"),
        ],
        |call| {
            let decimals = decimals(call, 0)?;
            let text = match call.value(0) {
                Value::Int(int) if decimals == 0 => int.to_string(),
                Value::Int(int) => format!("{int}.0"),
                _ => decimal::trimmed(&decimal::rounded(call.float(0)?, decimals)).to_owned(),
            };
            Ok(text.into())
        },
    ),
    conversion(
        "map",
        &[&[Param::map("x")]],
        "An object itself, or the object whose JSON text is given.",
        &[
            ("map('{\"a\": 1}')", "{'a': 1}"),
            ("map({'b': 2})", "{'b': 2}"),
        ],
        |call| call.object(0).map(Value::Object),
    ),
    conversion(
        "bin2hexstr",
        BYTES,
        "Bytes or bits as upper-case hexadecimal digits, with the prefix before them.",
        &[
            ("bin2hexstr('hi')", "'6869'"),
            ("bin2hexstr('hi', '0x')", "'0x6869'"),
            ("bin2hexstr(subbits('z', 1, 3, 'bits'))", "'3'"),
        ],
        |call| {
            let prefix = if call.count() > 1 { call.text(1)? } else { "" };
            hex_digits(call, prefix)
        },
    ),
    conversion(
        "sqlserver_bin2hexstr",
        &[&[Param::text("bytes")]],
        "Bytes or bits as SQL Server writes them: `0x` and hexadecimal digits.",
        &[("sqlserver_bin2hexstr('hi')", "'0x6869'")],
        |call| hex_digits(call, "0x"),
    ),
    conversion(
        "hexstr2bin",
        &[
            &[Param::text("digits")],
            &[Param::text("digits"), Param::text("prefix")],
        ],
        "The bytes that hexadecimal digits spell, after the prefix; an odd number of digits gets a leading 0.",
        &[
            ("hexstr2bin('6869')", "'hi'"),
            ("hexstr2bin('0x6869', '0x')", "'hi'"),
        ],
        |call| {
            let prefix = if call.count() > 1 { call.text(1)? } else { "" };
            let digits = call
                .text(0)?
                .strip_prefix(prefix)
                .ok_or_else(|| call.bad(0, "lacks the prefix"))?;
            hex_bytes(digits)
                .map(|bytes| Value::Text(bytes.into()))
                .ok_or_else(|| call.bad(0, "is not hexadecimal"))
        },
    ),
    conversion(
        "int2hexstr",
        &[&[Param::int("x")]],
        "An integer as upper-case hexadecimal digits without leading zeros.",
        &[
            ("int2hexstr(255)", "'FF'"),
            ("int2hexstr(0)", "'0'"),
            ("int2hexstr(-255)", "'-FF'"),
        ],
        |call| {
            let int = call.int(0)?;
            let sign = if int < 0 { "-" } else { "" };
            Ok(format!("{sign}{:X}", int.unsigned_abs()).into())
        },
    ),
];

/// A text that a function has built, unless it is over the limit.
fn bounded(text: Text) -> Result<Value, Fault> {
    if text.as_bytes().len() > super::MAX_TEXT_BYTES {
        return Err(call::too_large());
    }
    Ok(text.into())
}

/// The text of any value; that of bits, and JSON of what cannot be JSON, is a `bad_argument`.
pub(super) fn text_of(call: &Call<'_>, index: usize) -> Result<Text, Fault> {
    call.value(index)
        .str_text()
        .map_err(|fault| call.bad(index, &format!("has no text: {}", fault.message())))
}

/// As [`text_of`], and it is valid UTF-8.
pub(super) fn utf8_text_of(call: &Call<'_>, index: usize) -> Result<Text, Fault> {
    let text = text_of(call, index)?;
    if text.as_str().is_none() {
        return Err(call.bad(index, "is not valid UTF-8"));
    }
    Ok(text)
}

/// The bytes that hexadecimal digits spell.
pub(super) fn hex_bytes(digits: &str) -> Option<Vec<u8>> {
    let mut nibbles = Vec::with_capacity(digits.len() + 1);
    if digits.len() % 2 == 1 {
        nibbles.push(0);
    }
    for c in digits.chars() {
        nibbles.push(u8::try_from(c.to_digit(16)?).ok()?);
    }
    Some(
        nibbles
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

/// Upper-case hexadecimal digits.
pub(super) fn hex_text(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| {
            [
                digits[usize::from(byte >> 4)],
                digits[usize::from(byte & 15)],
            ]
        })
        .collect()
}

fn hex_digits(call: &Call<'_>, prefix: &str) -> Result<Value, Fault> {
    const UPPER: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = prefix.as_bytes().to_vec();
    match call.value(0) {
        Value::Bits(bits) => {
            // Zero bits on the left make the length a multiple of 4.
            let pad = bits.len.next_multiple_of(4) - bits.len;
            let bit = |at: usize| {
                at.checked_sub(pad)
                    .map_or(0, |at| bits.bytes[at / 8] >> (7 - at % 8) & 1)
            };
            let nibbles = (0..bits.len + pad).step_by(4);
            text.extend(nibbles.map(|at| {
                UPPER[usize::from((at..at + 4).fold(0, |nibble, at| nibble << 1 | bit(at)))]
            }));
        }
        _ => text.extend(hex_text(call.bytes(0)?, UPPER)),
    }
    call::text(text)
}

fn decimals(call: &Call<'_>, least: i64) -> Result<usize, Fault> {
    let decimals = call.int(1)?;
    match usize::try_from(decimals) {
        Ok(count) if decimals >= least && count <= 253 => Ok(count),
        _ => Err(call.bad(1, &format!("must be from {least} to 253"))),
    }
}

fn number_of(call: &Call<'_>, booleans: bool) -> Result<Value, Fault> {
    match call.value(0) {
        number @ (Value::Int(_) | Value::Float(_)) => Ok(number.clone()),
        Value::Bool(value) if booleans => Ok(Value::Int(i64::from(*value))),
        Value::Text(text) => text
            .number()
            .ok_or_else(|| call.bad(0, "is not the text of a number")),
        _ => Err(call.wrong(0, "a number or the text of one")),
    }
}
