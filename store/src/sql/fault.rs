//! What a database's error means for a commit: written, not written, or not known.

use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr, sqlx};

use crate::{
    batch::BatchId,
    error::{CommitError, Unavailable},
};

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The same statement with the same rows gets the same answer again: trying it again is of no use, and
    /// whoever asked for it has to be found.
    Deterministic,
    /// The database answered that it cannot do it now.
    Refused(Unavailable),
    /// The connection broke, or the file system failed under the database: the answer is missing.
    NoAnswer(Unavailable),
}

fn sqlx_error(error: &DbErr) -> Option<&Arc<sqlx::Error>> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(source))
        | DbErr::Exec(RuntimeErr::SqlxError(source))
        | DbErr::Query(RuntimeErr::SqlxError(source)) => Some(source),
        _ => None,
    }
}

/// Only what is known to pass is told apart from the rest: an unknown error that is repeated for ever would stop
/// every DAG, one that is blamed on a batch stops at worst the rows of that batch.
fn kind(error: &DbErr) -> Kind {
    let Some(source) = sqlx_error(error) else {
        return match error {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Kind::NoAnswer(Unavailable::Connection),
            // The leader's row is part of the schema; without it nothing can be written at all.
            DbErr::RecordNotFound(_) => Kind::Refused(Unavailable::Other),
            _ => Kind::Deterministic,
        };
    };
    match source.as_ref() {
        sqlx::Error::Database(answer) => {
            let code = answer.code();
            let code = code.as_deref().unwrap_or_default();
            match code.parse::<i32>() {
                // PostgreSQL's codes have five characters; SQLite's extended codes carry the primary in a byte.
                Ok(number) if code.len() < 5 => sqlite_kind(number & 0xff),
                _ => postgres_kind(code),
            }
        }
        sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::InvalidArgument(_) => Kind::Deterministic,
        _ => Kind::NoAnswer(Unavailable::Connection),
    }
}

fn sqlite_kind(primary: i32) -> Kind {
    match primary {
        // Locked, or overtaken by a change of the schema.
        5 | 6 | 15 | 17 => Kind::Refused(Unavailable::Busy),
        // No memory, read-only, interrupted: of the machine, not of the rows.
        7..=9 => Kind::Refused(Unavailable::Other),
        10 => Kind::NoAnswer(Unavailable::Io),
        13 => Kind::Refused(Unavailable::DiskFull),
        // A file that is damaged, missing or none of ours: no row is to blame.
        11 | 14 | 22 | 26 => Kind::Refused(Unavailable::Io),
        _ => Kind::Deterministic,
    }
}

fn postgres_kind(code: &str) -> Kind {
    let class = code.get(..2).unwrap_or_default();
    match (class, code) {
        (_, "53100") => Kind::Refused(Unavailable::DiskFull),
        (_, "57014") => Kind::Refused(Unavailable::Slow),
        (_, "55P03" | "40P01" | "40001") => Kind::Refused(Unavailable::Busy),
        // It ended, and whether as a commit is unknown; or the session was ended for idling in a transaction.
        (_, "40003" | "25P03") => Kind::NoAnswer(Unavailable::Connection),
        // Shut down, crashed, or torn away: the session is gone.
        ("08", _) => Kind::NoAnswer(Unavailable::Connection),
        _ if code.starts_with("57P") => Kind::NoAnswer(Unavailable::Connection),
        ("58", _) | (_, "XX001" | "XX002") => Kind::NoAnswer(Unavailable::Io),
        // Too little of something, nobody let in, a read-only replica, a schema that is not ours: no row is to
        // blame, and a person can put it right while we wait.
        ("53" | "28" | "3D" | "3F", _) | (_, "25006" | "42501" | "42P01" | "42703") => {
            Kind::Refused(Unavailable::Other)
        }
        _ => Kind::Deterministic,
    }
}

/// An error before the commit was sent: nothing is written, whatever it is.
pub(super) fn before_commit(error: DbErr) -> CommitError {
    match kind(&error) {
        Kind::Deterministic => CommitError::Constraint { run: None, what: error.to_string() },
        Kind::Refused(why) | Kind::NoAnswer(why) => CommitError::Unavailable { why, source: error },
    }
}

/// An error in answer to the commit itself: without an answer nobody knows.
pub(super) fn at_commit(error: DbErr, batch: BatchId) -> CommitError {
    match kind(&error) {
        Kind::NoAnswer(_) => CommitError::Ambiguous { batch, source: error },
        _ => before_commit(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sea_orm::{DbErr, RuntimeErr, sqlx};

    use super::{Kind, Unavailable, at_commit, before_commit, postgres_kind, sqlite_kind};
    use crate::{BatchId, CommitError};

    #[test]
    fn only_a_commit_without_an_answer_is_ambiguous() {
        let torn = || {
            let source = sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
            DbErr::Query(RuntimeErr::SqlxError(Arc::new(source)))
        };
        assert!(matches!(at_commit(torn(), BatchId(7)), CommitError::Ambiguous { batch: BatchId(7), .. }));
        let before = before_commit(torn());
        assert!(matches!(before, CommitError::Unavailable { why: Unavailable::Connection, .. }), "{before}");
    }

    #[test]
    fn codes_are_told_apart() {
        assert_eq!(sqlite_kind(787 & 0xff), Kind::Deterministic);
        assert_eq!(sqlite_kind(13), Kind::Refused(Unavailable::DiskFull));
        assert_eq!(sqlite_kind(1034 & 0xff), Kind::NoAnswer(Unavailable::Io));
        assert_eq!(postgres_kind("23514"), Kind::Deterministic);
        assert_eq!(postgres_kind("57P01"), Kind::NoAnswer(Unavailable::Connection));
        assert_eq!(postgres_kind("40001"), Kind::Refused(Unavailable::Busy));
        assert_eq!(postgres_kind("57014"), Kind::Refused(Unavailable::Slow));
    }

    /// What the database answers the same way every time is never taken for an outage.
    #[test]
    fn only_known_passing_errors_are_unavailable() {
        // Two rows of one key in an upsert, a row too big, too complex, not supported, out of range, an error of ours.
        for code in ["21000", "54000", "0A000", "22003", "42804", "42601", "XX000", "", "nonsense"] {
            assert_eq!(postgres_kind(code), Kind::Deterministic, "{code}");
        }
        for primary in [1, 18, 19, 20, 21, 25, 99] {
            assert_eq!(sqlite_kind(primary), Kind::Deterministic, "{primary}");
        }
        for code in ["08006", "53300", "28000", "25006", "58030", "42501", "57P03", "25P03"] {
            assert_ne!(postgres_kind(code), Kind::Deterministic, "{code}");
        }
        let custom = before_commit(DbErr::Custom("a bug".to_owned()));
        assert!(matches!(custom, CommitError::Constraint { .. }), "{custom}");
    }
}
