//! HOCON text to a tree of JSON values: what EMQX writes, what people write by hand, and JSON, which is part of it.
//!
//! `${NAME}` outside quotes is looked up in the text itself; what is not there becomes `${env:NAME}`, which weir
//! fills in when it reads its files. `include` is not followed, only reported.

use serde_json::{Map, Value};

/// Values deeper than this are refused: nobody writes them, and the reader calls itself.
const MAX_DEPTH: usize = 64;
/// Substitutions that lead to substitutions are followed so often,
const MAX_HOPS: usize = 16;
/// and so many are looked up in one text.
const MAX_LOOK_UPS: usize = 10_000;
/// Surrounds a substitution until the whole text is read. No text holds this character.
const MARK: char = '\u{FDD0}';

/// Why a text is not HOCON, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct HoconError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, in a sentence.
    pub message: String,
}

/// A text that was read.
pub(crate) struct Hocon {
    /// What it says.
    pub(crate) value: Value,
    /// The lines with an `include`, and what each wants.
    pub(crate) includes: Vec<(usize, String)>,
}

/// Reads a text.
///
/// # Errors
/// The first mistake.
pub(crate) fn parse(text: &str) -> Result<Hocon, HoconError> {
    let mut parser = Parser {
        text: text.strip_prefix('\u{FEFF}').unwrap_or(text),
        at: 0,
        depth: 0,
        includes: Vec::new(),
    };
    parser.skip_blank();
    let read = match parser.peek() {
        Some('[') => parser.array()?,
        Some('{') => Value::Object(parser.braces()?),
        _ => Value::Object(parser.fields(None)?),
    };
    parser.skip_blank();
    if let Some(c) = parser.peek() {
        return Err(parser.error(format!("`{c}` stands after the end")));
    }
    let mut value = read.clone();
    let mut look_ups = MAX_LOOK_UPS;
    resolve(&mut value, &read, 0, &mut look_ups);
    Ok(Hocon {
        value,
        includes: parser.includes,
    })
}

struct Parser<'t> {
    text: &'t str,
    /// In bytes, always at a character's start.
    at: usize,
    depth: usize,
    includes: Vec<(usize, String)>,
}

/// One piece of a value; pieces on one line are put together.
enum Piece {
    /// Without quotes: a number, a word, or part of a text.
    Bare(String),
    Text(String),
    Whole(Value),
    Space(String),
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn error_at(&self, at: usize, message: impl Into<String>) -> HoconError {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        HoconError {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.into(),
        }
    }

    fn error(&self, message: impl Into<String>) -> HoconError {
        self.error_at(self.at, message)
    }

