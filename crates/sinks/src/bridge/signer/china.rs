//! Aliyun MQ for MQTT, Tencent Cloud, Huawei Cloud, Baidu and China Mobile.

use zeroize::Zeroizing;

use super::inputs::{Inputs, clean};
use super::mac::{Hash, b64, civil, hex, pct};
use super::{ConnectCreds, Moment, SignError, content};

/// Aliyun MQ for MQTT with an access key: no time, so the password of a client id never changes.
pub(super) fn aliyun_mq_signature(inputs: &Inputs, _: Moment) -> Result<ConnectCreds, SignError> {
    let client_id = mq_client_id(inputs)?;
    let secret = inputs.secret("access_secret")?;
    let mac = Hash::Sha1.hmac(secret.as_bytes(), client_id.as_bytes());
    Ok(ConnectCreds {
        username: Some(mq_username("Signature", inputs)?),
        client_id,
        password: Some(Zeroizing::new(b64(&mac))),
        ..ConnectCreds::default()
    })
}

/// Aliyun MQ for MQTT with tokens that the operator's own service fetches.
pub(super) fn aliyun_mq_token(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    let client_id = mq_client_id(inputs)?;
    let mut seen: Vec<&str> = Vec::new();
    let mut password = Zeroizing::new(String::new());
    let (tokens, expires_at_ms) = if inputs.has("tokens_from") {
        issued(&inputs.secret("tokens_from")?)?
    } else {
        (inputs.pairs("tokens")?, None)
    };
    if tokens.is_empty() {
        return Err(SignError::Input("`tokens` is missing".into()));
    }
    // The time is in the tokens, and nobody can say whether theirs has come.
    if !at.clock_is_set() {
        return Err(SignError::ClockUnset);
    }
    if expires_at_ms.is_some_and(|ends| ends <= at.now_ms) {
        return Err(SignError::Over("`tokens_from` has tokens that are over"));
    }
    for (kind, token) in &tokens {
        if !["R", "W", "RW"].contains(&kind.as_str()) || seen.contains(&kind.as_str()) {
            return Err(SignError::Input(
                "`tokens` has the types R, W and RW, each at most once".into(),
            ));
        }
        clean("tokens", token, &['|'])?;
        if !seen.is_empty() {
            password.push('|');
        }
        seen.push(kind);
        password.push_str(kind);
        password.push('|');
        password.push_str(token);
    }
    Ok(ConnectCreds {
        username: Some(mq_username("Token", inputs)?),
        client_id,
        password: Some(password),
        expires_at_ms,
        // The cloud disconnects who has no token any more.
        ends_session: true,
        ..ConnectCreds::default()
    })
}

type Tokens = Vec<(String, Zeroizing<String>)>;

/// Tokens as the operator's service has written them down, and when the first of them ends.
fn issued(text: &str) -> Result<(Tokens, Option<i64>), SignError> {
    #[derive(serde::Deserialize)]
    struct Issued {
        tokens: Vec<Token>,
        expires_ms: Option<i64>,
    }
    #[derive(serde::Deserialize)]
    struct Token {
        #[serde(rename = "type")]
        kind: String,
        token: String,
    }
    // What the parser would say may quote a token.
    let issued: Issued = serde_json::from_str(text).map_err(|_| {
        SignError::Input(
            "`tokens_from` is not {\"tokens\": [{\"type\": \"RW\", \"token\": \"…\"}], \"expires_ms\": 1700000000000}"
                .into(),
        )
    })?;
    let tokens = issued.tokens.into_iter();
    let tokens = tokens
        .map(|token| (token.kind, Zeroizing::new(token.token)))
        .collect();
    Ok((tokens, issued.expires_ms))
}

fn mq_client_id(inputs: &Inputs) -> Result<String, SignError> {
    let part = |key: &str| {
        let text = inputs.required(key, &[])?;
        let known = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        if text.chars().all(known) {
            Ok(text)
        } else {
            Err(SignError::Input(format!(
                "`{key}` has letters, digits, `-` and `_` alone"
            )))
        }
    };
    let id = format!("{}@@@{}", part("group_id")?, part("device_id")?);
    if id.len() > 64 {
        return Err(SignError::Input(
            "`group_id` and `device_id` with `@@@` between them are longer than 64 characters"
                .into(),
        ));
    }
    Ok(id)
}

fn mq_username(kind: &str, inputs: &Inputs) -> Result<String, SignError> {
    let access_key = inputs.secret("access_key")?;
    clean("access_key", &access_key, &['|'])?;
    let instance = inputs.required("instance_id", &['|'])?;
    Ok(format!("{kind}|{}|{instance}", *access_key))
}

