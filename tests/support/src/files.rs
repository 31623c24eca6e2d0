//! Where the repository's own files are.

use std::path::{Path, PathBuf};

/// The top folder of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this crate lives two folders below the top")
        .to_path_buf()
}

/// The text of an example under `rules/`.
///
/// # Panics
/// When there is no such example.
#[must_use]
pub fn example(path: &str) -> String {
    let file = repository().join("rules").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
