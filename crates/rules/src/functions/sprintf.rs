//! `sprintf`: Erlang's `~F.P.PadC` directives, those that make sense for these values.

use std::ops::Range;

use super::call::{Builder, Call};
use super::string::{clusters, clusters_of, string};
use super::{Function, Param, decimal};
use crate::error::{ErrorKind, Fault};
use crate::json;
use crate::value::{Text, Value};

/// Widths and precisions beyond this are mistakes, or attacks.
const MAX_DIGITS: usize = 10_000;
const MAX_WIDTH: usize = super::MAX_TEXT_BYTES;

pub(super) const FUNCTIONS: &[Function] = &[
    string(
        "sprintf",
        &[
            &[Param::text("format")],
            &[Param::text("format"), Param::any("value").and_more()],
        ],
        "Values in a format: `~s` text, `~b` integer, `~f` `~e` `~g` float, `~p` JSON, `~c` character, `~n` newline, `~~` tilde; \
         `~F.P.PadX` sets width, precision and padding.",
        &[
            ("sprintf('~s is ~b', 'x', 7)", "'x is 7'"),
            ("sprintf('~2..0b:~.2f', 5, 1.005)", "'05:1.00'"),
            ("sprintf('~p ~.16B ~~', [1], 255)", "'[1] FF ~'"),
        ],
        |call| formatted(call.text(0)?, &call.args[1..]),
    ),
    string(
        "sprintf_s",
        &[&[Param::text("format"), Param::array("values")]],
        "As `sprintf`, with the values in an array.",
        &[("sprintf_s('~s-~s', ['a', 1 = 1])", "'a-true'")],
        |call: &mut Call<'_>| formatted(call.text(0)?, call.array(1)?),
    ),
];

/// What stands between the tilde and the letter.
#[derive(Default)]
struct Directive {
    width: Option<usize>,
    left_aligned: bool,
    precision: Option<usize>,
    pad: Option<char>,
}

/// One directive of a format.
struct Found {
    directive: Directive,
    letter: char,
    /// Its bytes in the format, from the tilde.
    at: Range<usize>,
}

impl Found {
    /// Whether it takes a value.
    const fn takes_value(&self) -> bool {
        !matches!(self.letter, '~' | 'n')
    }
}

/// The next directive at or behind `from`.
fn next_directive(format: &str, from: usize) -> Option<Result<Found, (Range<usize>, Fault)>> {
    let start = from + format.get(from..)?.find('~')?;
    let mut rest = format.get(start + 1..)?;
    let at = |rest: &str| start..format.len() - rest.len();
    let directive = match Directive::read(&mut rest) {
        Ok(directive) => directive,
        Err(fault) => return Some(Err((at(rest), fault))),
    };
    let Some(letter) = rest.chars().next() else {
        return Some(Err((
            start..format.len(),
            bad("the format ends inside a directive"),
        )));
    };
    rest = rest.strip_prefix(letter).unwrap_or_default();
    let letter = match letter {
        't' if rest.starts_with('s') => {
            rest = rest.get(1..).unwrap_or_default();
            's'
        }
        '~' | 'n' | 's' | 'p' | 'w' | 'b' | 'B' | 'f' | 'e' | 'g' | 'c' => letter,
        _ => {
            let fault = bad(format!("`~{letter}` is not a directive of sprintf"));
            return Some(Err((at(rest), fault)));
        }
    };
    Some(Ok(Found {
        directive,
        letter,
        at: at(rest),
    }))
}

fn formatted(format: &str, values: &[Value]) -> Result<Value, Fault> {
    let mut out = Builder::default();
    let mut values = values.iter();
    let mut from = 0;
    while let Some(found) = next_directive(format, from) {
        let found = found.map_err(|(_, fault)| fault)?;
        out.push(format.get(from..found.at.start).unwrap_or_default())?;
        from = found.at.end;
        let directive = &found.directive;
        let mut next = || {
            values
                .next()
                .ok_or_else(|| bad("there are fewer values than directives"))
        };
        match found.letter {
            '~' => out.push("~")?,
            'n' => out.push_times("\n", directive.width.unwrap_or(1))?,
            's' => directive.text(&mut out, next()?)?,
            'p' | 'w' => directive.json(&mut out, next()?)?,
            'b' | 'B' => directive.integer(&mut out, next()?, found.letter == 'B')?,
            'c' => directive.character(&mut out, next()?)?,
            letter => directive.float(&mut out, next()?, letter)?,
        }
    }
    out.push(format.get(from..).unwrap_or_default())?;
    match values.next() {
        None => Ok(out.finish()),
        Some(_) => Err(bad("there are more values than directives")),
    }
}

