//! A statement in the house layout: `weir fmt`.
//!
//! Tokens are written anew, never the tree: literals, quotes of names and parentheses stay as their author wrote
//! them, and comments stay between the same tokens, but for commas, which never start a line. Line breaks between
//! items, sources, the conditions of WHERE and the branches of CASE are the author's too; others are made where a line
//! is too long.

mod doc;
mod words;

use std::ops::Range;

use crate::ast::Statement;
use crate::diagnostic::Diagnostic;
use crate::parse::{Lexemes, lexemes, parse};
use doc::Doc;
use words::{Comment, Role, Word, words};

/// A statement of one line stays on it up to this width.
const ONE_LINE: usize = 80;
/// Lines are broken where they would be wider.
const WIDTH: usize = 100;
/// No statement is longer when it is laid out.
const MAX_LINE: usize = 1 << 20;

/// Writes a statement in the house layout; the result has no line break at its end.
///
/// ```
/// let sql = "select payload.temp t from 'up' where payload.temp>30 and qos==1";
/// assert_eq!(
///     weir_rules::format(sql).unwrap(),
///     r#"SELECT payload.temp AS t FROM "up" WHERE payload.temp > 30 AND qos = 1"#
/// );
/// ```
///
/// # Errors
/// What is wrong with its syntax. Whether its names and functions exist does not matter.
pub fn format(sql: &str) -> Result<String, Vec<Diagnostic>> {
    let (statement, mut diagnostics) = parse(sql);
    let statement = match statement {
        Some(statement) if diagnostics.is_empty() => statement,
        _ => {
            diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
            return Err(diagnostics);
        }
    };
    let lexemes = lexemes(sql).map_err(|error| vec![error])?;
    let text = layout(sql, &statement, &lexemes);
    // A statement of nearly the greatest length could outgrow it.
    if parse(&text).1.is_empty() {
        Ok(text)
    } else {
        Ok(sql.trim().to_owned())
    }
}

/// Writes one condition of a statement on one line of the house layout, without its comments.
///
/// ```
/// assert_eq!(weir_rules::format_condition("payload.temp>30\n or qos==1"), "payload.temp > 30 OR qos = 1");
/// ```
pub fn format_condition(condition: &str) -> String {
    const BEFORE: &str = "SELECT 1 FROM \"t\" WHERE ";
    let sql = format!("{BEFORE}{condition}");
    let one_line = || {
        let (statement, mistakes) = parse(&sql);
        let statement = statement.filter(|_| mistakes.is_empty())?;
        let lexemes = lexemes(&sql).ok()?;
        let (mut words, _) = words(&sql, &statement, &lexemes);
        words.iter_mut().for_each(|word| word.comments.clear());
        // Where its author broke lines does not matter here.
        let unbroken = sql.replace('\n', " ");
        let text = Layout::new(&unbroken, &words)
            .statement()
            .on_one_line(MAX_LINE)?;
        text.strip_prefix(BEFORE).map(str::to_owned)
    };
    one_line().unwrap_or_else(|| condition.to_owned())
}

fn layout(sql: &str, statement: &Statement, lexemes: &Lexemes) -> String {
    let (mut words, last_comments) = words(sql, statement, lexemes);
    let mut text = String::new();
    for comment in words
        .first_mut()
        .map(|first| std::mem::take(&mut first.comments))
        .unwrap_or_default()
    {
        text.push_str(comment.text);
        text.push('\n');
    }
    let layout = Layout::new(sql, &words);
    let statement = layout.statement();
    let one_line = match (words.first(), words.last()) {
        (Some(first), Some(last)) if !layout.has_break(first.at.start..last.at.end) => {
            statement.on_one_line(ONE_LINE)
        }
        _ => None,
    };
    text.push_str(&one_line.unwrap_or_else(|| statement.broken(WIDTH)));
    for Comment {
        text: comment,
        starts_line,
        ..
    } in last_comments
    {
        text.push(if starts_line { '\n' } else { ' ' });
        text.push_str(comment);
    }
    text
}

