use super::*;
use crate::config::toml_file::Process;

const RULE: &str = "sql = '''SELECT m.twice(payload.x) AS x FROM \"t\"'''\n[[sinks]]\nconnector = 'out'\ntopic = 'o'\n";
const CONNECTOR: &str =
    "type = 'mqtt'\nclient_id = 'w'\naddresses = ['mqtt://127.0.0.1:1']\ntls = false\n";
const SCRIPT: &str = "fn twice(x) { 2 * x }\n";

fn files(parts: &[(FileId, &str)]) -> Files {
    Files(
        parts
            .iter()
            .map(|(file, text)| (file.clone(), Source::new(file.id.clone(), *text)))
            .collect(),
    )
}

fn project(rule: &str, connector: &str, script: &str) -> Files {
    files(&[
        (FileId::rule("r"), rule),
        (FileId::connector("out"), connector),
        (FileId::script("m"), script),
    ])
}

fn verdict(checked: &Checked, file: &FileId) -> Verdict {
    checked
        .reports
        .iter()
        .find(|report| report.file == *file)
        .unwrap()
        .verdict
}

#[test]
fn a_good_project_is_taken_whole() {
    let checked = check(
        &project(RULE, CONNECTOR, SCRIPT),
        &Files::default(),
        None,
        &Process,
    );
    assert_eq!(checked.refused(), 0, "{:?}", checked.reports);
    assert_eq!(checked.good.0.len(), 3);
}

#[test]
fn mistakes_of_a_file_and_of_its_statement_come_at_once() {
    let rule = "sql = '''SELECT uper(clientid) AS x FROM \"t\"'''\n[[sinks]]\ntype = 'console'\nmax_per_secnd = 5\n";
    let checked = check(
        &project(rule, CONNECTOR, SCRIPT),
        &Files::default(),
        None,
        &Process,
    );
    let report = checked
        .reports
        .iter()
        .find(|report| report.file == FileId::rule("r"))
        .unwrap();
    let codes: Vec<&str> = report
        .problems
        .iter()
        .map(|problem| &*problem.code)
        .collect();
    assert_eq!(codes, ["E1002", "E0102"]);
}

#[test]
fn a_broken_rule_is_represented_by_its_last_good_version() {
    let good = project(RULE, CONNECTOR, SCRIPT);
    let checked = check(
        &project("sql = 'SELECT'\n", CONNECTOR, SCRIPT),
        &good,
        None,
        &Process,
    );
    assert_eq!(verdict(&checked, &FileId::rule("r")), Verdict::Stale);
    assert!(checked.rules["r"].sql.text.contains("twice"));
    assert_eq!(&*checked.good.get(&FileId::rule("r")).unwrap().text, RULE);
}

#[test]
fn a_script_that_would_break_a_rule_is_refused_and_the_rule_goes_on() {
    let good = project(RULE, CONNECTOR, SCRIPT);
    let edited = project(RULE, CONNECTOR, "fn thrice(x) { 3 * x }\n");
    let checked = check(&edited, &good, None, &Process);
    assert_eq!(verdict(&checked, &FileId::script("m")), Verdict::Stale);
    assert_eq!(verdict(&checked, &FileId::rule("r")), Verdict::Ok);
}

#[test]
fn a_connector_that_would_break_a_rule_is_refused_and_the_rule_goes_on() {
    let good = project(RULE, CONNECTOR, SCRIPT);
    let edited = project(RULE, "type = 'sqlite'\npath = 'x.db'\n", SCRIPT);
    let checked = check(&edited, &good, None, &Process);
    assert_eq!(
        verdict(&checked, &FileId::connector("out")),
        Verdict::Stale,
        "{:?}",
        checked.reports
    );
    assert_eq!(verdict(&checked, &FileId::rule("r")), Verdict::Ok);
}

#[test]
fn a_connector_and_its_rule_may_change_in_one_step() {
    let good = project(RULE, CONNECTOR, SCRIPT);
    let rule =
        "sql = '''SELECT payload.x AS x FROM \"t\"'''\n[[sinks]]\nconnector = 'out'\ntable = 'o'\n";
    let checked = check(
        &project(rule, "type = 'sqlite'\npath = 'x.db'\n", SCRIPT),
        &good,
        None,
        &Process,
    );
    assert_eq!(checked.refused(), 0, "{:?}", checked.reports);
}

