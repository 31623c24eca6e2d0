//! Access lists inside other documents: the `acl` claim of a token, the answer of an HTTP service.
//!
//! Either lists by action, `{"publish": ["a/%c"], "subscribe": ["b/#"], "all": []}`, or rules in their order,
//! `[{"permission": "allow", "action": "publish", "topic": "a/%c"}]`.

use serde_json::Value;

use super::{Acl, Actions, Pattern, Rule};

/// Why a document holds no access list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClaimError(String);

impl Acl {
    /// Reads an access list out of JSON. Nothing in it is passed over: a rule that is not understood might be a denial.
    ///
    /// # Errors
    /// When any part of it is not understood.
    pub fn from_json(value: &Value) -> Result<Self, ClaimError> {
        match value {
            Value::Array(rules) => Ok(Self {
                rules: rules.iter().map(read_rule).collect::<Result<_, _>>()?,
                ..Self::default()
            }),
            Value::Object(lists) => {
                let mut rules = Vec::new();
                for (action, topics) in lists {
                    let actions = read_action(action)?;
                    let topics = topics
                        .as_array()
                        .ok_or_else(|| ClaimError(format!("`{action}` is no list of topics")))?;
                    for topic in topics {
                        rules.push(Rule {
                            allow: true,
                            actions,
                            pattern: read_topic(topic)?,
                            who: Vec::new(),
                        });
                    }
                }
                Ok(Self {
                    rules,
                    ..Self::default()
                })
            }
            _ => Err(ClaimError(
                "it is neither lists of topics by action nor a list of rules".to_owned(),
            )),
        }
    }
}

fn read_rule(rule: &Value) -> Result<Rule, ClaimError> {
    let rule = rule
        .as_object()
        .ok_or_else(|| ClaimError("a rule is no object".to_owned()))?;
    let mut allow = None;
    let mut actions = Actions::All;
    let mut pattern = None;
    for (key, value) in rule {
        let word = value.as_str();
        match (key.as_str(), word) {
            ("permission", Some("allow")) => allow = Some(true),
            ("permission", Some("deny")) => allow = Some(false),
            ("action", Some(action)) => actions = read_action(action)?,
            ("topic", Some(_)) => pattern = Some(read_topic(value)?),
            _ => return Err(ClaimError(format!("`{key}` of a rule is not understood"))),
        }
    }
    match (allow, pattern) {
        (Some(allow), Some(pattern)) => Ok(Rule {
            allow,
            actions,
            pattern,
            who: Vec::new(),
        }),
        _ => Err(ClaimError(
            "a rule needs `permission` and `topic`".to_owned(),
        )),
    }
}

fn read_action(action: &str) -> Result<Actions, ClaimError> {
    match action {
        "publish" | "pub" => Ok(Actions::Publish),
        "subscribe" | "sub" => Ok(Actions::Subscribe),
        "all" => Ok(Actions::All),
        _ => Err(ClaimError(format!("the action `{action}` is not known"))),
    }
}

fn read_topic(topic: &Value) -> Result<Pattern, ClaimError> {
    let topic = topic
        .as_str()
        .ok_or_else(|| ClaimError("a topic is no text".to_owned()))?;
    Pattern::parse(topic).map_err(|(message, _)| ClaimError(message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::subject;
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let lists = json!({"pub": ["a/%c"], "subscribe": ["b/#"]});
        let rules = json!([
            {"permission": "deny", "action": "publish", "topic": "a/x"},
            {"permission": "allow", "action": "pub", "topic": "a/+"},
            {"permission": "allow", "topic": "b/#"},
        ]);
        let client = subject("c", None);
        let lists = Acl::from_json(&lists).unwrap();
        assert_eq!(lists.publish(&client, "a/c"), Some(true));
        assert_eq!(lists.publish(&client, "b/c"), None);
        let rules = Acl::from_json(&rules).unwrap();
        assert_eq!(rules.publish(&client, "a/x"), Some(false));
        assert_eq!(rules.publish(&client, "b/c"), Some(true));
    }

    #[test]
    fn what_is_not_understood_is_refused_as_a_whole() {
        for value in [
            json!("a/#"),
            json!({"pub": "a"}),
            json!({"publishes": ["a"]}),
            json!({"pub": ["a", 1]}),
            json!({"pub": ["a/#/b"]}),
            json!([{"permission": "maybe", "topic": "a"}]),
            json!([{"permission": "deny"}]),
            json!([{"permission": "deny", "topic": "a", "user": "x"}]),
        ] {
            assert!(Acl::from_json(&value).is_err(), "{value}");
        }
    }
}
