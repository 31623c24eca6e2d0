//! `POST /weir/v1/rules/test`: what a statement makes of a message (rule-SQL §9). Nothing is sent.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Admin, problem};
use crate::project::cases::{Answer, answer};

/// Takes a case as `weir try --cases` does, and answers alike.
pub(super) async fn run(State(admin): State<Admin>, body: Bytes) -> Response {
    let zone = admin.pipeline.time_zone().clone();
    let answered = tokio::task::spawn_blocking(move || answer(&body, 1, &zone)).await;
    match answered {
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
