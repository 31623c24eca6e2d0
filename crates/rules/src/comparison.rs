//! Equality and order (rule-SQL §5.1): one equality for `=`, `IN`, simple `CASE`; comparisons never fail.

use std::cmp::Ordering;

use crate::value::{Object, Value};

/// A comparison operator of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the operators'")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Up to here floats hold every integer.
const EXACT: u64 = 1 << 53;

/// How two values relate.
enum Relation {
    /// Both have a place in one order.
    Ordered(Ordering),
    /// Equal or not, without an order: arrays and objects.
    Same(bool),
    /// Every operator is false: undefined against something.
    None,
}

impl Comparison {
    /// Whether `left OP right` holds.
    pub fn holds(self, left: &Value, right: &Value) -> bool {
        match (left, right) {
            (Value::Int(a), Value::Int(b)) => self.accepts(a.cmp(b)),
            (Value::Float(a), Value::Int(b)) if b.unsigned_abs() <= EXACT => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "floats hold such integers exactly"
                )]
                let b = *b as f64;
                a.partial_cmp(&b).is_some_and(|order| self.accepts(order))
            }
            _ => match relation(left, right, Members::Coerced) {
                Relation::Ordered(order) => self.accepts(order),
                Relation::Same(same) => match self {
                    Self::Equal => same,
                    Self::NotEqual => !same,
                    _ => false,
                },
                Relation::None => false,
            },
        }
    }

    /// Whether two values in this order satisfy the operator.
    pub(crate) const fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    /// The operator with its sides changed over.
    pub(crate) const fn turned(self) -> Self {
        match self {
            Self::Equal => Self::Equal,
            Self::NotEqual => Self::NotEqual,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    /// As it is written.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Value {
    /// The equality written `=`.
    pub fn equals(&self, other: &Self) -> bool {
        Comparison::Equal.holds(self, other)
    }

    /// The equality of members, `contains` and store keys: `1` and `'1'` differ, `1` and `1.0` do not.
    pub fn strict_equals(&self, other: &Self) -> bool {
        match relation(self, other, Members::Strict) {
            Relation::Ordered(order) => order.is_eq(),
            Relation::Same(same) => same,
            Relation::None => false,
        }
    }

    /// The order of two numbers, two strings or two booleans (a number may be in a string); `None` for other pairs.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match relation(self, other, Members::Coerced) {
            Relation::Ordered(order) => Some(order),
            Relation::Same(_) | Relation::None => None,
        }
    }
}

/// Whether rules 5 and 6 (a string against a number or a boolean) apply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    Coerced,
    Strict,
}

fn relation(left: &Value, right: &Value, members: Members) -> Relation {
    use Value as V;
    match (left, right) {
        (V::Int(a), V::Int(b)) => Relation::Ordered(a.cmp(b)),
        (V::Float(a), V::Float(b)) => ordered(a.partial_cmp(b)),
        (V::Int(a), V::Float(b)) => Relation::Ordered(int_with_float(*a, *b)),
        (V::Float(a), V::Int(b)) => Relation::Ordered(int_with_float(*b, *a).reverse()),
        (V::Text(a), V::Text(b)) => Relation::Ordered(a.as_bytes().cmp(b.as_bytes())),
        (V::Bool(a), V::Bool(b)) => Relation::Ordered(a.cmp(b)),
        (V::Undefined, V::Undefined) | (V::Null, V::Null) => Relation::Ordered(Ordering::Equal),
        (V::Undefined, _) | (_, V::Undefined) => Relation::None,
        (V::Text(text), V::Int(_) | V::Float(_)) if members == Members::Coerced => {
            match text.number() {
                Some(number) => relation(&number, right, members),
                None => Relation::Same(false),
            }
        }
        (V::Int(_) | V::Float(_), V::Text(text)) if members == Members::Coerced => {
            match text.number() {
                Some(number) => relation(left, &number, members),
                None => Relation::Same(false),
            }
        }
        (V::Bool(a), V::Text(b)) if members == Members::Coerced => {
            Relation::Ordered(bool_text(*a).cmp(b.as_bytes()))
        }
        (V::Text(a), V::Bool(b)) if members == Members::Coerced => {
            Relation::Ordered(a.as_bytes().cmp(bool_text(*b)))
        }
        (V::Array(a), V::Array(b)) => Relation::Same(
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| x.strict_equals(y)),
        ),
        (V::Object(a), V::Object(b)) => Relation::Same(objects_equal(a, b)),
        (V::Bits(a), V::Bits(b)) => Relation::Same(a == b),
        _ => Relation::Same(false),
    }
}

