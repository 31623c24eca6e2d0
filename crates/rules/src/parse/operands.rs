//! Operands: literals, names, paths, calls, CASE, CAST, arrays, objects, ranges, and the unary operators.

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Word};

use super::dialect::{
    Read, WeirDialect, at_keyword, binding, is_keyword, is_reserved, keyword, starts_clause,
    take_keyword,
};
use super::tokens::DOTS;
use crate::ast::{Call, Expr, ExprKind, Step};
use crate::diagnostic::{Code, Place};
use crate::functions;
use crate::text;
use crate::value::Value;

/// What to write instead of DISTINCT.
pub(super) const DISTINCT: &str =
    "a rule sees one message at a time; `array_distinct` is for arrays";

/// The most branches of one CASE.
const MAX_BRANCHES: usize = 128;

impl WeirDialect {
    /// Reads one operand with its path steps.
    pub(super) fn read_operand(&self, parser: &mut Parser<'_>) -> Read {
        let at = self.here(parser);
        match parser.peek_token_ref().token.clone() {
            Token::Minus => self.negated(parser, at),
            Token::Plus => {
                parser.advance_token();
                let operand = self.nested(parser, |parser| self.operand(parser, binding::UNARY))?;
                if operand.parenthesised {
                    self.push_parenthesised(operand.expr)
                } else {
                    self.push(operand.expr)
                }
            }
            Token::Word(word) if is_word(&word, "NOT") => self.not(parser, at),
            Token::LParen => self.parenthesised(parser, at),
            token => {
                let root = self.primary(parser, token, at)?;
                let path = self.steps(parser, root)?;
                self.push(path)
            }
        }
    }

    fn negated(&self, parser: &mut Parser<'_>, at: Place) -> Read {
        parser.advance_token();
        // A literal takes its sign, so that the least integer can be written.
        if let Token::Number(digits, _) = &parser.peek_token_ref().token {
            let digits = format!("-{digits}");
            let end = self.here(parser);
            parser.advance_token();
            let literal = self.number(&digits, at.to(end))?;
            let path = self.steps(parser, literal)?;
            return self.push(path);
        }
        let operand = self.nested(parser, |parser| self.operand(parser, binding::UNARY))?;
        let at = at.to(operand.expr.at);
        self.push(Expr::new(ExprKind::Negate(Box::new(operand.expr)), at))
    }

    fn not(&self, parser: &mut Parser<'_>, at: Place) -> Read {
        if self.inside_comparison() {
            return Err(self.fail_with(
                Code::Syntax,
                at,
                "expected an operand, found `NOT`",
                "put the NOT in parentheses",
            ));
        }
        parser.advance_token();
        let operand = self.nested(parser, |parser| self.operand(parser, binding::NOT))?;
        let at = at.to(operand.expr.at);
        self.push(Expr::new(ExprKind::Not(Box::new(operand.expr)), at))
    }

    fn parenthesised(&self, parser: &mut Parser<'_>, at: Place) -> Read {
        parser.advance_token();
        let before = parser.get_previous_token().token.clone();
        let mut expr = self.nested(parser, |parser| self.expr(parser))?;
        if parser.peek_token_ref().token == Token::Comma {
            let label = match before {
                Token::Eq | Token::DoubleEq => "write `IN (…)` for one of several values",
                Token::Neq => "write `NOT IN (…)` for none of several values",
                _ => "an array is written `[a, b]`",
            };
            return Err(self.fail_with(
                Code::Syntax,
                self.here(parser),
                "expected `)`, found `,`",
                label,
            ));
        }
        self.close(parser, &Token::RParen, "`)`", at)?;
        expr.at = at.to(self.before(parser));
        let expr = self.steps(parser, expr)?;
        self.push_parenthesised(expr)
    }

