//! `weir bridge provision` against a stand-in for the cloud's registration, over HTTPS and over MQTT.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use weir_mqtt::{Connect, Packet, ProtocolVersion, Publish, Utf8, codec};
use weir_test_support::{Answer, Authority, Finished, Site, Webhook, wait_until};

use crate::WEIR;

/// Accepts TLS with the certificate `server` of an authority.
pub(crate) fn acceptor(authority: &Authority) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(server_config(authority)))
}

pub(crate) fn server_config(authority: &Authority) -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(authority.path("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path("server.key")).unwrap();
    let provider = Arc::new(ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

/// A port that takes TLS off and passes on what it hears to the one `behind`, until its task is aborted.
pub(crate) async fn tls_in_front_of(behind: u16, acceptor: TlsAcceptor) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us leaves here.
                let Ok(mut client) = acceptor.accept(stream).await else {
                    return;
                };
                let mut service = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut service).await;
            });
        }
    });
    (port, server)
}

/// TLS in front of a web service.
struct Https {
    service: Webhook,
    authority: Authority,
    port: u16,
    server: JoinHandle<()>,
}

impl Https {
    async fn start() -> Self {
        let (service, authority) = (Webhook::start().await, Authority::new());
        authority.server("server", &["localhost"]);
        let acceptor = acceptor(&authority);
        let (port, server) = tls_in_front_of(service.port(), acceptor).await;
        Self {
            service,
            authority,
            port,
            server,
        }
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test]
async fn a_device_fetches_its_secret_once_and_keeps_it_to_itself() {
    let cloud = Https::start().await;
    let answer = r#"{"code":200,"data":{"productKey":"a1Example","deviceName":"gw-02","deviceSecret":"fresh-secret"},"message":"success"}"#;
    cloud
        .service
        .answer_always(Answer::status(200).body(answer));
    let site = Site::new();
    site.write("product", "WeirProdSecret01\n");
    let endpoint = format!("https://localhost:{}/auth/register/device", cloud.port);
    let ca = cloud.authority.text("ca.pem");
    let product = format!(
        "product_secret=${{file:{}}}",
        site.path().join("product").display()
    );
    let args = [
        "bridge",
        "provision",
        "aliyun_iot",
        "--set",
        "product_key=a1Example",
        "device_name=gw-02",
        &product,
        "--endpoint",
        &endpoint,
        "--ca",
        &ca,
        "--out",
        "gw-02.secret",
    ];

    let done = site.weir(WEIR, &args).await.succeeded();
    let file = site.path().join("gw-02.secret");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "fresh-secret\n");
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!done.stdout.contains("fresh-secret") && !done.stderr.contains("fresh-secret"));

    // What was sent is signed with the product's secret.
    let asked = cloud.service.requests().remove(0);
    assert_eq!(asked.target, "/auth/register/device");
    let body = String::from_utf8(asked.body).unwrap();
    let pairs: std::collections::HashMap<&str, &str> = body
        .split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .collect();
    assert_eq!(
        (pairs["productKey"], pairs["deviceName"]),
        ("a1Example", "gw-02")
    );
    let inputs = serde_json::json!({
        "product_key": "a1Example", "device_name": "gw-02", "product_secret": "WeirProdSecret01",
        "random": pairs["random"],
    });
    let signed = weir_sinks::bridge::sign_vector("aliyun_iot_dynreg", &inputs).unwrap();
    assert_eq!(signed.show().password.as_deref(), Some(pairs["sign"]));

    // A file that is there is not replaced, and the cloud is not asked again.
    let again = site.weir(WEIR, &args).await;
    assert_ne!(again.code, Some(0));
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    assert_eq!(cloud.service.requests().len(), 1);
    let newer = answer.replace("fresh", "newer");
    cloud
        .service
        .answer_always(Answer::status(200).body(&newer));
    let forced = [&args[..], &["--force"]].concat();
    let _ = site.weir(WEIR, &forced).await.succeeded();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "newer-secret\n");
    let randoms: Vec<String> = cloud
        .service
        .requests()
        .iter()
        .map(|asked| String::from_utf8_lossy(&asked.body).into_owned())
        .collect();
    assert_ne!(
        randoms[0], randoms[1],
        "each attempt has its own random word"
    );
    let left = std::fs::read_dir(site.path()).unwrap();
    let left = left.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("gw-02")
    });
    assert_eq!(left.count(), 1);
}

