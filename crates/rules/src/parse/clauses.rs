//! Clauses: SELECT or FOREACH, DO, INCASE, FROM, WHERE. A mistake in one item or clause does not hide those in the next.

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::dialect::{
    WeirDialect, at_keyword, is_keyword, starts_clause, starts_operand, take_keyword,
};
use super::hints;
use super::operands::{DISTINCT, may_be_alias};
use super::tokens::{Tokens, is_quoted};
use crate::ast::{Alias, AliasStep, Body, Expr, Item, Source, Statement};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::nearest::is_slip_of;

/// The most items of one list (rule-SQL §14).
const MAX_ITEMS: usize = 256;
/// The most entries of FROM.
const MAX_SOURCES: usize = 64;
/// The order of the clauses.
const ORDER: &str = "SELECT … FROM … WHERE …, or FOREACH … DO … INCASE … FROM … WHERE …";
/// sqlparser's own guard; the dialect's depth limit is always reached first.
const RECURSION: usize = 400;

pub(super) fn parse(sql: &str, tokens: Tokens) -> (Option<Statement>, Vec<Diagnostic>) {
    let dialect = WeirDialect::new(sql, tokens.places, tokens.mistakes);
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
        lost_sources: false,
    }
    .statement()
    .ok();
    let diagnostics = std::mem::take(&mut dialect.state().diagnostics);
    (statement, diagnostics)
}

/// See [`Clauses::lost_from`].
enum LostFrom {
    Misspelt,
    Missing,
}

