use super::*;
use crate::config::BufferKind;
use crate::record_size;
use proptest::prelude::*;
use weir_rules::value::{Text, Value};

fn record(row: Value, accepted_at_ms: i64) -> Record {
    Record {
        seq: 0,
        message_id: 1,
        client_id: CLIENT,
        accepted_at_ms,
        path: Text::default(),
        row,
    }
}

fn limits(max_rows: usize, max_bytes: usize, when_full: WhenFull) -> BufferLimits {
    BufferLimits {
        kind: BufferKind::Memory,
        max_rows,
        max_bytes,
        when_full,
    }
}

fn batch(max_rows: usize, max_bytes: usize, wait_ms: u64) -> BatchLimits {
    BatchLimits {
        max_rows,
        max_bytes,
        max_wait: Duration::from_millis(wait_ms),
        held_back: None,
    }
}

const CLIENT: Text = Text::from_static("c");

fn size() -> usize {
    record_size(&CLIENT, &Value::Int(1))
}

fn push(queue: &Arc<Queue>, number: i64) {
    let mut permit = queue.try_reserve(1, size()).unwrap();
    queue.push(&mut permit, record(Value::Int(number), number));
}

fn numbers(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.accepted_at_ms).collect()
}

#[tokio::test]
async fn a_blocking_queue_keeps_reserved_room_and_tells_when_room_is_back() {
    let queue = Queue::new(limits(2, 1 << 20, WhenFull::Block), None);
    let permit = queue.try_reserve(2, 2 * size()).unwrap();
    let full = queue.try_reserve(1, size()).unwrap_err();
    assert!(!full.never);
    let waiting = tokio::spawn(async move { full.room().await });
    drop(permit);
    waiting.await.unwrap();
    assert!(queue.try_reserve(2, 2 * size()).is_ok());
    assert!(
        queue.try_reserve(3, 3 * size()).unwrap_err().never,
        "three rows will never fit into two places"
    );
    assert!(queue.try_reserve(1, 2 << 20).unwrap_err().never);
}

