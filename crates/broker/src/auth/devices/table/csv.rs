//! The table as CSV: a line of names, and a line a device.

use weir_sinks::Secret;

use super::{MAX_PROBLEMS, Profile, Reading, Row};
use crate::problem::{Problem, nearest};

const COLUMNS: [&str; 10] = [
    "scheme",
    "tenant_key",
    "device",
    "secret",
    "next_secret",
    "enabled",
    "register",
    "acl_profile",
    "topics",
    "note",
];

impl Reading<'_> {
    pub(super) fn csv(&mut self) {
        let text = self.source.text.trim_start_matches('\u{feff}');
        let skipped = self.source.text.len() - text.len();
        let mut names: Option<Vec<String>> = None;
        let mut at = skipped;
        for line in text.split_inclusive('\n') {
            let span = at..at + line.trim_end().len();
            at += line.len();
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') || self.problems.len() >= MAX_PROBLEMS {
                continue;
            }
            let read = fields(line).and_then(|fields| match &names {
                None => header(&fields).map(|()| {
                    names = Some(fields);
                    None
                }),
                Some(names) => row(names, fields).map(Some),
            });
            match read {
                Ok(None) => {}
                Ok(Some(row)) => {
                    if let Err(wrong) = self.take(row) {
                        self.tell(wrong, |_| span.clone());
                    }
                }
                Err(message) => {
                    let problem = Problem::at(self.source, span, "E1017", message);
                    self.problems.push(problem.help(
                        "the first line names the columns, such as scheme,tenant_key,device,secret; a field with a comma stands in double quotes",
                    ));
                }
            }
        }
    }
}

/// The fields of a line; one in double quotes may hold commas, and quotes twice.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut letters = line.chars().peekable();
    loop {
        let mut field = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next() {
                    Some('"') if letters.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(letter) => field.push(letter),
                    None => return Err("a double quote is not closed in its line".to_owned()),
                }
            }
        }
        while let Some(letter) = letters.next_if(|letter| *letter != ',') {
            field.push(letter);
        }
        fields.push(field.trim().to_owned());
        if letters.next().is_none() {
            return Ok(fields);
        }
    }
}

fn header(names: &[String]) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        return Err(match nearest(name, COLUMNS) {
            Some(near) => format!("unknown column `{name}`; did you mean `{near}`?"),
            // The first line may be a device, with its secret.
            None => format!(
                "the first line names a column that does not exist; there are {}",
                COLUMNS.join(", ")
            ),
        });
    }
    for needed in ["scheme", "device", "secret"] {
        if !names.iter().any(|name| name == needed) {
            return Err(format!("the column `{needed}` is missing"));
        }
    }
    Ok(())
}

fn row(names: &[String], fields: Vec<String>) -> Result<Row, String> {
    if fields.len() != names.len() {
        return Err(format!(
            "the line has {} fields, the first line names {}",
            fields.len(),
            names.len()
        ));
    }
    let field = |name: &str| {
        let place = names.iter().position(|known| known == name)?;
        fields.get(place).filter(|field| !field.is_empty()).cloned()
    };
    Ok(Row {
        scheme: field("scheme").unwrap_or_default(),
        tenant_key: field("tenant_key").unwrap_or_default(),
        device: field("device").unwrap_or_default(),
        secret: Secret::new(field("secret").unwrap_or_default()),
        next_secret: field("next_secret").map(Secret::new),
        enabled: match field("enabled").as_deref() {
            None | Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(_) => return Err("`enabled` is neither true nor false".to_owned()),
        },
        register: match field("register").as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => return Err("`register` is neither true nor false".to_owned()),
        },
        acl_profile: match field("acl_profile").as_deref() {
            None | Some("cloud") => Profile::Cloud,
            Some("open") => Profile::Open,
            Some(_) => return Err("`acl_profile` is neither cloud nor open".to_owned()),
        },
        topics: field("topics")
            .map(|topics| topics.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        _note: None,
    })
}
