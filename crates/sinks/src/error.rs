//! What can go wrong with a sink, for the operator (`SinkError`), for the author of a file (`ConfigError`)
//! and for one row (`RenderError`).

use std::fmt;

/// A failure of delivery: code, sentence, causes. Cheap enough to be given to every record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    code: &'static str,
    message: String,
    causes: Vec<String>,
    /// What the far side said that may quote a row.
    detail: String,
    configuration: bool,
}

impl SinkError {
    /// A failure with a code of [`crate::codes`] and a sentence.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            detail: String::new(),
            configuration: false,
        }
    }

    /// Adds what the far side said and what may quote a row: shown with the error, never logged.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The error without what may quote a row.
    pub fn for_log(&self) -> impl fmt::Display + '_ {
        ForLog(self)
    }

    /// Adds what `error` and its sources say.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Wrappers often repeat their source's text at the end of their own.
            if !self.causes.last().is_some_and(|last| last.ends_with(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Marks a failure that stays until somebody changes the configuration or the far side's schema.
    #[must_use]
    pub fn configuration(mut self) -> Self {
        self.configuration = true;
        self
    }

    /// Whether it stays until somebody changes something; the sink is then shown as paused.
    pub fn is_configuration(&self) -> bool {
        self.configuration
    }

    /// The code, e.g. `E3401`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence, without its causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What it was caused by, nearest first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SinkError {}

struct ForLog<'e>(&'e SinkError);

impl fmt::Display for ForLog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for cause in &self.0.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

/// A mistake in a `[[sinks]]` table or a connector file. The caller knows the file and finds the key's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `E30xx` for sinks, `E41xx` for bridges; `W3xxx` for a warning.
    pub code: &'static str,
    /// The key it is about, dotted (`batch.max_rows`).
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would cure it.
    pub help: Option<String>,
}

impl ConfigError {
    /// A mistake at `key`.
    pub fn new(code: &'static str, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            key: key.into(),
            message: message.into(),
            help: None,
        }
    }

    /// Says what would cure it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether it is only a warning.
    pub fn is_warning(&self) -> bool {
        self.code.starts_with('W')
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.key, self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A row that cannot be rendered for its sink: it goes to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// The code, e.g. `E3101` for a missing field.
    pub code: &'static str,
    /// What is wrong, naming the field where there is one.
    pub message: String,
}

impl RenderError {
    /// A row that cannot be rendered.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<RenderError> for SinkError {
    fn from(error: RenderError) -> Self {
        Self::new(error.code, error.message)
    }
}
