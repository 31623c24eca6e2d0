//! The texts that are signed, the same for who signs and who verifies.

/// The only version of OneNET's tokens.
pub(crate) const ONENET_VERSION: &str = "2018-10-31";

/// Aliyun IoT: every key with its value, in byte order of the keys, without separators. Some devices leave the client id
/// out.
pub(crate) fn aliyun(
    core: Option<&str>,
    device_name: &str,
    product_key: &str,
    timestamp: Option<&str>,
) -> String {
    let core = core.map_or_else(String::new, |core| format!("clientId{core}"));
    let mut text = format!("{core}deviceName{device_name}productKey{product_key}");
    if let Some(timestamp) = timestamp {
        text.push_str("timestamp");
        text.push_str(timestamp);
    }
    text
}

/// Whom a token of OneNET is made out to.
pub(crate) fn onenet_resource(product: &str, device: &str) -> String {
    format!("products/{product}/devices/{device}")
}

/// The same for every device of a product.
pub(crate) fn onenet_product(product: &str) -> String {
    format!("products/{product}")
}

/// OneNET: the values in the order of their names.
pub(crate) fn onenet(expiry: &str, method: &str, resource: &str, version: &str) -> String {
    format!("{expiry}\n{method}\n{resource}\n{version}")
}

/// Baidu: what stands before the secret.
pub(crate) fn baidu(device: &str, timestamp: &str, method: &str) -> String {
    format!("{device}&{timestamp}&{method}")
}

/// Whom a token of Azure is made out to, before it is encoded.
pub(crate) fn azure_resource(host: &str, device: &str, module: Option<&str>) -> String {
    match module {
        Some(module) => format!("{host}/devices/{device}/modules/{module}"),
        None => format!("{host}/devices/{device}"),
    }
}

/// What a device signs with its product's secret when it asks for its own.
pub(crate) fn aliyun_register(device: &str, product: &str, random: &str) -> String {
    format!("deviceName{device}productKey{product}random{random}")
}
