//! Assignments: rendered just before the commit that makes them, kept for as long as their lease lasts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidemill_engine::{
    action::{Action, Assign, Notify},
    definition::Task,
    event::{AttemptResult, Event},
    ids::{AttemptKey, RunKey, TaskId},
    mask::Masker,
    now::Now,
    rows::RunRow,
    state::{TaskState, TryOutcome},
    template::{
        Context, RenderError, RenderedTask, RenderedWork, connections_of_task, needs, needs_of_task,
        render_task, render_text,
    },
};
use tidemill_protocol::worker::{Assignment, AttemptReport, LEASE_SECONDS, Work};
use tidemill_store::{ReadError, batch::OutboxChange};

use crate::{
    core::{Core, Exit},
    handle::chain,
    known::{Known, Version},
    outputs::Outputs,
    rendered::Rendered,
    tokens::token_hash,
    vault::{LoadError, VaultError},
};

/// What was rendered for live attempts, and the outputs that the next ones are likely to need.
#[derive(Debug, Default)]
pub(crate) struct Assignments {
    live: BTreeMap<AttemptKey, Assignment>,
    pub(crate) outputs: Outputs,
}

impl Assignments {
    /// Learns from an action what is not live any more.
    pub(crate) fn learn(&mut self, action: &Action) {
        match action {
            Action::Try(change) if change.row.outcome.is_some() => {
                self.live.remove(&change.row.attempt);
            }
            // A poke that found nothing; the next one is another attempt.
            Action::Task(change) if change.row.state == TaskState::UpForReschedule => {
                self.live.remove(&change.row.attempt());
            }
            Action::Task(change) if change.is_clear => self.outputs.forget(&change.row.key),
            Action::Outputs(change) => {
                self.outputs.note(change.attempt.instance.clone(), change.values.clone());
            }
            _ => {}
        }
    }

    /// Remembers the outputs of an accepted result: those that are reported in this very round are not stored
    /// yet when their downstream is rendered.
    pub(crate) fn note_outputs(&mut self, report: &AttemptReport) {
        let outputs = match report.outcome {
            TryOutcome::Success => report.outputs.clone(),
            _ => BTreeMap::new(),
        };
        self.outputs.note(report.attempt.instance.clone(), outputs);
    }

    /// Everything of the round is stored now.
    pub(crate) fn settle(&mut self) {
        self.outputs.settle();
    }

    /// Forgets the outputs of a run that has ended.
    pub(crate) fn forget_run(&mut self, run: RunKey) {
        self.outputs.forget_run(run);
    }
}

/// Why an assignment was not made.
#[derive(Debug)]
enum NotAssigned {
    /// It cannot be rendered: the attempt fails with this reason.
    Failed {
        /// Coded.
        reason: String,
        /// Whether another try would fail in the same way.
        is_final: bool,
    },
    /// The store did not answer.
    Read(ReadError),
}

impl Core {
    /// Renders what the round assigns. A task that cannot be rendered fails in the same round, which may
    /// assign more.
    pub(crate) async fn render(&mut self, now: Now) -> Result<(), Exit> {
        loop {
            self.answer_asked(now).await?;
            let assigns = std::mem::take(&mut self.round.assigns);
            if assigns.is_empty() {
                return self.render_messages().await;
            }
            for assign in assigns {
                // It may have ended within the round that assigned it.
                if self.engine.has_lease(&assign.attempt, &assign.worker) {
                    self.render_one(&assign, now).await?;
                }
            }
        }
    }

