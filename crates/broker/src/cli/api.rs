//! Asking a running broker over HTTP.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::Value as Json;

use super::{Common, Exit, no_broker, say, server};

/// The HTTP side of a running broker.
pub(super) struct Api {
    server: String,
    client: reqwest::Client,
}

impl Api {
    pub(super) fn of(common: &Common) -> Result<Self, Exit> {
        let server = server(common)?;
        let client = reqwest::Client::new();
        Ok(Self { server, client })
    }

    /// What it answers to a path below `/weir/v1`; what it refuses is said.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<Json, Exit> {
        self.tell(method, path, String::new()).await
    }

    /// The same, with a body.
    pub(super) async fn tell(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Json, Exit> {
        let url = format!("{}/weir/v1{path}", self.server);
        let answer = self.client.request(method, url).body(body).send().await;
        let answer = answer.map_err(|error| no_broker(&self.server, &error))?;
        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        let json = serde_json::from_str::<Json>(&body);
        if status.is_success()
            && let Ok(json) = json
        {
            return Ok(json);
        }
        let of = |key: &str| {
            let text = json.as_ref().ok().and_then(|json| json[key].as_str());
            text.unwrap_or_default().to_owned()
        };
        if of("title").is_empty() {
            say(&format!("weir: {} answered {status}: {body}", self.server));
            return Err(Exit::Refused);
        }
        let code = Some(of("code")).filter(|code| !code.is_empty());
        let code = code.map_or_else(String::new, |code| format!("[{code}] "));
        let detail = Some(of("detail")).filter(|detail| !detail.is_empty());
        let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
        say(&format!("weir: {code}{}{detail}", of("title")));
        Err(Exit::Problems)
    }
}

/// Text as a part of a path or a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// `key=value` pairs as a query, or nothing.
pub(super) fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let pairs = pairs.iter().filter_map(|(key, value)| {
        let value = value.as_ref()?;
        Some(format!("{key}={}", encoded(value)))
    });
    let pairs: Vec<_> = pairs.collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    }
}

/// Lines whose cells stand below one another; numbers are not told apart.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let cells = cells.map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(head[column].chars().count())
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A time that has passed, in two units at most: `3h 12m`.
pub(super) fn age(seconds: i64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// How large, in the unit that suits: `1.5 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let of = |unit: u64, name: &str| format!("{:.1} {name}", bytes as f64 / unit as f64);
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => of(1 << 10, "KiB"),
        1_048_576..1_073_741_824 => of(1 << 20, "MiB"),
        _ => of(1 << 30, "GiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_two_units_at_most() {
        assert_eq!(
            [age(5), age(65), age(3700), age(90_000)],
            ["5s", "1m 5s", "1h 1m", "1d 1h"]
        );
        assert_eq!(
            [bytes(5), bytes(1536), bytes(3 << 30)],
            ["5 B", "1.5 KiB", "3.0 GiB"]
        );
    }

    #[test]
    fn a_query_has_what_is_given_and_nothing_else() {
        assert_eq!(query(&[("a", None)]), "");
        assert_eq!(
            query(&[("a", Some("x/y")), ("b", None), ("c", Some("1"))]),
            "?a=x%2Fy&c=1"
        );
    }

    #[test]
    fn cells_stand_below_one_another() {
        let rows = [vec!["a".to_owned(), "1".to_owned()]];
        assert_eq!(table(&["name", "n"], &rows), "name  n\na     1\n");
    }
}
