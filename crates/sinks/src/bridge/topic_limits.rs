//! How long a topic a cloud takes, and what else it does not take on some.

/// The longest topic of a cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// How long it may be.
    pub longest: Longest,
    /// How many slashes it may have.
    pub slashes: usize,
    /// How many levels are not counted at the beginning of topics with this one, with their slashes.
    pub uncounted: Option<(&'static str, usize)>,
}

/// How long a topic may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Longest {
    /// In bytes of UTF-8.
    Bytes(usize),
    /// In characters.
    Characters(usize),
}

impl TopicLimits {
    /// So many bytes, and slashes.
    pub(super) const fn bytes(longest: usize, slashes: usize) -> Self {
        Self {
            longest: Longest::Bytes(longest),
            slashes,
            uncounted: None,
        }
    }

    /// Whether the topic is within them.
    pub fn allow(&self, topic: &str) -> bool {
        let counted = self.counted(topic);
        let is_short = match self.longest {
            Longest::Bytes(most) => counted.len() <= most,
            Longest::Characters(most) => counted.chars().count() <= most,
        };
        is_short && counted.matches('/').count() <= self.slashes
    }

    fn counted<'t>(&self, topic: &'t str) -> &'t str {
        let Some((beginning, levels)) = self.uncounted else {
            return topic;
        };
        if !topic.starts_with(beginning) {
            return topic;
        }
        topic.splitn(levels + 1, '/').nth(levels).unwrap_or(topic)
    }
}

impl std::fmt::Display for TopicLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.longest {
            Longest::Bytes(most) => write!(f, "{most} bytes")?,
            Longest::Characters(most) => write!(f, "{most} characters")?,
        }
        if self.slashes < usize::MAX {
            write!(f, " or {} slashes", self.slashes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::bridge::preset::{ALIYUN_MQ, AWS_IOT, TENCENT_IOT};

    #[test]
    fn the_way_to_a_rule_of_aws_is_not_counted() {
        let limits = AWS_IOT.topic_limits.unwrap();
        let seven = "a/b/c/d/e/f/g/h";
        for (topic, fits) in [
            (seven.to_owned(), true),
            (format!("{seven}/i"), false),
            (format!("$aws/rules/r/{seven}"), true),
            (format!("$aws/rules/r/{seven}/i"), false),
            (format!("$aws/things/t/{seven}"), false),
            ("t".repeat(256), true),
            ("t".repeat(257), false),
            (format!("$aws/rules/r/{}", "t".repeat(256)), true),
            (format!("$aws/rules/{}", "t".repeat(256)), false),
        ] {
            assert_eq!(limits.allow(&topic), fits, "{topic}");
        }
    }

    #[test]
    fn a_limit_is_told_in_what_it_counts() {
        assert_eq!(ALIYUN_MQ.topic_limits.unwrap().to_string(), "64 characters");
        let tencent = TENCENT_IOT.topic_limits.unwrap().to_string();
        assert_eq!(tencent, "255 bytes or 6 slashes");
    }
}
