//! Each mapping by itself: the export above, the files below.

mod inbound;

use super::*;

fn imported(export: &str) -> Imported {
    let export =
        Export::read(export.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{export}"));
    let imported = import(&export);
    for file in imported
        .files
        .iter()
        .filter(|file| file.path.ends_with(".toml"))
    {
        if let Err(error) = toml::from_str::<toml::Table>(&file.text) {
            panic!("{}: {error}\n{}", file.path, file.text);
        }
    }
    imported
}

impl Imported {
    fn file(&self, path: &str) -> &str {
        let known: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        &self
            .files
            .iter()
            .find(|file| file.path == path)
            .unwrap_or_else(|| panic!("no {path} in {known:?}"))
            .text
    }

    fn toml(&self, path: &str) -> toml::Table {
        toml::from_str(self.file(path)).unwrap()
    }

    /// The first sink of the rule `r`.
    fn sink(&self) -> toml::Table {
        self.toml("rules/r.toml")["sinks"][0]
            .as_table()
            .unwrap()
            .clone()
    }

    fn notes(&self) -> Vec<String> {
        self.notes
            .iter()
            .map(|note| format!("{}: {}: {}", note.level.name(), note.of, note.text))
            .collect()
    }

    fn has_note(&self, level: Level, of: &str, part: &str) -> bool {
        self.notes
            .iter()
            .any(|note| note.level == level && note.of == of && note.text.contains(part))
    }
}

/// A rule `r` with that statement and those actions, and more of the export.
fn rule(sql: &str, actions: &str, more: &str) -> Imported {
    imported(&format!(
        "rule_engine.rules.r {{ sql = \"\"\"{sql}\"\"\", actions = {actions} }}\n{more}"
    ))
}

const SELECT: &str = "SELECT payload.temp AS temp, clientid FROM \"dev/+/up\"";

fn table(toml: &str) -> toml::Table {
    toml::from_str(toml).unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

#[test]
fn a_rule_becomes_a_file_with_its_statement_laid_out_and_a_test() {
    let made = imported(
        "rule_engine.rules.hot_rooms {\n\
           name = \"Hot rooms\"\n\
           description = \"Over 30\"\n\
           sql = \"SELECT payload.temp AS temp FROM \\\"room/+/up\\\" WHERE payload.temp > 30\"\n\
           actions = [{ function = console }]\n\
         }",
    );
    assert_eq!(
        made.file("rules/hot_rooms.toml"),
        "# EMQX: rule hot_rooms (Hot rooms)\n\
         description = \"Over 30\"\n\
         sql = '''\n\
         SELECT payload.temp AS temp\n\
         FROM \"room/+/up\"\n\
         WHERE payload.temp > 30\n\
         '''\n\
         \n\
         [[sinks]]\n\
         id = \"console\"\n\
         type = \"console\"\n\
         \n\
         [[test]]\n\
         name = \"a message like this gives this row\"\n\
         given = [{ topic = \"room/a1/up\", payload = { temp = 31 } }]\n\
         expect = [{ temp = 31 }]\n"
    );
    assert_eq!(made.notes(), [""; 0]);
    assert_eq!(
        made.rules,
        [ImportedRule {
            id: "hot_rooms".into(),
            path: "rules/hot_rooms.toml".into(),
            enabled: true,
            sinks: vec!["console".into()],
            tests: 1
        }]
    );
}

#[test]
fn a_rule_that_is_off_stays_off_and_one_without_actions_is_taken_without() {
    let made = imported(
        "rule_engine.rules { a { sql = \"SELECT 1 AS x FROM t\", enable = false, actions = [] }, b { sql = \"SELECT 1 AS x FROM t\" } }",
    );
    assert_eq!(made.toml("rules/a.toml")["enabled"].as_bool(), Some(false));
    assert!(!made.file("rules/b.toml").contains("enabled"));
}

#[test]
fn names_that_are_no_file_names_are_changed_and_stay_apart() {
    let made = imported(
        "rule_engine.rules { \"a/b\" { sql = \"SELECT 1 AS x FROM t\" }, \"a:b\" { sql = \"SELECT 1 AS x FROM t\" }, \"_c\" { sql = \"SELECT 1 AS x FROM t\" }, \"d.test\" { sql = \"SELECT 1 AS x FROM t\" } }",
    );
    let paths: Vec<&str> = made.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "rules/a_b.toml",
            "rules/a_b_rule.toml",
            "rules/x_c.toml",
            "rules/d_test.toml"
        ]
    );
    assert!(
        made.file("rules/a_b_rule.toml")
            .starts_with("# EMQX: rule a:b\n")
    );
}

