//! Which filters match which topic, in a filter alone and in the tree.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use weir_mqtt::{
    SubscriptionFilter, TopicError, TopicFilter, TopicFilterError, TopicName, TopicTree, fuzz,
};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect("tests name valid filters")
}

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.2-1] [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-4.7.2-1]
#[test]
fn filters_match_as_the_standard_says() {
    for (text, matching, others) in [
        (
            "a/b",
            &["a/b"][..],
            &["a", "a/b/", "/a/b", "A/b", "a/b/c"][..],
        ),
        (
            "sport/tennis/+",
            &["sport/tennis/player1", "sport/tennis/"],
            &["sport/tennis", "sport/tennis/a/b"],
        ),
        ("sport/+", &["sport/"], &["sport"]),
        ("+/+", &["/finance"], &["finance"]),
        ("/+", &["/finance"], &["finance"]),
        ("+", &["finance", " "], &["/finance", "$SYS"]),
        (
            "sport/tennis/player1/#",
            &["sport/tennis/player1", "sport/tennis/player1/score/x"],
            &["sport/tennis"],
        ),
        ("#", &["a", "a/b", "/", "a//"], &["$SYS", "$SYS/x"]),
        ("/#", &["/", "/a", "/a/b"], &["a", "a/"]),
        ("+/#", &["a", "a/b/c", "/"], &["$SYS/x"]),
        (
            "+/monitor/Clients",
            &["a/monitor/Clients"],
            &["$SYS/monitor/Clients"],
        ),
        ("$SYS/#", &["$SYS", "$SYS/x/y"], &["a", "SYS/x"]),
        (
            "$SYS/monitor/+",
            &["$SYS/monitor/Clients"],
            &["$SYS/monitor"],
        ),
        ("a/+/#", &["a/$b", "a/b/c"], &["a"]),
        ("a//+", &["a//b"], &["a/b", "a/x/b"]),
        ("+/b/#", &["a/b", "/b/c"], &["a/c/b"]),
    ] {
        let filter = filter(text);
        let mut tree = TopicTree::new();
        tree.insert(&filter, ());
        let in_tree = |topic: &str| {
            let mut count = 0;
            tree.matching(topic, |()| count += 1);
            count
        };
        for topic in matching {
            assert!(filter.matches(topic), "{text} matches {topic}");
            assert_eq!(in_tree(topic), 1, "{text} finds {topic} in the tree");
        }
        for topic in others {
            assert!(!filter.matches(topic), "{text} does not match {topic}");
            assert_eq!(
                in_tree(topic),
                0,
                "{text} does not find {topic} in the tree"
            );
        }
    }
}

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3] [MQTT3-4.7.3-3]
#[test]
fn filters_that_are_none_are_refused_for_their_reason() {
    let error = |text: &str| TopicFilter::parse(text).unwrap_err();
    assert_eq!(error(""), TopicFilterError::Empty);
    for text in ["a/#/b", "a#", "#a", "##", "#/", "+#", "a/b#"] {
        assert_eq!(error(text), TopicFilterError::MultiLevelWildcard, "{text}");
    }
    for text in ["a+", "+a", "++", "a/+b/c", "a+/#"] {
        assert_eq!(error(text), TopicFilterError::SingleLevelWildcard, "{text}");
    }
    assert!(matches!(error("a\0"), TopicFilterError::Text(_)));
    assert!(matches!(
        error(&"a".repeat(65536)),
        TopicFilterError::Text(_)
    ));
    for text in [
        "a",
        "/",
        "//",
        "+",
        "#",
        "+/+",
        "/#",
        "a/ /b",
        "$SYS/+/#",
        "é/日本",
    ] {
        assert_eq!(filter(text).as_str(), text);
    }
    assert_eq!(
        ["a", "/", "a/+/#"].map(|text| filter(text).levels()),
        [1, 2, 3]
    );
    assert!(filter("a/b").is_exact());
    assert!(!filter("a/+").is_exact() && !filter("#").is_exact());
}

/// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT3-4.7.1-1] [MQTT3-4.7.3-1]
#[test]
fn topic_names_have_no_wildcards() {
    assert_eq!(TopicName::new(""), Err(TopicError::Empty));
    assert_eq!(TopicName::new("a/+"), Err(TopicError::Wildcard));
    assert_eq!(TopicName::new("a#"), Err(TopicError::Wildcard));
    assert!(matches!(TopicName::new("\0"), Err(TopicError::Text(_))));
    assert_eq!(TopicName::new("/ é/").unwrap().as_str(), "/ é/");
}

#[test]
fn shared_filters_name_their_group() {
    let shared = |text: &str| {
        let parsed = SubscriptionFilter::parse(text).unwrap();
        assert_eq!(parsed.to_string(), text);
        assert_eq!(parsed.detached(), parsed);
        (
            parsed.share.map(|group| group.to_string()),
            parsed.filter.to_string(),
        )
    };
    let group = |group: &str, filter: &str| (Some(group.to_owned()), filter.to_owned());
    assert_eq!(shared("$share/g/a/+"), group("g", "a/+"));
    assert_eq!(shared("$share/g//a"), group("g", "/a"));
    assert_eq!(shared("$share/g/$SYS/#"), group("g", "$SYS/#"));
    assert_eq!(shared("$queue/#"), group("$queue", "#"));
    for alone in ["$share", "$queue", "$shared/g/a", "a/$share/g/b", "$SYS/#"] {
        assert_eq!(shared(alone), (None, alone.to_owned()));
    }
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[test]
fn shared_filters_need_a_group_and_a_filter() {
    let error = |text: &str| SubscriptionFilter::parse(text).unwrap_err();
    assert_eq!(error("$share//a"), TopicFilterError::Group);
    assert_eq!(error("$share/+/a"), TopicFilterError::Group);
    assert_eq!(error("$share/a#/a"), TopicFilterError::Group);
    assert_eq!(error("$share/g"), TopicFilterError::Unshared);
    assert_eq!(error("$share/"), TopicFilterError::Unshared);
    assert_eq!(error("$share/g/"), TopicFilterError::Unshared);
    assert_eq!(error("$queue/"), TopicFilterError::Unshared);
    assert_eq!(error("$share/g/a#"), TopicFilterError::MultiLevelWildcard);
}

#[test]
fn a_filter_may_have_several_values() {
    for text in ["a/b", "a/+", "a/#", "#"] {
        let filter = filter(text);
        let mut tree = TopicTree::new();
        for value in [1, 2, 3, 2] {
            tree.insert(&filter, value);
        }
        assert_eq!(tree.get(&filter), [1, 2, 3, 2]);
        tree.get_mut(&filter)[0] = 9;
        assert_eq!(tree.remove(&filter, |&value| value == 7), None);
        assert_eq!(tree.remove(&filter, |&value| value == 9), Some(9));
        assert_eq!(tree.remove_all(&filter, |&value| value == 2), 2);
        assert_eq!((tree.get(&filter), tree.len()), (&[3][..], 1));
        assert_eq!(tree.remove(&filter, |_| true), Some(3));
        assert!(tree.is_empty() && tree.get(&filter).is_empty());
        assert_eq!(tree.remove(&filter, |_| true), None);
        assert_eq!(tree.remove_all(&filter, |_| true), 0);
    }
}

#[test]
fn removing_a_filter_leaves_its_neighbours() {
    let texts = [
        "#", "+", "+/b", "a/+", "a/#", "a/+/c", "a/+/#", "a/b/c", "+/+/+/d", "b/#",
    ];
    for gone in texts {
        let mut tree = TopicTree::new();
        texts
            .iter()
            .for_each(|text| tree.insert(&filter(text), *text));
        assert_eq!(tree.remove(&filter(gone), |_| true), Some(gone));
        for text in texts {
            let expected: &[&str] = if text == gone { &[] } else { &[text] };
            assert_eq!(tree.get(&filter(text)), expected, "{text} without {gone}");
        }
    }
}

#[test]
fn topics_of_sixty_thousand_levels_are_matched_and_dropped() {
    let deep = "/".repeat(65_534);
    let wild = format!("{}+", "+/".repeat(32_767));
    let mut tree = TopicTree::new();
    for text in [
        format!("{deep}#"),
        format!("{deep}+"),
        deep.clone(),
        wild.clone(),
    ] {
        tree.insert(&filter(&text), text.len());
    }
    let mut found = Vec::new();
    tree.matching(&deep, |&len| found.push(len));
    found.sort_unstable();
    assert_eq!(found, [65_534, 65_535, 65_535]);
    found.clear();
    tree.matching(&"/".repeat(32_767), |&len| found.push(len));
    assert_eq!(found, [wild.len()]);
    assert_eq!(tree.remove(&filter(&wild), |_| true), Some(wild.len()));
    drop(tree);
}

#[test]
fn many_branches_left_open_are_all_walked() {
    // At every level both the text and `+` go on, and a filter ends: more open branches than the tree holds inline.
    let depth = 200;
    let mut tree = TopicTree::new();
    for level in 0..depth {
        let before = vec!["a"; level].join("/");
        let slash = if level == 0 { "" } else { "/" };
        tree.insert(&filter(&format!("{before}{slash}+/#")), level);
    }
    let mut found = Vec::new();
    tree.matching(&vec!["a"; depth].join("/"), |&level| found.push(level));
    found.sort_unstable();
    assert_eq!(found, (0..depth).collect::<Vec<_>>());
}

fn level() -> impl Strategy<Value = String> {
    prop_oneof!["[ab$]?", "[ab]{1,2}", "é"]
}

fn any_filter() -> impl Strategy<Value = TopicFilter> {
    let part = prop_oneof![3 => level(), 2 => Just("+".to_owned())];
    (vec(part, 0..5), any::<bool>()).prop_filter_map("a topic filter", |(mut parts, below)| {
        parts.extend(below.then(|| "#".to_owned()));
        TopicFilter::parse(&parts.join("/")).ok()
    })
}

fn any_topic() -> impl Strategy<Value = String> {
    vec(level(), 1..6).prop_map(|levels| levels.join("/"))
}

#[derive(Clone, Debug)]
enum Change {
    Insert(TopicFilter),
    Remove(TopicFilter),
    RemoveAll(TopicFilter),
    Match(String),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => any_filter().prop_map(Change::Insert),
        2 => any_filter().prop_map(Change::Remove),
        1 => any_filter().prop_map(Change::RemoveAll),
        4 => any_topic().prop_map(Change::Match),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_matches_as_defined(filter in any_filter(), topic in any_topic()) {
        prop_assert_eq!(filter.matches(&topic), fuzz::matches_by_definition(filter.as_str(), &topic));
    }

    #[test]
    fn the_tree_finds_what_a_list_of_filters_would(changes in vec(change(), 0..80)) {
        let mut tree = TopicTree::new();
        let mut list: BTreeMap<TopicFilter, Vec<usize>> = BTreeMap::new();
        for (number, change) in changes.into_iter().enumerate() {
            match change {
                Change::Insert(filter) => {
                    tree.insert(&filter, number);
                    list.entry(filter).or_default().push(number);
                }
                Change::Remove(filter) => {
                    let expected = list.get_mut(&filter).and_then(|values| {
                        (!values.is_empty()).then(|| values.remove(values.len() - 1))
                    });
                    let removed = tree.remove(&filter, |&value| Some(value) == expected);
                    prop_assert_eq!(removed, expected);
                }
                Change::RemoveAll(filter) => {
                    let expected = list.remove(&filter).unwrap_or_default().len();
                    prop_assert_eq!(tree.remove_all(&filter, |_| true), expected);
                }
                Change::Match(topic) => {
                    let mut found = Vec::new();
                    tree.matching(&topic, |&value| found.push(value));
                    found.sort_unstable();
                    let mut expected: Vec<_> = list
                        .iter()
                        .filter(|(filter, _)| fuzz::matches_by_definition(filter.as_str(), &topic))
                        .flat_map(|(_, values)| values.iter().copied())
                        .collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected, "{}", topic);
                }
            }
            prop_assert_eq!(tree.len(), list.values().map(Vec::len).sum::<usize>());
        }
    }

    #[test]
    fn any_text_is_a_filter_or_refused(text in "[ab+#/$\n]{0,60}|\\PC{0,40}") {
        fuzz::topic(text.as_bytes());
        fuzz::topic(format!("a/b\n$share/{text}\n{text}").as_bytes());
    }

    #[test]
    fn any_bytes_are_a_filter_or_refused(data in vec(any::<u8>(), 0..100)) {
        fuzz::topic(&data);
    }
}
