//! The outcome of `weir test` as JUnit XML, which build servers show.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What was run, by rule or file of functions, and what could not be.
#[derive(Default)]
pub(super) struct Report {
    suites: Vec<Suite>,
}

struct Suite {
    name: String,
    file: PathBuf,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    file: PathBuf,
    /// From 1; 0 for the file as a whole.
    line: usize,
    outcome: Outcome,
}

/// How a case ended.
pub(super) enum Outcome {
    /// As expected.
    Passed,
    /// With these differences, one a line.
    Failed(String),
    /// It could not be run, for this reason.
    Error(String),
}

impl Report {
    /// Adds a case to the suite of that name; `file` is the suite's when it is new.
    pub(super) fn add(
        &mut self,
        suite: &str,
        case: &str,
        file: &Path,
        line: usize,
        outcome: Outcome,
    ) {
        let at = self
            .suites
            .iter()
            .position(|known| known.name == suite)
            .unwrap_or_else(|| {
                self.suites.push(Suite {
                    name: suite.to_owned(),
                    file: file.to_owned(),
                    cases: Vec::new(),
                });
                self.suites.len() - 1
            });
        self.suites[at].cases.push(Case {
            name: case.to_owned(),
            file: file.to_owned(),
            line,
            outcome,
        });
    }

    /// The document.
    pub(super) fn xml(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let all = || self.suites.iter().flat_map(|suite| &suite.cases);
        element(&mut out, "<testsuites name=\"weir\"", all());
        for suite in &self.suites {
            let head = format!(
                "  <testsuite name=\"{}\" file=\"{}\"",
                attribute(&suite.name),
                attribute(&suite.file.display().to_string())
            );
            element(&mut out, &head, suite.cases.iter());
            for case in &suite.cases {
                case.xml(&suite.name, &mut out);
            }
            out.push_str("  </testsuite>\n");
        }
        out.push_str("</testsuites>\n");
        out
    }
}

/// Ends an opening tag with the counts of its cases.
fn element<'a>(out: &mut String, head: &str, cases: impl Iterator<Item = &'a Case>) {
    let (mut tests, mut failures, mut errors) = (0, 0, 0);
    for case in cases {
        tests += 1;
        match case.outcome {
            Outcome::Passed => {}
            Outcome::Failed(_) => failures += 1,
            Outcome::Error(_) => errors += 1,
        }
    }
    // Writing to a text does not fail.
    let _ = writeln!(
        out,
        "{head} tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
    );
}

impl Case {
    fn xml(&self, suite: &str, out: &mut String) {
        let _ = write!(
            out,
            "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\"",
            attribute(&self.name),
            attribute(suite),
            attribute(&self.file.display().to_string())
        );
        if self.line > 0 {
            let _ = write!(out, " line=\"{}\"", self.line);
        }
        let (tag, text) = match &self.outcome {
            Outcome::Passed => {
                out.push_str("/>\n");
                return;
            }
            Outcome::Failed(text) => ("failure", text),
            Outcome::Error(text) => ("error", text),
        };
        let first = text.lines().next().unwrap_or_default();
        let _ = writeln!(
            out,
            ">\n      <{tag} message=\"{}\">{}</{tag}>\n    </testcase>",
            attribute(first),
            escaped(text)
        );
    }
}

/// A value of an attribute, where a parser makes spaces of line breaks and tabs that stand there as they are.
fn attribute(text: &str) -> String {
    escaped(text).replace('\n', "&#10;").replace('\t', "&#9;")
}

/// The text of an element. What XML 1.0 cannot hold at all becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // As it is, a parser makes a line feed of it.
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
