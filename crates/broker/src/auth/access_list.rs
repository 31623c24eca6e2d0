//! The access list of a broker at work: a file that can change, what an authenticator says of a client, and what
//! holds where neither speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use weir_mqtt::{QoS, ReasonCode, SubscriptionFilter};

use super::{Acl, Authorizer, PublishVerdict, Subject};

/// What holds for what no rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum NoMatch {
    /// It is allowed.
    Allow,
    /// It is not.
    Deny,
}

/// What becomes of a client that publishes what it may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum DenyAction {
    /// The message is dropped; MQTT 5 clients are told.
    #[default]
    Ignore,
    /// The client is disconnected.
    Disconnect,
}

/// Decides by access lists.
#[derive(Debug)]
pub struct AccessList {
    list: ArcSwapOption<Acl>,
    generation: AtomicU64,
    no_match: Option<NoMatch>,
    deny_action: DenyAction,
}

impl AccessList {
    /// Decides by `list`. Without a `no_match` what nobody speaks of is denied, but for clients of this machine as
    /// long as there is no list at all.
    pub fn new(list: Option<Acl>, no_match: Option<NoMatch>, deny_action: DenyAction) -> Self {
        Self {
            list: ArcSwapOption::from_pointee(list),
            generation: AtomicU64::new(1),
            no_match,
            deny_action,
        }
    }

    /// Takes another list. Verdicts that are remembered are asked for again.
    pub fn replace(&self, list: Acl) {
        self.list.store(Some(Arc::new(list)));
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn allows(&self, subject: &Subject, ask: impl Fn(&Acl) -> Option<bool>) -> bool {
        if subject.identity.superuser {
            return true;
        }
        let own = subject.identity.acl.as_deref();
        let list = self.list.load();
        own.and_then(&ask)
            .or_else(|| list.as_deref().and_then(&ask))
            .unwrap_or_else(|| match self.no_match {
                Some(no_match) => no_match == NoMatch::Allow,
                None => own.is_none() && list.is_none() && is_local(subject),
            })
    }
}

fn is_local(subject: &Subject) -> bool {
    subject
        .peer
        .is_none_or(|peer| peer.ip().to_canonical().is_loopback())
}

impl Authorizer for AccessList {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn publish(&self, subject: &Subject, topic: &str, _: QoS, _: bool) -> PublishVerdict {
        if self.allows(subject, |acl| acl.publish(subject, topic)) {
            PublishVerdict::Allow
        } else {
            match self.deny_action {
                DenyAction::Ignore => PublishVerdict::Ignore,
                DenyAction::Disconnect => PublishVerdict::Disconnect,
            }
        }
    }

    fn subscribe(
        &self,
        subject: &Subject,
        filter: &SubscriptionFilter,
        qos: QoS,
    ) -> Result<QoS, ReasonCode> {
        if self.allows(subject, |acl| acl.subscribe(subject, filter)) {
            Ok(qos)
        } else {
            Err(ReasonCode::NotAuthorized)
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::Utf8;

    use super::*;
    use crate::auth::Identity;
    use crate::problem::Source;

    fn subject(peer: &str, identity: Identity) -> Subject {
        Subject {
            client_id: Utf8::from("c"),
            username: None,
            peer: Some(peer.parse().unwrap()),
            listener: "l".into(),
            certificate: None,
            identity: Arc::new(identity),
        }
    }

    fn acl(text: &str) -> Acl {
        Acl::parse(&Source::new("acl", text)).unwrap()
    }

    fn may(access: &AccessList, subject: &Subject, topic: &str) -> bool {
        access.publish(subject, topic, QoS::AtMostOnce, false) == PublishVerdict::Allow
    }

    #[test]
    fn without_a_list_only_clients_of_this_machine_may_do_anything() {
        let access = AccessList::new(None, None, DenyAction::Ignore);
        assert!(may(
            &access,
            &subject("127.0.0.1:1", Identity::default()),
            "t"
        ));
        assert!(may(
            &access,
            &subject("[::ffff:127.0.0.1]:1", Identity::default()),
            "t"
        ));
        assert!(!may(
            &access,
            &subject("10.0.0.1:1", Identity::default()),
            "t"
        ));
        let access = AccessList::new(None, Some(NoMatch::Allow), DenyAction::Ignore);
        assert!(may(
            &access,
            &subject("10.0.0.1:1", Identity::default()),
            "t"
        ));
        let access = AccessList::new(Some(acl("")), None, DenyAction::Ignore);
        assert!(!may(
            &access,
            &subject("127.0.0.1:1", Identity::default()),
            "t"
        ));
    }

    #[test]
    fn what_the_authenticator_says_comes_first_and_then_the_list() {
        let access = AccessList::new(
            Some(acl("allow all b\nallow all a")),
            None,
            DenyAction::Ignore,
        );
        let identity = Identity {
            acl: Some(Arc::new(acl("deny all a\nallow all x"))),
            ..Identity::default()
        };
        let client = subject("127.0.0.1:1", identity);
        assert!(!may(&access, &client, "a") && may(&access, &client, "b"));
        assert!(may(&access, &client, "x") && !may(&access, &client, "other"));
    }

    #[test]
    fn a_superuser_may_do_everything() {
        let access = AccessList::new(Some(acl("deny all #")), None, DenyAction::Disconnect);
        let identity = Identity {
            superuser: true,
            ..Identity::default()
        };
        assert!(may(&access, &subject("10.0.0.1:1", identity), "t"));
        let verdict = access.publish(
            &subject("10.0.0.1:1", Identity::default()),
            "t",
            QoS::AtMostOnce,
            false,
        );
        assert_eq!(verdict, PublishVerdict::Disconnect);
    }

    #[test]
    fn another_list_changes_the_generation() {
        let access = AccessList::new(Some(acl("allow all #")), None, DenyAction::Ignore);
        let before = access.generation();
        access.replace(acl("deny all #"));
        assert_ne!(access.generation(), before);
        assert!(!may(
            &access,
            &subject("127.0.0.1:1", Identity::default()),
            "t"
        ));
    }
}
