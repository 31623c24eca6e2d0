//! `/weir/v1/backfill`: rows of captured messages for the sinks of a rule, which goes live behind them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{Admin, problem};
use crate::reload::BackfillError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The id of the rule.
    rule: String,
    /// Its file.
    text: String,
    /// Messages since then: milliseconds since the Unix epoch.
    #[serde(default)]
    from_ms: u64,
}

/// Answers when the rule is live.
pub(super) async fn run(State(admin): State<Admin>, body: Bytes) -> Response {
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => {
            let title = "the request cannot be read";
            return problem(StatusCode::BAD_REQUEST, "E1404", title, &error.to_string());
        }
    };
    let Some(capture) = admin.capture.clone() else {
        return problem(
            StatusCode::CONFLICT,
            "E1608",
            "nothing is captured",
            "set capture.filters in weir.toml and start weir again",
        );
    };
    // It goes on when nobody is left who waits for the answer.
    let task = tokio::spawn(async move {
        let Wanted {
            rule,
            text,
            from_ms,
        } = &wanted;
        let reloader = &admin.reloader;
        reloader
            .backfill(&admin.broker, &capture, (rule, text), *from_ms)
            .await
    });
    match task.await {
        Ok(Ok(done)) => Json(done).into_response(),
        Ok(Err(error)) => refused(&error),
        Err(error) => {
            let title = "the backfill has ended";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            problem(status, "E1609", title, &error.to_string())
        }
    }
}

fn refused(error: &BackfillError) -> Response {
    let (status, code) = match error {
        BackfillError::Id(_) => (StatusCode::BAD_REQUEST, "E1404"),
        BackfillError::Read(_) => (StatusCode::INTERNAL_SERVER_ERROR, "E1607"),
        BackfillError::Stopped { .. } => (StatusCode::CONFLICT, "E1611"),
        BackfillError::NotKept(_) => (StatusCode::INTERNAL_SERVER_ERROR, "E1606"),
        BackfillError::Refused(problems) => {
            let code = problems
                .first()
                .map_or("E1609", |first| first.code.as_str());
            let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return problem(status, code, "the rule did not go live", &texts.join("\n"));
        }
        BackfillError::BuiltIn
        | BackfillError::Disabled
        | BackfillError::TooMany
        | BackfillError::Write { .. } => (StatusCode::CONFLICT, "E1609"),
    };
    problem(status, code, "the rule did not go live", &error.to_string())
}
