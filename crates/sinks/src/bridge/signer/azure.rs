//! Azure IoT Hub: a signature that expires and takes the session with it.

use zeroize::Zeroizing;

use super::inputs::{Inputs, clean};
use super::mac::{Hash, b64, pct};
use super::{ConnectCreds, Moment, SignError, content};

const LIFETIME_S: i64 = 3600;

pub(super) fn iot_hub(inputs: &Inputs, at: Moment) -> Result<ConnectCreds, SignError> {
    let host = inputs.required("host", &['/', '?', '&', ' '])?;
    let device = inputs.required("device_id", &['/', '+', '#'])?;
    let mut client_id = device.clone();
    let module = match inputs.has("module_id") {
        true => Some(inputs.required("module_id", &['/', '+', '#'])?),
        false => None,
    };
    if let Some(module) = &module {
        client_id.push_str(&format!("/{module}"));
    }
    let resource = content::azure_resource(&host, &device, module.as_deref());
    let version = inputs
        .optional("api_version")?
        .unwrap_or_else(|| "2021-04-12".into());
    clean("api_version", &version, &['&', '='])?;
    // Neither host nor client id are encoded here, and the resource is encoded exactly once.
    let username = format!("{host}/{client_id}/?api-version={version}");
    if inputs.flag("x509")? {
        return Ok(ConnectCreds {
            client_id,
            username: Some(username),
            ..ConnectCreds::default()
        });
    }
    let lifetime = inputs.seconds("expires", LIFETIME_S)?;
    let expiry = match inputs.number("se")? {
        Some(expiry) if expiry < 0 => {
            return Err(SignError::Input("`se` lies before 1970".into()));
        }
        Some(expiry) => expiry,
        None if at.clock_is_set() => at.seconds().saturating_add(lifetime),
        None => return Err(SignError::ClockUnset),
    };
    let resource = pct(&resource);
    let mac = Hash::Sha256.hmac(
        &inputs.key("key")?,
        format!("{resource}\n{expiry}").as_bytes(),
    );
    let mut password = Zeroizing::new(format!(
        "SharedAccessSignature sr={resource}&sig={}&se={expiry}",
        pct(&b64(&mac))
    ));
    if inputs.has("policy") {
        let policy = inputs.required("policy", &['&', '='])?;
        password.push_str(&format!("&skn={policy}"));
    }
    Ok(ConnectCreds {
        client_id,
        username: Some(username),
        password: Some(password),
        expires_at_ms: Some(expiry.saturating_mul(1000)),
        ends_session: true,
        ..ConnectCreds::default()
    })
}
