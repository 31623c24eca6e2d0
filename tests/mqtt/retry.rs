//! Sending again over the same connection: an option for versions before 5, never done in 5.

use std::time::Duration;

use weir::broker::BrokerSettings;

use crate::client::{ALL, TestBroker, publish};

#[tokio::test]
async fn what_an_old_client_does_not_acknowledge_is_sent_again_and_to_a_new_one_never() {
    // [MQTT-4.4.0-1]
    let settings = BrokerSettings {
        retry_interval: Some(Duration::from_millis(100)),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for version in ALL {
        for level in [1, 2] {
            let mut subscriber = broker.connect(version, "sub").await;
            subscriber.subscribe("t", 2).await;
            let mut clock = broker.connect(version, "clock").await;
            clock.subscribe("clock", 0).await;
            clock.publish(publish("t", "x", level, 1)).await;
            let first = subscriber.receive_publish().await;
            assert!(!first.dup);
            if version.is_v5() {
                // A second has passed.
                clock.publish(publish("$delayed/1/clock", "x", 0, 0)).await;
                clock.receive_publish().await;
                subscriber.expect_nothing().await;
            } else {
                let again = subscriber.receive_publish().await;
                assert!(again.dup);
                assert_eq!(again.packet_id, first.packet_id);
                assert_eq!(again.payload, first.payload);
            }
            subscriber.vanish();
            clock.disconnect().await;
        }
    }
}
