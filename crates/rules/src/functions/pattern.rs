//! Regular expressions: the syntax of the `regex` crate with ASCII-only `\d \w \s \b`, in linear time.
//!
//! Look-around and back-references, which a linear engine cannot do, run on a backtracking engine whose steps are counted.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use regex::{Regex, RegexBuilder};

use crate::error::{ErrorKind, Fault};

/// The memory that one compiled pattern may take: enough for `\w{1,200}`, not for an attack.
const SIZE_LIMIT_BYTES: usize = 1024 * 1024;
/// How often the backtracking engine may turn back in one search, by the length of the text. Between two turns it may
/// look at the whole text: together they keep a search within a second or two. To look at each place of a text costs about
/// as many turns as it has bytes.
const TURNS: [(usize, usize); 3] = [(1024, 1_000_000), (8 * 1024, 125_000), (32 * 1024, 64_000)];
/// How long the searches of the backtracking engine may take together in one evaluation of a rule. The one that goes over
/// it may end: it keeps to [`TURNS`].
const TOGETHER: Duration = Duration::from_secs(1);
/// What one search counts at most: a machine that stood still for a moment costs no message.
const OF_ONE: Duration = Duration::from_millis(500);
/// How many patterns that are not literals a thread keeps compiled.
const RECENT: usize = 16;

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(Engine);

#[derive(Clone, Debug)]
enum Engine {
    Linear(Regex),
    Backtracking(Box<Backtracking>),
}

/// A pattern of the backtracking engine, which has its limit from when it is compiled.
#[derive(Clone, Debug)]
struct Backtracking {
    pattern: String,
    /// One for each of [`TURNS`], compiled when a text of that length comes.
    engines: [OnceLock<fancy_regex::Regex>; TURNS.len()],
}

/// Work done once for a literal argument.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// The compiled pattern of a [`Kind::Regex`](super::Kind::Regex) argument.
    Regex(Pattern),
}

/// The groups of one match; group 0 is the match.
pub enum Groups<'t> {
    /// Of the linear engine.
    Linear(regex::Captures<'t>),
    /// Of the backtracking engine.
    Backtracking(fancy_regex::Captures<'t, str>),
}

/// How long the backtracking searches of one evaluation have taken.
#[derive(Debug, Default)]
pub struct Searched(Cell<Duration>);

impl Searched {
    /// One more search.
    fn run<T>(&self, search: impl FnOnce() -> Result<T, fancy_regex::Error>) -> Result<T, Fault> {
        if self.0.get() >= TOGETHER {
            return Err(Fault::new(
                ErrorKind::RegexLimit,
                "look-around and back-references take too long on the texts of this message",
            ));
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "it is effort that is measured: no value of a rule depends on the time"
        )]
        let begun = Instant::now();
        let found = search();
        self.0.set(self.0.get() + begun.elapsed().min(OF_ONE));
        found.map_err(gave_up)
    }
}

impl<'t> Groups<'t> {
    /// How many groups the pattern has, the match included.
    pub fn count(&self) -> usize {
        match self {
            Self::Linear(captures) => captures.len(),
            Self::Backtracking(captures) => captures.len(),
        }
    }

    /// The text of a group, where it took part in the match.
    pub fn get(&self, group: usize) -> Option<&'t str> {
        match self {
            Self::Linear(captures) => captures.get(group).map(|found| found.as_str()),
            Self::Backtracking(captures) => captures.get(group).map(|found| found.as_str()),
        }
    }

    /// Where the match starts and ends, in bytes.
    pub fn place(&self) -> (usize, usize) {
        let place = match self {
            Self::Linear(captures) => captures.get(0).map(|found| (found.start(), found.end())),
            Self::Backtracking(captures) => {
                captures.get(0).map(|found| (found.start(), found.end()))
            }
        };
        place.unwrap_or_default()
    }
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Why it is none, in one line.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let linear = RegexBuilder::new(&with_ascii_classes(pattern, &LINEAR_BOUNDARIES))
            .size_limit(SIZE_LIMIT_BYTES)
            .dfa_size_limit(SIZE_LIMIT_BYTES)
            .build();
        let error = match linear {
            Ok(regex) => return Ok(Self(Engine::Linear(regex))),
            Err(error) => one_line(&error),
        };
        if !["look-around", "backreferences"]
            .iter()
            .any(|feature| error.contains(feature))
        {
            return Err(error);
        }
        Backtracking::new(pattern).map(|regex| Self(Engine::Backtracking(Box::new(regex))))
    }

    /// Whether a search takes a time that grows with the text's length only, and so never fails.
    pub fn is_linear(&self) -> bool {
        matches!(self.0, Engine::Linear(_))
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
    ///
    /// # Errors
    /// [`ErrorKind::RegexLimit`] when the backtracking engine gives up.
    pub fn is_match(&self, text: &str, searched: &Searched) -> Result<bool, Fault> {
        match &self.0 {
            Engine::Linear(regex) => Ok(regex.is_match(text)),
            Engine::Backtracking(regex) => {
                let regex = regex.for_text(text)?;
                searched.run(|| regex.is_match(text))
            }
        }
    }

    /// The groups of the first match.
    ///
    /// # Errors
    /// As [`is_match`](Self::is_match).
    pub fn captures<'t>(
        &self,
        text: &'t str,
        searched: &Searched,
    ) -> Result<Option<Groups<'t>>, Fault> {
        match &self.0 {
            Engine::Linear(regex) => Ok(regex.captures(text).map(Groups::Linear)),
            Engine::Backtracking(regex) => {
                let regex = regex.for_text(text)?;
                let found = searched.run(|| regex.captures(text))?;
                Ok(found.map(Groups::Backtracking))
            }
        }
    }

    /// The groups of every match, left to right. After an error there is no further one.
    pub fn captures_iter<'r, 't>(
        &'r self,
        text: &'t str,
        searched: &'r Searched,
    ) -> Box<dyn Iterator<Item = Result<Groups<'t>, Fault>> + 'r>
    where
        't: 'r,
    {
        match &self.0 {
            Engine::Linear(regex) => Box::new(
                regex
                    .captures_iter(text)
                    .map(|found| Ok(Groups::Linear(found))),
            ),
            Engine::Backtracking(regex) => match regex.for_text(text) {
                Ok(regex) => {
                    let mut matches = regex.captures_iter(text);
                    Box::new(std::iter::from_fn(move || {
                        let found = searched.run(|| matches.next().transpose()).transpose()?;
                        Some(found.map(Groups::Backtracking))
                    }))
                }
                Err(fault) => Box::new(std::iter::once(Err(fault))),
            },
        }
    }
}