    async fn render_one(&mut self, assign: &Assign, now: Now) -> Result<(), Exit> {
        let attempt = &assign.attempt;
        let mut assignment = match self.assignments.live.get(attempt) {
            Some(assignment) => assignment.clone(),
            None => loop {
                match self.prepare(assign).await {
                    Ok(assignment) => {
                        self.recovered();
                        break assignment;
                    }
                    Err(NotAssigned::Failed { reason, is_final }) => {
                        self.fail_attempt(assign, reason, is_final, now);
                        return Ok(());
                    }
                    Err(NotAssigned::Read(error @ ReadError::Unreadable { .. })) => {
                        self.fail_attempt(assign, format!("{}: {error}", error.code()), true, now);
                        return Ok(());
                    }
                    Err(NotAssigned::Read(error)) => self.endure(chain(&error)).await?,
                }
            },
        };
        if !assign.is_redelivery {
            let rendered = Rendered {
                work: assignment.work.clone(),
                env: assignment.env.clone(),
                inputs: assignment.inputs.clone(),
                connections: assignment.connections.clone(),
                secrets: assignment.secrets.clone(),
            };
            match rendered.stored(attempt, &self.shared.vault) {
                Ok(stored) => self.round.complete_try(attempt, token_hash(&assignment.token), stored),
                Err(error) => {
                    self.fail_attempt(assign, format!("{}: {error}", error.code()), false, now);
                    return Ok(());
                }
            }
        }
        let renewed = self.known.leases.get(attempt).map_or(now.mono, |lease| lease.renewed);
        let left = (renewed + Duration::from_secs(LEASE_SECONDS)).saturating_sub(now.mono);
        assignment.lease_ms = u64::try_from(left.as_millis()).unwrap_or(0);
        self.assignments.live.insert(attempt.clone(), assignment.clone());
        self.round.assignments.push((assign.worker.clone(), assignment));
        Ok(())
    }

    /// Renders the messages that the round queues. One that cannot be rendered says so instead.
    async fn render_messages(&mut self) -> Result<(), Exit> {
        for index in std::mem::take(&mut self.round.messages) {
            let Some(OutboxChange::Insert(message)) = self.round.batch.outbox.get(index) else { continue };
            let message = message.clone();
            let text = loop {
                match self.message_text(&message).await {
                    Ok(text) => {
                        self.recovered();
                        break text;
                    }
                    Err(error @ ReadError::Unreadable { .. }) => break format!("{}: {error}", error.code()),
                    Err(error) => self.endure(chain(&error)).await?,
                }
            };
            if let Some(OutboxChange::Insert(message)) = self.round.batch.outbox.get_mut(index) {
                message.notification.message = Some(text);
            }
        }
        Ok(())
    }

    async fn message_text(&mut self, message: &Notify) -> Result<String, ReadError> {
        let about = message.task.as_ref().map(|task| format!("task {task} of ")).unwrap_or_default();
        let because = message.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let (run_id, dag_id, state) = (&message.run_id, &message.dag_id, &message.state);
        let default = format!("{about}dag run {run_id} of {dag_id} is {state}{because}");
        let run = self.known.run_named(dag_id, run_id).cloned();
        let (Some(template), Some(run)) = (&message.notification.message, run) else { return Ok(default) };
        let Some(dag) = self.known.definition(&run).map(Arc::clone) else { return Ok(default) };
        let needs = needs(template);
        let wanted = needs.outputs.keys().filter_map(|id| TaskId::new(id).ok()).collect();
        let mut context = Context::of_run(&dag, &run);
        match self.shared.vault.load(&*self.shared.reader, &needs.variables, &needs.connections).await {
            Ok(found) => (context.variables, context.connections) = (found.variables, found.connections),
            Err(LoadError::Read(error)) => return Err(error),
            Err(LoadError::Vault(error)) => return Ok(format!("{default} ({}: {error})", error.code())),
        }
        context.task_id.clone_from(&message.task);
        let version = self.known.version(&run);
        for (id, found) in self.outputs_of(run.key, version.as_deref(), &wanted).await? {
            found.enter(&id, &mut context);
        }
        let text = render_text(template, &context)
            .unwrap_or_else(|error| format!("{default} (its message could not be rendered: {error})"));
        // It is stored, and read by whoever reads the channel.
        Ok(Masker::new(&context.secrets()).mask_text(&text))
    }

    fn fail_attempt(&mut self, assign: &Assign, reason: String, is_final: bool, now: Now) {
        tracing::warn!(run.key = %assign.attempt.instance.run, task.id = %assign.attempt.instance.task, reason,
            "task could not be rendered");
        let result = AttemptResult {
            outcome: TryOutcome::Failed,
            exit_code: None,
            is_final,
            reason: Some(reason),
            follow: None,
            started_at: None,
        };
        let (attempt, worker) = (assign.attempt.clone(), assign.worker.clone());
        self.step(Event::AttemptFinished { request: None, attempt, worker, result, stored: None }, now);
    }

