//! `weir pub` and `weir sub`: a small client to try things with.

use std::io::BufRead;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use weir_mqtt::{ProtocolVersion, QoS};

use super::{Common, Exit, block_on, out_json, out_line, say};
use crate::client::{Client, ClientError, Options};
use crate::pipeline::world::now_ms;

#[derive(clap::Args)]
struct Connection {
    /// The broker's MQTT address
    #[arg(
        long,
        short = 'H',
        default_value = "127.0.0.1:1883",
        value_name = "HOST:PORT"
    )]
    host: String,
    /// The client id; the broker chooses one unless given
    #[arg(long, short = 'i', default_value = "")]
    id: String,
    /// The user name
    #[arg(long, short = 'u')]
    user: Option<String>,
    /// The password; better given by the variable, which no other user can see
    #[arg(long, short = 'P', env = "WEIR_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Speak MQTT 3.1.1 instead of 5
    #[arg(long)]
    v3: bool,
}

#[derive(clap::Args)]
pub(super) struct PubArgs {
    /// The topic name
    topic: String,
    /// The payload; `@file` takes a file, `-` one message a line from stdin; none gives an empty payload
    message: Option<String>,
    /// 0, 1 or 2
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Ask the broker to retain it
    #[arg(long, short = 'r')]
    retain: bool,
    /// Publish it so many times
    #[arg(long, short = 'n', default_value = "1")]
    count: u64,
    /// Wait this long between two, e.g. 500ms
    #[arg(long, value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(clap::Args)]
pub(super) struct SubArgs {
    /// Topic filters
    #[arg(required = true)]
    filters: Vec<String>,
    /// The highest QoS to be sent
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// End after so many messages
    #[arg(long, short = 'C')]
    count: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn publish(common: &Common, args: PubArgs) -> Exit {
    let payloads: Box<dyn Iterator<Item = std::io::Result<Bytes>> + Send> =
        match args.message.as_deref() {
            None => Box::new(std::iter::once(Ok(Bytes::new()))),
            Some("-") => Box::new(
                std::io::BufReader::new(std::io::stdin())
                    .split(b'\n')
                    .map(|line| line.map(Bytes::from)),
            ),
            Some(text) => match text.strip_prefix('@') {
                Some(path) => Box::new(std::iter::once(std::fs::read(path).map(Bytes::from))),
                None => Box::new(std::iter::once(Ok(Bytes::from(text.to_owned())))),
            },
        };
    block_on(common, async move {
        match send_all(&args, payloads).await {
            Ok(sent) => {
                if common.json {
                    out_json(&serde_json::json!({ "v": 1, "sent": sent }));
                }
                Exit::Ok
            }
            Err(error) => failed(&error),
        }
    })
}

async fn send_all(
    args: &PubArgs,
    payloads: impl Iterator<Item = std::io::Result<Bytes>>,
) -> Result<u64, ClientError> {
    let mut client = connect(&args.connection).await?;
    let qos = QoS::try_from(args.qos).expect("clap has checked the range");
    let mut sent = 0;
    for payload in payloads {
        let payload = payload
            .map_err(|error| ClientError::Invalid(format!("cannot read the payload: {error}")))?;
        for _ in 0..args.count {
            if sent > 0
                && let Some(every) = args.every
            {
                tokio::time::sleep(every).await;
            }
            client
                .publish(&args.topic, payload.clone(), qos, args.retain)
                .await?;
            sent += 1;
        }
    }
    client.disconnect().await?;
    Ok(sent)
}

pub(super) fn subscribe(common: &Common, args: SubArgs) -> Exit {
    block_on(common, async {
        match print_messages(common, &args).await {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error),
        }
    })
}

async fn print_messages(common: &Common, args: &SubArgs) -> Result<(), ClientError> {
    let mut client = connect(&args.connection).await?;
    client
        .subscribe(
            &args.filters,
            QoS::try_from(args.qos).expect("clap has checked the range"),
        )
        .await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let message = client.next_message().await?;
        let text = std::str::from_utf8(&message.payload).ok();
        let hex = || {
            message
                .payload
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        if common.json {
            let mut line = serde_json::json!({
                "v": 1, "timestamp": now_ms(), "topic": message.topic.as_str(), "qos": message.qos.as_u8(), "retain": message.retain,
            });
            match text {
                Some(text) => line["payload"] = text.into(),
                None => line["payload_hex"] = hex().into(),
            }
            out_json(&line);
        } else {
            out_line(&format!(
                "{} {}",
                message.topic.as_str(),
                text.map_or_else(|| format!("0x{}", hex()), str::to_owned)
            ));
        }
        left -= 1;
    }
    client.disconnect().await
}

async fn connect(connection: &Connection) -> Result<Client, ClientError> {
    let address = resolve(&connection.host)?;
    let options = Options {
        version: if connection.v3 {
            ProtocolVersion::V3_1_1
        } else {
            ProtocolVersion::V5
        },
        client_id: connection.id.clone(),
        username: connection.user.clone(),
        password: connection.password.clone(),
        ..Options::default()
    };
    Client::connect(address, &options).await
}

/// `host`, `host:port` or `mqtt://host:port`.
pub(super) fn resolve(host: &str) -> Result<SocketAddr, ClientError> {
    let bare = host.strip_prefix("mqtt://").unwrap_or(host);
    let with_port = if bare
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        bare.to_owned()
    } else {
        format!("{bare}:1883")
    };
    with_port
        .to_socket_addrs()
        .map_err(|error| ClientError::Invalid(format!("`{host}` is no address: {error}")))?
        .next()
        .ok_or_else(|| ClientError::Invalid(format!("`{host}` has no address")))
}

pub(super) fn failed(error: &ClientError) -> Exit {
    say(&format!("weir: {error}"));
    match error {
        ClientError::Connect { .. } | ClientError::Lost(_) => Exit::Unreachable,
        ClientError::Refused(_) | ClientError::Denied { .. } => Exit::Refused,
        ClientError::Invalid(_) => Exit::Usage,
    }
}
