//! Messages to another broker: a window of them at a time over the bridge's one connection. A record is delivered
//! when the remote has taken it: PUBACK, PUBCOMP, or at `QoS` 0 the write to the socket.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use weir_mqtt::Utf8;
use weir_mqtt::properties::PublishProperties;

use crate::bridge::link::{Answer, BridgeLink, NotSent, Outgoing};
use crate::plan::MessagePlan;
use crate::render::{MqttMessage, message_for};
use crate::{Batch, Outcome, Sink, SinkError, codes, now_ms};

/// Delivers into one bridge.
pub(crate) struct MqttSink {
    link: BridgeLink,
    plan: MessagePlan,
    pace: Pace,
}

/// How long a delivery waits for a link before it says that there is none. It is asked again at once, so this only
/// bounds how old the sink's shown state can be.
pub(crate) const LINK_WAIT: Duration = Duration::from_secs(2);

impl MqttSink {
    pub(crate) fn new(link: BridgeLink, plan: MessagePlan) -> Self {
        let rate = link
            .plan()
            .rate
            .map(|(qos0, others)| if plan.qos == 0 { qos0 } else { others });
        Self {
            link,
            plan,
            pace: Pace::new(rate),
        }
    }

    /// Hands one message over; at once, or when pace and window allow.
    async fn hand_over(
        &mut self,
        message: &MqttMessage,
        link: u64,
    ) -> Result<oneshot::Receiver<Answer>, Outcome> {
        self.pace.wait().await;
        let properties = message.content_type.as_deref().and_then(|content_type| {
            Some(PublishProperties {
                content_type: Some(Utf8::new(content_type).ok()?),
                ..PublishProperties::default()
            })
        });
        let outgoing = Outgoing {
            topic: &message.topic,
            payload: &message.payload.0,
            qos: message.qos,
            retain: message.retain,
            properties,
            numbered: None,
        };
        match self.link.publish(outgoing, link).await {
            Ok(answer) => Ok(answer),
            Err(NotSent::Unfit(error)) => Err(Outcome::Rejected { error }),
            Err(NotSent::Down) => Err(lost()),
        }
    }
}

pub(crate) fn lost() -> Outcome {
    // The link itself waits before it connects again; the rows shall not wait longer than it does.
    Outcome::Retry {
        after: Some(Duration::ZERO),
        error: link_broke(),
    }
}

pub(crate) fn link_broke() -> SinkError {
    SinkError::new(
        codes::LINK_DOWN,
        "the link broke before the remote acknowledged",
    )
}

#[async_trait]
impl Sink for MqttSink {
    fn start(&mut self) {
        if !self.link.starts_by_itself() {
            self.link.start();
        }
    }

    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        let link = match self.link.up(LINK_WAIT).await {
            Ok(link) => link,
            Err(error) => {
                let outcome = Outcome::Retry {
                    after: Some(Duration::ZERO),
                    error,
                };
                return vec![outcome; batch.records.len()];
            }
        };
        let mut answers = Vec::with_capacity(batch.records.len());
        let mut down = false;
        for record in batch.records {
            // After a lost link nothing more of this batch goes out: a later record must not overtake an earlier one.
            if down {
                answers.push(Err(lost()));
                continue;
            }
            let answer = match message_for(&self.plan, &record.row, now_ms()) {
                Ok(message) => self.hand_over(&message, link).await,
                Err(error) => Err(Outcome::Rejected {
                    error: error.into(),
                }),
            };
            down = matches!(answer, Err(Outcome::Retry { .. }));
            answers.push(answer);
        }
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(match answer {
                Err(outcome) => outcome,
                Ok(answer) => outcome(answer.await),
            });
        }
        outcomes
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        self.link.start();
        self.link
            .up(self.link.plan().connect_timeout)
            .await
            .map(|_| ())
    }
}

pub(crate) fn outcome(answer: Result<Answer, oneshot::error::RecvError>) -> Outcome {
    match answer {
        Ok(Answer::Taken) => Outcome::Delivered,
        Ok(Answer::Refused(refusal)) => {
            let message = format!("the remote broker refused the message: {}", refusal.reason);
            let error = SinkError::new(codes::PUBLISH_REFUSED, message);
            if refusal.later {
                Outcome::Retry { after: None, error }
            } else {
                Outcome::Rejected { error }
            }
        }
        Err(_) => lost(),
    }
}

/// Spaces messages so that a cloud's rate is not exceeded: a bucket of one second's messages.
pub(crate) struct Pace {
    per_second: Option<u32>,
    tokens: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(per_second: Option<u32>) -> Self {
        Self {
            per_second,
            tokens: per_second.map_or(0.0, f64::from),
            at: Instant::now(),
        }
    }

    pub(crate) async fn wait(&mut self) {
        let Some(rate) = self.per_second else { return };
        let rate = f64::from(rate);
        let now = Instant::now();
        self.tokens = (self.tokens + now.duration_since(self.at).as_secs_f64() * rate).min(rate);
        self.at = now;
        if self.tokens < 1.0 {
            let missing = Duration::from_secs_f64((1.0 - self.tokens) / rate);
            tokio::time::sleep(missing).await;
            self.tokens += (Instant::now() - self.at).as_secs_f64() * rate;
            self.at = Instant::now();
        }
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_are_spaced_to_the_clouds_rate() {
        let mut pace = Pace::new(Some(10));
        let began = Instant::now();
        for _ in 0..30 {
            pace.wait().await;
        }
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(1990) && took < Duration::from_millis(2200),
            "{took:?}"
        );
    }
}
