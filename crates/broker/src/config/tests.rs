use super::*;

fn load(text: &str, sets: &[&str]) -> Result<Config, Vec<Problem>> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let source = Source::new("weir.toml", text);
    Config::from_parts(Some(&source), overrides(std::iter::empty(), &sets).unwrap())
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.mqtt.max_packet_size.bytes(), 1024 * 1024);
    assert_eq!(config.listeners()[0].address().unwrap().port(), 1883);
    assert_eq!(config.rules.policy, Policy::PerFile);
}

#[test]
fn a_set_wins_over_the_environment_and_the_environment_over_the_file() {
    let env = [
        ("WEIR_MQTT__MAX_QUEUED".to_owned(), "7".to_owned()),
        ("WEIR_MQTT__MAX_INFLIGHT".to_owned(), "8".to_owned()),
    ];
    let over = overrides(env.into_iter(), &["mqtt.max_inflight=9".to_owned()]).unwrap();
    let source = Source::new(
        "weir.toml",
        "[mqtt]\nmax_queued = 1\nmax_inflight = 2\nmax_topic_levels = 3\n",
    );
    let config = Config::from_parts(Some(&source), over).unwrap();
    assert_eq!(
        (
            config.mqtt.max_queued,
            config.mqtt.max_inflight,
            config.mqtt.max_topic_levels
        ),
        (7, 9, 3)
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_key_that_was_meant() {
    let problems = load("[mqtt]\nmax_infligt = 2\n", &[]).unwrap_err();
    assert_eq!((problems[0].code.as_str(), problems[0].line), ("E1002", 2));
    assert_eq!(problems[0].label, "did you mean `max_inflight`?");
}

#[test]
fn an_unknown_environment_key_is_an_error_too() {
    let over = overrides(
        [("WEIR_MQTT__MAX_QUEUE".to_owned(), "7".to_owned())].into_iter(),
        &[],
    )
    .unwrap();
    assert_eq!(Config::from_parts(None, over).unwrap_err()[0].code, "E1002");
}

#[test]
fn a_size_needs_its_unit() {
    let problems = load("[mqtt]\nmax_packet_size = 100\n", &[]).unwrap_err();
    assert_eq!(problems[0].line, 2);
    assert!(
        problems[0].message.contains("unit"),
        "{}",
        problems[0].message
    );
}

#[test]
fn a_capture_of_what_is_no_topic_filter_is_refused_with_its_place() {
    for (set, words) in [
        (
            r#"capture.filters=["a/#", "a#"]"#,
            "capture.filters[1] `a#`",
        ),
        (r#"capture.filters=["$share/g/a"]"#, "shared subscription"),
        (r#"capture.max_bytes="1KiB""#, "capture.max_bytes"),
        (r#"capture.max_age="1ms""#, "capture.max_age"),
    ] {
        let problems = load("", &[set]).unwrap_err();
        assert!(
            problems[0].message.contains(words),
            "{}",
            problems[0].message
        );
    }
    let config = load("", &[r#"capture.filters=["a/+", "$SYS/#"]"#]).unwrap();
    assert_eq!(config.capture.topic_filters().len(), 2);
}

#[test]
fn a_listener_on_the_network_needs_a_login_or_an_explicit_yes() {
    let open = "[[listeners]]\nbind = '0.0.0.0:1883'\n";
    assert_eq!(load(open, &[]).unwrap_err()[0].code, "E1006");
    assert!(load(open, &["auth.allow_anonymous=true"]).is_ok());
}

/// What is said of one listener.
fn refusal(listener: &str) -> Vec<String> {
    let problems = load(&format!("[[listeners]]\n{listener}"), &[]).unwrap_err();
    problems
        .into_iter()
        .map(|problem| problem.message)
        .collect()
}

#[test]
fn devices_sign_the_client_id_that_they_send() {
    for identity in ["username", "cert_cn"] {
        let text =
            format!("[mqtt]\nidentity = '{identity}'\n[auth.devices]\nfile = 'devices.toml'\n");
        let problems = load(&text, &[]).unwrap_err();
        assert_eq!(problems[0].code, "E1006");
        assert!(problems[0].message.starts_with("mqtt.identity"), "{text}");
    }
    let own = "[mqtt]\nidentity = 'clientid'\n[auth.devices]\nfile = 'devices.toml'\n";
    assert!(
        load(own, &[])
            .unwrap()
            .broker_settings()
            .reserve_device_names
    );
    assert!(
        !load("", &[])
            .unwrap()
            .broker_settings()
            .reserve_device_names
    );
}

#[test]
fn a_proxy_on_loopback_lets_the_network_in_and_a_certificate_keeps_it_out() {
    let open = refusal("bind = '127.0.0.1:1883'\nproxy_protocol = true\n");
    assert!(open[0].contains("nobody has to log in"), "{open:?}");
    let tls = "kind = 'tls'\nbind = '0.0.0.0:8883'\ncert = 'c'\nkey = 'k'\n";
    assert_eq!(refusal(tls).len(), 1);
    let required = format!("[[listeners]]\n{tls}client_ca = 'ca'\nclient_auth = 'require'\n");
    let config = load(&required, &[]).unwrap();
    assert!(config.listeners()[0].admits_anonymous(&config.auth));
    assert!(load("[[listeners]]\nkind = 'unix'\nbind = './s'\n", &[]).is_ok());
    let own = "[[listeners]]\nbind = '0.0.0.0:1'\nallow_anonymous = true\n";
    assert!(load(own, &[]).is_ok());
}

#[test]
fn a_key_that_does_not_fit_its_listener_is_an_error() {
    for (listener, message) in [
        (
            "bind = './sock'",
            "listeners[0].bind is `./sock` for kind = \"tcp\"",
        ),
        ("kind = 'unix'\nbind = '127.0.0.1:1'", "listeners[0].bind"),
        (
            "bind = '127.0.0.1:1'\ncert = 'c'",
            "listeners[0].cert is set",
        ),
        (
            "kind = 'tls'\nbind = '127.0.0.1:1'\ncert = 'c'",
            "listeners[0].key is missing",
        ),
        (
            "kind = 'tls'\nbind = '127.0.0.1:1'\ncert = 'c'\nkey = 'k'\ncrl = 'r'",
            "listeners[0].client_auth",
        ),
        (
            "bind = '127.0.0.1:1'\nidentity = 'cn'",
            "listeners[0].identity",
        ),
        ("bind = '127.0.0.1:1'\npath = '/mqtt'", "listeners[0].path"),
        (
            "kind = 'ws'\nbind = '127.0.0.1:1'\npath = 'mqtt'",
            "listeners[0].path",
        ),
        ("bind = '127.0.0.1:1'\nmode = '0660'", "listeners[0].mode"),
        (
            "bind = '127.0.0.1:1'\ntrusted_proxies = ['::1']",
            "listeners[0].trusted_proxies",
        ),
        ("bind = 'here'", "`here` is not an address"),
        (
            "kind = 'unix'\nbind = './s'\nmode = '999'",
            "`999` is not a file's mode",
        ),
        (
            "kind = 'quic'\nbind = '127.0.0.1:1'",
            "`quic` is not one of: tcp, tls, ws, wss, unix",
        ),
    ] {
        let said = refusal(listener);
        assert!(said[0].contains(message), "{listener}: {said:?}");
    }
}

#[test]
fn a_listener_promises_at_most_what_the_broker_does() {
    let listener = "durability = \"os\"\n[[listeners]]\nbind = '127.0.0.1:1'\ndurability = ";
    let with = |durability: &str| load(&format!("{listener}'{durability}'\n"), &[]);
    assert!(with("memory").is_ok() && with("os").is_ok());
    let problems = with("fsync").unwrap_err();
    assert!(
        problems[0]
            .message
            .contains("listeners[0].durability = \"fsync\" is more than"),
        "{}",
        problems[0].message
    );
}

#[test]
fn lists_are_replaced_whole() {
    let config = load(
        "[[listeners]]\nbind = '127.0.0.1:1'\n",
        &[r#"listeners=[{bind="127.0.0.1:2"}]"#],
    )
    .unwrap();
    assert_eq!(
        config
            .listeners()
            .iter()
            .map(|l| l.address().unwrap().port())
            .collect::<Vec<_>>(),
        [2]
    );
}

/// The keys of a table, as the error for an unknown one lists them.
fn keys_of(section: &str) -> Vec<String> {
    let text = match section {
        "" => "no_such_key = 1\n".to_owned(),
        "listeners" => "[[listeners]]\nno_such_key = 1\n".to_owned(),
        section => format!("[{section}]\nno_such_key = 1\n"),
    };
    let help = load(&text, &[]).unwrap_err()[0].help.clone().unwrap();
    help.trim_start_matches("known keys: ")
        .split(", ")
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_example_file_loads_and_names_every_key() {
    let text = include_str!("../../../../weir.toml");
    load(text, &[]).unwrap();
    for section in [
        "",
        "log",
        "listeners",
        "mqtt",
        "auth",
        "auth.x509",
        "auth.jwt",
        "auth.devices",
        "auth.postgres",
        "auth.http",
        "limits",
        "capture",
        "http",
        "rules",
    ] {
        for key in keys_of(section) {
            let named = text.lines().any(|line| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{key} ="))
                    || line.starts_with(&format!("[{key}]"))
                    || line.starts_with(&format!("[[{key}]]"))
                    || line.starts_with(&format!("[{section}.{key}]"))
            });
            assert!(named, "weir.toml does not show `{key}` of [{section}]");
        }
    }
}
