//! Operators between operands: logic, comparisons (which do not chain), arithmetic.

use std::borrow::Cow;

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::dialect::{Operand, Read, WeirDialect, at_keyword, binding, keyword, take_keyword};
use crate::ast::{Arithmetic, Expr, ExprKind, IsTest};
use crate::comparison::Comparison;
use crate::diagnostic::{Code, Place};
use crate::path::quoted_key;

impl WeirDialect {
    /// Reads the operator that comes next and its right side; its left side is the last operand read.
    pub(super) fn read_operator(&self, parser: &mut Parser<'_>) -> Read {
        let at = self.here(parser);
        let token = parser.peek_token_ref().token.clone();
        let left = self.pop();
        parser.advance_token();
        match token {
            Token::Word(word) => match keyword(&word).as_deref() {
                Some("OR") => self.logic(parser, left, binding::OR),
                Some("AND") => self.logic(parser, left, binding::AND),
                Some("DIV") => {
                    self.arithmetic(parser, left, Arithmetic::IntegerDivide, binding::PRODUCT)
                }
                Some("MOD") => self.arithmetic(parser, left, Arithmetic::Modulo, binding::PRODUCT),
                Some("XOR") => Err(self.unsupported(
                    at,
                    "XOR",
                    "`<>` between two conditions, `bitxor` between integers",
                )),
                word => self.word_comparison(parser, left, word.unwrap_or_default(), at),
            },
            Token::Plus => self.arithmetic(parser, left, Arithmetic::Add, binding::SUM),
            Token::Minus => self.arithmetic(parser, left, Arithmetic::Subtract, binding::SUM),
            Token::StringConcat if self.has_and_signs() => {
                let message = "`||` joins texts, and these are conditions";
                self.note_with(Code::Syntax, at, message, "use OR");
                self.logic(parser, left, binding::OR)
            }
            Token::StringConcat => self.arithmetic(parser, left, Arithmetic::Concat, binding::SUM),
            Token::Mul => self.arithmetic(parser, left, Arithmetic::Multiply, binding::PRODUCT),
            Token::Div => self.arithmetic(parser, left, Arithmetic::Divide, binding::PRODUCT),
            Token::Mod => self.arithmetic(parser, left, Arithmetic::Modulo, binding::PRODUCT),
            Token::Eq | Token::DoubleEq => self.comparison(parser, left, Comparison::Equal, at),
            Token::Neq => self.comparison(parser, left, Comparison::NotEqual, at),
            Token::Lt => self.comparison(parser, left, Comparison::Less, at),
            Token::LtEq => self.comparison(parser, left, Comparison::LessOrEqual, at),
            Token::Gt => self.comparison(parser, left, Comparison::Greater, at),
            Token::GtEq => self.comparison(parser, left, Comparison::GreaterOrEqual, at),
            Token::CustomBinaryOperator(_) => self.topic_match(parser, left, at),
            // What these stand for is certain, so what follows can be looked at as well.
            Token::Overlap => {
                self.note_unsupported(at, &token);
                self.note_and_sign();
                self.logic(parser, left, binding::AND)
            }
            Token::ExclamationMark if is_split_not_equal(parser.peek_token_ref()) => {
                let whole = at.to(self.here(parser));
                parser.advance_token();
                let message = format!("`{}` is no operator", self.text(whole));
                self.note_with(Code::Syntax, whole, message, "write `<>`, or `!=` as one");
                self.comparison(parser, left, Comparison::NotEqual, whole)
            }
            Token::Spaceship | Token::Assignment => {
                self.note_unsupported(at, &token);
                self.comparison(parser, left, Comparison::Equal, at)
            }
            Token::RArrow => {
                self.note_unsupported(at, &token);
                self.comparison(parser, left, Comparison::GreaterOrEqual, at)
            }
            Token::DoubleColon => {
                let cast = cast_to(&parser.peek_token_ref().token)
                    .map(|kind| format!("`CAST({} AS {kind})`", self.text(left.expr.at)));
                let instead = cast.as_deref().unwrap_or_else(|| instead_of(&token));
                Err(self.unsupported(at, "`::`", instead))
            }
            Token::Arrow | Token::LongArrow => {
                Err(self.arrow(&parser.peek_token_ref().token, &left, &token, at))
            }
            other => Err(self.unsupported(at, &format!("`{other}`"), instead_of(&other))),
        }
    }

    pub(super) fn unsupported(&self, at: Place, what: &str, instead: &str) -> ParserError {
        self.fail_with(
            Code::Unsupported,
            at,
            format!("{what} is not supported"),
            &format!("use {instead}"),
        )
    }

    /// Notes an operator after which parsing goes on.
    pub(super) fn note_unsupported(&self, at: Place, operator: &Token) {
        let message = format!("`{operator}` is not supported");
        let label = format!("use {}", instead_of(operator));
        self.note_with(Code::Unsupported, at, message, &label);
    }

