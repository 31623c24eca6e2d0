//! Text: case, white space, length, parts, and text made of other values.
//!
//! Positions and lengths count grapheme clusters, what a reader takes for one character.

use unicode_segmentation::UnicodeSegmentation;

use super::call::{self, Builder, Call};
use super::conversion::text_of;
use super::{Category, Function, Param, StrictBody};
use crate::error::Fault;
use crate::json;
use crate::value::Value;

const S: &[&[Param]] = &[&[Param::text("s")]];
const TRIM: &[&[Param]] = &[
    &[Param::text("s")],
    &[Param::text("s"), Param::text("chars")],
];
const SUBSTR: &[&[Param]] = &[
    &[Param::text("s"), Param::int("start")],
    &[Param::text("s"), Param::int("start"), Param::int("length")],
];
const WHERE: &[&str] = &["trailing", "leading", "both"];

pub(super) const fn string(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::String, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    string(
        "lower",
        S,
        "The text with every letter in lower case.",
        &[("lower('ÄB')", "'äb'")],
        |call| call::text(call.text(0)?.to_lowercase()),
    ),
    string(
        "upper",
        S,
        "The text with every letter in upper case.",
        &[("upper('ab')", "'AB'"), ("upper('straße')", "'STRASSE'")],
        |call| call::text(call.text(0)?.to_uppercase()),
    ),
    string(
        "trim",
        TRIM,
        "The text without white space, or without any of the given characters, at both ends.",
        &[("trim('  a b ')", "'a b'"), ("trim('xxayx', 'xy')", "'a'")],
        |call| trimmed(call, End::Both),
    ),
    string(
        "ltrim",
        TRIM,
        "As `trim`, at the start only.",
        &[("ltrim('  a ')", "'a '"), ("ltrim('00120', '0')", "'120'")],
        |call| trimmed(call, End::Leading),
    ),
    string(
        "rtrim",
        TRIM,
        "As `trim`, at the end only.",
        &[("rtrim(' a  ')", "' a'"), ("rtrim('1.500', '0')", "'1.5'")],
        |call| trimmed(call, End::Trailing),
    ),
    string(
        "reverse",
        S,
        "The text backwards.",
        &[("reverse('abc')", "'cba'")],
        |call| call::text(call.text(0)?.graphemes(true).rev().collect::<String>()),
    ),
    string(
        "strlen",
        S,
        "How many characters the text has.",
        &[("strlen('héllo')", "5"), ("strlen('')", "0")],
        |call| Ok(length(call.text(0)?)),
    ),
    string(
        "numbytes",
        S,
        "How many bytes the text has.",
        &[("numbytes('é')", "2")],
        |call| Ok(size(call.bytes(0)?.len())),
    ),
    string(
        "substr",
        SUBSTR,
        "The text from a position (0 is the first character), at most so many characters long.",
        &[
            ("substr('hello', 1)", "'ello'"),
            ("substr('hello', 1, 3)", "'ell'"),
            ("substr('hi', 9)", "''"),
        ],
        substr,
    ),
    string(
        "substring",
        SUBSTR,
        "Another name of `substr`.",
        &[("substring('hello', 3)", "'lo'")],
        substr,
    ),
    string(
        "concat",
        &[
            &[Param::array("parts")],
            &[Param::any("a"), Param::any("b").and_more()],
        ],
        "The texts of the values, or of an array's elements, joined.",
        &[
            ("concat('a', 1, true)", "'a1true'"),
            ("concat(['x', 2.5])", "'x2.5'"),
        ],
        |call| {
            let values = if call.count() == 1 {
                call.array(0)?
            } else {
                call.args
            };
            let mut out = Builder::default();
            for value in values {
                let text = value.str_text().map_err(|fault| {
                    Fault::new(
                        crate::error::ErrorKind::BadArgument,
                        fault.message().to_owned(),
                    )
                    .with_value(value.clone())
                })?;
                out.push(text.as_bytes())?;
            }
            Ok(out.finish())
        },
    ),
    string(
        "pad",
        &[
            &[Param::text("s"), Param::int("length")],
            &[
                Param::text("s"),
                Param::int("length"),
                Param::one_of("where", WHERE),
            ],
            &[
                Param::text("s"),
                Param::int("length"),
                Param::one_of("where", WHERE),
                Param::text("fill"),
            ],
        ],
        "The text made that long with spaces or with fill: `'trailing'` (default), `'leading'` or `'both'`.",
        &[
            ("pad('ab', 4)", "'ab  '"),
            ("pad('7', 3, 'leading', '0')", "'007'"),
            ("pad('x', 4, 'both', '-')", "'-x--'"),
        ],
        |call| {
            let place = if call.count() > 2 {
                call.text(2)?
            } else {
                "trailing"
            };
            let fill = if call.count() > 3 { call.text(3)? } else { " " };
            pad(call, place, fill)
        },
    ),
    string(
        "lpad",
        &[&[Param::text("s"), Param::int("length")]],
        "The text made that long with spaces before it.",
        &[("lpad('7', 3)", "'  7'")],
        |call| pad(call, "leading", " "),
    ),
    string(
        "rpad",
        &[&[Param::text("s"), Param::int("length")]],
        "The text made that long with spaces after it.",
        &[("rpad('7', 3)", "'7  '")],
        |call| pad(call, "trailing", " "),
    ),
    string(
        "repeat",
        &[&[Param::text("s"), Param::int("times")]],
        "The text so many times.",
        &[("repeat('ab', 3)", "'ababab'"), ("repeat('x', 0)", "''")],
        |call| {
            let mut out = Builder::default();
            out.push_times(call.text(0)?, call.size(1)?)?;
            Ok(out.finish())
        },
    ),
    string(
        "ascii",
        S,
        "The value of the first byte.",
        &[("ascii('A')", "65")],
        |call| {
            call.bytes(0)?
                .first()
                .map(|byte| Value::Int((*byte).into()))
                .ok_or_else(|| call.bad(0, "is empty"))
        },
    ),
    string(
        "chr",
        &[&[Param::int("code")]],
        "The character of a Unicode code point.",
        &[("chr(65)", "'A'")],
        |call| {
            let character = u32::try_from(call.int(0)?).ok().and_then(char::from_u32);
            character
                .map(|c| c.to_string().into())
                .ok_or_else(|| call.bad(0, "is not a code point"))
        },
    ),
    string(
        "str_comp",
        &[&[Param::any("a"), Param::any("b")]],
        "How the texts of two values compare: `'lt'`, `'eq'` or `'gt'`.",
        &[
            ("str_comp('a', 'b')", "'lt'"),
            ("str_comp(10, 9)", "'lt'"),
            ("str_comp(1, '1')", "'eq'"),
        ],
        |call| {
            let (a, b) = (text_of(call, 0)?, text_of(call, 1)?);
            Ok(match a.as_bytes().cmp(b.as_bytes()) {
                std::cmp::Ordering::Less => "lt",
                std::cmp::Ordering::Equal => "eq",
                std::cmp::Ordering::Greater => "gt",
            }
            .into())
        },
    ),
    string(
        "join_to_string",
        &[
            &[Param::array("array")],
            &[Param::text("sep"), Param::array("array")],
        ],
        "The texts of an array's elements with `', '` or sep between them.",
        &[
            ("join_to_string([1, 'a', true])", "'1, a, true'"),
            ("join_to_string('-', [1, 2])", "'1-2'"),
        ],
        |call| match call.count() {
            1 => joined(call.array(0)?, b", ", |value| {
                Ok(value.str_text()?.as_bytes().to_vec())
            }),
            _ => joined(call.array(1)?, call.bytes(0)?, |value| {
                Ok(value.str_text()?.as_bytes().to_vec())
            }),
        },
    ),
    string(
        "join_to_sql_values_string",
        &[&[Param::array("array")]],
        "An array's elements as SQL literals with `', '` between them. Prefer bound parameters where the sink has them.",
        &[(
            "join_to_sql_values_string([1, 'it''s', NULL, true])",
            "'1, ''it''''s'', NULL, true'",
        )],
        |call| joined(call.array(0)?, b", ", sql_literal),
    ),
    string(
        "map_to_redis_hset_args",
        &[&[Param::any("x")]],
        "An object's keys and texts of its values in turn, for Redis' HSET; members that are arrays, objects or null are left out.",
        &[
            (
                "map_to_redis_hset_args({'a': 1, 'b': [2], 'c': 'x'})",
                "['a', '1', 'c', 'x']",
            ),
            ("map_to_redis_hset_args(1)", "[]"),
        ],
        |call| {
            let Ok(object) = call.object(0) else {
                return Ok(Vec::new().into());
            };
            let mut args = Vec::new();
            for (key, value) in object.iter() {
                let text: Value = match value {
                    Value::Float(float) => {
                        super::decimal::trimmed(&super::decimal::rounded(*float, 6)).into()
                    }
                    Value::Int(_) | Value::Bool(_) | Value::Text(_) => value.str_text()?.into(),
                    _ => continue,
                };
                args.extend([key.as_str().into(), text]);
            }
            call::array(args)
        },
    ),
    string(
        "unescape",
        S,
        "The text with `\\n`, `\\t`, `\\r`, `\\\"`, `\\x41` and their kin replaced by what they stand for.",
        &[
            ("unescape('a\\tb') = concat('a', chr(9), 'b')", "true"),
            ("unescape('\\x41')", "'A'"),
        ],
        |call| {
            let text = call.text(0)?;
            unescaped(text)
                .map(Value::from)
                .ok_or_else(|| call.bad(0, "has an unknown escape"))
        },
    ),
    string(
        "rand_str",
        &[&[Param::int("length")]],
        "So many random characters out of letters, digits, `-` and `_`.",
        &[("strlen(rand_str(20))", "20")],
        |call| {
            const LETTERS: &[u8; 64] =
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let length = call.size(0)?;
            if length > call::MAX_TEXT_BYTES {
                return Err(call::too_large());
            }
            let mut text = Vec::with_capacity(length);
            while text.len() < length {
                let bits = call.env.random();
                // Ten letters of six bits each.
                let letters =
                    (0..10).map(|n| LETTERS[usize::from((bits >> (6 * n)).to_le_bytes()[0] & 63)]);
                text.extend(letters.take(length - text.len()));
            }
            call::text(text)
        },
    )
    .impure(),
    string(
        "topic_join",
        &[
            &[Param::array("levels")],
            &[Param::text("a"), Param::text("b")],
        ],
        "Topic levels, or two parts of a topic, joined by `/`; two parts never get a double slash.",
        &[
            ("topic_join(['a', 'b', 1])", "'a/b/1'"),
            ("topic_join('a/', '/b')", "'a/b'"),
        ],
        |call| {
            if call.count() == 1 {
                return joined(call.array(0)?, b"/", |value| {
                    Ok(value.str_text()?.as_bytes().to_vec())
                });
            }
            let (a, b) = (call.text(0)?, call.text(1)?);
            let a = if b.starts_with('/') {
                a.strip_suffix('/').unwrap_or(a)
            } else {
                a
            };
            let slash = if a.ends_with('/') || b.starts_with('/') {
                ""
            } else {
                "/"
            };
            call::text(format!("{a}{slash}{b}"))
        },
    ),
    string(
        "topic_split",
        &[&[Param::text("topic")]],
        "The levels of a topic.",
        &[("topic_split('a/b//c')", "['a', 'b', '', 'c']")],
        |call| {
            let levels = call.text(0)?.split('/').map(Value::from);
            call::array(levels.take(call::MAX_ELEMENTS + 1).collect())
        },
    ),
    string(
        "topic_match",
        &[&[
            Param::text("topic"),
            Param::new("filter", super::Kind::TopicFilter),
        ]],
        "Whether a topic matches a topic filter: `topic =~ filter`.",
        &[
            ("topic_match('a/b', 'a/+')", "true"),
            ("topic_match('a/b/c', 'a/+')", "false"),
        ],
        |call| Ok(Value::Bool(call.topic_filter(1)?.matches(call.text(0)?))),
    ),
    string(
        "json_value",
        &[&[Param::text("json"), Param::text("path")]],
        "The member of a JSON text at a dot path; undefined when there is none or the text is not JSON.",
        &[
            ("json_value('{\"a\":{\"b\":1}}', 'a.b')", "1"),
            ("typeof(json_value('{', 'a'))", "'undefined'"),
        ],
        |call| {
            let (text, path) = (call.bytes(0)?, call.text(1)?);
            Ok(json::decode(text)
                .ok()
                .and_then(|value| super::map::at_path(&value, path))
                .unwrap_or_default())
        },
    ),
    string(
        "jwt_value",
        &[&[Param::text("token"), Param::text("path")]],
        "The claim of a JSON Web Token at a dot path. The signature is not checked.",
        &[(
            "jwt_value('eyJhbGciOiJub25lIn0.eyJzdWIiOiJhMSJ9.', 'sub')",
            "'a1'",
        )],
        |call| {
            let claims = call
                .text(0)?
                .split('.')
                .nth(1)
                .and_then(super::encoding::base64url);
            match claims.and_then(|claims| json::decode(&claims).ok()) {
                Some(claims) => Ok(super::map::at_path(&claims, call.text(1)?).unwrap_or_default()),
                None => Err(call.bad(0, "is not a JSON Web Token")),
            }
        },
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Leading,
    Trailing,
    Both,
}

fn trimmed(call: &Call<'_>, end: End) -> Result<Value, Fault> {
    let mut text = call.text(0)?;
    let chars = if call.count() > 1 {
        Some(call.text(1)?)
    } else {
        None
    };
    let goes = |c: char| chars.map_or_else(|| is_pattern_white_space(c), |chars| chars.contains(c));
    if end != End::Trailing {
        text = text.trim_start_matches(goes);
    }
    if end != End::Leading {
        text = text.trim_end_matches(goes);
    }
    Ok(text.into())
}

/// Unicode's Pattern_White_Space.
pub(super) const fn is_pattern_white_space(c: char) -> bool {
    matches!(
        c,
        '\t'..='\r' | ' ' | '\u{85}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
    )
}

pub(super) fn size(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

pub(super) fn clusters(text: &str) -> usize {
    if text.is_ascii() && !text.contains("\r\n") {
        text.len()
    } else {
        text.graphemes(true).count()
    }
}

pub(super) fn length(text: &str) -> Value {
    size(clusters(text))
}

fn substr(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (text, start) = (call.text(0)?, call.size(1)?);
    let length = if call.count() > 2 {
        call.size(2)?
    } else {
        usize::MAX
    };
    Ok(clusters_of(text, start, length).into())
}

/// The part of a text from a cluster on, so many clusters long.
pub(super) fn clusters_of(text: &str, start: usize, length: usize) -> &str {
    let mut indices = text.grapheme_indices(true).map(|(at, _)| at);
    let Some(from) = indices.nth(start) else {
        return "";
    };
    let to = match length {
        0 => from,
        length => indices.nth(length - 1).unwrap_or(text.len()),
    };
    &text[from..to]
}

fn pad(call: &Call<'_>, place: &str, fill: &str) -> Result<Value, Fault> {
    // Every text is longer than a negative length.
    let (text, length) = (call.text(0)?, usize::try_from(call.int(1)?).unwrap_or(0));
    let missing = length.saturating_sub(clusters(text));
    let leading = match place {
        "trailing" => 0,
        "leading" => missing,
        "both" => missing / 2,
        _ => return Err(call.bad(2, "must be 'trailing', 'leading' or 'both'")),
    };
    let mut out = Builder::default();
    out.push_times(fill, leading)?;
    out.push(text)?;
    out.push_times(fill, missing - leading)?;
    Ok(out.finish())
}

/// The texts that `text` makes of the values, with `sep` between them.
pub(super) fn joined(
    values: &[Value],
    sep: &[u8],
    text: impl Fn(&Value) -> Result<Vec<u8>, Fault>,
) -> Result<Value, Fault> {
    let mut out = Builder::default();
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            out.push(sep)?;
        }
        out.push(text(value)?)?;
    }
    Ok(out.finish())
}

