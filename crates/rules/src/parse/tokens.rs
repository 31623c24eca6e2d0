//! Text to tokens: sqlparser's tokenizer, then what the language reads differently.
//!
//! White space is dropped, comments are kept aside, `1..5` and `.1` are taken apart where they are no numbers, `=~` is one operator, words lose
//! their keyword marks so that sqlparser's own syntax never applies, and each token gets its bytes in the text.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::dialect::WeirDialect;
use crate::diagnostic::{Code, Diagnostic, Place};

/// The operator token of `=~`.
pub(super) const MATCH: &str = "=~";
/// The token between the ends of a range.
pub(super) const DOTS: &str = "..";

/// The tokens of a statement and, at the same index, their places.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) tokens: Vec<TokenWithSpan>,
    pub(super) places: Vec<Place>,
    /// The comments, each with the index of the token that follows it.
    pub(super) comments: Vec<(usize, Place)>,
}

pub(super) fn tokenize(sql: &str) -> Result<Tokens, Diagnostic> {
    let mut tokens = Tokens::default();
    for (token, at) in raw(sql)? {
        tokens.add(sql, token, at)?;
    }
    Ok(tokens)
}

impl Tokens {
    fn add(&mut self, sql: &str, token: Token, at: Place) -> Result<(), Diagnostic> {
        let bad = |code: Code, message: String| Err(Diagnostic::new(code, sql, at, message));
        match token {
            Token::Whitespace(
                Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_),
            ) => self.comments.push((self.tokens.len(), at)),
            Token::Whitespace(_) => {}
            Token::Word(mut word) => {
                if word.quote_style.is_none() {
                    if matches!(self.previous(at), Some(Token::Number(..))) {
                        return bad(
                            Code::Lexical,
                            format!("a number cannot be followed by `{}`", word.value),
                        );
                    }
                    word.keyword = Keyword::NoKeyword;
                }
                self.push(Token::Word(word), at);
            }
            Token::Number(_, true) => {
                return bad(
                    Code::Lexical,
                    "a number cannot be followed by `L`".to_owned(),
                );
            }
            Token::Number(text, false) => self.number(text, at),
            Token::Period if matches!(self.previous(at), Some(Token::Period)) => self.dots(at),
            // `1.` and then `.5` or `.`: the end of a number and a range's dots.
            Token::Period if self.dotted_number(at).is_some() => self.split_dotted(at),
            Token::Tilde if matches!(self.previous(at), Some(Token::Eq)) => {
                self.merge(Token::CustomBinaryOperator(MATCH.to_owned()), at);
            }
            Token::HexStringLiteral(_) | Token::NationalStringLiteral(_) => {
                let what = at.text(sql).chars().take(2).collect::<String>();
                return bad(
                    Code::Lexical,
                    format!("there are no strings or numbers that start with `{what}`"),
                );
            }
            Token::SingleQuotedString(_) if self.is_prefixed(at) => {
                return bad(Code::Lexical, "there are no prefixed strings".to_owned());
            }
            Token::Char(_)
            | Token::Backslash
            | Token::Placeholder(_)
            | Token::Sharp
            | Token::AtSign
            | Token::Question => {
                return bad(
                    Code::Lexical,
                    format!("`{}` has no meaning here", at.text(sql)),
                );
            }
            token => self.push(token, at),
        }
        Ok(())
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
                word.quote_style.is_some()
                    || !BEFORE_STRINGS
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
fn raw(sql: &str) -> Result<Vec<(Token, Place)>, Diagnostic> {
    let dialect = WeirDialect::default();
    let mut tokens = Vec::new();
    let mut base = 0;
    loop {
        let text = sql.get(base..).unwrap_or_default();
        let mut part = Vec::new();
        let result = Tokenizer::new(&dialect, text).tokenize_with_location_into_buf(&mut part);
        let mut cursor = Cursor::new(text);
        for token in part {
            let start = base + cursor.seek(token.span.start);
            let end = base + cursor.seek(token.span.end);
            tokens.push((token.token, Place { start, end }));
        }
        let Err(error) = result else {
            return Ok(tokens);
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
        let at = Place {
            start: at,
            end: sql.len(),
        };
        let opening = Place {
            end: at.start + at.text(sql).chars().next().map_or(0, char::len_utf8),
            ..at
        };
        let (message, at) = match at.text(sql) {
            rest if rest.starts_with("/*") => (
                "unterminated comment",
                Place {
                    end: at.start + 2,
                    ..at
                },
            ),
            rest if rest.starts_with(['"', '`']) => ("unterminated quoted name", opening),
            rest if error.message.starts_with("Unterminated") && rest.contains('\'') => {
                ("unterminated string", opening)
            }
            _ => {
                return Err(Diagnostic::new(
                    Code::Lexical,
                    sql,
                    opening,
                    lower_first(&error.message),
                ));
            }
        };
        return Err(Diagnostic::new(Code::Lexical, sql, at, message));
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
        let tokens = tokenize(sql).unwrap();
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
        let tokens = tokenize(sql).unwrap();
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
            ("a ?", 3),
            ("a @b", 3),
            ("a \u{0}", 3),
        ] {
            let error = tokenize(sql).unwrap_err();
            assert_eq!(
                (error.code, error.span.column),
                (Code::Lexical, column),
                "{sql}: {error:?}"
            );
        }
    }
}
