//! Pages, filters and counts.

use tidemill_engine::{
    ids::{RunKey, TaskId},
    state::{RunState, RunType, TaskState},
};
use tidemill_store::{
    Page, ReadError,
    reader::{DagFilter, DagQuery, PageRequest, RunQuery, TaskQuery},
};

use crate::{
    rows::{new_run, new_task},
    support::{Bed, add_dag, at, dag_id},
};

/// Walks all pages and returns what they show.
async fn walk<T, F>(limit: u32, fetch: F) -> Vec<T>
where
    F: AsyncFn(PageRequest) -> Result<Page<T>, ReadError>,
{
    let (mut cursor, mut all) = (None, Vec::new());
    loop {
        let page = fetch(PageRequest { cursor, limit }).await.expect("a page");
        assert!(page.items.len() <= limit as usize);
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return all;
        }
    }
}

async fn fill(bed: &Bed) {
    let mut batch = bed.batch().await;
    for name in ["alpha", "beta", "zeta"] {
        add_dag(&mut batch, name);
    }
    for key in 1..=23 {
        let state = RunState::ALL[usize::try_from(key).unwrap_or(0) % RunState::ALL.len()];
        let mut run = new_run(key, state);
        // Ties in the logical date, which the key breaks.
        run.row.logical_date = at(key / 4 * 60);
        run.row.dag_id = dag_id(if key % 5 == 0 { "beta" } else { "etl" });
        run.row.dag_version = crate::support::version_of(&crate::support::dag(run.row.dag_id.as_str()));
        batch.runs.push(run);
        for task in ["a", "b", "c-1", "c.2"] {
            let states = [TaskState::Success, TaskState::Failed, TaskState::Queued];
            let state = states[(usize::try_from(key).unwrap_or(0) + task.len()) % 3];
            batch.tasks.push(new_task(key, task, state));
        }
        let mut mapped = new_task(key, "m", TaskState::Success);
        mapped.row.key.map_index = 11;
        batch.tasks.push(mapped.clone());
        mapped.row.key.map_index = 2;
        batch.tasks.push(mapped);
    }
    bed.store.writer.commit(&batch).await.expect("stored");
}

pub(crate) async fn pages_cover_everything_once(bed: &Bed) {
    fill(bed).await;
    let reader = &bed.store.reader;
    for limit in [1, 3, 23, 50] {
        let runs =
            walk(limit, async |page| reader.runs(&RunQuery { page, ..RunQuery::default() }).await).await;
        let keys: Vec<_> = runs.iter().map(|run| (run.logical_date, run.key)).collect();
        assert_eq!(keys.len(), 23);
        assert!(keys.windows(2).all(|pair| pair[0] > pair[1]), "the newest first: {keys:?}");
        let tasks =
            walk(limit, async |page| reader.task_list(&TaskQuery { page, ..TaskQuery::default() }).await)
                .await;
        let keys: Vec<_> = tasks
            .iter()
            .map(|i| (-i.task.key.run.0, i.task.key.task.clone(), i.task.key.map_index))
            .collect();
        assert_eq!(keys.len(), 23 * 6);
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "by run, task, element");
        let dags =
            walk(limit, async |page| reader.dags(&DagQuery { page, ..DagQuery::default() }).await).await;
        let ids: Vec<_> = dags.iter().map(|dag| dag.dag.dag_id.as_str()).collect();
        assert_eq!(ids, ["alpha", "beta", "etl", "zeta"]);
    }
    // A row that arrives meanwhile shifts nothing.
    let first = reader.runs(&RunQuery { page: page(2), ..RunQuery::default() }).await.expect("a page");
    let mut batch = bed.batch().await;
    let mut newest = new_run(99, RunState::Queued);
    newest.row.logical_date = at(9999);
    batch.runs.push(newest);
    bed.store.writer.commit(&batch).await.expect("stored");
    let page = PageRequest { cursor: first.next_cursor, limit: 2 };
    let second = reader.runs(&RunQuery { page, ..RunQuery::default() }).await.expect("a page");
    assert!(second.items[0].key < first.items[1].key);
    let bad = PageRequest { cursor: Some("ff".to_owned()), limit: 2 };
    let error =
        reader.runs(&RunQuery { page: bad, ..RunQuery::default() }).await.expect_err("no cursor of ours");
    assert_eq!(error.code(), "STO0302");
}

