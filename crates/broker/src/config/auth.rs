//! `[auth]`: who may connect, and what they may do.

use std::path::PathBuf;

use serde::Deserialize;

use super::Listener;

/// `[auth]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Lets clients in without a user name. Counts as true on loopback while no `password_file` is set.
    pub allow_anonymous: Option<bool>,
    /// `user:hash` lines as `weir passwd` writes them.
    pub password_file: Option<PathBuf>,
    /// Users that sign in with SCRAM-SHA-256 over MQTT 5, as `weir passwd --scram` writes them.
    pub scram_file: Option<PathBuf>,
}

impl Auth {
    /// What is unsafe or cannot be.
    pub(super) fn check(&self, listeners: &[Listener], refuse: &mut impl FnMut(String, &str)) {
        for listener in listeners {
            if listener.is_open_by_accident(self) {
                refuse(
                    format!(
                        "the listener on {} is open to the network and nobody has to log in",
                        listener.bind
                    ),
                    "set `password_file` under [auth] (`weir passwd FILE USER` writes it), or `allow_anonymous = true`",
                );
            }
        }
    }
}
