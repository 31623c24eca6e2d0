//! From CONNECT to a client that owns its session: limits, credentials, takeover, CONNACK.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_mqtt::properties::PayloadFormat;
use weir_mqtt::{ConnAck, Connect, ReasonCode, Utf8};
use weir_sinks::bridge::Gateway;
use weir_sinks::bridge::home::CLIENTS;

use super::Shared;
use super::access::{Expiry, Review};
use super::client::Client;
use super::events::{self, Caller, ClientInfo};
use super::forgotten::Forgotten;
use super::handle::{ConnectionKey, NEVER, SessionHandle};
use super::ingress::Ingress;
use super::router::{Router, wall_ms};
use super::sign_in::SignIn;
use super::slices::{HasTime, Left, in_slices};
use crate::auth::certificate::PeerCertificate;
use crate::auth::enhanced::Proof;
use crate::auth::{ConnectRequest, Decision, Identity, Subject};
use crate::core::connect::{Admission, Refused, admit};
use crate::core::message::Origin;
use crate::core::session::Session;
use crate::core::will::Will;
use crate::net::transport::Transport;
use crate::stats::CloseReason;
use crate::store::Durability;

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// The client's address; `None` over a unix socket.
    pub(crate) peer: Option<SocketAddr>,
    /// The listener's address; `None` over a unix socket.
    pub(crate) local: Option<SocketAddr>,
    /// The listener's name.
    pub(crate) listener: Arc<str>,
    /// How the bytes are carried.
    pub(crate) transport: Transport,
    /// The certificate that the client has proven to own, when there is one.
    pub(crate) certificate: Option<Arc<PeerCertificate>>,
    /// The user name that the certificate gives, where the listener takes it from there.
    pub(crate) identity: Option<Utf8>,
    /// When CONNECT must be there; handshakes before it count.
    pub(crate) deadline: tokio::time::Instant,
    /// Whether the listener admits clients without credentials.
    pub(crate) allow_anonymous: bool,
    /// What acknowledgements wait for at most.
    pub(crate) durability: Durability,
    /// The bridge that comes in here: it is the broker's own, and is asked for no credentials.
    pub(crate) bridge: Option<Arc<Gateway>>,
}

/// Why a client is not admitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// The reason.
    pub(crate) reason: ReasonCode,
    /// The same for people; empty where the code says it all.
    pub(crate) why: &'static str,
    /// Whether the client is told.
    pub(crate) say: bool,
}

impl From<ReasonCode> for Refusal {
    fn from(reason: ReasonCode) -> Self {
        Self {
            reason,
            why: "",
            say: true,
        }
    }
}

impl From<Refused> for Refusal {
    fn from(Refused { reason, why }: Refused) -> Self {
        Self {
            reason,
            why,
            say: true,
        }
    }
}

