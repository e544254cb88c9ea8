//! Runs of other DAGs: triggered by a task, or waited for by one.
//!
//! What a `trigger_dag` or a `dag_run_sensor` needs from templates and from the store it asks for ([`crate::preparation`]),
//! and the loop answers from a store that has everything committed. A triggered run is made in the step that moves its
//! task, so there is exactly one for each time that the task begins, whatever crashes.
//!
//! A `dag_run_sensor` asks again whenever a run that it may mean is made, ends or begins anew; nothing of that is stored, so
//! after a rebuild it asks again, too. A `trigger_dag` that waits knows its run by what stands in the row of that
//! (`origin`): it is the newest one of the task that has not ended.

use chrono::{DateTime, Utc};

use super::{
    Engine, Instance, Out,
    run::{Change, Run},
    schedule::Wanted,
};
use crate::{
    action::{Action, OutputsChange, Refusal},
    definition::{Operator, RunWait},
    ids::{DagId, RunKey},
    preparation::{FoundRun, Preparation, RunAsked, TriggerPlan},
    rows::RunRow,
    state::TaskState,
    wait_reason::WaitReason,
};

/// Which runs a sensor watches: those of a DAG with a logical date, or all of them.
pub(super) type Watched = (DagId, Option<DateTime<Utc>>);

/// What a `dag_run_sensor` watches, and what it has seen.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) of: Watched,
    pub(super) seen: Option<FoundRun>,
}

impl Engine {
    /// Triggers a run, in the step that ends its task or lets it wait.
    pub(super) fn trigger_planned(&mut self, instance: Instance, plan: TriggerPlan, out: &mut Out) {
        let (key, ix) = instance;
        let Some(run) = self.runs.get(&key) else { return };
        let Operator::TriggerDag { spec } = &run.graph.task(ix.task).operator else { return };
        let (does_wait, origin) = (spec.wait, run.instances[ix].row.key.clone());
        let by = format!("task {} of dag run {} of {}", origin.name(), run.row.run_id, run.row.dag_id);
        let wanted = Wanted {
            run_id: plan.run_id,
            logical_date: plan.logical_date,
            conf: plan.conf,
            triggered_by: Some(by),
            suffix: plan.suffix,
            is_run_id_taken: plan.is_run_id_taken,
            backfill: None,
            origin: Some(origin),
        };
        let made = self.check_triggered(&plan.dag_id, &wanted).and_then(|()| {
            self.request_run(&plan.dag_id, wanted, out).map_err(|refusal| refused(&plan.dag_id, &refusal))
        });
        let child = match made {
            Ok(row) => row,
            Err(why) => {
                let reason = format!("SCH0271: no run was triggered: {why}");
                return self.finish(instance, TaskState::Failed, out, |row| row.reason = Some(reason));
            }
        };
        let Some(run) = self.runs.get_mut(&key) else { return };
        let attempt = run.attempt(ix);
        let values = [("dag_id", child.dag_id.to_string()), ("run_id", child.run_id.to_string())];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        out.actions.push(Action::Outputs(OutputsChange { attempt, values }));
        if does_wait {
            run.instances[ix].child = Some(child.key);
            self.wait_for_other(instance, out);
        } else {
            let now = out.now.wall;
            self.finish(instance, TaskState::Success, out, |row| row.started_at = Some(now));
        }
    }

