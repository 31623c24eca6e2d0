//! EMQX's connectors, and the connecting half of its older bridges, as `connectors/NAME.toml`.

use base64::Engine as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::action::ConnectorFile;
use crate::inbound::Inbound;
use crate::note::Notes;
use crate::toml_text::{Table, inline, key, text};
use crate::{File, Level};

/// What EMQX writes in place of a secret that it does not give away.
const MASK: &str = "******";

/// The types of connector that both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Http,
    Mqtt,
}

impl Kind {
    /// The type that EMQX calls so. Timescale and MatrixDB speak as PostgreSQL does.
    pub(crate) fn of(kind: &str) -> Option<Self> {
        match kind {
            "pgsql" | "timescale" | "matrix" => Some(Self::Postgres),
            "http" => Some(Self::Http),
            "mqtt" => Some(Self::Mqtt),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Http => "http",
            Self::Mqtt => "mqtt",
        }
    }
}

/// A connector's files: itself, and certificates that the export holds as text.
pub(crate) fn files(file: &ConnectorFile, inbound: &[Inbound], notes: &mut Notes) -> Vec<File> {
    let ConnectorFile {
        kind,
        name,
        origin,
        config,
    } = file;
    let mut connector = Connector {
        name,
        config,
        notes,
        table: Table::default(),
        certificates: Vec::new(),
    };
    connector.table.comment(&format!("EMQX: {origin}"));
    if let Some(description) = string(config, "description").filter(|text| !text.is_empty()) {
        connector.table.comment(&description);
    }
    connector.table.text("type", kind.name());
    match kind {
        Kind::Postgres => connector.postgres(),
        Kind::Http => connector.http(),
        Kind::Mqtt => connector.mqtt(inbound),
    }
    let Connector {
        table,
        certificates,
        ..
    } = connector;
    let mut files = vec![File {
        path: format!("connectors/{name}.toml"),
        text: table.as_str().to_owned(),
    }];
    files.extend(certificates);
    files
}

/// A text, a number or a boolean as text.
pub(crate) fn string(config: &Map<String, Value>, name: &str) -> Option<String> {
    match config.get(name)? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether a switch is on; `unset` where it does not stand.
pub(crate) fn switch(config: &Map<String, Value>, name: &str, unset: bool) -> bool {
    match config.get(name) {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(word)) => matches!(word.as_str(), "true" | "on" | "yes"),
        _ => unset,
    }
}

/// A duration as weir writes it; none for EMQX's `infinity`.
pub(crate) fn duration(config: &Map<String, Value>, name: &str) -> Option<String> {
    let text = string(config, name)?.to_ascii_lowercase();
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        // Without a unit EMQX means milliseconds.
        return Some(format!("{text}ms"));
    }
    let mut rest = text.as_str();
    while !rest.is_empty() {
        rest = rest.strip_prefix(|c: char| c.is_ascii_digit())?;
        rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        rest = ["ms", "s", "m", "h", "d"]
            .iter()
            .find_map(|unit| rest.strip_prefix(unit))?;
    }
    (!text.is_empty()).then_some(text)
}

/// A secret: as it stands, or where weir finds it.
fn secret(value: &str, variable: &str, of: &str, notes: &mut Notes) -> String {
    if value == MASK {
        notes.add(
            Level::Todo,
            of,
            format!("EMQX does not give the secret away: set the variable {variable}"),
        );
        return format!("${{env:{variable}}}");
    }
    match value.strip_prefix("file://") {
        Some(path) => {
            notes.add(
                Level::Todo,
                of,
                format!("a secret is read from the file {path}: bring it here, or mend its path"),
            );
            format!("${{file:{path}}}")
        }
        None => value.to_owned(),
    }
}

/// `pg main` and `password` to `PG_MAIN_PASSWORD`.
fn variable(name: &str, what: &str) -> String {
    format!("{name}_{what}")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

struct Connector<'a> {
    name: &'a str,
    config: &'a Map<String, Value>,
    notes: &'a mut Notes,
    table: Table,
    certificates: Vec<File>,
}

