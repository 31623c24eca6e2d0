//! Values as text and text as numbers (rule-SQL §5.3, §5.4).

use crate::error::{ErrorKind, Fault};
use crate::functions::decimal;
use crate::json;
use crate::value::{Text, Value};

impl Text {
    /// The number that the entire text spells, if it is one: an integer without fraction and exponent, else a float.
    pub fn number(&self) -> Option<Value> {
        number(self.as_bytes())
    }
}

/// Reads `[+-]?digits[.digits][(e|E)[+-]?digits]`; anything more, white space included, is not a number.
pub fn number(text: &[u8]) -> Option<Value> {
    let unsigned = text
        .strip_prefix(b"-")
        .or_else(|| text.strip_prefix(b"+"))
        .unwrap_or(text);
    let (rest, mut whole) = (digits(unsigned)?, true);
    let rest = match rest.split_first() {
        Some((b'.', fraction)) => {
            whole = false;
            digits(fraction)?
        }
        _ => rest,
    };
    let rest = match rest.split_first() {
        Some((b'e' | b'E', exponent)) => {
            whole = false;
            digits(
                exponent
                    .strip_prefix(b"-")
                    .or_else(|| exponent.strip_prefix(b"+"))
                    .unwrap_or(exponent),
            )?
        }
        _ => rest,
    };
    if !rest.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    if whole && let Ok(int) = text.parse() {
        return Some(Value::Int(int));
    }
    text.parse().ok().and_then(Value::finite)
}

/// What follows one or more digits.
fn digits(text: &[u8]) -> Option<&[u8]> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end).1)
}

impl Value {
    /// The text of a value: what `str`, `||` and text templates give.
    ///
    /// # Errors
    /// Bits have no text; an array or object that holds text which is not UTF-8 has none either.
    pub fn str_text(&self) -> Result<Text, Fault> {
        Ok(match self {
            Self::Undefined => Text::from_static("undefined"),
            Self::Null => Text::from_static("null"),
            Self::Bool(true) => Text::from_static("true"),
            Self::Bool(false) => Text::from_static("false"),
            Self::Int(int) => int.to_string().into(),
            Self::Float(float) => float_text(*float).into(),
            Self::Text(text) => text.clone(),
            Self::Bits(_) => {
                return Err(
                    Fault::new(ErrorKind::Type, "bits have no text").with_value(self.clone())
                );
            }
            Self::Array(_) | Self::Object(_) => {
                let mut text = Vec::new();
                json::encode(self, &mut text)?;
                text.into()
            }
        })
    }
}

/// Up to ten decimals, at least one, never an exponent; the exact value is rounded, and ties go away from zero.
pub fn float_text(float: f64) -> String {
    let mut text = decimal::rounded(float, 10);
    let kept = text.trim_end_matches('0').len();
    text.truncate(kept);
    if text.ends_with('.') {
        text.push('0');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Value> {
        number(text.as_bytes())
    }

    #[test]
    fn whole_numbers_are_integers_and_others_floats() {
        assert!(matches!(read("-42"), Some(Value::Int(-42))));
        assert!(matches!(read("+7"), Some(Value::Int(7))));
        assert!(matches!(read("12e1"), Some(Value::Float(f)) if f == 120.0));
        assert!(matches!(read("1.50"), Some(Value::Float(f)) if f == 1.5));
        assert!(
            matches!(read("9223372036854775808"), Some(Value::Float(f)) if f == 9_223_372_036_854_775_808.0)
        );
    }

    #[test]
    fn anything_but_one_entire_number_is_not_a_number() {
        for text in [
            "", "+", " 1", "1 ", "1.", ".5", "1e", "0x1F", "1_000", "nan", "inf", "1e999", "--1",
            "1.5.2",
        ] {
            assert!(read(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn floats_show_up_to_ten_decimals_and_at_least_one() {
        for (float, text) in [
            (2.5, "2.5"),
            (7.0, "7.0"),
            (1e22, "10000000000000000000000.0"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.3333333333"),
            (-1e-11, "-0.0"),
            // 2 to the -11: the eleventh decimal is its last, and 5.
            (0.000_488_281_25, "0.0004882813"),
            (-0.000_488_281_25, "-0.0004882813"),
        ] {
            assert_eq!(float_text(float), text);
        }
    }

    #[test]
    fn every_type_but_bits_has_a_text() {
        let text = |value: Value| {
            String::from_utf8(value.str_text().unwrap().as_bytes().to_vec()).unwrap()
        };
        assert_eq!(text(Value::Undefined), "undefined");
        assert_eq!(text(Value::Null), "null");
        assert_eq!(text(false.into()), "false");
        assert_eq!(text(i64::MIN.into()), "-9223372036854775808");
        assert_eq!(
            text(vec![1.into(), "a\"b".into(), Value::Undefined].into()),
            r#"[1,"a\"b",null]"#
        );
    }
}
