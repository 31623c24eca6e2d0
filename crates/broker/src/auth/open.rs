//! From `[auth]` to what answers: the chain of authenticators, the access list, the banned, and their files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use weir_sinks::bridge::verifier::{Scheme, TimeCheck, Times};

use super::access_list::AccessList;
use super::anonymous::Anonymous;
use super::banned::Banned;
use super::chain::Chain;
use super::devices::{
    DeviceSettings, Devices, DevicesPostgres, PostgresDevices, Source as DeviceSource, Table,
    device_statement,
};
use super::http::{HttpService, HttpSettings};
use super::jwt::{Jwt, JwtSettings, KeyError, Keys};
use super::password_file::PasswordFile;
use super::postgres::{PostgresSettings, PostgresUsers, Statement};
use super::scram::ScramFile;
use super::x509::X509;
use super::{Acl, Authenticator, Authorizer};
use crate::config::{self, Auth, Link};
use crate::problem::{Problem, Source};
use crate::project::live_file::LiveFile;

/// Who may connect and what they may do, ready to be asked.
pub struct Access {
    /// Who may connect.
    pub authenticator: Arc<dyn Authenticator>,
    /// What clients may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// Who is turned away.
    pub banned: Arc<ArcSwap<Banned>>,
    /// Users that sign in with SCRAM-SHA-256, if there is a file of them.
    pub scram: Option<Arc<ScramFile>>,
    /// Devices that sign as those of a cloud do, if there is a table of them.
    pub devices: Option<Arc<Devices>>,
    /// What can change while the broker runs.
    pub files: Vec<LiveFile>,
}

impl Default for Access {
    /// Everyone where listeners admit clients without credentials, and then everything on this machine.
    fn default() -> Self {
        Self {
            authenticator: Arc::new(Anonymous),
            authorizer: Arc::new(AccessList::new(None, None, Default::default())),
            banned: Arc::default(),
            scram: None,
            devices: None,
            files: Vec::new(),
        }
    }
}

impl Access {
    /// Reads every file and opens what has to be. Nothing far away is asked yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Everything that is wrong with the settings and the files.
    pub fn open(auth: &Auth) -> Result<Self, Vec<Problem>> {
        let mut access = Self::default();
        let mut problems = Vec::new();
        let mut chain = Chain::new();
        let links = auth.links();
        for link in &links {
            if let Err(wrong) = access.link(auth, *link, &mut chain) {
                problems.extend(wrong);
            }
        }
        if !links.is_empty() {
            access.authenticator = Arc::new(chain);
        }
        problems.extend(access.scram(auth).err().into_iter().flatten());
        problems.extend(access.access_list(auth).err().into_iter().flatten());
        problems.extend(access.banned(auth).err().into_iter().flatten());
        if problems.is_empty() {
            Ok(access)
        } else {
            Err(problems)
        }
    }

    fn link(&mut self, auth: &Auth, link: Link, chain: &mut Chain) -> Result<(), Vec<Problem>> {
        match link {
            Link::X509 => {
                if let Some(x509) = &auth.x509 {
                    chain.push(Arc::new(X509::new(x509.name, x509.alone)));
                }
            }
            Link::Jwt => {
                if let Some(jwt) = &auth.jwt {
                    chain.push(Arc::new(self.jwt(jwt)?));
                }
            }
            Link::Devices => {
                if let Some(devices) = &auth.devices {
                    chain.push(self.devices(devices)?);
                }
            }
            Link::PasswordFile => {
                if let Some(path) = &auth.password_file {
                    chain.push_password_file(self.password_file(path)?);
                }
            }
            Link::Postgres => {
                if let Some(postgres) = &auth.postgres {
                    chain.push(Arc::new(open_postgres(postgres)?));
                }
            }
            Link::Http => {
                if let Some(http) = &auth.http {
                    let settings = HttpSettings {
                        url: http.url.clone(),
                        headers: http.headers.clone(),
                        timeout: positive(http.timeout.0),
                        max_concurrent: http.max_concurrent,
                        tls: http.tls.clone(),
                    };
                    let service =
                        HttpService::open(settings).map_err(|error| wrong("auth.http", &error))?;
                    chain.push(Arc::new(service));
                }
            }
        }
        Ok(())
    }

