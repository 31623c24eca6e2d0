//! The table of devices as a file: TOML with `[[device]]`, or CSV with a line of names.

use std::ops::Range;
use std::sync::Arc;

use ahash::HashMap;
use serde::Deserialize;
use toml::Spanned;
use toml::de::DeValue;
use weir_sinks::Secret;
use weir_sinks::bridge::verifier::{Claim, Scheme};

use super::register::Product;
use super::{Device, topics};
use crate::config::toml_file::{Outside, Process, TomlFile};
use crate::problem::{Problem, Source, nearest};

/// Mistakes that are told at once; the others come after those are mended.
const MAX_PROBLEMS: usize = 20;
const COLUMNS: [&str; 10] = [
    "scheme",
    "tenant_key",
    "device",
    "secret",
    "next_secret",
    "enabled",
    "register",
    "acl_profile",
    "topics",
    "note",
];

/// Every device.
#[derive(Default)]
pub struct Table {
    devices: HashMap<(Scheme, String, String), Arc<Device>>,
    /// Devices whose client id is tenant and name in one word, by it.
    joined: HashMap<(Scheme, String), Arc<Device>>,
    /// The tenants of devices whose own topics do not name it, by the device's name.
    alone: HashMap<(Scheme, String), String>,
    /// By their tenant key.
    products: HashMap<String, Product>,
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
    help: &'static str,
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
            let slash = name.contains('/') && scheme != Scheme::AzureIothub;
            // Tenant and device stand in one name, with a colon between.
            let colon = name.contains(':') && key == "tenant_key";
            let empty = key == "device" && name.is_empty();
            if !topics::is_plain(name) || slash || colon || empty {
                let colon = if key == "tenant_key" { "`:`, " } else { "" };
                let message = format!(
                    "`{key}` is empty, or holds {colon}`/`, `+`, `#`, `%`, `$`, a brace, white space or a control character"
                );
                return wrong(key, message, "write it as the cloud's console shows it");
            }
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
        self.products.get(claim.tenant.as_deref()?)
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
    fn take(&mut self, row: Row, place: impl Fn(&str) -> Range<usize>) {
        let added = row.device().and_then(|device| {
            if device.register && !self.table.products.contains_key(&device.tenant) {
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
        });
        if let Err(wrong) = added {
            let problem = Problem::at(self.source, place(wrong.key), "E1017", wrong.message);
            self.problems.push(problem.help(wrong.help));
        }
    }

    fn toml(&mut self, outside: &dyn Outside) -> Result<(), Vec<Problem>> {
        let mut file = TomlFile::parse(self.source)?.hiding_values();
        file.fill_in(outside, &mut self.problems);
        let devices = file.take("device");
        let products = file.take("product");
        for (key, span) in file.keys() {
            let problem = Problem::at(self.source, span, "E1002", format!("unknown key `{key}`"));
            self.problems
                .push(problem.help("each device is a table [[device]], each product [[product]]"));
        }
        if let Some(products) = products {
            self.products(&file, products);
        }
        let Some(devices) = devices else {
            return Ok(());
        };
        let span = devices.span();
        let DeValue::Array(devices) = devices.into_inner() else {
            let problem = Problem::at(self.source, span, "E1017", "`device` is one table");
            self.problems
                .push(problem.help("write [[device]], with two brackets, above each device"));
            return Ok(());
        };
        for device in devices {
            if self.problems.len() >= MAX_PROBLEMS {
                break;
            }
            let places = places(&device);
            match file.read_value::<Row>(device) {
                Ok(row) => self.take(row, |key| places(key)),
                Err(problem) => self.problems.push(*problem),
            }
        }
        Ok(())
    }

    fn products(&mut self, file: &TomlFile<'_>, products: Spanned<DeValue<'_>>) {
        let span = products.span();
        let DeValue::Array(products) = products.into_inner() else {
            let problem = Problem::at(self.source, span, "E1017", "`product` is one table");
            self.problems
                .push(problem.help("write [[product]], with two brackets, above each product"));
            return;
        };
        for product in products {
            let places = places(&product);
            let product = match file.read_value::<Product>(product) {
                Ok(product) => product,
                Err(problem) => {
                    self.problems.push(*problem);
                    continue;
                }
            };
            if let Some((key, message, help)) = product.fault() {
                let problem = Problem::at(self.source, places(key), "E1017", message);
                self.problems.push(problem.help(help));
            }
            let key = product.tenant_key.clone();
            if self.table.products.insert(key, product).is_some() {
                let problem = Problem::at(
                    self.source,
                    places("tenant_key"),
                    "E1017",
                    "the product stands twice in the table",
                );
                self.problems.push(problem.help("remove one of the two"));
            }
        }
    }

    fn csv(&mut self) {
        let text = self.source.text.trim_start_matches('\u{feff}');
        let skipped = self.source.text.len() - text.len();
        let mut names: Option<Vec<String>> = None;
        let mut at = skipped;
        for line in text.split_inclusive('\n') {
            let span = at..at + line.trim_end().len();
            at += line.len();
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') || self.problems.len() >= MAX_PROBLEMS {
                continue;
            }
            let read = fields(line).and_then(|fields| match &names {
                None => header(&fields).map(|()| {
                    names = Some(fields);
                    None
                }),
                Some(names) => row(names, fields).map(Some),
            });
            match read {
                Ok(None) => {}
                Ok(Some(row)) => self.take(row, |_| span.clone()),
                Err(message) => {
                    let problem = Problem::at(self.source, span, "E1017", message);
                    self.problems.push(problem.help(
                        "the first line names the columns, such as scheme,tenant_key,device,secret; a field with a comma stands in double quotes",
                    ));
                }
            }
        }
    }
}

