//! A client that was let in for tokens: it is told of their end, shows others where it is, and goes with the last.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use weir_mqtt::{ProtocolVersion, Publish, QoS, ReasonCode, Utf8};

use super::client::{Client, Leave};
use super::handle::{ConnectionKey, SessionHandle};
use crate::auth::devices::TokenLease;
use crate::auth::devices::tokens::{Notice, Standing, UPLOAD};
use crate::pipeline::world::now_ms;
use crate::stats::CloseReason;

/// Watches over the tokens of a connection for as long as it is there.
pub(super) struct Leased {
    lease: Arc<TokenLease>,
    receiver: Arc<Receiver>,
    task: tokio::task::AbortHandle,
}

/// To whom notices go.
struct Receiver {
    handle: Weak<SessionHandle>,
    key: ConnectionKey,
    version: ProtocolVersion,
}

impl Receiver {
    /// Tells the client something that it has not subscribed to; false when it is gone.
    fn tell(&self, notice: &Notice) -> bool {
        let Some(handle) = self.handle.upgrade() else {
            return false;
        };
        let payload = Bytes::from(notice.payload.clone());
        let publish = Publish::new(Utf8::from(notice.topic), payload);
        let mut bytes = Vec::new();
        if let Err(error) = publish.encode(self.version, &mut bytes) {
            tracing::error!(%error, "a notice of a token's end could not be encoded");
            return true;
        }
        {
            let mut slot = handle.lock();
            if slot.owner != Some(self.key) {
                return false;
            }
            slot.session.outbox().append(&bytes, 1);
        }
        handle.wake();
        true
    }

    fn close(&self) {
        if let Some(handle) = self.handle.upgrade()
            && handle.lock().owner == Some(self.key)
        {
            handle.request_close(CloseReason::PermissionExpired);
        }
    }
}

impl Leased {
    /// Begins when the client was welcomed: nothing stands before CONNACK. `[MQTT-3.2.0-1]`
    pub(super) fn watch(
        lease: &Arc<TokenLease>,
        handle: &Arc<SessionHandle>,
        key: ConnectionKey,
        version: ProtocolVersion,
    ) -> Self {
        let receiver = Arc::new(Receiver {
            handle: Arc::downgrade(handle),
            key,
            version,
        });
        let (watched, told) = (Arc::clone(lease), Arc::clone(&receiver));
        let task = tokio::spawn(async move {
            let hear = |standing: &Standing| {
                let there = standing.notices.iter().all(|notice| told.tell(notice));
                if standing.over {
                    told.close();
                }
                there
            };
            watched.follow(hear).await;
        });
        Self {
            lease: Arc::clone(lease),
            receiver,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_token(publish: &Publish) -> bool {
    *publish.topic == *UPLOAD && publish.qos != QoS::ExactlyOnce
}

impl Client {
    /// Watches over the tokens that the client of this connection was let in for.
    pub(super) fn watch_tokens(&mut self, key: ConnectionKey) {
        let lease = self.subject.identity.lease.as_ref();
        self.leased = lease.map(|lease| Leased::watch(lease, &self.handle, key, self.info.version));
    }

    /// Whether this is a token that was looked at while it could not be acknowledged yet.
    pub(super) fn has_taken_token(&self, publish: &Publish) -> bool {
        self.leased.is_some() && publish.payload.is_empty() && is_token(publish)
    }

    /// Whether this is no message but another token; then it is looked at here.
    pub(super) fn takes_token(&mut self, publish: &Publish) -> Result<bool, Leave> {
        let Some(leased) = self.leased.as_ref().filter(|_| is_token(publish)) else {
            return Ok(false);
        };
        let renewed = leased.lease.renew(&publish.payload, now_ms());
        let Err(notice) = renewed else {
            if self.parked.is_empty() {
                self.acknowledge(publish.qos, publish.packet_id, ReasonCode::Success)?;
            } else if publish.packet_id.is_some() {
                // [MQTT-4.6.0-2] The token counts already, its acknowledgement comes behind those of what waits.
                self.parked.push_back(Publish {
                    payload: Bytes::new(),
                    ..publish.clone()
                });
            }
            return Ok(true);
        };
        tracing::warn!(client_id = %self.handle.client_id, notice = notice.payload, "a client has shown a token that is not good");
        leased.receiver.tell(&notice);
        Err(Leave {
            reason: CloseReason::NotAuthorized,
            say: Some(ReasonCode::NotAuthorized),
            why: "the token that the client has shown is not good",
        })
    }
}
