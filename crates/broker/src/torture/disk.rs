//! A small disk for weir's data, which can be filled.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs in a folder; it is unmounted with this value.
pub(crate) struct SmallDisk(PathBuf);

/// Enough for what is live in a run, and soon full.
const SIZE: &str = "size=192m,mode=0700";

impl SmallDisk {
    /// `None` where mounting is not allowed.
    pub(crate) fn mount(place: &Path) -> Option<Self> {
        fs::create_dir_all(place).ok()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "weir-torture"])
            .arg(place)
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then(|| Self(place.to_owned()))
    }

    /// Takes all the room that there is, or gives it back.
    pub(crate) fn fill(&self, full: bool) {
        let filler = self.0.join("filler");
        if !full {
            // It is not there if there was no room for it either.
            let _ = fs::remove_file(filler);
            return;
        }
        let Ok(mut file) = File::options().create(true).append(true).open(filler) else {
            return;
        };
        for bytes in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![7; bytes]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
