//! Bits of integers and of byte strings.

use super::call::Call;
use super::string::size;
use super::{Category, Function, Param, StrictBody};
use crate::error::{ErrorKind, Fault};
use crate::value::{Bits, Text, Value};

const A_B: &[&[Param]] = &[&[Param::int("a"), Param::int("b")]];
const TYPES: &[&str] = &["integer", "float", "bits"];
const SIGNS: &[&str] = &["unsigned", "signed"];
const ENDIANS: &[&str] = &["big", "little"];

const fn bit(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Bits, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    bit(
        "bitand",
        A_B,
        "The bits that both integers have.",
        &[("bitand(12, 10)", "8")],
        |call| Ok(Value::Int(call.int(0)? & call.int(1)?)),
    ),
    bit(
        "bitor",
        A_B,
        "The bits that either integer has.",
        &[("bitor(12, 10)", "14")],
        |call| Ok(Value::Int(call.int(0)? | call.int(1)?)),
    ),
    bit(
        "bitxor",
        A_B,
        "The bits that only one of the integers has.",
        &[("bitxor(12, 10)", "6")],
        |call| Ok(Value::Int(call.int(0)? ^ call.int(1)?)),
    ),
    bit(
        "bitnot",
        &[&[Param::int("a")]],
        "The integer with every bit turned.",
        &[("bitnot(5)", "-6")],
        |call| Ok(Value::Int(!call.int(0)?)),
    ),
    bit(
        "bitsl",
        &[&[Param::int("a"), Param::int("by")]],
        "The integer with its bits moved left; bits lost at the top are an overflow.",
        &[("bitsl(1, 4)", "16"), ("bitsl(16, -4)", "1")],
        |call| shifted(call, call.int(0)?, i128::from(call.int(1)?)),
    ),
    bit(
        "bitsr",
        &[&[Param::int("a"), Param::int("by")]],
        "The integer with its bits moved right, keeping its sign.",
        &[("bitsr(16, 2)", "4"), ("bitsr(-1, 5)", "-1")],
        |call| shifted(call, call.int(0)?, -i128::from(call.int(1)?)),
    ),
    bit(
        "bit_get",
        &[&[Param::int("a"), Param::int("n")]],
        "The n-th bit of an integer, from 0 at the low end: 0 or 1.",
        &[("bit_get(5, 2)", "1"), ("bit_get(5, 1)", "0")],
        |call| match u32::try_from(call.int(1)?) {
            Ok(n @ 0..64) => Ok(Value::Int(call.int(0)? >> n & 1)),
            _ => Err(call.bad(1, "must be from 0 to 63")),
        },
    ),
    bit(
        "bitsize",
        &[&[Param::text("x")]],
        "How many bits a byte string or bit sequence has.",
        &[("bitsize('ab')", "16")],
        |call| Ok(size(source(call)?.1)),
    ),
    bit(
        "bytesize",
        &[&[Param::text("s")]],
        "How many bytes a string has.",
        &[("bytesize('é')", "2")],
        |call| Ok(size(call.bytes(0)?.len())),
    ),
    bit(
        "bytes",
        &[&[Param::text("x"), Param::int("start"), Param::int("length")]],
        "The bytes from a place (1 is the first) on, at most so many.",
        &[
            ("bytes('hello', 2, 3)", "'ell'"),
            ("bytes('hi', 9, 1)", "''"),
        ],
        |call| {
            let (start, length) = (call.size(1)?, call.size(2)?);
            let start = start
                .checked_sub(1)
                .ok_or_else(|| call.bad(1, "must be at least 1"))?;
            Ok(match call.value(0) {
                Value::Text(text) => {
                    let end = text.as_bytes().len();
                    let (from, to) = (start.min(end), start.saturating_add(length).min(end));
                    Value::Text(Text::from_bytes(text.bytes().slice(from..to)))
                }
                _ => Value::Text(
                    call.bytes(0)?
                        .iter()
                        .skip(start)
                        .take(length)
                        .copied()
                        .collect::<Vec<u8>>()
                        .into(),
                ),
            })
        },
    ),
    bit(
        "subbits",
        &[
            &[Param::text("x"), Param::int("length")],
            &[Param::text("x"), Param::int("start"), Param::int("length")],
            &[
                Param::text("x"),
                Param::int("start"),
                Param::int("length"),
                Param::one_of("type", TYPES),
            ],
            &[
                Param::text("x"),
                Param::int("start"),
                Param::int("length"),
                Param::one_of("type", TYPES),
                Param::one_of("sign", SIGNS),
            ],
            &[
                Param::text("x"),
                Param::int("start"),
                Param::int("length"),
                Param::one_of("type", TYPES),
                Param::one_of("sign", SIGNS),
                Param::one_of("endian", ENDIANS),
            ],
        ],
        "So many bits from a place (1 is the first), as an integer, float or bit sequence.",
        &[
            ("subbits('abc', 8)", "97"),
            ("subbits('abc', 9, 16)", "25187"),
            ("subbits(hexstr2bin('FF'), 1, 8, 'integer', 'signed')", "-1"),
            (
                "subbits(hexstr2bin('0100'), 1, 16, 'integer', 'unsigned', 'little')",
                "1",
            ),
            ("subbits(hexstr2bin('3FC00000'), 1, 32, 'float')", "1.5"),
            ("is_null(subbits('a', 9, 1))", "true"),
        ],
        subbits,
    ),
];

