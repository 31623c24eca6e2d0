//! What an operator tells a bridge: to connect, and to end its link.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use weir_sinks::{Connector, SinkError};

use super::{Admin, problem};

/// Connects a bridge, and says what came of it. One that could not goes on trying, unless it is a `once`.
pub(super) async fn start(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    match bridge(&admin, &name) {
        Err(answer) => *answer,
        Ok(bridge) => match bridge.connect().await {
            Ok(()) => state(&bridge),
            Err(error) => refused(
                StatusCode::BAD_GATEWAY,
                "the bridge has no link yet",
                &error,
            ),
        },
    }
}

/// Ends the link of a bridge, until it is told to start.
pub(super) async fn stop(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    match bridge(&admin, &name) {
        Err(answer) => *answer,
        Ok(bridge) => match bridge.disconnect().await {
            Ok(()) => state(&bridge),
            Err(error) => refused(StatusCode::CONFLICT, "the bridge cannot be stopped", &error),
        },
    }
}

fn bridge(admin: &Admin, name: &str) -> Result<Arc<Connector>, Box<Response>> {
    let mut open = admin.reloader.open_connectors_now().into_iter();
    open.find(|connector| connector.name() == name && connector.bridge_plan().is_some())
        .ok_or_else(|| {
            Box::new(problem(
                StatusCode::NOT_FOUND,
                "E4153",
                "no such bridge is in use",
                name,
            ))
        })
}

fn state(bridge: &Connector) -> Response {
    let state = bridge.state();
    Json(json!({
        "name": bridge.name(),
        "state": state.link.bridge_name(),
        "address": state.address,
    }))
    .into_response()
}

fn refused(status: StatusCode, title: &str, error: &SinkError) -> Response {
    problem(status, error.code(), title, &error.to_string())
}
