//! What is known of a cloud beforehand: limits that it enforces and topics that it takes.

use std::time::Duration;

use super::pace::Rate;
use super::signer::Inputs;
use super::topic_limits::{Longest, TopicLimits};

/// The data of one kind of remote broker.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Its name in connector files.
    pub name: &'static str,
    /// Its host, with `{key}` places; `None` where only the console knows it.
    pub host: Option<&'static str>,
    /// Keys of the connector file that only the host is made of.
    pub host_keys: &'static [&'static str],
    /// The ports without and with TLS; `None` where plain TCP is not spoken.
    pub ports: (Option<u16>, u16),
    /// The highest `QoS`.
    pub qos_cap: u8,
    /// Whether `QoS` cap and keep-alive bounds are enforced by the remote, or only our caution.
    pub hard: bool,
    /// Whether it takes retained messages.
    pub retain: bool,
    /// Whether it takes a will.
    pub will: bool,
    /// How often an idle link is tested.
    pub keepalive: Duration,
    /// What it enforces for that.
    pub keepalive_bounds: Option<(Duration, Duration)>,
    /// The largest payload.
    pub max_payload: Option<usize>,
    /// The largest packet.
    pub max_packet: Option<usize>,
    /// How many messages it takes a second; more is thrown away without a word.
    pub rate: Option<Rate>,
    /// How many bytes a second.
    pub byte_rate: Option<u32>,
    /// How many filters it takes of a device.
    pub filters: Option<Filters>,
    /// The shortest time between two CONNECTs.
    pub connect_spacing: Duration,
    /// The first wait after a failure.
    pub backoff_base: Duration,
    /// Unacknowledged messages.
    pub max_inflight: u16,
    /// The longest topic.
    pub topic_limits: Option<TopicLimits>,
    /// Whether only MQTT 3.1.1 can be counted on.
    pub v311: bool,
    /// The topics that it takes, with `{key}` places, `+` and `#`; `!x` is any whose first level is not `x`. Empty: any.
    pub topics: &'static [&'static str],
    /// Those that only come from it, beside these.
    pub down: &'static [&'static str],
    /// Topics that begin so have no retained message.
    pub never_retained: Option<&'static str>,
}

impl Preset {
    /// Whether a message on this topic may be retained there.
    pub fn may_retain(&self, topic: &str) -> bool {
        let never = self.never_retained;
        self.retain && never.is_none_or(|beginning| !topic.starts_with(beginning))
    }
}

/// A number of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filters {
    /// The remote refuses more.
    Hard(usize),
    /// It may.
    Soft(usize),
}

/// Any MQTT broker.
pub const PLAIN: Preset = Preset {
    name: "plain",
    host: None,
    host_keys: &[],
    ports: (Some(1883), 8883),
    qos_cap: 2,
    hard: true,
    retain: true,
    will: true,
    keepalive: Duration::from_secs(60),
    keepalive_bounds: None,
    max_payload: None,
    max_packet: None,
    rate: None,
    byte_rate: None,
    filters: None,
    connect_spacing: Duration::from_secs(1),
    backoff_base: Duration::from_secs(5),
    max_inflight: 100,
    topic_limits: None,
    v311: false,
    topics: &[],
    down: &[],
    never_retained: None,
};

/// Aliyun IoT Platform.
pub const ALIYUN_IOT: Preset = Preset {
    name: "aliyun_iot",
    host: None,
    host_keys: &["region", "instance_id"],
    ports: (Some(1883), 1883),
    qos_cap: 1,
    hard: true,
    retain: false,
    will: false,
    keepalive: Duration::from_secs(300),
    keepalive_bounds: Some((Duration::from_secs(30), Duration::from_secs(1200))),
    max_payload: Some(256 * 1024),
    max_packet: None,
    rate: Some(Rate::ByQos {
        unacknowledged: 30,
        acknowledged: 10,
    }),
    byte_rate: Some(1_000_000),
    filters: Some(Filters::Soft(100)),
    connect_spacing: Duration::from_secs(12),
    backoff_base: Duration::from_secs(12),
    max_inflight: 100,
    topic_limits: Some(TopicLimits::bytes(128, 7)),
    v311: true,
    topics: &[
        "/{product_key}/{device_name}/#",
        "/sys/{product_key}/{device_name}/#",
        "/shadow/+/{product_key}/{device_name}/#",
        "/ota/device/+/{product_key}/{device_name}/#",
        "/ext/+/{product_key}/{device_name}/#",
        "/ext/+/+/{product_key}/{device_name}/#",
    ],
    down: &["/broadcast/{product_key}/#"],
    never_retained: None,
};

