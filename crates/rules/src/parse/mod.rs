//! SQL text to weir's own tree. sqlparser is known to this folder only.
//!
//! Its tokenizer reads the text, its precedence climbing (`parse_expr`) drives expressions; the clauses, every
//! operand and every operator are weir's own, so only what the language has can come out.

mod clauses;
mod dialect;
mod hints;
mod lexemes;
mod operands;
mod operators;
mod quotes;
mod tokens;

pub(crate) use lexemes::{Lexeme, Lexemes, Mark, lexemes};

use crate::ast::Statement;
use crate::diagnostic::{Code, Diagnostic, Place};

/// The longest statement in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// The statement as far as it can be understood, and everything that is wrong with its syntax.
pub(crate) fn parse(sql: &str) -> (Option<Statement>, Vec<Diagnostic>) {
    if sql.len() > MAX_TEXT {
        let message = format!(
            "the statement has {} bytes, more than {MAX_TEXT}",
            sql.len()
        );
        return (
            None,
            vec![Diagnostic::new(Code::Limit, sql, Place::default(), message)],
        );
    }
    let mut tokens = tokens::tokenize(sql);
    if tokens.is_open {
        return (None, std::mem::take(&mut tokens.mistakes));
    }
    clauses::parse(sql, tokens)
}