#[test]
fn removing_a_connector_that_a_rule_uses_is_refused_and_names_the_rule() {
    let good = project(RULE, CONNECTOR, SCRIPT);
    let edited = files(&[(FileId::rule("r"), RULE), (FileId::script("m"), SCRIPT)]);
    let checked = check(&edited, &good, None, &Process);
    assert_eq!(verdict(&checked, &FileId::connector("out")), Verdict::Stale);
    let report = checked
        .reports
        .iter()
        .find(|report| report.file == FileId::connector("out"))
        .unwrap();
    assert!(
        report.problems[0].message.contains(" r"),
        "{}",
        report.problems[0].message
    );
    assert!(checked.rules.contains_key("r"));
}

#[test]
fn a_mistake_in_a_file_of_tests_does_not_stop_the_rule() {
    let mut edited = project(RULE, CONNECTOR, SCRIPT);
    let tests = FileId {
        kind: Kind::RuleTests,
        id: "r".to_owned(),
    };
    edited.0.insert(
        tests.clone(),
        Source::new("r.test.toml", "[[test]]\nname = 1\n"),
    );
    let checked = check(&edited, &Files::default(), None, &Process);
    assert_eq!(verdict(&checked, &tests), Verdict::Refused);
    assert_eq!(verdict(&checked, &FileId::rule("r")), Verdict::Ok);
}

#[test]
fn a_rule_goes_on_while_a_value_from_outside_is_missing_for_a_moment() {
    struct Outside(bool);
    impl crate::config::toml_file::Outside for Outside {
        fn value(&self, _: &str, _: &str) -> Result<String, String> {
            if self.0 {
                Ok("mqtt://127.0.0.1:1".to_owned())
            } else {
                Err("gone".to_owned())
            }
        }
    }
    let connector = CONNECTOR.replace("mqtt://127.0.0.1:1", "${env:URL}");
    let files = project(RULE, &connector, SCRIPT);
    let live = check(&files, &Files::default(), None, &Outside(true));
    assert_eq!(live.refused(), 0);
    let checked = check(&files, &live.good, Some(&live), &Outside(false));
    assert_eq!(verdict(&checked, &FileId::connector("out")), Verdict::Stale);
    assert_eq!(verdict(&checked, &FileId::rule("r")), Verdict::Ok);
}

#[test]
fn two_sinks_of_one_type_need_names() {
    let rule = format!("{RULE}[[sinks]]\nconnector = 'out'\ntopic = 'p'\n");
    let checked = check(
        &project(&rule, CONNECTOR, SCRIPT),
        &Files::default(),
        None,
        &Process,
    );
    let report = checked
        .reports
        .iter()
        .find(|report| report.file == FileId::rule("r"))
        .unwrap();
    assert_eq!(report.problems[0].code, "E1008");
}

fn warnings(rules: &[(&str, &str)]) -> Vec<(String, String)> {
    let parts: Vec<(FileId, &str)> = rules
        .iter()
        .map(|(id, text)| (FileId::rule(id), *text))
        .collect();
    let checked = check(&files(&parts), &Files::default(), None, &Process);
    let mut found = Vec::new();
    for report in &checked.reports {
        assert_eq!(report.verdict, Verdict::Ok, "{:?}", report.problems);
        let own = report.problems.iter();
        found.extend(own.map(|problem| {
            (
                report.file.id.clone(),
                format!("{} {}", problem.code, problem.place()),
            )
        }));
    }
    found
}

fn republish(sql: &str, topic: &str) -> String {
    format!("sql = '{sql}'\n[[sinks]]\ntype = 'republish'\ntopic = '{topic}'\n")
}

#[test]
fn a_sink_that_reads_what_no_row_has_is_warned_of_at_its_place() {
    let good = republish(
        "SELECT clientid AS c, payload FROM \"a/#\"",
        "b/${c}/${payload.x}",
    );
    assert_eq!(warnings(&[("r", &good)]), []);
    let bad = republish("SELECT clientid AS c FROM \"a/#\"", "b/${device}");
    assert_eq!(
        warnings(&[("r", &bad)]),
        [("r".to_owned(), "W1001 r:4:9".to_owned())]
    );
    let path = republish("SELECT payload.a FROM \"a/#\"", "b/${payload.b}");
    assert_eq!(
        warnings(&[("r", &path)]),
        [("r".to_owned(), "W1001 r:4:9".to_owned())]
    );
    let all = republish("SELECT * FROM \"a/#\"", "b/${clientid}");
    assert_eq!(warnings(&[("r", &all)]), []);
}

