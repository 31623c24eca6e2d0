//! Where a remote broker is, and what carries MQTT there.

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
pub(super) const WEB_SOCKET_PATH: &str = "/mqtt";

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match (&self.web_socket, self.tls) {
            (None, false) => "mqtt",
            (None, true) => "mqtts",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        let path = self.web_socket.as_deref().unwrap_or_default();
        write!(f, "{scheme}://{}:{}{path}", self.host, self.port)
    }
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url =
            url::Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
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
            .ok_or_else(|| format!("`{text}` names no host"))?;
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
            ("wss://h:8084/broker?a=b", "wss://h:8084/broker?a=b"),
        ] {
            assert_eq!(Address::parse(given).unwrap().to_string(), used);
        }
        for wrong in ["h:1883", "http://h", "mqtt://", "ws://u:p@h"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
