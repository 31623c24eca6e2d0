//! Who an operator has turned away, since when and for how long: what must outlive a crash of the lists of the banned.
//!
//! The list in a file is [`Banned`](crate::auth::banned::Banned); both hold.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weir_mqtt::Utf8;

use super::Millis;
use crate::auth::acl::Network;

/// No list is longer: every connection is held against the networks in it.
pub const MOST_BANS: usize = 100_000;

/// Who is turned away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A client identifier.
    Client(Utf8),
    /// A user name.
    User(Utf8),
    /// Network addresses.
    Address(Network),
}

impl Who {
    /// From a kind (`client`, `user` or `address`) and a name; `None` when there is no such kind, or no such name of it.
    pub fn parse(kind: &str, name: &str) -> Option<Self> {
        let text = || Utf8::new(name).ok().filter(|name| !name.is_empty());
        match kind {
            "client" => Some(Self::Client(text()?)),
            "user" => Some(Self::User(text()?)),
            "address" => Some(Self::Address(Network::parse(name)?.without_host())),
            _ => None,
        }
    }

    /// One address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(Network::of(address.to_canonical()))
    }

    /// `client`, `user` or `address`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::User(_) => "user",
            Self::Address(_) => "address",
        }
    }

    /// The identifier, the user name, or the network as `10.0.0.0/8`.
    pub fn name(&self) -> String {
        match self {
            Self::Client(name) | Self::User(name) => name.as_str().to_owned(),
            Self::Address(network) => network.to_string(),
        }
    }
}

/// How someone is turned away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ban {
    /// Since when.
    pub since: Millis,
    /// Until when; `None`: until it is taken back.
    pub until: Option<Millis>,
    /// What the operator wrote.
    pub reason: Option<String>,
}

impl Ban {
    /// Whether it is over.
    pub fn is_over(&self, now: Millis) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// The list.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    bans: BTreeMap<Who, Ban>,
    /// Those of more than one address, which a look-up cannot find.
    networks: Vec<Network>,
}

impl Bans {
    /// Turns someone away; what held before for the same one holds no longer.
    pub fn insert(&mut self, who: Who, ban: Ban) {
        if let Who::Address(network) = &who
            && !network.is_one_address()
            && !self.networks.contains(network)
        {
            self.networks.push(*network);
        }
        self.bans.insert(who, ban);
    }

    /// Lets someone in again; false when nobody of that name was turned away.
    pub fn remove(&mut self, who: &Who) -> bool {
        if let Who::Address(network) = who {
            self.networks.retain(|known| known != network);
        }
        self.bans.remove(who).is_some()
    }

    /// Whether a client is turned away now by any of its names or its address.
    pub fn hold(
        &self,
        now: Millis,
        client_id: &str,
        username: Option<&str>,
        address: Option<IpAddr>,
    ) -> bool {
        if self.bans.is_empty() {
            return false;
        }
        let named = |kind: fn(Utf8) -> Who, name: &str| {
            Utf8::new(name).is_ok_and(|name| self.is_in_force(now, &kind(name)))
        };
        named(Who::Client, client_id)
            || username.is_some_and(|name| named(Who::User, name))
            || address.is_some_and(|address| self.shut_out(now, address))
    }

    /// Whether an address is turned away now, whoever comes from there.
    pub fn shut_out(&self, now: Millis, address: IpAddr) -> bool {
        !self.bans.is_empty()
            && (self.is_in_force(now, &Who::address(address))
                || self.networks.iter().any(|network| {
                    network.contains(address) && self.is_in_force(now, &Who::Address(*network))
                }))
    }

    fn is_in_force(&self, now: Millis, who: &Who) -> bool {
        self.bans.get(who).is_some_and(|ban| !ban.is_over(now))
    }

    /// Takes those out that are over.
    pub fn forget_the_past(&mut self, now: Millis) -> Vec<Who> {
        let over = self.bans.iter().filter(|(_, ban)| ban.is_over(now));
        let over: Vec<Who> = over.map(|(who, _)| who.clone()).collect();
        for who in &over {
            self.remove(who);
        }
        over
    }

    /// Everyone in it, in order of kind and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Who, &Ban)> {
        self.bans.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bans.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(until: Option<Millis>) -> Ban {
        Ban {
            until,
            ..Ban::default()
        }
    }

    #[test]
    fn clients_users_and_networks_are_turned_away_until_their_time_is_over() {
        let mut bans = Bans::default();
        let (here, there) = ("127.0.0.1".parse().ok(), "::ffff:10.9.9.9".parse().ok());
        assert!(!bans.hold(0, "a", None, here));
        bans.insert(Who::parse("client", "a").unwrap(), until(None));
        bans.insert(Who::parse("user", "mallory").unwrap(), until(Some(100)));
        bans.insert(Who::parse("address", "10.1.2.3/8").unwrap(), until(None));
        assert!(bans.hold(99, "a", None, here));
        assert!(bans.hold(99, "x", Some("mallory"), here));
        assert!(!bans.hold(100, "x", Some("mallory"), here), "it is over");
        assert!(
            bans.hold(99, "x", None, there),
            "an IPv4 address in another dress"
        );
        assert!(!bans.hold(99, "mallory", Some("a"), here));
        assert_eq!(bans.forget_the_past(100).len(), 1);
        assert!(bans.remove(&Who::parse("address", "10.0.0.0/8").unwrap()));
        assert!(!bans.hold(99, "x", None, there));
        assert_eq!(bans.len(), 1);
    }

    #[test]
    fn a_later_ban_of_the_same_one_takes_the_place_of_the_first() {
        let mut bans = Bans::default();
        let who = Who::address("10.0.0.1".parse().unwrap());
        bans.insert(who.clone(), until(None));
        bans.insert(who.clone(), until(Some(5)));
        assert!(!bans.shut_out(5, "10.0.0.1".parse().unwrap()));
        assert_eq!(bans.len(), 1);
        assert_eq!((who.kind(), who.name().as_str()), ("address", "10.0.0.1"));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for (kind, name) in [
            ("client", ""),
            ("user", ""),
            ("address", "x"),
            ("sensor", "a"),
        ] {
            assert_eq!(Who::parse(kind, name), None, "{kind} {name}");
        }
    }
}
