//! What every [`Storage`] has to do, as a suite that any implementation can be run through in a test of its own.
//!
//! ```
//! use weir::store::{Memory, conformance};
//!
//! conformance::check(|| {
//!     // A new, empty storage; what is returned opens it again and again.
//!     let storage = Memory::default();
//!     move || storage.clone()
//! });
//! ```

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_mqtt::{PacketId, QoS, SubscriptionFilter, TopicName};

use super::{Persist, SessionId, State, Storage, Ticket};
use crate::core::bans::{Ban, Who};
use crate::core::message::Message;
use crate::core::queue::Waiting;
use crate::core::subscriptions::SubscriptionOptions;

/// No commit takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the suite. `new` makes an empty storage and gives what opens it: each call sees what was kept before it.
///
/// # Panics
/// With a sentence that says what the storage does not do.
pub fn check<O, S>(new: impl Fn() -> O)
where
    O: Fn() -> S,
    S: Storage,
{
    an_empty_storage_has_nothing(&new());
    everything_of_a_session_comes_back(&new());
    a_session_that_ended_leaves_nothing(&new());
    what_is_settled_is_not_owed(&new());
    a_message_may_be_settled_before_it_is_owed(&new());
    the_youngest_retained_message_counts(&new());
    batches_of_many_threads_all_come_back(&new());
    large_messages_come_back_whole(&new());
    bans_come_back_and_what_was_taken_back_does_not(&new());
    what_was_loaded_can_be_changed(&new());
}

fn an_empty_storage_has_nothing<S: Storage>(open: &impl Fn() -> S) {
    assert!(loaded(&open()).is_empty(), "an empty storage gave records");
}

fn everything_of_a_session_comes_back<S: Storage>(open: &impl Fn() -> S) {
    let storage = open();
    keep(
        &storage,
        vec![
            session("a"),
            Persist::Subscribed {
                session: id_of("a"),
                filter: filter("$share/g/t/+"),
                options: options(QoS::ExactlyOnce),
            },
            owed("a", 1, "one"),
            owed("a", 2, "two"),
            Persist::InFlight {
                session: id_of("a"),
                number: 1,
                packet_id: id(7),
            },
            Persist::Released {
                session: id_of("a"),
                number: 1,
            },
            Persist::Received {
                session: id_of("a"),
                packet_id: id(9),
            },
            Persist::Disconnected {
                session: id_of("a"),
                at: 1234,
            },
        ],
    );
    flushed(storage);
    let state = loaded(&open());
    let session = state.session("a").expect("the session came back");
    assert_eq!(session.expiry_interval_s, 60);
    assert_eq!(session.disconnected_at, Some(1234));
    let subscribed = session.subscriptions.get(&filter("$share/g/t/+"));
    assert_eq!(subscribed, Some(&options(QoS::ExactlyOnce)));
    assert!(session.received.contains(&id(9)), "the QoS 2 identifier");
    let owed: Vec<_> = session
        .owed()
        .map(|(number, owed)| (number, owed.packet_id, owed.released))
        .collect();
    assert_eq!(owed, [(1, Some(id(7)), true), (2, None, false)]);
    assert_eq!(payloads(&state, "a"), ["one", "two"], "in their order");
}

fn bans_come_back_and_what_was_taken_back_does_not<S: Storage>(open: &impl Fn() -> S) {
    let who = |name| Who::parse("client", name).expect("a client has a name");
    let banned = |name, until| Persist::Banned {
        who: who(name),
        ban: Ban {
            since: 1,
            until,
            reason: Some("why".to_owned()),
        },
    };
    let storage = open();
    keep(&storage, vec![banned("a", None), banned("b", None)]);
    keep(&storage, vec![Persist::Unbanned { who: who("a") }]);
    keep(&storage, vec![banned("b", Some(9))]);
    flushed(storage);
    let state = loaded(&open());
    let bans: Vec<_> = state.bans().iter().collect();
    assert_eq!(bans.len(), 1, "one is left: {bans:?}");
    assert_eq!(*bans[0].0, who("b"));
    assert_eq!((bans[0].1.since, bans[0].1.until), (1, Some(9)));
    assert_eq!(bans[0].1.reason.as_deref(), Some("why"));
}

fn a_session_that_ended_leaves_nothing<S: Storage>(open: &impl Fn() -> S) {
    let storage = open();
    keep(&storage, vec![session("a"), owed("a", 1, "one")]);
    keep(
        &storage,
        vec![Persist::SessionEnded {
            session: id_of("a"),
        }],
    );
    // On its way from another connection while the session ended.
    keep(&storage, vec![owed("a", 2, "two")]);
    keep(&storage, vec![session("b")]);
    flushed(storage);
    let state = loaded(&open());
    assert!(state.session("a").is_none(), "the session has ended");
    assert!(state.session("b").is_some(), "another session is kept");
}

fn what_is_settled_is_not_owed<S: Storage>(open: &impl Fn() -> S) {
    let storage = open();
    keep(&storage, vec![session("a"), owed("a", 1, "one")]);
    keep(&storage, vec![owed("a", 2, "two")]);
    keep(&storage, vec![settled("a", 1)]);
    keep(
        &storage,
        vec![
            Persist::Subscribed {
                session: id_of("a"),
                filter: filter("t"),
                options: options(QoS::AtLeastOnce),
            },
            Persist::Unsubscribed {
                session: id_of("a"),
                filter: filter("t"),
            },
            Persist::Received {
                session: id_of("a"),
                packet_id: id(1),
            },
            Persist::ReceivedDone {
                session: id_of("a"),
                packet_id: id(1),
            },
        ],
    );
    flushed(storage);
    let state = loaded(&open());
    let session = state.session("a").expect("the session came back");
    assert_eq!(payloads(&state, "a"), ["two"]);
    assert!(session.subscriptions.is_empty(), "it has unsubscribed");
    assert!(session.received.is_empty(), "PUBREL has come");
}

