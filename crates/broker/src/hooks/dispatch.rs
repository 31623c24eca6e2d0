//! Messages on their way to other brokers of the same house.

use crate::core::message::Message;

/// Takes messages to other brokers: over Redis, a message queue, a wire of your own.
///
/// What comes from there goes in with [`Broker::publish_local`](crate::Broker::publish_local) and
/// [`Broker::publish_to`](crate::Broker::publish_to), neither of which is dispatched again.
/// Called on the publisher's task; must not wait.
pub trait Dispatcher: Send + Sync + 'static {
    /// A message was accepted here, for everyone who wants its topic wherever they are.
    fn send(&self, message: &Message);

    /// A message is for one client, and it is not connected here.
    fn send_to(&self, client_id: &str, message: &Message);
}
