//! An export of EMQX becomes a project that passes its checks and its tests.

use std::collections::BTreeMap;
use std::path::Path;

use weir_test_support::{Site, repository};

use crate::WEIR;

/// The same plant in both forms: a configuration, and lists as the REST API gives them.
const CONFIGURATION: &str = "emqx_export.conf";
const LISTS: &str = "emqx_export.json";

fn export(name: &str) -> String {
    repository()
        .join("tests/rules_to_sinks")
        .join(name)
        .display()
        .to_string()
}

/// A site with what the notes of the import say is to be set.
fn site() -> Site {
    let mut site = Site::new();
    for variable in [
        "DUTY_OFFICE_AUTHORIZATION",
        "FLEET_CLOUD_PASSWORD",
        "PLANT_DB_PASSWORD",
    ] {
        site.env(variable, "a-secret");
    }
    site.write("secrets/energy", "another-secret\n");
    site
}

/// Every file that an import writes, below the site's folder.
fn files(site: &Site) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    for folder in ["rules", "connectors"] {
        walk(site.path(), &site.path().join(folder), &mut found);
    }
    found
}

#[tokio::test]
async fn an_export_becomes_a_project_that_passes_its_checks_and_its_own_tests() {
    let site = site();
    let imported = site
        .weir(WEIR, &["import", "emqx", &export(CONFIGURATION)])
        .await;
    // Some of it has no counterpart, and the command says so.
    assert_eq!(imported.code, Some(1), "{imported:?}");
    for part in [
        "press_overheat",
        "postgres plant_db, http duty_office",
        "weir has no sink for Kafka",
        "unknown function `schema_decode`",
        "set the variable PLANT_DB_PASSWORD",
        "wrote 20 files",
    ] {
        assert!(
            imported.stdout.contains(part),
            "`{part}` is not in:\n{}",
            imported.stdout
        );
    }

    let checked = site.weir(WEIR, &["check"]).await.succeeded();
    assert!(checked.stdout.contains("0 errors"), "{}", checked.stdout);
    for rule in ["press_overheat", "vehicle_fuel", "lift_calls"] {
        let file = format!("rules/{rule}.toml");
        assert!(checked.stdout.contains(&file), "{}", checked.stdout);
    }

    let tested = site.weir(WEIR, &["test"]).await.succeeded();
    assert!(
        tested.stdout.ends_with("14 passed, 0 failed\n"),
        "{}",
        tested.stdout
    );
}

#[tokio::test]
async fn secrets_that_are_not_set_yet_are_named_by_the_import_and_by_the_check_with_what_to_do() {
    let site = Site::new();
    let imported = site
        .weir(WEIR, &["import", "emqx", &export(CONFIGURATION)])
        .await
        .stdout;
    let (before, _) = imported.split_once("\nnext  weir check").unwrap();
    for variable in [
        "DUTY_OFFICE_AUTHORIZATION",
        "FLEET_CLOUD_PASSWORD",
        "PLANT_DB_PASSWORD",
    ] {
        let line = format!("\n  export {variable}='…'");
        assert!(before.contains(&line), "{imported}");
    }
    let to_do = before.split_once("\nto do\n").unwrap().1;
    let to_do = to_do.split_once("\n\n").unwrap().0;
    assert!(
        to_do.contains("connector energy_db: a secret is read from the file secrets/energy"),
        "{to_do}"
    );

    let checked = site.weir(WEIR, &["check", "--json"]).await;
    let checked: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    let found: Vec<&serde_json::Value> = checked["files"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|file| file["diagnostics"].as_array().unwrap())
        .filter(|found| found["severity"] == "error")
        .collect();
    assert_eq!(found.len(), 12, "{found:?}");
    for found in found {
        let of_rule = found["file"].as_str().unwrap().starts_with("rules/");
        let wanted = if of_rule { "E1004" } else { "E1005" };
        assert_eq!(found["code"], wanted, "{found}");
        let text = found.to_string();
        let named = ["is not set", "secrets/energy"];
        assert!(named.iter().any(|name| text.contains(name)), "{found}");
        let help = found["help"].as_str().unwrap();
        assert!(
            help.contains("export ") || help.contains("create `secrets/energy`"),
            "{found}"
        );
    }
}

#[tokio::test]
async fn both_forms_of_an_export_give_the_same_files() {
    let (one, two) = (site(), site());
    let _ = one
        .weir(WEIR, &["import", "emqx", &export(CONFIGURATION)])
        .await;
    let _ = two.weir(WEIR, &["import", "emqx", &export(LISTS)]).await;
    let files = files(&one);
    assert_eq!(files.len(), 20);
    assert_eq!(files, self::files(&two));
}

#[tokio::test]
async fn files_that_are_there_are_written_over_only_when_told_to() {
    let site = site();
    site.rule("hall_climate", "mine");
    let import = ["import", "emqx", &export(CONFIGURATION)];
    let refused = site.weir(WEIR, &import).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("rules/hall_climate.toml"),
        "{}",
        refused.stderr
    );
    assert_eq!(files(&site).len(), 1);

    let _ = site.weir(WEIR, &[&import[..], &["--force"]].concat()).await;
    let files = files(&site);
    assert_eq!(files.len(), 20);
    assert!(files["rules/hall_climate.toml"].starts_with("# EMQX: rule hall_climate\n"));
}

#[tokio::test]
async fn a_mistake_in_an_export_is_told_with_its_place_and_nothing_is_written() {
    let site = site();
    site.write("broken.conf", "rule_engine {\n  rules {\n");
    let refused = site.weir(WEIR, &["import", "emqx", "broken.conf"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("broken.conf:2:9: this `{` is never closed"),
        "{}",
        refused.stderr
    );
    assert!(files(&site).is_empty());
}

#[tokio::test]
async fn what_was_taken_whole_ends_well_and_can_be_read_by_a_program() {
    let site = site();
    site.write(
        "small.conf",
        "rule_engine.rules.hot { sql = \"SELECT payload.t AS t FROM \\\"dev/+\\\"\", actions = [{function = console}] }",
    );
    let imported = site
        .weir(
            WEIR,
            &["import", "emqx", "small.conf", "--into", "plant", "--json"],
        )
        .await
        .succeeded();
    let report: serde_json::Value = serde_json::from_str(&imported.stdout).unwrap();
    assert_eq!(report["files"], serde_json::json!(["rules/hot.toml"]));
    assert_eq!(report["rules"][0]["sinks"], serde_json::json!(["console"]));
    assert_eq!(report["not_taken"], 0);
    assert!(site.path().join("plant/rules/hot.toml").exists());
}
