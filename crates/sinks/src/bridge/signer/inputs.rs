//! What a signer is given: texts, numbers and secrets by name. Shown to nobody: `Debug` names the keys alone.

use std::collections::BTreeMap;

use serde_json::Value;
use zeroize::Zeroizing;

use super::SignError;
use crate::secret::Secret;

/// The inputs of one signature.
#[derive(Clone, Default)]
pub struct Inputs(BTreeMap<String, Input>);

#[derive(Clone)]
enum Input {
    Text(String),
    Secret(Secret),
    Number(i64),
    Flag(bool),
    Pairs(Vec<(String, Secret)>),
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Inputs {
    /// The inputs of a JSON object; those that `is_secret` names are kept as secrets.
    ///
    /// # Errors
    /// No object, or a value of a kind that no input has.
    pub fn from_json(inputs: &Value, is_secret: impl Fn(&str) -> bool) -> Result<Self, SignError> {
        let Value::Object(given) = inputs else {
            return Err(SignError::Input("`inputs` has to be an object".into()));
        };
        let mut read = Self::default();
        for (key, value) in given {
            let input = match value {
                Value::Null => continue,
                Value::String(text) if is_secret(key) => Input::Secret(Secret::new(text.clone())),
                Value::String(text) => Input::Text(text.clone()),
                Value::Bool(flag) => Input::Flag(*flag),
                Value::Number(number) => Input::Number(number.as_i64().ok_or_else(|| {
                    SignError::Input(format!("`{key}` has to be an integer of 64 bits"))
                })?),
                Value::Array(_) | Value::Object(_) => Input::Pairs(pairs(key, value)?),
            };
            read.0.insert(key.clone(), input);
        }
        Ok(read)
    }

    /// Sets a text, where there is one.
    pub fn set_text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), Input::Text(value.to_owned()));
        }
    }

    /// Sets a secret, where there is one.
    pub fn set_secret(&mut self, key: &str, value: Option<&Secret>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), Input::Secret(value.clone()));
        }
    }

    /// Sets a number, where there is one.
    pub fn set_number(&mut self, key: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), Input::Number(value));
        }
    }

    /// Sets a switch, where there is one.
    pub fn set_flag(&mut self, key: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), Input::Flag(value));
        }
    }

    /// Sets pairs, where there are any.
    pub fn set_pairs(&mut self, key: &str, pairs: Vec<(String, Secret)>) {
        if !pairs.is_empty() {
            self.0.insert(key.to_owned(), Input::Pairs(pairs));
        }
    }

    /// Forgets an input.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// The names that are set.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether the input is set.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A value that is no secret.
    pub fn shown(&self, key: &str) -> Option<String> {
        self.optional(key).ok().flatten()
    }

    /// A text that may be absent. A secret is no text.
    pub(super) fn optional(&self, key: &str) -> Result<Option<String>, SignError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Input::Text(text)) => Ok(Some(text.clone())),
            Some(Input::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(SignError::Input(format!("`{key}` has to be a text"))),
        }
    }

    /// A text that is there, not empty, and holds neither control characters nor any of `forbidden`.
    pub(super) fn required(&self, key: &str, forbidden: &[char]) -> Result<String, SignError> {
        let text = self.optional(key)?.ok_or_else(|| missing(key))?;
        clean(key, &text, forbidden)?;
        Ok(text)
    }

    /// A secret that is there and not empty, its file read now.
    pub(super) fn secret(&self, key: &str) -> Result<Zeroizing<String>, SignError> {
        let secret = self.optional_secret(key)?.ok_or_else(|| missing(key))?;
        if secret.is_empty() {
            return Err(SignError::Input(format!("`{key}` is empty")));
        }
        Ok(secret)
    }

    /// A secret that may be absent.
    pub(super) fn optional_secret(
        &self,
        key: &str,
    ) -> Result<Option<Zeroizing<String>>, SignError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Input::Secret(secret)) => Ok(Some(secret.reveal()?)),
            Some(Input::Text(text)) => Ok(Some(Zeroizing::new(text.clone()))),
            Some(Input::Number(number)) => Ok(Some(Zeroizing::new(number.to_string()))),
            Some(_) => Err(SignError::Input(format!("`{key}` has to be a text"))),
        }
    }

    /// A secret that is base64.
    pub(super) fn key(&self, key: &str) -> Result<Zeroizing<Vec<u8>>, SignError> {
        // Where it goes wrong would tell of the secret.
        super::mac::key(&self.secret(key)?).ok_or_else(|| {
            SignError::Input(format!(
                "`{key}` is not base64 with padding; copy it whole from the console"
            ))
        })
    }

    /// An integer.
    pub(super) fn number(&self, key: &str) -> Result<Option<i64>, SignError> {
        let wrong = || SignError::Input(format!("`{key}` has to be an integer"));
        match self.0.get(key) {
            None => Ok(None),
            Some(Input::Number(number)) => Ok(Some(*number)),
            Some(Input::Text(text)) => text.parse().map(Some).map_err(|_| wrong()),
            Some(_) => Err(wrong()),
        }
    }

    /// Seconds that count forward.
    pub(super) fn seconds(&self, key: &str, default: i64) -> Result<i64, SignError> {
        match self.number(key)? {
            None => Ok(default),
            Some(number) if number > 0 => Ok(number),
            Some(_) => Err(SignError::Input(format!("`{key}` has to be above 0"))),
        }
    }

    /// A switch that is off unless set.
    pub(super) fn flag(&self, key: &str) -> Result<bool, SignError> {
        match self.0.get(key) {
            None => Ok(false),
            Some(Input::Flag(flag)) => Ok(*flag),
            Some(Input::Text(text)) if text == "true" => Ok(true),
            Some(Input::Text(text)) if text == "false" => Ok(false),
            Some(_) => Err(SignError::Input(format!("`{key}` has to be true or false"))),
        }
    }

    /// A list of [key, value].
    pub(super) fn pairs(&self, key: &str) -> Result<Vec<(String, Zeroizing<String>)>, SignError> {
        let wrong = || SignError::Input(format!("`{key}` is a list of [key, value]"));
        let read = match self.0.get(key) {
            None => return Ok(Vec::new()),
            Some(Input::Pairs(given)) => given.clone(),
            Some(Input::Text(text)) => {
                pairs(key, &serde_json::from_str(text).map_err(|_| wrong())?)?
            }
            Some(Input::Secret(secret)) => {
                let text = secret.reveal()?;
                pairs(key, &serde_json::from_str(&text).map_err(|_| wrong())?)?
            }
            Some(_) => return Err(wrong()),
        };
        read.into_iter()
            .map(|(name, value)| Ok((name, value.reveal()?)))
            .collect()
    }
}

fn missing(key: &str) -> SignError {
    SignError::Input(format!("`{key}` is missing"))
}

/// Whether a part may stand where it is put; the message does not repeat the part.
pub(super) fn clean(key: &str, text: &str, forbidden: &[char]) -> Result<(), SignError> {
    if text.is_empty() {
        return Err(SignError::Input(format!("`{key}` is empty")));
    }
    if text.contains(char::is_control) {
        return Err(SignError::Input(format!(
            "`{key}` holds a control character"
        )));
    }
    match text.chars().find(|letter| forbidden.contains(letter)) {
        None => Ok(()),
        Some(letter) => Err(SignError::Input(format!("`{key}` holds `{letter}`"))),
    }
}

fn pairs(key: &str, value: &Value) -> Result<Vec<(String, Secret)>, SignError> {
    let wrong = || SignError::Input(format!("`{key}` is a list of [key, value]"));
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(wrong()),
    };
    match value {
        Value::Array(list) => list
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([name, value]) => Ok((text(name)?, Secret::new(text(value)?))),
                _ => Err(wrong()),
            })
            .collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| Ok((name.clone(), Secret::new(text(value)?))))
            .collect(),
        _ => Err(wrong()),
    }
}
