use super::*;
use crate::bridge::signer::{Moment, ShownCreds, sign_at};
use proptest::prelude::*;
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../../../../tests/rules_to_sinks/bridge_vectors.jsonl");
/// 2024-06-01T12:00:00Z
const NOW_MS: i64 = 1_717_243_200_000;

fn claim(creds: &ShownCreds) -> Result<Option<Claim>, Reason> {
    let presented = Presented {
        client_id: &creds.client_id,
        username: creds.username.as_deref(),
        password: creds.password.as_deref().unwrap_or_default().as_bytes(),
    };
    presented
        .scheme()
        .map(|scheme| presented.claim(scheme))
        .transpose()
}

fn secret_of(inputs: &Value) -> &str {
    [
        "device_secret",
        "access_secret",
        "access_key",
        "key",
        "device_token",
        "product_secret",
    ]
    .iter()
    // The access key of Aliyun MQ is no secret of the device.
    .filter(|key| **key != "access_key" || inputs.get("access_secret").is_none())
    .find_map(|key| inputs[*key].as_str())
    .unwrap()
}

/// The scheme of a vector that a secret signs, and what it shows.
fn signs(vector: &Value) -> Option<(Scheme, Shows)> {
    let inputs = &vector["inputs"];
    let shows = match vector["provider"].as_str().unwrap() {
        "aliyun_iot_dynreg" if inputs["auth_type"] == "regnwl" => Shows::AsksForToken,
        "aliyun_iot_dynreg" => Shows::Registers,
        _ if inputs["scope"] == "product" => Shows::Product,
        _ => Shows::Device,
    };
    let provider = vector["provider"].as_str().unwrap();
    let mut base = provider.trim_end_matches("_signature");
    for ending in ["_dynreg", "_connwl"] {
        base = base.trim_end_matches(ending);
    }
    Some((Scheme::named(base)?, shows))
}

