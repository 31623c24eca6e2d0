//! Finds code outside of functions: a script is functions and constants, nothing that runs on its own.
//!
//! Reads a source that has already compiled, so comments, quotes and brackets are known to close.

use std::collections::HashMap;

/// Line and column (from 1) of the first top-level statement that is neither a function nor a constant.
pub(super) fn first_stray_code(source: &str) -> Option<(usize, usize)> {
    let mut reader = Reader { source, at: 0 };
    let mut statement = Statement::None;
    let mut depth = 0_usize;
    while let Some(token) = reader.next_token() {
        if depth == 0 && statement == Statement::None {
            statement = match token.text {
                ";" => Statement::None,
                "fn" | "private" => Statement::Function,
                "const" => Statement::Constant,
                _ => return Some(position(source, token.start)),
            };
            continue;
        }
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let ends = match statement {
            Statement::Function => token.text == "}",
            Statement::Constant => token.text == ";",
            Statement::None => false,
        };
        if depth == 0 && ends {
            statement = Statement::None;
        }
    }
    None
}

/// The lines of the functions, by name and number of parameters.
pub(super) fn function_lines(source: &str) -> HashMap<(String, usize), usize> {
    let mut reader = Reader { source, at: 0 };
    let mut lines = HashMap::new();
    while let Some(token) = reader.next_token() {
        if token.text != "fn" {
            continue;
        }
        let Some(name) = reader.next_token() else {
            break;
        };
        let mut parameters = 0;
        while let Some(token) = reader.next_token().filter(|token| token.text != ")") {
            parameters += usize::from(token.text.starts_with(is_word));
        }
        lines.insert(
            (name.text.to_owned(), parameters),
            position(source, token.start).0,
        );
    }
    lines
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Statement {
    None,
    Function,
    Constant,
}

struct Token<'s> {
    text: &'s str,
    start: usize,
}

struct Reader<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Reader<'s> {
    /// The next word or character; quoted texts come as their opening quote.
    fn next_token(&mut self) -> Option<Token<'s>> {
        self.skip_blank();
        let rest = &self.source[self.at..];
        let first = rest.chars().next()?;
        let start = self.at;
        let length = match first {
            '"' => quoted(rest, '"'),
            '\'' => quoted(rest, '\''),
            '`' => interpolated(rest),
            '#' => raw(rest).unwrap_or(1),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        self.at += length;
        let shown = if is_word(first) {
            length
        } else {
            first.len_utf8()
        };
        Some(Token {
            text: &rest[..shown],
            start,
        })
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.source[self.at..];
            let length = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                block_comment(rest)
            } else {
                rest.len() - rest.trim_start().len()
            };
            if length == 0 {
                return;
            }
            self.at += length;
        }
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The length of a text in quotes; a backslash escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of a text in backticks; `${ … }` inside holds code, which may hold texts again.
fn interpolated(text: &str) -> usize {
    let mut at = 1;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("${") {
            at += 2;
            let mut reader = Reader { source: text, at };
            let mut depth = 1_usize;
            while depth > 0 {
                match reader.next_token().map(|token| token.text) {
                    Some("{") => depth += 1,
                    Some("}") => depth -= 1,
                    Some(_) => {}
                    None => return text.len(),
                }
            }
            at = reader.at;
        } else if rest.starts_with("``") {
            at += 2;
        } else if rest.starts_with('`') {
            return at + 1;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of `#"…"#` with any number of `#`.
fn raw(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let body = text[hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let end = body
        .find(&closing)
        .map_or(body.len(), |at| at + closing.len());
    Some(hashes + 1 + end)
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn position(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        source[line_start..at].chars().count() + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_constants_are_no_stray_code() {
        let source = r####"
            // let x = 1;
            const A = #{ a: [1, 2], "}": "{" }; /* let /* y */ z */
            const B = `one ${ `two ${ "}" } ` } ` ;;
            fn f(x) { let s = '}'; let r = #"a " }"#; #{ k: s } }
            private fn g() { return "\"}"; }
            fn h() { if true { 1 } else { 2 } }
        "####;
        assert_eq!(first_stray_code(source), None);
    }

    #[test]
    fn functions_are_found_by_name_and_arity() {
        let lines = function_lines("fn f(a, b) { 1 }\n\n// fn g()\nprivate fn f() { 2 }");
        assert_eq!(lines.get(&("f".to_owned(), 2)), Some(&1));
        assert_eq!(lines.get(&("f".to_owned(), 0)), Some(&4));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn stray_code_is_found_where_it_begins() {
        assert_eq!(first_stray_code("fn f() { 1 }\n  let x = 1;"), Some((2, 3)));
        assert_eq!(first_stray_code("const A = 1;\nf();"), Some((2, 1)));
        assert_eq!(first_stray_code("fn f() { 1 } 42"), Some((1, 14)));
        assert_eq!(first_stray_code("é"), Some((1, 1)));
    }
}
