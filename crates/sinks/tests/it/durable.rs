//! Sinks whose rows wait in a log, over restarts. A restart is a second sink over the same log; a crash is one in which
//! what was settled is not settled any more.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_rules::value::Text;
use weir_sinks::dead_letter::{DeadLetter, LetterLog};
use weir_sinks::{
    Connector, ConnectorConfig, MemoryRows, RetryError, RowLog, SinkHandle, SinkSpec, open, record,
};
use weir_test_support::{Answer, Postgres, Webhook};

use crate::bench::{self, row, spec, wait};

/// One life of a sink that writes into the table `t`.
pub(crate) struct Life {
    pub(crate) sink: SinkHandle,
    pub(crate) log: Arc<MemoryRows>,
    _connector: Arc<Connector>,
}

const TABLE: &str = "connector = \"far\"\ntable = \"t\"\nbatch = { max_wait = \"1ms\" }\nretry = { initial = \"10ms\", max = \"20ms\" }\n";

impl Life {
    pub(crate) fn begin(connector: &str, more: &str, log: &Arc<MemoryRows>, folder: &Path) -> Self {
        Self::begin_with(connector, more, log, None, folder)
    }

    fn begin_with(
        connector: &str,
        more: &str,
        log: &Arc<MemoryRows>,
        letters: Option<(&Arc<MemoryRows>, u64)>,
        folder: &Path,
    ) -> Self {
        let (spec, connector) = Self::spec(connector, more, log, letters, folder);
        Self {
            sink: open(&spec).unwrap(),
            log: Arc::clone(log),
            _connector: connector,
        }
    }

    fn spec(
        connector: &str,
        more: &str,
        log: &Arc<MemoryRows>,
        letters: Option<(&Arc<MemoryRows>, u64)>,
        folder: &Path,
    ) -> (SinkSpec, Arc<Connector>) {
        let config: ConnectorConfig = toml::from_str(connector).unwrap();
        let connector = Connector::open("far", &config, folder).unwrap();
        let sink = format!("{TABLE}{more}");
        let mut spec = spec(&sink, Some((&config, &connector)), folder);
        let rows: Arc<dyn RowLog> = Arc::<MemoryRows>::clone(log);
        spec.rows = Some(rows);
        spec.letters = letters.map(|(letters, max_bytes)| {
            let letters: Arc<dyn RowLog> = Arc::<MemoryRows>::clone(letters);
            LetterLog::new(max_bytes, move || Some(Arc::clone(&letters)))
        });
        (spec, connector)
    }

    /// Gives the sink a configuration that was read anew.
    pub(crate) fn reconfigure(&self, connector: &str, folder: &Path) {
        let (spec, _) = Self::spec(connector, "", &self.log, None, folder);
        self.sink.reconfigure(&spec).unwrap();
    }

    pub(crate) fn put(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let row = encoded(&format!("{{\"n\":{number}}}"));
            let permit = self.sink.try_reserve(1, row.len()).unwrap();
            let owed = self.sink.claim(permit, vec![row]).unwrap();
            self.log.commit(owed.rows);
            owed.claim.kept();
        }
    }

    pub(crate) async fn settled(&self) {
        wait(&self.sink, "every row is settled", |c| {
            c.buffered_rows + c.inflight_rows == 0
        })
        .await;
    }

    pub(crate) async fn end(self) {
        self.sink.drain(Duration::from_secs(5)).await;
    }
}

pub(crate) fn encoded(json: &str) -> Bytes {
    record::encode(
        7,
        &Text::from_static("client-1"),
        1_700_000_000_000,
        &row(json),
    )
}

pub(crate) fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, Bytes)> {
    let rows = numbers.into_iter();
    rows.map(|number| (number, encoded(&format!("{{\"n\":{number}}}"))))
        .collect()
}

pub(crate) fn log() -> Arc<MemoryRows> {
    Arc::new(MemoryRows::new(1, 4711))
}

/// What stands in a file or a database, the numbers in order.
pub(crate) enum Far {
    Sqlite(std::path::PathBuf),
    Postgres(weir_test_support::Database),
}

