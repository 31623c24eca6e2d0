use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;
use weir_sinks::ConnectorConfig;

use super::*;
use crate::config::Config;
use crate::config::toml_file::{Names, TomlFile};
use crate::problem::{Problem, Source};
use crate::project::rule_file::{self, Around, Head, RuleTest};
use crate::project::script_test::ScriptTest;
use crate::project::{connector_file, script_test};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The tests of a rule or of functions, in a file beside it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what is read table by table")]
struct TestFile {
    /// The tests.
    test: Option<Vec<AnyTest>>,
}

/// One `[[test]]`: with `given` of a rule, with `call` of a function.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "describes what is read table by table")]
enum AnyTest {
    Rule(RuleTest),
    Function(ScriptTest),
}

/// The schema of the types.
fn schema(kind: SchemaKind) -> Schema {
    let settings = SchemaSettings::draft2020_12();
    let generator = settings
        .with_transform(RecursiveTransform(for_toml))
        .into_generator();
    let (title, mut schema) = match kind {
        SchemaKind::Rule => ("A rule of weir", generator.into_root_schema_for::<Head>()),
        SchemaKind::Connector => (
            "A connector of weir",
            generator.into_root_schema_for::<ConnectorConfig>(),
        ),
        SchemaKind::Config => (
            "The configuration of weir",
            generator.into_root_schema_for::<Config>(),
        ),
        SchemaKind::Test => (
            "Tests of weir",
            generator.into_root_schema_for::<TestFile>(),
        ),
    };
    schema.insert("title".to_owned(), title.into());
    schema
}

/// Takes out what TOML does not have, `null`, and what says nothing to those who write it: the width of numbers.
fn for_toml(schema: &mut Schema) {
    let Some(keys) = schema.as_object_mut() else {
        return;
    };
    keys.retain(|key, value| match key.as_str() {
        "format" => false,
        "default" => !value.is_null(),
        _ => true,
    });
    if let Some(Value::Array(types)) = keys.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = &mut types[..] {
            let only = only.take();
            keys.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = keys.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = &mut choices[..] {
        let only = std::mem::take(only);
        keys.shift_remove("anyOf");
        for (key, value) in only {
            keys.entry(key).or_insert(value);
        }
    }
}

fn toml(text: &str) -> Value {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

/// What does not fit. The few keywords that these schemas use; any other one is a panic, not a pass.
fn misfits(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let Some(keywords) = schema.as_object() else {
        return match schema {
            Value::Bool(true) => Vec::new(),
            _ => vec![format!("{at}: nothing fits")],
        };
    };
    let mut found = Vec::new();
    let mut refuse = |what: String| found.push(format!("{at}: {what}"));
    let fitting = |choices: &Value| {
        let choices = choices.as_array().unwrap().iter();
        choices
            .filter(|choice| misfits(root, choice, value, at).is_empty())
            .count()
    };
    let mut below = Vec::new();
    for (keyword, asked) in keywords {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "examples"
            | "writeOnly" => {}
            "$ref" => {
                let path = asked.as_str().unwrap().strip_prefix('#').unwrap();
                below.extend(misfits(root, root.pointer(path).unwrap(), value, at));
            }
            "type" => {
                let fits = match asked.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    other => panic!("the type {other}"),
                };
                if !fits {
                    refuse(format!("{value} is no {asked}"));
                }
            }
            "const" if asked != value => refuse(format!("{value} is not {asked}")),
            "const" => {}
            "enum" if !asked.as_array().unwrap().contains(value) => {
                refuse(format!("{value} is none of {asked}"));
            }
            "enum" => {}
            "pattern" => {
                let pattern = regex::Regex::new(asked.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    refuse(format!("{value} does not look like {asked}"));
                }
            }
            "minimum" if value.as_f64() < asked.as_f64() && value.is_number() => {
                refuse(format!("{value} is below {asked}"));
            }
            "maximum" if value.as_f64() > asked.as_f64() && value.is_number() => {
                refuse(format!("{value} is above {asked}"));
            }
            "minimum" | "maximum" => {}
            "minItems" | "maxItems" => {
                let (length, asked) = (value.as_array().map(Vec::len), asked.as_u64().unwrap());
                let asked = usize::try_from(asked).unwrap();
                let is_out = match keyword.as_str() {
                    "minItems" => length.is_some_and(|length| length < asked),
                    _ => length.is_some_and(|length| length > asked),
                };
                if is_out {
                    refuse(format!("{keyword} is {asked}"));
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    below.extend(misfits(root, asked, item, &format!("{at}.{index}")));
                }
            }
            "prefixItems" => {
                let items = value.as_array().into_iter().flatten();
                for (asked, item) in asked.as_array().unwrap().iter().zip(items) {
                    below.extend(misfits(root, asked, item, at));
                }
            }
            "properties" => {
                for (key, asked) in asked.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        below.extend(misfits(root, asked, value, &format!("{at}.{key}")));
                    }
                }
            }
            "additionalProperties" => {
                let named = keywords.get("properties").and_then(Value::as_object);
                for (key, value) in value.as_object().into_iter().flatten() {
                    if !named.is_some_and(|named| named.contains_key(key)) {
                        below.extend(misfits(root, asked, value, &format!("{at}.{key}")));
                    }
                }
            }
            "required" => {
                for key in asked.as_array().unwrap() {
                    if value.is_object() && value.get(key.as_str().unwrap()).is_none() {
                        refuse(format!("{key} is missing"));
                    }
                }
            }
            "anyOf" if fitting(asked) == 0 => refuse(format!("{value} fits none of {asked}")),
            "oneOf" if fitting(asked) != 1 => {
                refuse(format!("{value} fits {} of {asked}", fitting(asked)));
            }
            "anyOf" | "oneOf" => {}
            other => panic!("{at}: the keyword {other} is not checked here"),
        }
    }
    found.extend(below);
    found
}

