//! The dialect that sqlparser asks: how names look, how tightly operators bind, and who reads operands and operators.
//!
//! sqlparser's own tree has no room for places and says more than the language; so each operand and operator is
//! lowered to weir's tree as it is read and kept on a stack, and sqlparser passes empty values around instead.

use std::cell::{RefCell, RefMut};

use sqlparser::ast::{Expr as SqlExpr, Value as SqlValue};
use sqlparser::dialect::Dialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Word};

use super::hints;
use super::operators::is_split_not_equal;
use super::tokens::{MATCH, noted};
use crate::ast::Expr;
use crate::diagnostic::{Code, Diagnostic, Place};

/// How deep expressions may nest (rule-SQL §14).
const MAX_DEPTH: usize = 40;
/// How deep the tree of an expression may be: a long chain of `+` or `||` is a deep tree, one of AND or OR is not.
const MAX_HEIGHT: usize = 250;

/// How many steps a path or an alias may have: nothing that is decoded is deeper.
pub(super) const MAX_STEPS: usize = 128;
/// How many arrays and objects one statement may write down: they bound how deep the values are that it builds.
const MAX_CONTAINERS: usize = 1000;

/// How tightly operators bind, from loosest to tightest.
pub(super) mod binding {
    pub(in crate::parse) const OR: u8 = 10;
    pub(in crate::parse) const AND: u8 = 20;
    pub(in crate::parse) const NOT: u8 = 30;
    pub(in crate::parse) const COMPARISON: u8 = 40;
    pub(in crate::parse) const SUM: u8 = 50;
    pub(in crate::parse) const PRODUCT: u8 = 60;
    /// What the language leaves out, so that it can be named.
    pub(in crate::parse) const UNSUPPORTED: u8 = 65;
    pub(in crate::parse) const UNARY: u8 = 70;
}

/// weir's dialect, with what one parse has read so far.
#[derive(Debug, Default)]
pub(super) struct WeirDialect {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    sql: String,
    places: Vec<Place>,
    operands: Vec<Operand>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// How many brackets, calls and unary operators are open.
    depth: usize,
    /// How tightly the operator to the left binds: NOT may not stand to the right of a comparison.
    floor: u8,
    /// The height of the tallest part that was taken for the operand that is being read.
    tallest: usize,
    /// How many array and object literals were read.
    containers: usize,
    /// `&&` was read in the expression that is being read, so `||` will be meant as OR.
    and_signs: bool,
}

/// An expression that was read.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) expr: Expr,
    /// How deep its tree is.
    pub(super) height: usize,
    /// Stood in parentheses, so that it never joins what is around it.
    pub(super) parenthesised: bool,
}

/// What sqlparser is given for an operand; the operand itself is on the stack.
pub(super) type Read = Result<SqlExpr, ParserError>;

impl WeirDialect {
    pub(super) fn new(sql: &str, places: Vec<Place>, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            state: RefCell::new(State {
                sql: sql.to_owned(),
                places,
                diagnostics,
                ..State::default()
            }),
        }
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// The place of the token at `index`; past the last one, the end of the text.
    pub(super) fn place(&self, index: usize) -> Place {
        let state = self.state.borrow();
        let end = state.sql.trim_end().len();
        state
            .places
            .get(index)
            .copied()
            .unwrap_or(Place { start: end, end })
    }

    /// The text at a place.
    pub(super) fn text(&self, at: Place) -> String {
        at.text(&self.state.borrow().sql).to_owned()
    }

    /// The place of the next token.
    pub(super) fn here(&self, parser: &Parser<'_>) -> Place {
        self.place(parser.index())
    }

    /// The place of the token before the next one.
    pub(super) fn before(&self, parser: &Parser<'_>) -> Place {
        self.place(parser.index().saturating_sub(1))
    }

    /// Notes a mistake and gives the error that unwinds sqlparser.
    pub(super) fn fail(&self, code: Code, at: Place, message: impl Into<String>) -> ParserError {
        self.fail_with(code, at, message, "")
    }

    /// As [`Self::fail`], with a label.
    pub(super) fn fail_with(
        &self,
        code: Code,
        at: Place,
        message: impl Into<String>,
        label: &str,
    ) -> ParserError {
        self.note_with(code, at, message, label);
        ParserError::ParserError(String::new())
    }

