//! Aliyun IoT Platform: device secret, dynamic registration, device token, certificate.

use super::inputs::{Inputs, clean};
use super::mac::Hash;
use super::{ConnectCreds, Moment, SignError, content};

/// What cannot stand in a product key or a device name.
const SEPARATORS: &[char] = &['&', '|', '/', '+', '#', ','];

/// Sign-in with a device secret.
pub(super) fn device(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    let device = Device::of(inputs)?;
    if inputs.flag("x509")? {
        // The certificate proves the device, and nothing is signed: TLS, which is securemode 2.
        return Ok(ConnectCreds {
            client_id: format!("{}|securemode=2|", device.core),
            username: Some(device.username()),
            ..ConnectCreds::default()
        });
    }
    let (name, hash) = method(inputs)?;
    let timestamp = timestamp(inputs, at)?;
    let secure_mode = inputs.number("securemode")?.unwrap_or(2);
    let mut parameters = format!("securemode={secure_mode},signmethod={name}");
    if let Some(timestamp) = timestamp {
        parameters.push_str(&format!(",timestamp={timestamp}"));
    }
    for (key, value) in inputs.pairs("extra")? {
        clean("extra", &key, &['|', ',', '='])?;
        if value.contains(['|', ',']) || value.contains(char::is_control) {
            return Err(SignError::Input("`extra` holds `|` or `,`".into()));
        }
        parameters.push_str(&format!(",{key}={}", *value));
    }
    let secret = inputs.secret("device_secret")?;
    let timestamp = timestamp.map(|timestamp| timestamp.to_string());
    let content = content::aliyun(
        Some(&device.core),
        &device.name,
        &device.product,
        timestamp.as_deref(),
    );
    Ok(ConnectCreds {
        client_id: format!("{}|{parameters}|", device.core),
        username: Some(device.username()),
        password: Some(hash.hex_hmac(secret.as_bytes(), &content)),
        ..ConnectCreds::default()
    })
}

/// The one connection that fetches a device's credentials.
pub(super) fn register(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    let device = Device::of(inputs)?;
    let (name, hash) = method(inputs)?;
    let auth_type = inputs
        .optional("auth_type")?
        .unwrap_or_else(|| "register".into());
    let derived = match auth_type.as_str() {
        "register" => 2,
        "regnwl" => -2,
        _ => {
            return Err(SignError::Input(
                "`auth_type` is `register` or `regnwl`".into(),
            ));
        }
    };
    let secure_mode = inputs.number("securemode")?.unwrap_or(derived);
    let random = match inputs.optional("random")? {
        Some(random) => random,
        None => at.letters(10),
    };
    if random.is_empty()
        || random.len() > 15
        || !random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Err(SignError::Input(
            "`random` is 1 to 15 letters and digits".into(),
        ));
    }
    let mut parameters =
        format!("securemode={secure_mode},authType={auth_type},random={random},signmethod={name}");
    if inputs.has("instance_id") {
        let id = inputs.required("instance_id", &['|', ',', '='])?;
        parameters.push_str(&format!(",instanceId={id}"));
    }
    let secret = inputs.secret("product_secret")?;
    let content = content::aliyun_register(&device.name, &device.product, &random);
    Ok(ConnectCreds {
        client_id: format!("{}|{parameters}|", device.core),
        username: Some(device.username()),
        password: Some(hash.hex_hmac(secret.as_bytes(), &content)),
        ..ConnectCreds::default()
    })
}

/// Sign-in with the token of a registration without a device.
pub(super) fn token(inputs: &Inputs, _: Moment) -> Result<ConnectCreds, SignError> {
    inputs.required("client_id", &['|'])?;
    let device = Device::of(inputs)?;
    Ok(ConnectCreds {
        client_id: format!("{}|securemode=-2,authType=connwl|", device.core),
        username: Some(device.username()),
        password: Some(inputs.secret("device_token")?),
        ..ConnectCreds::default()
    })
}

struct Device {
    product: String,
    name: String,
    core: String,
}

impl Device {
    fn of(inputs: &Inputs) -> Result<Self, SignError> {
        let product = inputs.required("product_key", SEPARATORS)?;
        let name = inputs.required("device_name", SEPARATORS)?;
        let core = inputs
            .optional("client_id")?
            .unwrap_or_else(|| format!("{product}.{name}"));
        clean("client_id", &core, &['|'])?;
        if core.chars().count() > 64 {
            return Err(SignError::Input(
                "`client_id` is longer than 64 characters".into(),
            ));
        }
        Ok(Self {
            product,
            name,
            core,
        })
    }

    fn username(&self) -> String {
        format!("{}&{}", self.name, self.product)
    }
}

fn method(inputs: &Inputs) -> Result<(&'static str, Hash), SignError> {
    match inputs.optional("sign_method")?.as_deref() {
        None | Some("hmacsha256") => Ok(("hmacsha256", Hash::Sha256)),
        Some("hmacsha1") => Ok(("hmacsha1", Hash::Sha1)),
        Some("hmacmd5") => Ok(("hmacmd5", Hash::Md5)),
        Some(name) => Err(SignError::Input(format!(
            "`sign_method`: there is no `{name}`; hmacsha256, hmacsha1 or hmacmd5"
        ))),
    }
}

/// None, the time of the signature (`true`), or the one given, in milliseconds.
fn timestamp(inputs: &Inputs, at: Moment) -> Result<Option<i64>, SignError> {
    if !inputs.has("timestamp") {
        return Ok(None);
    }
    match inputs.flag("timestamp") {
        // A clock that is not set yet: the form without a time is as good to the cloud.
        Ok(send) => Ok((send && at.clock_is_set()).then_some(at.now_ms)),
        Err(_) => inputs.number("timestamp"),
    }
}

#[cfg(test)]
#[path = "aliyun_tests.rs"]
mod tests;