/// Tencent Cloud IoT Hub and IoT Explorer.
pub(super) fn tencent(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    const LIFETIME_S: i64 = 3600;
    let client_id = format!(
        "{}{}",
        inputs.required("product_id", &[';', '/', '+', '#'])?,
        inputs.required("device_name", &[';', '/', '+', '#'])?
    );
    let app = inputs
        .optional("sdk_app_id")?
        .unwrap_or_else(|| "12010126".into());
    clean("sdk_app_id", &app, &[';'])?;
    let connection = match inputs.optional("conn_id")? {
        Some(id) => id,
        None => at.letters(5),
    };
    if connection.is_empty() || !connection.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(SignError::Input("`conn_id` is letters and digits".into()));
    }
    let lifetime = inputs.seconds("expires", LIFETIME_S)?;
    let expiry = match inputs.number("expiry")? {
        Some(expiry) if expiry < 0 => {
            return Err(SignError::Input("`expiry` lies before 1970".into()));
        }
        Some(expiry) => expiry,
        None if at.clock_is_set() => at.seconds().saturating_add(lifetime),
        // What the official SDK sends without a clock.
        None => i64::MAX,
    };
    let username = format!("{client_id};{app};{connection};{expiry}");
    let password = if inputs.flag("x509")? {
        // The certificate proves the device; any password will do.
        Zeroizing::new("x509".to_owned())
    } else {
        let (name, hash) = match inputs.optional("sign_method")?.as_deref() {
            None | Some("hmacsha256") => ("hmacsha256", Hash::Sha256),
            Some("hmacsha1") => ("hmacsha1", Hash::Sha1),
            Some(other) => {
                return Err(SignError::Input(format!(
                    "`sign_method`: there is no `{other}`; hmacsha256 or hmacsha1"
                )));
            }
        };
        let mac = hash.hmac(&inputs.key("device_secret")?, username.as_bytes());
        Zeroizing::new(format!("{};{name}", hex(&mac)))
    };
    Ok(ConnectCreds {
        client_id,
        username: Some(username),
        password: Some(password),
        expires_at_ms: (expiry != i64::MAX).then(|| expiry.saturating_mul(1000)),
        ..ConnectCreds::default()
    })
}

/// Huawei Cloud IoTDA: the hour is the key, the secret the message.
pub(super) fn huawei(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    let device = inputs.required("device_id", &['/', '+', '#'])?;
    let check = match inputs.number("check_timestamp")? {
        None => i64::from(at.clock_is_set()),
        Some(check @ (0 | 1)) => check,
        Some(_) => return Err(SignError::Input("`check_timestamp` is 0 or 1".into())),
    };
    // One reading of the clock serves client id and key.
    let hour = match civil(at.now_ms) {
        Some((year, month, day, second)) => {
            format!("{year:04}{month:02}{day:02}{:02}", second / 3600)
        }
        None if check == 0 => "1970010100".to_owned(),
        None => return Err(SignError::ClockUnset),
    };
    let password = if inputs.flag("x509")? {
        None
    } else {
        let secret = inputs.secret("device_secret")?;
        Some(Hash::Sha256.hex_hmac(hour.as_bytes(), &secret))
    };
    Ok(ConnectCreds {
        client_id: format!("{device}_0_{check}_{hour}"),
        username: Some(device),
        password,
        ..ConnectCreds::default()
    })
}

/// Baidu IoT Core: a plain hash over text and secret.
pub(super) fn baidu(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    let core = inputs.required("core_id", &['|', '@'])?;
    let device = inputs.required("device_key", &['|', '&', '/', '+', '#'])?;
    let short = inputs.flag("short_username")?;
    let algorithm = inputs.optional("algorithm")?;
    let given = inputs.number("timestamp")?;
    if short && (algorithm.as_deref().is_some_and(|name| name != "MD5") || given.unwrap_or(0) != 0)
    {
        return Err(SignError::Input(
            "`short_username` means timestamp 0 and MD5".into(),
        ));
    }
    let timestamp = match given {
        Some(timestamp) if timestamp < 0 => {
            return Err(SignError::Input("`timestamp` lies before 1970".into()));
        }
        Some(timestamp) => timestamp,
        None if short || !at.clock_is_set() => 0,
        None => at.seconds(),
    };
    let (name, hash) = match algorithm.as_deref() {
        None if short => ("MD5", Hash::Md5),
        None | Some("SHA256") => ("SHA256", Hash::Sha256),
        Some("MD5") => ("MD5", Hash::Md5),
        Some(other) => {
            return Err(SignError::Input(format!(
                "`algorithm`: there is no `{other}`; SHA256 or MD5"
            )));
        }
    };
    let secret = inputs.secret("device_secret")?;
    let mut signed = Zeroizing::new(content::baidu(&device, &timestamp.to_string(), name));
    signed.push_str(&secret);
    let username = if short {
        format!("thingidp@{core}|{device}")
    } else {
        format!("thingidp@{core}|{device}|{timestamp}|{name}")
    };
    let client_id = inputs.optional("client_id")?.unwrap_or(device);
    if client_id.is_empty() || client_id.len() > 128 {
        return Err(SignError::Input(
            "`client_id` is empty or longer than 128 bytes".into(),
        ));
    }
    Ok(ConnectCreds {
        client_id,
        username: Some(username),
        password: Some(Zeroizing::new(hex(&hash.digest(signed.as_bytes())))),
        ..ConnectCreds::default()
    })
}

