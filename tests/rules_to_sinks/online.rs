//! `weir check --online`: what rules make, held against the tables of a real database.

use crate::WEIR;
use serde_json::Value as Json;
use weir_test_support::{Finished, Postgres, Site, free_port};

const RULE: &str = r#"
sql = '''SELECT clientid AS device, payload.temp + 1 AS temp, payload.ok = true AS ok, payload.n AS n FROM "t"'''
[[sinks]]
id = "history"
connector = "db"
table = "readings"
"#;

fn codes(checked: &Finished) -> Vec<String> {
    let report: Json = serde_json::from_str(&checked.stdout).unwrap();
    let files = report["files"].as_array().unwrap().iter();
    let all = files.flat_map(|file| file["diagnostics"].as_array().unwrap());
    let codes = all.map(|problem| problem["code"].as_str().unwrap().to_owned());
    // What offline checks say of the rule is another matter.
    codes.filter(|code| code.starts_with("E3")).collect()
}

/// The statement that the first finding offers.
fn offered(checked: &Finished) -> String {
    let report: Json = serde_json::from_str(&checked.stdout).unwrap();
    let files = report["files"].as_array().unwrap().iter();
    let mut all = files.flat_map(|file| file["diagnostics"].as_array().unwrap().clone());
    let first = all.find(|problem| problem["code"].as_str().unwrap().starts_with("E3"));
    let help = first.unwrap()["help"].as_str().unwrap().to_owned();
    let start = help.find("CREATE").or_else(|| help.find("ALTER")).unwrap();
    help[start..].to_owned()
}

#[tokio::test]
async fn what_is_missing_at_the_database_is_found_and_the_offered_statements_mend_it() {
    let database = Postgres::shared().await.create_database().await;
    let site = Site::new();
    let connector = format!("type = \"postgres\"\nurl = \"{}\"\n", database.url());
    site.connector("db", &connector);
    site.rule("readings", RULE);
    let online = ["check", "--online", "--json"];
    let offline = site.weir(WEIR, &["check", "--json"]).await;
    assert_eq!(offline.code, Some(0), "{}", offline.stdout);

    let checked = site.weir(WEIR, &online).await;
    assert_eq!(
        (checked.code, codes(&checked)),
        (Some(1), vec!["E3207".to_owned()])
    );
    database.psql(&offered(&checked)).await;
    let checked = site.weir(WEIR, &online).await;
    assert_eq!(
        (checked.code, codes(&checked)),
        (Some(0), vec![]),
        "{}",
        checked.stdout
    );

    database
        .psql("ALTER TABLE readings DROP COLUMN ok, ADD COLUMN site text NOT NULL, ALTER COLUMN device TYPE integer USING NULL")
        .await;
    let checked = site.weir(WEIR, &online).await;
    let mut found = codes(&checked);
    found.sort();
    assert_eq!(
        (checked.code, &*found.join(" ")),
        (Some(1), "E3208 E3209 E3210")
    );
    database.psql(&offered(&checked)).await;
    let text = site.weir(WEIR, &["check", "--online"]).await;
    assert!(
        text.stdout.contains("\"site\" of \"readings\" is NOT NULL")
            && text.stdout.contains("weir help"),
        "{}",
        text.stdout
    );
    // The first one, a type, was mended.
    assert!(!text.stdout.contains("E3209"), "{}", text.stdout);
    assert_eq!(
        database
            .count("SELECT count(*) FROM pg_class WHERE relname LIKE '%weir%'")
            .await,
        0,
        "nothing of weir's own is made"
    );
}

