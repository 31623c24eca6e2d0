//! Arithmetic beyond the operators. Floats that come out infinite or undefined are `not_finite`.

use super::call::{self, Call};
use super::{Category, Function, Param, StrictBody, decimal};
use crate::error::{ErrorKind, Fault};
use crate::value::Value;

const X: &[&[Param]] = &[&[Param::number("x")]];

const fn math(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Math, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    math(
        "abs",
        X,
        "The absolute value, of the same type.",
        &[("abs(-3)", "3"), ("abs(-2.5)", "2.5")],
        |call| match call.value(0) {
            Value::Int(int) => int
                .checked_abs()
                .map(Value::Int)
                .ok_or_else(|| overflow(call)),
            _ => Ok(Value::Float(call.float(0)?.abs())),
        },
    ),
    math(
        "ceil",
        X,
        "The least integer that is not smaller.",
        &[("ceil(1.2)", "2"), ("ceil(-1.2)", "-1")],
        |call| whole(call, f64::ceil),
    ),
    math(
        "ceiling",
        X,
        "Another name of `ceil`.",
        &[("ceiling(1.2)", "2")],
        |call| whole(call, f64::ceil),
    ),
    math(
        "floor",
        X,
        "The greatest integer that is not larger.",
        &[("floor(1.8)", "1"), ("floor(-1.2)", "-2")],
        |call| whole(call, f64::floor),
    ),
    math(
        "round",
        X,
        "The nearest integer; halves go away from zero.",
        &[("round(2.5)", "3"), ("round(-2.5)", "-3")],
        |call| whole(call, f64::round),
    ),
    math(
        "trunc",
        &[
            &[Param::number("x")],
            &[Param::number("x"), Param::int("decimals")],
        ],
        "The number cut to that many decimals (default 0), toward zero; a float stays a float.",
        &[
            ("trunc(2.79, 1)", "2.7"),
            ("trunc(-2.7)", "-2.0"),
            ("trunc(5)", "5"),
        ],
        |call| {
            let decimals = if call.count() > 1 { call.size(1)? } else { 0 };
            match call.value(0) {
                Value::Int(int) => Ok(Value::Int(*int)),
                _ => call::float(decimal::cut(call.float(0)?, decimals)),
            }
        },
    ),
    math(
        "sign",
        X,
        "-1, 0 or 1.",
        &[("sign(-7)", "-1"), ("sign(0.0)", "0"), ("sign(2.5)", "1")],
        |call| {
            Ok(Value::Int(match call.value(0) {
                Value::Int(int) => int.signum(),
                _ => {
                    let x = call.float(0)?;
                    i64::from(x > 0.0) - i64::from(x < 0.0)
                }
            }))
        },
    ),
    math(
        "sin",
        X,
        "The sine of an angle in radians.",
        &[("sin(0)", "0.0")],
        |call| unary(call, f64::sin),
    ),
    math(
        "cos",
        X,
        "The cosine of an angle in radians.",
        &[("cos(0)", "1.0")],
        |call| unary(call, f64::cos),
    ),
    math(
        "tan",
        X,
        "The tangent of an angle in radians.",
        &[("tan(0)", "0.0")],
        |call| unary(call, f64::tan),
    ),
    math(
        "asin",
        X,
        "The angle whose sine is x, for x from -1 to 1.",
        &[("asin(0)", "0.0")],
        |call| unary(call, f64::asin),
    ),
    math(
        "acos",
        X,
        "The angle whose cosine is x, for x from -1 to 1.",
        &[("acos(1)", "0.0")],
        |call| unary(call, f64::acos),
    ),
    math(
        "atan",
        X,
        "The angle whose tangent is x.",
        &[("atan(0)", "0.0")],
        |call| unary(call, f64::atan),
    ),
    math(
        "sinh",
        X,
        "The hyperbolic sine.",
        &[("sinh(0)", "0.0")],
        |call| unary(call, f64::sinh),
    ),
    math(
        "cosh",
        X,
        "The hyperbolic cosine.",
        &[("cosh(0)", "1.0")],
        |call| unary(call, f64::cosh),
    ),
    math(
        "tanh",
        X,
        "The hyperbolic tangent.",
        &[("tanh(0)", "0.0")],
        |call| unary(call, f64::tanh),
    ),
    math(
        "asinh",
        X,
        "The inverse of `sinh`.",
        &[("asinh(0)", "0.0")],
        |call| unary(call, f64::asinh),
    ),
    math(
        "acosh",
        X,
        "The inverse of `cosh`, for x from 1.",
        &[("acosh(1)", "0.0")],
        |call| unary(call, f64::acosh),
    ),
    math(
        "atanh",
        X,
        "The inverse of `tanh`, for x between -1 and 1.",
        &[("atanh(0)", "0.0")],
        |call| unary(call, f64::atanh),
    ),
    math(
        "atan2",
        &[&[Param::number("y"), Param::number("x")]],
        "The angle of the point (x, y).",
        &[("atan2(0, 1)", "0.0"), ("atan2(1, 0) * 2 = pi()", "true")],
        |call| call::float(call.float(0)?.atan2(call.float(1)?)),
    ),
    math(
        "pi",
        &[&[]],
        "The ratio of a circle's circumference to its diameter.",
        &[("round(pi() * 100)", "314")],
        |_| Ok(Value::Float(std::f64::consts::PI)),
    ),
    math(
        "exp",
        X,
        "e to the power of x.",
        &[("exp(0)", "1.0")],
        |call| unary(call, f64::exp),
    ),
    math(
        "sqrt",
        X,
        "The square root of a number that is not negative.",
        &[("sqrt(9)", "3.0")],
        |call| unary(call, f64::sqrt),
    ),
    math(
        "log",
        X,
        "The natural logarithm of a positive number.",
        &[("log(1)", "0.0")],
        |call| unary(call, f64::ln),
    ),
    math(
        "ln",
        X,
        "Another name of `log`.",
        &[("ln(1)", "0.0")],
        |call| unary(call, f64::ln),
    ),
    math(
        "log10",
        X,
        "The logarithm to base 10.",
        &[("log10(1000)", "3.0")],
        |call| unary(call, f64::log10),
    ),
    math(
        "log2",
        X,
        "The logarithm to base 2.",
        &[("log2(8)", "3.0")],
        |call| unary(call, f64::log2),
    ),
    math(
        "power",
        &[&[Param::number("x"), Param::number("y")]],
        "x to the power of y, always a float.",
        &[("power(2, 10)", "1024.0"), ("power(2, -1)", "0.5")],
        |call| call::float(call.float(0)?.powf(call.float(1)?)),
    ),
    math(
        "pow",
        &[&[Param::number("x"), Param::number("y")]],
        "Another name of `power`.",
        &[("pow(2, 3)", "8.0")],
        |call| call::float(call.float(0)?.powf(call.float(1)?)),
    ),
    math(
        "fmod",
        &[&[Param::number("x"), Param::number("y")]],
        "The remainder of x / y as a float, with the sign of x.",
        &[("fmod(7.5, 2)", "1.5"), ("fmod(-7.5, 2)", "-1.5")],
        |call| match call.float(1)? {
            0.0 => {
                call.float(0)?;
                Err(call.fault(ErrorKind::DivZero, 1, "is zero"))
            }
            y => call::float(call.float(0)? % y),
        },
    ),
    math(
        "div",
        &[&[Param::int("a"), Param::int("b")]],
        "The quotient of two integers, toward zero: `a DIV b`.",
        &[("div(7, 2)", "3"), ("div(-7, 2)", "-3")],
        |call| divided(call, i64::checked_div),
    ),
    math(
        "mod",
        &[&[Param::int("a"), Param::int("b")]],
        "The remainder of two integers, with the sign of a: `a MOD b`.",
        &[("mod(7, 2)", "1"), ("mod(-7, 2)", "-1")],
        // The remainder by -1 is 0, of the least integer too.
        |call| divided(call, |a, b| Some(a.wrapping_rem(b))),
    ),
    math(
        "eq",
        &[&[Param::any("a"), Param::any("b")]],
        "Whether two values are strictly equal: `1` and `1.0` are, `1` and `'1'` are not.",
        &[
            ("eq(1, 1.0)", "true"),
            ("eq(1, '1')", "false"),
            ("eq([1], [1])", "true"),
        ],
        |call| Ok(Value::Bool(call.value(0).strict_equals(call.value(1)))),
    ),
    math(
        "random",
        &[&[]],
        "A random float from 0 up to but without 1.",
        &[("random() < 1", "true")],
        |call| Ok(random(call)),
    )
    .impure(),
    math(
        "rand",
        &[&[]],
        "Another name of `random`.",
        &[("rand() >= 0", "true")],
        |call| Ok(random(call)),
    )
    .impure(),
    math(
        "rand_int",
        &[&[Param::int("n")]],
        "A random integer from 1 to n.",
        &[
            ("rand_int(1)", "1"),
            ("rand_int(6) BETWEEN 1 AND 6", "true"),
        ],
        |call| {
            let Ok(n @ 1..) = u64::try_from(call.int(0)?) else {
                return Err(call.bad(0, "must be at least 1"));
            };
            // The high half of the product is evenly spread over 0..n.
            let drawn = (u128::from(call.env.random()) * u128::from(n)) >> 64;
            i64::try_from(drawn + 1)
                .map(Value::Int)
                .map_err(|_| overflow(call))
        },
    )
    .impure(),
];