impl Backtracking {
    fn new(pattern: &str) -> Result<Self, String> {
        let pattern = with_ascii_classes(pattern, &SPELLED_BOUNDARIES);
        let (_, turns) = TURNS[0];
        let first = Self::compiled(&pattern, turns)?;
        Ok(Self {
            pattern,
            engines: [first.into(), OnceLock::new(), OnceLock::new()],
        })
    }

    fn compiled(pattern: &str, turns: usize) -> Result<fancy_regex::Regex, String> {
        fancy_regex::RegexBuilder::new(pattern)
            .backtrack_limit(turns)
            .delegate_size_limit(SIZE_LIMIT_BYTES)
            .delegate_dfa_size_limit(SIZE_LIMIT_BYTES)
            .build()
            .map_err(|error| error.to_string())
    }

    /// The engine with the limit for a text of that length.
    fn for_text(&self, text: &str) -> Result<&fancy_regex::Regex, Fault> {
        let fitting = TURNS
            .iter()
            .zip(&self.engines)
            .find(|((longest, _), _)| text.len() <= *longest);
        let Some(((_, turns), engine)) = fitting else {
            return Err(Fault::new(
                ErrorKind::RegexLimit,
                "look-around and back-references take texts of up to 32 KiB",
            ));
        };
        if let Some(engine) = engine.get() {
            return Ok(engine);
        }
        let compiled = Self::compiled(&self.pattern, *turns)
            .map_err(|error| Fault::new(ErrorKind::BadArgument, error))?;
        Ok(engine.get_or_init(|| compiled))
    }
}

fn gave_up(error: fancy_regex::Error) -> Fault {
    Fault::new(
        ErrorKind::RegexLimit,
        format!("the regular expression takes too long on this text: {error}"),
    )
}

