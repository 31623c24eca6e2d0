//! What a fuzzer runs: properties that must hold for any bytes whatever. A broken one panics.
//!
//! Plain functions, so that the fuzz targets and the ordinary tests run the same.

use bytes::Bytes;

use crate::{ProtocolVersion, SubscriptionFilter, TopicFilter, TopicName, TopicTree, codec};

/// The first byte picks the version, the rest comes from a peer: each frame is refused, or comes out of its own
/// encoding unchanged.
pub fn codec(data: &[u8]) {
    let Some((&pick, mut rest)) = data.split_first() else {
        return;
    };
    let version = match pick % 3 {
        0 => ProtocolVersion::V3_1,
        1 => ProtocolVersion::V3_1_1,
        _ => ProtocolVersion::V5,
    };
    while let Ok(Some(length)) = codec::frame_length(rest, codec::MAX_PACKET_SIZE) {
        let (frame, after) = rest.split_at(length);
        rest = after;
        let Ok(packet) = codec::decode(Bytes::copy_from_slice(frame), version) else {
            continue;
        };
        let mut encoded = Vec::new();
        codec::encode(&packet, version, &mut encoded).expect("what was decoded can be encoded");
        let length = codec::frame_length(&encoded, codec::MAX_PACKET_SIZE);
        assert_eq!(length, Ok(Some(encoded.len())), "{packet:?}");
        assert_eq!(codec::decode(encoded.into(), version), Ok(packet));
    }
}

/// Lines of text: the first is a topic name, the others are filters. The tree, a single filter and the definition
/// must agree on which match, and a tree that was emptied is empty.
pub fn topic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let name = TopicName::new(lines.next().unwrap_or_default());
    let mut filters = Vec::new();
    for line in lines {
        if let Ok(parsed) = SubscriptionFilter::parse(line) {
            let again = SubscriptionFilter::parse(&parsed.to_string());
            assert_eq!(again.as_ref(), Ok(&parsed));
        }
        filters.extend(TopicFilter::parse(line).ok());
    }
    let mut tree = TopicTree::new();
    for (index, filter) in filters.iter().enumerate() {
        tree.insert(filter, index);
    }
    if let Ok(name) = name {
        let mut found = Vec::new();
        tree.matching(&name, |&index| found.push(index));
        found.sort_unstable();
        let expected = |(index, filter): (usize, &TopicFilter)| {
            let by_definition = matches_by_definition(filter.as_str(), &name);
            assert_eq!(filter.matches(&name), by_definition, "{filter} {name}");
            by_definition.then_some(index)
        };
        let expected: Vec<_> = filters.iter().enumerate().filter_map(expected).collect();
        assert_eq!(found, expected, "{name}");
    }
    for (index, filter) in filters.iter().enumerate() {
        assert_eq!(tree.remove(filter, |&value| value == index), Some(index));
    }
    assert!(tree.is_empty());
}

/// The standard's words on matching, said in the plainest way.
pub fn matches_by_definition(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let same = |(part, level): (&&str, &&str)| *part == "+" || part == level;
    match filter.split_last() {
        Some((&"#", parents)) => {
            topic.len() >= parents.len() && parents.iter().zip(&topic).all(same)
        }
        _ => filter.len() == topic.len() && filter.iter().zip(&topic).all(same),
    }
}