fn page(limit: u32) -> PageRequest {
    PageRequest { cursor: None, limit }
}

pub(crate) async fn filters_and_counts(bed: &Bed) {
    fill(bed).await;
    let reader = &bed.store.reader;
    let dags = async |query: DagQuery| {
        let found = reader.dags(&query).await.expect("reads").items;
        found.into_iter().map(|dag| dag.dag.dag_id.to_string()).collect::<Vec<_>>()
    };
    let text = |text: &str| DagQuery { text: Some(text.to_owned()), ..DagQuery::default() };
    assert_eq!(dags(text("ETA")).await, ["beta", "zeta"]);
    assert_eq!(dags(text("100% DAILY_")).await.len(), 4, "special characters are only characters");
    assert_eq!(dags(text("100x")).await.len(), 0);
    assert_eq!(dags(text("ÄNDERUNG")).await.len(), 4, "ASCII letters are alike, others are what they are");
    assert_eq!(dags(text("änderung")).await.len(), 0, "on every database");
    let tag = |tag: &str| DagQuery { tag: Some(tag.to_owned()), ..DagQuery::default() };
    assert_eq!((dags(tag("ml")).await.len(), dags(tag("m")).await.len()), (4, 0), "whole tags");
    assert_eq!(dags(tag("a \"b\"")).await.len(), 4);
    assert_eq!(dags(tag("ML")).await.len(), 0, "tags are what they are");
    assert_eq!(reader.tags().await.expect("reads"), ["a \"b\"", "ml"]);
    let state = |state| DagQuery { state: Some(state), last_runs: 3, ..DagQuery::default() };
    assert_eq!(dags(state(DagFilter::Running)).await, ["beta", "etl"]);
    assert_eq!(dags(state(DagFilter::Paused)).await.len(), 0);
    assert_eq!(dags(state(DagFilter::Active)).await.len(), 4);
    let ended = [dags(state(DagFilter::Success)).await, dags(state(DagFilter::Failed)).await].concat();
    let last = async |id: &str| {
        let query = RunQuery { dag_id: Some(dag_id(id)), ..RunQuery::default() };
        reader.runs(&query).await.expect("reads").items.into_iter().find(|run| run.state.is_terminal())
    };
    for id in ["beta", "etl"] {
        let state = last(id).await.expect("has ended runs").state;
        assert_eq!(ended.contains(&id.to_owned()), state != RunState::Cancelled, "{id}: {state}");
    }
    let etl = reader.dags(&DagQuery { last_runs: 3, ..text("etl") }).await.expect("reads").items.remove(0);
    assert_eq!(etl.task_count, 3);
    assert_eq!(etl.last_runs.iter().map(|run| run.key.0).collect::<Vec<_>>(), [23, 22, 21]);
    let query = RunQuery { states: vec![RunState::Failed, RunState::Queued], ..RunQuery::default() };
    let found = reader.runs(&query).await.expect("reads").items;
    assert!(found.iter().all(|run| query.states.contains(&run.state)) && found.len() > 2);
    let query = RunQuery { run_type: Some(RunType::Scheduled), ..RunQuery::default() };
    assert!(reader.runs(&query).await.expect("reads").items.is_empty());
    let every = reader.runs(&RunQuery { page: page(500), ..RunQuery::default() }).await.expect("reads").items;
    let mut ends: Vec<_> = every.iter().filter_map(|run| run.finished_at).collect();
    ends.sort_unstable();
    let since = ends[ends.len() / 2];
    let query = RunQuery { page: page(500), finished_since: Some(since), ..RunQuery::default() };
    let found = reader.runs(&query).await.expect("reads").items;
    let wanted: Vec<_> =
        every.iter().filter(|run| run.finished_at.is_some_and(|at| at >= since)).cloned().collect();
    assert!(found == wanted && wanted.len() < every.len(), "what ended at the instant itself counts");
    let failed = TaskQuery { state: Some(TaskState::Failed), page: page(500), ..TaskQuery::default() };
    let every = reader.task_list(&failed).await.expect("reads").items;
    let last = every.iter().filter_map(|item| item.task.finished_at).max().expect("some ended");
    let query = TaskQuery { finished_since: Some(last), ..failed };
    let found = reader.task_list(&query).await.expect("reads").items;
    let wanted: Vec<_> =
        every.iter().filter(|item| item.task.finished_at.is_some_and(|at| at >= last)).cloned().collect();
    assert_eq!(found, wanted);
    let dag = Some(dag_id("beta"));
    let query =
        TaskQuery { state: Some(TaskState::Failed), dag_id: dag, page: page(500), finished_since: None };
    let found = reader.task_list(&query).await.expect("reads").items;
    assert!(!found.is_empty());
    assert!(found.iter().all(|i| i.dag_id.as_str() == "beta" && i.task.state == TaskState::Failed));

    let grid = reader.grid(&dag_id("etl"), &page(4)).await.expect("reads").expect("is there");
    assert_eq!(grid.tasks.iter().map(TaskId::as_str).collect::<Vec<_>>(), ["a", "b", "c-1", "c.2", "m"]);
    assert_eq!((grid.runs.len(), grid.runs[0].cells.len()), (4, 6));
    assert_eq!(grid.runs[0].cells.iter().map(|c| c.map_index).collect::<Vec<_>>(), [-1, -1, -1, -1, 2, 11]);
    let older = PageRequest { cursor: grid.next_cursor, limit: 50 };
    let older = reader.grid(&dag_id("etl"), &older).await.expect("reads").expect("is there");
    assert_eq!(older.runs.len() + 4, 19);
    assert!(reader.grid(&dag_id("none"), &page(4)).await.expect("reads").is_none());

    let home = reader.home(at(60)).await.expect("reads");
    assert_eq!((home.dags_active, home.hours.len()), (4, 24));
    let ended = home.hours.iter().map(|h| h.success + h.failed + h.cancelled).sum::<u64>();
    let runs = reader.runs(&RunQuery { page: page(500), ..RunQuery::default() }).await.expect("reads").items;
    assert_eq!(ended, runs.iter().filter(|run| run.state.is_terminal()).count() as u64);
    let of = |state| runs.iter().filter(|run| run.state == state).count() as u64;
    assert_eq!((home.runs_queued, home.runs_failed), (of(RunState::Queued), of(RunState::Failed)));
    assert_eq!(home.tasks_failed, count(bed, TaskState::Failed).await);
    assert_eq!(home.tasks[&TaskState::Queued], count(bed, TaskState::Queued).await);
    let pools = reader.pools().await.expect("reads");
    let leased = (0..23).map(|n| RunKey(n + 1));
    let mut slots = (0, 0);
    for run in leased {
        for task in reader.tasks(run).await.expect("reads").iter().filter(|t| t.state.has_lease()) {
            // Only tasks of the definition count; `a` takes two slots.
            let size =
                u32::from(task.key.task.as_str() == "a") + u32::from(task.key.task.as_str().len() == 1);
            slots = (slots.0 + size, slots.1 + u32::from(size > 0));
        }
    }
    assert_eq!((pools[0].name.as_str(), pools[0].slots), ("default_pool", 128));
    assert_eq!((pools[0].used, pools[0].leased), slots);
    assert!(slots.1 > 0);
    let health = reader.health().await.expect("reads");
    assert!(health.backend == "memory" || health.size_bytes > 0, "{health:?}");
    let before =
        reader.previous_success(&dag_id("etl"), at(240)).await.expect("reads").expect("there is one");
    assert!(before.logical_date < at(240) && before.state == RunState::Success);
}

async fn count(bed: &Bed, state: TaskState) -> u64 {
    let query = TaskQuery { state: Some(state), page: page(500), ..TaskQuery::default() };
    bed.store.reader.task_list(&query).await.expect("reads").items.len() as u64
}
