//! Where the remote is: addresses as they are written, or as they follow from a preset.

use super::{BridgeConfig, BridgePlan, Check, Preset, TlsChoice, codes, preset};

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The name or number of the host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub tls: bool,
    /// The path and query of a WebSocket; `None` where MQTT is spoken without one.
    pub web_socket: Option<String>,
}

/// The path of a WebSocket unless the address has one.
const WEB_SOCKET_PATH: &str = "/mqtt";

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match (&self.web_socket, self.tls) {
            (None, false) => "mqtt",
            (None, true) => "mqtts",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        let path = self.path().unwrap_or_default();
        write!(f, "{scheme}://{}:{}{path}", self.host, self.port)
    }
}

fn without_query(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

/// What was given, without what may be secret in it.
fn shown(text: &str) -> String {
    let text = without_query(text);
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://…@{host}")
        }
        None => text.to_owned(),
    }
}

impl Address {
    /// The path of its WebSocket, where it is one. A query may hold a token, and is left out.
    pub fn path(&self) -> Option<&str> {
        self.web_socket.as_deref().map(without_query)
    }

    /// Reads an address as it is written; why it is none does not repeat what may be a secret in it.
    pub(in crate::bridge) fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text)
            .map_err(|error| format!("`{}` is no address: {error}", shown(text)))?;
        let (tls, is_web_socket, port) = match url.scheme() {
            "mqtt" | "tcp" => (false, false, 1883),
            "mqtts" | "ssl" | "tls" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            other => {
                return Err(format!(
                    "`{other}://` is not supported; use mqtt://, mqtts://, ws:// or wss://"
                ));
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "user and password belong to `username` and `password`, not into the address"
                    .into(),
            );
        }
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| format!("`{}` names no host", shown(text)))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let path = match (url.path(), url.query()) {
            ("" | "/", None) => WEB_SOCKET_PATH.to_owned(),
            (path, None) => path.to_owned(),
            (path, Some(query)) => format!("{path}?{query}"),
        };
        Ok(Self {
            host,
            port: url.port().unwrap_or(port),
            tls,
            web_socket: is_web_socket.then_some(path),
        })
    }
}

impl Check<'_> {
    pub(super) fn addresses(&mut self) -> Vec<Address> {
        let c = self.config;
        let no_tls = c.tls == Some(TlsChoice::Switch(false));
        if c.addresses.is_empty() {
            return self.preset_address(!no_tls).into_iter().collect();
        }
        let mut addresses = Vec::new();
        for text in &c.addresses {
            match Address::parse(text) {
                Ok(address) if address.tls && no_tls => self.error(
                    codes::BRIDGE,
                    "tls",
                    format!("`tls = false` and `{}` contradict each other", shown(text)),
                    "write mqtt:// for plain TCP",
                ),
                Ok(address) => addresses.push(address),
                Err(message) => self.error(
                    codes::BRIDGE,
                    "addresses",
                    message,
                    "`addresses = [\"mqtts://host:8883\"]`",
                ),
            }
        }
        if addresses.iter().any(|address| address.tls)
            && addresses.iter().any(|address| !address.tls)
        {
            self.error(
                codes::BRIDGE,
                "addresses",
                "addresses with and without TLS are mixed",
                "credentials would cross the network in the open after a failover",
            );
        }
        addresses
    }

    /// Whether a certificate signs in and no secret.
    fn shows_certificate(&self) -> bool {
        let c = self.config;
        let has_certificate =
            matches!(&c.tls, Some(TlsChoice::Settings(settings)) if settings.cert.is_some());
        has_certificate && c.device_secret.is_none() && c.device_token.is_none()
    }

    fn preset_address(&mut self, tls: bool) -> Option<Address> {
        let c = self.config;
        let inputs = c.sign_inputs();
        let shows_certificate = self.shows_certificate();
        if self.preset.name == preset::ALIYUN_IOT.name
            && shows_certificate
            && (c.region.as_deref()).is_some_and(|region| region != "cn-shanghai")
        {
            let message = "Aliyun takes certificates in cn-shanghai alone";
            self.error(codes::BOUND, "region", message, "give `device_secret`");
        }
        let pattern = Pattern::of(&self.preset, |key| inputs.has(key), shows_certificate, tls);
        let Some(port) = pattern.port else {
            let message = format!("`{}` speaks TLS alone", self.preset.name);
            self.error(codes::BOUND, "tls", message, "remove `tls = false`");
            return None;
        };
        if let Some(address) = pattern.address(&self.preset, port, |key| inputs.shown(key)) {
            return Some(address);
        }
        let (key, message, help) = match (self.preset.name, pattern.host) {
            ("plain", _) => (
                "addresses",
                "a bridge needs an address",
                "`addresses = [\"mqtts://host:8883\"]`".to_owned(),
            ),
            (_, None) => (
                "addresses",
                "the cloud's address is not known",
                "copy it from the console: `addresses = [\"mqtts://host:8883\"]`".to_owned(),
            ),
            (name, Some(_)) if name == preset::ALIYUN_IOT.name => (
                "region",
                "the cloud's address is not known",
                "give `region`, `instance_id` or `addresses`".to_owned(),
            ),
            (_, Some(pattern)) => (
                "addresses",
                "the cloud's address is not known",
                format!("give `addresses`, or what makes it: {pattern}"),
            ),
        };
        self.error(codes::KEY_MISSING, key, message, &help);
        None
    }
}

