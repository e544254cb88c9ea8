//! What the engine asks for and what templates see: loaded and rendered within the round, before its commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidemill_engine::{
    definition::Task,
    event::Event,
    ids::{AttemptKey, RunKey, TaskId, TaskInstanceKey},
    now::Now,
    preparation::{FoundRun, Preparation, Prepared, Unprepared},
    rows::RunRow,
    state::RunType,
    template::{Context, MappedOutputs, Needs, needs_of_preparation, needs_of_task, prepare},
};
use tidemill_store::ReadError;

use crate::{
    core::{Core, Exit},
    handle::chain,
    known::Version,
    outputs::Values,
    tokens::random_suffix,
    vault::LoadError,
};

/// How many questions to the store are answered between two commits.
const ANSWERED_PER_ROUND: usize = 100;

/// Outputs of upstreams, as a task finds them in `$TIDEMILL_INPUTS`: an object by key, of a mapped task a list of them.
pub(crate) type Inputs = BTreeMap<String, serde_json::Value>;

/// Outputs of one task of a run.
pub(crate) enum Found {
    /// Of its only instance.
    One(Values),
    /// Of its elements.
    Elements(MappedOutputs),
}

impl Core {
    /// Answers what the engine asks for, until it asks no more.
    pub(crate) async fn answer_asked(&mut self, now: Now) -> Result<(), Exit> {
        loop {
            let questions = self.engine.unprepared();
            if questions.is_empty() {
                return Ok(());
            }
            for asked in questions {
                self.answer(asked, now).await?;
            }
        }
    }

