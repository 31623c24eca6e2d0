//! The files of a project described as JSON Schema (2020-12), for editors (user-experience §2).
//!
//! A test makes them from the types that read the files. Only `weir check` knows what keys mean together.

use clap::ValueEnum;

/// A kind of file that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// `rules/**/NAME.toml`
    Rule,
    /// `connectors/NAME.toml`
    Connector,
    /// `weir.toml`
    Config,
    /// `rules/**/NAME.test.toml` and `udf/NAME.test.toml`
    Test,
}

impl SchemaKind {
    /// The name of the schema's file, without its ending.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Connector => "connector",
            Self::Config => "config",
            Self::Test => "test",
        }
    }

    /// The text of the schema's file.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rule => include_str!("../../../../schemas/rule.json"),
            Self::Connector => include_str!("../../../../schemas/connector.json"),
            Self::Config => include_str!("../../../../schemas/config.json"),
            Self::Test => include_str!("../../../../schemas/test.json"),
        }
    }
}

#[cfg(test)]
mod tests;
