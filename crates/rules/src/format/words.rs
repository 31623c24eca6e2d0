//! The tokens of a statement as the house writes them: case, quotes, AS, operators; and what each is.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::ast::{Alias, Expr, ExprKind, Item, Statement};
use crate::diagnostic::Place;
use crate::functions;
use crate::parse::{Lexeme, Lexemes, Mark};

/// A token as it is to be written.
#[derive(Debug)]
pub(super) struct Word<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) role: Role,
    /// Where it stands in the text; an AS that was left out stands before its alias, without length.
    pub(super) at: Place,
    /// The comments before it.
    pub(super) comments: Vec<Comment<'a>>,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Keyword,
    /// AND and OR between conditions.
    Logic,
    /// A name, a key, an alias, a source, TRUE, FALSE, NULL, a type.
    Name,
    /// What a parenthesis follows without space.
    Function,
    Number,
    Text,
    /// Between two operands, DIV and MOD included.
    Operator,
    /// `-` or `+` before an operand.
    Sign,
    /// `*` as an item.
    Star,
    Open,
    Close,
    Comma,
    Dot,
    Dots,
    Colon,
    Semicolon,
}

/// A comment.
#[derive(Debug)]
pub(super) struct Comment<'a> {
    pub(super) text: &'a str,
    /// Starts a line.
    pub(super) starts_line: bool,
    /// Ends a line.
    pub(super) ends_line: bool,
}

impl Word<'_> {
    pub(super) fn is(&self, role: Role, text: &str) -> bool {
        self.role == role && self.text == text
    }

    /// Whether an operand may end here, so that an operator, an index or a key may follow.
    fn ends_operand(&self) -> bool {
        match self.role {
            Role::Name | Role::Number | Role::Text | Role::Close => true,
            Role::Keyword => self.text == "END",
            _ => false,
        }
    }

    /// Whether this and the next word have a space between them, where `before` is the word before this.
    pub(super) fn space(&self, before: Option<Role>, next: &Self) -> bool {
        match (self.role, next.role) {
            // `1 .a` is a key of a number, `1.a` is none.
            (Role::Number, Role::Dot) => true,
            (Role::Dot, _) => {
                before == Some(Role::Number) && next.text.starts_with(|c: char| c.is_ascii_digit())
            }
            (_, Role::Comma | Role::Semicolon | Role::Close | Role::Dot | Role::Dots)
            | (_, Role::Colon)
            | (Role::Open | Role::Dots | Role::Function, _) => false,
            // `--` is a comment.
            (Role::Sign, _) => next.role == Role::Sign,
            (_, Role::Open) => !self.ends_operand(),
            _ => true,
        }
    }
}

/// The words of a statement, and the comments after the last.
pub(super) fn words<'a>(
    sql: &'a str,
    statement: &Statement,
    lexemes: &Lexemes,
) -> (Vec<Word<'a>>, Vec<Comment<'a>>) {
    let known = Known::of(statement);
    let mut words: Vec<Word<'a>> = Vec::with_capacity(lexemes.list.len());
    // Whether the AND that comes next belongs to a BETWEEN, for each open bracket and CASE.
    let mut between = vec![false];
    let mut end = 0;
    for (index, lexeme) in lexemes.list.iter().enumerate() {
        let comments = comments(sql, &mut end, &lexeme.comments, Some(lexeme.at.start));
        end = lexeme.at.end;
        let next = lexemes.list.get(index + 1);
        let (role, text) = known.word(sql, lexeme, next, words.last());
        let mut word = Word {
            text,
            role,
            at: lexeme.at,
            comments,
        };
        between_or_logic(&mut word, &mut between);
        if let Some(start) = known.implicit_alias(lexeme.at) {
            words.push(Word {
                text: "AS".into(),
                role: Role::Keyword,
                at: start,
                comments: std::mem::take(&mut word.comments),
            });
        }
        words.push(word);
    }
    let mut last = comments(sql, &mut end, &lexemes.last_comments, None);
    move_behind_commas(&mut words, &mut last);
    (words, last)
}

/// Tells the AND of a BETWEEN from one between conditions.
fn between_or_logic(word: &mut Word<'_>, between: &mut Vec<bool>) {
    match (word.role, &*word.text) {
        (Role::Open, _) | (Role::Keyword, "CASE") => between.push(false),
        (Role::Close, _) | (Role::Keyword, "END") => {
            between.pop();
        }
        (Role::Keyword, "BETWEEN") => {
            if let Some(between) = between.last_mut() {
                *between = true;
            }
        }
        (Role::Keyword, "AND") => {
            let belongs = between.last_mut().map(std::mem::take);
            if belongs != Some(true) {
                word.role = Role::Logic;
            }
        }
        (Role::Keyword, "OR") => word.role = Role::Logic,
        _ => {}
    }
}

/// The comments at `places`; `end` is where the token before them ends, and then where the last comment does.
fn comments<'a>(
    sql: &'a str,
    end: &mut usize,
    places: &[Place],
    next: Option<usize>,
) -> Vec<Comment<'a>> {
    let has_break = |start: usize, end: usize| {
        sql.get(start..end)
            .is_some_and(|between| between.contains('\n'))
    };
    let mut found = Vec::with_capacity(places.len());
    for (index, place) in places.iter().enumerate() {
        let text = sql
            .get(place.start..place.end)
            .unwrap_or_default()
            .trim_end();
        let after = places
            .get(index + 1)
            .map_or(next.unwrap_or(sql.len()), |next| next.start);
        let starts_line = has_break(*end, place.start);
        *end = place.start + text.len();
        found.push(Comment {
            text,
            starts_line,
            ends_line: has_break(*end, after),
        });
    }
    found
}

