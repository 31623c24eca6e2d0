//! `weir bridge`: how a bridge signs in, shown before it is used.

use std::io::BufRead;
use std::path::PathBuf;

use serde_json::json;
use weir_sinks::bridge::provision::Registrar;
use weir_sinks::codes::CERTIFICATE;
use weir_sinks::config::connector::TlsConfig;
use weir_sinks::{ConnectorConfig, bridge};

use super::secret_file::{SecretFile, Unfinished};
use super::{Common, Exit, block_on, out_json, out_line, print_problems, say};
use crate::config::toml_file::Process;
use crate::project::connector_file;
use crate::project::files::{FileId, Folders};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Test a bridge stage by stage
    Test {
        /// The connector's name: its file without .toml
        name: String,
        /// Stop after the derived credentials; nothing is connected
        #[arg(long)]
        offline: bool,
        /// Publish one message to this topic at the remote, too
        #[arg(long, value_name = "TOPIC", conflicts_with = "offline")]
        publish: Option<String>,
        /// Print the password, to compare it with the vendor's own tool
        #[arg(long)]
        show_secrets: bool,
    },
    /// Sign without a connector file: one set of inputs, or lines of test vectors
    Sign(SignArgs),
    /// Fetch a device's secret from the cloud, once, with the secret of its product
    Provision(ProvisionArgs),
    /// Connect a bridge of a running broker that does not by itself: start = "manual", "once" or "lazy"
    Start(super::bridge_command::Args),
    /// End the link of such a bridge, until it is started again
    Stop(super::bridge_command::Args),
}

#[derive(clap::Args)]
struct ProvisionArgs {
    /// The preset: aliyun_iot
    #[arg(value_parser = ["aliyun_iot"])]
    preset: String,
    /// product_key, device_name, product_secret, and region or instance_id; with auth_type=regnwl the cloud makes the
    /// device and gives it a token. ${file:PATH} reads a secret from a file
    #[arg(long = "set", value_name = "KEY=VALUE", num_args = 1..)]
    set: Vec<String>,
    /// Where the secret goes: a new file that nobody else may read
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Who registers, in place of the region's or the instance's: https://…, or mqtts://… to register over MQTT
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Whom to trust, in place of the system's list: a file with certificates
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
}

#[derive(clap::Args)]
struct SignArgs {
    /// The preset or provider: plain, aliyun_iot, tencent_iot, azure_iothub, …
    #[arg(required_unless_present = "vectors", conflicts_with = "vectors")]
    preset: Option<String>,
    /// One input; several may follow each other. ${file:PATH} reads a secret from a file. addresses=mqtts://… says where
    /// to sign in, for a preset whose host only the console knows
    #[arg(long = "set", value_name = "KEY=VALUE", num_args = 1..)]
    set: Vec<String>,
    /// The clock: seconds or milliseconds since 1970, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    now: Option<String>,
    /// The file with vectors, {"provider", "inputs"} a line; - for stdin. A line with credentials comes out for each
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    vectors: Option<PathBuf>,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    match &args.command {
        Command::Test {
            name,
            offline,
            publish,
            show_secrets,
        } => test(common, name, *offline, publish.as_deref(), *show_secrets),
        Command::Provision(args) => provision(common, args),
        Command::Start(args) => super::bridge_command::start(common, args),
        Command::Stop(args) => super::bridge_command::stop(common, args),
        Command::Sign(args) => {
            let now_ms = match args.now.as_deref().map(moment).transpose() {
                Ok(now_ms) => now_ms,
                Err(message) => {
                    say(&format!("weir: {message}"));
                    return Exit::Usage;
                }
            };
            match &args.vectors {
                Some(path) => sign_vectors(path, now_ms),
                None => sign_one(common, args, now_ms),
            }
        }
    }
}