    async fn prepare(&mut self, assign: &Assign) -> Result<Assignment, NotAssigned> {
        let attempt = &assign.attempt;
        let (run, version, place) = subject(&mut self.known, attempt)?;
        let task = &version.dag.tasks[place];
        let Rendered { work, env, inputs, connections, secrets } = match self.rendered_before(assign).await? {
            Some(rendered) => rendered,
            None => self.render_anew(&version, &run, task, attempt).await?,
        };
        let Some(secret) = self.shared.secret() else {
            return Err(inconsistent("there is no instance secret"));
        };
        Ok(Assignment {
            attempt: attempt.clone(),
            token: secret.attempt_token(attempt),
            dag_id: run.dag_id.clone(),
            run_id: run.run_id.clone(),
            dag_file: self.known.dags.get(&run.dag_id).map(|row| row.path.clone()).unwrap_or_default(),
            work,
            env,
            inputs,
            connections,
            secrets,
            timeout_ms: task.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            skip_on_exit_code: task.skip_on_exit_code.clone(),
            fail_on_exit_code: task.fail_on_exit_code.clone(),
            lease_ms: 0,
        })
    }

    /// Returns what was rendered for an attempt before this server was started: what is delivered again is the same,
    /// whatever became of its upstreams since.
    async fn rendered_before(&self, assign: &Assign) -> Result<Option<Rendered>, NotAssigned> {
        if !assign.is_redelivery {
            return Ok(None);
        }
        let stored = self.shared.reader.rendered(&assign.attempt).await.map_err(NotAssigned::Read)?;
        let Some(stored) = stored else { return Ok(None) };
        Rendered::read(stored, &assign.attempt, &self.shared.vault).map_err(|error| sealed(&error))
    }

    async fn render_anew(
        &mut self,
        version: &Version,
        run: &RunRow,
        task: &Task,
        attempt: &AttemptKey,
    ) -> Result<Rendered, NotAssigned> {
        let (mut context, inputs) =
            self.context(version, run, task, attempt).await.map_err(NotAssigned::Read)?;
        let needs = needs_of_task(task);
        let own = task.operator.connections();
        let found = self
            .shared
            .vault
            .load(&*self.shared.reader, &needs.variables, &connections_of_task(task))
            .await
            .map_err(|error| match error {
                LoadError::Read(error) => NotAssigned::Read(error),
                LoadError::Vault(error) => sealed(&error),
            })?;
        (context.variables, context.connections) = (found.variables, found.connections);
        let secrets = context.secrets();
        if let Some(id) = own.iter().find(|id| !context.connections.contains_key(id.as_str())) {
            let error = RenderError::NoConnection { id: id.to_string() };
            return Err(NotAssigned::Failed {
                reason: format!("{}: {error}", error.code()),
                is_final: false,
            });
        }
        let rendered = render_task(&version.dag, task, &context).map_err(|failed| NotAssigned::Failed {
            // What was rendered wrongly may be quoted.
            reason: Masker::new(&secrets).mask_text(&failed.to_string()),
            // The same inputs render to the same error, but for what somebody can make meanwhile.
            is_final: !failed.error.may_pass_later(),
        })?;
        let RenderedTask { work, env } = rendered;
        let Some(work) = work else { return Err(inconsistent("an operator of the engine was assigned")) };
        let connections = own
            .iter()
            .filter_map(|id| context.connections.get(id.as_str()).map(|c| (id.to_string(), c.clone())))
            .collect();
        Ok(Rendered { work: work_of(work, version, &task.id), env, inputs, connections, secrets })
    }
}

/// The scheduler contradicts itself; the try fails, so that nothing waits for ever.
fn inconsistent(what: &str) -> NotAssigned {
    NotAssigned::Failed { reason: format!("SCH0301: {what}; please report this"), is_final: true }
}

/// A secret cannot be opened; the key may come back.
fn sealed(error: &VaultError) -> NotAssigned {
    NotAssigned::Failed { reason: format!("{}: {error}", error.code()), is_final: false }
}