fn misfits_of(kind: SchemaKind, text: &str) -> Vec<String> {
    let schema = schema(kind);
    let schema = schema.as_value();
    misfits(schema, schema, &toml(text), kind.name())
}

/// Every TOML file below a folder.
fn toml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            toml_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let mut stale = Vec::new();
    for kind in SchemaKind::value_variants() {
        let made = serde_json::to_string_pretty(&schema(*kind)).unwrap() + "\n";
        let path = format!("{REPOSITORY}/schemas/{}.json", kind.name());
        if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
            std::fs::write(&path, &made).unwrap();
        }
        if std::fs::read_to_string(&path).unwrap() != made {
            stale.push(kind.name());
        }
    }
    assert!(
        stale.is_empty(),
        "schemas/ is stale for {stale:?}; run this test with UPDATE=1"
    );
}

#[test]
fn every_file_of_the_repository_fits_its_schema() {
    let mut files = vec![PathBuf::from(format!("{REPOSITORY}/weir.toml"))];
    toml_files(Path::new(&format!("{REPOSITORY}/rules")), &mut files);
    let init = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/init_files");
    toml_files(Path::new(init), &mut files);
    let mut seen = Vec::new();
    for path in files {
        let name = path.to_str().unwrap();
        let kind = match name {
            _ if name.ends_with(".test.toml") => SchemaKind::Test,
            _ if name.ends_with("weir.toml") => SchemaKind::Config,
            _ if name.contains("/connectors/") || name.ends_with("local.toml") => {
                SchemaKind::Connector
            }
            _ => SchemaKind::Rule,
        };
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(misfits_of(kind, &text), Vec::<String>::new(), "{name}");
        seen.push(kind);
    }
    for kind in SchemaKind::value_variants() {
        assert!(seen.contains(kind), "no file of the kind {kind:?}");
    }
}

#[test]
fn every_setting_that_the_example_shows_in_a_comment_fits_the_schema() {
    let text = std::fs::read_to_string(format!("{REPOSITORY}/weir.toml")).unwrap();
    let settings: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line))
        .filter(|line| line.parse::<toml::Table>().is_ok_and(|set| !set.is_empty()))
        .collect();
    let shown = settings.join("\n");
    assert!(shown.contains("client_auth") && shown.contains("retry_interval"));
    assert_eq!(
        misfits_of(SchemaKind::Config, &shown),
        Vec::<String>::new(),
        "{shown}"
    );
}

/// Whether the reader of that kind takes the form of a file.
fn is_read(kind: SchemaKind, text: &str) -> Result<(), Vec<Problem>> {
    let source = Source::new("x.toml", text);
    match kind {
        SchemaKind::Rule => rule_file::read(
            &source,
            &Around {
                outside: &Names,
                connector: &|_| None,
                sql_file: &|name| Some(Source::new(name, "SELECT 1 FROM \"t\"")),
            },
        )
        .map(drop)
        .map_err(|unread| unread.problems),
        SchemaKind::Connector => connector_file::read(&source, &Names).map(drop),
        SchemaKind::Config => TomlFile::parse(&source)
            .unwrap()
            .read::<Config>()
            .map(drop)
            .map_err(|problem| vec![*problem]),
        SchemaKind::Test => rule_file::read_tests(&source)
            .map(drop)
            .or_else(|_| script_test::read(&source).map(drop)),
    }
}