impl Far {
    pub(crate) fn connector(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("type = \"sqlite\"\npath = \"{}\"", path.display()),
            Self::Postgres(database) => {
                format!("type = \"postgres\"\nurl = \"{}\"", database.url())
            }
        }
    }

    pub(crate) async fn run(&self, sql: &str) -> Vec<String> {
        match self {
            Self::Sqlite(path) => crate::sqlite::run(path, sql).await,
            Self::Postgres(database) => {
                let text = database.psql(sql).await;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                lines.map(str::to_owned).collect()
            }
        }
    }

    pub(crate) async fn numbers(&self) -> Vec<u64> {
        let rows = self
            .run("SELECT CAST(n AS text) AS v FROM t ORDER BY t.n")
            .await;
        rows.iter().map(|row| row.parse().unwrap()).collect()
    }
}

pub(crate) async fn far_sides(folder: &Path) -> [Far; 2] {
    let database = Postgres::shared().await.create_database().await;
    database.psql("CREATE TABLE t (n bigint)").await;
    let sqlite = folder.join("far.db");
    crate::sqlite::run(&sqlite, "CREATE TABLE t (n INTEGER)").await;
    [Far::Sqlite(sqlite), Far::Postgres(database)]
}

#[tokio::test]
async fn rows_that_come_again_after_a_crash_are_stored_once_in_whatever_batches() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let log = log();
        let first = Life::begin(&far.connector(), "", &log, folder.path());
        first.put(1..=10);
        first.settled().await;
        first.end().await;
        // The settling of the last seven was lost, and more came since.
        log.crash_before_settling(numbered(4..=10));
        log.commit(numbered(11..=20).into_iter().map(|(_, row)| row));
        let second = Life::begin(&far.connector(), "", &log, folder.path());
        second.settled().await;
        assert_eq!(second.sink.counters().rows_in, 17);
        second.put(21..=25);
        second.settled().await;
        second.end().await;
        assert_eq!(far.numbers().await, (1..=25).collect::<Vec<_>>());
        assert!(log.waiting().is_empty());
    }
}

#[tokio::test]
async fn a_store_that_was_put_back_skips_no_row() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let log = log();
        let first = Life::begin(&far.connector(), "", &log, folder.path());
        first.put(1..=10);
        first.settled().await;
        first.end().await;
        log.go_back_to(4);
        let second = Life::begin(&far.connector(), "", &log, folder.path());
        second.put(101..=103);
        second.settled().await;
        second.end().await;
        let expected: Vec<u64> = (1..=10).chain(101..=103).collect();
        assert_eq!(far.numbers().await, expected);
    }
}

#[tokio::test]
async fn a_database_that_was_put_back_stops_the_sink_until_somebody_accepts_the_gap() {
    let folder = tempfile::tempdir().unwrap();
    for far in far_sides(folder.path()).await {
        let log = log();
        let life = Life::begin(&far.connector(), "", &log, folder.path());
        life.put(1..=10);
        life.settled().await;
        far.run("UPDATE weir_delivery_positions SET position = 6")
            .await;
        far.run("DELETE FROM t WHERE n > 6").await;
        life.put(11..=12);
        wait(&life.sink, "it was tried", |c| c.batches_failed > 0).await;
        let error = life.sink.last_error().unwrap().error;
        assert_eq!(error.code(), "E3206");
        let text = error.to_string();
        assert!(text.contains("rows 7 to 10"), "{text}");
        let cure = text.split_once("UPDATE").unwrap().1;
        far.run(&format!("UPDATE {cure}")).await;
        life.settled().await;
        life.end().await;
        assert_eq!(far.numbers().await, [1, 2, 3, 4, 5, 6, 11, 12]);
    }
}

#[tokio::test]
async fn a_row_that_was_parked_before_a_crash_has_one_letter_and_its_neighbours_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let far = &far_sides(folder.path()).await[1];
    let log = log();
    let first = Life::begin(&far.connector(), "", &log, folder.path());
    first.put([1, 2]);
    let bad = encoded("{\"n\":\"no number\"}");
    log.commit([bad.clone()]);
    first.end().await;
    let second = Life::begin(&far.connector(), "", &log, folder.path());
    second.put([4, 5]);
    second.settled().await;
    second.end().await;
    assert_eq!(bench::dead_letters(folder.path()).len(), 1);
    let mut again = numbered([1, 2]);
    again.push((3, bad));
    again.extend(numbered([4, 5]));
    log.crash_before_settling(again);
    let third = Life::begin(&far.connector(), "", &log, folder.path());
    third.put([6]);
    third.settled().await;
    third.end().await;
    assert_eq!(bench::dead_letters(folder.path()).len(), 1);
    assert_eq!(far.numbers().await, [1, 2, 4, 5, 6]);
}

