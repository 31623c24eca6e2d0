//! Who is turned away whatever it knows: clients, users and addresses of a list, one a line.
//!
//! ```text
//! client  sensor-7
//! user    mallory
//! address 203.0.113.0/24
//! ```

use std::net::IpAddr;

use super::acl::Network;
use crate::problem::{Problem, Source};

const CODE: &str = "E1015";

/// A list of the banned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Banned {
    clients: ahash::HashSet<String>,
    users: ahash::HashSet<String>,
    networks: Vec<Network>,
}

impl Banned {
    /// Reads a list. A line that begins with `#` is a comment.
    ///
    /// # Errors
    /// Every line that is wrong.
    pub fn parse(source: &Source) -> Result<Self, Vec<Problem>> {
        let mut banned = Self::default();
        let mut problems = Vec::new();
        let mut at = 0;
        for line in source.text.split_inclusive('\n') {
            let begin = at + line.len() - line.trim_start().len();
            at += line.len();
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (kind, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if !banned.add(kind, name.trim()) {
                problems.push(
                    Problem::at(source, begin..begin + line.len(), CODE, "the line bans nobody")
                        .help("write `client ID`, `user NAME` or `address NETWORK`, such as `address 203.0.113.0/24`"),
                );
            }
        }
        if problems.is_empty() {
            Ok(banned)
        } else {
            Err(problems)
        }
    }

    fn add(&mut self, kind: &str, name: &str) -> bool {
        if name.is_empty() {
            return false;
        }
        match kind {
            "client" => {
                self.clients.insert(name.to_owned());
                true
            }
            "user" => {
                self.users.insert(name.to_owned());
                true
            }
            "address" => match Network::parse(name) {
                Some(network) => {
                    self.networks.push(network);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// How many lines ban someone.
    pub fn len(&self) -> usize {
        self.clients.len() + self.users.len() + self.networks.len()
    }

    /// Whether nobody is banned.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a client is banned by any of its names or its address.
    pub fn holds(&self, client_id: &str, username: Option<&str>, address: Option<IpAddr>) -> bool {
        !self.is_empty()
            && (self.clients.contains(client_id)
                || username.is_some_and(|name| self.users.contains(name))
                || address.is_some_and(|address| {
                    self.networks
                        .iter()
                        .any(|network| network.contains(address))
                }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_users_and_networks_are_banned() {
        let text = "# nobody\n\nclient a b\nuser  mallory\naddress 10.0.0.0/8\n";
        let banned = Banned::parse(&Source::new("banned", text)).unwrap();
        let (here, there) = ("127.0.0.1".parse().ok(), "10.9.9.9".parse().ok());
        assert!(banned.holds("a b", None, here));
        assert!(banned.holds("x", Some("mallory"), here));
        assert!(banned.holds("x", None, there));
        assert!(!banned.holds("mallory", Some("a b"), here));
        assert!(!Banned::default().holds("x", None, here));
    }

    #[test]
    fn a_line_that_bans_nobody_is_told_with_its_place() {
        let text = "client a\n  adress 10.0.0.1\nuser\naddress 10.0.0.0/64\n";
        let problems = Banned::parse(&Source::new("banned", text)).unwrap_err();
        let places: Vec<_> = problems.iter().map(|p| (p.line, p.column)).collect();
        assert_eq!(places, [(2, 3), (3, 1), (4, 1)]);
    }
}
