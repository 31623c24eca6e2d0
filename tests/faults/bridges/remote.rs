//! The other side of a bridge: a second weir or a mosquitto, which is killed, cut off and stopped for a while.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use weir_test_support::{
    Answer, Authority, CLOUD_DEVICES, Mosquitto, Site, Webhook, Weir, free_port,
};

use super::kinds::{Kind, Line};
use super::weir_binary;

/// What befalls the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A weir is killed. A mosquitto, which may lose what it has acknowledged when it is killed, is cut off.
    Kill,
    /// It neither reads nor says anything for so long.
    Hang(Duration),
}

/// A broker that can be broken.
pub(super) struct Remote {
    /// Where clients of the test connect.
    pub(super) port: u16,
    authority: Authority,
    broker: Broker,
}

enum Broker {
    Weir {
        site: Site,
        /// Knows the tokens of ThingsBoard.
        _tokens: Webhook,
        /// `None` while it is down.
        weir: Option<Weir>,
        tls_port: u16,
    },
    Mosquitto {
        mosquitto: Mosquitto,
        /// Before its listeners for TLS without and with certificates.
        lines: [Proxy; 2],
    },
}

fn authority() -> Authority {
    let authority = Authority::new();
    authority.server("server", &["localhost"]);
    authority.client("device", "edge-aws", 1);
    authority.revoke(&[]);
    authority
}

impl Remote {
    /// A second weir that lets in every kind.
    pub(super) async fn weir() -> Self {
        Self::cloud("").await
    }

    /// The same, and it holds the devices of each cloud to that cloud's limits.
    pub(super) async fn emulating() -> Self {
        Self::cloud("emulate = true\n").await
    }

    async fn cloud(devices: &str) -> Self {
        let (site, authority) = (Site::new(), authority());
        let tokens = Webhook::start().await;
        tokens.answer_always(Answer::status(200));
        let (port, tls_port) = (free_port(), free_port());
        let config = format!(
            "http.bind = \"127.0.0.1:0\"\ndata_dir = \"data\"\ndurability = \"os\"\n\
             [[listeners]]\nbind = \"127.0.0.1:{port}\"\n\
             [[listeners]]\nkind = \"tls\"\nbind = \"127.0.0.1:{tls_port}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n\
             client_auth = \"optional\"\nclient_ca = \"{ca}\"\n\
             [mqtt]\nmax_queued = 1000000\nmax_queued_bytes = \"1GiB\"\n\
             [auth]\nno_match = \"allow\"\npassword_file = \"users\"\n\
             [auth.x509]\n\
             [auth.devices]\nfile = \"devices.toml\"\ntime_check = \"cloud\"\n{devices}\
             [auth.http]\nurl = \"{url}\"\n",
            cert = authority.text("server.pem"),
            key = authority.text("server.key"),
            ca = authority.text("ca.pem"),
            url = tokens.url(),
        );
        site.write("weir.toml", &config);
        site.write("devices.toml", CLOUD_DEVICES);
        let hash = weir::auth::password_file::hash_password("device-secret").unwrap();
        site.write("users", &format!("t1/edge:{hash}\n"));
        let weir = Some(site.start(&weir_binary()).await);
        let broker = Broker::Weir {
            site,
            _tokens: tokens,
            weir,
            tls_port,
        };
        Self {
            port,
            authority,
            broker,
        }
    }

    /// A mosquitto that has one message at a time under way: with more it does not keep their order (mosquitto.conf(5)).
    pub(super) async fn mosquitto() -> Self {
        let authority = authority();
        let (tls, mtls) = (free_port(), free_port());
        let files = format!(
            "cafile {}\ncertfile {}\nkeyfile {}\n",
            authority.text("ca.pem"),
            authority.text("server.pem"),
            authority.text("server.key"),
        );
        let config = format!(
            "allow_anonymous true\nmax_inflight_messages 1\nmax_queued_messages 0\nset_tcp_nodelay true\n\
             listener {tls} 127.0.0.1\n{files}\
             listener {mtls} 127.0.0.1\n{files}require_certificate true\n"
        );
        let mosquitto = Mosquitto::start_with(&config).await;
        let lines = [Proxy::start(tls).await, Proxy::start(mtls).await];
        Self {
            port: mosquitto.port(),
            authority,
            broker: Broker::Mosquitto { mosquitto, lines },
        }
    }