#[test]
fn every_vector_is_its_own_and_verified_by_its_secret_alone() {
    let vectors = VECTORS
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut seen = Vec::new();
    for vector in vectors {
        let Some((scheme, shows)) = signs(&vector) else {
            continue;
        };
        let inputs = &vector["inputs"];
        let moment = Moment {
            now_ms: NOW_MS,
            random: 1,
        };
        let provider = vector["provider"].as_str().unwrap();
        let mut creds = sign_at(provider, inputs, moment).unwrap().show();
        let claim = claim(&creds).unwrap().unwrap();
        assert_eq!((claim.scheme, &claim.shows), (scheme, &shows));
        let secret = secret_of(inputs);
        assert!(claim.is_signed_with(secret), "{}", vector["id"]);
        assert!(!claim.is_signed_with("b3RoZXI="), "{}", vector["id"]);
        assert!(!claim.is_signed_with(""), "{}", vector["id"]);
        seen.push(claim.scheme);
        let is_hex = matches!(scheme, Scheme::AliyunIot | Scheme::HuaweiIotda);
        if is_hex && provider != "aliyun_iot_connwl" {
            creds.password = creds.password.map(|text| text.to_uppercase());
            let again = self::claim(&creds).unwrap().unwrap();
            assert!(again.is_signed_with(secret), "upper case {}", vector["id"]);
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, Scheme::ALL);
}

#[test]
fn tokens_of_the_vectors_are_the_ones_that_were_issued() {
    let vectors = VECTORS
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut seen = 0;
    for vector in vectors.filter(|vector| vector["provider"] == "aliyun_mq_token") {
        let inputs = &vector["inputs"];
        let creds = crate::bridge::sign_vector("aliyun_mq_token", inputs).unwrap();
        let claim = claim(&creds.show()).unwrap().unwrap();
        let Shows::Tokens(shown) = &claim.shows else {
            panic!("{}", vector["id"]);
        };
        let issued = inputs["tokens"].as_array().unwrap();
        assert_eq!(shown.len(), issued.len());
        for (shown, issued) in shown.iter().zip(issued) {
            assert_eq!(shown.rights.name(), issued[0].as_str().unwrap());
            assert!(shown.is(issued[1].as_str().unwrap()) && !shown.is("other"));
        }
        // Nothing is signed: no secret opens it.
        assert!(!claim.is_signed_with("") && !claim.is_signed_with("secret"));
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn a_client_id_that_is_not_signed_is_looked_at_where_that_is_allowed_and_nowhere_else() {
    let (device, secret) = ("gw-01", "device-secret");
    let content = b"deviceNamegw-01productKeypktimestamp789";
    let signed = mac::hex(&Hash::Sha256.hmac(secret.as_bytes(), content));
    let username = format!("{device}&pk");
    let presented = |client_id: &'static str| Presented {
        client_id,
        username: Some(&username),
        password: signed.as_bytes(),
    };
    let right = "any|securemode=3,signmethod=hmacsha256,timestamp=789|";
    let claim = presented(right).claim(Scheme::AliyunIot).unwrap();
    assert!(!claim.is_signed_with(secret));
    assert!(claim.is_signed_without_id_with(secret));
    assert!(!claim.is_signed_without_id_with("other"));
    let other = "any|securemode=3,signmethod=hmacsha256,timestamp=790|";
    let claim = presented(other).claim(Scheme::AliyunIot).unwrap();
    assert!(!claim.is_signed_without_id_with(secret));
    let (creds, key) = self::signed(Scheme::Onenet, device, secret, NOW_MS);
    let onenet = self::claim(&creds).unwrap().unwrap();
    assert!(onenet.is_signed_with(&key) && !onenet.is_signed_without_id_with(&key));
}

#[test]
fn what_other_authenticators_know_is_none_of_a_devices() {
    for (client_id, username, password) in [
        ("c", None, ""),
        ("c", Some("ann"), "secret"),
        ("a|b|", Some("ann&bob"), "x"),
        ("a|k=v|", Some("ann"), "x"),
        ("a|k=v|", Some("a&b&c"), "x"),
        ("c", Some("a;b;c;d"), "x"),
        ("d_0_1_20240601", Some("d"), "x"),
        ("d_0_1_2024060112", Some("e"), "x"),
        ("c", Some("Signature|a"), "x"),
        ("c", Some("ann"), "eyJh.eyJz.c2ln"),
    ] {
        let presented = Presented {
            client_id,
            username,
            password: password.as_bytes(),
        };
        assert_eq!(presented.scheme(), None, "{client_id} {username:?}");
    }
}

#[test]
fn what_is_recognised_and_not_well_formed_is_said_to_be() {
    for (client_id, username, password) in [
        ("a|signmethod=hmacsha256,signmethod=hmacsha1|", "d&p", "00"),
        ("a|signmethod=sha3|", "d&p", "00"),
        ("a|=v|", "d&p", "00"),
        ("a|signmethod=hmacsha256|", "d&p", "zz"),
        ("a|signmethod=hmacsha256|", "d&p", "00"),
        ("a|signmethod=hmacsha256,timestamp=soon|", "d&p", "00"),
        ("a|authType=register,signmethod=hmacsha256|", "d&p", "00"),
        ("a@@b", "Signature|k|i", "AAAA"),
        ("a@@b", "Token|k|i", "RW|x"),
        ("a@@@b", "Token|k|i", "RW|x|RW|y"),
        ("a@@@b", "Token|k|i", "XX|x"),
        ("a|authType=regnwl,signmethod=hmacsha256|", "d&p", "00"),
        ("a|authType=id2|", "d&p", "00"),
        ("a|authType=connwl|", "d&p", ""),
        ("pd", "pd;1;c;never", "00;hmacsha256"),
        ("pd", "pd;1;c;99", "00"),
        ("pd", "pd;1;c;99", "00;hmacmd5"),
        ("d_0_1_2024063112", "d", &"0".repeat(64)),
        ("d_0_1_2024060124", "d", &"0".repeat(64)),
        (
            "d",
            "p",
            "version=2018-10-31&res=products%2Fp%2Fdevices%2Fe&et=1&method=sha1&sign=AAAA",
        ),
        (
            "d",
            "p",
            "version=2018-10-31&res=%zz&et=1&method=sha1&sign=AAAA",
        ),
        (
            "d",
            "p",
            "version=2022-05-01&res=products%2Fp%2Fdevices%2Fd&et=1&method=sha1&sign=AAAA",
        ),
        (
            "d",
            "p",
            "version=2018-10-31&et=1&et=2&method=sha1&sign=AAAA",
        ),
        ("c", "thingidp@core", "00"),
        ("c", "thingidp@core|d|1|SHA1", "00"),
        (
            "d",
            "h/e/?api-version=1",
            "SharedAccessSignature sr=h&sig=AAAA&se=1",
        ),
        (
            "d",
            "h/d/?api-version=1",
            "SharedAccessSignature sr=h%2Fdevices%2Fe&sig=AAAA&se=1",
        ),
    ] {
        let presented = Presented {
            client_id,
            username: Some(username),
            password: password.as_bytes(),
        };
        let scheme = presented
            .scheme()
            .unwrap_or_else(|| panic!("{client_id} {username}"));
        let claimed = presented.claim(scheme);
        assert!(
            matches!(claimed, Err(Reason::Malformed(_))),
            "{client_id} {username} {claimed:?}"
        );
    }
}

/// Inputs of one device of each scheme, signed now.
fn device(scheme: Scheme, name: &str, secret: &str) -> (&'static str, Value) {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.encode(secret);
    match scheme {
        Scheme::AliyunIot => (
            "aliyun_iot",
            json!({"product_key": "pk", "device_name": name, "device_secret": secret, "timestamp": true}),
        ),
        Scheme::AliyunMq => (
            "aliyun_mq_signature",
            json!({"group_id": "GID", "device_id": name, "access_key": "k", "access_secret": secret, "instance_id": "i"}),
        ),
        Scheme::TencentIot => (
            "tencent_iot",
            json!({"product_id": "PID", "device_name": name, "device_secret": key}),
        ),
        Scheme::HuaweiIotda => (
            "huawei_iotda",
            json!({"device_id": name, "device_secret": secret}),
        ),
        Scheme::Onenet => (
            "onenet",
            json!({"product_id": "pid", "device_name": name, "access_key": key}),
        ),
        Scheme::BaiduIotcore => (
            "baidu_iotcore",
            json!({"core_id": "core", "device_key": name, "device_secret": secret}),
        ),
        Scheme::AzureIothub => (
            "azure_iothub",
            json!({"host": "h.example", "device_id": name, "key": key}),
        ),
    }
}

fn signed(scheme: Scheme, name: &str, secret: &str, now_ms: i64) -> (ShownCreds, String) {
    let (provider, inputs) = device(scheme, name, secret);
    let moment = Moment { now_ms, random: 7 };
    let creds = sign_at(provider, &inputs, moment).unwrap().show();
    (creds, secret_of(&inputs).to_owned())
}

/// What a claim is about; what no scheme signs or looks up is left out.
fn whom(claim: &Claim) -> (Scheme, Option<String>, String, Stamp) {
    (
        claim.scheme,
        claim.tenant.clone(),
        claim.device.clone(),
        claim.stamp,
    )
}

/// Takes another letter in one place of a text.
fn changed(text: &str, place: usize, letter: char) -> Option<String> {
    let letters: Vec<char> = text.chars().collect();
    let place = place % letters.len().max(1);
    let old = *letters.get(place)?;
    // The case of hexadecimal digits makes no difference.
    if old.eq_ignore_ascii_case(&letter) {
        return None;
    }
    let mut letters = letters;
    letters[place] = letter;
    Some(letters.into_iter().collect())
}

proptest! {
    #[test]
    fn whatever_is_signed_is_verified(
        scheme in proptest::sample::select(&Scheme::ALL[..]),
        name in "[A-Za-z0-9][A-Za-z0-9_-]{0,20}",
        secret in "[!-~]{1,40}",
        now_ms in 1_600_000_000_000i64..4_000_000_000_000,
    ) {
        let (creds, secret) = signed(scheme, &name, &secret, now_ms);
        let claim = claim(&creds).unwrap().unwrap();
        prop_assert_eq!(claim.scheme, scheme);
        prop_assert!(claim.is_signed_with(&secret));
        for check in [TimeCheck::Cloud, TimeCheck::Strict] {
            let times = Times { check, ..Times::default() };
            prop_assert!(times.look(&claim, true, now_ms).is_ok());
            // Aliyun MQ signs no time: whoever overhears it has it.
            let open = times.look(&claim, false, now_ms);
            let refused = check == TimeCheck::Strict && scheme == Scheme::AliyunMq;
            prop_assert_eq!(open == Err(Reason::NotEncrypted), refused, "{:?}", open);
        }
    }

    #[test]
    fn whatever_is_changed_is_not_verified(
        scheme in proptest::sample::select(&Scheme::ALL[..]),
        part in 0usize..3,
        place: usize,
        letter in "[ -~]",
        now_ms in 1_600_000_000_000i64..4_000_000_000_000,
    ) {
        let (right, secret) = signed(scheme, "gw-01", "hunter2-secret", now_ms);
        let letter = letter.chars().next().unwrap();
        let mut creds = right.clone();
        let text = match part {
            0 => changed(&creds.client_id, place, letter).map(|text| creds.client_id = text),
            1 => changed(creds.username.as_deref().unwrap(), place, letter)
                .map(|text| creds.username = Some(text)),
            _ => changed(creds.password.as_deref().unwrap(), place, letter)
                .map(|text| creds.password = Some(text)),
        };
        prop_assume!(text.is_some());
        let right = claim(&right).unwrap().unwrap();
        match claim(&creds) {
            Err(_) | Ok(None) => {}
            Ok(Some(claim)) if !claim.is_signed_with(&secret) => {}
            // No cloud signs every word: the security mode, the kind of id, an access key, an API version say
            // nothing of who the device is.
            Ok(Some(claim)) if part < 2 && !claim_words_signed(scheme, part) => {
                let same = whom(&claim) == whom(&right);
                let hour = matches!(claim.stamp, Stamp::Hour { .. });
                prop_assert!(same || hour || claim.tenant != right.tenant, "{:?}", claim);
            }
            Ok(Some(claim)) => prop_assert!(false, "{:?} takes {:?}", claim, creds),
        }
    }

    #[test]
    fn nothing_that_a_peer_sends_brings_it_down(
        client_id in "\\PC{0,80}",
        username in proptest::option::of("\\PC{0,80}"),
        password in proptest::collection::vec(any::<u8>(), 0..120),
        tail in proptest::sample::select(&["", "|k=v,signmethod=hmacsha1|", "_0_1_2024060112", "@@@x"][..]),
    ) {
        let client_id = client_id + tail;
        let presented = Presented { client_id: &client_id, username: username.as_deref(), password: &password };
        for scheme in Scheme::ALL {
            if let Ok(claim) = presented.claim(scheme) {
                prop_assert!(!claim.is_signed_with("c2VjcmV0"));
                let _ = Times::default().look(&claim, false, i64::MIN);
                let _ = Times { check: TimeCheck::Strict, ..Times::default() }.look(&claim, true, i64::MAX);
            }
        }
    }
}

proptest! {
    #[test]
    fn another_secret_verifies_nothing(
        scheme in proptest::sample::select(&Scheme::ALL[..]),
        secret in "[!-~]{1,40}",
        place: usize,
        letter in "[!-~]",
    ) {
        let letter = letter.chars().next().unwrap();
        let other = changed(&secret, place, letter);
        prop_assume!(other.is_some());
        let (creds, right) = signed(scheme, "gw-01", &secret, NOW_MS);
        let (_, wrong) = signed(scheme, "gw-01", &other.unwrap(), NOW_MS);
        let claim = claim(&creds).unwrap().unwrap();
        prop_assert!(claim.is_signed_with(&right));
        prop_assert!(!claim.is_signed_with(&wrong));
        prop_assert!(!claim.is_signed_without_id_with(&right));
    }

    #[test]
    fn names_that_have_to_be_encoded_come_back_as_they_were(
        scheme in proptest::sample::select(&[Scheme::Onenet, Scheme::AzureIothub][..]),
        name in "[!-~&&[^/+#]]{1,20}",
    ) {
        let (creds, secret) = signed(scheme, &name, "hunter2-secret", NOW_MS);
        let claim = claim(&creds).unwrap().unwrap();
        prop_assert_eq!(&claim.device, &name);
        prop_assert!(claim.is_signed_with(&secret));
    }

    #[test]
    fn every_single_bit_of_a_signature_counts(
        scheme in proptest::sample::select(&Scheme::ALL[..]),
        bit: usize,
    ) {
        let (creds, secret) = signed(scheme, "gw-01", "hunter2-secret", NOW_MS);
        let mut claim = claim(&creds).unwrap().unwrap();
        let bit = bit % (claim.mac.len() * 8);
        claim.mac[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!claim.is_signed_with(&secret));
    }

    #[test]
    fn a_device_of_huawei_that_signs_in_the_last_moment_of_an_hour_is_heard_in_the_next(
        hour in 440_000i64..1_000_000,
        before_ms in 1i64..2000,
        after_ms in 0i64..240_000,
    ) {
        let turn_ms = hour * 3_600_000;
        for check in [TimeCheck::Cloud, TimeCheck::Strict] {
            let fresh = look(Scheme::HuaweiIotda, turn_ms - before_ms, turn_ms + after_ms, check);
            prop_assert!(fresh.is_ok(), "{:?}", fresh);
        }
    }
}

#[test]
fn clocks_that_differ_are_judged_as_each_cloud_judges_them() {
    use Scheme::{AliyunIot, AliyunMq, AzureIothub, BaiduIotcore, HuaweiIotda, Onenet, TencentIot};
    const HOUR_S: i64 = 3600;
    // The middle of an hour, so that an hour more or less is the next or the one before.
    let now_ms = NOW_MS + 1_800_000;
    let judged = |scheme, seconds: i64, check| look(scheme, now_ms + seconds * 1000, now_ms, check);
    for scheme in Scheme::ALL {
        for seconds in [-59, 0, 59] {
            for check in [TimeCheck::Cloud, TimeCheck::Strict] {
                assert!(
                    judged(scheme, seconds, check).is_ok(),
                    "{scheme:?} {seconds}"
                );
            }
        }
        for hours in [-25, -1, 1, 25] {
            let taken = match scheme {
                AliyunIot | AliyunMq => true,
                HuaweiIotda => hours == 1 || hours == -1,
                BaiduIotcore => false,
                // Signatures are good for an hour, and a minute of skew.
                TencentIot | Onenet | AzureIothub => hours > -2,
            };
            let cloud = judged(scheme, hours * HOUR_S, TimeCheck::Cloud);
            assert_eq!(cloud.is_ok(), taken, "{scheme:?} {hours} h: {cloud:?}");
            let strictly = match scheme {
                AliyunMq => true,
                TencentIot | Onenet | AzureIothub => hours == 1 || hours == -1,
                AliyunIot | HuaweiIotda | BaiduIotcore => false,
            };
            let strict = judged(scheme, hours * HOUR_S, TimeCheck::Strict);
            assert_eq!(strict.is_ok(), strictly, "{scheme:?} {hours} h: {strict:?}");
        }
    }
}

/// Whether every letter of the client id (0) or the user name (1) is signed, or is who the device is.
fn claim_words_signed(scheme: Scheme, part: usize) -> bool {
    match scheme {
        Scheme::AliyunIot => part == 1,
        Scheme::AliyunMq => part == 0,
        Scheme::TencentIot | Scheme::Onenet => true,
        // Only the hour is signed; the device is who it is.
        Scheme::HuaweiIotda => part == 1,
        // The client id is free, and the core is not signed.
        Scheme::BaiduIotcore => false,
        Scheme::AzureIothub => part == 0,
    }
}

fn look(
    scheme: Scheme,
    signed_ms: i64,
    now_ms: i64,
    check: TimeCheck,
) -> Result<Freshness, Reason> {
    let (creds, _) = signed(scheme, "gw", "secret", signed_ms);
    let times = Times {
        check,
        ..Times::default()
    };
    times.look(&claim(&creds).unwrap().unwrap(), true, now_ms)
}

#[test]
fn windows_end_where_they_end() {
    use TimeCheck::{Cloud, Strict};
    let at = |scheme, seconds: i64, check| look(scheme, NOW_MS, NOW_MS + seconds * 1000, check);
    // Aliyun's cloud looks at no time.
    assert_eq!(at(Scheme::AliyunIot, 1 << 40, Cloud), Ok(Freshness::Any));
    for seconds in [-300, 300] {
        assert_eq!(
            at(Scheme::AliyunIot, seconds, Strict),
            Ok(Freshness::Later(NOW_MS))
        );
        let beyond = seconds + seconds.signum();
        assert_eq!(
            at(Scheme::AliyunIot, beyond, Strict),
            Err(Reason::ClockWrong)
        );
    }
    for seconds in [-600, 600] {
        assert_eq!(at(Scheme::BaiduIotcore, seconds, Cloud), Ok(Freshness::Any));
        let beyond = seconds + seconds.signum();
        assert_eq!(
            at(Scheme::BaiduIotcore, beyond, Cloud),
            Err(Reason::ClockWrong)
        );
    }
    // An hour's signature, and the minute of skew.
    for scheme in [Scheme::TencentIot, Scheme::Onenet, Scheme::AzureIothub] {
        assert_eq!(at(scheme, 3660, Cloud), Ok(Freshness::Any));
        assert_eq!(at(scheme, 3661, Cloud), Err(Reason::Expired));
        assert!(at(scheme, 3600 - 86_400, Strict).is_ok());
        assert_eq!(at(scheme, 3600 - 86_401, Strict), Err(Reason::TooLong));
    }
    // 12:00:00 is the beginning of an hour.
    assert!(at(Scheme::HuaweiIotda, 7199, Cloud).is_ok());
    assert_eq!(
        at(Scheme::HuaweiIotda, 7200, Cloud),
        Err(Reason::ClockWrong)
    );
    assert!(at(Scheme::HuaweiIotda, 3899, Strict).is_ok());
    assert_eq!(
        at(Scheme::HuaweiIotda, 3900, Strict),
        Err(Reason::ClockWrong)
    );
    assert!(at(Scheme::HuaweiIotda, -1, Cloud).is_ok());
    assert_eq!(at(Scheme::HuaweiIotda, -1, Strict), Err(Reason::ClockWrong));
}

#[test]
fn a_time_in_seconds_is_one_too() {
    let inputs = json!({"product_key": "pk", "device_name": "d", "device_secret": "s", "timestamp": NOW_MS / 1000});
    let moment = Moment {
        now_ms: NOW_MS,
        random: 1,
    };
    let creds = sign_at("aliyun_iot", &inputs, moment).unwrap().show();
    let claim = claim(&creds).unwrap().unwrap();
    assert!(claim.is_signed_with("s"));
    assert_eq!(claim.stamp, Stamp::Made(NOW_MS));
}

#[test]
fn the_constants_of_official_sdks_are_taken_as_the_cloud_takes_them_and_not_strictly() {
    let aliyun = json!({"product_key": "pk", "device_name": "d", "device_secret": "s", "timestamp": 2_524_608_000_000i64});
    let tencent = json!({"product_id": "P", "device_name": "d", "device_secret": "c2VjcmV0", "expiry": i64::MAX});
    let huawei = json!({"device_id": "d", "device_secret": "s", "check_timestamp": 0});
    let baidu =
        json!({"core_id": "c", "device_key": "d", "device_secret": "s", "short_username": true});
    for (provider, inputs, reason) in [
        ("aliyun_iot", aliyun, Reason::ClockWrong),
        ("tencent_iot", tencent, Reason::TooLong),
        ("huawei_iotda", huawei, Reason::NoTime),
        ("baidu_iotcore", baidu, Reason::NoTime),
    ] {
        let moment = Moment {
            now_ms: NOW_MS,
            random: 1,
        };
        let creds = sign_at(provider, &inputs, moment).unwrap().show();
        let claim = claim(&creds).unwrap().unwrap();
        let look = |check| {
            Times {
                check,
                ..Times::default()
            }
            .look(&claim, true, NOW_MS)
        };
        assert_eq!(look(TimeCheck::Cloud), Ok(Freshness::Any), "{provider}");
        assert_eq!(look(TimeCheck::Strict), Err(reason), "{provider}");
    }
}

#[test]
fn signatures_are_compared_in_constant_time_alone() {
    let text = include_str!("mod.rs");
    assert!(text.contains("made.ct_eq(&self.mac)"));
    let tokens = include_str!("tokens.rs");
    assert!(tokens.contains(".ct_eq(issued.as_bytes())"));
    // `mac` is private to the folder; nothing else in it compares one.
    for text in [
        text,
        tokens,
        include_str!("read.rs"),
        include_str!("times.rs"),
    ] {
        let compared = |line: &str| {
            (line.contains("==") || line.contains("!="))
                && (line.contains(".mac") || line.contains("made") || line.contains(".token"))
        };
        assert_eq!(text.lines().find(|line| compared(line)), None);
    }
}

#[test]
fn a_connection_id_is_a_word_without_blanks() {
    let inputs = json!({"product_id": "P", "device_name": "d", "device_secret": "c2VjcmV0"});
    let moment = Moment {
        now_ms: NOW_MS,
        random: 1,
    };
    let creds = sign_at("tencent_iot", &inputs, moment).unwrap().show();
    let username = creds.username.clone().unwrap();
    let parts: Vec<&str> = username.split(';').collect();
    let with = |connection: &str| {
        let mut creds = creds.clone();
        creds.username = Some(format!(
            "{};{};{connection};{}",
            parts[0], parts[1], parts[3]
        ));
        claim(&creds).map(|claim| claim.is_some())
    };
    let uuid = "0190c2a4-7f1e-7d3c-9a55-1f2e3d4c5b6a";
    for connection in ["Ab3x9", uuid, &"x".repeat(64)] {
        assert!(with(connection).is_ok(), "{connection}");
    }
    let forged = "x\nlast 9223372036854775807 tencent_iot:P:other";
    for connection in ["", "a b", forged, "é", &"x".repeat(65)] {
        let answer = with(connection);
        assert!(matches!(answer, Err(Reason::Malformed(_))), "{connection}");
    }
}

#[test]
fn a_signature_is_remembered_for_as_long_as_it_is_taken() {
    let strict = |scheme| look(scheme, NOW_MS, NOW_MS, TimeCheck::Strict);
    let taken_until_s = NOW_MS / 1000 + 3600 + 60;
    assert_eq!(
        strict(Scheme::TencentIot),
        Ok(Freshness::Once(taken_until_s))
    );
    for scheme in [Scheme::Onenet, Scheme::AzureIothub] {
        assert_eq!(strict(scheme), Ok(Freshness::OnePlace(taken_until_s)));
    }
    // 12:00:00 is the beginning of an hour, and 13:05:00 is too late.
    let hour = NOW_MS / 1000 + 3600 + 300;
    for minutes in [0, 59, 64] {
        let answer = look(
            Scheme::HuaweiIotda,
            NOW_MS,
            NOW_MS + minutes * 60_000,
            TimeCheck::Strict,
        );
        assert_eq!(answer, Ok(Freshness::OnePlace(hour)), "{minutes}");
    }
}
