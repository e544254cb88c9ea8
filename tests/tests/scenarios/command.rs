//! The commands of a story.
//!
//! ```text
//! clock TIME                    the wall clock jumps; nothing passes
//! dag                           loads the DAG file below it, under ID.toml
//! remove ID, delete ID          its file is gone; a person deletes it
//! pause ID, unpause ID          by a person
//! pool NAME SLOTS               makes or resizes a pool
//! worker NAME CAPACITY          a worker exchanges; it is heard of from now on
//! reboot NAME                   it comes back as a new incarnation, having swept
//! silent NAME                   it is not heard of any more
//! trigger ID [TIME]             by a person
//! emit ASSET                    somebody posts an event
//! start RUN TASK                its worker reports the start
//! end RUN TASK OUTCOME [key=…]  its worker reports the end: follow=a,b code=N
//! late RUN TASK TRY FENCE WORKER OUTCOME   a result of any attempt
//! pass DURATION                 both clocks go on
//! restart, downtime DURATION    a crash and a start, at once or after a while
//! backfill ID FROM TO [reprocess=…] [limit=N] [backwards]
//! backfill pause|resume|cancel NUMBER
//! clear RUN [TASK…] [downstream] [upstream] [only_failed] [latest]
//! mark RUN TASK STATE, mark RUN STATE, cancel RUN, resume RUN
//! output TASK JSON              what the task gives as outputs, an object by key
//! show RUN                      the states of its tasks
//!
//! TASK[3] is an element of a mapped task.
//! ```

use std::sync::Arc;

use tidemill_engine::{
    backfill::{BackfillChange, BackfillSpec, Reprocess},
    definition::{load, values::parse_duration, version_hash},
    event::{AttemptResult, ClearSelection, Event, RequestId},
    ids::{AssetName, AttemptKey, BackfillKey, DagId, PoolName, RunKey, TaskId, TaskInstanceKey, WorkerId},
    rows::PoolRow,
    state::{RunState, TaskState, TryOutcome},
};

use super::{
    show,
    world::{Worker, World},
};

/// Executes a command and returns what is written below it.
pub(super) fn execute(world: &mut World, line: &str, block: &str) -> Vec<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (verb, args) = words.split_first().unwrap_or_else(|| panic!("an empty command"));
    let mut told = match (*verb, args) {
        ("clock", [at]) => {
            world.now.wall = at.parse().unwrap();
            Vec::new()
        }
        ("pass", [length]) => world.pass(parse_duration(length).unwrap()),
        ("restart", []) => world.restart(),
        ("downtime", [length]) => world.downtime(parse_duration(length).unwrap()),
        ("show", [run]) => show_run(world, run_key(run)),
        ("output", [task, value]) => {
            world.outputs.insert((*task).to_owned(), serde_json::from_str(value).unwrap());
            Vec::new()
        }
        ("dag", []) => load_dag(world, block),
        ("worker", [name, capacity]) => connect(world, name, capacity.parse().unwrap()),
        ("reboot", [name]) => reboot(world, name),
        ("silent", [name]) => {
            world.workers.get_mut(&worker_id(name)).unwrap().is_silent = true;
            Vec::new()
        }
        ("start", [run, task]) => start(world, run, task),
        ("end", [run, task, outcome, rest @ ..]) => end(world, run, task, outcome, rest),
        ("late", [run, task, number, fence, worker, outcome]) => {
            let attempt = AttemptKey {
                instance: instance(run, task),
                try_number: number.parse().unwrap(),
                epoch: fence.parse().unwrap(),
            };
            finish(world, worker_id(worker), attempt, result(outcome))
        }
        _ => by_a_person(world, verb, args).unwrap_or_else(|| panic!("unknown command: {line}")),
    };
    told.extend(show::waits(world));
    told
}

