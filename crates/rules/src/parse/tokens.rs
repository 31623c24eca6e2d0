//! Text to tokens: sqlparser's tokenizer, then what the language reads differently.
//!
//! White space is dropped, comments are kept aside, `1..5` and `.1` are taken apart where they are no numbers, `=~` is one operator, words lose
//! their keyword marks so that sqlparser's own syntax never applies, and each token gets its bytes in the text.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use super::dialect::{WeirDialect, is_keyword};
use super::quotes;
use crate::diagnostic::{Code, Diagnostic, Place};

/// The operator token of `=~`.
pub(super) const MATCH: &str = "=~";
/// The token between the ends of a range.
pub(super) const DOTS: &str = "..";
/// After so many mistakes the text is no statement, and reading it ends.
const MAX_MISTAKES: usize = 100;

/// The tokens of a statement and, at the same index, their places.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) tokens: Vec<TokenWithSpan>,
    pub(super) places: Vec<Place>,
    /// The comments, each with the index of the token that follows it.
    pub(super) comments: Vec<(usize, Place)>,
    /// What is wrong with the text itself. Where a mistake has one plain meaning, its token stands for that.
    pub(super) mistakes: Vec<Diagnostic>,
    /// Reading ended early, as a quote or comment is never closed: what the tokens mean is anyone's guess.
    pub(super) is_open: bool,
}

/// Stands where the mistake was noted already.
pub(super) fn noted() -> Token {
    Token::Placeholder(String::new())
}

pub(super) fn tokenize(sql: &str) -> Tokens {
    let mut tokens = Tokens::default();
    let raw = raw(sql);
    let mut from = 0;
    for (token, at) in raw.tokens {
        if at.start < from || tokens.is_open {
            continue;
        }
        match &token {
            Token::Char(quote) if quotes::is_typographic(*quote) => {
                from = tokens.typographic(sql, *quote, at);
            }
            _ => tokens.add(sql, token, at),
        }
    }
    tokens.is_open |= raw.unclosed.is_some();
    tokens.mistakes.extend(raw.unclosed);
    tokens
}

impl Tokens {
    fn mistake(&mut self, sql: &str, at: Place, message: String, label: &str) {
        let mistake = Diagnostic::new(Code::Lexical, sql, at, message).label(label);
        self.mistakes.push(mistake);
        if self.mistakes.len() == MAX_MISTAKES {
            self.is_open = true;
        }
    }