/// What is wrong with a call whose format is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where it is.
    pub(crate) at: Culprit,
    pub(crate) message: String,
    /// What to do about it; may be empty.
    pub(crate) label: String,
}

/// What of the call is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Culprit {
    /// These bytes of the format.
    Format(Range<usize>),
    /// The value at this index.
    Value(usize),
}

/// What will always fail of a format with these values: `None` where a value is not known yet. Without a list, how many
/// there will be is not known either.
pub(crate) fn mistakes(format: &str, values: Option<&[Option<Value>]>) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut say = |at, message: String, label: &str| {
        let label = label.to_owned();
        found.push(Mistake { at, message, label });
    };
    let (mut from, mut taken) = (0, 0);
    while let Some(next) = next_directive(format, from) {
        let next = match next {
            Ok(next) => next,
            Err((at, fault)) => {
                let label = match format.get(at.clone()) {
                    Some("~d" | "~i") => "an integer is written `~b`",
                    Some("~x") => "hexadecimal is written `~.16b`",
                    Some("~X") => "hexadecimal is written `~.16B`",
                    Some("~") => "a tilde is written `~~`",
                    _ => "",
                };
                say(Culprit::Format(at), fault.message().to_owned(), label);
                return found;
            }
        };
        from = next.at.end;
        if let Err(fault) = next.directive.check(next.letter) {
            let at = Culprit::Format(next.at.clone());
            say(at, fault.message().to_owned(), "");
        }
        if !next.takes_value() {
            continue;
        }
        if let Some(values) = values {
            match values.get(taken) {
                Some(Some(value)) => {
                    if let Err(fault) = fits(next.letter, value) {
                        say(Culprit::Value(taken), fault.message().to_owned(), "");
                    }
                }
                Some(None) => {}
                None => {
                    let directive = format.get(next.at.clone()).unwrap_or_default();
                    let message = format!("there is no value for `{directive}`");
                    say(Culprit::Format(next.at), message, "");
                }
            }
        }
        taken += 1;
    }
    if values.is_some_and(|values| values.len() > taken) {
        let like_c = taken == 0 && format.contains('%');
        let label = if like_c {
            "directives start with `~`: `~s`, `~b`, `~.2f`"
        } else {
            ""
        };
        let message = "there is no directive for this value".to_owned();
        say(Culprit::Value(taken), message, label);
    }
    found
}

/// Whether a directive takes such a value.
fn fits(letter: char, value: &Value) -> Result<(), Fault> {
    match letter {
        's' => shown_text(value).map(drop),
        'b' | 'B' => integer_of(value).map(drop),
        'f' | 'e' | 'g' => float_of(value, letter).map(drop),
        'c' => character_of(value).map(drop),
        _ => Ok(()),
    }
}

fn shown_text(value: &Value) -> Result<Text, Fault> {
    match value {
        Value::Text(_) | Value::Bool(_) | Value::Null | Value::Undefined => value.str_text(),
        other => Err(
            bad(format!("`~s` takes a string, not {}", other.article_name()))
                .with_value(other.clone()),
        ),
    }
}

fn integer_of(value: &Value) -> Result<i64, Fault> {
    match value {
        Value::Int(int) => Ok(*int),
        _ => Err(bad("`~b` takes an integer").with_value(value.clone())),
    }
}

fn float_of(value: &Value, letter: char) -> Result<f64, Fault> {
    match value {
        Value::Float(float) => Ok(*float),
        _ => Err(bad(format!("`~{letter}` takes a float")).with_value(value.clone())),
    }
}

fn character_of(value: &Value) -> Result<char, Fault> {
    value
        .as_int()
        .and_then(|code| u32::try_from(code).ok())
        .and_then(char::from_u32)
        .ok_or_else(|| bad("`~c` takes a code point").with_value(value.clone()))
}

