//! A statement to a rule: parse, check, and turn every expression into a closure.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::ast::{AliasStep, Body, Expr, ExprKind, Item, Statement, Step};
use crate::check;
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::eval::gates::Gates;
use crate::eval::names::{Layout, View};
use crate::eval::{Compiler, Eval, Lasting, Program};
use crate::explain;
use crate::parse::parse;
use crate::path::{PathSet, quoted_key};
use crate::rule::{self, ConditionTerm, Foreach, Placed, Rule};
use crate::script::Scripts;
use crate::source::SourceFilter;
use crate::value::Value;

/// What statements may refer to besides fields and built-in functions.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// User functions.
    pub scripts: Arc<Scripts>,
}

/// Compiles one statement.
///
/// ```
/// use weir_rules::{Catalog, compile};
///
/// let (rule, warnings) = compile(r#"SELECT payload.temp AS temp FROM "/dev/+/up" WHERE payload.temp > 30"#, &Catalog::default())
///     .expect("the statement is right");
/// assert!(warnings.is_empty());
/// assert!(rule.matches_topic("/dev/a1/up"));
/// assert_eq!(rule.needs().paths(), ["temp"]);
/// ```
///
/// # Errors
/// Everything that is wrong with it, warnings included, in the order of the text.
pub fn compile(sql: &str, catalog: &Catalog) -> Result<(Rule, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (statement, mut diagnostics) = parse(sql);
    let mut sources = Vec::new();
    if let Some(statement) = &statement {
        sources = check::check(statement, sql, catalog, &mut diagnostics);
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    match statement {
        Some(statement)
            if diagnostics
                .iter()
                .all(|diagnostic| diagnostic.severity == Severity::Warning) =>
        {
            Ok((build(&statement, sources, sql, catalog), diagnostics))
        }
        _ => Err(diagnostics),
    }
}

fn build(statement: &Statement, sources: Vec<SourceFilter>, sql: &str, catalog: &Catalog) -> Rule {
    let layout = Layout::of(statement);
    let mut compiler = Compiler {
        names: &layout.names,
        scripts: &catalog.scripts,
        needs: PathSet::default(),
        uses_scripts: false,
        waits: false,
        shared: vec![false; layout.slots()],
        memberships: 0,
    };
    let mut slots: Vec<Option<Eval>> = Vec::with_capacity(layout.slots());
    let body = match &statement.body {
        Body::Select(items) => {
            slots.extend(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| compiler.item(item, &layout.item_view(index))),
            );
            rule::Body::Select(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| placed(index, index, item))
                    .collect(),
            )
        }
        Body::Foreach {
            items,
            outputs,
            filter,
        } => {
            slots.extend(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| compiler.item(item, &layout.item_view(index))),
            );
            if let Some((last, collection)) = slots.last_mut().zip(items.last()) {
                compiler.decode_collection(last, collection, &layout.item_view(items.len() - 1));
            }
            // The items before the element are computed once for the message, whatever refers to them.
            (0..=items.len()).for_each(|slot| compiler.share(slot));
            slots.push(None);
            let outputs_of = outputs.as_deref().unwrap_or_default();
            slots.extend(
                outputs_of
                    .iter()
                    .enumerate()
                    .map(|(index, item)| compiler.item(item, &layout.output_view(index))),
            );
            let placed_outputs = match outputs {
                Some(outputs) => outputs
                    .iter()
                    .enumerate()
                    .map(|(index, item)| placed(index, layout.output_slot(index), item))
                    .collect(),
                None => vec![Placed::Star],
            };
            let last = items.len().saturating_sub(1);
            rule::Body::Foreach(Foreach {
                named: items
                    .iter()
                    .take(last)
                    .enumerate()
                    .map(|(index, item)| placed(index, index, item))
                    .collect(),
                collection: last,
                element: layout
                    .names
                    .element
                    .clone()
                    .unwrap_or_else(|| ("item".into(), items.len())),
                filter: filter
                    .as_ref()
                    .map(|filter| compiler.test(filter, &layout.filter_view())),
                outputs: placed_outputs,
                at: items.last().map_or(statement.at, item_place),
            })
        }
    };
    let view = layout.condition_view();
    let condition = statement
        .condition
        .as_ref()
        .map(|condition| compiler.test(condition, &view));
    let gates = statement
        .condition
        .as_ref()
        .map_or_else(Gates::open, |condition| compiler.gates(condition, &view));
    let asked = match &statement.condition {
        Some(condition) => compiler.lasting(explain::terms(condition), &view, false),
        None => Lasting::Decided,
    };
    let asked = match asked {
        Lasting::Parts(parts) => parts,
        Lasting::Decided => Vec::new(),
    };
    // What is only computed to be shown is not read by evaluations.
    let read = compiler.needs.clone();
    let terms = statement
        .condition
        .iter()
        .flat_map(explain::terms)
        .map(|term| compiler.term(term, &view))
        .collect();
    let Compiler {
        needs,
        uses_scripts,
        waits,
        shared,
        ..
    } = compiler;
    let mut explain = explain::explain(statement, sql, &read, &asked, &|index, item| {
        dotted(&target(index, item))
    });
    gates.order(&mut explain.conditions);
    Rule {
        program: Program {
            sql: sql.into(),
            sources,
            slots,
            shared,
        },
        body,
        condition,
        gates,
        terms,
        needs,
        uses_scripts,
        waits,
        explain,
    }
}