#[test]
fn pgsql_becomes_postgres_with_the_statement_as_it_was() {
    let made = rule(
        SELECT,
        "[\"pgsql:store\"]",
        "connectors.pgsql.main { server = \"db.local\", database = plant, username = \"we ir\", password = \"p@ss\", pool_size = 16 }\n\
         actions.pgsql.store { connector = main, parameters { sql = \"INSERT INTO t (temp, who) VALUES (${temp}, \\\"${clientid}\\\")\" }, resource_opts { batch_size = 200, batch_time = 20ms, max_buffer_bytes = 64MB } }",
    );
    assert_eq!(
        made.toml("connectors/main.toml"),
        table(
            "type = 'postgres'\nurl = 'postgres://we%20ir:p%40ss@db.local:5432/plant'\npool = { max = 16 }"
        )
    );
    assert_eq!(
        made.sink(),
        table(
            "id = 'store'\nconnector = 'main'\nsql = \"INSERT INTO t (temp, who) VALUES (${temp}, ${clientid})\\n\"\nbatch = { max_rows = 200, max_wait = '20ms' }\nbuffer = { max_bytes = '64MiB' }"
        )
    );
    assert_eq!(made.notes(), [""; 0]);
    assert_eq!(made.rules[0].sinks, ["postgres main"]);
}

#[test]
fn a_bridge_of_an_older_version_is_connector_and_sink_in_one() {
    let made = rule(
        SELECT,
        "[\"pgsql:old\"]",
        "bridges.pgsql.old { enable = false, server = \"db:5433\", database = d, username = u, sql = \"INSERT INTO t VALUES (${temp})\", ssl { enable = true, verify = verify_peer, cacertfile = \"/certs/ca.pem\" } }",
    );
    assert_eq!(
        made.toml("connectors/old.toml")["url"].as_str(),
        Some("postgres://u@db:5433/d?sslmode=verify-full&sslrootcert=/certs/ca.pem")
    );
    assert_eq!(
        made.sink(),
        table(
            "id = 'old'\nconnector = 'old'\nenabled = false\nsql = \"INSERT INTO t VALUES (${temp})\\n\""
        )
    );
    assert!(made.has_note(Level::Todo, "connector old", "/certs/ca.pem"));
}

#[test]
fn secrets_that_are_masked_come_from_the_environment() {
    let made = rule(
        SELECT,
        "[\"http:call\"]",
        "connectors {\n\
           pgsql.pg-main { server = \"db:5432\", database = d, username = u, password = \"******\" }\n\
           mqtt.hq { server = \"hq:1883\", username = u, password = \"file:///run/secrets/hq\" }\n\
           http.web { url = \"http://web\", headers { authorization = \"******\" } }\n\
         }\n\
         actions.http.call { connector = web, parameters { method = post, headers { Authorization = \"Bearer abc\" } } }",
    );
    assert_eq!(
        made.toml("connectors/pg-main.toml")["url"].as_str(),
        Some("postgres://u:${env:PG_MAIN_PASSWORD}@db:5432/d")
    );
    assert!(made.has_note(Level::Todo, "connector pg-main", "PG_MAIN_PASSWORD"));
    assert!(made.has_note(Level::Todo, "connector hq", "the file /run/secrets/hq"));
    assert_eq!(made.variables, ["PG_MAIN_PASSWORD", "WEB_AUTHORIZATION"]);
    assert_eq!(
        made.toml("connectors/hq.toml")["password"].as_str(),
        Some("${file:/run/secrets/hq}")
    );
    assert_eq!(
        made.toml("connectors/web.toml")["headers"]["authorization"].as_str(),
        Some("${env:WEB_AUTHORIZATION}")
    );
    assert_eq!(
        made.sink()["auth"].as_table(),
        Some(&table("kind = 'bearer'\ntoken = 'abc'"))
    );
}

