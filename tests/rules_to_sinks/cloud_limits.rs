//! What clouds do to a client that they do not want as it is: a second weir does the same, and a bridge neither storms nor
//! loses anything.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_test_support::{LinePublisher, Site, Weir, wait_until};

use crate::WEIR;

const DEADLINE: Duration = Duration::from_secs(60);

/// The remote, which writes down who comes and what arrives.
struct Far {
    weir: Weir,
    site: Site,
}

impl Far {
    async fn start(config: &str) -> Self {
        let site = Site::new();
        site.config(&format!("data_dir = \"data\"\n{config}"));
        site.write(
            "devices.toml",
            "[[device]]\nscheme = \"aliyun_mq\"\ntenant_key = \"post-cn-1\"\n\
             device = \"GID_weir@@@edge\"\nsecret = \"device-secret\"\n",
        );
        for (name, sql) in [
            ("came", "SELECT clientid FROM \"$events/client/connected\""),
            ("up", "SELECT payload.n AS n FROM \"up\""),
        ] {
            let file = format!("[[sinks]]\ntype = \"file\"\npath = \"{name}.ndjson\"\n");
            site.rule(name, &format!("sql = '''{sql}'''\n{file}"));
        }
        let weir = site.start(WEIR).await;
        Self { weir, site }
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        self.site.file_rows(file)
    }

    /// How often somebody has connected.
    fn came(&self) -> usize {
        self.lines("came.ndjson").len()
    }

    /// The numbers that have arrived, each once, in the order of their first arrival.
    fn arrived(&self) -> Vec<u64> {
        let mut first = std::collections::HashSet::new();
        let lines = self.lines("up.ndjson");
        let numbers = lines.iter().map(|line| line["n"].as_u64().unwrap());
        numbers.filter(|number| first.insert(*number)).collect()
    }

    async fn until_arrived(&self, numbers: impl Iterator<Item = u64>) {
        let wanted: Vec<u64> = numbers.collect();
        wait_until("everything", DEADLINE, || async {
            self.arrived() == wanted
        })
        .await;
    }
}

/// A weir that sends what comes on `out` over the connector `far`.
fn near(connector: &str) -> Site {
    let site = Site::new();
    site.connector("far", connector);
    site.rule(
        "up",
        "sql = '''SELECT payload.n AS n, payload.fill AS fill FROM \"out\"'''\n\
         [[sinks]]\nconnector = \"far\"\ntopic = \"up\"\nqos = 1\n\
         payload = '{\"n\": ${n}, \"fill\": \"${fill}\"}'\n",
    );
    site
}

async fn publish(near: &Weir, lines: impl Iterator<Item = (u64, usize)>) {
    let line =
        |(n, fill): (u64, usize)| format!("{{\"n\":{n},\"fill\":\"{}\"}}\n", "x".repeat(fill));
    let mut publisher = LinePublisher::start(near.mqtt_port(), &["-t", "out", "-q", "1"]);
    publisher.send(&lines.map(line).collect::<String>()).await;
    publisher.finish().await;
}

async fn connector(near: &Weir) -> Value {
    let (_, text) = near.get("/weir/v1/connectors").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["items"][0].clone()
}

async fn until_state(near: &Weir, wanted: &str) {
    wait_until(wanted, DEADLINE, || async {
        connector(near).await["state"] == wanted
    })
    .await;
}

