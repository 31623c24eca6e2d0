//! `x IN list` where the same long list is asked again and again, as FOREACH does for each element: from the second
//! time on an index of it answers, so that all of them together take as long as both lists are.

use std::collections::HashSet;
use std::sync::Arc;

use super::conditions::is_member;
use crate::comparison::strict_key;
use crate::value::Value;

/// Shorter lists are gone through each time.
const LONG: usize = 32;

/// What one IN of a rule has seen during an evaluation.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// The list that was asked last. As it is kept, no other list can be in its place in memory.
    list: Option<Arc<Vec<Value>>>,
    /// Made when the list comes a second time.
    index: Option<Index>,
}

impl Members {
    /// Whether `value [NOT] IN list` holds.
    pub(super) fn holds(&mut self, value: &Value, list: &Arc<Vec<Value>>, negated: bool) -> bool {
        if self
            .list
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, list))
        {
            return self
                .index
                .get_or_insert_with(|| Index::of(list))
                .holds(value, negated);
        }
        self.list = Some(Arc::clone(list));
        self.index = None;
        is_member(value, list, negated)
    }
}

/// Whether an index may be worth its making.
pub(super) const fn is_long(list: &[Value]) -> bool {
    list.len() >= LONG
}

/// The values of a list by the equality of `=` (rule-SQL §5.1).
#[derive(Debug)]
struct Index {
    /// The values themselves.
    strict: Keys,
    /// The numbers that texts among them are read as (rule 5).
    numbers_in_texts: Keys,
    is_empty: bool,
}

/// Keys of values that are strictly equal.
type Keys = HashSet<Vec<u8>, ahash::RandomState>;

impl Index {
    fn of(list: &[Value]) -> Self {
        let mut index = Self {
            strict: Keys::default(),
            numbers_in_texts: Keys::default(),
            is_empty: list.is_empty(),
        };
        for value in list {
            count_look();
            index.strict.insert(strict_key(value));
            if let Value::Text(text) = value
                && let Some(number) = text.number()
            {
                index.numbers_in_texts.insert(strict_key(&number));
            }
        }
        index
    }

    fn holds(&self, value: &Value, negated: bool) -> bool {
        if !negated {
            return self.has_equal(value);
        }
        // Undefined differs from nothing (rule 2), so it is in no list, and not in none.
        let is_unknown = match value {
            Value::Undefined => !self.is_empty,
            _ => self.has(&Value::Undefined),
        };
        !is_unknown && !self.has_equal(value)
    }

    fn has(&self, value: &Value) -> bool {
        count_look();
        self.strict.contains(&strict_key(value))
    }

    fn has_equal(&self, value: &Value) -> bool {
        if self.has(value) {
            return true;
        }
        match value {
            Value::Int(_) | Value::Float(_) => self.numbers_in_texts.contains(&strict_key(value)),
            Value::Text(text) => {
                let boolean = match text.as_bytes() {
                    b"true" => Some(true),
                    b"false" => Some(false),
                    _ => None,
                };
                boolean.is_some_and(|boolean| self.has(&Value::Bool(boolean)))
                    || text.number().is_some_and(|number| self.has(&number))
            }
            Value::Bool(held) => self.has(&Value::from(if *held { "true" } else { "false" })),
            _ => false,
        }
    }
}

/// Counts what is looked at, for the test that it is not too much.
pub(super) fn count_look() {
    #[cfg(test)]
    tests::LOOKS.with(|looks| looks.set(looks.get() + 1));
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::event::Event;
    use crate::{Catalog, Input, compile, json};

    thread_local! {
        pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    /// Values of which many are equal to others in one way or another.
    fn values() -> Vec<Value> {
        let texts = [
            "0",
            "-0.0",
            "1",
            "1.0",
            "2.5",
            "1e18",
            "true",
            "null",
            "\"1\"",
            "\"1.0\"",
            "\"01\"",
            "\"2.5\"",
            "\"-0\"",
            "\"true\"",
            "\"false\"",
            "\"\"",
            "\"x\"",
            "\" 1\"",
            "false",
            "[1]",
            "[1.0]",
            "[\"1\"]",
            "{\"a\":1}",
            "{\"a\":1.0,\"b\":[]}",
            "[]",
            "{}",
            "9007199254740993",
            "9007199254740992.0",
            "\"9007199254740993\"",
            "9.3e18",
            "\"9300000000000000000\"",
            "\"1e999\"",
        ];
        let undefined_member: Value = [("a", Value::from(1)), ("c", Value::Undefined)]
            .into_iter()
            .collect();
        texts
            .iter()
            .map(|text| json::decode(text.as_bytes()).unwrap())
            .chain([Value::Undefined, undefined_member])
            .collect()
    }

    #[test]
    fn an_index_says_what_going_through_the_list_says() {
        let values = values();
        let lists = values
            .iter()
            .map(|value| vec![value.clone()])
            .chain([Vec::new(), values.clone(), values[..6].to_vec()])
            .chain(values.windows(3).map(<[Value]>::to_vec));
        for list in lists {
            let index = Index::of(&list);
            for value in &values {
                for negated in [false, true] {
                    assert_eq!(
                        index.holds(value, negated),
                        is_member(value, &list, negated),
                        "{value:?} {negated} {list:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn foreach_looks_at_each_element_of_a_list_a_few_times_and_not_once_for_each_of_its_own() {
        let count = |condition: &str, numbers: usize| {
            let sql = format!("FOREACH payload.a AS e DO e AS e INCASE {condition} FROM \"t\"");
            let (rule, _) = compile(&sql, &Catalog::default()).unwrap();
            let list = |from: usize| {
                (from..from + numbers)
                    .map(|n| n.to_string())
                    .collect::<Vec<_>>()
                    .join(",")
            };
            let payload = format!(
                "{{\"a\":[{}],\"b\":[{}],\"c\":[{}]}}",
                list(0),
                list(numbers),
                list(7)
            );
            let event = Event::publish("t", payload);
            let input = Input::new(&event, rule.needs());
            LOOKS.set(0);
            let outputs = rule
                .evaluate(&input, "r", &mut crate::env::Nowhere)
                .unwrap();
            (outputs.len(), LOOKS.get())
        };
        for (condition, passed) in [
            ("e IN payload.b", 0),
            ("e NOT IN payload.b AND e NOT IN payload.c", 7),
            ("e + 1 IN payload.b OR NOT e NOT IN payload.b", 1),
        ] {
            let (outputs, looks) = count(condition, 2000);
            assert_eq!(outputs, passed, "{condition}");
            assert!(looks < 12 * 2000, "{condition}: {looks} looks");
        }
    }
}
