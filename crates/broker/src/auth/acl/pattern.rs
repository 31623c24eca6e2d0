//! Topic patterns of an access list: filters with places for what is known of a client.
//!
//! Filters are compared as sets of topics: one covers another when it matches everything that the other matches. A
//! client's own words never become wildcards or levels.

use std::borrow::Cow;

use weir_mqtt::TopicFilter;

/// What is known of the client that a pattern is compared for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// `%c`
    pub client_id: &'a str,
    /// `%u`
    pub username: Option<&'a str>,
    /// `${cert_cn}`
    pub cert_cn: Option<&'a str>,
}

/// One level of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(Box<str>),
    One,
    Rest,
    /// Text with places for values.
    Template(Box<[Part]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    ClientId,
    Username,
    CertCn,
}

/// The words for values, and what they stand for.
const PLACES: [(&str, Part); 5] = [
    ("%c", Part::ClientId),
    ("%u", Part::Username),
    ("${clientid}", Part::ClientId),
    ("${username}", Part::Username),
    ("${cert_cn}", Part::CertCn),
];

/// A topic filter with places for a client's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    levels: Box<[Level]>,
}

/// A level without places.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment<'a> {
    Text(Cow<'a, str>),
    One,
    Rest,
}

/// A pattern as it is for one client.
struct Resolved<'a> {
    segments: Vec<Segment<'a>>,
    /// A value is missing or holds `+`, `#` or `/`. The segments end with a `#` in its place.
    unfit: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence and the part of `text` that it is about.
    pub fn parse(text: &str) -> Result<Self, (String, &str)> {
        if text.starts_with("$share/") || text.starts_with("$queue/") {
            return Err((
                "a shared subscription is judged by its filter: leave the group out".to_owned(),
                text,
            ));
        }
        let levels = text
            .split('/')
            .map(parse_level)
            .collect::<Result<Box<[_]>, _>>()?;
        // The places are no wildcards, so the whole is a filter if it is one with the places as they stand.
        TopicFilter::parse(text).map_err(|error| (error.to_string(), text))?;
        Ok(Self { levels })
    }

    fn resolve<'a>(&'a self, values: Values<'a>) -> Resolved<'a> {
        let mut segments = Vec::with_capacity(self.levels.len());
        for (at, level) in self.levels.iter().enumerate() {
            segments.push(match level {
                Level::Text(text) => Segment::Text(Cow::Borrowed(text)),
                Level::One => Segment::One,
                Level::Rest => Segment::Rest,
                Level::Template(parts) => match fill_in(parts, values, at == 0) {
                    Some(text) => Segment::Text(Cow::Owned(text)),
                    None => {
                        segments.push(Segment::Rest);
                        return Resolved {
                            segments,
                            unfit: true,
                        };
                    }
                },
            });
        }
        Resolved {
            segments,
            unfit: false,
        }
    }

    /// Whether a rule that allows this pattern allows a topic or all topics of a filter. What a client calls itself
    /// allows nothing when it would not be one level.
    pub fn allows(&self, values: Values<'_>, filter: &str) -> bool {
        let resolved = self.resolve(values);
        !resolved.unfit && covers(&resolved.segments, &segments(filter))
    }

    /// Whether a rule that denies this pattern speaks of a topic or of any topic of a filter. A value that would not
    /// be one level stands for everything: nobody gets round a rule by the name that it chooses.
    pub fn denies(&self, values: Values<'_>, filter: &str) -> bool {
        overlaps(&self.resolve(values).segments, &segments(filter))
    }
}

fn parse_level(level: &str) -> Result<Level, (String, &str)> {
    match level {
        "+" => return Ok(Level::One),
        "#" => return Ok(Level::Rest),
        _ => {}
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut text = String::new();
    let mut rest = level;
    while let Some(first) = rest.chars().next() {
        if let Some((word, part)) = PLACES.iter().find(|(word, _)| rest.starts_with(word)) {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text).into()));
            }
            parts.push(part.clone());
            rest = &rest[word.len()..];
        } else if rest.starts_with("${") {
            let end = rest.find('}').map_or(rest.len(), |at| at + 1);
            return Err((
                format!(
                    "`{}` is not known; there are %c or ${{clientid}}, %u or ${{username}}, and ${{cert_cn}}",
                    &rest[..end]
                ),
                &rest[..end],
            ));
        } else {
            text.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    if parts.is_empty() {
        return Ok(Level::Text(text.into()));
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Ok(Level::Template(parts.into()))
}

/// The level; `None` when a value is missing or could be more than a part of one level, or when it would make a topic
/// one of the broker's own.
fn fill_in(parts: &[Part], values: Values<'_>, first: bool) -> Option<String> {
    let mut level = String::new();
    for part in parts {
        let value = match part {
            Part::Text(text) => {
                level.push_str(text);
                continue;
            }
            Part::ClientId => values.client_id,
            Part::Username => values.username?,
            Part::CertCn => values.cert_cn?,
        };
        if value.is_empty() || value.contains(['+', '#', '/']) {
            return None;
        }
        if first && level.is_empty() && value.starts_with('$') {
            return None;
        }
        level.push_str(value);
    }
    Some(level)
}

fn segments(filter: &str) -> Vec<Segment<'_>> {
    filter
        .split('/')
        .map(|level| match level {
            "+" => Segment::One,
            "#" => Segment::Rest,
            text => Segment::Text(Cow::Borrowed(text)),
        })
        .collect()
}

