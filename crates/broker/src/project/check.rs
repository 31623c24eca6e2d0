//! Files to a checked set: what can run, what was refused and why, and which version of each file is the good one.
//!
//! A pure function of two sets of files, the project's and the last good ones, so that start, reload and
//! `weir check` decide alike. A file fails alone: its last good version stands in where there is one.

mod bridges;
mod lint;
mod remote_clients;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use weir_rules::script::{ScriptLimits, Scripts};
use weir_rules::{Catalog, Rule, compile};
use weir_sinks::{ConfigError, ConnectorConfig, SinkPlan};

use super::connector_file;
use super::files::{FileId, Files, Kind};
use super::rule_file::{
    self, Around, OnError, RuleFile, RuleTest, SinkTable, SqlText, nearest_place,
};
use super::script_test;
use crate::config::toml_file::Outside;
use crate::problem::{Problem, Severity, Source};

/// A rule that can run.
#[derive(Clone)]
pub struct CheckedRule {
    /// Its id.
    pub id: Arc<str>,
    /// Its file.
    pub source: Source,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it runs.
    pub enabled: bool,
    /// What becomes of messages that it cannot evaluate.
    pub on_error: OnError,
    /// The statement, and where it stands.
    pub sql: SqlText,
    /// The file that holds the statement, where that is not the rule's own.
    pub sql_file: Option<FileId>,
    /// The statement, compiled.
    pub rule: Arc<Rule>,
    /// Where its rows go.
    pub sinks: Vec<CheckedSink>,
    /// Its tests with the file and place of each.
    pub tests: Vec<(RuleTest, Source, Range<usize>)>,
}

/// Whether a rule calls a function of that script.
fn calls_script(rule: &CheckedRule, script: &str) -> bool {
    let called = &rule.rule.explain().user_functions;
    called
        .iter()
        .filter_map(|name| name.split_once('.'))
        .any(|(namespace, _)| namespace == script)
}

/// A sink of a rule that can run.
#[derive(Clone)]
pub struct CheckedSink {
    /// Its id within the rule.
    pub id: Arc<str>,
    /// Its configuration.
    pub plan: Arc<SinkPlan>,
    /// Changes when its configuration, or that of its connector, does.
    pub fingerprint: u64,
}

/// A connector that can be opened.
#[derive(Clone)]
pub struct CheckedConnector {
    /// Its configuration.
    pub config: Arc<ConnectorConfig>,
    /// Changes when its configuration does.
    pub fingerprint: u64,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is good.
    Ok,
    /// It is not, and nothing stands in for it.
    Refused,
    /// It is not, and its last good version goes on.
    Stale,
}

/// One file's outcome.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Which file.
    #[serde(skip)]
    pub file: FileId,
    /// As the user knows it.
    pub path: PathBuf,
    /// What became of it.
    pub verdict: Verdict,
    /// What it holds: `2 sinks, 3 tests`.
    pub summary: String,
    /// What is wrong with it, errors first.
    #[serde(rename = "diagnostics")]
    pub problems: Vec<Problem>,
}

/// A set of files after the check.
#[derive(Clone, Default)]
pub struct Checked {
    /// Rules by id.
    pub rules: BTreeMap<String, CheckedRule>,
    /// Connectors by name.
    pub connectors: BTreeMap<String, CheckedConnector>,
    /// User functions.
    pub scripts: Arc<Scripts>,
    /// The version of each file that is live.
    pub good: Files,
    /// Every file's outcome, in the order of their kinds.
    pub reports: Vec<FileReport>,
}

impl Checked {
    /// How many files have errors.
    pub fn refused(&self) -> usize {
        self.reports
            .iter()
            .filter(|report| report.verdict != Verdict::Ok)
            .count()
    }
}

