//! Sessions in a storage of the program's own: here a log in memory that a second thread writes, as a log on disk would.
//!
//! `cargo run --example embed_store`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir::mqtt::QoS;
use weir::store::{Done, Durability, Persist, Storage, StorageError, conformance};
use weir::{Broker, Message};

/// Batches go to a thread, which appends them and says so.
#[derive(Clone)]
struct Log {
    batches: Sender<(Vec<Persist>, Done)>,
    records: Arc<Mutex<Vec<Persist>>>,
}

impl Log {
    fn new() -> Self {
        let (batches, receiver) = channel::<(Vec<Persist>, Done)>();
        let records: Arc<Mutex<Vec<Persist>>> = Arc::default();
        let written = Arc::clone(&records);
        std::thread::spawn(move || {
            while let Ok((batch, done)) = receiver.recv() {
                let mut records = written.lock().unwrap_or_else(PoisonError::into_inner);
                records.extend(batch);
                // A log on disk would sync here, once for all batches that wait.
                done.kept();
            }
        });
        Self { batches, records }
    }
}

impl Storage for Log {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn commit(&self, batch: Vec<Persist>, done: Done) {
        // Without its thread the batch is dropped, and so it has failed.
        drop(self.batches.send((batch, done)));
    }

    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().cloned().for_each(each);
        Ok(())
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Every storage can be run through the same suite.
    conformance::check(|| {
        let log = Log::new();
        move || log.clone()
    });

    let broker = Broker::builder()
        .storage(Log::new())
        .listen("127.0.0.1:0")
        .start()
        .await?;
    let message = Message::text("state/pump-7", "running")?;
    let published = broker.publish(message.with_qos(QoS::AtLeastOnce).retained());
    published.kept().await?;
    broker.stop(Duration::from_secs(1)).await;

    let broker = broker.start_again().await?;
    let retained = broker.stats().retained_messages.get();
    println!("{retained} retained message after the restart");
    if retained != 1 {
        return Err("the retained message is lost".into());
    }
    broker.stop(Duration::from_secs(1)).await;
    Ok(())
}
