//! The other side of the signers: what a CONNECT claims, and whether a device's secret makes the same signature
//! (cloud-bridges §15.2 to §15.4). Pure: no table of devices, no clock, nothing remembered.

mod read;
mod times;
mod tokens;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::signer::mac::{self, Hash};

pub use times::{Freshness, TimeCheck, Times};
pub use tokens::{Rights, ShownToken};

/// Whose devices sign this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Aliyun IoT Platform with a device secret.
    AliyunIot,
    /// Aliyun MQ for MQTT with a signature or tokens.
    AliyunMq,
    /// Tencent Cloud.
    TencentIot,
    /// Huawei Cloud IoTDA.
    HuaweiIotda,
    /// China Mobile OneNET.
    Onenet,
    /// Baidu IoT Core.
    BaiduIotcore,
    /// Azure IoT Hub with a shared access signature.
    AzureIothub,
}

impl Scheme {
    /// Every scheme, in the order in which they are recognised.
    pub const ALL: [Self; 7] = [
        Self::AliyunIot,
        Self::AliyunMq,
        Self::TencentIot,
        Self::HuaweiIotda,
        Self::Onenet,
        Self::BaiduIotcore,
        Self::AzureIothub,
    ];

    /// Its name, which is the preset's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AliyunIot => "aliyun_iot",
            Self::AliyunMq => "aliyun_mq",
            Self::TencentIot => "tencent_iot",
            Self::HuaweiIotda => "huawei_iotda",
            Self::Onenet => "onenet",
            Self::BaiduIotcore => "baidu_iotcore",
            Self::AzureIothub => "azure_iothub",
        }
    }

    /// The scheme of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// Whether a device is known by a tenant's key (product key, instance, core, host) beside its own name.
    pub const fn has_tenant(self) -> bool {
        !matches!(self, Self::HuaweiIotda)
    }

    /// Whether secrets are base64 of the key.
    pub const fn secret_is_base64(self) -> bool {
        matches!(self, Self::TencentIot | Self::Onenet | Self::AzureIothub)
    }

    /// Whether `secret` can be one of this scheme.
    pub fn takes_secret(self, secret: &str) -> bool {
        !secret.is_empty() && (!self.secret_is_base64() || mac::key(secret).is_some())
    }
}

/// What a client says about itself in CONNECT.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The client identifier.
    pub client_id: &'a str,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password.
    pub password: &'a [u8],
}

impl Presented<'_> {
    const MAX_CLIENT_ID: usize = 512;
    const MAX_USERNAME: usize = 1024;
    const MAX_PASSWORD: usize = 2048;

    /// Whose device this wants to be; `None` where it signs like none of them.
    pub fn scheme(&self) -> Option<Scheme> {
        Scheme::ALL
            .into_iter()
            .find(|scheme| read::looks_like(*scheme, self))
    }

    /// What it claims in the form of `scheme`.
    ///
    /// # Errors
    /// [`Reason::Malformed`], with the part that is wrong.
    pub fn claim(&self, scheme: Scheme) -> Result<Claim, Reason> {
        let fits = self.client_id.len() <= Self::MAX_CLIENT_ID
            && self.username.unwrap_or_default().len() <= Self::MAX_USERNAME
            && self.password.len() <= Self::MAX_PASSWORD;
        if !fits {
            return Err(Reason::Malformed(
                "client id, user name or password is longer than any device's",
            ));
        }
        read::claim(scheme, self)
    }
}

/// What a CONNECT claims to be, and the signature that it shows for it.
pub struct Claim {
    /// Whose device.
    pub scheme: Scheme,
    /// The key of the product, instance, core or host; `None` where the client id does not tell it from the device.
    pub tenant: Option<String>,
    /// The device; where `tenant` is `None` for a scheme that has one, tenant and device in one word.
    pub device: String,
    /// What the signature says of time.
    pub stamp: Stamp,
    /// Whether the device leaves it to the server to subscribe it to its topics (`_ss=1` of Aliyun's SDKs).
    pub leaves_subscribing: bool,
    /// What it knows, or has.
    pub shows: Shows,
    /// Which hash.
    hash: Hash,
    proof: Proof,
    mac: Zeroizing<Vec<u8>>,
}

