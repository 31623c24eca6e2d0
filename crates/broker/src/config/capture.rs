//! `[capture]`: what is kept of messages for `weir replay`.

use std::time::Duration;

use serde::Deserialize;
use weir_mqtt::TopicFilter;
use weir_store::capture::Bounds;

use super::{ByteSize, Span};

/// Less would hold no message of the usual size.
const LEAST_BYTES: usize = 64 << 10;

/// `[capture]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// Messages of these topic filters are kept for a while, at any QoS; none unless set.
    pub filters: Vec<String>,
    /// How long they are kept.
    pub max_age: Span,
    /// How many bytes of them are kept; the oldest go.
    pub max_bytes: ByteSize,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            max_age: Span(Duration::from_secs(24 * 60 * 60)),
            max_bytes: ByteSize::mib(1024),
        }
    }
}

impl Capture {
    pub(super) fn check(&self, refuse: &mut impl FnMut(String, &str)) {
        for (at, text) in self.filters.iter().enumerate() {
            if let Err(error) = TopicFilter::parse(text) {
                refuse(
                    format!("capture.filters[{at}] `{}`: {error}", text.escape_debug()),
                    "`+` stands for one level and `#` for all that follow: \"dev/+/up\", \"dev/#\"",
                );
            } else if text.starts_with("$share/") {
                refuse(
                    format!("capture.filters[{at}] `{text}` is a shared subscription"),
                    "leave out `$share/` and the name behind it: a capture takes every message",
                );
            }
        }
        if self.max_bytes.bytes() < LEAST_BYTES {
            refuse(
                "capture.max_bytes is less than 64KiB".to_owned(),
                "leave out [capture] to keep nothing",
            );
        }
        if self.max_age.0 < Duration::from_secs(1) {
            refuse(
                "capture.max_age is less than a second".to_owned(),
                "leave out [capture] to keep nothing",
            );
        }
    }

    /// The filters; those that are none were refused before.
    pub fn topic_filters(&self) -> Vec<TopicFilter> {
        let filters = self.filters.iter();
        filters
            .filter_map(|text| TopicFilter::parse(text).ok())
            .collect()
    }

    /// How much is kept.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            bytes: self.max_bytes.bytes() as u64,
            age: self.max_age.0,
        }
    }
}
