//! A log of batches that outlives crashes: what was synced is there again, whole and in order, and nothing else is
//! taken for it.
//!
//! [`Committer`] takes batches from many threads and syncs once for all that wait. [`Log`] is the files: segments of
//! frames, and a snapshot that stands for the segments before it. [`Disk`] is what the files lie on, so that tests can
//! lose power at any moment.
//!
//! A batch has records, which are all given when the log is opened, and rows, which stand in [`Queue`]s on the disk until
//! somebody has read and settled them.
//!
//! [`capture`] is another log, of entries that nobody was promised: bounded by age and size, the oldest go.
//!
//! Never here: what a batch means, tokio.

mod body;
pub mod capture;
mod committer;
#[cfg(test)]
mod damaged;
mod disk;
#[cfg(test)]
mod formats;
mod frame;
mod line;
mod log;
#[cfg(any(test, feature = "unreliable"))]
mod lossy;
mod queues;
#[cfg(test)]
mod unreliable;

pub use body::{Batch, QueueId};
pub use committer::{Committer, Options, Outcome, Trouble, Written};
pub use disk::{Disk, DiskFile, Folder};
pub use log::{Damage, Fold, Log, Missing, OpenError, Recovered};
#[cfg(any(test, feature = "unreliable"))]
pub use lossy::{OpenFile, Unreliable};
pub use queues::{Gap, Queue, Standing};
