//! `[auth]`: who may connect, and what they may do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weir_sinks::Secret;
use weir_sinks::bridge::verifier::Scheme;
use weir_sinks::config::connector::TlsConfig;

use super::{Listener, Span};
use crate::auth::access_list::{DenyAction, NoMatch};
use crate::auth::devices::device_statement;
use crate::auth::jwt::TokenPlace;
use crate::auth::password_hash::SaltPosition;
use crate::auth::postgres::Statement;
use crate::auth::x509::CertificateName;

/// `[auth]`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Lets clients in without a user name. Counts as true on loopback while nothing else is set that admits clients.
    pub allow_anonymous: Option<bool>,
    /// The order in which authenticators are asked; without it x509, jwt, devices, password_file, postgres, http,
    /// as far as they are set.
    pub chain: Option<Vec<Link>>,
    /// `user:hash` lines as `weir passwd` writes them.
    pub password_file: Option<PathBuf>,
    /// Users that sign in with SCRAM-SHA-256 over MQTT 5, as `weir passwd --scram` writes them.
    pub scram_file: Option<PathBuf>,
    /// Names of client certificates as users.
    pub x509: Option<X509>,
    /// Signed tokens.
    pub jwt: Option<Jwt>,
    /// Devices that sign as those of a cloud do.
    pub devices: Option<Devices>,
    /// Users in a database.
    pub postgres: Option<Postgres>,
    /// A web service that decides.
    pub http: Option<Http>,
    /// Who may publish and subscribe to what.
    pub acl_file: Option<PathBuf>,
    /// What holds for what no rule speaks of. Without it: denied, but on loopback without any `acl_file`.
    pub no_match: Option<NoMatch>,
    /// What becomes of a client that publishes what it may not.
    pub deny_action: DenyAction,
    /// Clients, users and addresses that are turned away.
    pub banned_file: Option<PathBuf>,
}

/// An authenticator of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// `[auth.x509]`
    X509,
    /// `[auth.jwt]`
    Jwt,
    /// `[auth.devices]`
    Devices,
    /// `auth.password_file`
    PasswordFile,
    /// `[auth.postgres]`
    Postgres,
    /// `[auth.http]`
    Http,
}

impl Link {
    /// What is cheap and sure is asked before what is slow and far.
    const ALL: [Self; 6] = [
        Self::X509,
        Self::Jwt,
        Self::Devices,
        Self::PasswordFile,
        Self::Postgres,
        Self::Http,
    ];

    /// The key that sets it.
    const fn key(self) -> &'static str {
        match self {
            Self::X509 => "[auth.x509]",
            Self::Jwt => "[auth.jwt]",
            Self::Devices => "[auth.devices]",
            Self::PasswordFile => "auth.password_file",
            Self::Postgres => "[auth.postgres]",
            Self::Http => "[auth.http]",
        }
    }
}

/// `[auth.x509]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct X509 {
    /// Which name is the user name.
    pub name: CertificateName,
    /// The certificate is enough; otherwise the rest of the chain must admit the same user.
    pub alone: bool,
}

impl Default for X509 {
    fn default() -> Self {
        Self {
            name: CertificateName::Cn,
            alone: true,
        }
    }
}

/// `[auth.jwt]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Jwt {
    /// The secret of HS256, HS384 and HS512.
    pub secret: Option<Secret>,
    /// A PEM file with the public key of RS*, PS*, ES* or EdDSA.
    pub public_key_file: Option<PathBuf>,
    /// A JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// Where a client puts its token.
    pub from: TokenPlace,
    /// The claim that names the user.
    pub username_claim: String,
    /// Who must have issued the token.
    pub issuer: Option<String>,
    /// For whom the token must be.
    pub audience: Option<String>,
    /// What other claims must say; `%c` and `%u` stand for what the client says.
    pub claims: BTreeMap<String, String>,
    /// The claim with an access list.
    pub acl_claim: String,
    /// How far clocks may differ.
    pub leeway: Span,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: None,
            public_key_file: None,
            jwks_file: None,
            from: TokenPlace::Password,
            username_claim: "sub".to_owned(),
            issuer: None,
            audience: None,
            claims: BTreeMap::new(),
            acl_claim: "acl".to_owned(),
            leeway: Span(Duration::ZERO),
        }
    }
}

