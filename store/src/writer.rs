//! The one who writes: leadership, commits and what a new leader loads.

use std::time::Duration;

use async_trait::async_trait;
use tidemill_engine::{
    ids::RunKey,
    rows::{EngineSnapshot, FinishedRun},
};

use crate::{
    access::Session,
    batch::{Batch, BatchId},
    error::{CommitError, LeadershipError, ReadError, Unreadable},
};

/// How long a PostgreSQL lease lasts after it was taken or renewed, by the database's clock.
pub const LEADER_LEASE: Duration = Duration::from_secs(6);

/// Proof of leadership, as of the moment it was taken or renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Grows with every take-over; every commit carries it.
    pub term: i64,
    /// How long it lasts without a renewal, counted from before the request was sent; absent: until the
    /// process ends.
    pub lease: Option<Duration>,
    /// Whether somebody led before and did not release it: its attempts may still be running.
    pub was_abandoned: bool,
}

/// What a new leader loads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Everything that the engine is built from.
    pub snapshot: EngineSnapshot,
    /// What had to be left out of it because it cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// The writing side. One per process; a stand-by holds one too and only asks it for leadership.
#[async_trait]
pub trait Writer: Send + Sync {
    /// Takes leadership when nobody holds it, and bumps the term.
    ///
    /// # Errors
    /// STO0207 when another server leads, else those of a commit.
    async fn take_leadership(&self, holder: &str, url: &str) -> Result<Leadership, LeadershipError>;

    /// Renews the lease of `term`. A commit renews it too.
    ///
    /// # Errors
    /// STO0201 when the term is over, STO0205 when the database did not answer.
    async fn renew(&self, term: i64) -> Result<Leadership, CommitError>;

    /// Gives leadership back, so that a stand-by takes it at once. A term that is over is not an error.
    ///
    /// # Errors
    /// STO0205 when the database did not answer.
    async fn release(&self, term: i64) -> Result<(), CommitError>;

    /// Writes a batch in one transaction under its term. A batch that was committed already is not written
    /// again and succeeds.
    ///
    /// # Errors
    /// STO0201 to STO0206; see [`CommitError`] for what each leaves behind.
    async fn commit(&self, batch: &Batch) -> Result<(), CommitError>;

    /// Tells whether a batch of the term arrived; only the newest one is asked for.
    ///
    /// # Errors
    /// STO0201 when the term is over (the engine is rebuilt then anyway), STO0205.
    async fn was_committed(&self, term: i64, batch: BatchId) -> Result<bool, CommitError>;

    /// Uses a login link: marks it as used and begins its session, once. `Ok(false)`: it is unknown, expired
    /// or was used before, and nothing was written. A transaction of its own, because losing this race is an
    /// answer for a person, not a contradiction in a batch.
    ///
    /// # Errors
    /// Those of a commit.
    async fn redeem_login_link(&self, term: i64, hash: &str, session: &Session) -> Result<bool, CommitError>;

    /// Loads everything that the engine is built from.
    ///
    /// # Errors
    /// STO0303. Rows that cannot be read are left out and listed, never an error.
    async fn load(&self) -> Result<Loaded, ReadError>;

    /// Loads one run, finished or not.
    ///
    /// # Errors
    /// STO0301, STO0303.
    async fn load_run(&self, run: RunKey) -> Result<Option<FinishedRun>, ReadError>;

    /// Moves what the write-ahead log holds into the database file, as far as no reader is in the way.
    /// SQLite only, nothing to do elsewhere; called by a timer, so that no commit pays for it.
    ///
    /// # Errors
    /// STO0205, STO0206.
    async fn checkpoint(&self) -> Result<(), CommitError>;
}