/// OneNET of China Mobile.
pub(super) fn onenet(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    const LIFETIME_S: i64 = 3600;
    /// 2100-01-01, for a clock that is not set.
    const FAR_S: i64 = 4_102_444_800;
    let product = inputs.required("product_id", &['/', '+', '#'])?;
    let device = inputs.required("device_name", &['/', '+', '#'])?;
    let resource = match inputs.optional("scope")?.as_deref() {
        None | Some("device") => content::onenet_resource(&product, &device),
        Some("product") => content::onenet_product(&product),
        Some(_) => {
            return Err(SignError::Input("`scope` is `device` or `product`".into()));
        }
    };
    let (method, hash) = match inputs.optional("method")?.as_deref() {
        None | Some("sha256") => ("sha256", Hash::Sha256),
        Some("sha1") => ("sha1", Hash::Sha1),
        Some("md5") => ("md5", Hash::Md5),
        Some(other) => {
            return Err(SignError::Input(format!(
                "`method`: there is no `{other}`; sha256, sha1 or md5"
            )));
        }
    };
    let version = inputs
        .optional("version")?
        .unwrap_or_else(|| content::ONENET_VERSION.into());
    clean("version", &version, &['&', '='])?;
    let lifetime = inputs.seconds("expires", LIFETIME_S)?;
    let expiry = match inputs.number("et")? {
        Some(expiry) if expiry < 0 => {
            return Err(SignError::Input("`et` lies before 1970".into()));
        }
        Some(expiry) => expiry,
        None if at.clock_is_set() => at.seconds().saturating_add(lifetime),
        None => FAR_S,
    };
    let signed = content::onenet(&expiry.to_string(), method, &resource, &version);
    let sign = b64(&hash.hmac(&inputs.key("access_key")?, signed.as_bytes()));
    let token = format!(
        "version={version}&res={}&et={expiry}&method={method}&sign={}",
        pct(&resource),
        pct(&sign)
    );
    Ok(ConnectCreds {
        client_id: device,
        username: Some(product),
        password: Some(Zeroizing::new(token)),
        expires_at_ms: Some(expiry.saturating_mul(1000)),
        ..ConnectCreds::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::bridge::signer::{Moment, SignError, sign_at};

    #[test]
    fn tokens_that_were_written_down_are_signed_with_and_renewed_before_they_end() {
        const NOW_MS: i64 = 1_700_001_000_000;
        let sign = |tokens: &str| {
            let inputs = json!({
                "group_id": "GID_weir", "device_id": "edge", "access_key": "k", "instance_id": "i", "tokens_from": tokens,
            });
            sign_at("aliyun_mq_token", &inputs, Moment::at(NOW_MS))
        };
        let pair = r#"[{"type": "R", "token": "123"}, {"type": "W", "token": "abcd"}]"#;
        let creds = sign(&format!(
            r#"{{"tokens": {pair}, "expires_ms": 1700004600000}}"#
        ))
        .unwrap();
        assert_eq!(creds.show().password.unwrap(), "R|123|W|abcd");
        assert_eq!(creds.renew_after_ms(NOW_MS), Some(3_240_000));
        // Nobody has renewed them.
        let over = sign(&format!(
            r#"{{"tokens": {pair}, "expires_ms": 1700001000000}}"#
        ));
        assert!(matches!(over, Err(SignError::Over(_))));
        let endless = sign(&format!(r#"{{"tokens": {pair}}}"#)).unwrap();
        assert_eq!(endless.renew_after_ms(NOW_MS), None);
        for wrong in [
            "",
            "RW|secret",
            r#"{"tokens": []}"#,
            r#"{"tokens": ["secret"]}"#,
        ] {
            let Err(SignError::Input(message)) = sign(wrong) else {
                panic!("{wrong}");
            };
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