fn test(
    common: &Common,
    name: &str,
    offline: bool,
    publish: Option<&str>,
    show_secrets: bool,
) -> Exit {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let folders = Folders::of(&loaded.config.rules);
    let (files, _) = folders.scan();
    let Some(source) = files.get(&FileId::connector(name)) else {
        say(&format!(
            "weir: there is no connector `{name}` in {}",
            loaded.config.rules.connectors_dir.display()
        ));
        return Exit::Problems;
    };
    let connector = match connector_file::read(source, &Process) {
        Ok((connector, warnings)) => {
            print_problems(&warnings);
            connector
        }
        Err(problems) => {
            print_problems(&problems);
            return Exit::Problems;
        }
    };
    let ConnectorConfig::Mqtt(config) = &*connector.config else {
        say(&format!(
            "weir: `{name}` is a {} connector, not a bridge",
            connector.config.kind().name()
        ));
        return Exit::Usage;
    };
    let base = loaded.config.data_dir();
    if let Some(warning) = bridge::check_certificate(config, &base) {
        print_problems(&[connector_file::located(source, &warning)]);
    }
    block_on(common, async {
        let mut stages = bridge::test(config, &base, !offline, publish).await;
        if !show_secrets {
            for creds in stages
                .iter_mut()
                .filter_map(|stage| stage.credentials.as_mut())
            {
                *creds = creds.clone().masked(masked);
            }
        }
        let failed = stages.iter().find(|stage| !stage.ok);
        let exit = match failed.map(|stage| stage.name) {
            None => Exit::Ok,
            Some("config") => Exit::Problems,
            Some("tls") if failed.and_then(|stage| stage.code) == Some(CERTIFICATE) => {
                Exit::Refused
            }
            Some("connect" | "subscribe" | "publish") => Exit::Refused,
            Some(_) => Exit::Unreachable,
        };
        if common.json {
            let mut answer =
                json!({ "v": 1, "connector": name, "ok": failed.is_none(), "stages": &stages });
            // The credentials once more at the top, where scripts look for them.
            let creds = stages.iter().find_map(|stage| stage.credentials.as_ref());
            if let Some(creds) = creds
                && let (Some(answer), Ok(serde_json::Value::Object(creds))) =
                    (answer.as_object_mut(), serde_json::to_value(creds))
            {
                answer.extend(creds);
                let endpoint = stages.iter().find_map(|stage| stage.endpoint.as_deref());
                answer.insert("endpoint".into(), endpoint.into());
            }
            out_json(&answer);
            return exit;
        }
        let several = config.addresses.len() > 1;
        let mut shown = None;
        for stage in &stages {
            let endpoint = stage.endpoint.as_ref().filter(|_| several);
            if endpoint != shown {
                out_line(endpoint.map_or("", String::as_str));
                shown = endpoint;
            }
            let word = if stage.ok {
                common.good("ok  ")
            } else {
                common.bad("FAIL")
            };
            let detail = match &stage.credentials {
                Some(creds) => format!(
                    "client id {}   user {}   password {}",
                    creds.client_id,
                    creds.username.as_deref().unwrap_or("none"),
                    creds.password.as_deref().unwrap_or("none")
                ),
                None => stage.detail.clone(),
            };
            let code = stage
                .code
                .map_or_else(String::new, |code| format!("   [{code}]"));
            out_line(&format!(
                "{word}  {:<9}  {detail}   {} ms{code}",
                stage.name, stage.millis
            ));
            if let Some(likely) = stage.likely {
                let help = stage
                    .code
                    .map_or_else(String::new, |code| format!("   weir help {code}"));
                out_line(&format!("      likely: {likely}{help}"));
            }
        }
        exit
    })
}

/// Enough of a secret to recognise it by.
fn masked(secret: &str) -> String {
    let shown: String = secret.chars().take(4).collect();
    format!(
        "{shown}…({} characters; --show-secrets prints it)",
        secret.chars().count()
    )
}

fn wall_clock() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Milliseconds since 1970 of a time on the command line.
fn moment(text: &str) -> Result<i64, String> {
    /// Seconds reach it in the year 5138, milliseconds did in 1973.
    const SECONDS_BELOW: i64 = 100_000_000_000;
    if let Ok(number) = text.parse::<i64>() {
        return Ok(if number.abs() < SECONDS_BELOW {
            number * 1000
        } else {
            number
        });
    }
    text.parse::<jiff::Timestamp>()
        .map(|time| time.as_millisecond())
        .map_err(|_| format!("`--now {text}`: write 1700000000 or 2023-11-14T22:13:20Z"))
}

