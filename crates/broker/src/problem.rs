//! One thing that is wrong with a file, with its place, and how it is shown.
//!
//! Everything that reads files (configuration, rules, connectors, scripts) reports in this shape,
//! so that `weir check`, the reload report, the log and the HTTP answer agree.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a sentence, harms nothing.
    Note,
    /// Legal, and surely not meant.
    Warning,
    /// The file cannot be used.
    Error,
}

impl Severity {
    const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A file's text under the name that the user knows it by.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path as shown to the user, relative to where weir was started.
    pub path: PathBuf,
    /// The whole text.
    pub text: Arc<str>,
}

impl Source {
    /// A source from its parts.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// Line and column of a byte offset, both from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = floor_char_boundary(&self.text, offset.min(self.text.len()));
        let before = &self.text[..offset];
        // A byte order mark at the start is no character that anybody sees.
        let first = self.text.len() - self.text.trim_start_matches('\u{feff}').len();
        let first = first.min(before.len());
        let line_start = before.rfind('\n').map_or(first, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    fn line(&self, number: usize) -> &str {
        self.text
            .trim_start_matches('\u{feff}')
            .lines()
            .nth(number.saturating_sub(1))
            .unwrap_or("")
    }
}

/// A line of a file without the secrets that stand in it: quoted values of keys that hold one, and a URL's password.
///
/// What is hidden keeps its length, so that a caret still points at its place.
fn masked(line: &str) -> String {
    const KEYS: [&str; 3] = ["password", "secret", "token"];
    let mut chars: Vec<char> = line.chars().collect();
    let text: Vec<char> = line.to_lowercase().chars().collect();
    let text = if text.len() == chars.len() {
        text
    } else {
        chars.clone()
    };
    let mut hide = |from: usize, end: &dyn Fn(char) -> bool| {
        for c in chars.iter_mut().skip(from).take_while(|c| !end(**c)) {
            *c = '*';
        }
    };
    for key in KEYS {
        let key: Vec<char> = key.chars().collect();
        for at in 0..text.len().saturating_sub(key.len()) {
            if text[at..].starts_with(&key) {
                let mut rest = text
                    .iter()
                    .enumerate()
                    .skip(at + key.len())
                    .skip_while(|(_, c)| **c == ' ');
                let quote = rest
                    .next()
                    .filter(|(_, c)| **c == '=')
                    .and_then(|_| rest.find(|(_, c)| **c != ' '));
                if let Some((open, quote)) = quote.filter(|(_, c)| matches!(c, '"' | '\'')) {
                    hide(open + 1, &|c| c == *quote);
                }
            }
        }
    }
    for at in 0..text.len() {
        if text[at..].starts_with(&[':', '/', '/']) {
            let rest = &text[at + 3..];
            let end = rest
                .iter()
                .position(|c| matches!(c, '/' | '"' | '\'' | ' '))
                .unwrap_or(rest.len());
            let user = rest[..end].iter().rposition(|c| *c == '@');
            let colon = user.and_then(|user| rest[..user].iter().position(|c| *c == ':'));
            if let Some(colon) = colon {
                hide(at + 3 + colon + 1, &|c| c == '@');
            }
        }
    }
    chars.into_iter().collect()
}

/// The part of a line around the character `at`, and where that character stands in it: a long line is cut.
fn window(line: &str, at: usize) -> (String, usize) {
    const LONGEST: usize = 400;
    const AROUND: usize = 60;
    let length = line.chars().count();
    if length <= LONGEST {
        return (line.to_owned(), at);
    }
    let start = at.saturating_sub(AROUND).min(length);
    let end = length.min(at.saturating_add(2 * AROUND));
    let dots = |cut: bool| if cut { "…" } else { "" };
    let part: String = line.chars().skip(start).take(end - start).collect();
    let shown = format!("{}{part}{}", dots(start > 0), dots(end < length));
    (shown, at - start + usize::from(start > 0))
}

fn floor_char_boundary(text: &str, mut offset: usize) -> usize {
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// What is wrong, where, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// The code that `weir help` explains, e.g. `E1002`.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// The file as shown to the user.
    pub file: PathBuf,
    /// Line from 1; 0 when the problem is with the file as a whole.
    pub line: usize,
    /// Column from 1, in characters; 0 when the problem is with the file as a whole.
    #[serde(rename = "col")]
    pub column: usize,
    /// How many characters the caret underlines.
    #[serde(rename = "len")]
    pub length: usize,
    /// One sentence.
    pub message: String,
    /// What stands beside the caret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line of the file that the caret points into.
    #[serde(skip)]
    excerpt: String,
}

impl Problem {
    /// A problem with the file as a whole.
    pub fn whole(path: impl Into<PathBuf>, code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Error,
            file: path.into(),
            line: 0,
            column: 0,
            length: 0,
            message: message.into(),
            label: String::new(),
            help: None,
            excerpt: String::new(),
        }
    }

