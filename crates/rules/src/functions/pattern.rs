//! Regular expressions: the syntax of the `regex` crate with ASCII-only `\d \w \s \b`, in linear time.
//!
//! Look-around and back-references, which a linear engine cannot do, are refused with that reason.

use std::cell::RefCell;
use std::sync::Arc;

use regex::{Captures, Regex, RegexBuilder};

/// The memory that one compiled pattern may take: enough for `\w{1,200}`, not for an attack.
const SIZE_LIMIT_BYTES: usize = 1024 * 1024;
/// How many patterns that are not literals a thread keeps compiled.
const RECENT: usize = 16;

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Work done once for a literal argument.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// The compiled pattern of a [`Kind::Regex`](super::Kind::Regex) argument.
    Regex(Pattern),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Why it is none, in one line.
    pub fn new(pattern: &str) -> Result<Self, String> {
        RegexBuilder::new(&with_ascii_classes(pattern))
            .size_limit(SIZE_LIMIT_BYTES)
            .dfa_size_limit(SIZE_LIMIT_BYTES)
            .build()
            .map(Self)
            .map_err(|error| one_line(&error))
    }

    /// The pattern compiled by an earlier call on this thread, or compiled now.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub fn recent(pattern: &str) -> Result<Arc<Self>, String> {
        thread_local! {
            static CACHE: RefCell<Vec<(String, Arc<Pattern>)>> = const { RefCell::new(Vec::new()) };
        }
        CACHE.with_borrow_mut(|cache| {
            if let Some(place) = cache.iter().position(|(source, _)| source == pattern) {
                cache[..=place].rotate_right(1);
                return Ok(Arc::clone(&cache[0].1));
            }
            let compiled = Arc::new(Self::new(pattern)?);
            cache.truncate(RECENT - 1);
            cache.insert(0, (pattern.to_owned(), Arc::clone(&compiled)));
            Ok(compiled)
        })
    }

    /// Whether it is found anywhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The groups of the first match; group 0 is the match.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        self.0.captures(text)
    }

    /// The groups of every match, left to right.
    pub fn captures_iter<'r, 't>(
        &'r self,
        text: &'t str,
    ) -> impl Iterator<Item = Captures<'t>> + use<'r, 't> {
        self.0.captures_iter(text)
    }

    /// The first match.
    pub fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.0.find(text).map(|found| found.as_str())
    }
}

/// Spells `\d \w \s \b` and their opposites out in ASCII: turning Unicode off would also change `.` and letters.
fn with_ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    // Brackets nest in this syntax: `[a-z&&[^b]]`.
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                // `\b{start}` and its kin are word boundaries of the engine's own.
                Some('b') if depth == 0 && chars.peek() != Some(&'{') => out.push_str(r"(?-u:\b)"),
                Some('B') if depth == 0 => out.push_str(r"(?-u:\B)"),
                Some(class) => match ascii_class(class) {
                    Some(spelled) => out.push_str(spelled),
                    None => out.extend(['\\', class]),
                },
                None => out.push('\\'),
            },
            '[' => {
                depth += 1;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    out.extend(chars.next());
                }
                // A `]` right after the opening is a plain character.
                if chars.peek() == Some(&']') {
                    chars.next();
                    out.push_str(r"\]");
                }
            }
            ']' => {
                depth = depth.saturating_sub(1);
                out.push(']');
            }
            _ => out.push(c),
        }
    }
    out
}

fn ascii_class(class: char) -> Option<&'static str> {
    Some(match class {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => r"[\t\n\x0B\x0C\r ]",
        'S' => r"[^\t\n\x0B\x0C\r ]",
        _ => return None,
    })
}

/// The last line of the engine's message says what is wrong; the lines above draw the pattern.
fn one_line(error: &regex::Error) -> String {
    let message = error.to_string();
    let last = message.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ascii_and_the_dot_is_a_code_point() {
        assert!(!Pattern::new(r"^\d$").unwrap().is_match("٣"));
        assert!(!Pattern::new(r"^[\d\w]$").unwrap().is_match("é"));
        assert!(Pattern::new(r"^[^\d]$").unwrap().is_match("é"));
        assert!(Pattern::new(r"^.$").unwrap().is_match("é"));
        assert!(Pattern::new(r"\bb\b").unwrap().is_match("é b"));
        assert!(Pattern::new(r"éb\B").unwrap().is_match("ébc"));
        assert!(Pattern::new(r"^\\d$").unwrap().is_match(r"\d"));
        assert!(Pattern::new(r"^[]a]+$").unwrap().is_match("]a"));
        assert!(Pattern::new(r"^[[:alpha:]\s]+$").unwrap().is_match("a b"));
        assert!(!Pattern::new(r"a$").unwrap().is_match("a\n"));
    }

    #[test]
    fn a_bad_pattern_says_why_in_one_line() {
        assert_eq!(Pattern::new("(").unwrap_err(), "unclosed group");
        assert!(Pattern::new("(?=a)").unwrap_err().contains("look-around"));
        assert!(Pattern::new(r"(\w{9000}){9000}").is_err());
    }

    #[test]
    fn recent_patterns_are_kept_and_forgotten() {
        for n in 0..100 {
            assert!(
                Pattern::recent(&format!("^a{n}$"))
                    .unwrap()
                    .is_match(&format!("a{n}"))
            );
        }
        let first = Pattern::recent("^a99$").unwrap();
        assert!(Arc::ptr_eq(&first, &Pattern::recent("^a99$").unwrap()));
    }
}
