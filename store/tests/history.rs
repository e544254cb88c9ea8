//! Random legal histories: what is loaded is what was written, on the databases as in memory.

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tidemill_engine::{
    action::{RunChange, TaskChange},
    ids::{RunKey, TaskInstanceKey},
    rows::{RunRow, TaskRow},
    state::{RunState, TaskState, TryOutcome},
};
use tidemill_store::{
    Batch, Coalescer,
    reader::{PageRequest, RunQuery, TaskQuery},
};

use crate::{
    rows::{attempt, change, fence, new_run, run_row, task_row, try_write},
    support::{Bed, at, dag_id},
};

/// What the history believes is stored.
#[derive(Default)]
struct Model {
    runs: BTreeMap<RunKey, RunRow>,
    tasks: BTreeMap<TaskInstanceKey, TaskRow>,
    /// The highest try number and epoch of each instance, which outlive a clear.
    highest: BTreeMap<TaskInstanceKey, u32>,
}

impl Model {
    /// Does one random legal thing.
    fn act(&mut self, dice: (u8, u8, u8, u8), batch: &mut Batch, merge: &mut Coalescer) {
        let (what, which, how, extra) = dice;
        if what < 24 || self.runs.is_empty() {
            let key = 1 + self.runs.last_key_value().map_or(0, |(key, _)| key.0);
            let state = if how < 128 { RunState::Queued } else { RunState::Running };
            self.runs.insert(RunKey(key), run_row(key, state));
            merge.push_run(batch, new_run(key, state));
        } else if what < 80 {
            let Some(run) = self.runs.values_mut().nth(usize::from(which) % 4) else { return };
            let steps: Vec<_> =
                RunState::transitions().into_iter().filter(|(from, _)| *from == run.state).collect();
            let (from, to) = steps[usize::from(how) % steps.len()];
            *run = run_row(run.key.0, to);
            run.started_at = Some(at(i64::from(extra)));
            merge.push_run(batch, RunChange { from: Some(from), row: run.clone() });
        } else {
            self.act_on_task(dice, batch, merge);
        }
    }

    fn act_on_task(&mut self, dice: (u8, u8, u8, u8), batch: &mut Batch, merge: &mut Coalescer) {
        let (_, which, how, extra) = dice;
        let Some(run) = self.runs.keys().nth(usize::from(which) % 3).copied() else { return };
        let name = ["a", "b", "c", "d"][usize::from(which / 8) % 4];
        let key = crate::rows::instance(run.0, name);
        let highest = self.highest.get(&key).copied().unwrap_or(0);
        let Some(stored) = self.tasks.get(&key).cloned() else {
            let states = [TaskState::Scheduled, TaskState::Queued, TaskState::Skipped, TaskState::Success];
            let mut row = task_row(run.0, name, states[usize::from(how) % 4]);
            row.try_number = highest + u32::from(row.state.has_lease());
            row.epoch = row.try_number;
            self.begin_try(&row, highest, batch);
            merge.push_task(batch, change(crate::rows::NOTHING, row.clone()));
            self.tasks.insert(key, row);
            return;
        };
        // A leased instance is never cleared: its attempt stops first.
        let is_clear = extra < 60 && !stored.state.has_lease();
        let legal = TaskState::transitions();
        let steps: Vec<_> =
            legal.iter().filter(|(from, _)| *from == stored.state).map(|(_, to)| *to).collect();
        let to = if is_clear || steps.is_empty() {
            TaskState::NoStatus
        } else {
            steps[usize::from(how) % steps.len()]
        };
        let mut row = task_row(run.0, name, to);
        let is_assigned = to == TaskState::Queued;
        row.try_number = stored.try_number + u32::from(is_assigned);
        row.epoch = row.try_number;
        row.failures = u32::from(extra);
        let is_lease_over = stored.state.has_lease() && to != TaskState::Running;
        if is_lease_over {
            // A poke that found nothing yet ends no try.
            let mut ends = TryOutcome::ALL.iter().filter(|outcome| **outcome != TryOutcome::Rescheduled);
            let outcome = *ends.nth(usize::from(extra) % (TryOutcome::ALL.len() - 1)).unwrap();
            batch.tries.push(try_write(attempt(run.0, name, stored.epoch), false, Some(outcome)));
        }
        self.begin_try(&row, highest.max(stored.epoch), batch);
        let is_clear = to == TaskState::NoStatus;
        merge.push_task(batch, TaskChange { is_clear, ..change(fence(&stored), row.clone()) });
        if is_clear {
            self.tasks.remove(&key);
        } else {
            self.tasks.insert(key, row);
        }
    }