/// Comments at the end of a line are moved behind the comma or semicolon of the next line.
fn move_behind_commas<'a>(words: &mut [Word<'a>], last: &mut Vec<Comment<'a>>) {
    for index in 0..words.len() {
        let Some(([.., word], after)) = words.split_at_mut_checked(index + 1) else {
            continue;
        };
        if !matches!(word.role, Role::Comma | Role::Semicolon) {
            continue;
        }
        let lines = word
            .comments
            .iter()
            .position(|comment| comment.starts_line || comment.ends_line);
        if let Some(first) = lines {
            let moved = word.comments.split_off(first);
            let target = after
                .first_mut()
                .map_or(&mut *last, |next| &mut next.comments);
            target.splice(0..0, moved);
        }
    }
}

/// What the tree knows of the tokens, by the place of their first byte.
struct Known<'s> {
    /// Functions, or the types of casts; with the name in the table where it is no user function.
    calls: HashMap<usize, Option<&'static str>>,
    aliases: Vec<&'s Alias>,
    sources: HashMap<usize, &'s str>,
}

impl<'s> Known<'s> {
    fn of(statement: &'s Statement) -> Self {
        let mut known = Self {
            calls: HashMap::new(),
            aliases: Vec::new(),
            sources: HashMap::new(),
        };
        statement.for_each_expr(&mut |expr| known.note_calls(expr));
        known.aliases = statement
            .items()
            .filter_map(|item| match item {
                Item::Expr { alias, .. } => alias.as_ref(),
                Item::Star(_) => None,
            })
            .collect();
        known.aliases.sort_by_key(|alias| alias.at.start);
        known.sources = statement
            .sources
            .iter()
            .map(|source| (source.at.start, source.text.as_str()))
            .collect();
        known
    }

    fn note_calls(&mut self, expr: &Expr) {
        if let ExprKind::Call(call) = &expr.kind
            && call.namespace.is_none()
        {
            let name = functions::lookup(&call.name).map(|function| function.name);
            self.calls.insert(call.name_at.start, name);
        }
        expr.for_each_part(&mut |part| self.note_calls(part));
    }

    /// The alias that `at` is a part of.
    fn alias(&self, at: Place) -> Option<&'s Alias> {
        let after = self
            .aliases
            .partition_point(|alias| alias.at.start <= at.start);
        self.aliases
            .get(after.checked_sub(1)?)
            .copied()
            .filter(|alias| at.end <= alias.at.end)
    }

    /// Where AS is to be written: before an alias that starts at `at`.
    fn implicit_alias(&self, at: Place) -> Option<Place> {
        let alias = self.alias(at)?;
        (alias.implicit && alias.at.start == at.start).then_some(Place {
            start: at.start,
            end: at.start,
        })
    }

    fn word<'a>(
        &self,
        sql: &'a str,
        lexeme: &Lexeme,
        next: Option<&Lexeme>,
        previous: Option<&Word<'_>>,
    ) -> (Role, Cow<'a, str>) {
        let written = sql.get(lexeme.at.start..lexeme.at.end).unwrap_or_default();
        let as_it_is = |role| (role, Cow::Borrowed(written));
        let upper = || Cow::<str>::Owned(written.to_ascii_uppercase());
        if let Some(source) = self.sources.get(&lexeme.at.start) {
            let source = source.replace('"', "\"\"");
            return (Role::Name, format!("\"{source}\"").into());
        }
        if let (Some(name), Mark::Name | Mark::Reserved) =
            (self.calls.get(&lexeme.at.start), lexeme.mark)
        {
            let is_call = next.is_some_and(|next| next.mark == Mark::Open);
            return match name {
                // The type of a cast is a call without parenthesis.
                _ if !is_call => (Role::Name, upper()),
                Some(name) => (Role::Function, Cow::Borrowed(*name)),
                None => as_it_is(Role::Function),
            };
        }
        let operand_before = previous.is_some_and(Word::ends_operand);
        match lexeme.mark {
            Mark::Reserved if self.alias(lexeme.at).is_some() => as_it_is(Role::Name),
            Mark::Reserved => {
                let word = upper();
                let role = match &*word {
                    "TRUE" | "FALSE" | "NULL" => Role::Name,
                    "CAST" => Role::Function,
                    "DIV" | "MOD" => Role::Operator,
                    _ => Role::Keyword,
                };
                (role, word)
            }
            Mark::Name => as_it_is(Role::Name),
            Mark::Number => as_it_is(Role::Number),
            Mark::Text => as_it_is(Role::Text),
            Mark::Open => as_it_is(Role::Open),
            Mark::Close => as_it_is(Role::Close),
            Mark::Comma => as_it_is(Role::Comma),
            Mark::Dot => as_it_is(Role::Dot),
            Mark::Dots => as_it_is(Role::Dots),
            Mark::Colon => as_it_is(Role::Colon),
            Mark::Semicolon => as_it_is(Role::Semicolon),
            Mark::Operator => match written {
                "*" if !operand_before => as_it_is(Role::Star),
                "-" | "+" if !operand_before => as_it_is(Role::Sign),
                "==" => (Role::Operator, Cow::Borrowed("=")),
                "!=" => (Role::Operator, Cow::Borrowed("<>")),
                _ => as_it_is(Role::Operator),
            },
        }
    }
}
