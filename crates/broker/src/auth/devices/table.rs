//! The table of devices as a file: TOML with `[[device]]`, or CSV with a line of names.

mod csv;
mod toml;

use std::ops::Range;
use std::sync::Arc;

use ahash::HashMap;
use serde::Deserialize;
use weir_sinks::Secret;
use weir_sinks::bridge::verifier::{Claim, Scheme};

use super::product::Product;
use super::tokens::Tokens;
use super::{Device, topics};
use crate::config::toml_file::{Outside, Process};
use crate::problem::{Problem, Source, nearest};

/// Mistakes that are told at once; the others come after those are mended.
const MAX_PROBLEMS: usize = 20;

/// Every device.
#[derive(Default)]
pub struct Table {
    devices: HashMap<(Scheme, String, String), Arc<Device>>,
    /// Devices whose client id is tenant and name in one word, by it.
    joined: HashMap<(Scheme, String), Arc<Device>>,
    /// The tenants of devices whose own topics do not name it, by the device's name.
    alone: HashMap<(Scheme, String), String>,
    /// By scheme and tenant key.
    products: HashMap<(Scheme, String), Product>,
    tokens: Tokens,
}

/// One device as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) scheme: String,
    #[serde(default)]
    pub(super) tenant_key: String,
    pub(super) device: String,
    pub(super) secret: Secret,
    pub(super) next_secret: Option<Secret>,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) register: bool,
    #[serde(default)]
    pub(super) acl_profile: Profile,
    /// Beside its own.
    #[serde(default)]
    pub(super) topics: Vec<String>,
    #[serde(rename = "note")]
    _note: Option<String>,
}

const fn yes() -> bool {
    true
}

/// What a device may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Profile {
    /// What the cloud let it do: its own topics.
    #[default]
    Cloud,
    /// What the broker's access list says.
    Open,
}

/// What is wrong with a row, and with which of its keys.
pub(super) struct Wrong {
    pub(super) key: &'static str,
    pub(super) message: String,
    pub(super) help: &'static str,
}

impl Row {
    /// A row of a database.
    pub(super) fn new(scheme: Scheme, tenant_key: String, device: String, secret: Secret) -> Self {
        Self {
            scheme: scheme.name().to_owned(),
            tenant_key,
            device,
            secret,
            next_secret: None,
            enabled: true,
            register: false,
            acl_profile: Profile::Cloud,
            topics: Vec::new(),
            _note: None,
        }
    }

    pub(super) fn device(self) -> Result<Device, Wrong> {
        let wrong = |key, message: String, help| Err(Wrong { key, message, help });
        let Some(scheme) = Scheme::named(&self.scheme) else {
            let names = Scheme::ALL.map(Scheme::name);
            // What is like no scheme may be a secret in the wrong column.
            let message = match nearest(&self.scheme, names) {
                Some(near) => format!("`{}` is no scheme; did you mean `{near}`?", self.scheme),
                None => "`scheme` is none of the schemes".to_owned(),
            };
            let help = "there are aliyun_iot, aliyun_mq, tencent_iot, huawei_iotda, onenet, baidu_iotcore and azure_iothub";
            return wrong("scheme", message, help);
        };
        if scheme.has_tenant() == self.tenant_key.is_empty() {
            let (message, help) = if scheme.has_tenant() {
                (
                    "the key `tenant_key` is missing",
                    "it is the product key, product id, instance id, core id or host that the device belongs to",
                )
            } else {
                (
                    "a device of this scheme has no `tenant_key`",
                    "leave it out: the device id is all",
                )
            };
            return wrong("tenant_key", message.to_owned(), help);
        }
        for (key, name) in [("tenant_key", &self.tenant_key), ("device", &self.device)] {
            topics::check_name(scheme, key, name)?;
        }
        for (key, secret) in [
            ("secret", Some(&self.secret)),
            ("next_secret", self.next_secret.as_ref()),
        ] {
            let Some(secret) = secret else { continue };
            // What is in a file of its own is looked at when it is used.
            let usable = secret.reveal().map(|secret| scheme.takes_secret(&secret));
            if !usable.unwrap_or(false) {
                let message = if scheme.secret_is_base64() {
                    format!("`{key}` is not base64 with padding")
                } else {
                    format!("`{key}` is empty or cannot be read")
                };
                return wrong(key, message, "copy it whole from the cloud's console");
            }
        }
        if self.register && scheme != Scheme::AliyunIot {
            let message = "`register` is for devices of aliyun_iot".to_owned();
            return wrong("register", message, "remove the key");
        }
        let acl = match self.acl_profile {
            Profile::Open => None,
            Profile::Cloud => topics::acl(scheme, &self.tenant_key, &self.device, &self.topics)
                .map_err(|message| Wrong {
                    key: "topics",
                    message: format!("`topics`: {message}"),
                    help: "each is a topic filter such as line/7/#",
                })?,
        };
        Ok(Device {
            scheme,
            tenant: self.tenant_key,
            name: self.device,
            secret: self.secret,
            next_secret: self.next_secret,
            enabled: self.enabled,
            register: self.register,
            acl: acl.map(Arc::new),
        })
    }
}