/// Returns the run of an attempt, the definition that it is pinned to, and the place of the task in it.
fn subject(known: &mut Known, attempt: &AttemptKey) -> Result<(RunRow, Arc<Version>, usize), NotAssigned> {
    let key = &attempt.instance;
    let Some(run) = known.runs.get(&key.run).cloned() else {
        return Err(inconsistent("the run of an assignment is unknown"));
    };
    let Some(version) = known.version(&run) else {
        return Err(inconsistent("the definition of an assignment is unknown"));
    };
    let Some(place) = version.place(&key.task) else {
        return Err(inconsistent("the task of an assignment is not in its version"));
    };
    Ok((run, version, place))
}

pub(crate) fn work_of(work: RenderedWork, version: &Version, task: &TaskId) -> Work {
    match work {
        RenderedWork::Shell { script } => Work::Shell { script },
        RenderedWork::Exec { argv } => Work::Exec { argv },
        RenderedWork::Branch { chosen, because } => {
            let allowed = version.below(task).map(|other| other.id.clone()).collect();
            Work::Branch { chosen, because, allowed }
        }
        RenderedWork::Drift { spec, on_drift, on_stable, on_insufficient_data } => {
            Work::Drift { spec, on_drift, on_stable, on_insufficient_data }
        }
        RenderedWork::Python { spec } => Work::Python { spec },
        RenderedWork::Notify { webhook, body } => Work::Notify { webhook, body },
        RenderedWork::Http { spec, response_file } => Work::Http { spec, response_file },
        RenderedWork::Sql { spec } => Work::Sql { spec },
        RenderedWork::HttpSensor { spec, when } => Work::HttpSensor { spec, when },
        RenderedWork::SqlSensor { spec, when } => Work::SqlSensor { spec, when },
        RenderedWork::FileSensor { path } => Work::FileSensor { path },
    }
}

#[cfg(test)]
mod tests {
    use tidemill_engine::{
        definition::load,
        ids::{DagId, RunId, TaskInstanceKey},
        rows::VersionHash,
        state::{RunState, RunType},
    };

    use super::*;

    fn why(known: &mut Known, attempt: &AttemptKey) -> String {
        match subject(known, attempt) {
            Err(NotAssigned::Failed { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_assignment_that_nothing_explains_fails_with_a_code_of_its_own() {
        let dag = load(b"[dag]\nid = \"one\"\n[[task]]\nid = \"a\"\ncommand = \"x\"\n", "one.toml");
        let dag = Arc::new(dag.dag.unwrap());
        let at = "2026-11-05T12:00:00Z".parse().unwrap();
        let run = RunRow {
            key: RunKey(1),
            dag_id: DagId::new("one").unwrap(),
            run_id: RunId::new("mine").unwrap(),
            run_type: RunType::Manual,
            state: RunState::Running,
            with_failures: false,
            reason: None,
            logical_date: at,
            data_interval_start: at,
            data_interval_end: at,
            queued_at: at,
            started_at: Some(at),
            finished_at: None,
            conf: Arc::default(),
            dag_version: VersionHash("v".into()),
            cancel_requested_at: None,
            timed_out_at: None,
            triggered_by: None,
            deadline_at: None,
            deadline_missed_at: None,
            backfill: None,
            ignores_past: false,
            origin: None,
        };
        let attempt = |task: &str| AttemptKey {
            instance: TaskInstanceKey { run: RunKey(1), task: TaskId::new(task).unwrap(), map_index: -1 },
            try_number: 1,
            epoch: 1,
        };
        let mut known = Known::default();
        assert!(why(&mut known, &attempt("a")).starts_with("SCH0301: the run "));
        known.runs.insert(run.key, run.clone());
        assert!(why(&mut known, &attempt("a")).starts_with("SCH0301: the definition "));
        known.versions.insert((run.dag_id.clone(), run.dag_version.clone()), dag);
        assert!(why(&mut known, &attempt("b")).starts_with("SCH0301: the task "));
        assert_eq!(subject(&mut known, &attempt("a")).unwrap().2, 0);
    }
}
