//! Findings as workflow commands of GitHub Actions, which it shows beside the lines of a change.

use crate::problem::{Problem, Severity};

/// One finding, without the line break at its end.
pub(super) fn annotation(problem: &Problem) -> String {
    let command = match problem.severity {
        Severity::Note => "notice",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let file = property(&problem.file.display().to_string());
    let title = property(&problem.code);
    let place = if problem.line == 0 {
        String::new()
    } else {
        // The last column is part of what is marked.
        format!(
            ",line={},col={},endColumn={}",
            problem.line,
            problem.column,
            problem.column + problem.length.saturating_sub(1)
        )
    };
    format!(
        "::{command} file={file}{place},title={title}::{}",
        data(&problem.text())
    )
}

/// The message; `%` first, as the others become `%` and digits.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A value of a property, which a `,` or `:` would end.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Source;

    #[test]
    fn what_would_end_a_property_or_a_message_is_escaped() {
        let source = Source::new("rules/a,b:c%.toml", "x = 1\n");
        let problem = Problem::at(&source, 0..1, "E1003", "50% of: a,\r\nb").help("write more");
        assert_eq!(
            annotation(&problem),
            "::error file=rules/a%2Cb%3Ac%25.toml,line=1,col=1,endColumn=1,title=E1003\
             ::50%25 of: a,%0D%0Ab%0Ahelp: write more"
        );
    }

    #[test]
    fn each_severity_has_its_command_and_a_whole_file_has_no_line() {
        let of = |severity| annotation(&Problem::whole("f", "E1", "m").severity(severity));
        assert_eq!(of(Severity::Error), "::error file=f,title=E1::m");
        assert_eq!(of(Severity::Warning), "::warning file=f,title=E1::m");
        assert_eq!(of(Severity::Note), "::notice file=f,title=E1::m");
    }
}