/// `[MQTT-4.7.2-1]` A leading wildcard does not reach names that begin with `$`.
fn is_hidden_from(first: Option<&Segment<'_>>, other: Option<&Segment<'_>>) -> bool {
    matches!(first, Some(Segment::Text(text)) if text.starts_with('$'))
        && matches!(other, Some(Segment::One | Segment::Rest))
}

/// Whether every topic that `filter` matches is matched by `pattern`.
fn covers(pattern: &[Segment<'_>], filter: &[Segment<'_>]) -> bool {
    if is_hidden_from(filter.first(), pattern.first()) {
        return false;
    }
    let filter = spelled_out(filter);
    let mut filter = filter.iter();
    for segment in &spelled_out(pattern) {
        match (segment, filter.next()) {
            (Segment::Rest, _) => return true,
            (Segment::One, Some(Segment::One | Segment::Text(_))) => {}
            (Segment::Text(text), Some(Segment::Text(other))) if text == other => {}
            _ => return false,
        }
    }
    filter.next().is_none()
}

/// The same filter with the level that no topic can lack: `#` is `+/#`, and `/#` is `/+/#`, for no topic is empty.
/// `[MQTT-4.7.3-1]`
fn spelled_out<'a>(segments: &[Segment<'a>]) -> Vec<Segment<'a>> {
    let mut all = segments.to_vec();
    let lacks_one = match &all[..] {
        [Segment::Rest] => true,
        [Segment::Text(first), Segment::Rest] => first.is_empty(),
        _ => false,
    };
    if lacks_one {
        all.insert(all.len() - 1, Segment::One);
    }
    all
}