#[test]
fn http_takes_url_path_method_headers_and_body() {
    let made = rule(
        SELECT,
        "[\"http:call\"]",
        "connectors.http.web { url = \"https://web.local/api/\", headers { accept = \"text/plain\", connection = \"keep-alive\", authorization = \"Basic dTpw\" }, ssl { enable = true, verify = verify_none } }\n\
         actions.http.call { connector = web, parameters { method = put, path = \"/room/${clientid}\", headers { X-Trace = \"${temp}\", accept = \"text/plain\" }, body = \"\"\"{\"t\": ${temp}}\"\"\" }, resource_opts { request_ttl = 5s } }",
    );
    assert_eq!(
        made.toml("connectors/web.toml"),
        table(
            "type = 'http'\nurl = 'https://web.local/api/'\nauth = { kind = 'basic', user = 'u', password = 'p' }\nheaders = { accept = 'text/plain' }"
        )
    );
    assert_eq!(
        made.sink(),
        table(
            "id = 'call'\nconnector = 'web'\nmethod = 'PUT'\nurl = '${conn:url}room/${clientid}'\nheaders = { x-trace = '${temp}' }\nbody = '{\"t\": ${temp}}'\nundefined = 'text'\ntimeout = '5s'"
        )
    );
    assert!(made.has_note(Level::Changed, "connector web", "did not check"));
}

#[test]
fn a_request_that_emqx_sends_without_a_body_has_none() {
    let http = |method: &str, more: &str| {
        rule(
            SELECT,
            "[\"http:call\"]",
            &format!("connectors.http.web {{ url = \"http://web\" }}\nactions.http.call {{ connector = web, parameters {{ method = {method} {more} }} }}"),
        )
        .sink()
    };
    assert_eq!(http("delete", "")["body"].as_str(), Some(""));
    assert!(!http("get", ", body = x").contains_key("body"));
    assert!(!http("post", "").contains_key("body"));
    assert_eq!(
        http("post", ", path = \"?a=${clientid}\"")["url"].as_str(),
        Some("${conn:url}?a=${clientid}")
    );
}

#[test]
fn a_text_that_emqx_put_into_a_json_body_as_it_is_gets_a_note() {
    let body = |sql: &str, body: &str| {
        rule(
            sql,
            "[\"webhook:w\"]",
            &format!(
                "bridges.webhook.w {{ url = \"http://web/x/${{clientid}}\", method = post, body = \"\"\"{body}\"\"\" }}"
            ),
        )
    };
    let raw = body("SELECT * FROM \"t\"", "${payload}");
    assert!(raw.has_note(Level::Changed, "rule r", "json_decode(payload)"));
    assert_eq!(
        raw.toml("connectors/w.toml")["url"].as_str(),
        Some("http://web/x/${clientid}")
    );
    let quoted = body(
        "SELECT * FROM \"t\"",
        "{\"p\": \"${payload}\", \"q\": ${qos}}",
    );
    assert_eq!(quoted.notes(), [""; 0]);
    // Every field that these places name is always there.
    assert!(!quoted.sink().contains_key("undefined"));
}

#[test]
fn mqtt_becomes_a_connector_and_a_message() {
    let made = rule(
        SELECT,
        "[\"mqtt:up\"]",
        "connectors.mqtt.hq { server = \"hq.local\", proto_ver = v5, clientid_prefix = \"plant-\", keepalive = 60s, max_inflight = 100, clean_start = false, ssl { enable = true, verify = verify_peer, server_name_indication = \"hq\" } }\n\
         actions.mqtt.up { connector = hq, parameters { topic = \"plant/${clientid}\", qos = 2, retain = true, payload = \"${temp}\" } }",
    );
    assert_eq!(
        made.toml("connectors/hq.toml"),
        table(
            "type = 'mqtt'\naddresses = ['mqtts://hq.local:8883']\nprotocol = '5'\nclient_id = 'plant-hq'\nkeepalive = '60s'\nmax_inflight = 100\ntls = { server_name = 'hq' }"
        )
    );
    assert!(made.has_note(Level::Changed, "connector hq", "clean"));
    assert_eq!(
        made.sink(),
        table(
            "id = 'up'\nconnector = 'hq'\ntopic = 'plant/${clientid}'\nqos = 2\nretain = true\npayload = '${temp}'\nundefined = 'empty'"
        )
    );
}

