//! A project: rules, connectors and user functions as files, checked together (user-experience §§2–3).

pub mod cases;
pub mod check;
pub mod compare;
pub mod connector_file;
pub mod expect;
pub mod files;
pub mod format;
pub mod live_file;
pub mod rule_file;
pub mod run_test;
pub mod schema;
pub mod script_test;
pub mod watch;
