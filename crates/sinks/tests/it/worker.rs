//! The queue and worker around a scripted far side.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use weir_sinks::{Batch, Outcome, Sink, SinkError, SinkHandle, SinkState, open_with};

use crate::bench::{dead_letters, push, spec, wait};

type Script = Box<dyn FnMut(&Batch<'_>) -> Vec<Outcome> + Send>;

struct Scripted {
    script: Script,
    seen: Arc<Mutex<Vec<Vec<u64>>>>,
}

#[async_trait]
impl Sink for Scripted {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        self.seen
            .lock()
            .unwrap()
            .push(batch.records.iter().map(|record| record.seq).collect());
        tokio::task::yield_now().await;
        (self.script)(batch)
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

struct Scene {
    sink: SinkHandle,
    folder: tempfile::TempDir,
    seen: Arc<Mutex<Vec<Vec<u64>>>>,
}

fn scene(more: &str, script: impl FnMut(&Batch<'_>) -> Vec<Outcome> + Send + 'static) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&format!("type = \"console\"\n{more}"), None, folder.path());
    let seen = Arc::default();
    let sink = open_with(
        &spec,
        Box::new(Scripted {
            script: Box::new(script),
            seen: Arc::clone(&seen),
        }),
    );
    Scene { sink, folder, seen }
}

fn retry(after: Option<Duration>) -> Outcome {
    Outcome::Retry {
        after,
        error: SinkError::new("E3401", "away"),
    }
}

fn rejected() -> Outcome {
    Outcome::Rejected {
        error: SinkError::new("E3201", "no such thing"),
    }
}

fn all(batch: &Batch<'_>, outcome: &Outcome) -> Vec<Outcome> {
    vec![outcome.clone(); batch.records.len()]
}

const FAST: &str = "retry = { initial = \"1ms\", max = \"5ms\" }\n";

#[tokio::test]
async fn a_far_side_that_is_away_is_tried_until_it_is_back_and_nothing_is_lost_or_reordered() {
    let mut failures = 20;
    let scene = scene(FAST, move |batch| {
        failures -= 1;
        all(
            batch,
            &if failures >= 0 {
                retry(None)
            } else {
                Outcome::Delivered
            },
        )
    });
    (0..100).for_each(|_| push(&scene.sink, "{}"));
    let counters = wait(&scene.sink, "all are delivered", |c| c.delivered == 100).await;
    assert_eq!(
        (counters.retries, counters.dead_lettered, counters.dropped),
        (20, 0, 0)
    );
    assert_eq!(scene.sink.state(), SinkState::Up);
    assert_eq!(
        scene.sink.last_error().unwrap().error.code(),
        "E3401",
        "the last failure stays visible"
    );
    let seen = scene.seen.lock().unwrap();
    let delivered: Vec<_> = seen[20..].concat();
    assert_eq!(delivered, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_what_is_left_is_given_again() {
    let mut first = true;
    let scene = scene(FAST, move |batch| {
        let outcomes = if std::mem::take(&mut first) {
            vec![
                Outcome::Delivered,
                rejected(),
                retry(Some(Duration::ZERO)),
                retry(Some(Duration::ZERO)),
            ]
        } else {
            vec![]
        };
        let mut outcomes: VecDeque<_> = outcomes.into();
        batch
            .records
            .iter()
            .map(|_| outcomes.pop_front().unwrap_or(Outcome::Delivered))
            .collect()
    });
    (0..4).for_each(|number| push(&scene.sink, &format!("{{\"n\":{number}}}")));
    let counters = wait(&scene.sink, "all are settled", |c| {
        c.delivered + c.dead_lettered == 4
    })
    .await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered_by["E3201"]),
        (3, 1)
    );
    let seen = scene.seen.lock().unwrap().clone();
    let flat: Vec<_> = seen.concat();
    assert!(flat.ends_with(&[3, 4]) || seen.len() > 2, "{seen:?}");
    let letters = dead_letters(scene.folder.path());
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&letters[0]["code"], &letters[0]["rule"]),
        (&"E3201".into(), &"plant-a/hot".into())
    );
    assert!(
        letters[0]["reason"]
            .as_str()
            .unwrap()
            .contains("no such thing")
    );
    assert!(letters[0]["row"]["n"].is_number());
    assert_eq!(letters[0]["client_id"], "client-1");
}

#[tokio::test(start_paused = true)]
async fn the_far_sides_own_time_is_waited_for() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    let scene = scene(FAST, move |batch| {
        let mut times = noted.lock().unwrap();
        times.push(tokio::time::Instant::now());
        all(
            batch,
            &if times.len() == 1 {
                retry(Some(Duration::from_secs(90)))
            } else {
                Outcome::Delivered
            },
        )
    });
    push(&scene.sink, "{}");
    while scene.sink.counters().delivered == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let times = times.lock().unwrap();
    let waited = times[1] - times[0];
    assert!(
        waited >= Duration::from_secs(90) && waited < Duration::from_secs(92),
        "{waited:?}"
    );
}

#[tokio::test]
async fn rows_are_given_up_only_when_told_and_then_kept_with_the_cause() {
    let scene = scene(
        "retry = { initial = \"1ms\", max = \"5ms\", give_up = \"50ms\" }",
        |batch| all(batch, &retry(None)),
    );
    push(&scene.sink, "{}");
    let counters = wait(&scene.sink, "the row is given up", |c| c.dead_lettered == 1).await;
    assert_eq!(counters.dead_lettered_by["E3007"], 1);
    assert!(
        dead_letters(scene.folder.path())[0]["reason"]
            .as_str()
            .unwrap()
            .contains("away")
    );
}

