//! Messages that a storage gave back, in little memory until somebody wants them: most of them wait for clients that
//! are away.

use std::sync::Arc;

use weir_mqtt::QoS;

use super::Waiting;
use super::records::{read_delivery, write_delivery};

/// Payloads from here on are not copied to save a few allocations.
const LARGE_PAYLOAD: usize = 4096;
/// What stands before an encoded message: its size for the bounds of a queue, and its QoS.
const HEAD_BYTES: usize = 4 + 1;

/// A message that is owed to a session.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// As it is, because others hold the message too, or because it is large.
    Whole(Box<Waiting>),
    /// Encoded behind its head, in one piece of memory.
    Packed(Box<[u8]>),
}

impl Stored {
    /// `buffer` is used for encoding, whatever is in it.
    pub(crate) fn new(waiting: Waiting, buffer: &mut Vec<u8>) -> Self {
        let message = &waiting.message;
        let is_shared = Arc::strong_count(message) > 1;
        let size = match u32::try_from(message.size()) {
            Ok(size) if !is_shared && message.payload.len() < LARGE_PAYLOAD => size,
            _ => return Self::Whole(Box::new(waiting)),
        };
        buffer.clear();
        buffer.extend_from_slice(&size.to_le_bytes());
        buffer.push(waiting.qos.as_u8());
        write_delivery(&waiting, buffer);
        Self::Packed(buffer.as_slice().into())
    }

    /// The [size](crate::Message::size) of the message.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Whole(waiting) => waiting.message.size(),
            Self::Packed(bytes) => {
                let size = bytes.first_chunk().copied().unwrap_or_default();
                u32::from_le_bytes(size) as usize
            }
        }
    }

    /// The QoS of the delivery.
    pub(crate) fn qos(&self) -> QoS {
        match self {
            Self::Whole(waiting) => waiting.qos,
            Self::Packed(bytes) => {
                let qos = bytes.get(HEAD_BYTES - 1).copied().unwrap_or_default();
                QoS::try_from(qos).unwrap_or(QoS::AtMostOnce)
            }
        }
    }

    /// The message as the broker handles it.
    pub(crate) fn to_waiting(&self) -> Waiting {
        match self {
            Self::Whole(waiting) => Waiting::clone(waiting),
            Self::Packed(bytes) => unpacked(bytes),
        }
    }

    /// The same without a copy.
    pub(crate) fn into_waiting(self) -> Waiting {
        match self {
            Self::Whole(waiting) => *waiting,
            Self::Packed(bytes) => unpacked(&bytes),
        }
    }
}

fn unpacked(bytes: &[u8]) -> Waiting {
    let encoded = bytes.get(HEAD_BYTES..).unwrap_or_default();
    read_delivery(encoded).expect("it was encoded by this very process")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn waiting(payload: &str) -> Waiting {
        let message = Message::text("site/7/up", payload).unwrap();
        Waiting {
            message: Arc::new(message.with_qos(QoS::ExactlyOnce)),
            qos: QoS::AtLeastOnce,
            retain: true,
            subscription_ids: None,
            number: 300,
            group: None,
        }
    }

    #[test]
    fn a_small_message_that_nobody_else_holds_is_packed_and_comes_back_as_it_was() {
        let (message, mut buffer) = (waiting("41.5"), b"of the one before".to_vec());
        let shown = format!("{message:?}");
        let size = message.message.size();
        let stored = Stored::new(message, &mut buffer);
        assert!(
            matches!(&stored, Stored::Packed(bytes) if bytes.len() < 64),
            "{stored:?}"
        );
        assert_eq!((stored.size(), stored.qos()), (size, QoS::AtLeastOnce));
        assert_eq!(format!("{:?}", stored.to_waiting()), shown);
        assert_eq!(format!("{:?}", stored.into_waiting()), shown);
    }

    #[test]
    fn what_others_hold_too_and_what_is_large_stays_as_it_is() {
        let shared = waiting("41.5");
        let other = Arc::clone(&shared.message);
        let large = waiting(&"x".repeat(LARGE_PAYLOAD));
        let payload = large.message.payload.as_ptr();
        let mut buffer = Vec::new();
        let shared = Stored::new(shared, &mut buffer).into_waiting();
        assert!(Arc::ptr_eq(&shared.message, &other));
        let large = Stored::new(large, &mut buffer);
        assert_eq!(large.into_waiting().message.payload.as_ptr(), payload);
    }
}
