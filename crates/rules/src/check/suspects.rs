//! What is legal and surely not meant: keys with a hyphen, places of templates in strings, index 0, topic wildcards
//! where they are ordinary characters.

use weir_mqtt::topic::TopicFilter;

use super::satisfiable::scalar;
use super::{Check, View};
use crate::ast::{Arithmetic, Call, Expr, ExprKind, Step};
use crate::comparison::Comparison;
use crate::diagnostic::{Code, Place};
use crate::eval::constant;
use crate::event::EventName;
use crate::explain::terms;
use crate::functions;
use crate::path::quoted_key;
use crate::source::SourceFilter;
use crate::template;
use crate::value::Value;

impl Check<'_> {
    /// `payload.room-temp` subtracts: where `temp` is no field, the key has a hyphen. Gives whether that was said.
    pub(super) fn hyphen(&mut self, left: &Expr, right: &Expr, at: Place, view: &View) -> bool {
        let whole = at.text(self.sql);
        let root = |expr: &Expr| match &expr.kind {
            ExprKind::Name { name, quoted } => (!quoted).then(|| name.clone()),
            ExprKind::Path { root, .. } => match &root.kind {
                ExprKind::Name { name, quoted } => (!quoted).then(|| name.clone()),
                _ => None,
            },
            _ => None,
        };
        let mut first = left;
        while let ExprKind::Arithmetic {
            operator: Arithmetic::Subtract,
            left,
            ..
        } = &first.kind
        {
            first = left;
        }
        let (Some(start), Some(name)) = (root(first), root(right)) else {
            return false;
        };
        let known = |name: &str| self.is_field(name, view) || self.is_alias(name, view);
        if self.fields.is_empty()
            || whole.contains(|c: char| c.is_whitespace() || "()'\"`/".contains(c))
            || !known(&start)
            || known(&name)
        {
            return false;
        }
        // The key with the hyphen goes from the last dot before the first hyphen to the next dot.
        let Some((before, after)) = whole.split_once('-') else {
            return false;
        };
        let Some((path, key_start)) = before.rsplit_once('.') else {
            return false;
        };
        let (key_end, rest) = after.split_at(after.find(['.', '[']).unwrap_or(after.len()));
        let key = format!("{key_start}-{key_end}");
        self.say(
            Code::UnknownField,
            at,
            format!("this subtracts `{name}`, and no source has such a field"),
            format!(
                "a key with a hyphen is written {path}.{}{rest}",
                quoted_key(&key)
            ),
        );
        true
    }

    /// `payload.list[0]`
    pub(super) fn index_zero(&mut self, steps: &[Step]) {
        for step in steps {
            if let Step::Index(index) = step
                && matches!(index.literal(), Some(Value::Int(0)))
            {
                self.say(
                    Code::IndexZero,
                    index.at,
                    "there is no element 0: this is always undefined",
                    "elements are counted from 1, or from the end with -1",
                );
            }
        }
    }

    /// `nth(0, …)` and `topic(0)`
    pub(super) fn call_of_zero(&mut self, call: &Call) {
        let name = call.name.to_ascii_lowercase();
        let (place, what) = match (name.as_str(), call.args.len()) {
            ("nth", 2) => (0, "always fails"),
            ("element_at", 2) => (1, "is always undefined"),
            ("topic", 1) => (0, "is always undefined"),
            _ => return,
        };
        if let Some(arg) = call.args.get(place)
            && let Some(Ok(Value::Int(0))) = constant(arg)
        {
            let message = format!("there is no element 0: `{name}` {what}");
            self.say(
                Code::IndexZero,
                arg.at,
                message,
                "elements are counted from 1",
            );
        }
    }

    /// What a field that is text is compared with: a wildcard that means nothing there, a topic that FROM lets
    /// nothing through from, a number.
    pub(super) fn text_field(&mut self, expr: &Expr, view: &View) {
        let (field, constants, operator) = match &expr.kind {
            ExprKind::Compare {
                operator,
                left,
                right,
            } => match (scalar(left), scalar(right)) {
                (None, Some(_)) => (left, vec![&**right], Some(*operator)),
                (Some(_), None) => (right, vec![&**left], Some(operator.turned())),
                _ => return,
            },
            ExprKind::InList {
                value,
                list,
                negated,
            } => {
                let operator = if *negated {
                    Comparison::NotEqual
                } else {
                    Comparison::Equal
                };
                (value, list.iter().collect(), Some(operator))
            }
            ExprKind::Like { value, pattern, .. } => (value, vec![&**pattern], None),
            _ => return,
        };
        self.text_as_number(expr, field, &constants, operator, view);
        let ExprKind::Name { name, .. } = &field.kind else {
            return;
        };
        let is_equality = matches!(
            operator,
            None | Some(Comparison::Equal | Comparison::NotEqual)
        );
        if &**name != "topic"
            || !is_equality
            || !self.is_field(name, view)
            || !self.topics_are_names()
        {
            return;
        }
        for constant in constants {
            if let Some(value @ Value::Text(_)) = scalar(constant) {
                self.topic_constant(expr, constant, &value, operator);
            }
        }
    }

    /// `x BETWEEN 1 AND 5`, where `x` is a text.
    pub(super) fn text_between(
        &mut self,
        value: &Expr,
        low: &Expr,
        high: &Expr,
        expr: &Expr,
        view: &View,
    ) {
        let order = Some(Comparison::GreaterOrEqual);
        self.text_as_number(expr, value, &[low, high], order, view);
    }

    /// A client id, a topic or a part of one that is compared with a number.
    fn text_as_number(
        &mut self,
        expr: &Expr,
        text: &Expr,
        constants: &[&Expr],
        operator: Option<Comparison>,
        view: &View,
    ) {
        let Some(operator) = operator else {
            return;
        };
        let is_client = matches!(&text.kind, ExprKind::Name { name, .. }
            if &**name == "clientid" && self.is_field(name, view));
        if !is_client && !self.is_of_topic(text, view) {
            return;
        }
        let is_number =
            |constant: &&&Expr| matches!(scalar(constant), Some(Value::Int(_) | Value::Float(_)));
        let Some(number) = constants.iter().find(is_number) else {
            return;
        };
        let written = text.at.text(self.sql);
        let is_equality = matches!(operator, Comparison::Equal | Comparison::NotEqual);
        let label = if is_equality || is_client || matches!(text.kind, ExprKind::Name { .. }) {
            format!("write '{}' to compare texts", number.at.text(self.sql))
        } else {
            // Texts have another order: '10' < '9'.
            format!("write `int({written})` where it is a number")
        };
        self.say(
            Code::TextAsNumber,
            expr.at,
            format!("`{written}` is text, and is compared as a number here"),
            label,
        );
    }

    /// Whether it is the topic or a text that is a part of it.
    fn is_of_topic(&self, expr: &Expr, view: &View) -> bool {
        match &expr.kind {
            ExprKind::Name { name, .. } if self.is_alias(name, view) => self
                .aliased(name, view)
                .is_some_and(|(item, view)| self.is_of_topic(item, &view)),
            ExprKind::Name { name, .. } => &**name == "topic" && self.is_field(name, view),
            // `split(topic, '/')[2]`
            ExprKind::Path { root, steps } => {
                matches!(steps.split_last(), Some((Step::Index(_), slices)) if are_slices(slices))
                    && self.is_levels(root, view)
            }
            ExprKind::Call(call) if call.namespace.is_none() => {
                let name = call.name.to_ascii_lowercase();
                match (name.as_str(), call.args.as_slice()) {
                    ("topic", []) | ("topic", [_]) => self.fields.contains(&"topic"),
                    ("nth", [_, list]) | ("element_at", [list, _]) | ("first" | "last", [list]) => {
                        self.is_levels(list, view)
                    }
                    (
                        "substr" | "substring" | "lower" | "upper" | "trim" | "ltrim" | "rtrim"
                        | "find" | "replace" | "rm_prefix" | "regex_replace" | "regexp_replace"
                        | "regexp_substr",
                        [text, ..],
                    ) => self.is_of_topic(text, view),
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Whether it is an array of parts of the topic.
    fn is_levels(&self, expr: &Expr, view: &View) -> bool {
        match &expr.kind {
            ExprKind::Name { name, .. } => self
                .aliased(name, view)
                .is_some_and(|(item, view)| self.is_levels(item, &view)),
            ExprKind::Path { root, steps } => are_slices(steps) && self.is_levels(root, view),
            ExprKind::Call(call) if call.namespace.is_none() => {
                let name = call.name.to_ascii_lowercase();
                let parts = match (name.as_str(), call.args.as_slice()) {
                    ("tokens" | "split" | "topic_split" | "regex_extract", [text, ..]) => {
                        return self.is_of_topic(text, view);
                    }
                    ("sublist", [.., list]) | ("array_reverse" | "array_slice", [list, ..]) => list,
                    _ => return false,
                };
                self.is_levels(parts, view)
            }
            _ => false,
        }
    }

    /// Whether `topic` is a topic name with every source; in events of subscribing it is a filter.
    fn topics_are_names(&self) -> bool {
        const OF_FILTERS: [&str; 3] = [
            "session.subscribed",
            "session.unsubscribed",
            "client.check_authz_complete",
        ];
        let is_of_filters = |topic: &&'static str| {
            EventName::find(topic).is_some_and(|event| OF_FILTERS.contains(&event.event))
        };
        !self.sources.iter().any(|source| {
            matches!(source, SourceFilter::Events { topics, .. } if topics.iter().any(is_of_filters))
        })
    }

    fn topic_constant(
        &mut self,
        expr: &Expr,
        constant: &Expr,
        value: &Value,
        operator: Option<Comparison>,
    ) {
        let Some(text) = value.as_str() else {
            return;
        };
        if let Some(wildcard) = text.chars().find(|c| matches!(c, '+' | '#')) {
            let label = match (TopicFilter::parse(text), &expr.kind) {
                (Err(_), _) => "`=~` matches a topic against a filter".to_owned(),
                (Ok(_), ExprKind::InList { .. }) => {
                    format!("a filter is matched by `topic =~ '{text}'`")
                }
                (Ok(_), _) if operator == Some(Comparison::NotEqual) => {
                    format!("write `NOT topic =~ '{text}'`")
                }
                (Ok(_), _) => format!("write `topic =~ '{text}'`"),
            };
            let message = format!("no topic of a message has a `{wildcard}` in it");
            return self.say(Code::TopicWildcard, constant.at, message, label);
        }
        let never = |source: &SourceFilter| matches!(source, SourceFilter::Topic(filter) if !filter.matches(text));
        if operator == Some(Comparison::Equal)
            && !text.contains("${")
            && !self.sources.is_empty()
            && self.sources.len() == self.statement.sources.len()
            && self.sources.iter().all(never)
        {
            let message = format!("the topic is never '{text}'");
            self.say(
                Code::NeverHolds,
                constant.at,
                message,
                "no entry of FROM matches it",
            );
        }
    }

    /// `payload > 30` must hold, and elsewhere the rule looks into the payload: a number has no members.
    pub(super) fn raw_payload(&mut self, condition: &Expr, view: &View) {
        for term in terms(condition) {
            let ExprKind::Compare {
                operator,
                left,
                right,
            } = &term.kind
            else {
                continue;
            };
            let is_number =
                |expr: &Expr| matches!(scalar(expr), Some(Value::Int(_) | Value::Float(_)));
            let payload = match (is_number(left), is_number(right)) {
                (false, true) => left,
                (true, false) => right,
                _ => continue,
            };
            let is_payload =
                matches!(&payload.kind, ExprKind::Name { name, .. } if &**name == "payload");
            if *operator == Comparison::NotEqual || !is_payload || !self.is_field("payload", view) {
                continue;
            }
            if let Some(path) = self.payload_path() {
                self.say(
                    Code::RawPayload,
                    payload.at,
                    "the raw payload is compared with a number, and a number has no members",
                    format!("elsewhere the rule reads `{path}`: is one of its members meant?"),
                );
            }
        }
    }

    /// The text of a path into the payload, if the statement has one.
    fn payload_path(&self) -> Option<String> {
        let mut found = None;
        self.statement
            .for_each_expr(&mut |expr| find_payload_path(expr, &mut found));
        found.map(|at| at.text(self.sql).to_owned())
    }

    /// `'${payload.x}'` as a value: strings have no places.
    pub(super) fn place_in_string(&mut self, literal: &Expr) {
        if let Some(text) = literal.literal().and_then(Value::as_str)
            && let Some((template::Found::Place(place), length)) = template::Found::read(text)
            && length == text.len()
            && let Some(field) = place.first_key()
            && self.fields.contains(&field)
        {
            self.say(
                Code::PlaceInString,
                literal.at,
                "nothing is filled into a string of a statement",
                format!("write `{place}`"),
            );
        }
    }

    /// `a || '\n'`: where texts are joined, and none of them looks like JSON, whose escapes these may be.
    pub(super) fn escapes(&mut self, expr: &Expr) {
        let mut literals = Vec::new();
        joined_literals(expr, false, &mut literals);
        let text = |literal: &&Expr| literal.literal().and_then(Value::as_str).map(str::to_owned);
        if literals
            .iter()
            .filter_map(text)
            .any(|text| text.contains(['"', '{']))
        {
            return;
        }
        for literal in literals {
            if text(&literal)
                .is_some_and(|text| matches!(text.as_str(), r"\n" | r"\r\n" | r"\t" | r"\r"))
            {
                let written = literal.at.text(self.sql);
                self.say(
                    Code::Escape,
                    literal.at,
                    "a backslash in a string is an ordinary character",
                    format!("write `unescape({written})`"),
                );
            }
        }
    }

    /// What a text in double quotes may be meant as, where no field has that name.
    pub(super) fn quoted_name_label(&self, name: &str) -> String {
        let call = name.split_once('(').filter(|_| name.ends_with(')'));
        if call.is_some_and(|(function, _)| functions::lookup(function).is_some()) {
            return "without quotes it is a call".to_owned();
        }
        if let Some((root, _)) = name.split_once('.')
            && self.fields.contains(&root)
        {
            return format!("without quotes it is a path; a string is written '{name}'");
        }
        format!("a string is written '{}'", name.replace('\'', "''"))
    }
}

fn are_slices(steps: &[Step]) -> bool {
    steps.iter().all(|step| matches!(step, Step::Slice { .. }))
}

fn find_payload_path(expr: &Expr, found: &mut Option<Place>) {
    if let ExprKind::Path { root, .. } = &expr.kind
        && matches!(&root.kind, ExprKind::Name { name, .. } if &**name == "payload")
    {
        found.get_or_insert(expr.at);
    }
    expr.for_each_part(&mut |part| find_payload_path(part, found));
}

/// The literals that become part of a longer text as they are.
fn joined_literals<'e>(expr: &'e Expr, joined: bool, found: &mut Vec<&'e Expr>) {
    match &expr.kind {
        ExprKind::Literal(_) if joined => found.push(expr),
        ExprKind::Arithmetic {
            operator: Arithmetic::Concat,
            left,
            right,
        } => {
            joined_literals(left, true, found);
            joined_literals(right, true, found);
        }
        ExprKind::Call(call) => {
            let joins = matches!(
                call.name.to_ascii_lowercase().as_str(),
                "concat" | "join_to_string" | "array_join"
            );
            for arg in &call.args {
                joined_literals(arg, joins, found);
            }
        }
        _ => expr.for_each_part(&mut |part| joined_literals(part, false, found)),
    }
}