#[tokio::test]
async fn room_that_came_back_between_asking_and_waiting_is_not_missed() {
    let queue = Queue::new(limits(1, 1 << 20, WhenFull::Block), None);
    let permit = queue.try_reserve(1, size()).unwrap();
    let full = queue.try_reserve(1, size()).unwrap_err();
    drop(permit);
    tokio::time::timeout(Duration::from_secs(1), full.room())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_row_without_reserved_room_is_dropped_and_counted_when_the_queue_blocks() {
    let queue = Queue::new(limits(1, 1 << 20, WhenFull::Block), None);
    push(&queue, 1);
    queue.count_dropped(3, "queue_full");
    let counters = queue.counters();
    assert_eq!(
        (
            counters.rows_in,
            counters.dropped,
            counters.dropped_by["queue_full"]
        ),
        (4, 3, 3)
    );
    assert!(counters.balanced());
}

#[tokio::test]
async fn drop_oldest_keeps_the_newest_rows_and_drop_newest_the_oldest() {
    let queue = Queue::new(limits(3, 1 << 20, WhenFull::DropOldest), None);
    (1..=5).for_each(|number| push(&queue, number));
    let rows = queue.take_batch(&batch(10, 1 << 20, 0)).await.unwrap();
    assert_eq!(numbers(&rows), [3, 4, 5]);
    let queue = Queue::new(limits(3, 1 << 20, WhenFull::DropNewest), None);
    (1..=5).for_each(|number| push(&queue, number));
    let rows = queue.take_batch(&batch(10, 1 << 20, 0)).await.unwrap();
    assert_eq!(numbers(&rows), [1, 2, 3]);
    assert_eq!(queue.counters().dropped_by["queue_full"], 2);
}

#[tokio::test]
async fn rows_under_delivery_are_never_dropped_to_make_room() {
    let queue = Queue::new(limits(2, 1 << 20, WhenFull::DropOldest), None);
    push(&queue, 1);
    push(&queue, 2);
    let rows = queue.take_batch(&batch(10, 1 << 20, 0)).await.unwrap();
    push(&queue, 3);
    let counters = queue.counters();
    assert_eq!(
        (
            counters.inflight_rows,
            counters.buffered_rows,
            counters.dropped
        ),
        (2, 0, 1)
    );
    queue.delivered(&rows.iter().map(|row| row.seq).collect::<Vec<_>>(), 10);
    assert!(queue.counters().balanced());
    assert_eq!(queue.counters().delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_cut_by_rows_by_bytes_and_by_time() {
    let queue = Queue::new(limits(100, 1 << 20, WhenFull::Block), None);
    (1..=5).for_each(|number| push(&queue, number));
    let began = Instant::now();
    let rows = queue.take_batch(&batch(3, 1 << 20, 50)).await.unwrap();
    assert_eq!(
        (numbers(&rows), began.elapsed()),
        (vec![1, 2, 3], Duration::ZERO)
    );
    queue.delivered(&[1, 2, 3], 0);
    let rows = queue.take_batch(&batch(3, 1 << 20, 50)).await.unwrap();
    assert_eq!(
        (numbers(&rows), began.elapsed()),
        (vec![4, 5], Duration::from_millis(50))
    );
    queue.delivered(&[4, 5], 0);
    (6..=8).for_each(|number| push(&queue, number));
    let rows = queue.take_batch(&batch(10, 2 * size(), 50)).await.unwrap();
    assert_eq!(
        numbers(&rows),
        [6, 7],
        "a third row would be over the bytes"
    );
    let rows = queue.take_batch(&batch(10, 1, 50)).await.unwrap();
    assert_eq!(numbers(&rows), [8], "one row goes out however large it is");
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_is_a_full_batch_however_small_it_is() {
    let few_rows = limits(3, 1 << 20, WhenFull::DropOldest);
    let few_bytes = limits(100, 3 * size() + size() / 2, WhenFull::DropOldest);
    for buffer in [few_rows, few_bytes] {
        let queue = Queue::new(buffer, None);
        let began = Instant::now();
        let taking = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.take_batch(&batch(500, 1 << 20, 60_000)).await }
        });
        // The worker sleeps before the first row comes.
        tokio::task::yield_now().await;
        (1..=5).for_each(|number| push(&queue, number));
        let rows = taking.await.unwrap().unwrap();
        assert_eq!(
            (numbers(&rows), began.elapsed()),
            (vec![3, 4, 5], Duration::ZERO)
        );
    }
}

#[tokio::test]
async fn a_row_larger_than_the_buffer_is_dropped_and_evicts_nothing() {
    let queue = Queue::new(limits(100, 10 * size(), WhenFull::DropOldest), None);
    (1..=3).for_each(|number| push(&queue, number));
    let large = Value::Text("x".repeat(20 * size()).into());
    let mut permit = queue.try_reserve(1, 1).unwrap();
    queue.push(&mut permit, record(large, 4));
    let counters = queue.counters();
    assert_eq!((counters.buffered_rows, counters.dropped), (3, 1));
    assert!(counters.balanced());
}

#[tokio::test]
async fn a_batch_that_nobody_waits_for_any_more_stays_in_the_queue() {
    let queue = Queue::new(limits(100, 1 << 20, WhenFull::Block), None);
    let patient = batch(10, 1 << 20, 60_000);
    let abandoned = tokio::time::timeout(Duration::ZERO, queue.take_batch(&patient));
    assert!(abandoned.await.is_err());
    push(&queue, 1);
    let rows = queue.take_batch(&batch(1, 1 << 20, 60_000)).await.unwrap();
    assert_eq!(numbers(&rows), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_gives_what_it_has_at_once_and_then_ends() {
    let queue = Queue::new(limits(100, 1 << 20, WhenFull::Block), None);
    push(&queue, 1);
    queue.close();
    let began = Instant::now();
    assert_eq!(
        queue
            .take_batch(&batch(10, 1 << 20, 60_000))
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(
        queue
            .take_batch(&batch(10, 1 << 20, 60_000))
            .await
            .is_none()
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_stopped_queue_hands_over_everything_in_order_and_counts_what_comes_later() {
    let queue = Queue::new(limits(100, 1 << 20, WhenFull::Block), None);
    (1..=3).for_each(|number| push(&queue, number));
    let _taken = queue.take_batch(&batch(1, 1 << 20, 0)).await.unwrap();
    let mut late = queue.try_reserve(1, size()).unwrap();
    assert_eq!(numbers(&queue.stop()), [1, 2, 3]);
    queue.push(&mut late, record(Value::Int(4), 4));
    let counters = queue.counters();
    assert_eq!(counters.dropped_by["sink_stopped"], 1);
    assert!(counters.balanced());
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(usize),
    Push,
    Forget,
    Take(usize),
    Deliver(usize),
    Letter(usize),
    Drop(u64),
    Limits(usize),
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..5).prop_map(Step::Reserve),
        8 => Just(Step::Push),
        1 => Just(Step::Forget),
        4 => (1usize..6).prop_map(Step::Take),
        4 => (0usize..6).prop_map(Step::Deliver),
        2 => (0usize..3).prop_map(Step::Letter),
        1 => (1u64..4).prop_map(Step::Drop),
        1 => (1usize..12).prop_map(Step::Limits),
        1 => Just(Step::Stop),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    /// The identity, the bounds and the order hold after every step, whatever the policy.
    #[test]
    fn every_row_is_always_in_exactly_one_place(policy in 0u8..3, steps in steps()) {
        let when_full = [WhenFull::Block, WhenFull::DropOldest, WhenFull::DropNewest][usize::from(policy)];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut most = 8;
            let queue = Queue::new(limits(most, 1 << 20, when_full), None);
            let mut permit: Option<Permit> = None;
            let mut inflight: VecDeque<u64> = VecDeque::new();
            let mut last_seq = 0;
            for step in steps {
                match step {
                    Step::Reserve(rows) => {
                        permit = None;
                        if let Ok(got) = queue.try_reserve(rows, rows * size()) {
                            permit = Some(got);
                        }
                    }
                    Step::Push => {
                        if let Some(permit) = &mut permit {
                            queue.push(permit, record(Value::Int(1), 0));
                        }
                    }
                    Step::Forget => permit = None,
                    Step::Take(rows) => {
                        if inflight.is_empty() && queue.counters().buffered_rows > 0 {
                            for record in queue.take_batch(&batch(rows, 1 << 20, 0)).await.unwrap() {
                                assert!(record.seq > last_seq, "order");
                                last_seq = record.seq;
                                inflight.push_back(record.seq);
                            }
                        }
                    }
                    Step::Deliver(rows) => {
                        let rows: Vec<_> = inflight.drain(..rows.min(inflight.len())).collect();
                        queue.delivered(&rows, 0);
                    }
                    Step::Letter(rows) => {
                        let rows: Vec<_> = inflight.drain(..rows.min(inflight.len())).map(|seq| (seq, "E1")).collect();
                        queue.dead_lettered(&rows);
                    }
                    Step::Drop(rows) => queue.count_dropped(rows, "test"),
                    Step::Limits(rows) => {
                        most = most.max(rows);
                        queue.set_limits(limits(rows, 1 << 20, when_full));
                    }
                    Step::Stop => inflight = queue.stop().into_iter().map(|record| record.seq).collect(),
                }
                let counters = queue.counters();
                assert!(counters.balanced(), "{counters:?}");
                assert!(counters.buffered_rows + counters.inflight_rows <= most as u64 + 4, "bounded: {counters:?}");
                assert_eq!(counters.inflight_rows, inflight.len() as u64);
            }
        });
    }
}
