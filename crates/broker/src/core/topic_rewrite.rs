//! Topics that are replaced by others on their way in, by rules of the operator.
//!
//! The first rule whose filter and pattern match a topic gives the new one; rules are applied once, not to their own
//! results. In SUBSCRIBE and UNSUBSCRIBE the filter is rewritten, without the share that it may have.

use regex::Regex;
use weir_mqtt::{SubscriptionFilter, TopicFilter, TopicName, Utf8};

/// Which packets a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteAction {
    /// PUBLISH.
    Publish,
    /// SUBSCRIBE and UNSUBSCRIBE.
    Subscribe,
    /// All of them.
    All,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct RewriteRule {
    action: RewriteAction,
    source: TopicFilter,
    pattern: Regex,
    destination: String,
}

impl PartialEq for RewriteRule {
    fn eq(&self, other: &Self) -> bool {
        let key = |rule: &Self| (rule.action, rule.pattern.to_string());
        key(self) == key(other)
            && self.source == other.source
            && self.destination == other.destination
    }
}

/// Who sent the packet.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// `%c`
    pub client_id: &'a str,
    /// `%u`
    pub username: &'a str,
}

impl RewriteRule {
    /// A rule. `pattern` is a regular expression, `destination` what takes the topic's place, with `$1` for groups of the
    /// pattern, `%c` for the client identifier and `%u` for the user name.
    ///
    /// # Errors
    /// What is wrong with the filter or the pattern.
    pub fn new(
        action: RewriteAction,
        source: &str,
        pattern: &str,
        destination: &str,
    ) -> Result<Self, String> {
        Ok(Self {
            action,
            source: TopicFilter::parse(source).map_err(|error| error.to_string())?,
            pattern: Regex::new(pattern).map_err(|error| error.to_string())?,
            destination: destination.to_owned(),
        })
    }

    fn apply(&self, topic: &str, sender: Sender<'_>) -> Option<String> {
        if !self.source.matches(topic) {
            return None;
        }
        let found = self.pattern.captures(topic)?;
        let mut text = String::new();
        let mut rest = self.destination.as_str();
        while let Some(at) = rest.find(['$', '%']) {
            let (before, place) = rest.split_at(at);
            text.push_str(before);
            rest = match place.as_bytes() {
                [b'%', b'c', ..] => {
                    text.push_str(sender.client_id);
                    &place[2..]
                }
                [b'%', b'u', ..] => {
                    text.push_str(sender.username);
                    &place[2..]
                }
                [b'$', digit @ b'0'..=b'9', ..] => {
                    let group = found.get(usize::from(digit - b'0'));
                    text.push_str(group.map_or("", |group| group.as_str()));
                    &place[2..]
                }
                _ => {
                    text.push_str(&place[..1]);
                    &place[1..]
                }
            };
        }
        text.push_str(rest);
        Some(text)
    }
}

/// All rules, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrites(Vec<RewriteRule>);

impl Rewrites {
    /// These rules.
    pub fn new(rules: Vec<RewriteRule>) -> Self {
        Self(rules)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn first(&self, but: RewriteAction, topic: &str, sender: Sender<'_>) -> Option<String> {
        self.0
            .iter()
            .filter(|rule| rule.action != but)
            .find_map(|rule| rule.apply(topic, sender))
    }

    /// The topic that a PUBLISH goes to; `None`: its own. What would be no topic name is not used.
    pub fn publish(&self, topic: &str, sender: Sender<'_>) -> Option<Utf8> {
        let text = self.first(RewriteAction::Subscribe, topic, sender)?;
        TopicName::new(&text).ok().map(TopicName::into_utf8)
    }

    /// The filter that a SUBSCRIBE or UNSUBSCRIBE is about; `None`: its own. What would be no filter is not used.
    pub fn filter(
        &self,
        filter: &SubscriptionFilter,
        sender: Sender<'_>,
    ) -> Option<SubscriptionFilter> {
        let text = self.first(RewriteAction::Publish, filter.filter.as_str(), sender)?;
        Some(SubscriptionFilter {
            share: filter.share.clone(),
            filter: TopicFilter::parse(&text).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Sender<'_> = Sender {
        client_id: "c1",
        username: "ann",
    };

    fn rules(rules: &[(RewriteAction, &str, &str, &str)]) -> Rewrites {
        let rules = rules.iter().map(|(action, source, pattern, destination)| {
            RewriteRule::new(*action, source, pattern, destination).unwrap()
        });
        Rewrites::new(rules.collect())
    }

    #[test]
    fn the_first_rule_that_matches_gives_the_topic() {
        use RewriteAction::{All, Publish, Subscribe};
        let rewrites = rules(&[
            (All, "y/+/z/#", "^y/(.+)/z/(.+)$", "y/z/$2"),
            (Subscribe, "x/#", "^x/(.*)$", "only-subscribe/$1"),
            (Publish, "x/#", "^x/y/(.+)$", "z/y/x/$1"),
            (All, "#", "^never$", "x"),
        ]);
        let published = |topic| {
            rewrites
                .publish(topic, SENDER)
                .map(|topic| topic.to_string())
        };
        assert_eq!(published("y/a/z/b").as_deref(), Some("y/z/b"));
        assert_eq!(published("x/y/1").as_deref(), Some("z/y/x/1"));
        assert_eq!(published("x/1"), None, "the pattern does not match");
        assert_eq!(published("q"), None);
        let filter = |text| {
            let filter = SubscriptionFilter::parse(text).unwrap();
            rewrites
                .filter(&filter, SENDER)
                .map(|filter| filter.to_string())
        };
        assert_eq!(filter("y/+/z/#").as_deref(), Some("y/z/#"));
        assert_eq!(
            filter("$share/g/x/y").as_deref(),
            Some("$share/g/only-subscribe/y")
        );
    }

    #[test]
    fn the_sender_stands_in_for_its_places() {
        let rewrites = rules(&[(
            RewriteAction::All,
            "me/#",
            "^me/(.+)$",
            "by/%c/%u/$1/100%/$x",
        )]);
        let topic = rewrites.publish("me/up", SENDER).unwrap();
        assert_eq!(topic, "by/c1/ann/up/100%/$x");
    }

    #[test]
    fn what_would_be_no_topic_is_not_used() {
        let rewrites = rules(&[(RewriteAction::All, "a/#", "^a/(.*)$", "$1")]);
        assert_eq!(rewrites.publish("a/", SENDER), None);
        let wild = rules(&[(RewriteAction::All, "a", "a", "b/#")]);
        assert_eq!(wild.publish("a", SENDER), None);
        let filter = SubscriptionFilter::parse("a").unwrap();
        assert_eq!(wild.filter(&filter, SENDER).unwrap().to_string(), "b/#");
    }

    #[test]
    fn a_rule_that_cannot_be_is_refused() {
        assert!(RewriteRule::new(RewriteAction::All, "a/#/b", "x", "y").is_err());
        assert!(RewriteRule::new(RewriteAction::All, "a", "(", "y").is_err());
    }
}
