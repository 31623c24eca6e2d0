//! Tokens of Aliyun MQ on a link that is up (cloud-bridges §3): what the cloud says of their end, and new ones that are
//! shown to it without a new link.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};
use weir_mqtt::{PacketId, PubAck, Publish, QoS, Utf8};
use zeroize::Zeroizing;

use super::renewal::Ending;
use super::{Link, Times};
use crate::bridge::client::{Failure, Refusal};
use crate::bridge::link::{Asked, Inner};
use crate::bridge::plan::BridgePlan;
use crate::bridge::reconnect::Loss;
use crate::bridge::signer::ConnectCreds;
use crate::error::SinkError;
use crate::{codes, now_ms};

const PROVIDER: &str = "aliyun_mq_token";
const UPLOAD: &str = "$SYS/uploadToken";
const EXPIRES: &str = "$SYS/tokenExpireNotice";
const INVALID: &str = "$SYS/tokenInvalidNotice";

const FORGED: i64 = 1;
const NOT_THE_ACCOUNTS: i64 = -1;

/// A token and its type.
type Token = (String, Zeroizing<String>);

/// The tokens of one link.
pub(super) struct Tokens {
    /// What the cloud has been shown.
    shown: Vec<Token>,
    /// What it is being shown now, and under which packet id.
    under_way: Option<(PacketId, Token)>,
    /// What it is shown after that.
    next: VecDeque<Token>,
}

impl Tokens {
    /// Those that a link was made with; `None` where it was made with something else.
    pub(super) fn of(plan: &BridgePlan, creds: &ConnectCreds) -> Option<Self> {
        (plan.credentials.provider.name == PROVIDER).then(|| Self {
            shown: pairs(creds),
            under_way: None,
            next: VecDeque::new(),
        })
    }

    /// Those of `fresh` that the cloud has not been shown; `None` where they are of other types.
    fn unknown(&self, fresh: Vec<Token>) -> Option<VecDeque<Token>> {
        let kinds = |tokens: &[Token]| {
            let mut kinds: Vec<_> = tokens.iter().map(|(kind, _)| kind.clone()).collect();
            kinds.sort();
            kinds
        };
        if kinds(&fresh) != kinds(&self.shown) {
            return None;
        }
        let is_new = |token: &Token| !self.shown.contains(token);
        Some(fresh.into_iter().filter(is_new).collect())
    }
}

impl Tokens {
    /// Those that a notice speaks of. One that is being shown now is new: it is the one that can be forged, or not the
    /// account's; that it is for other topics or another type holds for this link alone.
    fn meant_by(&self, code: i64) -> Vec<Token> {
        let mut tokens = self.shown.clone();
        if [FORGED, NOT_THE_ACCOUNTS].contains(&code)
            && let Some((_, under_way)) = &self.under_way
        {
            let new: Vec<_> = std::iter::once(under_way).chain(&self.next).collect();
            tokens.retain(|(kind, _)| new.iter().all(|(other, _)| other != kind));
            tokens.extend(new.into_iter().cloned());
        }
        tokens
    }
}

/// `type|token` pairs of a password.
fn pairs(creds: &ConnectCreds) -> Vec<Token> {
    let password = creds.password.as_deref().map_or("", String::as_str);
    let parts: Vec<&str> = password.split('|').collect();
    let pair = |pair: &[&str]| match *pair {
        [kind, token] => Some((kind.to_owned(), Zeroizing::new(token.to_owned()))),
        _ => None,
    };
    parts.chunks(2).filter_map(pair).collect()
}

/// The same text for the same tokens.
fn in_order(mut tokens: Vec<Token>) -> Zeroizing<String> {
    // Each type is there once.
    tokens.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut text = Zeroizing::new(String::new());
    for (kind, token) in &tokens {
        for part in [kind, &**token] {
            text.push_str(part);
            text.push('|');
        }
    }
    text
}

/// What the number in a notice means, and whether the same token is worth another CONNECT.
fn meaning(code: i64) -> (&'static str, bool) {
    match code {
        FORGED => ("it is forged", false),
        2 => ("it has expired", true),
        3 => ("it was revoked", false),
        4 => ("it is for other topics", false),
        5 => ("it is for another type", false),
        8 => ("its signature is wrong", true),
        NOT_THE_ACCOUNTS => ("the account may not", false),
        _ => ("for a reason that is not known here", true),
    }
}

/// Why a link is not even tried: the cloud has said of these credentials that they are over for good.
pub(super) fn barred(inner: &Inner, creds: &ConnectCreds) -> Option<Failure> {
    let mut barred = inner.barred.lock();
    let before = barred.as_ref()?;
    if in_order(pairs(creds)) == *before {
        let message =
            "the cloud has said that a token is not good, and its source has no other yet";
        return Some(Failure {
            loss: Loss::Barred,
            ..dismissed(message.to_owned())
        });
    }
    *barred = None;
    None
}

/// The cloud has said why the link ends: it is not that something else uses the identity.
fn dismissed(message: String) -> Failure {
    Failure {
        loss: Loss::Dismissed,
        ..Failure::network(SinkError::new(codes::TOKEN, message))
    }
}

impl Link {
    /// Whether this is what the cloud says of tokens and no message; then it is heard here.
    pub(super) fn hears_of_tokens(
        &mut self,
        publish: &Publish,
        times: &mut Times,
    ) -> Result<bool, Failure> {
        if self.tokens.is_none() {
            return Ok(false);
        }
        match publish.topic.as_str() {
            EXPIRES => {
                tracing::info!(connector = %self.inner.health.name(), "the cloud says that a token ends soon");
                self.look_for_others(times, &publish.payload);
            }
            INVALID => return Err(self.is_over(&publish.payload)),
            _ => return Ok(false),
        }
        self.goes_nowhere(publish);
        Ok(true)
    }

