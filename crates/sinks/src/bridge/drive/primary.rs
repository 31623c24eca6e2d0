//! While a bridge is connected to another address than its first: whether that one is back.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use weir_mqtt::{Disconnect, ReasonCode};

use super::aside::signed;
use crate::bridge::client::{GOODBYE, Greeting, MAX_INCOMING, Version, connect};
use crate::bridge::dial;
use crate::bridge::link::Inner;
use crate::bridge::plan::BridgePlan;
use crate::bridge::preset::PLAIN;
use crate::bridge::reconnect::Loss;
use crate::codes;
use crate::config::connector::Failover;

/// How often the first address is asked, where links do not count as stable sooner.
const EVERY: Duration = Duration::from_secs(60);

/// Resolves when the first address has answered at the begin and the end of a time in which a link would count as stable.
/// Never where there is nothing to go back to.
pub(super) async fn is_back(inner: Arc<Inner>, address: usize, version: Version) {
    if address == 0 || inner.plan().failover != Failover::Primary {
        return std::future::pending().await;
    }
    loop {
        let stable = inner.plan().backoff.stable;
        tokio::time::sleep((2 * stable).min(EVERY)).await;
        if answers(&inner, version).await {
            tokio::time::sleep(stable).await;
            if answers(&inner, version).await {
                return;
            }
        }
    }
}

/// Whether the first address answers. A cloud that has one link for each identity is asked no further than for TLS: a
/// CONNECT would end the link that there is.
async fn answers(inner: &Arc<Inner>, version: Version) -> bool {
    let plan = inner.plan();
    let Ok((mut creds, _)) = signed(inner, 0).await else {
        return false;
    };
    if plan.preset.name != PLAIN.name {
        let first = &plan.addresses[0];
        let reached = async {
            let stream = dial::reach(&plan, first).await?;
            let secured = dial::secure(stream, &plan, first, &creds, &inner.base);
            let secured = tokio::time::timeout(plan.connect_timeout, secured).await;
            secured.unwrap_or_else(|_| Err(dial::no_answer()))
        };
        return reached.await.is_ok();
    }
    creds.client_id = format!("weir-probe-{:08x}", rand::random::<u32>());
    let plan = BridgePlan {
        // Of a lost link nothing is to be said that was none.
        remote_status: None,
        ..(*plan).clone()
    };
    let greeting = Greeting {
        version,
        clean_start: true,
        session_expiry: Duration::ZERO,
        receive_maximum: 1,
        max_packet_size: MAX_INCOMING,
        bridge_flag: false,
    };
    match connect(&plan, &plan.addresses[0], &creds, &inner.base, greeting).await {
        Ok((mut conn, _)) => {
            let goodbye = Disconnect {
                reason: ReasonCode::Success,
                properties: None,
            };
            let mut bytes = Vec::new();
            if goodbye.encode(version.wire(), &mut bytes).is_ok() {
                let _ = tokio::time::timeout(GOODBYE, conn.writer.write_all(&bytes)).await;
                let _ = tokio::time::timeout(GOODBYE, conn.writer.shutdown()).await;
            }
            true
        }
        // It is there, and may want the bridge's own client id. A certificate would be the same.
        Err(failure) => {
            failure.loss == Loss::Credentials && failure.error.code() != codes::CERTIFICATE
        }
    }
}
