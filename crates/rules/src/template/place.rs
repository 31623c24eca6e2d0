//! One place of a template: a path into the output row.

use std::borrow::Cow;
use std::fmt;

use crate::json;
use crate::value::Value;

/// A path into the row; without steps it is the whole row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The member of that name.
    Key(String),
    /// The element at that place: 1 is the first, -1 the last.
    Index(i64),
}

impl Place {
    /// The place of one top-level field.
    pub fn field(name: &str) -> Self {
        Self(vec![Step::Key(name.to_owned())])
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The field of the row that the path starts with.
    pub fn first_key(&self) -> Option<&str> {
        match self.0.first() {
            Some(Step::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// Reads a path from the start of `text`; gives it and how many bytes it takes.
    pub(super) fn read(text: &str) -> Option<(Self, usize)> {
        let mut steps = Vec::new();
        let mut rest = text.strip_prefix('.').unwrap_or(text);
        if rest.starts_with('}') {
            return Some((Self(steps), text.len() - rest.len()));
        }
        loop {
            let (step, after) = read_key(rest)?;
            steps.push(step);
            rest = after;
            while let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = read_bracket(inner)?;
                steps.push(step);
                rest = after;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None => return Some((Self(steps), text.len() - rest.len())),
            }
        }
    }

    /// The value at this place of the row. Text on the way is decoded as JSON, at most once.
    pub fn value<'r>(&self, row: &'r Value) -> Cow<'r, Value> {
        let mut here = Cow::Borrowed(row);
        let mut decoded = false;
        for step in &self.0 {
            if let Value::Text(text) = here.as_ref() {
                if decoded {
                    return Cow::Owned(Value::Undefined);
                }
                decoded = true;
                here = Cow::Owned(json::decode(text.as_bytes()).unwrap_or_default());
            }
            here = match here {
                Cow::Borrowed(value) => match step.of(value) {
                    Some(member) => Cow::Borrowed(member),
                    None => return Cow::Owned(Value::Undefined),
                },
                Cow::Owned(value) => Cow::Owned(step.of(&value).cloned().unwrap_or_default()),
            };
        }
        here
    }
}

impl Step {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match (self, value) {
            (Self::Key(key), Value::Object(object)) => object.get(key.as_str()),
            (Self::Index(index), Value::Array(values)) => {
                let place = match *index {
                    from_start @ 1.. => usize::try_from(from_start - 1).ok()?,
                    0 => return None,
                    from_end => values
                        .len()
                        .checked_sub(usize::try_from(from_end.unsigned_abs()).ok()?)?,
                };
                values.get(place)
            }
            _ => None,
        }
    }
}

/// As it is written between `${` and `}`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if place > 0 {
                        f.write_str(".")?;
                    }
                    if !key.is_empty() && key.chars().all(is_name_char) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "'{}'", key.replace('\'', "''"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A name, digits, or a quoted text.
fn read_key(text: &str) -> Option<(Step, &str)> {
    if text.starts_with('\'') {
        let (key, rest) = read_quoted(text)?;
        return Some((Step::Key(key), rest));
    }
    let end = text.find(|c| !is_name_char(c)).unwrap_or(text.len());
    (end > 0).then(|| (Step::Key(text[..end].to_owned()), &text[end..]))
}

/// An index or a quoted key, and the closing bracket.
fn read_bracket(text: &str) -> Option<(Step, &str)> {
    let (step, rest) = if text.starts_with('\'') {
        let (key, rest) = read_quoted(text)?;
        (Step::Key(key), rest)
    } else {
        let (index, rest) = text.split_at(text.find(']')?);
        // No `+1` and no ` 1`: only what an index looks like.
        let digits = index.strip_prefix('-').unwrap_or(index);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        (Step::Index(index.parse().ok()?), rest)
    };
    Some((step, rest.strip_prefix(']')?))
}

/// `'…'` with `''` for one quote.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut key = String::new();
    loop {
        let end = rest.find('\'')?;
        key.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                key.push('\'');
                rest = after;
            }
            None => return Some((key, rest)),
        }
    }
}

pub(super) fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '@' | '~')
}
