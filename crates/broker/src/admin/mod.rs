//! HTTP on loopback: health, metrics and reload (user-experience §5 and §7; the rest of the API comes later).
//!
//! A browser page on another host must not reach it through the user's own machine: the Host header has to be a
//! loopback name, and what changes something takes POST.

mod backfill;
mod bans;
mod bridge_metrics;
mod bridges;
mod exposition;
mod metrics;
mod rows;
mod rule_test;
mod web_socket;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use weir_mqtt::{ReasonCode, Utf8};

use crate::auth::devices::Devices;
use crate::broker::Broker;
use crate::clients::Elsewhere;
use crate::net::listener::Listener;
use crate::pipeline::Pipeline;
use crate::reload::Reloader;

/// What the HTTP side may look at.
#[derive(Clone)]
pub struct Admin {
    /// The MQTT server.
    pub broker: Broker,
    /// The live rules.
    pub pipeline: Arc<Pipeline>,
    /// Files to live rules.
    pub reloader: Arc<Reloader>,
    /// What takes messages for a while.
    pub capture: Option<Arc<crate::capture::Capture>>,
    /// Devices that sign as those of a cloud do, if there is a table of them.
    pub devices: Option<Arc<Devices>>,
    /// When the process started: seconds since the Unix epoch.
    pub started_s: i64,
    /// Where clients come in that speak MQTT over WebSocket on this port.
    pub(crate) mqtt: Option<Arc<Listener>>,
}

/// Serves until `shutdown` resolves.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let app = Router::new()
        .route(
            "/health/live",
            get(|| async { Json(json!({ "status": "ok" })) }),
        )
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .route(
            "/weir/v1/health/live",
            get(|| async { Json(json!({ "status": "ok" })) }),
        )
        .route("/weir/v1/health/ready", get(ready))
        .route("/weir/v1/status", get(status))
        .route("/weir/v1/rules", get(rules))
        .route("/weir/v1/rules/test", post(rule_test::run))
        .route("/weir/v1/sinks", get(rows::sinks))
        .route("/weir/v1/sinks/{rule}/{sink}", delete(rows::drop_sink))
        .route(
            "/weir/v1/dead-letters",
            get(rows::letters).delete(rows::drop_some),
        )
        .route("/weir/v1/dead-letters/retry", post(rows::retry))
        .route(
            "/weir/v1/dead-letters/{id}",
            get(rows::letter).delete(rows::drop_one),
        )
        .route("/weir/v1/dead-letters/{id}/retry", post(rows::retry_one))
        .route("/weir/v1/connectors", get(connectors))
        .route("/weir/v1/connectors/{name}/start", post(bridges::start))
        .route("/weir/v1/connectors/{name}/stop", post(bridges::stop))
        .route("/weir/v1/slow-subscribers", get(slow_subscribers))
        .route("/weir/v1/reload", post(reload))
        .route("/weir/v1/backfill", post(backfill::run))
        .route("/weir/v1/clients", delete(disconnect_all))
        .route("/weir/v1/clients/{id}", delete(disconnect))
        .route(
            "/weir/v1/bans",
            get(bans::list).post(bans::add).delete(bans::remove),
        )
        .fallback(web_socket::mqtt_or_nothing)
        .layer(middleware::from_fn(only_by_a_loopback_name))
        .with_state(admin);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    // What is written here is whole, and some of it is MQTT.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    if let Err(error) = axum::serve(listener, app)
        .with_graceful_shutdown(shutdown)
        .await
    {
        tracing::error!(%error, "the HTTP side has ended");
    }
}

/// Refuses a request whose Host is no loopback name: a page elsewhere could have made it by DNS rebinding.
async fn only_by_a_loopback_name(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    // A page's own requests carry its origin: one that is not ours may look at nothing and change nothing.
    let origin = headers
        .get(header::ORIGIN)
        .map(|origin| origin.to_str().unwrap_or("?"));
    let ours = origin.is_none_or(|origin| {
        origin
            .split_once("://")
            .is_some_and(|(_, name)| is_loopback_name(name))
    });
    if ours && is_loopback_name(host) {
        return next.run(request).await;
    }
    problem(
        StatusCode::FORBIDDEN,
        "E1403",
        "Host or Origin is not a loopback name",
        "ask for http://127.0.0.1 or http://localhost",
    )
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name == "localhost"
        || name == "[::1]"
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
        || host
            .parse::<SocketAddr>()
            .is_ok_and(|address| address.ip().is_loopback())
}

