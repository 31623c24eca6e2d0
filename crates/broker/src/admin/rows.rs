//! Sinks' queues and dead letters: `/weir/v1/sinks` and `/weir/v1/dead-letters`.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::{Admin, problem};
use crate::dead_letters::{Filter, LettersError};
use crate::pipeline::world::now_ms;
use crate::reload::DropError;

pub(super) async fn sinks(State(admin): State<Admin>) -> Response {
    let reloader = admin.reloader;
    let items = tokio::task::spawn_blocking(move || reloader.sinks_json()).await;
    Json(json!({ "items": items.unwrap_or_default(), "next": null })).into_response()
}

/// Ends the queue of a sink that no rule has any more.
pub(super) async fn drop_sink(
    State(admin): State<Admin>,
    Path((rule, sink)): Path<(String, String)>,
) -> Response {
    to_its_end(async move { drop_queue(&admin, &rule, &sink).await }).await
}

/// Does `work` also when whoever asked for it is gone: half of it would leave rows in two places, or in none.
async fn to_its_end(work: impl Future<Output = Response> + Send + 'static) -> Response {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        problem(status, "E1409", "it has ended", &error.to_string())
    })
}

async fn drop_queue(admin: &Admin, rule: &str, sink: &str) -> Response {
    match admin.reloader.drop_sink(rule, sink).await {
        Ok(rows) => Json(json!({ "rule": rule, "sink": sink, "dropped": rows })).into_response(),
        Err(error) => {
            let (status, help) = match &error {
                DropError::InUse(_) => {
                    (StatusCode::CONFLICT, "remove the sink from the rule first")
                }
                DropError::Doubtful(_) => {
                    (StatusCode::CONFLICT, "correct or remove the file first")
                }
                DropError::Unknown => (StatusCode::NOT_FOUND, "`weir sinks ls` lists them"),
                DropError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "see to the disk"),
            };
            let code = if status == StatusCode::NOT_FOUND {
                "E1406"
            } else {
                "E1407"
            };
            problem(status, code, &error.to_string(), help)
        }
    }
}

/// What a list of letters may be asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    rule: Option<String>,
    sink: Option<String>,
    code: Option<String>,
    older_than_s: Option<u64>,
    after: Option<String>,
    #[serde(default = "hundred")]
    limit: usize,
}

fn hundred() -> usize {
    100
}

pub(super) async fn letters(
    State(admin): State<Admin>,
    Query(query): Query<ListQuery>,
) -> Response {
    let filter = Filter {
        rule: query.rule,
        sink: query.sink,
        code: query.code,
        older_than_s: query.older_than_s,
        id: None,
    };
    let limit = query.limit.clamp(1, 1000);
    match admin
        .reloader
        .letters()
        .list(filter, query.after, limit, now_ms())
        .await
    {
        Ok(page) => Json(json!({ "items": page.items, "next": page.next })).into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn letter(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    let filter = Filter {
        id: Some(id),
        ..Filter::default()
    };
    match admin
        .reloader
        .letters()
        .list(filter, None, 1, now_ms())
        .await
    {
        Ok(page) => match page.items.into_iter().next() {
            Some(letter) => Json(letter).into_response(),
            None => refused(&LettersError::Unknown),
        },
        Err(error) => refused(&error),
    }
}

/// Which of the letters; by mistake all would be meant too easily.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichQuery {
    rule: Option<String>,
    sink: Option<String>,
    code: Option<String>,
    older_than_s: Option<u64>,
    #[serde(default)]
    all: bool,
}

impl WhichQuery {
    fn filter(self) -> Result<Filter, Box<Response>> {
        let filter = Filter {
            rule: self.rule,
            sink: self.sink,
            code: self.code,
            older_than_s: self.older_than_s,
            id: None,
        };
        if filter.is_all() != self.all {
            return Err(Box::new(problem(
                StatusCode::BAD_REQUEST,
                "E1404",
                "which dead letters is not said",
                "give rule, sink, code or older_than_s, or all=true and nothing else",
            )));
        }
        Ok(filter)
    }
}

pub(super) async fn retry(State(admin): State<Admin>, Query(query): Query<WhichQuery>) -> Response {
    match query.filter() {
        Ok(filter) => retry_those(admin, filter).await,
        Err(answer) => *answer,
    }
}

pub(super) async fn retry_one(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    let id = Some(id);
    let filter = Filter {
        id,
        ..Filter::default()
    };
    retry_those(admin, filter).await
}

async fn retry_those(admin: Admin, filter: Filter) -> Response {
    to_its_end(async move {
        let sink = |rule: &str, sink: &str| admin.reloader.live_sink(rule, sink);
        match admin.reloader.letters().retry(filter, now_ms(), sink).await {
            Ok(retried) => {
                let left = retried.left.into_iter();
                let left: Vec<_> = left
                    .map(|(rule, sink, why)| json!({ "rule": rule, "sink": sink, "detail": why }))
                    .collect();
                Json(json!({ "retried": retried.retried, "left": left })).into_response()
            }
            Err(error) => refused(&error),
        }
    })
    .await
}

pub(super) async fn drop_some(
    State(admin): State<Admin>,
    Query(query): Query<WhichQuery>,
) -> Response {
    match query.filter() {
        Ok(filter) => drop_those(admin, filter).await,
        Err(answer) => *answer,
    }
}

pub(super) async fn drop_one(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    let id = Some(id);
    let filter = Filter {
        id,
        ..Filter::default()
    };
    drop_those(admin, filter).await
}

async fn drop_those(admin: Admin, filter: Filter) -> Response {
    to_its_end(async move {
        match admin.reloader.letters().drop(filter, now_ms()).await {
            Ok(dropped) => Json(json!({ "dropped": dropped })).into_response(),
            Err(error) => refused(&error),
        }
    })
    .await
}

fn refused(error: &LettersError) -> Response {
    let (status, code) = match error {
        LettersError::NoStore => (StatusCode::CONFLICT, "E1408"),
        LettersError::Unknown => (StatusCode::NOT_FOUND, "E1406"),
        LettersError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "E1409"),
    };
    problem(
        status,
        code,
        &error.to_string(),
        "`weir dlq ls` lists those that there are",
    )
}