    fn skip_while(&mut self, test: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !test(c)).unwrap_or(rest.len());
    }

    /// White space and comments on this line.
    fn skip_line_blank(&mut self) {
        self.skip_while(|c| c.is_whitespace() && c != '\n');
        if self.rest().starts_with('#') || self.rest().starts_with("//") {
            self.skip_while(|c| c != '\n');
        }
    }

    /// White space, line ends and comments.
    fn skip_blank(&mut self) {
        loop {
            let before = self.at;
            self.skip_line_blank();
            self.skip_while(char::is_whitespace);
            if self.at == before {
                return;
            }
        }
    }

    fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, HoconError>,
    ) -> Result<T, HoconError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("values lie in more than {MAX_DEPTH} levels")));
        }
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn braces(&mut self) -> Result<Map<String, Value>, HoconError> {
        let open = self.at;
        self.at += 1;
        self.deeper(|parser| parser.fields(Some(open)))
    }

    /// Fields up to the `}` of the brace at `open`, or up to the end.
    fn fields(&mut self, open: Option<usize>) -> Result<Map<String, Value>, HoconError> {
        let mut object = Map::new();
        loop {
            self.skip_blank();
            while self.eat(",") {
                self.skip_blank();
            }
            match (self.peek(), open) {
                (None, None) => return Ok(object),
                (None, Some(open)) => return Err(self.error_at(open, "this `{` is never closed")),
                (Some('}'), Some(_)) => {
                    self.at += 1;
                    return Ok(object);
                }
                _ => {
                    if !self.include() {
                        self.field(&mut object)?;
                    }
                }
            }
        }
    }

    /// `include "file"`: remembered and passed over.
    fn include(&mut self) -> bool {
        let Some(what) = self.rest().strip_prefix("include") else {
            return false;
        };
        let line = what.lines().next().unwrap_or_default();
        let what = line.trim();
        let names_a_file = line.starts_with([' ', '\t'])
            && (what.starts_with('"')
                || ["required(", "file(", "url(", "classpath("]
                    .iter()
                    .any(|form| what.starts_with(form)));
        if names_a_file {
            let place = self.error("").line;
            self.includes.push((place, format!("include {what}")));
            self.skip_while(|c| c != '\n');
        }
        names_a_file
    }

    fn field(&mut self, object: &mut Map<String, Value>) -> Result<(), HoconError> {
        let path = self.key()?;
        self.skip_blank();
        let append = self.eat("+=");
        let value = if append || self.eat("=") || self.eat(":") {
            self.skip_blank();
            self.value()?
        } else if self.peek() == Some('{') {
            self.value()?
        } else {
            return Err(self.error(format!(
                "`=`, `:` or `{{` must follow the key `{}`",
                path.join(".").chars().take(40).collect::<String>()
            )));
        };
        put(object, &path, value, append);
        Ok(())
    }

    /// `a.b."c d"`
    fn key(&mut self) -> Result<Vec<String>, HoconError> {
        let mut path = Vec::new();
        loop {
            let start = self.at;
            if self.peek() == Some('"') {
                path.push(self.quoted()?);
            } else {
                self.skip_while(|c| {
                    !is_special(c) && !matches!(c, '.' | '+') && !c.is_whitespace()
                });
                let name = self.text.get(start..self.at).unwrap_or_default();
                if name.is_empty() {
                    return Err(match self.peek() {
                        Some(c) => self.error(format!("a key was expected, not `{c}`")),
                        None => self.error("a key was expected, not the end"),
                    });
                }
                path.push(name.to_owned());
            }
            if path.len() > MAX_DEPTH {
                return Err(self.error_at(start, "this key has too many parts"));
            }
            self.skip_while(|c| c == ' ' || c == '\t');
            if !self.eat(".") {
                return Ok(path);
            }
            self.skip_while(|c| c == ' ' || c == '\t');
        }
    }

    /// Everything up to the end of the line, or to what ends a value before that.
    fn value(&mut self) -> Result<Value, HoconError> {
        let start = self.at;
        let mut pieces: Vec<Piece> = Vec::new();
        loop {
            let space = self.at;
            self.skip_while(|c| c.is_whitespace() && c != '\n');
            let space = self.text.get(space..self.at).unwrap_or_default().to_owned();
            let piece = match self.peek() {
                None | Some('\n' | ',' | '}' | ']' | '#') => break,
                Some('/') if self.rest().starts_with("//") => break,
                Some('{') => Piece::Whole(Value::Object(self.braces()?)),
                Some('[') => Piece::Whole(self.array()?),
                Some('"') => Piece::Text(self.quoted()?),
                Some('$') if self.rest().starts_with("${") => Piece::Text(self.substitution()?),
                Some('=') => return Err(self.error("`=` inside a value: the text needs quotes")),
                Some(_) => Piece::Bare(self.bare()?),
            };
            if !space.is_empty() && !pieces.is_empty() {
                pieces.push(Piece::Space(space));
            }
            pieces.push(piece);
        }
        self.joined(pieces, start)
    }

    fn joined(&self, pieces: Vec<Piece>, start: usize) -> Result<Value, HoconError> {
        let mut pieces = pieces.into_iter();
        let Some(first) = pieces.next() else {
            return Err(self.error_at(start, "a value was expected"));
        };
        let mut joined = match first {
            Piece::Bare(word) => {
                let mut rest = pieces.peekable();
                if rest.peek().is_none() {
                    return Ok(literal(word));
                }
                let mut text = word;
                for piece in rest {
                    text.push_str(&self.text_of(piece, start)?);
                }
                return Ok(Value::String(text));
            }
            Piece::Text(text) | Piece::Space(text) => Value::String(text),
            Piece::Whole(value) => value,
        };
        for piece in pieces {
            match (&mut joined, piece) {
                (Value::String(text), piece) => text.push_str(&self.text_of(piece, start)?),
                (_, Piece::Space(_)) => {}
                (Value::Object(object), Piece::Whole(Value::Object(more))) => merge(object, more),
                (Value::Array(items), Piece::Whole(Value::Array(more))) => items.extend(more),
                _ => {
                    return Err(
                        self.error_at(start, "an object or array and a text cannot be one value")
                    );
                }
            }
        }
        Ok(joined)
    }

    fn text_of(&self, piece: Piece, start: usize) -> Result<String, HoconError> {
        match piece {
            Piece::Bare(text) | Piece::Text(text) | Piece::Space(text) => Ok(text),
            Piece::Whole(_) => {
                Err(self.error_at(start, "an object or array and a text cannot be one value"))
            }
        }
    }

    fn array(&mut self) -> Result<Value, HoconError> {
        let open = self.at;
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_blank();
            while self.eat(",") {
                self.skip_blank();
            }
            match self.peek() {
                None => return Err(self.error_at(open, "this `[` is never closed")),
                Some(']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                Some('}') => return Err(self.error("`}` inside an array")),
                Some(_) => items.push(self.deeper(Self::value)?),
            }
        }
    }

    /// A word, a number or a text without quotes.
    fn bare(&mut self) -> Result<String, HoconError> {
        let start = self.at;
        while let Some(c) = self.peek() {
            let rest = self.rest();
            if c.is_whitespace() || rest.starts_with("${") || (is_special(c) && c != ':') {
                break;
            }
            if rest.starts_with("//") {
                if self
                    .text
                    .get(start..self.at)
                    .is_some_and(|word| word.ends_with(':'))
                {
                    return Err(self.error_at(start, "a URL needs quotes: `//` begins a comment"));
                }
                break;
            }
            self.at += c.len_utf8();
        }
        Ok(self.text.get(start..self.at).unwrap_or_default().to_owned())
    }

    /// `"…"` or `"""…"""`
    fn quoted(&mut self) -> Result<String, HoconError> {
        let open = self.at;
        if self.eat("\"\"\"") {
            let rest = self.rest();
            let Some(mut end) = rest.find("\"\"\"") else {
                return Err(self.error_at(open, "this `\"\"\"` is never closed"));
            };
            // Of more than three quotes the last three close.
            while rest
                .get(end + 1..)
                .is_some_and(|rest| rest.starts_with("\"\"\""))
            {
                end += 1;
            }
            let text = without_indent(rest.get(..end).unwrap_or_default());
            self.at += end + 3;
            return Ok(text);
        }
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else {
                return Err(self.error_at(open, "this text is never closed"));
            };
            let at = self.at;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(text),
                '\n' => return Err(self.error_at(open, "this text does not end on its line")),
                '\\' => text.push_str(&self.escape(at)?),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, at: usize) -> Result<String, HoconError> {
        let Some(c) = self.peek() else {
            return Err(self.error_at(at, "this text is never closed"));
        };
        self.at += c.len_utf8();
        let plain = match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            '"' | '\\' | '/' => c,
            'u' => {
                let first = self.code_unit(at)?;
                let code = if (0xD800..0xDC00).contains(&first) && self.eat("\\u") {
                    let second = self.code_unit(at)?;
                    0x10000 + ((first - 0xD800) << 10) + (second.wrapping_sub(0xDC00) & 0x3FF)
                } else {
                    first
                };
                char::from_u32(code)
                    .ok_or_else(|| self.error_at(at, "this escape is no character"))?
            }
            // EMQX leaves an escape that it does not know as it is.
            c => return Ok(format!("\\{c}")),
        };
        Ok(plain.to_string())
    }

    fn code_unit(&mut self, at: usize) -> Result<u32, HoconError> {
        let digits = self.rest().get(..4).unwrap_or_default();
        let unit = u32::from_str_radix(digits, 16)
            .map_err(|_| self.error_at(at, "`\\u` needs four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }

    /// `${path}` or `${?path}`, as it stands between marks.
    fn substitution(&mut self) -> Result<String, HoconError> {
        let Some(end) = self.rest().find(['}', '\n']) else {
            return Err(self.error("this `${` is never closed"));
        };
        let place = self.rest().get(..end).unwrap_or_default();
        let path = place.trim_start_matches("${").trim();
        if !self
            .rest()
            .get(end..)
            .is_some_and(|rest| rest.starts_with('}'))
            || path.is_empty()
        {
            return Err(self.error("this `${` is never closed"));
        }
        let marked = format!("{MARK}{path}{MARK}");
        self.at += end + 1;
        Ok(marked)
    }
}

/// What ends a key or a text without quotes.
fn is_special(c: char) -> bool {
    matches!(c, '"' | '{' | '}' | '[' | ']' | ':' | '=' | ',' | '#')
}

/// The value of one word without quotes; durations and sizes stay texts.
fn literal(word: String) -> Value {
    match word.as_str() {
        "null" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    let starts_as_number = word.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    match serde_json::from_str::<serde_json::Number>(&word) {
        Ok(number) if starts_as_number => Value::Number(number),
        _ => Value::String(word),
    }
}

/// `"""~` at a line's end begins a text whose lines are shown indented; `~"""` may end it.
fn without_indent(text: &str) -> String {
    let Some(text) = text
        .strip_prefix("~\n")
        .or_else(|| text.strip_prefix("~\r\n"))
    else {
        return text.to_owned();
    };
    let text = text.strip_suffix('~').unwrap_or(text);
    let lines: Vec<&str> = text.split('\n').collect();
    let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let indent = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| depth(line))
        .min()
        .unwrap_or(0);
    let cut: Vec<&str> = lines
        .iter()
        .map(|line| line.get(indent.min(depth(line))..).unwrap_or_default())
        .collect();
    cut.join("\n")
}

/// Sets a path; objects of the same name become one.
fn put(object: &mut Map<String, Value>, path: &[String], value: Value, append: bool) {
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    if !rest.is_empty() {
        let inner = object.entry(key.clone()).or_insert(Value::Null);
        if !inner.is_object() {
            *inner = Value::Object(Map::new());
        }
        if let Value::Object(inner) = inner {
            put(inner, rest, value, append);
        }
        return;
    }
    match (object.get_mut(key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
        (Some(Value::Array(old)), value) if append => match value {
            Value::Array(more) => old.extend(more),
            item => old.push(item),
        },
        (None, value) if append && !value.is_array() => {
            object.insert(key.clone(), Value::Array(vec![value]));
        }
        (_, value) => {
            object.insert(key.clone(), value);
        }
    }
}

/// Merges `new` over `old`: objects become one, everything else is replaced.
pub(crate) fn merge(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (key, value) in new {
        put(old, &[key], value, false);
    }
}

/// Fills in every substitution below `value` from `root`.
fn resolve(value: &mut Value, root: &Value, hops: usize, look_ups: &mut usize) {
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| resolve(item, root, hops, look_ups)),
        Value::Object(object) => object
            .values_mut()
            .for_each(|item| resolve(item, root, hops, look_ups)),
        Value::String(text) if text.contains(MARK) => {
            let parts: Vec<&str> = text.split(MARK).collect();
            if let ["", path, ""] = parts[..]
                && let Some(found) = look_up(root, path, hops, look_ups)
            {
                *value = found;
                return;
            }
            let filled = parts
                .iter()
                .enumerate()
                .map(|(index, part)| {
                    if index % 2 == 0 {
                        return (*part).to_owned();
                    }
                    match look_up(root, part, hops, look_ups) {
                        Some(Value::String(text)) => text,
                        Some(Value::Null) => String::new(),
                        Some(found @ (Value::Bool(_) | Value::Number(_))) => found.to_string(),
                        _ => outside(part),
                    }
                })
                .collect();
            *value = Value::String(filled);
        }
        _ => {}
    }
}

fn look_up(root: &Value, path: &str, hops: usize, look_ups: &mut usize) -> Option<Value> {
    if hops >= MAX_HOPS || *look_ups == 0 {
        return None;
    }
    *look_ups -= 1;
    let path = path.trim_start_matches('?').trim();
    let mut found = path
        .split('.')
        .try_fold(root, |here, key| here.get(key.trim_matches('"')))?
        .clone();
    resolve(&mut found, root, hops + 1, look_ups);
    Some(found)
}

/// A place that weir fills in when it reads the file; one that may be missing is empty then.
fn outside(path: &str) -> String {
    match path.strip_prefix('?') {
        Some(name) => format!("${{env:{}:-}}", name.trim()),
        None => format!("${{env:{path}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        parse(text)
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .value
    }

    fn refused(text: &str) -> (usize, usize, String) {
        let error = parse(text).map(|read| read.value).unwrap_err();
        (error.line, error.column, error.message)
    }

    #[test]
    fn keys_may_be_dotted_quoted_and_followed_by_an_equals_sign_a_colon_or_a_brace() {
        assert_eq!(
            read("a.b = 1\na { c : 2 }\n\"x.y\" = yes\n'q' = 3\na.\"d e\".f = on"),
            json!({"a": {"b": 1, "c": 2, "d e": {"f": "on"}}, "x.y": "yes", "'q'": 3})
        );
    }

    #[test]
    fn comments_end_with_their_line_and_texts_keep_their_signs() {
        assert_eq!(
            read(
                "# one\na = 1 # two\nb = \"x # y // z\" // three\n\n//four\nc = [1, # five\n 2]\n"
            ),
            json!({"a": 1, "b": "x # y // z", "c": [1, 2]})
        );
    }

    #[test]
    fn words_numbers_durations_and_sizes_without_quotes_are_what_they_look_like() {
        assert_eq!(
            read(
                "a = 15s, b = 256MB, c = -2.5e3, d = true, e = null, f = 12, g = two words, h = 127.0.0.1:1883, i = 007"
            ),
            json!({"a": "15s", "b": "256MB", "c": -2500.0, "d": true, "e": null, "f": 12,
                   "g": "two words", "h": "127.0.0.1:1883", "i": "007"})
        );
    }

    #[test]
    fn later_objects_are_merged_into_earlier_ones_and_later_values_replace() {
        assert_eq!(
            read(
                "a { x = 1, y { z = 1 } }\na.y.w = 2\na { x = 3 }\nb = {p = 1} {q = 2}\nc = [1] [2]\nc += 3\nd += 1"
            ),
            json!({"a": {"x": 3, "y": {"z": 1, "w": 2}}, "b": {"p": 1, "q": 2}, "c": [1, 2, 3], "d": [1]})
        );
    }

    #[test]
    fn arrays_may_be_separated_by_lines_and_end_with_a_comma() {
        assert_eq!(
            read("a = [\n  1\n  2,\n  {b = 3}\n  \"x\"y,\n]"),
            json!({"a": [1, 2, {"b": 3}, "xy"]})
        );
    }

    #[test]
    fn json_is_read_as_it_is() {
        let text = r#"{"a":{"b":[1,2.5,"x\n\"yé😀\"",null,true]},"c.d":{},"e":"C:\\x\/y"}"#;
        assert_eq!(read(text), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(read("[{\"a\":1}]"), json!([{"a": 1}]));
    }

    #[test]
    fn a_text_in_three_quotes_is_taken_as_it_stands() {
        assert_eq!(
            read("a = \"\"\"SELECT '\\d' \"x\"\n  FROM t\"\"\"\nb = \"\"\"say \"hi\"\"\"\"\nc = 1"),
            json!({"a": "SELECT '\\d' \"x\"\n  FROM t", "b": "say \"hi\"", "c": 1})
        );
    }

    #[test]
    fn a_tilde_after_three_quotes_takes_the_indentation_away() {
        assert_eq!(
            read(
                "sql = \"\"\"~\n    SELECT a\n      , b\n\n    FROM \"t/#\"~\"\"\"\nx = \"\"\"~\n  one\n  two\n~\"\"\""
            ),
            json!({"sql": "SELECT a\n  , b\n\nFROM \"t/#\"", "x": "one\ntwo\n"})
        );
    }

    #[test]
    fn a_substitution_is_looked_up_in_the_text_and_then_left_to_the_environment() {
        assert_eq!(
            read(
                "host = db.local\nport = 5432\nserver = ${host}\":\"${port}\npw = ${DB_PW}\nuser = ${?DB_USER}\nbase {a = 1}\ncopy = ${base}\nquoted = \"${not.me}\"\nself = ${self}"
            ),
            json!({"host": "db.local", "port": 5432, "server": "db.local:5432", "pw": "${env:DB_PW}",
                   "user": "${env:DB_USER:-}", "base": {"a": 1}, "copy": {"a": 1}, "quoted": "${not.me}",
                   "self": "${env:self}"})
        );
    }

    #[test]
    fn an_include_is_passed_over_and_reported_with_its_line() {
        let read = parse("a = 1\ninclude \"cluster.hocon\"\ninclude required(file(\"x\"))\nincluded = 2\ninclude = 3").unwrap();
        assert_eq!(read.value, json!({"a": 1, "included": 2, "include": 3}));
        assert_eq!(
            read.includes,
            [
                (2, "include \"cluster.hocon\"".to_owned()),
                (3, "include required(file(\"x\"))".to_owned())
            ]
        );
    }

    #[test]
    fn a_mistake_is_told_with_line_and_column() {
        for (text, line, column, part) in [
            ("a = 1\nb {\n  c = 2\n", 2, 3, "never closed"),
            ("a = [1, 2", 1, 5, "never closed"),
            ("a = \"x\nb = 2", 1, 5, "does not end on its line"),
            ("a = \"\"\"x\n", 1, 5, "never closed"),
            ("ä = 1\nb", 2, 2, "must follow the key `b`"),
            ("a = 1 }\n", 1, 7, "a key was expected, not `}`"),
            ("a = ,", 1, 5, "a value was expected"),
            ("url = http://x/y", 1, 7, "needs quotes"),
            ("a = b = c", 1, 7, "needs quotes"),
            ("a = ${b", 1, 5, "never closed"),
            ("a = {b = 1} text", 1, 5, "cannot be one value"),
            ("a = \"\\u12\"", 1, 6, "four hexadecimal digits"),
            ("{a = 1} b", 1, 9, "after the end"),
            ("a = [1 }", 1, 8, "inside an array"),
        ] {
            let (at_line, at_column, message) = refused(text);
            assert_eq!((at_line, at_column), (line, column), "{text}: {message}");
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn values_of_any_depth_are_refused_without_a_crash() {
        assert!(refused(&"a={".repeat(10_000)).2.contains("levels"));
        assert!(
            refused(&format!("a={}", "[".repeat(10_000)))
                .2
                .contains("levels")
        );
        assert!(
            refused(&format!("{}=1", "a.".repeat(10_000)))
                .2
                .contains("too many parts")
        );
        let doubling = format!("a = {}", "${a}".repeat(20));
        assert!(read(&doubling)["a"].as_str().is_some());
    }
}