impl Connector<'_> {
    fn of(&self) -> String {
        format!("connector {}", self.name)
    }

    fn note(&mut self, level: Level, text: impl Into<String>) {
        let of = self.of();
        self.notes.add(level, &of, text.into());
    }

    fn string(&self, name: &str) -> Option<String> {
        string(self.config, name).filter(|text| !text.is_empty())
    }

    fn secret(&mut self, name: &str) -> Option<String> {
        let value = self.string(name)?;
        let of = self.of();
        Some(secret(&value, &variable(self.name, name), &of, self.notes))
    }

    /// The first of the addresses in `server`.
    fn server(&mut self, usual_port: &str) -> String {
        let servers = self.string("server").unwrap_or_else(|| {
            self.note(
                Level::Todo,
                "the export has no `server`: fill in the address",
            );
            "127.0.0.1".to_owned()
        });
        let mut servers = servers.split(',').map(str::trim);
        let first = servers.next().unwrap_or_default();
        let first = first.split_once("://").map_or(first, |(_, host)| host);
        let more: Vec<&str> = servers.collect();
        if !more.is_empty() {
            self.note(
                Level::Changed,
                format!("only the first address was taken, not {}", more.join(", ")),
            );
        }
        if first.contains(':') || first.starts_with("${") {
            first.to_owned()
        } else {
            format!("{first}:{usual_port}")
        }
    }

    fn postgres(&mut self) {
        let server = self.server("5432");
        let encoded = |text: &str| {
            if text.starts_with("${") {
                text.to_owned()
            } else {
                utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
            }
        };
        let user = self.string("username").unwrap_or_default();
        let password = self.secret("password");
        let mut url = "postgres://".to_owned();
        if !user.is_empty() {
            url.push_str(&encoded(&user));
            if let Some(password) = &password {
                url.push(':');
                url.push_str(&encoded(password));
            }
            url.push('@');
        }
        url.push_str(&server);
        url.push('/');
        url.push_str(&encoded(&self.string("database").unwrap_or_default()));
        if password.is_some_and(|password| password.starts_with("${")) {
            self.table
                .comment("In a URL, signs such as / and @ in the password are percent-encoded.");
        }
        if let Some(tls) = self.tls() {
            let mode = match (tls.is_believed, tls.has_name) {
                (true, true) => "verify-full",
                (true, false) => "verify-ca",
                (false, _) => "require",
            };
            url.push_str(&format!("?sslmode={mode}"));
            for (name, file) in [
                ("sslrootcert", tls.ca),
                ("sslcert", tls.cert),
                ("sslkey", tls.key),
            ] {
                if let Some(file) = file {
                    url.push_str(&format!("&{name}={file}"));
                }
            }
        }
        self.table.text("url", &url);
        if let Some(size) = self.config.get("pool_size").and_then(Value::as_u64)
            && size != 8
        {
            self.table.set("pool", &format!("{{ max = {size} }}"));
        }
    }

    fn http(&mut self) {
        let url = self.string("url").unwrap_or_else(|| {
            self.note(Level::Todo, "the export has no `url`: fill it in");
            "http://127.0.0.1".to_owned()
        });
        self.table.text("url", &url);
        let mut headers = headers(self.config);
        let of = self.of();
        let auth = take_authorization(&mut headers, self.name, &of, self.notes);
        if let Some(auth) = auth {
            self.table.set("auth", &auth);
        }
        if !headers.is_empty() {
            self.table.set("headers", &header_table(&headers));
        }
        if let Some(timeout) = duration(self.config, "request_timeout").filter(|time| time != "15s")
        {
            self.table.text("timeout", &timeout);
        }
        if url.starts_with("https") {
            self.tls_key();
        }
    }

    fn mqtt(&mut self, inbound: &[Inbound]) {
        let encrypted = self
            .config
            .get("ssl")
            .and_then(Value::as_object)
            .is_some_and(|ssl| switch(ssl, "enable", false));
        let server = self.server(if encrypted { "8883" } else { "1883" });
        let scheme = if encrypted { "mqtts" } else { "mqtt" };
        self.table.set(
            "addresses",
            &format!("[{}]", text(&format!("{scheme}://{server}"))),
        );
        let protocol = match self.string("proto_ver").as_deref() {
            Some("v5") => "5",
            _ => "3.1.1",
        };
        self.table.text("protocol", protocol);
        self.client_id();
        if let Some(user) = self.string("username") {
            self.table.text("username", &user);
            if let Some(password) = self.secret("password") {
                self.table.text("password", &password);
            }
        }
        for name in ["keepalive", "connect_timeout"] {
            if let Some(time) =
                duration(self.config, name).filter(|time| time != "0s" && time != "0ms")
            {
                self.table.text(name, &time);
            }
        }
        if let Some(most) = self.config.get("max_inflight").and_then(Value::as_u64)
            && most != 32
            && most > 0
        {
            self.table.set("max_inflight", &most.min(4096).to_string());
        }
        let inbound: Vec<String> = inbound
            .iter()
            .filter(|inbound| inbound.connector == self.name)
            .map(Inbound::to_toml)
            .collect();
        if !switch(self.config, "clean_start", true) && inbound.is_empty() {
            self.note(
                Level::Changed,
                "weir starts a clean session at the other broker each time (`clean_start = false` in EMQX)",
            );
        }
        if switch(self.config, "bridge_mode", false) {
            self.note(Level::Changed, "`bridge_mode` has no counterpart");
        }
        if encrypted {
            self.tls_key();
        }
        if !inbound.is_empty() {
            self.table.set("in", &format!("[{}]", inbound.join(", ")));
        }
    }

    fn client_id(&mut self) {
        let fixed: Vec<String> = self
            .config
            .get("static_clientids")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|node| node.get("ids")?.as_array())
            .flatten()
            .filter_map(|id| {
                let id = id.get("clientid").unwrap_or(id);
                id.as_str().map(str::to_owned)
            })
            .collect();
        if fixed.len() > 1 {
            self.note(
                Level::Changed,
                "a bridge of weir is one connection: the first of `static_clientids` was taken",
            );
        }
        let id = fixed
            .into_iter()
            .next()
            .unwrap_or_else(|| match self.string("clientid_prefix") {
                Some(prefix) => format!("{prefix}{}", self.name),
                None => format!("weir-{}", self.name),
            });
        self.table.text("client_id", &id);
    }

    /// Sets `tls` where EMQX has more than the system's trust.
    fn tls_key(&mut self) {
        let Some(tls) = self.tls() else {
            return;
        };
        let parts: Vec<String> = [
            ("ca", tls.ca),
            ("cert", tls.cert),
            ("key", tls.key),
            ("server_name", tls.server_name),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} = {}", text(&value?))))
        .collect();
        if !parts.is_empty() {
            self.table
                .set("tls", &format!("{{ {} }}", parts.join(", ")));
        }
        if tls.is_believed && !tls.has_name {
            self.note(
                Level::Changed,
                "EMQX did not check the name in the server's certificate; weir does",
            );
        }
        if !tls.is_believed {
            self.note(
                Level::Changed,
                "EMQX did not check the server's certificate; weir does (`tls = { insecure = true }` turns that off)",
            );
        }
    }

    fn tls(&mut self) -> Option<Tls> {
        let ssl = self.config.get("ssl")?.as_object()?.clone();
        // A URL with https says it by itself.
        let by_url = self
            .string("url")
            .is_some_and(|url| url.starts_with("https"));
        if !by_url && !switch(&ssl, "enable", false) {
            return None;
        }
        if string(&ssl, "password").is_some_and(|password| !password.is_empty()) {
            self.note(
                Level::NotTaken,
                "a key file with a password: weir wants one without",
            );
        }
        Some(Tls {
            ca: self.certificate(&ssl, "cacertfile", "ca"),
            cert: self.certificate(&ssl, "certfile", "cert"),
            key: self.certificate(&ssl, "keyfile", "key"),
            server_name: string(&ssl, "server_name_indication")
                .filter(|name| !name.is_empty() && name != "disable" && name != "auto"),
            is_believed: string(&ssl, "verify").as_deref() == Some("verify_peer"),
            has_name: string(&ssl, "server_name_indication").as_deref() != Some("disable"),
        })
    }

    /// The path of a certificate or key; one that stands in the export becomes a file.
    fn certificate(&mut self, ssl: &Map<String, Value>, name: &str, what: &str) -> Option<String> {
        let value = string(ssl, name).filter(|value| !value.is_empty())?;
        if value.contains("-----BEGIN") {
            let path = format!("certs/{}.{what}.pem", self.name);
            self.certificates.push(File {
                path: path.clone(),
                text: format!("{}\n", value.trim_end()),
            });
            return Some(path);
        }
        // EMQX fills these in itself.
        let path = value.replace("${EMQX_ETC_DIR}", "${env:EMQX_ETC_DIR:-/etc/emqx}");
        self.note(
            Level::Todo,
            format!("bring the file {value} here, or mend its path"),
        );
        Some(path)
    }
}

