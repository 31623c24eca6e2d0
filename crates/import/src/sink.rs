//! EMQX's actions as `[[sinks]]`.

use serde_json::{Map, Value};
use weir_rules::template::{SqlDialect, SqlTemplate, Template, TemplateKind};
use weir_rules::{Column, Rule, SourceFilter, Type};

use crate::Level;
use crate::action::Action;
use crate::connector::{Kind, duration, header_table, headers, string, switch, take_authorization};
use crate::note::Notes;
use crate::toml_text::{Table, block, text_or_block};

/// What a rule's rows hold, as far as the statement tells.
#[derive(Default)]
pub(crate) struct Row {
    /// Every field of the source.
    everything: bool,
    /// Name, type and expression.
    columns: Vec<(String, Type, String)>,
    /// Whether only messages that clients publish trigger the rule.
    from_topics: bool,
    /// Whether anything is known at all.
    known: bool,
}

/// Fields that every published message has.
const ALWAYS: [&str; 7] = [
    "id",
    "clientid",
    "payload",
    "topic",
    "qos",
    "timestamp",
    "publish_received_at",
];

impl Row {
    pub(crate) fn of(rule: &Rule) -> Self {
        let mut row = Self {
            from_topics: rule
                .sources()
                .iter()
                .all(|source| matches!(source, SourceFilter::Topic(_))),
            known: true,
            ..Self::default()
        };
        for column in &rule.explain().columns {
            match column {
                Column::Fields => row.everything = true,
                Column::Value {
                    name, kind, text, ..
                } => {
                    row.columns.push((name.clone(), *kind, text.clone()));
                }
            }
        }
        row
    }

    fn column(&self, name: &str) -> Option<&(String, Type, String)> {
        self.columns.iter().rev().find(|(known, ..)| known == name)
    }

    /// Whether every row has that field.
    fn surely_has(&self, name: &str) -> bool {
        let given = |field: &str| self.from_topics && ALWAYS.contains(&field);
        match self.column(name) {
            Some((_, _, text)) => {
                given(text) || text.starts_with(|c: char| c == '\'' || c.is_ascii_digit())
            }
            None => self.everything && given(name),
        }
    }

    fn is_text(&self, name: &str) -> bool {
        match self.column(name) {
            Some((_, kind, _)) => *kind == Type::String,
            None => self.everything && matches!(name, "id" | "clientid" | "payload" | "topic"),
        }
    }
}

