//! The files that a weir under torture runs on.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::verdict::Arrival;

/// What weir delivers to, as it sees it.
pub(crate) struct Sinks {
    pub(crate) postgres: Option<String>,
    pub(crate) webhook_port: u16,
    pub(crate) remote_port: Option<u16>,
}

/// Queues that nothing of a run can fill: what is dropped at a limit is not lost against a promise.
const LIMITS: &str = "\
[mqtt]
max_queued = 10000000
max_queued_bytes = \"1GiB\"
session_expiry_max = \"7d\"
sys_interval = \"0s\"
";

/// Tries again soon, so that every fault meets deliveries under way.
const RETRY: &str = "retry = { initial = \"20ms\", max = \"500ms\" }\n";

fn config(port: u16, http_port: u16) -> String {
    format!(
        "data_dir = \"data\"\n\
         listeners = [{{ kind = \"tcp\", bind = \"127.0.0.1:{port}\" }}]\n\
         http.bind = \"127.0.0.1:{http_port}\"\n\n{LIMITS}"
    )
}

/// A folder for a weir that only is a broker.
pub(crate) fn write_plain(folder: &Path, port: u16, http_port: u16) -> io::Result<()> {
    for name in ["rules", "connectors"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::write(folder.join("weir.toml"), config(port, http_port))
}

/// A folder for the weir under test: one rule with every sink that is there.
pub(crate) fn write(folder: &Path, port: u16, http_port: u16, sinks: &Sinks) -> io::Result<()> {
    write_plain(folder, port, http_port)?;
    let mut rule =
        "sql = '''SELECT payload.p AS p, payload.n AS n FROM \"torture/+\"'''\n".to_owned();
    let connector =
        |name: &str, text: String| fs::write(folder.join(format!("connectors/{name}.toml")), text);
    let mut sink = |text: String| {
        // A text cannot refuse to be written to.
        let _ = write!(rule, "\n[[sinks]]\n{text}{RETRY}");
    };
    let file = database(folder);
    connector(
        "sqlite",
        format!("type = \"sqlite\"\npath = \"{}\"\n", file.display()),
    )?;
    sink("id = \"sqlite\"\nconnector = \"sqlite\"\ntable = \"weir_torture\"\n".to_owned());
    if let Some(url) = &sinks.postgres {
        connector(
            "postgres",
            format!(
                "type = \"postgres\"\nurl = \"{url}\"\nstatement_timeout = \"2s\"\n\
                 pool = {{ acquire_timeout = \"2s\" }}\nhealth = {{ every = \"2s\", timeout = \"1s\" }}\n"
            ),
        )?;
        sink("id = \"postgres\"\nconnector = \"postgres\"\ntable = \"weir_torture\"\n".to_owned());
    }
    sink(format!(
        "id = \"webhook\"\ntype = \"http\"\nurl = \"http://127.0.0.1:{}/hook\"\ntimeout = \"2s\"\n\
         batch = {{ format = \"json_array\", max_rows = 50, max_wait = \"20ms\" }}\n",
        sinks.webhook_port
    ));
    if let Some(port) = sinks.remote_port {
        connector(
            "remote",
            format!(
                "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
                 client_id = \"weir-torture-bridge\"\nkeepalive = \"5s\"\nack_timeout = \"3s\"\n\
                 backoff = {{ base = \"50ms\", cap = \"500ms\" }}\n"
            ),
        )?;
        for qos in [1, 2] {
            sink(format!(
                "id = \"remote{qos}\"\nconnector = \"remote\"\ntopic = \"far/{qos}\"\nqos = {qos}\n"
            ));
        }
    }
    fs::write(folder.join("rules/torture.toml"), rule)
}

fn database(folder: &Path) -> std::path::PathBuf {
    folder.join("rows.sqlite")
}

/// Makes the SQLite file with its table: no key, so that a row that came twice is there twice.
pub(crate) async fn make_database(folder: &Path) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(database(folder))
        .create_if_missing(true);
    let mut connection = options.connect().await?;
    sqlx::query(
        "CREATE TABLE weir_torture (at INTEGER PRIMARY KEY AUTOINCREMENT, p INTEGER, n INTEGER)",
    )
    .execute(&mut connection)
    .await?;
    connection.close().await
}

/// The rows in SQLite, in the order of their arrival.
pub(crate) async fn rows(folder: &Path) -> Result<Vec<Arrival>, sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(database(folder))
        .connect()
        .await?;
    let rows = sqlx::query("SELECT p, n FROM weir_torture ORDER BY at")
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    let arrival =
        |row: &sqlx::sqlite::SqliteRow| Arrival::of_row(|column| row.try_get(column).ok());
    Ok(rows.iter().map(arrival).collect())
}