/// Aliyun MQ for MQTT.
pub const ALIYUN_MQ: Preset = Preset {
    name: "aliyun_mq",
    host: Some("{instance_id}.mqtt.aliyuncs.com"),
    host_keys: &[],
    ports: (Some(1883), 8883),
    qos_cap: 1,
    hard: false,
    retain: false,
    will: false,
    keepalive: Duration::from_secs(90),
    keepalive_bounds: Some((Duration::from_secs(30), Duration::from_secs(300))),
    max_payload: Some(64 * 1024),
    max_packet: None,
    rate: Some(Rate::All(20)),
    byte_rate: None,
    filters: Some(Filters::Soft(30)),
    connect_spacing: Duration::from_secs(5),
    backoff_base: Duration::from_secs(5),
    max_inflight: 20,
    topic_limits: Some(TopicLimits {
        longest: Longest::Characters(64),
        slashes: usize::MAX,
        uncounted: None,
    }),
    v311: true,
    topics: &[],
    down: &[],
    never_retained: None,
};

/// Tencent Cloud IoT Hub and IoT Explorer.
pub const TENCENT_IOT: Preset = Preset {
    name: "tencent_iot",
    host: Some("{product_id}.iotcloud.tencentdevices.com"),
    host_keys: &[],
    ports: (Some(1883), 8883),
    qos_cap: 1,
    hard: true,
    retain: false,
    will: false,
    keepalive: Duration::from_secs(240),
    keepalive_bounds: Some((Duration::from_secs(60), Duration::from_secs(850))),
    max_payload: Some(16 * 1024),
    max_packet: None,
    rate: Some(Rate::All(20)),
    byte_rate: None,
    filters: Some(Filters::Soft(100)),
    connect_spacing: Duration::from_secs(5),
    backoff_base: Duration::from_secs(5),
    max_inflight: 20,
    topic_limits: Some(TopicLimits::bytes(255, 6)),
    v311: true,
    topics: &[
        "{product_id}/{device_name}/#",
        "$thing/up/+/{product_id}/{device_name}/#",
        "$ota/report/{product_id}/{device_name}",
        "$rrpc/txd/{product_id}/{device_name}/#",
        "$shadow/operation/{product_id}/{device_name}",
        "$sys/operation/{product_id}/{device_name}",
        "$gateway/operation/{product_id}/{device_name}",
        "$template/operation/{product_id}/{device_name}",
        "$log/operation/{product_id}/{device_name}",
    ],
    down: &[
        "$thing/down/+/{product_id}/{device_name}/#",
        "$shadow/operation/result/{product_id}/{device_name}/#",
        "$ota/update/{product_id}/{device_name}/#",
        "$broadcast/rxd/{product_id}/{device_name}/#",
        "$rrpc/rxd/{product_id}/{device_name}/#",
        "$sys/operation/result/{product_id}/{device_name}/#",
        "$gateway/operation/result/{product_id}/{device_name}/#",
        "$template/operation/result/{product_id}/{device_name}/#",
        "$log/operation/result/{product_id}/{device_name}/#",
    ],
    never_retained: None,
};

