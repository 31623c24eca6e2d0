//! Keep-alive.

use weir::broker::BrokerSettings;
use weir_mqtt::{Connect, ReasonCode, Utf8};

use crate::client::{ALL, TestBroker};

/// [MQTT-3.1.2-22] [MQTT-3.2.2-22] [MQTT3-3.1.2-24]
#[tokio::test]
async fn a_silent_client_is_given_up_after_its_keep_alive_and_not_before() {
    // One second times 1.5 is the shortest that the protocol has.
    let broker = TestBroker::with(BrokerSettings::default()).await;
    let waits = ALL.map(async |version| {
        let mut connect = Connect::new(version, Utf8::new(&format!("{version}")).unwrap());
        connect.keep_alive_s = 1;
        let (client, _) = broker.connect_with(connect).await;
        let since = std::time::Instant::now();
        client.expect_disconnect(ReasonCode::KeepAliveTimeout).await;
        let waited = since.elapsed().as_millis();
        assert!((1400..5000).contains(&waited), "{waited} ms");
    });
    futures_util::future::join_all(waits).await;
}
