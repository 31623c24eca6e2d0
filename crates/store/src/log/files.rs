//! What the files of a log are called, and how each begins.

use crate::body::{self, Part};
use crate::disk::{Disk, DiskFile};
use crate::queues::{FileId, random};

use super::OpenError;

pub(super) const SEGMENT: &str = "log-";
pub(super) const SNAPSHOT: &str = "snapshot-";
pub(super) const ROWS: &str = "rows-";
/// Being written: what a crash leaves of it is nothing.
pub(super) const UNFINISHED: &str = "unfinished-";
/// Copies of files in which something was damaged.
pub(super) const DAMAGED: &str = "damaged-";
/// Begins every file: what it is, and the version of the format.
pub(super) const MAGIC: &[u8; 8] = b"weirlog\x02";
/// Magic, and twice a salt with its checksum.
pub(super) const HEAD_BYTES: usize = 8 + 2 * 8;

/// A new file with its head, durable by name; and its salt.
pub(super) fn begin<D: Disk>(disk: &D, name: &str) -> Result<(D::File, u32), OpenError> {
    let salt = random().to_le_bytes();
    let salt = [salt[0], salt[1], salt[2], salt[3]];
    let begin = || {
        let mut file = disk.create(name)?;
        let mut head = MAGIC.to_vec();
        for _ in 0..2 {
            head.extend_from_slice(&salt);
            head.extend_from_slice(&crc32fast::hash(&salt).to_le_bytes());
        }
        file.append(&head)?;
        file.sync()?;
        disk.sync_names()?;
        Ok((file, u32::from_le_bytes(salt)))
    };
    begin().map_err(OpenError::io(name))
}

/// The salt in the head of a file, and whether all of the head is sound.
pub(super) fn salt_of(head: &[u8]) -> (Option<u32>, bool) {
    let copies = head.get(MAGIC.len()..).unwrap_or_default().chunks_exact(8);
    let sound: Vec<u32> = copies
        .filter_map(|copy| {
            let (salt, sum) = copy.split_at(4);
            (crc32fast::hash(salt).to_le_bytes() == sum)
                .then(|| u32::from_le_bytes(salt.try_into().unwrap_or_default()))
        })
        .collect();
    let all = sound.len() == 2 && sound[0] == sound[1] && head.starts_with(MAGIC);
    (sound.first().copied(), all)
}

/// Gives the parts of a body. The checksum was right: what cannot be understood is of another version.
pub(super) fn understood<'b>(
    body: &'b [u8],
    file: FileId,
    each: &mut dyn FnMut(Part<'b>),
) -> Result<(), OpenError> {
    body::parts(body, each).ok_or_else(|| OpenError::Version {
        name: file_name(file),
    })
}

pub(super) fn name_of(kind: &str, number: u64) -> String {
    format!("{kind}{number:016x}")
}

pub(super) fn file_name(file: FileId) -> String {
    match file {
        FileId::Segment(number) => name_of(SEGMENT, number),
        FileId::Snapshot(number) => name_of(SNAPSHOT, number),
        FileId::Rows(number) => name_of(ROWS, number),
    }
}

/// The numbers of the files of a kind, in order.
pub(super) fn numbered(names: &[String], kind: &str) -> Vec<u64> {
    let numbers = names.iter().filter_map(|name| name.strip_prefix(kind));
    let mut numbers: Vec<u64> = numbers
        .filter(|digits| digits.len() == 16)
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        // A file of another number is none of ours: there must be one behind it.
        .filter(|number| *number < u64::MAX)
        .collect();
    numbers.sort_unstable();
    numbers
}
