//! Questions to the engine that change nothing. They are answered from what is committed.

use tidemill_engine::{
    action::Refusal,
    engine::{Engine, PausePlan},
    ids::{DagId, RunKey, TaskInstanceKey},
    now::Now,
    wait_reason::{RunReason, WaitReason},
};

use crate::{
    error::{CallError, Unavailable},
    handle::Handle,
    input::{Input, ReplyTo},
};

/// How many instances of a run are explained in one answer: the loop waits meanwhile.
const EXPLAINED: usize = 2_000;

/// A question.
pub(crate) enum Question {
    /// Why a run has not ended.
    Run { run: RunKey, reply: ReplyTo<Vec<RunReason>> },
    /// The first reason of every unfinished instance of a run.
    Open { run: RunKey, reply: ReplyTo<Vec<(TaskInstanceKey, WaitReason)>> },
    /// What pausing or unpausing a DAG would change.
    Pause { dag_id: DagId, is_paused: bool, reply: ReplyTo<PausePlan> },
}

impl Question {
    /// Answers it. Whoever asked may have gone away.
    pub(crate) fn answer(self, engine: &Engine, now: Now) {
        match self {
            Self::Run { run, reply } => drop(reply.send(Ok(engine.explain_run(run, now)))),
            Self::Open { run, reply } => drop(reply.send(Ok(engine.explain_all(run, EXPLAINED, now)))),
            Self::Pause { dag_id, is_paused, reply } => {
                let plan = engine.plan_pause(&dag_id, is_paused, now);
                let _ = reply.send(plan.ok_or(CallError::Refused(Refusal::UnknownDag)));
            }
        }
    }

    /// Answers with an error.
    pub(crate) fn refuse(self, error: &Unavailable) {
        let error = CallError::from(error.clone());
        match self {
            Self::Run { reply, .. } => drop(reply.send(Err(error))),
            Self::Open { reply, .. } => drop(reply.send(Err(error))),
            Self::Pause { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

impl Handle {
    /// Returns why a run has not ended; nothing when it has.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn explain_run(&self, run: RunKey) -> Result<Vec<RunReason>, CallError> {
        self.send(|reply| Input::Ask(Question::Run { run, reply })).await
    }

    /// Returns the first reason of the unfinished instances of a run, at most 2 000 of them; nothing when it has ended.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn explain_open(&self, run: RunKey) -> Result<Vec<(TaskInstanceKey, WaitReason)>, CallError> {
        self.send(|reply| Input::Ask(Question::Open { run, reply })).await
    }

    /// Returns what [`Handle::pause`] would change.
    ///
    /// # Errors
    /// [`CallError`]: SCH0201 or unavailable.
    pub async fn would_pause(&self, dag_id: DagId, is_paused: bool) -> Result<PausePlan, CallError> {
        self.send(|reply| Input::Ask(Question::Pause { dag_id, is_paused, reply })).await
    }
}
