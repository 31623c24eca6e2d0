//! The tests of user functions, `udf/NAME.test.toml`: a call and what it gives.

use std::ops::Range;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Deserialize;
use weir_rules::script::Scripts;
use weir_rules::{Catalog, Event, Input, compile};

use super::expect::{Difference, rows};
use super::run_test::{TestResult, to_json};
use crate::config::toml_file::TomlFile;
use crate::pipeline::world::World;
use crate::problem::{Problem, Source};

/// One `[[test]]` of a function.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(rename = "FunctionTest", extend("anyOf" = [{ "required": ["expect"] }, { "required": ["expect_error"] }])))]
pub struct ScriptTest {
    /// What it shows, as a sentence.
    pub name: String,
    /// The call, as it stands in SQL.
    pub call: String,
    /// What it gives.
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    pub expect: Option<toml::Value>,
    /// The kind of the error that it ends with.
    pub expect_error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    test: Vec<toml::Spanned<ScriptTest>>,
}

/// Reads a file of tests, each with its place.
///
/// # Errors
/// Everything that is wrong with its form.
pub fn read(source: &Source) -> Result<Vec<(ScriptTest, Range<usize>)>, Vec<Problem>> {
    let file: File = TomlFile::parse(source)?
        .read()
        .map_err(|problem| vec![*problem])?;
    let empty: Vec<Problem> = file
        .test
        .iter()
        .filter(|test| test.get_ref().expect.is_none() && test.get_ref().expect_error.is_none())
        .map(|test| {
            let name = &test.get_ref().name;
            let message = format!("the test `{name}` expects nothing, so it cannot fail");
            Problem::at(source, test.span(), "E1007", message)
                .help("add `expect = …` or `expect_error = \"kind\"`")
        })
        .collect();
    if !empty.is_empty() {
        return Err(empty);
    }
    Ok(file
        .test
        .into_iter()
        .map(|test| (test.get_ref().clone(), test.span()))
        .collect())
}

/// Runs one test against the project's functions.
pub fn run(test: &ScriptTest, scripts: &Arc<Scripts>) -> TestResult {
    let differences = outcome(test, scripts).unwrap_or_else(|reason| vec![reason]);
    TestResult {
        passed: differences.is_empty(),
        differences,
    }
}

fn outcome(test: &ScriptTest, scripts: &Arc<Scripts>) -> Result<Vec<String>, String> {
    let catalog = Catalog {
        scripts: Arc::clone(scripts),
    };
    let sql = format!("SELECT {} AS result FROM \"test\"", test.call);
    let (rule, _) = compile(&sql, &catalog).map_err(|errors| {
        let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        format!("call:  {}", messages.join("; "))
    })?;
    let world = World::fixed("weir", TimeZone::UTC, 0, 0);
    let event = Event::publish("test", Vec::new());
    let result = rule.evaluate(
        &Input::new(&event, rule.needs()),
        "test",
        &mut world.moment(),
    );
    match (result, &test.expect_error) {
        (Err(error), Some(kind)) if error.kind.name() == kind => Ok(Vec::new()),
        (Err(error), kind) => {
            let expected = kind.as_deref().unwrap_or("none");
            Ok(vec![format!("error:  expected {expected}   got {error}")])
        }
        (Ok(made), Some(kind)) => {
            let got = made.first().map(to_json).transpose()?;
            Ok(vec![format!(
                "error:  expected {kind}   got {}",
                got.unwrap_or_default()
            )])
        }
        (Ok(made), None) => {
            let got = made.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
            let expected = test
                .expect
                .iter()
                .map(|value| toml::Table::from_iter([("result".to_owned(), value.clone())]));
            let expected: Vec<toml::Table> = expected.collect();
            Ok(rows("call", &expected, &got, false)
                .iter()
                .map(Difference::to_string)
                .collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts() -> Arc<Scripts> {
        Arc::new(
            Scripts::load([("m", "fn twice(x) { if x < 0 { throw \"no\"; } 2 * x }")]).unwrap(),
        )
    }

    fn test(call: &str, expect: Option<toml::Value>, expect_error: Option<&str>) -> ScriptTest {
        ScriptTest {
            name: "n".into(),
            call: call.into(),
            expect,
            expect_error: expect_error.map(str::to_owned),
        }
    }

    #[test]
    fn a_call_is_held_against_its_value_or_its_error() {
        let scripts = scripts();
        assert!(run(&test("m.twice(3)", Some(6.into()), None), &scripts).passed);
        assert!(!run(&test("m.twice(3)", Some(7.into()), None), &scripts).passed);
        assert!(run(&test("m.twice(-1)", None, Some("udf")), &scripts).passed);
        assert!(!run(&test("m.twice(1)", None, Some("udf")), &scripts).passed);
        assert!(!run(&test("m.thrice(1)", Some(3.into()), None), &scripts).passed);
    }
}
