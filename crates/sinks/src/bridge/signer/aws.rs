//! AWS IoT Core: client certificates, signed WebSocket addresses, custom authorizers.

use zeroize::Zeroizing;

use super::inputs::{Inputs, clean};
use super::mac::{Hash, civil, hex, instant_ms, pct};
use super::{ConnectCreds, Moment, SignError};

/// On 443 the protocol is named in the handshake.
const MTLS_ALPN: &str = "x-amzn-mqtt-ca";

pub(super) fn x509(inputs: &Inputs, _: Moment) -> Result<ConnectCreds, SignError> {
    let port = port(inputs, 8883)?;
    Ok(ConnectCreds {
        client_id: client_id(inputs)?,
        alpn: Some((port == 443).then(|| MTLS_ALPN.to_owned())),
        port: Some(port),
        ..ConnectCreds::default()
    })
}

pub(super) fn custom_authorizer(inputs: &Inputs, _: Moment) -> Result<ConnectCreds, SignError> {
    let authorizer = inputs.required("authorizer", &[])?;
    let mut username = inputs.optional("username")?.unwrap_or_default();
    if username.contains('?') {
        return Err(SignError::Input("`username` holds `?`".into()));
    }
    username.push_str(&format!(
        "?x-amz-customauthorizer-name={}",
        pct(&authorizer)
    ));
    match (inputs.has("token_key"), inputs.has("token_signature")) {
        (false, false) => {}
        (true, true) => {
            let key = inputs.required("token_key", &['&', '=', '?'])?;
            username.push_str(&format!(
                "&{key}={}&x-amz-customauthorizer-signature={}",
                pct(&inputs.secret("token_value")?),
                pct(&inputs.secret("token_signature")?)
            ));
        }
        _ => {
            return Err(SignError::Input(
                "`token_key`, `token_value` and `token_signature` go together".into(),
            ));
        }
    }
    Ok(ConnectCreds {
        client_id: client_id(inputs)?,
        username: Some(username),
        password: inputs.optional_secret("password")?,
        alpn: Some(Some("mqtt".to_owned())),
        port: Some(port(inputs, 443)?),
        ..ConnectCreds::default()
    })
}

pub(super) fn sigv4(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    const DAY_S: i64 = 86_400;
    let host = inputs.required("host", &['/', '?', '&', ':', ' '])?;
    let region = inputs.required("region", &['/', '&'])?;
    let service = inputs
        .optional("service")?
        .unwrap_or_else(|| "iotdevicegateway".into());
    clean("service", &service, &['/', '&'])?;
    let date = match inputs.optional("amz_date")? {
        Some(date) => date,
        None => amz_date(at)?,
    };
    let well_formed = date.len() == 16
        && date.bytes().enumerate().all(|(place, byte)| match place {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    if !well_formed {
        return Err(SignError::Input(
            "`amz_date` has the form YYYYMMDDTHHMMSSZ".into(),
        ));
    }
    let day = &date[..8];
    let expires = inputs.seconds("expires", DAY_S)?;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let access_key = inputs.secret("access_key_id")?;
    clean("access_key_id", &access_key, &['/'])?;
    let expires_at_ms = session_end(inputs)?;
    if expires_at_ms.is_some_and(|ends| ends <= at.now_ms) {
        return Err(SignError::Over(
            "the temporary access keys have ended (`session_expires`)",
        ));
    }
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={date}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host",
        pct(&format!("{}/{scope}", *access_key))
    );
    // The host is signed without its port, and the payload is empty.
    let request = format!(
        "GET\n/mqtt\n{query}\nhost:{host}\n\nhost\n{}",
        hex(&Hash::Sha256.digest(b""))
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex(&Hash::Sha256.digest(request.as_bytes()))
    );
    let secret = inputs.secret("secret_access_key")?;
    let first = Zeroizing::new(format!("AWS4{}", *secret));
    let mut key = Zeroizing::new(first.as_bytes().to_vec());
    for part in [day, &region, &service, "aws4_request"] {
        key = Zeroizing::new(Hash::Sha256.hmac(&key, part.as_bytes()));
    }
    let mut url = Zeroizing::new(format!(
        "wss://{host}:443/mqtt?{query}&X-Amz-Signature={}",
        *Hash::Sha256.hex_hmac(&key, &to_sign)
    ));
    // The session token is not part of what is signed.
    if let Some(token) = inputs.optional_secret("session_token")? {
        url.push_str(&format!("&X-Amz-Security-Token={}", pct(&token)));
    }
    Ok(ConnectCreds {
        client_id: client_id(inputs)?,
        url: Some(url),
        // The signature is looked at once. Keys that end may take the session with them.
        expires_at_ms,
        ends_session: true,
        ..ConnectCreds::default()
    })
}

/// When temporary keys end.
fn session_end(inputs: &Inputs) -> Result<Option<i64>, SignError> {
    let Some(text) = inputs.optional_secret("session_expires")? else {
        return Ok(None);
    };
    let ends = instant_ms(text.trim()).ok_or_else(|| {
        SignError::Input(
            "`session_expires` is a time as 2026-11-29T20:00:00Z, or seconds since 1970 (not milliseconds)".into(),
        )
    })?;
    Ok(Some(ends))
}

fn amz_date(at: Moment) -> Result<String, SignError> {
    let (year, month, day, second) = civil(at.now_ms)
        .filter(|_| at.clock_is_set())
        .ok_or(SignError::ClockUnset)?;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Ok(format!(
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"
    ))
}

fn client_id(inputs: &Inputs) -> Result<String, SignError> {
    let id = inputs.required("client_id", &[])?;
    if id.len() > 128 {
        return Err(SignError::Input(
            "`client_id` is longer than 128 bytes".into(),
        ));
    }
    Ok(id)
}

fn port(inputs: &Inputs, default: u16) -> Result<u16, SignError> {
    match inputs.number("port")? {
        None => Ok(default),
        Some(port) => u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| SignError::Input("`port` is no port".into())),
    }
}
