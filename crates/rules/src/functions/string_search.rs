//! Finding, splitting and replacing, by plain text and by regular expression. Plain text matches by code points.

use super::call::{self, Builder, Call};
use super::string::{clusters, size, string};
use super::{Function, Kind, Param};
use crate::error::Fault;
use crate::value::Value;

const TWO: &[&[Param]] = &[&[Param::text("s"), Param::text("part")]];
const SPLIT: &[&str] = &[
    "notrim",
    "leading",
    "leading_notrim",
    "trailing",
    "trailing_notrim",
];
const PLACES: &[&str] = &["all", "leading", "trailing"];
const ENDS: &[&str] = &["leading", "trailing"];
const MATCH: &[&[Param]] = &[&[Param::text("s"), Param::new("regex", Kind::Regex)]];
const REPLACE: &[&[Param]] = &[&[
    Param::text("s"),
    Param::new("regex", Kind::Regex),
    Param::text("to"),
]];

pub(super) const FUNCTIONS: &[Function] = &[
    string(
        "split",
        &[
            &[Param::text("s"), Param::text("sep")],
            &[
                Param::text("s"),
                Param::text("sep"),
                Param::one_of("option", SPLIT),
            ],
        ],
        "The parts between separators, empty parts left out. `'notrim'` keeps empty parts; `'leading'` and `'trailing'` \
         split once, at the first or last separator (`'leading_notrim'`, `'trailing_notrim'` keep empty parts).",
        &[
            ("split('a/b//c', '/')", "['a', 'b', 'c']"),
            ("split('a//b', '/', 'notrim')", "['a', '', 'b']"),
            ("split('a/b/c', '/', 'leading')", "['a', 'b/c']"),
            ("split('a/b/c', '/', 'trailing')", "['a/b', 'c']"),
        ],
        |call| {
            let option = if call.count() > 2 { call.text(2)? } else { "" };
            let (text, sep) = (call.text(0)?, call.text(1)?);
            let parts: Vec<&str> = match option {
                _ if sep.is_empty() => vec![text],
                "" | "notrim" => text.split(sep).collect(),
                "leading" | "leading_notrim" => text.splitn(2, sep).collect(),
                "trailing" | "trailing_notrim" => text
                    .rsplit_once(sep)
                    .map_or_else(|| vec![text], |(head, tail)| vec![head, tail]),
                _ => return Err(call.bad(2, "is not an option of split")),
            };
            let keeps_empty = option.ends_with("notrim");
            texts(
                parts
                    .into_iter()
                    .filter(|part| keeps_empty || !part.is_empty()),
            )
        },
    ),
    string(
        "tokens",
        &[
            &[Param::text("s"), Param::text("separators")],
            &[
                Param::text("s"),
                Param::text("separators"),
                Param::one_of("option", &["nocrlf"]),
            ],
        ],
        "The parts between any of the separator characters; with `'nocrlf'` line ends separate too.",
        &[("tokens(' a, b;c ', ' ,;')", "['a', 'b', 'c']")],
        |call| {
            let crlf = match call.count() {
                2 => false,
                _ if call.text(2)? == "nocrlf" => true,
                _ => return Err(call.bad(2, "must be 'nocrlf'")),
            };
            let (text, separators) = (call.text(0)?, call.text(1)?);
            let splits = |c: char| separators.contains(c) || (crlf && matches!(c, '\r' | '\n'));
            texts(text.split(splits).filter(|part| !part.is_empty()))
        },
    ),
    string(
        "replace",
        &[
            &[Param::text("s"), Param::text("find"), Param::text("to")],
            &[
                Param::text("s"),
                Param::text("find"),
                Param::text("to"),
                Param::one_of("which", PLACES),
            ],
        ],
        "The text with every find replaced, or only the first (`'leading'`) or last (`'trailing'`) one.",
        &[
            ("replace('a-b-c', '-', '+')", "'a+b+c'"),
            ("replace('a-b-c', '-', '+', 'leading')", "'a+b-c'"),
            ("replace('a-b-c', '-', '', 'trailing')", "'a-bc'"),
        ],
        |call| {
            let which = if call.count() > 3 {
                call.text(3)?
            } else {
                "all"
            };
            let (text, find, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
            if find.is_empty() {
                return Ok(text.into());
            }
            match which {
                "all" => {
                    let mut out = Builder::default();
                    for (place, part) in text.split(find).enumerate() {
                        if place > 0 {
                            out.push(to)?;
                        }
                        out.push(part)?;
                    }
                    Ok(out.finish())
                }
                "leading" => call::text(text.replacen(find, to, 1)),
                "trailing" => call::text(match text.rsplit_once(find) {
                    Some((head, tail)) => format!("{head}{to}{tail}"),
                    None => text.to_owned(),
                }),
                _ => Err(call.bad(3, "must be 'all', 'leading' or 'trailing'")),
            }
        },
    ),
    string(
        "find",
        &[
            &[Param::text("s"), Param::text("part")],
            &[
                Param::text("s"),
                Param::text("part"),
                Param::one_of("which", ENDS),
            ],
        ],
        "The text from the first (or `'trailing'`, last) occurrence to the end; `''` when there is none.",
        &[
            ("find('a/b/c', '/')", "'/b/c'"),
            ("find('a/b/c', '/', 'trailing')", "'/c'"),
            ("find('a', 'x')", "''"),
        ],
        |call| {
            let which = if call.count() > 2 {
                call.text(2)?
            } else {
                "leading"
            };
            let (text, part) = (call.text(0)?, call.text(1)?);
            let at = match which {
                _ if part.is_empty() => Some(0),
                "leading" => text.find(part),
                "trailing" => text.rfind(part),
                _ => return Err(call.bad(2, "must be 'leading' or 'trailing'")),
            };
            Ok(at.map_or("", |at| &text[at..]).into())
        },
    ),
    string(
        "rm_prefix",
        &[&[Param::text("s"), Param::text("prefix")]],
        "The text without the prefix, if it has it.",
        &[
            ("rm_prefix('dev/1', 'dev/')", "'1'"),
            ("rm_prefix('x', 'dev/')", "'x'"),
        ],
        |call| {
            let text = call.text(0)?;
            Ok(text.strip_prefix(call.text(1)?).unwrap_or(text).into())
        },
    ),
    string(
        "startswith",
        TWO,
        "Whether the text starts with the part.",
        &[("startswith('abc', 'ab')", "true")],
        |call| Ok(Value::Bool(call.bytes(0)?.starts_with(call.bytes(1)?))),
    ),
    string(
        "endswith",
        TWO,
        "Whether the text ends with the part.",
        &[("endswith('abc', 'bc')", "true")],
        |call| Ok(Value::Bool(call.bytes(0)?.ends_with(call.bytes(1)?))),
    ),
    string(
        "indexof",
        TWO,
        "The position of the part's first occurrence, from 0; -1 when there is none.",
        &[
            ("indexof('héllo', 'l')", "2"),
            ("indexof('abc', 'x')", "-1"),
        ],
        |call| {
            let text = call.text(0)?;
            Ok(text
                .find(call.text(1)?)
                .map_or(Value::Int(-1), |at| size(clusters(&text[..at]))))
        },
    ),
];

pub(super) const MATCHING: &[Function] = &[
    string(
        "regex_match",
        MATCH,
        "Whether the pattern is found anywhere in the text.",
        &[
            ("regex_match('ab12', '\\d+')", "true"),
            ("regex_match('ab', '^b')", "false"),
        ],
        matches,
    ),
    string(
        "regexp_matches",
        MATCH,
        "Another name of `regex_match`.",
        &[("regexp_matches('ab12', '[0-9]')", "true")],
        matches,
    ),
    string(
        "regex_replace",
        REPLACE,
        "The text with every match replaced; in `to`, `&` is the match and `\\1` its first group.",
        &[
            ("regex_replace('a1b22', '\\d+', '#')", "'a#b#'"),
            (
                "regex_replace('k=v', '(\\w)=(\\w)', '\\2=\\1 (&)')",
                "'v=k (k=v)'",
            ),
        ],
        replaced,
    ),
    string(
        "regexp_replace",
        REPLACE,
        "Another name of `regex_replace`.",
        &[("regexp_replace('a1', '\\d', '')", "'a'")],
        replaced,
    ),
    string(
        "regex_extract",
        MATCH,
        "The groups of the first match, without the match itself; `[]` when there is no match.",
        &[
            (
                "regex_extract('site-7/dev-9', '(\\w+)-(\\d)')",
                "['site', '7']",
            ),
            ("regex_extract('x', '(\\d)')", "[]"),
        ],
        |call| {
            let text = call.text(0)?;
            call.with_pattern(1, |pattern| {
                let Some(found) = pattern.captures(text, call.searched)? else {
                    return Ok(Vec::new().into());
                };
                let groups: Vec<Option<&str>> =
                    (1..found.count()).map(|group| found.get(group)).collect();
                let kept = groups
                    .iter()
                    .rposition(Option::is_some)
                    .map_or(0, |last| last + 1);
                texts(groups.into_iter().take(kept).map(Option::unwrap_or_default))
            })
        },
    ),
    string(
        "regexp_substr",
        MATCH,
        "The first match, or undefined.",
        &[
            ("regexp_substr('ab12c', '\\d+')", "'12'"),
            ("is_null(regexp_substr('ab', '\\d'))", "true"),
        ],
        |call| {
            let text = call.text(0)?;
            call.with_pattern(1, |pattern| {
                let found = pattern
                    .captures(text, call.searched)?
                    .and_then(|found| found.get(0));
                Ok(found.map_or(Value::Undefined, Value::from))
            })
        },
    ),
];

fn texts<'t>(parts: impl Iterator<Item = &'t str>) -> Result<Value, Fault> {
    let parts: Vec<Value> = parts
        .take(call::MAX_ELEMENTS + 1)
        .map(Value::from)
        .collect();
    call::array(parts)
}