/// Huawei Cloud IoTDA.
pub const HUAWEI_IOTDA: Preset = Preset {
    name: "huawei_iotda",
    host: None,
    host_keys: &[],
    ports: (Some(1883), 8883),
    qos_cap: 1,
    hard: true,
    retain: false,
    will: false,
    keepalive: Duration::from_secs(120),
    keepalive_bounds: Some((Duration::from_secs(30), Duration::from_secs(1200))),
    max_payload: Some(1024 * 1024),
    max_packet: None,
    rate: Some(Rate::All(50)),
    byte_rate: Some(125_000),
    filters: Some(Filters::Soft(50)),
    connect_spacing: Duration::from_secs(2),
    backoff_base: Duration::from_secs(5),
    max_inflight: 100,
    topic_limits: Some(TopicLimits::bytes(128, usize::MAX)),
    v311: true,
    topics: &["$oc/devices/{device_id}/#", "!$oc"],
    down: &[],
    never_retained: None,
};

/// Baidu IoT Core.
pub const BAIDU_IOTCORE: Preset = Preset {
    name: "baidu_iotcore",
    host: Some("{core_id}.iot.{region}.baidubce.com"),
    host_keys: &["region"],
    ports: (Some(1883), 1884),
    qos_cap: 1,
    hard: true,
    retain: false,
    will: false,
    keepalive: Duration::from_secs(120),
    keepalive_bounds: Some((Duration::from_secs(30), Duration::from_secs(1200))),
    max_payload: Some(32 * 1024),
    max_packet: None,
    rate: Some(Rate::All(10)),
    byte_rate: None,
    filters: Some(Filters::Soft(20)),
    connect_spacing: Duration::from_secs(5),
    backoff_base: Duration::from_secs(5),
    max_inflight: 20,
    topic_limits: Some(TopicLimits::bytes(128, usize::MAX)),
    v311: true,
    topics: &["$iot/{device_key}/#", "!$iot"],
    down: &[],
    never_retained: None,
};

/// OneNET of China Mobile.
pub const ONENET: Preset = Preset {
    name: "onenet",
    host: None,
    host_keys: &[],
    ports: (Some(1883), 8883),
    qos_cap: 1,
    hard: true,
    retain: false,
    will: false,
    keepalive: Duration::from_secs(120),
    keepalive_bounds: Some((Duration::from_secs(10), Duration::from_secs(1800))),
    max_payload: Some(8 * 1024),
    max_packet: None,
    rate: Some(Rate::All(10)),
    byte_rate: None,
    filters: Some(Filters::Soft(20)),
    connect_spacing: Duration::from_secs(5),
    backoff_base: Duration::from_secs(5),
    max_inflight: 20,
    topic_limits: None,
    v311: true,
    topics: &["$sys/{product_id}/{device_name}/#"],
    down: &[],
    never_retained: None,
};

/// Azure IoT Hub.
pub const AZURE_IOTHUB: Preset = Preset {
    name: "azure_iothub",
    host: Some("{host}"),
    host_keys: &[],
    ports: (None, 8883),
    qos_cap: 1,
    hard: true,
    retain: false,
    will: true,
    keepalive: Duration::from_secs(240),
    keepalive_bounds: Some((Duration::from_secs(1), Duration::from_secs(1177))),
    max_payload: Some(256 * 1024),
    max_packet: None,
    rate: Some(Rate::All(50)),
    byte_rate: None,
    filters: Some(Filters::Hard(5)),
    connect_spacing: Duration::from_secs(2),
    backoff_base: Duration::from_secs(5),
    max_inflight: 20,
    topic_limits: None,
    v311: true,
    topics: &[
        "devices/{device_id}/messages/events/#",
        "devices/{device_id}/modules/{module_id}/messages/events/#",
        "$iothub/twin/GET/#",
        "$iothub/twin/PATCH/properties/reported/#",
        "$iothub/methods/res/#",
    ],
    down: &[
        "devices/{device_id}/messages/devicebound/#",
        "devices/{device_id}/modules/{module_id}/inputs/#",
        "$iothub/twin/res/#",
        "$iothub/twin/PATCH/properties/desired/#",
        "$iothub/methods/POST/#",
    ],
    never_retained: None,
};

