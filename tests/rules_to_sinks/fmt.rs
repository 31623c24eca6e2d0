//! `weir fmt`, `weir help`, and what `weir check` says of them.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::WEIR;
use weir_test_support::{Site, repository};

const AS_IT_CAME: &str = "\
# Kept.
sql = '''
select payload.temp temp, clientid as id  -- who
from '/dev/+/up' where payload.temp>30 and clientid!='x'
'''

[[sinks]]
type   =   \"console\"
";

const LAID_OUT: &str = "\
# Kept.
sql = '''
SELECT payload.temp AS temp, clientid AS id -- who
FROM   \"/dev/+/up\"
WHERE  payload.temp > 30 AND clientid <> 'x'
'''

[[sinks]]
type   =   \"console\"
";

fn text(site: &Site, file: &str) -> String {
    std::fs::read_to_string(site.path().join(file)).unwrap()
}

#[tokio::test]
async fn a_statement_is_written_in_the_house_layout_and_the_rest_of_the_file_is_kept() {
    let site = Site::new();
    site.rule("hot", AS_IT_CAME);
    site.rule("cold", LAID_OUT);

    let would = site.weir(WEIR, &["fmt", "--check"]).await;
    assert_eq!(would.code, Some(1), "{would:?}");
    assert_eq!(would.stdout, "rules/hot.toml\n");
    let difference = "  rules/hot.toml:3
  - select payload.temp temp, clientid as id  -- who
  - from '/dev/+/up' where payload.temp>30 and clientid!='x'
  + SELECT payload.temp AS temp, clientid AS id -- who
  + FROM   \"/dev/+/up\"
  + WHERE  payload.temp > 30 AND clientid <> 'x'
";
    assert_eq!(would.stderr, difference);
    let quiet = site.weir(WEIR, &["fmt", "--check", "--quiet"]).await;
    assert_eq!(quiet.stderr, "");
    assert_eq!(text(&site, "rules/hot.toml"), AS_IT_CAME);

    let done = site.weir(WEIR, &["fmt"]).await.succeeded();
    assert_eq!(done.stdout, "rules/hot.toml\n");
    assert_eq!(text(&site, "rules/hot.toml"), LAID_OUT);
    let again = site.weir(WEIR, &["fmt", "--check"]).await.succeeded();
    assert_eq!(again.stdout, "");
}

#[tokio::test]
async fn a_file_that_cannot_be_parsed_is_named_and_left_alone_and_the_others_are_written() {
    let site = Site::new();
    site.rule("hot", AS_IT_CAME);
    let broken = "sql = '''\nselect a,\nfrom 't'\n'''\n";
    site.rule("broken", broken);

    let done = site.weir(WEIR, &["fmt"]).await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(done.stdout, "rules/hot.toml\n");
    assert!(
        done.stderr.contains("--> rules/broken.toml:3:1"),
        "{}",
        done.stderr
    );
    assert_eq!(text(&site, "rules/broken.toml"), broken);
}

#[tokio::test]
async fn statement_files_are_written_where_a_rule_names_them_and_other_sql_is_none_of_ours() {
    let site = Site::new();
    site.write("rules/a/hot.toml", "sql_file = 'hot.sql'\n");
    site.write("rules/a/hot.sql", "select * from t");
    let schema = "create table readings (temp real);\n";
    site.write("rules/a/schema.sql", schema);

    let done = site.weir(WEIR, &["fmt", "rules/a"]).await.succeeded();
    assert_eq!(done.stdout, "rules/a/hot.sql\n");
    assert_eq!(text(&site, "rules/a/hot.sql"), "SELECT * FROM \"t\"\n");
    assert_eq!(text(&site, "rules/a/schema.sql"), schema);
}

#[test]
fn a_statement_from_standard_input_goes_to_standard_output() {
    let mut weir = Command::new(WEIR)
        .args(["fmt", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = weir.stdin.take().unwrap();
    stdin.write_all(b"select a from 't'").unwrap();
    drop(stdin);
    let output = weir.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"SELECT a FROM \"t\"\n");
}

#[tokio::test]
async fn the_rules_of_this_repository_are_in_the_house_layout() {
    let site = Site::new();
    let _ = site.weir(WEIR, &["init", "mine"]).await.succeeded();
    let rules = repository().join("rules");
    for folder in ["mine/rules", rules.to_str().unwrap()] {
        let checked = site.weir(WEIR, &["fmt", "--check", folder]).await;
        assert_eq!(checked.succeeded().stdout, "");
    }
}

#[tokio::test]
async fn help_explains_codes_and_commands() {
    let site = Site::new();
    let help = async |args: &[&str]| site.weir(WEIR, &[&["help"], args].concat()).await;

    let code = help(&["e0102"]).await.succeeded().stdout;
    assert!(code.starts_with("E0102: Unknown function\n"), "{code}");
    assert!(code.contains("\n    SELECT uper("), "{code}");
    for short in ["E0102", "E102", "102", "0102"] {
        assert_eq!(help(&[short]).await.succeeded().stdout, code, "{short}");
    }
    let both = help(&["3001"]).await.succeeded().stdout;
    assert!(both.starts_with("E3001  "), "{both}");
    assert!(both.contains("\nW3001  "), "{both}");
    let only_warning = help(&["20"]).await.succeeded().stdout;
    assert!(only_warning.starts_with("W0020: "), "{only_warning}");
    let two = help(&["E0102", "W4101"]).await.succeeded().stdout;
    assert!(two.contains("\nW4101: "), "{two}");
    let list = help(&["--codes"]).await.succeeded().stdout;
    assert!(list.contains("E0102  Unknown function\n"), "{list}");

    let run = help(&["run"]).await.succeeded().stdout;
    assert!(run.contains("Usage: weir run"), "{run}");
    let nested = help(&["bench", "rule"]).await.succeeded().stdout;
    assert!(nested.contains("Usage: weir bench rule"), "{nested}");
    let all = help(&[]).await.succeeded().stdout;
    assert!(all.contains("Usage: weir"), "{all}");

    let unknown = help(&["E0012"]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("did you mean `E0"), "{unknown:?}");
    let unknown = help(&["chekc"]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(
        unknown.stderr.contains("did you mean `check`?"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_check_ends_with_the_codes_that_help_explains() {
    let site = Site::new();
    site.rule(
        "hot",
        "sql = 'SELECT uper(a) AS a, uper(payload.b) AS b FROM \"t\"'\n",
    );
    let checked = site.weir(WEIR, &["check"]).await;
    assert!(
        checked.stdout.ends_with("\nmore: weir help E0102 W0001\n"),
        "{}",
        checked.stdout
    );
}