    /// Notes a mistake after which parsing goes on.
    pub(super) fn note(&self, code: Code, at: Place, message: impl Into<String>) {
        self.note_with(code, at, message, "");
    }

    /// As [`Self::note`], with a label.
    pub(super) fn note_with(&self, code: Code, at: Place, message: impl Into<String>, label: &str) {
        let mut state = self.state.borrow_mut();
        let diagnostic = Diagnostic::new(code, &state.sql, at, message).label(label);
        state.diagnostics.push(diagnostic);
    }

    /// That something else was expected than the next token.
    pub(super) fn expected(&self, parser: &Parser<'_>, wanted: &str) -> ParserError {
        let token = &parser.peek_token_ref().token;
        let at = self.here(parser);
        if *token == noted() {
            return ParserError::ParserError(String::new());
        }
        if let Some((message, instead)) = hints::unsupported(parser, wanted) {
            return self.fail_with(Code::Unsupported, at, message, instead);
        }
        let found = self.text(at);
        if let Some(label) = hints::meaningless(token) {
            let message = format!("`{found}` has no meaning here");
            return self.fail_with(Code::Lexical, at, message, label);
        }
        let gap = if self.before(parser).end == at.start {
            hints::Gap::None
        } else {
            hints::Gap::Space
        };
        let hint = hints::hint(parser, gap, wanted);
        let message = if matches!(token, Token::EOF) {
            format!("expected {wanted}, found the end of the statement")
        } else {
            format!("expected {wanted}, found `{found}`")
        };
        self.fail_with(Code::Syntax, at, message, &hint)
    }

    /// Consumes the next token if it is `token`.
    pub(super) fn expect(
        &self,
        parser: &mut Parser<'_>,
        token: &Token,
        what: &str,
    ) -> Result<(), ParserError> {
        if parser.peek_token_ref().token == *token {
            parser.advance_token();
            Ok(())
        } else {
            Err(self.expected(parser, what))
        }
    }

    /// Consumes what closes the bracket at `open`.
    pub(super) fn close(
        &self,
        parser: &mut Parser<'_>,
        token: &Token,
        wanted: &str,
        open: Place,
    ) -> Result<(), ParserError> {
        let next = &parser.peek_token_ref().token;
        let is_lost = *next == Token::EOF || starts_clause(next);
        let result = self.expect(parser, token, wanted);
        if result.is_err() && is_lost {
            let mut state = self.state.borrow_mut();
            let span = open.locate(&state.sql);
            let bracket: String = open.text(&state.sql).chars().take(1).collect();
            if let Some(found) = state.diagnostics.last_mut() {
                found.help = Some(format!(
                    "`{bracket}` is open since {}:{}",
                    span.line, span.column
                ));
            }
        }
        result
    }

    /// Puts an operand on the stack; the parts of its tree were taken before.
    pub(super) fn push(&self, expr: Expr) -> Read {
        self.push_operand(expr, false)
    }

    /// Puts what stood in parentheses on the stack.
    pub(super) fn push_parenthesised(&self, expr: Expr) -> Read {
        self.push_operand(expr, true)
    }

    fn push_operand(&self, expr: Expr, parenthesised: bool) -> Read {
        let height = std::mem::take(&mut self.state.borrow_mut().tallest) + 1;
        if height > MAX_HEIGHT {
            let message = format!("more than {MAX_HEIGHT} operators build on each other");
            return Err(self.fail_with(
                Code::Limit,
                expr.at,
                message,
                "`concat` and `join_to_string` take many values",
            ));
        }
        self.state.borrow_mut().operands.push(Operand {
            expr,
            height,
            parenthesised,
        });
        Ok(SqlExpr::Value(SqlValue::Null.with_empty_span()))
    }

    /// Takes the last operand off the stack, as a part of the next.
    pub(super) fn pop(&self) -> Operand {
        let mut state = self.state.borrow_mut();
        let operand = state.operands.pop();
        let operand = operand.unwrap_or_else(|| Operand {
            expr: Expr::error(Place::default()),
            height: 0,
            parenthesised: false,
        });
        state.tallest = state.tallest.max(operand.height);
        operand
    }

