//! What the compiler tells a rule's author: a code, a place in the text, a label, help.

use std::fmt;

/// The code of a diagnostic; `E…` refuses the rule, `W…` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// E0001: unterminated string or comment, bad number, bad character.
    Lexical,
    /// E0002: something else was expected.
    Syntax,
    /// E0003: a construct that the language leaves out.
    Unsupported,
    /// E0101: no FROM source.
    NoSource,
    /// E0102: unknown function.
    UnknownFunction,
    /// E0103: wrong number of arguments.
    Arity,
    /// E0104: a literal argument of a wrong type, or outside its set.
    Literal,
    /// E0105: invalid topic filter.
    TopicFilter,
    /// E0106: unknown event source, or a bridge source without `type:name`.
    EventSource,
    /// E0107: integer out of range, index 0 in a range, a range the wrong way round.
    Range,
    /// E0108: an operator on literals that must fail.
    ConstantFault,
    /// E0109: bad alias.
    Alias,
    /// E0110: over a limit.
    Limit,
    /// W0001: a field that none of the sources has.
    UnknownField,
    /// W0002: a double-quoted name where a string may be meant.
    QuotedName,
    /// W0003: `= NULL`.
    EqualsNull,
    /// W0004: an expression without alias gets a made-up name.
    Unaliased,
    /// W0005: an alias without AS.
    ImplicitAlias,
    /// W0006: a bare name in FROM.
    BareSource,
    /// W0007: the same source twice.
    DuplicateSource,
    /// W0008: the same alias twice.
    DuplicateAlias,
    /// W0009: a condition that never changes.
    ConstantCondition,
    /// W0010: `#` matches every message.
    EveryMessage,
    /// W0011: an alias hides a field that is used later.
    HiddenField,
    /// W0012: a condition of a type that is never a boolean.
    NeverBoolean,
    /// W0013: a comparison that never holds, alone or with those beside it.
    NeverHolds,
    /// W0014: a topic wildcard where it is an ordinary character.
    TopicWildcard,
    /// W0015: element 0, as elements are counted from 1.
    IndexZero,
    /// W0016: a field that is text compared as a number.
    TextAsNumber,
    /// W0017: the raw payload compared with a number in a rule that looks into it.
    RawPayload,
    /// W0018: a backslash escape in a string that is joined to others.
    Escape,
    /// W0019: a place of a template as a string.
    PlaceInString,
    /// W0020: an operator whose one known side can never be right.
    NeverComputed,
}

impl Code {
    /// Every code, in the order of their numbers.
    pub const ALL: [Self; 33] = [
        Self::Lexical,
        Self::Syntax,
        Self::Unsupported,
        Self::NoSource,
        Self::UnknownFunction,
        Self::Arity,
        Self::Literal,
        Self::TopicFilter,
        Self::EventSource,
        Self::Range,
        Self::ConstantFault,
        Self::Alias,
        Self::Limit,
        Self::UnknownField,
        Self::QuotedName,
        Self::EqualsNull,
        Self::Unaliased,
        Self::ImplicitAlias,
        Self::BareSource,
        Self::DuplicateSource,
        Self::DuplicateAlias,
        Self::ConstantCondition,
        Self::EveryMessage,
        Self::HiddenField,
        Self::NeverBoolean,
        Self::NeverHolds,
        Self::TopicWildcard,
        Self::IndexZero,
        Self::TextAsNumber,
        Self::RawPayload,
        Self::Escape,
        Self::PlaceInString,
        Self::NeverComputed,
    ];