#[test]
fn rules_that_feed_themselves_or_each_other_are_warned_of() {
    let there = republish("SELECT payload FROM \"a/#\"", "b/x");
    let back = republish("SELECT payload FROM \"b/+\"", "a/y");
    let elsewhere = republish("SELECT payload FROM \"b/+\"", "c");
    let own = republish("SELECT payload FROM \"a/#\"", "a/again");
    let codes = |rules: &[(&str, &str)]| -> Vec<String> {
        let found = warnings(rules).into_iter();
        found
            .map(|(rule, code)| format!("{rule} {}", &code[..5]))
            .collect()
    };
    assert_eq!(codes(&[("r", &own)]), ["r W1002"]);
    assert_eq!(
        codes(&[("r", &there), ("s", &back)]),
        ["r W1002", "s W1002"]
    );
    assert!(codes(&[("r", &there), ("s", &elsewhere)]).is_empty());
    let off = format!("enabled = false\n{back}");
    assert!(codes(&[("r", &there), ("s", &off)]).is_empty());
}

#[test]
fn a_second_bridge_that_is_the_same_client_at_the_same_remote_is_refused() {
    let device = |address: &str, core: &str| {
        format!(
            "type = 'mqtt'\npreset = 'aliyun_iot'\nproduct_key = 'pk'\ndevice_name = 'gw'\ndevice_secret = 's'\n\
             client_id = '{core}'\naddresses = ['{address}']\n"
        )
    };
    let refused = |first: &str, second: &str| {
        let project = files(&[
            (FileId::connector("a"), first),
            (FileId::connector("b"), second),
        ]);
        let checked = check(&project, &Files::default(), None, &Process);
        assert_eq!(verdict(&checked, &FileId::connector("a")), Verdict::Ok);
        let report = checked
            .reports
            .iter()
            .find(|report| report.file == FileId::connector("b"));
        let problems = report.unwrap().problems.iter();
        problems
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| (problem.code.to_string(), problem.message.clone()))
            .collect::<Vec<_>>()
    };
    let plain = CONNECTOR;
    let same = refused(plain, plain);
    assert_eq!(same[0].0, "E1412");
    assert!(
        same[0].1.contains("`a`") && same[0].1.contains("w at 127.0.0.1:1"),
        "{same:?}"
    );
    assert!(refused(plain, &plain.replace("'w'", "'w2'")).is_empty());
    // The cloud knows the device, whatever the core of the client id.
    let first = device("mqtts://Cloud:8883", "one");
    assert_eq!(
        refused(&first, &device("mqtts://cloud:8883", "two"))[0].0,
        "E1412"
    );
    assert!(refused(&first, &device("mqtts://other:8883", "two")).is_empty());
    // One cloud, on another port.
    assert_eq!(
        refused(&first, &device("mqtts://cloud:443", "two"))[0].0,
        "E1412"
    );
    assert!(refused(plain, &plain.replace(":1'", ":2'")).is_empty());
}

#[test]
fn a_bridge_whose_file_is_gone_and_that_a_rule_still_uses_is_somebody_too() {
    let good = project(RULE, CONNECTOR, SCRIPT);
    let renamed = |rule: &str| {
        let now = files(&[
            (FileId::rule("r"), rule),
            (FileId::connector("renamed"), CONNECTOR),
            (FileId::script("m"), SCRIPT),
        ]);
        check(&now, &good, None, &Process)
    };
    let checked = renamed(RULE);
    let file = FileId::connector("renamed");
    assert_eq!(verdict(&checked, &file), Verdict::Refused);
    assert_eq!(verdict(&checked, &FileId::rule("r")), Verdict::Ok);
    let report = checked.reports.iter().find(|report| report.file == file);
    let problem = &report.unwrap().problems[0];
    assert_eq!(&*problem.code, "E1412");
    assert!(problem.message.contains("`out`"), "{}", problem.message);
    assert!(!checked.connectors.contains_key("renamed"));
    // When the rule has gone along, nobody is left.
    let checked = renamed(&RULE.replace("'out'", "'renamed'"));
    assert_eq!(checked.refused(), 0, "{:?}", checked.reports);
    assert_eq!(verdict(&checked, &file), Verdict::Ok);
}