#[tokio::test]
async fn two_bridges_of_one_identity_do_not_evict_each_other_in_a_storm() {
    let far = Far::start("").await;
    let text = |keepalive: u32| {
        format!(
            "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\nprotocol = \"5\"\nclient_id = \"same\"\n\
             keepalive = \"{keepalive}s\"\nbackoff = {{ base = \"100ms\", cap = \"200ms\" }}\n",
            far.weir.mqtt_port()
        )
    };
    let (first_site, second_site) = (near(&text(60)), near(&text(60)));
    let first = first_site.start(WEIR).await;
    until_state(&first, "up").await;
    let second = second_site.start(WEIR).await;
    until_state(&second, "up").await;
    until_state(&first, "evicted").await;
    assert_eq!(connector(&first).await["last_error"]["code"], "E4110");
    publish(&first, (1000..1010).map(|n| (n, 0))).await;
    // For as long as twenty of its longest waits, what the second sends arrives, one after the other.
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < 20 * Duration::from_millis(200) {
        publish(&second, std::iter::once((sent, 0))).await;
        sent += 1;
        far.until_arrived(0..sent).await;
    }
    assert_eq!(far.came(), 2, "{:?}", far.lines("came.ndjson"));
    assert_eq!(connector(&first).await["state"], "evicted");
    // The operator ends the other one, and need not wait.
    second.stop().await;
    first_site.connector("far", &text(61));
    let _ = first.reload().await.succeeded();
    far.until_arrived((0..sent).chain(1000..1010)).await;
}

#[tokio::test]
async fn a_payload_over_the_clouds_limit_is_a_dead_letter_and_those_behind_it_arrive() {
    let far = Far::start(
        "[auth.devices]\nfile = \"devices.toml\"\n[limits]\nmax_payload = \"64KiB\"\nwhen_exceeded = \"disconnect\"\n",
    )
    .await;
    let site = near(&format!(
        "type = \"mqtt\"\npreset = \"aliyun_mq\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\n\
         group_id = \"GID_weir\"\ndevice_id = \"edge\"\naccess_key = \"LTAI\"\n\
         access_secret = \"device-secret\"\ninstance_id = \"post-cn-1\"\n",
        far.weir.mqtt_port()
    ));
    let near = site.start(WEIR).await;
    publish(&near, [(1, 0), (2, 65 * 1024), (3, 0)].into_iter()).await;
    far.until_arrived([1, 3].into_iter()).await;
    let listed = near.command(&["dlq", "ls", "--json"]).await.succeeded();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let letters = listed["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), 1, "{listed}");
    assert_eq!(letters[0]["code"], "E4108", "{listed}");
    assert_eq!(letters[0]["row"]["n"], 2, "{listed}");
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(reason.contains("over the bridge's limit"), "{reason}");
    assert_eq!(far.came(), 1);
}

#[tokio::test]
async fn a_remote_that_cuts_who_sends_too_fast_gets_everything_at_the_rate_that_it_takes() {
    const COUNT: u64 = 200;
    let far =
        Far::start("[limits]\nmessages = { per_second = 50 }\nwhen_exceeded = \"disconnect\"\n")
            .await;
    let text = |rate: u32| {
        format!(
            "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\nprotocol = \"5\"\nclient_id = \"fast\"\n\
             rate = {rate}\nbackoff = {{ base = \"100ms\", cap = \"1s\" }}\n",
            far.weir.mqtt_port()
        )
    };
    let site = near(&text(10_000));
    let near = site.start(WEIR).await;
    publish(&near, (0..COUNT).map(|n| (n, 0))).await;
    wait_until("the link is cut", DEADLINE, || async {
        connector(&near).await["last_error"]["code"] == "E4107"
    })
    .await;
    let shown = connector(&near).await;
    let why = shown["last_error"]["detail"].as_str().unwrap_or_default();
    assert!(why.contains("0x96"), "{shown}");
    // It is not tried over and over, and nothing is given up.
    assert!(far.came() <= 5, "{}", far.came());
    site.connector("far", &text(40));
    let _ = near.reload().await.succeeded();
    far.until_arrived(0..COUNT).await;
    let before = far.came();
    publish(&near, (COUNT..2 * COUNT).map(|n| (n, 0))).await;
    far.until_arrived(0..2 * COUNT).await;
    // As fast as the remote takes it, nothing is cut.
    assert_eq!(far.came(), before);
}
