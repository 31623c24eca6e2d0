//! How each cloud's devices put their names, times and signatures into a CONNECT.

use zeroize::Zeroizing;

use super::{Claim, Presented, Proof, Reason, Scheme, Shows, Stamp, tokens};
use crate::bridge::signer::content;
use crate::bridge::signer::mac::{self, Hash};

/// Whether the CONNECT has the outer form of the scheme.
pub(super) fn looks_like(scheme: Scheme, given: &Presented<'_>) -> bool {
    let (client_id, username) = (given.client_id, given.username.unwrap_or_default());
    match scheme {
        Scheme::AliyunIot => {
            let parameters = client_id
                .strip_suffix('|')
                .and_then(|rest| rest.split_once('|'));
            let both = username.split_once('&');
            parameters.is_some_and(|(_, parameters)| parameters.contains('='))
                && both.is_some_and(|(device, product)| {
                    !device.is_empty() && !product.is_empty() && !product.contains('&')
                })
        }
        Scheme::AliyunMq => {
            (username.starts_with("Signature|") || username.starts_with("Token|"))
                && username.matches('|').count() == 2
        }
        Scheme::TencentIot => {
            username.matches(';').count() == 3 && username.split(';').next() == Some(client_id)
        }
        Scheme::HuaweiIotda => {
            huawei_parts(client_id).is_some_and(|(device, _, _)| device == username)
        }
        Scheme::Onenet => {
            given.password.starts_with(b"version=")
                && given.password.windows(6).any(|part| part == b"&sign=")
        }
        Scheme::BaiduIotcore => username.starts_with("thingidp@"),
        Scheme::AzureIothub => given.password.starts_with(b"SharedAccessSignature "),
    }
}

/// What it says in that form.
pub(super) fn claim(scheme: Scheme, given: &Presented<'_>) -> Result<Claim, Reason> {
    let username = given.username.unwrap_or_default();
    let password = std::str::from_utf8(given.password).map_err(|_| bad("password is no text"))?;
    match scheme {
        Scheme::AliyunIot => aliyun_iot(given.client_id, username, password),
        Scheme::AliyunMq => aliyun_mq(given.client_id, username, password),
        Scheme::TencentIot => tencent(given.client_id, username, password),
        Scheme::HuaweiIotda => huawei(given.client_id, password),
        Scheme::Onenet => onenet(given.client_id, username, password),
        Scheme::BaiduIotcore => baidu(username, password),
        Scheme::AzureIothub => azure(given.client_id, username, password),
    }
}

const fn bad(part: &'static str) -> Reason {
    Reason::Malformed(part)
}

/// The bytes of a signature in hexadecimal of either case. One of the wrong length has no chance.
fn from_hex(text: &str, hash: Hash) -> Result<Zeroizing<Vec<u8>>, Reason> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .map(Zeroizing::new)
        .ok_or_else(|| bad("the signature is no hexadecimal"))?;
    if bytes.len() == hash.bytes() {
        Ok(bytes)
    } else {
        Err(bad("the signature is not as long as its method makes it"))
    }
}

fn from_b64(text: &str) -> Result<Zeroizing<Vec<u8>>, Reason> {
    mac::key(text).ok_or_else(|| bad("the signature is no base64"))
}

/// Pairs `k=v`, each key at most once and not empty.
fn pairs(text: &str, between: char) -> Result<Vec<(&str, &str)>, Reason> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for pair in text.split(between) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| bad("a parameter has no `=`"))?;
        if key.is_empty() || pairs.iter().any(|(known, _)| *known == key) {
            return Err(bad("a parameter stands twice or has no name"));
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn value<'a>(pairs: &[(&str, &'a str)], key: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(known, _)| *known == key)
        .map(|(_, value)| *value)
}