impl Shared {
    /// Admits a client, or says why not. `has_time` is asked where its session has very many subscriptions.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        connect: Connect,
        door: Door,
        proof: Option<Proof>,
        has_time: HasTime<'_>,
    ) -> Result<Client, Refusal> {
        let (peer, local) = (door.peer, door.local);
        let admitted = self.examine(&connect, door, proof, has_time).await;
        if let Err(refusal) = &admitted {
            let caller = Caller {
                connect: &connect,
                peer,
                local,
            };
            self.tell_refused(&caller, refusal);
        }
        admitted
    }

    /// Tells the rules, and the log, unless there has just been a line about the same.
    pub(crate) fn tell_refused(self: &Arc<Self>, caller: &Caller<'_>, refusal: &Refusal) {
        let Refusal { reason, why, .. } = refusal;
        let mut router = Router::new(self);
        if router.watch().connack {
            router.observe(events::refused(caller, *reason));
            drop(router.finish(self.clock.now()));
        }
        if let Some(unsaid) = self.refusals.line(self.clock.now(), *reason) {
            let (client_id, reason) = (caller.connect.client_id.as_str(), reason.name());
            tracing::warn!(client_id, peer = ?caller.peer, reason, why, unsaid, "a client is refused");
        }
    }

    /// What is cheap to find out about someone who wants to come in, before anything costly is done for it.
    pub(crate) fn let_in(
        &self,
        connect: &Connect,
        peer: Option<SocketAddr>,
    ) -> Result<(), ReasonCode> {
        let now = self.clock.now();
        let address = peer.map(|peer| peer.ip());
        self.entrance.admits(
            now,
            &connect.client_id,
            connect.username.as_deref(),
            address,
        )
    }

    /// Whether nobody has anything against the client now.
    pub(super) fn welcomes(&self, subject: &Subject) -> Result<(), ReasonCode> {
        self.entrance.welcomes(
            self.clock.now(),
            &subject.client_id,
            subject.username.as_deref(),
            subject.peer.map(|peer| peer.ip()),
        )
    }

    async fn examine(
        self: &Arc<Self>,
        connect: &Connect,
        door: Door,
        proof: Option<Proof>,
        has_time: HasTime<'_>,
    ) -> Result<Client, Refusal> {
        // Before anything that takes its time: who came later is newer.
        let key = self.next_key();
        if proof.is_none() && door.bridge.is_none() {
            self.let_in(connect, door.peer)?;
        }
        let mut admission = admit(connect, &self.connect_limits, || self.assign_client_id())?;
        if door.bridge.is_none() {
            self.identify(connect, &door, &mut admission)?;
        } else {
            // It knows packet identifiers for as long as the remote does, which nobody can tell.
            admission.session_expiry_s = u32::MAX;
        }
        self.check_will_payload(connect)?;
        let response_information = self.response_information(connect, &admission.client_id);
        admission.set_response_information(response_information);
        let identity = match &proof {
            Some(proof) => Ok(proof.identity.clone()),
            None if door.bridge.is_some() => Ok(Identity::default()),
            None => self.authenticate(connect, &admission, &door).await,
        };
        if door.bridge.is_none() {
            self.tell_authenticated(connect, &door, &identity);
        }
        let identity = identity?;
        if door.bridge.is_none() {
            self.identify_user(&identity, &mut admission)?;
            if admission.client_id.starts_with(CLIENTS) {
                let why = "client identifiers that begin with `$bridge/` are those of bridges";
                return Err(Refused::new(ReasonCode::ClientIdentifierNotValid, why).into());
            }
            self.check_device_name(&identity, &admission.client_id)?;
        }
        let sign_in = proof.map(|proof| {
            let method = proof.method();
            admission.set_authentication(method.clone(), proof.data);
            SignIn::new(proof.mechanism, method)
        });
        let subject = Arc::new(Subject {
            client_id: admission.client_id.clone(),
            username: identity.username.as_ref().map(Utf8::detached),
            peer: door.peer,
            listener: Arc::clone(&door.listener),
            certificate: door.certificate.clone(),
            identity: Arc::new(identity),
        });
        if door.bridge.is_none() {
            // The name that was proven may be another than the one that was sent.
            self.welcomes(&subject)?;
        }
        self.check_will(connect, &subject)?;
        self.check_connack(&admission)?;
        let origin = Arc::new(Origin {
            client_id: admission.client_id.clone(),
            username: subject.username.clone(),
            peer: door.peer,
            attributes: events::attributes(&subject.identity),
        });
        let durability = door.durability;
        let Claimed {
            handle,
            resumed,
            forgotten,
        } = self.claim(&admission, connect.clean_start, key).await?;
        let expires_at_s = subject.identity.expires_at_s;
        let expiry = expires_at_s.map(|at_s| Expiry::watch(&handle, key, at_s));
        let mut router = Router::of_session(self, handle.key, Arc::clone(&subject));
        let watch = router.watch();
        let connect_properties = (watch.connected || watch.connack || watch.ping)
            .then(|| events::connect_properties(connect));
        let info = Arc::new(ClientInfo {
            origin: Arc::clone(&origin),
            local: door.local,
            version: connect.version,
            connected_at_ms: wall_ms(),
            clean_start: connect.clean_start,
            connect_properties,
            keep_alive_s: admission.keep_alive_s,
            session_epoch: self.clock.epoch(key),
        });
        // From here on the client's end gives the session back.
        let mut client = Client::new(
            self,
            handle,
            router,
            info,
            subject,
            &admission,
            self.settings.reason_strings
                && connect.version.is_v5()
                && connect.properties.request_problem_information != Some(false),
        );
        client.durability = durability;
        client.ingress = door.bridge.map(|gateway| Box::new(Ingress::new(gateway)));
        client.sign_in = sign_in;
        client.expiry = expiry;
        if let Some(mut forgotten) = forgotten.filter(|some| !some.is_done()) {
            // Who leaves very many filters behind again and again has to wait for them: so there are never more.
            in_slices(has_time, || forgotten.take_out_some()).await;
        }
        let begun = client.begin(connect, &admission, origin, resumed, has_time);
        begun.await?;
        client.watch_tokens(key);
        Ok(client)
    }

    /// The CONNACK of a refusal.
    pub(crate) fn connack_of(&self, refusal: &Refusal) -> ConnAck {
        let (reason, server_reference) = self.refer(refusal.reason);
        let mut connack = ConnAck::refused(reason);
        connack.properties.reason_string = self.in_words(refusal.why);
        connack.properties.server_reference = server_reference;
        connack
    }

    /// A reason string, where the settings want them and there is more to say than the code does.
    pub(crate) fn in_words(&self, why: &'static str) -> Option<Utf8> {
        (self.settings.reason_strings && !why.is_empty()).then(|| Utf8::from(why))
    }

    /// Sends clients elsewhere that this server cannot serve now, if there is an elsewhere.
    pub(crate) fn refer(&self, reason: ReasonCode) -> (ReasonCode, Option<Utf8>) {
        let for_now = matches!(
            reason,
            ReasonCode::ServerShuttingDown | ReasonCode::ServerBusy | ReasonCode::ServerUnavailable
        );
        let reference = self.settings.server_reference.as_deref();
        match reference.and_then(|server| Utf8::new(server).ok()) {
            Some(server) if for_now => (ReasonCode::UseAnotherServer, Some(server)),
            _ => (reason, None),
        }
    }

    /// `[MQTT-3.1.2-24]` A client that cannot be welcomed is turned away before its session is touched.
    fn check_connack(&self, admission: &Admission) -> Result<(), Refusal> {
        let connack = admission.connack(false, &self.connect_limits);
        let mut bytes = Vec::new();
        let encoded = connack.encode(admission.link.version, &mut bytes);
        if encoded.is_ok() && bytes.len() <= admission.link.max_packet_size {
            return Ok(());
        }
        Err(Refusal {
            reason: ReasonCode::PacketTooLarge,
            why: "",
            say: false,
        })
    }

    /// `[MQTT-3.1.2-28]` Only for a client that asked.
    fn response_information(&self, connect: &Connect, client_id: &Utf8) -> Option<Utf8> {
        let template = self.settings.response_information.as_deref()?;
        let asked = connect.properties.request_response_information == Some(true);
        let text = asked.then(|| template.replace("%c", client_id))?;
        Utf8::try_from(text).ok()
    }

    /// What a will claims to be text must be text, as in PUBLISH.
    fn check_will_payload(&self, connect: &Connect) -> Result<(), Refused> {
        let is_wrong = connect.will.as_ref().is_some_and(|will| {
            self.settings.check_payload_format
                && will.properties.payload_format_indicator == Some(PayloadFormat::Utf8)
                && std::str::from_utf8(&will.payload).is_err()
        });
        if is_wrong {
            let why = "the will payload is said to be UTF-8 text and is not";
            return Err(Refused::new(ReasonCode::PayloadFormatInvalid, why));
        }
        Ok(())
    }

    fn failed(&self, reason: ReasonCode) -> ReasonCode {
        self.stats.auth_failures.of(reason.as_u8()).add(1);
        reason
    }

    async fn authenticate(
        &self,
        connect: &Connect,
        admission: &Admission,
        door: &Door,
    ) -> Result<Identity, ReasonCode> {
        if let Some(name) = &door.identity {
            // The handshake has proven who this is: there is no password to ask for.
            return Ok(Identity::user(name.clone()));
        }
        let request = ConnectRequest {
            client_id: admission.client_id.clone(),
            username: connect.username.clone(),
            password: connect.password.clone(),
            peer: door.peer,
            listener: Arc::clone(&door.listener),
            certificate: door.certificate.clone(),
            version: connect.version,
            allow_anonymous: door.allow_anonymous,
            encrypted: door.transport.is_encrypted(),
            keep_alive_s: connect.keep_alive_s,
        };
        // Checking passwords is slow by design: whoever stands too far back in the line is told to come again.
        let answer = self.authenticator.authenticate(&request);
        match tokio::time::timeout(self.settings.connect_timeout, answer).await {
            Err(_) => Err(ReasonCode::ServerBusy),
            Ok(Decision::Allow(identity)) => Ok(identity),
            Ok(Decision::Deny(reason)) => Err(self.failed(reason)),
            Ok(Decision::Ignore) => Err(self.failed(ReasonCode::NotAuthorized)),
        }
    }

    fn tell_authenticated(
        self: &Arc<Self>,
        connect: &Connect,
        door: &Door,
        answer: &Result<Identity, ReasonCode>,
    ) {
        let mut router = Router::new(self);
        if router.watch().authenticated {
            let caller = Caller {
                connect,
                peer: door.peer,
                local: door.local,
            };
            let answer = answer.as_ref().map_err(|reason| *reason);
            router.observe(events::authenticated(&caller, answer));
            drop(router.finish(self.clock.now()));
        }
    }

    /// Makes `key` the owner of the client's session. Whoever owned it has finished before this returns, and so has
    /// whoever wanted it earlier. `[MQTT-3.1.4-3]`
    ///
    /// `[MQTT-3.1.2-4]` A clean start ends the session that there is and makes another with a key of its own: publishers
    /// that found their way before deliver into the ended one.
    async fn claim(
        self: &Arc<Self>,
        admission: &Admission,
        clean_start: bool,
        key: ConnectionKey,
    ) -> Result<Claimed, Refusal> {
        let mut place = self.successions.enter(&admission.client_id, key);
        place.turn().await;
        let mut forgotten = None;
        loop {
            let handle = self.registry.get_or_insert(&admission.client_id, || {
                let id = self.new_session(admission.client_id.clone());
                let session = Session::new(id, self.session_limits);
                SessionHandle::new(
                    self.next_key(),
                    admission.client_id.clone(),
                    session,
                    Arc::clone(&self.stats),
                )
            });
            // Its credentials took longer to check than those of one that came later.
            if handle.lock().owner.is_some_and(|owner| owner > key) {
                return Err(Refusal {
                    reason: ReasonCode::SessionTakenOver,
                    why: "a newer connection uses this client identifier",
                    // [MQTT-3.14.0-1] No DISCONNECT before CONNACK, and none of its codes says this.
                    say: false,
                });
            }
            handle.evict(CloseReason::TakenOver).await;
            if clean_start && handle.lock().begun {
                forgotten = Some(self.discard(&handle));
                continue;
            }
            let mut slot = handle.lock();
            if slot.ended || slot.owner.is_some() || (clean_start && slot.begun) {
                continue;
            }
            slot.owner = Some(key);
            (slot.close, slot.farewell) = (None, None);
            slot.expires_at = NEVER;
            slot.will_at = NEVER;
            let existed = std::mem::replace(&mut slot.begun, true);
            drop(slot);
            if !existed {
                self.stats.sessions.add(1);
            }
            self.stats.sessions_connected.add(1);
            let connected = self.stats.sessions_connected.get();
            self.stats.sessions_connected_most.raise(connected);
            return Ok(Claimed {
                handle,
                resumed: existed,
                forgotten: forgotten.flatten(),
            });
        }
    }

    /// Ends a session that nobody owns; a Will that still waited is due with its end. Gives its filters: they lead to
    /// nobody, and are to leave the index.
    pub(crate) fn discard(self: &Arc<Self>, handle: &Arc<SessionHandle>) -> Option<Forgotten> {
        let now = self.clock.now();
        let mut router = Router::new(self);
        let subject = handle.lock().subject.clone();
        let (will, forgotten) = self.end_session(handle, &mut router, |_| true);
        if let Some(will) = will {
            router.publish_will(now, *will, subject.as_deref());
        }
        drop(router.finish(now));
        forgotten
    }
}