/// `[auth.devices]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Devices {
    /// The table of devices and their secrets: TOML, or CSV where the name ends in `.csv`.
    pub file: Option<PathBuf>,
    /// A database that has them.
    pub postgres: Option<DevicesPostgres>,
    /// Whose devices are listened to; without it all of them.
    pub schemes: Option<Vec<DeviceScheme>>,
    /// How closely the time in a signature is looked at.
    pub time_check: TimeCheck,
    /// How far the time of an Aliyun device may be from this machine's, with `time_check = "strict"`.
    pub window: Span,
    /// How long after its end a signature is still taken.
    pub skew: Span,
    /// Whether signatures with MD5 are taken.
    pub allow_md5: bool,
    /// Whose devices are listened to at the listener of this name, where that is not `schemes`.
    pub listeners: BTreeMap<String, Vec<DeviceScheme>>,
    /// Whether the access key of a product of OneNET signs for all of its devices.
    pub allow_product_token: bool,
    /// Whether a device of Aliyun is told its secret without TLS, too.
    pub allow_plain_provision: bool,
    /// Whether devices of Aliyun may leave their client id out of what they sign.
    pub lenient_content: bool,
    /// Whether devices are held to what their cloud enforces: QoS, keep-alive, payload, topics, rates, CONNECTs.
    pub emulate: bool,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            file: None,
            postgres: None,
            schemes: None,
            time_check: TimeCheck::Cloud,
            window: Span(Duration::from_secs(300)),
            skew: Span(Duration::from_secs(60)),
            allow_md5: true,
            listeners: BTreeMap::new(),
            allow_product_token: true,
            allow_plain_provision: false,
            lenient_content: false,
            emulate: false,
        }
    }
}

/// `[auth.devices.postgres]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DevicesPostgres {
    /// `postgres://user:password@host/database`
    pub url: Secret,
    /// Finds the device's row.
    pub query: String,
    /// The most connections to the database.
    #[serde(default = "eight")]
    pub max_connections: u32,
    /// How long an answer may take.
    #[serde(default = "five_seconds")]
    pub timeout: Span,
}

/// How closely the time in a signature is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum TimeCheck {
    /// As the cloud does.
    Cloud,
    /// So that what was overheard is of no use.
    Strict,
}

/// Whose devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeviceScheme {
    /// Aliyun IoT Platform.
    AliyunIot,
    /// Aliyun MQ for MQTT.
    AliyunMq,
    /// Tencent Cloud.
    TencentIot,
    /// Huawei Cloud IoTDA.
    HuaweiIotda,
    /// China Mobile OneNET.
    Onenet,
    /// Baidu IoT Core.
    BaiduIotcore,
    /// Azure IoT Hub.
    AzureIothub,
}

impl DeviceScheme {
    /// The same to the verifier.
    pub(crate) const fn scheme(self) -> Scheme {
        match self {
            Self::AliyunIot => Scheme::AliyunIot,
            Self::AliyunMq => Scheme::AliyunMq,
            Self::TencentIot => Scheme::TencentIot,
            Self::HuaweiIotda => Scheme::HuaweiIotda,
            Self::Onenet => Scheme::Onenet,
            Self::BaiduIotcore => Scheme::BaiduIotcore,
            Self::AzureIothub => Scheme::AzureIothub,
        }
    }
}

/// `[auth.postgres]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(rename = "AuthPostgres"))]
pub struct Postgres {
    /// `postgres://user:password@host/database`
    pub url: Secret,
    /// Finds the user's row.
    pub query: String,
    /// Finds what the user may do.
    pub acl_query: Option<String>,
    /// Where the salt of a plain digest stands.
    #[serde(default)]
    pub salt_position: SaltPosition,
    /// The most connections to the database.
    #[serde(default = "eight")]
    pub max_connections: u32,
    /// How long an answer may take.
    #[serde(default = "five_seconds")]
    pub timeout: Span,
}

/// `[auth.http]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(rename = "AuthHttp"))]
pub struct Http {
    /// The service.
    pub url: Secret,
    /// Headers of every request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How long an answer may take.
    #[serde(default = "five_seconds")]
    pub timeout: Span,
    /// Requests at once.
    #[serde(default = "sixty_four")]
    pub max_concurrent: usize,
    /// How the service proves who it is.
    #[serde(default)]
    pub tls: TlsConfig,
}

const fn eight() -> u32 {
    8
}

const fn sixty_four() -> usize {
    64
}

const fn five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

impl Auth {
    /// What is asked, in its order.
    pub fn links(&self) -> Vec<Link> {
        let set = |link: &Link| self.is_set(*link);
        match &self.chain {
            Some(chain) => chain.clone(),
            None => Link::ALL.iter().copied().filter(set).collect(),
        }
    }