/// AWS IoT Core.
pub const AWS_IOT: Preset = Preset {
    name: "aws_iot",
    host: Some("{host}"),
    host_keys: &[],
    ports: (None, 8883),
    qos_cap: 1,
    hard: true,
    retain: true,
    will: true,
    keepalive: Duration::from_secs(60),
    keepalive_bounds: Some((Duration::from_secs(30), Duration::from_secs(1200))),
    max_payload: Some(128 * 1024),
    max_packet: None,
    rate: Some(Rate::All(100)),
    byte_rate: Some(512_000),
    filters: Some(Filters::Hard(50)),
    connect_spacing: Duration::from_secs(1),
    backoff_base: Duration::from_secs(5),
    max_inflight: 100,
    topic_limits: Some(TopicLimits {
        longest: Longest::Bytes(256),
        slashes: 7,
        uncounted: Some(("$aws/rules/", 3)),
    }),
    v311: false,
    topics: &[
        "!$aws",
        "$aws/rules/+/#",
        "$aws/things/+/#",
        "$aws/commands/#",
        "$aws/certificates/#",
        "$aws/provisioning-templates/+/#",
        "$aws/device_location/+/#",
    ],
    down: &["$aws/events/#", "$aws/sitewise/#"],
    never_retained: Some("$aws/"),
};

/// ThingsBoard.
pub const THINGSBOARD: Preset = Preset {
    name: "thingsboard",
    host: None,
    host_keys: &[],
    ports: (Some(1883), 8883),
    qos_cap: 1,
    hard: false,
    retain: false,
    will: false,
    keepalive: Duration::from_secs(60),
    keepalive_bounds: None,
    max_payload: Some(64 * 1024),
    max_packet: None,
    rate: Some(Rate::All(10)),
    byte_rate: None,
    filters: Some(Filters::Soft(20)),
    connect_spacing: Duration::from_secs(2),
    backoff_base: Duration::from_secs(5),
    max_inflight: 20,
    topic_limits: None,
    v311: true,
    topics: &["v1/devices/me/#", "v1/gateway/#"],
    down: &["v2/fw/response/#", "v2/sw/response/#"],
    never_retained: None,
};

/// Cumulocity.
pub const CUMULOCITY: Preset = Preset {
    name: "cumulocity",
    host: None,
    host_keys: &[],
    ports: (Some(1883), 8883),
    qos_cap: 2,
    hard: false,
    retain: false,
    will: true,
    keepalive: Duration::from_secs(60),
    keepalive_bounds: None,
    max_payload: None,
    max_packet: Some(16_184),
    rate: Some(Rate::All(10)),
    byte_rate: None,
    filters: Some(Filters::Soft(20)),
    connect_spacing: Duration::from_secs(2),
    backoff_base: Duration::from_secs(5),
    max_inflight: 20,
    topic_limits: None,
    v311: true,
    topics: &[],
    down: &[],
    never_retained: None,
};

/// Every preset.
pub const ALL: &[Preset] = &[
    PLAIN,
    ALIYUN_IOT,
    ALIYUN_MQ,
    TENCENT_IOT,
    HUAWEI_IOTDA,
    BAIDU_IOTCORE,
    ONENET,
    AZURE_IOTHUB,
    AWS_IOT,
    THINGSBOARD,
    CUMULOCITY,
];

/// Clouds that are described but not signed by this version.
pub const LATER: &[&str] = &["clearblade"];

/// The topics that a bridge may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOwner {
    /// Who the device is, for messages.
    pub device_name: String,
    patterns: Vec<String>,
    down: Vec<String>,
    /// It may ask for its own topics, too.
    hears_itself: bool,
}

impl TopicOwner {
    /// The topics of a preset for a device; `None` where any will do.
    pub fn of(preset: &Preset, inputs: &Inputs, device_name: String) -> Option<Self> {
        let filled = |patterns: &[&str]| -> Vec<String> {
            let patterns = patterns.iter();
            let filled = patterns.filter_map(|pattern| fill(pattern, |key| inputs.shown(key)));
            filled.collect()
        };
        let patterns = filled(preset.topics);
        (!patterns.is_empty()).then(|| Self {
            device_name,
            patterns,
            down: filled(preset.down),
            hears_itself: preset.name != AZURE_IOTHUB.name,
        })
    }