/// Where a preset's cloud is, as far as it follows from what it signs with.
pub(in crate::bridge) struct Pattern {
    /// With `{key}` places; `None` where only the console knows it.
    host: Option<&'static str>,
    /// `None` where plain TCP is asked for and not spoken.
    pub(in crate::bridge) port: Option<u16>,
    tls: bool,
    in_web_socket: bool,
}

impl Pattern {
    /// `has` tells which keys are given.
    pub(in crate::bridge) fn of(
        preset: &Preset,
        has: impl Fn(&str) -> bool,
        shows_certificate: bool,
        tls: bool,
    ) -> Self {
        // Aliyun names its instances in two ways, and takes certificates at one place.
        let host = match preset.name {
            name if name != preset::ALIYUN_IOT.name => preset.host,
            _ if shows_certificate => Some("x509.itls.cn-shanghai.aliyuncs.com"),
            _ if has("instance_id") => Some("{instance_id}.mqtt.iothub.aliyuncs.com"),
            _ => Some("{product_key}.iot-as-mqtt.{region}.aliyuncs.com"),
        };
        // AWS: signed addresses are of WebSockets, and authorizers are asked there alone.
        let is_aws = preset.name == preset::AWS_IOT.name;
        let in_web_socket = is_aws && has("access_key_id");
        let port = match tls {
            true if in_web_socket || (is_aws && has("authorizer")) => Some(443),
            true => Some(preset.ports.1),
            false => preset.ports.0,
        };
        Self {
            host,
            port,
            tls,
            in_web_socket,
        }
    }

    /// The address; `None` where something is missing that the host is made of.
    pub(in crate::bridge) fn address(
        &self,
        preset: &Preset,
        port: u16,
        shown: impl Fn(&str) -> Option<String>,
    ) -> Option<Address> {
        let value = |key: &str| match shown(key) {
            None if key == "region" && preset.name == preset::BAIDU_IOTCORE.name => {
                Some("gz".to_owned())
            }
            value => value,
        };
        Some(Address {
            host: preset::fill(self.host?, value)?,
            port,
            tls: self.tls,
            web_socket: self.in_web_socket.then(|| WEB_SOCKET_PATH.to_owned()),
        })
    }
}

impl BridgeConfig {
    /// What its remotes know it by: where, and which device or client it is there. Empty where that cannot be said. A
    /// cloud is one broker on all of its ports.
    pub fn remote_clients(&self) -> Vec<String> {
        let Ok((plan, _)) = BridgePlan::check(self) else {
            return Vec::new();
        };
        let identity = plan.credentials.identity();
        if identity.is_empty() {
            return Vec::new();
        }
        let is_cloud = ![preset::PLAIN.name, preset::THINGSBOARD.name].contains(&plan.preset.name);
        let client = |address: &Address| {
            let host = address.host.to_ascii_lowercase();
            if is_cloud {
                format!("{identity} at {host}")
            } else {
                format!("{identity} at {host}:{}", address.port)
            }
        };
        let clients: std::collections::BTreeSet<_> = plan.addresses.iter().map(client).collect();
        clients.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_used() {
        for (given, used) in [
            ("mqtt://h", "mqtt://h:1883"),
            ("ssl://h", "mqtts://h:8883"),
            ("ws://h", "ws://h:80/mqtt"),
            ("wss://h/", "wss://h:443/mqtt"),
            ("wss://h:8084/broker?token=hunter2", "wss://h:8084/broker"),
        ] {
            assert_eq!(Address::parse(given).unwrap().to_string(), used);
        }
        for wrong in ["h:1883", "http://h", "mqtt://", "ws://u:p@h"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_used_and_not_shown() {
        let address = Address::parse("wss://h/mqtt?token=hunter2").unwrap();
        assert_eq!(address.web_socket.unwrap(), "/mqtt?token=hunter2");
        for wrong in [
            "h?token=hunter2",
            "ws://?token=hunter2",
            "ws://h:port/#hunter2",
            "ws://u:hunter2@h:port/",
            "ws://u:hunter2@h/",
            "http://h/?token=hunter2",
        ] {
            let message = Address::parse(wrong).unwrap_err();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