/// Checks `files`; where one is bad, its version in `last_good` stands in, or what `before` made of the same text.
///
/// `before` is what is live now: a rule whose own text is unchanged goes on when only its surroundings broke, such as
/// a secret's file that is missing for a moment.
pub fn check(
    files: &Files,
    last_good: &Files,
    before: Option<&Checked>,
    outside: &dyn Outside,
) -> Checked {
    // A changed script or connector that breaks a rule is refused as a whole, and then everything is decided once more
    // with its last good version; each round refuses at least one file, so this ends.
    let mut refused = Refused::new();
    loop {
        let mut pass = Pass {
            files,
            last_good,
            before,
            outside,
            checked: Checked::default(),
            catalog: Catalog::default(),
        };
        pass.scripts(&refused);
        pass.connectors(&refused);
        let mut broken = pass.rules(&refused);
        if broken.is_empty() {
            broken = pass.same_as_gone(&refused);
        }
        if broken.is_empty() {
            pass.test_files();
            pass.keep_used_connectors();
            lint::circles(&pass.checked.rules, &mut pass.checked.reports);
            pass.checked.reports.sort_by(|a, b| a.file.cmp(&b.file));
            return pass.checked;
        }
        refused.extend(broken);
    }
}

/// Files that are refused for what they would do to others.
type Refused = BTreeMap<FileId, Vec<Problem>>;

struct Pass<'a> {
    files: &'a Files,
    last_good: &'a Files,
    before: Option<&'a Checked>,
    outside: &'a dyn Outside,
    checked: Checked,
    catalog: Catalog,
}

impl<'a> Pass<'a> {
    fn scripts(&mut self, refused: &Refused) {
        let mut good: Vec<(String, Source)> = Vec::new();
        for (name, source) in self.files.of(Kind::Script) {
            let file = FileId::script(name);
            let mut problems = match refused.get(&file) {
                Some(problems) => problems.clone(),
                None => script_problems(name, source),
            };
            let mut version = source.clone();
            let mut verdict = Verdict::Ok;
            if !problems.is_empty() {
                verdict = Verdict::Refused;
                if let Some(kept) = self.last_good.get(&file)
                    && kept.text != source.text
                    && script_problems(name, kept).is_empty()
                {
                    verdict = Verdict::Stale;
                    version = kept.clone();
                }
            }
            problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
            if verdict != Verdict::Refused {
                good.push((name.to_owned(), version.clone()));
                self.checked.good.0.insert(file.clone(), version);
            }
            self.report(file, source, verdict, String::new(), problems);
        }
        // A script that is gone but still used goes on: removing it is refused below, when a rule needs it.
        for (name, source) in self.last_good.of(Kind::Script) {
            if self.files.get(&FileId::script(name)).is_none()
                && script_problems(name, source).is_empty()
            {
                good.push((name.to_owned(), source.clone()));
            }
        }
        let (scripts, _) = Scripts::load_each(
            good.iter()
                .map(|(name, source)| (name.clone(), &source.text)),
            ScriptLimits::default(),
        );
        self.checked.scripts = Arc::new(scripts);
        self.catalog = Catalog {
            scripts: Arc::clone(&self.checked.scripts),
        };
    }

    fn connectors(&mut self, refused: &Refused) {
        let read = |(name, source): (&'a str, &'a Source)| {
            let read = match refused.get(&FileId::connector(name)) {
                Some(problems) => Err(problems.clone()),
                None => connector_file::read(source, self.outside),
            };
            (name, source, read)
        };
        let mut candidates: Vec<_> = self.files.of(Kind::Connector).map(read).collect();
        self.refuse_same_clients(&mut candidates);
        for (name, source, read) in candidates {
            let file = FileId::connector(name);
            let (verdict, problems) = match read {
                Ok((connector, warnings)) => {
                    self.checked.connectors.insert(name.to_owned(), connector);
                    self.checked.good.0.insert(file.clone(), source.clone());
                    (Verdict::Ok, warnings)
                }
                Err(problems) => match self.connector_before(name, source) {
                    Some((version, connector)) => {
                        self.checked.connectors.insert(name.to_owned(), connector);
                        self.checked.good.0.insert(file.clone(), version);
                        (Verdict::Stale, problems)
                    }
                    None => (Verdict::Refused, problems),
                },
            };
            self.report(file, source, verdict, String::new(), problems);
        }
        // As with scripts: one that is gone is kept until it is known that no rule needs it.
        for (name, source) in self.last_good.of(Kind::Connector) {
            if self.files.get(&FileId::connector(name)).is_none()
                && let Ok((connector, _)) = connector_file::read(source, self.outside)
            {
                self.checked.connectors.insert(name.to_owned(), connector);
            }
        }
    }

