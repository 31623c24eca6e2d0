//! Access lists: who may publish and subscribe to what, one rule a line, the first that speaks of it decides.
//!
//! ```text
//! allow publish   dev/%c/up/#
//! allow subscribe dev/%c/down/#
//! allow all       plant/#          user operator address 10.0.0.0/8
//! deny  all       #
//! ```

mod claims;
mod parse;
mod pattern;

use std::fmt;
use std::net::IpAddr;

use weir_mqtt::SubscriptionFilter;

pub use claims::ClaimError;
pub use pattern::{Pattern, Values};

use super::Subject;

/// An access list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    rules: Vec<Rule>,
    /// Whether what no rule speaks of is denied here, and no other list is asked.
    closed: bool,
    /// What is denied whatever the rules say, on every topic: `deny #` would not reach those that begin with `$`.
    never: Option<Actions>,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    actions: Actions,
    pattern: Pattern,
    /// All of them must hold; none: everyone.
    who: Vec<Condition>,
}

/// What a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actions {
    Publish,
    Subscribe,
    All,
}

/// What must hold for a client so that a rule is about it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    User(Name),
    Client(Name),
    CertCn(Name),
    Listener(Name),
    Address(Network),
    Anonymous,
}

/// A name, or the beginning of names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Is(Box<str>),
    Begins(Box<str>),
}

impl Name {
    fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self::Begins(beginning.into()),
            None => Self::Is(text.into()),
        }
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Is(whole) => **whole == *name,
            Self::Begins(beginning) => name.starts_with(&**beginning),
        }
    }
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one_address() {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.bits)
        }
    }
}

impl Network {
    /// One address.
    pub fn of(address: IpAddr) -> Self {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Self { address, bits }
    }

    /// Whether it is one address alone.
    pub fn is_one_address(&self) -> bool {
        *self == Self::of(self.address)
    }

    /// The address, where it is one alone.
    pub fn one_address(&self) -> Option<IpAddr> {
        self.is_one_address().then_some(self.address)
    }

    /// The same network by its first address.
    #[must_use]
    pub fn without_host(self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits));
                IpAddr::V4((address.to_bits() & mask.unwrap_or(0)).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits));
                IpAddr::V6((address.to_bits() & mask.unwrap_or(0)).into())
            }
        };
        Self { address, ..self }
    }

    /// Reads `10.0.0.0/8`, `fd00::/8` or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { address, bits })
    }

    /// Whether it holds `address`. An IPv4 address that comes in the dress of an IPv6 one is what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl Condition {
    fn holds(&self, subject: &Subject) -> bool {
        match self {
            Self::User(name) => subject
                .username
                .as_ref()
                .is_some_and(|user| name.fits(user)),
            Self::Client(name) => name.fits(&subject.client_id),
            Self::CertCn(name) => subject.cert_cn().is_some_and(|cn| name.fits(cn)),
            Self::Listener(name) => name.fits(&subject.listener),
            Self::Address(network) => subject.peer.is_some_and(|peer| network.contains(peer.ip())),
            Self::Anonymous => subject.username.is_none(),
        }
    }
}

impl Acl {
    /// The same, as the last word: what no rule speaks of is denied.
    #[must_use]
    pub(super) fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// The same, and no topic may be published to.
    #[must_use]
    pub(super) fn without_publishing(mut self) -> Self {
        self.never = Some(Actions::Publish);
        self
    }

