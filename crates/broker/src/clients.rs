//! What an embedding program can ask of a [`Broker`] about its clients, and do to them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_mqtt::{ReasonCode, Utf8};

use crate::broker::Broker;
use crate::core::message::Message;
use crate::driver::Shared;
use crate::driver::handle::Farewell;
use crate::driver::router::Router;
use crate::hooks::{AddressWindow, ClientInfo, Hook, Subscription};
use crate::stats::CloseReason;
use crate::store::{Ban, Failed, Who};

pub use crate::driver::access::TooManyBans;

/// Why someone was not banned, or not for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BanError {
    /// The list is full.
    #[error(transparent)]
    TooMany(#[from] TooManyBans),
    /// It holds, and would not survive a restart.
    #[error(transparent)]
    NotKept(#[from] Failed),
}

/// Some of the connected clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientPage {
    /// The clients, in the order of their identifiers.
    pub clients: Vec<ClientInfo>,
    /// How many there are on all pages.
    pub total: usize,
}

/// Something that is called again and again, or once later. Goes on when this is dropped.
#[derive(Debug)]
pub struct Scheduled(tokio::task::AbortHandle);

impl Scheduled {
    /// It is not called any more. A call that has begun goes on to its end.
    pub fn cancel(&self) {
        self.0.abort();
    }
}

/// Where a client is sent. What the reference of a server looks like is between the operator and its clients; most
/// take `host` or `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// To another server for now: reason code 0x9C.
    UseAnother(Utf8),
    /// To another server for good: reason code 0x9D.
    Moved(Utf8),
}

impl Elsewhere {
    fn farewell(&self) -> Farewell {
        let (code, server) = match self {
            Self::UseAnother(server) => (ReasonCode::UseAnotherServer, server),
            Self::Moved(server) => (ReasonCode::ServerMoved, server),
        };
        Farewell {
            code,
            server: Some(server.clone()),
        }
    }
}

impl Shared {
    /// Ends the connections of an address.
    pub(crate) fn close_address(&self, address: IpAddr) {
        self.each_session(|handle| {
            let info = handle.lock().info.clone();
            let peer = info.and_then(|info| info.origin.peer);
            if peer.is_some_and(|peer| peer.ip() == address) {
                // DISCONNECT has no code for "banned".
                handle.kick(ReasonCode::AdministrativeAction.into());
            }
        });
    }
}

impl Broker {
    /// The connected clients, `size` of them after the first `page` pages; the first page has the number 0.
    pub fn clients(&self, page: usize, size: usize) -> ClientPage {
        let mut all = Vec::new();
        self.shared
            .each_session(|handle| all.extend(handle.lock().info.clone()));
        all.sort_unstable_by(|a, b| {
            let id = |info: &Arc<crate::driver::events::ClientInfo>| info.origin.client_id.clone();
            id(a).as_str().cmp(id(b).as_str())
        });
        let skipped = page.saturating_mul(size);
        let clients = all.iter().skip(skipped).take(size);
        ClientPage {
            clients: clients.map(|info| info.shown()).collect(),
            total: all.len(),
        }
    }

    /// A connected client.
    pub fn client(&self, client_id: &str) -> Option<ClientInfo> {
        let handle = self.shared.session(client_id)?;
        let info = handle.lock().info.clone();
        info.map(|info| info.shown())
    }

    /// The subscriptions of a client, connected or not, in the order of their filters; `None` when it has no session.
    pub fn subscriptions(&self, client_id: &str) -> Option<Vec<Subscription>> {
        let handle = self.shared.session(client_id)?;
        let mut subscriptions: Vec<_> = {
            let slot = handle.lock();
            let all = slot.session.subscriptions();
            all.map(|(filter, options)| Subscription::new(filter.clone(), options))
                .collect()
        };
        subscriptions.sort_by_cached_key(|subscription| subscription.filter.to_string());
        Some(subscriptions)
    }

    /// Hands a message to one client, only if it has subscribed to the topic. Rules, retained messages and message
    /// listeners have no part in it.
    ///
    /// Gives whether the client is here and has subscribed. A client that has no session here may have one at another
    /// broker: the [dispatcher](crate::hooks::Dispatcher) gets the message.
    pub fn publish_to(&self, client_id: &str, mut message: Message) -> bool {
        if self.shared.session(client_id).is_none() {
            self.shared.hooks.message_for_elsewhere(client_id, &message);
            return false;
        }
        let now = self.shared.clock.now();
        let mut router = Router::new(&self.shared);
        message.id = router.message_id(now);
        message.accepted_at = now;
        let reached = router.deliver_to(client_id, message);
        drop(router.finish(now));
        reached
    }

    /// Ends a client's connection; an MQTT 5 client is told `reason`, if it is one that DISCONNECT has. Its session lives on as it would after any other
    /// loss of connection, and its Will is published. False when the client is not connected.
    pub fn disconnect(&self, client_id: &str, reason: ReasonCode) -> bool {
        let handle = self.shared.session(client_id);
        handle.is_some_and(|handle| handle.kick(reason.into()))
    }