    /// What stands in for a bad connector: its last good text, else what is live of the same text.
    fn connector_before(&self, name: &str, source: &Source) -> Option<(Source, CheckedConnector)> {
        let file = FileId::connector(name);
        let kept = self
            .last_good
            .get(&file)
            .filter(|kept| kept.text != source.text);
        if let Some(kept) = kept
            && let Ok((connector, _)) = connector_file::read(kept, self.outside)
        {
            return Some((kept.clone(), connector));
        }
        let before = self.before?;
        let version = before.good.get(&file)?;
        Some((version.clone(), before.connectors.get(name)?.clone()))
    }

    /// Checks every rule; the result names the files whose new version breaks one.
    fn rules(&mut self, refused: &Refused) -> Refused {
        let mut broken = Refused::new();
        for (id, source) in self.files.of(Kind::Rule) {
            let file = FileId::rule(id);
            let problems = match self.rule(id, source, self.files) {
                Ok((rule, problems)) => {
                    let summary = summary(&rule);
                    self.keep_rule(&file, source, self.files, rule);
                    self.report(file, source, Verdict::Ok, summary, problems);
                    continue;
                }
                Err(problems) => problems,
            };
            for (cause, problem) in self.breaks(id, source, &problems) {
                if !refused.contains_key(&cause) {
                    broken.entry(cause).or_default().push(problem);
                }
            }
            match self.rule_before(id, source) {
                Some((version, from, rule)) => {
                    let summary = summary(&rule);
                    self.keep_rule(&file, &version, from, rule);
                    self.report(file, source, Verdict::Stale, summary, problems);
                }
                None => self.report(file, source, Verdict::Refused, String::new(), problems),
            }
        }
        broken
    }

    /// What stands in for a bad rule: its last good text, else what is live of the same text.
    fn rule_before(&self, id: &str, source: &Source) -> Option<(Source, &'a Files, CheckedRule)> {
        let file = FileId::rule(id);
        if let Some(kept) = self.last_good.get(&file) {
            // The copy keeps the name under which the user knows the file.
            let named = Source::new(&source.path, Arc::clone(&kept.text));
            if let Ok((rule, _)) = self.rule(id, &named, self.last_good) {
                return Some((kept.clone(), self.last_good, rule));
            }
        }
        let before = self.before?;
        let version = before.good.get(&file)?;
        Some((version.clone(), &before.good, before.rules.get(id)?.clone()))
    }

    fn keep_rule(&mut self, file: &FileId, version: &Source, from: &Files, rule: CheckedRule) {
        self.checked.good.0.insert(file.clone(), version.clone());
        // The statement's own file belongs to the version of the rule that names it.
        if let Some(sql) = &rule.sql_file
            && let Some(source) = from.get(sql)
        {
            self.checked.good.0.insert(sql.clone(), source.clone());
        }
        self.checked.rules.insert(file.id.clone(), rule);
    }

    /// The scripts and connectors whose new version broke a rule that is right with the versions before.
    fn breaks(&self, id: &str, source: &Source, problems: &[Problem]) -> Vec<(FileId, Problem)> {
        let has_changed = |file: &FileId, kept: &Source| {
            self.files
                .get(file)
                .is_some_and(|now| now.text != kept.text)
        };
        let changed: Vec<&FileId> = self
            .last_good
            .0
            .iter()
            .filter(|(file, kept)| {
                matches!(file.kind, Kind::Script | Kind::Connector) && has_changed(file, kept)
            })
            .map(|(file, _)| file)
            .collect();
        if changed.is_empty() {
            return Vec::new();
        }
        let earlier = |file: &FileId| self.last_good.get(file).or_else(|| self.files.get(file));
        let scripts = self
            .files
            .of(Kind::Script)
            .filter_map(|(name, _)| Some((name, &earlier(&FileId::script(name))?.text)));
        let (scripts, _) = Scripts::load_each(scripts, ScriptLimits::default());
        let mut connectors = self.checked.connectors.clone();
        for file in changed.iter().filter(|file| file.kind == Kind::Connector) {
            if let Some(Ok((connector, _))) =
                earlier(file).map(|kept| connector_file::read(kept, self.outside))
            {
                connectors.insert(file.id.clone(), connector);
            }
        }
        let with_before = Pass {
            files: self.files,
            last_good: self.last_good,
            before: None,
            outside: self.outside,
            checked: Checked {
                connectors,
                ..Checked::default()
            },
            catalog: Catalog {
                scripts: Arc::new(scripts),
            },
        };
        let Ok((rule, _)) = with_before.rule(id, source, self.files) else {
            return Vec::new();
        };
        let reason = problems
            .iter()
            .find(|problem| problem.is_error())
            .map_or("it is not right", |problem| &problem.message);
        let uses = |file: &FileId| match file.kind {
            Kind::Script => calls_script(&rule, &file.id),
            _ => rule
                .sinks
                .iter()
                .any(|sink| sink.plan.connector.as_deref() == Some(&*file.id)),
        };
        changed
            .into_iter()
            .filter(|file| uses(file))
            .filter_map(|file| {
                let path = &self.files.get(file)?.path;
                let message = format!(
                    "{} would no longer be right: {reason}",
                    source.path.display()
                );
                let problem = Problem::whole(path, "E1009", message)
                    .help("change the rule first, or both in one step");
                Some((file.clone(), problem))
            })
            .collect()
    }

