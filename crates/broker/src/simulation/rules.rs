//! What must be true: of every packet that a client gets, and at the end of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_mqtt::{Packet, PubRel, Publish, QoS, ReasonCode};

use super::Simulation;
use super::client::{Arrival, Asked};
use super::ledger::{Kind, Sent, Subscription};
use super::steps::Hello;

impl Simulation {
    /// A client reads some of what has come; false when nothing had.
    pub(super) fn read(&mut self, at: usize, most: usize) -> bool {
        let client = &mut self.clients[at];
        let Some(line) = client.link.line.clone() else {
            return false;
        };
        let bytes = line.take(most);
        client.link.unread.extend_from_slice(&bytes);
        while let Some(packet) = self.clients[at].next_packet() {
            self.tick += 1;
            self.got(at, packet);
        }
        assert!(!line.is_over(), "the broker closes the connection of {at}");
        !bytes.is_empty()
    }

    fn got(&mut self, at: usize, packet: Packet) {
        let (tick, now) = (self.tick, self.now());
        let client = &mut self.clients[at];
        match packet {
            Packet::Publish(publish) => self.got_publish(at, &publish),
            Packet::PubRel(pubrel) => {
                let PubRel { reason, .. } = pubrel;
                assert_eq!(reason, ReasonCode::Success);
                client.release(&pubrel);
            }
            Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_) => {
                let Some(message) = client.acknowledged(&packet) else {
                    return;
                };
                let message = &mut self.messages[message];
                if message.kind == Kind::Delayed {
                    message.due.1 = Some(now + u64::from(message.delay_s) * 1000);
                } else {
                    message.until.get_or_insert(tick);
                }
                message.expires_at = message
                    .expiry_s
                    .map(|seconds| now + u64::from(seconds) * 1000);
            }
            Packet::SubAck(suback) => {
                let asked = client.link.asked.remove(&suback.packet_id);
                let Some(Asked::Subscribe(place)) = asked else {
                    panic!("a SUBACK for {asked:?}")
                };
                assert!(suback.reasons.iter().all(|reason| !reason.is_error()));
                let filter = client.subscriptions[place].filter;
                client.subscriptions[place].certain_from = Some(tick);
                // [MQTT-3.8.4-3] The options before are replaced.
                for before in &mut client.subscriptions[..place] {
                    if before.filter == filter {
                        before.possible_until.get_or_insert(tick);
                    }
                }
            }
            Packet::UnsubAck(unsuback) => {
                let asked = client.link.asked.remove(&unsuback.packet_id);
                let Some(Asked::Unsubscribe(ended)) = asked else {
                    panic!("an UNSUBACK for {asked:?}")
                };
                for place in ended {
                    let subscription = &mut client.subscriptions[place];
                    subscription.possible_until.get_or_insert(tick);
                }
            }
            Packet::PingResp => client.link.pings -= 1,
            other => panic!("{at} got {other:?}"),
        }
    }

    fn got_publish(&mut self, at: usize, publish: &Publish) {
        let topic = self.clients[at].topic_of(publish);
        let text = std::str::from_utf8(&publish.payload).unwrap().trim();
        let number = if text.is_empty() {
            // Cleared: which message that was cannot be told.
            assert!(topic.starts_with("k/"));
            usize::MAX
        } else {
            text.parse().unwrap()
        };
        let is_new = self.clients[at].take(publish, number);
        if number == usize::MAX || !is_new {
            return;
        }
        let arrival = Arrival {
            message: number,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            ids: publish
                .properties
                .as_deref()
                .map(|properties| {
                    let ids = properties.subscription_identifiers.iter();
                    ids.map(|id| id.get()).collect()
                })
                .unwrap_or_default(),
            incarnation: self.clients[at].incarnation,
        };
        assert_eq!(self.messages[number].topic, topic);
        let is_late = self.check_arrival(at, &arrival, publish);
        self.late += u64::from(is_late);
        self.clients[at].arrivals.push(arrival);
    }

    /// The subscriptions that can have brought a message, now that it is here.
    fn reasons(&self, at: usize, message: usize) -> Vec<&Subscription> {
        let (client, sent) = (&self.clients[at], &self.messages[message]);
        let Some(from) = sent.from else {
            panic!("{at} got {message} before it was published: {sent:?}")
        };
        client
            .subscriptions
            .iter()
            .filter(|one| one.incarnation == client.incarnation)
            .filter(|one| one.matches(&sent.topic) && one.possible(from, self.tick))
            .filter(|one| !(one.no_local && sent.publisher == at))
            .collect()
    }

    /// Gives whether it comes late, which only a full queue explains.
    fn check_arrival(&self, at: usize, arrival: &Arrival, publish: &Publish) -> bool {
        let client = &self.clients[at];
        let sent = &self.messages[arrival.message];
        let told = || {
            format!(
                "{at} ({}) got {arrival:?} of {sent:?}\nwith {:?}",
                client.version.protocol_name(),
                client.subscriptions
            )
        };
        assert!(!sent.forbidden, "{}", told());
        let reasons = self.reasons(at, arrival.message);
        assert!(!reasons.is_empty(), "unasked: {}", told());
        // [MQTT-3.8.4-8]
        let most = reasons.iter().map(|one| one.qos).max().unwrap();
        assert!(arrival.qos <= most.min(sent.qos), "QoS: {}", told());
        // [MQTT-3.3.4-3]
        let ids: BTreeSet<u32> = reasons.iter().filter_map(|one| one.id).collect();
        assert!(
            arrival.ids.iter().all(|id| ids.contains(id)),
            "identifiers: {}",
            told()
        );
        if reasons.iter().all(|one| one.id.is_some()) {
            assert!(
                !arrival.ids.is_empty() || !client.version.is_v5(),
                "{}",
                told()
            );
        }
        // [MQTT-3.3.1-12]
        let may_retain = sent.kind == Kind::Kept;
        assert!(!arrival.retain || may_retain, "RETAIN: {}", told());
        if let Some(expires_at) = sent.expires_at
            && !arrival.dup
        {
            // [MQTT-3.3.2-5]
            assert!(client.begun_at < expires_at, "expired: {}", told());
        }
        let left = publish
            .properties
            .as_deref()
            .and_then(|properties| properties.message_expiry_interval_s);
        if client.version.is_v5() {
            // [MQTT-3.3.2-6]
            assert!(left <= sent.expiry_s, "expiry: {}", told());
            assert_eq!(left.is_some(), sent.expiry_s.is_some(), "{}", told());
        }
        sent.kind != Kind::Kept && self.check_first(at, arrival, &told)
    }

    /// Once, or again for a reason; and first arrivals in order. Gives whether it comes late.
    fn check_first(&self, at: usize, arrival: &Arrival, told: &dyn Fn() -> String) -> bool {
        let client = &self.clients[at];
        let sent = &self.messages[arrival.message];
        let before = || {
            let same = |one: &&Arrival| one.incarnation == arrival.incarnation;
            client.arrivals.iter().filter(same)
        };
        if before().any(|one| one.message == arrival.message) {
            let sent_twice = sent.qos == QoS::AtLeastOnce && sent.repeated;
            let delivered_twice = arrival.qos == QoS::AtLeastOnce && arrival.dup;
            assert!(sent_twice || delivered_twice, "doubled: {}", told());
            return false;
        }
        let mut is_late = false;
        if sent.kind == Kind::Live && (!sent.repeated || self.keeps_its_place(at, arrival.message))
        {
            // [MQTT-4.6.0-5] [MQTT-4.6.0-6]
            let later = before().find(|one| {
                let other = &self.messages[one.message];
                one.message > arrival.message
                    && one.qos == arrival.qos
                    && (other.publisher, &other.topic, other.qos)
                        == (sent.publisher, &sent.topic, sent.qos)
            });
            is_late = later.is_some();
            // A full queue may refuse what comes first and have room for what comes next; then it takes the first again.
            let taken_twice = sent.repeated && sent.qos == QoS::AtLeastOnce;
            let refused_first = taken_twice && self.late < self.dropped();
            assert!(!is_late || refused_first, "after {later:?}: {}", told());
        }
        if sent.kind == Kind::Shared && arrival.qos == QoS::ExactlyOnce {
            // [MQTT-4.8.2-5]
            let other = self
                .clients
                .iter()
                .flat_map(|client| &client.arrivals)
                .find(|one| one.message == arrival.message);
            assert!(other.is_none(), "also {other:?}: {}", told());
        }
        is_late
    }

    /// Whether a message that was sent again comes to a client where it was sent first. The order is that in which the
    /// broker received messages `[MQTT-4.6.0-5]`, and what it receives again at QoS 1 is a new message to it
    /// `[MQTT-4.3.2-5]`: so only if the session has kept what was received first, if its queue was not full.
    fn keeps_its_place(&self, at: usize, message: usize) -> bool {
        let (client, sent) = (&self.clients[at], &self.messages[message]);
        let too_large = sent.large && client.was_limited;
        let from = sent.from.unwrap_or(0);
        // What goes out at QoS 0 can be lost on its way.
        let keeps = |one: &&Subscription| one.qos > QoS::AtMostOnce && one.certain(from, self.tick);
        sent.expiry_s.is_none() && !too_large && self.reasons(at, message).iter().any(keeps)
    }

    /// Everyone is there and has read everything.
    pub(super) fn check(&mut self) {
        for (at, client) in self.clients.iter().enumerate() {
            assert!(
                client.unacknowledged.is_empty(),
                "the broker owes {at} acknowledgements"
            );
            assert!(client.link.asked.is_empty(), "the broker owes {at} answers");
            assert_eq!(client.link.pings, 0, "the broker owes {at} PINGRESP");
            // [MQTT-3.1.2-25] Also for what has become too large to be sent again.
            assert!(
                client.held.is_empty(),
                "the broker owes {at} PUBREL for {:?}",
                client.held
            );
        }
        self.net.broker.each_session(|handle| {
            let mut slot = handle.lock();
            let session = &mut slot.session;
            let who = &handle.client_id;
            assert_eq!(session.in_flight_len(), 0, "identifiers leak at {who}");
            assert_eq!(session.queued_len(), 0, "messages are left at {who}");
            assert_eq!(session.queued_bytes(), 0);
            assert!(
                session.received().is_empty(),
                "received identifiers leak at {who}"
            );
            assert!(!session.has_backlog());
            assert!(session.outbox().is_empty());
        });
        let mut missing: u64 = 0;
        let arrived: Vec<_> = self.clients.iter().map(super::Client::arrived).collect();
        let mut of_all = BTreeSet::new();
        for client in &self.clients {
            of_all.extend(client.arrivals.iter().map(|arrival| arrival.message));
        }
        for (number, sent) in self.messages.iter().enumerate() {
            let Some((from, until)) = sent.taken() else {
                continue;
            };
            if sent.qos == QoS::AtMostOnce || sent.expiry_s.is_some() {
                continue;
            }
            match sent.kind {
                Kind::Kept => {}
                Kind::Shared => {
                    let limited = self.clients.iter().any(|client| client.was_limited);
                    let settled =
                        sent.qos.min(self.share_qos) == QoS::AtLeastOnce || !self.member_ended;
                    let must = settled && !(sent.large && limited);
                    if must && !of_all.contains(&number) {
                        missing += 1;
                        assert!(self.tight, "nobody of the group got {number}: {sent:?}");
                    }
                }
                Kind::Live | Kind::Delayed | Kind::Will => {
                    for (at, client) in self.clients.iter().enumerate() {
                        let wants = |one: &&Subscription| {
                            one.incarnation == client.incarnation
                                && one.matches(&sent.topic)
                                && one.certain(from, until)
                                && one.qos > QoS::AtMostOnce
                                && !(one.no_local && sent.publisher == at)
                        };
                        let Some(one) = client.subscriptions.iter().find(wants) else {
                            continue;
                        };
                        let too_large = sent.large && client.was_limited;
                        if !too_large && !arrived[at].contains(&number) {
                            missing += 1;
                            assert!(self.tight, "{at} never got {number}: {sent:?} of {one:?}");
                        }
                    }
                }
            }
        }
        let (late, dropped) = (self.late, self.dropped());
        assert!(
            missing + late <= dropped,
            "{missing} are missing, {late} came late, {dropped} were dropped"
        );
        self.check_retained();
    }

    /// A newcomer gets exactly what is retained.
    fn check_retained(&mut self) {
        let judge = super::Client::new("judge", weir_mqtt::ProtocolVersion::V5);
        self.clients.push(judge);
        let at = self.clients.len() - 1;
        self.connect(at, &Hello::lasting());
        self.tick += 1;
        self.ask_to_subscribe(at, "k/+", QoS::ExactlyOnce, false, false, None);
        self.exchange();
        let mut got = BTreeMap::new();
        for arrival in &self.clients[at].arrivals {
            assert!(arrival.retain, "[MQTT-3.3.1-8]");
            let topic = self.messages[arrival.message].topic.clone();
            let before = got.insert(topic, arrival.message);
            assert_eq!(before, None, "two retained messages of one topic");
        }
        for publisher in 0..at {
            let topic = format!("k/{publisher}");
            // What can have been the last that the broker took; `None`: nothing was published.
            let mut last = vec![None];
            for (number, sent) in self.messages.iter().enumerate() {
                if sent.topic != topic {
                    continue;
                }
                if sent.taken().is_some() {
                    // Sent again it is taken again at QoS 1, and at QoS 2 only what was before it.
                    let taken_again = |sent: &Sent| {
                        let both = (sent.qos, sent.repeated);
                        both == (QoS::AtLeastOnce, true)
                    };
                    let of_two = sent.qos == QoS::ExactlyOnce;
                    let stays = |before: Option<usize>| {
                        let before = before.map(|before| &self.messages[before]);
                        of_two && before.is_some_and(taken_again)
                    };
                    last.retain(|before| stays(*before));
                }
                last.push(Some(number));
            }
            let gone = |number: usize| {
                let sent = &self.messages[number];
                sent.clears || sent.expiry_s.is_some()
            };
            let may_be_none = last.iter().any(|number| number.is_none_or(gone));
            let mut may_be = last.into_iter().flatten().collect::<Vec<_>>();
            may_be.retain(|number| !gone(*number));
            let all = || {
                let of_topic = self.messages.iter().enumerate();
                let of_topic = of_topic.filter(|(_, sent)| sent.topic == topic);
                format!(
                    "crashes {:?}, of {:#?}",
                    self.crashes,
                    of_topic.collect::<Vec<_>>()
                )
            };
            match got.get(&topic) {
                None => assert!(
                    may_be_none,
                    "nothing is retained for {topic}, not {may_be:?}: {}",
                    all()
                ),
                Some(number) => {
                    assert!(
                        may_be.contains(number),
                        "{topic}: {number}, not {may_be:?}: {}",
                        all()
                    )
                }
            }
        }
    }

    /// Everyone goes for good, and nothing is left.
    pub(super) fn leave(mut self) {
        for at in 0..self.clients.len() {
            self.tick += 1;
            let hello = Hello {
                clean_start: true,
                expiry_s: 0,
                ..Hello::lasting()
            };
            self.connect(at, &hello);
            self.disconnect(at);
        }
        while !self.ghosts.is_empty() {
            self.bury_a_ghost();
        }
        self.idle();
        let broker = Arc::clone(&self.net.broker);
        assert_eq!(self.net.open(), 0, "connections without clients");
        let stats = &broker.stats;
        assert_eq!(stats.connections_size.get(), 0);
        assert_eq!(stats.sessions_connected.get(), 0);
        assert_eq!(stats.sessions.get(), 0);
        assert_eq!(stats.subscriptions.get(), 0);
        assert_eq!(stats.delayed_messages.get(), 0);
        assert!(
            broker.remembers_nothing(),
            "sessions, subscriptions or routes are left"
        );
        if let Some(storage) = &self.storage {
            assert_eq!(
                storage.state().sessions().count(),
                0,
                "the storage keeps sessions"
            );
        }
        let last = Arc::downgrade(&broker);
        drop((broker, self));
        assert!(last.upgrade().is_none(), "something holds the broker");
    }
}