/// An error as RFC 9457 describes it.
fn problem(status: StatusCode, code: &str, title: &str, detail: &str) -> Response {
    let body = json!({ "type": format!("urn:weir:{code}"), "title": title, "status": status.as_u16(), "detail": detail, "code": code });
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    let stale = admin.reloader.stale();
    let down = admin.reloader.connectors_down();
    let status = if stale.is_empty() && down.is_empty() {
        "ok"
    } else {
        "degraded"
    };
    Json(json!({ "status": status, "stale": stale, "connectors_down": down })).into_response()
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    let rendered = tokio::task::spawn_blocking(move || metrics::render(&admin)).await;
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        rendered.unwrap_or_default(),
    )
        .into_response()
}

async fn status(State(admin): State<Admin>) -> Response {
    let stats = admin.broker.stats();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_s": admin.started_s,
        "generation": admin.pipeline.generation(),
        "rules": admin.pipeline.rules().len(),
        "connections": stats.connections_size.get(),
        "sessions": stats.sessions.get(),
        "stale": admin.reloader.stale(),
    }))
    .into_response()
}

async fn rules(State(admin): State<Admin>) -> Response {
    let items: Vec<_> = admin
        .pipeline
        .rules()
        .iter()
        .map(|rule| {
            let counters = &rule.counters;
            json!({
                "id": rule.id,
                "sinks": rule.sinks.iter().map(|sink| &sink.id).collect::<Vec<_>>(),
                "matched": counters.matched(),
                "passed": counters.passed(),
                "no_result": counters.no_result(),
                "errors": counters.failed(),
                "last_errors": counters.last_errors(),
            })
        })
        .collect();
    Json(json!({ "items": items, "next": null })).into_response()
}

async fn connectors(State(admin): State<Admin>) -> Response {
    Json(json!({ "items": admin.reloader.connectors_json(), "next": null })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowQuery {
    #[serde(default = "ten")]
    limit: usize,
}

fn ten() -> usize {
    10
}

async fn slow_subscribers(State(admin): State<Admin>, Query(query): Query<SlowQuery>) -> Response {
    let items = admin.broker.slow_subscribers(query.limit.min(1000));
    Json(json!({ "items": items, "next": null })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadQuery {
    #[serde(default)]
    dry_run: bool,
}

async fn reload(State(admin): State<Admin>, Query(query): Query<ReloadQuery>) -> Response {
    Json(admin.reloader.reload(query.dry_run).await).into_response()
}

/// Where clients are sent whose connections are ended.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Where {
    /// To this server, for now.
    use_server: Option<String>,
    /// To this server, for good.
    moved_to: Option<String>,
}

impl Where {
    fn elsewhere(&self) -> Result<Option<Elsewhere>, Box<Response>> {
        let name = |text: &str| {
            Utf8::new(text).map_err(|error| {
                let title = "the server cannot be named so";
                let answer = problem(StatusCode::BAD_REQUEST, "E1404", title, &error.to_string());
                Box::new(answer)
            })
        };
        match (&self.use_server, &self.moved_to) {
            (None, None) => Ok(None),
            (Some(server), None) => Ok(Some(Elsewhere::UseAnother(name(server)?))),
            (None, Some(server)) => Ok(Some(Elsewhere::Moved(name(server)?))),
            (Some(_), Some(_)) => Err(Box::new(problem(
                StatusCode::BAD_REQUEST,
                "E1404",
                "a client can be sent to one server only",
                "give use_server or moved_to",
            ))),
        }
    }
}

/// Ends the connection of one client.
async fn disconnect(
    State(admin): State<Admin>,
    Path(client_id): Path<String>,
    Query(query): Query<Where>,
) -> Response {
    let told = match query.elsewhere() {
        Err(answer) => return *answer,
        Ok(None) => {
            let code = ReasonCode::AdministrativeAction;
            admin.broker.disconnect(&client_id, code)
        }
        Ok(Some(elsewhere)) => admin.broker.redirect(&client_id, &elsewhere),
    };
    if told {
        return Json(json!({ "disconnected": 1 })).into_response();
    }
    problem(
        StatusCode::NOT_FOUND,
        "E1405",
        "no such client is connected",
        &client_id,
    )
}

/// Sends all clients elsewhere. Only with a place to go to: without one they would all be back at once.
async fn disconnect_all(State(admin): State<Admin>, Query(query): Query<Where>) -> Response {
    match query.elsewhere() {
        Err(answer) => *answer,
        Ok(Some(elsewhere)) => {
            Json(json!({ "disconnected": admin.broker.redirect_all(&elsewhere) })).into_response()
        }
        Ok(None) => problem(
            StatusCode::BAD_REQUEST,
            "E1404",
            "all clients can only be sent elsewhere",
            "give use_server or moved_to",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_hosts_of_this_side() {
        for host in [
            "127.0.0.1:18083",
            "localhost",
            "localhost:1",
            "[::1]:18083",
            "127.5.0.1",
        ] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "",
            "example.net",
            "127.0.0.1.example.net:80",
            "10.0.0.1",
            "localhost.evil:80",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