    /// The connector file of a kind of bridge to here.
    pub(super) fn connector(&self, kind: &Kind) -> String {
        let (address, tls) = self.address(kind);
        kind.connector(&address, &tls)
    }

    /// The same, and it sends as fast as the preset says.
    pub(super) fn shaped_connector(&self, kind: &Kind) -> String {
        let (address, tls) = self.address(kind);
        kind.shaped_connector(&address, &tls)
    }

    /// Where a kind connects to, and what its file says of TLS.
    fn address(&self, kind: &Kind) -> (String, String) {
        let port = match (&self.broker, kind.line) {
            (Broker::Weir { .. }, Line::Tcp) | (Broker::Mosquitto { .. }, Line::Tcp) => self.port,
            (Broker::Weir { tls_port, .. }, _) => *tls_port,
            (Broker::Mosquitto { lines, .. }, Line::Tls) => lines[0].port,
            (Broker::Mosquitto { lines, .. }, Line::Certificate) => lines[1].port,
        };
        let file = |name| self.authority.text(name);
        let tls = match kind.line {
            Line::Tcp => String::new(),
            Line::Tls => format!("tls = {{ ca = \"{}\" }}\n", file("ca.pem")),
            Line::Certificate => format!(
                "tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}\n",
                file("ca.pem"),
                file("device.pem"),
                file("device.key")
            ),
        };
        let address = if kind.line == Line::Tcp {
            format!("mqtt://127.0.0.1:{port}")
        } else {
            format!("mqtts://localhost:{port}")
        };
        (address, tls)
    }

    /// Breaks it and lets it come back.
    pub(super) async fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Hang(span) => self.hang(span).await,
            Fault::Kill => self.kill().await,
        }
    }

    async fn hang(&self, span: Duration) {
        match &self.broker {
            Broker::Weir { weir, .. } => {
                let weir = weir.as_ref().unwrap();
                weir.pause().await;
                sleep(span).await;
                weir.go_on().await;
            }
            Broker::Mosquitto { mosquitto, .. } => {
                mosquitto.pause().await;
                sleep(span).await;
                mosquitto.go_on().await;
            }
        }
    }

    async fn kill(&mut self) {
        match &mut self.broker {
            Broker::Weir { .. } => {
                self.leave().await;
                self.come_back().await;
            }
            Broker::Mosquitto { lines, .. } => lines.iter().for_each(Proxy::cut),
        }
    }

    /// A weir is killed and stays away.
    pub(super) async fn leave(&mut self) {
        if let Broker::Weir { weir, .. } = &mut self.broker {
            weir.take().unwrap().kill().await;
        }
    }

    /// A weir that has left starts again.
    pub(super) async fn come_back(&mut self) {
        if let Broker::Weir { site, weir, .. } = &mut self.broker {
            *weir = Some(site.start(&weir_binary()).await);
        }
    }

    /// The PUBLISH packets that a weir has been sent since it started, by all clients.
    pub(super) async fn received(&self) -> f64 {
        let Broker::Weir { weir, .. } = &self.broker else {
            panic!("mosquitto does not tell")
        };
        let weir = weir.as_ref().unwrap();
        weir.metric("weir_messages_total", &[("dir", "in")]).await
    }

    /// A metric of a weir.
    pub(super) async fn metric(&self, name: &str) -> f64 {
        self.labelled(name, &[]).await
    }

    /// The same for those with these labels.
    pub(super) async fn labelled(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let Broker::Weir { weir, .. } = &self.broker else {
            panic!("mosquitto does not tell")
        };
        weir.as_ref().unwrap().metric(name, labels).await
    }
}

/// A way to a port of this machine whose connections can be cut.
struct Proxy {
    port: u16,
    cuts: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cuts, cut) = watch::channel(());
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
                    let mut server = TcpStream::connect(target).await.ok()?;
                    client.set_nodelay(true).ok()?;
                    server.set_nodelay(true).ok()?;
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.changed() => {}
                    }
                    Some(())
                });
            }
        });
        Self { port, cuts, task }
    }

    /// Closes what there is, with what is on its way.
    fn cut(&self) {
        self.cuts.send_replace(());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
