//! What a caller of the [`Handle`](crate::Handle) may get instead of what it asked for.
//!
//! Every variant has a stable code with a page in `docs/errors/`.

use tidemill_engine::{
    action::Refusal,
    backfill::{BackfillProblem, MAX_DATES},
    definition::ConfProblem,
};

use crate::vault::VaultError;

/// Joins the sentences of problems.
pub(crate) fn sentences(problems: &[ConfProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The engine refused it; asking again changes nothing.
    #[error("{}", refusal_text(.0))]
    Refused(Refusal),
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// It may be asked again later, or elsewhere.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A request that is wrong whatever the state is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The run id begins with a prefix that Tidemill uses itself.
    #[error("the run id {run_id:?} begins with the reserved prefix `{prefix}`")]
    ReservedRunId {
        /// What was asked for.
        run_id: String,
        /// The prefix.
        prefix: &'static str,
    },
    /// `conf` does not fit the DAG's params.
    #[error("conf does not fit the params of the DAG: {}", sentences(problems))]
    Conf {
        /// Every problem.
        problems: Vec<ConfProblem>,
    },
    /// What is said about an asset event is too large.
    #[error("extra has {size_bytes} bytes; at most {limit_bytes} are kept with an event")]
    ExtraTooLarge {
        /// How large.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for a request with another body")]
    IdempotencyConflict,
    /// The worker speaks another version of the protocol.
    #[error("the worker speaks protocol {theirs}, this server speaks {ours}")]
    Protocol {
        /// The worker's.
        theirs: u32,
        /// The server's.
        ours: u32,
    },
    /// A newer incarnation of the worker, or another worker of the same name, has connected since.
    #[error("worker {worker} was replaced by a newer start of a worker with the same name")]
    Replaced {
        /// The name.
        worker: String,
    },
    /// There is no such variable or connection.
    #[error("there is no {what}")]
    NotStored {
        /// Which.
        what: String,
    },
    /// A variable or connection is defined by the server's environment.
    #[error("{what} is defined by the environment of the server, which comes first; change it there")]
    Defined {
        /// Which.
        what: String,
    },
    /// What was given cannot be kept.
    #[error("{what}")]
    Stored {
        /// What is wrong.
        what: String,
    },
    /// The attempt token does not belong to the attempt.
    #[error("the attempt token does not open this attempt")]
    AttemptToken,
    /// There is no such attempt, or retention has taken its run.
    #[error("there is no such attempt")]
    UnknownAttempt,
}

/// Not now or not here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Another server leads.
    #[error("another server leads{}", leader.as_ref().map(|url| format!(": {url}")).unwrap_or_default())]
    NotLeader {
        /// Its advertised URL, where it is known.
        leader: Option<String>,
    },
    /// The change could not be committed, and it is certain that it was not.
    #[error("the change was not stored: {reason}")]
    NotCommitted {
        /// Why.
        reason: String,
    },
    /// The store does not answer or has no space.
    #[error("the store is unavailable: {reason}")]
    Store {
        /// Why.
        reason: String,
    },
    /// Too much is waiting already.
    #[error("too many requests are waiting")]
    Overloaded,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A log could not be read or written.
    #[error("{reason}")]
    Log {
        /// Why.
        reason: String,
    },
}

impl CallError {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal_code(refusal),
            Self::Invalid(invalid) => invalid.code(),
            Self::Unavailable(unavailable) => unavailable.code(),
        }
    }
}

impl InvalidRequest {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ReservedRunId { .. } => "SCH0213",
            Self::Conf { .. } => "SCH0214",
            Self::ExtraTooLarge { .. } => "SCH0231",
            Self::IdempotencyConflict => "SCH0215",
            Self::Protocol { .. } => "SCH0401",
            Self::Replaced { .. } => "SCH0402",
            Self::AttemptToken => "SCH0403",
            Self::UnknownAttempt => "SCH0404",
            Self::NotStored { .. } => "SCH0245",
            Self::Defined { .. } => "SCH0247",
            Self::Stored { .. } => "SCH0248",
        }
    }
}

