//! What an operator does to clients, as the clients see it.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use tokio::time::timeout;
use weir_test_support::Weir;

use crate::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(weir: &Weir, client_id: &str) -> (AsyncClient, EventLoop) {
    let options = MqttOptions::new(client_id, "127.0.0.1", weir.mqtt_port());
    let (client, mut events) = AsyncClient::new(options, 10);
    loop {
        let event = timeout(PATIENCE, events.poll()).await.unwrap().unwrap();
        if let Event::Incoming(Packet::ConnAck(_)) = event {
            return (client, events);
        }
    }
}

/// The reason code of the DISCONNECT that ends the connection.
async fn goodbye((_client, mut events): (AsyncClient, EventLoop)) -> DisconnectReasonCode {
    loop {
        match timeout(PATIENCE, events.poll()).await.unwrap() {
            Ok(_) => {}
            Err(ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code, ..
            })) => return reason_code,
            Err(other) => panic!("the connection ended with {other}"),
        }
    }
}

#[tokio::test]
async fn clients_are_sent_to_another_server_by_a_command() {
    let scene = Scene::start().await;
    let weir = &scene.weir;
    for (client_id, how, code) in [
        (
            "hall 1/pump",
            "--moved-to",
            DisconnectReasonCode::ServerMoved,
        ),
        (
            "fan",
            "--use-server",
            DisconnectReasonCode::UseAnotherServer,
        ),
    ] {
        let client = connect(weir, client_id).await;
        let kick = ["clients", "kick", client_id, how, "other.example:1883"];
        let said = weir.command(&kick).await.succeeded();
        assert_eq!(said.stdout, "1 client disconnected\n");
        assert_eq!(goodbye(client).await, code);
    }

    let clients = [connect(weir, "one").await, connect(weir, "two").await];
    let all = ["clients", "kick", "--all", "--use-server", "other.example"];
    let said = weir.command(&all).await.succeeded();
    assert_eq!(said.stdout, "2 clients disconnected\n");
    for client in clients {
        let code = goodbye(client).await;
        assert_eq!(code, DisconnectReasonCode::UseAnotherServer);
    }

    let client = connect(weir, "one").await;
    let said = weir.command(&["clients", "kick", "one"]).await.succeeded();
    assert_eq!(said.stdout, "1 client disconnected\n");
    let code = goodbye(client).await;
    assert_eq!(code, DisconnectReasonCode::AdministrativeAction);
    let nobody = weir.command(&["clients", "kick", "nobody"]).await;
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(
        nobody
            .stderr
            .contains("no such client is connected: nobody")
    );
    let nowhere = weir.command(&["clients", "kick", "--all"]).await;
    assert_eq!(nowhere.code, Some(2), "{nowhere:?}");
}
