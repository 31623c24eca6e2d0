//! What a cloud takes of a device, as a file is held to it: rates, sizes, numbers of filters.

use std::collections::BTreeSet;

use super::super::pace::Rate;
use super::super::preset::{AZURE_IOTHUB, Filters};
use super::{BridgePlan, Check, InRoute, codes};

impl BridgePlan {
    /// Whether only the mark of a bridge in CONNECT keeps what leaves from coming back: a remote of 3.1.1 that does not
    /// know it must not be spoken to without.
    pub(in crate::bridge) fn needs_bridge_flag(&self) -> bool {
        !self.echo_guard && super::route::loops(&self.inbound, &self.out).is_some()
    }
}

impl Check<'_> {
    /// What leaves each second, and how large it may be.
    pub(super) fn limits(&mut self, qos_cap: u8) {
        let c = self.config;
        let largest = self.preset.max_payload.or(self.preset.max_packet);
        let payload = c
            .max_payload
            .map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
        if let (Some(limit), Some(payload)) = (largest, payload)
            && payload > limit
        {
            let message = format!("{payload} bytes is more than the remote takes ({limit})");
            let help = "larger messages may cut the link";
            self.bound(false, "max_payload", message, help);
        }
        if let (Some(known), Some(rate)) = (self.preset.rate, c.rate) {
            let (most, qos) = known.least(qos_cap);
            if rate > most {
                let at = qos.map_or_else(String::new, |qos| format!(" at QoS {qos}"));
                let message =
                    format!("{rate} messages a second is more than the remote takes{at} ({most})");
                self.bound(false, "rate", message, "it may throw the rest away");
            }
        }
        let Some(bytes) = c.byte_rate.map(|size| size.0) else {
            return;
        };
        if bytes == 0 {
            self.error(
                codes::BAD_VALUE,
                "byte_rate",
                "nothing would be sent",
                "leave it out where there is no limit",
            );
        }
        if let Some(most) = self.preset.byte_rate.filter(|most| bytes > (*most).into()) {
            let message = format!("{bytes} bytes a second is more than the remote takes ({most})");
            self.bound(false, "byte_rate", message, "it may cut the link");
        }
    }

    /// The file's rates, or the preset's.
    pub(super) fn rates(&self) -> (Option<Rate>, Option<u32>) {
        let rate = self.config.rate.map(|rate| Rate::All(rate.max(1)));
        let bytes = self.config.byte_rate;
        let bytes = bytes.map(|size| u32::try_from(size.0).unwrap_or(u32::MAX));
        (rate.or(self.preset.rate), bytes.or(self.preset.byte_rate))
    }

    /// How many filters the remote takes.
    pub(super) fn filters(&mut self, inbound: &[InRoute]) {
        let filters: BTreeSet<_> = inbound.iter().map(InRoute::subscription).collect();
        let (most, hard) = match self.preset.filters {
            Some(Filters::Hard(most)) => (most, true),
            Some(Filters::Soft(most)) => (most, false),
            None => return,
        };
        if filters.len() > most {
            let message = format!(
                "{} filters are more than the remote takes of a device ({most})",
                filters.len()
            );
            let help = "a wildcard takes several topics with one filter";
            self.bound(hard, "in", message, help);
        }
    }

    /// Azure has four filters, and does not say that it takes narrower ones.
    pub(super) fn is_one_of_the_four(&mut self, at: usize, filter: &str, known: bool) {
        if self.preset.name == AZURE_IOTHUB.name && !known {
            let message = format!("`{filter}` is not the hub's own filter for these topics");
            let help = "the hub may refuse it: take its own, e.g. `devices/{device_id}/messages/devicebound/#`";
            self.bound(false, &format!("in[{at}].filter"), message, help);
        }
    }
}
