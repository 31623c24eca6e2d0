//! Rows as lines of files below `data_dir/files`: NDJSON or CSV, rotated by size. No path leaves that folder.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use weir_rules::template::UndefinedPolicy;
use weir_rules::value::Value;

use crate::config::FileFormat;
use crate::plan::FilePlan;
use crate::render::{csv_heading, file_line};
use crate::{Batch, Outcome, Sink, SinkError, codes, now_ms};

pub(crate) struct FileSink {
    plan: FilePlan,
    folder: PathBuf,
    /// Whether rows have a part in the path.
    by_rows: bool,
}

impl FileSink {
    pub(crate) fn new(plan: FilePlan, data_dir: &Path) -> Self {
        let path_of = |row| {
            plan.path
                .render(&Value::Int(row), UndefinedPolicy::Empty, 0)
        };
        // A place of the whole row has no field.
        let by_rows = plan.path.fields().next().is_some() || path_of(1).ok() != path_of(2).ok();
        Self {
            plan,
            by_rows,
            folder: data_dir.join("files"),
        }
    }
}

/// Lines for one file, with the places of their records in the batch.
struct Chunk {
    path: String,
    text: Vec<u8>,
    records: Vec<usize>,
}

#[async_trait]
impl Sink for FileSink {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        let now = now_ms();
        let mut outcomes = vec![Outcome::Delivered; batch.records.len()];
        let mut chunks: Vec<Chunk> = Vec::new();
        for (place, record) in batch.records.iter().enumerate() {
            match file_line(&self.plan, &record.row, now) {
                Ok(line) => {
                    let chunk = match chunks.iter_mut().find(|chunk| chunk.path == line.path) {
                        Some(chunk) => chunk,
                        None => {
                            chunks.push(Chunk {
                                path: line.path,
                                text: Vec::new(),
                                records: Vec::new(),
                            });
                            let last = chunks.len() - 1;
                            &mut chunks[last]
                        }
                    };
                    chunk.text.extend_from_slice(line.line.as_bytes());
                    chunk.text.push(b'\n');
                    chunk.records.push(place);
                }
                Err(error) => {
                    outcomes[place] = Outcome::Rejected {
                        error: error.into(),
                    }
                }
            }
        }
        for chunk in chunks {
            let records = chunk.records.clone();
            if let Some(outcome) = self.write(chunk).await {
                for place in records {
                    outcomes[place] = outcome.clone();
                }
            }
        }
        outcomes
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        std::fs::create_dir_all(&self.folder).map_err(|error| write_error(&self.folder, &error))
    }
}

impl FileSink {
    /// Appends a chunk wholly or not at all; what else became of it, if it did not work.
    async fn write(&self, chunk: Chunk) -> Option<Outcome> {
        let Some(path) = inside(&self.folder, &chunk.path) else {
            let message = format!("`{}` leaves data_dir/files", chunk.path);
            return Some(Outcome::Rejected {
                error: SinkError::new(codes::FILE_PATH, message),
            });
        };
        let plan = self.plan.clone();
        let shown = path.clone();
        let chunk_path = chunk.path.clone();
        let written = tokio::task::spawn_blocking(move || append(&plan, &path, &chunk.text)).await;
        let error = match written {
            Ok(Ok(())) => return None,
            Ok(Err(error)) if self.is_fault_of_path(&error) => {
                let error = SinkError::new(
                    codes::FILE_PATH,
                    format!("no file can have the path `{chunk_path}`"),
                )
                .caused_by(&error);
                return Some(Outcome::Rejected { error });
            }
            Ok(Err(error)) => write_error(&shown, &error),
            Err(error) => {
                SinkError::new(codes::FILE, "the file cannot be written").caused_by(&error)
            }
        };
        Some(Outcome::Retry { after: None, error })
    }

    /// Whether a row has made a path that cannot be: too long, through a file, onto a folder. A path that no row has
    /// a part in is the operator's, and so is the folder.
    fn is_fault_of_path(&self, error: &std::io::Error) -> bool {
        use std::io::ErrorKind;
        let kind = matches!(
            error.kind(),
            ErrorKind::InvalidFilename
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                // What making a folder says where a file has its name.
                | ErrorKind::AlreadyExists
        );
        kind && self.by_rows && self.folder.is_dir()
    }
}

/// The file below `folder`, unless the path would leave it.
fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let normal = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let named = path.file_name().is_some() && !path.to_str()?.contains('\0');
    (normal && named).then(|| folder.join(path))
}

fn append(plan: &FilePlan, path: &Path, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut length = file.metadata()?.len();
    if plan
        .rotate_bytes
        .is_some_and(|limit| length > 0 && length + text.len() as u64 > limit)
    {
        drop(file);
        rotate(path, plan.keep)?;
        file = OpenOptions::new().create(true).append(true).open(path)?;
        length = 0;
    }
    let start = length;
    let written = write_all(plan, &mut file, length, text);
    if written.is_err() {
        // A half-written chunk would be there twice after the retry.
        let _ = file.set_len(start);
    }
    written
}

fn write_all(plan: &FilePlan, file: &mut File, length: u64, text: &[u8]) -> std::io::Result<()> {
    if length == 0 && plan.format == FileFormat::Csv {
        file.write_all(format!("{}\n", csv_heading(&plan.columns)).as_bytes())?;
    }
    file.write_all(text)?;
    file.sync_data()
}

/// `x` becomes `x.1`, `x.1` becomes `x.2`, and the oldest goes.
fn rotate(path: &Path, keep: usize) -> std::io::Result<()> {
    let numbered = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return std::fs::remove_file(path);
    }
    for number in (1..keep).rev() {
        if numbered(number).exists() {
            std::fs::rename(numbered(number), numbered(number + 1))?;
        }
    }
    std::fs::rename(path, numbered(1))
}

fn write_error(path: &Path, error: &std::io::Error) -> SinkError {
    let code = if error.kind() == std::io::ErrorKind::StorageFull {
        codes::DISK_FULL
    } else {
        codes::FILE
    };
    SinkError::new(code, format!("`{}` cannot be written", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_folder() {
        let folder = Path::new("/data/files");
        assert_eq!(
            inside(folder, "a/b.ndjson").unwrap(),
            Path::new("/data/files/a/b.ndjson")
        );
        for path in ["../x", "a/../../x", "/etc/passwd", "", "a/..", "x\0y"] {
            assert_eq!(inside(folder, path), None, "{path}");
        }
    }
}
