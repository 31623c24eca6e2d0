//! weir is killed with rows on their way to a database: each acknowledged message is one row there, in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_test_support::{Database, Postgres, Site, Weir, wait_until};

use crate::WEIR;
use crate::killed::Client;

const PATIENCE: Duration = Duration::from_secs(60);

/// No key on the table: a row that came twice would be there twice.
const TABLE: &str = "CREATE TABLE arrived (at bigserial, p int, life int, n int)";

const RULE: &str = r#"
sql = '''SELECT payload.p AS p, payload.life AS life, payload.n AS n FROM "t"'''
[[sinks]]
id = "arrived"
connector = "db"
table = "arrived"
retry = { initial = "20ms", max = "200ms" }
"#;

fn site(url: &str) -> Site {
    let site = Site::new();
    site.connector("db", &format!("type = \"postgres\"\nurl = \"{url}\"\n"));
    site.rule("arrived", RULE);
    site
}

fn payload(p: usize, life: usize, n: u16) -> String {
    format!("{{\"p\":{p},\"life\":{life},\"n\":{n}}}")
}

/// `p life n` of each row, in the order of their arrival.
async fn arrived(database: &Database) -> Vec<(usize, usize, u16)> {
    let rows = database
        .psql("SELECT p || ' ' || life || ' ' || n FROM arrived ORDER BY at")
        .await;
    rows.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let mut parts = line.split_whitespace();
            let mut part = || parts.next().unwrap().parse::<usize>().unwrap();
            let (p, life, n) = (part(), part(), part());
            (p, life, u16::try_from(n).unwrap())
        })
        .collect()
}

async fn publish(weir: &Weir, life: usize, numbers: std::ops::RangeInclusive<u16>) {
    let mut client = Client::connect(weir, "p0").await;
    for n in numbers {
        let answer = client.publish(0x32, n, &payload(0, life, n)).await;
        assert_eq!(answer.expect("PUBACK")[0], 0x40);
    }
}

