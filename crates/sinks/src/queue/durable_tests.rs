use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use weir_rules::value::{Text, Value};

use super::*;
use crate::config::BufferKind;
use crate::counters::SinkCounters;
use crate::plan::BufferLimits;
use crate::row_log::MemoryRows;

fn limits(max_rows: usize, max_bytes: usize, when_full: WhenFull) -> BufferLimits {
    BufferLimits {
        kind: BufferKind::Disk,
        max_rows,
        max_bytes,
        when_full,
    }
}

const AT_ONCE: BatchLimits = BatchLimits {
    max_rows: 100,
    max_bytes: 1 << 20,
    max_wait: Duration::ZERO,
    held_back: None,
};

fn row(number: i64) -> Bytes {
    record::encode(7, &Text::from_static("c"), 5, &Value::Int(number))
}

fn log() -> Arc<MemoryRows> {
    Arc::new(MemoryRows::new(1, 99))
}

fn queue(log: &Arc<MemoryRows>, limits: BufferLimits) -> Arc<Queue> {
    let log: Arc<dyn RowLog> = Arc::<MemoryRows>::clone(log);
    Queue::new(limits, Some(log))
}

fn open(log: &Arc<MemoryRows>) -> Arc<Queue> {
    queue(log, limits(1000, 1 << 20, WhenFull::Block))
}

fn claim(queue: &Arc<Queue>, number: i64) -> Option<Owed> {
    let row = row(number);
    let permit = queue.try_reserve(1, row.len()).ok()?;
    queue.claim(permit, vec![row])
}

fn keep(log: &MemoryRows, owed: Owed) {
    log.commit(owed.rows);
    owed.claim.kept();
}

fn put(queue: &Arc<Queue>, log: &MemoryRows, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        keep(log, claim(queue, number).expect("there is room"));
    }
}

fn counters(queue: &Queue) -> SinkCounters {
    let counters = queue.counters();
    assert!(counters.balanced(), "{counters:?}");
    counters
}

fn numbers(batch: &[Record]) -> Vec<i64> {
    let number = |record: &Record| match record.row {
        Value::Int(number) => number,
        _ => panic!("{:?}", record.row),
    };
    batch.iter().map(number).collect()
}

fn seqs(batch: &[Record]) -> Vec<u64> {
    batch.iter().map(|record| record.seq).collect()
}

#[tokio::test]
async fn rows_come_out_in_order_when_they_are_committed_and_not_before() {
    let log = log();
    let queue = open(&log);
    let owed = claim(&queue, 1).unwrap();
    assert_eq!(counters(&queue).buffered_rows, 1);
    let mut taking = Box::pin(queue.take_batch(&AT_ONCE));
    assert!(futures_util::poll!(taking.as_mut()).is_pending());
    keep(&log, owed);
    assert_eq!(numbers(&taking.await.unwrap()), [1]);
    put(&queue, &log, 2..5);
    let batch = queue.take_batch(&AT_ONCE).await.unwrap();
    assert_eq!(
        (numbers(&batch), seqs(&batch)),
        (vec![2, 3, 4], vec![2, 3, 4])
    );
    let counters = counters(&queue);
    assert_eq!((counters.inflight_rows, counters.buffered_rows), (4, 0));
}

#[tokio::test]
async fn a_commit_that_fails_gives_its_room_back_and_is_counted() {
    let log = log();
    let queue = queue(&log, limits(1, 1 << 20, WhenFull::Block));
    let owed = claim(&queue, 1).unwrap();
    assert!(queue.try_reserve(1, 10).is_err());
    drop(owed);
    let now = counters(&queue);
    assert_eq!((now.rows_in, now.dropped_by["not_stored"]), (1, 1));
    assert!(queue.try_reserve(1, 10).is_ok());
}

#[tokio::test]
async fn the_log_is_settled_only_as_far_as_nothing_is_missing() {
    let log = log();
    let queue = open(&log);
    put(&queue, &log, 1..=4);
    assert_eq!(queue.take_batch(&AT_ONCE).await.unwrap().len(), 4);
    queue.delivered(&[2, 3], 0);
    assert_eq!(log.waiting().len(), 4);
    queue.dead_lettered(&[(1, "E3201")]);
    assert_eq!(log.waiting()[0].0, 4);
    queue.delivered(&[4], 0);
    assert!(log.waiting().is_empty());
    assert!(queue.is_empty());
}

