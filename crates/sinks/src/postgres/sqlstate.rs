//! What a Postgres error means for the rows: wait, look at the row, or wait for somebody to change the schema.

use crate::sqlite::Verdict;
use crate::{SinkError, codes};

/// Sorts an error of the driver or the server.
pub(crate) fn classify(error: &sqlx::Error) -> Verdict {
    if let Some(database) = error.as_database_error() {
        let code = database.code().unwrap_or_default();
        let detail = database
            .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
            .and_then(|error| error.detail())
            .unwrap_or_default();
        return match by_sqlstate(&code, database.message()) {
            Verdict::Retry(error) => Verdict::Retry(error.detail(detail)),
            Verdict::Refused(error) => Verdict::Refused(error.detail(detail)),
        };
    }
    match error {
        sqlx::Error::PoolTimedOut => Verdict::Retry(SinkError::new(
            codes::TIMEOUT,
            "no connection to the database could be had in time",
        )),
        sqlx::Error::Tls(source) => {
            Verdict::Retry(SinkError::new(codes::TLS, "no secure connection").caused_by(&**source))
        }
        // A value that cannot be put on the wire is the row's fault.
        sqlx::Error::Encode(source) => Verdict::Refused(
            SinkError::new(codes::VALUE_NOT_STORABLE, "the value cannot be sent")
                .caused_by(&**source),
        ),
        other => Verdict::Retry(
            SinkError::new(codes::UNREACHABLE, "the database cannot be reached").caused_by(other),
        ),
    }
}

/// Sorts by SQLSTATE. What is not known to be the row's fault is waited for: nothing is lost by it.
pub(crate) fn by_sqlstate(code: &str, message: &str) -> Verdict {
    let text = format!("{message} [{code}]");
    match (code.get(..2).unwrap_or_default(), code) {
        (_, "28000" | "28P01") => Verdict::Retry(SinkError::new(codes::LOGIN, text)),
        (_, "53100") => Verdict::Retry(SinkError::new(codes::DISK_FULL, text)),
        (_, "57014") => Verdict::Retry(SinkError::new(codes::TIMEOUT, text)),
        ("08", _) => Verdict::Retry(SinkError::new(codes::UNREACHABLE, text)),
        ("40" | "53" | "55" | "57" | "58" | "XX", _)
        | (_, "25006" | "25P02" | "25P03" | "72000") => {
            Verdict::Retry(SinkError::new(codes::TRY_LATER, text))
        }
        ("22" | "23" | "44" | "54", _) | (_, "21000" | "42804" | "42846" | "P0001") => {
            Verdict::Refused(SinkError::new(codes::ROW_REFUSED, text))
        }
        _ => Verdict::Retry(SinkError::new(codes::SCHEMA, text).configuration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_way() {
        let retried = [
            "08006", "08P01", "40001", "40P01", "53100", "53200", "53300", "57P01", "57P02",
            "57P03", "57014", "55P03", "58030", "28P01", "25006", "XX000",
        ];
        for code in retried {
            let verdict = by_sqlstate(code, "m");
            assert!(
                matches!(&verdict, Verdict::Retry(error) if !error.is_configuration()),
                "{code} {verdict:?}"
            );
        }
        for code in [
            "22P02", "22001", "22003", "22008", "22021", "23505", "23502", "23514", "23503",
            "42804", "21000",
        ] {
            assert!(
                matches!(by_sqlstate(code, "m"), Verdict::Refused(_)),
                "{code}"
            );
        }
        for code in [
            "42P01", "42703", "42501", "3D000", "3F000", "42P10", "42601", "42883", "0A000",
        ] {
            let verdict = by_sqlstate(code, "m");
            assert!(
                matches!(&verdict, Verdict::Retry(error) if error.is_configuration()),
                "{code} {verdict:?}"
            );
        }
        assert!(
            matches!(by_sqlstate("53100", "m"), Verdict::Retry(error) if error.code() == "E3405")
        );
        assert!(matches!(by_sqlstate("", "m"), Verdict::Retry(_)));
    }
}
