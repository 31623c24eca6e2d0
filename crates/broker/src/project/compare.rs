//! What two versions of a rule make of one message, row by row.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value as Json;
use weir_rules::Input;
use weir_rules::event::Event;

use super::check::CheckedRule;
use super::run_test::to_json;
use crate::pipeline::world::World;

/// One version of a rule in a world of its own: what it keeps there, the other version does not see.
pub struct Version {
    rule: CheckedRule,
    world: World,
}

/// What a version makes of a message: rows, or why it makes none.
pub type Made = Result<Vec<Json>, String>;

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only the new version makes it.
    Added,
    /// Only the version before makes it.
    Missing,
    /// Both make it, with other values.
    Different,
}

/// A row that is not the same in both versions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// How it differs.
    pub kind: Kind,
    /// Which row of the message, from 0.
    pub row: usize,
    /// As the version before makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Json>,
    /// As the new version makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Json>,
    /// The fields whose values differ, or that only one of them has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Why the version without the row makes none, where it is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Version {
    /// A version that has seen no message yet.
    pub fn new(rule: CheckedRule, world: World) -> Self {
        Self { rule, world }
    }

    /// The rule.
    pub fn rule(&self) -> &CheckedRule {
        &self.rule
    }

    /// Whether the message is one for this version at all.
    pub fn wants(&self, event: &Event) -> bool {
        let own = event.made_by() == Some(&*self.rule.id);
        self.rule.enabled && !own && self.rule.rule.matches(event)
    }

    /// The rows of a message, at the time of the message: what the clock and chance give is the same for all versions.
    pub fn rows(&self, event: &Event) -> Made {
        if !self.wants(event) {
            return Ok(Vec::new());
        }
        let world = self.world.at(i128::from(event.timestamp_ms) * 1_000_000);
        let input = Input::new(event, self.rule.rule.needs());
        let id: &Arc<str> = &self.rule.id;
        let rows = self.rule.rule.evaluate(&input, id, &mut world.moment());
        let rows = rows.map_err(|error| error.to_string())?;
        let shown = |row| to_json(row).unwrap_or_else(|why| Json::from(format!("({why})")));
        Ok(rows.iter().map(shown).collect())
    }
}

/// Which rows are not the same. Of several rows of one message, those with the same number are held together.
pub fn changes(before: Made, after: Made) -> Vec<Change> {
    if before == after {
        return Vec::new();
    }
    let (before_error, after_error) = (
        before.as_ref().err().cloned(),
        after.as_ref().err().cloned(),
    );
    let (mut before, mut after) = (
        before.unwrap_or_default().into_iter(),
        after.unwrap_or_default().into_iter(),
    );
    let mut changes = Vec::new();
    for row in 0.. {
        let change = match (before.next(), after.next()) {
            (None, None) => break,
            (Some(before), Some(after)) if before == after => continue,
            (Some(before), Some(after)) => Change {
                kind: Kind::Different,
                row,
                fields: fields(&before, &after),
                before: Some(before),
                after: Some(after),
                error: None,
            },
            (before, after) => Change {
                kind: if before.is_some() {
                    Kind::Missing
                } else {
                    Kind::Added
                },
                row,
                error: if before.is_some() {
                    after_error.clone()
                } else {
                    before_error.clone()
                },
                before,
                after,
                fields: Vec::new(),
            },
        };
        changes.push(change);
    }
    changes
}

/// The keys with other values, in the order of the rows.
fn fields(before: &Json, after: &Json) -> Vec<String> {
    let (Json::Object(before), Json::Object(after)) = (before, after) else {
        return Vec::new();
    };
    let of_before = before
        .iter()
        .filter(|(key, value)| after.get(*key) != Some(value));
    let new = after.keys().filter(|key| !before.contains_key(*key));
    of_before.map(|(key, _)| key).chain(new).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds(before: Made, after: Made) -> Vec<(Kind, usize, String)> {
        let changes = changes(before, after).into_iter();
        changes
            .map(|change| (change.kind, change.row, change.fields.join(" ")))
            .collect()
    }

    fn rows<const N: usize>(values: [Json; N]) -> Made {
        Ok(values.into())
    }

    #[test]
    fn rows_are_held_together_by_their_place() {
        let (a, b) = (
            json!({ "a": 1, "b": 2 }),
            json!({ "a": 1, "b": 3, "c": null }),
        );
        assert_eq!(kinds(rows([a.clone()]), rows([a.clone()])), []);
        assert_eq!(
            kinds(rows([a.clone(), a.clone()]), rows([b.clone()])),
            [
                (Kind::Different, 0, "b c".to_owned()),
                (Kind::Missing, 1, String::new())
            ]
        );
        assert_eq!(
            kinds(rows([]), rows([b.clone()])),
            [(Kind::Added, 0, String::new())]
        );
    }

    #[test]
    fn a_row_that_an_error_costs_is_missing_with_the_reason() {
        let found = changes(Ok(vec![json!({})]), Err("no".to_owned()));
        assert_eq!(
            (found[0].kind, found[0].error.as_deref()),
            (Kind::Missing, Some("no"))
        );
        let mended = changes(Err("no".to_owned()), Ok(vec![json!({})]));
        assert_eq!(
            (mended[0].kind, mended[0].error.as_deref()),
            (Kind::Added, Some("no"))
        );
        assert!(changes(Err("no".to_owned()), Ok(Vec::new())).is_empty());
    }
}
