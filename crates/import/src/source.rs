//! FROM of EMQX as weir has it: the connector in place of a source, and in WHERE what the source was of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::inbound::Inbound;
use crate::words::{Kind, Token, tokens};

/// A statement over what comes in over connectors.
pub(crate) struct Sourced {
    pub(crate) sql: String,
    /// What was added to WHERE, since more comes in over a connector than the rule is to get.
    pub(crate) condition: Option<String>,
    /// Whether that could not be said in WHERE, as a column hides the field.
    pub(crate) is_open: bool,
}

/// The statement with weir's names in place of EMQX's: rules over what comes in name the connector.
pub(crate) fn sourced(sql: &str, inbound: &[Inbound]) -> Sourced {
    let condition = condition(&tokens(sql), inbound);
    let sql = renamed(sql, inbound);
    match condition {
        None => Sourced {
            sql,
            condition: None,
            is_open: false,
        },
        Some(Condition { reads_event, .. }) if reads_event && makes(&sql, "event") => Sourced {
            sql,
            condition: None,
            is_open: true,
        },
        Some(Condition { text, .. }) => {
            let text = if makes(&sql, "topic") {
                text.replace("topic =~", "topic() =~")
            } else {
                text
            };
            Sourced {
                sql: with_condition(&sql, &text),
                condition: Some(text),
                is_open: false,
            }
        }
    }
}