    /// What a person would be told before a run is triggered.
    fn check_triggered(&self, dag_id: &DagId, wanted: &Wanted) -> Result<(), String> {
        if let Some(id) = wanted.run_id.as_ref().filter(|id| id.is_reserved()) {
            return Err(format!("the run id {id} begins like one that is made"));
        }
        let Some(entry) = self.dags.get(dag_id) else { return Ok(()) };
        crate::definition::check_conf(&entry.graph.dag, &wanted.conf).map(drop).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("{dag_id} refuses its conf: {}", problems.join("; "))
        })
    }

    /// A run has ended: the task that triggered it and waits goes on.
    pub(super) fn child_ended(&mut self, child: RunKey, out: &mut Out) {
        let Some(run) = self.runs.get(&child) else { return };
        let (row, Some(origin)) = (run.row.clone(), run.row.origin.as_ref()) else { return };
        let Some((key, ix)) = self.locate(origin) else { return };
        let Some(parent) = self.runs.get(&key) else { return };
        let Operator::TriggerDag { spec } = &parent.graph.task(ix.task).operator else { return };
        if parent.instances[ix].child != Some(child) {
            return;
        }
        if spec.allowed_states.contains(&row.state) {
            return self.finish((key, ix), TaskState::Success, out, |_| {});
        }
        let reason = ended(&FoundRun::of(&row), &row.dag_id);
        self.finish((key, ix), TaskState::Failed, out, |row| row.reason = Some(reason));
    }

    /// Takes in which run a `dag_run_sensor` means now.
    pub(super) fn run_found(&mut self, instance: Instance, asked: RunAsked, out: &mut Out) {
        let (key, ix) = instance;
        let Some(run) = self.runs.get(&key) else { return };
        let Operator::DagRunSensor { wait } = &run.graph.task(ix.task).operator else { return };
        let RunAsked { dag_id, logical_date, found } = asked;
        match verdict(wait, &dag_id, logical_date, found.as_ref()) {
            Some(Ok(())) => {
                let now = out.now.wall;
                self.finish(instance, TaskState::Success, out, |row| {
                    row.started_at.get_or_insert(now);
                });
            }
            Some(Err(reason)) => {
                let state = if wait.soft_fail { TaskState::Skipped } else { TaskState::Failed };
                self.finish(instance, state, out, |row| row.reason = Some(reason));
            }
            None => {
                self.unwatch(instance);
                let of = (dag_id, logical_date);
                self.watchers.entry(of.clone()).or_default().insert(instance);
                if let Some(run) = self.runs.get_mut(&key) {
                    run.instances[ix].watch = Some(Box::new(Watch { of, seen: found }));
                }
                self.wait_for_other(instance, out);
            }
        }
    }

    /// Lets an instance wait for another run, unless it does already.
    fn wait_for_other(&mut self, (key, ix): Instance, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        if run.instances[ix].row.state != TaskState::NoStatus {
            return;
        }
        let now = out.now.wall;
        let whole = run.graph.task(ix.task).timeout.and_then(|whole| chrono::TimeDelta::from_std(whole).ok());
        let gives_up = whole.and_then(|whole| now.checked_add_signed(whole)).unwrap_or(now);
        out.actions.push(run.change_task(ix, Change::Durable, |row| {
            row.state = TaskState::UpForReschedule;
            row.scheduled_at = Some(now);
            row.started_at = Some(now);
            row.first_poke_at = Some(now);
            // Nothing comes by time but the end of the wait.
            row.next_poke_at = Some(gives_up);
        }));
        self.begin_to_wait((key, ix), out.now);
    }

    /// A run was made, has ended or begins anew: whoever watches it looks again.
    pub(super) fn tell_watchers(&mut self, row: &RunRow) {
        for date in [Some(row.logical_date), None] {
            let watching = self.watchers.get(&(row.dag_id.clone(), date));
            for instance in watching.into_iter().flatten().copied().collect::<Vec<_>>() {
                self.ask(instance, Preparation::Runs);
            }
        }
    }

    /// Forgets what an instance watches.
    pub(super) fn unwatch(&mut self, (key, ix): Instance) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        run.instances[ix].child = None;
        let Some(watch) = run.instances[ix].watch.take() else { return };
        if let Some(watching) = self.watchers.get_mut(&watch.of) {
            watching.remove(&(key, ix));
            if watching.is_empty() {
                self.watchers.remove(&watch.of);
            }
        }
    }

    /// Finds the runs again that tasks wait for, after a rebuild.
    pub(super) fn restore_children(&mut self) {
        let origins: Vec<_> =
            self.runs.values().filter_map(|run| Some((run.row.key, run.row.origin.clone()?))).collect();
        // In the order of their numbers, so the newest one stays.
        for (child, origin) in origins {
            let Some((key, ix)) = self.locate(&origin) else { continue };
            if let Some(record) = self.runs.get_mut(&key).map(|run| &mut run.instances[ix])
                && record.row.state == TaskState::UpForReschedule
            {
                record.child = Some(child);
            }
        }
    }

    /// Ends what waits for a run that is gone: one that the engine could not take in was ended in the store.
    pub(super) fn end_orphans(&mut self, out: &mut Out) {
        let is_orphan = |run: &Run, ix| {
            let record: &super::run::InstanceRecord = &run.instances[ix];
            record.row.state == TaskState::UpForReschedule && record.child.is_none()
        };
        let mut orphans = Vec::new();
        for (key, run) in &self.runs {
            let triggers = (0..run.graph.len())
                .filter(|task| matches!(run.graph.task(*task).operator, Operator::TriggerDag { .. }));
            let waiting = triggers.flat_map(|task| run.of_task_in(task, TaskState::UpForReschedule));
            orphans.extend(waiting.filter(|ix| is_orphan(run, *ix)).map(|ix| (*key, ix)));
        }
        for instance in orphans {
            let reason = "SCH0272: the run that it waits for was set aside".to_owned();
            self.finish(instance, TaskState::Failed, out, |row| row.reason = Some(reason));
        }
    }

    /// Says which run an instance waits for; absent: it waits for none.
    pub(super) fn waits_for_other(
        &self,
        run: &Run,
        ix: super::instances::InstanceIndex,
    ) -> Option<WaitReason> {
        let record = &run.instances[ix];
        let until = super::sensor::end_of_wait(run, ix);
        match &run.graph.task(ix.task).operator {
            Operator::TriggerDag { .. } => {
                let child = record.child.and_then(|child| self.runs.get(&child));
                child.map(|child| WaitReason::OtherRun {
                    dag_id: child.row.dag_id.clone(),
                    logical_date: Some(child.row.logical_date),
                    run_id: Some(child.row.run_id.clone()),
                    state: Some(child.row.state),
                    until,
                })
            }
            Operator::DagRunSensor { .. } => Some(match &record.watch {
                None => WaitReason::Preparing { what: Preparation::Runs },
                Some(watch) => WaitReason::OtherRun {
                    dag_id: watch.of.0.clone(),
                    logical_date: watch.of.1,
                    run_id: watch.seen.as_ref().map(|seen| seen.run_id.clone()),
                    state: watch.seen.as_ref().map(|seen| seen.state),
                    until,
                },
            }),
            _ => None,
        }
    }
}

