//! What a reload leaves alone, and what a restart makes of the files.

use std::time::Duration;

use weir_test_support::{Request, Site, Subscriber, Webhook, wait_for, wait_until};

use crate::WEIR;
use crate::killed::Client;

const PATIENCE: Duration = Duration::from_secs(30);

fn rule(url: &str, version: u32) -> String {
    format!(
        "sql = '''SELECT payload.n AS n, {version} AS version FROM \"t\"'''\n[[sinks]]\ntype = \"http\"\nurl = \"{url}\"\n"
    )
}

/// [LESSON-18]
#[tokio::test]
async fn a_reload_disturbs_no_client_that_may_stay() {
    let site = Site::new();
    site.config("auth.acl_file = \"acl\"\n");
    site.write("acl", "allow all #\n");
    let weir = site.start(WEIR).await;
    let mut stays = Client::connect(&weir, "stays").await;
    let mut subscriber = Subscriber::start(weir.mqtt_port(), "t", &["-q", "1"]).await;
    for n in 1..=20 {
        site.write("acl", &format!("allow all t\nallow all other/{n}\n"));
        let said = weir.reload().await;
        assert_eq!(said.code, Some(0), "{}", said.stdout);
        let answer = stays.publish(0x32, n, &n.to_string()).await;
        assert_eq!(answer.expect("the connection is there")[0], 0x40);
    }
    assert_eq!(subscriber.wait_for(20).await[19].payload, "20");
    // The list that is live is the last one: what only the first allowed is refused.
    let refused = [("reason", "authz_deny")];
    let denied = weir_test_support::mosquitto_pub(weir.mqtt_port(), &["-t", "other/1", "-m", "x"]);
    let _ = denied.await;
    wait_until("the refusal to be counted", PATIENCE, || async {
        weir.metric("weir_messages_dropped_total", &refused).await > 0.5
    })
    .await;
}

/// [LESSON-17]
#[tokio::test]
async fn what_is_live_after_a_restart_is_what_was_live_before_it() {
    let webhook = Webhook::start().await;
    let site = Site::new();
    site.rule("hook", &rule(&webhook.url(), 1));
    let mut weir = site.start(WEIR).await;
    for version in 2..=3 {
        site.rule("hook", &rule(&webhook.url(), version));
        assert_eq!(weir.reload().await.code, Some(0));
        for life in 0..2 {
            let n = version * 10 + life;
            let mut client = Client::connect(&weir, "p").await;
            let payload = format!("{{\"n\":{n}}}");
            client.publish(0x32, 1, &payload).await.expect("PUBACK");
            let row = wait_for("the row", PATIENCE, || {
                let rows = webhook.requests();
                let row = rows.iter().map(Request::json).find(|row| row["n"] == n);
                async move { row }
            });
            assert_eq!(row.await["version"], version);
            weir.kill().await;
            weir = site.start(WEIR).await;
        }
    }
}