#[tokio::test]
async fn a_cloud_that_refuses_or_cannot_be_trusted_leaves_no_file() {
    let cloud = Https::start().await;
    let active = r#"{"code":6288,"message":"device is already active","data":null}"#;
    cloud
        .service
        .answer_always(Answer::status(200).body(active));
    let site = Site::new();
    let endpoint = format!("https://localhost:{}/", cloud.port);
    let ca = cloud.authority.text("ca.pem");
    let provision = async |more: &[&str]| {
        let args = [
            "bridge",
            "provision",
            "aliyun_iot",
            "--set",
            "product_key=a1Example",
            "device_name=gw-02",
            "product_secret=hunter2",
            "--out",
            "secret",
        ];
        let done = site.weir(WEIR, &[&args[..], more].concat()).await;
        assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
        assert!(!site.path().join("secret").exists());
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
        done.stderr
    };
    let told = provision(&["--endpoint", &endpoint, "--ca", &ca]).await;
    assert!(
        told.contains("6288: device is already active [E4118]"),
        "{told}"
    );
    // Nobody knows this cloud's certificate.
    let asked = cloud.service.requests().len();
    let told = provision(&["--endpoint", &endpoint]).await;
    assert!(told.contains("E3401"), "{told}");
    assert_eq!(cloud.service.requests().len(), asked);
    let plain = format!("http://127.0.0.1:{}/", cloud.service.port());
    let told = provision(&["--endpoint", &plain]).await;
    assert!(told.contains("https://"), "{told}");
}

/// The cloud's registration over MQTT: one CONNECT, and what it is answered with.
struct MqttRegistrar {
    authority: Authority,
    port: u16,
    heard: tokio::sync::mpsc::UnboundedReceiver<Connect>,
    server: JoinHandle<()>,
}

impl MqttRegistrar {
    /// Lets in who knows the product's secret, and sends `payload` to `topic`.
    async fn start(topic: &'static str, payload: &'static str) -> Self {
        Self::start_and(topic, payload, || {}).await
    }

    /// The same; does `meanwhile` before it answers.
    async fn start_and(
        topic: &'static str,
        payload: &'static str,
        meanwhile: impl Fn() + Send + 'static,
    ) -> Self {
        let authority = Authority::new();
        authority.server("server", &["localhost"]);
        let acceptor = acceptor(&authority);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hears, heard) = tokio::sync::mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut client = acceptor.accept(stream).await.unwrap();
                let Packet::Connect(connect) = packet(&mut client).await else {
                    panic!("no CONNECT");
                };
                let is_known = is_signed_with(&connect, "WeirProdSecret01");
                hears.send((*connect).clone()).unwrap();
                meanwhile();
                // 4: bad user name or password.
                let connack = [0x20, 2, 0, if is_known { 0 } else { 4 }];
                client.write_all(&connack).await.unwrap();
                if is_known {
                    for topic in ["/ext/other", topic] {
                        let publish = Publish::new(Utf8::from(topic), payload.into());
                        let mut bytes = Vec::new();
                        publish.encode(ProtocolVersion::V3_1_1, &mut bytes).unwrap();
                        client.write_all(&bytes).await.unwrap();
                    }
                    // It leaves by itself.
                    let _ = client.read_u8().await;
                }
            }
        });
        Self {
            authority,
            port,
            heard,
            server,
        }
    }

    async fn provision(&self, site: &Site, secret: &str, more: &[&str]) -> Finished {
        let product = format!("product_secret={secret}");
        let endpoint = format!("mqtts://localhost:{}", self.port);
        let ca = self.authority.text("ca.pem");
        let args = [
            &["bridge", "provision", "aliyun_iot", "--endpoint", &endpoint][..],
            &["--ca", &ca, "--out", "gw-02.secret"],
            &["--set", "product_key=a1Example", "device_name=gw-02"],
            &[&product],
            more,
        ];
        site.weir(WEIR, &args.concat()).await
    }
}

