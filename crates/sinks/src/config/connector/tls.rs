//! `tls = …` of connectors: whom to believe, and how the handshake is made.

use std::fmt;

use rustls::pki_types::ServerName;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::codes;
use crate::error::ConfigError;

/// `tls = { ca = "system", server_name = "…", insecure = false }`, `tls = true` or `tls = false`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(untagged))]
pub enum TlsChoice {
    /// On with the system's roots, or off.
    Switch(bool),
    /// On, with settings.
    Settings(TlsConfig),
}

impl Default for TlsChoice {
    fn default() -> Self {
        Self::Settings(TlsConfig::default())
    }
}

impl TlsChoice {
    /// The settings when TLS is on.
    pub fn settings(&self) -> Option<TlsConfig> {
        match self {
            Self::Switch(false) => None,
            Self::Switch(true) => Some(TlsConfig::default()),
            Self::Settings(settings) => Some(settings.clone()),
        }
    }
}

/// By hand, so that a mistake in the table is told as what it is.
impl<'de> Deserialize<'de> for TlsChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchOrTable;

        impl<'de> Visitor<'de> for SwitchOrTable {
            type Value = TlsChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a table as `{ ca = \"ca.pem\" }`")
            }

            fn visit_bool<E>(self, on: bool) -> Result<TlsChoice, E> {
                Ok(TlsChoice::Switch(on))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<TlsChoice, M::Error> {
                TlsConfig::deserialize(MapAccessDeserializer::new(map)).map(TlsChoice::Settings)
            }
        }

        deserializer.deserialize_any(SwitchOrTable)
    }
}

/// How a TLS server is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// `system` (default) or a file with certificates.
    pub ca: Option<String>,
    /// A file with the client's own certificates.
    pub cert: Option<String>,
    /// A file with the client's key.
    pub key: Option<String>,
    /// The name that the server's certificate must have, where it is not the host. A bridge asks for it, too (SNI).
    pub server_name: Option<String>,
    /// The protocols that the handshake names (ALPN), the first one preferred; for AWS on port 443 they follow from the
    /// preset.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// The oldest TLS that is spoken.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Believe any certificate. A warning is logged at every start.
    #[serde(default)]
    pub insecure: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

impl TlsConfig {
    /// What cannot be, for a table that is called `tls`.
    pub(crate) fn mistakes(&self) -> Vec<ConfigError> {
        let mut mistakes = Vec::new();
        let mut mistake = |key: &str, message: String, help: &str| {
            mistakes.push(ConfigError::new(codes::BAD_VALUE, key, message).help(help));
        };
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            mistake(
                "tls.server_name",
                format!("`{name}` is no name of a server"),
                "write the name alone: `server_name = \"broker.example.net\"`",
            );
        }
        // RFC 7301: a length of one byte that is not 0.
        let fits = |name: &String| (1..=255).contains(&name.len());
        if !self.alpn.iter().all(fits) {
            mistake(
                "tls.alpn",
                "a protocol's name has 1 to 255 bytes".to_owned(),
                "`alpn = [\"mqtt\"]`",
            );
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TlsChoice, String> {
        let table: toml::Table = toml::from_str(text).unwrap();
        let value = table["tls"].clone();
        TlsChoice::deserialize(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_switch_and_a_table_are_read_and_a_mistake_in_the_table_is_named() {
        assert_eq!(read("tls = false"), Ok(TlsChoice::Switch(false)));
        let table = read("tls = { alpn = [\"mqtt\"], min_version = \"1.3\" }").unwrap();
        let settings = table.settings().unwrap();
        assert_eq!(settings.alpn, ["mqtt"]);
        assert_eq!(settings.min_version, TlsVersion::V13);
        for (text, said) in [
            ("tls = { min_version = \"1.1\" }", "unknown variant `1.1`"),
            ("tls = { servername = \"h\" }", "unknown field `servername`"),
            ("tls = \"on\"", "true, false or a table"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn names_that_no_handshake_can_carry_are_mistakes() {
        let keys = |text: &str| -> Vec<String> {
            let settings = read(text).unwrap().settings().unwrap();
            let mistakes = settings.mistakes().into_iter();
            mistakes.map(|mistake| mistake.key).collect()
        };
        assert!(keys("tls = { server_name = \"h.example\", alpn = [\"a\", \"b\"] }").is_empty());
        let wrong = "tls = { server_name = \"mqtts://h\", alpn = [\"\"] }";
        assert_eq!(keys(wrong), ["tls.server_name", "tls.alpn"]);
    }
}
