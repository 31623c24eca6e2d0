//! What the log says of rows, and what it does not.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};
use weir_test_support::Postgres;

use crate::bench::Bench;

/// Gathers the log of this thread's tasks.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Log {
    fn lines(&self, with: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines
            .iter()
            .filter(|line| line.contains(with))
            .cloned()
            .collect()
    }
}

#[tokio::test]
async fn parked_rows_are_counted_in_the_log_and_shown_only_in_the_dead_letters() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let database = Postgres::shared().await.create_database().await;
    database
        .psql("CREATE TABLE t (n int NOT NULL, s text CHECK (s <> 'c0nfidential'))")
        .await;
    let bench = Bench::new(
        "table = \"t\"",
        Some(&format!(
            "type = \"postgres\"\nurl = \"{}\"",
            database.url()
        )),
    );
    for number in 0..60 {
        bench.push(&format!("{{\"n\":{number},\"s\":\"c0nfidential\"}}"));
        bench.push("{\"n\":\"c0nfidential\"}");
    }
    assert_eq!(bench.settled().await.dead_lettered, 120);
    let letters = bench.dead_letters();
    assert!(
        letters[0]["reason"]
            .as_str()
            .unwrap()
            .contains("Failing row contains (0, c0nfidential)")
    );
    let all = log.lines("");
    assert!(
        !all.iter()
            .any(|line| line.contains("c0nfidential") || line.contains("Failing row")),
        "{all:?}"
    );
    let parked = log.lines("parked");
    assert_eq!(parked.len(), 3, "the 1st, 10th and 100th: {parked:?}");
    assert!(parked[0].contains("E3201"), "{parked:?}");
}

#[tokio::test]
async fn what_a_server_says_of_a_request_is_not_logged() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (port, _) = crate::http::raw_server(
        "HTTP/1.1 503 Later\r\ncontent-length: 12\r\nconnection: close\r\n\r\nc0nfidential",
        b"",
    )
    .await;
    let sink = format!(
        "type = \"http\"\nurl = \"http://127.0.0.1:{port}\"\nretry = {{ initial = \"1ms\" }}"
    );
    let bench = Bench::new(&sink, None);
    bench.push("{\"n\":1}");
    bench
        .wait("several attempts were made", |c| c.retries >= 2)
        .await;
    assert!(
        bench
            .sink
            .last_error()
            .unwrap()
            .error
            .to_string()
            .contains("c0nfidential")
    );
    let waiting = log.lines("rows wait");
    assert!(waiting[0].contains("503"), "{waiting:?}");
    let all = log.lines("");
    assert!(
        !all.iter().any(|line| line.contains("c0nfidential")),
        "{all:?}"
    );
}