#[test]
fn schema_and_reader_take_and_refuse_the_same() {
    use SchemaKind::{Config, Connector, Rule, Test};
    let sql = |more: &str| format!("sql = 'SELECT 1 FROM \"t\"'\n{more}");
    let sink = |more: &str| {
        sql(&format!(
            "[[sinks]]\ntype = 'http'\nurl = 'http://h'\n{more}"
        ))
    };
    let auth = |with: &str| sink(&format!("auth = {{ {with} }}\n"));
    let given = "[[test]]\nname = 'n'\ngiven = [{ topic = 't' }]\n";
    let samples = [
        (Rule, true, sql("")),
        (Rule, true, "sql_file = 'x.sql'".to_owned()),
        (Rule, false, "description = 'no statement'".to_owned()),
        (Rule, false, sql("sql_file = 'x.sql'")),
        (Rule, false, sql("sqll = 'x'")),
        (Rule, false, sql("enabled = 'yes'")),
        (Rule, true, sql("on_error = 'drop'")),
        (Rule, false, sql("on_error = 'dropp'")),
        (
            Rule,
            true,
            sink("timeout = '1.5s'\nbatch = { max_bytes = '64 kib' }"),
        ),
        (Rule, false, sink("timeout = 5")),
        (Rule, false, sink("timeout = '5'")),
        (Rule, false, sink("timeout = '5 parsecs'")),
        (Rule, false, sink("batch = { max_bytes = '64' }")),
        (Rule, false, sink("batch = { max_row = 1 }")),
        (Rule, true, sink("timeout = '${env:T:-5s}'")),
        (Rule, true, sink("ok_status = ['200-299', 404, '410']")),
        (Rule, false, sink("ok_status = ['2xx']")),
        (Rule, false, sink("ok_status = [99]")),
        (Rule, true, sink("columns = { a = 'b' }")),
        (Rule, true, sink("columns = ['a']")),
        (Rule, false, sink("columns = 'a'")),
        (Rule, true, auth("kind = 'none'")),
        (Rule, true, auth("kind = 'bearer', token = 't'")),
        (Rule, false, auth("kind = 'bearer'")),
        (
            Rule,
            false,
            auth("kind = 'bearer', token = 't', user = 'u'"),
        ),
        (Rule, false, auth("kind = 'beerer', token = 't'")),
        (Rule, false, auth("token = 't'")),
        (Rule, true, sql(&format!("{given}expect = []"))),
        (
            Rule,
            true,
            sql(&format!("{given}expect = [{{ a = {{ approx = 1.0 }} }}]")),
        ),
        (
            Rule,
            true,
            sql(&format!("{given}expect_sink.out = [{{ qos = 1 }}]")),
        ),
        (Rule, false, sql(given)),
        (Rule, false, sql("[[test]]\nname = 'n'\nexpect = []")),
        (Test, true, format!("{given}expect_error = 'udf'")),
        (
            Test,
            true,
            "[[test]]\nname = 'n'\ncall = 'm.f(1)'\nexpect = 1".to_owned(),
        ),
        (
            Test,
            false,
            "[[test]]\nname = 'n'\ncall = 'm.f(1)'".to_owned(),
        ),
        (Test, false, format!("{given}call = 'm.f(1)'\nexpect = []")),
        (Test, false, "[[tests]]\nname = 'n'".to_owned()),
        (
            Connector,
            true,
            "type = 'sqlite'\nurl = 'sqlite://x.db'".to_owned(),
        ),
        (Connector, true, "type = 'sqlite'\npath = 'x.db'".to_owned()),
        (Connector, false, "type = 'sqlite'".to_owned()),
        (
            Connector,
            false,
            "type = 'sqlite'\npath = 'x.db'\nurl = 'x.db'".to_owned(),
        ),
        (Connector, false, "path = 'x.db'".to_owned()),
        (
            Connector,
            false,
            "type = 'sqlitee'\npath = 'x.db'".to_owned(),
        ),
        (
            Connector,
            false,
            "type = 'sqlite'\npath = 'x.db'\npaht = 'x.db'".to_owned(),
        ),
        (
            Connector,
            true,
            "type = 'http'\nurl = 'http://h'\ntls = { insecure = true }".to_owned(),
        ),
        (
            Connector,
            true,
            "type = 'http'\nurl = 'http://h'\ntls = true".to_owned(),
        ),
        (
            Connector,
            false,
            "type = 'http'\nurl = 'http://h'\ntls = 1".to_owned(),
        ),
        (
            Connector,
            false,
            "type = 'http'\nurl = 'http://h'\ntls = { cafile = 'x' }".to_owned(),
        ),
        (Config, true, String::new()),
        (Config, false, "[mqttt]".to_owned()),
        (Config, false, "[mqtt]\nmax_infligt = 1".to_owned()),
        (
            Config,
            true,
            "[mqtt]\nkeepalive_factor = 2\nconnect_timeout = '1h 5m'".to_owned(),
        ),
        (Config, false, "[mqtt]\nconnect_timeout = '1.5'".to_owned()),
        (Config, false, "[mqtt]\nmax_packet_size = 100".to_owned()),
        (Config, true, "[mqtt]\nmax_packet_size = '100 B'".to_owned()),
        (Config, false, "[mqtt]\nthreads = 0".to_owned()),
        (
            Config,
            true,
            "[[listeners]]\nbind = './a.sock'\nmode = '0600'\nkind = 'unix'".to_owned(),
        ),
        (Config, false, "[[listeners]]\nbind = 'here'".to_owned()),
        (
            Config,
            false,
            "[[listeners]]\nbind = 'a/b'\nmode = '0900'".to_owned(),
        ),
        (Config, false, "[[listeners]]\nkind = 'tcp'".to_owned()),
        (Config, false, "[auth]\nchain = ['jwtt']".to_owned()),
        (
            Config,
            true,
            "[auth]\nchain = ['jwt', 'http']\njwt = { leeway = '5s' }".to_owned(),
        ),
        (
            Config,
            true,
            "[limits]\nbytes = { per_second = '1MiB' }".to_owned(),
        ),
        (
            Config,
            false,
            "[limits]\nbytes = { per_second = 5 }".to_owned(),
        ),
    ];
    let mut wrong = Vec::new();
    for (kind, good, text) in &samples {
        let read = is_read(*kind, text);
        if read.is_ok() != *good {
            wrong.push(format!("the reader of a {kind:?}: {read:?}\n{text}\n"));
        }
        let misfits = misfits_of(*kind, text);
        if misfits.is_empty() != *good {
            wrong.push(format!("the schema of a {kind:?}: {misfits:?}\n{text}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_sink_has_a_type_or_a_connector_in_the_schema_too() {
    let sinks = |keys: &str| {
        let text = format!("sql = 'SELECT 1 FROM \"t\"'\n[[sinks]]\n{keys}\n");
        misfits_of(SchemaKind::Rule, &text)
    };
    assert!(sinks("type = 'console'").is_empty());
    assert!(sinks("connector = 'db'").is_empty());
    assert!(!sinks("id = 'neither'").is_empty());
    assert!(!sinks("type = 'console'\nconnector = 'db'").is_empty());
    // A bridge needs a connector's file.
    assert!(!sinks("type = 'mqtt'").is_empty());
}

#[test]
fn defaults_and_words_of_the_types_are_in_the_schema() {
    let config = schema(SchemaKind::Config);
    let mqtt = |path: &str| config.pointer(&format!("/$defs/Mqtt/properties/{path}"));
    assert_eq!(mqtt("max_packet_size/default").unwrap(), "1MiB");
    assert_eq!(mqtt("session_expiry_max/default").unwrap(), "2h");
    assert_eq!(mqtt("shared_strategy/default").unwrap(), "round_robin");
    assert_eq!(mqtt("max_qos/maximum").unwrap(), 2);
    let words = mqtt("max_queued/description").unwrap().as_str().unwrap();
    assert!(words.starts_with("Messages that wait"), "{words}");
    let rule = schema(SchemaKind::Rule).to_value();
    assert_eq!(rule["properties"]["enabled"]["default"], true);
    assert_eq!(rule["properties"]["on_error"]["default"], "dead_letter");
    // TOML has no null.
    for kind in SchemaKind::value_variants() {
        assert!(!kind.text().contains(": null"), "{kind:?}");
    }
}