    fn primary(
        &self,
        parser: &mut Parser<'_>,
        token: Token,
        at: Place,
    ) -> Result<Expr, ParserError> {
        match token {
            Token::Number(digits, _) => {
                parser.advance_token();
                self.number(&digits, at)
            }
            Token::SingleQuotedString(text) => {
                parser.advance_token();
                Ok(Expr::new(ExprKind::Literal(text.into()), at))
            }
            Token::LBracket => self.nested(parser, |parser| self.array_or_range(parser, at)),
            Token::LBrace if parser.peek_nth_token_ref(1).token == Token::LBrace => {
                self.template_place(parser, at, "{{", "}}")
            }
            Token::LBrace => self.nested(parser, |parser| self.object(parser, at)),
            Token::Word(word)
                if word.value == "$"
                    && word.quote_style.is_none()
                    && parser.peek_nth_token_ref(1).token == Token::LBrace =>
            {
                self.template_place(parser, at, "${", "}")
            }
            Token::Word(word) => self.word(parser, word, at),
            Token::Mul => {
                let label = if parser.get_current_token().token == Token::Mul {
                    "for a power use `power(a, b)`"
                } else {
                    "`*` stands alone in a list of items"
                };
                let message = "expected an expression, found `*`";
                Err(self.fail_with(Code::Syntax, at, message, label))
            }
            Token::Tilde => Err(self.unsupported(at, "`~`", "`bitnot`")),
            Token::ExclamationMark => {
                self.note_unsupported(at, &token);
                parser.advance_token();
                let operand = self.nested(parser, |parser| self.operand(parser, binding::UNARY))?;
                let at = at.to(operand.expr.at);
                Ok(Expr::new(ExprKind::Not(Box::new(operand.expr)), at))
            }
            _ => Err(self.expected(parser, "an expression")),
        }
    }

    /// `${path}` and `{{path}}` are for templates.
    fn template_place(
        &self,
        parser: &mut Parser<'_>,
        at: Place,
        open: &str,
        close: &str,
    ) -> Result<Expr, ParserError> {
        parser.advance_token();
        parser.advance_token();
        let path = self.nested(parser, |parser| self.expr(parser))?;
        for _ in 0..close.len() {
            self.expect(parser, &Token::RBrace, "`}`")?;
        }
        self.note_with(
            Code::Syntax,
            at.to(self.before(parser)),
            format!("`{open}…{close}` is for the templates of sinks"),
            &format!("write `{}`", self.text(path.at)),
        );
        Ok(path)
    }

    fn number(&self, digits: &str, at: Place) -> Result<Expr, ParserError> {
        let float = digits.contains(['.', 'e', 'E']);
        let value = if float {
            digits.parse().ok().and_then(Value::finite)
        } else {
            digits.parse().ok().map(Value::Int)
        };
        match value {
            Some(value) => Ok(Expr::new(ExprKind::Literal(value), at)),
            None => {
                let (code, what) = if float {
                    (Code::Lexical, "no finite number")
                } else {
                    (Code::Range, "outside the 64-bit range")
                };
                self.note(code, at, format!("`{digits}` is {what}"));
                Ok(Expr::error(at))
            }
        }
    }

    fn word(&self, parser: &mut Parser<'_>, word: Word, at: Place) -> Result<Expr, ParserError> {
        let called = parser.peek_nth_token_ref(1).token == Token::LParen;
        let literal = |value| Ok(Expr::new(ExprKind::Literal(value), at));
        match keyword(&word).as_deref() {
            Some("TRUE" | "FALSE" | "NULL") if !called => {
                parser.advance_token();
                match keyword(&word).as_deref() {
                    Some("TRUE") => literal(Value::Bool(true)),
                    Some("FALSE") => literal(Value::Bool(false)),
                    _ => literal(Value::Null),
                }
            }
            Some("CASE") if !called || parser.peek_nth_token_ref(2).token != Token::RParen => {
                self.nested(parser, |parser| self.case(parser, at))
            }
            Some("CAST") if called => self.nested(parser, |parser| self.cast(parser, at)),
            // `div` and `mod` are functions as well, and so is `null`.
            Some("DIV" | "MOD" | "NULL") if called => self.call(parser, None, word, at, at),
            _ if is_reserved(&word) => {
                // `left(s, 2)` and `join(a)` are functions elsewhere.
                if called && let Some(instead) = functions::instead_of(&word.value, 0) {
                    let message = format!("unknown function `{}`", word.value);
                    return Err(self.fail_with(Code::UnknownFunction, at, message, instead));
                }
                Err(self.expected(parser, "an expression"))
            }
            _ if called => self.call(parser, None, word, at, at),
            Some("INTERVAL" | "DATE" | "TIME" | "TIMESTAMP")
                if matches!(
                    parser.peek_nth_token_ref(1).token,
                    Token::SingleQuotedString(_)
                ) =>
            {
                let literal = word.value.to_uppercase();
                let label = if literal == "INTERVAL" {
                    "times are milliseconds; `date_add('hour', -1, timestamp)`"
                } else {
                    "times are milliseconds; `rfc3339_to_unix_ts('…', 'millisecond')`"
                };
                Err(self.fail_with(
                    Code::Unsupported,
                    at,
                    format!("{literal} literals are not supported"),
                    label,
                ))
            }
            _ => {
                parser.advance_token();
                let quoted = word.quote_style.is_some();
                self.namespaced_call(parser, word.clone(), at)
                    .unwrap_or_else(|| {
                        Ok(Expr::new(
                            ExprKind::Name {
                                name: word.value.into(),
                                quoted,
                            },
                            at,
                        ))
                    })
            }
        }
    }

