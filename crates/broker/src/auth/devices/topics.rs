//! The topics that a device of each cloud may use: its own (cloud-bridges §2.6, 4, 5, 6, 7, 8).

use serde_json::{Value, json};
use weir_mqtt::{QoS, SubscriptionFilter, SubscriptionRequest};
use weir_sinks::bridge::verifier::Scheme;

use super::table::Wrong;
use crate::auth::Acl;
use crate::core::subscribe_options::options;

/// Actions and filters, `{tenant}` and `{device}` in the place of names. Empty: the cloud leaves topics to its users.
const fn own(scheme: Scheme) -> &'static [(&'static str, &'static str)] {
    match scheme {
        Scheme::AliyunIot => &[
            ("all", "/{tenant}/{device}/#"),
            ("all", "/sys/{tenant}/{device}/#"),
            ("all", "/shadow/+/{tenant}/{device}/#"),
            ("all", "/ota/device/+/{tenant}/{device}/#"),
            ("all", "/ext/+/{tenant}/{device}/#"),
            ("all", "/ext/+/+/{tenant}/{device}/#"),
            ("subscribe", "/broadcast/{tenant}/#"),
        ],
        Scheme::AliyunMq => &[],
        Scheme::TencentIot => &[
            ("all", "{tenant}/{device}/#"),
            ("publish", "$thing/up/+/{tenant}/{device}/#"),
            ("subscribe", "$thing/down/+/{tenant}/{device}/#"),
            ("publish", "$shadow/operation/{tenant}/{device}"),
            ("subscribe", "$shadow/operation/result/{tenant}/{device}"),
            ("publish", "$ota/report/{tenant}/{device}"),
            ("subscribe", "$ota/update/{tenant}/{device}"),
            ("subscribe", "$broadcast/rxd/{tenant}/{device}"),
            ("publish", "$rrpc/txd/{tenant}/{device}/#"),
            ("subscribe", "$rrpc/rxd/{tenant}/{device}/#"),
            ("publish", "$sys/operation/{tenant}/{device}"),
            ("subscribe", "$sys/operation/result/{tenant}/{device}/#"),
            ("publish", "$gateway/operation/{tenant}/{device}"),
            ("subscribe", "$gateway/operation/result/{tenant}/{device}"),
            ("publish", "$template/operation/{tenant}/{device}"),
            ("subscribe", "$template/operation/result/{tenant}/{device}"),
            ("publish", "$log/operation/{tenant}/{device}"),
            ("subscribe", "$log/operation/result/{tenant}/{device}"),
        ],
        Scheme::HuaweiIotda => &[("all", "$oc/devices/{device}/#")],
        Scheme::Onenet => &[("all", "$sys/{tenant}/{device}/#")],
        Scheme::BaiduIotcore => &[("all", "$iot/{device}/#")],
        Scheme::AzureIothub => &[
            ("publish", "devices/{device}/messages/events/#"),
            ("subscribe", "devices/{device}/messages/devicebound/#"),
        ],
    }
}

/// Whether a scheme has topics that are a device's own.
pub(super) const fn has_own(scheme: Scheme) -> bool {
    !own(scheme).is_empty()
}

/// Whether devices of one name and two tenants would have the same topics.
pub(super) fn name_no_tenant(scheme: Scheme) -> bool {
    scheme.has_tenant()
        && own(scheme)
            .iter()
            .any(|(_, topic)| !topic.contains("{tenant}"))
}

/// What a device may do: its own topics, `further` ones, and nothing else. `None` where the broker's access list has
/// to say it.
///
/// # Errors
/// The filter of `further` that is none.
pub(super) fn acl(
    scheme: Scheme,
    tenant: &str,
    device: &str,
    further: &[String],
) -> Result<Option<Acl>, String> {
    if !has_own(scheme) && further.is_empty() {
        return Ok(None);
    }
    let device = match (scheme, device.split_once('/')) {
        (Scheme::AzureIothub, Some((device, module))) => format!("{device}/modules/{module}"),
        _ => device.to_owned(),
    };
    let allow = |action: &str, topic: &str| -> Value {
        json!({"permission": "allow", "action": action, "topic": topic})
    };
    let own = own(scheme).iter().map(|(action, topic)| {
        allow(
            action,
            &topic
                .replace("{tenant}", tenant)
                .replace("{device}", &device),
        )
    });
    let further = further.iter().map(|topic| allow("all", topic));
    let rules: Vec<Value> = own.chain(further).collect();
    let acl = Acl::from_json(&Value::Array(rules)).map_err(|error| error.to_string())?;
    Ok(Some(acl.closed()))
}

/// What Aliyun subscribes a device to that leaves it to the cloud. Without what the device sends itself.
const SERVER_SIDE: [&str; 5] = [
    "/sys/{tenant}/{device}/#",
    "/ext/+/{tenant}/{device}/#",
    "/ota/device/upgrade/{tenant}/{device}",
    "/shadow/get/{tenant}/{device}",
    "/broadcast/{tenant}/#",
];

/// The subscriptions of such a device.
pub(super) fn server_side(tenant: &str, device: &str) -> Vec<SubscriptionRequest> {
    let request = |topic: &&str| {
        let text = topic
            .replace("{tenant}", tenant)
            .replace("{device}", device);
        Some(SubscriptionRequest {
            filter: SubscriptionFilter::parse(&text).ok()?,
            options: options(QoS::AtLeastOnce, true, false, 0),
        })
    };
    SERVER_SIDE.iter().filter_map(request).collect()
}

/// Whether a name can be one of the scheme; `key` is where it is written.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_name(scheme: Scheme, key: &'static str, name: &str) -> Result<(), Wrong> {
    let slash = name.contains('/') && scheme != Scheme::AzureIothub;
    // Tenant and device stand in one name, with a colon between.
    let colon = name.contains(':') && key == "tenant_key";
    let empty = key == "device" && name.is_empty();
    if is_plain(name) && !slash && !colon && !empty {
        return Ok(());
    }
    let colon = if key == "tenant_key" { "`:`, " } else { "" };
    Err(Wrong {
        key,
        message: format!(
            "`{key}` is empty, or holds {colon}`/`, `+`, `#`, `%`, `$`, a brace, white space or a control character"
        ),
        help: "write it as the cloud's console shows it",
    })
}

/// Whether a name can stand in a topic, and in a line of a file, as it is.
fn is_plain(name: &str) -> bool {
    let is_blank = |letter: char| letter.is_control() || letter.is_whitespace();
    !name.contains(['+', '#', '%', '$', '{', '}']) && !name.contains(is_blank)
}