    /// Ends a client's connection as [`disconnect`](Self::disconnect) does; an MQTT 5 client is told to go to another
    /// server. False when it is not connected.
    pub fn redirect(&self, client_id: &str, elsewhere: &Elsewhere) -> bool {
        let handle = self.shared.session(client_id);
        handle.is_some_and(|handle| handle.kick(elsewhere.farewell()))
    }

    /// Does that to every client that is connected, and gives their number.
    pub fn redirect_all(&self, elsewhere: &Elsewhere) -> usize {
        let mut told = 0;
        self.shared
            .each_session(|handle| told += usize::from(handle.kick(elsewhere.farewell())));
        told
    }

    /// Ends a client's connection and its session. Returns when it has ended; false when there was none.
    pub async fn end_session(&self, client_id: &str) -> bool {
        let Some(handle) = self.shared.session(client_id) else {
            return false;
        };
        handle.evict(CloseReason::Kicked).await;
        drop(self.shared.discard(&handle));
        true
    }

    /// What a network address did lately, one entry for each window; empty when addresses are not
    /// [counted](crate::BrokerBuilder::addresses) or this one is not known.
    pub fn address(&self, address: IpAddr) -> Vec<AddressWindow> {
        let addresses = self.shared.hooks.addresses.as_ref();
        addresses.map_or_else(Vec::new, |addresses| addresses.windows(address))
    }

    /// Turns someone away from now on, for `duration` or until [`unban`](Self::unban), and ends the connections that this
    /// is about. Clients and users are told 0x8A; an address gets no answer at all. Returns when it would survive a crash,
    /// where there is a [storage](crate::BrokerBuilder::storage).
    ///
    /// # Errors
    /// When there are too many bans, or the storage could not keep it: then it holds until the broker ends.
    pub async fn ban(
        &self,
        who: Who,
        duration: Option<Duration>,
        reason: Option<String>,
    ) -> Result<(), BanError> {
        let ticket = self.shared.ban(who, duration, reason)?;
        Ok(ticket.committed().await?)
    }

    /// Lets someone in again; false when nobody of that name was turned away.
    ///
    /// # Errors
    /// When the storage could not keep it: then it holds until the broker ends.
    pub async fn unban(&self, who: Who) -> Result<bool, BanError> {
        if let Who::Address(network) = &who
            && let Some(addresses) = &self.shared.hooks.addresses
            && let Some(address) = network.one_address()
        {
            addresses.unban(address);
        }
        match self.shared.unban(who) {
            Some(ticket) => Ok(ticket.committed().await.map(|()| true)?),
            None => Ok(false),
        }
    }

    /// Whom [`ban`](Self::ban) and [`ban_address`](Self::ban_address) have turned away, as far as it is not over.
    pub fn bans(&self) -> Vec<(Who, Ban)> {
        self.shared.bans()
    }

    /// Ends the connections of a network address and refuses new ones for a while, also after a restart where there is a
    /// [storage](crate::BrokerBuilder::storage); false when there are too many bans.
    pub fn ban_address(&self, address: IpAddr, duration: Duration) -> bool {
        let banned = self
            .shared
            .ban(Who::address(address), Some(duration), None)
            .is_ok();
        if let Some(addresses) = &self.shared.hooks.addresses {
            addresses.ban(address, duration);
        }
        banned
    }

    /// Lets a network address in again and forgets what it did so far.
    pub fn unban_address(&self, address: IpAddr) {
        drop(self.shared.unban(Who::address(address)));
        if let Some(addresses) = &self.shared.hooks.addresses {
            addresses.unban(address);
        }
    }

    /// Calls `task` again and again, for the first time after `every`, until the broker stops.
    pub fn schedule(&self, every: Duration, task: impl Fn() + Send + 'static) -> Scheduled {
        let shared = Arc::clone(&self.shared);
        self.spawn_scheduled(async move {
            // A period of nothing would leave no time for anything else.
            let every = every.max(Duration::from_millis(1));
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                shared.hooks.panics.guard(Hook::Schedule, &task);
            }
        })
    }

    /// Calls `task` once, after `delay`, unless the broker stops before.
    pub fn schedule_once(
        &self,
        delay: Duration,
        task: impl FnOnce() + Send + 'static,
    ) -> Scheduled {
        let shared = Arc::clone(&self.shared);
        self.spawn_scheduled(async move {
            tokio::time::sleep(delay).await;
            shared.hooks.panics.guard(Hook::Schedule, task);
        })
    }

    fn spawn_scheduled(&self, work: impl Future<Output = ()> + Send + 'static) -> Scheduled {
        let mut ending = self.shared.ending.subscribe();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                // A broker that is gone has ended too.
                _ = ending.wait_for(|ending| *ending) => {}
            }
        });
        Scheduled(task.abort_handle())
    }
}
