//! A statement as words: enough to lay it out and to see which fields it names, without understanding it.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword, a function or a name.
    Word,
    /// A name in quotes.
    Quoted,
    /// A text in single quotes.
    Text,
    Number,
    Symbol,
}

/// One token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'s> {
    pub(crate) kind: Kind,
    /// As it is written, with its quotes.
    pub(crate) text: &'s str,
    /// In bytes from the start of the statement.
    pub(crate) start: usize,
    /// How many brackets and CASEs are open around it.
    pub(crate) depth: usize,
    /// Whether it follows a `.`, and so is a key whatever it is called.
    pub(crate) is_key: bool,
}

impl Token<'_> {
    /// Whether it is that keyword; `word` in upper case.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && !self.is_key && self.text.eq_ignore_ascii_case(word)
    }

    pub(crate) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    /// Without its quotes.
    pub(crate) fn value(&self) -> String {
        let Some(quote) = self.text.chars().next().filter(|c| "'\"`".contains(*c)) else {
            return self.text.to_owned();
        };
        let inner = self.text.strip_prefix(quote).unwrap_or(self.text);
        let inner = inner.strip_suffix(quote).unwrap_or(inner);
        inner.replace(&format!("{quote}{quote}"), &quote.to_string())
    }
}

/// The tokens of a statement, without comments and white space.
pub(crate) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        let is_key = tokens.last().is_some_and(|token| token.is_symbol("."));
        let (kind, length) = match first {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '-' if rest.starts_with("--") => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '/' if rest.starts_with("/*") => {
                at += rest.find("*/").map_or(rest.len(), |end| end + 2);
                continue;
            }
            '\'' => (Kind::Text, quoted_length(rest, '\'')),
            '"' | '`' => (Kind::Quoted, quoted_length(rest, first)),
            c if c.is_ascii_digit() => (Kind::Number, number_length(rest)),
            c if is_name(c) => (Kind::Word, rest.find(|c| !is_name(c)).unwrap_or(rest.len())),
            c => (Kind::Symbol, c.len_utf8()),
        };
        let text = rest.get(..length).unwrap_or(rest);
        let mut token = Token {
            kind,
            text,
            start: at,
            depth,
            is_key,
        };
        let opens = matches!(text, "(" | "[" | "{") || token.is("CASE");
        let closes = matches!(text, ")" | "]" | "}") || token.is("END");
        if closes {
            depth = depth.saturating_sub(1);
            token.depth = depth;
        }
        depth += usize::from(opens);
        tokens.push(token);
        at += length;
    }
    tokens
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '@')
}

/// A doubled quote does not end a text.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut at = 1;
    loop {
        match text.get(at..).and_then(|rest| rest.find(quote)) {
            None => return text.len(),
            Some(found) => {
                at += found + 1;
                if !text.get(at..).is_some_and(|rest| rest.starts_with(quote)) {
                    return at;
                }
                at += 1;
            }
        }
    }
}

fn number_length(text: &str) -> usize {
    let mut length = 0;
    let mut before = ' ';
    for c in text.chars() {
        // `1..5` is a range, not `1.` and `.5`.
        let ends_here = c == '.'
            && text
                .get(length..)
                .is_some_and(|rest| rest.starts_with(".."));
        let belongs = c.is_ascii_alphanumeric()
            || c == '.'
            || (matches!(c, '+' | '-') && matches!(before, 'e' | 'E'));
        if ends_here || !belongs {
            break;
        }
        before = c;
        length += c.len_utf8();
    }
    length
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(String),
    /// From 1.
    Index(usize),
    /// Some element or other.
    Any,
}