/// `$sources/mqtt:` and `orders` of `$sources/mqtt:orders`.
pub(crate) fn source_name(text: &str) -> Option<(&str, &str)> {
    ["$sources/mqtt:", "$bridges/mqtt:"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .map(|name| (&text[..text.len() - name.len()], name))
}

fn renamed(sql: &str, inbound: &[Inbound]) -> String {
    let names: BTreeMap<&str, &str> = inbound
        .iter()
        .map(|inbound| (&*inbound.name, &*inbound.connector))
        .collect();
    let tokens = tokens(sql);
    let from_clause = from_clause(&tokens);
    let mut out = String::with_capacity(sql.len());
    let mut from = 0;
    for (at, token) in tokens.iter().enumerate() {
        let quote = match token.kind {
            Kind::Quoted | Kind::Text if from_clause.contains(&at) => '"',
            // What `event` is compared with. Any other text is the author's.
            Kind::Text if is_compared(&tokens, at) => '\'',
            _ => continue,
        };
        let value = token.value();
        let Some((source, name)) = source_name(&value) else {
            continue;
        };
        let Some(connector) = names.get(name).filter(|connector| **connector != name) else {
            continue;
        };
        out.push_str(&sql[from..token.start]);
        out.push_str(&format!("{quote}{source}{connector}{quote}"));
        from = token.start + token.text.len();
    }
    out.push_str(&sql[from..]);
    out
}

/// The tokens behind FROM.
fn from_clause(tokens: &[Token<'_>]) -> Range<usize> {
    let keyword = |word: &str| {
        tokens
            .iter()
            .position(|token| token.depth == 0 && token.is(word))
    };
    let end = keyword("WHERE").unwrap_or(tokens.len());
    keyword("FROM").map_or(end, |at| at + 1)..end
}

/// Whether a text stands beside a comparison, in the list of IN, or behind WHEN.
fn is_compared(tokens: &[Token<'_>], at: usize) -> bool {
    let compares = |token: &&Token<'_>| {
        ["=", "<", ">", "!"]
            .iter()
            .any(|symbol| token.is_symbol(symbol))
    };
    let before = at.checked_sub(1).and_then(|at| tokens.get(at));
    let beside = [before, tokens.get(at + 1)];
    if beside.iter().flatten().any(compares) || before.is_some_and(|token| token.is("WHEN")) {
        return true;
    }
    let Some((text, before)) = tokens.get(..=at).and_then(<[_]>::split_last) else {
        return false;
    };
    let open = before
        .iter()
        .rposition(|token| token.is_symbol("(") && token.depth + 1 == text.depth);
    open.and_then(|at| before.get(at.checked_sub(1)?))
        .is_some_and(|token| token.is("IN"))
}

struct Condition {
    text: String,
    /// Whether it asks which source a message is of.
    reads_event: bool,
}

/// What keeps a rule to the sources that it names, where more comes in over their connectors.
fn condition(all_tokens: &[Token<'_>], inbound: &[Inbound]) -> Option<Condition> {
    let mut filters: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut has_others = false;
    let sources = all_tokens.get(from_clause(all_tokens))?;
    for token in sources.iter().filter(|token| token.kind != Kind::Symbol) {
        let value = token.value();
        let name = source_name(&value).map(|(_, name)| name);
        if name == Some("*") {
            return None;
        }
        let mut found = inbound
            .iter()
            .filter(|inbound| name == Some(&*inbound.name))
            .peekable();
        has_others |= found.peek().is_none();
        for inbound in found {
            let filters = filters.entry(&inbound.connector).or_default();
            filters.insert(&inbound.filter);
        }
    }
    let has_others = has_others || filters.len() > 1;
    let terms: Vec<String> = filters
        .iter()
        .filter_map(|(connector, filters)| {
            let comes_in = inbound.iter().filter(|other| other.connector == *connector);
            let is_all = comes_in
                .into_iter()
                .all(|other| filters.contains(&*other.filter));
            if is_all {
                return None;
            }
            let topics: Vec<String> = filters
                .iter()
                .map(|filter| format!("topic =~ '{}'", filter.replace('\'', "''")))
                .collect();
            let topics = topics.join(" OR ");
            Some(if has_others {
                format!("(event <> '$bridges/mqtt:{connector}' OR {topics})")
            } else if filters.len() > 1 {
                format!("({topics})")
            } else {
                topics
            })
        })
        .collect();
    (!terms.is_empty()).then(|| Condition {
        text: terms.join(" AND "),
        reads_event: has_others,
    })
}

/// Whether a column has that name, and so hides the field in WHERE.
fn makes(sql: &str, name: &str) -> bool {
    let tokens = tokens(sql);
    tokens
        .windows(2)
        .any(|pair| pair[0].is("AS") && pair[1].value() == name)
}

/// The statement with one more condition, before those that it has.
fn with_condition(sql: &str, condition: &str) -> String {
    let tokens = tokens(sql);
    let last = tokens.iter().rfind(|token| !token.is_symbol(";"));
    let end = last.map_or(sql.len(), |token| token.start + token.text.len());
    let (before, after) = sql.split_at(end);
    let keyword = tokens
        .iter()
        .position(|token| token.depth == 0 && token.is("WHERE"));
    let terms = keyword.and_then(|at| tokens.get(at + 1..)).unwrap_or(&[]);
    let Some(first) = terms.first().filter(|first| first.start < end) else {
        return format!("{before}\nWHERE {condition}{after}");
    };
    let (before, terms_text) = before.split_at(first.start);
    let binds_less = |token: &Token<'_>| token.depth == 0 && (token.is("OR") || token.is("XOR"));
    if terms.iter().any(binds_less) {
        format!("{before}{condition} AND ({terms_text}){after}")
    } else {
        format!("{before}{condition} AND {terms_text}{after}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `one` and `two` come in over `hq`, `far` over `other`, and `hq` has no source of its name.
    fn sql(statement: &str) -> String {
        let inbound = |name: &str, connector: &str, filter: &str| Inbound {
            name: name.to_owned(),
            connector: connector.to_owned(),
            filter: filter.to_owned(),
            ..Inbound::default()
        };
        let all = [
            inbound("one", "hq", "a/+"),
            inbound("two", "hq", "it's"),
            inbound("far", "other", "c"),
        ];
        sourced(statement, &all).sql
    }

    #[test]
    fn sources_are_renamed_in_from_and_where_event_is_compared_with_them() {
        assert_eq!(
            sql(
                "SELECT '$sources/mqtt:far' AS src, \"$sources/mqtt:far\" AS field FROM '$sources/mqtt:far' \
                 WHERE event = '$bridges/mqtt:far' OR event IN ('x', '$bridges/mqtt:far') OR strlen('$bridges/mqtt:far') = 1"
            ),
            "SELECT '$sources/mqtt:far' AS src, \"$sources/mqtt:far\" AS field FROM \"$sources/mqtt:other\" \
             WHERE event = '$bridges/mqtt:other' OR event IN ('x', '$bridges/mqtt:other') OR strlen('$bridges/mqtt:far') = 1"
        );
        assert_eq!(
            sql(
                "SELECT CASE WHEN event = '$bridges/mqtt:far' THEN '$bridges/mqtt:far' END AS e FROM \"$bridges/mqtt:far\""
            ),
            "SELECT CASE WHEN event = '$bridges/mqtt:other' THEN '$bridges/mqtt:far' END AS e FROM \"$bridges/mqtt:other\""
        );
    }

    #[test]
    fn a_rule_over_one_of_several_sources_of_a_connector_is_kept_to_its_topics() {
        assert_eq!(
            sql("SELECT * FROM \"$sources/mqtt:one\""),
            "SELECT * FROM \"$sources/mqtt:hq\"\nWHERE topic =~ 'a/+'"
        );
        assert_eq!(
            sql("SELECT * FROM \"$sources/mqtt:two\" WHERE qos = 1 AND retain -- last\n;"),
            "SELECT * FROM \"$sources/mqtt:hq\" WHERE topic =~ 'it''s' AND qos = 1 AND retain -- last\n;"
        );
        assert_eq!(
            sql("SELECT payload.x AS topic FROM \"$sources/mqtt:one\" WHERE qos = 1 OR retain"),
            "SELECT payload.x AS topic FROM \"$sources/mqtt:hq\" WHERE topic() =~ 'a/+' AND (qos = 1 OR retain)"
        );
    }

    #[test]
    fn what_else_triggers_the_rule_is_not_asked_for_the_topics_of_a_connector() {
        assert_eq!(
            sql("SELECT * FROM \"$sources/mqtt:one\", \"t/#\", \"$sources/mqtt:far\""),
            "SELECT * FROM \"$sources/mqtt:hq\", \"t/#\", \"$sources/mqtt:other\"\n\
             WHERE (event <> '$bridges/mqtt:hq' OR topic =~ 'a/+')"
        );
    }

    #[test]
    fn a_rule_over_all_that_comes_in_stays_without_a_condition() {
        assert_eq!(
            sql("SELECT * FROM \"$sources/mqtt:one\", \"$sources/mqtt:two\""),
            "SELECT * FROM \"$sources/mqtt:hq\", \"$sources/mqtt:hq\""
        );
        let any = "SELECT * FROM \"$bridges/mqtt:*\"";
        assert_eq!(sql(any), any);
    }
}