/// What people do.
fn by_a_person(world: &mut World, verb: &str, args: &[&str]) -> Option<Vec<String>> {
    let request = world.request();
    let event = match (verb, args) {
        ("remove", [id]) => Event::DagMissing { dag_id: dag_id(id) },
        ("delete", [id]) => Event::DagDeleted { request, dag_id: dag_id(id) },
        ("pause" | "unpause", [id]) => {
            Event::DagPaused { request, dag_id: dag_id(id), is_paused: verb == "pause" }
        }
        ("pool", [name, slots]) => {
            let name = PoolName::new(name).unwrap();
            let pool = PoolRow { name, slots: slots.parse().unwrap(), description: String::new() };
            Event::PoolChanged { request, pool }
        }
        ("trigger", [id, rest @ ..]) => Event::RunRequested {
            request,
            dag_id: dag_id(id),
            run_id: None,
            logical_date: rest.first().map(|at| at.parse().unwrap()),
            conf: Arc::default(),
            triggered_by: None,
            suffix: world.suffix(),
            is_run_id_taken: false,
        },
        ("emit", [asset]) => {
            let asset = AssetName::new(asset).unwrap();
            Event::AssetPosted { request, asset, extra: Arc::default(), by: None }
        }
        ("backfill", [id, from, to, rest @ ..]) => backfill(request, id, from, to, rest),
        ("backfill", [change, number]) => {
            let backfill = BackfillKey(number.strip_prefix('b')?.parse::<i64>().ok()? - 1);
            let row = world.backfills.get(&backfill);
            let ended = row.map(|row| row.state).filter(|state| state.is_terminal());
            let change = BackfillChange::parse(change)?;
            Event::BackfillChanged { request, backfill, change, is_dry_run: false, ended }
        }
        ("clear", [run, rest @ ..]) => clear(world, request, run_key(run), rest),
        ("mark", [run, state]) => {
            let (run, state) = (run_key(run), RunState::parse(state)?);
            Event::MarkRun { request, run, state, is_dry_run: false, finished: world.finished(run) }
        }
        ("mark", [run, task, state]) => {
            let (run, state) = (run_key(run), TaskState::parse(state)?);
            let (task, map_index) = element(task);
            let (tasks, finished) = (vec![task], world.finished(run));
            Event::MarkTask { request, run, tasks, map_index, state, is_dry_run: false, finished }
        }
        ("cancel", [run]) => {
            let run = run_key(run);
            let ended = world.runs.get(&run).map(|row| row.state).filter(|state| state.is_terminal());
            Event::Cancel { request, run, is_dry_run: false, ended }
        }
        ("resume", [run]) => {
            let run = run_key(run);
            let ended = world.runs.get(&run).map(|row| row.state).filter(|state| state.is_terminal());
            Event::Resume { request, run, is_dry_run: false, ended }
        }
        _ => return None,
    };
    Some(world.step(event))
}

fn backfill(request: RequestId, id: &str, from: &str, to: &str, words: &[&str]) -> Event {
    let mut spec = BackfillSpec {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        reprocess: Reprocess::None,
        max_active_runs: 10,
        run_backwards: false,
        conf: Arc::default(),
    };
    for word in words {
        match word.split_once('=') {
            Some(("reprocess", how)) => spec.reprocess = Reprocess::parse(how).unwrap(),
            Some(("limit", limit)) => spec.max_active_runs = limit.parse().unwrap(),
            None if *word == "backwards" => spec.run_backwards = true,
            _ => panic!("{word}"),
        }
    }
    let created_by = Some("ann".to_owned());
    Event::BackfillRequested { request, dag_id: dag_id(id), spec: Box::new(spec), created_by }
}

fn clear(world: &World, request: RequestId, run: RunKey, words: &[&str]) -> Event {
    let options = ["downstream", "upstream", "only_failed", "latest"];
    let has = |word: &str| words.contains(&word);
    let named: Vec<(TaskId, Option<i32>)> =
        words.iter().filter(|word| !options.contains(word)).map(|word| element(word)).collect();
    let selection = ClearSelection {
        map_index: named.iter().find_map(|(_, map_index)| *map_index),
        tasks: named.into_iter().map(|(task, _)| task).collect(),
        upstream: has("upstream"),
        downstream: has("downstream"),
        only_failed: has("only_failed"),
    };
    let finished = world.finished(run);
    Event::Clear { request, run, selection, is_dry_run: false, finished, latest: has("latest") }
}

/// Reads `task` or `task[3]`.
fn element(word: &str) -> (TaskId, Option<i32>) {
    match word.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        Some((task, index)) => (task_id(task), index.parse().ok()),
        None => (task_id(word), None),
    }
}

