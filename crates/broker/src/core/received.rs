//! The receiving half of QoS 2: which packet identifiers of the client wait for their PUBREL.

use std::collections::BTreeSet;

use weir_mqtt::PacketId;

/// QoS 2 packet identifiers that were acknowledged with PUBREC and not yet released.
#[derive(Debug, Default)]
pub struct Received(BTreeSet<PacketId>);

impl Received {
    /// Remembers the identifier; false when it was known, so that the message must not be routed again.
    pub fn first_sight(&mut self, id: PacketId) -> bool {
        self.0.insert(id)
    }

    /// Whether the identifier waits for its PUBREL.
    pub fn contains(&self, id: PacketId) -> bool {
        self.0.contains(&id)
    }

    /// Forgets the identifier at PUBREL or after a refusal; false when it was not known.
    pub fn release(&mut self, id: PacketId) -> bool {
        self.0.remove(&id)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