    fn add(&mut self, sql: &str, token: Token, at: Place) {
        match token {
            Token::Whitespace(
                Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_),
            ) => self.comments.push((self.tokens.len(), at)),
            Token::Whitespace(_) => {}
            Token::Word(mut word) => {
                if word.quote_style.is_none() {
                    if matches!(self.previous(at), Some(Token::Number(..))) {
                        let message = format!("a number cannot be followed by `{}`", word.value);
                        return self.mistake(sql, at, message, "");
                    }
                    word.keyword = Keyword::NoKeyword;
                }
                self.push(Token::Word(word), at);
            }
            Token::Number(text, long) => {
                if long {
                    let message = "a number cannot be followed by `L`".to_owned();
                    self.mistake(sql, at, message, "");
                }
                self.number(text, at);
            }
            Token::Period if matches!(self.previous(at), Some(Token::Period)) => self.dots(at),
            // `1.` and then `.5` or `.`: the end of a number and a range's dots.
            Token::Period if self.dotted_number(at).is_some() => self.split_dotted(at),
            Token::Tilde if matches!(self.previous(at), Some(Token::Eq)) => {
                self.merge(Token::CustomBinaryOperator(MATCH.to_owned()), at);
            }
            Token::HexStringLiteral(_) | Token::NationalStringLiteral(_) => {
                let what = at.text(sql).chars().take(2).collect::<String>();
                let label = match what.as_str() {
                    "0x" => "write it in decimal",
                    "N'" | "n'" => "strings are Unicode already: leave the `N` out",
                    _ => "write `hexstr2bin('…')`",
                };
                let message = format!("there are no strings or numbers that start with `{what}`");
                self.mistake(sql, at, message, label);
                self.push(noted(), at);
            }
            token @ Token::SingleQuotedString(_) if self.is_prefixed(at) => {
                if self.splits_a_string() {
                    let message = "a quote in a string is written ''".to_owned();
                    let start = self.places.last().map_or(at.start, |word| word.start - 1);
                    let quote = Place {
                        start,
                        end: start + 1,
                    };
                    self.mistake(sql, quote, message, "the string ends here");
                    self.is_open = true;
                    return;
                }
                let label = "`unescape('…')` reads backslash escapes";
                self.mistake(sql, at, "there are no prefixed strings".to_owned(), label);
                self.merge(token, at);
            }
            Token::Char(char) => match quotes::plain_operator(char) {
                Some((token, plain)) => {
                    let message = format!("`{char}` is no character of SQL");
                    self.mistake(sql, at, message, &format!("write `{plain}`"));
                    self.push(token, at);
                }
                None if quotes::is_invisible(char) => {
                    let message = format!("an invisible character, U+{:04X}", u32::from(char));
                    self.mistake(sql, at, message, "remove it, or write an ordinary space");
                }
                None => self.push(Token::Char(char), at),
            },
            token => self.push(token, at),
        }
    }

    /// Whether the last word stands right behind a string: `'it's'`.
    fn splits_a_string(&self) -> bool {
        let place = |back: usize| self.places.iter().rev().nth(back);
        let string = self.tokens.iter().rev().nth(1).map(|token| &token.token);
        matches!(string, Some(Token::SingleQuotedString(_)))
            && place(1).map(|string| string.end) == place(0).map(|word| word.start)
    }

    /// Reads from a typographic quote to the next as what plain quotes would have given; gives where to go on.
    fn typographic(&mut self, sql: &str, quote: char, at: Place) -> usize {
        let message = format!("`{quote}` is no quote of SQL");
        let rest = sql.get(at.end..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let close = |c: char| quotes::is_typographic(c) || matches!(c, '\'' | '"');
        let closing = line
            .char_indices()
            .find(|(_, c)| close(*c))
            .filter(|(_, c)| quotes::is_typographic(*c));
        let Some((length, closing)) = closing else {
            let label = "write '…' around strings, \"…\" around topic filters and names";
            self.mistake(sql, at, message, label);
            self.push(noted(), at);
            return at.end;
        };
        let text = rest.get(..length).unwrap_or_default().to_owned();
        let end = at.end + length + closing.len_utf8();
        let before = self.tokens.last().map(|token| &token.token);
        let is_name =
            before.is_some_and(|token| is_keyword(token, "FROM") || is_keyword(token, "AS"));
        let (token, label) = if is_name || text.contains('/') {
            let label = format!("write \"{text}\"");
            (
                Token::Word(Word {
                    value: text,
                    quote_style: Some('"'),
                    keyword: Keyword::NoKeyword,
                }),
                label,
            )
        } else {
            let label = format!("write '{text}'");
            (Token::SingleQuotedString(text), label)
        };
        let place = Place { end, ..at };
        self.mistake(sql, place, message, &label);
        self.push(token, place);
        end
    }

    /// The last token, when it ends where `at` starts.
    fn previous(&self, at: Place) -> Option<&Token> {
        (self.places.last()?.end == at.start)
            .then(|| self.tokens.last().map(|token| &token.token))?
    }

    /// Whether a string at this place stands directly behind a name, as `E'…'` does. Behind a keyword it may.
    fn is_prefixed(&self, at: Place) -> bool {
        const BEFORE_STRINGS: [&str; 22] = [
            "SELECT", "FOREACH", "DO", "INCASE", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "IN",
            "BETWEEN", "LIKE", "ILIKE", "RLIKE", "REGEXP", "ESCAPE", "CASE", "WHEN", "THEN",
            "ELSE", "MOD",
        ];
        match self.previous(at) {
            Some(Token::Word(word)) => {
                word.quote_style.is_none()
                    && !BEFORE_STRINGS
                        .iter()
                        .any(|keyword| word.value.eq_ignore_ascii_case(keyword))
            }
            _ => false,
        }
    }

    fn push(&mut self, token: Token, at: Place) {
        self.tokens.push(TokenWithSpan::wrap(token));
        self.places.push(at);
    }

    /// Puts `token` in the place of the last one and what follows it.
    fn merge(&mut self, token: Token, at: Place) {
        self.tokens.pop();
        let start = self.places.pop().unwrap_or(at);
        self.push(token, start.to(at));
    }

    fn dots(&mut self, at: Place) {
        self.merge(Token::CustomBinaryOperator(DOTS.to_owned()), at);
    }

    /// The digits of a last token like `1.` that ends where `at` starts.
    fn dotted_number(&self, at: Place) -> Option<String> {
        match self.previous(at)? {
            Token::Number(text, _) => text.strip_suffix('.').map(str::to_owned),
            _ => None,
        }
    }

    /// `1.` `.` becomes `1` `..`.
    fn split_dotted(&mut self, at: Place) {
        if let (Some(digits), Some(place)) = (self.dotted_number(at), self.places.last().copied()) {
            let dot = place.end - 1;
            self.tokens.pop();
            self.places.pop();
            self.push(
                Token::Number(digits, false),
                Place {
                    start: place.start,
                    end: dot,
                },
            );
            self.push(
                Token::CustomBinaryOperator(DOTS.to_owned()),
                Place {
                    start: dot,
                    end: at.end,
                },
            );
        }
    }

    fn number(&mut self, text: String, at: Place) {
        let Some(digits) = text.strip_prefix('.') else {
            self.push(Token::Number(text, false), at);
            return;
        };
        let (dot, rest) = (
            Place {
                end: at.start + 1,
                ..at
            },
            Place {
                start: at.start + 1,
                ..at
            },
        );
        let is_key = match self.previous(at) {
            Some(
                Token::Word(_)
                | Token::RBracket
                | Token::RParen
                | Token::RBrace
                | Token::SingleQuotedString(_),
            ) => true,
            // The digits of an earlier key: `a.1.2`.
            Some(Token::Number(..)) => matches!(
                self.tokens.iter().rev().nth(1).map(|token| &token.token),
                Some(Token::Period)
            ),
            _ => false,
        };
        if self.dotted_number(at).is_some() {
            self.split_dotted(dot);
            self.push(Token::Number(digits.to_owned(), false), rest);
        } else if matches!(self.previous(at), Some(Token::Period)) {
            self.dots(dot);
            self.push(Token::Number(digits.to_owned(), false), rest);
        } else if is_key {
            self.push(Token::Period, dot);
            self.push(Token::Number(digits.to_owned(), false), rest);
        } else {
            self.push(Token::Number(text, false), at);
        }
    }
}

