//! Two weirs with copies of one store, both alive: each row of each is in the database, or still in its queue.

use std::path::Path;
use std::sync::Arc;

use weir_sinks::{MemoryRows, SinkState};
use weir_test_support::wait_until;

use crate::bench::PATIENCE;
use crate::durable::{Far, Life, far_sides, log, numbered};

/// A copy of a data folder.
fn copied(folder: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else if entry.path().extension().is_none() {
                // Not the database, which stands in for one that both reach.
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(folder, to.path());
    to
}

/// A copy of a log: so many rows have come, and so many of them are settled.
fn copied_log(rows: u64, settled: u64) -> Arc<MemoryRows> {
    let log = log();
    log.commit(numbered(1..=rows).into_iter().map(|(_, row)| row));
    log_settle(&log, settled);
    log
}

fn log_settle(log: &MemoryRows, up_to: u64) {
    weir_sinks::RowLog::settle(log, up_to);
}

async fn paused(life: &Life, code: &str) -> String {
    wait_until("the sink is paused", PATIENCE, || async {
        let last = life.sink.last_error();
        matches!(life.sink.state(), SinkState::Paused { .. })
            && last.is_some_and(|last| last.error.code() == code)
    })
    .await;
    life.sink.last_error().unwrap().error.to_string()
}

/// The originals, with ten rows delivered, and a copy that was made then.
struct Copies {
    folders: [tempfile::TempDir; 2],
    logs: [Arc<MemoryRows>; 2],
}

impl Copies {
    async fn make(far: &Far) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = log();
        let first = Life::begin(&far.connector(), "", &log, folder.path());
        first.put(1..=10);
        first.settled().await;
        first.end().await;
        let copy = copied(folder.path());
        Self {
            folders: [folder, copy],
            logs: [log, copied_log(10, 10)],
        }
    }

    fn begin(&self, which: usize, far: &Far) -> Life {
        let folder = self.folders[which].path();
        Life::begin(&far.connector(), "", &self.logs[which], folder)
    }
}

#[tokio::test]
async fn of_two_weirs_on_copies_of_one_store_the_newest_writes_and_the_other_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        let (a, b) = (copies.begin(0, &far), copies.begin(1, &far));
        a.put(101..=105);
        a.settled().await;
        b.put(201..=205);
        b.settled().await;
        a.put(106..=110);
        let told = paused(&a, "E3213").await;
        assert!(told.contains("copy of this store"), "{told}");
        // Under numbers that the other has given to rows of its own.
        b.put(206..=220);
        b.settled().await;
        assert_eq!(a.sink.counters().delivered, 5);
        assert_eq!(
            a.log.waiting(),
            (16..=20)
                .zip(106..=110)
                .map(|(seq, n)| (seq, numbered([n])[0].1.clone()))
                .collect::<Vec<_>>()
        );
        let expected: Vec<u64> = (1..=10).chain(101..=105).chain(201..=220).collect();
        assert_eq!(far.numbers().await, expected);
        a.end().await;
        b.end().await;
    }
}

#[tokio::test]
async fn each_start_of_a_copy_takes_over_and_the_one_before_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        let (a, b) = (copies.begin(0, &far), copies.begin(1, &far));
        a.put(101..=105);
        a.settled().await;
        b.put(201..=230);
        b.settled().await;
        a.put(106..=110);
        paused(&a, "E3213").await;
        a.end().await;
        // What the database says of the numbers 16 to 20 is about rows of the other.
        let a = copies.begin(0, &far);
        a.settled().await;
        b.put(231..=235);
        paused(&b, "E3213").await;
        b.end().await;
        let b = copies.begin(1, &far);
        b.settled().await;
        b.end().await;
        a.end().await;
        let expected: Vec<u64> = (1..=10).chain(101..=110).chain(201..=235).collect();
        assert_eq!(far.numbers().await, expected);
    }
}

#[tokio::test]
async fn the_statement_that_is_offered_lets_the_older_one_go_on() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        let (a, b) = (copies.begin(0, &far), copies.begin(1, &far));
        a.put(101..=105);
        a.settled().await;
        b.put(201..=220);
        b.settled().await;
        b.end().await;
        a.put(106..=110);
        let told = paused(&a, "E3213").await;
        let cure = told.split_once("UPDATE").unwrap().1;
        far.run(&format!("UPDATE {cure}")).await;
        a.settled().await;
        a.end().await;
        let expected: Vec<u64> = (1..=10).chain(101..=110).chain(201..=220).collect();
        assert_eq!(far.numbers().await, expected);
    }
}

