//! The files of a project: which there are, what they say, and the last version of each that was good.
//!
//! Last good versions are plain files, so that they can be read, compared and copied back by hand.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{self, Rules};
use crate::problem::{Problem, Source, shown};

/// What a file is for; scripts come before connectors before rules, as each may need the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `udf/NAME.rhai`
    Script,
    /// `udf/NAME.test.toml`
    ScriptTests,
    /// `connectors/NAME.toml`
    Connector,
    /// `rules/**/NAME.toml`
    Rule,
    /// `rules/**/NAME.test.toml`
    RuleTests,
    /// A statement of its own that a rule names by `sql_file`.
    Sql,
}

/// Kind and id: the id is the path below the kind's folder without its ending, e.g. `plant-a/hot`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// What the file is for.
    pub kind: Kind,
    /// Its name among its kind.
    pub id: String,
}

impl FileId {
    /// The id of a rule's file.
    pub fn rule(id: &str) -> Self {
        Self {
            kind: Kind::Rule,
            id: id.to_owned(),
        }
    }

    /// The id of the file that the rule `id` names by `sql_file`: it lies beside the rule.
    pub fn sql_beside(id: &str, name: &str) -> Option<Self> {
        let folder = id.rfind('/').map_or("", |slash| &id[..=slash]);
        Some(Self {
            kind: Kind::Sql,
            id: format!("{folder}{}", name.strip_suffix(".sql")?),
        })
    }

    /// The id of a connector's file.
    pub fn connector(id: &str) -> Self {
        Self {
            kind: Kind::Connector,
            id: id.to_owned(),
        }
    }

    /// The id of a script's file.
    pub fn script(id: &str) -> Self {
        Self {
            kind: Kind::Script,
            id: id.to_owned(),
        }
    }
}

/// Every file of a project that could be read.
#[derive(Clone, Debug, Default)]
pub struct Files(pub BTreeMap<FileId, Source>);

impl Files {
    /// The files of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &Source)> {
        self.0
            .iter()
            .filter(move |(file, _)| file.kind == kind)
            .map(|(file, source)| (file.id.as_str(), source))
    }

    /// One file.
    pub fn get(&self, file: &FileId) -> Option<&Source> {
        self.0.get(file)
    }
}

/// Where the files of each kind lie.
#[derive(Clone, Debug)]
pub struct Folders {
    /// Rules, searched with everything below.
    pub rules: PathBuf,
    /// Connectors.
    pub connectors: PathBuf,
    /// User functions.
    pub udf: PathBuf,
}

impl Folders {
    /// The folders that a configuration names.
    pub fn of(rules: &Rules) -> Self {
        Self {
            rules: rules.dir.clone(),
            connectors: rules.connectors_dir.clone(),
            udf: rules.udf_dir.clone(),
        }
    }

    /// The same layout below another folder.
    pub fn below(root: &Path) -> Self {
        Self {
            rules: root.join("rules"),
            connectors: root.join("connectors"),
            udf: root.join("udf"),
        }
    }

    /// All of them, for watching.
    pub fn all(&self) -> [&Path; 3] {
        [&self.rules, &self.connectors, &self.udf]
    }

    /// Reads every file. A folder that is not there is empty.
    pub fn scan(&self) -> (Files, Vec<Problem>) {
        let scan = self.read();
        let lost = scan
            .lost
            .into_iter()
            .filter(|(_, _, gone)| !gone)
            .map(|(_, problem, _)| problem);
        let problems = scan
            .unreadable
            .into_values()
            .chain(scan.problems)
            .chain(lost)
            .collect();
        (scan.files, problems)
    }

    /// Reads every file; what cannot be read now, a whole folder included, is represented by its last good version.
    ///
    /// A file that cannot be read is not one that was deleted: its rule must go on.
    pub fn scan_over(&self, last_good: &Files) -> Scanned {
        let mut scan = self.read();
        for (kinds, problem, _) in &scan.lost {
            for (file, _) in last_good
                .0
                .iter()
                .filter(|(file, _)| kinds.contains(&file.kind))
            {
                let path = shown(&self.path(file));
                let mut problem = Problem::whole(path, &problem.code, problem.message.clone());
                problem.help = Some(format!(
                    "the folder is {}",
                    shown(&self.path(file))
                        .parent()
                        .unwrap_or(Path::new(""))
                        .display()
                ));
                scan.unreadable.entry(file.clone()).or_insert(problem);
            }
        }
        for file in scan.unreadable.keys() {
            if let Some(kept) = last_good.get(file) {
                let source =
                    Source::new(shown(&self.path(file)), std::sync::Arc::clone(&kept.text));
                scan.files.0.insert(file.clone(), source);
            }
        }
        Scanned {
            files: scan.files,
            unreadable: scan.unreadable,
            problems: scan.problems,
        }
    }

