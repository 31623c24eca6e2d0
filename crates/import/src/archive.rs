//! A data backup as EMQX packs it: a `.tar.gz` that holds `cluster.hocon`.

use std::io::Read;

use flate2::read::GzDecoder;

/// An archive that unpacks to more is refused.
const MAX_UNPACKED: u64 = 256 << 20;

/// Whether these bytes are such an archive.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The text of the archive's `cluster.hocon`.
///
/// # Errors
/// When it is no archive, is cut off, or has no such file.
pub(crate) fn configuration(bytes: &[u8]) -> Result<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(MAX_UNPACKED));
    let damaged = |error: std::io::Error| format!("the archive cannot be read: {error}");
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?;
        if path.file_name().is_some_and(|name| name == "cluster.hocon") {
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(damaged)?;
            return Ok(text);
        }
    }
    Err("the archive holds no cluster.hocon".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn packed(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, path, text.as_bytes())
                .unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn the_configuration_is_found_among_the_files_of_a_backup() {
        let bytes = packed(&[
            ("export-1/META.hocon", "version = 1"),
            ("export-1/cluster.hocon", "rule_engine {}"),
        ]);
        assert!(is_archive(&bytes));
        assert_eq!(configuration(&bytes).unwrap(), "rule_engine {}");
    }

    #[test]
    fn an_archive_without_a_configuration_or_cut_off_is_refused() {
        let other = packed(&[("export-1/META.hocon", "version = 1")]);
        assert!(
            configuration(&other)
                .unwrap_err()
                .contains("no cluster.hocon")
        );
        let whole = packed(&[("x/cluster.hocon", &"a = 1\n".repeat(1000))]);
        assert!(configuration(&whole[..whole.len() / 2]).is_err());
    }
}