#[test]
fn both_older_forms_of_an_mqtt_bridge_are_known() {
    for bridge in [
        "bridges.mqtt.up { server = \"hq:1883\", egress { remote { topic = \"a/${clientid}\", qos = 1, retain = \"${retain}\" } } }",
        "bridges.mqtt.up { direction = egress, connector { server = \"hq:1883\" }, remote_topic = \"a/${clientid}\", remote_qos = 1, retain = \"${retain}\" }",
        "bridges.mqtt.up { direction = egress, connector = \"mqtt:up\", remote_topic = \"a/${clientid}\", remote_qos = 1 }\nconnectors.mqtt.up { server = \"hq:1883\" }",
    ] {
        let made = rule(SELECT, "[\"mqtt:up\"]", bridge);
        assert_eq!(
            made.toml("connectors/up.toml"),
            table(
                "type = 'mqtt'\naddresses = ['mqtt://hq:1883']\nprotocol = '3.1.1'\nclient_id = 'weir-up'"
            ),
            "{bridge}"
        );
        assert_eq!(
            made.sink(),
            table("id = 'up'\nconnector = 'up'\ntopic = 'a/${clientid}'\nqos = 1"),
            "{bridge}"
        );
    }
}

#[test]
fn republish_takes_qos_and_retain_from_the_row_only_where_the_statement_fixes_them() {
    let republish = |sql: &str, args: &str| {
        rule(
            sql,
            &format!(
                "[{{ function = republish, args {{ topic = \"out/${{clientid}}\" {args} }} }}]"
            ),
            "",
        )
    };
    let fixed = republish(
        "SELECT clientid, payload, 2 AS qos, true AS retain FROM \"t\"",
        ", retain = \"${retain}\"",
    );
    assert_eq!(
        fixed.sink(),
        table(
            "id = 'republish'\ntype = 'republish'\ntopic = 'out/${clientid}'\nqos = 2\nretain = true\npayload = '${payload}'"
        )
    );
    assert_eq!(fixed.notes(), [""; 0]);
    // Without a column of that name EMQX publishes with QoS 0.
    let none = republish(SELECT, ", payload = \"${temp}\"");
    assert!(!none.sink().contains_key("qos"));
    assert_eq!(none.sink()["undefined"].as_str(), Some("text"));
    let open = republish(
        "SELECT * FROM \"t\"",
        ", payload = \"\", user_properties = \"${pub_props.'User-Property'}\"",
    );
    assert_eq!(open.sink()["qos"].as_integer(), Some(1));
    assert!(!open.sink().contains_key("payload"));
    assert!(open.has_note(Level::Changed, "rule r", "QoS"));
    assert!(open.has_note(Level::Changed, "rule r", "user properties"));
}