    fn read(&self) -> Scan {
        let mut scan = Scan {
            files: Files::default(),
            unreadable: BTreeMap::new(),
            lost: Vec::new(),
            problems: Vec::new(),
        };
        scan.folder(
            &self.udf,
            &self.udf,
            false,
            &[Kind::Script, Kind::ScriptTests],
            &|name| {
                name.strip_suffix(".test.toml")
                    .map(|id| (Kind::ScriptTests, id))
                    .or_else(|| name.strip_suffix(".rhai").map(|id| (Kind::Script, id)))
            },
        );
        scan.folder(
            &self.connectors,
            &self.connectors,
            false,
            &[Kind::Connector],
            &|name| name.strip_suffix(".toml").map(|id| (Kind::Connector, id)),
        );
        scan.folder(
            &self.rules,
            &self.rules,
            true,
            &[Kind::Rule, Kind::RuleTests, Kind::Sql],
            &|name| {
                name.strip_suffix(".test.toml")
                    .map(|id| (Kind::RuleTests, id))
                    .or_else(|| name.strip_suffix(".toml").map(|id| (Kind::Rule, id)))
                    .or_else(|| name.strip_suffix(".sql").map(|id| (Kind::Sql, id)))
            },
        );
        scan
    }

    /// Where a file of that id lies.
    pub fn path(&self, file: &FileId) -> PathBuf {
        match file.kind {
            Kind::Script => self.udf.join(format!("{}.rhai", file.id)),
            Kind::ScriptTests => self.udf.join(format!("{}.test.toml", file.id)),
            Kind::Connector => self.connectors.join(format!("{}.toml", file.id)),
            Kind::Rule => self.rules.join(format!("{}.toml", file.id)),
            Kind::RuleTests => self.rules.join(format!("{}.test.toml", file.id)),
            Kind::Sql => self.rules.join(format!("{}.sql", file.id)),
        }
    }
}

/// The files of a project as they are to be checked.
pub struct Scanned {
    /// Every file, in its last good version where it cannot be read.
    pub files: Files,
    /// Why a file cannot be read.
    pub unreadable: BTreeMap<FileId, Problem>,
    /// What is wrong with no file in particular.
    pub problems: Vec<Problem>,
}

struct Scan {
    files: Files,
    unreadable: BTreeMap<FileId, Problem>,
    /// Folders that could not be listed, with what they hold, and whether they are simply not there.
    lost: Vec<(Vec<Kind>, Problem, bool)>,
    problems: Vec<Problem>,
}

type KindOf<'a> = &'a dyn Fn(&str) -> Option<(Kind, &str)>;

impl Scan {
    fn folder(&mut self, root: &Path, folder: &Path, deep: bool, kinds: &[Kind], kind: KindOf<'_>) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                let gone = error.kind() == io::ErrorKind::NotFound;
                let problem = Problem::whole(
                    shown(folder),
                    "E1000",
                    format!("the folder cannot be read: {error}"),
                );
                self.lost.push((kinds.to_vec(), problem, gone));
                return;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if is_ignored(name) {
                continue;
            }
            // Followed through links, so that a mounted configuration map is read like plain files.
            if path.is_dir() {
                if deep && !matches!(name, "connectors" | "udf") {
                    self.folder(root, &path, deep, kinds, kind);
                }
                continue;
            }
            if kind(name).is_none() {
                continue;
            }
            let Ok(below) = path.strip_prefix(root) else {
                continue;
            };
            let Some(below) = below.to_str() else {
                self.problems.push(Problem::whole(
                    shown(&path),
                    "E1000",
                    "the file's name is not UTF-8",
                ));
                continue;
            };
            let below = below.replace(std::path::MAIN_SEPARATOR, "/");
            let Some((kind, id)) = kind(&below) else {
                continue;
            };
            let file = FileId {
                kind,
                id: id.to_owned(),
            };
            match config::read(&path) {
                Ok(source) => {
                    self.files.0.insert(file, source);
                }
                Err(problems) => {
                    if let Some(problem) = problems.into_iter().next() {
                        self.unreadable.insert(file, problem);
                    }
                }
            }
        }
    }
}

/// Whether a rule's file may be called so: parts that `/` separates, none of which leads elsewhere or is ignored.
pub fn is_rule_id(id: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.contains(['\\', '\0'])
            && !is_ignored(part)
            && !part.ends_with(".test")
            && !matches!(part, "connectors" | "udf")
    };
    id.split('/').all(is_name)
}

/// Editors' and hidden files are no rules.
fn is_ignored(name: &str) -> bool {
    name.starts_with(['.', '_']) || [".bak", ".swp", "~"].iter().any(|end| name.ends_with(end))
}

/// The last version of each file that was good, as plain files below `data_dir/last_good`.
#[derive(Clone, Debug)]
pub struct LastGood {
    folders: Folders,
}

impl LastGood {
    /// The store below `data_dir`.
    pub fn below(data_dir: &Path) -> Self {
        Self {
            folders: Folders::below(&data_dir.join("last_good")),
        }
    }

    /// Every file of it.
    pub fn read(&self) -> Files {
        self.folders.scan().0
    }

