//! What people do wrong first: each command names the place and what to do instead.

use weir_test_support::{Authority, Site};

use crate::WEIR;

const RULE: &str = "sql = 'SELECT payload.t AS t FROM \"dev/+\"'\n";

/// Runs a command that must fail so, and say each of these.
async fn told(site: &Site, arguments: &[&str], code: i32, wanted: &[&str]) {
    let ended = site.weir(WEIR, arguments).await;
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(code), "{arguments:?}\n{said}");
    for part in wanted {
        assert!(said.contains(part), "{arguments:?}: no `{part}` in\n{said}");
    }
}

#[tokio::test]
async fn a_file_that_is_missing_or_none_is_named_with_what_the_command_takes() {
    let site = Site::new();
    site.rule("hot", RULE);
    site.write("folder/x", "");
    site.write("empty", "");
    for (name, system) in [("gone", "No such file"), ("folder", "Is a directory")] {
        let cannot = format!("cannot read {name}: {system}");
        told(
            &site,
            &["try", "--cases", name],
            2,
            &[&cannot, "a file of JSON lines"],
        )
        .await;
        told(
            &site,
            &["import", "emqx", name],
            6,
            &[&cannot, "cluster.hocon"],
        )
        .await;
        let payload = format!("@{name}");
        told(
            &site,
            &["try", "--rule", "hot", "-p", &payload],
            2,
            &[&format!("the payload from {name}: {system}"), "@FILE"],
        )
        .await;
    }
    told(
        &site,
        &["fmt", "gone"],
        1,
        &["--> gone", "correct the name"],
    )
    .await;
    told(
        &site,
        &["fmt", "folder"],
        1,
        &["--> folder", "no rule to format"],
    )
    .await;
    told(
        &site,
        &["fmt", "empty"],
        0,
        &["empty: there is no `sql` in it"],
    )
    .await;
    told(
        &site,
        &["--config", "gone", "check"],
        1,
        &["--> gone", "correct the name"],
    )
    .await;
    told(
        &site,
        &["try", "--cases", "empty"],
        0,
        &["there is no case in empty"],
    )
    .await;
    told(
        &site,
        &["import", "emqx", "empty"],
        1,
        &[
            "no rules, connectors, actions or bridges in empty",
            "cluster.hocon",
        ],
    )
    .await;
    told(
        &site,
        &["schema", "--write", "empty"],
        6,
        &[
            "weir: cannot write empty/schemas/",
            "a folder that you may write into",
        ],
    )
    .await;
    told(&site, &["schema"], 2, &["rule, connector, config or test"]).await;
    told(
        &site,
        &["check", "gone"],
        1,
        &["--> gone", "no file of the project", "below rules"],
    )
    .await;
    told(&site, &["test", "gone"], 1, &["no test has `gone`"]).await;
}

