//! What a `[[test]]` expects against what came: differences with their place, for people to read.

use std::fmt;

use serde_json::Value as Json;

/// One place where what came is not what was expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where: `row 1, device`.
    pub place: String,
    /// What the test says.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:  expected {}   got {}",
            self.place, self.expected, self.got
        )
    }
}

/// Compares rows; `noun` names one of them in the report.
///
/// Only the keys that the test lists are compared, unless `exact`.
pub fn rows(noun: &str, expected: &[toml::Table], got: &[Json], exact: bool) -> Vec<Difference> {
    let mut differences = Vec::new();
    if expected.len() != got.len() {
        let rest: Vec<String> = got
            .iter()
            .skip(expected.len())
            .map(Json::to_string)
            .collect();
        let shown = if rest.is_empty() {
            String::new()
        } else {
            format!(", beyond those expected: {}", rest.join(" "))
        };
        differences.push(Difference {
            place: format!("number of {noun}s"),
            expected: expected.len().to_string(),
            got: format!("{}{shown}", got.len()),
        });
    }
    for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
        let place = format!("{noun} {}", index + 1);
        compare_table(&place, ", ", expected, got, exact, &mut differences);
    }
    differences
}

fn compare_table(
    place: &str,
    joint: &str,
    expected: &toml::Table,
    got: &Json,
    exact: bool,
    out: &mut Vec<Difference>,
) {
    let Json::Object(object) = got else {
        out.push(Difference {
            place: place.to_owned(),
            expected: show(&toml::Value::Table(expected.clone())),
            got: got.to_string(),
        });
        return;
    };
    for (key, expected) in expected {
        let place = format!("{place}{joint}{key}");
        match object.get(key) {
            Some(got) => compare(&place, expected, got, exact, out),
            None => out.push(Difference {
                place,
                expected: show(expected),
                got: "nothing (the key is missing)".to_owned(),
            }),
        }
    }
    if exact {
        for (key, got) in object
            .iter()
            .filter(|(key, _)| !expected.contains_key(*key))
        {
            out.push(Difference {
                place: format!("{place}{joint}{key}"),
                expected: "no such key".to_owned(),
                got: got.to_string(),
            });
        }
    }
}

fn compare(
    place: &str,
    expected: &toml::Value,
    got: &Json,
    exact: bool,
    out: &mut Vec<Difference>,
) {
    let differs = |out: &mut Vec<Difference>| {
        out.push(Difference {
            place: place.to_owned(),
            expected: show(expected),
            got: got.to_string(),
        });
    };
    match expected {
        toml::Value::Table(table) => match (tolerance(table), got) {
            (Some((approx, tolerance)), Json::Number(number)) => {
                if number
                    .as_f64()
                    .is_none_or(|number| (number - approx).abs() > tolerance)
                {
                    differs(out);
                }
            }
            (Some(_), _) => differs(out),
            // TOML has no null: `{ null = true }` stands for it.
            (None, Json::Null) if is_null(table) => {}
            // An HTTP body or MQTT payload is text; the test may list the members of its JSON.
            (None, Json::String(text)) => match serde_json::from_str::<Json>(text) {
                Ok(inner @ Json::Object(_)) => compare_table(place, ".", table, &inner, exact, out),
                _ => differs(out),
            },
            (None, _) => compare_table(place, ".", table, got, exact, out),
        },
        toml::Value::Array(items) => match got {
            Json::Array(values) if values.len() == items.len() => {
                for (index, (item, value)) in items.iter().zip(values).enumerate() {
                    compare(&format!("{place}[{}]", index + 1), item, value, exact, out);
                }
            }
            _ => differs(out),
        },
        toml::Value::String(text) => {
            if got.as_str() != Some(text) {
                differs(out);
            }
        }
        toml::Value::Integer(number) => {
            let same = got.as_i64() == Some(*number)
                // 3 and 3.0 are one number in the rule language.
                || got.as_f64().is_some_and(|got| got.fract() == 0.0 && format!("{got:.0}") == number.to_string());
            if !same {
                differs(out);
            }
        }
        toml::Value::Float(number) => {
            if got.as_f64() != Some(*number) {
                differs(out);
            }
        }
        toml::Value::Boolean(value) => {
            if got.as_bool() != Some(*value) {
                differs(out);
            }
        }
        toml::Value::Datetime(time) => {
            if got.as_str() != Some(time.to_string().as_str()) {
                differs(out);
            }
        }
    }
}

fn tolerance(table: &toml::Table) -> Option<(f64, f64)> {
    let number = |value: &toml::Value| match value {
        toml::Value::Float(number) => Some(*number),
        toml::Value::Integer(number) => number.to_string().parse().ok(),
        _ => None,
    };
    let only_these = table.keys().all(|key| key == "approx" || key == "tol");
    only_these.then(|| {
        Some((
            number(table.get("approx")?)?,
            table.get("tol").map_or(Some(1e-9), number)?,
        ))
    })?
}

fn is_null(table: &toml::Table) -> bool {
    table.len() == 1 && table.get("null") == Some(&toml::Value::Boolean(true))
}

fn show(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => match tolerance(table) {
            Some((approx, tolerance)) => format!("{approx} ± {tolerance}"),
            None if is_null(table) => "null".to_owned(),
            None => format!(
                "{{{}}}",
                table
                    .iter()
                    .map(|(key, value)| format!("{key:?}: {}", show(value)))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        },
        toml::Value::Array(items) => format!(
            "[{}]",
            items.iter().map(show).collect::<Vec<_>>().join(", ")
        ),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_listed_keys_are_compared() {
        assert_eq!(
            rows("row", &[table("a = 1")], &[json!({"a": 1, "b": 2})], false),
            []
        );
        assert_eq!(
            rows("row", &[table("a = 1")], &[json!({"a": 1, "b": 2})], true)[0].place,
            "row 1, b"
        );
    }

    #[test]
    fn a_difference_names_row_key_and_both_values() {
        let found = rows(
            "row",
            &[table("device = 'a1'")],
            &[json!({"device": "dev"})],
            false,
        );
        assert_eq!(
            found[0].to_string(),
            "row 1, device:  expected \"a1\"   got \"dev\""
        );
    }

    #[test]
    fn numbers_are_compared_by_value_and_within_a_tolerance_where_one_is_given() {
        let row = json!({"t": 31.0, "dew": 16.7});
        assert_eq!(
            rows(
                "row",
                &[table("t = 31\ndew = { approx = 16.5, tol = 0.5 }")],
                std::slice::from_ref(&row),
                false
            ),
            []
        );
        assert_eq!(
            rows(
                "row",
                &[table("dew = { approx = 16.5, tol = 0.1 }")],
                &[row],
                false
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_missing_row_is_counted() {
        let found = rows("row", &[table("a = 1")], &[], false);
        assert_eq!(
            (found[0].place.as_str(), found[0].got.as_str()),
            ("number of rows", "0")
        );
    }

    #[test]
    fn json_text_may_be_compared_by_its_members() {
        assert_eq!(
            rows(
                "request",
                &[table("body = { temp = 31.5 }")],
                &[json!({"body": "{\"temp\":31.5}"})],
                false
            ),
            []
        );
    }

    #[test]
    fn null_differs_from_a_missing_key() {
        assert_eq!(
            rows(
                "row",
                &[table("a = { null = true }")],
                &[json!({"a": null})],
                false
            ),
            []
        );
        assert_eq!(
            rows("row", &[table("a = { null = true }")], &[json!({})], false).len(),
            1
        );
    }
}
