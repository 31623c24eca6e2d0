//! Subscriptions that the operator gives to every client when it connects.

use weir_mqtt::{QoS, SubscriptionFilter, SubscriptionRequest, TopicName};

use super::client::Client;
use crate::auth::FirstMessage;
use crate::core::Millis;
use crate::core::message::Message;
use crate::settings::AutoSubscribe;

impl AutoSubscribe {
    /// The request of one client; `None` when its name makes no filter.
    fn of(&self, client_id: &str, username: &str) -> Option<SubscriptionRequest> {
        // A name with a wildcard or separator would subscribe to more than was meant.
        let unfit = |name: &str| name.contains(['+', '#', '/']);
        if self.topic.contains("%c") && unfit(client_id) {
            return None;
        }
        if self.topic.contains("%u") && (username.is_empty() || unfit(username)) {
            return None;
        }
        let text = self.topic.replace("%c", client_id).replace("%u", username);
        Some(SubscriptionRequest {
            filter: SubscriptionFilter::parse(&text).ok()?,
            options: self.options,
        })
    }
}

impl Client {
    /// Subscribes the client as the operator wants it, and who has admitted it. Nothing is said about it.
    pub(super) fn subscribe_by_itself(&mut self, now: Millis) {
        let origin = &self.info.origin;
        let username = origin.username.as_deref().unwrap_or("");
        let requests: Vec<_> = self
            .shared
            .settings
            .auto_subscribe
            .iter()
            .filter_map(|one| one.of(&origin.client_id, username))
            .chain(self.subject.identity.subscriptions.iter().cloned())
            .collect();
        if requests.is_empty() {
            return;
        }
        self.take_subscriptions(now, requests);
        self.send_first_message(now);
    }

    /// Sends the client what who has admitted it wants it to have, and nobody else.
    fn send_first_message(&mut self, now: Millis) {
        let Some(first) = self.subject.identity.first_message.clone() else {
            return;
        };
        let FirstMessage { topic, payload } = *first;
        let Ok(topic) = TopicName::parse(topic) else {
            return;
        };
        let mut message = Message::new(topic, payload, QoS::AtMostOnce, false);
        message.id = self.router.message_id(now);
        message.accepted_at = now;
        self.router.deliver_untold(&self.handle.client_id, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::subscribe_options::options;

    fn filter(topic: &str, client_id: &str, username: &str) -> Option<String> {
        let one = AutoSubscribe {
            topic: topic.to_owned(),
            options: options(QoS::AtLeastOnce, false, false, 0),
        };
        let request = one.of(client_id, username)?;
        Some(request.filter.to_string())
    }

    #[test]
    fn names_stand_in_for_their_places() {
        assert_eq!(filter("to/%c/#", "a", "").as_deref(), Some("to/a/#"));
        assert_eq!(filter("to/%u", "a", "ann").as_deref(), Some("to/ann"));
        assert_eq!(filter("all", "a/b", "").as_deref(), Some("all"));
    }

    #[test]
    fn a_name_that_would_subscribe_to_more_gets_nothing() {
        assert_eq!(filter("to/%c", "+", ""), None);
        assert_eq!(filter("to/%c", "a/b", ""), None);
        assert_eq!(filter("to/%u", "a", ""), None);
    }
}
