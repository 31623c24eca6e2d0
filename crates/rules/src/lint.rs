//! What can be told of a rule together with what its rows are used for, before any message comes.
//!
//! A compiler sees one statement; `weir check` also knows the templates that read its rows, and the other rules. When
//! in doubt, nothing is found: what is answered here becomes a warning.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::ast::AliasStep;
use crate::event::fields_of_event;
use crate::explain::Column;
use crate::nearest::nearest;
use crate::rule::{Body, Placed, Rule};
use crate::source::SourceFilter;
use crate::template::{Piece, Place, Step, Template};

/// A field, or a member of one, that is read and that no row has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingField {
    /// Its name, or its path.
    pub name: String,
    /// The field of the rows that may be meant.
    pub near: Option<String>,
}

/// How messages come back to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The entry of FROM that takes them.
    pub source: String,
    /// Whatever the places of the template hold, as long as each is one level: the message comes back. WHERE may
    /// still keep it away.
    pub always: bool,
}

impl Rule {
    /// The top-level fields that the rule's rows may have; `None` where anything may be there.
    ///
    /// ```
    /// use weir_rules::{Catalog, compile};
    ///
    /// let (rule, _) = compile(r#"SELECT payload.a.b, qos AS q FROM "t""#, &Catalog::default()).expect("it is right");
    /// let fields = rule.row_fields().expect("they are known");
    /// assert!(fields.iter().eq(["payload", "q"]));
    /// ```
    pub fn row_fields(&self) -> Option<BTreeSet<String>> {
        self.row_shape().map(|shape| shape.into_keys().collect())
    }

    /// As [`row_fields`](Self::row_fields), with what is known of the members of each.
    fn row_shape(&self) -> Option<Members> {
        let mut fields = Members::new();
        let (outputs, named, element) = match &self.body {
            Body::Select(items) => (items, &[][..], None),
            Body::Foreach(foreach) => (
                &foreach.outputs,
                foreach.named.as_slice(),
                Some(&foreach.element.0),
            ),
        };
        let any = |name: String| (name, Shape::Any);
        for output in outputs {
            match output {
                Placed::Value { steps, .. } => grow(&mut fields, steps),
                Placed::Star => {
                    for source in self.sources() {
                        match source {
                            SourceFilter::Topic(_) => fields.extend(names_of(None).map(any)),
                            SourceFilter::Events { topics, .. } => topics
                                .iter()
                                .for_each(|topic| fields.extend(names_of(Some(topic)).map(any))),
                            // What a bridge gives is the bridge's business.
                            SourceFilter::Bridge { .. } => return None,
                        }
                    }
                    for item in named {
                        if let Placed::Value { steps, .. } = item {
                            fields.extend(first_key(steps).map(any));
                        }
                    }
                    fields.extend(element.map(|name| any(name.to_string())));
                }
            }
        }
        Some(fields)
    }