struct Layout<'w> {
    sql: &'w str,
    words: &'w [Word<'w>],
    /// For an opening bracket or CASE, the index of what closes it.
    closing: Vec<Option<usize>>,
}

impl<'w> Layout<'w> {
    fn new(sql: &'w str, words: &'w [Word<'w>]) -> Self {
        let mut closing = vec![None; words.len()];
        let mut open = Vec::new();
        for (index, word) in words.iter().enumerate() {
            if word.role == Role::Open || word.is(Role::Keyword, "CASE") {
                open.push(index);
            } else if (word.role == Role::Close || word.is(Role::Keyword, "END"))
                && let Some(opening) = open.pop()
            {
                closing[opening] = Some(index);
            }
        }
        Self {
            sql,
            words,
            closing,
        }
    }

    /// SELECT or FOREACH, and every clause on a line of its own with its content in one column.
    fn statement(&self) -> Doc<'w> {
        let end = self
            .words
            .iter()
            .rposition(|word| word.role != Role::Semicolon)
            .map_or(0, |last| last + 1);
        let clauses = self.split(0..end, |word| {
            word.role == Role::Keyword
                && ["SELECT", "FOREACH", "DO", "INCASE", "FROM", "WHERE"].contains(&&*word.text)
        });
        let width = self.words.first().map_or(0, |first| first.text.len());
        let mut docs = Vec::new();
        for (clause, content) in between(&clauses, end) {
            if clause > 0 {
                docs.push(self.gap(clause, Doc::Line));
            }
            docs.push(self.word(clause));
            let keyword = &*self.words[clause].text;
            let padded = self.gap(content.start, pad(width + 1 - keyword.len()));
            docs.push(padded.nest(width + 1));
            docs.push(if matches!(keyword, "WHERE" | "INCASE") {
                self.condition(content, keyword.len(), width)
            } else {
                self.list(content, true).nest(width + 1)
            });
        }
        for semicolon in end..self.words.len() {
            docs.extend([self.space(semicolon), self.word(semicolon)]);
        }
        Doc::All(docs)
    }