#[tokio::test]
async fn a_configuration_error_pauses_the_sink_and_keeps_the_rows() {
    let scene = scene(FAST, |batch| {
        all(
            batch,
            &Outcome::Retry {
                after: None,
                error: SinkError::new("E3204", "no table").configuration(),
            },
        )
    });
    (0..10).for_each(|_| push(&scene.sink, "{}"));
    wait(&scene.sink, "several attempts were made", |c| {
        c.retries >= 3
    })
    .await;
    assert!(matches!(scene.sink.state(), SinkState::Paused { .. }));
    let counters = scene.sink.counters();
    assert_eq!(counters.buffered_rows + counters.inflight_rows, 10);
}

#[tokio::test]
async fn a_drain_delivers_what_waits() {
    let scene = scene("batch = { max_rows = 3, max_wait = \"60s\" }", |batch| {
        all(batch, &Outcome::Delivered)
    });
    (0..10).for_each(|_| push(&scene.sink, "{}"));
    let drained = scene.sink.drain(Duration::from_secs(30)).await;
    assert_eq!((drained.dead_lettered, drained.lost), (0, 0));
    assert_eq!(scene.sink.counters().delivered, 10);
    assert_eq!(scene.sink.state(), SinkState::Stopped);
}

#[tokio::test]
async fn what_a_drain_cannot_deliver_in_time_goes_to_the_dead_letters() {
    let scene = scene("batch = { max_rows = 3 }", |batch| {
        all(batch, &retry(Some(Duration::from_secs(3600))))
    });
    (0..10).for_each(|_| push(&scene.sink, "{}"));
    let drained = scene.sink.drain(Duration::from_millis(200)).await;
    assert_eq!((drained.dead_lettered, drained.lost), (10, 0));
    let letters = dead_letters(scene.folder.path());
    assert_eq!(
        letters
            .iter()
            .map(|letter| letter["seq"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    assert_eq!(letters[0]["code"], "E3006");
    let counters = scene.sink.counters();
    assert!(counters.balanced() && counters.dead_lettered == 10);
    push(&scene.sink, "{}");
    assert_eq!(scene.sink.counters().dropped_by["sink_stopped"], 1);
}

#[tokio::test]
async fn a_new_configuration_takes_the_waiting_rows_over() {
    let scene = scene("", |batch| {
        all(batch, &retry(Some(Duration::from_secs(3600))))
    });
    (0..5).for_each(|number| push(&scene.sink, &format!("{{\"n\":{number}}}")));
    wait(&scene.sink, "an attempt failed", |c| c.batches_failed == 1).await;
    let spec = spec(
        "type = \"file\"\npath = \"out.ndjson\"",
        None,
        scene.folder.path(),
    );
    scene.sink.reconfigure(&spec).unwrap();
    wait(&scene.sink, "the new sink has them", |c| c.delivered == 5).await;
    let text = std::fs::read_to_string(scene.folder.path().join("files/out.ndjson")).unwrap();
    assert_eq!(
        text,
        "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}\n"
    );
}

#[tokio::test]
async fn an_idle_sink_lets_go_of_its_old_configuration_at_once() {
    struct Held(Arc<()>);
    #[async_trait]
    impl Sink for Held {
        async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
            assert_eq!(Arc::strong_count(&self.0), 1);
            all(batch, &Outcome::Delivered)
        }

        async fn check(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let spec = spec("type = \"console\"", None, folder.path());
    let held = Arc::new(());
    let old = Arc::downgrade(&held);
    let sink = open_with(&spec, Box::new(Held(held)));
    push(&sink, "{}");
    wait(&sink, "the row is delivered", |c| c.delivered == 1).await;
    sink.reconfigure(&spec).unwrap();
    wait(&sink, "the old sink is gone", |_| old.strong_count() == 0).await;
    push(&sink, "{}");
    wait(&sink, "the new one delivers", |c| c.delivered == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_balance_at_every_look_under_load() {
    let mut turn = 0_u64;
    let scene = scene(
        &format!(
            "{FAST}batch = {{ max_rows = 7 }}\nbuffer = {{ max_rows = 50, when_full = \"drop_oldest\" }}"
        ),
        move |batch| {
            batch
                .records
                .iter()
                .map(|_| {
                    turn += 1;
                    match turn % 11 {
                        0 => rejected(),
                        3 => retry(None),
                        _ => Outcome::Delivered,
                    }
                })
                .collect()
        },
    );
    let sink = scene.sink.clone();
    let pushing = tokio::spawn(async move {
        for number in 0..2000 {
            push(&sink, "{}");
            if number % 10 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    while !pushing.is_finished() {
        assert!(scene.sink.counters().balanced());
        tokio::task::yield_now().await;
    }
    let counters = wait(&scene.sink, "all are settled", |c| {
        c.buffered_rows + c.inflight_rows == 0
    })
    .await;
    assert_eq!(counters.rows_in, 2000);
    assert_eq!(
        counters.delivered + counters.dropped + counters.dead_lettered,
        2000
    );
    assert_eq!(
        dead_letters(scene.folder.path()).len() as u64,
        counters.dead_lettered
    );
}

#[tokio::test]
async fn a_sink_that_panics_keeps_its_rows_and_says_so() {
    let mut panics = 2;
    let scene = scene(FAST, move |batch| {
        panics -= 1;
        assert!(panics < 0, "a defect");
        all(batch, &Outcome::Delivered)
    });
    push(&scene.sink, "{}");
    wait(&scene.sink, "the row is delivered", |c| c.delivered == 1).await;
    assert_eq!(scene.sink.last_error().unwrap().error.code(), "E3009");
}