impl Table {
    /// Reads a file: CSV where its name ends so, TOML otherwise.
    ///
    /// # Errors
    /// What is wrong, each with its line; secrets are not repeated.
    pub fn parse(source: &Source) -> Result<Self, Vec<Problem>> {
        Self::parse_with(source, &Process)
    }

    fn parse_with(source: &Source, outside: &dyn Outside) -> Result<Self, Vec<Problem>> {
        let is_csv = source
            .path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("csv"));
        let mut reading = Reading {
            source,
            table: Self::default(),
            problems: Vec::new(),
        };
        let malformed = if is_csv {
            reading.csv();
            Vec::new()
        } else {
            reading.toml(outside).err().unwrap_or_default()
        };
        let mut problems = [malformed, reading.problems].concat();
        problems.truncate(MAX_PROBLEMS);
        if problems.is_empty() {
            return Ok(reading.table);
        }
        // Any line may have a secret in it: under a key that is misspelt, or in a value without quotes.
        Err(problems.into_iter().map(Problem::without_excerpt).collect())
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// The product that a claim is about.
    pub(super) fn product(&self, claim: &Claim) -> Option<&Product> {
        let key = (claim.scheme, claim.tenant.clone()?);
        self.products.get(&key)
    }

    /// Takes out the tokens that were issued.
    pub(super) fn take_tokens(&mut self) -> Tokens {
        std::mem::take(&mut self.tokens)
    }

    /// The device that a claim is about.
    pub(super) fn find(&self, claim: &Claim) -> Option<Arc<Device>> {
        let name = claim.device.clone();
        match &claim.tenant {
            Some(tenant) => self.devices.get(&(claim.scheme, tenant.clone(), name)),
            None if claim.scheme.has_tenant() => self.joined.get(&(claim.scheme, name)),
            None => self.devices.get(&(claim.scheme, String::new(), name)),
        }
        .cloned()
    }

    /// What is wrong, and the cure.
    fn add(&mut self, device: Device) -> Result<(), (String, &'static str)> {
        const REMOVE: &str = "remove one of the two";
        let key = (device.scheme, device.tenant.clone(), device.name.clone());
        let joined = (device.scheme, format!("{}{}", device.tenant, device.name));
        if device.acl.is_some() && topics::name_no_tenant(device.scheme) {
            let name = (device.scheme, device.name.clone());
            let tenant = self.alone.entry(name);
            if *tenant.or_insert_with(|| device.tenant.clone()) != device.tenant {
                return Err((
                    "a device of the same name has another `tenant_key`, and topics of this scheme hold the name alone: each could use the other's".to_owned(),
                    "let one of the two have acl_profile = \"open\" and rules in auth.acl_file, or take it to another weir",
                ));
            }
        }
        let device = Arc::new(device);
        if self.devices.insert(key, Arc::clone(&device)).is_some() {
            return Err(("the device stands twice in the table".to_owned(), REMOVE));
        }
        if device.scheme == Scheme::TencentIot && self.joined.insert(joined, device).is_some() {
            return Err((
                "another device has the same client id: product id and name run together"
                    .to_owned(),
                REMOVE,
            ));
        }
        Ok(())
    }
}

struct Reading<'s> {
    source: &'s Source,
    table: Table,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn take(&mut self, row: Row) -> Result<(), Wrong> {
        let device = row.device()?;
        let product = (device.scheme, device.tenant.clone());
        if device.register && !self.table.products.contains_key(&product) {
            return Err(Wrong {
                key: "register",
                message: "`register` needs the device's product, and the table has none with this `tenant_key`".to_owned(),
                help: "add [[product]] with its secret (in a TOML file), or remove the key",
            });
        }
        self.table.add(device).map_err(|(message, help)| Wrong {
            key: "device",
            message,
            help,
        })
    }

    fn tell(&mut self, wrong: Wrong, place: impl Fn(&str) -> Range<usize>) {
        let problem = Problem::at(self.source, place(wrong.key), "E1017", wrong.message);
        self.problems.push(problem.help(wrong.help));
    }
}

#[cfg(test)]
mod tests;