    fn devices(&mut self, devices: &config::Devices) -> Result<Arc<Devices>, Vec<Problem>> {
        let settings = device_settings(devices);
        if let Some(postgres) = &devices.postgres {
            let database = open_devices(postgres)?;
            let opened = Arc::new(Devices::new(DeviceSource::Postgres(database), settings));
            self.devices = Some(Arc::clone(&opened));
            return Ok(opened);
        }
        let Some(path) = &devices.file else {
            return Err(wrong("auth.devices", &"there is no table"));
        };
        let source = config::read(path)?;
        let opened = Arc::new(Devices::of(Table::parse(&source)?, settings));
        let live = Arc::clone(&opened);
        self.files
            .push(LiveFile::new(&source, move |source, apply| {
                let table = Table::parse(source)?;
                let holds = count(table.len(), "device");
                if apply {
                    live.replace(table);
                }
                Ok(holds)
            }));
        self.devices = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn password_file(&mut self, path: &Path) -> Result<Arc<PasswordFile>, Vec<Problem>> {
        let source = config::read(path)?;
        let file = Arc::new(PasswordFile::of(&source)?);
        let live = Arc::clone(&file);
        self.files
            .push(LiveFile::new(&source, move |source, apply| {
                live.take(source, apply).map(|users| count(users, "user"))
            }));
        Ok(file)
    }

    fn scram(&mut self, auth: &Auth) -> Result<(), Vec<Problem>> {
        let Some(path) = &auth.scram_file else {
            return Ok(());
        };
        let source = config::read(path)?;
        let file = Arc::new(ScramFile::of(&source)?);
        let live = Arc::clone(&file);
        self.files
            .push(LiveFile::new(&source, move |source, apply| {
                live.take(source, apply).map(|users| count(users, "user"))
            }));
        self.scram = Some(file);
        Ok(())
    }

    fn jwt(&mut self, jwt: &config::Jwt) -> Result<Jwt, Vec<Problem>> {
        type Read = fn(&str) -> Result<Keys, KeyError>;
        let in_file = |path: &Path, read: Read| {
            let source = config::read(path)?;
            let keys = read_keys(&source, read)?;
            Ok::<_, Vec<Problem>>((source, Arc::new(keys)))
        };
        let file = match (&jwt.public_key_file, &jwt.jwks_file) {
            (Some(path), _) => Some((in_file(path, Keys::pem)?, Keys::pem as Read)),
            (None, Some(path)) => Some((in_file(path, Keys::jwks)?, Keys::jwks as Read)),
            (None, None) => None,
        };
        let keys = match (file, &jwt.secret) {
            (Some(((source, keys), read)), _) => {
                let live = Arc::clone(&keys);
                self.files
                    .push(LiveFile::new(&source, move |source, apply| {
                        let keys = read_keys(source, read)?;
                        let holds = count(keys.len(), "key");
                        if apply {
                            live.replace(keys);
                        }
                        Ok(holds)
                    }));
                keys
            }
            (None, Some(secret)) => Arc::new(Keys::secret(secret.clone())),
            (None, None) => return Err(wrong("auth.jwt", &"there is no key")),
        };
        let settings = JwtSettings {
            from: jwt.from,
            username_claim: jwt.username_claim.clone(),
            issuer: jwt.issuer.clone(),
            audience: jwt.audience.clone(),
            claims: jwt.claims.clone(),
            acl_claim: jwt.acl_claim.clone(),
            leeway_s: i64::try_from(jwt.leeway.0.as_secs()).unwrap_or(i64::MAX),
        };
        Ok(Jwt::new(keys, settings))
    }

    fn access_list(&mut self, auth: &Auth) -> Result<(), Vec<Problem>> {
        let read = |path: &Path| {
            let source = config::read(path)?;
            let acl = Acl::parse(&source)?;
            Ok::<_, Vec<Problem>>((source, acl))
        };
        let (source, acl) = match auth.acl_file.as_deref().map(read).transpose()? {
            Some((source, acl)) => (Some(source), Some(acl)),
            None => (None, None),
        };
        let list = Arc::new(AccessList::new(acl, auth.no_match, auth.deny_action));
        if let Some(source) = source {
            let live = Arc::clone(&list);
            self.files
                .push(LiveFile::new(&source, move |source, apply| {
                    let acl = Acl::parse(source)?;
                    let holds = count(acl.len(), "rule");
                    if apply {
                        live.replace(acl);
                    }
                    Ok(holds)
                }));
        }
        self.authorizer = list;
        Ok(())
    }

    fn banned(&mut self, auth: &Auth) -> Result<(), Vec<Problem>> {
        let Some(path) = &auth.banned_file else {
            return Ok(());
        };
        let source = config::read(path)?;
        self.banned.store(Arc::new(Banned::parse(&source)?));
        let live = Arc::clone(&self.banned);
        self.files
            .push(LiveFile::new(&source, move |source, apply| {
                let banned = Banned::parse(source)?;
                let holds = count(banned.len(), "entry");
                if apply {
                    live.store(Arc::new(banned));
                }
                Ok(holds)
            }));
        Ok(())
    }
}

/// What is wrong with the files that `[auth]` names, for a look at them without a broker.
pub fn check_files(auth: &Auth) -> Vec<Problem> {
    let acl = |source: &Source| Acl::parse(source).map(drop);
    let banned = |source: &Source| Banned::parse(source).map(drop);
    let users = |source: &Source| PasswordFile::of(source).map(drop);
    let scram = |source: &Source| ScramFile::of(source).map(drop);
    let pem = |source: &Source| read_keys(source, Keys::pem).map(drop);
    let jwks = |source: &Source| read_keys(source, Keys::jwks).map(drop);
    let devices = |source: &Source| Table::parse(source).map(drop);
    type Check<'a> = &'a dyn Fn(&Source) -> Result<(), Vec<Problem>>;
    let jwt = auth.jwt.as_ref();
    let table = auth.devices.as_ref();
    let files: [(Option<&Path>, Check<'_>); 7] = [
        (table.and_then(|devices| devices.file.as_deref()), &devices),
        (auth.acl_file.as_deref(), &acl),
        (auth.banned_file.as_deref(), &banned),
        (auth.password_file.as_deref(), &users),
        (auth.scram_file.as_deref(), &scram),
        (jwt.and_then(|jwt| jwt.public_key_file.as_deref()), &pem),
        (jwt.and_then(|jwt| jwt.jwks_file.as_deref()), &jwks),
    ];
    files
        .into_iter()
        .filter_map(|(path, check)| Some((path?, check)))
        .filter_map(|(path, check)| config::read(path).and_then(|source| check(&source)).err())
        .flatten()
        .collect()
}

fn open_postgres(postgres: &config::Postgres) -> Result<PostgresUsers, Vec<Problem>> {
    let parse = |query: &str| {
        Statement::parse(query)
            .map_err(|place| wrong("auth.postgres", &format!("`{place}` is not known")))
    };
    let settings = PostgresSettings {
        url: postgres.url.clone(),
        query: parse(&postgres.query)?,
        acl_query: postgres.acl_query.as_deref().map(parse).transpose()?,
        salt_position: postgres.salt_position,
        max_connections: postgres.max_connections,
        timeout: positive(postgres.timeout.0),
    };
    PostgresUsers::open(settings).map_err(|error| wrong("auth.postgres", &error))
}

fn device_settings(devices: &config::Devices) -> DeviceSettings {
    let seconds = |span: config::Span| i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX);
    let schemes = devices.schemes.as_ref();
    DeviceSettings {
        schemes: schemes.map_or_else(
            || Scheme::ALL.to_vec(),
            |schemes| schemes.iter().map(|scheme| scheme.scheme()).collect(),
        ),
        times: Times {
            check: match devices.time_check {
                config::TimeCheck::Cloud => TimeCheck::Cloud,
                config::TimeCheck::Strict => TimeCheck::Strict,
            },
            window_s: seconds(devices.window),
            skew_s: seconds(devices.skew),
        },
        allow_md5: devices.allow_md5,
        listeners: devices
            .listeners
            .iter()
            .map(|(name, schemes)| {
                let schemes = schemes.iter().map(|scheme| scheme.scheme());
                (name.clone(), schemes.collect())
            })
            .collect(),
        allow_product_token: devices.allow_product_token,
        allow_plain_provision: devices.allow_plain_provision,
        lenient_content: devices.lenient_content,
        emulate: devices.emulate,
    }
}

fn open_devices(postgres: &config::DevicesPostgres) -> Result<PostgresDevices, Vec<Problem>> {
    let query = device_statement(&postgres.query)
        .map_err(|place| wrong("auth.devices.postgres", &format!("`{place}` is not known")))?;
    let settings = DevicesPostgres {
        url: postgres.url.clone(),
        query,
        max_connections: postgres.max_connections,
        timeout: positive(postgres.timeout.0),
    };
    PostgresDevices::open(settings).map_err(|error| wrong("auth.devices.postgres", &error))
}

fn read_keys(
    source: &Source,
    read: fn(&str) -> Result<Keys, KeyError>,
) -> Result<Keys, Vec<Problem>> {
    read(&source.text)
        .map_err(|error| vec![Problem::whole(&source.path, "E1016", error.to_string())])
}

fn wrong(key: &str, error: &dyn std::fmt::Display) -> Vec<Problem> {
    vec![Problem::whole(
        "weir.toml",
        "E1006",
        format!("{key}: {error}"),
    )]
}

/// A time-out of nothing would refuse everybody.
fn positive(timeout: Duration) -> Duration {
    timeout.max(Duration::from_millis(1))
}

fn count(n: usize, what: &str) -> String {
    match (n, what) {
        (1, _) => format!("1 {what}"),
        (_, "entry") => format!("{n} entries"),
        _ => format!("{n} {what}s"),
    }
}