/// What a device shows that it may come in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    /// It knows its own secret.
    Device,
    /// It knows its product's access key, which signs for every device of the product.
    Product,
    /// It knows its product's secret, and asks for its own.
    Registers,
    /// It knows its product's secret, is new, and asks for a token.
    AsksForToken,
    /// It has tokens that somebody has issued: nothing is signed.
    Tokens(Vec<ShownToken>),
}

/// What a signature says of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Nothing.
    Timeless,
    /// When it was made, in milliseconds since 1970; 0 where the device has no clock.
    Made(i64),
    /// The hour in which it was made, and whether the device wants that checked.
    Hour {
        /// Its beginning, in milliseconds since 1970.
        began_ms: i64,
        /// Whether it is checked.
        checked: bool,
    },
    /// Until when it is good, in seconds since 1970.
    Until(u64),
}

/// How the signature is made of a secret.
enum Proof {
    /// HMAC of the text; the secret is the key, as it is or decoded.
    Keyed(String),
    /// HMAC of the secret; the text is the key.
    Turned(String),
    /// The hash of the text with the secret behind it.
    Suffixed(String),
    /// The secret itself is the password.
    Verbatim,
    /// HMAC of the first text or, for devices that leave their client id out of it, of the second.
    EitherKeyed(String, String),
    /// Tokens stand in the place of a signature.
    None,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim")
            .field("scheme", &self.scheme)
            .field("tenant", &self.tenant)
            .field("device", &self.device)
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
}

impl Claim {
    /// Whether this secret makes the signature that is shown. Compared in constant time.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let made = Zeroizing::new(match &self.proof {
            Proof::None => return false,
            Proof::Verbatim => secret.as_bytes().to_vec(),
            Proof::Keyed(text) if self.scheme.secret_is_base64() => {
                // The table holds none that cannot be decoded; a database may.
                let key = mac::key(secret).unwrap_or_default();
                self.hash.hmac(&key, text.as_bytes())
            }
            Proof::Keyed(text) | Proof::EitherKeyed(text, _) => {
                self.hash.hmac(secret.as_bytes(), text.as_bytes())
            }
            Proof::Turned(key) => self.hash.hmac(key.as_bytes(), secret.as_bytes()),
            Proof::Suffixed(text) => {
                let text = Zeroizing::new([text.as_bytes(), secret.as_bytes()].concat());
                self.hash.digest(&text)
            }
        });
        self.scheme.takes_secret(secret) && bool::from(made.ct_eq(&self.mac))
    }

    /// The same for a device that does not sign its client id, which pages of Aliyun call optional. Compared in constant
    /// time.
    pub fn is_signed_without_id_with(&self, secret: &str) -> bool {
        let Proof::EitherKeyed(_, text) = &self.proof else {
            return false;
        };
        let made = Zeroizing::new(self.hash.hmac(secret.as_bytes(), text.as_bytes()));
        self.scheme.takes_secret(secret) && bool::from(made.ct_eq(&self.mac))
    }

    /// Whether the signature rests on MD5.
    pub fn is_weak(&self) -> bool {
        self.hash == Hash::Md5 && !matches!(self.proof, Proof::Verbatim | Proof::None)
    }

    /// A word that no other signature shares.
    pub fn fingerprint(&self) -> String {
        mac::hex(&Hash::Sha256.digest(&self.mac))
    }
}

/// Why a device is not admitted. The device itself is told less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is recognised and not well formed.
    Malformed(&'static str),
    /// No such device in the table.
    UnknownDevice,
    /// The device is switched off in the table.
    Disabled,
    /// Another secret has made the signature, or something was changed on the way.
    WrongSignature,
    /// MD5 where that is not allowed.
    WeakMethod,
    /// The time until which it was good is over.
    Expired,
    /// The time at which it was made is too far from now.
    ClockWrong,
    /// There has to be a time, and there is none that counts.
    NoTime,
    /// It is good for longer than it may be.
    TooLong,
    /// It was used before.
    Replayed,
    /// As many signatures as can be remembered are remembered.
    MemoryFull,
    /// Too many failures of late.
    Throttled,
    /// The device asks for its secret, and the table does not let it.
    MayNotRegister,
    /// The table cannot be asked.
    Unavailable,
    /// It never changes, and there is no TLS.
    NotEncrypted,
    /// The product's key has signed where only the device's own may.
    ProductKey,
    /// It is not heard as seldom as its cloud wants to hear of it.
    KeepAlive,
    /// It connects more often than its cloud lets it.
    TooOften,
    /// No such token in the table.
    UnknownToken,
}

