//! Clauses: SELECT or FOREACH, DO, INCASE, FROM, WHERE. A mistake in one item or clause does not hide those in the next.

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::dialect::{WeirDialect, at_keyword, is_keyword, starts_clause, take_keyword};
use super::operands::may_be_alias;
use super::tokens::Tokens;
use crate::ast::{Alias, AliasStep, Body, Expr, Item, Source, Statement};
use crate::diagnostic::{Code, Diagnostic, Place};

/// The most items of one list (rule-SQL §14).
const MAX_ITEMS: usize = 256;
/// The most entries of FROM.
const MAX_SOURCES: usize = 64;
/// sqlparser's own guard; the dialect's depth limit is always reached first.
const RECURSION: usize = 400;

pub(super) fn parse(sql: &str, tokens: Tokens) -> (Option<Statement>, Vec<Diagnostic>) {
    let dialect = WeirDialect::new(sql, tokens.places);
    let brackets = tokens
        .tokens
        .iter()
        .map(|token| bracket(&token.token))
        .collect();
    let parser = Parser::new(&dialect)
        .with_tokens_with_locations(tokens.tokens)
        .with_recursion_limit(RECURSION);
    let statement = Clauses {
        dialect: &dialect,
        parser,
        brackets,
        start: 0,
    }
    .statement()
    .ok();
    let diagnostics = std::mem::take(&mut dialect.state().diagnostics);
    (statement, diagnostics)
}

struct Clauses<'d> {
    dialect: &'d WeirDialect,
    parser: Parser<'d>,
    /// For each token 1 if it opens a bracket, -1 if it closes one.
    brackets: Vec<i32>,
    /// The first token of the item or condition that is being read.
    start: usize,
}

fn bracket(token: &Token) -> i32 {
    match token {
        Token::LParen | Token::LBracket | Token::LBrace => 1,
        Token::RParen | Token::RBracket | Token::RBrace => -1,
        _ => 0,
    }
}