    /// A problem with the bytes `span` of a file.
    pub fn at(source: &Source, span: Range<usize>, code: &str, message: impl Into<String>) -> Self {
        let (line, column) = source.position(span.start);
        let excerpt = masked(source.line(line));
        let start = floor_char_boundary(&source.text, span.start.min(source.text.len()));
        let end = floor_char_boundary(&source.text, span.end.clamp(start, source.text.len()));
        let covered = source.text[start..end].lines().next().unwrap_or("");
        Self {
            line,
            column,
            length: covered.chars().count().max(1),
            excerpt,
            ..Self::whole(&source.path, code, message)
        }
    }

    /// Says how bad it is; an error unless said otherwise.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// What stands beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same without the line of the file, which may hold a secret.
    #[must_use]
    pub fn without_excerpt(mut self) -> Self {
        self.excerpt.clear();
        self.length = 0;
        self
    }

    /// `file:line:col`, or just the file.
    pub fn place(&self) -> String {
        if self.line == 0 {
            self.file.display().to_string()
        } else {
            format!("{}:{}:{}", self.file.display(), self.line, self.column)
        }
    }

    /// What is wrong and what to do about it, a line each, for readers that show the place themselves.
    pub fn text(&self) -> String {
        let mut text = self.message.clone();
        if !self.label.is_empty() {
            text += "\n";
            text += &self.label;
        }
        if let Some(help) = &self.help {
            text += "\nhelp: ";
            text += help;
        }
        text
    }

    /// Whether the file cannot be used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The form that people read; ends without a line break.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}[{}]: {}",
            self.severity.word(),
            self.code,
            self.message
        )?;
        let number = self.line.to_string();
        let margin = if self.line == 0 { 1 } else { number.len() };
        write!(f, "\n{:margin$} --> {}", "", self.place())?;
        if self.line > 0 && self.length > 0 {
            let (shown, before) = window(&self.excerpt, self.column - 1);
            write!(f, "\n{:margin$} |\n{number} | {shown}", "")?;
            let indent: String = shown
                .chars()
                .take(before)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let room = shown.chars().count().saturating_sub(before).max(1);
            let carets = "^".repeat(self.length.clamp(1, room));
            write!(f, "\n{:margin$} | {indent}{carets}", "")?;
            if !self.label.is_empty() {
                write!(f, " {}", self.label)?;
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:margin$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// The nearest of `known` to what was written, when one is near enough to be meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.len().max(written.len()) / 3).max(1)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The path as the user would write it: relative to the working directory where that is shorter.
pub fn shown(path: &Path) -> PathBuf {
    std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf))
        .unwrap_or_else(|| path.strip_prefix(".").unwrap_or(path).to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_with_a_caret_under_the_place() {
        let source = Source::new("rules/cold.toml", "a = 1\nsql = 'SELECT uper(x)'\n");
        let problem = Problem::at(&source, 20..24, "E0102", "unknown function `uper`")
            .label("did you mean `upper`?");
        assert_eq!(
            problem.to_string(),
            "error[E0102]: unknown function `uper`\n  --> rules/cold.toml:2:15\n  |\n2 | sql = 'SELECT uper(x)'\n  |               ^^^^ did you mean `upper`?"
        );
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let source = Source::new("x", "é = ü");
        assert_eq!(source.position(5), (1, 5));
    }

    #[test]
    fn a_byte_order_mark_is_no_column() {
        let source = Source::new("x.toml", "\u{feff}[[tests]]\nname = 1\n");
        let problem = Problem::at(&source, 5..10, "E1002", "unknown key `tests`");
        assert!(
            problem
                .to_string()
                .ends_with("--> x.toml:1:3\n  |\n1 | [[tests]]\n  |   ^^^^^"),
            "{problem}"
        );
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(15), (2, 3));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(1000), "b".repeat(1000));
        let problem = Problem::at(&Source::new("x", text), 1000..1004, "E1001", "gone").to_string();
        let mut lines = problem.lines().skip(3);
        let (shown, carets) = (lines.next().unwrap(), lines.next().unwrap());
        assert!(shown.chars().count() < 200, "{shown}");
        let at = |text: &str, c| text.chars().position(|found| found == c);
        assert_eq!(at(shown, 'H'), at(carets, '^'), "{problem}");
        assert!(carets.ends_with(" ^^^^"), "{problem}");
    }

    #[test]
    fn a_span_past_the_end_is_shown_at_the_end() {
        let source = Source::new("x", "ab");
        let problem = Problem::at(&source, 7..9, "E1001", "gone");
        assert_eq!((problem.line, problem.column, problem.length), (1, 3, 1));
    }

    #[test]
    fn a_secret_in_the_shown_line_is_hidden() {
        assert_eq!(
            masked("device_secret = \"abc\"  # x"),
            "device_secret = \"***\"  # x"
        );
        assert_eq!(
            masked("auth = { kind = 'bearer', token = 'abcd' }"),
            "auth = { kind = 'bearer', token = '****' }"
        );
        assert_eq!(
            masked("url = \"postgres://u:pw@host/db\""),
            "url = \"postgres://u:**@host/db\""
        );
        assert_eq!(
            masked("SELECT payload.token AS t"),
            "SELECT payload.token AS t"
        );
    }

    #[test]
    fn only_a_near_name_is_offered() {
        assert_eq!(nearest("tabel", ["table", "topic"]), Some("table"));
        assert_eq!(nearest("quux", ["table", "topic"]), None);
    }
}
