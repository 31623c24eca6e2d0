//! Topics that say how a message is to be treated: `$delayed/{seconds}/topic` and `$retain/{seconds}/topic`.
//!
//! `$delayed` publishes later; `$retain` lets a retained message expire, 0 for never. `$delayed` may stand before
//! `$retain`, and each once.

use weir_mqtt::{TopicName, Utf8};

/// The longest delay: 42 days, as other brokers have it, and a little more.
pub const MAX_DELAY_S: u32 = 4_294_967;

/// A topic without its prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Treated {
    /// Where the message goes.
    pub topic: Utf8,
    /// How much later, in seconds.
    pub delay_s: Option<u32>,
    /// How long it is retained, in seconds.
    pub retain_s: Option<u32>,
}

impl Treated {
    /// Only what is retained can be retained for a time.
    ///
    /// # Errors
    /// `$retain/…` of a message without the RETAIN flag.
    pub fn check_retain(&self, retain: bool) -> Result<(), &'static str> {
        if self.retain_s.is_some() && !retain {
            return Err("`$retain` is for messages with the RETAIN flag");
        }
        Ok(())
    }
}

/// Takes the prefixes off; `None` when there is none.
///
/// # Errors
/// What is wrong with them.
pub fn treat(topic: &Utf8) -> Result<Option<Treated>, &'static str> {
    let mut rest: &str = topic;
    let mut delay_s = None;
    let mut retain_s = None;
    if let Some(after) = rest.strip_prefix("$delayed/") {
        let (seconds, after) = number(after).ok_or("expected `$delayed/{seconds}/topic`")?;
        if seconds > MAX_DELAY_S {
            return Err("a message cannot be delayed for more than 4294967 seconds");
        }
        (delay_s, rest) = (Some(seconds), after);
    }
    if let Some(after) = rest.strip_prefix("$retain/") {
        let (seconds, after) = number(after).ok_or("expected `$retain/{seconds}/topic`")?;
        (retain_s, rest) = (Some(seconds), after);
    }
    if delay_s.is_none() && retain_s.is_none() {
        return Ok(None);
    }
    if ["$delayed/", "$retain/"]
        .iter()
        .any(|prefix| rest.starts_with(prefix))
    {
        return Err("`$delayed` may stand before `$retain`, and each once");
    }
    let topic = TopicName::new(rest).map_err(|_| "the topic after the prefix is empty")?;
    Ok(Some(Treated {
        topic: topic.into_utf8(),
        delay_s,
        retain_s,
    }))
}

fn number(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_once('/')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then_some(())?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn treated(topic: &'static str) -> Result<Option<Treated>, &'static str> {
        treat(&Utf8::from(topic))
    }

    #[test]
    fn prefixes_are_taken_off_in_their_order() {
        let with = |topic, delay_s, retain_s| {
            Ok(Some(Treated {
                topic: Utf8::from(topic),
                delay_s,
                retain_s,
            }))
        };
        assert_eq!(treated("$delayed/15/a/b"), with("a/b", Some(15), None));
        assert_eq!(treated("$retain/0/a"), with("a", None, Some(0)));
        assert_eq!(
            treated("$delayed/1/$retain/2//a"),
            with("/a", Some(1), Some(2))
        );
        assert_eq!(treated("$delayed/1/$SYS/x"), with("$SYS/x", Some(1), None));
    }

    #[test]
    fn other_topics_are_left_alone() {
        for topic in ["a", "$SYS/x", "$delayedx/1/a", "$retain", "x/$retain/1/a"] {
            assert_eq!(treated(topic), Ok(None), "{topic}");
        }
    }

    #[test]
    fn what_is_no_number_of_seconds_or_has_no_topic_is_wrong() {
        for topic in [
            "$delayed/a",
            "$delayed/a/b",
            "$delayed//b",
            "$delayed/+1/b",
            "$delayed/-1/b",
            "$delayed/1/",
            "$delayed/4294968/b",
            "$delayed/99999999999999/b",
            "$retain/x/b",
            "$retain/1/",
            "$retain/1/$delayed/2/a",
            "$retain/1/$retain/2/a",
            "$delayed/1/$delayed/2/a",
        ] {
            assert!(treated(topic).is_err(), "{topic}");
        }
    }
}