    /// A chain of AND or OR grows in breadth: its earlier sides are parts of it like the last one.
    pub(super) fn widen(&self, left: &Operand, right: &Operand) {
        self.state.borrow_mut().tallest = right.height.max(left.height.saturating_sub(1));
    }

    /// Forgets what a failed expression left behind.
    pub(super) fn reset(&self) {
        let mut state = self.state.borrow_mut();
        state.operands.clear();
        state.depth = 0;
        state.floor = 0;
        state.tallest = 0;
        state.and_signs = false;
    }

    pub(super) fn note_and_sign(&self) {
        self.state.borrow_mut().and_signs = true;
    }

    pub(super) fn has_and_signs(&self) -> bool {
        self.state.borrow().and_signs
    }

    /// Reads an expression of operators that bind tighter than `floor`.
    pub(super) fn operand(
        &self,
        parser: &mut Parser<'_>,
        floor: u8,
    ) -> Result<Operand, ParserError> {
        let (outer, taken) = {
            let mut state = self.state.borrow_mut();
            if floor == 0 && state.depth == 0 {
                state.and_signs = false;
            }
            (
                std::mem::replace(&mut state.floor, floor),
                std::mem::take(&mut state.tallest),
            )
        };
        let result = if floor == 0 {
            parser.parse_expr()
        } else {
            parser.parse_subexpr(floor)
        };
        {
            let mut state = self.state.borrow_mut();
            state.floor = outer;
            state.tallest = taken;
        }
        match result {
            Ok(_) => Ok(self.pop()),
            Err(ParserError::RecursionLimitExceeded) => Err(self.too_deep(parser)),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole expression.
    pub(super) fn expr(&self, parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
        self.operand(parser, 0).map(|operand| operand.expr)
    }

    /// Runs `read` one level deeper.
    pub(super) fn nested<T>(
        &self,
        parser: &mut Parser<'_>,
        read: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
    ) -> Result<T, ParserError> {
        let depth = self.state.borrow().depth + 1;
        if depth > MAX_DEPTH {
            return Err(self.too_deep(parser));
        }
        self.state.borrow_mut().depth = depth;
        let result = read(parser);
        self.state.borrow_mut().depth = depth - 1;
        result
    }

    /// Counts an array or object literal.
    pub(super) fn count_container(&self, at: Place) {
        let containers = {
            let mut state = self.state.borrow_mut();
            state.containers += 1;
            state.containers
        };
        if containers == MAX_CONTAINERS + 1 {
            self.note(
                Code::Limit,
                at,
                format!("more than {MAX_CONTAINERS} arrays and objects"),
            );
        }
    }

    /// Notes a path or an alias of too many steps.
    pub(super) fn limit_steps(&self, steps: usize, at: Place) {
        if steps > MAX_STEPS {
            self.note(Code::Limit, at, format!("more than {MAX_STEPS} steps"));
        }
    }

    fn too_deep(&self, parser: &Parser<'_>) -> ParserError {
        self.fail(
            Code::Limit,
            self.before(parser),
            format!("expressions nest deeper than {MAX_DEPTH}"),
        )
    }

    /// Whether an operator to the left binds at least as tightly as a comparison.
    pub(super) fn inside_comparison(&self) -> bool {
        self.state.borrow().floor >= binding::COMPARISON
    }
}

impl Dialect for WeirDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '$'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || matches!(ch, '_' | '$' | '@' | '~')
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Read> {
        Some(self.read_operand(parser))
    }

    fn parse_infix(
        &self,
        parser: &mut Parser<'_>,
        _left: &SqlExpr,
        _precedence: u8,
    ) -> Option<Read> {
        Some(self.read_operator(parser))
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        Some(Ok(match &parser.peek_token_ref().token {
            Token::StringConcat if self.has_and_signs() => binding::OR,
            Token::ExclamationMark if is_split_not_equal(parser.peek_nth_token_ref(1)) => {
                binding::COMPARISON
            }
            _ => precedence(parser),
        }))
    }
}

/// How tightly the next token binds as an operator; 0 when it is none.
fn precedence(parser: &Parser<'_>) -> u8 {
    use binding::{AND, COMPARISON, OR, PRODUCT, SUM, UNSUPPORTED};
    match &parser.peek_token_ref().token {
        Token::Word(word) => match keyword(word).as_deref() {
            Some("OR") => OR,
            Some("AND") => AND,
            Some("IN" | "BETWEEN" | "LIKE" | "ILIKE" | "RLIKE" | "REGEXP" | "IS") => COMPARISON,
            Some("NOT") if starts_negated(parser) => COMPARISON,
            Some("DIV" | "MOD") => PRODUCT,
            Some("XOR") if starts_operand(&parser.peek_nth_token_ref(1).token) => UNSUPPORTED,
            _ => 0,
        },
        Token::CustomBinaryOperator(operator) if operator == MATCH => COMPARISON,
        Token::Eq
        | Token::DoubleEq
        | Token::Neq
        | Token::Lt
        | Token::LtEq
        | Token::Gt
        | Token::GtEq
        | Token::Spaceship
        | Token::Assignment
        | Token::RArrow => COMPARISON,
        Token::Overlap => AND,
        Token::Plus | Token::Minus | Token::StringConcat => SUM,
        Token::Mul | Token::Div | Token::Mod => PRODUCT,
        Token::Pipe
        | Token::Ampersand
        | Token::Caret
        | Token::CaretAt
        | Token::Tilde
        | Token::TildeAsterisk
        | Token::DoubleTilde
        | Token::DoubleTildeAsterisk
        | Token::ExclamationMarkTilde
        | Token::ExclamationMarkTildeAsterisk
        | Token::ShiftLeft
        | Token::ShiftRight
        | Token::Arrow
        | Token::LongArrow
        | Token::DoubleColon
        | Token::ExclamationMark => UNSUPPORTED,
        _ => 0,
    }
}

/// Whether NOT is followed by IN, BETWEEN or one of the LIKEs.
fn starts_negated(parser: &Parser<'_>) -> bool {
    let Token::Word(word) = &parser.peek_nth_token_ref(1).token else {
        return false;
    };
    matches!(
        keyword(word).as_deref(),
        Some("IN" | "BETWEEN" | "LIKE" | "ILIKE" | "RLIKE" | "REGEXP")
    )
}

/// Whether an operand may start with this token.
pub(super) fn starts_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            !is_reserved(word)
                || matches!(
                    keyword(word).as_deref(),
                    Some("NOT" | "CASE" | "TRUE" | "FALSE" | "NULL")
                )
        }
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::LParen
        | Token::LBracket
        | Token::LBrace => true,
        _ => false,
    }
}