impl Directive {
    /// Reads `F.P.Pad`, each part optional.
    fn read(rest: &mut &str) -> Result<Self, Fault> {
        let mut directive = Self::default();
        if let Some(after) = rest.strip_prefix('-') {
            directive.left_aligned = true;
            *rest = after;
        }
        directive.width = digits(rest)?;
        if let Some(after) = rest.strip_prefix('.') {
            *rest = after;
            directive.precision = digits(rest)?;
            if let Some(after) = rest.strip_prefix('.') {
                let pad = after
                    .chars()
                    .next()
                    .ok_or_else(|| bad("the format ends inside a directive"))?;
                directive.pad = Some(pad);
                *rest = &after[pad.len_utf8()..];
            }
        }
        Ok(directive)
    }

    /// Whether it can be carried out at all, whatever the value.
    fn check(&self, letter: char) -> Result<(), Fault> {
        match letter {
            'b' | 'B' => self.base().map(drop),
            'f' | 'e' | 'g' => self.digits().map(drop),
            _ => Ok(()),
        }
    }

    fn text(&self, out: &mut Builder, value: &Value) -> Result<(), Fault> {
        let text = shown_text(value)?;
        let text = text
            .as_str()
            .ok_or_else(|| bad("`~s` takes valid UTF-8").with_value(value.clone()))?;
        self.put_cut(out, text)
    }

    fn json(&self, out: &mut Builder, value: &Value) -> Result<(), Fault> {
        self.put_cut(out, &json::to_text(value)?)
    }

    /// A longer text is cut, first to the precision, then to the width.
    fn put_cut(&self, out: &mut Builder, text: &str) -> Result<(), Fault> {
        let text = self
            .precision
            .map_or(text, |longest| clusters_of(text, 0, longest));
        let text = self.width.map_or(text, |width| clusters_of(text, 0, width));
        self.put(out, text)
    }

    fn base(&self) -> Result<u64, Fault> {
        u64::try_from(self.precision.unwrap_or(10))
            .ok()
            .filter(|base| (2..=36).contains(base))
            .ok_or_else(|| bad("the base of `~b` must be from 2 to 36"))
    }

    fn integer(&self, out: &mut Builder, value: &Value, upper: bool) -> Result<(), Fault> {
        let int = integer_of(value)?;
        self.put_number(out, &in_base(int, self.base()?, upper))
    }

    fn digits(&self) -> Result<usize, Fault> {
        match self.precision.unwrap_or(6) {
            precision if precision > MAX_DIGITS => Err(Fault::new(
                ErrorKind::Limit,
                "a number has at most 10000 digits",
            )),
            precision => Ok(precision),
        }
    }

    fn float(&self, out: &mut Builder, value: &Value, letter: char) -> Result<(), Fault> {
        let float = float_of(value, letter)?;
        let precision = self.digits()?;
        let text = match letter {
            'f' => decimal::rounded(float, precision),
            'e' => exponential(float, precision),
            _ if (0.1..10_000.0).contains(&float.abs()) => plain(float, precision),
            _ => exponential(float, precision),
        };
        self.put_number(out, &text)
    }

    fn character(&self, out: &mut Builder, value: &Value) -> Result<(), Fault> {
        let character = character_of(value)?;
        out.push_times(character.encode_utf8(&mut [0; 4]), self.width.unwrap_or(1))
    }

    /// A number that is wider than the width becomes asterisks.
    fn put_number(&self, out: &mut Builder, text: &str) -> Result<(), Fault> {
        match self.width {
            Some(width) if text.len() > width => out.push_times("*", width),
            _ => self.put(out, text),
        }
    }

    fn put(&self, out: &mut Builder, text: &str) -> Result<(), Fault> {
        let missing = self
            .width
            .map_or(0, |width| width.saturating_sub(clusters(text)));
        let pad = self.pad.unwrap_or(' ').to_string();
        if !self.left_aligned {
            out.push_times(&pad, missing)?;
        }
        out.push(text)?;
        if self.left_aligned {
            out.push_times(&pad, missing)
        } else {
            Ok(())
        }
    }
}

fn digits(rest: &mut &str) -> Result<Option<usize>, Fault> {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, after) = rest.split_at(end);
    *rest = after;
    if number.is_empty() {
        return Ok(None);
    }
    number
        .parse()
        .ok()
        .filter(|number| *number <= MAX_WIDTH)
        .map(Some)
        .ok_or_else(|| Fault::new(ErrorKind::Limit, "a width or precision is over 4 MiB"))
}