impl Reason {
    /// Every reason's word.
    pub const WORDS: [&str; 19] = [
        "malformed",
        "unknown_device",
        "disabled",
        "wrong_signature",
        "weak_method",
        "expired",
        "clock",
        "no_time",
        "too_long",
        "replayed",
        "memory_full",
        "throttled",
        "may_not_register",
        "unavailable",
        "not_encrypted",
        "product_key",
        "keep_alive",
        "too_often",
        "unknown_token",
    ];

    /// Its word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownDevice => "unknown_device",
            Self::Disabled => "disabled",
            Self::WrongSignature => "wrong_signature",
            Self::WeakMethod => "weak_method",
            Self::Expired => "expired",
            Self::ClockWrong => "clock",
            Self::NoTime => "no_time",
            Self::TooLong => "too_long",
            Self::Replayed => "replayed",
            Self::MemoryFull => "memory_full",
            Self::Throttled => "throttled",
            Self::MayNotRegister => "may_not_register",
            Self::Unavailable => "unavailable",
            Self::NotEncrypted => "not_encrypted",
            Self::ProductKey => "product_key",
            Self::KeepAlive => "keep_alive",
            Self::TooOften => "too_often",
            Self::UnknownToken => "unknown_token",
        }
    }

    /// What is wrong and what to do, for the operator's log.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Malformed(part) => part,
            Self::UnknownDevice => {
                "the table has no such device: compare scheme, tenant_key and device with what the device was given, letter by letter"
            }
            Self::Disabled => "the table says enabled = false",
            Self::WrongSignature => {
                "the signature was made with another secret: copy the device's secret into the table as the cloud issued it"
            }
            Self::WeakMethod => {
                "the device signs with MD5: let it use SHA-256, or set auth.devices.allow_md5"
            }
            Self::Expired => {
                "the signature or token has run out: set the device's clock, and let it sign at each connect or fetch another token"
            }
            Self::ClockWrong => {
                "the time in the signature is too far from this machine's: compare both clocks (`date -u`)"
            }
            Self::NoTime => {
                "time_check = \"strict\" asks for a real time in the signature, and this device sends none: give it a clock, or use \"cloud\""
            }
            Self::TooLong => {
                "time_check = \"strict\" takes signatures that are good for a day at most: shorten the device's, or use \"cloud\""
            }
            Self::Replayed => {
                "a signature comes a second time: somebody repeats what was overheard, or the device signs once and connects often (then use time_check = \"cloud\")"
            }
            Self::MemoryFull => {
                "as many signatures as are remembered, of this device or of all, are still good; new ones wait until some run out"
            }
            Self::Throttled => {
                "too many failures under this device's name from this network, or from the network at all: it is heard there again in a minute"
            }
            Self::MayNotRegister => {
                "the device asks for its secret with its product's: set register = true for the device in the file, for as long as it takes; or give the device its secret"
            }
            Self::Unavailable => "the table of devices cannot be asked",
            Self::NotEncrypted => {
                "time_check = \"strict\" takes a signature that never changes over TLS alone: let the device come to a listener of kind \"tls\" or \"wss\""
            }
            Self::ProductKey => {
                "the token is signed with the product's access key, and auth.devices.allow_product_token is false: let the device sign with its own"
            }
            Self::KeepAlive => {
                "the cloud refuses this keep-alive, and auth.devices.emulate is true: set one within the bounds of docs/devices.md in the device"
            }
            Self::UnknownToken => {
                "the table has no such token for the client: copy it with its type into [[token]], with the instance and the client id that it was issued to"
            }
            Self::TooOften => {
                "the cloud lets a device connect less often, and auth.devices.emulate is true: let the device wait longer before it connects again"
            }
        }
    }
}

#[cfg(test)]
mod tests;