impl Drop for MqttRegistrar {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn packet(from: &mut (impl AsyncRead + Unpin)) -> Packet {
    let mut bytes = BytesMut::new();
    loop {
        if let Some(length) = codec::frame_length(&bytes, 1 << 16).unwrap() {
            let frame = bytes.split_to(length).freeze();
            return codec::decode(frame, ProtocolVersion::V3_1_1).unwrap();
        }
        let read = from.read_buf(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "the client left");
    }
}

/// Whether this secret makes the password of a registration.
fn is_signed_with(connect: &Connect, secret: &str) -> bool {
    let (core, parameters) = connect.client_id.split_once('|').unwrap();
    let pairs: serde_json::Map<String, serde_json::Value> = parameters
        .trim_end_matches('|')
        .split(',')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    let (device, product) = connect.username.as_ref().unwrap().split_once('&').unwrap();
    let inputs = serde_json::json!({
        "product_key": product, "device_name": device, "client_id": core, "product_secret": secret,
        "random": pairs["random"], "auth_type": pairs["authType"], "sign_method": pairs["signmethod"],
    });
    let signed = weir_sinks::bridge::sign_vector("aliyun_iot_dynreg", &inputs).unwrap();
    signed.show().password.unwrap().as_bytes() == connect.password.as_deref().unwrap()
}

#[tokio::test]
async fn over_mqtt_a_device_fetches_its_secret_or_is_made_with_a_token() {
    let known = r#"{"productKey":"a1Example","deviceName":"gw-02","deviceSecret":"fresh-secret"}"#;
    let mut cloud = MqttRegistrar::start("/ext/register", known).await;
    let site = Site::new();
    let done = cloud.provision(&site, "WeirProdSecret01", &[]).await;
    let done = done.succeeded();
    let file = site.path().join("gw-02.secret");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "fresh-secret\n");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!done.stdout.contains("fresh-secret") && !done.stderr.contains("fresh-secret"));
    let first = cloud.heard.recv().await.unwrap();
    let way = "securemode=2,authType=register";
    assert!(first.client_id.contains(way), "{:?}", first.client_id);
    assert!(first.clean_start);

    let made = r#"{"productKey":"a1Example","deviceName":"gw-02","clientId":"issued01","deviceToken":"^1^token"}"#;
    let mut cloud = MqttRegistrar::start("/ext/regnwl", made).await;
    let more = ["auth_type=regnwl", "instance_id=iot-060a0weir", "--force"];
    let done = cloud.provision(&site, "WeirProdSecret01", &more).await;
    let done = done.succeeded();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "^1^token\n");
    let told = "client_id = \"issued01\"";
    assert!(done.stdout.contains(told), "{}", done.stdout);
    assert!(!done.stdout.contains("^1^token"), "{}", done.stdout);
    let second = cloud.heard.recv().await.unwrap();
    let way = "securemode=-2,authType=regnwl";
    assert!(second.client_id.contains(way), "{:?}", second.client_id);
    assert!(second.client_id.ends_with(",instanceId=iot-060a0weir|"));
    // One connection each: the cloud gives it once.
    assert!(cloud.heard.try_recv().is_err());
    // What was fetched is what a bridge signs in with.
    site.connector(
        "cloud",
        "type = \"mqtt\"\npreset = \"aliyun_iot\"\nproduct_key = \"a1Example\"\ndevice_name = \"gw-02\"\n\
         region = \"cn-shanghai\"\nclient_id = \"issued01\"\ndevice_token = \"${file:gw-02.secret}\"\n",
    );
    let args = ["bridge", "test", "cloud", "--offline", "--show-secrets"];
    let shown = site.weir(WEIR, &[&args[..], &["--json"]].concat()).await;
    let shown: serde_json::Value = serde_json::from_str(&shown.succeeded().stdout).unwrap();
    assert_eq!(
        shown["client_id"],
        "issued01|securemode=-2,authType=connwl|"
    );
    assert_eq!(shown["password"], "^1^token");
}

