//! What the user has to know about an import.

use serde::Serialize;

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// weir has nothing like it: it was left out.
    NotTaken,
    /// Something is to be done before it works: a variable to set, a file to bring.
    Todo,
    /// It was taken and does not do quite the same.
    Changed,
}

impl Level {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotTaken => "not taken",
            Self::Todo => "to do",
            Self::Changed => "changed",
        }
    }
}

/// One thing that the user has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// What it is about: `rule hot_rooms`, `connector pg_main`, `export`.
    pub of: String,
    /// The thing, in a sentence.
    pub text: String,
}

/// Notes as they come up.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Vec<Note>);

impl Notes {
    pub(crate) fn add(&mut self, level: Level, of: &str, text: impl Into<String>) {
        let note = Note {
            level,
            of: of.to_owned(),
            text: text.into(),
        };
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}