    /// As it is printed, e.g. `E0102`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lexical => "E0001",
            Self::Syntax => "E0002",
            Self::Unsupported => "E0003",
            Self::NoSource => "E0101",
            Self::UnknownFunction => "E0102",
            Self::Arity => "E0103",
            Self::Literal => "E0104",
            Self::TopicFilter => "E0105",
            Self::EventSource => "E0106",
            Self::Range => "E0107",
            Self::ConstantFault => "E0108",
            Self::Alias => "E0109",
            Self::Limit => "E0110",
            Self::UnknownField => "W0001",
            Self::QuotedName => "W0002",
            Self::EqualsNull => "W0003",
            Self::Unaliased => "W0004",
            Self::ImplicitAlias => "W0005",
            Self::BareSource => "W0006",
            Self::DuplicateSource => "W0007",
            Self::DuplicateAlias => "W0008",
            Self::ConstantCondition => "W0009",
            Self::EveryMessage => "W0010",
            Self::HiddenField => "W0011",
            Self::NeverBoolean => "W0012",
            Self::NeverHolds => "W0013",
            Self::TopicWildcard => "W0014",
            Self::IndexZero => "W0015",
            Self::TextAsNumber => "W0016",
            Self::RawPayload => "W0017",
            Self::Escape => "W0018",
            Self::PlaceInString => "W0019",
            Self::NeverComputed => "W0020",
        }
    }

    /// Whether the rule is refused.
    pub fn severity(self) -> Severity {
        if self.name().starts_with('E') {
            Severity::Error
        } else {
            Severity::Warning
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a diagnostic refuses the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The rule is refused.
    Error,
    /// The rule works, perhaps not as meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A range of bytes in the statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Place {
    /// From the start of this to the end of `last`.
    pub(crate) fn to(self, last: Self) -> Self {
        Self {
            start: self.start,
            end: last.end.max(self.end),
        }
    }

    /// The text at this place.
    pub(crate) fn text(self, sql: &str) -> &str {
        sql.get(self.start..self.end).unwrap_or_default()
    }

    /// With line and column counted out.
    pub(crate) fn locate(self, sql: &str) -> Span {
        let before = sql.get(..self.start).unwrap_or(sql);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Span {
            start: self.start,
            end: self.end,
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

/// Where a diagnostic points in the statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first byte in characters, from 1.
    pub column: usize,
}

/// One finding of the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of finding.
    pub code: Code,
    /// Whether it refuses the rule.
    pub severity: Severity,
    /// The finding in one line.
    pub message: String,
    /// Where it is.
    pub span: Span,
    /// Shown after the caret; may be empty.
    pub label: String,
    /// What to do about it, where that needs a sentence more.
    pub help: Option<String>,
}

/// Where a statement stands, so that a diagnostic can name the file's own lines and columns.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The file's name, or `None` for a statement that stands alone.
    pub file: Option<&'a str>,
    /// The file's line that holds the statement's first character, from 1.
    pub first_line: usize,
    /// The column of that character, from 1.
    pub first_column: usize,
}

impl Default for Origin<'_> {
    fn default() -> Self {
        Self {
            file: None,
            first_line: 1,
            first_column: 1,
        }
    }
}

impl Origin<'_> {
    /// The line and column in the file of a place in the statement.
    pub const fn locate(&self, span: Span) -> (usize, usize) {
        let column = if span.line == 1 {
            self.first_column + span.column - 1
        } else {
            span.column
        };
        (self.first_line + span.line - 1, column)
    }
}

/// Longer source lines are shown in part.
const SHOWN_COLUMNS: usize = 120;

impl Diagnostic {
    pub(crate) fn new(code: Code, sql: &str, at: Place, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            message: message.into(),
            span: at.locate(sql),
            label: String::new(),
            help: None,
        }
    }

    #[must_use]
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The finding as it is printed: message, place, the source line, a caret with the label, help.
    ///
    /// `source` is the statement that was compiled. Where it starts in the middle of a file's line
    /// (`origin.first_column` over 1), that line is shown from the statement on, at its own column.
    pub fn render(&self, source: &str, origin: &Origin<'_>) -> String {
        let (line, column) = origin.locate(self.span);
        let number = line.to_string();
        // In a file the gutter is one wider, as the arrow then points at a path.
        let margin = " ".repeat(usize::from(origin.file.is_some()));
        let gutter = format!("{margin}{}", " ".repeat(number.len()));
        let place = origin.file.map_or_else(
            || format!("{line}:{column}"),
            |file| format!("{file}:{line}:{column}"),
        );
        let excerpt = Excerpt::of(source, self.span);
        let label = if self.label.is_empty() {
            String::new()
        } else {
            format!(" {}", self.label)
        };
        let mut text = format!(
            "{severity}[{code}]: {message}\n{gutter}--> {place}\n{gutter} |\n{margin}{number} | {line_text}\n{gutter} | {indent}{carets}{label}\n",
            severity = self.severity.name(),
            code = self.code,
            message = self.message,
            line_text = excerpt.line,
            indent = excerpt.indent,
            carets = "^".repeat(excerpt.carets),
        );
        if let Some(help) = &self.help {
            text.push_str(&format!("{gutter} = help: {help}\n"));
        }
        text
    }
}

