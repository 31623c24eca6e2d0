//! Where the remote is: addresses as they are written, or as they follow from a preset.

use super::{Check, TlsChoice, codes, preset};

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The name or number of the host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}://{}:{}",
            if self.tls { "mqtts" } else { "mqtt" },
            self.host,
            self.port
        )
    }
}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        let url =
            url::Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
        let tls = match url.scheme() {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" | "tls" => true,
            other => {
                return Err(format!(
                    "`{other}://` is not supported; use mqtt:// or mqtts://"
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
            .ok_or_else(|| format!("`{text}` names no host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            host,
            port: url.port().unwrap_or(if tls { 8883 } else { 1883 }),
            tls,
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
                    format!("`tls = false` and `{text}` contradict each other"),
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

    fn preset_address(&mut self, tls: bool) -> Option<Address> {
        let c = self.config;
        let inputs = c.sign_inputs();
        // Aliyun names its instances in two ways.
        let pattern = match self.preset.name {
            name if name != preset::ALIYUN_IOT.name => self.preset.host,
            _ if c.instance_id.is_some() => Some("{instance_id}.mqtt.iothub.aliyuncs.com"),
            _ => Some("{product_key}.iot-as-mqtt.{region}.aliyuncs.com"),
        };
        let port = if tls {
            Some(self.preset.ports.1)
        } else {
            self.preset.ports.0
        };
        let Some(port) = port else {
            let message = format!("`{}` speaks TLS alone", self.preset.name);
            self.error(codes::BOUND, "tls", message, "remove `tls = false`");
            return None;
        };
        let value = |key: &str| match inputs.shown(key) {
            None if key == "region" && self.preset.name == preset::BAIDU_IOTCORE.name => {
                Some("gz".to_owned())
            }
            value => value,
        };
        if let Some(host) = pattern.and_then(|pattern| preset::fill(pattern, value)) {
            return Some(Address { host, port, tls });
        }
        let (key, message, help) = match (self.preset.name, pattern) {
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