#[tokio::test]
async fn a_start_takes_over_from_one_that_still_lives_and_stores_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        let old = copies.begin(0, &far);
        old.put(11..=20);
        old.settled().await;
        // A replica of its disk, which lacks what was settled last.
        let (replica, log) = (copied(copies.folders[0].path()), copied_log(20, 13));
        let new = Life::begin(&far.connector(), "", &log, replica.path());
        new.put(21..=25);
        new.settled().await;
        old.put(101..=105);
        paused(&old, "E3213").await;
        assert_eq!(old.log.waiting().len(), 5);
        new.end().await;
        old.end().await;
        assert_eq!(far.numbers().await, (1..=25).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_copy_that_took_rows_before_it_reached_the_database_loses_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let far = &far_sides(folder.path()).await[1];
    let copies = Copies::make(far).await;
    let nobody = "type = \"postgres\"\nurl = \"postgres://nobody@127.0.0.1:9/none\"";
    let a = copies.begin(0, far);
    let b = Life::begin(nobody, "", &copies.logs[1], copies.folders[1].path());
    b.put(201..=205);
    crate::bench::wait(&b.sink, "it was tried", |c| c.batches_failed > 0).await;
    b.end().await;
    a.put(101..=120);
    a.settled().await;
    let b = copies.begin(1, far);
    b.settled().await;
    b.end().await;
    a.end().await;
    let expected: Vec<u64> = (1..=10).chain(101..=120).chain(201..=205).collect();
    assert_eq!(far.numbers().await, expected);
}

/// As a version without fences has left it.
async fn made_old(far: &Far, folder: &Path) {
    far.run("ALTER TABLE weir_delivery_positions DROP COLUMN fence")
        .await;
    far.run("DELETE FROM weir_migrations WHERE version > 1")
        .await;
    std::fs::remove_dir_all(folder.join("fences")).unwrap();
}

#[tokio::test]
async fn a_table_of_an_earlier_version_is_taken_over_with_its_positions() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        made_old(&far, copies.folders[0].path()).await;
        copies.logs[0].crash_before_settling(numbered(4..=10));
        let life = copies.begin(0, &far);
        life.put(11..=12);
        life.settled().await;
        // And once more, with the new version having been there in between.
        life.end().await;
        copies.logs[0].crash_before_settling(numbered(9..=12));
        let life = copies.begin(0, &far);
        life.put(13..=14);
        life.settled().await;
        life.end().await;
        assert_eq!(far.numbers().await, (1..=14).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_earlier_version_that_writes_beside_this_one_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        let life = copies.begin(0, &far);
        life.put([101]);
        life.settled().await;
        // It knows of no fence.
        far.run("UPDATE weir_delivery_positions SET position = 13")
            .await;
        life.put(102..=103);
        paused(&life, "E3213").await;
        assert_eq!(life.log.waiting().len(), 2);
        // Another configuration of the same sink knows what was never committed.
        life.reconfigure(&far.connector(), copies.folders[0].path());
        crate::bench::wait(&life.sink, "it was tried", |c| c.batches_failed > 2).await;
        assert_eq!(life.log.waiting().len(), 2);
        life.end().await;
        // And so does the next start.
        let life = copies.begin(0, &far);
        life.settled().await;
        life.end().await;
        let expected: Vec<u64> = (1..=10).chain(101..=103).collect();
        assert_eq!(far.numbers().await, expected);
    }
}

#[tokio::test]
async fn a_database_that_was_put_back_to_before_the_last_start_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        let before = far
            .run("SELECT CAST(fence AS text) AS v FROM weir_delivery_positions")
            .await;
        let life = copies.begin(0, &far);
        life.put(11..=15);
        life.settled().await;
        far.run(&format!(
            "UPDATE weir_delivery_positions SET position = 10, fence = {}",
            before[0]
        ))
        .await;
        far.run("DELETE FROM t WHERE n > 10").await;
        life.put(16..=17);
        let told = paused(&life, "E3206").await;
        assert!(told.contains("rows 11 to 15"), "{told}");
        let cure = told.split_once("UPDATE").unwrap().1;
        far.run(&format!("UPDATE {cure}")).await;
        life.settled().await;
        life.end().await;
        let expected: Vec<u64> = (1..=10).chain(16..=17).collect();
        assert_eq!(far.numbers().await, expected);
    }
}

#[tokio::test]
async fn a_gap_stays_told_over_restarts_until_somebody_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        far.run("UPDATE weir_delivery_positions SET position = 6")
            .await;
        far.run("DELETE FROM t WHERE n > 6").await;
        for n in 11..=12 {
            let life = copies.begin(0, &far);
            life.put([n]);
            let told = paused(&life, "E3206").await;
            assert!(told.contains("rows 7 to 10"), "{told}");
            life.end().await;
        }
        let life = copies.begin(0, &far);
        let told = paused(&life, "E3206").await;
        let cure = told.split_once("UPDATE").unwrap().1;
        far.run(&format!("UPDATE {cure}")).await;
        life.settled().await;
        life.end().await;
        assert_eq!(far.numbers().await, [1, 2, 3, 4, 5, 6, 11, 12]);
    }
}

#[tokio::test]
async fn an_earlier_table_that_was_dropped_is_made_again_whole() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let copies = Copies::make(&far).await;
        far.run("DROP TABLE weir_delivery_positions").await;
        far.run("DELETE FROM weir_migrations WHERE version > 1")
            .await;
        let life = copies.begin(0, &far);
        life.put(11..=12);
        life.settled().await;
        life.end().await;
        assert_eq!(far.numbers().await, (1..=12).collect::<Vec<_>>());
    }
}