impl Clauses<'_> {
    fn statement(&mut self) -> Result<Statement, ParserError> {
        let at = self.here();
        let body = if self.take("SELECT") {
            Body::Select(self.items()?)
        } else if self.take("FOREACH") {
            let items = self.items()?;
            let outputs = if self.take("DO") {
                Some(self.items()?)
            } else {
                None
            };
            let filter = if self.take("INCASE") {
                Some(self.condition()?)
            } else {
                None
            };
            Body::Foreach {
                items,
                outputs,
                filter,
            }
        } else {
            return Err(self.no_statement(at));
        };
        let sources = self.sources(at)?;
        let condition = if self.take("WHERE") {
            Some(self.condition()?)
        } else {
            None
        };
        self.end()?;
        Ok(Statement {
            body,
            sources,
            condition,
            at,
        })
    }

    fn no_statement(&self, at: Place) -> ParserError {
        match &self.parser.peek_token_ref().token {
            Token::Word(word) if word.quote_style.is_none() => {
                let message = format!("`{}` does not start a rule", word.value);
                self.dialect.fail_with(
                    Code::Unsupported,
                    at,
                    message,
                    "a rule is one SELECT or FOREACH statement",
                )
            }
            _ => self.dialect.expected(&self.parser, "`SELECT` or `FOREACH`"),
        }
    }

    /// What follows the last clause: at most one `;`.
    fn end(&mut self) -> Result<(), ParserError> {
        if self.peek() == Token::SemiColon {
            self.parser.advance_token();
            if self.peek() != Token::EOF {
                return Err(self.dialect.fail(
                    Code::Unsupported,
                    self.here(),
                    "a rule is one statement: nothing may follow `;`",
                ));
            }
        }
        match self.peek() {
            Token::EOF => Ok(()),
            token if starts_clause(&token) => {
                let message = format!("`{token}` cannot stand here");
                let order = "SELECT … FROM … WHERE …, or FOREACH … DO … INCASE … FROM … WHERE …";
                Err(self
                    .dialect
                    .fail_with(Code::Syntax, self.here(), message, order))
            }
            _ => Err(self
                .dialect
                .expected(&self.parser, "the end of the statement")),
        }
    }

    fn items(&mut self) -> Result<Vec<Item>, ParserError> {
        let start = self.here();
        if at_keyword(&self.parser, "DISTINCT")
            && !matches!(
                self.parser.peek_nth_token_ref(1).token,
                Token::Comma | Token::Period
            )
            && !is_keyword(&self.parser.peek_nth_token_ref(1).token, "FROM")
        {
            self.dialect
                .note(Code::Unsupported, start, "DISTINCT is not supported");
            self.parser.advance_token();
        }
        let mut items = Vec::new();
        loop {
            match self.item() {
                Ok(item) => items.push(item),
                Err(error) => {
                    let at = self.here();
                    self.recover(error, true)?;
                    items.push(Item::Expr {
                        expr: Expr::error(at),
                        alias: None,
                    });
                }
            }
            if self.peek() == Token::Comma {
                self.parser.advance_token();
            } else if let Err(error) = self.item_end() {
                self.recover(error, true)?;
                if self.peek() == Token::Comma {
                    self.parser.advance_token();
                    continue;
                }
                break;
            } else {
                break;
            }
        }
        if items.len() > MAX_ITEMS {
            self.dialect
                .note(Code::Limit, start, format!("more than {MAX_ITEMS} items"));
        }
        Ok(items)
    }

    /// After an item without comma only the next clause may come.
    fn item_end(&self) -> Result<(), ParserError> {
        let token = self.peek();
        if token == Token::EOF || starts_clause(&token) {
            return Ok(());
        }
        Err(self.dialect.expected(&self.parser, "`,` or `FROM`"))
    }

    fn item(&mut self) -> Result<Item, ParserError> {
        let at = self.here();
        self.start = self.parser.index();
        if self.peek() == Token::Mul {
            self.parser.advance_token();
            if at_keyword(&self.parser, "AS") {
                self.dialect
                    .note(Code::Alias, self.here(), "`*` cannot have an alias");
                self.parser.advance_token();
                self.alias(false)?;
            }
            return Ok(Item::Star(at));
        }
        let expr = self.dialect.expr(&mut self.parser)?;
        let alias = if self.take("AS") {
            Some(self.alias(false)?)
        } else if may_be_alias(&self.peek()) {
            Some(self.alias(true)?)
        } else {
            None
        };
        Ok(Item::Expr { expr, alias })
    }

    /// `name { .name | .digits | .'text' | [index] }`
    fn alias(&mut self, implicit: bool) -> Result<Alias, ParserError> {
        let at = self.here();
        let word = match self.peek() {
            Token::Word(word) if !starts_clause(&Token::Word(word.clone())) => word,
            _ => return Err(self.dialect.expected(&self.parser, "a name for the alias")),
        };
        self.parser.advance_token();
        let mut steps = vec![AliasStep::Key(word.value.into())];
        loop {
            match self.peek() {
                Token::Period => {
                    self.parser.advance_token();
                    let key = match self.peek() {
                        Token::Word(word) => word.value,
                        Token::SingleQuotedString(text) => text,
                        Token::Number(digits, _)
                            if digits.bytes().all(|byte| byte.is_ascii_digit()) =>
                        {
                            digits
                        }
                        _ => return Err(self.dialect.expected(&self.parser, "a key")),
                    };
                    self.parser.advance_token();
                    steps.push(AliasStep::Key(key.into()));
                }
                Token::LBracket => {
                    self.parser.advance_token();
                    steps.push(self.alias_index()?);
                }
                _ => {
                    let at = at.to(self.dialect.before(&self.parser));
                    self.dialect.limit_steps(steps.len(), at);
                    return Ok(Alias {
                        steps,
                        implicit,
                        at,
                    });
                }
            }
        }
    }

    fn alias_index(&mut self) -> Result<AliasStep, ParserError> {
        if let Token::SingleQuotedString(key) = self.peek() {
            self.parser.advance_token();
            self.dialect
                .expect(&mut self.parser, &Token::RBracket, "`]`")?;
            return Ok(AliasStep::Key(key.into()));
        }
        let negative = self.peek() == Token::Minus;
        let step = match (self.dialect.integer(&mut self.parser)?, negative) {
            (0, false) => AliasStep::Prepend,
            (0, true) => AliasStep::Append,
            (index, _) => AliasStep::At(index),
        };
        self.dialect
            .expect(&mut self.parser, &Token::RBracket, "`]`")?;
        Ok(step)
    }

    fn sources(&mut self, statement: Place) -> Result<Vec<Source>, ParserError> {
        if !self.take("FROM") {
            if self.peek() == Token::EOF
                || self.peek() == Token::SemiColon
                || at_keyword(&self.parser, "WHERE")
            {
                let label = "a rule says FROM which topics or events";
                self.dialect
                    .note_with(Code::NoSource, statement, "no FROM source", label);
                return Ok(Vec::new());
            }
            return Err(self.dialect.expected(&self.parser, "`FROM`"));
        }
        let start = self.here();
        let mut sources = Vec::new();
        loop {
            sources.push(self.source()?);
            match self.peek() {
                Token::Comma => self.parser.advance_token(),
                Token::Word(_) if may_be_alias(&self.peek()) || self.take("AS") => {
                    return Err(self.dialect.fail(
                        Code::Unsupported,
                        self.here(),
                        "names for sources are not supported",
                    ));
                }
                _ => break,
            }
        }
        if sources.len() > MAX_SOURCES {
            self.dialect.note(
                Code::Limit,
                start,
                format!("more than {MAX_SOURCES} sources"),
            );
        }
        Ok(sources)
    }

    fn source(&mut self) -> Result<Source, ParserError> {
        let at = self.here();
        let (text, quoted) = match self.peek() {
            Token::Word(word) if word.quote_style.is_some() => (word.value, true),
            Token::SingleQuotedString(text) => (text, true),
            token @ Token::Word(_) if may_be_alias(&token) => (token.to_string(), false),
            Token::LParen => {
                return Err(self.dialect.fail(
                    Code::Unsupported,
                    at,
                    "a sub-query is not supported",
                ));
            }
            _ => {
                return Err(self
                    .dialect
                    .expected(&self.parser, "a topic filter in double quotes"));
            }
        };
        self.parser.advance_token();
        if !quoted && matches!(self.peek(), Token::Div | Token::Period | Token::LParen) {
            let label = "put the topic filter in double quotes";
            return Err(self.dialect.fail_with(
                Code::Syntax,
                self.here(),
                "a bare source is one name",
                label,
            ));
        }
        Ok(Source { text, quoted, at })
    }

    /// The expression of WHERE or INCASE.
    fn condition(&mut self) -> Result<Expr, ParserError> {
        let at = self.here();
        self.start = self.parser.index();
        match self.dialect.expr(&mut self.parser) {
            Ok(expr) => Ok(expr),
            Err(error) => {
                self.recover(error, false)?;
                Ok(Expr::error(at))
            }
        }
    }

    /// Goes on at the next comma or clause outside of brackets; where a bracket is never closed, at the next clause.
    fn recover(&mut self, error: ParserError, stop_at_comma: bool) -> Result<(), ParserError> {
        self.dialect.reset();
        let from = self.parser.index();
        let mut open: i32 = self
            .brackets
            .get(self.start..from)
            .map_or(0, |read| read.iter().sum());
        let mut clause_inside = None;
        loop {
            let token = self.peek();
            let clause = !self.after_dot() && starts_clause(&token);
            match token {
                Token::EOF => break,
                Token::Comma if open <= 0 && stop_at_comma => return Ok(()),
                _ if clause && open <= 0 => return Ok(()),
                _ if clause => clause_inside = clause_inside.or(Some(self.parser.index())),
                token => open += bracket(&token),
            }
            self.parser.advance_token();
        }
        let to = clause_inside.ok_or(error)?;
        while self.parser.index() > to {
            self.parser.prev_token();
        }
        Ok(())
    }

    /// Whether the next token follows a dot and so is a key.
    fn after_dot(&self) -> bool {
        self.parser.index() > 0 && self.parser.get_current_token().token == Token::Period
    }

    fn peek(&self) -> Token {
        self.parser.peek_token_ref().token.clone()
    }

    fn here(&self) -> Place {
        self.dialect.here(&self.parser)
    }

    fn take(&mut self, name: &str) -> bool {
        take_keyword(&mut self.parser, name)
    }
}
