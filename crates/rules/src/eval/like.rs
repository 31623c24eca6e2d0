//! LIKE patterns: `%` any run, `_` one character, the entire string.

/// A LIKE pattern that is ready to match.
#[derive(Debug)]
pub(super) struct LikePattern {
    parts: Vec<Part>,
    ignore_case: bool,
}

#[derive(Debug, PartialEq)]
enum Part {
    Run,
    One,
    Char(char),
}

impl LikePattern {
    pub(super) fn new(pattern: &str, escape: Option<char>, ignore_case: bool) -> Self {
        let mut parts = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                _ if Some(c) == escape => {
                    Part::Char(folded(chars.next().unwrap_or(c), ignore_case))
                }
                '%' if parts.last() == Some(&Part::Run) => continue,
                '%' => Part::Run,
                '_' => Part::One,
                c => Part::Char(folded(c, ignore_case)),
            });
        }
        Self { parts, ignore_case }
    }

    /// Whether the entire text matches; in time proportional to text times pattern at worst.
    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().map(|c| folded(c, self.ignore_case)).collect();
        let (mut at, mut part) = (0, 0);
        // Where the last run stands, and how much of the text it has swallowed.
        let mut run: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.parts.get(part) {
                Some(Part::Run) => {
                    run = Some((part, at));
                    part += 1;
                }
                Some(Part::One) => {
                    at += 1;
                    part += 1;
                }
                Some(Part::Char(c)) if *c == text[at] => {
                    at += 1;
                    part += 1;
                }
                _ => match run {
                    Some((run_part, swallowed)) => {
                        run = Some((run_part, swallowed + 1));
                        at = swallowed + 1;
                        part = run_part + 1;
                    }
                    None => return false,
                },
            }
        }
        self.parts
            .get(part..)
            .unwrap_or_default()
            .iter()
            .all(|part| *part == Part::Run)
    }
}

/// Unicode simple case folding, by way of upper case: `ſ`, `S` and `s` are one letter.
fn folded(c: char, ignore_case: bool) -> char {
    if !ignore_case {
        return c;
    }
    // The dotless i has no simple fold: it is no spelling of `i`.
    if c == '\u{131}' {
        return c;
    }
    let upper = single(c.to_uppercase(), c);
    single(upper.to_lowercase(), upper)
}

/// The only character of a mapping, or `c` where it gives several.
fn single(mut mapped: impl ExactSizeIterator<Item = char>, c: char) -> char {
    if mapped.len() == 1 {
        mapped.next().unwrap_or(c)
    } else {
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str, pattern: &str) -> bool {
        LikePattern::new(pattern, None, false).matches(text)
    }

    #[test]
    fn runs_and_single_characters_match_the_entire_text() {
        assert!(like("abc", "a%"));
        assert!(like("abc", "%c"));
        assert!(like("abc", "_b_"));
        assert!(like("", "%"));
        assert!(like("aXbXc", "a%X%c"));
        assert!(like("aaab", "%aab"));
        assert!(like("😀", "_"));
        assert!(!like("abc", "b"));
        assert!(!like("abc", "ABC"));
        assert!(!like("", "_"));
    }

    #[test]
    fn an_escape_quotes_the_next_character() {
        let pattern = LikePattern::new("100!%!_!!", Some('!'), false);
        assert!(pattern.matches("100%_!"));
        assert!(!pattern.matches("100x_!"));
    }

    #[test]
    fn case_is_ignored_by_simple_folding() {
        let pattern = |pattern| LikePattern::new(pattern, None, true);
        assert!(pattern("STRASSE%").matches("strasse 1"));
        assert!(pattern("σ").matches("ς"));
        assert!(pattern("ſ").matches("S"));
        assert!(!pattern("ß").matches("ss"));
    }

    #[test]
    fn many_runs_take_no_exponential_time() {
        let text = "a".repeat(2000);
        assert!(!like(&text, &format!("{}b", "%a".repeat(200))));
    }
}