fn in_base(int: i64, base: u64, upper: bool) -> String {
    let mut rest = int.unsigned_abs();
    let mut digits = Vec::new();
    while rest > 0 || digits.is_empty() {
        let digit = u32::try_from(rest % base).unwrap_or(0);
        // A digit is below the base, which is at most 36.
        let digit = char::from_digit(digit, 36).unwrap_or('0');
        digits.push(if upper {
            digit.to_ascii_uppercase()
        } else {
            digit
        });
        rest /= base;
    }
    if int < 0 {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

/// `2.50000e+0`: so many significant digits, at least two.
fn exponential(float: f64, significant: usize) -> String {
    let (mantissa, power) = decimal::significant(float, significant.max(2));
    format!("{mantissa}e{power:+}")
}

/// `2.50000`: so many significant digits, as many of them after the point as are left.
fn plain(float: f64, significant: usize) -> String {
    let whole_digits = match float.abs() {
        x if x < 1.0 => 0,
        x if x < 10.0 => 1,
        x if x < 100.0 => 2,
        x if x < 1000.0 => 3,
        _ => 4,
    };
    decimal::rounded(float, significant.saturating_sub(whole_digits))
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(ErrorKind::BadArgument, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn print(format: &str, values: impl IntoIterator<Item = Value>) -> Result<String, Fault> {
        let values: Vec<Value> = values.into_iter().collect();
        Ok(formatted(format, &values)?.as_str().unwrap().to_owned())
    }

    #[test]
    fn widths_align_pad_and_cut() {
        assert_eq!(
            print(
                "[~5s|~-5s|~2s|~.1s]",
                ["é".into(), "b".into(), "long".into(), "xy".into()]
            )
            .unwrap(),
            "[    é|b    |lo|x]"
        );
        assert_eq!(
            print("~5..*s ~-4..0b ~2b", ["a".into(), 7.into(), 12345.into()]).unwrap(),
            "****a 7000 **"
        );
        assert_eq!(print("~3c~2n", [97.into()]).unwrap(), "aaa\n\n");
    }

    #[test]
    fn numbers_have_bases_and_precisions() {
        assert_eq!(
            print(
                "~b ~.2b ~.16b ~.16B",
                [(-5).into(), 5.into(), 255.into(), (-255).into()]
            )
            .unwrap(),
            "-5 101 ff -FF"
        );
        assert_eq!(
            print(
                "~f ~.1f ~e ~.3e",
                [2.5.into(), 0.25.into(), 2.5.into(), 0.00123.into()]
            )
            .unwrap(),
            "2.500000 0.3 2.50000e+0 1.23e-3"
        );
        assert_eq!(
            print(
                "~.2f ~.2e ~.2f ~.3g",
                [0.125.into(), 1.25.into(), 1.005.into(), (-2.125).into()]
            )
            .unwrap(),
            "0.13 1.3e+0 1.00 -2.13"
        );
        assert_eq!(
            print("~g ~g ~g", [2.5.into(), 12345.0.into(), 0.05.into()]).unwrap(),
            "2.50000 1.23450e+4 5.00000e-2"
        );
        assert_eq!(
            print("~b", [i64::MIN.into()]).unwrap(),
            "-9223372036854775808"
        );
    }

    #[test]
    fn values_that_do_not_fit_their_directive_are_errors() {
        for (format, values) in [
            ("~s", vec![Value::Int(1)]),
            ("~b", vec![1.5.into()]),
            ("~f", vec![1.into()]),
            ("~c", vec![(-1).into()]),
            ("~s", vec![]),
            ("x", vec![1.into()]),
            ("~", vec![]),
            ("~5.", vec![]),
            ("~x", vec![1.into()]),
            ("~.1b", vec![1.into()]),
            ("~.37b", vec![1.into()]),
        ] {
            assert_eq!(
                print(format, values).unwrap_err().kind(),
                ErrorKind::BadArgument,
                "{format}"
            );
        }
        assert_eq!(
            print("~99999999s", ["a".into()]).unwrap_err().kind(),
            ErrorKind::Limit
        );
    }

    proptest! {
        #[test]
        fn any_format_gives_text_or_an_error(format in "[~a-gnpstwBW0-9.*é-]{0,16}", int in any::<i64>(), float in -1e9..1e9_f64) {
            for values in [vec![], vec![Value::Int(int)], vec![float.into()], vec!["é".into(), Value::Int(int)]] {
                let _ = formatted(&format, &values);
            }
        }
    }
}
