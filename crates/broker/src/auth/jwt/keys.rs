//! The keys that tokens may be signed with: a shared secret, a public key, or a set of them in a file.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use weir_sinks::Secret;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// One key with what it may be used for.
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys of the moment.
pub struct Keys(Source);

enum Source {
    /// Read anew when it lives in a file.
    Secret(Secret),
    Set(ArcSwap<Vec<Key>>),
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither of both kinds of PEM.
    #[error("it holds neither a PUBLIC KEY nor a CERTIFICATE in PEM")]
    NoPem,
    /// Not RSA, P-256, P-384 or Ed25519.
    #[error("the key is not RSA, P-256, P-384 or Ed25519")]
    Kind,
    /// An RSA key that is too short to be believed.
    #[error("the RSA key is shorter than 2048 bits")]
    Short,
    /// Not a key set.
    #[error("it is no JSON Web Key Set")]
    NoSet,
    /// A key set without a key that can check signatures.
    #[error("the set has no key that signatures can be checked with")]
    Empty,
}

impl Keys {
    /// A secret that is shared with the issuer.
    pub fn secret(secret: Secret) -> Self {
        Self(Source::Secret(secret))
    }

    /// The public key of a PEM text.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub fn pem(text: &str) -> Result<Self, KeyError> {
        Ok(Self(Source::Set(ArcSwap::from_pointee(read_pem(text)?))))
    }

    /// The keys of a JSON Web Key Set.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub fn jwks(text: &str) -> Result<Self, KeyError> {
        Ok(Self(Source::Set(ArcSwap::from_pointee(read_jwks(text)?))))
    }

    /// Takes the keys of `other` from now on.
    pub fn replace(&self, other: Self) {
        if let (Source::Set(keys), Source::Set(other)) = (&self.0, other.0) {
            keys.store(other.into_inner());
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Secret(_) => 1,
            Source::Set(keys) => keys.load().len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys that a token with this header may be signed with.
    pub(super) fn fitting(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<Arc<DecodingKey>> {
        match &self.0 {
            Source::Secret(secret) => match secret.reveal() {
                Ok(secret) if HMAC.contains(&algorithm) && !secret.is_empty() => {
                    vec![Arc::new(DecodingKey::from_secret(secret.as_bytes()))]
                }
                Ok(_) => Vec::new(),
                Err(error) => {
                    tracing::error!(%error, "the file with the secret of tokens cannot be read");
                    Vec::new()
                }
            },
            Source::Set(keys) => keys
                .load()
                .iter()
                .filter(|key| key.algorithms.contains(&algorithm))
                // A token that names a key is checked with that key alone, or with one that has no name.
                .filter(|key| id.is_none() || key.id.is_none() || key.id.as_deref() == id)
                .map(|key| Arc::new(key.key.clone()))
                .collect(),
        }
    }
}

fn read_pem(text: &str) -> Result<Vec<Key>, KeyError> {
    if let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()) {
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| KeyError::NoPem)?;
        return Ok(vec![read_public_key(&info)?]);
    }
    let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::NoPem)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| KeyError::NoPem)?;
    Ok(vec![read_public_key(certificate.public_key())?])
}

fn read_public_key(info: &SubjectPublicKeyInfo<'_>) -> Result<Key, KeyError> {
    const CURVE_25519: &str = "1.3.101.112";
    let (algorithms, key) = match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            // DER puts a zero before a first bit that is set.
            let strip = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                bytes[zeros..].to_vec()
            };
            let (modulus, exponent) = (strip(rsa.modulus), strip(rsa.exponent));
            if modulus.len() < 256 {
                return Err(KeyError::Short);
            }
            (
                RSA,
                DecodingKey::from_rsa_raw_components(&modulus, &exponent),
            )
        }
        Ok(PublicKey::EC(point)) => {
            // Uncompressed: 0x04 and both coordinates.
            let algorithms = match point.data().len() {
                65 => P256,
                97 => P384,
                _ => return Err(KeyError::Kind),
            };
            (algorithms, DecodingKey::from_ec_der(point.data()))
        }
        _ if info.algorithm.algorithm.to_id_string() == CURVE_25519 => (
            ED25519,
            DecodingKey::from_ed_der(&info.subject_public_key.data),
        ),
        _ => return Err(KeyError::Kind),
    };
    Ok(Key {
        id: None,
        algorithms: algorithms.to_vec(),
        key,
    })
}

fn read_jwks(text: &str) -> Result<Vec<Key>, KeyError> {
    // Keys of kinds that are not known here must not spoil the others.
    let set: serde_json::Value = serde_json::from_str(text).map_err(|_| KeyError::NoSet)?;
    let keys = set.get("keys").and_then(serde_json::Value::as_array);
    let keys = keys.ok_or(KeyError::NoSet)?.iter().filter_map(|key| {
        let set = serde_json::json!({ "keys": [key] });
        serde_json::from_value::<JwkSet>(set).ok()?.keys.pop()
    });
    let keys: Vec<Key> = keys
        .filter(|jwk| jwk.common.public_key_use != Some(PublicKeyUse::Encryption))
        .filter_map(|jwk| {
            let all = match &jwk.algorithm {
                AlgorithmParameters::RSA(_) => RSA,
                AlgorithmParameters::OctetKey(_) => HMAC,
                AlgorithmParameters::OctetKeyPair(_) => ED25519,
                AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
                    EllipticCurve::P256 => P256,
                    EllipticCurve::P384 => P384,
                    EllipticCurve::P521 | EllipticCurve::Ed25519 => return None,
                },
            };
            let named = match &jwk.common.key_algorithm {
                Some(named) => Some(named.to_string().parse::<Algorithm>().ok()?),
                None => None,
            };
            let algorithms: Vec<Algorithm> = all
                .iter()
                .copied()
                .filter(|algorithm| named.is_none_or(|named| named == *algorithm))
                .collect();
            (!algorithms.is_empty()).then_some(())?;
            Some(Key {
                id: jwk.common.key_id.clone(),
                algorithms,
                key: DecodingKey::from_jwk(&jwk).ok()?,
            })
        })
        .collect();
    if keys.is_empty() {
        Err(KeyError::Empty)
    } else {
        Ok(keys)
    }
}
