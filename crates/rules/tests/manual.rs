//! `docs/functions.md` is made from the function table. `UPDATE=1` rewrites it.

use std::fmt::Write as _;

use weir_rules::functions::{self, Function, Purity};

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/functions.md");

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test reads the file and the variable, not a rule"
)]
fn the_manual_is_what_the_function_table_says() {
    let manual = manual();
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        std::fs::write(MANUAL, &manual).expect("text grows");
    }
    let written = std::fs::read_to_string(MANUAL).unwrap_or_default();
    assert!(
        written == manual,
        "docs/functions.md is stale; run this test with UPDATE=1"
    );
}

const JQ: &str = "\n## jq\n\n\
    A weir that is built with `--features jq` has `jq(program, x [, ms])`: all results of a jq program for a value or its \
    JSON text, as an array; `jq('.a[] | . + 1', payload)` gives `[2, 3]` for `{\"a\":[1,2]}`.\n\
    A program that is a literal is checked with the rule (E0104).\n\
    It may run for so many milliseconds, 10000 unless given and at most; whoever publishes waits for it, so give less where \
    a program may be slow. It may take 256 MiB of memory; program, input and all results are at most 8 KiB, 4 MiB and \
    4 MiB.\nA program that fails, recurses too deeply or goes over a limit is an error (`jq`) that names the limit, and \
    harms nothing else: it runs in a process of its own. Four run at a time, and more wait for their turn, at most as long \
    as they may run.\n`env`, `now`, `halt`, `input` and `stderr` are not there.\n";

fn manual() -> String {
    let mut out = String::from(
        "# Functions\n\n<!-- Made from the function table by `UPDATE=1 cargo test -p weir-rules --test manual`. -->\n\n\
         Function names have no case.\nA value of a wrong type, undefined and null included, is an error (`bad_argument`) \
         unless the text says otherwise.\nEvery example is a test.\n",
    );
    let mut chapter = None;
    // `jq` is there only in builds with that feature; the manual is of those without.
    for function in functions::all().filter(|function| function.name != "jq") {
        if chapter != Some(function.category) {
            chapter = Some(function.category);
            write!(out, "\n## {}\n", function.category.title()).expect("text grows");
        }
        entry(function, &mut out);
    }
    out.push_str(JQ);
    out
}

fn entry(function: &Function, out: &mut String) {
    let forms: Vec<String> = function
        .signatures()
        .map(|form| format!("`{form}`"))
        .collect();
    write!(
        out,
        "\n### {}\n\n{}\n\n{}",
        function.name,
        forms.join(" · "),
        function.doc
    )
    .expect("text grows");
    if function.purity == Purity::Impure {
        out.push_str(" Computed anew in each evaluation.");
    }
    out.push_str("\n\n```sql\n");
    for (expression, result) in function.examples {
        writeln!(out, "{expression}  -- {result}").expect("text grows");
    }
    out.push_str("```\n");
}
