//! A device that is held to what its cloud enforces on a connection (cloud-bridges §14, §15.6).

use weir_mqtt::{Publish, QoS, ReasonCode};
use weir_sinks::bridge::pace;
use weir_sinks::bridge::preset::Preset;

use super::client::{Client, Leave};
use crate::auth::Identity;
use crate::core::Millis;
use crate::core::token_bucket::{Rate, TokenBucket};
use crate::stats::DropReason;

/// The cloud's rules, and how much of its rates is used.
pub(super) struct Emulation {
    rules: &'static Preset,
    rates: Option<Buckets>,
}

/// What may still come at once.
enum Buckets {
    All(TokenBucket),
    ByQos {
        unacknowledged: TokenBucket,
        acknowledged: TokenBucket,
    },
}

impl Buckets {
    /// The one that a message takes from.
    fn bucket(&mut self, qos: QoS) -> &mut TokenBucket {
        match self {
            Self::All(bucket) => bucket,
            Self::ByQos { unacknowledged, .. } if qos == QoS::AtMostOnce => unacknowledged,
            Self::ByQos { acknowledged, .. } => acknowledged,
        }
    }
}

impl Emulation {
    /// Of a client that is held to a cloud's rules.
    pub(super) fn of(identity: &Identity, now: Millis) -> Option<Box<Self>> {
        let rules = identity.cloud?.rules();
        let bucket = |per_second: u32| {
            let per_second = u64::from(per_second);
            // What was sent evenly may come in bunches.
            let burst = per_second + per_second.div_ceil(10);
            TokenBucket::full(Rate { per_second, burst }, now)
        };
        let rates = rules.rate.map(|rate| match rate {
            pace::Rate::All(all) => Buckets::All(bucket(all)),
            pace::Rate::ByQos {
                unacknowledged,
                acknowledged,
            } => Buckets::ByQos {
                unacknowledged: bucket(unacknowledged),
                acknowledged: bucket(acknowledged),
            },
        });
        Some(Box::new(Self { rules, rates }))
    }

    /// The highest QoS of a subscription.
    pub(super) fn granted(&self, asked: QoS) -> QoS {
        match self.rules.qos_cap {
            0 => QoS::AtMostOnce,
            1 => asked.min(QoS::AtLeastOnce),
            _ => asked,
        }
    }

    /// Whether the cloud takes the message; what it takes of it is left. Otherwise it throws it away without a word, or
    /// closes the connection.
    fn takes(&mut self, now: Millis, publish: &mut Publish) -> Result<bool, Leave> {
        let closes = |code, why| Err(Leave::because(code, why));
        if publish.qos.as_u8() > self.rules.qos_cap {
            let why = "the cloud that is emulated closes the connection at this QoS";
            return closes(ReasonCode::QoSNotSupported, why);
        }
        let max_payload = self.rules.max_payload;
        if max_payload.is_some_and(|max| publish.payload.len() > max) {
            let why = "the payload is larger than the cloud that is emulated takes";
            return closes(ReasonCode::PacketTooLarge, why);
        }
        if let Some(limits) = self.rules.topic_limits
            && !limits.allow(&publish.topic)
        {
            let why =
                "the topic is longer or has more levels than the cloud that is emulated takes";
            return closes(ReasonCode::TopicNameInvalid, why);
        }
        publish.retain &= self.rules.retain;
        let Some(rates) = &mut self.rates else {
            return Ok(true);
        };
        Ok(rates.bucket(publish.qos).try_take(now))
    }
}

impl Client {
    /// Whether the cloud that the client is held to takes a message; one that it throws away is acknowledged.
    pub(super) fn is_taken_by_cloud(
        &mut self,
        now: Millis,
        publish: &mut Publish,
    ) -> Result<bool, Leave> {
        let Some(cloud) = &mut self.cloud else {
            return Ok(true);
        };
        // What waits behind others is slow enough, and its acknowledgement must not overtake theirs.
        if cloud.takes(now, publish)? || !self.parked.is_empty() {
            return Ok(true);
        }
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        let message = self.message(now, publish.clone());
        self.router.drop_message(DropReason::CloudRate, &message);
        self.acknowledge(qos, packet_id, ReasonCode::Success)?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_mqtt::Utf8;
    use weir_sinks::bridge::verifier::Scheme;

    use super::*;
    use crate::auth::devices::Cloud;

    fn emulation(scheme: Scheme) -> Box<Emulation> {
        let identity = Identity {
            cloud: Cloud::of(scheme),
            ..Identity::default()
        };
        Emulation::of(&identity, 0).unwrap()
    }

    fn publish(qos: QoS, topic: &'static str, bytes: usize) -> Publish {
        Publish {
            qos,
            retain: true,
            ..Publish::new(Utf8::from(topic), Bytes::from(vec![b'x'; bytes]))
        }
    }

    #[test]
    fn what_is_over_the_rate_is_thrown_away_and_the_rate_comes_back() {
        let mut aliyun = emulation(Scheme::AliyunIot);
        let mut take = |now, qos| {
            let mut publish = publish(qos, "/pk/d/user/up", 1);
            let taken = aliyun.takes(now, &mut publish);
            assert!(!publish.retain, "no cloud of these retains");
            taken
        };
        // 10 a second at QoS 1 and a tenth of grace; QoS 0 has 30 of its own.
        let mut taken =
            |now, qos, count: usize| (0..count).filter(|_| take(now, qos) == Ok(true)).count();
        assert_eq!(taken(0, QoS::AtLeastOnce, 50), 11);
        assert_eq!(taken(0, QoS::AtMostOnce, 50), 33);
        assert_eq!(taken(1000, QoS::AtLeastOnce, 50), 10);
        // What keeps to the rate is never too much.
        let evenly = (20..200u64).filter(|turn| taken(turn * 100, QoS::AtLeastOnce, 1) == 1);
        assert_eq!(evenly.count(), 180);
    }

    #[test]
    fn qos_2_and_what_is_too_large_close_the_connection() {
        let judged = |scheme, mut publish| emulation(scheme).takes(0, &mut publish);
        let code = |judged: Result<bool, Leave>| judged.map_err(|leave| leave.say);
        let (once, twice) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
        for scheme in Scheme::ALL {
            let closed = judged(scheme, publish(twice, "a/b", 1));
            assert_eq!(code(closed), Err(Some(ReasonCode::QoSNotSupported)));
            assert_eq!(emulation(scheme).granted(twice), once);
        }
        let tencent = |bytes| {
            code(judged(
                Scheme::TencentIot,
                publish(once, "P/d/event", bytes),
            ))
        };
        assert_eq!(tencent(16 * 1024), Ok(true));
        assert_eq!(
            tencent(16 * 1024 + 1),
            Err(Some(ReasonCode::PacketTooLarge))
        );
        let levels = |topic| code(judged(Scheme::TencentIot, publish(once, topic, 1)));
        assert_eq!(levels("a/b/c/d/e/f/g"), Ok(true));
        let too_many = Err(Some(ReasonCode::TopicNameInvalid));
        assert_eq!(levels("a/b/c/d/e/f/g/h"), too_many);
    }
}
