//! TOML text to checked structs, keeping every value's place in the file.
//!
//! `${env:NAME}` and its kin are filled in after parsing, so a secret can never inject keys (user-experience §2.2).

use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, Source, nearest};

/// A parsed file: the tree of values with their spans.
#[derive(Clone)]
pub struct TomlFile<'s> {
    /// Where it came from.
    pub source: &'s Source,
    root: Spanned<DeTable<'s>>,
    /// Whether problems tell kinds of values only.
    hides_values: bool,
}

/// Where `${kind:name}` values come from.
pub trait Outside {
    /// The value of `${kind:name}`; the error says what is missing and how to give it.
    ///
    /// # Errors
    /// A sentence for the user when there is no such value.
    fn value(&self, kind: &str, name: &str) -> Result<String, String>;

    /// What stands for a value that is missing and has no default; none where that is an error.
    ///
    /// A connector that has a stand-in for its URL is not one that could be opened, and is not checked as one.
    fn stand_in(&self, _kind: &str, _name: &str) -> Option<String> {
        None
    }
}

/// The process' environment and files.
pub struct Process;

impl Outside for Process {
    fn value(&self, kind: &str, name: &str) -> Result<String, String> {
        match kind {
            "env" => std::env::var(name)
                .map_err(|_| format!("the environment variable `{name}` is not set")),
            "file" => std::fs::read_to_string(name)
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|error| format!("cannot read `{name}`: {error}")),
            "cred" => {
                let folder = std::env::var("CREDENTIALS_DIRECTORY").map_err(|_| {
                    "`CREDENTIALS_DIRECTORY` is not set; systemd sets it for LoadCredential="
                        .to_owned()
                })?;
                let path = std::path::Path::new(&folder).join(name);
                std::fs::read_to_string(&path)
                    .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                    .map_err(|error| format!("cannot read the credential `{name}`: {error}"))
            }
            _ => Err(format!(
                "`{kind}:` is not known; there are env, file, cred and conn"
            )),
        }
    }
}

/// Stands in for values from outside where nothing is sent: defaults count, every other value is its own name.
pub struct Names;

impl Outside for Names {
    fn value(&self, kind: &str, name: &str) -> Result<String, String> {
        Err(format!("`{kind}:{name}` is not looked up"))
    }

    fn stand_in(&self, kind: &str, name: &str) -> Option<String> {
        Some(format!("${{{kind}:{name}}}"))
    }
}

impl<'s> TomlFile<'s> {
    /// Parses the text.
    ///
    /// # Errors
    /// Every syntax error of the file (E1001), not just the first.
    pub fn parse(source: &'s Source) -> Result<Self, Vec<Problem>> {
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        if errors.is_empty() {
            return Ok(Self {
                source,
                root,
                hides_values: false,
            });
        }
        Err(errors
            .iter()
            .map(|error| {
                Problem::at(
                    source,
                    error.span().unwrap_or(0..0),
                    "E1001",
                    format!("not valid TOML: {}", error.message()),
                )
            })
            .collect())
    }

    /// The value under a dotted path, with array indexes as numbers.
    pub fn get(&self, path: &[&str]) -> Option<&Spanned<DeValue<'s>>> {
        let (first, rest) = path.split_first()?;
        let mut at = self.root.get_ref().get(*first)?;
        for step in rest {
            at = match at.get_ref() {
                DeValue::Table(table) => table.get(*step)?,
                DeValue::Array(array) => array.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(at)
    }

    /// Removes a top-level key.
    pub fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'s>>> {
        self.root.get_mut().remove(key)
    }

    /// The same, for a file of secrets: what is wrong with a value is told without the value.
    pub fn hiding_values(mut self) -> Self {
        self.hides_values = true;
        self
    }

    /// The top-level keys that are left.
    pub fn keys(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.root
            .get_ref()
            .keys()
            .map(|key| (key.get_ref().as_ref(), key.span()))
    }

    /// Fills in every `${kind:name}` of the file.
    pub fn fill_in(&mut self, outside: &dyn Outside, problems: &mut Vec<Problem>) {
        for (key, value) in self.root.get_mut().iter_mut() {
            if !is_read_at_use(key.get_ref(), value.get_ref(), outside) {
                fill_in(self.source, value, outside, problems);
            }
        }
    }