/// What a `dag_run_sensor` makes of the run that was found; `None`: it waits.
fn verdict(
    wait: &RunWait,
    dag_id: &DagId,
    date: Option<DateTime<Utc>>,
    found: Option<&FoundRun>,
) -> Option<Result<(), String>> {
    match found {
        None if wait.missing_fails => {
            let of = date.map(|date| format!(" for {}", date.format("%Y-%m-%dT%H:%M:%SZ")));
            Some(Err(format!("SCH0273: {dag_id} has no run{}", of.unwrap_or_default())))
        }
        Some(run) if wait.allowed_states.contains(&run.state) => Some(Ok(())),
        Some(run) if run.state.is_terminal() && !wait.wait_on_failure => Some(Err(ended(run, dag_id))),
        _ => None,
    }
}

fn ended(run: &FoundRun, dag_id: &DagId) -> String {
    format!("SCH0272: dag run {} of {dag_id} ended as {}", run.run_id, run.state)
}

/// Says why a run was refused.
fn refused(dag_id: &DagId, refusal: &Refusal) -> String {
    match refusal {
        Refusal::UnknownDag => format!("there is no DAG {dag_id}"),
        Refusal::MissingDag => format!("the file of {dag_id} is gone"),
        Refusal::OutsideDates => format!("the logical date lies outside start_date and end_date of {dag_id}"),
        Refusal::RunIdTaken(id) => format!("{dag_id} has a run {id} already"),
        other => format!("{dag_id} refuses it ({other:?})"),
    }
}