#[tokio::test]
async fn a_rule_can_be_named_by_its_file() {
    let site = Site::new();
    site.rule(
        "hot",
        &format!("{RULE}[[test]]\nname = 'x'\ngiven = [{{ topic = 'dev/a', payload = {{ t = 1 }} }}]\nexpect = [{{ t = 1 }}]\n"),
    );
    let tested = site
        .weir(WEIR, &["test", "rules/hot.toml"])
        .await
        .succeeded();
    assert!(
        tested.stdout.ends_with("1 passed, 0 failed\n"),
        "{tested:?}"
    );
    let tried = ["try", "--rule", "rules/hot.toml", "-p", r#"{"t":1}"#];
    let _ = site.weir(WEIR, &tried).await.succeeded();
    told(
        &site,
        &["try", "rules/hot.toml"],
        1,
        &["rules/hot.toml is a file", "--rule rules/hot.toml"],
    )
    .await;
}

#[tokio::test]
async fn a_value_of_a_wrong_type_is_told_with_its_key_and_what_it_takes() {
    for (text, place, message) in [
        ("sql = 3\n", ":1:7", "`sql` takes a text, not `3`"),
        (
            "enabled = 'yes'\n",
            ":1:11",
            "`enabled` takes true or false, without quotes, not a text",
        ),
        ("[sql]\nx = 1\n", ":1:1", "`sql` takes a text, not a table"),
        (
            "[[test]]\nname = 3\n",
            ":2:8",
            "`name` takes a text, not `3`",
        ),
        (
            "[[sinks]]\ntype = 'http'\nurl = 'http://x'\nbatch = { max_rows = 'a' }\n",
            ":4:22",
            "`max_rows` takes a whole number, without quotes, not a text",
        ),
    ] {
        let site = Site::new();
        site.rule("hot", text);
        told(
            &site,
            &["check"],
            1,
            &[&format!("rules/hot.toml{place}"), message],
        )
        .await;
    }
}

#[tokio::test]
async fn windows_line_ends_and_a_byte_order_mark_change_neither_rules_nor_places() {
    let site = Site::new();
    site.rule("hot", &format!("\u{feff}{}", RULE.replace('\n', "\r\n")));
    let _ = site.weir(WEIR, &["check"]).await.succeeded();
    let _ = site.weir(WEIR, &["fmt", "--check"]).await.succeeded();
    site.rule("hot", "\u{feff}[[tests]]\r\n");
    told(
        &site,
        &["check"],
        1,
        &[
            "rules/hot.toml:1:3\n",
            "\n1 | [[tests]]\n  |   ^^^^^ did you mean `test`?",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_file_with_one_endless_line_does_not_fill_the_terminal() {
    let site = Site::new();
    site.rule("hot", &"a".repeat(1_000_000));
    let checked = site.weir(WEIR, &["check"]).await;
    assert_eq!(checked.code, Some(1), "{}", checked.stderr);
    assert!(
        checked.stdout.len() < 2_000,
        "{} bytes",
        checked.stdout.len()
    );
    assert!(
        checked.stdout.contains("rules/hot.toml:1:1000001"),
        "{}",
        checked.stdout
    );
    site.write("huge.conf", &"a".repeat(1_000_000));
    let imported = site.weir(WEIR, &["import", "emqx", "huge.conf"]).await;
    assert!(
        imported.stderr.len() < 2_000,
        "{} bytes",
        imported.stderr.len()
    );
}

#[tokio::test]
async fn a_client_certificate_that_ends_soon_is_told_before_the_bridge_runs() {
    let site = Site::new();
    let authority = Authority::new();
    let connector = |cert: &str| {
        format!(
            "type = \"mqtt\"\naddresses = [\"mqtts://127.0.0.1:1\"]\nclient_id = \"w\"\n\
             tls = {{ cert = \"{}\", key = \"{}\" }}\n",
            authority.text(&format!("{cert}.pem")),
            authority.text(&format!("{cert}.key")),
        )
    };
    authority.client_for_days("soon", "weir", 12);
    site.connector("hq", &connector("soon"));
    let wanted = [
        "W4110",
        "connectors/hq.toml:4:16",
        "expires in 1",
        "1 warning",
    ];
    told(&site, &["check"], 0, &wanted).await;
    told(&site, &["check", "--deny-warnings"], 1, &["W4110"]).await;
    told(&site, &["bridge", "test", "hq", "--offline"], 0, &["W4110"]).await;
    authority.client_for_days("later", "weir", 40);
    site.connector("hq", &connector("later"));
    told(&site, &["check", "--deny-warnings"], 0, &["0 warnings"]).await;
}

#[tokio::test]
async fn what_is_wrong_in_a_table_of_tls_is_named_with_what_it_takes() {
    for (tls, wanted) in [
        (
            "{ min_version = '1.1' }",
            ["connectors/hq.toml:4:", "`1.2`"],
        ),
        (
            "{ servername = 'h' }",
            ["connectors/hq.toml:4:", "did you mean `server_name`?"],
        ),
        ("{ alpn = [''] }", ["connectors/hq.toml:4:", "E3004"]),
        ("'on'", ["connectors/hq.toml:4:", "true, false or a table"]),
    ] {
        let site = Site::new();
        let to = "type = 'mqtt'\naddresses = ['mqtts://h']\nclient_id = 'w'\n";
        site.connector("hq", &format!("{to}tls = {tls}\n"));
        told(&site, &["check"], 1, &wanted).await;
    }
}
