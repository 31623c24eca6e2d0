//! `docs/lessons.md` is made from the tests: what hurts users of brokers, and what shows that weir does otherwise.
//! `UPDATE=1` rewrites it. `lessons/table.tsv` lists the lessons; a comment of a test names the one that it shows.

use std::fmt::Write as _;
use std::path::Path;

use crate::conformance::{ROOT, all_tests, link, shown_by};

const PAGE: &str = "docs/lessons.md";
const TABLE: &str = include_str!("lessons/table.tsv");

struct Lesson {
    /// What a comment names.
    name: String,
    hurts: &'static str,
    does: &'static str,
}

fn lessons() -> Vec<Lesson> {
    let lesson = |line: &'static str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [number, hurts, does] = fields[..] else {
            panic!("not a number and two sentences: {line}")
        };
        Lesson {
            name: format!("LESSON-{number}"),
            hurts,
            does,
        }
    };
    TABLE.lines().map(lesson).collect()
}

#[test]
fn every_lesson_of_other_brokers_has_a_test_and_the_page_says_which() {
    let tests = all_tests("LESSON-");
    let shown_by = shown_by(&tests);
    let lessons = lessons();
    for name in shown_by.keys() {
        let known = lessons.iter().any(|lesson| lesson.name == *name);
        assert!(known, "no such lesson: {name}");
    }
    let mut page = String::from(
        "# What hurts users of other brokers, and where weir's test for it is\n\n\
         <!-- Made from the tests by `UPDATE=1 cargo nextest run -p weir --test mqtt lessons`. -->\n\n\
         Each line stands for reports of people who ran a broker and lost messages, time or trust.\n\
         The tests in the last column run the same situation against weir.\n\n\
         | what hurts | what weir does | shown by |\n|---|---|---|\n",
    );
    for lesson in &lessons {
        let tests = shown_by.get(lesson.name.as_str());
        let tests =
            tests.unwrap_or_else(|| panic!("no test names {}: {}", lesson.name, lesson.hurts));
        let tests: Vec<String> = tests.iter().map(|test| link(test)).collect();
        writeln!(
            page,
            "| {} | {} | {} |",
            lesson.hurts,
            lesson.does,
            tests.join("<br>")
        )
        .unwrap();
    }
    let path = Path::new(ROOT).join(PAGE);
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "{PAGE} is stale; run this test with UPDATE=1"
    );
}
