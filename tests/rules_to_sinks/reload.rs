//! Rules that change while messages flow: each message is seen by one version, and a broken edit
//! changes nothing.

use crate::WEIR;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use weir_test_support::{Database, LinePublisher, Postgres, Site, Weir, mosquitto_pub, wait_until};

const DEADLINE: Duration = Duration::from_secs(30);

/// 2,000 messages a second in all.
const PUBLISHERS: usize = 4;
const BATCH: usize = 10;
const EVERY: Duration = Duration::from_millis(20);
const BATCHES: usize = 400;
const EDITS: usize = 8;

/// Writes each message to the one table, marked with the version of the rule.
fn marked(version: usize) -> String {
    format!(
        r#"
sql = '''SELECT payload.p AS publisher, payload.n AS n, {version} AS version FROM "load/+"'''
[[sinks]]
id = "outcomes"
connector = "db"
table = "outcomes"
"#
    )
}

/// Each version writes through a sink of its own: the one before must be drained, not dropped.
fn through_another_sink(version: usize) -> String {
    marked(version).replace("id = \"outcomes\"", &format!("id = \"outcomes_{version}\""))
}

async fn site_with_table(table: &str) -> (Database, Site) {
    let database = Postgres::shared().await.create_database().await;
    database.psql(table).await;
    let site = Site::new();
    // Reloads come when the test asks for them; one test is about the watcher.
    site.config("rules.watch = false\n");
    site.connector(
        "db",
        &format!("type = \"postgres\"\nurl = \"{}\"\n", database.url()),
    );
    (database, site)
}

/// Publishes at a steady rate while the rule is edited; returns how many messages were sent.
async fn edit_under_load(site: &Site, weir: &Weir, version: fn(usize) -> String) -> usize {
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let topic = format!("load/{publisher}");
        let mut client = LinePublisher::start(weir.mqtt_port(), &["-t", &topic, "-q", "1"]);
        tokio::spawn(async move {
            let mut tick = interval(EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for batch in 0..BATCHES {
                tick.tick().await;
                let lines: String = (batch * BATCH..(batch + 1) * BATCH)
                    .map(|n| format!("{{\"p\":{publisher},\"n\":{n}}}\n"))
                    .collect();
                client.send(&lines).await;
            }
            client.finish().await;
        })
    });
    let publishers: Vec<_> = publishers.collect();

    let sent_for = EVERY * u32::try_from(BATCHES).unwrap();
    let mut pause = interval(sent_for / u32::try_from(EDITS + 1).unwrap());
    pause.tick().await;
    for edit in 1..=EDITS {
        pause.tick().await;
        site.rule("outcomes", &version(edit));
        let _ = weir.reload().await.succeeded();
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    PUBLISHERS * BATCH * BATCHES
}

async fn all_have_one_outcome(database: &Database, sent: usize) {
    wait_until("a row for each message", DEADLINE, || async {
        database.try_count("SELECT count(*) FROM outcomes").await >= Some(sent as u64)
    })
    .await;
    let twice =
        "SELECT count(*) FROM (SELECT FROM outcomes GROUP BY publisher, n HAVING count(*) > 1) x";
    assert_eq!(
        database.count(twice).await,
        0,
        "messages with more than one outcome"
    );
    assert_eq!(
        database.count("SELECT count(*) FROM outcomes").await,
        sent as u64
    );
    assert_eq!(
        database
            .count("SELECT count(DISTINCT version) FROM outcomes")
            .await,
        EDITS as u64 + 1,
        "every version of the rule has seen messages"
    );
    // The messages of one publisher go to the old rule, then to the new one, and never back.
    let back = "SELECT count(*) FROM (SELECT version < lag(version) OVER (PARTITION BY publisher ORDER BY n) AS back FROM outcomes) x WHERE back";
    assert_eq!(
        database.count(back).await,
        0,
        "messages seen by an older rule than the one before"
    );
}

const OUTCOMES: &str = "CREATE TABLE outcomes (publisher int, n int, version int)";

/// [LESSON-18]
#[tokio::test]
async fn under_load_each_message_is_seen_by_the_old_rule_or_by_the_new_one() {
    let (database, site) = site_with_table(OUTCOMES).await;
    site.rule("outcomes", &marked(0));
    let weir = site.start(WEIR).await;
    let sent = edit_under_load(&site, &weir, marked).await;
    all_have_one_outcome(&database, sent).await;
}

#[tokio::test]
async fn rows_of_a_sink_that_an_edit_took_away_are_still_delivered() {
    let (database, site) = site_with_table(OUTCOMES).await;
    site.rule("outcomes", &through_another_sink(0));
    let weir = site.start(WEIR).await;
    let sent = edit_under_load(&site, &weir, through_another_sink).await;
    all_have_one_outcome(&database, sent).await;
}

/// A rule over readings of one kind; `temp` is the column that it fills.
fn readings(expression: &str) -> String {
    format!(
        r#"
sql = '''
SELECT {expression} AS name FROM "names"
'''
[[sinks]]
connector = "db"
table = "names"
"#
    )
}