/// The part of a source line that is shown, with white space up to the caret.
struct Excerpt {
    line: String,
    indent: String,
    carets: usize,
}

impl Excerpt {
    fn of(source: &str, span: Span) -> Self {
        let line: Vec<char> = source
            .split('\n')
            .nth(span.line - 1)
            .unwrap_or_default()
            .trim_end_matches('\r')
            .chars()
            .collect();
        let first = (span.column - 1).min(line.len());
        let width = source
            .get(span.start..span.end)
            .unwrap_or_default()
            .split('\n')
            .next()
            .unwrap_or_default();
        let carets = width.trim_end_matches('\r').chars().count().max(1);
        let (from, to) = if line.len() <= SHOWN_COLUMNS {
            (0, line.len())
        } else {
            let from = first.saturating_sub(SHOWN_COLUMNS / 2);
            (from, (from + SHOWN_COLUMNS).min(line.len()))
        };
        let (before, after) = (
            if from > 0 { "…" } else { "" },
            if to < line.len() { "…" } else { "" },
        );
        let shown = line.get(from..to).unwrap_or_default();
        let indent = line.get(from..first).unwrap_or_default();
        Self {
            line: format!("{before}{}{after}", shown.iter().collect::<String>()),
            // A tab stays a tab, so that the caret stands under what it points at.
            indent: before
                .chars()
                .map(|_| ' ')
                .chain(indent.iter().map(|c| if *c == '\t' { '\t' } else { ' ' }))
                .collect(),
            carets: carets.min(to.saturating_sub(first).max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(source: &str, text: &str) -> Diagnostic {
        let start = source.find(text).unwrap();
        Diagnostic::new(
            Code::UnknownFunction,
            source,
            Place {
                start,
                end: start + text.len(),
            },
            "unknown function `uper`",
        )
        .label("did you mean `upper`?")
    }

    #[test]
    fn a_finding_shows_its_line_and_points_at_its_place() {
        let source = "SELECT uper(clientid) AS c FROM \"t/#\"";
        assert_eq!(
            finding(source, "uper").render(source, &Origin::default()),
            "error[E0102]: unknown function `uper`\n --> 1:8\n  |\n1 | SELECT uper(clientid) AS c FROM \"t/#\"\n  |        ^^^^ did you mean `upper`?\n"
        );
    }

    #[test]
    fn in_a_file_it_shows_the_files_line_and_column() {
        let source = "SELECT *,\n\tuper(a) AS b\nFROM 't'";
        let origin = Origin {
            file: Some("rules/cold.toml"),
            first_line: 99,
            first_column: 1,
        };
        assert_eq!(
            finding(source, "uper")
                .help("see the list of functions")
                .render(source, &origin),
            "error[E0102]: unknown function `uper`\n    --> rules/cold.toml:100:2\n     |\n 100 | \tuper(a) AS b\n     | \t^^^^ did you mean `upper`?\n     = help: see the list of functions\n"
        );
        let inline = Origin {
            first_column: 8,
            ..origin
        };
        assert_eq!(inline.locate(finding("uper(1)", "uper").span), (99, 8));
    }

    #[test]
    fn columns_count_characters_and_long_lines_are_shown_in_part() {
        let source = "SELECT 'äöü', uper(1)";
        assert_eq!(finding(source, "uper").span.column, 15);
        let long = format!("{}uper{}", "x".repeat(300), "y".repeat(300));
        let rendered = finding(&long, "uper").render(&long, &Origin::default());
        let lines: Vec<_> = rendered.lines().collect();
        assert!(lines[3].chars().count() < 140);
        assert_eq!(
            lines[3].chars().position(|c| c == 'u'),
            lines[4].chars().position(|c| c == '^')
        );
    }
}
