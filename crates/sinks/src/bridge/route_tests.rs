use super::*;

fn route(text: &str) -> BridgeRoute {
    toml::from_str(text).unwrap()
}

fn map(way: Way, text: &str) -> (String, TopicMap) {
    let read = read(way, 0, &route(text)).unwrap();
    (read.filter.as_str().to_owned(), read.map.unwrap())
}

fn refused(way: Way, text: &str) -> String {
    match read(way, 0, &route(text)) {
        Ok(_) => panic!("{text} was taken"),
        Err(error) => error.key,
    }
}

/// The table of the specification: filter, prefixes, and what a topic is called on either side.
#[test]
fn prefixes_are_taken_off_and_put_in_front_as_plain_text() {
    for (filter, local, remote, local_topic, remote_topic) in [
        ("p", "L/", "R/", "L/p", "R/p"),
        ("p", "L/", "", "L/p", "p"),
        ("p", "", "R/", "p", "R/p"),
        ("p", "", "", "p", "p"),
        ("", "a", "b", "a", "b"),
        ("x/#", "L/", "R/", "L/x/y/z", "R/x/y/z"),
        ("+/t", "site1/", "", "site1/k/t", "k/t"),
    ] {
        let text = format!(
            "filter = \"{filter}\"\nlocal_prefix = \"{local}\"\nremote_prefix = \"{remote}\""
        );
        let (subscribed, out) = map(Way::Out, &text);
        assert_eq!(subscribed, format!("{local}{filter}"));
        assert_eq!(
            out.apply(local_topic, Sender::default()).unwrap(),
            remote_topic
        );
        let (subscribed, back) = map(Way::In, &text);
        assert_eq!(subscribed, format!("{remote}{filter}"));
        assert_eq!(
            back.apply(remote_topic, Sender::default()).unwrap(),
            local_topic
        );
    }
    for (local, remote) in [("a", ""), ("", "b"), ("", "")] {
        let text =
            format!("filter = \"\"\nlocal_prefix = \"{local}\"\nremote_prefix = \"{remote}\"");
        assert_eq!(refused(Way::Out, &text), "out[0].filter");
        assert_eq!(refused(Way::In, &text), "in[0].filter");
    }
}

#[test]
fn a_new_name_is_made_of_the_old_ones_wildcards_and_of_the_sender() {
    let (_, map) = map(
        Way::Out,
        "filter = \"plant/+/+/#\"\nremote_topic = \"up/${node}/${2}/${1}/${3}/${clientid}/${username}/${qos}\"",
    );
    let sender = Sender {
        client_id: "c1",
        username: Some("u"),
        qos: 1,
        node: "n",
        payload: b"\xfb\xff",
    };
    assert_eq!(
        map.apply("plant/a/b/c/d", sender).unwrap(),
        "up/n/b/a/c/d/c1/u/1"
    );
    let (_, encoded) = self::map(
        Way::Out,
        "filter = \"plant/+\"\nremote_topic = \"log/${base64:payload}\"",
    );
    assert_eq!(encoded.apply("plant/a", sender).unwrap(), "log/-_8");
    let nobody = Sender {
        username: None,
        ..sender
    };
    assert_eq!(map.apply("plant/a/b/c", nobody), Err(Unmapped::Template));
}

#[test]
fn what_comes_out_is_a_topic_name_or_nothing() {
    let (_, name) = map(Way::In, "filter = \"#\"\nlocal_topic = \"${1}\"");
    assert_eq!(
        name.apply("$x/y", Sender::default()),
        Err(Unmapped::BadTopic)
    );
    assert_eq!(name.apply("", Sender::default()), Err(Unmapped::BadTopic));
    let (_, literal) = map(Way::In, "filter = \"#\"\nlocal_prefix = \"$far/\"");
    assert_eq!(literal.apply("t", Sender::default()).unwrap(), "$far/t");
    let long = "x".repeat(MAX_TOPIC);
    assert_eq!(
        literal.apply(&long, Sender::default()),
        Err(Unmapped::BadTopic)
    );
}

