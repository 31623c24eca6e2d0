//! Dead letters of a broker without a store: one JSON line each in `data_dir/dead_letters/<rule>/<sink>.ndjson`.
//!
//! A durable queue may give a row again whose letter was written just before a crash: such a row is recognised by its
//! number and has one letter all the same.

use std::collections::HashSet;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use weir_rules::value::Text;

use super::row_json::{self, Kinds};
use super::{DeadLetter, Letter};
use crate::error::SinkError;
use crate::{Record, codes, now_ms, record};

/// The file of one sink.
#[derive(Clone, Debug)]
pub(crate) struct LetterFile {
    path: PathBuf,
    rule: String,
    sink: String,
    epoch: u64,
    /// Rows with numbers up to this may have been parked by an earlier life.
    recovered_to: u64,
    /// The numbers that have a letter; read with the first letter.
    known: Arc<OnceLock<HashSet<u64>>>,
}

/// So much of the end of a file is looked through: more than one batch of letters, which is what a crash can repeat.
const LOOK_BACK: u64 = 64 << 20;

/// Where the dead letters of one sink are. A rule's id is a path; what would leave the folder is renamed.
pub fn path(data_dir: &Path, rule: &str, sink: &str) -> PathBuf {
    let mut path = data_dir.join("dead_letters");
    path.extend(
        rule.split(['/', '\\'])
            .filter(|part| !part.is_empty())
            .map(file_name),
    );
    let sink: String = sink
        .chars()
        .map(|c| if matches!(c, '/' | '\\') { '_' } else { c })
        .collect();
    path.join(format!("{}.ndjson", file_name(&sink)))
}

fn file_name(part: &str) -> String {
    let cleaned: String = part
        .chars()
        .map(|c| if c.is_control() { '_' } else { c })
        .collect();
    if cleaned.chars().all(|c| c == '.') {
        "_".repeat(cleaned.len())
    } else {
        cleaned
    }
}

impl LetterFile {
    pub(crate) fn new(
        data_dir: &Path,
        rule: &str,
        sink: &str,
        epoch: u64,
        recovered_to: u64,
    ) -> Self {
        Self {
            path: path(data_dir, rule, sink),
            rule: rule.to_owned(),
            sink: sink.to_owned(),
            epoch,
            recovered_to,
            known: Arc::default(),
        }
    }

    /// Appends letters and puts them on stable storage.
    pub(crate) async fn append(&self, letters: &[Letter]) -> Result<(), SinkError> {
        let mut lines = Vec::with_capacity(letters.len());
        for letter in letters {
            let mut line = Vec::new();
            self.write_line(letter, &mut line);
            lines.push((letter.record.seq, line));
        }
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.append_new(lines)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SinkError::new(
                codes::FILE,
                "the dead letters cannot be written",
            )
            .caused_by(&error)),
            Err(error) => Err(
                SinkError::new(codes::FILE, "the dead letters cannot be written").caused_by(&error),
            ),
        }
    }

    /// Appends the lines of rows that have none yet.
    fn append_new(&self, lines: Vec<(u64, Vec<u8>)>) -> std::io::Result<()> {
        let may_be_known = lines.iter().any(|(seq, _)| *seq <= self.recovered_to);
        if may_be_known && self.known.get().is_none() {
            let known = known(&self.path, self.epoch)?;
            // Somebody else may have read the same.
            let _ = self.known.set(known);
        }
        let known = self.known.get().filter(|_| may_be_known);
        let is_new = |seq: &u64| known.is_none_or(|known| !known.contains(seq));
        let new = lines.into_iter().filter(|(seq, _)| is_new(seq));
        let text: Vec<u8> = new.flat_map(|(_, line)| line).collect();
        if text.is_empty() {
            return Ok(());
        }
        append(&self.path, &text)
    }

    fn write_line(&self, letter: &Letter, out: &mut Vec<u8>) {
        let record = &letter.record;
        let mut line = serde_json::json!({
            "v": 1,
            "at_ms": now_ms(),
            "rule": self.rule,
            "sink": self.sink,
            "code": letter.error.code(),
            "reason": letter.error.to_string(),
            "attempts": letter.attempts,
            "epoch": self.epoch,
            "seq": record.seq,
        });
        add_record(&mut line, record);
        // Serialising a JSON tree into memory cannot fail; an empty line would still keep the count.
        let _ = serde_json::to_writer(&mut *out, &line);
        out.push(b'\n');
    }
}