    /// `namespace.name(args)`, when that is what follows.
    fn namespaced_call(
        &self,
        parser: &mut Parser<'_>,
        namespace: Word,
        at: Place,
    ) -> Option<Result<Expr, ParserError>> {
        let [dot, name, paren] = [0, 1, 2].map(|n| &parser.peek_nth_token_ref(n).token);
        let (Token::Period, Token::Word(name), Token::LParen) = (dot, name, paren) else {
            return None;
        };
        let name = name.clone();
        parser.advance_token();
        let name_at = self.here(parser);
        Some(self.call(parser, Some(namespace.value), name, at, name_at))
    }

    /// `name(args)`, from the name on.
    fn call(
        &self,
        parser: &mut Parser<'_>,
        namespace: Option<String>,
        name: Word,
        at: Place,
        name_at: Place,
    ) -> Result<Expr, ParserError> {
        parser.advance_token();
        parser.advance_token();
        if parser.peek_token_ref().token == Token::Mul
            && parser.peek_nth_token_ref(1).token == Token::RParen
        {
            if functions::lookup(&name.value).is_some() {
                return Err(self.expected(parser, "an expression"));
            }
            let message = format!(
                "`{}(*)` needs a window, and windows are not supported",
                name.value
            );
            return Err(self.fail_with(
                Code::Unsupported,
                at.to(self.place(parser.index() + 1)),
                message,
                "`kv_store_incr('key')` counts messages",
            ));
        }
        if at_keyword(parser, "DISTINCT") && parser.peek_nth_token_ref(1).token != Token::RParen {
            return Err(self.fail_with(
                Code::Unsupported,
                self.here(parser),
                "DISTINCT is not supported",
                DISTINCT,
            ));
        }
        let args = self.nested(parser, |parser| {
            self.list(parser, &Token::RParen, "`,` or `)`")
        })?;
        let name_at = if namespace.is_some() {
            at.to(name_at)
        } else {
            name_at
        };
        let at = at.to(self.before(parser));
        Ok(Expr::new(
            ExprKind::Call(Call {
                namespace,
                name: name.value,
                name_at,
                args,
            }),
            at,
        ))
    }

    /// Expressions separated by commas, and what closes them.
    fn list(
        &self,
        parser: &mut Parser<'_>,
        close: &Token,
        wanted: &str,
    ) -> Result<Vec<Expr>, ParserError> {
        let open = self.before(parser);
        let mut list = Vec::new();
        if parser.peek_token_ref().token == *close {
            parser.advance_token();
            return Ok(list);
        }
        loop {
            list.push(self.expr(parser)?);
            if parser.peek_token_ref().token == Token::Comma {
                parser.advance_token();
            } else {
                self.close(parser, close, wanted, open)?;
                return Ok(list);
            }
        }
    }

    /// At least one expression up to `)`.
    pub(super) fn non_empty_list(&self, parser: &mut Parser<'_>) -> Result<Vec<Expr>, ParserError> {
        if parser.peek_token_ref().token == Token::RParen {
            return Err(self.expected(parser, "an expression"));
        }
        self.list(parser, &Token::RParen, "`,` or `)`")
    }

    fn case(&self, parser: &mut Parser<'_>, at: Place) -> Result<Expr, ParserError> {
        parser.advance_token();
        let operand = if at_keyword(parser, "WHEN") {
            None
        } else {
            Some(Box::new(self.expr(parser)?))
        };
        let mut branches = Vec::new();
        while take_keyword(parser, "WHEN") {
            let when = self.expr(parser)?;
            if !take_keyword(parser, "THEN") {
                return Err(self.expected(parser, "`THEN`"));
            }
            branches.push((when, self.expr(parser)?));
        }
        if branches.is_empty() {
            return Err(self.expected(parser, "`WHEN`"));
        }
        if branches.len() > MAX_BRANCHES {
            self.note(
                Code::Limit,
                at,
                format!("more than {MAX_BRANCHES} branches"),
            );
        }
        let otherwise = if take_keyword(parser, "ELSE") {
            Some(Box::new(self.expr(parser)?))
        } else {
            None
        };
        if !take_keyword(parser, "END") {
            return Err(self.expected(parser, "`WHEN`, `ELSE` or `END`"));
        }
        let at = at.to(self.before(parser));
        Ok(Expr::new(
            ExprKind::Case {
                operand,
                branches,
                otherwise,
            },
            at,
        ))
    }

