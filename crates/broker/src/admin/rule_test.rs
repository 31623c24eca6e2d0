//! `POST /weir/v1/rules/test`: what a statement makes of a message (rule-SQL §9). Nothing is sent.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use weir_rules::script::ScriptLimits;

use super::{Admin, problem};
use crate::project::cases::{Answer, Bounds, answer};

/// So many run at a time: each may keep a thread busy.
const MAX_RUNNING: usize = 2;
/// How long one may take.
const MAX_TIME: Duration = Duration::from_secs(5);
/// How many messages it may have.
const MAX_MESSAGES: usize = 1000;

static RUNNING: Semaphore = Semaphore::const_new(MAX_RUNNING);

/// Takes a case as `weir try --cases` does, and answers alike; the user functions of the live rules are there, too.
pub(super) async fn run(State(admin): State<Admin>, body: Bytes) -> Response {
    let Ok(turn) = RUNNING.try_acquire() else {
        return problem(
            StatusCode::TOO_MANY_REQUESTS,
            "E1404",
            "other tests are running",
            &format!("at most {MAX_RUNNING} run at a time: ask again when one has ended"),
        );
    };
    let zone = admin.pipeline.time_zone().clone();
    let bounds = Bounds {
        messages: MAX_MESSAGES,
        time: Some(MAX_TIME),
        scripts: ScriptLimits::default(),
        live: admin.reloader.scripts(),
    };
    let answered = tokio::task::spawn_blocking(move || {
        // It goes on when whoever has asked hangs up, and keeps its turn.
        let _turn = turn;
        answer(&body, 1, &zone, &bounds)
    });
    match answered.await {
        Ok(Answer::Unusable { message, .. }) => problem(
            StatusCode::BAD_REQUEST,
            "E1404",
            "the request cannot be read",
            &message,
        ),
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            let title = "the test has ended";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            problem(status, "E1404", title, &error.to_string())
        }
    }
}