    /// The condition of a clause: broken, its AND or OR ends where the clause's keyword does.
    fn condition(&self, range: Range<usize>, keyword: usize, width: usize) -> Doc<'w> {
        let Some(operators) = self.logic(range.clone()) else {
            return self.expr(range).nest(width + 1);
        };
        let broken = operators.iter().any(|operator| {
            self.has_break(self.words[operator - 1].at.end..self.words[operator + 1].at.start)
        });
        let mut docs = vec![self.expr(range.start..operators[0]).nest(width + 1)];
        for (operator, part) in between(&operators, range.end) {
            let name = self.words[operator].text.len();
            let line = if broken { Doc::Hard } else { Doc::Line };
            docs.push(self.gap(operator, line).nest(keyword - name));
            docs.push(self.word(operator));
            let padded = self.gap(part.start, pad(width + 1 - keyword));
            docs.push(Doc::All(vec![padded, self.expr(part)]).nest(width + 1));
        }
        Doc::All(docs).group()
    }

    /// Expressions between commas: as many on a line as fit, or, of a clause, as their author put there.
    fn list(&self, range: Range<usize>, of_clause: bool) -> Doc<'w> {
        let commas = self.split(range.clone(), |word| word.role == Role::Comma);
        let mut parts = Vec::new();
        let mut start = range.start;
        for end in commas.into_iter().chain([range.end]) {
            if start > range.start {
                let line = if of_clause
                    && self.has_break(self.words[start - 2].at.end..self.words[start].at.start)
                {
                    Doc::Hard
                } else {
                    Doc::Line
                };
                parts.push(self.gap(start, line));
            }
            let mut content = vec![self.expr(start..end)];
            if end < range.end {
                content.push(self.gap(end, Doc::nothing()));
                content.push(self.word(end));
            }
            parts.push(Doc::All(content));
            start = end + 1;
        }
        Doc::Fill(parts)
    }

    /// An item, a source, an argument: anything without commas of its own.
    fn expr(&self, range: Range<usize>) -> Doc<'w> {
        match self.logic(range.clone()) {
            Some(operators) => Doc::All(self.operands(range, &operators, |part| self.expr(part)))
                .align()
                .group(),
            None => self.comparison(range),
        }
    }

    /// The OR, or else the AND, that join the conditions of `range`.
    fn logic(&self, range: Range<usize>) -> Option<Vec<usize>> {
        ["OR", "AND"]
            .map(|name| self.split(range.clone(), |word| word.is(Role::Logic, name)))
            .into_iter()
            .find(|operators| !operators.is_empty())
    }

    /// Operands, and the operators between them, each with the operand after it; lines break before operators.
    fn operands(
        &self,
        range: Range<usize>,
        operators: &[usize],
        operand: impl Fn(Range<usize>) -> Doc<'w>,
    ) -> Vec<Doc<'w>> {
        let first = operators.first().copied().unwrap_or(range.end);
        let mut docs = vec![operand(range.start..first)];
        for (operator, right) in between(operators, range.end) {
            docs.push(self.gap(operator, Doc::Line));
            docs.push(Doc::All(vec![
                self.word(operator),
                self.space(right.start),
                operand(right),
            ]));
        }
        docs
    }

    /// Sums, and the keywords and comparisons between them, which break no lines.
    fn comparison(&self, range: Range<usize>) -> Doc<'w> {
        let between = self.split(range.clone(), |word| match word.role {
            Role::Keyword => word.text != "CASE",
            Role::Operator => matches!(&*word.text, "=" | "<>" | "<" | "<=" | ">" | ">=" | "=~"),
            _ => false,
        });
        let mut docs = Vec::new();
        let mut start = range.start;
        for end in between.into_iter().chain([range.end]) {
            if start < end {
                if start > range.start {
                    docs.push(self.space(start));
                }
                let sum = start..end;
                let operators = self.split(sum.clone(), |word| {
                    word.role == Role::Operator && matches!(&*word.text, "+" | "-" | "||")
                });
                docs.push(if operators.is_empty() {
                    self.product(sum)
                } else {
                    Doc::Fill(self.operands(sum, &operators, |part| self.product(part))).align()
                });
            }
            if end < range.end {
                if end > range.start {
                    docs.push(self.space(end));
                }
                docs.push(self.word(end));
            }
            start = end + 1;
        }
        Doc::All(docs)
    }

    fn product(&self, range: Range<usize>) -> Doc<'w> {
        let mut docs = Vec::new();
        let mut index = range.start;
        while index < range.end {
            if index > range.start {
                docs.push(self.space(index));
            }
            index = match self.closing[index] {
                Some(closing) => {
                    docs.push(if self.words[index].role == Role::Open {
                        self.brackets(index, closing)
                    } else {
                        self.case(index, closing)
                    });
                    closing + 1
                }
                None => {
                    docs.push(self.word(index));
                    index + 1
                }
            };
        }
        Doc::All(docs)
    }

    fn brackets(&self, opening: usize, closing: usize) -> Doc<'w> {
        let mut docs = vec![self.word(opening)];
        if opening + 1 < closing {
            let content = Doc::All(vec![
                self.space(opening + 1),
                self.list(opening + 1..closing, false),
            ]);
            docs.push(content.align());
        }
        docs.push(self.space(closing));
        docs.push(self.word(closing));
        Doc::All(docs)
    }

    /// `CASE`, and where it does not fit on the line each WHEN and ELSE on one of its own.
    fn case(&self, case: usize, end: usize) -> Doc<'w> {
        let marks = self.split(case + 1..end, |word| {
            word.role == Role::Keyword && ["WHEN", "THEN", "ELSE"].contains(&&*word.text)
        });
        let starts_branch = |mark: &usize| self.words[*mark].text != "THEN" && *mark > case + 1;
        let broken = marks
            .iter()
            .filter(|mark| starts_branch(mark))
            .any(|mark| self.has_break(self.words[mark - 1].at.end..self.words[*mark].at.start));
        let mut docs = vec![self.word(case)];
        let first = marks.first().copied().unwrap_or(end);
        if case + 1 < first {
            docs.push(self.space(case + 1));
            docs.push(self.expr(case + 1..first).align());
        }
        let mut branches: Vec<Vec<Doc<'w>>> = Vec::new();
        for (mark, content) in between(&marks, end) {
            let line = if mark == case + 1 {
                Doc::Text(" ")
            } else if broken && starts_branch(&mark) {
                Doc::Hard
            } else {
                Doc::Line
            };
            let content = Doc::All(vec![
                self.word(mark),
                self.space(content.start),
                self.expr(content).align(),
            ]);
            let gap = self.gap(mark, line);
            match branches.last_mut() {
                Some(branch) if self.words[mark].text == "THEN" => {
                    branch.push(Doc::All(vec![gap, content]).nest(2));
                }
                _ => {
                    docs.extend(branches.pop().map(|branch| Doc::All(branch).group()));
                    docs.push(gap);
                    branches.push(vec![content]);
                }
            }
        }
        docs.extend(branches.pop().map(|branch| Doc::All(branch).group()));
        docs.push(self.space(end));
        docs.push(self.word(end));
        Doc::All(docs).nest("CASE ".len()).align().group()
    }

    fn word(&self, index: usize) -> Doc<'w> {
        Doc::Text(&self.words[index].text)
    }

    /// What stands between two words that are never apart on two lines.
    fn space(&self, index: usize) -> Doc<'w> {
        let before = index.checked_sub(2).map(|before| self.words[before].role);
        let space = self.words[index - 1].space(before, &self.words[index]);
        let between = if space {
            Doc::Text(" ")
        } else {
            Doc::nothing()
        };
        self.gap(index, between)
    }

    /// What stands before a word: its comments, or `between`.
    fn gap(&self, index: usize, between: Doc<'w>) -> Doc<'w> {
        let word = &self.words[index];
        if word.comments.is_empty() {
            return between;
        }
        let mut docs = Vec::new();
        let mut between = Some(between);
        let mut at_start = false;
        for comment in &word.comments {
            let first = between.take();
            let after_bracket = self.words[index - 1].role == Role::Open;
            match first {
                _ if at_start => {}
                _ if comment.starts_line => docs.push(Doc::Hard),
                Some(Doc::All(_)) if after_bracket => {}
                Some(between) if !comment.ends_line && !matches!(between, Doc::All(_)) => {
                    docs.push(between);
                }
                _ => docs.push(Doc::Text(" ")),
            }
            at_start = comment.ends_line;
            if at_start {
                docs.extend([Doc::Comment(comment.text), Doc::Hard]);
            } else {
                docs.push(Doc::Text(comment.text));
            }
        }
        if !at_start && !matches!(word.role, Role::Close | Role::Comma | Role::Semicolon) {
            docs.push(Doc::Text(" "));
        }
        Doc::All(docs)
    }

    /// The words of `range` outside of its brackets and CASEs for which `is` holds.
    fn split(&self, range: Range<usize>, is: impl Fn(&Word<'_>) -> bool) -> Vec<usize> {
        let mut found = Vec::new();
        let mut index = range.start;
        while index < range.end {
            if is(&self.words[index]) {
                found.push(index);
            }
            index = self.closing[index].unwrap_or(index) + 1;
        }
        found
    }

    /// Whether the author broke the line between these bytes.
    fn has_break(&self, bytes: Range<usize>) -> bool {
        self.sql
            .get(bytes)
            .is_some_and(|between| between.contains('\n'))
    }
}

/// Each of `marks`, with what stands between it and the next.
fn between(marks: &[usize], end: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let ends = marks.iter().copied().skip(1).chain([end]);
    let pairs = marks.iter().copied().zip(ends);
    pairs.map(|(mark, end)| (mark, mark + 1..end))
}

/// `width` spaces, or one where the statement stands on one line.
fn pad<'w>(width: usize) -> Doc<'w> {
    const SPACES: &str = "        ";
    Doc::Choice {
        broken: SPACES.get(..width).unwrap_or(SPACES),
        flat: " ",
    }
}
