//! Where the credentials of one signature are for: `weir bridge sign` has no connector file that would say it.

use serde_json::{Map, Value};

use super::plan::{Address, Pattern};
use super::preset::{self, Preset};
use super::signer::{ConnectCreds, Moment, Provider, SignError};

/// Signs as [`sign_at`](super::sign_at), and says where it signs in: at the address among the inputs (`addresses`), or at
/// that of the preset, where it follows from the inputs. Keys of connector files that only the host is made of may be
/// among them.
///
/// # Errors
/// As [`sign_at`](super::sign_at), and an address that is none.
pub fn sign_with_endpoint(
    provider: &str,
    given: &Map<String, Value>,
    at: Moment,
) -> Result<(ConnectCreds, Option<Address>), SignError> {
    let provider = Provider::named(provider)?;
    let takes = |key: &str| provider.keys.contains(&key);
    let preset = preset_of(provider.name);
    let mut rest = given.clone();
    let address = match rest.remove("addresses") {
        None => None,
        Some(Value::String(text)) => Some(Address::parse(&text).map_err(SignError::Input)?),
        Some(_) => return Err(SignError::Input("`addresses` has to be a text".into())),
    };
    for key in preset.map_or(&[][..], |preset| preset.host_keys) {
        if !takes(key) {
            rest.remove(*key);
        }
    }
    if let Some(address) = &address {
        if takes("host") && !rest.contains_key("host") {
            rest.insert("host".into(), address.host.as_str().into());
        }
        if takes("port") && !rest.contains_key("port") {
            rest.insert("port".into(), address.port.into());
        }
    }
    let inputs = provider.inputs(&rest.into())?;
    let creds = provider.sign(&inputs, at)?;
    let address = address.or_else(|| derived(preset?, given, &creds));
    Ok((creds, address))
}

fn derived(
    preset: &'static Preset,
    given: &Map<String, Value>,
    creds: &ConnectCreds,
) -> Option<Address> {
    let text = |key: &str| match given.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let is = |key: &str, value: &str| text(key).is_some_and(|given| given == value);
    let shows_certificate = is("x509", "true") || given.get("x509") == Some(&Value::Bool(true));
    // Aliyun signs whether TLS is spoken; 3 is plain TCP.
    let tls = !is("securemode", "3");
    let pattern = Pattern::of(
        preset,
        |key| given.contains_key(key),
        shows_certificate,
        tls,
    );
    pattern.address(preset, creds.port.or(pattern.port)?, text)
}

/// The preset that a provider is of.
fn preset_of(provider: &str) -> Option<&'static Preset> {
    let name = match provider {
        "aliyun_iot_connwl" | "aliyun_iot_dynreg" => preset::ALIYUN_IOT.name,
        "aliyun_mq_signature" | "aliyun_mq_token" => preset::ALIYUN_MQ.name,
        "aws_x509" | "aws_sigv4_ws" | "aws_custom_auth" => preset::AWS_IOT.name,
        name => name,
    };
    preset::ALL.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoint(provider: &str, inputs: &Value) -> Option<String> {
        let at = Moment {
            now_ms: 1_700_000_000_000,
            random: 0,
        };
        let given = inputs.as_object().unwrap();
        let (_, address) = sign_with_endpoint(provider, given, at).unwrap();
        address.map(|address| address.to_string())
    }

    #[test]
    fn the_endpoint_follows_from_the_preset_or_is_given() {
        let aliyun = |more: &Value| {
            let mut device = json!({"product_key": "pk", "device_name": "d", "device_secret": "s"});
            let more = more.as_object().unwrap().clone();
            device.as_object_mut().unwrap().extend(more);
            endpoint("aliyun_iot", &device)
        };
        let shanghai = "pk.iot-as-mqtt.cn-shanghai.aliyuncs.com:1883";
        for (more, wanted) in [
            (json!({}), None),
            (
                json!({"region": "cn-shanghai"}),
                Some(format!("mqtts://{shanghai}")),
            ),
            (
                json!({"region": "cn-shanghai", "securemode": "3"}),
                Some(format!("mqtt://{shanghai}")),
            ),
            (
                json!({"instance_id": "iot-a"}),
                Some("mqtts://iot-a.mqtt.iothub.aliyuncs.com:1883".into()),
            ),
            (
                json!({"addresses": "wss://h/p?t=1"}),
                Some("wss://h:443/p".into()),
            ),
        ] {
            assert_eq!(aliyun(&more), wanted, "{more}");
        }
        let azure =
            json!({"device_id": "d", "key": "c2VjcmV0", "addresses": "mqtts://hub.example"});
        assert_eq!(
            endpoint("azure_iothub", &azure).unwrap(),
            "mqtts://hub.example:8883"
        );
        let aws = json!({"client_id": "c", "host": "h.example", "port": 443});
        assert_eq!(endpoint("aws_x509", &aws).unwrap(), "mqtts://h.example:443");
        let signed = json!({"client_id": "c", "host": "h.example", "region": "r", "access_key_id": "k", "secret_access_key": "s"});
        assert_eq!(
            endpoint("aws_sigv4_ws", &signed).unwrap(),
            "wss://h.example:443/mqtt"
        );
        assert_eq!(endpoint("plain", &json!({"client_id": "c"})), None);
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_its_secrets() {
        let given = json!({"client_id": "c", "addresses": "http://h/?token=hunter2"});
        let at = Moment::at(1_700_000_000_000);
        let error = sign_with_endpoint("plain", given.as_object().unwrap(), at).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
