//! Rows on standard output, one JSON object a line, so many a second; the rest is counted, not printed.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::render::console_line;
use crate::{Batch, Outcome, Sink, SinkError, codes};

/// Where console sinks write; clones share one lock, so lines do not mix.
#[derive(Clone)]
pub struct ConsoleOutput(Arc<Mutex<dyn Write + Send>>);

impl ConsoleOutput {
    /// Writes to `writer`.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// Writes to standard output.
    pub fn stdout() -> Self {
        Self::new(std::io::stdout())
    }
}

impl std::fmt::Debug for ConsoleOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsoleOutput")
    }
}

pub(crate) struct ConsoleSink {
    output: ConsoleOutput,
    max_per_second: u32,
    second: Instant,
    printed: u32,
    skipped: u64,
}

impl ConsoleSink {
    pub(crate) fn new(output: ConsoleOutput, max_per_second: u32) -> Self {
        Self {
            output,
            max_per_second,
            second: Instant::now(),
            printed: 0,
            skipped: 0,
        }
    }

    /// Whether this line may be printed in this second.
    fn admits(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            if self.skipped > 0 {
                tracing::info!(
                    rows = self.skipped,
                    "rows over the console's rate were not printed"
                );
            }
            (self.second, self.printed, self.skipped) = (Instant::now(), 0, 0);
        }
        let admits = self.printed < self.max_per_second;
        if admits {
            self.printed += 1;
        } else {
            self.skipped += 1;
        }
        admits
    }
}

#[async_trait]
impl Sink for ConsoleSink {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        let mut text = String::new();
        let mut outcomes = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            outcomes.push(match console_line(&record.row) {
                Ok(line) => {
                    if self.admits() {
                        text.push_str(&line);
                        text.push('\n');
                    }
                    Outcome::Delivered
                }
                Err(error) => Outcome::Rejected {
                    error: error.into(),
                },
            });
        }
        let written = {
            let mut output = self.output.0.lock();
            output
                .write_all(text.as_bytes())
                .and_then(|()| output.flush())
        };
        // Nobody reads standard output any more: that is no reason to keep rows for ever.
        if let Err(error) = written {
            tracing::debug!(
                code = codes::FILE,
                "standard output cannot be written: {error}"
            );
        }
        outcomes
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
