//! TOML as people would write it: literal strings where they save escapes, one table inline.

use std::fmt::Write as _;

use serde_json::Value;

/// A table under way: its keys in the order in which they are set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(String);

impl Table {
    /// Sets a key to what is TOML already.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{} = {value}", key(name));
    }

    /// Sets a key to a text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.set(name, &text(value));
    }

    /// Adds a line above the next key.
    pub(crate) fn comment(&mut self, line: &str) {
        self.0.push_str(&comment("", line));
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Every line of a text as a comment, each after `lead`.
pub(crate) fn comment(lead: &str, text: &str) -> String {
    text.lines()
        .map(|line| {
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            format!("{}\n", format!("# {lead}{line}").trim_end())
        })
        .collect()
}

/// A key, quoted where it has to be.
pub(crate) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        basic(name)
    }
}

/// A text on one line.
pub(crate) fn text(value: &str) -> String {
    let escapes = value.contains(['"', '\\']);
    if escapes && !value.contains('\'') && !value.chars().any(char::is_control) {
        format!("'{value}'")
    } else {
        basic(value)
    }
}

/// A text over several lines. `last_line_ends` adds a line end to it, for statements, which do not mind.
pub(crate) fn block(value: &str, last_line_ends: bool) -> String {
    let strange = |c: char| c.is_control() && c != '\n' && c != '\t';
    let end = if last_line_ends { "\n" } else { "" };
    if value.contains("'''") || value.ends_with('\'') && !last_line_ends || value.contains(strange)
    {
        let lines: Vec<String> = value.split('\n').map(escaped).collect();
        format!("\"\"\"\n{}{end}\"\"\"", lines.join("\n"))
    } else {
        format!("'''\n{value}{end}'''")
    }
}

/// A text on one line or over several, as it has them.
pub(crate) fn text_or_block(value: &str) -> String {
    if value.contains('\n') {
        block(value, false)
    } else {
        text(value)
    }
}

/// A value on one line. TOML has no null: `{ null = true }` stands for it in expectations.
pub fn inline(value: &Value) -> String {
    match value {
        Value::Null => "{ null = true }".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(value) => text(value),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name), inline(value)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
    }
}

fn basic(value: &str) -> String {
    format!("\"{}\"", escaped(value).replace('\n', "\\n"))
}

/// Without what ends or escapes in a basic string; line ends stay.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push('\n'),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(toml: &str) -> toml::Value {
        toml::from_str::<toml::Table>(&format!("v = {toml}"))
            .unwrap_or_else(|error| panic!("{error}\n{toml}"))
            .remove("v")
            .unwrap()
    }

    #[test]
    fn any_text_comes_back_as_it_was() {
        for value in [
            "",
            "plain",
            "say \"hi\"",
            "it's",
            "it's \"both\"",
            "C:\\x\ty\r\n",
            "a\n'''\nb\\",
            "ends with '",
            "\u{7f}\u{1}é😀",
            "line\nline",
        ] {
            for toml in [text(value), block(value, false), text_or_block(value)] {
                assert_eq!(read(&toml).as_str(), Some(value), "{toml}");
            }
            assert_eq!(
                read(&block(value, true)).as_str(),
                Some(format!("{value}\n").as_str())
            );
        }
    }

    #[test]
    fn values_stand_on_one_line() {
        let value = json!({"a": 1, "b c": [1.5, true, null], "d": {}});
        assert_eq!(
            inline(&value),
            "{ a = 1, \"b c\" = [1.5, true, { null = true }], d = {} }"
        );
        assert!(read(&inline(&value)).is_table());
    }

    #[test]
    fn a_comment_never_leaves_its_lines() {
        assert_eq!(comment("", "a\nb = 1\r\n"), "# a\n# b = 1\n");
    }
}