fn matches(call: &mut Call<'_>) -> Result<Value, Fault> {
    let text = call.text(0)?;
    call.with_pattern(1, |pattern| {
        Ok(Value::Bool(pattern.is_match(text, call.searched)?))
    })
}

fn replaced(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (text, to) = (call.text(0)?, replacement(call.text(2)?));
    call.with_pattern(1, |pattern| {
        let mut out = Builder::default();
        let mut end = 0;
        for found in pattern.captures_iter(text, call.searched) {
            let found = found?;
            let (from, to_end) = found.place();
            out.push(&text[end..from])?;
            for piece in &to {
                match piece {
                    Piece::Text(text) => out.push(text)?,
                    Piece::Group(group) => out.push(found.get(*group).unwrap_or_default())?,
                }
            }
            end = to_end;
        }
        out.push(&text[end..])?;
        Ok(out.finish())
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

/// `&`, `\N`, `\gN` and `\g{N}` are groups; a backslash before anything else gives just that.
fn replacement(to: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = to;
    while let Some(c) = rest.chars().next() {
        let (group, length) = match c {
            '&' => (Some(0), 1),
            '\\' => {
                group(&rest[1..]).map_or((None, 1), |(group, length)| (Some(group), length + 1))
            }
            _ => (None, 0),
        };
        rest = &rest[length..];
        match group {
            Some(group) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Group(group));
            }
            None => {
                // A backslash that quotes nothing, at the very end, stays.
                let Some(c) = rest.chars().next() else {
                    text.push('\\');
                    break;
                };
                text.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// The group that is named after a backslash, and how many bytes name it.
fn group(text: &str) -> Option<(usize, usize)> {
    let (digits, around) = match text.strip_prefix('g') {
        None => (text, 0),
        Some(braced) if braced.starts_with('{') => (braced[1..].split_once('}')?.0, 3),
        Some(plain) => (plain, 1),
    };
    let length = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    if around == 3 && length != digits.len() {
        return None;
    }
    // Group numbers start at 1 and have no leading zero.
    if length == 0 || digits.starts_with('0') {
        return None;
    }
    // No pattern has a group whose number is too long to read.
    let number = digits[..length].parse().unwrap_or(usize::MAX);
    Some((number, length + around))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_name_groups_in_several_ways() {
        use Piece::{Group, Text};
        let text = |text: &str| Text(text.to_owned());
        assert_eq!(
            replacement(r"a&\1\g2\g{13}z"),
            [
                text("a"),
                Group(0),
                Group(1),
                Group(2),
                Group(13),
                text("z")
            ]
        );
        assert_eq!(replacement(r"\&\\\0\gx\g{0}"), [text(r"&\0gxg{0}")]);
        assert_eq!(replacement(r"\12"), [Group(12)]);
        let endless = "9".repeat(40);
        assert_eq!(replacement(&format!(r"\{endless}")), [Group(usize::MAX)]);
        assert_eq!(replacement("a\\"), [text("a\\")]);
    }
}
