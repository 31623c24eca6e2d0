//! What is retained here when an entry of a bridge's `out` is new: it is sent, once.
//!
//! It goes into the bridge's queue like everything that goes out, a little at a time, so that a million retained messages
//! take no more memory than a few. An entry is noted in `bridges/NAME.initial` when all that is for it is kept there: over
//! restarts and new links it is not sent again, and what a crash leaves half way is sent from the beginning.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use weir_rules::event::{Event, What};
use weir_sinks::bridge::home::origin_of;
use weir_sinks::bridge::plan::BridgePlan;
use weir_sinks::bridge::route::{OutRoute, TopicMap};
use weir_sinks::{Connector, Owed, SinkHandle};

use super::bridges::{OUT, out_rule};
use super::live::IN_FLIGHT;
use super::{Reloader, State};
use crate::broker::Broker;
use crate::core::Millis;
use crate::core::message::Message;
use crate::core::retained::Walk;
use crate::driver::events::rule_publish;
use crate::driver::router::wall_ms;
use crate::pipeline::{Accepted, Live, Pipeline, Room};
use crate::project::files::write_whole;
use crate::store::Ticket;

/// So many messages are looked at in one go.
const SOME: usize = 128;
/// No further one is when their payloads are as large.
const SOME_BYTES: usize = 1 << 20;
/// With so many messages in the bridge's queue, those that are retained wait.
const MOST_WAITING: usize = 1024;
/// After this a store that could not keep them is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// The bridges whose retained messages are on their way into the queue.
#[derive(Default)]
pub(super) struct Feeds(Mutex<BTreeMap<String, Feed>>);

struct Feed {
    connector: Arc<Connector>,
    sink: SinkHandle,
    entries: Vec<String>,
    task: JoinHandle<()>,
}

impl Feeds {
    /// What is not in a queue is sent after the next start.
    pub(super) fn end(&self) {
        for (_, feed) in std::mem::take(&mut *self.0.lock()) {
            feed.task.abort();
        }
    }
}

impl Reloader {
    /// The rules are live: what they do not see any more, because it was published before, is sent.
    pub(super) fn send_retained(&self, state: &State) {
        let Some(broker) = self.broker.get() else {
            return;
        };
        let mut feeds = self.feeds.0.lock();
        let mut before = std::mem::take(&mut *feeds);
        for (name, (_, connector)) in &state.connectors {
            let plan = connector.bridge_plan();
            let Some(plan) = plan.filter(|plan| plan.initial_retained) else {
                continue;
            };
            let Some(open) = state.sinks.get(&(origin_of(name), OUT.to_owned())) else {
                continue;
            };
            let entries = entries(&plan);
            let goes_on = |feed: &Feed| {
                Arc::ptr_eq(&feed.connector, connector)
                    && feed.sink.is_same(&open.handle)
                    && feed.entries == entries
                    && !feed.task.is_finished()
            };
            let old = before.remove(name);
            let (old, feed) = match old {
                Some(feed) if goes_on(&feed) => (None, Some(feed)),
                old => (old, None),
            };
            let feed = feed.unwrap_or_else(|| {
                let feeding = Feeding {
                    connector: Arc::clone(connector),
                    sink: open.handle.clone(),
                    plan,
                    broker: broker.clone(),
                    pipeline: Arc::clone(&self.pipeline),
                    noted: Noted::of(&self.data_dir, name),
                };
                let old = old.map(|old| old.task);
                Feed {
                    connector: Arc::clone(connector),
                    sink: open.handle.clone(),
                    entries,
                    task: tokio::spawn(feeding.after(old)),
                }
            });
            feeds.insert(name.clone(), feed);
        }
        for (_, feed) in before {
            feed.task.abort();
        }
    }
}

/// One bridge's retained messages, on their way.
struct Feeding {
    connector: Arc<Connector>,
    sink: SinkHandle,
    plan: Arc<BridgePlan>,
    broker: Broker,
    pipeline: Arc<Pipeline>,
    noted: Noted,
}

/// A little of it.
struct Step {
    messages: u64,
    /// When they are kept.
    ticket: Ticket,
    /// The queue has no room for the next one.
    room: Option<Room>,
    is_last: bool,
}