    /// Answers what the engine asks of the store. What is read must be all that was decided, so an open round is
    /// committed first and this comes back: a DAG that triggers itself costs a commit each time, and holds nobody up.
    pub(crate) async fn answer_stored(&mut self, now: Now) -> Result<(), Exit> {
        if !self.engine.asks_store() {
            return Ok(());
        }
        if !self.round.is_clean() {
            self.round.is_urgent = true;
            return Ok(());
        }
        for asked in self.engine.unprepared_stored().into_iter().take(ANSWERED_PER_ROUND) {
            // What an answer has made may be what this question is about.
            if asked.what == Preparation::Runs && !self.round.batch.runs.is_empty() {
                break;
            }
            self.answer(asked, now).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, asked: Unprepared, now: Now) -> Result<(), Exit> {
        let result = loop {
            match self.prepared(&asked).await {
                Ok(result) => {
                    self.recovered();
                    break result;
                }
                Err(error @ ReadError::Unreadable { .. }) => {
                    break Err(format!("{}: {error}", error.code()));
                }
                Err(error) => self.endure(chain(&error)).await?,
            }
        };
        let Unprepared { instance, what } = asked;
        if let Err(reason) = &result {
            tracing::warn!(run.key = %instance.run, task.id = %instance.task, reason, "not prepared");
        }
        self.step(Event::Prepared { instance, what, result }, now);
        Ok(())
    }

    /// Adds what only the shell knows.
    async fn complete(&self, prepared: Prepared) -> Result<Result<Prepared, String>, ReadError> {
        Ok(match prepared {
            Prepared::Trigger(mut plan) => {
                plan.suffix = match random_suffix() {
                    Ok(suffix) => suffix,
                    Err(error) => return Ok(Err(format!("SCH0271: no run was triggered: {error}"))),
                };
                if let Some(run_id) = &plan.run_id {
                    let is_its = |row: &RunRow| row.dag_id == plan.dag_id && row.run_id == *run_id;
                    let in_round = self.round.batch.runs.iter().any(|change| is_its(&change.row));
                    plan.is_run_id_taken =
                        in_round || self.shared.reader.run(&plan.dag_id, run_id).await?.is_some();
                }
                Ok(Prepared::Trigger(plan))
            }
            Prepared::Runs(mut asked) => {
                let found = self.shared.reader.run_on(&asked.dag_id, asked.logical_date).await?;
                asked.found = found.as_ref().map(FoundRun::of);
                Ok(Prepared::Runs(asked))
            }
            other => Ok(other),
        })
    }

    async fn prepared(&mut self, asked: &Unprepared) -> Result<Result<Prepared, String>, ReadError> {
        let key = &asked.instance;
        let inconsistent = |what: &str| Ok(Err(format!("SCH0301: {what}; please report this")));
        let Some(run) = self.known.runs.get(&key.run).cloned() else {
            return inconsistent("the run of a question is unknown");
        };
        let Some(version) = self.known.version(&run) else {
            return inconsistent("the definition of a question is unknown");
        };
        let Some(task) = version.task(&key.task) else {
            return inconsistent("the task of a question is not in its version");
        };
        let needs = needs_of_preparation(task, asked.what);
        let attempt = AttemptKey { instance: key.clone(), try_number: 0, epoch: 0 };
        let (mut context, _) = self.gather(&version, &run, task, &attempt, &needs, BTreeSet::new()).await?;
        match self.shared.vault.load(&*self.shared.reader, &needs.variables, &needs.connections).await {
            Ok(found) => (context.variables, context.connections) = (found.variables, found.connections),
            Err(LoadError::Read(error)) => return Err(error),
            Err(LoadError::Vault(error)) => return Ok(Err(format!("{}: {error}", error.code()))),
        }
        if !context.secrets().is_empty() {
            let key = asked.what.as_str();
            return Ok(Err(format!(
                "SCH0244: `{key}` names a secret, and what it gives is stored and shown in plain text"
            )));
        }
        match prepare(task, asked.what, &context) {
            Ok(prepared) => self.complete(prepared).await,
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Gathers what the templates of a task can see, and the outputs of its direct upstreams.
    pub(crate) async fn context(
        &mut self,
        version: &Version,
        run: &RunRow,
        task: &Task,
        attempt: &AttemptKey,
    ) -> Result<(Context, Inputs), ReadError> {
        let direct = task.depends_on.iter().cloned().collect();
        self.gather(version, run, task, attempt, &needs_of_task(task), direct).await
    }

    async fn gather(
        &mut self,
        version: &Version,
        run: &RunRow,
        task: &Task,
        attempt: &AttemptKey,
        needs: &Needs,
        direct: BTreeSet<TaskId>,
    ) -> Result<(Context, Inputs), ReadError> {
        let instance = &attempt.instance;
        let mut wanted = direct;
        wanted.extend(needs.outputs.keys().filter_map(|id| TaskId::new(id).ok()));
        if needs.all_outputs {
            wanted.extend(upstreams(version, &task.id));
        }
        wanted.retain(|id| version.task(id).is_some_and(|task| task.operator.has_outputs()));
        let found = self.outputs_of(run.key, Some(version), &wanted).await?;
        let mut context = Context::of_try(
            &version.dag,
            run,
            &task.id,
            attempt.try_number,
            attempt.epoch,
            instance.map_index,
        );
        context.map_value = self.engine.map_value(instance);
        if needs.previous_success {
            let previous = self.shared.reader.previous_success(&run.dag_id, run.logical_date).await?;
            context.prev_data_interval_start_success = previous.as_ref().map(|row| row.data_interval_start);
            context.prev_data_interval_end_success = previous.as_ref().map(|row| row.data_interval_end);
        }
        if needs.asset_events && run.run_type == RunType::Asset {
            context.set_asset_events(&self.causes_of(run).await?);
        }
        let mut inputs = BTreeMap::new();
        for (id, found) in found {
            if task.depends_on.contains(&id)
                && let Some(input) = found.input()
            {
                inputs.insert(id.to_string(), input);
            }
            found.enter(&id, &mut context);
        }
        Ok((context, inputs))
    }

    /// Returns the outputs of tasks of a run: those of the open round and those that are remembered first.
    pub(crate) async fn outputs_of(
        &mut self,
        run: RunKey,
        version: Option<&Version>,
        tasks: &BTreeSet<TaskId>,
    ) -> Result<BTreeMap<TaskId, Found>, ReadError> {
        let is_mapped =
            |id: &TaskId| version.and_then(|version| version.task(id)).is_some_and(|task| task.map.is_some());
        let (mapped, plain): (Vec<TaskId>, Vec<TaskId>) = tasks.iter().cloned().partition(is_mapped);
        let mut found = self.plain_outputs(run, plain).await?;
        for task in mapped {
            let elements = self.mapped_outputs(run, &task).await?;
            found.insert(task, Found::Elements(elements));
        }
        Ok(found)
    }

    async fn plain_outputs(
        &mut self,
        run: RunKey,
        tasks: Vec<TaskId>,
    ) -> Result<BTreeMap<TaskId, Found>, ReadError> {
        let key = |task: &TaskId| TaskInstanceKey { run, task: task.clone(), map_index: -1 };
        let mut found: BTreeMap<TaskId, Found> = BTreeMap::new();
        let mut missing = Vec::new();
        for task in tasks {
            match self.assignments.outputs.get(&key(&task)) {
                Some(values) => drop(found.insert(task, Found::One(values))),
                None => missing.push(task),
            }
        }
        if !missing.is_empty() {
            let mut stored = self.shared.reader.run_outputs(run, &missing).await?;
            for task in missing {
                let values = Arc::new(stored.remove(&task).unwrap_or_default());
                self.assignments.outputs.remember(key(&task), Arc::clone(&values));
                found.insert(task, Found::One(values));
            }
        }
        Ok(found)
    }

    /// Returns the outputs of a mapped task by element. One look-up reads them all, however many are missing.
    async fn mapped_outputs(&mut self, run: RunKey, task: &TaskId) -> Result<MappedOutputs, ReadError> {
        // A run that has ended, or a task that was not expanded.
        let Some(length) = self.engine.map_length(run, task) else {
            if self.known.runs.get(&run).is_some_and(|row| !row.state.is_terminal()) {
                return Ok(MappedOutputs::default());
            }
            let stored = self.shared.reader.mapped_outputs(run, task).await?;
            let length = stored.keys().next_back().map_or(0, |last| usize::try_from(last + 1).unwrap_or(0));
            let mut elements = vec![None; length];
            for (index, values) in stored {
                if let Some(place) = usize::try_from(index).ok().and_then(|index| elements.get_mut(index)) {
                    *place = Some(Arc::new(values));
                }
            }
            return Ok(MappedOutputs(elements));
        };
        let key = |position: usize| TaskInstanceKey {
            run,
            task: task.clone(),
            map_index: i32::try_from(position).unwrap_or(i32::MAX),
        };
        let mut elements: Vec<Option<Values>> =
            (0..length).map(|position| self.assignments.outputs.get(&key(position))).collect();
        if elements.contains(&None) {
            let mut stored = self.shared.reader.mapped_outputs(run, task).await?;
            for (position, place) in elements.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
                let index = i32::try_from(position).unwrap_or(i32::MAX);
                let values: Values = Arc::new(stored.remove(&index).unwrap_or_default());
                self.assignments.outputs.remember(key(position), Arc::clone(&values));
                *place = Some(values);
            }
        }
        let filled = elements.into_iter().map(|values| values.filter(|values| !values.is_empty()));
        Ok(MappedOutputs(filled.collect()))
    }
}

impl Found {
    /// Returns what a task below finds in its file; nothing when there are no outputs.
    fn input(&self) -> Option<serde_json::Value> {
        match self {
            Self::One(values) if values.is_empty() => None,
            Self::One(values) => {
                let members = values.iter().map(|(key, value)| (key.clone(), value.clone()));
                Some(serde_json::Value::Object(members.collect()))
            }
            Self::Elements(elements) => (!elements.0.is_empty()).then(|| elements.to_json()),
        }
    }

    /// Lets templates see it.
    pub(crate) fn enter(self, task: &TaskId, context: &mut Context) {
        match self {
            Self::One(values) => drop(context.outputs.insert(task.to_string(), (*values).clone())),
            Self::Elements(elements) => drop(context.mapped_outputs.insert(task.to_string(), elements)),
        }
    }
}

/// Returns everything above a task.
fn upstreams(version: &Version, task: &TaskId) -> BTreeSet<TaskId> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&TaskId> = vec![task];
    while let Some(next) = open.pop() {
        for above in version.task(next).map(|task| task.depends_on.as_slice()).unwrap_or_default() {
            if found.insert(above.clone()) {
                open.push(above);
            }
        }
    }
    found
}