#[tokio::test]
async fn a_row_is_in_its_queue_or_among_the_letters_and_goes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let far = &far_sides(folder.path()).await[1];
    let log = log();
    let letters = Arc::new(log.beside(2, 4712));
    let room = Some((&letters, 1 << 20));
    let life = Life::begin_with(&far.connector(), "", &log, room, folder.path());
    life.put([1]);
    let bad = encoded("{\"n\":\"no number\"}");
    let permit = life.sink.try_reserve(1, bad.len()).unwrap();
    let owed = life.sink.claim(permit, vec![bad.clone()]).unwrap();
    life.log.commit(owed.rows);
    owed.claim.kept();
    life.put([3]);
    life.settled().await;
    let counters = life.sink.counters();
    assert_eq!((counters.delivered, counters.dead_lettered), (2, 1));
    assert!(log.waiting().is_empty());
    let parked = letters.waiting();
    let letter = DeadLetter::decode(&parked[0].1).unwrap();
    assert_eq!((parked.len(), letter.seq, &letter.row), (1, 2, &bad));
    assert!(
        bench::dead_letters(folder.path()).is_empty(),
        "no file beside the store"
    );

    far.run("ALTER TABLE t ALTER COLUMN n TYPE text").await;
    let stored: Arc<dyn RowLog> = Arc::<MemoryRows>::clone(&letters);
    let again = vec![(parked[0].0, letter.row.clone())];
    life.sink.retry(&stored, again.clone()).await.unwrap();
    assert!(letters.waiting().is_empty());
    life.settled().await;
    let counters = life.sink.counters();
    assert_eq!((counters.rows_in, counters.delivered), (4, 3));
    let values = far.run("SELECT n FROM t").await;
    assert!(values.contains(&"no number".to_owned()), "{values:?}");
    life.sink.drain(Duration::from_secs(5)).await;
    let ended = life.sink.retry(&stored, again).await;
    assert!(matches!(ended, Err(RetryError::NoRoom)), "{ended:?}");
    life.end().await;
}

/// Letters in a store that never says that anything was written.
struct Silent(
    Arc<MemoryRows>,
    std::sync::Mutex<Vec<weir_sinks::Exchanged>>,
);

impl std::fmt::Debug for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Silent").finish_non_exhaustive()
    }
}

impl RowLog for Silent {
    fn id(&self) -> u64 {
        self.0.id()
    }

    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    fn read(&self, from: u64, rows: usize, bytes: usize) -> std::io::Result<Vec<(u64, Bytes)>> {
        self.0.read(from, rows, bytes)
    }

    fn settle(&self, up_to: u64) {
        self.0.settle(up_to);
    }

    fn exchange(&self, _: Vec<Bytes>, _: Vec<(u64, u64)>, done: weir_sinks::Exchanged) {
        self.1.lock().unwrap().push(done);
    }

    fn standing(&self) -> weir_sinks::Standing {
        self.0.standing()
    }

    fn on_arrival(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.0.on_arrival(wake);
    }
}

#[tokio::test]
async fn a_letter_leaves_the_store_after_its_row_is_in_the_memory_of_its_sink() {
    let bench = bench::Bench::new("type = \"console\"\nbatch = { max_wait = \"1ms\" }", None);
    let letters = Arc::new(MemoryRows::new(2, 4712));
    letters.commit([encoded("{\"n\":1}")]);
    let rows = letters.waiting();
    let silent: Arc<dyn RowLog> =
        Arc::new(Silent(Arc::clone(&letters), std::sync::Mutex::default()));
    tokio::select! {
        ended = bench.sink.retry(&silent, rows) => panic!("nothing was written: {ended:?}"),
        _ = bench.wait("the row is delivered", |c| c.delivered == 1) => {}
    }
    assert_eq!(letters.waiting().len(), 1);
}