fn unary(call: &Call<'_>, f: fn(f64) -> f64) -> Result<Value, Fault> {
    call::float(f(call.float(0)?))
}

/// A whole number by rounding; integers are whole already.
fn whole(call: &Call<'_>, f: fn(f64) -> f64) -> Result<Value, Fault> {
    match call.value(0) {
        Value::Int(int) => Ok(Value::Int(*int)),
        _ => to_int(f(call.float(0)?))
            .map(Value::Int)
            .ok_or_else(|| overflow(call)),
    }
}

/// A whole float as an integer, if it is in range.
pub(super) fn to_int(whole: f64) -> Option<i64> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (-TWO_63..TWO_63).contains(&whole).then_some(whole as i64)
}

fn divided(call: &Call<'_>, f: fn(i64, i64) -> Option<i64>) -> Result<Value, Fault> {
    let (a, b) = (call.int(0)?, call.int(1)?);
    if b == 0 {
        return Err(call.fault(ErrorKind::DivZero, 1, "is zero"));
    }
    f(a, b).map(Value::Int).ok_or_else(|| overflow(call))
}

fn overflow(call: &Call<'_>) -> Fault {
    Fault::new(
        ErrorKind::Overflow,
        "the result is outside the 64-bit integers",
    )
    .with_value(call.value(0).clone())
}

fn random(call: &mut Call<'_>) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    let high_bits = (call.env.random() >> 11) as f64;
    Value::Float(high_bits / 9_007_199_254_740_992.0)
}