/// One sink under way.
pub(crate) struct Sink<'a> {
    row: &'a Row,
    /// `rule hot_rooms`
    of: &'a str,
    notes: &'a mut Notes,
    id: String,
    table: Table,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(id: String, row: &'a Row, of: &'a str, notes: &'a mut Notes) -> Self {
        let mut table = Table::default();
        table.text("id", &id);
        Self {
            row,
            of,
            notes,
            id,
            table,
        }
    }

    fn changed(&mut self, text: impl std::fmt::Display) {
        self.notes
            .add(Level::Changed, self.of, format!("sink {}: {text}", self.id));
    }

    /// `{function = console}`
    pub(crate) fn console(mut self) -> Table {
        self.table.text("type", "console");
        self.table
    }

    /// `{function = republish, args {…}}`
    pub(crate) fn republish(mut self, args: &Map<String, Value>) -> Table {
        self.table.text("type", "republish");
        self.message(args, Some("${payload}"), "text", Some("${qos}"));
        for (key, what) in [
            ("mqtt_properties", "MQTT properties"),
            ("user_properties", "user properties"),
        ] {
            let set = match args.get(key) {
                Some(Value::Object(properties)) => !properties.is_empty(),
                // What EMQX writes when nobody said anything.
                Some(Value::String(text)) => !text.is_empty() && text != "${user_properties}",
                _ => false,
            };
            if set {
                self.changed(format!("a republished message has no {what} of its own"));
            }
        }
        if args.get("direct_dispatch") == Some(&Value::Bool(true)) {
            self.changed("`direct_dispatch` has no counterpart: other rules see the message too");
        }
        self.table
    }

    /// An action with a connector.
    pub(crate) fn action(mut self, action: &Action) -> Table {
        self.table.text("connector", &action.connector);
        if !action.enabled {
            self.table.set("enabled", "false");
        }
        match action.kind {
            Kind::Postgres => self.postgres(action),
            Kind::Http => self.http(action),
            Kind::Mqtt => self.message(&action.parameters, None, "empty", None),
        }
        self.options(action);
        self.table
    }

    fn postgres(&mut self, action: &Action) {
        let sql = string(&action.parameters, "sql").unwrap_or_else(|| {
            "INSERT INTO t_mqtt_msg (msgid, topic, qos, payload, arrived)\nVALUES (${id}, ${topic}, ${qos}, ${payload}, to_timestamp(${timestamp}::bigint / 1000))".to_owned()
        });
        let sql = unquoted_places(&sql.replace("\r\n", "\n"))
            .trim()
            .to_owned();
        let (_, warnings) = SqlTemplate::parse(&sql, SqlDialect::Postgres);
        for warning in warnings {
            self.changed(format!("in its statement, {}", warning.message));
        }
        self.table.set("sql", &block(&sql, true));
    }

    fn http(&mut self, action: &Action) {
        let parameters = &action.parameters;
        let method = string(parameters, "method")
            .unwrap_or_default()
            .to_ascii_uppercase();
        let method = if method.is_empty() { "POST" } else { &method };
        if method.contains("${") {
            self.changed("the method is fixed here: POST");
        } else if method != "POST" {
            self.table.text("method", method);
        }
        let mut templates = vec![string(&action.connector_config, "url").unwrap_or_default()];
        if let Some(path) = string(parameters, "path").filter(|path| !path.is_empty()) {
            let base_ends = templates.iter().any(|url| url.ends_with('/'));
            let url = match path.strip_prefix('/').unwrap_or(&path) {
                query if query.starts_with('?') => format!("${{conn:url}}{query}"),
                path if base_ends => format!("${{conn:url}}{path}"),
                path => format!("${{conn:url}}/{path}"),
            };
            self.table.text("url", &url);
            templates.push(path);
        }
        let mut own = headers(parameters);
        let shared = headers(&action.connector_config);
        let content_type = own
            .iter()
            .chain(&shared)
            .find(|(name, _)| name == "content-type")
            .map_or("application/json", |(_, value)| value.as_str())
            .to_owned();
        // EMQX writes its defaults into every action.
        own.retain(|header| !shared.contains(header));
        templates.extend(own.iter().chain(&shared).map(|(_, value)| value.clone()));
        if let Some(auth) = take_authorization(&mut own, &action.name, self.of, self.notes) {
            self.table.set("auth", &auth);
        }
        if !own.is_empty() {
            self.table.set("headers", &header_table(&own));
        }
        let body = match (method, string(parameters, "body")) {
            ("GET", _) => None,
            ("DELETE", _) => Some(String::new()),
            (_, body) => body,
        };
        if let Some(body) = body {
            let is_json = content_type.contains("json");
            self.body_is_plain(&body, is_json);
            self.table.set("body", &text_or_block(&body));
            self.template_warnings(
                "body",
                &body,
                if is_json {
                    TemplateKind::Json
                } else {
                    TemplateKind::Text
                },
            );
            templates.push(body);
        }
        self.undefined(&templates, "text");
    }

    /// EMQX writes a text into a body as it is; in a JSON body weir writes it as a JSON text.
    fn body_is_plain(&mut self, body: &str, is_json: bool) {
        if !is_json {
            return;
        }
        for place in places_outside_quotes(body) {
            if self.row.is_text(&place) {
                self.changed(format!(
                    "EMQX put `{place}` into the body as it is, here it becomes a JSON text; if it holds JSON, select `json_decode({place}) AS {place}`"
                ));
            }
        }
    }

    /// The keys of a sink that makes messages.
    fn message(
        &mut self,
        parameters: &Map<String, Value>,
        usual_payload: Option<&str>,
        for_missing: &str,
        usual_qos: Option<&str>,
    ) {
        let mut templates = Vec::new();
        let topic = string(parameters, "topic").unwrap_or_else(|| {
            self.notes.add(
                Level::Todo,
                self.of,
                format!("sink {}: the export has no topic; fill it in", self.id),
            );
            "imported".to_owned()
        });
        self.table.text("topic", &topic);
        self.template_warnings("topic", &topic, TemplateKind::Topic);
        templates.push(topic);
        let qos = match (parameters.get("qos"), usual_qos) {
            (Some(Value::Number(qos)), _) => qos.as_u64().unwrap_or(0).min(2),
            (Some(Value::String(qos)), _) => self.qos(qos),
            (_, Some(qos)) => self.qos(qos),
            (_, None) => 1,
        };
        if qos > 0 {
            self.table.set("qos", &qos.to_string());
        }
        if self.retain(parameters.get("retain")) {
            self.table.set("retain", "true");
        }
        let payload = string(parameters, "payload").or_else(|| usual_payload.map(str::to_owned));
        // Without one, and with an empty one, the whole row.
        if let Some(payload) =
            payload.filter(|payload| !payload.is_empty() && payload != "undefined")
        {
            self.table.set("payload", &text_or_block(&payload));
            self.template_warnings("payload", &payload, TemplateKind::Text);
            templates.push(payload);
        }
        self.undefined(&templates, for_missing);
    }

    /// EMQX can take the QoS from the row.
    fn qos(&mut self, written: &str) -> u64 {
        if let Ok(qos) = written.parse::<u64>() {
            return qos.min(2);
        }
        let name = place_name(written);
        let fixed = |text: &str| text.parse::<u64>().ok().map(|qos| qos.min(2));
        match self.row.column(&name) {
            Some((_, _, text)) if fixed(text).is_some() => fixed(text).unwrap_or(0),
            None if self.row.known && !self.row.everything => 0,
            _ => {
                self.changed(format!(
                    "EMQX took the QoS from the row (`{written}`), here it is 1"
                ));
                1
            }
        }
    }

    /// EMQX can take the flag from the row, where only a column of that name has it: `*` does not.
    fn retain(&mut self, written: Option<&Value>) -> bool {
        match written {
            Some(Value::Bool(retain)) => *retain,
            Some(Value::String(word)) if word == "true" => true,
            Some(Value::String(template)) if template.contains("${") => {
                match self.row.column(&place_name(template)) {
                    Some((_, _, text)) if text.eq_ignore_ascii_case("true") => true,
                    Some((_, _, text)) if text.eq_ignore_ascii_case("false") => false,
                    Some(_) => {
                        self.changed(format!(
                            "EMQX took `retain` from the row (`{template}`), here it is false"
                        ));
                        false
                    }
                    None => false,
                }
            }
            _ => false,
        }
    }

    /// What a missing field becomes, where one can be missing and EMQX sent something all the same.
    fn undefined(&mut self, templates: &[String], for_missing: &str) {
        let may_miss = templates
            .iter()
            .flat_map(|template| places(template))
            .any(|place| {
                let name = place.trim_start_matches('.');
                !name.is_empty() && name != "$" && !self.row.surely_has(name)
            });
        if may_miss {
            self.table.text("undefined", for_missing);
        }
    }

    fn template_warnings(&mut self, key: &str, template: &str, kind: TemplateKind) {
        let (_, warnings) = Template::parse(template, kind);
        for warning in warnings {
            self.changed(format!("in its {key}, {}", warning.message));
        }
    }

    /// What of EMQX's `resource_opts` a sink has too.
    fn options(&mut self, action: &Action) {
        let options = &action.options;
        if action.kind == Kind::Http
            && let Some(limit) = duration(options, "request_ttl").filter(|limit| limit != "45s")
        {
            self.table.text("timeout", &limit);
        }
        let rows = options
            .get("batch_size")
            .and_then(Value::as_u64)
            .unwrap_or(1);
        if action.kind == Kind::Postgres && rows > 1 {
            let wait = duration(options, "batch_time").filter(|wait| wait != "0ms" && wait != "0s");
            let wait = wait.map_or(String::new(), |wait| format!(", max_wait = \"{wait}\""));
            let rows = rows.min(50_000);
            self.table
                .set("batch", &format!("{{ max_rows = {rows}{wait} }}"));
        }
        if let Some(size) = string(options, "max_buffer_bytes").and_then(|size| binary_size(&size))
            // What EMQX writes by itself, in 5.0 and since.
            && !["256MiB", "1GiB"].contains(&size.as_str())
        {
            self.table
                .set("buffer", &format!("{{ max_bytes = \"{size}\" }}"));
        }
        if switch(options, "enable_batch", false) {
            self.changed("`enable_batch` has no counterpart");
        }
    }
}