#[tokio::test]
async fn a_stop_while_the_dead_letters_are_full_loses_no_refused_row() {
    let folder = tempfile::tempdir().unwrap();
    let far = &far_sides(folder.path()).await[1];
    let log = log();
    let letters = Arc::new(log.beside(2, 4712));
    let rows = |numbers: std::ops::RangeInclusive<u64>| {
        let rows = numbered(numbers).into_iter();
        rows.map(|(_, row)| row)
    };
    log.commit(rows(1..=2));
    log.commit([encoded("{\"n\":\"no number\"}")]);
    log.commit(rows(4..=10));
    let begin = |max_bytes| {
        let room = Some((&letters, max_bytes));
        Life::begin_with(&far.connector(), "", &log, room, folder.path())
    };
    let first = begin(1);
    weir_test_support::wait_until("it cannot be parked", bench::PATIENCE, || async {
        let last = first.sink.last_error();
        last.is_some_and(|last| last.error.code() == "E3010")
    })
    .await;
    let drained = first.sink.drain(Duration::from_secs(60)).await;
    assert_eq!((drained.kept, drained.dead_lettered), (8, 0));
    assert_eq!(
        far.numbers().await,
        [1, 2],
        "nothing goes past a row that is not parked"
    );

    let second = begin(1 << 20);
    second.settled().await;
    second.end().await;
    assert_eq!(letters.waiting().len(), 1);
    assert_eq!(far.numbers().await, [1, 2, 4, 5, 6, 7, 8, 9, 10]);
}

/// A far side that takes no row.
struct Refuses;

#[async_trait::async_trait]
impl weir_sinks::Sink for Refuses {
    async fn deliver(&mut self, batch: &weir_sinks::Batch<'_>) -> Vec<weir_sinks::Outcome> {
        let error = weir_sinks::SinkError::new("E3201", "no such thing");
        vec![weir_sinks::Outcome::Rejected { error }; batch.records.len()]
    }

    async fn check(&mut self) -> Result<(), weir_sinks::SinkError> {
        Ok(())
    }
}