/// sqlparser's tokens with their bytes.
struct Raw {
    tokens: Vec<(Token, Place)>,
    /// What sqlparser stopped at.
    unclosed: Option<Diagnostic>,
}

fn raw(sql: &str) -> Raw {
    let dialect = WeirDialect::default();
    let mut tokens = Vec::new();
    let mut base = 0;
    loop {
        let text = sql.get(base..).unwrap_or_default();
        let mut part = Vec::new();
        let result = Tokenizer::new(&dialect, text).tokenize_with_location_into_buf(&mut part);
        let mut cursor = Cursor::new(text);
        let mut again = None;
        for token in part {
            let start = base + cursor.seek(token.span.start);
            let end = base + cursor.seek(token.span.end);
            // `||/` is an operator of PostgreSQL; here a comment may follow the `||`.
            if token.token == Token::PGCubeRoot {
                let end = start + 2;
                tokens.push((Token::StringConcat, Place { start, end }));
                again = Some(end);
                break;
            }
            tokens.push((token.token, Place { start, end }));
        }
        if let Some(place) = again {
            base = place;
            continue;
        }
        let Err(error) = result else {
            return Raw {
                tokens,
                unclosed: None,
            };
        };
        let at = tokens.last().map_or(base, |(_, place)| place.end);
        // The tokenizer takes `._` for a bad number unless a word stands before it; a key may start so anywhere.
        if sql.get(at..).is_some_and(|rest| rest.starts_with("._")) {
            tokens.push((
                Token::Period,
                Place {
                    start: at,
                    end: at + 1,
                },
            ));
            base = at + 1;
            continue;
        }
        let unclosed = Some(unclosed(sql, at, &tokens, &error.message));
        return Raw { tokens, unclosed };
    }
}

/// The finding for what sqlparser stopped at.
fn unclosed(sql: &str, start: usize, before: &[(Token, Place)], message: &str) -> Diagnostic {
    let rest = sql.get(start..).unwrap_or_default();
    let first = |length: usize| Place {
        start,
        end: start + length,
    };
    let opening = first(rest.chars().next().map_or(0, char::len_utf8));
    if rest.starts_with("/*") {
        let found = Diagnostic::new(Code::Lexical, sql, first(2), "unterminated comment")
            .label("it opens here");
        let in_a_filter = before
            .last()
            .is_some_and(|(token, _)| matches!(token, Token::Word(_)));
        return if in_a_filter {
            found.help("a topic filter stands in double quotes, and its wildcards are `+` and `#`")
        } else {
            found
        };
    }
    let what = if rest.starts_with(['"', '`']) {
        "unterminated quoted name"
    } else if message.starts_with("Unterminated") && rest.contains('\'') {
        "unterminated string"
    } else {
        return Diagnostic::new(Code::Lexical, sql, opening, lower_first(message));
    };
    let found = Diagnostic::new(Code::Lexical, sql, opening, what).label("it opens here");
    match earlier_quote(before) {
        Some(at) if at.text(sql).ends_with("\\'") => {
            found.help("a backslash escapes nothing: a quote in a string is written ''")
        }
        Some(at) => {
            let span = at.locate(sql);
            found.help(format!(
                "or the quote before is the one that is not closed: look at {}:{} (a quote in a string is written '')",
                span.line, span.column
            ))
        }
        None => found,
    }
}