#[tokio::test]
async fn a_statement_is_prepared_and_a_database_that_is_away_is_named() {
    let database = Postgres::shared().await.create_database().await;
    database.psql("CREATE TABLE t (n int)").await;
    let site = Site::new();
    let connector = format!("type = \"postgres\"\nurl = \"{}\"\n", database.url());
    site.connector("db", &connector);
    let rule = |sql: &str| {
        format!(
            "sql = '''SELECT payload.n AS n FROM \"t\"'''\n[[sinks]]\nid = \"s\"\nconnector = \"db\"\nsql = \"{sql}\"\n"
        )
    };
    site.rule("good", &rule("INSERT INTO t (n) VALUES (:n)"));
    site.rule("bad", &rule("INSERT INTO t (m) VALUES (:n)"));
    let online = ["check", "--online", "--json"];
    let checked = site.weir(WEIR, &online).await;
    assert_eq!(codes(&checked), ["E3204"], "{}", checked.stdout);
    assert!(checked.stdout.contains("42703"), "{}", checked.stdout);
    let nobody = format!(
        "type = \"postgres\"\nurl = \"postgres://x@127.0.0.1:{}/x\"\n",
        free_port()
    );
    site.connector("db", &nobody);
    let checked = site.weir(WEIR, &online).await;
    assert_eq!(
        (checked.code, codes(&checked)),
        (Some(1), vec!["E3401".to_owned(); 2])
    );
}

#[tokio::test]
async fn a_sink_with_an_address_of_its_own_is_asked_too() {
    let database = Postgres::shared().await.create_database().await;
    let site = Site::new();
    let rule = |url: &str| {
        let own = format!("type = \"postgres\"\nurl = \"{url}\"");
        RULE.replace("connector = \"db\"", &own)
    };
    site.rule("readings", &rule(database.url()));
    let online = ["check", "--online", "--json"];
    let checked = site.weir(WEIR, &online).await;
    assert_eq!(codes(&checked), ["E3207"], "{}", checked.stdout);
    let nobody = format!("postgres://x@127.0.0.1:{}/x", free_port());
    site.rule("readings", &rule(&nobody));
    let checked = site.weir(WEIR, &online).await;
    assert_eq!(codes(&checked), ["E3401"], "{}", checked.stdout);
    assert!(
        checked.stdout.contains("the sink's own `url`"),
        "{}",
        checked.stdout
    );
}

#[tokio::test]
async fn a_login_that_may_not_make_weirs_table_is_named_with_what_to_run() {
    let database = Postgres::shared().await.create_database().await;
    let role = format!("weir_o{:x}", rand::random::<u64>());
    database
        .psql(&format!(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE {role} LOGIN; \
             CREATE TABLE readings (device text, temp numeric, ok boolean, n numeric, id uuid UNIQUE); \
             GRANT INSERT, SELECT ON readings TO {role}"
        ))
        .await;
    let (scheme, rest) = database.url().split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let site = Site::new();
    let connector = format!("type = \"postgres\"\nurl = \"{scheme}://{role}@{host}\"\n");
    site.connector("db", &connector);
    site.rule("readings", RULE);
    let online = ["check", "--online", "--json"];
    let checked = site.weir(WEIR, &online).await;
    assert_eq!(
        (checked.code, codes(&checked)),
        (Some(1), vec!["E3214".to_owned()]),
        "{}",
        checked.stdout
    );
    let by_id = format!("{RULE}delivery = \"at_least_once\"\nmessage_id = \"id\"\n");
    site.rule("readings", &by_id);
    let without = site.weir(WEIR, &online).await;
    assert_eq!((without.code, codes(&without)), (Some(0), vec![]));
    site.rule("readings", RULE);
    let statements = offered(&checked);
    let statements = statements.split(" Or do without").next().unwrap();
    database.psql(statements).await;
    let checked = site.weir(WEIR, &online).await;
    assert_eq!(
        (checked.code, codes(&checked)),
        (Some(0), vec![]),
        "{}",
        checked.stdout
    );
    database
        .psql(&format!(
            "REVOKE UPDATE ON weir_delivery_positions FROM {role}"
        ))
        .await;
    let checked = site.weir(WEIR, &online).await;
    assert_eq!(codes(&checked), ["E3214"]);
    assert!(
        checked.stdout.contains("GRANT SELECT, INSERT, UPDATE"),
        "{}",
        checked.stdout
    );
}