#[test]
fn what_weir_has_no_sink_for_stays_as_a_comment_and_the_rule_is_off() {
    let made = rule(
        SELECT,
        "[\"mysql:orders\", { function = \"my_mod:my_fun\", args {} }]",
        "connectors.mysql.my { server = \"db:3306\" }\nactions.mysql.orders { connector = my, parameters { sql = \"insert into o values (${temp})\", password = secret } }",
    );
    let text = made.file("rules/r.toml");
    assert!(
        text.contains("\n# [[sinks]]\n# EMQX: mysql:orders\n"),
        "{text}"
    );
    assert!(text.contains("insert into o values"), "{text}");
    assert!(!text.contains("= \"secret\""), "{text}");
    assert_eq!(made.toml("rules/r.toml")["enabled"].as_bool(), Some(false));
    assert!(!made.toml("rules/r.toml").contains_key("sinks"));
    assert!(made.has_note(
        Level::NotTaken,
        "rule r",
        "mysql:orders: weir has no sink for MySQL"
    ));
    assert!(made.has_note(
        Level::NotTaken,
        "rule r",
        "my_mod:my_fun: functions in Erlang"
    ));
    // With a sink left the rule is on.
    let half = rule(SELECT, "[\"kafka_producer:k\", { function = console }]", "");
    assert!(half.rules[0].enabled);
    assert!(half.has_note(Level::NotTaken, "rule r", "Kafka"));
    // Older rules say `kafka` for what is called `kafka_producer` now.
    let old = rule(
        SELECT,
        "[\"kafka:k\"]",
        "bridges.kafka.k { topic = \"fuel\" }\nactions.redis.idle { connector = x }",
    );
    assert!(old.file("rules/r.toml").contains("topic = \"fuel\""));
    let unused: Vec<&Note> = old
        .notes
        .iter()
        .filter(|note| note.text.contains("no rule uses"))
        .collect();
    assert_eq!(unused.len(), 1);
    assert_eq!(unused[0].text, "no rule uses redis:idle: it was left out");
}

#[test]
fn an_action_or_connector_that_is_not_in_the_export_is_named() {
    let made = rule(
        SELECT,
        "[\"http:gone\", \"pgsql:lost\"]",
        "actions.pgsql.lost { connector = nowhere, parameters {} }",
    );
    assert!(made.has_note(Level::NotTaken, "rule r", "no action `http:gone`"));
    assert!(made.has_note(Level::NotTaken, "rule r", "no connector `pgsql:nowhere`"));
}

#[test]
fn a_statement_that_does_not_compile_is_written_aside_with_the_reason() {
    let made = rule(
        "SELECT schema_decode('s', payload) AS d, uper(clientid) AS c FROM \"t\"",
        "[{ function = console }]",
        "",
    );
    let text = made.file("rules/_r.toml");
    assert!(text.contains("enabled = false"), "{text}");
    assert!(
        text.contains("# not taken: E0102 at 1:8 of its statement: "),
        "{text}"
    );
    assert!(made.has_note(Level::NotTaken, "rule r", "did you mean `upper`?"));
    assert!(made.has_note(Level::Todo, "rule r", "take the `_` from the file's name"));
    assert_eq!((made.rules[0].enabled, made.rules[0].tests), (false, 0));
}

#[test]
fn events_that_weir_lacks_are_refused_with_their_name() {
    let made = rule(
        "SELECT * FROM \"$events/schema_validation_failed\"",
        "[{ function = console }]",
        "",
    );
    assert!(made.has_note(Level::NotTaken, "rule r", "E0106"));
    assert!(made.has_note(Level::NotTaken, "rule r", "schema validation"));
}

#[test]
fn an_item_that_was_taken_for_a_source_by_its_keys_has_a_note() {
    let made = imported(
        r#"[{"type": "mqtt", "name": "hq", "server": "hq:1883"},
            {"type": "mqtt", "name": "up", "connector": "hq", "parameters": {"topic": "a"}}]"#,
    );
    assert!(made.has_note(Level::Changed, "export", "mqtt:up has a topic"));
}

#[test]
fn an_action_that_emqx_feeds_from_a_topic_gets_a_rule() {
    let made = imported(
        "bridges.webhook.feed { url = \"http://web\", local_topic = \"a/#\" }\n\
         bridges.mqtt.up { server = \"hq:1883\", egress { local { topic = \"b/+\" }, remote { topic = \"${topic}\" } } }",
    );
    let sql = |path: &str| made.toml(path)["sql"].as_str().unwrap().to_owned();
    assert_eq!(sql("rules/feed.toml"), "SELECT *\nFROM \"a/#\"\n");
    assert_eq!(sql("rules/up.toml"), "SELECT *\nFROM \"b/+\"\n");
    assert_eq!(made.rules[0].sinks, ["http feed"]);
    assert_eq!(made.notes(), [""; 0]);
}

