//! The entries of `in` and `out`: each by itself, and then together.

use std::sync::Arc;

use super::{
    BridgeRoute, Check, InRoute, OutRoute, Protocol, RetainPolicy, TopicOwner, Way, codes, qos_of,
    route,
};
use crate::bridge::preset::AZURE_IOTHUB;

impl Check<'_> {
    /// What crosses the bridge by itself.
    pub(super) fn routes(
        &mut self,
        qos_cap: u8,
        owner: Option<&TopicOwner>,
    ) -> (Vec<InRoute>, Vec<OutRoute>) {
        let config = self.config;
        if config.carry_topic.is_some() && self.preset.name != AZURE_IOTHUB.name {
            let message =
                "`carry_topic` is for `azure_iothub`: other remotes have names for topics";
            self.error(codes::BRIDGE, "carry_topic", message, "remove the key");
        }
        let mut inbound = Vec::new();
        for (at, entry) in config.inbound.iter().enumerate() {
            let Some((read, qos)) = self.entry(Way::In, at, entry, qos_cap) else {
                continue;
            };
            if entry
                .share
                .as_ref()
                .is_some_and(|group| group.is_empty() || group.contains(['/', '+', '#', '\0']))
            {
                self.error(
                    codes::BRIDGE,
                    &format!("in[{at}].share"),
                    "the name of a group has no `/`, `+` or `#` and is not empty",
                    "`share = \"weirs\"`",
                );
            }
            self.asked_for(at, read.filter.as_str(), owner);
            inbound.push(InRoute {
                filter: read.filter,
                share: entry.share.clone(),
                map: read.map,
                qos: qos_of(qos),
                retain: entry.retain.unwrap_or_default(),
                payload: read.payload,
            });
        }
        let mut out = Vec::new();
        for (at, entry) in config.out.iter().enumerate() {
            if entry.share.is_some() {
                self.error(
                    codes::BRIDGE,
                    &format!("out[{at}].share"),
                    "`share` is for `in`",
                    "remove it",
                );
            }
            let Some((read, qos)) = self.entry(Way::Out, at, entry, qos_cap) else {
                continue;
            };
            let Some(mut map) = read.map else { continue };
            if self.preset.name == AZURE_IOTHUB.name && config.carry_topic != Some(false) {
                map = map.carrying_topic(&read.filter);
            }
            let name = map.shown(read.filter.as_str());
            let retain = self.retain(at, entry, &name);
            self.owned_name(at, &name, owner);
            out.push(OutRoute {
                filter: read.filter,
                map,
                qos: qos_of(entry.qos_force.map_or(qos, |force| force.min(qos_cap))),
                force: entry.qos_force.is_some(),
                retain,
                payload: read.payload,
                owner: owner.cloned().map(Arc::new),
            });
        }
        self.filters(&inbound);
        self.no_loop(&inbound, &out);
        self.one_for_each_topic(&inbound);
        (inbound, out)
    }

    fn entry(
        &mut self,
        way: Way,
        at: usize,
        entry: &BridgeRoute,
        qos_cap: u8,
    ) -> Option<(route::Read, u8)> {
        let name = if way == Way::In { "in" } else { "out" };
        let qos = entry.qos.unwrap_or(qos_cap);
        if qos > qos_cap {
            let message = format!("QoS {qos} is above the bridge's cap of {qos_cap}");
            self.error(
                codes::BRIDGE,
                &format!("{name}[{at}].qos"),
                message,
                "lower it, or raise `qos_cap`",
            );
        }
        self.forced(way, at, entry, qos_cap);
        match route::read(way, at, entry) {
            Ok(read) => Some((read, qos.min(qos_cap))),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    fn forced(&mut self, way: Way, at: usize, entry: &BridgeRoute, qos_cap: u8) {
        let Some(force) = entry.qos_force else { return };
        let key = format!(
            "{}[{at}].qos_force",
            if way == Way::In { "in" } else { "out" }
        );
        if way == Way::In {
            let help = "remove it: a message comes in with the QoS that the remote sends it with";
            self.error(codes::BRIDGE, &key, "`qos_force` is for `out`", help);
        } else if entry.qos.is_some() {
            let help = "remove one of the two";
            self.error(
                codes::BRIDGE,
                &key,
                "`qos` and `qos_force` exclude each other",
                help,
            );
        } else if force > qos_cap {
            let message = format!("QoS {force} is above the bridge's cap of {qos_cap}");
            self.error(codes::BRIDGE, &key, message, "lower it, or raise `qos_cap`");
        }
    }

    fn retain(&mut self, at: usize, entry: &BridgeRoute, name: &str) -> RetainPolicy {
        let takes = self.preset.retain;
        let never = entry.retain == Some(RetainPolicy::Set) && !self.preset.may_retain(name);
        match entry.retain {
            Some(RetainPolicy::Keep | RetainPolicy::Set) if !takes || never => {
                let on = if takes {
                    format!(" on `{name}`")
                } else {
                    String::new()
                };
                let message = format!("`{}` takes no retained messages{on}", self.preset.name);
                self.error(
                    codes::BOUND,
                    &format!("out[{at}].retain"),
                    message,
                    "`retain = \"strip\"`",
                );
                RetainPolicy::Strip
            }
            Some(policy) => policy,
            None if takes => RetainPolicy::Keep,
            None => RetainPolicy::Strip,
        }
    }

    /// A cloud gives a device what is on the device's own topics.
    fn asked_for(&mut self, at: usize, filter: &str, owner: Option<&TopicOwner>) {
        let Some(owner) = owner else { return };
        if owner.may_ask_for(filter) {
            self.is_one_of_the_four(at, filter, owner.is_asked_for_so(filter));
        } else {
            self.not_owned("in", at, filter, owner);
        }
    }

    fn owned_name(&mut self, at: usize, name: &str, owner: Option<&TopicOwner>) {
        let Some(owner) = owner else { return };
        if !owner.owns_template(name) {
            self.not_owned("out", at, name, owner);
        }
    }

    fn not_owned(&mut self, way: &str, at: usize, topic: &str, owner: &TopicOwner) {
        let message = format!(
            "topic_not_owned: `{topic}` does not belong to device `{}`",
            owner.device_name
        );
        self.error(
            codes::TOPIC_NOT_OWNED,
            &format!("{way}[{at}].filter"),
            message,
            "the cloud takes only topics of the device",
        );
    }

    /// What goes out must not come back. On MQTT 5 the remote sees to it (No Local), in 3.1.1 only one that knows bridges;
    /// or what comes back is known again.
    fn no_loop(&mut self, inbound: &[InRoute], out: &[OutRoute]) {
        let never_back = match self.config.protocol {
            Some(Protocol::V5) => true,
            _ => [self.config.bridge_flag, self.config.echo_guard].contains(&Some(true)),
        };
        let Some((taken, sent)) = route::loops(inbound, out) else {
            return;
        };
        // A shared subscription cannot be told No Local. [MQTT-3.8.3-4]
        let shared = inbound.iter().any(|entry| entry.share.is_some())
            && route::loops(
                &inbound
                    .iter()
                    .filter(|entry| entry.share.is_some())
                    .cloned()
                    .collect::<Vec<_>>(),
                out,
            )
            .is_some();
        if never_back && !shared {
            return;
        }
        let message = format!(
            "loop_possible: what `out[{sent}]` ({}) sends is taken back by `in[{taken}]` ({})",
            out[sent].filter.as_str(),
            inbound[taken].filter.as_str()
        );
        self.error(
            codes::LOOP,
            &format!("in[{taken}].filter"),
            message,
            "`protocol = \"5\"` lets the remote keep own messages back, `bridge_flag = true` does at a mosquitto of \
             MQTT 3.1.1, `echo_guard = true` drops what comes back from any; or use prefixes that do not overlap at the \
             remote",
        );
    }

    /// A message of two filters that overlap is taken by one of them where the remote sends it once.
    fn one_for_each_topic(&mut self, inbound: &[InRoute]) {
        for (at, entry) in inbound.iter().enumerate() {
            let earlier = inbound[..at]
                .iter()
                .position(|other| route::overlap(other.filter.as_str(), entry.filter.as_str()));
            if let Some(earlier) = earlier {
                let message = format!(
                    "it overlaps with `in[{earlier}]`: a message that the remote sends once is taken by `in[{earlier}]` alone"
                );
                self.warnings.push(
                    super::ConfigError::new("W4103", format!("in[{at}].filter"), message)
                        .help("make the filters disjoint, or put the narrower one first"),
                );
            }
        }
    }
}
