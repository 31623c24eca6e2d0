//! What other brokers' users have lost messages to, done to weir with real services. `docs/lessons.md` is the index.

mod bridges;
mod reload;
mod sessions;
mod sinks;