impl Feeding {
    async fn after(self, old: Option<JoinHandle<()>>) {
        if let Some(old) = old {
            old.abort();
            let _ = old.await;
        }
        // A message that met the rules of before is retained by then.
        tokio::time::sleep(IN_FLIGHT).await;
        while let Err(error) = self.run().await {
            tracing::error!(
                connector = self.connector.name(),
                %error,
                "retained messages cannot be put into the queue of a bridge; it is tried again in a minute"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn run(&self) -> io::Result<()> {
        let all = entries(&self.plan);
        let mut noted = self.noted.read();
        if noted.iter().any(|entry| !all.contains(entry)) {
            // One that comes back is a new one.
            noted.retain(|entry| all.contains(entry));
            self.write(&noted)?;
        }
        for (entry, route) in all.into_iter().zip(self.plan.out.iter()) {
            if noted.contains(&entry) {
                continue;
            }
            let messages = self.feed(route).await?;
            noted.push(entry);
            self.write(&noted)?;
            tracing::info!(
                connector = self.connector.name(),
                filter = route.filter.as_str(),
                messages,
                "what was retained is in the queue of the bridge"
            );
        }
        Ok(())
    }

    fn write(&self, noted: &[String]) -> io::Result<()> {
        tokio::task::block_in_place(|| self.noted.write(noted))
    }

    /// Everything for one entry; how many messages that was.
    async fn feed(&self, route: &OutRoute) -> io::Result<u64> {
        let routes = Arc::from([route.clone()]);
        let rule = out_rule(&self.connector, routes, self.sink.clone());
        let live = Live::only(rule.map_err(io::Error::other)?);
        let filter = route.filter.clone();
        let mut walk = self.broker.shared.retained.read().walk(filter);
        let mut messages = 0;
        loop {
            self.sink.holds_less_than(MOST_WAITING).await;
            self.connector.linked().await;
            let step = self.step(&live, &mut walk);
            messages += step.messages;
            step.ticket.committed().await.map_err(io::Error::other)?;
            if step.is_last {
                return Ok(messages);
            }
            if let Some(room) = step.room {
                room.wait().await;
            }
        }
    }

    /// Puts some messages into the queue. No other one is retained meanwhile: it would leave before the one whose place it
    /// takes, and the remote would keep that.
    fn step(&self, live: &Live, walk: &mut Walk) -> Step {
        let shared = &self.broker.shared;
        let now = shared.clock.now();
        let retained = shared.retained.read();
        let some: Vec<Arc<Message>> = retained.ahead(walk, now).take(SOME).cloned().collect();
        let mut is_last = some.len() < SOME;
        let (mut rows, mut messages, mut bytes): (Vec<Owed>, u64, usize) = (Vec::new(), 0, 0);
        let mut no_room = None;
        for message in some {
            if bytes >= SOME_BYTES {
                is_last = false;
                break;
            }
            let made = self.pipeline.make(live, &event(&message, now));
            match made.map(|made| made.accepted) {
                Some(Accepted::NoRoom(room)) => {
                    no_room = Some(room);
                    is_last = false;
                    break;
                }
                Some(Accepted::Kept { rows: made, .. }) => rows.extend(made),
                // The second is only said to publishers: here the commit waits for the store's room.
                None | Some(Accepted::StoreFull) => {}
            }
            messages += 1;
            bytes += message.payload.len();
            walk.pass(&message);
        }
        Step {
            messages,
            ticket: if rows.is_empty() {
                Ticket::ready()
            } else {
                self.broker.keep_rows(rows)
            },
            room: no_room,
            is_last,
        }
    }
}

/// The message as if it were published now, with what is left of its time.
fn event(message: &Message, now: Millis) -> Event {
    let message = Message {
        properties: message.properties_at(now),
        ..message.clone()
    };
    Event {
        timestamp_ms: wall_ms(),
        what: What::Publish(rule_publish(&message)),
    }
}

/// What tells the entries of `out` apart over restarts: what each takes, what that is called at the remote, and where that
/// is. Another QoS makes no other entry.
fn entries(plan: &BridgePlan) -> Vec<String> {
    let mut remotes: Vec<String> = plan.addresses.iter().map(ToString::to_string).collect();
    remotes.sort();
    let remotes = remotes.join(" ");
    let entry = |route: &OutRoute| {
        let mut hash = Sha256::new();
        for text in [remotes.as_str(), route.filter.as_str(), &names(&route.map)] {
            hash.update(text);
            hash.update([0]);
        }
        let digest = hash.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    plan.out.iter().map(entry).collect()
}

fn names(map: &TopicMap) -> String {
    match map {
        TopicMap::Prefix { off, put } => format!("{off}\0{put}"),
        TopicMap::Template { parts, .. } => parts.iter().map(ToString::to_string).collect(),
    }
}

/// The entries for which everything was put into the queue.
struct Noted {
    path: PathBuf,
}

impl Noted {
    fn of(data_dir: &Path, bridge: &str) -> Self {
        Self {
            path: data_dir.join("bridges").join(format!("{bridge}.initial")),
        }
    }

    /// What cannot be read is as if it had not been.
    fn read(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn write(&self, entries: &[String]) -> io::Result<()> {
        let text: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
        write_whole(&self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use weir_sinks::ConnectorConfig;

    use super::*;

    fn plan(address: &str, out: &str) -> BridgePlan {
        let text =
            format!("type = \"mqtt\"\naddresses = [\"{address}\"]\nclient_id = \"w\"\nout = {out}");
        let ConnectorConfig::Mqtt(bridge) = toml::from_str(&text).unwrap() else {
            unreachable!()
        };
        BridgePlan::check(&bridge).unwrap().0
    }

    #[test]
    fn an_entry_is_another_one_when_its_topics_or_their_names_or_the_remote_are_others() {
        let before = entries(&plan("mqtt://a", r#"[{ filter = "a/#" }]"#));
        let same = r#"[{ filter = "b" }, { filter = "a/#", qos = 1, retain = "strip" }]"#;
        assert_eq!(entries(&plan("mqtt://a", same))[1..], before[..]);
        for (address, out) in [
            ("mqtt://b", r#"[{ filter = "a/#" }]"#),
            ("mqtt://a", r#"[{ filter = "a/+" }]"#),
            ("mqtt://a", r#"[{ filter = "a/#", remote_prefix = "x/" }]"#),
            ("mqtt://a", r#"[{ filter = "a/#", remote_topic = "x" }]"#),
        ] {
            assert_ne!(entries(&plan(address, out)), before, "{address} {out}");
        }
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let noted = Noted::of(folder.path(), "hq");
        assert!(noted.read().is_empty());
        let entries = ["a1".to_owned(), "b2".to_owned()];
        noted.write(&entries).unwrap();
        assert_eq!(noted.read(), entries);
    }
}