    /// `left->'key'` of PostgreSQL and MySQL is a path here.
    fn arrow(&self, key: &Token, left: &Operand, arrow: &Token, at: Place) -> ParserError {
        let left = self.text(left.expr.at);
        let path = match key {
            Token::SingleQuotedString(key) => {
                let path = key.strip_prefix("$.").map(Cow::Borrowed);
                Some(format!(
                    "{left}.{}",
                    path.unwrap_or_else(|| quoted_key(key))
                ))
            }
            Token::Word(key) => Some(format!("{left}.{}", quoted_key(&key.value))),
            Token::Number(index, _) => index
                .parse()
                .ok()
                .and_then(|index: i64| index.checked_add(1))
                .map(|index| format!("{left}[{index}]")),
            _ => None,
        };
        let instead = path.map_or_else(|| "a path: `a.b`".to_owned(), |path| format!("`{path}`"));
        self.unsupported(at, &format!("`{arrow}`"), &instead)
    }

    /// AND and OR take any number of sides, so that long chains stay flat.
    fn logic(&self, parser: &mut Parser<'_>, left: Operand, binding: u8) -> Read {
        let right = self.operand(parser, binding)?;
        let at = left.expr.at.to(right.expr.at);
        let is_or = binding == binding::OR;
        let extends = match &left.expr.kind {
            ExprKind::Or(_) => is_or && !left.parenthesised,
            ExprKind::And(_) => !is_or && !left.parenthesised,
            _ => false,
        };
        if extends {
            self.widen(&left, &right);
        }
        let mut parts = match left.expr.kind {
            ExprKind::Or(parts) | ExprKind::And(parts) if extends => parts,
            kind => vec![Expr::new(kind, left.expr.at)],
        };
        parts.push(right.expr);
        self.push(Expr::new(
            if is_or {
                ExprKind::Or(parts)
            } else {
                ExprKind::And(parts)
            },
            at,
        ))
    }

    fn arithmetic(
        &self,
        parser: &mut Parser<'_>,
        left: Operand,
        operator: Arithmetic,
        binding: u8,
    ) -> Read {
        // `a IS NULL || b`: a comparison is no operand, unless it stands in parentheses (rule-SQL §3).
        if left.expr.is_comparison() && !left.parenthesised {
            let label = if operator == Arithmetic::Concat {
                JOINS_TEXTS
            } else {
                "put the comparison in parentheses"
            };
            let at = self.before(parser);
            let message = format!("`{}` cannot follow a comparison", operator.symbol());
            return Err(self.fail_with(Code::Syntax, at, message, label));
        }
        let right = self.operand(parser, binding)?;
        let at = left.expr.at.to(right.expr.at);
        let kind = ExprKind::Arithmetic {
            operator,
            left: Box::new(left.expr),
            right: Box::new(right.expr),
        };
        self.push(Expr::new(kind, at))
    }

    /// The left side of a comparison, which must not be one itself.
    fn left_side(&self, left: Operand, at: Place) -> Result<Expr, ParserError> {
        if left.expr.is_comparison() && !left.parenthesised {
            let label = if ends_in_concat(&left.expr) {
                JOINS_TEXTS
            } else {
                "join them with AND, or use parentheses"
            };
            return Err(self.fail_with(Code::Syntax, at, "comparisons do not chain", label));
        }
        Ok(left.expr)
    }

    fn sum(&self, parser: &mut Parser<'_>) -> Result<Box<Expr>, ParserError> {
        self.operand(parser, binding::COMPARISON)
            .map(|operand| Box::new(operand.expr))
    }

    fn comparison(
        &self,
        parser: &mut Parser<'_>,
        left: Operand,
        operator: Comparison,
        at: Place,
    ) -> Read {
        let left = Box::new(self.left_side(left, at)?);
        let right = self.sum(parser)?;
        let at = left.at.to(right.at);
        self.push(Expr::new(
            ExprKind::Compare {
                operator,
                left,
                right,
            },
            at,
        ))
    }

    fn topic_match(&self, parser: &mut Parser<'_>, left: Operand, at: Place) -> Read {
        let topic = Box::new(self.left_side(left, at)?);
        let filter = self.sum(parser)?;
        let at = topic.at.to(filter.at);
        self.push(Expr::new(ExprKind::TopicMatch { topic, filter }, at))
    }

    /// `[NOT] IN`, `[NOT] BETWEEN`, `[NOT] LIKE`, `IS`, from after the first word.
    fn word_comparison(
        &self,
        parser: &mut Parser<'_>,
        left: Operand,
        word: &str,
        at: Place,
    ) -> Read {
        let left = Box::new(self.left_side(left, at)?);
        let start = left.at;
        let negated = word == "NOT";
        let word = if negated {
            let word = match &parser.peek_token_ref().token {
                Token::Word(word) => keyword(word).unwrap_or_default(),
                _ => String::new(),
            };
            parser.advance_token();
            word
        } else {
            word.to_owned()
        };
        let kind = match word.as_str() {
            "IN" => self.membership(parser, left, negated)?,
            "BETWEEN" => {
                let low = self.sum(parser)?;
                if !take_keyword(parser, "AND") {
                    return Err(self.expected(parser, "`AND`"));
                }
                ExprKind::Between {
                    value: left,
                    low,
                    high: self.sum(parser)?,
                    negated,
                }
            }
            "LIKE" | "ILIKE" => {
                let pattern = self.sum(parser)?;
                let escape = self.escape(parser)?;
                ExprKind::Like {
                    value: left,
                    pattern,
                    escape,
                    ignore_case: word == "ILIKE",
                    negated,
                }
            }
            "RLIKE" | "REGEXP" => ExprKind::Regex {
                value: left,
                pattern: self.sum(parser)?,
                negated,
            },
            _ => self.is_test(parser, left)?,
        };
        self.push(Expr::new(kind, start.to(self.before(parser))))
    }