    /// Reads what is left of the file as `T`.
    ///
    /// # Errors
    /// E1002 for an unknown key, E1003 for a value that does not fit.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Box<Problem>> {
        T::deserialize(toml::de::Deserializer::from(self.root.clone()))
            .map_err(|error| Box::new(self.describe(&error, self.root.span())))
    }

    /// Reads one value of the file as `T`.
    ///
    /// # Errors
    /// As [`TomlFile::read`].
    pub fn read_value<T: DeserializeOwned>(
        &self,
        value: Spanned<DeValue<'s>>,
    ) -> Result<T, Box<Problem>> {
        let span = value.span();
        T::deserialize(toml::de::ValueDeserializer::from(value))
            .map_err(|error| Box::new(self.describe(&error, span)))
    }

    fn describe(&self, error: &toml::de::Error, whole: Range<usize>) -> Problem {
        describe_or_hide(self.source, error, whole, self.hides_values)
    }
}

/// Turns serde's sentence into ours, with a code and the next step.
pub fn describe(source: &Source, error: &toml::de::Error, whole: Range<usize>) -> Problem {
    describe_or_hide(source, error, whole, false)
}

fn describe_or_hide(
    source: &Source,
    error: &toml::de::Error,
    whole: Range<usize>,
    hides_values: bool,
) -> Problem {
    let span = error.span().unwrap_or(whole);
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") && !quoted.is_empty() {
        let (written, known) = (quoted[0], &quoted[1..]);
        let problem = Problem::at(source, span, "E1002", format!("unknown key `{written}`"));
        let problem = match nearest(written, known.iter().copied()) {
            Some(near) => problem.label(format!("did you mean `{near}`?")),
            None => problem,
        };
        return if known.is_empty() {
            problem
        } else {
            problem.help(format!("known keys: {}", known.join(", ")))
        };
    }
    if message.starts_with("unknown variant") && !quoted.is_empty() {
        let (written, known) = (quoted[0], &quoted[1..]);
        let known_words = known.join(", ");
        if hides_values {
            let message = format!("the value is not one of: {known_words}");
            return Problem::at(source, span, "E1003", message);
        }
        let problem = Problem::at(
            source,
            span,
            "E1003",
            format!("`{written}` is not one of: {known_words}"),
        );
        return match nearest(written, known.iter().copied()) {
            Some(near) => problem.label(format!("did you mean `{near}`?")),
            None => problem,
        };
    }
    if message.starts_with("missing field") && !quoted.is_empty() {
        return Problem::at(
            source,
            span,
            "E1003",
            format!("the key `{}` is missing", quoted[0]),
        );
    }
    let message = match message
        .strip_prefix("invalid type: ")
        .and_then(|text| text.rsplit_once(", expected "))
    {
        Some((found, wanted)) => {
            let key = key_before(source, span.start);
            let key = key.map_or_else(|| "this".to_owned(), |key| format!("`{key}`"));
            format!(
                "{key} takes {}, not {}",
                kind_in_words(wanted),
                if hides_values {
                    bare_kind(found)
                } else {
                    kind_in_words(found)
                }
            )
        }
        None if hides_values => "the value does not fit".to_owned(),
        None => message.to_owned(),
    };
    Problem::at(source, span, "E1003", message)
}

/// The key whose value begins there, or whose table does.
fn key_before(source: &Source, offset: usize) -> Option<&str> {
    let (before, at) = source.text.split_at_checked(offset)?;
    let begins_line = before.trim_end_matches([' ', '\t']).ends_with('\n') || before.is_empty();
    if at.starts_with('[') && begins_line {
        let name = at.trim_start_matches('[');
        return name.split_once(']').map(|(name, _)| name.trim());
    }
    let before = before.trim_end().strip_suffix('=')?.trim_end();
    let key = before.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')));
    key.into_iter().next().filter(|key| !key.is_empty())
}

