//! Passwords, tokens and keys: never shown, wiped when dropped.
//!
//! A value that is wholly `${file:PATH}` is kept as the path and read each time it is needed, so that a rotated
//! credential needs no restart.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A secret of a connector or sink.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Origin);

#[derive(Clone, PartialEq, Eq)]
enum Origin {
    Text(Zeroizing<String>),
    File(PathBuf),
}

impl Secret {
    /// A secret given in the open.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        match text
            .strip_prefix("${file:")
            .and_then(|rest| rest.strip_suffix('}'))
        {
            Some(path) => Self(Origin::File(PathBuf::from(path))),
            None => Self(Origin::Text(Zeroizing::new(text))),
        }
    }

    /// The text, read anew when it lives in a file. One newline at the end is cut.
    pub fn reveal(&self) -> std::io::Result<Zeroizing<String>> {
        match &self.0 {
            Origin::Text(text) => Ok(text.clone()),
            Origin::File(path) => {
                let mut text = Zeroizing::new(std::fs::read_to_string(path)?);
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                Ok(text)
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_in_no_output() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.reveal().unwrap().as_str(), "hunter2");
    }

    #[test]
    fn a_secret_in_a_file_is_read_anew_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secret = Secret::new(format!("${{file:{}}}", file.path().display()));
        std::fs::write(file.path(), "first\n").unwrap();
        assert_eq!(secret.reveal().unwrap().as_str(), "first");
        std::fs::write(file.path(), "second").unwrap();
        assert_eq!(secret.reveal().unwrap().as_str(), "second");
    }
}