fn ordered(order: Option<Ordering>) -> Relation {
    order.map_or(Relation::Same(false), Relation::Ordered)
}

const fn bool_text(value: bool) -> &'static [u8] {
    if value { b"true" } else { b"false" }
}

/// A member that is undefined counts as absent.
fn objects_equal(left: &Object, right: &Object) -> bool {
    let defined = |object: &Object| {
        object
            .values()
            .filter(|value| !value.is_undefined())
            .count()
    };
    defined(left) == defined(right)
        && left
            .iter()
            .filter(|(_, value)| !value.is_undefined())
            .all(|(key, value)| {
                right
                    .get(key)
                    .is_some_and(|other| value.strict_equals(other))
            })
}

/// Exact: neither side is rounded to the other's type.
fn int_with_float(int: i64, float: f64) -> Ordering {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if float >= TWO_63 {
        return Ordering::Less;
    }
    if float < -TWO_63 {
        return Ordering::Greater;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the whole part was just checked to be in range"
    )]
    let whole = float.trunc() as i64;
    int.cmp(&whole).then_with(|| {
        0.0_f64
            .partial_cmp(&float.fract())
            .unwrap_or(Ordering::Equal)
    })
}

/// Bytes that are equal exactly for values that are strictly equal (rule-SQL §5.1): `1` and `1.0` give the same, `1` and
/// `'1'` do not, and the order of an object's keys does not matter.
pub fn strict_key(value: &Value) -> Vec<u8> {
    let mut key = Vec::new();
    write_key(value, &mut key);
    key
}