/// Where the keys of a device stand; the whole table where one is missing.
fn places(device: &Spanned<DeValue<'_>>) -> impl Fn(&str) -> Range<usize> + use<> {
    let whole = device.span();
    let keys: Vec<(String, Range<usize>)> = match device.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), value.span()))
            .collect(),
        _ => Vec::new(),
    };
    move |key| {
        let found = keys.iter().find(|(known, _)| known == key);
        found.map_or_else(|| whole.clone(), |(_, span)| span.clone())
    }
}

/// The fields of a line; one in double quotes may hold commas, and quotes twice.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut letters = line.chars().peekable();
    loop {
        let mut field = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next() {
                    Some('"') if letters.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(letter) => field.push(letter),
                    None => return Err("a double quote is not closed in its line".to_owned()),
                }
            }
        }
        while let Some(letter) = letters.next_if(|letter| *letter != ',') {
            field.push(letter);
        }
        fields.push(field.trim().to_owned());
        if letters.next().is_none() {
            return Ok(fields);
        }
    }
}

fn header(names: &[String]) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        return Err(match nearest(name, COLUMNS) {
            Some(near) => format!("unknown column `{name}`; did you mean `{near}`?"),
            // The first line may be a device, with its secret.
            None => format!(
                "the first line names a column that does not exist; there are {}",
                COLUMNS.join(", ")
            ),
        });
    }
    for needed in ["scheme", "device", "secret"] {
        if !names.iter().any(|name| name == needed) {
            return Err(format!("the column `{needed}` is missing"));
        }
    }
    Ok(())
}