/// The provider that a preset's name and the given inputs mean.
fn provider_of<'a>(name: &'a str, inputs: &serde_json::Map<String, serde_json::Value>) -> &'a str {
    let has = |key: &str| inputs.contains_key(key);
    match name {
        "aliyun_iot" if has("product_secret") => "aliyun_iot_dynreg",
        "aliyun_iot" if has("device_token") => "aliyun_iot_connwl",
        "aliyun_mq" if has("tokens") || has("tokens_from") => "aliyun_mq_token",
        "aliyun_mq" => "aliyun_mq_signature",
        "aws_iot" if has("access_key_id") => "aws_sigv4_ws",
        "aws_iot" if has("authorizer") => "aws_custom_auth",
        "aws_iot" => "aws_x509",
        name => name,
    }
}

/// The inputs of `--set`.
fn inputs_of(set: &[String]) -> Result<serde_json::Map<String, serde_json::Value>, Exit> {
    let mut inputs = serde_json::Map::new();
    for pair in set {
        let Some((key, value)) = pair.split_once('=') else {
            // The text may be a secret: it is not repeated.
            say("weir: `--set` takes KEY=VALUE");
            return Err(Exit::Usage);
        };
        if inputs.insert(key.to_owned(), value.into()).is_some() {
            say(&format!("weir: `--set {key}` is given twice"));
            return Err(Exit::Usage);
        }
    }
    Ok(inputs)
}

fn provision(common: &Common, args: &ProvisionArgs) -> Exit {
    let mut inputs = match inputs_of(&args.set) {
        Ok(inputs) => inputs,
        Err(exit) => return exit,
    };
    let region = inputs.remove("region");
    let tls = TlsConfig {
        ca: args.ca.clone(),
        ..TlsConfig::default()
    };
    let text = |value: Option<&serde_json::Value>| value?.as_str().map(str::to_owned);
    let instance = text(inputs.get("instance_id"));
    let registrar = match (&args.endpoint, text(region.as_ref()), instance) {
        (Some(url), _, _) => Registrar::at(url, tls),
        (None, _, Some(instance)) => Registrar::of_instance(&instance, tls),
        (None, Some(region), None) => Registrar::of_region(&region, tls),
        (None, None, None) => {
            say(
                "weir: give `--set region=cn-shanghai`, `--set instance_id=iot-…`, or `--endpoint`",
            );
            return Exit::Usage;
        }
    };
    // Looked at before the cloud is asked: it gives the secret once.
    let mut file = match SecretFile::begin(&args.out, args.force) {
        Ok(file) => file,
        Err(error) => {
            let path = args.out.display();
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                say(&format!(
                    "weir: {path} is there already: remove it, or use --force to replace it"
                ));
            } else {
                say(&format!("weir: {path} cannot be written: {error}"));
            }
            return Exit::Unusable;
        }
    };
    let base = std::path::Path::new(".");
    block_on(common, async {
        let inputs = inputs.into();
        let registered = match registrar {
            Ok(registrar) => registrar.register(&inputs, base).await,
            Err(error) => Err(error),
        };
        let registered = match registered {
            Ok(registered) => registered,
            Err(error) => {
                say(&format!("weir: {error} [{}]", error.code()));
                if common.json {
                    out_json(&json!({ "error": error.to_string(), "code": error.code() }));
                }
                return Exit::Problems;
            }
        };
        if let Err(Unfinished { error, kept }) = file.finish(&registered.secret) {
            let (path, kept) = (args.out.display(), kept.display());
            // A token is of no use without it, and the cloud gives both once.
            let goes_with = match &registered.token_of {
                None => String::new(),
                Some(client_id) => format!("; it goes with client_id = \"{client_id}\" alone"),
            };
            say(&format!(
                "weir: the secret came, and {path} cannot be written: {error}; what was written of it is kept in {kept}: move it yourself, for the cloud gives it once{goes_with}"
            ));
            return Exit::Unusable;
        }
        let path = args.out.display().to_string();
        match &registered.token_of {
            None if common.json => out_json(&json!({ "file": path })),
            Some(client_id) if common.json => {
                out_json(&json!({ "file": path, "client_id": client_id }));
            }
            None => out_line(&format!(
                "the device's secret is in {path}: device_secret = \"${{file:{path}}}\""
            )),
            Some(client_id) => out_line(&format!(
                "the device's token is in {path}, good for this client id alone: client_id = \"{client_id}\", device_token = \"${{file:{path}}}\""
            )),
        }
        Exit::Ok
    })
}