fn write_key(value: &Value, out: &mut Vec<u8>) {
    let sized = |tag: u8, bytes: &[u8], out: &mut Vec<u8>| {
        out.push(tag);
        out.extend_from_slice(&bytes.len().to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Undefined => out.push(b'u'),
        Value::Null => out.push(b'n'),
        Value::Bool(value) => out.push(if *value { b't' } else { b'f' }),
        Value::Int(int) => sized(b'i', &int.to_le_bytes(), out),
        Value::Float(float) => match whole(*float) {
            Some(int) => sized(b'i', &int.to_le_bytes(), out),
            None => sized(b'd', &float.to_bits().to_le_bytes(), out),
        },
        Value::Text(text) => sized(b's', text.as_bytes(), out),
        Value::Bits(bits) => {
            out.extend_from_slice(&bits.len.to_le_bytes());
            sized(b'b', &bits.bytes, out);
        }
        Value::Array(values) => {
            out.push(b'[');
            values.iter().for_each(|value| write_key(value, out));
            out.push(b']');
        }
        Value::Object(object) => {
            // A member that is undefined counts as absent.
            let mut members: Vec<_> = object
                .iter()
                .filter(|(_, value)| !value.is_undefined())
                .collect();
            members.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
            out.push(b'{');
            for (key, value) in members {
                sized(b'k', key.as_bytes(), out);
                write_key(value, out);
            }
            out.push(b'}');
        }
    }
}

/// The integer that a float is, where it is one of 64 bits.
fn whole(float: f64) -> Option<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (float.fract() == 0.0 && (-END..END).contains(&float)).then_some(float as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATORS: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];

    /// The operators that hold, by their symbols.
    fn holding(left: impl Into<Value>, right: impl Into<Value>) -> Vec<&'static str> {
        let (left, right) = (left.into(), right.into());
        OPERATORS
            .iter()
            .filter(|operator| operator.holds(&left, &right))
            .map(|operator| operator.symbol())
            .collect()
    }

    #[test]
    fn undefined_equals_only_itself_and_differs_from_nothing() {
        assert_eq!(
            holding(Value::Undefined, Value::Undefined),
            ["=", "<=", ">="]
        );
        assert!(holding(Value::Undefined, Value::Null).is_empty());
        assert!(holding(1, Value::Undefined).is_empty());
        assert!(holding(Value::Undefined, "undefined").is_empty());
    }

    #[test]
    fn null_equals_itself_and_differs_from_every_other_defined_value() {
        assert_eq!(holding(Value::Null, Value::Null), ["=", "<=", ">="]);
        assert_eq!(holding(Value::Null, "null"), ["<>"]);
        assert_eq!(holding(0, Value::Null), ["<>"]);
    }

    #[test]
    fn numbers_compare_by_exact_value() {
        assert_eq!(holding(1, 1.0), ["=", "<=", ">="]);
        assert_eq!(
            holding(9_007_199_254_740_993, 9_007_199_254_740_992.0),
            ["<>", ">", ">="]
        );
        assert_eq!(
            holding(i64::MAX, 9_223_372_036_854_775_808.0),
            ["<>", "<", "<="]
        );
        assert_eq!(
            holding(i64::MIN, -9_223_372_036_854_775_808.0),
            ["=", "<=", ">="]
        );
        assert_eq!(holding(-1, -1.5), ["<>", ">", ">="]);
        assert_eq!(holding(0, -0.5), ["<>", ">", ">="]);
        assert_eq!(holding(31.5, 30), ["<>", ">", ">="]);
        assert_eq!(holding(-0.0, 0), ["=", "<=", ">="]);
        let exact = 1_i64 << 53;
        assert_eq!(holding(9_007_199_254_740_992.0, exact), ["=", "<=", ">="]);
        assert_eq!(
            holding(9_007_199_254_740_992.0, exact + 1),
            ["<>", "<", "<="]
        );
    }

    #[test]
    fn a_number_in_a_string_compares_as_that_number() {
        assert_eq!(holding(30, "30.0"), ["=", "<=", ">="]);
        assert_eq!(holding("5", 30), ["<>", "<", "<="]);
        assert_eq!(holding(30, "warm"), ["<>"]);
        assert_eq!(holding(30, " 30"), ["<>"]);
    }

    #[test]
    fn a_boolean_compares_with_strings_as_its_text() {
        assert_eq!(holding(true, "true"), ["=", "<=", ">="]);
        assert_eq!(holding(false, "true"), ["<>", "<", "<="]);
        assert_eq!(holding(false, true), ["<>", "<", "<="]);
        assert_eq!(holding(true, 1), ["<>"]);
    }

    #[test]
    fn containers_are_equal_deeply_and_strictly_but_have_no_order() {
        let numbers = |last: Value| Value::from(vec![1.into(), last]);
        assert_eq!(holding(numbers(2.0.into()), numbers(2.into())), ["="]);
        assert_eq!(holding(numbers("2".into()), numbers(2.into())), ["<>"]);
        let ab: Value = [("a", Value::from(1)), ("b", Value::from(2))]
            .into_iter()
            .collect();
        let ba: Value = [
            ("b", Value::from(2)),
            ("a", Value::from(1)),
            ("c", Value::Undefined),
        ]
        .into_iter()
        .collect();
        assert_eq!(holding(ab.clone(), ba), ["="]);
        assert_eq!(holding(ab, numbers(1.into())), ["<>"]);
    }

    #[test]
    fn strict_equality_tells_a_number_from_its_text() {
        assert!(!Value::from(1).strict_equals(&"1".into()));
        assert!(Value::from(1).strict_equals(&1.0.into()));
        assert!(!Value::from(true).strict_equals(&"true".into()));
        assert!(Value::Undefined.strict_equals(&Value::Undefined));
    }

    #[test]
    fn strict_keys_are_equal_where_values_are() {
        let values = [
            "0",
            "-0.0",
            "1",
            "1.0",
            "9007199254740993",
            "9007199254740992.0",
            "1e18",
            "1000000000000000000",
            "1.5",
            "\"1\"",
            "true",
            "null",
            "[]",
            "[1]",
            "[1.0]",
            "[[1],2]",
            "[[1,2]]",
            "{}",
            "{\"a\":1,\"b\":[2]}",
            "{\"b\":[2.0],\"a\":1}",
            "{\"a\":1}",
            "\"\"",
            "[null]",
            "9.3e18",
        ];
        let values: Vec<Value> = values
            .iter()
            .map(|text| crate::json::decode(text.as_bytes()).unwrap())
            .chain([Value::Undefined])
            .chain([[("a", Value::from(1)), ("c", Value::Undefined)]
                .into_iter()
                .collect()])
            .collect();
        for a in &values {
            for b in &values {
                assert_eq!(
                    strict_key(a) == strict_key(b),
                    a.strict_equals(b),
                    "{a:?} {b:?}"
                );
            }
        }
    }
}
