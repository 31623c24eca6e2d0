//! `weir bridge test`: a bridge's way to its remote, stage by stage, each with what it found.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::client::{self, Happening, Version};
use super::plan::{Address, BridgePlan};
use super::reconnect::Loss;
use super::signer::{Moment, ShownCreds};
use crate::config::connector::{BridgeConfig, Protocol};
use crate::error::SinkError;
use crate::{now_ms, tls};

/// One stage.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// `config`, `dns`, `tcp`, `tls` or `connect`.
    pub name: &'static str,
    /// Whether it went well.
    pub ok: bool,
    /// What was found, in a sentence.
    pub detail: String,
    /// The code of a failure.
    pub code: Option<&'static str>,
    /// How long it took.
    pub millis: u64,
    /// The derived credentials (stage `config` alone). The caller masks the password unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ShownCreds>,
    /// Where the credentials are sent to (stage `config` alone).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Tests a bridge: the configuration, and with `online` also names, sockets, TLS and the sign-in. Stops at the first
/// stage that fails.
pub async fn test(config: &BridgeConfig, base: &Path, online: bool) -> Vec<Stage> {
    let mut stages = Vec::new();
    let began = Instant::now();
    let plan = match BridgePlan::check(config) {
        Ok((plan, _)) => plan,
        Err(errors) => {
            let detail = errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            stages.push(Stage::failed(
                "config",
                began,
                detail,
                errors.first().map(|error| error.code),
            ));
            return stages;
        }
    };
    let signed = plan
        .credentials
        .sign(Moment::at(now_ms().saturating_add(plan.clock_offset_ms)))
        .map_err(SinkError::from);
    let creds = match signed {
        Ok(creds) => creds,
        Err(error) => {
            stages.push(Stage::failed(
                "config",
                began,
                error.to_string(),
                Some(error.code()),
            ));
            return stages;
        }
    };
    let address = plan.addresses[0].clone();
    let mut config_stage =
        Stage::passed("config", began, format!("{address} as {}", creds.client_id));
    config_stage.credentials = Some(creds.show());
    config_stage.endpoint = Some(address.to_string());
    stages.push(config_stage);
    if !online {
        return stages;
    }
    if !reach(&plan, &address, base, &mut stages).await {
        return stages;
    }
    let began = Instant::now();
    stages.push(match sign_in(&plan, &address, base).await {
        Ok(detail) => Stage::passed("connect", began, detail),
        Err(error) => Stage::failed("connect", began, error.to_string(), Some(error.code())),
    });
    stages
}

/// Name, socket and TLS; false when a stage failed.
async fn reach(plan: &BridgePlan, address: &Address, base: &Path, stages: &mut Vec<Stage>) -> bool {
    let began = Instant::now();
    let target = (address.host.as_str(), address.port);
    let found: Vec<_> =
        match tokio::time::timeout(plan.connect_timeout, tokio::net::lookup_host(target)).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => {
                return fail(stages, "dns", began, format!("{}: {error}", address.host));
            }
            Err(_) => return fail(stages, "dns", began, format!("{}: no answer", address.host)),
        };
    stages.push(Stage::passed(
        "dns",
        began,
        format!("{} -> {} addresses", address.host, found.len()),
    ));
    let began = Instant::now();
    let stream = match tokio::time::timeout(
        plan.connect_timeout,
        tokio::net::TcpStream::connect(&*found),
    )
    .await
    {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return fail(stages, "tcp", began, error.to_string()),
        Err(_) => return fail(stages, "tcp", began, "no answer".into()),
    };
    stages.push(Stage::passed(
        "tcp",
        began,
        format!("port {}", address.port),
    ));
    if !address.tls {
        return true;
    }
    let began = Instant::now();
    match handshake(plan, address, base, stream).await {
        Ok(detail) => stages.push(Stage::passed("tls", began, detail)),
        Err(detail) => return fail(stages, "tls", began, detail),
    }
    true
}

fn fail(stages: &mut Vec<Stage>, name: &'static str, began: Instant, detail: String) -> bool {
    stages.push(Stage::failed(
        name,
        began,
        detail,
        Some(crate::codes::UNREACHABLE),
    ));
    false
}

async fn handshake(
    plan: &BridgePlan,
    address: &Address,
    base: &Path,
    stream: tokio::net::TcpStream,
) -> Result<String, String> {
    let config = tls::client_config(&plan.tls, base).map_err(|error| error.to_string())?;
    let name = rustls::pki_types::ServerName::try_from(address.host.clone())
        .map_err(|error| error.to_string())?;
    let connector = rumqttc::tokio_rustls::TlsConnector::from(config);
    let stream = tokio::time::timeout(plan.connect_timeout, connector.connect(name, stream))
        .await
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| error.to_string())?;
    let version = stream
        .get_ref()
        .1
        .protocol_version()
        .map_or_else(String::new, |version| format!("{version:?}"));
    Ok(version)
}

async fn sign_in(plan: &BridgePlan, address: &Address, base: &Path) -> Result<String, SinkError> {
    let versions: &[Version] = match plan.protocol {
        Protocol::V5 => &[Version::V5],
        Protocol::V311 => &[Version::V311],
        Protocol::Auto => &[Version::V5, Version::V311],
    };
    let mut last = SinkError::new(crate::codes::LINK_DOWN, "the remote broker hung up");
    for version in versions {
        let creds = plan
            .credentials
            .sign(Moment::at(now_ms().saturating_add(plan.clock_offset_ms)))?;
        let (publisher, mut driver) = client::connect(plan, address, *version, &creds, base)?;
        loop {
            match driver.poll().await {
                Ok(Happening::Connected(_)) => {
                    publisher.disconnect();
                    let left = async {
                        while !matches!(driver.poll().await, Ok(Happening::Left) | Err(_)) {}
                    };
                    let _ = tokio::time::timeout(Duration::from_secs(2), left).await;
                    let name = if *version == Version::V5 {
                        "MQTT 5"
                    } else {
                        "MQTT 3.1.1"
                    };
                    return Ok(format!("{name}, CONNACK accepted"));
                }
                Ok(_) => {}
                Err(failure) => {
                    let retry = failure.loss == Loss::Version || failure.loss == Loss::Network;
                    last = failure.error;
                    if !retry {
                        return Err(last);
                    }
                    break;
                }
            }
        }
    }
    Err(last)
}

impl Stage {
    fn passed(name: &'static str, began: Instant, detail: String) -> Self {
        Self {
            name,
            ok: true,
            detail,
            code: None,
            millis: millis(began),
            credentials: None,
            endpoint: None,
        }
    }

    fn failed(
        name: &'static str,
        began: Instant,
        detail: String,
        code: Option<&'static str>,
    ) -> Self {
        Self {
            name,
            ok: false,
            detail,
            code,
            millis: millis(began),
            credentials: None,
            endpoint: None,
        }
    }
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