/// The last quoted text that something follows without a space: it may have been closed by the next one's quote.
fn earlier_quote(tokens: &[(Token, Place)]) -> Option<Place> {
    let pairs = tokens.iter().zip(tokens.iter().skip(1)).rev();
    pairs
        .filter(|((quoted, _), (next, _))| is_quoted(quoted) && is_bare(next))
        .map(|((_, at), _)| *at)
        .next()
}

/// Whether it is a text in quotes of either kind.
pub(super) fn is_quoted(token: &Token) -> bool {
    match token {
        Token::SingleQuotedString(_) => true,
        Token::Word(word) => word.quote_style.is_some(),
        _ => false,
    }
}

fn is_bare(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_none(),
        Token::Number(..) => true,
        _ => false,
    }
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

/// Turns the tokenizer's lines and columns into bytes, in one pass over the text.
struct Cursor<'a> {
    rest: std::str::Chars<'a>,
    len: usize,
    line: u64,
    column: u64,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars(),
            len: text.len(),
            line: 1,
            column: 1,
        }
    }

    /// The byte of a place that is not before the last one asked for.
    fn seek(&mut self, to: Location) -> usize {
        while (self.line, self.column) < (to.line, to.column) {
            match self.rest.next() {
                Some('\n') => {
                    self.line += 1;
                    self.column = 1;
                }
                Some(_) => self.column += 1,
                None => break,
            }
        }
        self.len - self.rest.as_str().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        let tokens = tokenize(sql);
        tokens
            .tokens
            .iter()
            .map(|token| token.token.to_string())
            .collect()
    }

    #[test]
    fn ranges_are_taken_apart_before_numbers() {
        assert_eq!(texts("[1..5]"), ["[", "1", "..", "5", "]"]);
        assert_eq!(texts("[-3..-1]"), ["[", "-", "3", "..", "-", "1", "]"]);
        assert_eq!(texts("[1 .. 5]"), ["[", "1", "..", "5", "]"]);
        assert_eq!(texts("[1 ..5]"), ["[", "1", "..", "5", "]"]);
        assert_eq!(texts("[1.. 5]"), ["[", "1", "..", "5", "]"]);
        assert_eq!(
            texts("1.5 .5 1. 1e3 2.5E-2"),
            ["1.5", ".5", "1.", "1e3", "2.5E-2"]
        );
    }

    #[test]
    fn keys_may_be_digits_or_start_with_an_underscore() {
        assert_eq!(texts("a.1.2.b"), ["a", ".", "1", ".", "2", ".", "b"]);
        assert_eq!(
            texts("a[1]._x.'k'._y.1"),
            [
                "a", "[", "1", "]", ".", "_x", ".", "'k'", ".", "_y", ".", "1"
            ]
        );
    }

    #[test]
    fn every_token_has_its_bytes() {
        let sql = "SELECT 'äö' AS `ü`\r\n-- c\n=~ FROM";
        let tokens = tokenize(sql);
        let texts: Vec<_> = tokens.places.iter().map(|place| place.text(sql)).collect();
        assert_eq!(texts, ["SELECT", "'äö'", "AS", "`ü`", "=~", "FROM"]);
    }

    #[test]
    fn what_is_no_token_is_refused_where_it_stands() {
        for (sql, column) in [
            ("a 'x", 3),
            ("a \"x", 3),
            ("a /* x", 3),
            ("a 12abc", 5),
            ("a 0x1F", 3),
            ("a X'00'", 3),
            ("a N'x'", 3),
            ("a E'x'", 4),
            ("a 5L", 3),
            ("a \u{ff0c}", 3),
            ("a \u{201c}b\u{201d}", 3),
            ("a \u{200b}b", 3),
        ] {
            let mistakes = tokenize(sql).mistakes;
            let [mistake] = mistakes.as_slice() else {
                panic!("{sql}: {mistakes:?}");
            };
            assert_eq!(
                (mistake.code, mistake.span.column),
                (Code::Lexical, column),
                "{sql}: {mistake:?}"
            );
        }
    }

    #[test]
    fn typographic_quotes_and_full_width_signs_are_read_as_the_plain_ones() {
        assert_eq!(
            texts("FROM \u{201c}a b\u{201d}\u{ff0c}\u{2018}c\u{2019} \u{2265} 1"),
            ["FROM", "\"a b\"", ",", "'c'", ">=", "1"]
        );
    }
}
