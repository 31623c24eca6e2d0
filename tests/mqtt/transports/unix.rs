//! Unix sockets.

use tokio::net::UnixStream;
use weir::broker::{ListenerSettings, Socket, Transport};

use super::{Scene, speaks_mqtt};
use crate::client::{ALL, Client, V5};

#[tokio::test]
async fn clients_of_this_machine_come_by_a_file_and_have_no_address() {
    let scene = Scene::start(ListenerSettings::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let settings = ListenerSettings {
        name: "local".into(),
        transport: Transport::Unix,
        allow_anonymous: true,
        ..ListenerSettings::default()
    };
    scene
        .broker
        .listen(Socket::unix(&path, 0o600).unwrap(), settings);
    for version in ALL {
        let stream = UnixStream::connect(&path).await.unwrap();
        speaks_mqtt(Client::over(stream, version), "c").await;
    }
    let mut client = Client::over(UnixStream::connect(&path).await.unwrap(), V5);
    client.hello("c").await;
    let guest = scene.guest(&mut client).await;
    assert_eq!((guest.peer, &*guest.listener), (None, "local"));
}