#[test]
fn a_bridge_that_runs_stays_and_the_newcomer_that_is_the_same_client_is_refused() {
    let client = |id: &str| CONNECTOR.replace("'w'", &format!("'{id}'"));
    let (w, v, bad) = (client("w"), client("v"), "type = 'mqtt'\n");
    let checked = |live: &[(&str, &str)], now: &[(&str, &str)]| {
        let files = |texts: &[(&str, &str)]| {
            let parts = texts.iter();
            let parts: Vec<_> = parts
                .map(|(name, text)| (FileId::connector(name), *text))
                .collect();
            files(&parts)
        };
        let checked = check(&files(now), &files(live), None, &Process);
        let verdicts = now.iter();
        let verdicts: Vec<_> = verdicts
            .map(|(name, _)| verdict(&checked, &FileId::connector(name)))
            .collect();
        verdicts
    };
    use Verdict::{Ok, Refused, Stale};
    // Whatever its name.
    assert_eq!(
        checked(&[("b", &w)], &[("a", &w), ("b", &w)]),
        [Refused, Ok]
    );
    // The last good version of a bad file is somebody, too.
    assert_eq!(
        checked(&[("b", &w)], &[("a", &w), ("b", bad)]),
        [Refused, Stale]
    );
    assert_eq!(
        checked(&[("a", &v), ("b", &w)], &[("a", &w), ("b", bad)]),
        [Stale, Stale]
    );
    // Who leaves makes room.
    assert_eq!(checked(&[("b", &w)], &[("a", &w), ("b", &v)]), [Ok, Ok]);
    assert_eq!(
        checked(&[("a", &v), ("b", &w)], &[("a", &w), ("b", &v)]),
        [Ok, Ok]
    );
    // But not where it cannot leave.
    assert_eq!(
        checked(
            &[("a", &w), ("b", &v), ("c", &client("u"))],
            &[("a", &client("u")), ("b", &w), ("c", &client("u"))]
        ),
        [Stale, Stale, Ok]
    );
}

/// The warnings of a rule beside the bridge `hq` whose file has `more`.
fn beside_bridge(rule: &str, more: &str) -> Vec<String> {
    let connector = format!("{CONNECTOR}{more}");
    let parts = [
        (FileId::rule("r"), rule),
        (FileId::connector("hq"), connector.as_str()),
    ];
    let checked = check(&files(&parts), &Files::default(), None, &Process);
    let report = checked
        .reports
        .iter()
        .find(|report| report.file == FileId::rule("r"))
        .unwrap();
    assert_eq!(report.verdict, Verdict::Ok, "{:?}", report.problems);
    let codes = report.problems.iter();
    codes.map(|problem| problem.code.to_string()).collect()
}

#[test]
fn a_rule_whose_own_messages_come_back_over_a_bridge_is_warned_of() {
    let rule = |from: &str, topic: &str| {
        format!(
            "sql = 'SELECT payload FROM \"{from}\"'\n[[sinks]]\nconnector = 'hq'\ntopic = '{topic}'\n"
        )
    };
    let taken = "[[in]]\nfilter = 'up/#'\nlocal_prefix = 'hq/'\n";
    assert_eq!(beside_bridge(&rule("hq/#", "up/x"), taken), ["W4104"]);
    assert_eq!(
        beside_bridge(&rule("hq/#", "up/${payload}"), taken),
        ["W4104"]
    );
    assert_eq!(
        beside_bridge(&rule("$bridges/mqtt:hq", "up/x"), taken),
        ["W4104"]
    );
    let none: [&str; 0] = [];
    assert_eq!(beside_bridge(&rule("hq/#", "down/x"), taken), none);
    assert_eq!(beside_bridge(&rule("hq/up/y", "up/x"), taken), none);
    let kept_back = format!("protocol = '5'\n{taken}");
    assert_eq!(beside_bridge(&rule("hq/#", "up/x"), &kept_back), none);
    let shared = format!("{kept_back}share = 'g'\n");
    assert_eq!(beside_bridge(&rule("hq/#", "up/x"), &shared), ["W4104"]);
}

#[test]
fn a_rule_on_a_bridge_from_which_nothing_comes_is_warned_of() {
    let rule = |name: &str| {
        format!(
            "sql = 'SELECT payload FROM \"$bridges/mqtt:{name}\"'\n[[sinks]]\ntype = 'console'\n"
        )
    };
    let none: [&str; 0] = [];
    assert_eq!(beside_bridge(&rule("hq"), ""), ["W4105"]);
    assert_eq!(beside_bridge(&rule("gone"), ""), ["W4105"]);
    assert_eq!(beside_bridge(&rule("hq"), "[[in]]\nfilter = 'a'\n"), none);
    assert_eq!(beside_bridge(&rule("*"), ""), none);
}
