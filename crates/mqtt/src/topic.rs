//! Topic names and topic filters: what they may be, and which names a filter matches.
//!
//! Parsed once, they are right from then on. A name is matched as it stands: case, empty levels and leading
//! slashes count, and nothing is normalised `[MQTT-4.7.3-4]`.

use std::fmt;
use std::ops::Deref;

use crate::{DecodeError, Utf8, Utf8Error};

/// The name that a message is published to: not empty, no wildcard, no U+0000.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Utf8);

/// Why a text is not a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// `[MQTT-4.7.3-1]`
    #[error("a topic name must not be empty")]
    Empty,
    /// `[MQTT-3.3.2-2]`
    #[error("a topic name must not contain `+` or `#`")]
    Wildcard,
    /// Not fit for the wire.
    #[error(transparent)]
    Text(#[from] Utf8Error),
}

impl TopicName {
    /// A copy of `name`.
    pub fn new(name: &str) -> Result<Self, TopicError> {
        Self::parse(Utf8::new(name)?)
    }

    /// `name` itself.
    pub fn parse(name: Utf8) -> Result<Self, TopicError> {
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if has_wildcard(&name) {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the text that it is.
    pub fn as_utf8(&self) -> &Utf8 {
        &self.0
    }

    /// The name as the text that it is.
    pub fn into_utf8(self) -> Utf8 {
        self.0
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<TopicError> for DecodeError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Empty => Self::malformed("a topic name is empty"),
            TopicError::Wildcard => Self::malformed("a topic name contains a wildcard"),
            TopicError::Text(error) => error.into(),
        }
    }
}

/// Whether `text` has a character that only filters may have.
pub(crate) fn has_wildcard(text: &str) -> bool {
    // Without an early exit the compiler compares many bytes at once; topics are short.
    text.bytes()
        .fold(false, |found, byte| found | (byte == b'+') | (byte == b'#'))
}

/// A pattern of topic names: `+` stands for one level, a last `#` for any number of levels.
///
/// ```
/// use weir_mqtt::TopicFilter;
///
/// let filter = TopicFilter::parse("site/+/up")?;
/// assert!(filter.matches("site/7/up"));
/// assert!(!filter.matches("site/7/8/up"));
/// assert!(TopicFilter::parse("site/#")?.matches("site"));
/// assert!(!TopicFilter::parse("#")?.matches("$SYS/uptime"));
/// # Ok::<(), weir_mqtt::TopicFilterError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter {
    text: Utf8,
    wildcard: bool,
}

/// Why a text is not a topic filter, or not one that can be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicFilterError {
    /// `[MQTT-4.7.3-1]`
    #[error("a topic filter must not be empty")]
    Empty,
    /// `[MQTT-4.7.1-1]`
    #[error("`#` must be the last level of a topic filter, and alone there")]
    MultiLevelWildcard,
    /// `[MQTT-4.7.1-2]`
    #[error("`+` must be alone in its level of a topic filter")]
    SingleLevelWildcard,
    /// `[MQTT-4.8.2-1]`
    #[error(
        "a shared subscription needs a group name without `+` and `#`, as in `$share/group/filter`"
    )]
    Group,
    /// `[MQTT-4.8.2-2]`
    #[error(
        "a shared subscription needs a topic filter after its group, as in `$share/group/filter`"
    )]
    Unshared,
    /// Not fit for the wire.
    #[error(transparent)]
    Text(#[from] Utf8Error),
}

impl TopicFilter {
    /// A copy of `filter`, if it is one.
    pub fn parse(filter: &str) -> Result<Self, TopicFilterError> {
        Self::try_from(Utf8::new(filter)?)
    }

    /// The filter.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The filter as the text that it is.
    pub fn as_utf8(&self) -> &Utf8 {
        &self.text
    }

    /// Whether there is no wildcard, so that the one name that matches is the filter itself.
    pub fn is_exact(&self) -> bool {
        !self.wildcard
    }

    /// How many levels the filter has: at least one. Each costs the index memory, so a server may limit them.
    pub fn levels(&self) -> usize {
        self.text.split('/').count()
    }

    /// Whether the topic name `topic` matches.
    pub fn matches(&self, topic: &str) -> bool {
        if !self.wildcard {
            return *self.text == *topic;
        }
        // [MQTT-4.7.2-1] A leading wildcard does not reach names that begin with `$`.
        if topic.starts_with('$') && self.text.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for part in self.text.split('/') {
            match (part, levels.next()) {
                // Also when no level is left: `sport/#` matches `sport`. [MQTT-4.7.1-1]
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (part, Some(level)) if part == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// The same filter in memory of its own, so that keeping it does not keep the frame it came in.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            text: self.text.detached(),
            wildcard: self.wildcard,
        }
    }
}

impl TryFrom<Utf8> for TopicFilter {
    type Error = TopicFilterError;

