//! A broker on threads of its own, for programs that have no tokio runtime.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::broker::Broker;
use crate::builder::{BrokerBuilder, StartError};

/// A broker and the threads that it runs on. Dropped, it is cut off; [`stop`](Self::stop) says good-bye first.
///
/// ```
/// let running = weir::Broker::builder()
///     .listen("127.0.0.1:0")
///     .start_on_threads(std::num::NonZeroUsize::new(2))?;
/// println!("MQTT on {}", running.broker().addresses()[0]);
/// running.stop(std::time::Duration::from_secs(1));
/// # Ok::<(), weir::StartError>(())
/// ```
#[derive(Debug)]
pub struct OnThreads {
    broker: Broker,
    runtime: Runtime,
}

impl BrokerBuilder {
    /// Starts the broker on threads of its own: a runtime with `workers` of them, or as many as the machine has
    /// processors, and as many event loops for plain TCP, unless the settings say how many.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when there are no threads to be had.
    pub fn start_on_threads(
        mut self,
        workers: Option<NonZeroUsize>,
    ) -> Result<OnThreads, StartError> {
        self = self.loops(workers);
        let mut builder = Builder::new_multi_thread();
        crate::broker::prepare_runtime(&mut builder);
        if let Some(workers) = workers {
            builder.worker_threads(workers.get());
        }
        builder.thread_name("weir").enable_all();
        let runtime = builder.build().map_err(StartError::Threads)?;
        let broker = runtime.block_on(self.start())?;
        Ok(OnThreads { broker, runtime })
    }
}

impl OnThreads {
    /// The broker. What it calls on a runtime, such as [`Broker::schedule`], must be called from a hook or inside
    /// [`Runtime::enter`]; everything else from anywhere.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Stops the broker as [`Broker::stop`] does, and then its threads.
    pub fn stop(self, grace: Duration) -> bool {
        let ended = self.runtime.block_on(self.broker.stop(grace));
        self.runtime.shutdown_timeout(grace);
        ended
    }
}
