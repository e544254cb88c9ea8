//! Asking for what must be prepared, taking the answer; and what becomes of the elements of mapped tasks.
//!
//! A mapped task has one instance without an element until it is expanded. It is expanded when its trigger rule first
//! holds: its list is stored with the first decision on its elements, in one commit, and stays theirs until every one
//! of them is cleared. Then it is expanded anew: what had a try and is beyond the new end becomes `removed`.

use std::sync::Arc;

use super::{Engine, Instance, Out, TaskOfRun, instances::InstanceIndex, run::Change, verdict::verdict};
use crate::{
    action::{Action, MapChange},
    ids::{RunKey, TaskInstanceKey},
    mapping::MapValues,
    preparation::{Preparation, Prepared, Unprepared},
    state::TaskState,
    trigger_rule::Decision,
};

impl Engine {
    /// Returns which instances need something prepared before the engine can act on them; answered with
    /// [`crate::event::Event::Prepared`] in the same round.
    #[must_use]
    pub fn unprepared(&self) -> Vec<Unprepared> {
        self.asked(false)
    }

    /// Returns which instances need something prepared that depends on the store; answered with the same event, from a
    /// store that has everything committed. What an answer makes may be what the next question is about: after one
    /// that changed a run, those of [`Preparation::Runs`] have to wait for the next commit.
    #[must_use]
    pub fn unprepared_stored(&self) -> Vec<Unprepared> {
        self.asked(true)
    }

    /// Whether [`Self::unprepared_stored`] has any.
    #[must_use]
    pub fn asks_store(&self) -> bool {
        self.unprepared.values().any(|what| what.needs_clean_store())
    }

    fn asked(&self, of_store: bool) -> Vec<Unprepared> {
        let asked = self.unprepared.iter().filter(|(_, what)| what.needs_clean_store() == of_store);
        let mut found: Vec<Unprepared> = asked
            .filter_map(|((key, ix), what)| {
                let run = self.runs.get(key)?;
                Some(Unprepared { instance: run.instances[*ix].row.key.clone(), what: *what })
            })
            .collect();
        // What only looks comes before what makes something.
        found.sort_by_key(|asked| asked.what);
        found
    }

    /// Returns the value of an element; `None` where the instance is none.
    #[must_use]
    pub fn map_value(&self, key: &TaskInstanceKey) -> Option<serde_json::Value> {
        let (run, ix) = self.locate(key)?;
        let values = self.runs[&run].instances.of(ix.task).map.as_ref()?;
        values.value(usize::try_from(ix.map_index).ok()?)
    }

    /// Returns how many elements an expanded task has; `None` when it is not mapped or not expanded.
    #[must_use]
    pub fn map_length(&self, run: RunKey, task: &crate::ids::TaskId) -> Option<usize> {
        let run = self.runs.get(&run)?;
        run.instances.of(run.graph.index_of(task)?).map.as_ref().map(|values| values.len())
    }

    /// Notes that something has to be prepared for an undecided instance. Asking twice is asking once.
    pub(super) fn ask(&mut self, instance: Instance, what: Preparation) {
        self.unprepared.insert(instance, what);
    }

    /// Forgets what a run asked for.
    pub(super) fn unask_run(&mut self, key: RunKey) {
        let first = (key, InstanceIndex { task: 0, map_index: i32::MIN });
        let last = (RunKey(key.0.saturating_add(1)), first.1);
        let asked: Vec<Instance> =
            self.unprepared.range(first..last).map(|(instance, _)| *instance).collect();
        for instance in asked {
            self.unprepared.remove(&instance);
        }
    }

    /// Whether a run waits for something that is being prepared: it is not deadlocked.
    pub(super) fn is_preparing(&self, key: RunKey) -> bool {
        let first = (key, InstanceIndex { task: 0, map_index: i32::MIN });
        self.unprepared.range(first..).next().is_some_and(|((run, _), _)| *run == key)
    }