/// Reads the path that starts at token `at`: its steps and the token after it.
pub(crate) fn path(tokens: &[Token<'_>], at: usize) -> Option<(Vec<Step>, usize)> {
    let first = tokens.get(at)?;
    let called = tokens.get(at + 1).is_some_and(|next| next.is_symbol("("));
    if !matches!(first.kind, Kind::Word | Kind::Quoted)
        || first.is_key
        || called
        || is_keyword(first)
    {
        return None;
    }
    let mut steps = vec![Step::Key(first.value())];
    let mut at = at + 1;
    loop {
        let symbol = tokens.get(at).map_or("", |token| token.text);
        match (symbol, tokens.get(at + 1)) {
            (".", Some(key)) if key.kind != Kind::Symbol => {
                steps.push(Step::Key(key.value()));
                at += 2;
            }
            ("[", Some(inner)) => {
                let depth = tokens.get(at)?.depth;
                let close = tokens
                    .iter()
                    .skip(at)
                    .position(|token| token.is_symbol("]") && token.depth == depth)?;
                let alone = close == 2;
                steps.push(match inner.kind {
                    Kind::Text if alone => Step::Key(inner.value()),
                    Kind::Number if alone => inner
                        .text
                        .parse()
                        .ok()
                        .filter(|index| (1..=64).contains(index))
                        .map_or(Step::Any, Step::Index),
                    _ => Step::Any,
                });
                at += close + 1;
            }
            _ => return Some((steps, at)),
        }
    }
}

/// Words that are no names where an expression stands.
fn is_keyword(token: &Token<'_>) -> bool {
    [
        "SELECT", "FROM", "WHERE", "FOREACH", "DO", "INCASE", "AS", "AND", "OR", "NOT", "IN", "IS",
        "NULL", "TRUE", "FALSE", "CASE", "WHEN", "THEN", "ELSE", "END", "BETWEEN", "LIKE", "ILIKE",
        "RLIKE", "REGEXP", "ESCAPE", "DIV", "MOD", "CAST",
    ]
    .iter()
    .any(|word| token.is(word))
}

/// Laid out for a file: no indentation in common, each clause on a line of its own where all stood on one.
pub(crate) fn layout(sql: &str) -> String {
    let sql = sql.replace("\r\n", "\n");
    let tokens = tokens(&sql);
    if tokens
        .iter()
        .any(|token| token.kind == Kind::Text && token.text.contains('\n'))
    {
        return sql.trim().to_owned();
    }
    if !sql.trim().contains('\n') {
        let mut lines = String::new();
        let mut from = 0;
        for token in &tokens {
            let starts_a_clause = ["DO", "INCASE", "FROM", "WHERE"]
                .iter()
                .any(|word| token.is(word));
            if token.depth == 0 && starts_a_clause && token.start > 0 {
                let line = sql.get(from..token.start).unwrap_or_default();
                lines.push_str(line.trim());
                lines.push('\n');
                from = token.start;
            }
        }
        lines.push_str(sql.get(from..).unwrap_or_default().trim());
        return lines;
    }
    let lines: Vec<&str> = sql.lines().map(str::trim_end).collect();
    let first = lines.iter().position(|line| !line.is_empty()).unwrap_or(0);
    let last = lines.iter().rposition(|line| !line.is_empty()).unwrap_or(0);
    let lines = lines.get(first..=last).unwrap_or_default();
    let indent = lines
        .iter()
        .filter(|line| !line.is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    let cut: Vec<&str> = lines
        .iter()
        .map(|line| line.get(indent..).unwrap_or(line))
        .collect();
    cut.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_on_one_line_gets_a_line_for_each_clause() {
        assert_eq!(
            layout("SELECT payload.from AS f, 'FROM x' AS t FROM \"a/#\" WHERE payload.do > 1 "),
            "SELECT payload.from AS f, 'FROM x' AS t\nFROM \"a/#\"\nWHERE payload.do > 1"
        );
        assert_eq!(
            layout("FOREACH payload.s AS s DO s.id INCASE s.v > 1 FROM \"a\""),
            "FOREACH payload.s AS s\nDO s.id\nINCASE s.v > 1\nFROM \"a\""
        );
    }

    #[test]
    fn lines_keep_their_shape_and_lose_what_they_are_indented_by_in_common() {
        assert_eq!(
            layout("\n  SELECT\n    a,  \n    b\n  FROM \"t\"\r\n"),
            "SELECT\n  a,\n  b\nFROM \"t\""
        );
        assert_eq!(
            layout(" SELECT 'a\n  b' FROM \"t\" "),
            "SELECT 'a\n  b' FROM \"t\""
        );
    }

    #[test]
    fn paths_have_keys_indexes_and_quoted_keys() {
        let tokens = tokens("payload.a.'b c'[2].end[-1]['k'] + f(x)");
        let key = |key: &str| Step::Key(key.to_owned());
        assert_eq!(
            path(&tokens, 0).unwrap().0,
            [
                key("payload"),
                key("a"),
                key("b c"),
                Step::Index(2),
                key("end"),
                Step::Any,
                key("k")
            ]
        );
        let function = tokens.iter().position(|token| token.text == "f").unwrap();
        assert!(path(&tokens, function).is_none());
    }

    #[test]
    fn texts_and_comments_hide_what_is_in_them() {
        let words: Vec<&str> = tokens("a -- b\n/* c */ 'd''e' 1..5 2.5e-3")
            .iter()
            .map(|token| token.text)
            .collect();
        assert_eq!(words, ["a", "'d''e'", "1", ".", ".", "5", "2.5e-3"]);
    }
}