/// `%XX` to bytes once; `+` stays `+`.
fn unescaped(text: &str) -> Result<String, Reason> {
    let wrong = || bad("a `%` stands before no two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let byte = digit().and_then(|high| u8::try_from(high * 16 + digit()?).ok());
        bytes.push(byte.ok_or_else(wrong)?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// Aliyun asks for milliseconds, and its SDK for Python sends seconds. Seconds get here in the year 5138.
const SECONDS_BELOW: i64 = 100_000_000_000;

fn aliyun_iot(client_id: &str, username: &str, password: &str) -> Result<Claim, Reason> {
    let (core, parameters) = client_id
        .strip_suffix('|')
        .and_then(|rest| rest.split_once('|'))
        .ok_or_else(|| bad("the client id has no parameters between two `|`"))?;
    let (device, product) = username
        .split_once('&')
        .ok_or_else(|| bad("the user name has no `&`"))?;
    let pairs = pairs(parameters, ',')?;
    let shows = match value(&pairs, "authType") {
        Some("connwl") => return with_token(device, product, password),
        None => Shows::Device,
        Some("register") => Shows::Registers,
        Some("regnwl") => Shows::AsksForToken,
        Some(_) => {
            return Err(bad(
                "authType is not register, regnwl or connwl: a device that proves itself otherwise comes in through [auth.x509]",
            ));
        }
    };
    let random = match shows {
        Shows::Device => None,
        _ => Some(value(&pairs, "random").ok_or_else(|| bad("random is missing"))?),
    };
    let hash = match value(&pairs, "signmethod") {
        None | Some("hmacmd5") => Hash::Md5,
        Some("hmacsha1") => Hash::Sha1,
        Some("hmacsha256") => Hash::Sha256,
        Some(_) => return Err(bad("signmethod is not hmacsha256, hmacsha1 or hmacmd5")),
    };
    let timestamp = value(&pairs, "timestamp");
    let stamp = match timestamp {
        None => Stamp::Timeless,
        Some(text) => {
            let number: i64 = text
                .parse()
                .map_err(|_| bad("timestamp is no number of milliseconds"))?;
            Stamp::Made(if (0..SECONDS_BELOW).contains(&number) {
                number * 1000
            } else {
                number
            })
        }
    };
    Ok(Claim {
        scheme: Scheme::AliyunIot,
        tenant: Some(product.to_owned()),
        device: device.to_owned(),
        stamp,
        leaves_subscribing: value(&pairs, "_ss") == Some("1"),
        shows,
        hash,
        proof: match random {
            Some(random) => Proof::Keyed(content::aliyun_register(device, product, random)),
            None => Proof::EitherKeyed(
                content::aliyun(Some(core), device, product, timestamp),
                content::aliyun(None, device, product, timestamp),
            ),
        },
        mac: from_hex(password, hash)?,
    })
}

/// A device that was made by registering (`authType=connwl`): what it was issued is its password.
fn with_token(device: &str, product: &str, password: &str) -> Result<Claim, Reason> {
    if password.is_empty() {
        return Err(bad("the device's token is missing"));
    }
    Ok(Claim {
        scheme: Scheme::AliyunIot,
        tenant: Some(product.to_owned()),
        device: device.to_owned(),
        stamp: Stamp::Timeless,
        leaves_subscribing: false,
        shows: Shows::Device,
        hash: Hash::Sha256,
        proof: Proof::Verbatim,
        mac: Zeroizing::new(password.as_bytes().to_vec()),
    })
}

fn aliyun_mq(client_id: &str, username: &str, password: &str) -> Result<Claim, Reason> {
    let mut parts = username.split('|');
    let (Some(kind), Some(_), Some(instance)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad("the user name is not kind|access key|instance"));
    };
    if client_id.matches("@@@").count() != 1 {
        return Err(bad("the client id has not exactly one `@@@`"));
    }
    let (shows, proof, mac) = if kind == "Token" {
        let shown = tokens::read(password)?;
        (Shows::Tokens(shown), Proof::None, Zeroizing::default())
    } else {
        let proof = Proof::Keyed(client_id.to_owned());
        (Shows::Device, proof, from_b64(password)?)
    };
    Ok(Claim {
        scheme: Scheme::AliyunMq,
        tenant: Some(instance.to_owned()),
        device: client_id.to_owned(),
        stamp: Stamp::Timeless,
        leaves_subscribing: false,
        shows,
        hash: Hash::Sha1,
        proof,
        mac,
    })
}

fn tencent(client_id: &str, username: &str, password: &str) -> Result<Claim, Reason> {
    let mut parts = username.split(';').skip(2);
    let (Some(connection), Some(expiry)) = (parts.next(), parts.next()) else {
        return Err(bad("the user name is not id;application;connection;expiry"));
    };
    // Tencent's SDKs send five letters and digits, others a UUID.
    if !(1..=64).contains(&connection.len())
        || !connection.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(bad(
            "the connection id in the user name is not 1 to 64 letters, digits and signs",
        ));
    }
    let (signature, method) = password
        .rsplit_once(';')
        .ok_or_else(|| bad("the password has no method behind a `;`"))?;
    let hash = match method {
        "hmacsha256" => Hash::Sha256,
        "hmacsha1" => Hash::Sha1,
        _ => return Err(bad("the method is not hmacsha256 or hmacsha1")),
    };
    Ok(Claim {
        scheme: Scheme::TencentIot,
        tenant: None,
        device: client_id.to_owned(),
        stamp: Stamp::Until(seconds(expiry)?),
        leaves_subscribing: false,
        shows: Shows::Device,
        hash,
        proof: Proof::Keyed(username.to_owned()),
        mac: from_hex(signature, hash)?,
    })
}

fn seconds(text: &str) -> Result<u64, Reason> {
    text.parse()
        .map_err(|_| bad("the expiry is no number of seconds since 1970"))
}

/// Device, whether the time is checked, and the hour of a client id `device_0_1_YYYYMMDDHH`.
fn huawei_parts(client_id: &str) -> Option<(&str, bool, &str)> {
    let (rest, hour) = client_id.rsplit_once('_')?;
    let (rest, checked) = rest.rsplit_once('_')?;
    let (device, kind) = rest.rsplit_once('_')?;
    let fits = !device.is_empty()
        && matches!(kind, "0" | "3")
        && matches!(checked, "0" | "1")
        && hour.len() == 10
        && hour.bytes().all(|byte| byte.is_ascii_digit());
    fits.then_some((device, checked == "1", hour))
}

fn huawei(client_id: &str, password: &str) -> Result<Claim, Reason> {
    let (device, checked, hour) =
        huawei_parts(client_id).ok_or_else(|| bad("the client id is not device_0_1_YYYYMMDDHH"))?;
    let began_ms = hour_ms(hour).ok_or_else(|| bad("the hour in the client id does not exist"))?;
    Ok(Claim {
        scheme: Scheme::HuaweiIotda,
        tenant: None,
        device: device.to_owned(),
        stamp: Stamp::Hour { began_ms, checked },
        leaves_subscribing: false,
        shows: Shows::Device,
        hash: Hash::Sha256,
        proof: Proof::Turned(hour.to_owned()),
        mac: from_hex(password, Hash::Sha256)?,
    })
}

/// When the hour `YYYYMMDDHH` began; `None` where the calendar has no such hour.
fn hour_ms(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let hour = number(8..10)?;
    // Days since 1970, with years that begin in March.
    let (year_of_march, month_of_march) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year_of_march.div_euclid(400);
    let year_of_era = year_of_march - era * 400;
    let day_of_year = (153 * month_of_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let began_ms = (days * 24 + hour) * 3_600_000;
    // What does not come back was no date.
    (mac::civil(began_ms)? == (year, month, day, hour * 3600)).then_some(began_ms)
}

fn onenet(client_id: &str, username: &str, password: &str) -> Result<Claim, Reason> {
    let pairs = pairs(password, '&')?;
    let part = |key: &str| value(&pairs, key).ok_or_else(|| bad("a part of the token is missing"));
    if pairs.len() != 5 {
        return Err(bad(
            "a token has version, res, et, method and sign, and nothing else",
        ));
    }
    let version = part("version")?;
    if version != content::ONENET_VERSION {
        return Err(bad("the version of the token is not 2018-10-31"));
    }
    let hash = match part("method")? {
        "sha256" => Hash::Sha256,
        "sha1" => Hash::Sha1,
        "md5" => Hash::Md5,
        _ => return Err(bad("the method is not sha256, sha1 or md5")),
    };
    let resource = unescaped(part("res")?)?;
    let shows = if resource == content::onenet_resource(username, client_id) {
        Shows::Device
    } else if resource == content::onenet_product(username) {
        Shows::Product
    } else {
        return Err(bad(
            "the token is not made out to this product (user name) and this device (client id)",
        ));
    };
    let expiry = part("et")?;
    Ok(Claim {
        scheme: Scheme::Onenet,
        tenant: Some(username.to_owned()),
        device: client_id.to_owned(),
        stamp: Stamp::Until(seconds(expiry)?),
        leaves_subscribing: false,
        shows,
        hash,
        proof: Proof::Keyed(content::onenet(expiry, part("method")?, &resource, version)),
        mac: from_b64(&unescaped(part("sign")?)?)?,
    })
}

fn baidu(username: &str, password: &str) -> Result<Claim, Reason> {
    let parts: Vec<&str> = username
        .strip_prefix("thingidp@")
        .unwrap_or_default()
        .split('|')
        .collect();
    let (core, device, timestamp, method) = match *parts {
        [core, device] => (core, device, "0", "MD5"),
        [core, device, timestamp, method] => (core, device, timestamp, method),
        _ => return Err(bad("the user name is not thingidp@core|device|time|method")),
    };
    let hash = match method {
        "SHA256" => Hash::Sha256,
        "MD5" => Hash::Md5,
        _ => return Err(bad("the method is not SHA256 or MD5")),
    };
    let seconds: i64 = timestamp
        .parse()
        .map_err(|_| bad("the time is no number of seconds since 1970"))?;
    if core.is_empty() || device.is_empty() {
        return Err(bad("core or device is empty"));
    }
    Ok(Claim {
        scheme: Scheme::BaiduIotcore,
        tenant: Some(core.to_owned()),
        device: device.to_owned(),
        stamp: Stamp::Made(seconds.saturating_mul(1000)),
        leaves_subscribing: false,
        shows: Shows::Device,
        hash,
        proof: Proof::Suffixed(content::baidu(device, timestamp, method)),
        mac: from_hex(password, hash)?,
    })
}

fn azure(client_id: &str, username: &str, password: &str) -> Result<Claim, Reason> {
    let host = username
        .split_once('/')
        .filter(|(_, rest)| {
            rest.strip_prefix(client_id)
                .is_some_and(|rest| rest.starts_with("/?"))
        })
        .map(|(host, _)| host)
        .ok_or_else(|| bad("the user name is not host/device/?api-version=…"))?;
    let token = password
        .strip_prefix("SharedAccessSignature ")
        .unwrap_or_default();
    let pairs = pairs(token, '&')?;
    let part = |key: &str| value(&pairs, key).ok_or_else(|| bad("a part of the token is missing"));
    let known = |key: &str| matches!(key, "sr" | "sig" | "se" | "skn");
    if !pairs.iter().all(|(key, _)| known(key)) {
        return Err(bad("the token has a part that is none of sr, sig, se, skn"));
    }
    if value(&pairs, "skn").is_some() {
        return Err(bad(
            "the token is signed with a policy's key (skn): let the device use its own",
        ));
    }
    let (resource, expiry) = (part("sr")?, part("se")?);
    let (device, module) = match client_id.split_once('/') {
        Some((device, module)) => (device, Some(module)),
        None => (client_id, None),
    };
    if unescaped(resource)? != content::azure_resource(host, device, module) {
        return Err(bad("the token is not made out to this host and device"));
    }
    Ok(Claim {
        scheme: Scheme::AzureIothub,
        tenant: Some(host.to_owned()),
        device: client_id.to_owned(),
        stamp: Stamp::Until(seconds(expiry)?),
        leaves_subscribing: false,
        shows: Shows::Device,
        hash: Hash::Sha256,
        // The encoded resource is what is signed.
        proof: Proof::Keyed(format!("{resource}\n{expiry}")),
        mac: from_b64(&unescaped(part("sig")?)?)?,
    })
}