impl Unavailable {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotLeader { .. } => "SCH0101",
            Self::NotCommitted { .. } => "SCH0102",
            Self::Store { .. } => "SCH0103",
            Self::Overloaded => "SCH0104",
            Self::Stopping => "SCH0105",
            Self::Log { .. } => "SCH0106",
            Self::Vault(error) => error.code(),
        }
    }
}

/// Returns the stable code of a refusal.
#[must_use]
pub const fn refusal_code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownDag => "SCH0201",
        Refusal::MissingDag => "SCH0202",
        Refusal::UnknownRun => "SCH0203",
        Refusal::UnknownTask(_) => "SCH0204",
        Refusal::RunIdTaken(_) => "SCH0205",
        Refusal::RunEnded(_) => "SCH0206",
        Refusal::HasActiveRuns(_) => "SCH0207",
        Refusal::FileExists(_) => "SCH0208",
        Refusal::OutsideDates => "SCH0209",
        Refusal::PoolProtected => "SCH0210",
        Refusal::UnknownPool => "SCH0211",
        Refusal::NotMarkable => "SCH0212",
        Refusal::UnknownElement(_) => "SCH0114",
        Refusal::RunEnding => "SCH0216",
        Refusal::RunActive => "SCH0217",
        Refusal::NotPaused => "SCH0218",
        Refusal::UnknownAsset(_) => "SCH0230",
        Refusal::UnknownBackfill => "SCH0220",
        Refusal::Backfill(BackfillProblem::NoDates) => "SCH0221",
        Refusal::Backfill(BackfillProblem::TooManyDates) => "SCH0222",
        Refusal::BackfillOverlaps(_) => "SCH0223",
        Refusal::Backfill(BackfillProblem::PastBackwards) => "SCH0224",
        Refusal::BackfillEnded(_) => "SCH0225",
        Refusal::Backfill(BackfillProblem::BadRange(_)) => "SCH0227",
    }
}

fn backfill_text(problem: &BackfillProblem) -> String {
    match problem {
        BackfillProblem::BadRange(why) => why.clone(),
        BackfillProblem::NoDates => "the DAG has no date there that lies wholly in the past".into(),
        BackfillProblem::TooManyDates => {
            format!("the DAG has more than {MAX_DATES} dates there; take a part at a time")
        }
        BackfillProblem::PastBackwards => {
            "a task of the DAG asks for the run before it, so its dates cannot run backwards".into()
        }
    }
}

/// Returns a refusal as a sentence without a full stop, for people.
#[must_use]
pub fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::UnknownDag => "there is no such DAG".into(),
        Refusal::MissingDag => "the file of the DAG is missing, so there is no definition to run".into(),
        Refusal::UnknownRun => "there is no such dag run".into(),
        Refusal::UnknownTask(task) => format!("the run's version of the DAG has no task {task}"),
        Refusal::RunIdTaken(run_id) => format!("a dag run with the id {run_id} exists"),
        Refusal::RunEnded(state) => format!("the dag run has ended as {state}"),
        Refusal::HasActiveRuns(count) => format!("the DAG has {count} active runs; cancel them first"),
        Refusal::FileExists(path) => format!("the file {path} still exists; remove it first"),
        Refusal::OutsideDates => "the logical date lies outside start_date and end_date".into(),
        Refusal::PoolProtected => "this pool cannot be deleted".into(),
        Refusal::UnknownPool => "there is no such pool".into(),
        Refusal::NotMarkable => "this state cannot be given by hand".into(),
        Refusal::UnknownElement(name) => format!("the run has no task instance {name}"),
        Refusal::RunEnding => "the dag run is being cancelled or timed out; wait for its end".into(),
        Refusal::RunActive => "the dag run is active, and this is for finished ones".into(),
        Refusal::UnknownAsset(asset) => {
            format!("no DAG file names the asset {asset}, neither in `outlets` nor in a schedule")
        }
        Refusal::NotPaused => "the dag run is not paused, so there is nothing to resume".into(),
        Refusal::UnknownBackfill => "there is no such backfill".into(),
        Refusal::BackfillEnded(state) => format!("the backfill is {state} and does not go on"),
        Refusal::BackfillOverlaps(other) => {
            format!("backfill {other} of this DAG has some of these dates and has not ended")
        }
        Refusal::Backfill(problem) => backfill_text(problem),
    }
}
