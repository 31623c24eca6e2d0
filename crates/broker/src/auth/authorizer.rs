//! What a client may publish and subscribe to, once it is admitted.
//!
//! A verdict is asked for once per client, topic, QoS and RETAIN flag and kept beside the routes of the topic, until
//! [`Authorizer::generation`] changes: a message costs no walk through any list.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_mqtt::{QoS, ReasonCode, SubscriptionFilter, Utf8};

use super::Identity;
use super::certificate::PeerCertificate;

/// Who wants to publish or subscribe.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The client identifier.
    pub client_id: Utf8,
    /// The user name that was authenticated; `None` for an anonymous client.
    pub username: Option<Utf8>,
    /// The client's address; `None` when it came by a path of this machine.
    pub peer: Option<SocketAddr>,
    /// The name of the listener that the client came through.
    pub listener: Arc<str>,
    /// The certificate that the client has shown and the listener has verified.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// What the authenticator said about the client.
    pub identity: Arc<Identity>,
}

impl Subject {
    /// The common name of the client's certificate.
    pub fn cert_cn(&self) -> Option<&str> {
        self.certificate.as_deref()?.common_name.as_deref()
    }
}

/// Whether a client may publish to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishVerdict {
    /// It may.
    Allow,
    /// It may not: the message is dropped, counted and acknowledged, with 0x87 where the version has reasons.
    Ignore,
    /// It may not, and it is disconnected for trying.
    Disconnect,
}

/// Decides what admitted clients may do. Asked in the midst of a socket read: it must answer at once.
pub trait Authorizer: Send + Sync + 'static {
    /// Changes whenever an answer may have changed.
    fn generation(&self) -> u64;

    /// Whether `subject` may publish to `topic`. The answer holds until the generation changes.
    fn publish(&self, subject: &Subject, topic: &str, qos: QoS, retain: bool) -> PublishVerdict;

    /// The QoS that `subject` gets for `filter`, at most the one that it asks for, or why it gets nothing.
    ///
    /// # Errors
    /// With the reason that stands in SUBACK.
    fn subscribe(
        &self,
        subject: &Subject,
        filter: &SubscriptionFilter,
        qos: QoS,
    ) -> Result<QoS, ReasonCode>;
}

impl<A: Authorizer + ?Sized> Authorizer for Arc<A> {
    fn generation(&self) -> u64 {
        (**self).generation()
    }

    fn publish(&self, subject: &Subject, topic: &str, qos: QoS, retain: bool) -> PublishVerdict {
        (**self).publish(subject, topic, qos, retain)
    }

    fn subscribe(
        &self,
        subject: &Subject,
        filter: &SubscriptionFilter,
        qos: QoS,
    ) -> Result<QoS, ReasonCode> {
        (**self).subscribe(subject, filter, qos)
    }
}

/// Everyone may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn generation(&self) -> u64 {
        0
    }

    fn publish(&self, _: &Subject, _: &str, _: QoS, _: bool) -> PublishVerdict {
        PublishVerdict::Allow
    }

    fn subscribe(&self, _: &Subject, _: &SubscriptionFilter, qos: QoS) -> Result<QoS, ReasonCode> {
        Ok(qos)
    }
}

/// Verdicts about one client and one topic, for every QoS and RETAIN flag that it has used there.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Two bits for each of six combinations: 0 not asked yet, else the verdict.
    known: std::sync::atomic::AtomicU16,
}

impl Verdicts {
    /// The verdict, found by `ask` if it is the first time.
    pub(crate) fn of(
        &self,
        qos: QoS,
        retain: bool,
        ask: impl FnOnce() -> PublishVerdict,
    ) -> PublishVerdict {
        use std::sync::atomic::Ordering::Relaxed;
        let at = u16::from(qos.as_u8()) * 4 + u16::from(retain) * 2;
        match self.known.load(Relaxed) >> at & 0b11 {
            1 => PublishVerdict::Allow,
            2 => PublishVerdict::Ignore,
            3 => PublishVerdict::Disconnect,
            _ => {
                let verdict = ask();
                let bits: u16 = match verdict {
                    PublishVerdict::Allow => 1,
                    PublishVerdict::Ignore => 2,
                    PublishVerdict::Disconnect => 3,
                };
                self.known.fetch_or(bits << at, Relaxed);
                verdict
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_asked_for_once_for_each_qos_and_retain_flag() {
        let verdicts = Verdicts::default();
        let all = [
            (QoS::AtMostOnce, false, PublishVerdict::Allow),
            (QoS::AtLeastOnce, false, PublishVerdict::Ignore),
            (QoS::ExactlyOnce, true, PublishVerdict::Disconnect),
            (QoS::ExactlyOnce, false, PublishVerdict::Allow),
        ];
        for (qos, retain, verdict) in all {
            assert_eq!(verdicts.of(qos, retain, || verdict), verdict);
        }
        for (qos, retain, verdict) in all {
            let again = verdicts.of(qos, retain, || unreachable!("it is known"));
            assert_eq!(again, verdict);
        }
    }
}