    fn membership(
        &self,
        parser: &mut Parser<'_>,
        value: Box<Expr>,
        negated: bool,
    ) -> Result<ExprKind, ParserError> {
        if parser.peek_token_ref().token == Token::LParen {
            parser.advance_token();
            let list = self.nested(parser, |parser| self.non_empty_list(parser))?;
            return Ok(ExprKind::InList {
                value,
                list,
                negated,
            });
        }
        Ok(ExprKind::InArray {
            value,
            array: self.sum(parser)?,
            negated,
        })
    }

    fn escape(&self, parser: &mut Parser<'_>) -> Result<Option<char>, ParserError> {
        if !take_keyword(parser, "ESCAPE") {
            return Ok(None);
        }
        if let Token::SingleQuotedString(text) = &parser.peek_token_ref().token {
            let mut chars = text.chars();
            if let (Some(escape), None) = (chars.next(), chars.next()) {
                parser.advance_token();
                return Ok(Some(escape));
            }
        }
        Err(self.expected(parser, "one character in single quotes"))
    }

    fn is_test(&self, parser: &mut Parser<'_>, value: Box<Expr>) -> Result<ExprKind, ParserError> {
        let negated = take_keyword(parser, "NOT");
        let test = if at_keyword(parser, "NULL") {
            IsTest::Null
        } else if at_keyword(parser, "TRUE") {
            IsTest::True
        } else if at_keyword(parser, "FALSE") {
            IsTest::False
        } else {
            return Err(self.expected(parser, "`NULL`, `TRUE` or `FALSE`"));
        };
        parser.advance_token();
        Ok(ExprKind::Is {
            value,
            test,
            negated,
        })
    }
}

/// Whether what follows `!` makes it the operator `!=` with a space inside.
pub(super) fn is_split_not_equal(after: &TokenWithSpan) -> bool {
    matches!(after.token, Token::Eq | Token::DoubleEq)
}

/// What is said where `||` stands between conditions.
const JOINS_TEXTS: &str = "`||` joins texts: between conditions write OR";

/// Whether the last thing that a comparison compares is a joined text: `a = 1 || b`.
fn ends_in_concat(comparison: &Expr) -> bool {
    let last = match &comparison.kind {
        ExprKind::Compare { right, .. } => right,
        ExprKind::Like { pattern, .. } | ExprKind::Regex { pattern, .. } => pattern,
        ExprKind::TopicMatch { filter, .. } => filter,
        ExprKind::Between { high, .. } => high,
        _ => return false,
    };
    matches!(
        last.kind,
        ExprKind::Arithmetic {
            operator: Arithmetic::Concat,
            ..
        }
    )
}

/// What PostgreSQL's types are called in CAST.
fn cast_to(kind: &Token) -> Option<&'static str> {
    let Token::Word(word) = kind else {
        return None;
    };
    Some(match keyword(word)?.as_str() {
        "INT" | "INTEGER" | "BIGINT" | "SMALLINT" | "INT2" | "INT4" | "INT8" => "INT",
        "FLOAT" | "FLOAT4" | "FLOAT8" | "DOUBLE" | "REAL" | "NUMERIC" | "DECIMAL" => "FLOAT",
        "TEXT" | "STRING" | "VARCHAR" | "CHAR" => "STRING",
        "BOOL" | "BOOLEAN" => "BOOLEAN",
        _ => return None,
    })
}

/// What to write instead of an operator that the language leaves out.
pub(super) fn instead_of(operator: &Token) -> &'static str {
    match operator {
        Token::Pipe => "`bitor`, or `||` to join texts",
        Token::Ampersand => "`bitand`",
        Token::Overlap => "AND",
        Token::Caret | Token::CaretAt => "`bitxor`, or `power`",
        Token::ShiftLeft => "`bitsl`",
        Token::ShiftRight => "`bitsr`",
        Token::Tilde
        | Token::TildeAsterisk
        | Token::ExclamationMarkTilde
        | Token::ExclamationMarkTildeAsterisk => "`regex_match`, RLIKE, or `bitnot`",
        Token::DoubleTilde | Token::DoubleTildeAsterisk => "LIKE or ILIKE",
        Token::DoubleColon => "`CAST(x AS type)`",
        Token::Spaceship => "`eq`, or `=`",
        Token::RArrow => "`>=`",
        Token::Assignment => "`=`",
        Token::ExclamationMark => "NOT",
        _ => "a function",
    }
}