    /// Those fields, and members of them, that places read and no row of the rule ever has.
    ///
    /// ```
    /// use weir_rules::template::{Template, TemplateKind};
    /// use weir_rules::{Catalog, compile};
    ///
    /// let (rule, _) = compile(r#"SELECT payload.temp FROM "t""#, &Catalog::default()).expect("it is right");
    /// let (text, _) = Template::parse("${payload.temp} ${payload.tmep} ${id}", TemplateKind::Text);
    /// let missing = rule.missing_fields(text.places());
    /// assert_eq!(missing[0].name, "payload.tmep");
    /// assert_eq!(missing[0].near.as_deref(), Some("payload.temp"));
    /// assert_eq!(missing[1].name, "id");
    /// ```
    pub fn missing_fields<'p>(
        &self,
        places: impl IntoIterator<Item = &'p Place>,
    ) -> Vec<MissingField> {
        let Some(known) = self.row_shape() else {
            return Vec::new();
        };
        let mut missing: Vec<MissingField> = Vec::new();
        for field in places
            .into_iter()
            .filter_map(|place| lacking(&known, place))
        {
            if missing.iter().all(|other| other.name != field.name) {
                missing.push(field);
            }
        }
        missing
    }

    /// Whether messages that this rule publishes to `topic` trigger the rule `to`, which may be the same.
    /// `None` where that cannot be. (The broker itself keeps a rule's own messages from it; two rules may feed each
    /// other.)
    ///
    /// ```
    /// use weir_rules::template::{Template, TemplateKind};
    /// use weir_rules::{Catalog, compile};
    ///
    /// let rule = |sql| compile(sql, &Catalog::default()).expect("it is right").0;
    /// let all = rule(r#"SELECT clientid FROM "dev/#""#);
    /// let (topic, _) = Template::parse("dev/${clientid}/hot", TemplateKind::Topic);
    /// assert!(all.feeds(&topic, &all).expect("it does").always);
    /// let up = rule(r#"SELECT clientid FROM "dev/+/up""#);
    /// assert_eq!(up.feeds(&topic, &up), None);
    /// ```
    pub fn feeds(&self, topic: &Template, to: &Self) -> Option<Feed> {
        let topics = self.topics_of(topic);
        let mut possible = None;
        for source in to.sources() {
            let SourceFilter::Topic(filter) = source else {
                continue;
            };
            let feed = |always| Feed {
                source: filter.as_str().to_owned(),
                always,
            };
            if topics
                .iter()
                .any(|topic| always_matches(topic, filter.as_str()))
            {
                return Some(feed(true));
            }
            if possible.is_none() && topics.iter().any(|topic| may_match(topic, filter.as_str())) {
                possible = Some(feed(false));
            }
        }
        possible
    }

    /// The topics that a template makes of this rule's rows. A place of the field `topic` stands for what FROM lets in.
    fn topics_of(&self, template: &Template) -> Vec<Vec<Part>> {
        let is_topic = |name: &str| self.is_topic(name);
        // `a/#` lets in `a` as well.
        let of_source = self.sources().iter().flat_map(|source| match source {
            SourceFilter::Topic(filter) => {
                let parent = filter.as_str().strip_suffix("/#");
                [Some(filter.as_str()), parent.or(Some(filter.as_str()))]
            }
            SourceFilter::Events { .. } | SourceFilter::Bridge { .. } => [None, None],
        });
        let one = |source: Option<&str>| {
            let mut parts = Vec::new();
            for piece in template.pieces() {
                match (piece, source) {
                    (Piece::Literal(text), _) => parts.extend(text.chars().map(Part::Char)),
                    (Piece::Place(place), Some(filter))
                        if place.steps().len() == 1 && place.first_key().is_some_and(is_topic) =>
                    {
                        parts.extend(parts_of(filter));
                    }
                    (Piece::Date(format), _) if !format.contains('/') => parts.push(Part::Level),
                    (Piece::Place(_) | Piece::Date(_), _) => parts.push(Part::Place),
                }
            }
            parts
        };
        of_source.map(one).collect()
    }

    /// Whether a row's field is the source's `topic`.
    fn is_topic(&self, name: &str) -> bool {
        let mut is_topic = false;
        for column in &self.explain.columns {
            match column {
                Column::Fields => is_topic |= name == "topic",
                // From here on `topic` means something else.
                Column::Value { name, text, .. } if name == "topic" && text != "topic" => {
                    return false;
                }
                Column::Value {
                    name: own, text, ..
                } if own == name => is_topic = text == "topic",
                Column::Value { .. } => {}
            }
        }
        is_topic
    }
}

/// Members by their names.
type Members = BTreeMap<String, Shape>;

/// What is known of a value in a row.
#[derive(Debug)]
enum Shape {
    /// Nothing.
    Any,
    /// An object that has these members at most.
    Members(Members),
}

impl Shape {
    /// Of what a target makes: `steps` are those that are left of it.
    fn of(steps: &[AliasStep]) -> Self {
        let mut members = Members::new();
        grow(&mut members, steps);
        if members.is_empty() {
            Self::Any
        } else {
            Self::Members(members)
        }
    }
}

/// Adds what an item puts into the row.
fn grow(members: &mut Members, steps: &[AliasStep]) {
    let Some((AliasStep::Key(key), rest)) = steps.split_first() else {
        return;
    };
    match members.entry(key.to_string()) {
        Entry::Vacant(entry) => {
            entry.insert(Shape::of(rest));
        }
        Entry::Occupied(mut entry) => match (entry.get_mut(), rest.first()) {
            (Shape::Members(members), Some(AliasStep::Key(_))) => grow(members, rest),
            (shape, _) => *shape = Shape::Any,
        },
    }
}

/// The first step of a place that leads nowhere, by its path.
fn lacking(row: &Members, place: &Place) -> Option<MissingField> {
    let (mut members, mut path) = (row, String::new());
    for step in place.steps() {
        let Step::Key(key) = step else {
            return None;
        };
        match members.get(key) {
            Some(Shape::Any) => return None,
            Some(Shape::Members(inner)) => {
                path.push_str(key);
                path.push('.');
                members = inner;
            }
            None => {
                let near = nearest(key, members.keys().map(String::as_str));
                return Some(MissingField {
                    near: near.map(|near| format!("{path}{near}")),
                    name: format!("{path}{key}"),
                });
            }
        }
    }
    None
}

fn names_of(topic: Option<&str>) -> impl Iterator<Item = String> {
    fields_of_event(topic).map(str::to_owned)
}

fn first_key(steps: &[AliasStep]) -> Option<String> {
    match steps.first() {
        Some(AliasStep::Key(key)) => Some(key.to_string()),
        _ => None,
    }
}