/// An unquoted word in upper case.
pub(super) fn keyword(word: &Word) -> Option<String> {
    word.quote_style
        .is_none()
        .then(|| word.value.to_ascii_uppercase())
}

/// Whether the next token is this keyword.
pub(super) fn at_keyword(parser: &Parser<'_>, name: &str) -> bool {
    is_keyword(&parser.peek_token_ref().token, name)
}

pub(super) fn is_keyword(token: &Token, name: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name))
}

/// Consumes the next token if it is this keyword.
pub(super) fn take_keyword(parser: &mut Parser<'_>, name: &str) -> bool {
    let found = at_keyword(parser, name);
    if found {
        parser.advance_token();
    }
    found
}

/// Whether the word is a keyword of the language (rule-SQL §2) and so no plain name.
pub(super) fn is_reserved(word: &Word) -> bool {
    const RESERVED: [&str; 39] = [
        "SELECT",
        "FROM",
        "WHERE",
        "AS",
        "FOREACH",
        "DO",
        "INCASE",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "LIKE",
        "ILIKE",
        "RLIKE",
        "REGEXP",
        "ESCAPE",
        "IS",
        "NULL",
        "TRUE",
        "FALSE",
        "DIV",
        "MOD",
        "GROUP",
        "BY",
        "HAVING",
        "FILTER",
        "OVER",
        "PARTITION",
        "JOIN",
        "LEFT",
        "INNER",
        "ON",
        "CAST",
    ];
    keyword(word).is_some_and(|word| RESERVED.contains(&word.as_str()))
}

/// Words that start a clause, at which parsing goes on after a mistake.
pub(super) fn starts_clause(token: &Token) -> bool {
    ["DO", "INCASE", "FROM", "WHERE"]
        .iter()
        .any(|name| is_keyword(token, name))
}
