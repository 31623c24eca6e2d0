//! The long text of every code that a finding may have: `weir help E0102`.
//!
//! One file a code in `codes/`: a title, what it means, an example that gives it, what to write instead.

use std::fmt::Write as _;

macro_rules! texts {
    ($($code:literal)*) => {
        &[$(($code, include_str!(concat!("codes/", $code, ".md")))),*]
    };
}

/// Every code and its text, in order.
const TEXTS: &[(&str, &str)] = texts! {
    "E0001" "E0002" "E0003"
    "E0101" "E0102" "E0103" "E0104" "E0105" "E0106" "E0107" "E0108" "E0109" "E0110"
    "E1000" "E1001" "E1002" "E1003" "E1004" "E1005" "E1006" "E1007" "E1008" "E1009" "E1010"
    "E1011" "E1012" "E1013" "E1014" "E1015" "E1016" "E1017"
    "E1403" "E1404" "E1405" "E1406" "E1407" "E1408" "E1409" "E1410" "E1411" "E1412"
    "E1601" "E1602" "E1603" "E1604" "E1605" "E1606" "E1607" "E1608" "E1609" "E1611"
    "E3001" "E3002" "E3003" "E3004" "E3005" "E3006" "E3007" "E3008" "E3009" "E3010"
    "E3101" "E3102" "E3103" "E3104"
    "E3201" "E3202" "E3203" "E3204" "E3205" "E3206" "E3207" "E3208" "E3209" "E3210"
    "E3213" "E3214"
    "E3301"
    "E3401" "E3402" "E3403" "E3404" "E3405" "E3406"
    "E3501" "E3502"
    "E3601" "E3602"
    "E4101" "E4102" "E4103" "E4104" "E4105" "E4106" "E4107" "E4108" "E4109" "E4110" "E4111"
    "E4112" "E4113" "E4114" "E4115" "E4116" "E4117" "E4118"
    "E4130" "E4131" "E4132" "E4140"
    "E4150" "E4151" "E4152" "E4153"
    "W0001" "W0002" "W0003" "W0004" "W0005" "W0006" "W0007" "W0008" "W0009" "W0010" "W0011" "W0012"
    "W0013" "W0014" "W0015" "W0016" "W0017" "W0018" "W0019" "W0020"
    "W1001" "W1002"
    "W3001" "W3002" "W3008"
    "W4101" "W4102" "W4103" "W4104" "W4105" "W4110" "W4111"
};

/// Every code, in order.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(code, _)| *code)
}

/// The codes that are meant: `E0102` by itself, by `e0102`, `e102` and `102`, and by the last its warning too.
pub(super) fn meant(word: &str) -> Vec<&'static str> {
    let digits = word.trim_start_matches(['E', 'e', 'W', 'w']);
    let letter = &word[..word.len() - digits.len()];
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    if letter.len() > 1 || !is_number {
        return Vec::new();
    }
    let digits = format!("{digits:0>4}");
    all()
        .filter(|code| letter.is_empty() || code[..1].eq_ignore_ascii_case(letter))
        .filter(|code| code[1..] == digits)
        .collect()
}

/// `CODE  title`, a line for each of some.
pub(super) fn titles(codes: &[&str]) -> String {
    let mut list = String::new();
    for (code, text) in TEXTS.iter().filter(|(code, _)| codes.contains(code)) {
        writeln!(list, "{code}  {}", title(text)).expect("text grows");
    }
    list
}

/// A code's text for a terminal.
pub(super) fn explained(code: &str) -> Option<String> {
    let (_, text) = TEXTS.iter().find(|(known, _)| *known == code)?;
    let mut plain = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside && !line.is_empty() {
            writeln!(plain, "    {line}").expect("text grows");
        } else {
            writeln!(plain, "{}", line.trim_start_matches("# ")).expect("text grows");
        }
    }
    Some(plain)
}

