//! Rows that cannot be delivered, kept with the reason: one JSON line each in
//! `data_dir/dead_letters/<rule>/<sink>.ndjson`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use weir_rules::value::Value;

use crate::codes;
use crate::error::SinkError;
use crate::render::json_value;
use crate::{Record, now_ms};

/// The dead letters of one sink.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters {
    path: PathBuf,
    rule: String,
    sink: String,
    epoch: u64,
}

/// A row and why it is here.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) record: Record,
    pub(crate) error: SinkError,
    pub(crate) attempts: u32,
}

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

impl DeadLetters {
    pub(crate) fn new(data_dir: &Path, rule: &str, sink: &str, epoch: u64) -> Self {
        Self {
            path: path(data_dir, rule, sink),
            rule: rule.to_owned(),
            sink: sink.to_owned(),
            epoch,
        }
    }

    /// Appends letters and puts them on stable storage.
    pub(crate) async fn append(&self, letters: &[Letter]) -> Result<(), SinkError> {
        let mut text = Vec::new();
        for letter in letters {
            self.write_line(letter, &mut text);
        }
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || append(&path, &text)).await;
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

    fn write_line(&self, letter: &Letter, out: &mut Vec<u8>) {
        let record = &letter.record;
        let line = serde_json::json!({
            "v": 1,
            "at_ms": now_ms(),
            "rule": self.rule,
            "sink": self.sink,
            "code": letter.error.code(),
            "reason": letter.error.to_string(),
            "attempts": letter.attempts,
            "epoch": self.epoch,
            "seq": record.seq,
            "message_id": format!("{:032x}", record.message_id),
            "client_id": text(&record.client_id.clone().into()),
            "accepted_at_ms": record.accepted_at_ms,
            "row": text(&record.row),
        });
        // Serialising a JSON tree into memory cannot fail; an empty line would still keep the count.
        let _ = serde_json::to_writer(&mut *out, &line);
        out.push(b'\n');
    }
}

/// A row that is not even JSON (bytes that are no text) is kept readable rather than lost.
fn text(value: &Value) -> serde_json::Value {
    json_value(value).unwrap_or_else(|_| serde_json::Value::String(format!("{value:?}")))
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
