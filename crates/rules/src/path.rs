//! Paths into values: `a.b[2]`, and the set of payload paths that rules read.

use std::borrow::Cow;
use std::ops::Range;

use crate::json;
use crate::value::{Key, Value};

/// The payload paths that one or more rules read, as a tree of keys.
///
/// Only what is in the set is built when a payload is decoded; the rest is checked and passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSet {
    /// Everything below this place is read.
    whole: bool,
    /// The members that are read; empty when `whole`.
    members: Vec<(Key, PathSet)>,
    /// The numbers of the values at and below this place, counted through the set in its own order.
    first: usize,
    count: usize,
}

impl PathSet {
    /// The set that holds every path.
    pub const fn everything() -> Self {
        Self {
            whole: true,
            members: Vec::new(),
            first: 0,
            count: 1,
        }
    }

    /// Whether no path is read: the payload need not be decoded.
    pub const fn is_empty(&self) -> bool {
        !self.whole && self.members.is_empty()
    }

    /// Whether the entire value at this place is read.
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Adds the value at `keys` with everything below it.
    pub fn add<K: AsRef<str>>(&mut self, keys: &[K]) {
        self.add_below(keys);
        self.number(0);
    }

    fn add_below<K: AsRef<str>>(&mut self, keys: &[K]) {
        if self.whole {
            return;
        }
        let Some((first, rest)) = keys.split_first() else {
            *self = Self::everything();
            return;
        };
        self.member_mut(first.as_ref()).add_below(rest);
    }

    /// Adds every path of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.merge_below(other);
        self.number(0);
    }

    fn merge_below(&mut self, other: &Self) {
        if self.whole {
            return;
        }
        if other.whole {
            *self = Self::everything();
            return;
        }
        for (key, below) in &other.members {
            self.member_mut(key).merge_below(below);
        }
    }

    /// Counts the values that are read, from `first` on; gives the number after the last.
    fn number(&mut self, first: usize) -> usize {
        self.first = first;
        let end = if self.whole {
            first + 1
        } else {
            self.members
                .iter_mut()
                .fold(first, |next, (_, below)| below.number(next))
        };
        self.count = end - first;
        end
    }

    /// The paths in dotted form, for `explain`; the entire payload is the empty path.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.list("", &mut paths);
        paths
    }

    /// The place in the set's own order of the member `key`, with what is read below it.
    pub(crate) fn member(&self, key: &str) -> Option<(&Key, &Self)> {
        self.members
            .iter()
            .find(|(name, _)| **name == *key)
            .map(|(name, below)| (name, below))
    }

    /// What is read below the member with this name.
    pub(crate) fn member_of_bytes(&self, key: &[u8]) -> Option<&Self> {
        self.members
            .iter()
            .find(|(name, _)| name.as_bytes() == key)
            .map(|(_, below)| below)
    }

    /// How many members are read at most.
    pub(crate) const fn len(&self) -> usize {
        self.members.len()
    }

    /// The numbers of the values that are read at and below this place; that of a whole value is the first.
    pub(crate) fn values(&self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// The number of the value at `keys`, when exactly that one is read as a whole.
    pub(crate) fn value_at(&self, keys: &[Key]) -> Option<usize> {
        match keys.split_first() {
            None => self.whole.then_some(self.first),
            Some((key, rest)) => self.member(key)?.1.value_at(rest),
        }
    }

    fn member_mut(&mut self, key: &str) -> &mut Self {
        let index = self
            .members
            .iter()
            .position(|(name, _)| **name == *key)
            .unwrap_or_else(|| {
                self.members.push((key.into(), Self::default()));
                self.members.len() - 1
            });
        &mut self.members[index].1
    }

    fn list(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.whole {
            paths.push(prefix.to_owned());
        }
        for (key, below) in &self.members {
            let dot = if prefix.is_empty() { "" } else { "." };
            below.list(&format!("{prefix}{dot}{}", quoted_key(key)), paths);
        }
    }
}

/// A key as it is written after a dot: quoted where it is no plain name.
pub(crate) fn quoted_key(key: &str) -> Cow<'_, str> {
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '@' | '~'));
    let digits = key.bytes().all(|byte| byte.is_ascii_digit());
    if plain && (digits || !key.starts_with(|c: char| c.is_numeric())) {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(format!("'{}'", key.replace('\'', "''")))
    }
}

/// The member `key` of `value` (rule-SQL §6): undefined on anything but an object; a string is decoded as JSON first.
pub fn member<'v>(value: &'v Value, key: &str) -> Cow<'v, Value> {
    match value {
        Value::Object(object) => object
            .get(key)
            .map_or(Cow::Owned(Value::Undefined), Cow::Borrowed),
        Value::Text(text) => Cow::Owned(match json::decode(text.as_bytes()) {
            Ok(Value::Object(object)) => object.get(key).cloned().unwrap_or_default(),
            _ => Value::Undefined,
        }),
        _ => Cow::Owned(Value::Undefined),
    }
}