    /// Reports mistakes in files of tests; they never stop what they test.
    fn test_files(&mut self) {
        for (file, source) in &self.files.0 {
            let problems = match file.kind {
                Kind::RuleTests => rule_file::read_tests(source).err(),
                Kind::ScriptTests => script_test::read(source).err(),
                _ => continue,
            };
            let verdict = if problems.is_some() {
                Verdict::Refused
            } else {
                Verdict::Ok
            };
            self.report(
                file.clone(),
                source,
                verdict,
                String::new(),
                problems.unwrap_or_default(),
            );
        }
    }

    /// Checks one rule file; warnings come with the rule.
    fn rule(
        &self,
        id: &str,
        source: &Source,
        siblings: &Files,
    ) -> Result<(CheckedRule, Vec<Problem>), Vec<Problem>> {
        let around = Around {
            outside: self.outside,
            connector: &|name| {
                self.checked
                    .connectors
                    .get(name)
                    .map(|connector| (*connector.config).clone())
            },
            sql_file: &|name| {
                let file = FileId::sql_beside(id, name)?;
                siblings.get(&file).cloned()
            },
        };
        let mut problems = Vec::new();
        let file = match rule_file::read(source, &around) {
            Ok(file) => file,
            Err(unread) => {
                // All mistakes at once: those of the statement too.
                problems = unread.problems;
                if let Some(sql) = &unread.sql {
                    statement(source, sql, &self.catalog, &mut problems);
                }
                return Err(problems);
            }
        };
        let rule = statement(source, &file.sql, &self.catalog, &mut problems);
        let sinks = self.sinks(source, &file, rule.as_ref(), &mut problems);
        if let Some(rule) = &rule {
            problems.extend(bridges::problems(
                source,
                &file,
                rule,
                &self.checked.connectors,
            ));
        }
        let tests = tests(id, source, &file, siblings);
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        match rule {
            Some(rule) if !problems.iter().any(Problem::is_error) => Ok((
                CheckedRule {
                    id: id.into(),
                    source: source.clone(),
                    description: file.description,
                    enabled: file.enabled,
                    on_error: file.on_error,
                    sql_file: file.sql.file.as_ref().and_then(|named| {
                        let same = |(file, source): &(&FileId, &Source)| {
                            file.kind == Kind::Sql && source.path == named.path
                        };
                        siblings.0.iter().find(same).map(|(file, _)| file.clone())
                    }),
                    sql: file.sql,
                    rule: Arc::new(rule),
                    sinks,
                    tests,
                },
                problems,
            )),
            _ => Err(problems),
        }
    }