/// A part of a topic that is not fully known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Char(char),
    /// Any text without `/`, also none.
    Level,
    /// Any text.
    Levels,
    /// The value of a field: any text, but most likely one level.
    Place,
}

/// The topics that a filter matches, but for the parent of a last `#`.
fn parts_of(filter: &str) -> impl Iterator<Item = Part> {
    filter.chars().map(|char| match char {
        '+' => Part::Level,
        '#' => Part::Levels,
        char => Part::Char(char),
    })
}

/// Whether a topic matches the filter whatever its places hold, if each is one level.
fn always_matches(topic: &[Part], filter: &str) -> bool {
    if topic.first() == Some(&Part::Char('$')) && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split(|part| *part == Part::Char('/'));
    for part in filter.split('/') {
        if part == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if level.contains(&Part::Levels) => return false,
            Some(level)
                if part == "+" || part.chars().map(Part::Char).eq(level.iter().copied()) => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The product of two lengths up to which it is worth to look.
const MAX_CELLS: usize = 1_000_000;

/// Whether some topic of these parts matches the filter.
fn may_match(topic: &[Part], filter: &str) -> bool {
    if topic.first() == Some(&Part::Char('$')) && filter.starts_with(['+', '#']) {
        return false;
    }
    let matched: Vec<Part> = parts_of(filter).collect();
    let parent: Option<Vec<Part>> = filter
        .strip_suffix("/#")
        .map(|parent| parts_of(parent).collect());
    std::iter::once(matched)
        .chain(parent)
        .any(|matched| topic.len() * matched.len() > MAX_CELLS || have_common_text(topic, &matched))
}

/// Whether one text is of both forms. `row` holds for each place of `right` whether the rest of it and of `left` have
/// one; it is computed from the ends.
fn have_common_text(left: &[Part], right: &[Part]) -> bool {
    let is_open = |part: &Part| !matches!(part, Part::Char(_));
    let takes = |open: &Part, part: &Part| !(*open == Part::Level && *part == Part::Char('/'));
    let mut row: Vec<bool> = (0..=right.len())
        .map(|at| right.iter().skip(at).all(is_open))
        .collect();
    for part in left.iter().rev() {
        let mut above = vec![false; right.len() + 1];
        let ends = row.last().copied().unwrap_or_default();
        if let Some(last) = above.last_mut() {
            *last = is_open(part) && ends;
        }
        for at in (0..right.len()).rev() {
            let (Some(other), Some(below), Some(diagonal), Some(beside)) = (
                right.get(at),
                row.get(at),
                row.get(at + 1),
                above.get(at + 1),
            ) else {
                continue;
            };
            let common = match (is_open(part), is_open(other)) {
                (false, false) => part == other && *diagonal,
                (true, false) => *below || (takes(part, other) && *beside),
                (false, true) => *beside || (takes(other, part) && *below),
                (true, true) => *below || *beside,
            };
            if let Some(cell) = above.get_mut(at) {
                *cell = common;
            }
        }
        row = above;
    }
    row.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::TemplateKind;
    use crate::{Catalog, compile};

    fn rule(sql: &str) -> Rule {
        compile(sql, &Catalog::default()).unwrap().0
    }

    fn fields(sql: &str) -> Option<Vec<String>> {
        Some(rule(sql).row_fields()?.into_iter().collect())
    }

    #[test]
    fn rows_have_the_first_names_of_aliases_and_paths() {
        let sql = "SELECT payload.a.b, 1 AS x.y, qos + 1, topic, 2 AS l[0] FROM 't'";
        assert_eq!(fields(sql).unwrap(), ["_v_3", "l", "payload", "topic", "x"]);
    }

    #[test]
    fn a_star_stands_for_the_fields_of_all_sources() {
        let star = fields("SELECT *, 1 AS own FROM 't', '$events/client/connected'").unwrap();
        for name in ["own", "payload", "keepalive", "metadata", "node"] {
            assert!(star.iter().any(|field| field == name), "{name}");
        }
        assert!(!star.iter().any(|field| field == "reason"));
        assert_eq!(fields("SELECT * FROM '$bridges/mqtt:hq'"), None);
    }

    #[test]
    fn rows_of_foreach_have_its_names_where_do_does_not_choose() {
        let all = fields("FOREACH clientid AS c, payload.list AS e FROM 't'").unwrap();
        assert!(
            ["c", "e", "topic"]
                .iter()
                .all(|name| all.iter().any(|field| field == name))
        );
        let chosen = "FOREACH clientid AS c, payload.list AS e DO e.x AS x, c FROM 't'";
        assert_eq!(fields(chosen).unwrap(), ["c", "x"]);
    }

    #[test]
    fn a_field_that_no_row_has_is_named_once_with_the_nearest() {
        let sql = "SELECT payload.temp AS temp, clientid FROM 't'";
        assert_eq!(
            missing(sql, "${temp} ${clientId} ${zone} ${zone}"),
            ["clientId (clientid)", "zone"]
        );
    }

    /// What a text reads and rows lack, with what may be meant.
    fn missing(sql: &str, text: &str) -> Vec<String> {
        let (template, _) = Template::parse(text, TemplateKind::Text);
        let missing = rule(sql).missing_fields(template.places());
        missing
            .into_iter()
            .map(|field| match field.near {
                Some(near) => format!("{} ({near})", field.name),
                None => field.name,
            })
            .collect()
    }

    #[test]
    fn members_of_what_a_path_makes_are_known_too() {
        let sql = "SELECT payload.temp, payload.pos.lat, clientid AS meta.id FROM 't'";
        assert_eq!(
            missing(
                sql,
                "${payload.temp} ${payload.temp.x} ${payload.hum} ${payload.pos.lst} ${meta.name} ${payload}"
            ),
            [
                "payload.hum",
                "payload.pos.lst (payload.pos.lat)",
                "meta.name"
            ]
        );
    }

    #[test]
    fn of_what_a_value_holds_nothing_is_known() {
        for sql in [
            "SELECT payload FROM 't'",
            "SELECT payload, 1 AS payload.seen FROM 't'",
            "SELECT 1 AS payload.seen, payload FROM 't'",
            "SELECT 1 AS payload.seen, * FROM 't'",
            "SELECT payload.list[1], 1 AS payload[1] FROM 't'",
        ] {
            assert_eq!(missing(sql, "${payload.x}"), [""; 0], "{sql}");
        }
    }

    /// How messages to `topic` of a rule of `from` come back to a rule of `to`: whether always.
    fn feeds(from: &str, topic: &str, to: &str) -> Option<bool> {
        let from = rule(&format!(
            "SELECT topic, topic AS t, clientid AS c, payload.x AS x FROM {from}"
        ));
        let to = rule(&format!("SELECT qos FROM {to}"));
        let (topic, _) = Template::parse(topic, TemplateKind::Topic);
        from.feeds(&topic, &to).map(|feed| feed.always)
    }

    #[test]
    fn fixed_levels_decide_whether_messages_come_back() {
        let up = "'dev/+/up'";
        assert_eq!(feeds(up, "dev/${c}/up", up), Some(true));
        assert_eq!(feeds(up, "dev/${c}/down", up), None);
        assert_eq!(feeds(up, "alarm/${c}", up), None);
        assert_eq!(feeds(up, "dev/${c}/down", "'dev/#'"), Some(true));
        assert_eq!(feeds(up, "dev", "'dev/#'"), Some(true));
        assert_eq!(feeds(up, "devices/${c}", "'dev/#'"), None);
        assert_eq!(feeds(up, "dev/a-${c}/${date:%Y}", "'dev/+/+'"), Some(true));
        assert_eq!(feeds(up, "$SYS/x", "'#'"), None);
        assert_eq!(feeds(up, "a/b", "'$events/client/connected'"), None);
    }

    #[test]
    fn a_place_that_may_hold_several_levels_only_may_feed() {
        assert_eq!(feeds("'t'", "${x}", "'a/b'"), Some(false));
        assert_eq!(feeds("'t'", "out/${x}", "'out/+/y'"), Some(false));
        assert_eq!(feeds("'t'", "out/${x}/z", "'out/+/y'"), None);
        assert_eq!(feeds("'t'", "${x}", "'+'"), Some(true));
    }

    #[test]
    fn the_field_topic_stands_for_what_from_lets_in() {
        assert_eq!(feeds("'a/+'", "${topic}", "'a/+'"), Some(true));
        assert_eq!(feeds("'a/+'", "${t}", "'a/+'"), Some(true));
        assert_eq!(feeds("'a/+'", "${topic}/out", "'a/+'"), None);
        assert_eq!(feeds("'a/#'", "${topic}/out", "'a/#'"), Some(true));
        assert_eq!(feeds("'a/#'", "${topic}/out", "'a/+/out'"), Some(false));
        assert_eq!(feeds("'a/#'", "${topic}/out", "'a/out'"), Some(true));
        assert_eq!(feeds("'a/+'", "out/${topic}", "'a/+'"), None);
    }

    #[test]
    fn an_alias_that_hides_the_topic_is_a_place_like_any() {
        let from = rule("SELECT payload.x AS topic, topic AS t FROM 'a/+'");
        for template in ["${topic}/out", "${t}/out"] {
            let (template, _) = Template::parse(template, TemplateKind::Topic);
            assert!(
                from.feeds(&template, &rule("SELECT qos FROM 'b/out'"))
                    .is_some()
            );
        }
    }
}