/// `value[index]`: 1 is the first element, -1 the last; a string index takes an object's member.
pub fn element<'v>(value: &'v Value, index: &Value) -> Cow<'v, Value> {
    match (value, index) {
        (Value::Array(values), Value::Int(index)) => position(values.len(), *index)
            .map_or(Cow::Owned(Value::Undefined), |at| {
                Cow::Borrowed(&values[at])
            }),
        (Value::Object(_), Value::Text(key)) => key
            .as_str()
            .map_or(Cow::Owned(Value::Undefined), |key| member(value, key)),
        (Value::Text(text), Value::Int(_) | Value::Text(_)) => {
            match json::decode(text.as_bytes()) {
                // A step into a string decodes once: a string inside the decoded text is taken as it is.
                Ok(decoded @ (Value::Array(_) | Value::Object(_))) => {
                    Cow::Owned(element(&decoded, index).into_owned())
                }
                _ => Cow::Owned(Value::Undefined),
            }
        }
        _ => Cow::Owned(Value::Undefined),
    }
}

/// The place from 0 of a 1-based index that counts from the end when negative.
pub(crate) fn position(len: usize, index: i64) -> Option<usize> {
    let at = match index {
        0 => return None,
        1.. => usize::try_from(index - 1).ok()?,
        _ => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    (at < len).then_some(at)
}

/// The elements from `from` to `to`, both inclusive, negatives from the end, clipped at both ends.
pub fn slice(values: &[Value], from: i64, to: i64) -> &[Value] {
    let len = i64::try_from(values.len()).unwrap_or(i64::MAX);
    let absolute = |index: i64| {
        if index < 0 {
            index.saturating_add(len).saturating_add(1)
        } else {
            index
        }
    };
    let start = absolute(from).clamp(1, len.saturating_add(1));
    let end = absolute(to).clamp(0, len);
    match (usize::try_from(start - 1), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start < end => &values[start..end],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: std::ops::RangeInclusive<i64>) -> Vec<Value> {
        values.map(Value::from).collect()
    }

    #[test]
    fn indexes_count_from_one_and_from_the_end() {
        let value = Value::from(numbers(1..=3));
        let at = |index: i64| element(&value, &index.into()).into_owned();
        assert!(matches!(at(1), Value::Int(1)));
        assert!(matches!(at(-1), Value::Int(3)));
        assert!(matches!(at(-3), Value::Int(1)));
        for outside in [0, 4, -4, i64::MIN, i64::MAX] {
            assert!(at(outside).is_undefined(), "{outside}");
        }
    }

    #[test]
    fn slices_are_inclusive_and_clipped() {
        let values = numbers(1..=5);
        let taken = |from, to| {
            slice(&values, from, to)
                .iter()
                .filter_map(Value::as_int)
                .collect::<Vec<_>>()
        };
        assert_eq!(taken(2, 3), [2, 3]);
        assert_eq!(taken(-2, -1), [4, 5]);
        assert_eq!(taken(1, 99), [1, 2, 3, 4, 5]);
        assert_eq!(taken(-99, 2), [1, 2]);
        assert_eq!(taken(-99, -99), Vec::<i64>::new());
        assert_eq!(taken(4, 2), Vec::<i64>::new());
        assert_eq!(taken(i64::MIN, i64::MAX), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_step_into_a_string_decodes_it_as_json() {
        assert!(matches!(
            member(&r#"{"a":1}"#.into(), "a").as_ref(),
            Value::Int(1)
        ));
        assert!(member(&"plain".into(), "a").is_undefined());
        assert!(matches!(
            element(&"[7]".into(), &1.into()).as_ref(),
            Value::Int(7)
        ));
    }

    #[test]
    fn a_set_of_paths_holds_what_its_parts_hold() {
        let mut set = PathSet::default();
        assert!(set.is_empty());
        set.add(&["a", "b"]);
        let mut other = PathSet::default();
        other.add(&["a", "c"]);
        other.add(&["room temp"]);
        set.merge(&other);
        assert_eq!(set.paths(), ["a.b", "a.c", "'room temp'"]);
        set.add(&["a"]);
        assert_eq!(set.paths(), ["a", "'room temp'"]);
        set.merge(&PathSet::everything());
        assert_eq!(set.paths(), [""]);
    }

    #[test]
    fn every_value_that_is_read_has_a_number_of_its_own() {
        let keys = |path: &str| -> Vec<Key> { path.split('.').map(Key::from).collect() };
        let mut set = PathSet::default();
        for path in ["a.b", "c", "a.d.e"] {
            set.add(&keys(path));
        }
        let number = |set: &PathSet, path: &str| set.value_at(&keys(path));
        assert_eq!(number(&set, "a.b"), Some(0));
        assert_eq!(number(&set, "a.d.e"), Some(1));
        assert_eq!(number(&set, "c"), Some(2));
        for no_whole_value in ["a", "a.d", "c.x", "z"] {
            assert_eq!(number(&set, no_whole_value), None);
        }
        assert_eq!(set.member("a").unwrap().1.values(), 0..2);
        set.add(&keys("a"));
        assert_eq!((number(&set, "a"), number(&set, "c")), (Some(0), Some(1)));
    }
}
