//! What a statement looks at, as far as its words tell: paths into the payload, fields, and the constants beside them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Number, Value};

use crate::words::{Kind, Step, Token, path, tokens};

/// What a statement looks at.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Paths into the payload, none the beginning of another.
    pub(crate) payload: BTreeSet<Vec<Step>>,
    /// Fields of the source besides the payload.
    pub(crate) fields: BTreeSet<String>,
    /// Keys of `pub_props.'User-Property'`.
    pub(crate) user_properties: BTreeSet<String>,
    /// Whether there is a `*`.
    pub(crate) everything: bool,
    /// Texts and numbers that stand in it.
    pub(crate) constants: Vec<Value>,
}

/// Reads the words of a statement.
pub(crate) fn reads(sql: &str) -> Reads {
    let tokens = tokens(sql);
    let parts = Parts::of(&tokens);
    let mut reads = Reads::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if parts.sources.contains(&at) || parts.alias_names.contains(&at) {
            at += 1;
            continue;
        }
        match token.kind {
            Kind::Text if !token.is_key => reads.constant(Value::String(token.value())),
            Kind::Number if !token.is_key => {
                if let Ok(number) = token.text.parse::<Number>() {
                    reads.constant(Value::Number(number));
                }
            }
            _ => {}
        }
        let called = tokens.get(at + 1).is_some_and(|next| next.is_symbol("("));
        if called && token.kind == Kind::Word {
            reads.function(&token.text.to_ascii_lowercase());
            if let Some(steps) = parts.fetched(&tokens, at) {
                reads.path(steps);
            }
        }
        match path(&tokens, at) {
            Some((steps, _)) => {
                reads.path(parts.resolve(steps));
                at += 1;
            }
            None => at += 1,
        }
    }
    reads.everything = parts.star;
    let paths: Vec<_> = reads.payload.iter().cloned().collect();
    reads.payload.retain(|path| {
        !paths
            .iter()
            .any(|other| other.len() > path.len() && other.starts_with(path))
    });
    reads
}

impl Reads {
    fn constant(&mut self, value: Value) {
        if !self.constants.contains(&value) {
            self.constants.push(value);
        }
    }

    fn function(&mut self, name: &str) {
        if matches!(name, "clientid" | "username" | "qos" | "topic") {
            self.fields.insert(name.to_owned());
        }
    }

    fn path(&mut self, steps: Vec<Step>) {
        let keys: Vec<&str> = steps
            .iter()
            .map(|step| match step {
                Step::Key(key) => key.as_str(),
                _ => "",
            })
            .collect();
        match keys[..] {
            ["payload", ..] if steps.len() > 1 => {
                self.payload.insert(steps.iter().skip(1).cloned().collect());
            }
            ["pub_props", "User-Property", key, ..] if !key.is_empty() => {
                self.user_properties.insert(key.to_owned());
            }
            [field, ..] => {
                self.fields.insert(field.to_owned());
            }
            [] => {}
        }
    }
}

/// The statement's lists, by the numbers of their tokens.
#[derive(Default)]
struct Parts {
    /// Names that stand for a path: aliases, and the element of FOREACH.
    aliases: BTreeMap<String, Option<Vec<Step>>>,
    /// The tokens of FROM.
    sources: BTreeSet<usize>,
    /// The tokens after AS.
    alias_names: BTreeSet<usize>,
    star: bool,
}

impl Parts {
    fn of(tokens: &[Token<'_>]) -> Self {
        let mut parts = Self::default();
        let clauses: Vec<usize> = tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| {
                token.depth == 0
                    && ["SELECT", "FOREACH", "DO", "INCASE", "FROM", "WHERE"]
                        .iter()
                        .any(|word| token.is(word))
            })
            .map(|(at, _)| at)
            .collect();
        for (index, start) in clauses.iter().enumerate() {
            let end = clauses.get(index + 1).copied().unwrap_or(tokens.len());
            let Some(keyword) = tokens.get(*start) else {
                continue;
            };
            if keyword.is("FROM") {
                parts.sources.extend(start + 1..end);
            } else if ["SELECT", "FOREACH", "DO"]
                .iter()
                .any(|word| keyword.is(word))
            {
                parts.list(tokens, start + 1, end, keyword.is("FOREACH"));
            }
        }
        parts
    }