struct Clauses<'d> {
    dialect: &'d WeirDialect,
    parser: Parser<'d>,
    /// For each token 1 if it opens a bracket, -1 if it closes one.
    brackets: Vec<i32>,
    /// The first token of the item or condition that is being read.
    start: usize,
    /// An entry of FROM could not be read.
    lost_sources: bool,
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
                Some(self.condition())
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
        // WHERE before FROM is a mistake; what stands in it is looked at all the same.
        let early = if self.take("WHERE") {
            Some(self.condition())
        } else {
            None
        };
        if early.is_some() && at_keyword(&self.parser, "FROM") {
            self.dialect.note_with(
                Code::Syntax,
                self.here(),
                "`FROM` stands after `WHERE`",
                ORDER,
            );
        }
        let sources = self.sources(at)?;
        let condition = if early.is_none() && self.take("WHERE") {
            Some(self.condition())
        } else {
            early
        };
        // What was cut short is not to be judged by its type.
        let condition = match condition {
            Some(half) if !self.end() && !half.is_condition() => Some(Expr::error(half.at)),
            Some(whole) => Some(whole),
            None => {
                self.end();
                None
            }
        };
        Ok(Statement {
            body,
            sources,
            lost_sources: self.lost_sources,
            condition,
            at,
        })
    }

    fn no_statement(&self, at: Place) -> ParserError {
        match &self.parser.peek_token_ref().token {
            Token::Word(word) if word.quote_style.is_none() => {
                let message = format!("`{}` does not start a rule", word.value);
                let label = hints::no_statement(&word.value);
                self.dialect
                    .fail_with(Code::Unsupported, at, message, label)
            }
            _ => self.dialect.expected(&self.parser, "`SELECT` or `FOREACH`"),
        }
    }

    /// What follows the last clause: at most one `;`. What is wrong there does not hide what is wrong before.
    /// Gives whether all is read.
    fn end(&mut self) -> bool {
        if self.peek() == Token::SemiColon {
            self.parser.advance_token();
            if self.peek() != Token::EOF {
                self.dialect.note(
                    Code::Unsupported,
                    self.here(),
                    "a rule is one statement: nothing may follow `;`",
                );
            }
            return true;
        }
        match self.peek() {
            Token::EOF => return true,
            token if starts_clause(&token) => {
                let label = if is_keyword(&token, "WHERE") {
                    "there is one WHERE; join conditions with AND"
                } else {
                    ORDER
                };
                let message = format!("`{token}` cannot stand here");
                self.dialect
                    .note_with(Code::Syntax, self.here(), message, label);
            }
            _ => drop(
                self.dialect
                    .expected(&self.parser, "the end of the statement"),
            ),
        }
        false
    }

    fn items(&mut self) -> Result<Vec<Item>, ParserError> {
        let start = self.here();
        // Otherwise it is a name like any other.
        let next = &self.parser.peek_nth_token_ref(1).token;
        if at_keyword(&self.parser, "DISTINCT") && (starts_operand(next) || *next == Token::Mul) {
            self.dialect.note_with(
                Code::Unsupported,
                start,
                "DISTINCT is not supported",
                DISTINCT,
            );
            self.parser.advance_token();
        }
        if at_keyword(&self.parser, "TOP")
            && matches!(self.parser.peek_nth_token_ref(1).token, Token::Number(..))
        {
            self.dialect.note_with(
                Code::Unsupported,
                start,
                "TOP is not supported",
                hints::ONE_MESSAGE,
            );
            self.parser.advance_token();
            self.parser.advance_token();
        }
        let mut items = Vec::new();
        loop {
            if items.len() == MAX_ITEMS {
                self.dialect
                    .note(Code::Limit, start, format!("more than {MAX_ITEMS} items"));
                self.recover(false);
                break;
            }
            match self.item() {
                Ok(item) => items.push(item),
                Err(_) => {
                    let at = self.here();
                    self.recover(true);
                    items.push(Item::Expr {
                        expr: Expr::error(at),
                        alias: None,
                    });
                }
            }
            if self.peek() == Token::Comma {
                self.parser.advance_token();
            } else if self.item_end().is_err() {
                // Where a comma was forgotten the next item stands right here.
                if starts_operand(&self.peek()) {
                    continue;
                }
                self.recover(true);
                if self.peek() == Token::Comma {
                    self.parser.advance_token();
                    continue;
                }
                break;
            } else {
                break;
            }
        }
        Ok(items)
    }

    /// After an item without comma only the next clause may come.
    fn item_end(&self) -> Result<(), ParserError> {
        let token = self.peek();
        if token == Token::EOF || starts_clause(&token) || self.lost_from().is_some() {
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
        } else if may_be_alias(&self.peek())
            && self.parser.peek_nth_token_ref(1).token != Token::LParen
            && self.lost_from().is_none()
        {
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
                    if let Some(whole) = self.hyphenated(at) {
                        let message = format!("the alias ends at `{}`", self.dialect.text(at));
                        let label = format!("write \"{}\"", self.dialect.text(whole));
                        return Err(self.dialect.fail_with(Code::Syntax, whole, message, &label));
                    }
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

    /// The place of `room-temp`, when that goes on where an alias ended.
    fn hyphenated(&self, alias: Place) -> Option<Place> {
        let index = self.parser.index();
        let (hyphen, word) = (self.dialect.place(index), self.dialect.place(index + 1));
        let is_hyphen = self.peek() == Token::Minus
            && matches!(self.parser.peek_nth_token_ref(1).token, Token::Word(_));
        (is_hyphen && alias.end == hyphen.start && hyphen.end == word.start).then(|| alias.to(word))
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
        let from = self.take("FROM") || self.take_lost_from();
        if !from {
            let at_end = matches!(self.peek(), Token::EOF | Token::SemiColon);
            if !at_end {
                return Err(self.dialect.expected(&self.parser, "`FROM`"));
            }
            // Where the text broke off before, that was said.
            let end = self.here().start;
            let broke_off = self
                .dialect
                .state()
                .diagnostics
                .iter()
                .any(|found| found.span.start >= end);
            if !broke_off {
                let label = "a rule says FROM which topics or events";
                self.dialect
                    .note_with(Code::NoSource, statement, "no FROM source", label);
            }
            return Ok(Vec::new());
        }
        let start = self.here();
        let mut sources = Vec::new();
        loop {
            self.start = self.parser.index();
            match self
                .source()
                .and_then(|source| self.source_end().map(|()| source))
            {
                Ok(source) => sources.push(source),
                Err(_) => {
                    self.lost_sources = true;
                    self.recover(true);
                }
            }
            if self.peek() != Token::Comma {
                break;
            }
            self.parser.advance_token();
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

    /// What stands where FROM should: the word misspelt, or no word at all before a topic filter.
    fn lost_from(&self) -> Option<LostFrom> {
        let next = &self.parser.peek_nth_token_ref(1).token;
        let is_last = |token: &Token| {
            matches!(token, Token::EOF | Token::SemiColon) || is_keyword(token, "WHERE")
        };
        match self.peek() {
            Token::Word(word) if word.quote_style.is_none() => {
                (is_quoted(next) && is_slip_of(&word.value, "FROM")).then_some(LostFrom::Misspelt)
            }
            Token::Word(word) => {
                (is_last(next) && word.value.contains(['/', '#', '+'])).then_some(LostFrom::Missing)
            }
            _ => None,
        }
    }

    /// Notes a lost FROM and goes on as if it were there.
    fn take_lost_from(&mut self) -> bool {
        let at = self.here();
        let text = self.dialect.text(at);
        match self.lost_from() {
            Some(LostFrom::Misspelt) => {
                let message = format!("expected `FROM`, found `{text}`");
                self.dialect
                    .note_with(Code::Syntax, at, message, "did you mean FROM?");
                self.parser.advance_token();
                true
            }
            Some(LostFrom::Missing) => {
                let label = format!("write FROM {text}");
                self.dialect.note_with(
                    Code::NoSource,
                    at,
                    "no FROM before the topic filter",
                    &label,
                );
                true
            }
            None => false,
        }
    }

    fn source(&mut self) -> Result<Source, ParserError> {
        let at = self.here();
        let (text, quoted) = match self.peek() {
            Token::Word(word) if word.quote_style.is_some() => (word.value, true),
            Token::SingleQuotedString(text) => (text, true),
            token
                if may_be_alias(&token)
                    || matches!(token, Token::Div | Token::Plus | Token::Sharp) =>
            {
                return Ok(self.bare_source(at));
            }
            Token::LParen => {
                return Err(self.dialect.fail_with(
                    Code::Unsupported,
                    at,
                    "a sub-query is not supported",
                    "FROM takes topic filters and events: a rule sees one message at a time",
                ));
            }
            _ => {
                return Err(self
                    .dialect
                    .expected(&self.parser, "a topic filter in double quotes"));
            }
        };
        self.parser.advance_token();
        Ok(Source { text, quoted, at })
    }

    /// A source without quotes, up to a space or comma. One name is all that may stand so (rule-SQL §4.1).
    fn bare_source(&mut self, at: Place) -> Source {
        let is_name = matches!(self.peek(), Token::Word(_));
        self.parser.advance_token();
        let mut end = at;
        while self.here().start == end.end
            && !matches!(
                self.peek(),
                Token::EOF | Token::Comma | Token::SemiColon | Token::SingleQuotedString(_)
            )
        {
            end = self.here();
            self.parser.advance_token();
        }
        let place = at.to(end);
        let text = self.dialect.text(place);
        let quoted = !is_name || end != at;
        if quoted {
            self.dialect.note_with(
                Code::Syntax,
                place,
                "a topic filter stands in double quotes",
                &format!("write \"{text}\""),
            );
        }
        Source {
            text,
            quoted,
            at: place,
        }
    }

    /// After a source only a comma or the next clause may come. Names for sources would need JOIN to make sense.
    fn source_end(&mut self) -> Result<(), ParserError> {
        let token = self.peek();
        let is_name = is_keyword(&token, "AS") || may_be_alias(&token);
        let slip = match &token {
            Token::Word(word) if word.quote_style.is_none() && is_slip_of(&word.value, "WHERE") => {
                Some("did you mean WHERE?")
            }
            token if is_quoted(token) => Some("is a comma missing before it?"),
            _ => None,
        };
        let at = self.here();
        match slip {
            Some(label) => {
                let message = format!("expected `,` or `WHERE`, found `{}`", self.dialect.text(at));
                Err(self.dialect.fail_with(Code::Syntax, at, message, label))
            }
            None if is_name => Err(self.dialect.fail_with(
                Code::Unsupported,
                at,
                "names for sources are not supported",
                "fields are written without a prefix",
            )),
            None => Ok(()),
        }
    }

    /// The expression of WHERE or INCASE.
    fn condition(&mut self) -> Expr {
        let at = self.here();
        self.start = self.parser.index();
        match self.dialect.expr(&mut self.parser) {
            Ok(expr) => expr,
            Err(_) => {
                self.recover(false);
                Expr::error(at)
            }
        }
    }

    /// After a mistake, goes on at the next comma or clause outside of brackets; where a bracket is never closed, at
    /// the next clause.
    fn recover(&mut self, stop_at_comma: bool) {
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
                Token::Comma if open <= 0 && stop_at_comma => return,
                _ if clause && open <= 0 => return,
                _ if clause => clause_inside = clause_inside.or(Some(self.parser.index())),
                token => open += bracket(&token),
            }
            self.parser.advance_token();
        }
        if let Some(to) = clause_inside {
            while self.parser.index() > to {
                self.parser.prev_token();
            }
        }
    }

    /// Whether the next token follows a dot and so is a key.
    fn after_dot(&self) -> bool {
        self.parser.index() > 0
            && self.parser.get_current_token().token == Token::Period
            && self.dialect.before(&self.parser).end == self.here().start
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
