//! Who is turned away: `/weir/v1/bans`.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Bytes};
use serde::Deserialize;
use serde_json::json;

use super::{Admin, problem};
use crate::clients::BanError;
use crate::config::Span;
use crate::store::Who;

/// `{kind, name}`: whom.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    kind: String,
    name: String,
    /// How long; until it is taken back where it is left out.
    #[serde(rename = "for")]
    duration: Option<Span>,
    reason: Option<String>,
}

/// Every ban that is in force.
pub(super) async fn list(State(admin): State<Admin>) -> Response {
    let bans = admin.broker.bans().into_iter();
    let items: Vec<_> = bans
        .map(|(who, ban)| {
            json!({
                "kind": who.kind(), "name": who.name(), "since_ms": ban.since, "until_ms": ban.until,
                "reason": ban.reason,
            })
        })
        .collect();
    Json(json!({ "items": items, "next": null })).into_response()
}

/// Turns someone away.
pub(super) async fn add(State(admin): State<Admin>, body: Bytes) -> Response {
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return bad("the ban cannot be read", &error.to_string()),
    };
    let Some(who) = Who::parse(&wanted.kind, &wanted.name) else {
        return names_nobody(&wanted.kind, &wanted.name);
    };
    let duration = wanted.duration.map(|span| span.0);
    match admin.broker.ban(who, duration, wanted.reason).await {
        Ok(()) => Json(json!({ "banned": 1 })).into_response(),
        Err(error) => not_kept(&error),
    }
}

/// Lets someone in again.
pub(super) async fn remove(State(admin): State<Admin>, Query(named): Query<Named>) -> Response {
    let Some(who) = Who::parse(&named.kind, &named.name) else {
        return names_nobody(&named.kind, &named.name);
    };
    match admin.broker.unban(who).await {
        Ok(true) => Json(json!({ "unbanned": 1 })).into_response(),
        Ok(false) => problem(
            StatusCode::NOT_FOUND,
            "E1410",
            "nobody of this name is banned",
            &format!("{} {}", named.kind, named.name),
        ),
        Err(error) => not_kept(&error),
    }
}

fn names_nobody(kind: &str, name: &str) -> Response {
    bad(
        &format!("`{kind} {name}` names nobody"),
        "the kind is client, user or address; an address is one, or a network such as 203.0.113.0/24",
    )
}

fn bad(title: &str, detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "E1404", title, detail)
}

fn not_kept(error: &BanError) -> Response {
    match error {
        BanError::TooMany(error) => problem(
            StatusCode::CONFLICT,
            "E1411",
            "there are too many bans",
            &format!("{error}: take some back, or ban a network"),
        ),
        BanError::NotKept(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "E1606",
            "the store cannot be written",
            "it holds now, and not after a restart: see to the disk and start weir again",
        ),
    }
}
