//! MQTT.js in Node over every transport, and in a real browser over WebSocket.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use weir_test_support::{browse, mqtt_js, node, repository};

use crate::ALL_OF_IT;
use crate::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn mqtt_js_talks_in_every_version_over_every_transport() {
    let script = repository().join("tests/clients/conversation.js");
    let scene = Scene::start().await;
    let ca = scene.authority.text("ca.pem");
    for (url, secret) in scene.urls() {
        for version in ["3", "4", "5"] {
            let mut args = vec![&*url, version];
            if secret {
                args.push(&ca);
            }
            let talk = node(&script, &args).await.succeeded();
            assert_eq!(talk.stdout.trim(), ALL_OF_IT, "{url} {version}");
        }
    }
}

/// A web server for the page; what pages report comes out of the channel.
async fn pages() -> (u16, mpsc::UnboundedReceiver<String>) {
    const PAGE: &str = include_str!("page.html");
    const CONVERSATION: &str = include_str!("conversation.js");
    const SCRIPT: [(axum::http::HeaderName, &str); 1] = [(CONTENT_TYPE, "text/javascript")];
    let (sender, results) = mpsc::unbounded_channel();
    let library = mqtt_js();
    let app = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/conversation.js", get(|| async { (SCRIPT, CONVERSATION) }))
        .route("/mqtt.js", get(|| async move { (SCRIPT, library) }))
        .route(
            "/result",
            post(|result: String| async move { drop(sender.send(result)) }),
        );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (port, results)
}

#[tokio::test]
async fn a_page_in_a_browser_talks_over_web_socket() {
    let scene = Scene::start().await;
    let (port, mut results) = pages().await;
    let urls = scene.urls();
    let of_pages = urls.iter().filter(|(url, _)| url.starts_with("ws"));
    for (url, _) in of_pages {
        let page = format!("http://127.0.0.1:{port}/?version=5&url={url}");
        let browser = browse(&page);
        let result = tokio::time::timeout(PATIENCE, results.recv()).await;
        let result = result.expect("the page reports in time");
        drop(browser);
        assert_eq!(result.as_deref(), Some(ALL_OF_IT), "{url}");
    }
}