/// A session that a connection owns.
struct Claimed {
    handle: Arc<SessionHandle>,
    /// There was a session, and it goes on.
    resumed: bool,
    /// What the index still has of the one that a clean start has ended.
    forgotten: Option<Forgotten>,
}

impl Client {
    /// Holds the subscriptions against what is in force; nobody waits for another client's very many.
    async fn review(&mut self, has_time: HasTime<'_>) {
        let (shared, handle, subject) = (&self.shared, &self.handle, &self.subject);
        let (mut review, effects) = (Review::default(), &mut self.router.effects);
        let mut some = || shared.review_some(handle, subject, &mut review, effects);
        if some() == Left::Some {
            in_slices(has_time, some).await;
        }
        review.tell(handle);
    }

    /// The session goes on or begins anew, what that means is kept, and the client is welcomed.
    async fn begin(
        &mut self,
        connect: &Connect,
        admission: &Admission,
        origin: Arc<Origin>,
        resumed: bool,
        has_time: HasTime<'_>,
    ) -> Result<(), ReasonCode> {
        self.handle.lock().subject = Some(Arc::clone(&self.subject));
        // Whoever bans it from now on finds it; the wait for the connection before may have been long.
        if self.ingress.is_none() {
            self.shared.welcomes(&self.subject)?;
        }
        {
            let mut slot = self.handle.lock();
            // [MQTT-3.1.3-9] A Will that waited for its delay is not sent: the client is back.
            let will = connect.will.as_ref();
            let will = will.map(|will| Box::new(Will::new(will, origin)));
            let effects = &mut self.router.effects;
            slot.session
                .set_expiry_interval(admission.session_expiry_s, effects);
            slot.session.set_will(will, effects);
        }
        if resumed {
            // What the client was allowed when it subscribed may not be what it is allowed now.
            self.review(has_time).await;
        }
        let now = self.shared.clock.now();
        let ticket = self.router.finish(now).at_most(self.durability);
        let kept = ticket.committed().await;
        kept.map_err(|_| ReasonCode::ServerUnavailable)?;
        {
            let mut slot = self.handle.lock();
            slot.session.attach(admission.link);
            // [MQTT-3.2.0-1] CONNACK stands before everything that publishers deliver from now on.
            let connack = admission.connack(resumed, &self.shared.connect_limits);
            let outbox = slot.session.outbox().control();
            if let Err(error) = connack.encode(admission.link.version, outbox) {
                tracing::error!(%error, "a CONNACK could not be encoded");
            }
        }
        let watch = *self.router.watch();
        if watch.connack {
            self.router.observe(events::welcomed(&self.info, admission));
        }
        if watch.connected {
            self.router
                .observe(events::connected(&self.info, admission));
        }
        self.tell_online();
        if self.ingress.is_none() {
            self.subscribe_by_itself(now);
        }
        self.step_done(now);
        Ok(())
    }
}
