//! What a subscription asks for, from its parts in files and tables.

use weir_mqtt::{QoS, RetainHandling, SubscribeOptions};

/// The options of a subscription with this QoS and these flags.
pub(crate) fn options(qos: QoS, nl: bool, rap: bool, rh: u8) -> SubscribeOptions {
    SubscribeOptions {
        no_local: nl,
        retain_as_published: rap,
        retain_handling: match rh {
            0 => RetainHandling::OnSubscribe,
            1 => RetainHandling::OnNewSubscription,
            _ => RetainHandling::Never,
        },
        ..SubscribeOptions::with_qos(qos)
    }
}