/// TLS of a connector.
struct Tls {
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    server_name: Option<String>,
    /// Whether EMQX checked the certificate,
    is_believed: bool,
    /// and the name in it.
    has_name: bool,
}

/// Headers without those that belong to one connection alone.
pub(crate) fn headers(config: &Map<String, Value>) -> Vec<(String, String)> {
    let given = config.get("headers").and_then(Value::as_object);
    let mut headers: Vec<(String, String)> = given
        .into_iter()
        .flatten()
        .filter_map(|(name, _)| Some((name, string(given?, name)?)))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| {
            !["connection", "keep-alive", "content-length", "host"].contains(&name.as_str())
        })
        .collect();
    headers.sort();
    headers
}

/// As an inline table.
pub(crate) fn header_table(headers: &[(String, String)]) -> String {
    let parts: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{} = {}", key(name), text(value)))
        .collect();
    format!("{{ {} }}", parts.join(", "))
}

/// Takes the header `authorization` out: as `auth`, which no tool shows. One of an unknown kind stays a header.
pub(crate) fn take_authorization(
    headers: &mut Vec<(String, String)>,
    name: &str,
    of: &str,
    notes: &mut Notes,
) -> Option<String> {
    for (header, value) in headers.iter_mut() {
        if header == "proxy-authorization" || (header == "authorization" && value == MASK) {
            *value = secret(value, &variable(name, header), of, notes);
        }
    }
    let at = headers
        .iter()
        .position(|(name, _)| name == "authorization")?;
    let (_, value) = headers.get(at)?;
    let auth = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.contains("${") => {
            format!("{{ kind = \"bearer\", token = {} }}", text(token.trim()))
        }
        Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => {
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(encoded.trim())
                .ok()?;
            let pair = String::from_utf8(decoded).ok()?;
            let (user, password) = pair.split_once(':')?;
            format!(
                "{{ kind = \"basic\", user = {}, password = {} }}",
                text(user),
                text(password)
            )
        }
        _ => return None,
    };
    headers.remove(at);
    Some(auth)
}