    fn sinks(
        &self,
        source: &Source,
        file: &RuleFile,
        rule: Option<&Rule>,
        problems: &mut Vec<Problem>,
    ) -> Vec<CheckedSink> {
        let mut sinks: Vec<CheckedSink> = Vec::new();
        let mut unnamed: BTreeSet<&'static str> = BTreeSet::new();
        for table in &file.sinks {
            let connector = table
                .config
                .connector
                .as_ref()
                .map(|name| (name, self.checked.connectors.get(name)));
            if let Some((name, None)) = connector {
                problems.push(self.no_connector(source, table, name));
                continue;
            }
            let connector = connector.and_then(|(_, connector)| connector);
            match table
                .config
                .check(connector.map(|connector| &*connector.config))
            {
                Ok((plan, warnings)) => {
                    problems.extend(
                        warnings
                            .iter()
                            .map(|warning| from_sinks(source, &table.places, warning)),
                    );
                    problems.extend(
                        rule.into_iter()
                            .flat_map(|rule| lint::missing_fields(source, table, rule, &plan)),
                    );
                    let id = plan
                        .id
                        .clone()
                        .unwrap_or_else(|| plan.kind.name().to_owned());
                    if plan.id.is_none() && !unnamed.insert(plan.kind.name()) {
                        problems.push(
                            Problem::at(
                                source,
                                table.place(""),
                                "E1008",
                                format!("a second {} sink without an `id`", plan.kind.name()),
                            )
                            .help("give both an `id`: rows that wait for a sink are kept under it"),
                        );
                        continue;
                    }
                    if sinks.iter().any(|sink| *sink.id == *id) {
                        problems.push(Problem::at(
                            source,
                            table.place("id"),
                            "E1008",
                            format!("there is another sink `{id}` in this rule"),
                        ));
                        continue;
                    }
                    // Text that holds an inline secret is part of the fingerprint, as secrets do not show in the plan.
                    let own_text = if plan.inline.is_some() {
                        &*source.text
                    } else {
                        ""
                    };
                    let fingerprint = fingerprint(&(
                        format!("{plan:?}"),
                        &table.filled,
                        connector.map(|c| c.fingerprint),
                        own_text,
                    ));
                    sinks.push(CheckedSink {
                        id: id.into(),
                        plan: Arc::new(plan),
                        fingerprint,
                    });
                }
                Err(errors) => problems.extend(
                    errors
                        .iter()
                        .map(|error| from_sinks(source, &table.places, error)),
                ),
            }
        }
        sinks
    }