    fn is_set(&self, link: Link) -> bool {
        match link {
            Link::X509 => self.x509.is_some(),
            Link::Jwt => self.jwt.is_some(),
            Link::Devices => self.devices.is_some(),
            Link::PasswordFile => self.password_file.is_some(),
            Link::Postgres => self.postgres.is_some(),
            Link::Http => self.http.is_some(),
        }
    }

    /// Whether somebody asks clients who they are.
    pub fn asks(&self) -> bool {
        !self.links().is_empty() || self.scram_file.is_some()
    }

    /// What is unsafe or cannot be.
    pub(super) fn check(&self, listeners: &[Listener], refuse: &mut impl FnMut(String, &str)) {
        for listener in listeners {
            if listener.is_open_by_accident(self) {
                refuse(
                    format!(
                        "the listener on {} is open to the network and nobody has to log in",
                        listener.bind
                    ),
                    "set `password_file` under [auth] (`weir passwd FILE USER` writes it), or `allow_anonymous = true`",
                );
            }
        }
        self.check_chain(refuse);
        self.check_jwt(refuse);
        self.check_devices(listeners, refuse);
        if let Some(postgres) = &self.postgres {
            let queries = [
                ("query", Some(&postgres.query)),
                ("acl_query", postgres.acl_query.as_ref()),
            ];
            for (key, query) in queries {
                if let Some(Err(place)) = query.map(|query| Statement::parse(query)) {
                    refuse(
                        format!("`{place}` in auth.postgres.{key} is not known"),
                        "there are ${username}, ${clientid}, ${cert_cn} and ${peerhost}; each becomes a bound value",
                    );
                }
            }
        }
    }

    fn check_chain(&self, refuse: &mut impl FnMut(String, &str)) {
        let links = self.links();
        for (at, link) in links.iter().enumerate() {
            if !self.is_set(*link) {
                refuse(
                    format!(
                        "auth.chain names an authenticator without its settings: {}",
                        link.key()
                    ),
                    "set it, or take it out of the chain",
                );
            }
            if links[..at].contains(link) {
                refuse(
                    format!("auth.chain names {} twice", link.key()),
                    "each is asked once",
                );
            }
        }
        for link in Link::ALL {
            if self.is_set(link) && !links.contains(&link) {
                refuse(
                    format!("{} is set, but auth.chain does not name it", link.key()),
                    "what is not in the chain is not asked: name it there, or leave `chain` out",
                );
            }
        }
        if links == [Link::X509] && self.x509.is_some_and(|x509| !x509.alone) {
            refuse(
                "auth.x509.alone is false, and nothing else is in the chain".to_owned(),
                "set a second factor such as `password_file`, or `alone = true`",
            );
        }
    }

    fn check_devices(&self, listeners: &[Listener], refuse: &mut impl FnMut(String, &str)) {
        let Some(devices) = &self.devices else { return };
        let names: Vec<String> = listeners.iter().map(Listener::known_as).collect();
        for name in devices
            .listeners
            .keys()
            .filter(|name| !names.contains(name))
        {
            refuse(
                format!("auth.devices.listeners names `{name}`, and no listener has that name"),
                &format!("the listeners are {}", names.join(", ")),
            );
        }
        if devices.file.is_some() == devices.postgres.is_some() {
            refuse(
                "auth.devices needs one of file and postgres".to_owned(),
                "`file = \"devices.toml\"` has [[device]] tables; see docs/devices.md",
            );
        }
        let query = devices.postgres.as_ref().map(|postgres| &postgres.query);
        if let Some(Err(place)) = query.map(|query| device_statement(query)) {
            refuse(
                format!("`{place}` in auth.devices.postgres.query is not known"),
                "there are ${scheme}, ${tenant_key} and ${device}; each becomes a bound value",
            );
        }
    }

    fn check_jwt(&self, refuse: &mut impl FnMut(String, &str)) {
        let Some(jwt) = &self.jwt else { return };
        let keys = [
            jwt.secret.is_some(),
            jwt.public_key_file.is_some(),
            jwt.jwks_file.is_some(),
        ];
        if keys.iter().filter(|set| **set).count() != 1 {
            refuse(
                "auth.jwt needs one of secret, public_key_file and jwks_file".to_owned(),
                "`secret = \"${file:PATH}\"` for HS256, a PEM or a key set for the others",
            );
        }
    }
}