/// Left by a positive, right by a negative count.
fn shifted(call: &Call<'_>, int: i64, left: i128) -> Result<Value, Fault> {
    if left <= 0 {
        let right = u32::try_from(-left).unwrap_or(u32::MAX).min(63);
        return Ok(Value::Int(int >> right));
    }
    let overflow = || call.fault(ErrorKind::Overflow, 0, "loses bits at the top");
    if int == 0 {
        return Ok(Value::Int(0));
    }
    let left = u32::try_from(left)
        .ok()
        .filter(|left| *left < 64)
        .ok_or_else(overflow)?;
    let moved = int << left;
    if moved >> left == int {
        Ok(Value::Int(moved))
    } else {
        Err(overflow())
    }
}

/// The bytes of the first argument, and how many bits of them there are.
fn source<'a>(call: &Call<'a>) -> Result<(&'a [u8], usize), Fault> {
    match call.value(0) {
        Value::Bits(bits) => Ok((&bits.bytes, bits.len)),
        _ => call.bytes(0).map(|bytes| (bytes, bytes.len() * 8)),
    }
}

fn subbits(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (bytes, available) = source(call)?;
    let (start, length) = match call.count() {
        2 => (1, call.size(1)?),
        _ => (call.int(1)?, call.size(2)?),
    };
    let choice = |index: usize, choices: &[&str]| -> Result<usize, Fault> {
        if call.count() <= index {
            return Ok(0);
        }
        let text = call.text(index)?;
        choices
            .iter()
            .position(|choice| *choice == text)
            .ok_or_else(|| call.bad(index, "is not one of its options"))
    };
    let (kind, signed, little) = (
        choice(3, TYPES)?,
        choice(4, SIGNS)? == 1,
        choice(5, ENDIANS)? == 1,
    );
    let Some(start) = usize::try_from(start)
        .ok()
        .and_then(|start| start.checked_sub(1))
        .filter(|start| *start < available)
    else {
        return Ok(Value::Undefined);
    };
    let bits = cut(bytes, start, length.min(available - start));
    match kind {
        0 => integer(call, &bits, signed, little),
        1 => float(call, &bits, little),
        _ => Ok(Value::Bits(bits.into())),
    }
}

fn cut(bytes: &[u8], start: usize, length: usize) -> Bits {
    let mut out = vec![0_u8; length.div_ceil(8)];
    for at in 0..length {
        let from = start + at;
        let bit = bytes[from / 8] >> (7 - from % 8) & 1;
        out[at / 8] |= bit << (7 - at % 8);
    }
    Bits {
        bytes: out,
        len: length,
    }
}

/// The number that at most 64 bits spell. Little endian: the first 8 bits are the lowest,
/// a last incomplete group the highest.
fn number(bits: &Bits, little: bool) -> u64 {
    let mut number = 0_u64;
    for (place, byte) in bits.bytes.iter().enumerate() {
        let width = (bits.len - place * 8).min(8);
        let group = u64::from(byte >> (8 - width));
        if little {
            number |= group << (place * 8);
        } else {
            number = number << width | group;
        }
    }
    number
}

fn integer(call: &Call<'_>, bits: &Bits, signed: bool, little: bool) -> Result<Value, Fault> {
    let overflow = || {
        call.fault(
            ErrorKind::Overflow,
            0,
            "has more bits there than an integer",
        )
    };
    if bits.len > 64 {
        return Err(overflow());
    }
    let number = number(bits, little);
    if !signed || bits.len == 0 {
        return i64::try_from(number)
            .map(Value::Int)
            .map_err(|_| overflow());
    }
    let unused = 64 - bits.len;
    Ok(Value::Int(number.cast_signed() << unused >> unused))
}

fn float(call: &Call<'_>, bits: &Bits, little: bool) -> Result<Value, Fault> {
    if !matches!(bits.len, 16 | 32 | 64) {
        return Err(call.bad(0, "must have 16, 32 or 64 bits there to be a float"));
    }
    let number = number(bits, little);
    let float = match bits.len {
        16 => half(number),
        32 => f64::from(f32::from_bits(u32::try_from(number).unwrap_or(0))),
        _ => f64::from_bits(number),
    };
    super::call::float(float)
}

/// An IEEE half-precision float.
fn half(bits: u64) -> f64 {
    let sign = if bits >> 15 & 1 == 1 { -1.0 } else { 1.0 };
    #[expect(clippy::cast_precision_loss, reason = "ten bits fit a double exactly")]
    let fraction = (bits & 0x3ff) as f64 / 1024.0;
    sign * match i32::try_from(bits >> 10 & 0x1f).unwrap_or(0) {
        0 => fraction * 2_f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    }
}