/// Whether any topic is matched by both.
fn overlaps(one: &[Segment<'_>], other: &[Segment<'_>]) -> bool {
    if is_hidden_from(one.first(), other.first()) || is_hidden_from(other.first(), one.first()) {
        return false;
    }
    let (one, other) = (spelled_out(one), spelled_out(other));
    let (mut one, mut other) = (one.iter(), other.iter());
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(Segment::Rest), _) | (_, Some(Segment::Rest)) => return true,
            (None, _) | (_, None) => return false,
            (Some(Segment::Text(text)), Some(Segment::Text(same))) if text != same => return false,
            (Some(_), Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values<'a>(client_id: &'a str, username: Option<&'a str>) -> Values<'a> {
        Values {
            client_id,
            username,
            cert_cn: None,
        }
    }

    fn allows(pattern: &str, client_id: &str, filter: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.allows(values(client_id, None), filter)
    }

    fn denies(pattern: &str, client_id: &str, filter: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.denies(values(client_id, None), filter)
    }

    #[test]
    fn a_filter_is_allowed_only_as_a_whole() {
        assert!(allows("a/+", "c", "a/b") && allows("a/+", "c", "a/+"));
        assert!(!allows("a/+", "c", "a/#") && !allows("a/+", "c", "+/b"));
        assert!(allows("a/#", "c", "a") && allows("a/#", "c", "a/+/c/#"));
        assert!(allows("#", "c", "+/+") && !allows("#", "c", "$SYS/#"));
        assert!(allows("$SYS/#", "c", "$SYS/#") && !allows("+/#", "c", "$SYS/x"));
    }

    #[test]
    fn a_denied_topic_keeps_out_every_filter_that_reaches_it() {
        assert!(denies("a/secret", "c", "a/+") && denies("a/secret", "c", "#"));
        assert!(denies("a/+/x", "c", "a/b/#") && !denies("a/b", "c", "a/b/c"));
        assert!(!denies("$SYS/#", "c", "#"), "# does not reach it");
        assert!(!denies("+", "c", "/#"), "the topic above /# would be empty");
    }

    #[test]
    fn what_a_client_calls_itself_is_one_level_and_nothing_else() {
        assert!(allows("dev/%c/up", "d1", "dev/d1/up"));
        assert!(allows("dev/d-%c/up", "1", "dev/d-1/up"));
        for name in ["+", "#", "a/b", "d1/up", "", "+/+"] {
            for filter in [
                "dev/+/up",
                "dev/#",
                "dev/a/b/up",
                "dev/d1/up",
                "dev//up",
                "#",
            ] {
                assert!(!allows("dev/%c/up", name, filter), "{name} {filter}");
                assert!(!allows("dev/%c/#", name, filter), "{name} {filter}");
            }
        }
        assert!(!allows("%c/#", "$SYS", "$SYS/#"));
        // Nor does the absence of a user name.
        assert!(!allows("dev/%u", "c", "dev/") && !allows("${cert_cn}/#", "c", "/x"));
    }

    #[test]
    fn a_name_that_is_no_level_gets_round_no_denial() {
        assert!(denies("private/%c/#", "a/b", "private/a/b/x"));
        assert!(denies("private/%c/#", "+", "private/x/y"));
        assert!(denies("private/%u/#", "c", "private/x"));
        assert!(!denies("private/%c/#", "d1", "private/d2/x"));
        assert!(!denies("private/%c/#", "a/b", "public/a/b/x"));
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused() {
        for (text, about) in [
            ("a/#/b", "a/#/b"),
            ("a/b+", "a/b+"),
            ("", ""),
            ("$share/g/a", "$share/g/a"),
            ("a/${user}/b", "${user}"),
            ("a/${user", "${user"),
        ] {
            assert_eq!(Pattern::parse(text).unwrap_err().1, about, "{text}");
        }
        assert!(Pattern::parse("a/100%/%d").is_ok());
    }

    /// Levels of a small alphabet, so that filters often meet.
    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![
            3 => Just("a"), 3 => Just("b"), 2 => Just("$x"), 1 => Just(""), 4 => Just("+")
        ];
        (prop::collection::vec(level, 0..4), any::<bool>()).prop_filter_map(
            "a filter has a level",
            |(mut levels, rest)| {
                if rest {
                    levels.push("#");
                }
                let filter = levels.join("/");
                // `/#` alone also stands for the empty topic, which there is not: judged as if there were.
                let is_real = filter != "/#" && TopicFilter::parse(&filter).is_ok();
                is_real.then_some(filter)
            },
        )
    }

    /// Every topic of up to five levels of the alphabet, and one level that no filter names.
    fn topics() -> Vec<String> {
        let alphabet = ["a", "b", "$x", "", "other"];
        let mut topics: Vec<String> = Vec::new();
        let mut last: Vec<Vec<&str>> = vec![Vec::new()];
        for _ in 0..5 {
            last = last
                .iter()
                .flat_map(|levels| {
                    alphabet.iter().map(move |level| {
                        let mut longer = levels.clone();
                        longer.push(*level);
                        longer
                    })
                })
                .collect();
            topics.extend(last.iter().map(|levels| levels.join("/")));
        }
        topics.retain(|topic| !topic.is_empty());
        topics
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn covering_and_overlapping_are_what_the_topics_say(one in filter(), other in filter()) {
            thread_local! { static TOPICS: Vec<String> = topics(); }
            let (a, b) = (TopicFilter::parse(&one).unwrap(), TopicFilter::parse(&other).unwrap());
            let (covered, common) = TOPICS.with(|topics| {
                (
                    topics.iter().filter(|topic| b.matches(topic)).all(|topic| a.matches(topic)),
                    topics.iter().any(|topic| a.matches(topic) && b.matches(topic)),
                )
            });
            prop_assert_eq!(covers(&segments(&one), &segments(&other)), covered, "{} over {}", one, other);
            prop_assert_eq!(overlaps(&segments(&one), &segments(&other)), common, "{} and {}", one, other);
        }

        #[test]
        fn a_topic_is_allowed_exactly_when_the_filter_matches_it(one in filter(), at in any::<prop::sample::Index>()) {
            thread_local! { static TOPICS: Vec<String> = topics(); }
            TOPICS.with(|topics| {
                let topic = at.get(topics);
                let pattern = Pattern::parse(&one).unwrap();
                let matches = TopicFilter::parse(&one).unwrap().matches(topic);
                prop_assert_eq!(pattern.allows(Values::default(), topic), matches);
                prop_assert_eq!(pattern.denies(Values::default(), topic), matches);
                Ok(())
            })?;
        }

        #[test]
        fn no_name_reaches_another_clients_topics(name in "[a-c+#/%$]{0,6}", topic in "[a-c]/[a-c]{1,3}/up") {
            let pattern = Pattern::parse("d/%c/up").unwrap();
            let allowed = pattern.allows(values(&name, None), &format!("d/{topic}"));
            prop_assert!(!allowed, "two levels are never one name");
            let whose = topic.split('/').nth(1).unwrap();
            let own = format!("d/{whose}/up");
            prop_assert_eq!(pattern.allows(values(&name, None), &own), name == whose);
        }
    }
}