#[tokio::test]
async fn of_rows_that_are_refused_together_as_many_are_parked_as_have_room() {
    let folder = tempfile::tempdir().unwrap();
    let begin = |max_bytes| {
        let log = log();
        log.commit(numbered(1..=10).into_iter().map(|(_, row)| row));
        let letters = Arc::new(log.beside(2, 4712));
        let sink = "type = \"file\"\npath = \"f\"\nbatch = { max_rows = 10, max_wait = \"1ms\" }\nretry = { initial = \"10ms\", max = \"20ms\" }";
        let mut spec = spec(sink, None, folder.path());
        let rows: Arc<dyn RowLog> = Arc::<MemoryRows>::clone(&log);
        spec.rows = Some(rows);
        let opened: Arc<dyn RowLog> = Arc::<MemoryRows>::clone(&letters);
        spec.letters = Some(LetterLog::new(max_bytes, move || Some(Arc::clone(&opened))));
        (
            weir_sinks::open_with(&spec, Box::new(Refuses)),
            log,
            letters,
        )
    };
    let (sink, _, letters) = begin(1 << 20);
    wait(&sink, "all are parked", |c| c.dead_lettered == 10).await;
    let room = letters.standing().bytes * 45 / 100;

    let (sink, log, letters) = begin(room);
    weir_test_support::wait_until("the others find no room", bench::PATIENCE, || async {
        let last = sink.last_error();
        last.is_some_and(|last| last.error.code() == "E3010")
    })
    .await;
    assert_eq!(letters.waiting().len(), 4);
    let counters = sink.counters();
    assert!(counters.balanced());
    assert_eq!((counters.dead_lettered, counters.inflight_rows), (4, 6));
    sink.drain(Duration::from_secs(60)).await;
    let left: Vec<u64> = log.waiting().iter().map(|(number, _)| *number).collect();
    assert_eq!(left, [5, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn a_stop_with_the_far_side_away_leaves_the_rows_and_makes_no_letters() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = "type = \"postgres\"\nurl = \"postgres://nobody@127.0.0.1:9/none\"";
    let log = log();
    let life = Life::begin(nobody, "", &log, folder.path());
    life.put(1..=5);
    wait(&life.sink, "it was tried", |c| c.batches_failed > 0).await;
    let drained = life.sink.drain(Duration::from_secs(60)).await;
    assert_eq!(
        (drained.kept, drained.dead_lettered, drained.lost),
        (5, 0, 0)
    );
    let counters = life.sink.counters();
    assert!(counters.balanced() && counters.buffered_rows == 5);
    assert!(bench::dead_letters(folder.path()).is_empty());
    assert_eq!(log.waiting().len(), 5);
}

#[tokio::test]
async fn a_retired_sink_delivers_what_it_has_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let far = &far_sides(folder.path()).await[0];
    let log = log();
    let life = Life::begin(&far.connector(), "", &log, folder.path());
    life.put(1..=50);
    life.sink.retire().await;
    assert_eq!(far.numbers().await.len(), 50);
    assert!(!life.sink.revive());
}

/// One life of a sink whose rows share requests.
fn array_sink(server: &Webhook, log: &Arc<MemoryRows>, folder: &Path) -> SinkHandle {
    let config = format!(
        "type = \"http\"\nurl = \"{}\"\nretry = {{ initial = \"10ms\", max = \"20ms\" }}\n\
         batch = {{ format = \"json_array\", max_rows = 50, max_wait = \"1ms\" }}",
        server.url()
    );
    let mut spec = spec(&config, None, folder);
    spec.rows = Some(Arc::<MemoryRows>::clone(log));
    open(&spec).unwrap()
}

#[tokio::test]
async fn rows_that_shared_a_request_before_a_crash_share_it_again_under_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Webhook::start().await;
    let log = log();
    let begin = || array_sink(&server, &log, folder.path());
    let put = |numbers: std::ops::RangeInclusive<u64>| {
        log.commit(numbered(numbers).into_iter().map(|(_, row)| row));
    };
    // Three rows are under way, and the server may have taken them, when weir ends.
    server.answer_always(Answer::status(500));
    put(1..=3);
    let sink = begin();
    wait(&sink, "it was tried", |c| c.batches_failed > 0).await;
    sink.drain(Duration::from_secs(60)).await;
    let before = server.requests();
    // By the next start there are more of them.
    put(4..=20);
    server.answer_always(Answer::status(200));
    let sink = begin();
    wait(&sink, "every row is settled", |c| {
        c.buffered_rows + c.inflight_rows == 0
    })
    .await;
    let after = server.requests().split_off(before.len());
    let key = |request: &weir_test_support::Request| {
        request.header("idempotency-key").unwrap().to_owned()
    };
    let rows = |request: &weir_test_support::Request| request.json().as_array().unwrap().len();
    assert!(before.iter().all(|request| rows(request) == 3));
    assert_eq!(rows(&after[0]), 3, "cut where it was cut before");
    assert_eq!(key(&after[0]), key(&before[0]));
    let numbers: Vec<u64> = after
        .iter()
        .flat_map(|request| request.json().as_array().unwrap().clone())
        .map(|row| row["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    assert_eq!(after.len(), 2, "the others wait for no cut");
}

/// The numbers of the rows of each request, and its key.
fn shared(requests: &[weir_test_support::Request]) -> Vec<(Vec<u64>, String)> {
    let each = requests.iter().map(|request| {
        let rows = request.json().as_array().unwrap().clone();
        let numbers = rows.iter().map(|row| row["n"].as_u64().unwrap()).collect();
        let key = request.header("idempotency-key").unwrap().to_owned();
        (numbers, key)
    });
    each.collect()
}

#[tokio::test]
async fn a_row_alone_and_rows_around_a_parked_one_come_again_as_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let server = Webhook::start().await;
    let log = log();
    let begin = || array_sink(&server, &log, folder.path());
    let put = |numbers: Vec<u64>| {
        log.commit(numbered(numbers).into_iter().map(|(_, row)| row));
    };
    let settled = async |sink: &SinkHandle| {
        let done = |c: &weir_sinks::SinkCounters| c.buffered_rows + c.inflight_rows == 0;
        wait(sink, "every row is settled", done).await;
    };
    // One row alone; then a batch of which row 4 is refused.
    put(vec![1]);
    let sink = begin();
    settled(&sink).await;
    sink.drain(Duration::from_secs(60)).await;
    put(vec![2, 3, 4, 5]);
    for status in [400, 200, 400, 400] {
        server.answer_next(Answer::status(status));
    }
    let sink = begin();
    settled(&sink).await;
    assert_eq!(sink.counters().dead_lettered, 1);
    sink.drain(Duration::from_secs(60)).await;
    let before = shared(&server.requests());
    let taken: Vec<_> = before
        .iter()
        .filter(|(numbers, _)| !numbers.contains(&4))
        .cloned()
        .collect();
    assert_eq!(taken.len(), 3, "{before:?}");

    // Nothing of that was settled but the row that is parked, and there are more since.
    log.crash_before_settling(numbered([1, 2, 3, 5]));
    put(vec![6, 7]);
    let sink = begin();
    settled(&sink).await;
    sink.drain(Duration::from_secs(60)).await;
    let after = shared(&server.requests()[before.len()..]);
    assert_eq!(after[..3], taken[..], "{after:?}");
    assert_eq!(after[3].0, [6, 7]);
}
