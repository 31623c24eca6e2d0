//! `weir bridge provision` against a stand-in for the cloud's registration, over HTTPS.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use weir_test_support::{Answer, Authority, Site, Webhook};

use crate::WEIR;

/// TLS in front of a web service.
struct Https {
    service: Webhook,
    authority: Authority,
    port: u16,
    server: tokio::task::JoinHandle<()>,
}

impl Https {
    async fn start() -> Self {
        let (service, authority) = (Webhook::start().await, Authority::new());
        authority.server("server", &["localhost"]);
        let certificate = CertificateDer::from_pem_file(authority.path("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(authority.path("server.key")).unwrap();
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = service.port();
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