/// A kind of value in the words of TOML. What a text says is not repeated: it may be a secret.
fn kind_in_words(kind: &str) -> String {
    let word = kind.split([' ', '`']).next().unwrap_or_default();
    match (word, kind) {
        ("string", _) | (_, "a string") => "a text".to_owned(),
        (_, "a boolean") => "true or false, without quotes".to_owned(),
        ("u8" | "u16" | "u32" | "u64" | "usize", _) => "a whole number, without quotes".to_owned(),
        ("i32" | "i64", _) => "an integer, without quotes".to_owned(),
        ("f32" | "f64", _) => "a number, without quotes".to_owned(),
        ("map" | "struct", _) | (_, "a map") => "a table".to_owned(),
        ("sequence", _) | (_, "a sequence") => "a list".to_owned(),
        ("integer" | "boolean" | "floating", _) => kind
            .split_once('`')
            .map_or_else(|| kind.to_owned(), |(_, value)| format!("`{value}")),
        _ => kind.to_owned(),
    }
}

/// The kind without the value.
fn bare_kind(kind: &str) -> String {
    match kind.split([' ', '`']).next() {
        Some("integer") => "a number".to_owned(),
        Some("floating") => "a number with a fraction".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("string" | "map" | "struct" | "sequence") => kind_in_words(kind),
        _ => "what stands there".to_owned(),
    }
}

/// Fills in `${kind:name}` and `${kind:name:-default}` in every string below `value`.
///
/// Places whose kind is none of `env`, `file`, `cred`, `conn` are left for the message templates.
pub fn fill_in(
    source: &Source,
    value: &mut Spanned<DeValue<'_>>,
    outside: &dyn Outside,
    problems: &mut Vec<Problem>,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match filled(text, outside) {
            Ok(new) => *text = Cow::Owned(new),
            Err(missing) => problems
                .push(Problem::at(source, span, "E1005", missing.message).help(missing.cure)),
        },
        DeValue::Array(array) => {
            for item in array.iter_mut() {
                fill_in(source, item, outside, problems);
            }
        }
        DeValue::Table(table) => {
            for (key, item) in table.iter_mut() {
                if !is_read_at_use(key.get_ref(), item.get_ref(), outside) {
                    fill_in(source, item, outside, problems);
                }
            }
        }
        _ => {}
    }
}

/// A secret that is wholly `${file:PATH}` stays as it is: its file is read anew at each use, so a rotated one needs no
/// reload. One that cannot be read now is filled in, which says so.
fn is_read_at_use(key: &str, value: &DeValue<'_>, outside: &dyn Outside) -> bool {
    const SECRETS: [&str; 15] = [
        "password",
        "device_secret",
        "device_token",
        "token",
        "token_value",
        "token_signature",
        "key",
        "access_key",
        "access_secret",
        "access_key_id",
        "secret_access_key",
        "session_token",
        "session_expires",
        "access_token",
        "tokens_from",
    ];
    let path = value
        .as_str()
        .and_then(|text| text.strip_prefix("${file:")?.strip_suffix('}'));
    SECRETS.contains(&key)
        && path.is_some_and(|path| !path.contains('}') && outside.value("file", path).is_ok())
}

/// A value from outside that is not there.
struct Missing {
    message: String,
    /// How to give it.
    cure: String,
}

impl Missing {
    fn new(kind: &str, name: &str, message: String) -> Self {
        let cure = match kind {
            "env" => format!(
                "set it where weir is started (export {name}=…), or give a value to fall back to: ${{env:{name}:-…}}"
            ),
            "file" => format!(
                "create `{name}`, readable for the user that weir runs as; a relative path starts where weir does"
            ),
            "cred" => format!("give it to weir's unit: LoadCredential={name}:/path/of/the/file"),
            _ => "name a connector whose file has that key".to_owned(),
        };
        Self { message, cure }
    }
}

fn filled(text: &str, outside: &dyn Outside) -> Result<String, Missing> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, place) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = place.find('}') else {
            out.push_str(place);
            return Ok(out);
        };
        let inner = &place[2..end];
        match inner.split_once(':') {
            Some((kind @ ("env" | "file" | "cred" | "conn"), name)) => {
                let (name, default) = match name.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (name, None),
                };
                match (outside.value(kind, name), default) {
                    (Ok(value), _) => out.push_str(&value),
                    (Err(_), Some(default)) => out.push_str(default),
                    (Err(message), None) => match outside.stand_in(kind, name) {
                        Some(value) => out.push_str(&value),
                        None => return Err(Missing::new(kind, name, message)),
                    },
                }
            }
            _ => out.push_str(&place[..=end]),
        }
        rest = &place[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