#[tokio::test]
async fn what_a_life_leaves_behind_comes_in_again_in_the_next_with_the_same_numbers() {
    let log = log();
    let first = open(&log);
    put(&first, &log, 1..=5);
    let batch = first.take_batch(&AT_ONCE).await.unwrap();
    first.delivered(&[1, 2], 0);
    assert_eq!(batch.len(), 5);
    assert!(first.stop().is_empty(), "they stay in the log");
    let left = counters(&first);
    assert_eq!((left.buffered_rows, left.inflight_rows), (3, 0));
    drop(first);
    let second = open(&log);
    let now = counters(&second);
    assert_eq!((now.rows_in, now.buffered_rows), (3, 3));
    assert!(now.buffered_bytes > 0);
    let batch = second.take_batch(&AT_ONCE).await.unwrap();
    assert_eq!(seqs(&batch), [3, 4, 5]);
    second.delivered(&[3, 4, 5], 0);
    let now = counters(&second);
    assert_eq!((now.delivered, now.buffered_bytes), (3, 0));
    assert!(log.waiting().is_empty());
}

#[tokio::test]
async fn what_waits_from_before_counts_against_the_limits() {
    let log = log();
    log.commit((0..3).map(row));
    let queue = queue(&log, limits(3, 1 << 20, WhenFull::Block));
    assert!(queue.try_reserve(1, 10).is_err());
    let batch = queue.take_batch(&AT_ONCE).await.unwrap();
    assert!(queue.try_reserve(1, 10).is_err(), "it is under delivery");
    queue.delivered(&seqs(&batch), 0);
    assert!(queue.try_reserve(3, 10).is_ok());
}

#[tokio::test]
async fn bytes_are_those_of_the_rows_to_the_last_one() {
    let log = log();
    let size = row(1).len();
    let queue = queue(&log, limits(1000, 3 * size, WhenFull::Block));
    put(&queue, &log, 1..=3);
    assert_eq!(counters(&queue).buffered_bytes, 3 * size as u64);
    assert!(claim(&queue, 4).is_none());
    let two = BatchLimits {
        max_bytes: 2 * size,
        ..AT_ONCE
    };
    assert_eq!(seqs(&queue.take_batch(&two).await.unwrap()), [1, 2]);
    queue.delivered(&[1], 0);
    put(&queue, &log, [4]);
    assert!(claim(&queue, 5).is_none());
}

#[tokio::test]
async fn drop_newest_keeps_what_waits() {
    let log = log();
    let queue = queue(&log, limits(2, 1 << 20, WhenFull::DropNewest));
    put(&queue, &log, 1..=2);
    assert!(claim(&queue, 3).is_none());
    assert_eq!(counters(&queue).dropped_by["queue_full"], 1);
    assert_eq!(numbers(&queue.take_batch(&AT_ONCE).await.unwrap()), [1, 2]);
}

#[tokio::test]
async fn drop_oldest_drops_what_has_waited_longest_and_never_what_is_under_delivery() {
    let log = log();
    let queue = queue(&log, limits(4, 1 << 20, WhenFull::DropOldest));
    let shedding = tokio::spawn(Arc::clone(&queue).shed());
    put(&queue, &log, 1..=2);
    assert_eq!(seqs(&queue.take_batch(&AT_ONCE).await.unwrap()), [1, 2]);
    put(&queue, &log, 3..=10);
    while counters(&queue).dropped < 6 {
        tokio::task::yield_now().await;
    }
    let now = counters(&queue);
    assert_eq!(
        (now.dropped, now.buffered_rows, now.inflight_rows),
        (6, 2, 2)
    );
    assert_eq!(log.waiting()[0].0, 1, "the batch is not settled");
    queue.delivered(&[1, 2], 0);
    assert_eq!(log.waiting()[0].0, 9);
    assert_eq!(numbers(&queue.take_batch(&AT_ONCE).await.unwrap()), [9, 10]);
    shedding.abort();
}

#[tokio::test]
async fn a_queue_that_was_left_too_full_makes_room_at_the_start() {
    let log = log();
    log.commit((1..=10).map(row));
    let queue = queue(&log, limits(3, 1 << 20, WhenFull::DropOldest));
    let shedding = tokio::spawn(Arc::clone(&queue).shed());
    while counters(&queue).dropped < 7 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        numbers(&queue.take_batch(&AT_ONCE).await.unwrap()),
        [8, 9, 10]
    );
    shedding.abort();
}

#[tokio::test]
async fn a_row_that_is_none_is_counted_and_does_not_stop_the_others() {
    let log = log();
    log.commit([row(1), Bytes::from_static(b"\xFFno row"), row(3)]);
    let queue = open(&log);
    assert_eq!(numbers(&queue.take_batch(&AT_ONCE).await.unwrap()), [1, 3]);
    assert_eq!(counters(&queue).dropped_by["unreadable"], 1);
    queue.delivered(&[1, 3], 0);
    assert!(log.waiting().is_empty() && queue.is_empty());
}

