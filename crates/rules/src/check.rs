//! What can be known of a statement before any message comes: every mistake at once, and the warnings.

mod conditions;
mod formats;
mod satisfiable;
mod suspects;

use std::borrow::Cow;
use std::collections::HashSet;

use crate::ast::{Alias, AliasStep, Arithmetic, Body, Call, Expr, ExprKind, Item, Statement};
use crate::compile::{Catalog, default_name, dotted};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::error::{ErrorKind, Fault};
use crate::eval::names::{Binding, Layer, Layout, View};
use crate::eval::{constant, negate};
use crate::event::fields_of_event;
use crate::functions::{self, Pattern};
use crate::nearest::nearest;
use crate::path::quoted_key;
use crate::source::{BadSource, SourceFilter};
use crate::value::Value;

/// Notes what is wrong with the statement; gives its sources.
pub(crate) fn check(
    statement: &Statement,
    sql: &str,
    catalog: &Catalog,
    found: &mut Vec<Diagnostic>,
) -> Vec<SourceFilter> {
    let layout = Layout::of(statement);
    let mut check = Check {
        sql,
        catalog,
        found,
        layout: &layout,
        fields: Vec::new(),
        sources: Vec::new(),
        noted: HashSet::new(),
        statement,
    };
    check.sources();
    check.statement();
    check.sources
}

struct Check<'c> {
    sql: &'c str,
    catalog: &'c Catalog,
    found: &'c mut Vec<Diagnostic>,
    layout: &'c Layout,
    statement: &'c Statement,
    /// The fields that at least one source has; empty when no source is known.
    fields: Vec<&'static str>,
    /// The sources that are right.
    sources: Vec<SourceFilter>,
    /// What was said once and need not be said again.
    noted: HashSet<(Code, Place)>,
}