impl Compiler<'_> {
    /// Notes that a slot's value is to be kept.
    pub(crate) fn share(&mut self, slot: usize) {
        if let Some(shared) = self.shared.get_mut(slot) {
            *shared = true;
        }
    }

    fn item(&mut self, item: &Item, view: &View) -> Option<Eval> {
        match item {
            Item::Star(_) => None,
            Item::Expr { expr, .. } => Some(self.value(expr, view)),
        }
    }

    /// The collection `payload` is decoded, where no alias stands before the field.
    fn decode_collection(&mut self, slot: &mut Option<Eval>, item: &Item, view: &View) {
        let Item::Expr { expr, .. } = item else {
            return;
        };
        let ExprKind::Name { name, .. } = &expr.kind else {
            return;
        };
        if &**name != "payload" || !self.names.bindings(name, view).is_empty() {
            return;
        }
        self.needs = PathSet::everything();
        let at = expr.at;
        *slot = Some(Box::new(move |scope| {
            scope
                .input
                .at(&[])
                .map(Cow::into_owned)
                .map_err(|fault| scope.fail(at, &fault))
        }));
    }

    fn term(&mut self, term: &Expr, view: &View) -> ConditionTerm {
        let mut places = Vec::new();
        reads(term, &mut places);
        let reads = places
            .into_iter()
            .map(|expr| (expr.at, self.value(expr, view)))
            .collect();
        ConditionTerm {
            at: term.at,
            test: self.test(term, view),
            reads,
        }
    }
}

/// The names and paths in an expression, left to right.
fn reads<'e>(expr: &'e Expr, found: &mut Vec<&'e Expr>) {
    match &expr.kind {
        ExprKind::Name { .. } => found.push(expr),
        ExprKind::Path { root, .. } if matches!(root.kind, ExprKind::Name { .. }) => {
            found.push(expr)
        }
        _ => expr.for_each_part(&mut |part| reads(part, found)),
    }
}

fn item_place(item: &Item) -> Place {
    match item {
        Item::Star(at) => *at,
        Item::Expr { expr, .. } => expr.at,
    }
}

fn placed(index: usize, slot: usize, item: &Item) -> Placed {
    match item {
        Item::Star(_) => Placed::Star,
        Item::Expr { expr, .. } => Placed::Value {
            slot,
            steps: target(index, item),
            at: expr.at,
        },
    }
}

/// Where an item's value goes: its alias, else its default name (rule-SQL §7.2).
fn target(index: usize, item: &Item) -> Vec<AliasStep> {
    match item {
        Item::Star(_) => Vec::new(),
        Item::Expr {
            alias: Some(alias), ..
        } => alias.steps.clone(),
        Item::Expr { expr, alias: None } => default_name(expr)
            .unwrap_or_else(|| vec![AliasStep::Key(format!("_v_{}", index + 1).into())]),
    }
}

/// The name that an expression gives itself, if it does.
pub(crate) fn default_name(expr: &Expr) -> Option<Vec<AliasStep>> {
    match &expr.kind {
        ExprKind::Name { name, .. } => Some(vec![AliasStep::Key(name.clone())]),
        ExprKind::Literal(Value::Text(text)) => Some(vec![AliasStep::Key(text.as_str()?.into())]),
        ExprKind::Path { root, steps } => {
            let mut target =
                default_name(root).filter(|_| !matches!(root.kind, ExprKind::Literal(_)))?;
            for step in steps {
                match step {
                    Step::Key(key) => target.push(AliasStep::Key(key.clone())),
                    Step::Index(index) => match index.literal() {
                        Some(Value::Int(0)) => target.push(AliasStep::Prepend),
                        Some(Value::Int(index)) => target.push(AliasStep::At(*index)),
                        _ => return None,
                    },
                    Step::Slice { .. } => {}
                }
            }
            Some(target)
        }
        _ => None,
    }
}

/// A target as it is written.
pub(crate) fn dotted(steps: &[AliasStep]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            AliasStep::Key(key) if text.is_empty() => text.push_str(key),
            AliasStep::Key(key) => {
                text.push('.');
                text.push_str(&quoted_key(key));
            }
            AliasStep::Prepend => text.push_str("[0]"),
            AliasStep::Append => text.push_str("[-0]"),
            AliasStep::At(index) => {
                write!(text, "[{index}]").expect("writing to a string does not fail")
            }
        }
    }
    text
}