#[tokio::test]
async fn a_token_whose_file_is_taken_meanwhile_is_kept_and_its_client_id_told() {
    let made = r#"{"productKey":"a1Example","deviceName":"gw-02","clientId":"issued01","deviceToken":"^1^token"}"#;
    let site = Site::new();
    let file = site.path().join("gw-02.secret");
    let faster = file.clone();
    let cloud = MqttRegistrar::start_and("/ext/regnwl", made, move || {
        std::fs::write(&faster, "other").unwrap();
    })
    .await;
    let more = ["auth_type=regnwl", "instance_id=iot-060a0weir"];
    let done = cloud.provision(&site, "WeirProdSecret01", &more).await;
    assert_ne!(done.code, Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "other");
    let told = "client_id = \"issued01\"";
    assert!(done.stderr.contains(told), "{}", done.stderr);
    assert!(!done.stderr.contains("^1^token"), "{}", done.stderr);
    let entries = std::fs::read_dir(site.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let kept = paths.filter(|path| path.is_file() && *path != file);
    let texts: Vec<_> = kept
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert!(texts.contains(&"^1^token\n".to_owned()), "{texts:?}");
}

#[tokio::test]
async fn over_mqtt_a_refusal_and_an_answer_about_another_device_leave_no_file() {
    let other = r#"{"productKey":"a1Example","deviceName":"gw-03","deviceSecret":"fresh-secret"}"#;
    let right = "WeirProdSecret01";
    for (payload, secret, wanted) in [
        (other, right, "about another device [E4118]"),
        (other, "hunter2", "the product secret is another"),
        ("fresh-secret", right, "not the JSON"),
        ("{}", right, "neither a device secret nor a token"),
    ] {
        let cloud = MqttRegistrar::start("/ext/register", payload).await;
        let site = Site::new();
        let done = cloud.provision(&site, secret, &[]).await;
        assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(wanted), "{}", done.stderr);
        for hidden in ["hunter2", "fresh-secret"] {
            assert!(!done.stderr.contains(hidden), "{}", done.stderr);
        }
        assert!(!site.path().join("gw-02.secret").exists());
    }
}

#[tokio::test]
async fn a_weir_that_stands_in_for_the_cloud_tells_a_device_its_secret_over_mqtt() {
    let (cloud_site, authority) = (Site::new(), Authority::new());
    authority.server("server", &["localhost"]);
    cloud_site.write(
        "weir.toml",
        &format!(
            "http.bind = \"127.0.0.1:0\"\n[[listeners]]\nbind = \"127.0.0.1:0\"\n\
             [[listeners]]\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\ncert = \"{}\"\nkey = \"{}\"\n\
             [auth.devices]\nfile = \"devices.toml\"\n",
            authority.text("server.pem"),
            authority.text("server.key"),
        ),
    );
    cloud_site.write(
        "devices.toml",
        "[[product]]\nscheme = \"aliyun_iot\"\ntenant_key = \"a1Example\"\nsecret = \"WeirProdSecret01\"\n\
         [[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"a1Example\"\ndevice = \"gw-02\"\n\
         secret = \"its-own-secret\"\nregister = true\n",
    );
    // A rule that sees what is delivered sees each client go behind that.
    cloud_site.rule(
        "seen",
        "sql = 'SELECT event, payload FROM \"$events/message/delivered\", \"$events/message/delivery_dropped\", \
         \"$events/client/disconnected\"'\n[[sinks]]\ntype = \"file\"\npath = \"seen.ndjson\"\n",
    );
    let cloud = cloud_site.start(WEIR).await;
    let site = Site::new();
    let endpoint = format!("mqtts://localhost:{}", cloud.ports("mqtts")[0]);
    let ca = authority.text("ca.pem");
    let provision = async |secret: &str| {
        let product = format!("product_secret={secret}");
        let args = [
            &["bridge", "provision", "aliyun_iot", "--endpoint", &endpoint][..],
            &["--ca", &ca, "--out", "gw-02.secret"],
            &["--set", "product_key=a1Example", "device_name=gw-02"],
            &[&product],
        ];
        site.weir(WEIR, &args.concat()).await
    };
    let refused = provision("another").await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("E4118"), "{}", refused.stderr);
    let _ = provision("WeirProdSecret01").await.succeeded();
    let secret = std::fs::read_to_string(site.path().join("gw-02.secret")).unwrap();
    assert_eq!(secret, "its-own-secret\n");
    assert!(!cloud.printed().contains("its-own-secret"));
    let seen = cloud_site.path().join("data/files/seen.ndjson");
    let seen = || std::fs::read_to_string(&seen).unwrap_or_default();
    wait_until("the device to be gone", Duration::from_secs(20), || async {
        seen().contains("client.disconnected")
    })
    .await;
    assert!(!seen().contains("its-own-secret"), "{}", seen());
    // And it opens the same cloud.
    site.connector(
        "cloud",
        &format!(
            "type = \"mqtt\"\npreset = \"aliyun_iot\"\nproduct_key = \"a1Example\"\ndevice_name = \"gw-02\"\n\
             addresses = [\"{endpoint}\"]\ntls = {{ ca = \"{ca}\" }}\ndevice_secret = \"${{file:gw-02.secret}}\"\n"
        ),
    );
    let tested = site.weir(WEIR, &["bridge", "test", "cloud"]).await;
    let _ = tested.succeeded();
}