/// Puts into a letter's line what is known of its row, and the row.
pub(super) fn add_record(line: &mut serde_json::Value, record: &Record) {
    let (row, kinds) = row_json::written(&record.row);
    line["message_id"] = format!("{:032x}", record.message_id).into();
    line["client_id"] = String::from_utf8_lossy(record.client_id.as_bytes()).into();
    line["accepted_at_ms"] = record.accepted_at_ms.into();
    if !record.path.as_bytes().is_empty() {
        line["path"] = String::from_utf8_lossy(record.path.as_bytes()).into();
    }
    line["row"] = row;
    if !kinds.is_empty() {
        line["row_kinds"] = serde_json::json!(kinds);
    }
}

/// A line of such a file: the rule, the sink, and the letter as a store keeps it. `None` when it is no such line.
pub fn read_line(line: &[u8]) -> Option<(String, String, DeadLetter)> {
    #[derive(serde::Deserialize)]
    struct Line {
        at_ms: i64,
        rule: String,
        sink: String,
        code: String,
        reason: String,
        attempts: u32,
        epoch: u64,
        seq: u64,
        message_id: String,
        client_id: String,
        accepted_at_ms: i64,
        #[serde(default)]
        path: String,
        row: Box<serde_json::value::RawValue>,
        #[serde(default)]
        row_kinds: Kinds,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    let row = weir_rules::json::decode(line.row.get().as_bytes()).ok()?;
    let row = row_json::read(row, line.row_kinds)?;
    let message_id = u128::from_str_radix(&line.message_id, 16).ok()?;
    let client_id = Text::from(line.client_id.into_bytes());
    let path = Text::from(line.path.into_bytes());
    let letter = DeadLetter {
        at_ms: line.at_ms,
        attempts: line.attempts,
        epoch: line.epoch,
        seq: line.seq,
        code: line.code,
        reason: line.reason,
        row: record::encode_with_path(message_id, &client_id, line.accepted_at_ms, &path, &row),
    };
    Some((line.rule, line.sink, letter))
}

/// The numbers of an epoch's rows that have a letter in the file. A line that a crash has torn is cut off.
fn known(path: &Path, epoch: u64) -> std::io::Result<HashSet<u64>> {
    #[derive(serde::Deserialize)]
    struct Line {
        epoch: u64,
        seq: u64,
    }
    let open = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    let mut file = match open {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
        other => other?,
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LOOK_BACK);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    if whole < text.len() {
        file.set_len(from + whole as u64)?;
    }
    let lines = text[..whole].split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(lines
        .filter(|line| line.epoch == epoch)
        .map(|line| line.seq)
        .collect())
}

fn append(path: &Path, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    file.write_all(text)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::value;
    use proptest::prelude::*;
    use weir_rules::value::Value;

    fn letter(path: &str, row: &Value) -> DeadLetter {
        let path = Text::from(path);
        DeadLetter {
            at_ms: 12,
            attempts: 3,
            epoch: 7,
            seq: 8,
            code: "E3201".into(),
            reason: "why".into(),
            row: record::encode_with_path(9, &Text::from_static("c"), 5, &path, row),
        }
    }

    proptest! {
        #[test]
        fn a_row_comes_back_from_a_line_byte_for_byte(path in "[a-z,]{0,9}", row in value()) {
            let letter = letter(&path, &row);
            let line = letter.json("plant/a", "history").to_string();
            prop_assert!(!line.contains('\n'));
            let (rule, sink, back) = read_line(line.as_bytes()).unwrap();
            prop_assert_eq!((&*rule, &*sink), ("plant/a", "history"));
            prop_assert_eq!(back, letter, "{}", line);
        }
    }

    #[test]
    fn a_rule_id_is_a_folder_and_cannot_leave() {
        let base = Path::new("/d");
        assert_eq!(
            path(base, "plant-a/hot", "history"),
            Path::new("/d/dead_letters/plant-a/hot/history.ndjson")
        );
        assert_eq!(
            path(base, "../../etc", "a/../b"),
            Path::new("/d/dead_letters/__/__/etc/a_.._b.ndjson")
        );
        assert_eq!(
            path(base, "/abs", ".."),
            Path::new("/d/dead_letters/abs/__.ndjson")
        );
    }
}