    /// Makes the store hold `good`, and drops what is no longer `present` in the project.
    ///
    /// The copy of a file that is there but bad stays, even when nothing could stand in for it this time.
    ///
    /// # Errors
    /// When a file cannot be written; those already written are good.
    pub fn keep(&self, good: &Files, present: &Files) -> io::Result<()> {
        let before = self.read();
        for (file, source) in &good.0 {
            if before.get(file).is_none_or(|kept| kept.text != source.text) {
                write_whole(&self.folders.path(file), source.text.as_bytes())?;
            }
        }
        let gone = |file: &&FileId| !good.0.contains_key(file) && !present.0.contains_key(file);
        for file in before.0.keys().filter(gone) {
            std::fs::remove_file(self.folders.path(file))?;
        }
        Ok(())
    }
}

/// Writes a file so that a reader finds the old text or the new one, never a part.
///
/// # Errors
/// Whatever the file system says.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Beside::write(path, bytes)?.put()
}

/// A file that is written and synced beside its place until it is put there; if that never happens, it is removed.
pub(crate) struct Beside {
    partial: PathBuf,
    path: PathBuf,
    is_put: bool,
}

impl Beside {
    /// What is to be the file at `path`.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        use std::io::Write;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // The leading dot keeps a half-written file from being taken for a rule.
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("file");
        let partial = path.with_file_name(format!(".{name}.partial"));
        let mut file = std::fs::File::create(&partial)?;
        let beside = Self {
            partial,
            path: path.to_path_buf(),
            is_put: false,
        };
        // A file that only its owner may read stays one.
        if let Ok(before) = std::fs::metadata(path) {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(beside)
    }

    /// Whoever reads the file finds this from now on.
    pub(crate) fn put(mut self) -> io::Result<()> {
        std::fs::rename(&self.partial, &self.path)?;
        self.is_put = true;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_put {
            // One that stays is nobody's rule.
            drop(std::fs::remove_file(&self.partial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        write_whole(&root.join(name), text.as_bytes()).unwrap();
    }

    #[test]
    fn a_scan_finds_rules_at_any_depth_and_leaves_out_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "rules/hot.toml",
            "rules/plant-a/hot.toml",
            "rules/hot.test.toml",
            "connectors/pg.toml",
            "udf/climate.rhai",
        ] {
            write(root, name, "x");
        }
        for name in [
            "rules/.hidden.toml",
            "rules/_draft.toml",
            "rules/hot.toml~",
            "rules/connectors/pg.toml",
            "rules/readme.md",
        ] {
            write(root, name, "x");
        }
        let (files, problems) = Folders::below(root).scan();
        assert!(problems.is_empty());
        let found: Vec<String> = files
            .0
            .keys()
            .map(|file| format!("{:?} {}", file.kind, file.id))
            .collect();
        assert_eq!(
            found,
            [
                "Script climate",
                "Connector pg",
                "Rule hot",
                "Rule plant-a/hot",
                "RuleTests hot"
            ]
        );
    }

    #[test]
    fn ids_of_rules_lead_to_no_other_place() {
        assert!(["hot", "plant-a/hot", "hot.v2"].map(is_rule_id) == [true; 3]);
        for id in [
            "",
            "../hot",
            "a/../b",
            "/hot",
            "a//b",
            ".hot",
            "_hot",
            "a\\b",
            "hot.test",
            "connectors/a",
        ] {
            assert!(!is_rule_id(id), "{id}");
        }
    }

    #[test]
    fn last_good_holds_exactly_what_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = LastGood::below(dir.path());
        let mut files = Files::default();
        files
            .0
            .insert(FileId::rule("a/b"), Source::new("rules/a/b.toml", "one"));
        files.0.insert(
            FileId::connector("pg"),
            Source::new("connectors/pg.toml", "two"),
        );
        store.keep(&files, &files).unwrap();
        assert_eq!(
            &*store.read().get(&FileId::rule("a/b")).unwrap().text,
            "one"
        );
        files.0.remove(&FileId::connector("pg"));
        store.keep(&files, &files).unwrap();
        assert!(store.read().get(&FileId::connector("pg")).is_none());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_represented_by_its_last_good_version() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "rules/hot.toml", "now");
        std::fs::write(dir.path().join("rules/latin.toml"), b"\xe9").unwrap();
        let mut last_good = Files::default();
        for id in ["hot", "latin"] {
            last_good
                .0
                .insert(FileId::rule(id), Source::new("x", "before"));
        }
        let scanned = Folders::below(dir.path()).scan_over(&last_good);
        assert_eq!(
            &*scanned.files.get(&FileId::rule("hot")).unwrap().text,
            "now"
        );
        assert_eq!(
            &*scanned.files.get(&FileId::rule("latin")).unwrap().text,
            "before"
        );
        assert!(scanned.unreadable.contains_key(&FileId::rule("latin")));
    }

    #[test]
    fn a_folder_that_has_gone_deletes_no_rule() {
        let dir = tempfile::tempdir().unwrap();
        let mut last_good = Files::default();
        last_good
            .0
            .insert(FileId::rule("hot"), Source::new("x", "before"));
        let scanned = Folders::below(dir.path()).scan_over(&last_good);
        assert_eq!(
            &*scanned.files.get(&FileId::rule("hot")).unwrap().text,
            "before"
        );
        assert!(scanned.unreadable.contains_key(&FileId::rule("hot")));
    }
}
