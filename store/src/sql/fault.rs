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
    /// The schema refuses the row.
    Constraint,
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

fn kind(error: &DbErr) -> Kind {
    let Some(source) = sqlx_error(error) else {
        return match error {
            DbErr::ConnectionAcquire(_) => Kind::NoAnswer(Unavailable::Connection),
            _ => Kind::Refused(Unavailable::Other),
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
        _ => Kind::NoAnswer(Unavailable::Connection),
    }
}

fn sqlite_kind(primary: i32) -> Kind {
    match primary {
        5 | 6 => Kind::Refused(Unavailable::Busy),
        10 => Kind::NoAnswer(Unavailable::Io),
        13 => Kind::Refused(Unavailable::DiskFull),
        14 => Kind::Refused(Unavailable::Io),
        19 => Kind::Constraint,
        _ => Kind::Refused(Unavailable::Other),
    }
}

fn postgres_kind(code: &str) -> Kind {
    match code {
        "53100" => Kind::Refused(Unavailable::DiskFull),
        "55P03" | "40P01" | "40001" => Kind::Refused(Unavailable::Busy),
        _ if code.starts_with("23") || code.starts_with("22") => Kind::Constraint,
        // Shut down, crashed, or torn away: the session is gone.
        _ if code.starts_with("57P") || code.starts_with("08") => Kind::NoAnswer(Unavailable::Connection),
        _ => Kind::Refused(Unavailable::Other),
    }
}

/// An error before the commit was sent: nothing is written, whatever it is.
pub(super) fn before_commit(error: DbErr) -> CommitError {
    match kind(&error) {
        Kind::Constraint => CommitError::Constraint { run: None, what: error.to_string() },
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
        assert_eq!(sqlite_kind(787 & 0xff), Kind::Constraint);
        assert_eq!(sqlite_kind(13), Kind::Refused(Unavailable::DiskFull));
        assert_eq!(sqlite_kind(1034 & 0xff), Kind::NoAnswer(Unavailable::Io));
        assert_eq!(postgres_kind("23514"), Kind::Constraint);
        assert_eq!(postgres_kind("57P01"), Kind::NoAnswer(Unavailable::Connection));
        assert_eq!(postgres_kind("40001"), Kind::Refused(Unavailable::Busy));
    }
}
