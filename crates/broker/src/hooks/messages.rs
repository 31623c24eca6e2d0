//! Who sees every message that the broker accepts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::{Hook, Hooks};
use crate::core::message::Message;

/// Sees each message that was accepted: from clients, from inside, Wills, and what rules republish.
///
/// What the broker says of itself under `$SYS/` is not shown. Best effort: called on the publisher's task before the message goes to its subscribers, whether or not it will
/// survive a crash. Must not wait; see [`message_channel`] for work that takes time. It may publish.
///
/// ```
/// use weir::Message;
///
/// let builder = weir::Broker::builder()
///     .on_message(|message: &Message| println!("{} bytes", message.payload.len()));
/// # drop(builder);
/// ```
pub trait MessageListener: Send + Sync + 'static {
    /// A message was accepted.
    fn on_message(&self, message: &Message);
}

impl<F> MessageListener for F
where
    F: Fn(&Message) + Send + Sync + 'static,
{
    fn on_message(&self, message: &Message) {
        self(message);
    }
}

impl<L: MessageListener + ?Sized> MessageListener for Arc<L> {
    fn on_message(&self, message: &Message) {
        (**self).on_message(message);
    }
}

/// The sending end of [`message_channel`]: a listener.
#[derive(Clone, Debug)]
pub struct MessageChannel {
    sender: mpsc::Sender<Message>,
    missed: Arc<AtomicU64>,
}

/// A listener that hands messages to a task of yours, at most `capacity` of them ahead. What finds no room is not
/// waited for but counted: [`MessageChannel::missed`].
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (listener, mut messages) = weir::hooks::message_channel(1024);
/// let broker = weir::Broker::builder().on_message(listener).start().await?;
/// broker.publish(weir::Message::text("greeting", "hello")?);
/// let message = messages.recv().await.expect("the broker runs");
/// assert_eq!(message.topic.as_str(), "greeting");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub fn message_channel(capacity: usize) -> (MessageChannel, mpsc::Receiver<Message>) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let missed = Arc::default();
    (MessageChannel { sender, missed }, receiver)
}

impl MessageChannel {
    /// How many messages found no room.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl MessageListener for MessageChannel {
    fn on_message(&self, message: &Message) {
        match self.sender.try_reserve() {
            // Memory of its own: a message that waits must not hold a read buffer.
            Ok(place) => place.send(message.detached()),
            Err(_) => drop(self.missed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

impl Hooks {
    /// A message was accepted. `dispatch`: it was made here and not by another broker.
    #[cold]
    pub(crate) fn message_accepted(&self, message: &Message, dispatch: bool) {
        let Some(hooks) = &self.messages else { return };
        if message.topic.starts_with("$SYS/") {
            return;
        }
        for listener in &hooks.listeners {
            self.panics
                .guard(Hook::Message, || listener.on_message(message));
        }
        if let Some(dispatcher) = hooks.dispatcher.as_ref().filter(|_| dispatch) {
            self.panics
                .guard(Hook::Dispatcher, || dispatcher.send(message));
        }
    }

    /// A message is for a client that is not connected here.
    pub(crate) fn message_for_elsewhere(&self, client_id: &str, message: &Message) {
        let dispatcher = self
            .messages
            .as_ref()
            .and_then(|hooks| hooks.dispatcher.as_ref());
        if let Some(dispatcher) = dispatcher {
            self.panics
                .guard(Hook::Dispatcher, || dispatcher.send_to(client_id, message));
        }
    }
}
