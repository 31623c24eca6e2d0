//! Options that only some bridges have a use for.

use std::time::Duration;

use super::{BridgePlan, Check, ConfigError, Moment, Protocol, TlsChoice, codes};
use crate::bridge::start::Start;
use crate::config::connector::StartMode;

/// As in mosquitto.
const THRESHOLD: u32 = 10;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

impl Check<'_> {
    /// An option that would do nothing, or harm, is a mistake: somebody counts on it.
    pub(super) fn options(&mut self) {
        let c = self.config;
        if c.echo_guard == Some(true) {
            self.for_in_of_v311(
                "echo_guard",
                "in MQTT 5 the remote sends nothing back (No Local)",
                "a remote that knows it sends nothing back, and the guard would take messages of others for echoes",
            );
        }
        if c.dedupe_retained == Some(true) {
            self.for_in_of_v311(
                "dedupe_retained",
                "in MQTT 5 the remote sends retained messages to new subscriptions alone",
                "with it the flag comes with messages that are just published, too: equal ones would be lost",
            );
        }
        if c.initial_retained == Some(true) && c.out.is_empty() {
            self.error(
                codes::BRIDGE,
                "initial_retained",
                "`initial_retained` belongs to `out`, and there is none",
                "remove the key",
            );
        }
    }

    /// When the link is made.
    pub(super) fn start(&mut self) -> Start {
        let c = self.config;
        let mode = c.start.unwrap_or_default();
        let given = [
            ("threshold", c.threshold.is_some()),
            ("idle_timeout", c.idle_timeout.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            if mode != StartMode::Lazy {
                let message = format!("`{key}` is for `start = \"lazy\"`");
                let help = "remove the key, or let the bridge be lazy";
                self.error(codes::START, key, message, help);
            }
        }
        match mode {
            StartMode::Automatic => Start::Automatic,
            StartMode::Once => Start::Once,
            StartMode::Manual => Start::Manual,
            StartMode::Lazy => self.lazy(),
        }
    }

    fn lazy(&mut self) -> Start {
        let c = self.config;
        if !c.inbound.is_empty() {
            let message = "a lazy bridge has no link most of the time, and nothing comes in then";
            let help = "take `start` away, or let a second connector have the `in`";
            self.error(codes::START, "start", message, help);
        }
        let threshold = c.threshold.unwrap_or(THRESHOLD);
        if threshold == 0 {
            let help = "1 makes the link for the first message";
            self.error(codes::BAD_VALUE, "threshold", "nothing is no message", help);
        }
        let idle_timeout = c.idle_timeout.map_or(IDLE_TIMEOUT, |span| span.0);
        if idle_timeout < Duration::from_secs(1) {
            let message = "the link would end between two messages";
            self.error(codes::BAD_VALUE, "idle_timeout", message, "use at least 1s");
        }
        let drops_qos0 = c.queue.as_ref().and_then(|queue| queue.store_qos0) == Some(false);
        if drops_qos0 {
            let message =
                "messages of QoS 0 are dropped while the link is down, and wake no lazy bridge";
            let help = "let them wait, or connect for good";
            let warning = ConfigError::new("W4111", "queue.store_qos0", message).help(help);
            self.warnings.push(warning);
        }
        Start::Lazy {
            threshold: usize::try_from(threshold).unwrap_or(usize::MAX),
            idle_timeout,
        }
    }

    /// What no handshake of TLS can carry.
    pub(super) fn tls(&mut self) {
        if let Some(TlsChoice::Settings(tls)) = &self.config.tls {
            self.errors.extend(tls.mistakes());
        }
    }

    /// A cloud that tells its services on one port apart by ALPN does not take another name.
    pub(super) fn alpn(&mut self, plan: &BridgePlan) {
        if plan.tls.alpn.is_empty() {
            return;
        }
        // A time at which everything can be signed.
        let at = Moment {
            now_ms: 1_700_000_000_000,
            random: 0,
        };
        for address in &plan.addresses {
            if let Ok(creds) = plan.credentials.sign_for(address, at)
                && let Some(Some(wanted)) = creds.alpn
                && address.web_socket.is_none()
                && !plan.tls.alpn.contains(&wanted)
            {
                let message = format!("{address} wants `{wanted}` to be named; leave the key out");
                self.warn("tls.alpn", &message);
            }
        }
    }

    fn for_in_of_v311(&mut self, key: &str, in_v5: &str, with_flag: &str) {
        let c = self.config;
        let (message, help) = if c.protocol == Some(Protocol::V5) {
            (
                format!("`{key}` is for MQTT 3.1.1, and `protocol` is \"5\""),
                format!("remove the key: {in_v5}"),
            )
        } else if c.inbound.is_empty() {
            (
                format!("`{key}` belongs to `in`, and there is none"),
                "remove the key".to_owned(),
            )
        } else if c.bridge_flag == Some(true) {
            (
                format!("`{key}` and `bridge_flag` exclude each other"),
                format!("remove one of the two: {with_flag}"),
            )
        } else {
            return;
        };
        self.error(codes::BRIDGE, key, message, &help);
    }
}
