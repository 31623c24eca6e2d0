//! A weir with every kind of listener.

use crate::WEIR;
use weir_test_support::{Authority, Site, Weir};

/// A running weir, its files, and the CA of its certificates.
pub(crate) struct Scene {
    pub(crate) site: Site,
    pub(crate) weir: Weir,
    pub(crate) authority: Authority,
}

impl Scene {
    /// Listens over TCP, TLS, TLS with certificates of clients, WebSocket with and without TLS, a unix socket, and for
    /// WebSocket on the HTTP port.
    pub(crate) async fn start() -> Self {
        let (site, authority) = (Site::new(), Authority::new());
        authority.server("server", &["localhost", "127.0.0.1"]);
        authority.client("gw", "gw-01", 1);
        let tls = format!(
            "bind = \"127.0.0.1:0\"\ncert = \"{}\"\nkey = \"{}\"\n",
            authority.text("server.pem"),
            authority.text("server.key")
        );
        let config = format!(
            "http.bind = \"127.0.0.1:0\"\nhttp.mqtt_path = \"/mqtt\"\n\
             [[listeners]]\nbind = \"127.0.0.1:0\"\n\
             [[listeners]]\nkind = \"tls\"\n{tls}\
             [[listeners]]\nname = \"two-way\"\nkind = \"tls\"\n{tls}client_auth = \"require\"\nclient_ca = \"{}\"\nidentity = \"cn\"\n\
             [[listeners]]\nkind = \"ws\"\nbind = \"127.0.0.1:0\"\n\
             [[listeners]]\nkind = \"wss\"\n{tls}\
             [[listeners]]\nkind = \"unix\"\nbind = \"./mqtt.sock\"\n",
            authority.text("ca.pem")
        );
        site.write("weir.toml", &config);
        let weir = site.start(WEIR).await;
        Self {
            site,
            weir,
            authority,
        }
    }

    /// The port after a word of the banner.
    pub(crate) fn port(&self, word: &str) -> u16 {
        self.weir.ports(word)[0]
    }

    /// A URL for each transport, and whether a client must know the CA.
    pub(crate) fn urls(&self) -> [(String, bool); 5] {
        [
            (format!("mqtt://127.0.0.1:{}", self.port("mqtt")), false),
            (format!("mqtts://localhost:{}", self.port("mqtts")), true),
            (format!("ws://127.0.0.1:{}/mqtt", self.port("ws")), false),
            (format!("wss://localhost:{}/mqtt", self.port("wss")), true),
            (
                format!("ws://127.0.0.1:{}/mqtt", self.weir.http_port()),
                false,
            ),
        ]
    }
}
