use super::*;

/// An element as a reader of XML sees it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    fn get(&self, name: &str) -> &str {
        let attribute = self.attributes.iter().find(|(known, _)| known == name);
        attribute.map_or("", |(_, value)| value)
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        out.push_str(before);
        let (name, after) = entity.split_once(';').unwrap();
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            _ => {
                let number = name.strip_prefix('#').unwrap().parse().unwrap();
                char::from_u32(number).unwrap()
            }
        });
        rest = after;
    }
    out + rest
}

/// The little of XML that the report uses; anything else is a panic.
fn parse(xml: &str) -> Element {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r') || c >= ' ';
    assert!(xml.chars().all(allowed), "not XML 1.0: {xml:?}");
    let mut rest = xml.split_once("?>").unwrap().1;
    let mut open = vec![Element::default()];
    while let Some((text, tag)) = rest.split_once('<') {
        open.last_mut().unwrap().text += &unescaped(text);
        let (tag, after) = tag.split_once('>').unwrap();
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            let done = open.pop().unwrap();
            assert_eq!(done.name, name);
            open.last_mut().unwrap().children.push(done);
            continue;
        }
        let (tag, is_whole) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        // NAME="VALUE": every second piece between quotes is a value.
        let pieces: Vec<&str> = attributes.split('"').collect();
        let attributes = pieces.chunks_exact(2).map(|pair| {
            let name = pair[0].trim().strip_suffix('=').unwrap();
            (name.to_owned(), unescaped(pair[1]))
        });
        let element = Element {
            name: name.to_owned(),
            attributes: attributes.collect(),
            ..Element::default()
        };
        if is_whole {
            open.last_mut().unwrap().children.push(element);
        } else {
            open.push(element);
        }
    }
    let [root] = &mut open[..] else {
        panic!("not closed: {open:?}");
    };
    root.children.pop().unwrap()
}

#[test]
fn a_report_is_read_back_as_it_was_made() {
    let mut report = Report::default();
    let rule = Path::new("rules/hot.toml");
    report.add("hot", "is \"hot\" & <new>", rule, 7, Outcome::Passed);
    let why = "row 1, a:  expected \"x\"   got '<&>'\nrow 2:  too many";
    report.add(
        "hot",
        "two\nlines",
        Path::new("rules/hot.test.toml"),
        3,
        Outcome::Failed(why.to_owned()),
    );
    let why = Outcome::Error("error[E1001]: bad\u{1b}[0m\r\u{0}".to_owned());
    report.add(
        "rules/ü.toml",
        "can be read",
        Path::new("rules/ü.toml"),
        0,
        why,
    );

    let all = parse(&report.xml());
    let counts = |of: &Element| ["tests", "failures", "errors"].map(|name| of.get(name).to_owned());
    assert_eq!(all.name, "testsuites");
    assert_eq!(counts(&all), ["3", "1", "1"]);
    let [hot, broken] = &all.children[..] else {
        panic!("{all:?}");
    };
    assert_eq!(
        (hot.get("name"), hot.get("file")),
        ("hot", "rules/hot.toml")
    );
    assert_eq!(counts(hot), ["2", "1", "0"]);
    assert_eq!(counts(broken), ["1", "0", "1"]);

    let [passed, failed] = &hot.children[..] else {
        panic!("{hot:?}");
    };
    assert_eq!(passed.name, "testcase");
    assert_eq!(passed.get("name"), "is \"hot\" & <new>");
    assert_eq!((passed.get("classname"), passed.get("line")), ("hot", "7"));
    assert!(passed.children.is_empty());
    assert_eq!(failed.get("name"), "two\nlines");
    assert_eq!(failed.get("file"), "rules/hot.test.toml");
    let failure = &failed.children[0];
    assert_eq!(failure.name, "failure");
    assert_eq!(
        failure.get("message"),
        "row 1, a:  expected \"x\"   got '<&>'"
    );
    assert_eq!(
        failure.text,
        "row 1, a:  expected \"x\"   got '<&>'\nrow 2:  too many"
    );

    let case = &broken.children[0];
    assert_eq!(case.get("line"), "");
    assert_eq!(case.children[0].name, "error");
    assert_eq!(
        case.children[0].text,
        "error[E1001]: bad\u{fffd}[0m\r\u{fffd}"
    );
}

#[test]
fn a_run_of_nothing_is_a_report_too() {
    let all = parse(&Report::default().xml());
    assert_eq!((all.get("tests"), all.children.len()), ("0", 0));
}