/// What says nothing about where an action sends.
const ASIDE: [&str; 8] = [
    "enable",
    "resource_opts",
    "status",
    "status_reason",
    "node_status",
    "created_at",
    "last_modified_at",
    "tags",
];

/// An action's keys for a comment, without what EMQX would mask.
pub(crate) fn without_secrets(config: &Map<String, Value>) -> String {
    fn masked(value: &Value) -> Value {
        match value {
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| {
                    let name_says = [
                        "password",
                        "secret",
                        "token",
                        "private_key",
                        "authorization",
                        "access_key",
                    ];
                    let is_secret = value.is_string()
                        && name_says
                            .iter()
                            .any(|part| name.to_ascii_lowercase().contains(part));
                    let value = if is_secret {
                        MASK.into()
                    } else {
                        masked(value)
                    };
                    (name.clone(), value)
                })
                .collect(),
            Value::Array(items) => items.iter().map(masked).collect(),
            value => value.clone(),
        }
    }
    let Value::Object(shown) = masked(&Value::Object(config.clone())) else {
        return String::new();
    };
    let lines: Vec<String> = shown
        .iter()
        .filter(|(name, _)| !ASIDE.contains(&name.as_str()))
        .map(|(name, value)| format!("{} = {}", key(name), inline(value)))
        .collect();
    lines.join("\n")
}