fn sign_one(common: &Common, args: &SignArgs, now_ms: Option<i64>) -> Exit {
    let inputs = match inputs_of(&args.set) {
        Ok(inputs) => inputs,
        Err(exit) => return exit,
    };
    let name = provider_of(args.preset.as_deref().unwrap_or_default(), &inputs);
    let at = bridge::Moment::at(now_ms.unwrap_or_else(wall_clock));
    let signed = bridge::sign_with_endpoint(name, &inputs, at);
    let (creds, address) = match signed.map_err(weir_sinks::SinkError::from) {
        Ok(signed) => signed,
        Err(error) => {
            say(&format!("weir: {error} [{}]", error.code()));
            if common.json {
                out_json(&json!({ "error": error.to_string(), "code": error.code() }));
            }
            return Exit::Problems;
        }
    };
    let shown = creds.show();
    if common.json {
        let mut answer = serde_json::to_value(&shown).unwrap_or_default();
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("provider".into(), name.into());
            answer.insert("expires_at_ms".into(), creds.expires_at_ms.into());
            let endpoint = address.as_ref().map(ToString::to_string);
            answer.insert("endpoint".into(), endpoint.into());
            if let Some(address) = &address {
                answer.insert("host".into(), address.host.as_str().into());
                answer.insert("port".into(), address.port.into());
                answer.insert("tls".into(), address.tls.into());
                answer.insert("path".into(), address.path().into());
            }
        }
        out_json(&answer);
        return Exit::Ok;
    }
    if let Some(address) = &address {
        out_line(&format!("endpoint   {address}"));
    }
    out_line(&format!("client id  {}", shown.client_id));
    for (label, value) in [
        ("user      ", shown.username),
        ("password  ", shown.password),
        ("address   ", shown.url),
        ("ALPN      ", shown.alpn.flatten()),
    ] {
        if let Some(value) = value {
            out_line(&format!("{label} {value}"));
        }
    }
    Exit::Ok
}

fn sign_vectors(path: &PathBuf, now_ms: Option<i64>) -> Exit {
    let text = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .lines()
            .collect::<Result<Vec<_>, _>>()
            .map(|lines| lines.join("\n"))
    } else {
        std::fs::read_to_string(path)
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            say(&format!("weir: cannot read {}: {error}", path.display()));
            return Exit::Usage;
        }
    };
    let mut exit = Exit::Ok;
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        match signed(line, now_ms) {
            Ok(creds) => out_json(&creds),
            Err(message) => {
                // One line out for each line in, so that the two can be laid side by side.
                out_json(&json!({ "error": message }));
                say(&format!(
                    "weir: {}:{}: {message}",
                    path.display(),
                    index + 1
                ));
                exit = Exit::Problems;
            }
        }
    }
    exit
}

fn signed(line: &str, now_ms: Option<i64>) -> Result<bridge::signer::ShownCreds, String> {
    let vector: serde_json::Value =
        serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let provider = vector["provider"].as_str().ok_or("`provider` is missing")?;
    let at = bridge::Moment::at(now_ms.unwrap_or_else(wall_clock));
    bridge::sign_at(provider, &vector["inputs"], at)
        .map(|creds| creds.show())
        .map_err(|error| error.to_string())
}