/// What `\b` and `\B` become.
type Boundaries = [&'static str; 2];
const LINEAR_BOUNDARIES: Boundaries = [r"(?-u:\b)", r"(?-u:\B)"];
const SPELLED_BOUNDARIES: Boundaries = [
    "(?:(?<![0-9A-Za-z_])(?=[0-9A-Za-z_])|(?<=[0-9A-Za-z_])(?![0-9A-Za-z_]))",
    "(?:(?<![0-9A-Za-z_])(?![0-9A-Za-z_])|(?<=[0-9A-Za-z_])(?=[0-9A-Za-z_]))",
];

/// Spells `\d \w \s \b` and their opposites out in ASCII: turning Unicode off would also change `.` and letters.
fn with_ascii_classes(pattern: &str, boundaries: &Boundaries) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    // Brackets nest in this syntax: `[a-z&&[^b]]`.
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                // `\b{start}` and its kin are word boundaries of the engine's own.
                Some('b') if depth == 0 && chars.peek() != Some(&'{') => {
                    out.push_str(boundaries[0]);
                }
                Some('B') if depth == 0 => out.push_str(boundaries[1]),
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

    /// Of an evaluation that has not searched yet.
    fn alone() -> Searched {
        Searched::default()
    }

    #[test]
    fn classes_are_ascii_and_the_dot_is_a_code_point() {
        assert!(
            !Pattern::new(r"^\d$")
                .unwrap()
                .is_match("٣", &alone())
                .unwrap()
        );
        assert!(
            !Pattern::new(r"^[\d\w]$")
                .unwrap()
                .is_match("é", &alone())
                .unwrap()
        );
        assert!(
            Pattern::new(r"^[^\d]$")
                .unwrap()
                .is_match("é", &alone())
                .unwrap()
        );
        assert!(
            Pattern::new(r"^.$")
                .unwrap()
                .is_match("é", &alone())
                .unwrap()
        );
        assert!(
            Pattern::new(r"\bb\b")
                .unwrap()
                .is_match("é b", &alone())
                .unwrap()
        );
        assert!(
            Pattern::new(r"éb\B")
                .unwrap()
                .is_match("ébc", &alone())
                .unwrap()
        );
        assert!(
            Pattern::new(r"^\\d$")
                .unwrap()
                .is_match(r"\d", &alone())
                .unwrap()
        );
        assert!(
            Pattern::new(r"^[]a]+$")
                .unwrap()
                .is_match("]a", &alone())
                .unwrap()
        );
        assert!(
            Pattern::new(r"^[[:alpha:]\s]+$")
                .unwrap()
                .is_match("a b", &alone())
                .unwrap()
        );
        assert!(
            !Pattern::new(r"a$")
                .unwrap()
                .is_match("a\n", &alone())
                .unwrap()
        );
    }

    #[test]
    fn a_bad_pattern_says_why_in_one_line() {
        assert_eq!(Pattern::new("(").unwrap_err(), "unclosed group");
        assert!(Pattern::new(r"(\w{9000}){9000}").is_err());
    }

    #[test]
    fn look_around_and_back_references_work_within_a_number_of_steps() {
        let pattern = Pattern::new(r"^(?!a)(\w)\1\b(?<=b)").unwrap();
        assert!(!pattern.is_linear());
        assert!(pattern.is_match("bb-", &alone()).unwrap());
        assert!(
            pattern.is_match("bbé", &alone()).unwrap(),
            "é is no word character"
        );
        assert!(!pattern.is_match("aa", &alone()).unwrap());
        assert!(!pattern.is_match("bbb", &alone()).unwrap());
        assert_eq!(
            pattern.captures("bb", &alone()).unwrap().unwrap().get(1),
            Some("b")
        );
        assert!(Pattern::new(r"(?=a").is_err());
        let explodes = Pattern::new(r"^(a|aa|aaa)+\1b$").unwrap();
        let error = explodes
            .is_match(&format!("{}!", "a".repeat(64)), &alone())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RegexLimit);
    }

    #[test]
    fn longer_texts_leave_fewer_turns() {
        let quadratic = Pattern::new(r"^(a*)(a*)\1\2b$").unwrap();
        let is_match = |length| quadratic.is_match(&"a".repeat(length), &alone());
        assert!(!is_match(600).unwrap(), "hundreds of thousands of turns");
        assert_eq!(is_match(1100).unwrap_err().kind(), ErrorKind::RegexLimit);
        let simple = Pattern::new(r"(?<=x)y(?!z)").unwrap();
        for length in [10, 1_000, 8_000, 32_000] {
            let text = format!("{}xy", "-".repeat(length));
            assert!(simple.is_match(&text, &alone()).unwrap(), "{length}");
        }
        let long = "-".repeat(33_000);
        assert_eq!(
            simple.is_match(&long, &alone()).unwrap_err().kind(),
            ErrorKind::RegexLimit
        );
    }

    #[test]
    fn recent_patterns_are_kept_and_forgotten() {
        for n in 0..100 {
            assert!(
                Pattern::recent(&format!("^a{n}$"))
                    .unwrap()
                    .is_match(&format!("a{n}"), &alone())
                    .unwrap()
            );
        }
        let first = Pattern::recent("^a99$").unwrap();
        assert!(Arc::ptr_eq(&first, &Pattern::recent("^a99$").unwrap()));
    }

    #[test]
    fn the_searches_of_one_evaluation_have_a_time_together() {
        let searched = Searched::default();
        let pattern = Pattern::new(r"(?=a)a").unwrap();
        assert!(pattern.is_match("a", &searched).unwrap());
        searched.0.set(TOGETHER);
        let limit = |fault: Fault| fault.kind() == ErrorKind::RegexLimit;
        assert!(limit(pattern.is_match("a", &searched).unwrap_err()));
        assert!(pattern.captures("a", &searched).is_err_and(limit));
        let found = pattern.captures_iter("a", &searched).next();
        assert!(found.is_some_and(|found| found.is_err_and(limit)));
        let linear = Pattern::new("a").unwrap();
        assert!(linear.is_match("a", &searched).unwrap());
    }

    #[test]
    fn many_matches_that_are_dear_each_end_together() {
        let pattern = Pattern::new(r"(?=(a*)(a*)\1c)|a").unwrap();
        let text = "a".repeat(1000);
        let searched = Searched::default();
        let found: Result<Vec<_>, Fault> = pattern.captures_iter(&text, &searched).collect();
        let fault = found.err().unwrap();
        assert_eq!(fault.kind(), ErrorKind::RegexLimit);
        assert!(fault.message().contains("of this message"), "{fault:?}");
    }
}
