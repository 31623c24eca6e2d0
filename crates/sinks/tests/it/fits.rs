//! Messages that are larger than a cloud takes, or on topics that it does not: they never leave.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_rules::value::{Text, Value};
use weir_sinks::bridge::plan::BridgePlan;
use weir_sinks::bridge::route::Sender;
use weir_sinks::crossing::{Crossing, row, unmapped_row};
use weir_sinks::{ConnectorConfig, MemoryRows, record};

use crate::bench::{self, Bench};
use crate::crossing::{Remote, open};

/// The kind and body of the next packet, however long.
async fn packet(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let kind = stream.read_u8().await.unwrap() >> 4;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await.unwrap();
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (kind, body)
}

/// What becomes of rows with these topics and sizes: `None` for those that left, else the code of the letter.
async fn fates(preset: &str, rows: &[(String, usize)]) -> Vec<Option<String>> {
    let remote = Remote::new().await;
    let address = remote.address();
    let connector = format!("type = \"mqtt\"\naddresses = [\"{address}\"]\n{preset}");
    let sink = "topic = \"${t}\"\nqos = 1\npayload = \"${p}\"";
    let bench = Bench::new(sink, Some(&connector));
    for (topic, bytes) in rows {
        bench.push(&format!(
            "{{\"t\":\"{topic}\",\"p\":\"{}\"}}",
            "x".repeat(*bytes)
        ));
    }
    let taker = tokio::spawn(async move {
        let mut stream = remote.connection().await;
        loop {
            let answer = match packet(&mut stream).await {
                (1, _) => [0x20, 2, 0, 0],
                (3, body) => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    [0x40, 2, body[2 + topic], body[3 + topic]]
                }
                (kind, _) => panic!("{kind}"),
            };
            stream.write_all(&answer).await.unwrap();
        }
    });
    bench.settled().await;
    taker.abort();
    let letters = bench.dead_letters();
    rows.iter()
        .map(|(topic, bytes)| {
            let of_row = |letter: &&serde_json::Value| {
                letter["row"]["t"] == **topic
                    && letter["row"]["p"]
                        .as_str()
                        .is_some_and(|p| p.len() == *bytes)
            };
            let letter = letters.iter().find(of_row)?;
            Some(letter["code"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[tokio::test]
async fn cumulocity_counts_the_whole_message() {
    let preset = "preset = \"cumulocity\"\nclient_id = \"d:e\"\ntenant = \"t\"\nuser = \"u\"\npassword = \"p\"\nprotocol = \"3.1.1\"\n";
    // Fixed header of three bytes, topic with its length, packet id.
    let most = 16_184 - 3 - 6 - 2;
    let rows = [("s/us".to_owned(), most), ("s/us".to_owned(), most + 1)];
    assert_eq!(fates(preset, &rows).await, [None, Some("E4108".into())]);
}

#[tokio::test]
async fn aliyun_mq_counts_characters_of_a_topic_and_not_bytes() {
    let preset = "preset = \"aliyun_mq\"\ninstance_id = \"i\"\ngroup_id = \"G\"\ndevice_id = \"d\"\naccess_key = \"a\"\naccess_secret = \"s\"\n";
    let rows = [("阀".repeat(64), 1), ("阀".repeat(65), 1)];
    assert_eq!(fates(preset, &rows).await, [None, Some("E4108".into())]);
}

#[tokio::test]
async fn a_name_of_another_device_is_a_dead_letter_and_gets_its_own_when_it_is_tried_again() {
    let remote = Remote::new().await;
    let toml = |template: &str| {
        let address = remote.address();
        format!(
            "type = \"mqtt\"\naddresses = [\"{address}\"]\npreset = \"aliyun_iot\"\nproduct_key = \"pk\"\n\
             device_name = \"gw01\"\ndevice_secret = \"s\"\nsign_method = \"hmacmd5\"\ntimestamp = false\n[[out]]\nfilter = \"+/+/+\"\nremote_topic = \"{template}\"\n"
        )
    };
    let parse = |template: &str| -> ConnectorConfig { toml::from_str(&toml(template)).unwrap() };
    let config = parse("/sys/${1}/${2}/${3}");
    let ConnectorConfig::Mqtt(bridge) = &config else {
        unreachable!()
    };
    let (plan, _) = BridgePlan::check(bridge).unwrap();
    let payload = Bytes::from_static(b"m");
    let named = |topic: &str| {
        let message = Crossing {
            topic,
            payload: &payload,
            qos: 1,
            retain: false,
            properties: None,
            sender: Sender::default(),
            node_id: "n",
        };
        row(&plan.out[0], message).map_err(|why| unmapped_row(&plan.out[0], message, why))
    };
    let others = named("pk/other/up").unwrap_err();
    // And one that was named by the file of before.
    let old = bench::row(r#"{"topic":"/sys/pk/old/up","payload":"m","qos":1,"retain":false}"#);
    let rows = [named("pk/gw01/up").unwrap(), others.clone(), old];
    let (folder, log) = (tempfile::tempdir().unwrap(), waiting(&rows));
    let first = open(folder.path(), &config, &log);
    let mut far = remote.accept(false).await;
    let (_, id, _) = far.publish().await;
    far.acknowledge(0x40, id).await;
    bench::wait(&first.1, "one left and two did not", |c| {
        c.delivered == 1 && c.dead_lettered == 2
    })
    .await;
    let path = weir_sinks::dead_letter::file::path(folder.path(), "$bridges/hq", "out");
    let letters = std::fs::read_to_string(path).unwrap();
    assert_eq!(letters.matches("\"E4104\"").count(), 2, "{letters}");
    drop((first, far));

    // The row of the letter is in the queue again, and the file is corrected.
    let (folder, log) = (tempfile::tempdir().unwrap(), waiting(&[others]));
    let (_connector, sink) = open(folder.path(), &parse("/sys/pk/gw01/${2}/${3}"), &log);
    let mut far = remote.accept(false).await;
    let (kind, body) = far.packet().await;
    assert_eq!(kind >> 4, 3, "PUBLISH");
    let topic = "/sys/pk/gw01/other/up";
    assert_eq!(&body[2..2 + topic.len()], topic.as_bytes());
    let id = &body[2 + topic.len()..];
    far.acknowledge(0x40, u16::from_be_bytes([id[0], id[1]]))
        .await;
    bench::wait(&sink, "it is delivered", |c| c.delivered == 1).await;
}

fn waiting(rows: &[Value]) -> Arc<MemoryRows> {
    let log = Arc::new(MemoryRows::new(1, 90));
    for row in rows {
        log.commit([record::encode(1, &Text::from_static("c"), 0, row)]);
    }
    log
}