impl Check<'_> {
    fn say(&mut self, code: Code, at: Place, message: impl Into<String>, label: impl Into<String>) {
        if self.noted.insert((code, at)) {
            self.found
                .push(Diagnostic::new(code, self.sql, at, message).label(label));
        }
    }

    fn sources(&mut self) {
        for source in &self.statement.sources {
            if !source.quoted {
                let label = format!("write \"{}\"", source.text);
                self.say(
                    Code::BareSource,
                    source.at,
                    "a source without quotes",
                    label,
                );
            }
            match SourceFilter::parse(&source.text) {
                Ok(parsed) => {
                    if let Some(earlier) =
                        self.sources.iter().find(|earlier| earlier.is_same(&parsed))
                    {
                        let label = if earlier.text() == source.text {
                            String::new()
                        } else {
                            format!("`{}` is another spelling of it", earlier.text())
                        };
                        self.say(
                            Code::DuplicateSource,
                            source.at,
                            format!("`{}` stands in FROM twice", source.text),
                            label,
                        );
                    }
                    self.add_fields(&parsed);
                    if source.text == "#" {
                        self.say(
                            Code::EveryMessage,
                            source.at,
                            "`#` matches every message",
                            "",
                        );
                    }
                    self.sources.push(parsed);
                }
                Err(BadSource::Filter(message)) => {
                    self.say(Code::TopicFilter, source.at, message, "")
                }
                Err(BadSource::Event(message, near)) => {
                    self.say(
                        Code::EventSource,
                        source.at,
                        message,
                        near.map(did_you_mean).unwrap_or_default(),
                    );
                }
            }
        }
        if self.statement.lost_sources || self.sources.len() < self.statement.sources.len() {
            self.fields.clear();
        }
    }

    /// Whether the name is a field of a source, and no alias hides it.
    fn is_field(&self, name: &str, view: &View) -> bool {
        self.fields.contains(&name) && !self.is_alias(name, view)
    }

    fn is_alias(&self, name: &str, view: &View) -> bool {
        !self.layout.names.bindings(name, view).is_empty()
    }

    fn add_fields(&mut self, source: &SourceFilter) {
        let mut add = |topic: Option<&str>| self.fields.extend(fields_of_event(topic));
        match source {
            SourceFilter::Topic(_) => add(None),
            SourceFilter::Events { topics, .. } => topics.iter().for_each(|topic| add(Some(topic))),
            SourceFilter::Bridge { text } => add(Some(text)),
        }
    }

    fn statement(&mut self) {
        let (statement, layout) = (self.statement, self.layout);
        match &statement.body {
            Body::Select(items) => self.items(items, |index| layout.item_view(index)),
            Body::Foreach {
                items,
                outputs,
                filter,
            } => {
                self.foreach_items(items);
                self.items(items, |index| layout.item_view(index));
                if let Some(outputs) = outputs {
                    self.items(outputs, |index| layout.output_view(index));
                }
                if let Some(filter) = filter {
                    self.condition(filter, &layout.filter_view());
                }
            }
        }
        if let Some(condition) = &statement.condition {
            self.condition(condition, &layout.condition_view());
        }
    }

    fn foreach_items(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Star(at) = item {
                self.say(
                    Code::Syntax,
                    *at,
                    "expected an expression, found `*`",
                    "FOREACH takes named values and a collection",
                );
            }
        }
        if let Some(Item::Expr {
            alias: Some(alias), ..
        }) = items.last()
            && alias.steps.len() > 1
        {
            self.say(
                Code::Alias,
                alias.at,
                "the name of FOREACH's element must be a single name",
                "",
            );
        }
    }

    fn items(&mut self, items: &[Item], view: impl Fn(usize) -> View) {
        let mut targets: Vec<Cow<'_, [AliasStep]>> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Item::Expr { expr, alias } = item else {
                continue;
            };
            self.expr(expr, &view(index));
            self.escapes(expr);
            self.place_in_string(expr);
            match alias {
                Some(alias) => {
                    self.alias(alias, &targets);
                    targets.push(Cow::Borrowed(&alias.steps));
                }
                None => {
                    self.unaliased(expr, index, items);
                    if let Some(steps) = default_name(expr) {
                        self.assigned_twice(expr.at, &steps, &targets);
                        targets.push(Cow::Owned(steps));
                    }
                }
            }
        }
    }

    fn alias(&mut self, alias: &Alias, earlier: &[Cow<'_, [AliasStep]>]) {
        if alias.implicit {
            let text = alias.at.text(self.sql);
            let is_field = matches!(alias.steps.first(), Some(AliasStep::Key(key)) if self.fields.contains(&key.as_str()));
            let label = if is_field {
                format!("write `AS {text}`, or a comma before it")
            } else {
                format!("write `AS {text}`")
            };
            self.say(Code::ImplicitAlias, alias.at, "an alias without AS", label);
        }
        self.assigned_twice(alias.at, &alias.steps, earlier);
    }

    fn assigned_twice(&mut self, at: Place, steps: &[AliasStep], earlier: &[Cow<'_, [AliasStep]>]) {
        let grows = steps
            .iter()
            .any(|step| matches!(step, AliasStep::Prepend | AliasStep::Append));
        if !grows && earlier.iter().any(|earlier| **earlier == *steps) {
            self.say(
                Code::DuplicateAlias,
                at,
                format!("`{}` is assigned twice", dotted(steps)),
                "the last one wins",
            );
        }
    }

    fn unaliased(&mut self, expr: &Expr, index: usize, items: &[Item]) {
        // The collection of FOREACH needs no name: its element is `item`.
        let is_collection = matches!(&self.statement.body, Body::Foreach { items: own, .. } if std::ptr::eq(own.as_slice(), items))
            && index + 1 == items.len();
        // A key with a hyphen names itself, once it is written as one.
        let is_hyphenated = matches!(expr.kind, ExprKind::Arithmetic { .. })
            && self.noted.contains(&(Code::UnknownField, expr.at));
        if default_name(expr).is_none()
            && !is_collection
            && !is_hyphenated
            && !matches!(expr.kind, ExprKind::Error)
        {
            let message = format!("an expression without a name becomes `_v_{}`", index + 1);
            self.say(Code::Unaliased, expr.at, message, "give it a name with AS");
        }
    }

    fn expr(&mut self, expr: &Expr, view: &View) {
        match &expr.kind {
            ExprKind::Name { name, quoted } => self.name(name, *quoted, expr.at, view),
            ExprKind::Call(call) => self.call(call, expr.at),
            ExprKind::And(parts) | ExprKind::Or(parts) => self.sides(expr, parts, view),
            ExprKind::Not(part) => self.must_be_boolean(part, view),
            ExprKind::Path { steps, .. } => self.index_zero(steps),
            ExprKind::Case {
                operand: None,
                branches,
                ..
            } => {
                for (when, _) in branches {
                    self.must_be_boolean(when, view);
                    self.decides_nothing(when);
                }
            }
            ExprKind::Compare {
                operator,
                left,
                right,
            } if is_null(left) || is_null(right) => {
                let message = format!(
                    "`{} NULL` is never true for a missing value",
                    operator.symbol()
                );
                self.say(
                    Code::EqualsNull,
                    expr.at,
                    message,
                    "write IS NULL or IS NOT NULL",
                );
            }
            ExprKind::Arithmetic {
                operator,
                left,
                right,
            } => {
                self.arithmetic(*operator, left, right, expr.at);
                if *operator == Arithmetic::Subtract && self.hyphen(left, right, expr.at, view) {
                    return;
                }
            }
            ExprKind::Negate(operand) => {
                if let Some(Ok(value)) = constant(operand)
                    && let Err(fault) = negate(&value)
                {
                    self.say(Code::ConstantFault, expr.at, fault.message().to_owned(), "");
                }
            }
            ExprKind::TopicMatch { filter, .. } => self.literal_filter(filter),
            ExprKind::Like { pattern, .. } => {
                self.literal_text(pattern, "LIKE");
                self.text_field(expr, view);
            }
            ExprKind::Compare { left, right, .. } => {
                self.place_in_string(left);
                self.place_in_string(right);
                self.never_holds(expr, view);
                self.text_field(expr, view);
            }
            ExprKind::InList { list, .. } => {
                list.iter().for_each(|item| self.place_in_string(item));
                self.never_holds(expr, view);
                self.text_field(expr, view);
            }
            ExprKind::Between {
                value, low, high, ..
            } => {
                self.never_holds(expr, view);
                self.text_between(value, low, high, expr, view);
            }
            ExprKind::Is { .. } => self.never_holds(expr, view),
            ExprKind::InArray { array, negated, .. } => {
                self.not_an_array(expr, array, *negated, view);
            }
            ExprKind::Regex { pattern, .. } => {
                self.literal_text(pattern, "RLIKE");
                if let Some(Ok(pattern_value)) = constant(pattern)
                    && let Some(Err(message)) = pattern_value.as_str().map(Pattern::new)
                {
                    self.say(
                        Code::Literal,
                        pattern.at,
                        format!("not a regular expression: {message}"),
                        "",
                    );
                }
            }
            _ => {}
        }
        expr.for_each_part(&mut |part| self.expr(part, view));
    }

    fn name(&mut self, name: &str, quoted: bool, at: Place, view: &View) {
        let is_field = self.fields.contains(&name);
        let bindings = self.layout.names.bindings(name, view);
        if let Some(Binding::Slot(slot)) = bindings.first() {
            if is_field {
                self.hidden_field(name, *slot);
            }
            return;
        }
        if is_field || !bindings.is_empty() || self.fields.is_empty() {
            return;
        }
        if quoted && at.text(self.sql).starts_with('"') {
            let label = self.quoted_name_label(name);
            self.say(
                Code::QuotedName,
                at,
                format!("`{name}` in double quotes is a name, and no field has it"),
                label,
            );
        } else {
            let near = nearest(name, self.fields.iter().copied())
                .map(did_you_mean)
                .unwrap_or_else(|| self.where_it_may_be(name, view));
            self.say(
                Code::UnknownField,
                at,
                format!("no source has a field `{name}`"),
                near,
            );
        }
    }

    /// A name that is no field is most likely a member of what devices send.
    fn where_it_may_be(&self, name: &str, view: &View) -> String {
        let of_element = view.iter().any(|layer| matches!(layer, Layer::Element));
        match &self.layout.names.element {
            Some((element, _)) if of_element && name == "item" => {
                format!("the element is called `{element}` here")
            }
            Some((element, _)) if of_element => {
                format!("is `{element}.{}` meant?", quoted_key(name))
            }
            _ if self.fields.contains(&"payload") => {
                format!("is `payload.{}` meant?", quoted_key(name))
            }
            _ => String::new(),
        }
    }

    /// The expression that a name stands for as an alias, and what it sees itself.
    fn aliased(&self, name: &str, view: &View) -> Option<(&Expr, View)> {
        let bindings = self.layout.names.bindings(name, view);
        let Some(Binding::Slot(slot)) = bindings.first() else {
            return None;
        };
        let is_element =
            matches!(&self.layout.names.element, Some((_, element)) if element == slot);
        match item_of(self.statement, *slot)? {
            Item::Expr { expr, .. } if !is_element => Some((expr, self.layout.slot_view(*slot))),
            _ => None,
        }
    }

    /// An alias of a field's name, which is used where the alias is seen.
    fn hidden_field(&mut self, name: &str, slot: usize) {
        let Some(Item::Expr {
            expr,
            alias: Some(alias),
        }) = item_of(self.statement, slot)
        else {
            return;
        };
        let is_itself = matches!(&expr.kind, ExprKind::Name { name: own, .. } if &**own == name);
        if !is_itself && self.noted.insert((Code::HiddenField, alias.at)) {
            let message = format!("the alias hides the field `{name}`, which is used later");
            let diagnostic = Diagnostic::new(Code::HiddenField, self.sql, alias.at, message);
            self.found
                .push(diagnostic.help("another name for the alias keeps both in reach"));
        }
    }

    fn arithmetic(&mut self, operator: Arithmetic, left: &Expr, right: &Expr, at: Place) {
        let stand_in = if matches!(operator, Arithmetic::Concat | Arithmetic::Add) {
            Value::from("")
        } else {
            Value::Int(1)
        };
        let (code, result) = match (constant(left), constant(right)) {
            (Some(Err(_)), _) | (_, Some(Err(_))) | (None, None) => return,
            (Some(Ok(left)), Some(Ok(right))) => {
                (Code::ConstantFault, operator.apply(&left, &right))
            }
            // With one side known, a value that would fit best tells whether the known one can ever work.
            (Some(Ok(left)), None) => (Code::NeverComputed, operator.apply(&left, &stand_in)),
            (None, Some(Ok(right))) => (Code::NeverComputed, operator.apply(&stand_in, &right)),
        };
        // How large the other side is decides whether the result has room.
        let of_size = |fault: &Fault| {
            code == Code::NeverComputed
                && matches!(fault.kind(), ErrorKind::Overflow | ErrorKind::NotFinite)
        };
        if let Err(fault) = result
            && !of_size(&fault)
        {
            let label = "this can never be computed";
            self.say(code, at, fault.message().to_owned(), label);
        }
    }

    fn literal_text(&mut self, pattern: &Expr, operator: &str) {
        if let Some(Ok(value)) = constant(pattern)
            && value.as_text().is_none()
        {
            let message = format!(
                "{operator} takes a pattern that is text, not {}",
                value.article_name()
            );
            self.say(Code::Literal, pattern.at, message, "");
        }
    }

    fn literal_filter(&mut self, filter: &Expr) {
        let Some(value) = filter.literal() else {
            return;
        };
        let problem = match value.as_str() {
            None => Some(format!(
                "`=~` takes a topic filter, not {}",
                value.article_name()
            )),
            Some(text) => weir_mqtt::topic::TopicFilter::parse(text)
                .err()
                .map(|error| format!("invalid topic filter: {error}")),
        };
        if let Some(problem) = problem {
            self.say(Code::Literal, filter.at, problem, "");
        }
    }

    fn call(&mut self, call: &Call, at: Place) {
        if let Some(namespace) = &call.namespace {
            return self.user_call(namespace, call, at);
        }
        let Some(function) = functions::lookup(&call.name) else {
            let message = format!("unknown function `{}`", call.name);
            let label = functions::not_provided(&call.name)
                .or_else(|| functions::instead_of(&call.name, call.args.len()))
                .map(str::to_owned)
                .or_else(|| functions::nearest(&call.name).map(did_you_mean));
            return self.say(
                Code::UnknownFunction,
                call.name_at,
                message,
                label.unwrap_or_default(),
            );
        };
        self.call_of_zero(call);
        if function.form(call.args.len()).is_none() {
            let message = format!(
                "`{}` is given {}",
                function.name,
                arguments(call.args.len())
            );
            let forms: Vec<String> = function
                .signatures()
                .map(|form| format!("`{form}`"))
                .collect();
            let label = match functions::other_form(function.name, call.args.len()) {
                Some(other) => format!("use {}; {other}", either(&forms)),
                None => format!("use {}", either(&forms)),
            };
            return self.say(Code::Arity, at, message, label);
        }
        for (index, arg) in call.args.iter().enumerate() {
            if let Some(Ok(value)) = constant(arg)
                && let Err(message) = function.check_literal(call.args.len(), index, &value)
            {
                self.say(
                    Code::Literal,
                    arg.at,
                    format!("in `{}`: {message}", function.name),
                    "",
                );
            }
        }
        self.format(function.name, &call.args);
    }

    fn user_call(&mut self, namespace: &str, call: &Call, at: Place) {
        let scripts = &self.catalog.scripts;
        // Names of functions have no case; those of scripts are in lower case.
        let known = namespace.to_lowercase();
        match scripts.forms(&known, &call.name.to_lowercase()) {
            Some(forms) if forms.contains(&call.args.len()) => {}
            Some(forms) => {
                let message = format!(
                    "`{namespace}.{}` is given {}",
                    call.name,
                    arguments(call.args.len())
                );
                let forms: Vec<String> = forms.iter().map(|count| arguments(*count)).collect();
                self.say(
                    Code::Arity,
                    at,
                    message,
                    format!("it takes {}", either(&forms)),
                );
            }
            None => {
                let label = if scripts.has_namespace(&known) {
                    nearest(&call.name, scripts.functions(&known))
                        .map(|near| did_you_mean(&format!("{known}.{near}")))
                } else {
                    as_function(namespace, &call.name)
                        .filter(|_| self.fields.contains(&namespace))
                        .or_else(|| functions::not_provided(namespace).map(str::to_owned))
                        .or_else(|| Some(format!("there is no script `{known}.rhai`")))
                };
                let message = format!("unknown function `{namespace}.{}`", call.name);
                self.say(
                    Code::UnknownFunction,
                    call.name_at,
                    message,
                    label.unwrap_or_default(),
                );
            }
        }
    }
}

/// The item whose value a slot has. The element of FOREACH, whose slot lies between the two lists, is of the collection.
fn item_of(statement: &Statement, slot: usize) -> Option<&Item> {
    match &statement.body {
        Body::Select(items) => items.get(slot),
        Body::Foreach { items, outputs, .. } => match slot.checked_sub(items.len()) {
            None => items.get(slot),
            Some(0) => items.last(),
            Some(output) => outputs.as_ref()?.get(output - 1),
        },
    }
}

/// `payload.length()`: methods are functions here.
fn as_function(namespace: &str, name: &str) -> Option<String> {
    functions::lookup(name).map(|function| format!("write `{}({namespace})`", function.name))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr.literal(), Some(Value::Null))
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

fn arguments(count: usize) -> String {
    match count {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        _ => format!("{count} arguments"),
    }
}

fn either(forms: &[String]) -> String {
    match forms.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