#[test]
fn two_connectors_of_one_name_get_two_files() {
    let made = imported(
        "connectors { http.main { url = \"http://x\" }, pgsql.main { server = \"db\", database = d } }\n\
         rule_engine.rules.r { sql = \"SELECT 1 AS x FROM t\", actions = [\"pgsql:p\"] }\n\
         actions.pgsql.p { connector = main, parameters { sql = \"SELECT 1\" } }",
    );
    assert!(
        made.file("connectors/main.toml")
            .contains("type = \"http\"")
    );
    assert!(
        made.file("connectors/main_pgsql.toml")
            .contains("type = \"postgres\"")
    );
    assert_eq!(made.sink()["connector"].as_str(), Some("main_pgsql"));
}

#[test]
fn certificates_that_stand_in_the_export_become_files() {
    let made = imported(
        "connectors.mqtt.hq { server = \"hq\", ssl { enable = true, verify = verify_peer, cacertfile = \"\"\"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\"\"\" } }",
    );
    assert_eq!(
        made.toml("connectors/hq.toml")["tls"]["ca"].as_str(),
        Some("certs/hq.ca.pem")
    );
    assert!(
        made.file("certs/hq.ca.pem")
            .starts_with("-----BEGIN CERTIFICATE-----\nabc\n")
    );
}

#[test]
fn what_is_left_over_is_named() {
    let made = imported(
        "include \"more.conf\"\nlisteners.tcp.default { bind = 1883 }\nsources.mqtt.in { connector = hq }\nactions.http.idle { connector = web, parameters {} }\nconnectors.http.web { url = \"http://web\" }",
    );
    assert!(made.has_note(Level::NotTaken, "export", "line 1: include \"more.conf\""));
    assert!(made.has_note(Level::NotTaken, "export", "mqtt:in takes messages in"));
    assert!(made.has_note(Level::Changed, "export", "no rule uses http:idle"));
    assert!(made.has_note(Level::Changed, "export", "not looked at: listeners"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(
        parts in proptest::collection::vec(proptest::sample::select(&PARTS[..]), 0..40)
    ) {
        let text = parts.concat();
        if let Ok(export) = Export::read(text.as_bytes()) {
            let _ = import(&export);
        }
    }

    #[test]
    fn any_statement_and_template_makes_files_that_are_toml(
        words in proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..20),
        parts in proptest::collection::vec(proptest::sample::select(&PARTS[..]), 0..10),
    ) {
        let template = parts.concat();
        let config = json!({
            "rule_engine": {"rules": {"r": {
                "sql": format!("SELECT {}", words.join(" ")),
                "description": template,
                "actions": [
                    "http:h",
                    "mqtt:m",
                    "pgsql:p",
                    "kafka:k",
                    {"function": "republish", "args": {"topic": template, "qos": template}},
                ],
            }}},
            "bridges": {
                "http": {"h": {"url": template, "body": template, "headers": {"a": template}}},
                "mqtt": {"m": {"server": template, "egress": {"remote": {"topic": template, "payload": template}}}},
                "pgsql": {"p": {"server": template, "password": template, "sql": template}},
                "kafka": {"k": {"topic": template}},
            },
        });
        let made = imported(&config.to_string());
        proptest::prop_assert_eq!(made.files.len(), 4);
    }
}

const PARTS: [&str; 30] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\"\"\"",
    "~",
    "\n",
    "=",
    ":",
    ",",
    ".",
    "$",
    "${",
    "a",
    "é",
    " ",
    "rule_engine",
    "rules",
    "sql",
    "actions",
    "\\",
    "\\u00",
    "#",
    "//",
    "+=",
    "include ",
    "\t",
    "'''",
    "1e5",
];

const WORDS: [&str; 30] = [
    "FOREACH",
    "DO",
    "INCASE",
    "FROM",
    "WHERE",
    "*",
    "payload.a",
    "payload.b[2].c",
    "payload",
    "item.x",
    "AS",
    "y",
    ",",
    "(",
    ")",
    "[",
    "]",
    "'tä'",
    "\"t/#\"",
    "\"t/+\"",
    "=",
    ">",
    "AND",
    "1",
    "2.5",
    "json_decode(payload)",
    "CASE WHEN 1 = 1 THEN 2 END",
    "'",
    "clientid",
    "--",
];