fn a_message_may_be_settled_before_it_is_owed<S: Storage>(open: &impl Fn() -> S) {
    let storage = open();
    keep(&storage, vec![session("a"), settled("a", 1)]);
    keep(&storage, vec![owed("a", 1, "one"), owed("a", 2, "two")]);
    flushed(storage);
    assert_eq!(payloads(&loaded(&open()), "a"), ["two"]);
}

fn the_youngest_retained_message_counts<S: Storage>(open: &impl Fn() -> S) {
    let storage = open();
    let retained = |topic, payload, change| Persist::Retained {
        message: message(topic, payload),
        change,
    };
    let cleared = |topic: &'static str, change| Persist::RetainedCleared {
        topic: topic.into(),
        change,
    };
    keep(&storage, vec![retained("a", "new", 2)]);
    keep(&storage, vec![retained("a", "old", 1)]);
    keep(&storage, vec![retained("b", "gone", 3), cleared("b", 4)]);
    keep(&storage, vec![cleared("c", 6)]);
    keep(&storage, vec![retained("c", "late", 5)]);
    keep(&storage, vec![cleared("d", 7), retained("d", "again", 8)]);
    flushed(storage);
    let state = loaded(&open());
    let texts: Vec<_> = state
        .retained()
        .map(|message| (message.topic.as_str(), message.payload.as_ref()))
        .collect();
    assert_eq!(texts, [("a", &b"new"[..]), ("d", &b"again"[..])]);
}

fn batches_of_many_threads_all_come_back<S: Storage>(open: &impl Fn() -> S) {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let storage = open();
    std::thread::scope(|scope| {
        for name in NAMES {
            let storage = &storage;
            scope.spawn(move || {
                keep(storage, vec![session(name)]);
                let tickets: Vec<_> = (1..=100)
                    .map(|number| commit(storage, vec![owed(name, number, "x")]))
                    .collect();
                tickets.iter().for_each(wait);
            });
        }
    });
    flushed(storage);
    let state = loaded(&open());
    for name in NAMES {
        let session = state.session(name).expect("the session came back");
        let numbers: Vec<_> = session.owed().map(|(number, _)| number).collect();
        assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    }
}

fn large_messages_come_back_whole<S: Storage>(open: &impl Fn() -> S) {
    let storage = open();
    let payload: String = ('a'..='z').cycle().take(1 << 20).collect();
    keep(&storage, vec![session("a"), owed("a", 1, &payload)]);
    flushed(storage);
    assert_eq!(payloads(&loaded(&open()), "a"), [payload]);
}

fn what_was_loaded_can_be_changed<S: Storage>(open: &impl Fn() -> S) {
    let storage = open();
    keep(&storage, vec![session("a"), owed("a", 1, "one")]);
    flushed(storage);
    let storage = open();
    assert_eq!(payloads(&loaded(&storage), "a"), ["one"]);
    keep(&storage, vec![settled("a", 1), owed("a", 2, "two")]);
    flushed(storage);
    assert_eq!(payloads(&loaded(&open()), "a"), ["two"]);
}

fn commit(storage: &impl Storage, batch: Vec<Persist>) -> Ticket {
    let (ticket, done) = Ticket::new();
    storage.commit(batch, done);
    ticket
}

fn keep(storage: &impl Storage, batch: Vec<Persist>) {
    wait(&commit(storage, batch));
}

fn flushed(storage: impl Storage) {
    storage.flush();
}

fn wait(ticket: &Ticket) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ticket.poll_ready(&Context::from_waker(&waker)) {
            Poll::Ready(Ok(())) => return,
            Poll::Ready(Err(_)) => panic!("a batch was not kept"),
            Poll::Pending => std::thread::park_timeout(PATIENCE),
        }
        assert!(Instant::now() < deadline, "nobody answered for a batch");
    }
}

fn loaded(storage: &impl Storage) -> State {
    let mut state = State::default();
    let loaded = storage.load(&mut |record| state.apply(record));
    assert!(loaded.is_ok(), "the storage cannot be read: {loaded:?}");
    state
}

fn payloads(state: &State, client_id: &str) -> Vec<String> {
    let session = state.session(client_id).expect("the session came back");
    session
        .owed()
        .filter_map(|(_, owed)| owed.waiting())
        .map(|waiting| String::from_utf8_lossy(&waiting.message.payload).into_owned())
        .collect()
}

fn id_of(client_id: &'static str) -> SessionId {
    SessionId {
        client_id: client_id.into(),
        epoch: 1,
    }
}

fn session(client_id: &'static str) -> Persist {
    Persist::Session {
        session: id_of(client_id),
        expiry_interval_s: 60,
    }
}

fn settled(client_id: &'static str, number: u64) -> Persist {
    Persist::Settled {
        session: id_of(client_id),
        number,
    }
}

fn owed(client_id: &'static str, number: u64, payload: &str) -> Persist {
    let waiting = Waiting {
        message: message("t", payload),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: None,
        number,
        group: None,
    };
    Persist::Owed {
        session: id_of(client_id),
        waiting,
    }
}

fn message(topic: &str, payload: &str) -> Arc<Message> {
    let topic = TopicName::new(topic).expect("the topics of this suite are valid");
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Arc::new(Message::new(topic, payload, QoS::AtLeastOnce, true))
}

fn filter(text: &str) -> SubscriptionFilter {
    SubscriptionFilter::parse(text).expect("the filters of this suite are valid")
}

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: true,
        retain_as_published: false,
        id: None,
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("the identifiers of this suite are not 0")
}
