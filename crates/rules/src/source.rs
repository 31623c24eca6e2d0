//! The entries of FROM (rule-SQL §4.1): topic filters, broker events, bridges.

use weir_mqtt::topic::TopicFilter;

use crate::event::{Event, EventName, REFUSED_EVENTS, What, event_names};
use crate::nearest::nearest;

/// One entry of FROM.
#[derive(Clone, Debug)]
pub enum SourceFilter {
    /// Every PUBLISH whose topic matches.
    Topic(TopicFilter),
    /// Broker events.
    Events {
        /// As it was written.
        text: String,
        /// The canonical topics of the events that match.
        topics: Vec<&'static str>,
    },
    /// Messages that came in over a bridge.
    Bridge {
        /// As it was written.
        text: String,
    },
}

/// Why an entry is none.
pub(crate) enum BadSource {
    /// E0105
    Filter(String),
    /// E0106, and what may have been meant.
    Event(String, Option<&'static str>),
}

impl SourceFilter {
    pub(crate) fn parse(text: &str) -> Result<Self, BadSource> {
        if let Some(rest) = text
            .strip_prefix("$bridges/")
            .or_else(|| text.strip_prefix("$sources/"))
        {
            return match rest.split_once(':') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(Self::Bridge {
                    text: text.to_owned(),
                }),
                _ => Err(BadSource::Event(
                    format!("`{text}` does not name a bridge as `type:name`"),
                    None,
                )),
            };
        }
        if text == "$events" || text.starts_with("$events/") {
            return Self::events(text);
        }
        for reserved in ["$share/", "$queue/", "$exclusive/"] {
            if text.starts_with(reserved) {
                let message = format!(
                    "`{reserved}…` has no meaning in FROM: a rule sees every message already"
                );
                return Err(BadSource::Filter(message));
            }
        }
        TopicFilter::parse(text)
            .map(Self::Topic)
            .map_err(|error| BadSource::Filter(format!("invalid topic filter: {error}")))
    }

    fn events(text: &str) -> Result<Self, BadSource> {
        if let Some((_, reason)) = REFUSED_EVENTS
            .iter()
            .find(|(prefix, _)| text.starts_with(prefix))
        {
            return Err(BadSource::Event(
                format!("unknown event source `{text}`: {reason}"),
                None,
            ));
        }
        let topics: Vec<_> = if text.contains(['+', '#']) {
            let filter = TopicFilter::parse(text)
                .map_err(|error| BadSource::Filter(format!("invalid topic filter: {error}")))?;
            let matching = |event: &&EventName| {
                filter.matches(event.topic)
                    || event.legacy.is_some_and(|legacy| filter.matches(legacy))
            };
            event_names()
                .iter()
                .filter(matching)
                .map(|event| event.topic)
                .collect()
        } else {
            EventName::find(text)
                .map(|event| event.topic)
                .into_iter()
                .collect()
        };
        if topics.is_empty() {
            let spellings = event_names()
                .iter()
                .flat_map(|event| std::iter::once(event.topic).chain(event.legacy));
            return Err(BadSource::Event(
                format!("unknown event source `{text}`"),
                nearest(text, spellings),
            ));
        }
        Ok(Self::Events {
            text: text.to_owned(),
            topics,
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Topic(filter) => filter.as_str(),
            Self::Events { text, .. } | Self::Bridge { text } => text,
        }
    }

    /// Whether both take the same messages, if under another spelling.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Topic(own), Self::Topic(other)) => own.as_str() == other.as_str(),
            (Self::Events { topics: own, .. }, Self::Events { topics: other, .. }) => own == other,
            (Self::Bridge { text: own }, Self::Bridge { text: other }) => {
                bridge_parts(own) == bridge_parts(other)
            }
            _ => false,
        }
    }

    /// Whether the event comes from this source.
    pub fn matches(&self, event: &Event) -> bool {
        match (self, &event.what) {
            (Self::Topic(filter), What::Publish(publish)) => publish
                .topic
                .as_str()
                .is_some_and(|topic| filter.matches(topic)),
            (Self::Events { topics, .. }, What::Broker { topic, .. }) => topics.contains(topic),
            (Self::Bridge { text }, What::Ingress { source, .. }) => source
                .as_str()
                .is_some_and(|source| bridge_matches(text, source)),
            _ => false,
        }
    }
}

/// The type and the name of a bridge.
fn bridge_parts(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("$bridges/")
        .or_else(|| text.strip_prefix("$sources/"))?
        .split_once(':')
}

/// `*` as a name matches every bridge of the type; `$sources/` and `$bridges/` name the same things.
pub(crate) fn bridge_matches(entry: &str, source: &str) -> bool {
    match (bridge_parts(entry), bridge_parts(source)) {
        (Some((kind, name)), Some((source_kind, source_name))) => {
            kind == source_kind && (name == "*" || name == source_name)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(text: &str) -> Vec<&'static str> {
        match SourceFilter::parse(text) {
            Ok(SourceFilter::Events { topics, .. }) => topics,
            _ => Vec::new(),
        }
    }

    #[test]
    fn event_wildcards_stand_for_the_events_that_they_match() {
        assert_eq!(
            topics("$events/client_connected"),
            ["$events/client/connected"]
        );
        assert_eq!(topics("$events/client/+").len(), 4);
        assert_eq!(topics("$events/#").len(), event_names().len());
    }

    #[test]
    fn a_bridge_matches_by_type_and_name() {
        assert!(bridge_matches("$bridges/mqtt:hq", "$bridges/mqtt:hq"));
        assert!(bridge_matches("$sources/mqtt:*", "$bridges/mqtt:hq"));
        assert!(!bridge_matches("$bridges/mqtt:hq", "$bridges/mqtt:hq2"));
        assert!(!bridge_matches("$bridges/http:*", "$bridges/mqtt:hq"));
    }
}
