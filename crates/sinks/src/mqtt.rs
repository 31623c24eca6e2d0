//! Messages to another broker: a window of them at a time over the bridge's one connection. A record is delivered
//! when the remote has taken it: PUBACK, PUBCOMP, or at `QoS` 0 the write to the socket.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use weir_mqtt::Utf8;
use weir_mqtt::properties::PublishProperties;

use crate::bridge::home::PATH_PROPERTY;
use crate::bridge::lanes::Whose;
use crate::bridge::link::{Answer, BridgeLink, NotSent, Outgoing};
use crate::bridge::numbering::{Kept, Numbering};
use crate::plan::MessagePlan;
use crate::render::{MqttMessage, message_for};
use crate::{Batch, Outcome, Record, Sink, SinkError, codes, now_ms};

/// Delivers into one bridge.
pub(crate) struct MqttSink {
    link: BridgeLink,
    plan: MessagePlan,
    numbering: Numbering,
}

/// How long a delivery waits for a link before it says that there is none. It is asked again at once, so this only
/// bounds how old the sink's shown state can be.
pub(crate) const LINK_WAIT: Duration = Duration::from_secs(2);

impl MqttSink {
    /// `kept`: the queue's, where it outlives the process.
    pub(crate) fn new(link: BridgeLink, plan: MessagePlan, kept: Option<Kept>) -> Self {
        // Other messages may come twice; they need no packet identifier of their own.
        let kept = kept.filter(|_| plan.qos == 2);
        if kept.is_some() {
            link.keep_session();
        }
        Self {
            link,
            plan,
            numbering: Numbering::new(Whose::Rule, kept),
        }
    }

    /// Makes a record a message and hands it over; at once, or when pace and window allow.
    async fn hand_over(
        &mut self,
        record: &Record,
        (epoch, again): (u64, bool),
        link: u64,
    ) -> Result<oneshot::Receiver<Answer>, Outcome> {
        if self.numbering.is_done(record.seq) {
            return Err(Outcome::Delivered);
        }
        let message = match message_for(&self.plan, &record.row, now_ms()) {
            Ok(message) => message,
            Err(error) => {
                self.numbering.gives_up(&self.link, record.seq, again);
                return Err(Outcome::Rejected {
                    error: error.into(),
                });
            }
        };
        let outgoing = Outgoing {
            topic: &message.topic,
            payload: &message.payload.0,
            qos: message.qos,
            retain: message.retain,
            properties: Some(properties_of(&message, record)),
            who: (epoch, record.seq),
            numbered: self.numbering.of(record.seq, again),
        };
        match self.link.publish(outgoing, link).await {
            Ok(answer) => Ok(answer),
            Err(NotSent::Unfit(error)) => {
                self.numbering.gives_up(&self.link, record.seq, again);
                Err(Outcome::Rejected { error })
            }
            Err(NotSent::Down) => Err(lost()),
        }
    }

    /// Whether the link has the session that messages of `QoS` 2 with numbers need.
    async fn keeps_session(&self, link: u64) -> bool {
        !self.numbering.is_kept() || self.link.has_session(link, LINK_WAIT).await
    }

    /// The link on which messages from `first` on may be given.
    async fn ready(&mut self, first: u64) -> Result<u64, Outcome> {
        let up = match self.link.up(LINK_WAIT).await {
            Ok(number) if self.keeps_session(number).await => {
                let prepared = self.numbering.prepare(&self.link, number, first);
                prepared.await.map(|()| number)
            }
            Ok(_) => Err(link_broke()),
            Err(error) => Err(error),
        };
        up.map_err(|error| {
            let after = Some(Duration::ZERO).filter(|_| error.code() != codes::FILE);
            Outcome::Retry { after, error }
        })
    }
}

/// What a message has beside its payload: its type, and the nodes that it has crossed.
fn properties_of(message: &MqttMessage, record: &Record) -> PublishProperties {
    let content_type = message.content_type.as_deref();
    let path = Utf8::try_from(record.path.bytes().clone());
    let path = path.ok().filter(|path| !path.is_empty());
    PublishProperties {
        content_type: content_type.and_then(|content_type| Utf8::new(content_type).ok()),
        user_properties: path
            .and_then(|path| Some((Utf8::new(PATH_PROPERTY).ok()?, path)))
            .into_iter()
            .collect(),
        ..PublishProperties::default()
    }
}

/// A message that was handed over, or what became of it.
enum Handed {
    Waits(oneshot::Receiver<Answer>),
    Done(Outcome),
}

impl Handed {
    async fn settle(self) -> Outcome {
        match self {
            Self::Waits(answer) => outcome(answer.await),
            Self::Done(outcome) => outcome,
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
        let link = match self.ready(batch.first_seq()).await {
            Ok(link) => link,
            Err(outcome) => return vec![outcome; batch.records.len()],
        };
        let mut outcomes = Vec::with_capacity(batch.records.len());
        let mut handed = VecDeque::with_capacity(batch.records.len());
        let mut down = false;
        for record in batch.records {
            if let Some(span) = self.numbering.span() {
                // Two messages that the remote may have half way never have one packet identifier.
                while let Some((seq, _)) = handed.front()
                    && seq + span <= record.seq
                    && let Some((_, first)) = handed.pop_front()
                {
                    outcomes.push(Handed::settle(first).await);
                }
            }
            // After a lost link nothing more of this batch goes out: a later record must not overtake an earlier one.
            let one = if down {
                Handed::Done(lost())
            } else {
                let again = record.seq <= batch.given_to;
                match self.hand_over(record, (batch.epoch, again), link).await {
                    Ok(answer) => Handed::Waits(answer),
                    Err(outcome) => Handed::Done(outcome),
                }
            };
            down |= matches!(one, Handed::Done(Outcome::Retry { .. }));
            handed.push_back((record.seq, one));
        }
        for (_, one) in handed {
            outcomes.push(one.settle().await);
        }
        outcomes
    }

    async fn gives_up(&mut self, rows: Vec<u64>) -> Result<(), SinkError> {
        self.numbering.abandons(&self.link, rows).await
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