    /// `CAST(expr AS type)` is a call of the conversion function.
    fn cast(&self, parser: &mut Parser<'_>, at: Place) -> Result<Expr, ParserError> {
        parser.advance_token();
        parser.advance_token();
        let value = self.expr(parser)?;
        if !take_keyword(parser, "AS") {
            return Err(self.expected(parser, "`AS`"));
        }
        let name_at = self.here(parser);
        let Token::Word(word) = parser.peek_token_ref().token.clone() else {
            return Err(self.expected(parser, "a type"));
        };
        let function = match keyword(&word).as_deref() {
            Some("INT" | "INTEGER" | "BIGINT") => "int",
            Some("FLOAT" | "DOUBLE" | "REAL") => "float",
            Some("STRING" | "TEXT" | "VARCHAR") => "str",
            Some("BOOLEAN" | "BOOL") => "bool",
            _ => {
                let message = format!("cannot cast to `{}`", word.value);
                return Err(self.fail_with(
                    Code::Unsupported,
                    name_at,
                    message,
                    "INT, FLOAT, STRING or BOOLEAN",
                ));
            }
        };
        parser.advance_token();
        self.expect(parser, &Token::RParen, "`)`")?;
        let call = Call {
            namespace: None,
            name: function.to_owned(),
            name_at,
            args: vec![value],
        };
        Ok(Expr::new(ExprKind::Call(call), at.to(self.before(parser))))
    }

    fn array_or_range(&self, parser: &mut Parser<'_>, at: Place) -> Result<Expr, ParserError> {
        self.count_container(at);
        parser.advance_token();
        if let Some((from, to)) = self.range(parser)? {
            self.expect(parser, &Token::RBracket, "`]`")?;
            let at = at.to(self.before(parser));
            if from > to.saturating_add(1) {
                self.note(
                    Code::Range,
                    at,
                    format!("the range counts up, but {from} lies after {to}"),
                );
            } else if i128::from(to) - i128::from(from) >= i128::from(MAX_RANGE) {
                self.note(
                    Code::Limit,
                    at,
                    format!("the range has more than {MAX_RANGE} elements"),
                );
            }
            return Ok(Expr::new(ExprKind::Range { from, to }, at));
        }
        let elements = self.list(parser, &Token::RBracket, "`,` or `]`")?;
        Ok(Expr::new(
            ExprKind::Array(elements),
            at.to(self.before(parser)),
        ))
    }

    /// `int..int`, when that is what follows.
    fn range(&self, parser: &mut Parser<'_>) -> Result<Option<(i64, i64)>, ParserError> {
        let signed = usize::from(matches!(
            parser.peek_token_ref().token,
            Token::Minus | Token::Plus
        ));
        let number = matches!(parser.peek_nth_token_ref(signed).token, Token::Number(..));
        if !number || !is_dots(&parser.peek_nth_token_ref(signed + 1).token) {
            return Ok(None);
        }
        let from = self.integer(parser)?;
        parser.advance_token();
        let to = self.integer(parser)?;
        Ok(Some((from, to)))
    }

    /// `[+|-] digits`
    pub(super) fn integer(&self, parser: &mut Parser<'_>) -> Result<i64, ParserError> {
        let at = self.here(parser);
        let sign = match parser.peek_token_ref().token {
            Token::Minus => "-",
            Token::Plus => "+",
            _ => "",
        };
        if !sign.is_empty() {
            parser.advance_token();
        }
        let Token::Number(digits, _) = parser.peek_token_ref().token.clone() else {
            return Err(self.expected(parser, "an integer"));
        };
        if digits.contains(['.', 'e', 'E']) {
            return Err(self.expected(parser, "an integer"));
        }
        parser.advance_token();
        match text::number(format!("{sign}{digits}").as_bytes()) {
            Some(Value::Int(int)) => Ok(int),
            _ => Err(self.fail(
                Code::Range,
                at.to(self.before(parser)),
                format!("`{sign}{digits}` is outside the 64-bit range"),
            )),
        }
    }

