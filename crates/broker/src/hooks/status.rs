//! Clients come and go.

use super::{ClientInfo, Hook, Hooks};
use crate::stats::CloseReason;

/// Hears of clients that come and go.
///
/// For one client the calls are in order and in pairs: it is offline before it is online again, also when another
/// connection takes its session over. [`ClientInfo::session_epoch`] tells the pairs apart.
/// Called on the connection's task; must not wait.
pub trait ConnectStatusListener: Send + Sync + 'static {
    /// A client was welcomed.
    fn online(&self, client: &ClientInfo) {
        let _ = client;
    }

    /// A client is gone.
    fn offline(&self, client: &ClientInfo, why: &Offline) {
        let _ = (client, why);
    }
}

/// Why a client is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offline {
    /// The reason, to be told apart by programs.
    pub reason: CloseReason,
    /// The reason, to be read by people.
    pub text: &'static str,
}

impl Hooks {
    /// A client was welcomed.
    pub(crate) fn online(&self, client: &ClientInfo) {
        for listener in &self.status {
            self.panics
                .guard(Hook::ConnectStatus, || listener.online(client));
        }
    }

    /// A client is gone.
    pub(crate) fn offline(&self, client: &ClientInfo, reason: CloseReason) {
        let why = Offline {
            reason,
            text: reason.text(),
        };
        for listener in &self.status {
            self.panics
                .guard(Hook::ConnectStatus, || listener.offline(client, &why));
        }
    }
}