async fn publish_name(weir: &Weir, name: &str) {
    let payload = format!("{{\"name\":\"{name}\"}}");
    let _ = mosquitto_pub(
        weir.mqtt_port(),
        &["-t", "names", "-q", "1", "-m", &payload],
    )
    .await
    .succeeded();
}

async fn has_names(database: &Database, expected: &str) {
    wait_until(&format!("the names {expected}"), DEADLINE, || async {
        database
            .psql("SELECT string_agg(name, ' ' ORDER BY name) FROM names")
            .await
            == expected
    })
    .await;
}

/// [LESSON-17]
#[tokio::test]
async fn a_broken_edit_is_refused_with_its_place_and_the_old_version_goes_on_even_after_a_restart()
{
    let (database, site) = site_with_table("CREATE TABLE names (name text)").await;
    site.rule("names", &readings("upper(payload.name)"));
    let weir = site.start(WEIR).await;
    publish_name(&weir, "a").await;
    has_names(&database, "A").await;

    site.rule("names", &readings("uper(payload.name)"));
    let refused = weir.reload().await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    for part in ["rules/names.toml:3:8", "E0102", "`uper`", "`upper`"] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    publish_name(&weir, "b").await;
    has_names(&database, "A B").await;
    let (status, body) = weir.get("/health/ready").await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body.contains("degraded") && body.contains("names"),
        "{body}"
    );

    assert_eq!(weir.stop().await, Some(0));
    let weir = site.start(WEIR).await;
    publish_name(&weir, "c").await;
    has_names(&database, "A B C").await;

    // The same file, mended, is taken again.
    site.rule("names", &readings("concat(payload.name, '!')"));
    let _ = weir.reload().await.succeeded();
    publish_name(&weir, "d").await;
    has_names(&database, "A B C d!").await;
}

#[tokio::test]
async fn a_broken_file_does_not_stop_the_others_from_changing() {
    let (database, site) = site_with_table("CREATE TABLE names (name text)").await;
    site.rule("names", &readings("upper(payload.name)"));
    let weir = site.start(WEIR).await;

    site.rule("broken", "sql = 'SELECT FROM'\nno such key = 1\n");
    site.rule("names", &readings("lower(payload.name)"));
    assert_eq!(weir.reload().await.code, Some(1));
    publish_name(&weir, "X").await;
    has_names(&database, "x").await;
}

#[tokio::test]
async fn a_version_of_a_rule_one_of_whose_sinks_cannot_be_opened_changes_none_of_the_others() {
    let site = Site::new();
    site.config("rules.watch = false\n");
    let broken = "type = \"http\"\nurl = \"https://127.0.0.1:9\"\ntls = { ca = \"missing.pem\" }\n";
    site.connector("broken", broken);
    let version = |file: &str| {
        format!(
            "sql = '''SELECT payload.name AS name FROM \"names\"'''\n\
             [[sinks]]\nid = \"a\"\ntype = \"file\"\npath = \"{file}.ndjson\"\n"
        )
    };
    site.rule("names", &version("one"));
    let weir = site.start(WEIR).await;
    let second = version("two") + "[[sinks]]\nid = \"b\"\nconnector = \"broken\"\n";
    site.rule("names", &second);
    let refused = weir.reload().await;
    let told = format!("{}{}", refused.stdout, refused.stderr);
    assert!(told.contains("`b` cannot be opened"), "{told}");
    publish_name(&weir, "x").await;
    let read = |file: &str| {
        let path = site.path().join(format!("data/files/{file}.ndjson"));
        std::fs::read_to_string(path).unwrap_or_default()
    };
    wait_until("the row", DEADLINE, || {
        let is_there = !(read("one").is_empty() && read("two").is_empty());
        async move { is_there }
    })
    .await;
    assert_eq!(
        (read("one").lines().count(), read("two")),
        (1, String::new())
    );
}

#[tokio::test]
async fn a_hang_up_signal_reloads() {
    let (database, site) = site_with_table("CREATE TABLE names (name text)").await;
    site.rule("names", &readings("upper(payload.name)"));
    let weir = site.start(WEIR).await;

    site.rule("names", &readings("'by signal'"));
    let before = weir.metric("weir_config_generation", &[]).await;
    weir.hang_up().await;
    wait_until("another generation", DEADLINE, || async {
        weir.metric("weir_config_generation", &[]).await > before
    })
    .await;
    publish_name(&weir, "x").await;
    has_names(&database, "by signal").await;
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_being_told() {
    let (database, site) = site_with_table("CREATE TABLE names (name text)").await;
    site.config("rules.watch = true\n");
    site.rule("names", &readings("upper(payload.name)"));
    let weir = site.start(WEIR).await;

    let before = weir.metric("weir_config_generation", &[]).await;
    site.rule("names", &readings("'noticed'"));
    wait_until("another generation", DEADLINE, || async {
        weir.metric("weir_config_generation", &[]).await > before
    })
    .await;
    publish_name(&weir, "x").await;
    has_names(&database, "noticed").await;
}
