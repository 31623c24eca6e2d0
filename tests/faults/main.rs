//! Bad days: what rows are promised when the far side is away, slow or refuses.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod away;
mod backfill;
mod bans;
mod bridges;
mod database;
mod far_sides;
mod full_disk;
mod killed;
mod lessons;
mod many;
mod published_again;
mod replay;
mod rows;
mod strangers;
mod synced;
mod torture;
mod trace;

/// The binary under test.
const WEIR: &str = env!("CARGO_BIN_EXE_weir");