    /// The same, and no topic may be subscribed to.
    #[must_use]
    pub(super) fn without_subscribing(mut self) -> Self {
        self.never = Some(Actions::Subscribe);
        self
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `subject` may publish to `topic`; `None` when no rule speaks of it.
    pub fn publish(&self, subject: &Subject, topic: &str) -> Option<bool> {
        self.decide(subject, Actions::Publish, topic)
    }

    /// Whether `subject` may subscribe to `filter`; `None` when no rule speaks of it. The group of a shared
    /// subscription makes no difference.
    ///
    /// A filter is allowed by a rule that covers all of it, and denied by one that reaches any topic of it.
    pub fn subscribe(&self, subject: &Subject, filter: &SubscriptionFilter) -> Option<bool> {
        self.decide(subject, Actions::Subscribe, filter.filter.as_str())
    }

    fn decide(&self, subject: &Subject, action: Actions, topic: &str) -> Option<bool> {
        if self.never == Some(action) {
            return Some(false);
        }
        let values = Values {
            client_id: &subject.client_id,
            username: subject.username.as_deref(),
            cert_cn: subject.cert_cn(),
        };
        self.rules
            .iter()
            .filter(|rule| rule.actions == Actions::All || rule.actions == action)
            .filter(|rule| rule.who.iter().all(|who| who.holds(subject)))
            .find(|rule| {
                if rule.allow {
                    rule.pattern.allows(values, topic)
                } else {
                    rule.pattern.denies(values, topic)
                }
            })
            .map(|rule| rule.allow)
            .or(self.closed.then_some(false))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_mqtt::Utf8;

    use super::*;
    use crate::problem::Source;

    pub(super) fn subject(client_id: &str, username: Option<&str>) -> Subject {
        Subject {
            client_id: Utf8::new(client_id).unwrap(),
            username: username.map(|name| Utf8::new(name).unwrap()),
            peer: Some("10.1.2.3:9".parse().unwrap()),
            listener: "tcp:main".into(),
            certificate: None,
            identity: Arc::default(),
        }
    }

    fn acl(text: &str) -> Acl {
        Acl::parse(&Source::new("acl", text)).unwrap()
    }

    fn subscribe(acl: &Acl, subject: &Subject, filter: &str) -> Option<bool> {
        acl.subscribe(subject, &SubscriptionFilter::parse(filter).unwrap())
    }

    #[test]
    fn the_first_rule_that_speaks_of_it_decides() {
        let acl = acl("deny publish a/secret\nallow publish a/+\ndeny publish #\n");
        let client = subject("c", None);
        assert_eq!(acl.publish(&client, "a/secret"), Some(false));
        assert_eq!(acl.publish(&client, "a/b"), Some(true));
        assert_eq!(acl.publish(&client, "b"), Some(false));
        assert_eq!(subscribe(&acl, &client, "a/b"), None);
    }

    #[test]
    fn a_closed_list_is_silent_about_nothing() {
        let acl = acl("allow publish a/+\n").closed();
        let client = subject("c", None);
        assert_eq!(acl.publish(&client, "a/b"), Some(true));
        assert_eq!(acl.publish(&client, "$SYS/b"), Some(false));
        assert_eq!(subscribe(&acl, &client, "a/b"), Some(false));
    }

    #[test]
    fn a_shared_subscription_is_judged_by_its_filter() {
        let acl = acl("allow subscribe a/+\n");
        let client = subject("c", None);
        assert_eq!(subscribe(&acl, &client, "$share/g/a/+"), Some(true));
        assert_eq!(subscribe(&acl, &client, "$queue/a/b"), Some(true));
        assert_eq!(subscribe(&acl, &client, "$share/g/a/#"), None);
    }

    #[test]
    fn a_wide_filter_does_not_reach_round_a_denial() {
        let acl = acl("deny subscribe a/secret\nallow subscribe a/#\n");
        let client = subject("c", None);
        assert_eq!(subscribe(&acl, &client, "a/#"), Some(false));
        assert_eq!(subscribe(&acl, &client, "a/+/x"), Some(true));
    }

    #[test]
    fn rules_are_about_users_clients_addresses_and_listeners() {
        let acl = acl(
            "allow all u/# user ann\nallow all c/# client dev-*\nallow all n/# address 10.1.0.0/16\n\
             allow all l/# listener tcp:main\nallow all o/# anonymous\nallow all both/# user ann client x\n",
        );
        let (ann, device) = (subject("x", Some("ann")), subject("dev-7", None));
        assert_eq!(acl.publish(&ann, "u/1"), Some(true));
        assert_eq!(acl.publish(&device, "u/1"), None);
        assert_eq!(acl.publish(&device, "c/1"), Some(true));
        assert_eq!(acl.publish(&ann, "c/1"), None);
        assert_eq!(acl.publish(&ann, "n/1"), Some(true));
        assert_eq!(acl.publish(&ann, "l/1"), Some(true));
        assert_eq!(acl.publish(&device, "o/1"), Some(true));
        assert_eq!(acl.publish(&ann, "o/1"), None);
        assert_eq!(acl.publish(&ann, "both/1"), Some(true));
        assert_eq!(acl.publish(&subject("y", Some("ann")), "both/1"), None);
    }

    #[test]
    fn networks_hold_the_addresses_that_begin_like_them() {
        let holds = |network: &str, address: &str| {
            Network::parse(network)
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"), "mapped");
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "fd00::1") && holds("fd00::/8", "fd12::1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("x").is_none());
    }
}
