//! The claims of a token against the clock, the settings and what the client says of itself. Pure.

use serde_json::Value;

use super::JwtSettings;
use crate::auth::ConnectRequest;

/// Whether the token holds here and now; the error is for the log and names no value.
pub(super) fn check(
    claims: &Value,
    settings: &JwtSettings,
    request: &ConnectRequest,
    now_s: i64,
) -> Result<(), String> {
    if !claims.is_object() {
        return Err("the claims are no object".to_owned());
    }
    if time(claims, "exp")?.is_some_and(|exp| exp.saturating_add(settings.leeway_s) <= now_s) {
        return Err("the token has expired".to_owned());
    }
    if time(claims, "nbf")?.is_some_and(|nbf| nbf > now_s.saturating_add(settings.leeway_s)) {
        return Err("the token is not valid yet".to_owned());
    }
    if let Some(issuer) = &settings.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err("the token has another issuer or none".to_owned());
    }
    if let Some(audience) = &settings.audience
        && !is_or_holds(claims.get("aud"), audience)
    {
        return Err("the token is for somebody else".to_owned());
    }
    for (name, expected) in &settings.claims {
        let expected = match expected.as_str() {
            "%c" | "${clientid}" => Some(&*request.client_id),
            "%u" | "${username}" => request.username.as_deref(),
            text => Some(text),
        };
        if !expected.is_some_and(|expected| is_or_holds(claims.get(name), expected)) {
            return Err(format!("the claim `{name}` does not say what it must"));
        }
    }
    Ok(())
}

/// Whether a claim is `expected`, or a list with it.
fn is_or_holds(claim: Option<&Value>, expected: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == expected,
        Some(Value::Array(list)) => list.iter().any(|item| item.as_str() == Some(expected)),
        _ => false,
    }
}

/// A time in whole seconds. One that is there and no number is not taken for absent.
pub(super) fn time(claims: &Value, name: &str) -> Result<Option<i64>, String> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a time beyond i64 becomes its bound, which is as far away"
            )]
            let seconds = value
                .as_i64()
                .or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
            seconds
                .map(Some)
                .ok_or_else(|| format!("`{name}` is no time"))
        }
    }
}
