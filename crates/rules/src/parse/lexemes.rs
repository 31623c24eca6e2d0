//! The tokens of a statement with their comments, for who writes it anew.

use sqlparser::tokenizer::Token;

use super::dialect::is_reserved;
use super::tokens::{DOTS, tokenize};
use crate::diagnostic::{Diagnostic, Place};

/// The tokens of a statement.
#[derive(Debug, Default)]
pub(crate) struct Lexemes {
    pub(crate) list: Vec<Lexeme>,
    /// The comments after the last token.
    pub(crate) last_comments: Vec<Place>,
}

/// A token and the comments before it.
#[derive(Debug)]
pub(crate) struct Lexeme {
    pub(crate) mark: Mark,
    pub(crate) at: Place,
    pub(crate) comments: Vec<Place>,
}

/// What a token is by its looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A word of the language, which may still be an alias or a function.
    Reserved,
    /// Any other name, and whatever is a key after a dot.
    Name,
    Number,
    Text,
    Open,
    Close,
    Comma,
    Dot,
    /// `..`
    Dots,
    Colon,
    Semicolon,
    Operator,
}

/// The tokens of a statement.
///
/// # Errors
/// The first thing that is no token.
pub(crate) fn lexemes(sql: &str) -> Result<Lexemes, Diagnostic> {
    let tokens = tokenize(sql);
    if let Some(mistake) = tokens.mistakes.into_iter().next() {
        return Err(mistake);
    }
    let mut comments = tokens.comments.into_iter().peekable();
    let mut lexemes = Lexemes::default();
    for (index, (token, at)) in tokens.tokens.iter().zip(tokens.places).enumerate() {
        let mut before = Vec::new();
        while let Some((_, comment)) = comments.next_if(|(next, _)| *next <= index) {
            before.push(comment);
        }
        let after_dot = lexemes
            .list
            .last()
            .is_some_and(|lexeme| lexeme.mark == Mark::Dot);
        lexemes.list.push(Lexeme {
            mark: mark(&token.token, after_dot),
            at,
            comments: before,
        });
    }
    lexemes.last_comments = comments.map(|(_, comment)| comment).collect();
    Ok(lexemes)
}

fn mark(token: &Token, after_dot: bool) -> Mark {
    match token {
        Token::Word(word) if !after_dot && is_reserved(word) => Mark::Reserved,
        Token::Word(_) => Mark::Name,
        Token::Number(..) | Token::SingleQuotedString(_) if after_dot => Mark::Name,
        Token::Number(..) => Mark::Number,
        Token::SingleQuotedString(_) => Mark::Text,
        Token::LParen | Token::LBracket | Token::LBrace => Mark::Open,
        Token::RParen | Token::RBracket | Token::RBrace => Mark::Close,
        Token::Comma => Mark::Comma,
        Token::Period => Mark::Dot,
        Token::Colon => Mark::Colon,
        Token::SemiColon => Mark::Semicolon,
        Token::CustomBinaryOperator(operator) if operator == DOTS => Mark::Dots,
        _ => Mark::Operator,
    }
}
