//! What is known of a cloud beforehand: limits that it enforces and topics that it takes.

use std::time::Duration;

/// The data of one kind of remote broker.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Its name in connector files.
    pub name: &'static str,
    /// The highest `QoS`.
    pub qos_cap: u8,
    /// Whether it takes retained messages.
    pub retain: bool,
    /// How often an idle link is tested.
    pub keepalive: Duration,
    /// What it enforces for that.
    pub keepalive_bounds: Option<(Duration, Duration)>,
    /// The largest payload.
    pub max_payload: Option<usize>,
    /// Messages a second at `QoS` 0 and at `QoS` 1; more is thrown away without a word.
    pub rate: Option<(u32, u32)>,
    /// The shortest time between two CONNECTs.
    pub connect_spacing: Duration,
    /// The first wait after a failure.
    pub backoff_base: Duration,
    /// Unacknowledged messages.
    pub max_inflight: u16,
    /// The longest topic, and its most slashes.
    pub topic_limits: Option<(usize, usize)>,
    /// Whether only MQTT 3.1.1 can be counted on.
    pub v311: bool,
}

/// Any MQTT broker.
pub const PLAIN: Preset = Preset {
    name: "plain",
    qos_cap: 2,
    retain: true,
    keepalive: Duration::from_secs(60),
    keepalive_bounds: None,
    max_payload: None,
    rate: None,
    connect_spacing: Duration::from_secs(1),
    backoff_base: Duration::from_secs(5),
    max_inflight: 100,
    topic_limits: None,
    v311: false,
};

/// Aliyun IoT Platform with a device secret.
pub const ALIYUN_IOT: Preset = Preset {
    name: "aliyun_iot",
    qos_cap: 1,
    retain: false,
    keepalive: Duration::from_secs(300),
    keepalive_bounds: Some((Duration::from_secs(30), Duration::from_secs(1200))),
    max_payload: Some(256 * 1024),
    rate: Some((30, 10)),
    connect_spacing: Duration::from_secs(12),
    backoff_base: Duration::from_secs(12),
    max_inflight: 100,
    topic_limits: Some((128, 7)),
    v311: true,
};

/// Clouds that are described but not signed by this version.
pub const LATER: &[&str] = &[
    "aliyun_mq",
    "tencent_iot",
    "huawei_iotda",
    "baidu_iotcore",
    "onenet",
    "azure_iothub",
    "aws_iot",
    "clearblade",
    "thingsboard",
    "cumulocity",
];

/// The product and device that a topic has to belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOwner {
    /// The product.
    pub product_key: String,
    /// The device.
    pub device_name: String,
}

/// What may stand before product and device; `+` is any level.
const OWN_PREFIXES: &[&[&str]] = &[
    &[],
    &["sys"],
    &["shadow", "+"],
    &["ota", "device", "+"],
    &["ext", "+"],
    &["ext", "+", "+"],
];

impl TopicOwner {
    /// Whether the topic belongs to the device: product and device at the levels of a known form.
    pub fn owns(&self, topic: &str) -> bool {
        self.matches(topic, |level, wanted| level == wanted)
    }

    /// The same for a template: a level with a place in it may become what it has to be.
    pub fn owns_template(&self, topic: &str) -> bool {
        self.matches(topic, |level, wanted| {
            level == wanted || level.contains("${")
        })
    }

    fn matches(&self, topic: &str, same: impl Fn(&str, &str) -> bool) -> bool {
        let Some(topic) = topic.strip_prefix('/') else {
            return false;
        };
        let levels: Vec<_> = topic.split('/').collect();
        OWN_PREFIXES.iter().any(|prefix| {
            let Some((head, tail)) = levels.split_at_checked(prefix.len()) else {
                return false;
            };
            head.iter()
                .zip(*prefix)
                .all(|(level, wanted)| *wanted == "+" || same(level, wanted))
                && matches!(tail, [product, device, _, ..] | [product, device]
                    if same(product, &self.product_key) && same(device, &self.device_name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_topics_of_the_device_are_owned() {
        let owner = TopicOwner {
            product_key: "pk".into(),
            device_name: "gw".into(),
        };
        for topic in [
            "/sys/pk/gw/thing/event/property/post",
            "/pk/gw/user/up",
            "/shadow/update/pk/gw",
            "/ota/device/inform/pk/gw",
        ] {
            assert!(owner.owns(topic), "{topic}");
        }
        for topic in [
            "/sys/pk/other/thing/event/property/post",
            "sys/pk/gw/thing",
            "/sys/gw/pk/thing",
            "/a/b/c/d/pk/gw",
            "",
            "/sys/pk",
            "/sys/xpk/gw/thing",
        ] {
            assert!(!owner.owns(topic), "{topic}");
        }
        assert!(owner.owns_template("/sys/pk/${device}/thing"));
        assert!(!owner.owns_template("/sys/other/${device}/thing"));
    }
}