#[test]
fn entries_that_cannot_work_name_their_key() {
    for (way, text, key) in [
        (Way::In, "local_prefix = \"a/\"", "in[0].filter"),
        (
            Way::In,
            "filter = \"a\"\nlocal_prefix = \"#/\"",
            "in[0].local_prefix",
        ),
        (
            Way::Out,
            "filter = \"#\"\nlocal_prefix = \"a\"",
            "out[0].filter",
        ),
        (Way::Out, "filter = \"a/#/b\"", "out[0].filter"),
        (Way::In, "filter = \"$share/g/t\"", "in[0].filter"),
        (
            Way::In,
            "filter = \"a\"\nremote_topic = \"b\"",
            "in[0].remote_topic",
        ),
        (
            Way::Out,
            "filter = \"a\"\nlocal_topic = \"b\"",
            "out[0].local_topic",
        ),
        (
            Way::Out,
            "filter = \"a/+\"\nremote_topic = \"${2}\"",
            "out[0].remote_topic",
        ),
        (
            Way::Out,
            "filter = \"a\"\nremote_topic = \"x/#\"",
            "out[0].remote_topic",
        ),
        (
            Way::Out,
            "filter = \"a\"\nremote_topic = \"${what}\"",
            "out[0].remote_topic",
        ),
        (
            Way::Out,
            "filter = \"a\"\nremote_topic = \"${topic\"",
            "out[0].remote_topic",
        ),
        (
            Way::Out,
            "filter = \"a\"\nremote_topic = \"b\"\nremote_prefix = \"c/\"",
            "out[0].remote_topic",
        ),
        (
            Way::Out,
            "filter = \"a\"\nrules_only = true",
            "out[0].rules_only",
        ),
        (
            Way::In,
            "filter = \"a\"\nrules_only = true\nlocal_prefix = \"b/\"",
            "in[0].rules_only",
        ),
    ] {
        assert_eq!(refused(way, text), key, "{text}");
    }
}

#[test]
fn filters_overlap_when_one_topic_matches_both() {
    for (a, b) in [
        ("#", "a/b"),
        ("a/#", "a"),
        ("a/+/c", "a/b/#"),
        ("+/b", "a/+"),
        ("a", "a"),
        ("$SYS/#", "$SYS/broker"),
    ] {
        assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
    }
    for (a, b) in [
        ("a/b", "a/c"),
        ("a/+", "a"),
        ("#", "$SYS/x"),
        ("+/x", "$SYS/x"),
        ("a/+/c", "a/b"),
    ] {
        assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
    }
}

fn both(inbound: &[&str], out: &[&str]) -> Option<(usize, usize)> {
    let inbound: Vec<_> = inbound
        .iter()
        .map(|text| {
            let read = read(Way::In, 0, &route(text)).unwrap();
            InRoute {
                filter: read.filter,
                share: None,
                map: read.map,
                qos: QoS::AtLeastOnce,
                retain: RetainPolicy::Keep,
                payload: None,
            }
        })
        .collect();
    let out: Vec<_> = out
        .iter()
        .map(|text| {
            let read = read(Way::Out, 0, &route(text)).unwrap();
            OutRoute {
                force: false,
                filter: read.filter,
                map: read.map.unwrap(),
                qos: QoS::AtLeastOnce,
                retain: RetainPolicy::Keep,
                payload: None,
                owner: None,
            }
        })
        .collect();
    loops(&inbound, &out)
}

#[test]
fn what_goes_out_and_is_taken_back_is_found_by_its_remote_name() {
    assert_eq!(both(&["filter = \"#\""], &["filter = \"#\""]), Some((0, 0)));
    let up = "filter = \"#\"\nlocal_prefix = \"here/\"\nremote_prefix = \"site/1/\"";
    assert_eq!(both(&["filter = \"down/#\""], &[up]), None);
    assert_eq!(
        both(&["filter = \"down/#\"", "filter = \"site/+/temp\""], &[up]),
        Some((1, 0))
    );
    // A prefix that a wildcard grows together with.
    let grown = "filter = \"+/x\"\nremote_prefix = \"b\"";
    assert_eq!(both(&["filter = \"b1/x\""], &[grown]), Some((0, 0)));
    let named = "filter = \"a/+\"\nremote_topic = \"up/${1}/now\"";
    assert_eq!(both(&["filter = \"up/k/now\""], &[named]), Some((0, 0)));
    assert_eq!(both(&["filter = \"down/k\""], &[named]), None);
    assert_eq!(
        both(&["filter = \"#\"\nrules_only = true"], &["filter = \"#\""]),
        None
    );
}

#[test]
fn a_response_topic_that_the_entry_is_for_gets_its_new_name_too() {
    let sender = Sender::default();
    let response = |way, text: &str, topic: &str| {
        let read = read(way, 0, &route(text)).unwrap();
        let map = read.map.unwrap();
        map.response(&read.filter, topic, sender)
    };
    let prefixes = "filter = \"#\"\nlocal_prefix = \"up/\"\nremote_prefix = \"site1/\"";
    for (way, topic, name) in [
        (Way::Out, "up/re/1", Some("site1/re/1")),
        (Way::Out, "re/1", None),
        (Way::In, "site1/re/1", Some("up/re/1")),
        (Way::In, "up/re/1", None),
    ] {
        assert_eq!(
            response(way, prefixes, topic).as_deref(),
            name,
            "{way:?} {topic}"
        );
    }
    let named = "filter = \"a/+\"\nremote_topic = \"up/${1}/now\"";
    assert_eq!(
        response(Way::Out, named, "a/re").as_deref(),
        Some("up/re/now")
    );
    assert_eq!(response(Way::Out, named, "b/re"), None);
    // Everything has one name there: an answer would be a request.
    let one = "filter = \"a/+\"\nremote_topic = \"v1/devices/me/telemetry\"";
    assert_eq!(response(Way::Out, one, "a/re"), None);
}