    fn try_from(text: Utf8) -> Result<Self, TopicFilterError> {
        if text.is_empty() {
            return Err(TopicFilterError::Empty);
        }
        let wildcard = has_wildcard(&text);
        if wildcard {
            check_wildcards(&text)?;
        }
        Ok(Self { text, wildcard })
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn check_wildcards(filter: &str) -> Result<(), TopicFilterError> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(TopicFilterError::MultiLevelWildcard);
        }
        if level.contains('+') && level != "+" {
            return Err(TopicFilterError::SingleLevelWildcard);
        }
    }
    Ok(())
}

/// What a SUBSCRIBE or UNSUBSCRIBE names: a topic filter, for the client alone or for a group.
///
/// ```
/// use weir_mqtt::SubscriptionFilter;
///
/// let shared = SubscriptionFilter::parse("$share/workers/jobs/+")?;
/// assert_eq!(shared.share.as_deref(), Some("workers"));
/// assert_eq!(shared.filter.as_str(), "jobs/+");
/// assert_eq!(shared.to_string(), "$share/workers/jobs/+");
/// # Ok::<(), weir_mqtt::TopicFilterError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionFilter {
    /// The group that shares the subscription. `$queue/filter`, an older way to share, is the group `$queue`.
    pub share: Option<Utf8>,
    /// Which topic names match.
    pub filter: TopicFilter,
}

const SHARE: &str = "$share/";
const QUEUE: &str = "$queue/";

impl SubscriptionFilter {
    /// A copy of `text`, if it is a filter or a shared filter.
    pub fn parse(text: &str) -> Result<Self, TopicFilterError> {
        Self::try_from(Utf8::new(text)?)
    }

    /// The same filter in memory of its own, so that keeping it does not keep the frame it came in.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            share: self.share.as_ref().map(Utf8::detached),
            filter: self.filter.detached(),
        }
    }

    /// The length of the text.
    pub(crate) fn encoded_len(&self) -> usize {
        self.filter.as_str().len() + self.prefix().iter().map(|part| part.len()).sum::<usize>()
    }

    /// What stands before the filter proper.
    pub(crate) fn prefix(&self) -> [&str; 3] {
        match self.share.as_deref() {
            None => ["", "", ""],
            Some("$queue") => [QUEUE, "", ""],
            Some(group) => [SHARE, group, "/"],
        }
    }
}

impl TryFrom<Utf8> for SubscriptionFilter {
    type Error = TopicFilterError;

    fn try_from(text: Utf8) -> Result<Self, TopicFilterError> {
        let (group, filter) = if let Some(filter) = text.strip_prefix(QUEUE) {
            (Utf8::from("$queue"), filter)
        } else if let Some(shared) = text.strip_prefix(SHARE) {
            let (group, filter) = shared.split_once('/').ok_or(TopicFilterError::Unshared)?;
            if group.is_empty() || has_wildcard(group) {
                return Err(TopicFilterError::Group);
            }
            (text.slice_ref(group), filter)
        } else {
            return Ok(Self {
                share: None,
                filter: TopicFilter::try_from(text)?,
            });
        };
        if filter.is_empty() {
            return Err(TopicFilterError::Unshared);
        }
        let filter = TopicFilter::try_from(text.slice_ref(filter))?;
        Ok(Self {
            share: Some(group),
            filter,
        })
    }
}

impl From<TopicFilter> for SubscriptionFilter {
    fn from(filter: TopicFilter) -> Self {
        Self {
            share: None,
            filter,
        }
    }
}

impl fmt::Display for SubscriptionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix()
            .iter()
            .try_for_each(|part| f.write_str(part))?;
        self.filter.fmt(f)
    }
}

impl From<TopicFilterError> for DecodeError {
    fn from(error: TopicFilterError) -> Self {
        match error {
            TopicFilterError::Empty => Self::malformed("a topic filter is empty"),
            TopicFilterError::MultiLevelWildcard | TopicFilterError::SingleLevelWildcard => {
                Self::malformed("a topic filter has a wildcard in the wrong place")
            }
            TopicFilterError::Group | TopicFilterError::Unshared => {
                Self::malformed("a shared subscription without a valid group and filter")
            }
            TopicFilterError::Text(error) => error.into(),
        }
    }
}