    /// Others are looked for at once.
    fn look_for_others(&self, times: &mut Times, payload: &[u8]) {
        let notice: Value = serde_json::from_slice(payload).unwrap_or_default();
        let ends_ms = notice["expireTime"].as_i64();
        let place = self.place;
        let ending = times.ending.get_or_insert_with(|| {
            // How much time there is at this notice, as the cloud's documents have it.
            let ends_ms = ends_ms.unwrap_or_else(|| now_ms().saturating_add(300_000));
            Ending::at(ends_ms, place)
        });
        ending.look_now();
    }

    fn is_over(&self, payload: &[u8]) -> Failure {
        let notice: Value = serde_json::from_slice(payload).unwrap_or_default();
        let code = notice["code"].as_i64().unwrap_or_default();
        let (why, again) = meaning(code);
        if !again && let Some(tokens) = &self.tokens {
            *self.inner.barred.lock() = Some(in_order(tokens.meant_by(code)));
        }
        let message = format!("the cloud says that a token is not good any more: {why} ({code})");
        dismissed(message)
    }

    /// Shows the cloud those tokens of `creds` that it has not seen. `None` where the link has to be made anew for them, or
    /// was made with something else; else how many there are.
    pub(super) fn show_others_of(&mut self, creds: &ConnectCreds) -> Option<usize> {
        let tokens = self.tokens.as_mut()?;
        let unknown = tokens.unknown(pairs(creds))?;
        let number = unknown.len();
        if number > 0 {
            tokens.next = unknown;
            self.show_next();
        }
        Some(number)
    }

    /// Nothing else leaves until the cloud has taken the token.
    fn show_next(&mut self) {
        let Some(tokens) = &mut self.tokens else {
            return;
        };
        let next = tokens.next.pop_front();
        let Some((kind, token)) = next else {
            self.inner.with_up(|up| up.shows_token(false));
            return;
        };
        let payload = json!({"token": *token, "type": kind}).to_string();
        let under_way = self.inner.with_up(|up| {
            up.shows_token(true);
            let id = up.ask_id(Asked::Token);
            let publish = Publish {
                qos: QoS::AtLeastOnce,
                packet_id: Some(id),
                ..Publish::new(Utf8::from(UPLOAD), Bytes::from(payload))
            };
            up.append(|version, out| publish.encode(version, out));
            id
        });
        tokens.under_way = under_way.map(|id| (id, (kind, token)));
    }

    /// Whether this is the answer to a token and to no message.
    pub(super) fn token_is_answered(&mut self, ack: &PubAck) -> Result<bool, Failure> {
        let Some(tokens) = &mut self.tokens else {
            return Ok(false);
        };
        let is_it = |(id, _): &mut (PacketId, Token)| *id == ack.packet_id;
        let Some((id, token)) = tokens.under_way.take_if(is_it) else {
            return Ok(false);
        };
        self.inner.take_asked(id);
        if ack.reason.is_error() {
            let reason = Refusal::of(ack.reason).reason;
            let message = format!("the cloud does not take another token on the link: {reason}");
            return Err(dismissed(message));
        }
        tokens.shown.retain(|(kind, _)| *kind != token.0);
        tokens.shown.push(token);
        if tokens.next.is_empty() {
            tracing::info!(connector = %self.inner.health.name(), "the cloud has taken another token");
        }
        self.show_next();
        Ok(true)
    }

    /// Whether nothing may leave but a token.
    pub(super) fn shows_token(&self) -> bool {
        (self.tokens.as_ref()).is_some_and(|tokens| tokens.under_way.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creds(password: &str) -> ConnectCreds {
        ConnectCreds {
            password: Some(Zeroizing::new(password.to_owned())),
            ..ConnectCreds::default()
        }
    }

    #[test]
    fn what_the_cloud_has_not_been_shown_is_found_by_type_and_token() {
        let tokens = Tokens {
            shown: pairs(&creds("R|123|W|abcd")),
            under_way: None,
            next: VecDeque::new(),
        };
        let unknown = |password: &str| {
            let unknown = tokens.unknown(pairs(&creds(password)))?;
            let shown = unknown
                .iter()
                .map(|(kind, token)| format!("{kind}|{}", **token));
            Some(shown.collect::<Vec<_>>())
        };
        assert_eq!(unknown("W|abcd|R|123"), Some(vec![]));
        assert_eq!(unknown("R|124|W|abcd"), Some(vec!["R|124".to_owned()]));
        // The link was let in for other types.
        assert_eq!(unknown("RW|123"), None);
        assert_eq!(unknown("R|123"), None);
    }

    #[test]
    fn a_token_that_can_only_be_refused_again_is_known() {
        let again = |code| meaning(code).1;
        assert_eq!([1, 3, 4, 5, -1].map(again), [false; 5]);
        assert_eq!([2, 8].map(again), [true; 2]);
    }

    #[test]
    fn a_notice_speaks_of_the_token_that_is_new_where_only_that_can_be_meant() {
        let mut tokens = Tokens {
            shown: pairs(&creds("R|old|W|abcd")),
            under_way: None,
            next: VecDeque::new(),
        };
        let meant = |tokens: &Tokens, code| in_order(tokens.meant_by(code)).to_string();
        assert_eq!(meant(&tokens, FORGED), "R|old|W|abcd|");
        let mut new = pairs(&creds("R|new"));
        tokens.under_way = PacketId::new(1).zip(new.pop());
        assert_eq!(meant(&tokens, FORGED), "R|new|W|abcd|");
        for code in [3, 4, 5] {
            assert_eq!(meant(&tokens, code), "R|old|W|abcd|", "{code}");
        }
    }
}