    fn list(&mut self, tokens: &[Token<'_>], start: usize, end: usize, foreach: bool) {
        let mut from = start;
        while from < end {
            let comma = (from..end).find(|at| {
                tokens
                    .get(*at)
                    .is_some_and(|token| token.depth == 0 && token.is_symbol(","))
            });
            let to = comma.unwrap_or(end);
            self.item(tokens, from, to, foreach && comma.is_none());
            from = to + 1;
        }
    }

    fn item(&mut self, tokens: &[Token<'_>], from: usize, to: usize, is_collection: bool) {
        let item = tokens.get(from..to).unwrap_or_default();
        if let [star] = item
            && star.is_symbol("*")
        {
            self.star = true;
            return;
        }
        let alias_at = item
            .iter()
            .position(|token| token.depth == 0 && token.is("AS"))
            .map(|at| from + at);
        let expression = tokens.get(from..alias_at.unwrap_or(to)).unwrap_or_default();
        let mut base = self.base(expression);
        if is_collection && let Some(base) = &mut base {
            base.push(Step::Any);
        }
        if let Some(at) = alias_at {
            self.alias_names.extend(at + 1..to);
        }
        let name = alias_at.and_then(|at| tokens.get(at + 1)).map(Token::value);
        match name {
            // `AS a.b` makes an object: not a name for this path alone.
            Some(name) if alias_at.is_some_and(|at| at + 2 == to) => {
                self.aliases.insert(name, base);
            }
            Some(name) => {
                self.aliases.entry(name).or_insert(None);
            }
            None if is_collection => {
                self.aliases.insert("item".to_owned(), base);
            }
            None => {}
        }
    }

    /// The path that an expression is: itself, or the decoded payload.
    fn base(&self, expression: &[Token<'_>]) -> Option<Vec<Step>> {
        if let [function, open, inner @ .., close] = expression
            && function.is("JSON_DECODE")
            && open.is_symbol("(")
            && close.is_symbol(")")
        {
            // Any other text that is decoded is one value of the message.
            return self.base(inner).filter(|steps| steps.len() == 1);
        }
        let (steps, next) = path(expression, 0)?;
        (next == expression.len()).then(|| self.resolve(steps))
    }

    /// `map_get('a.b', payload)` and its kin read what `payload.a.b` does.
    fn fetched(&self, tokens: &[Token<'_>], at: usize) -> Option<Vec<Step>> {
        let function = tokens.get(at)?;
        let key = tokens.get(at + 2).filter(|key| key.kind == Kind::Text)?;
        if !(function.is("MAP_GET") || function.is("MGET")) {
            return None;
        }
        let rest = tokens.get(at + 4..)?;
        let inside = function.depth + 1;
        let end = rest.iter().position(|token| {
            (token.is_symbol(",") && token.depth == inside)
                || (token.is_symbol(")") && token.depth < inside)
        })?;
        let mut steps = self.base(rest.get(..end)?)?;
        steps.extend(key.value().split('.').map(|key| Step::Key(key.to_owned())));
        Some(steps)
    }

    /// A path with what its first name stands for. The path of a name that stands for no path is empty.
    fn resolve(&self, steps: Vec<Step>) -> Vec<Step> {
        let Some((Step::Key(name), rest)) = steps.split_first() else {
            return steps;
        };
        match self.aliases.get(name) {
            Some(Some(base)) => base.iter().chain(rest).cloned().collect(),
            // An alias of the field's own name: the field is what the expression reads.
            Some(None) if name != "payload" => Vec::new(),
            _ => steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(sql: &str) -> Vec<String> {
        reads(sql)
            .payload
            .iter()
            .map(|steps| {
                let steps: Vec<String> = steps
                    .iter()
                    .map(|step| match step {
                        Step::Key(key) => key.clone(),
                        Step::Index(index) => index.to_string(),
                        Step::Any => "*".to_owned(),
                    })
                    .collect();
                steps.join(".")
            })
            .collect()
    }

    #[test]
    fn payload_paths_are_found_in_every_clause() {
        assert_eq!(
            paths(
                "SELECT payload.a AS x, f(payload.b.c) FROM \"payload.no\" WHERE payload.d[1] > 2 AND payload.b = 'payload.e'"
            ),
            ["a", "b.c", "d.1"]
        );
    }

    #[test]
    fn aliases_and_elements_lead_back_to_the_payload() {
        assert_eq!(
            paths("SELECT json_decode(payload) AS p, p.temp AS t FROM \"t\" WHERE t > 1"),
            ["temp"]
        );
        assert_eq!(
            paths(
                "FOREACH payload.v AS v, payload.list AS s DO s.id AS id, v INCASE s.value > 1 FROM \"t\""
            ),
            ["list.*.id", "list.*.value", "v"]
        );
        assert_eq!(paths("FOREACH payload DO item.x FROM \"t\""), ["*.x"]);
        assert_eq!(
            paths(
                "SELECT map_get('a.b', payload, 0) AS x, mget('c', json_decode(payload)) AS y, mget('d', payload.e) AS z FROM \"t\""
            ),
            ["a.b", "c", "e.d"]
        );
    }

    #[test]
    fn fields_constants_and_user_properties_are_found_too() {
        let reads = reads(
            "SELECT *, clientid AS who, upper(username) FROM \"t/+\" WHERE qos = 1 AND pub_props.'User-Property'.site = 'hq' AND who <> 'x'",
        );
        assert!(reads.everything);
        let fields: Vec<&str> = reads.fields.iter().map(String::as_str).collect();
        assert_eq!(fields, ["clientid", "qos", "username"]);
        assert!(reads.user_properties.contains("site"));
        assert_eq!(
            reads.constants,
            [Value::from(1), Value::from("hq"), Value::from("x")]
        );
    }
}