    fn object(&self, parser: &mut Parser<'_>, at: Place) -> Result<Expr, ParserError> {
        self.count_container(at);
        parser.advance_token();
        let mut members = Vec::new();
        while parser.peek_token_ref().token != Token::RBrace || !members.is_empty() {
            let Token::SingleQuotedString(key) = parser.peek_token_ref().token.clone() else {
                return Err(self.expected(parser, "a key in single quotes"));
            };
            parser.advance_token();
            self.expect(parser, &Token::Colon, "`:`")?;
            members.push((key.into(), self.expr(parser)?));
            if parser.peek_token_ref().token != Token::Comma {
                break;
            }
            parser.advance_token();
        }
        self.close(parser, &Token::RBrace, "`,` or `}`", at)?;
        Ok(Expr::new(
            ExprKind::Object(members),
            at.to(self.before(parser)),
        ))
    }

    /// The path steps that follow `root`.
    fn steps(&self, parser: &mut Parser<'_>, root: Expr) -> Result<Expr, ParserError> {
        let mut steps = Vec::new();
        loop {
            match parser.peek_token_ref().token {
                Token::Period => {
                    parser.advance_token();
                    steps.push(self.key(parser)?);
                }
                Token::LBracket => {
                    parser.advance_token();
                    steps.push(self.bracket(parser)?);
                }
                // `payload.name.length()`: the name of a user function has one dot.
                Token::LParen if matches!(steps.last(), Some(Step::Key(_))) => {
                    let dot = self.place(parser.index().saturating_sub(2));
                    let value = Place {
                        end: dot.start,
                        ..root.at
                    };
                    let name = self.text(self.before(parser));
                    return Err(self.fail_with(
                        Code::Syntax,
                        self.before(parser),
                        format!("`{name}` is called on a value"),
                        &format!("write `{name}({})`", self.text(value)),
                    ));
                }
                _ if steps.is_empty() => return Ok(root),
                _ => {
                    let at = root.at.to(self.before(parser));
                    self.limit_steps(steps.len(), at);
                    return Ok(Expr::new(
                        ExprKind::Path {
                            root: Box::new(root),
                            steps,
                        },
                        at,
                    ));
                }
            }
        }
    }

    /// Whether a text in quotes follows the next token.
    fn quoted_follows(&self, parser: &Parser<'_>) -> bool {
        match &parser.peek_nth_token_ref(1).token {
            Token::Word(word) => word.quote_style.is_some(),
            token => matches!(token, Token::SingleQuotedString(_)),
        }
    }

    /// What may stand after a dot.
    fn key(&self, parser: &mut Parser<'_>) -> Result<Step, ParserError> {
        let apart = self.before(parser).end < self.here(parser).start;
        let key = match parser.peek_token_ref().token.clone() {
            // `payload. FROM "t"` lacks a key; any other keyword after a dot is one.
            token if apart && starts_clause(&token) && self.quoted_follows(parser) => {
                return Err(self.expected(parser, "a key"));
            }
            Token::Word(word) => word.value,
            Token::SingleQuotedString(text) => text,
            Token::Number(digits, _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits,
            Token::Mul => {
                return Err(self.fail_with(
                    Code::Unsupported,
                    self.here(parser),
                    "`.*` is not supported",
                    "without it the whole object is taken, under its own name",
                ));
            }
            _ => return Err(self.expected(parser, "a key")),
        };
        parser.advance_token();
        Ok(Step::Key(key.into()))
    }

    /// What may stand between brackets after a value.
    fn bracket(&self, parser: &mut Parser<'_>) -> Result<Step, ParserError> {
        let at = self.before(parser);
        if let Some((from, to)) = self.range(parser)? {
            self.expect(parser, &Token::RBracket, "`]`")?;
            let at = at.to(self.before(parser));
            if from == 0 || to == 0 {
                self.note(
                    Code::Range,
                    at,
                    "elements are counted from 1, or from the end with -1",
                );
            }
            return Ok(Step::Slice { from, to, at });
        }
        let index = self.nested(parser, |parser| self.expr(parser))?;
        self.close(parser, &Token::RBracket, "`]`", at)?;
        Ok(match index.literal().and_then(Value::as_str) {
            Some(key) => Step::Key(key.into()),
            None => Step::Index(index),
        })
    }
}

/// The most elements of a range literal.
const MAX_RANGE: i64 = 1_000_000;

fn is_word(word: &Word, name: &str) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name)
}

fn is_dots(token: &Token) -> bool {
    matches!(token, Token::CustomBinaryOperator(operator) if operator == DOTS)
}

/// Whether a word that follows an item can only be its alias.
pub(super) fn may_be_alias(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            !is_reserved(word)
                && !["ORDER", "LIMIT", "UNION", "XOR"]
                    .iter()
                    .any(|name| is_keyword(token, name))
        }
        _ => false,
    }
}
