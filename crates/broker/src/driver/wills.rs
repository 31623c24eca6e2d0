//! Wills: what a CONNECT may leave, and what becomes of it when it is due.
//!
//! The topic of a Will is treated like that of a PUBLISH: it may be rewritten, and `$delayed/…` and `$retain/…` mean the
//! same. The Will keeps the topic that came; what that means is found when it is published.

use weir_mqtt::{Connect, ReasonCode, Utf8};

use super::Shared;
use super::router::Router;
use crate::auth::{PublishVerdict, Subject};
use crate::core::Millis;
use crate::core::connect::Refused;
use crate::core::message::Message;
use crate::core::special_topic::{Treated, treat};
use crate::core::topic_rewrite::{Rewrites, Sender};
use crate::core::will::Will;
use crate::stats::DropReason;

/// Where a Will for `topic` goes, and when.
fn destination(
    rewrites: &Rewrites,
    topic: &Utf8,
    retain: bool,
    sender: Sender<'_>,
) -> Result<Treated, &'static str> {
    let rewritten = |topic: &Utf8| rewrites.publish(topic, sender);
    let topic = rewritten(topic).unwrap_or_else(|| topic.clone());
    let Some(mut treated) = treat(&topic)? else {
        return Ok(Treated {
            topic,
            delay_s: None,
            retain_s: None,
        });
    };
    treated.check_retain(retain)?;
    if let Some(other) = rewritten(&treated.topic) {
        treated.topic = other;
    }
    Ok(treated)
}

impl Shared {
    /// A client that leaves a Will for a topic that it may not publish to, or that is none, is told so at once, not when it
    /// is too late.
    pub(super) fn check_will(&self, connect: &Connect, subject: &Subject) -> Result<(), Refused> {
        let Some(will) = &connect.will else {
            return Ok(());
        };
        let refused = |reason| Err(Refused::new(reason, ""));
        let max_payload = self.settings.limits.client.max_payload;
        if max_payload.is_some_and(|max| will.payload.len() > max) {
            return refused(ReasonCode::QuotaExceeded);
        }
        let sender = Sender {
            client_id: &subject.client_id,
            username: subject.username.as_deref().unwrap_or(""),
        };
        let topic = will.topic.clone().into_utf8();
        let goes_to = destination(&self.settings.rewrites, &topic, will.retain, sender)
            .map_err(|why| Refused::new(ReasonCode::TopicNameInvalid, why))?;
        match self.may_publish(subject, &goes_to.topic, will.qos, will.retain) {
            PublishVerdict::Allow => Ok(()),
            PublishVerdict::Ignore | PublishVerdict::Disconnect => {
                refused(ReasonCode::NotAuthorized)
            }
        }
    }
}

impl Router {
    /// Publishes a Will of `subject`. One that finds no room in a sink is dropped and counted: there is nobody to wait.
    /// One that was allowed when the client connected may have been forbidden since.
    pub(crate) fn publish_will(&mut self, now: Millis, will: Will, subject: Option<&Subject>) {
        let mut message = will.into_message(now);
        message.id = self.message_id(now);
        message.accepted_at = now;
        let sender = Sender {
            client_id: &message.origin.client_id,
            username: message.origin.username.as_deref().unwrap_or(""),
        };
        let rewrites = &self.shared.settings.rewrites;
        let Ok(treated) = destination(rewrites, &message.topic, message.retain, sender) else {
            return self.drop_message(DropReason::TopicInvalid, &message);
        };
        message.topic = treated.topic;
        message.retain_s = treated.retain_s.filter(|seconds| *seconds > 0);
        let allowed = subject.is_none_or(|subject| {
            let Message {
                topic, qos, retain, ..
            } = &message;
            self.shared.may_publish(subject, topic, *qos, *retain) == PublishVerdict::Allow
        });
        if !allowed {
            return self.drop_message(DropReason::NotAuthorized, &message);
        }
        if let Some(seconds) = treated.delay_s {
            if self.shared.store.is_full() {
                return self.drop_message(DropReason::StoreFull, &message);
            }
            let at = now + u64::from(seconds) * 1000;
            if !self.shared.publish_later(at, &message, &mut self.effects) {
                self.drop_message(DropReason::DelayedFull, &message);
            }
            return;
        }
        if let Some((reason, message)) = self.publish(now, message).dropped() {
            self.drop_message(reason, &message);
        }
    }
}
