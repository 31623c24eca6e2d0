//! Tokens made with keys of the moment: what is believed, and every way of lying that is known.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::auth::tests::request;

const NOW: i64 = 1_700_000_000;

fn settings() -> JwtSettings {
    JwtSettings {
        from: TokenPlace::Password,
        username_claim: "sub".to_owned(),
        issuer: None,
        audience: None,
        claims: BTreeMap::new(),
        acl_claim: "acl".to_owned(),
        leeway_s: 0,
    }
}

fn hmac(secret: &str) -> Keys {
    Keys::secret(weir_sinks::Secret::new(secret))
}

fn signed(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

fn answer(keys: Keys, settings: JwtSettings, token: &str) -> Decision {
    let request = ConnectRequest {
        password: Some(token.to_owned().into()),
        ..request(Some("ann"), "", false)
    };
    Jwt::new(Arc::new(keys), settings).decide(&request, NOW)
}

fn bad() -> Decision {
    Decision::Deny(ReasonCode::BadUserNameOrPassword)
}

/// A private key with a PEM of its public half, and a set that names it `k1`.
struct Pair {
    key: EncodingKey,
    algorithm: Algorithm,
    pem: String,
    jwk: Value,
}

/// A P-256 key made now.
fn pair() -> Pair {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = pair.public_key_raw();
    Pair {
        key: EncodingKey::from_ec_der(&pair.serialize_der()),
        algorithm: Algorithm::ES256,
        pem: pair.public_key_pem(),
        jwk: json!({
            "kty": "EC", "crv": "P-256", "kid": "k1",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        }),
    }
}

fn sign_with(pair: &Pair, kid: Option<&str>, claims: &Value) -> String {
    let header = Header {
        kid: kid.map(str::to_owned),
        ..Header::new(pair.algorithm)
    };
    encode(&header, claims, &pair.key).unwrap()
}

#[test]
fn a_token_of_the_shared_secret_names_its_user() {
    let token = signed("secret", &json!({"sub": "dev-7", "exp": NOW + 60}));
    let Decision::Allow(identity) = answer(hmac("secret"), settings(), &token) else {
        panic!("it is right")
    };
    assert_eq!(identity.username.as_deref(), Some("dev-7"));
    assert_eq!(identity.expires_at_s, Some(NOW + 60));
    assert_eq!(answer(hmac("other"), settings(), &token), bad());
    // A name that is only sent is nobody's.
    let token = signed("secret", &json!({}));
    let Decision::Allow(identity) = answer(hmac("secret"), settings(), &token) else {
        panic!("it is right")
    };
    assert_eq!(identity.username, None);
}

#[test]
fn what_is_no_token_is_somebody_elses_password() {
    for password in ["", "secret", "a.b", "a.b.c.d"] {
        assert_eq!(
            answer(hmac("secret"), settings(), password),
            Decision::Ignore
        );
    }
    assert_eq!(answer(hmac("secret"), settings(), "a.b.c"), bad());
}

#[test]
fn times_are_kept() {
    let at = |claims: Value| answer(hmac("s"), settings(), &signed("s", &claims));
    assert!(matches!(
        at(json!({"exp": NOW + 1, "nbf": NOW})),
        Decision::Allow(_)
    ));
    assert_eq!(at(json!({"exp": NOW})), bad());
    assert_eq!(at(json!({"nbf": NOW + 1})), bad());
    assert_eq!(at(json!({"exp": "tomorrow"})), bad());
    let lenient = JwtSettings {
        leeway_s: 10,
        ..settings()
    };
    let late = signed("s", &json!({"exp": NOW - 9}));
    assert!(matches!(
        answer(hmac("s"), lenient, &late),
        Decision::Allow(_)
    ));
}

#[test]
fn issuer_audience_and_claims_must_be_there_and_right() {
    let strict = || JwtSettings {
        issuer: Some("plant".to_owned()),
        audience: Some("mqtt".to_owned()),
        claims: [("dev", "%c"), ("user", "%u")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..settings()
    };
    let good = json!({"iss": "plant", "aud": ["web", "mqtt"], "dev": "c", "user": "ann"});
    let Decision::Allow(identity) = answer(hmac("s"), strict(), &signed("s", &good)) else {
        panic!("it is right")
    };
    assert_eq!(
        identity.username.as_deref(),
        Some("ann"),
        "a claim vouches for it"
    );
    for (name, other) in [
        ("iss", json!("other")),
        ("aud", json!(["web"])),
        ("dev", json!("d")),
        ("user", json!(1)),
    ] {
        let mut wrong = good.clone();
        wrong[name] = other;
        assert_eq!(
            answer(hmac("s"), strict(), &signed("s", &wrong)),
            bad(),
            "{name}"
        );
        wrong.as_object_mut().unwrap().remove(name);
        assert_eq!(
            answer(hmac("s"), strict(), &signed("s", &wrong)),
            bad(),
            "no {name}"
        );
    }
}

#[test]
fn an_access_list_in_the_token_is_taken_or_the_token_is_not() {
    let token = signed(
        "s",
        &json!({"acl": {"publish": ["up/%c"]}, "client_attrs": {"site": "7"}}),
    );
    let Decision::Allow(identity) = answer(hmac("s"), settings(), &token) else {
        panic!("it is right")
    };
    assert!(identity.acl.is_some());
    assert_eq!(
        identity.attributes.get("site").map(String::as_str),
        Some("7")
    );
    let token = signed("s", &json!({"acl": {"publish": ["a/#/b"]}}));
    assert_eq!(answer(hmac("s"), settings(), &token), bad());
}

#[test]
fn a_public_key_checks_what_its_private_half_has_signed() {
    let (ours, theirs) = (pair(), pair());
    let token = sign_with(&ours, None, &json!({"sub": "x"}));
    let keys = || Keys::pem(&ours.pem).unwrap();
    assert!(matches!(
        answer(keys(), settings(), &token),
        Decision::Allow(_)
    ));
    let forged = sign_with(&theirs, None, &json!({"sub": "x"}));
    assert_eq!(answer(keys(), settings(), &forged), bad());
    // The claims of one token with the signature of another.
    let other = sign_with(&ours, None, &json!({"sub": "admin"}));
    let (head, _) = token.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(
        answer(keys(), settings(), &format!("{head}.{signature}")),
        bad()
    );
}

#[test]
fn a_public_key_is_no_secret() {
    let ours = pair();
    // Signed with the text of the public key, as if it were a shared secret.
    let token = signed(&ours.pem, &json!({"sub": "admin"}));
    assert_eq!(
        answer(Keys::pem(&ours.pem).unwrap(), settings(), &token),
        bad()
    );
    let set = json!({"keys": [ours.jwk]}).to_string();
    assert_eq!(answer(Keys::jwks(&set).unwrap(), settings(), &token), bad());
}

#[test]
fn no_algorithm_is_no_signature() {
    let claims = URL_SAFE_NO_PAD.encode(json!({"sub": "admin"}).to_string());
    for algorithm in ["none", "None", "NONE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "typ": "JWT"}).to_string());
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{claims}.{signature}");
            assert_eq!(answer(hmac("s"), settings(), &token), bad());
            assert_eq!(
                answer(Keys::pem(&pair().pem).unwrap(), settings(), &token),
                bad()
            );
        }
    }
}

#[test]
fn an_empty_secret_signs_nothing() {
    let token = signed("", &json!({"sub": "admin"}));
    assert_eq!(answer(hmac(""), settings(), &token), bad());
}

#[test]
fn a_set_chooses_by_key_id_and_can_change() {
    let (one, two) = (pair(), pair());
    let named = |pair: &Pair, kid: &str| {
        let mut jwk = pair.jwk.clone();
        jwk["kid"] = json!(kid);
        jwk
    };
    let set = json!({"keys": [{"kty": "unknown"}, named(&one, "one"), named(&two, "two")]});
    let keys = Arc::new(Keys::jwks(&set.to_string()).unwrap());
    assert_eq!(keys.len(), 2);
    let jwt = Jwt::new(Arc::clone(&keys), settings());
    let tried = |pair: &Pair, kid: Option<&str>| {
        let token = sign_with(pair, kid, &json!({"sub": "x"}));
        let request = ConnectRequest {
            password: Some(token.into()),
            ..request(None, "", false)
        };
        matches!(jwt.decide(&request, NOW), Decision::Allow(_))
    };
    assert!(tried(&one, Some("one")) && tried(&two, Some("two")) && tried(&two, None));
    assert!(!tried(&one, Some("two")) && !tried(&one, Some("three")));
    keys.replace(Keys::jwks(&json!({"keys": [named(&two, "two")]}).to_string()).unwrap());
    assert!(tried(&two, Some("two")) && !tried(&one, Some("one")) && !tried(&one, None));
}

#[test]
fn files_without_a_key_are_refused() {
    assert_eq!(Keys::pem("secret").err(), Some(KeyError::NoPem));
    assert_eq!(Keys::jwks("{}").err(), Some(KeyError::NoSet));
    assert_eq!(Keys::jwks("{\"keys\": []}").err(), Some(KeyError::Empty));
    let encryption = {
        let mut jwk = pair().jwk;
        jwk["use"] = json!("enc");
        json!({"keys": [jwk]}).to_string()
    };
    assert_eq!(Keys::jwks(&encryption).err(), Some(KeyError::Empty));
}

/// Made by openssl; the private key is gone.
const RSA_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAy73S6ALsrQcfXfHG1Ecs\n\
5PABamgLtiw5y/1i541Z6YeZwPl2E3vgmrTO53eb0wU4aoedlGjATszFgsVGqKBZ\n\
VZFxQABLkLWokdsad3ORqhJRM6hrVdOgr9L5Y/HnUnb2va3NEv/jd8OvgcuIu9Qf\n\
G1MXD8q/2RG90UzotHCH940PNp75xwtGS8p++btL8v5L+7cpa7eOqqAZgiDqXKK6\n\
QnHNC04g0AUPaGa3I/hD0FSvQ4/e6x/FvFgE+VPP+BGlCujJ9shYmbgoUYfFKPWa\n\
dMi92UNYEodPm8cjOeng9H8q6lpK+SlXnIlxLKaSKEBsITDaaTBpYpdRUHUZjgS8\n\
aQIDAQAB\n\
-----END PUBLIC KEY-----\n\
";

#[test]
fn an_rsa_key_checks_what_another_program_has_signed() {
    let token = concat!(
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJkZXYtNyJ9.JSTSc71D3msveNZwqZG9RV7n5xvfSCgRyxQExXvnm6",
        "LVAtz47yDqKtclGoMB9-exFKlS7nYlw1x4zXO0s-dm1FB7cDMnAvDYucQmxLL-6E2q_lnhyIW2mmoVROegnTfSzhw0i2OcyIShzi",
        "SUXJET9golu2QyyOeiVVwi4NKcP4OLDDhSVo2LKbYwptVhJp1QlQHprQ3o8OEdWjkip3wZX_wW_tlF68ix8gz7H1HcaklfLDkhPP",
        "e-9fWQMeDbsap9lxUKPyKRKRU8gSLjsiAu7LQrBch-yQ0HB7qGedYJs5jbbRN1L3FN5LEjbbVtthwEambUEbKF0xhUi9knOBTMdQ",
    );
    let keys = || Keys::pem(RSA_PEM).unwrap();
    let Decision::Allow(identity) = answer(keys(), settings(), token) else {
        panic!("it is right")
    };
    assert_eq!(identity.username.as_deref(), Some("dev-7"));
    let mut parts: Vec<&str> = token.split('.').collect();
    let admin = URL_SAFE_NO_PAD.encode(json!({"sub": "admin"}).to_string());
    parts[1] = &admin;
    let forged = parts.join(".");
    assert_eq!(answer(keys(), settings(), &forged), bad());
    // The public key as a shared secret.
    assert_eq!(
        answer(keys(), settings(), &signed(RSA_PEM, &json!({}))),
        bad()
    );
}
