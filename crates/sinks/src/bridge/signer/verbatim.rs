//! Credentials that are sent as they are: any broker, ThingsBoard, Cumulocity.

use super::inputs::{Inputs, clean};
use super::{ConnectCreds, Moment, SignError};

pub(super) fn plain(inputs: &Inputs, _: Moment) -> Result<ConnectCreds, SignError> {
    Ok(ConnectCreds {
        client_id: inputs.required("client_id", &[])?,
        username: inputs.optional("username")?,
        password: inputs.optional_secret("password")?,
        ..ConnectCreds::default()
    })
}

pub(super) fn thingsboard(inputs: &Inputs, _: Moment) -> Result<ConnectCreds, SignError> {
    let client_id = inputs.optional("client_id")?.unwrap_or_default();
    // The token is the user name; basic credentials are what was registered.
    let (username, password) = if inputs.has("access_token") {
        if inputs.has("username") || inputs.has("password") {
            return Err(SignError::Input(
                "`access_token` and `username` or `password` exclude each other".into(),
            ));
        }
        (Some(inputs.secret("access_token")?.to_string()), None)
    } else {
        let username = inputs.optional("username")?;
        if username.is_none() && client_id.is_empty() && !inputs.flag("x509")? {
            return Err(SignError::Input("`access_token` is missing".into()));
        }
        (username, inputs.optional_secret("password")?)
    };
    Ok(ConnectCreds {
        client_id,
        secret_username: inputs.has("access_token"),
        username,
        password,
        ..ConnectCreds::default()
    })
}

pub(super) fn cumulocity(inputs: &Inputs, _: Moment) -> Result<ConnectCreds, SignError> {
    let client_id = inputs.required("client_id", &[])?;
    clean("client_id", &client_id, &[])?;
    Ok(ConnectCreds {
        client_id,
        username: Some(format!(
            "{}/{}",
            inputs.required("tenant", &['/'])?,
            inputs.required("user", &[])?
        )),
        password: Some(inputs.secret("password")?),
        ..ConnectCreds::default()
    })
}
