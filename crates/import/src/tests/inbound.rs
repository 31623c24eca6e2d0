//! What comes in from other brokers, and rules over it.

use super::*;

#[test]
fn a_source_becomes_an_entry_of_its_connector_and_rules_name_the_connector() {
    let made = rule(
        "SELECT topic, payload.n AS n FROM \"$sources/mqtt:orders\" WHERE n > 5",
        "[{ function = console }]",
        "connectors.mqtt.hq { server = \"hq:1883\", proto_ver = v5 }\n\
         sources.mqtt.orders { connector = hq, parameters { topic = \"down/+/x\", qos = 1 } }",
    );
    assert_eq!(made.notes(), [""; 0]);
    assert_eq!(
        made.toml("connectors/hq.toml")["in"],
        table("in = [{ filter = 'down/+/x', qos = 1, rules_only = true }]")["in"]
    );
    let file = made.toml("rules/r.toml");
    let sql = file["sql"].as_str().unwrap();
    assert!(sql.contains("FROM \"$sources/mqtt:hq\"\n"), "{sql}");
    assert!(file.get("enabled").is_none());
    assert_eq!(
        file["test"][0]["given"][0],
        table("g = { bridge = 'hq', topic = 'down/a1/x', payload = { n = 7 } }")["g"]
    );
    assert_eq!(
        file["test"][0]["expect"][0],
        table("e = { topic = 'down/a1/x', n = 7 }")["e"]
    );
}

#[test]
fn an_ingress_bridge_publishes_here_under_its_own_name_and_keeps_its_other_half() {
    let made = imported(
        "bridges.mqtt.hq { server = \"hq:1883\", \
           ingress { remote { topic = \"$share/g/a/#\", qos = 2 }, local { topic = \"hq/${topic}\", retain = false, payload = \"${payload}\" } }, \
           egress { local { topic = \"b/#\" }, remote { topic = \"${topic}\" } } }\n\
         bridges.mqtt.old { server = \"old:1883\", direction = ingress, remote_topic = \"c\", local_topic = \"${topic}\", payload = \"x${payload}\" }\n\
         bridges.mqtt.made { server = \"made:1883\", ingress { remote { topic = d }, local { topic = \"${payload.x}\" } } }",
    );
    let entry = |path: &str| made.toml(path)["in"][0].clone();
    let read = |toml: &str| table(&format!("in = {toml}"))["in"].clone();
    assert_eq!(
        entry("connectors/hq.toml"),
        read(
            "{ filter = 'a/#', qos = 2, share = 'g', retain = 'strip', local_topic = 'hq/${topic}' }"
        )
    );
    assert_eq!(entry("connectors/old.toml"), read("{ filter = 'c' }"));
    assert_eq!(
        entry("connectors/made.toml"),
        read("{ filter = 'd', rules_only = true }")
    );
    assert_eq!(made.rules[0].sinks, ["mqtt hq"]);
    assert!(made.has_note(Level::Changed, "connector old", "`x${payload}`"));
    assert!(made.has_note(Level::Changed, "connector made", "`${payload.x}`"));
    assert_eq!(made.notes.len(), 2, "{:?}", made.notes());
}

#[test]
fn a_rule_over_what_does_not_come_in_is_off() {
    let made = rule(
        "SELECT * FROM \"$bridges/mqtt:in\"",
        "[{ function = console }]",
        "connectors.mqtt.hq { server = \"hq:1883\" }\n\
         sources { mqtt.in { connector = hq, enable = false, parameters { topic = a } }, \
           kafka_consumer.k { connector = kf, parameters {} }, mqtt.lost { connector = gone, parameters { topic = a } } }",
    );
    assert!(!made.rules[0].enabled);
    assert!(made.has_note(
        Level::NotTaken,
        "rule r",
        "nothing comes in over $bridges/mqtt:in"
    ));
    assert!(made.has_note(Level::NotTaken, "export", "from MQTT brokers alone"));
    assert!(made.has_note(
        Level::NotTaken,
        "export",
        "mqtt:lost takes messages in, and"
    ));
    assert!(made.has_note(
        Level::Changed,
        "export",
        "mqtt:in takes messages in and is off"
    ));
    let both = rule(
        "SELECT * FROM \"$sources/mqtt:in\", \"t/#\"",
        "[{ function = console }]",
        "",
    );
    assert!(both.rules[0].enabled);
}

#[test]
fn a_rule_over_one_of_several_topics_of_a_connector_is_kept_to_it() {
    let made = rule(
        "SELECT topic, server FROM \"$sources/mqtt:two\"",
        "[{ function = console }]",
        "connectors.mqtt.hq { server = \"hq:1883\" }\n\
         sources.mqtt { one { connector = hq, parameters { topic = a } }, two { connector = hq, parameters { topic = b } } }",
    );
    let file = made.toml("rules/r.toml");
    assert_eq!(
        file["sql"].as_str(),
        Some("SELECT topic, server\nFROM \"$sources/mqtt:hq\"\nWHERE topic =~ 'b'\n")
    );
    assert!(made.has_note(Level::Changed, "rule r", "`topic =~ 'b'` in WHERE"));
    assert!(made.rules[0].enabled);
    assert_eq!(
        file["test"][0]["given"][0],
        table("g = { bridge = 'hq', topic = 'b' }")["g"]
    );
    assert_eq!(
        file["test"][0]["expect"][0],
        table("e = { topic = 'b' }")["e"]
    );
}

#[test]
fn a_rule_that_cannot_be_kept_to_its_topic_is_off() {
    let made = rule(
        "SELECT 'mine' AS event FROM \"$sources/mqtt:two\", \"t/#\"",
        "[{ function = console }]",
        "connectors.mqtt.hq { server = \"hq:1883\" }\n\
         sources.mqtt { one { connector = hq, parameters { topic = a } }, two { connector = hq, parameters { topic = b } } }",
    );
    assert!(!made.rules[0].enabled);
    assert!(made.has_note(Level::Todo, "rule r", "ask for the topic in WHERE"));
}

#[test]
fn a_qos_or_retain_flag_that_an_ingress_bridge_gives_its_messages_has_a_note() {
    for bridge in [
        "ingress { remote { topic = a }, local { topic = \"hq/${topic}\", qos = 1, retain = \"${payload.keep}\" } }",
        "direction = ingress, remote_topic = a, local_topic = \"hq/${topic}\", local_qos = 1, retain = \"${payload.keep}\"",
    ] {
        let made = imported(&format!(
            "bridges.mqtt.hq {{ server = \"hq:1883\", {bridge} }}"
        ));
        assert!(made.has_note(Level::Changed, "connector hq", "with `1`"));
        assert!(made.has_note(Level::Changed, "connector hq", "`${payload.keep}`"));
    }
    let made = imported(
        "bridges.mqtt.hq { server = \"hq:1883\", ingress { remote { topic = a }, local { topic = b, qos = \"${qos}\", retain = \"${retain}\" } } }",
    );
    assert_eq!(made.notes(), [""; 0]);
}