    fn begin_try(&mut self, row: &TaskRow, highest: u32, batch: &mut Batch) {
        if row.epoch > highest && row.state.has_lease() {
            let key = &row.key;
            batch.tries.push(try_write(attempt(key.run.0, key.task.as_str(), row.epoch), true, None));
        }
        self.highest.insert(row.key.clone(), highest.max(row.epoch));
    }
}

type Dice = Vec<Vec<(u8, u8, u8, u8)>>;

async fn histories_are_equal(bed: &Bed, dice: &Dice) -> (usize, usize) {
    let twin = Bed::memory();
    let mut model = Model::default();
    let (mut changes, mut batches) = (0, 0);
    for group in dice {
        let mut batch = bed.batch().await;
        let mut merge = Coalescer::default();
        for dice in group {
            model.act(*dice, &mut batch, &mut merge);
        }
        changes += batch.runs.len() + batch.tasks.len() + batch.tries.len();
        batches += 1;
        let twins = twin.batch().await;
        assert_eq!(twins.id, batch.id);
        bed.store.writer.commit(&batch).await.expect("a legal batch");
        twin.store.writer.commit(&batch).await.expect("a legal batch");
    }
    let loaded = bed.store.writer.load().await.expect("loads");
    assert_eq!(loaded, twin.store.writer.load().await.expect("loads"));
    assert!(loaded.unreadable.is_empty());
    let active: Vec<_> = model.runs.values().filter(|run| !run.state.is_terminal()).cloned().collect();
    assert_eq!(loaded.snapshot.runs.iter().map(|r| r.run.clone()).collect::<Vec<_>>(), active);
    let tasks = loaded.snapshot.runs.iter().flat_map(|run| run.tasks.clone());
    let expected = model.tasks.values().filter(|t| !model.runs[&t.key.run].state.is_terminal());
    assert_eq!(tasks.collect::<Vec<_>>(), expected.cloned().collect::<Vec<_>>());
    for run in &loaded.snapshot.runs {
        for fence in &run.fences {
            assert_eq!(fence.epoch, model.highest[&fence.instance], "{fence:?}");
        }
    }
    let (reader, other) = (&bed.store.reader, &twin.store.reader);
    for run in model.runs.keys() {
        let one = bed.store.writer.load_run(*run).await.expect("loads");
        assert_eq!(one, twin.store.writer.load_run(*run).await.expect("loads"));
        assert_eq!(one.expect("is there").snapshot.run, model.runs[run]);
    }
    let page = PageRequest { cursor: None, limit: 500 };
    let query = RunQuery { page: page.clone(), ..RunQuery::default() };
    assert_eq!(reader.runs(&query).await.expect("reads"), other.runs(&query).await.expect("reads"));
    let query = TaskQuery { page: page.clone(), ..TaskQuery::default() };
    assert_eq!(reader.task_list(&query).await.expect("reads"), other.task_list(&query).await.expect("reads"));
    let id = dag_id("etl");
    assert_eq!(reader.grid(&id, &page).await.expect("reads"), other.grid(&id, &page).await.expect("reads"));
    assert_eq!(reader.home(at(99)).await.expect("reads"), other.home(at(99)).await.expect("reads"));
    assert_eq!(reader.pools().await.expect("reads"), other.pools().await.expect("reads"));
    (changes, batches)
}

/// Runs `cases` histories, each on a database of its own.
fn run_histories<F>(cases: u32, bed: F)
where
    F: AsyncFn() -> Bed,
{
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dice = prop::collection::vec(prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..20), 1..12);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let total = std::cell::Cell::new((0, 0));
    TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
    .run(&dice, |dice| {
        let (changes, batches) = runtime.block_on(async { histories_are_equal(&bed().await, &dice).await });
        total.set((total.get().0 + changes, total.get().1 + batches));
        Ok(())
    })
    .expect("every history loads as it was written");
    let (changes, batches) = total.get();
    println!("{cases} histories, {batches} batches, {changes} changes");
    assert!(changes > cases as usize * 20, "the histories do something");
}

#[test]
fn sqlite_loads_what_was_written() {
    run_histories(48, async || Bed::sqlite().await);
}

#[test]
fn postgresql_loads_what_was_written() {
    run_histories(24, async || Bed::postgres().await);
}