    /// Whether every topic that matches the filter is the device's own, or one on which the cloud speaks to it.
    pub fn may_ask_for(&self, filter: &str) -> bool {
        let own = self.patterns.iter().filter(|_| self.hears_itself);
        let mut patterns = own.chain(&self.down);
        patterns.any(|pattern| covers(pattern, filter))
    }

    /// Whether the filter is one on which the cloud speaks to the device, as it stands.
    pub(super) fn is_asked_for_so(&self, filter: &str) -> bool {
        self.down.iter().any(|pattern| pattern == filter)
    }

    /// Whether the topic belongs to the device.
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
        self.patterns.iter().any(|pattern| {
            if let Some(first) = pattern.strip_prefix('!') {
                return topic.split('/').next() != Some(first);
            }
            let mut levels = topic.split('/');
            for wanted in pattern.split('/') {
                match (wanted, levels.next()) {
                    ("#", _) => return true,
                    (_, None) => return false,
                    ("+", Some(_)) => {}
                    (wanted, Some(level)) if same(level, wanted) => {}
                    _ => return false,
                }
            }
            levels.next().is_none()
        })
    }
}

/// Whether a pattern holds for every topic that matches the filter.
fn covers(pattern: &str, filter: &str) -> bool {
    let mut levels = filter.split('/');
    if let Some(first) = pattern.strip_prefix('!') {
        // [MQTT-4.7.2-1] A wildcard at the beginning stands for no `$`.
        return levels.next() != Some(first);
    }
    for wanted in pattern.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            (_, None | Some("#")) => return false,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if level == wanted => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// A pattern with its `{key}` places filled; `None` when one has no value.
pub(super) fn fill(pattern: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, place)) = rest.split_once('{') {
        let (key, after) = place.split_once('}')?;
        out.push_str(before);
        out.push_str(&value(key)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(preset: &Preset, keys: &[(&str, &str)]) -> TopicOwner {
        let mut inputs = Inputs::default();
        for (key, value) in keys {
            inputs.set_text(key, Some(value));
        }
        TopicOwner::of(preset, &inputs, "gw".into()).unwrap()
    }

    #[test]
    fn only_topics_of_the_device_are_owned() {
        let owner = owner(&ALIYUN_IOT, &[("product_key", "pk"), ("device_name", "gw")]);
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

    #[test]
    fn each_clouds_fixed_topics_are_known() {
        let azure = owner(&AZURE_IOTHUB, &[("device_id", "d")]);
        assert!(azure.owns("devices/d/messages/events/wt=a%2Fb"));
        assert!(!azure.owns("devices/e/messages/events/"));
        assert!(!azure.owns("telemetry"));
        let huawei = owner(&HUAWEI_IOTDA, &[("device_id", "d")]);
        assert!(huawei.owns("$oc/devices/d/sys/properties/report"));
        assert!(huawei.owns("my/own"));
        assert!(!huawei.owns("$oc/devices/e/sys/properties/report"));
        let tencent = owner(&TENCENT_IOT, &[("product_id", "p"), ("device_name", "d")]);
        assert!(tencent.owns("$thing/up/property/p/d"));
        assert!(!tencent.owns("$thing/down/property/p/d"));
        assert!(!tencent.owns("p/e/data"));
    }

    #[test]
    fn a_filter_is_taken_that_asks_for_nothing_of_others() {
        for (pattern, filter, covered) in [
            ("a/+/#", "a/b/#", true),
            ("a/+/#", "a/+", true),
            ("a/+/#", "a/#", false),
            ("a/#", "a", true),
            ("a/b", "a/+", false),
            ("a/b", "a/b/c", false),
            ("!$x", "+/b", true),
            ("!$x", "#", true),
            ("!$x", "$x/#", false),
        ] {
            assert_eq!(covers(pattern, filter), covered, "{pattern} {filter}");
        }
    }
}
