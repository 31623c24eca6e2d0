//! What was captured, as messages again: by the broker that captures, or by another process meanwhile.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;
use weir_rules::event::{Event, What};
use weir_store::Folder;
use weir_store::capture::{Item, Reading, Recording};

use super::{Head, folder};
use crate::core::Millis;
use crate::core::message::Message;
use crate::driver::events::rule_publish;
use crate::store::records::read_message;

/// Which messages.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// From this number on.
    pub number: u64,
    /// Accepted at this time or later.
    pub from: Millis,
    /// Accepted before this time.
    pub to: Millis,
}

/// Everything that is there.
pub const ALL: Range = Range {
    number: 0,
    from: 0,
    to: Millis::MAX,
};

/// What is found.
pub enum Found {
    /// The messages that follow were taken by these filters.
    Filters(Vec<String>),
    /// A message with its number.
    Message(u64, Box<Message>),
}

/// Opens what was captured below a data folder; `None` when nothing ever was.
///
/// # Errors
/// When the folder cannot be read.
pub fn open(data_dir: &Path) -> io::Result<Option<Recording>> {
    let folder = folder(data_dir);
    if folder.is_dir() {
        Ok(Some(Recording::new(Folder::open(folder)?)))
    } else {
        Ok(None)
    }
}

/// Gives what was captured, in order, until it is told to stop. What cannot be read is in the answer; a message of a later
/// version of weir counts as missing.
///
/// # Errors
/// When a file cannot be read.
pub fn read(
    recording: &Recording,
    range: Range,
    each: &mut dyn FnMut(Found) -> ControlFlow<()>,
) -> io::Result<Reading> {
    let mut unknown = 0;
    let mut reading = recording.read(range.number, range.from, &mut |item| match item {
        Item::Head(head) => match serde_json::from_slice::<Head>(head) {
            Ok(head) => each(Found::Filters(head.filters)),
            Err(_) => ControlFlow::Continue(()),
        },
        Item::Entry { at_ms, .. } if at_ms >= range.to => ControlFlow::Continue(()),
        Item::Entry { number, bytes, .. } => match read_message(bytes) {
            Ok(message) => each(Found::Message(number, Box::new(message))),
            Err(_) => {
                unknown += 1;
                ControlFlow::Continue(())
            }
        },
    })?;
    reading.missing += unknown;
    Ok(reading)
}

/// The smallest time at which one of these messages was accepted; `None` when there is none. They stand in the order in
/// which they were captured, and clocks are set back.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn first_time(recording: &Recording, range: Range) -> io::Result<Option<Millis>> {
    let mut first: Option<Millis> = None;
    recording.read(range.number, range.from, &mut |item| {
        if let Item::Entry { at_ms, .. } = item
            && at_ms < range.to
        {
            first = Some(first.map_or(at_ms, |first| first.min(at_ms)));
        }
        ControlFlow::Continue(())
    })?;
    Ok(first)
}

/// A time as `weir replay --from` takes it.
pub(crate) fn shown_time(at: Millis) -> String {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX);
    format!("{at:.3}")
}

/// The message as the rules saw it when it came.
pub fn event(message: &Message) -> Event {
    let at = i64::try_from(message.accepted_at).unwrap_or(i64::MAX);
    let mut publish = rule_publish(message);
    publish.received_at_ms = at;
    Event {
        timestamp_ms: at,
        what: What::Publish(publish),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_store::capture::{Bounds, Capture};

    use super::*;

    #[test]
    fn the_first_time_of_what_is_left_is_the_smallest_whatever_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            bytes: 1 << 20,
            age: Duration::from_secs(60),
        };
        let open = || Folder::open(folder.path()).unwrap();
        let capture = Capture::open(open(), Vec::new(), bounds, |_| ()).unwrap();
        let numbers = [50, 90, 70, 60, 80].map(|at_ms| capture.append(at_ms, |out| out.push(1)));
        capture.flush();
        let first = |number, from| {
            let to = Millis::MAX;
            first_time(&Recording::new(open()), Range { number, from, to }).unwrap()
        };
        assert_eq!(first(0, 0), Some(50));
        assert_eq!(first(numbers[1], 0), Some(60));
        assert_eq!(first(numbers[1], 65), Some(70));
        assert_eq!(first(numbers[4], 0), Some(80));
        assert_eq!(first(numbers[4] + 1, 0), None);
    }
}