fn load_dag(world: &mut World, text: &str) -> Vec<String> {
    let loaded = load(text.as_bytes(), "story.toml");
    let dag = Arc::new(loaded.dag.unwrap_or_else(|| panic!("{:#?}", loaded.problems)));
    let version = version_hash(&dag);
    if !world.version_names.contains(&version) {
        world.version_names.push(version.clone());
    }
    world.versions.insert((dag.id.clone(), version.clone()), Arc::clone(&dag));
    let path = format!("{}.toml", dag.id);
    world.step(Event::DagChanged { dag, version, path })
}

fn connect(world: &mut World, name: &str, capacity: u32) -> Vec<String> {
    let id = worker_id(name);
    let boot = world.workers.get(&id).map_or(1, |worker| worker.boot);
    world.workers.insert(id.clone(), Worker { boot, capacity, is_silent: false });
    exchange(world, id)
}

fn reboot(world: &mut World, name: &str) -> Vec<String> {
    let id = worker_id(name);
    world.held.retain(|(holder, _)| *holder != id);
    let worker = world.workers.get_mut(&id).unwrap();
    worker.boot += 1;
    worker.is_silent = false;
    exchange(world, id)
}

fn exchange(world: &mut World, worker: WorkerId) -> Vec<String> {
    let held = world.held_by(&worker);
    let Worker { boot, capacity, .. } = world.workers[&worker];
    world.step(Event::WorkerExchanged {
        worker,
        boot_id: boot.to_string(),
        has_swept: true,
        capacity,
        queues: vec!["default".to_owned()],
        held,
        lost: Vec::new(),
    })
}

fn start(world: &mut World, run: &str, task: &str) -> Vec<String> {
    let (worker, attempt) = world.live(&instance(run, task));
    let started_at = world.now.wall;
    world.step(Event::AttemptStarted { attempt, worker, started_at })
}

fn end(world: &mut World, run: &str, task: &str, outcome: &str, rest: &[&str]) -> Vec<String> {
    let (worker, attempt) = world.live(&instance(run, task));
    let mut result = result(outcome);
    for word in rest {
        match word.split_once('=') {
            Some(("follow", ids)) => {
                result.follow = Some(ids.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect());
            }
            Some(("code", code)) => result.exit_code = Some(code.parse().unwrap()),
            _ => panic!("{word}"),
        }
    }
    finish(world, worker, attempt, result)
}

fn finish(world: &mut World, worker: WorkerId, attempt: AttemptKey, result: AttemptResult) -> Vec<String> {
    let stored = world.stored_outcome(&attempt, &worker);
    world.held.remove(&(worker.clone(), attempt.clone()));
    let request = Some(world.request());
    world.step(Event::AttemptFinished { request, attempt, worker, result, stored })
}

fn result(outcome: &str) -> AttemptResult {
    let outcome = TryOutcome::parse(outcome).unwrap_or_else(|| panic!("{outcome} is no outcome"));
    AttemptResult { outcome, exit_code: None, is_final: false, reason: None, follow: None, started_at: None }
}

fn show_run(world: &World, run: RunKey) -> Vec<String> {
    let row = &world.runs[&run];
    let dag = &world.versions[&(row.dag_id.clone(), row.dag_version.clone())];
    let states: Vec<String> = dag
        .tasks
        .iter()
        .flat_map(|task| world.instances(run, &task.id))
        .map(|key| {
            let state = world.tasks.get(&key).map_or(TaskState::NoStatus, |row| row.state);
            format!("{}={state}", key.name())
        })
        .collect();
    vec![format!("{} {} | {}", show::run_name(run), row.state, states.join(" "))]
}

fn run_key(name: &str) -> RunKey {
    let number: i64 = name.strip_prefix('r').and_then(|digits| digits.parse().ok()).unwrap();
    RunKey(number - 1)
}

fn instance(run: &str, task: &str) -> TaskInstanceKey {
    let (task, map_index) = element(task);
    TaskInstanceKey { run: run_key(run), task, map_index: map_index.unwrap_or(-1) }
}

fn dag_id(text: &str) -> DagId {
    DagId::new(text).unwrap()
}

fn task_id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

fn worker_id(text: &str) -> WorkerId {
    WorkerId::new(text).unwrap()
}