/// `CODE  title`, a line each.
pub(super) fn list() -> String {
    let mut list = String::new();
    for (code, text) in TEXTS {
        writeln!(list, "{code}  {}", title(text)).expect("text grows");
    }
    list
}

fn title(text: &str) -> &str {
    let first = text.lines().next().unwrap_or_default();
    first.split_once(": ").map_or(first, |(_, title)| title)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use weir_rules::{Catalog, compile};

    use super::*;

    const CRATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    /// The codes in the sources of every crate: `"E0102"` where it is a text, `[E1601]` where it begins one.
    fn codes_in_sources() -> BTreeSet<String> {
        let mut sources = String::new();
        for name in ["broker", "mqtt", "rules", "sinks"] {
            read(&Path::new(CRATES).join(name).join("src"), &mut sources);
        }
        let code = regex::Regex::new(r#"["\[]([EW][0-9]{4})["\]]"#).unwrap();
        code.captures_iter(&sources)
            .map(|code| code[1].to_owned())
            .collect()
    }

    /// Adds the lines of every source below a folder that are no comments; the table of texts is not one.
    fn read(folder: &Path, sources: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, sources);
            } else if path.extension().is_some_and(|ending| ending == "rs")
                && !path.ends_with("cli/codes.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                for line in code {
                    writeln!(sources, "{line}").unwrap();
                }
            }
        }
    }

    /// The fenced blocks of `sql` in a text.
    fn statements(text: &'static str) -> Vec<&'static str> {
        let blocks = text.split("```sql\n").skip(1);
        blocks
            .map(|block| block.split("\n```").next().unwrap())
            .collect()
    }

    #[test]
    fn every_code_has_a_text_and_every_text_a_code() {
        let (sources, texts) = (codes_in_sources(), all().map(str::to_owned).collect());
        let without_text: Vec<_> = sources.difference(&texts).collect();
        assert!(
            without_text.is_empty(),
            "write src/cli/codes/CODE.md and name it in codes.rs: {without_text:?}"
        );
        let without_code: Vec<_> = texts.difference(&sources).collect();
        assert!(
            without_code.is_empty(),
            "nothing gives these: {without_code:?}"
        );
    }

    #[test]
    fn every_text_file_is_in_the_table_which_is_in_order() {
        let folder = Path::new(CRATES).join("broker/src/cli/codes");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let table: Vec<String> = all().map(|code| format!("{code}.md")).collect();
        assert_eq!(files, table);
    }

    #[test]
    fn every_text_begins_with_its_code_and_fits_a_terminal() {
        for (code, text) in TEXTS {
            assert!(text.starts_with(&format!("# {code}: ")), "{code}");
            assert!(text.matches("```").count() >= 2, "{code} has no example");
            for line in explained(code).unwrap().lines() {
                assert!(line.chars().count() <= 80, "{code}: {line}");
            }
        }
    }

    #[test]
    fn the_first_statement_of_a_text_gives_its_code_and_the_second_does_not() {
        let given = |sql: &str| -> Vec<&str> {
            let findings = match compile(sql, &Catalog::default()) {
                Ok((_, warnings)) => warnings,
                Err(errors) => errors,
            };
            findings.iter().map(|finding| finding.code.name()).collect()
        };
        for (code, text) in TEXTS
            .iter()
            .filter(|(code, _)| code.starts_with("E0") || code.starts_with("W0"))
        {
            let [wrong, right] = statements(text)[..] else {
                panic!("{code} needs a statement that gives it and one that does not");
            };
            assert!(
                given(wrong).contains(code),
                "{code} is not given by: {wrong}"
            );
            assert!(!given(right).contains(code), "{code} is given by: {right}");
            assert_eq!(weir_rules::format(right).as_deref(), Ok(right));
        }
    }

    #[test]
    fn the_sinks_titles_are_those_of_their_own_table() {
        for (code, text) in TEXTS {
            if let Some(known) = weir_sinks::codes::explain(code) {
                assert_eq!(title(text), known.title, "{code}");
            }
        }
    }
}