    /// Takes an answer. It is dropped when the question has gone: the run ended, or an upstream was cleared.
    pub(super) fn prepared(
        &mut self,
        key: &TaskInstanceKey,
        what: Preparation,
        result: Result<Prepared, String>,
        out: &mut Out,
    ) {
        let Some(ix) = self.runs.get(&key.run).and_then(|run| run.place_ever(key)) else { return };
        let instance = (key.run, ix);
        if self.unprepared.get(&instance) != Some(&what) {
            return;
        }
        self.unprepared.remove(&instance);
        let run_key = key.run;
        let is_wanted = self.runs.get(&run_key).is_some_and(|run| match run.instances[ix].row.state {
            TaskState::NoStatus => run.is_active() && verdict(run, ix.task) == Decision::Run,
            // It waits, and asks again.
            TaskState::UpForReschedule => what == Preparation::Runs,
            _ => false,
        });
        // It may have been settled meanwhile what becomes of it, and who looked may have found it asking.
        out.undecided.push_back((run_key, ix.task));
        out.ending.insert(run_key);
        if !is_wanted {
            return;
        }
        match result {
            Ok(Prepared::Map(values)) => self.expand((run_key, ix.task), values, out),
            Ok(Prepared::Until(text)) => self.wait_until_text(instance, &text, out),
            Ok(Prepared::Runs(asked)) => self.run_found(instance, *asked, out),
            Ok(Prepared::Trigger(plan)) => self.trigger_planned(instance, *plan, out),
            Err(reason) => {
                self.finish(instance, TaskState::Failed, out, |row| row.reason = Some(reason));
            }
        }
    }

    /// Lets a mapped task have its elements, or asks for them first. Whoever decides comes again then.
    pub(super) fn expand_or_ask(&mut self, (key, task): TaskOfRun, out: &mut Out) {
        let Some(run) = self.runs.get(&key) else { return };
        match run.graph.task(task).map.as_ref().and_then(crate::definition::MapSpec::literal) {
            Some(values) => {
                self.expand((key, task), values, out);
                out.undecided.push_back((key, task));
            }
            None => self.ask((key, InstanceIndex::only(task)), Preparation::Map),
        }
    }

    /// Gives a mapped task its elements.
    fn expand(&mut self, (key, task): TaskOfRun, values: MapValues, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let (length, limit) = (values.len(), run.graph.task(task).max_map_length as usize);
        let instance = (key, InstanceIndex::only(task));
        if length == 0 {
            return self.finish(instance, TaskState::Skipped, out, |row| {
                row.reason = Some("its map is empty".to_owned());
            });
        }
        if length > limit {
            let reason = format!("SCH0113: `map` has {length} elements, more than max_map_length = {limit}");
            return self.finish(instance, TaskState::Failed, out, |row| row.reason = Some(reason));
        }
        let values = Arc::new(values);
        let task_id = run.graph.task(task).id.clone();
        out.actions.push(Action::Map(MapChange {
            run: key,
            task: task_id,
            values: Some(Arc::clone(&values)),
        }));
        run.set_map(task, Some(values));
        let now = out.now.wall;
        for position in 0..run.instances.of(task).elements.len() {
            let ix = InstanceIndex::element(task, position);
            let row = &run.instances[ix].row;
            if position < length {
                if row.state == TaskState::Removed {
                    out.actions.push(super::operate::blank_out(run, ix));
                }
            } else if row.state == TaskState::NoStatus && row.epoch > 0 {
                out.actions.push(run.change_task(ix, Change::Durable, |row| {
                    row.state = TaskState::Removed;
                    row.finished_at = Some(now);
                    row.reason = Some(format!("its map has only {length} elements now"));
                }));
            }
        }
    }

    /// Lets a mapped task of which every element is cleared be expanded anew.
    pub(super) fn unexpand_if_cleared(&mut self, (key, task): TaskOfRun, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let record = run.instances.of(task);
        if record.map.is_none() || record.tally.of(TaskState::NoStatus) < record.tally.counting() {
            return;
        }
        let task_id = run.graph.task(task).id.clone();
        out.actions.push(Action::Map(MapChange { run: key, task: task_id, values: None }));
        run.set_map(task, None);
    }
}
