//! What editors, code scanners and build servers get: schemas, SARIF, annotations, JUnit XML.

use crate::WEIR;
use serde_json::{Value, json};
use weir_test_support::{Site, example};

const MISSPELT: &str =
    "sql = '''\nSELECT uper(payload.name) AS name FROM \"t\"\n'''\n[[sinks]]\ntype = \"console\"\n";

/// A rule with an error, and a connector that is warned of: it speaks to a cloud without TLS.
fn an_error_and_a_warning() -> Site {
    let site = Site::new();
    site.rule("bad", MISSPELT);
    site.connector("cloud", &example("connectors/cloud.toml"));
    site
}

#[tokio::test]
async fn findings_as_sarif_are_one_document_with_rules_levels_and_places() {
    let site = an_error_and_a_warning();
    let checked = site.weir(WEIR, &["check", "--format", "sarif"]).await;
    assert_eq!(checked.code, Some(1));
    let document: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(document["version"], "2.1.0");
    let [run] = &document["runs"].as_array().unwrap()[..] else {
        panic!("{document}");
    };
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "weir");
    assert_eq!(driver["version"], env!("CARGO_PKG_VERSION"));

    let results = run["results"].as_array().unwrap();
    let of = |level: &str| {
        let found: Vec<&Value> = results.iter().filter(|r| r["level"] == level).collect();
        assert_eq!(found.len(), 1, "{level}: {document}");
        found[0]
    };
    let (error, warning) = (of("error"), of("warning"));
    assert_eq!(results.len(), 2);
    assert_eq!(error["ruleId"], "E0102");
    let place = &error["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "rules/bad.toml");
    assert_eq!(
        place["region"],
        json!({ "startLine": 2, "startColumn": 8, "endColumn": 12 })
    );
    let text = error["message"]["text"].as_str().unwrap();
    assert!(
        text.contains("`uper`") && text.contains("`upper`"),
        "{text}"
    );
    assert_eq!(
        warning["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        "connectors/cloud.toml"
    );
    for result in results {
        let rule = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(driver["rules"][rule]["id"], result["ruleId"]);
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_a_finding_too() {
    let site = an_error_and_a_warning();
    site.config("mqttt = 1\n");
    let checked = site.weir(WEIR, &["check", "--format", "sarif"]).await;
    assert_eq!(checked.code, Some(1));
    let document: Value = serde_json::from_str(&checked.stdout).unwrap();
    let result = &document["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "E1002");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "weir.toml");
    assert_eq!(place["region"]["startLine"], 3);
}

#[tokio::test]
async fn findings_for_github_are_commands_with_their_place() {
    let site = an_error_and_a_warning();
    let checked = site.weir(WEIR, &["check", "--format", "github"]).await;
    assert_eq!(checked.code, Some(1));
    let commands: Vec<&str> = checked
        .stdout
        .lines()
        .filter(|line| line.starts_with("::"))
        .collect();
    let error = "::error file=rules/bad.toml,line=2,col=8,endColumn=11,title=E0102::";
    assert!(
        commands.iter().any(|line| line.starts_with(error)),
        "{commands:#?}"
    );
    let warning = "::warning file=connectors/cloud.toml,line=";
    assert!(
        commands.iter().any(|line| line.starts_with(warning)),
        "{commands:#?}"
    );
    assert_eq!(commands.len(), 2, "{commands:#?}");
}

#[tokio::test]
async fn tests_are_written_as_junit_xml_beside_what_is_printed() {
    let site = Site::new();
    site.rule("bad", MISSPELT);
    site.rule(
        "hot",
        "sql = 'SELECT payload.t AS t FROM \"t\"'\n\
         [[sinks]]\ntype = 'console'\n\
         [[test]]\nname = 'is <kept>'\ngiven = [{ topic = 't', payload = { t = 1 } }]\nexpect = [{ t = 1 }]\n\
         [[test]]\nname = 'is two'\ngiven = [{ topic = 't', payload = { t = 1 } }]\nexpect = [{ t = 2 }]\n",
    );
    site.udf("m", "fn twice(x) { 2 * x }");
    let expects_nothing = "[[test]]\nname = 'n'\ncall = 'm.twice(1)'\n";
    site.write("udf/m.test.toml", expects_nothing);
    let tested = site.weir(WEIR, &["test", "--junit", "out.xml"]).await;
    assert_eq!(tested.code, Some(1));
    assert!(
        tested
            .stdout
            .contains("1 passed, 1 failed, 2 files could not be read"),
        "{}",
        tested.stdout
    );
    let xml = std::fs::read_to_string(site.path().join("out.xml")).unwrap();
    for part in [
        "<testsuites name=\"weir\" tests=\"4\" failures=\"1\" errors=\"2\">",
        "<testsuite name=\"hot\" file=\"rules/hot.toml\" tests=\"2\" failures=\"1\" errors=\"0\">",
        "<testcase name=\"is &lt;kept&gt;\" classname=\"hot\" file=\"rules/hot.toml\" line=\"4\"/>",
        "<testcase name=\"is two\" classname=\"hot\" file=\"rules/hot.toml\" line=\"8\">",
        "<testcase name=\"can be read\" classname=\"rules/bad.toml\" file=\"rules/bad.toml\" line=\"2\">",
        "<error message=\"error[E0102]: ",
        "<testcase name=\"can be read\" classname=\"udf/m.test.toml\" file=\"udf/m.test.toml\" line=\"1\">",
    ] {
        assert!(xml.contains(part), "{part} is not in\n{xml}");
    }
}

#[tokio::test]
async fn a_rule_without_a_test_fails_in_junit_xml_where_tests_are_required() {
    let site = Site::new();
    site.rule(
        "bare",
        "sql = 'SELECT 1 AS one FROM \"t\"'\n[[sinks]]\ntype = 'console'\n",
    );
    let junit = ["test", "--junit", "out.xml"];
    let xml = || std::fs::read_to_string(site.path().join("out.xml")).unwrap();
    let _ = site.weir(WEIR, &junit).await.succeeded();
    assert!(xml().contains("tests=\"0\""), "{}", xml());
    let required = [&junit[..], &["--require-tests"]].concat();
    assert_eq!(site.weir(WEIR, &required).await.code, Some(1));
    assert!(xml().contains("<failure message=\"the rule has no test\">"));
}

#[tokio::test]
async fn files_of_a_new_project_name_schemas_that_are_there_and_weir_ignores() {
    let site = Site::new();
    let made = site.weir(WEIR, &["init", "site"]).await.succeeded();
    let project = site.path().join("site");
    let mut named = 0;
    for file in made
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("wrote "))
    {
        let path = site.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        if let Some(schema) = text.lines().next().unwrap().strip_prefix("#:schema ") {
            let schema = path.parent().unwrap().join(schema);
            let text = std::fs::read_to_string(schema).unwrap();
            assert!(serde_json::from_str::<Value>(&text).unwrap()["$schema"].is_string());
            named += 1;
        }
    }
    assert_eq!(named, 3, "{}", made.stdout);

    let rule = std::fs::read_to_string(project.join("schemas/rule.json")).unwrap();
    let printed = site.weir(WEIR, &["schema", "rule"]).await.succeeded();
    assert_eq!(printed.stdout, rule);
    std::fs::remove_dir_all(project.join("schemas")).unwrap();
    let _ = site
        .weir(WEIR, &["schema", "--write", "site"])
        .await
        .succeeded();
    for name in ["rule", "connector", "config", "test"] {
        assert!(project.join(format!("schemas/{name}.json")).exists());
    }
    let _ = site
        .weir(
            WEIR,
            &[
                "--config",
                "site/weir.toml",
                "--set",
                "rules.dir=site/rules",
                "--set",
                "rules.connectors_dir=site/connectors",
                "--set",
                "rules.udf_dir=site/udf",
                "test",
            ],
        )
        .await
        .succeeded();
}