fn row(names: &[String], fields: Vec<String>) -> Result<Row, String> {
    if fields.len() != names.len() {
        return Err(format!(
            "the line has {} fields, the first line names {}",
            fields.len(),
            names.len()
        ));
    }
    let field = |name: &str| {
        let place = names.iter().position(|known| known == name)?;
        fields.get(place).filter(|field| !field.is_empty()).cloned()
    };
    Ok(Row {
        scheme: field("scheme").unwrap_or_default(),
        tenant_key: field("tenant_key").unwrap_or_default(),
        device: field("device").unwrap_or_default(),
        secret: Secret::new(field("secret").unwrap_or_default()),
        next_secret: field("next_secret").map(Secret::new),
        enabled: match field("enabled").as_deref() {
            None | Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(_) => return Err("`enabled` is neither true nor false".to_owned()),
        },
        register: match field("register").as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => return Err("`register` is neither true nor false".to_owned()),
        },
        acl_profile: match field("acl_profile").as_deref() {
            None | Some("cloud") => Profile::Cloud,
            Some("open") => Profile::Open,
            Some(_) => return Err("`acl_profile` is neither cloud nor open".to_owned()),
        },
        topics: field("topics")
            .map(|topics| topics.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        _note: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOUDS: &str = r#"
[[device]]
scheme = "aliyun_iot"
tenant_key = "pk"
device = "gw-01"
secret = "hunter2-secret"
note = "roof"

[[device]]
scheme = "tencent_iot"
tenant_key = "WEIRPROD01"
device = "edge"
secret = "c2VjcmV0"
enabled = false

[[device]]
scheme = "huawei_iotda"
device = "5f_edge"
secret = "s"
"#;

    fn told(path: &str, text: &str) -> Vec<(usize, String)> {
        let Err(problems) = Table::parse(&Source::new(path, text)) else {
            panic!("{text} is taken");
        };
        for problem in &problems {
            let shown = format!("{problem} {}", serde_json::to_string(problem).unwrap());
            for secret in ["hunter2", "7040404", "1979"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
        problems
            .iter()
            .map(|problem| (problem.line, problem.message.to_string()))
            .collect()
    }

    #[test]
    fn toml_and_csv_say_the_same() {
        let csv = "\u{feff}# of the console\nscheme,tenant_key,device,secret,enabled,note\n\
                   aliyun_iot,pk,gw-01,hunter2-secret,,\"roof, \"\"east\"\"\"\n\
                   tencent_iot,WEIRPROD01,edge,c2VjcmV0,false,\r\n\nhuawei_iotda,,5f_edge,s,1,\n";
        for (path, text) in [("devices.toml", CLOUDS), ("devices.CSV", csv)] {
            let table = Table::parse(&Source::new(path, text)).unwrap_or_else(|_| panic!("{path}"));
            assert_eq!(table.len(), 3, "{path}");
            let gw = &table.devices[&(Scheme::AliyunIot, "pk".to_owned(), "gw-01".to_owned())];
            assert_eq!(gw.secret.reveal().unwrap().as_str(), "hunter2-secret");
            assert!(gw.enabled && gw.acl.is_some());
            let edge = &table.joined[&(Scheme::TencentIot, "WEIRPROD01edge".to_owned())];
            assert!(!edge.enabled, "{path}");
        }
        assert!(Table::parse(&Source::new("none.toml", "")).is_ok_and(|table| table.is_empty()));
    }

    #[test]
    fn a_mistake_has_its_line_and_its_cure_and_no_secret() {
        let twice = format!("{CLOUDS}{CLOUDS}");
        let told_of_twice = told("d.toml", &twice);
        assert_eq!(told_of_twice.len(), 3);
        assert_eq!(
            told_of_twice[0],
            (24, "the device stands twice in the table".to_owned())
        );
        let one = |line: &str| {
            let text =
                format!("[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"pk\"\n{line}\n");
            told("d.toml", &text).remove(0)
        };
        let rest = "device = \"d\"\nsecret = \"hunter2\"";
        assert_eq!(one("device = \"d\"").1, "the key `secret` is missing");
        assert_eq!(
            one(&format!("{rest}\nsecrets = 1")).1,
            "unknown key `secrets`"
        );
        for name in ["a/b", "a b", "a\\nlast 1", "a\\u2028b", ""] {
            let line = format!("device = \"{name}\"\nsecret = \"hunter2\"");
            assert_eq!(one(&line).0, 4, "{name}");
        }
        assert_eq!(one("device = \"d\"\nsecret = \"\"").0, 5);
        assert_eq!(one(&format!("{rest}\ntopics = [\"a/#/b\"]")).0, 6);
        let other = |text: &str| told("d.toml", text).remove(0);
        let aliyun =
            other("[[device]]\nscheme = \"alyun_iot\"\ndevice = \"d\"\nsecret = \"hunter2\"\n");
        assert_eq!(
            aliyun,
            (
                2,
                "`alyun_iot` is no scheme; did you mean `aliyun_iot`?".to_owned()
            )
        );
        let tencent = "[[device]]\nscheme = \"tencent_iot\"\ntenant_key = \"P\"\ndevice = \"d\"\nsecret = \"hunter2!\"\n";
        assert_eq!(
            other(tencent),
            (5, "`secret` is not base64 with padding".to_owned())
        );
        let huawei = "[[device]]\nscheme = \"huawei_iotda\"\ntenant_key = \"P\"\ndevice = \"d\"\nsecret = \"hunter2\"\n";
        assert_eq!(other(huawei).0, 3);
        assert_eq!(
            other("[device]\nscheme = \"x\"\n").1,
            "`device` is one table"
        );
        assert_eq!(other("[[divice]]\n").1, "unknown key `divice`");
        other("[[device]]\nsecret = \"hunter2\n");
        let takes = "`secret` takes a text, not a number".to_owned();
        assert_eq!(other("[[device]]\nsecret = 7040404\n"), (2, takes));
        let profile = format!("{rest}\nacl_profile = \"hunter2\"");
        assert_eq!(one(&profile).1, "the value is not one of: cloud, open");
        for line in [
            "secret = 7040404",
            "secret = 7040404.5",
            "secret = 1979-05-27",
            "secret = [\"hunter2\"]",
            "secret = { key = \"hunter2\" }",
            "secrt = \"hunter2\"",
            "key = \"hunter2\"",
            "enabled = \"hunter2\"",
            "enabled = 7040404",
            "topics = \"hunter2\"",
            "scheme = \"hunter2\"",
        ] {
            other(&format!("[[device]]\n{line}\n"));
            other(&format!("{line}\n"));
        }
        other("device = [{ scheme = \"onenet\", device = \"d\", secret = \"hunter2\" }]\n");
    }

    #[test]
    fn a_mistake_in_csv_has_its_line_too() {
        let one = |text: &str| told("d.csv", text).remove(0);
        one("hunter2,aliyun_iot,pk,d\n");
        one("scheme,device,secret\nhunter2,pk,aliyun_iot\n");
        assert_eq!(one("scheme,device\n").1, "the column `secret` is missing");
        assert_eq!(
            one("scheme,device,secrt\n").1,
            "unknown column `secrt`; did you mean `secret`?"
        );
        let header = "scheme,tenant_key,device,secret,enabled\n";
        let line = |line: &str| one(&format!("{header}{line}\n"));
        assert_eq!(
            line("aliyun_iot,pk,d,hunter2"),
            (
                2,
                "the line has 4 fields, the first line names 5".to_owned()
            )
        );
        assert_eq!(
            line("aliyun_iot,pk,d,\"hunter2,").1,
            "a double quote is not closed in its line"
        );
        assert_eq!(
            line("aliyun_iot,pk,d,hunter2,maybe").1,
            "`enabled` is neither true nor false"
        );
        assert_eq!(
            line("aliyun_iot,,d,hunter2,").1,
            "the key `tenant_key` is missing"
        );
    }

    #[test]
    fn a_product_stands_once_and_a_device_that_registers_needs_its_own() {
        let product = |key: &str| {
            format!(
                "[[product]]\nscheme = \"aliyun_iot\"\ntenant_key = \"{key}\"\nsecret = \"hunter2\"\n"
            )
        };
        let device = "[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"pk\"\ndevice = \"d\"\nsecret = \"hunter2\"\nregister = true\n";
        let twice = told("d.toml", &format!("{0}{0}{device}", product("pk")));
        let message = "the product stands twice in the table".to_owned();
        assert_eq!(twice, [(7, message)]);
        for products in ["", &product("other")] {
            let (line, message) = told("d.toml", &format!("{device}{products}")).remove(0);
            assert_eq!(line, 6);
            assert!(message.contains("needs the device's product"), "{message}");
        }
        let (line, _) = told(
            "d.csv",
            "scheme,tenant_key,device,secret,register\naliyun_iot,pk,d,hunter2,true\n",
        )
        .remove(0);
        assert_eq!(line, 2);
        let source = Source::new("d.toml", format!("{device}{}", product("pk")));
        assert!(Table::parse(&source).is_ok());
    }

    #[test]
    fn product_and_name_that_run_together_are_not_guessed_apart() {
        let text = "scheme,tenant_key,device,secret\ntencent_iot,AB,C,c2VjcmV0\ntencent_iot,A,BC,c2VjcmV0\n";
        assert_eq!(told("d.csv", text)[0].0, 3);
    }

    #[test]
    fn devices_whose_topics_would_be_the_same_do_not_stand_in_one_table() {
        let header = "scheme,tenant_key,device,secret,acl_profile\n";
        let two = |scheme: &str, second: &str| {
            format!("{header}{scheme},one,d,c2VjcmV0,\n{scheme},two,d,c2VjcmV0,{second}\n")
        };
        for scheme in ["azure_iothub", "baidu_iotcore"] {
            let (line, message) = told("d.csv", &two(scheme, "cloud")).remove(0);
            assert_eq!(line, 3);
            assert!(message.contains("another `tenant_key`"), "{message}");
            let open = Source::new("d.csv", two(scheme, "open"));
            assert!(Table::parse(&open).is_ok(), "{scheme}");
        }
        for scheme in ["aliyun_iot", "aliyun_mq", "tencent_iot", "onenet"] {
            let source = Source::new("d.csv", two(scheme, "cloud"));
            assert!(Table::parse(&source).is_ok(), "{scheme}");
        }
    }
}