#[tokio::test]
async fn who_stops_waiting_leaves_the_queue_as_it_was() {
    let log = log();
    log.commit([row(1)]);
    let queue = open(&log);
    for _ in 0..3 {
        let mut taking = Box::pin(queue.take_batch(&AT_ONCE));
        if let std::task::Poll::Ready(batch) = futures_util::poll!(taking.as_mut()) {
            // The row was read while nobody looked.
            assert_eq!(seqs(&batch.unwrap()), [1]);
            return;
        }
        drop(taking);
        assert!(counters(&queue).rows_in == 1);
    }
    assert_eq!(seqs(&queue.take_batch(&AT_ONCE).await.unwrap()), [1]);
}

/// How often a worker that sleeps was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_wake_the_worker_for_the_first_and_for_a_full_batch_and_not_one_by_one() {
    let log = log();
    let queue = open(&log);
    let limits = BatchLimits {
        max_wait: Duration::from_millis(50),
        ..AT_ONCE
    };
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let times = || woken.0.load(Ordering::Relaxed);
    let mut taking = Box::pin(queue.take_batch(&limits));
    assert!(taking.as_mut().poll(&mut cx).is_pending());
    put(&queue, &log, [1]);
    assert_eq!(times(), 1);
    assert!(taking.as_mut().poll(&mut cx).is_pending());
    for number in 2..100 {
        put(&queue, &log, [number]);
    }
    assert_eq!(times(), 1, "the batch is not full");
    put(&queue, &log, [100]);
    assert_eq!(times(), 2);
    assert_eq!(seqs(&taking.await.unwrap()), Vec::from_iter(1..=100));
    // A worker that is busy looks by itself, and finds what came meanwhile.
    put(&queue, &log, 101..=103);
    assert_eq!(times(), 2);
    let began = Instant::now();
    assert_eq!(queue.take_batch(&limits).await.unwrap().len(), 3);
    assert_eq!(began.elapsed(), limits.max_wait);
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_held_back_wait_for_more_of_them_however_long_that_takes() {
    let log = log();
    let queue = open(&log);
    let limits = BatchLimits {
        held_back: Some(3),
        ..AT_ONCE
    };
    put(&queue, &log, 1..=2);
    let day = Duration::from_secs(24 * 3600);
    assert!(
        tokio::time::timeout(day, queue.take_batch(&limits))
            .await
            .is_err()
    );
    put(&queue, &log, [3]);
    assert_eq!(seqs(&queue.take_batch(&limits).await.unwrap()), [1, 2, 3]);
    // A batch is no larger for that.
    put(&queue, &log, 4..=200);
    assert_eq!(queue.take_batch(&limits).await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_closed_queue_waits_for_the_rows_that_are_on_their_way_into_the_log() {
    let log = log();
    let queue = open(&log);
    let (kept, lost) = (claim(&queue, 1).unwrap(), claim(&queue, 2).unwrap());
    queue.close();
    let mut taking = Box::pin(queue.take_batch(&AT_ONCE));
    assert!(futures_util::poll!(taking.as_mut()).is_pending());
    keep(&log, kept);
    assert_eq!(numbers(&taking.await.unwrap()), [1]);
    let mut taking = Box::pin(queue.take_batch(&AT_ONCE));
    assert!(futures_util::poll!(taking.as_mut()).is_pending());
    drop(lost);
    assert!(taking.await.is_none());
}

#[tokio::test]
async fn a_closed_queue_gives_what_is_there_and_ends() {
    let log = log();
    let queue = open(&log);
    put(&queue, &log, 1..=2);
    queue.close();
    assert_eq!(queue.take_batch(&AT_ONCE).await.unwrap().len(), 2);
    assert!(queue.take_batch(&AT_ONCE).await.is_none());
}

#[tokio::test]
async fn rows_that_come_after_the_end_are_dropped_and_counted() {
    let log = log();
    let queue = open(&log);
    queue.stop();
    assert!(claim(&queue, 1).is_none());
    assert_eq!(counters(&queue).dropped_by["sink_stopped"], 1);
}

#[tokio::test]
async fn only_so_much_is_under_way_to_the_disk() {
    let log = log();
    let queue = queue(&log, limits(1000, 1 << 30, WhenFull::Block));
    let large = Bytes::from(vec![0; MOST_COMMITTING]);
    let permit = queue.try_reserve(1, large.len()).unwrap();
    let owed = queue.claim(permit, vec![large]).unwrap();
    let Err(full) = queue.try_reserve(1, 1) else {
        panic!("the disk is behind")
    };
    assert!(!full.never);
    owed.claim.kept();
    full.room().await;
    assert!(queue.try_reserve(1, 1).is_ok());
}