    fn no_connector(&self, source: &Source, table: &SinkTable, name: &str) -> Problem {
        let refused = self.files.get(&FileId::connector(name));
        let problem = Problem::at(
            source,
            table.place("connector"),
            "E1004",
            match refused {
                Some(file) => format!(
                    "the connector `{name}` is refused: see {}",
                    file.path.display()
                ),
                None => format!("there is no connector `{name}`"),
            },
        );
        let known: Vec<&str> = self.checked.connectors.keys().map(String::as_str).collect();
        match crate::problem::nearest(name, known.iter().copied()) {
            Some(near) if refused.is_none() => problem.label(format!("did you mean `{near}`?")),
            _ if refused.is_none() => problem.help(format!(
                "create connectors/{name}.toml; there are: {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            )),
            _ => self.with_cause(problem, name),
        }
    }

    /// Why the connector is refused, and what its own finding says to do.
    fn with_cause(&self, problem: Problem, name: &str) -> Problem {
        let file = FileId::connector(name);
        let report = self
            .checked
            .reports
            .iter()
            .find(|report| report.file == file);
        let cause = report.and_then(|report| report.problems.iter().find(|found| found.is_error()));
        let Some(cause) = cause else {
            return problem;
        };
        let problem = problem.label(cause.message.clone());
        match &cause.help {
            Some(help) => problem.help(help.clone()),
            None => problem,
        }
    }

    /// Removing a connector or script that a live rule uses is refused; one that nobody uses is gone.
    fn keep_used_connectors(&mut self) {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for rule in self.checked.rules.values() {
            for sink in &rule.sinks {
                if let Some(name) = &sink.plan.connector {
                    users
                        .entry(name.clone())
                        .or_default()
                        .push(rule.id.to_string());
                }
            }
        }
        let gone: Vec<(FileId, Source, Vec<String>)> = self
            .last_good
            .0
            .iter()
            .filter(|(file, _)| {
                matches!(file.kind, Kind::Connector | Kind::Script)
                    && self.files.get(file).is_none()
            })
            .map(|(file, source)| {
                let users = match file.kind {
                    Kind::Connector => users.get(&file.id).cloned().unwrap_or_default(),
                    _ => self
                        .checked
                        .rules
                        .values()
                        .filter(|rule| calls_script(rule, &file.id))
                        .map(|rule| rule.id.to_string())
                        .collect(),
                };
                (file.clone(), source.clone(), users)
            })
            .collect();
        for (file, source, users) in gone {
            if users.is_empty() {
                self.checked.connectors.remove(&file.id);
                continue;
            }
            let problem = Problem::whole(
                &source.path,
                "E1010",
                format!(
                    "the file is gone, but these rules use it: {}",
                    users.join(", ")
                ),
            )
            .help("remove or change the rules first; the last good version goes on");
            self.checked.good.0.insert(file.clone(), source.clone());
            self.report(file, &source, Verdict::Stale, String::new(), vec![problem]);
        }
    }

    fn report(
        &mut self,
        file: FileId,
        source: &Source,
        verdict: Verdict,
        summary: String,
        problems: Vec<Problem>,
    ) {
        self.checked.reports.push(FileReport {
            file,
            path: source.path.clone(),
            verdict,
            summary,
            problems,
        });
    }
}

/// A rule's tests, those beside it included; mistakes there are reported with that file.
fn tests(
    id: &str,
    source: &Source,
    file: &RuleFile,
    siblings: &Files,
) -> Vec<(RuleTest, Source, Range<usize>)> {
    let own = file
        .tests
        .iter()
        .map(|(test, place)| (test.clone(), source.clone(), place.clone()));
    let beside = siblings.get(&FileId {
        kind: Kind::RuleTests,
        id: id.to_owned(),
    });
    let more = beside.and_then(|beside| Some((beside, rule_file::read_tests(beside).ok()?)));
    let more = more.into_iter().flat_map(|(beside, tests)| {
        tests
            .into_iter()
            .map(|(test, place)| (test, beside.clone(), place))
    });
    own.chain(more).collect()
}

fn script_problems(name: &str, source: &Source) -> Vec<Problem> {
    let (_, errors) = Scripts::load_each([(name, &source.text)], ScriptLimits::default());
    errors
        .iter()
        .map(|error| {
            if error.line == 0 {
                return Problem::whole(&source.path, "E1011", error.message.clone());
            }
            let line_start: usize = source
                .text
                .split_inclusive('\n')
                .take(error.line - 1)
                .map(str::len)
                .sum();
            let line = source.text[line_start..].lines().next().unwrap_or("");
            let column = error.column.saturating_sub(1);
            let start = line_start + line.char_indices().nth(column).map_or(0, |(at, _)| at);
            Problem::at(source, start..start + 1, "E1011", error.message.clone())
        })
        .collect()
}

fn statement(
    source: &Source,
    sql: &SqlText,
    catalog: &Catalog,
    problems: &mut Vec<Problem>,
) -> Option<Rule> {
    let (rule, diagnostics) = match compile(&sql.text, catalog) {
        Ok((rule, warnings)) => (Some(rule), warnings),
        Err(errors) => (None, errors),
    };
    problems.extend(
        diagnostics
            .into_iter()
            .map(|diagnostic| sql.problem(source, diagnostic)),
    );
    rule
}

/// A mistake that the sinks found, at its place in the file.
pub(super) fn from_sinks(
    source: &Source,
    places: &BTreeMap<String, Range<usize>>,
    error: &ConfigError,
) -> Problem {
    let mut problem = Problem::at(
        source,
        nearest_place(places, &error.key),
        error.code,
        format!("`{}`: {}", error.key, error.message),
    );
    problem.help.clone_from(&error.help);
    if error.is_warning() {
        problem.severity(Severity::Warning)
    } else {
        problem
    }
}

/// A number that changes when `value` does; for comparing within one process only.
pub(super) fn fingerprint<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn summary(rule: &CheckedRule) -> String {
    let count = |number: usize, noun: &str| {
        if number == 1 {
            format!("1 {noun}")
        } else {
            format!("{number} {noun}s")
        }
    };
    format!(
        "{}, {}",
        count(rule.sinks.len(), "sink"),
        count(rule.tests.len(), "test")
    )
}

#[cfg(test)]
mod tests;