fn sql_literal(value: &Value) -> Result<Vec<u8>, Fault> {
    let text = value.str_text()?;
    let bytes = text.as_bytes();
    Ok(match value {
        Value::Undefined | Value::Null => b"NULL".to_vec(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => bytes.to_vec(),
        _ => {
            let doubled = bytes
                .iter()
                .flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b'\'' { 2 } else { 1 }));
            std::iter::once(b'\'')
                .chain(doubled)
                .chain([b'\''])
                .collect()
        }
    })
}

/// `None` for an escape that is none; a backslash at the very end stays.
fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        rest = &rest[c.len_utf8()..];
        out.push(match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'a' => '\u{7}',
            '\'' | '"' | '?' | '\\' => c,
            'x' => {
                let end = rest
                    .find(|c: char| !c.is_ascii_hexdigit())
                    .unwrap_or(rest.len());
                let code = u32::from_str_radix(&rest[..end], 16).ok()?;
                rest = &rest[end..];
                char::from_u32(code)?
            }
            _ => return None,
        });
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_count_what_a_reader_takes_for_one_character() {
        assert_eq!(clusters("e\u{301}\r\n"), 2);
        assert_eq!(clusters_of("ae\u{301}b", 1, 1), "e\u{301}");
        assert_eq!(clusters_of("abc", 3, 1), "");
        assert_eq!(clusters_of("abc", 1, 0), "");
    }

    #[test]
    fn escapes_are_read_or_refused() {
        assert_eq!(unescaped(r"\x1F600z\\\?").as_deref(), Some("😀z\\?"));
        assert_eq!(unescaped("a\\").as_deref(), Some("a\\"));
        assert_eq!(unescaped(r"\q"), None);
        assert_eq!(unescaped(r"\x"), None);
        assert_eq!(unescaped(r"\xD800"), None);
    }
}