/// `256MB`, which EMQX counts in 1024s, as `256MiB`.
fn binary_size(size: &str) -> Option<String> {
    let size = size.trim().to_ascii_uppercase();
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = match size.get(digits.len()..)? {
        "GB" => "GiB",
        "MB" => "MiB",
        "KB" => "KiB",
        "" | "B" => "B",
        _ => return None,
    };
    (number > 0).then(|| format!("{number}{unit}"))
}

/// EMQX takes the double quotes around a place away.
fn unquoted_places(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find("\"${") {
        let (before, place) = rest.split_at(at);
        out.push_str(before);
        let end = place.find('}').map_or(place.len(), |end| end + 1);
        let after = place.get(end..).unwrap_or_default();
        match after.strip_prefix('"') {
            Some(after) => {
                out.push_str(place.get(1..end).unwrap_or_default());
                rest = after;
            }
            None => {
                out.push_str(place.get(..end).unwrap_or_default());
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// What stands between `${` and `}`, each time.
fn places(template: &str) -> impl Iterator<Item = String> {
    template
        .split("${")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('}')?.0.to_owned()))
}

/// The name in `${name}`.
fn place_name(template: &str) -> String {
    let name = places(template).next().unwrap_or_default();
    name.trim_start_matches('.').to_owned()
}

/// The places of a JSON text that stand outside its quotes.
fn places_outside_quotes(body: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("${") {
            let end = rest.find('}').unwrap_or(rest.len() - 1);
            if !inside {
                found.extend(places(rest).next());
            }
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        let length = match c {
            '"' => {
                inside = !inside;
                1
            }
            '\\' if inside => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            c => c.len_utf8(),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    found
        .into_iter()
        .map(|place| place.trim_start_matches('.').to_owned())
        .collect()
}