/// [LESSON-13]
#[tokio::test]
async fn each_acknowledged_message_is_one_row_though_weir_was_killed_in_the_midst_of_it() {
    let database = Postgres::shared().await.create_database().await;
    database.psql(TABLE).await;
    let site = site(database.url());
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut weir = site.start(WEIR).await;
    for life in 0..4 {
        let mut publishers = Vec::new();
        for p in 0..4 {
            let mut client = Client::connect(&weir, &format!("p{p}")).await;
            let acknowledged = Arc::clone(&acknowledged);
            publishers.push(tokio::spawn(async move {
                for n in 1..20_000 {
                    match client.publish(0x32, n, &payload(p, life, n)).await {
                        Some([0x40, ..]) => acknowledged.lock().unwrap().push((p, life, n)),
                        _ => return,
                    }
                }
            }));
        }
        let enough = 400 * (life + 1);
        wait_until("some acknowledgements", PATIENCE, || {
            let count = acknowledged.lock().unwrap().len();
            async move { count >= enough }
        })
        .await;
        weir.kill().await;
        for publisher in publishers {
            publisher.await.unwrap();
        }
        weir = site.start(WEIR).await;
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    wait_until("every row is there", PATIENCE, || async {
        let rows = arrived(&database).await;
        acknowledged.iter().all(|message| rows.contains(message))
    })
    .await;
    // Only what was sent and not acknowledged may be there beside them.
    assert_eq!(weir.stop().await, Some(0));
    let rows = arrived(&database).await;
    for p in 0..4 {
        let own: Vec<_> = rows.iter().filter(|row| row.0 == p).collect();
        assert!(
            own.is_sorted_by(|a, b| (a.1, a.2) < (b.1, b.2)),
            "publisher {p}: each row once, in order"
        );
    }
}

/// [LESSON-3]
#[tokio::test]
async fn rows_for_a_database_that_is_away_wait_over_a_kill() {
    let postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    database.psql(TABLE).await;
    let site = site(database.url());
    let weir = site.start(WEIR).await;
    publish(&weir, 0, 1..=20).await;
    postgres.stop().await;
    publish(&weir, 1, 1..=20).await;
    weir.kill().await;
    let weir = site.start(WEIR).await;
    publish(&weir, 2, 1..=20).await;
    postgres.start_again().await;
    wait_until("every row is there", PATIENCE, || async {
        arrived(&database).await.len() >= 60
    })
    .await;
    assert_eq!(weir.stop().await, Some(0));
    let expected: Vec<_> = (0..3)
        .flat_map(|life| (1..=20).map(move |n| (0, life, n)))
        .collect();
    assert_eq!(arrived(&database).await, expected);
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn two_weirs_with_copies_of_one_store_lose_no_acknowledged_row() {
    let database = Postgres::shared().await.create_database().await;
    database.psql(TABLE).await;
    let (original, copy) = (site(database.url()), site(database.url()));
    let there = async |rows: usize| {
        wait_until("the rows are there", PATIENCE, || async {
            arrived(&database).await.len() >= rows
        })
        .await;
    };
    let weir = original.start(WEIR).await;
    publish(&weir, 0, 1..=20).await;
    there(20).await;
    assert_eq!(weir.stop().await, Some(0));
    copy_folder(&original.path().join("data"), &copy.path().join("data"));
    let (a, b) = (original.start(WEIR).await, copy.start(WEIR).await);
    publish(&a, 1, 1..=20).await;
    there(40).await;
    publish(&b, 2, 1..=60).await;
    there(100).await;
    // The store of the other one has rows of its own with the same numbers.
    publish(&a, 3, 1..=20).await;
    wait_until("the older one says what is wrong", PATIENCE, || async {
        a.printed().contains("E3213")
    })
    .await;
    assert_eq!(arrived(&database).await.len(), 100);
    a.kill().await;
    assert_eq!(b.stop().await, Some(0));
    let a = original.start(WEIR).await;
    there(120).await;
    assert_eq!(a.stop().await, Some(0));
    let rows = arrived(&database).await;
    let lives = [(0, 20), (1, 20), (2, 60), (3, 20)];
    let expected: Vec<_> = lives
        .into_iter()
        .flat_map(|(life, last)| (1..=last).map(move |n| (0, life, n)))
        .collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn without_weirs_table_each_row_is_there_and_once_by_its_id_though_weir_was_killed() {
    let database = Postgres::shared().await.create_database().await;
    let role = format!("weir_k{:x}", rand::random::<u64>());
    database
        .psql(&format!(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE {role} LOGIN; \
             CREATE TABLE arrived (at bigserial, p int, life int, n int, id uuid NOT NULL); \
             GRANT INSERT, SELECT ON arrived TO {role}; GRANT USAGE ON SEQUENCE arrived_at_seq TO {role}"
        ))
        .await;
    let (scheme, rest) = database.url().split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let site = site(&format!("{scheme}://{role}@{host}"));
    let by_id = "delivery = \"at_least_once\"\nmessage_id = \"id\"\nbatch = { max_rows = 20 }\n";
    site.rule("arrived", &format!("{RULE}{by_id}"));
    for life in 0..3 {
        let weir = site.start(WEIR).await;
        publish(&weir, life, 1..=300).await;
        // Some are there, some are on their way.
        weir.kill().await;
    }
    let weir = site.start(WEIR).await;
    wait_until("every row is there", PATIENCE, || async {
        let rows = "SELECT count(DISTINCT (p, life, n)) FROM arrived";
        database.count(rows).await == 900
    })
    .await;
    assert_eq!(weir.stop().await, Some(0));
    // What came twice has the id that it had.
    let ids = "SELECT count(DISTINCT id) FROM arrived";
    assert_eq!(database.count(ids).await, 900);
}

#[tokio::test]
async fn rows_of_a_rule_that_is_gone_after_a_restart_wait_until_it_is_back() {
    let postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    database.psql(TABLE).await;
    let site = site(database.url());
    let weir = site.start(WEIR).await;
    postgres.stop().await;
    publish(&weir, 0, 1..=10).await;
    assert_eq!(weir.stop().await, Some(0));
    assert!(
        !site.path().join("data/dead_letters").exists(),
        "a clean stop makes no dead letters"
    );
    postgres.start_again().await;
    site.remove_rule("arrived");
    let weir = site.start(WEIR).await;
    let said = weir.printed();
    assert!(said.contains("rows wait in the store for a sink"), "{said}");
    assert_eq!(weir.stop().await, Some(0));
    assert!(arrived(&database).await.is_empty());
    site.rule("arrived", RULE);
    let weir = site.start(WEIR).await;
    wait_until("every row is there", PATIENCE, || async {
        arrived(&database).await.len() >= 10
    })
    .await;
    assert_eq!(weir.stop().await, Some(0));
    let expected: Vec<_> = (1..=10).map(|n| (0, 0, n)).collect();
    assert_eq!(arrived(&database).await, expected);
}

#[tokio::test]
async fn a_rule_that_is_removed_and_comes_back_goes_on_with_its_queue() {
    let postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    database.psql(TABLE).await;
    let site = site(database.url());
    let weir = site.start(WEIR).await;
    postgres.stop().await;
    publish(&weir, 0, 1..=10).await;
    site.remove_rule("arrived");
    weir.reload().await;
    let labels = [("rule", "arrived"), ("sink", "arrived")];
    let waiting = weir.metric("weir_sink_rows_in_total", &labels).await;
    assert!((waiting - 10.0).abs() < 0.1, "it is still shown: {waiting}");
    site.rule("arrived", RULE);
    weir.reload().await;
    publish(&weir, 1, 1..=10).await;
    postgres.start_again().await;
    wait_until("every row is there", PATIENCE, || async {
        arrived(&database).await.len() >= 20
    })
    .await;
    assert_eq!(weir.stop().await, Some(0));
    let expected: Vec<_> = (0..2)
        .flat_map(|life| (1..=10).map(move |n| (0, life, n)))
        .collect();
    assert_eq!(arrived(&database).await, expected);
}
