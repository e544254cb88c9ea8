//! Random histories. [`super::world::World`] checks every invariant after every step: deterministic, quiescent,
//! legal, safe, no silent stall, rebuildable.

use std::time::Duration;

use proptest::prelude::*;

use super::world::{
    World, branch, dag, dag_id, delay_sensor, latest_only, looking, mapped, mapped_over, noop, poking,
    result, run_sensor, sensor, setup, short_circuit, task, task_id, teardown, time_sensor, triggering,
    worker_id,
};
use crate::{
    backfill::{BackfillChange, BackfillSpec, BackfillState, Reprocess},
    definition::{
        AssetSchedule, Dag, Deadline, DeadlineFrom, Notification, RetriesExhausted, RetryOn, Schedule, Task,
        WhichRun,
    },
    event::{AttemptResult, ClearSelection, Event},
    ids::{AssetName, AttemptKey, PoolName, RunKey, WorkerId},
    rows::PoolRow,
    state::{RunState, TaskState, TriggerRule, TryOutcome},
    wait_reason::WaitReason,
};

/// A random DAG of up to eight tasks whose edges go from earlier to later ones.
fn any_dag(id: &'static str) -> impl Strategy<Value = Dag> {
    let one = (any::<u16>(), 0..12_usize, 0..26_u8, 0..3_u32, 1..3_u32);
    (prop::collection::vec(one, 1..8), 1..3_u32, 1..4_u32, 0..4_u8).prop_map(
        move |(tasks, max_active_runs, max_active_tasks, schedule)| {
            let built = tasks.iter().enumerate().map(|(i, (edges, rule, kind, retries, slots))| {
                let names: Vec<String> =
                    (0..i).filter(|up| edges >> up & 3 == 3).map(|up| format!("t{up}")).collect();
                let upstream: Vec<&str> = names.iter().map(String::as_str).collect();
                let name = format!("t{i}");
                let base = match kind {
                    0..=2 => noop(&name, &upstream),
                    3 => branch(&name, &upstream),
                    10 => short_circuit(&name, &upstream, true),
                    11 => short_circuit(&name, &upstream, false),
                    12 => latest_only(&name, &upstream),
                    13 => setup(&name, &upstream),
                    14 => {
                        let is_setup = |up: &&&str| tasks[up[1..].parse::<usize>().unwrap()].2 == 13;
                        let setups: Vec<&str> = upstream.iter().filter(is_setup).copied().collect();
                        teardown(&name, &setups, &upstream)
                    }
                    15 => sensor(&name, &upstream),
                    16 => poking(sensor(&name, &upstream), |poke| {
                        poke.backoff = 2.0;
                        poke.interval = Duration::from_secs(2);
                        poke.soft_fail = true;
                    }),
                    17 => time_sensor(&name, &upstream, false),
                    18 => time_sensor(&name, &upstream, true),
                    19 => delay_sensor(&name, &upstream, u64::from(edges & 31)),
                    20 => triggering(&name, &upstream, "x", false),
                    21 => triggering(&name, &upstream, "y", true),
                    22 => triggering(&name, &upstream, "nobody", true),
                    23 => run_sensor(&name, &upstream, "x"),
                    24 => looking(run_sensor(&name, &upstream, "y"), |wait| {
                        wait.wait_on_failure = true;
                        wait.which = WhichRun::Offset { earlier: Duration::ZERO };
                    }),
                    25 => looking(run_sensor(&name, &upstream, "y"), |wait| {
                        wait.missing_fails = true;
                        wait.soft_fail = true;
                    }),
                    _ => task(&name, &upstream),
                };
                // Some are mapped: over a list of none, one or two, or over what the world says.
                let base = match edges & 0x0300 {
                    _ if base.operator.is_branch() => base,
                    0 => mapped_over(base, i64::from(edges >> 10 & 3)),
                    0x0100 => mapped(base),
                    _ => base,
                };
                let pool = if *kind == 9 { "small" } else { "default_pool" };
                Task {
                    trigger_rule: if *kind == 14 { TriggerRule::AllDone } else { TriggerRule::ALL[*rule] },
                    retries: *retries,
                    on_retries_exhausted: match edges & 0x6000 {
                        0 => RetriesExhausted::Pause,
                        _ => RetriesExhausted::Fail,
                    },
                    retry_on: (edges & 0x1000 != 0)
                        .then(|| RetryOn { timed_out: true, ..RetryOn::default() }),
                    retry_delay: Duration::from_secs(5),
                    max_lost_retries: 2,
                    pool: PoolName::new(pool).unwrap(),
                    pool_slots: *slots,
                    max_active_per_dag: (*kind == 8).then_some(1),
                    max_active_per_run: (*kind == 5).then_some(1),
                    outlets: outlets(*edges),
                    depends_on_past: *kind == 7 && edges & 0x8000 == 0,
                    wait_for_downstream: *kind == 6 && edges & 0x8000 == 0,
                    ..base
                }
            });
            Dag {
                schedule: match schedule {
                    0 => Schedule::Every(Duration::from_secs(7)),
                    1 => Schedule::Continuous,
                    2 => by_assets(&["p", "q"], max_active_runs == 1, None),
                    _ if max_active_tasks == 1 => {
                        by_assets(&["p"], false, Some(Schedule::Every(Duration::from_secs(11))))
                    }
                    _ => Schedule::Never,
                },
                catchup: schedule == 0 && max_active_runs == 2,
                run_timeout: (max_active_tasks == 3).then_some(Duration::from_secs(40)),
                deadline: match max_active_tasks {
                    1 => {
                        Some(Deadline::Within { within: Duration::from_secs(9), from: DeadlineFrom::Queued })
                    }
                    2 if schedule == 0 => {
                        let within = Duration::from_secs(5);
                        Some(Deadline::Within { within, from: DeadlineFrom::DataIntervalEnd })
                    }
                    2 => Some(Deadline::Usual { factor: 1.5 }),
                    _ => None,
                },
                on_deadline: vec![Notification { webhook: "http://h/".to_owned(), message: None }],
                max_active_runs,
                max_active_tasks,
                max_consecutive_failed_runs: (schedule == 3).then_some(2),
                ..dag(id, built.collect())
            }
        },
    )
}

/// A schedule by assets.
fn by_assets(assets: &[&str], any: bool, time: Option<Schedule>) -> Schedule {
    let assets = assets.iter().map(|name| AssetName::new(name).unwrap()).collect();
    Schedule::Assets(AssetSchedule { assets, any, time: time.map(Box::new) })
}

/// Some tasks update one of two assets, some both; the DAGs may go round in circles.
fn outlets(number: u16) -> Vec<AssetName> {
    let names: &[&str] = match number % 11 {
        0 => &["p"],
        1 => &["q"],
        2 => &["p", "q"],
        _ => &[],
    };
    names.iter().map(|name| AssetName::new(name).unwrap()).collect()
}

/// What happens next; numbers choose among what is there.
#[derive(Clone, Debug)]
enum Happening {
    Pass(i64),
    JumpBack(i64),
    Trigger(bool),
    Exchange {
        worker: u8,
        boot: u8,
        capacity: u32,
    },
    Heartbeat(u8),
    Start(usize),
    End {
        which: usize,
        outcome: usize,
        is_final: bool,
        follow: usize,
    },
    Late(usize),
    Lost(usize),
    Clear {
        which: usize,
        task: usize,
        flags: u8,
    },
    Mark {
        which: usize,
        task: usize,
        element: i32,
        is_success: bool,
    },
    /// What maps give from now on: a list of so many, or none at all.
    Lists(Option<i64>),
    /// What the templates of `until` give from now on: so many seconds from now.
    Until(i64),
    MarkRun {
        which: usize,
        is_success: bool,
    },
    Cancel(usize),
    Resume(usize),
    Pause(bool),
    Post(bool),
    Pool(u32),
    PoolDeleted,
    Change(u8),
    ClearLatest {
        which: usize,
        task: usize,
    },
    LongJump(i64),
    Backfill {
        first: bool,
        back: i64,
        length: i64,
        how: u8,
    },
    ChangeBackfill {
        which: usize,
        how: usize,
    },
    Restart,
}

fn any_happening() -> impl Strategy<Value = Happening> {
    use Happening::{
        Backfill, Cancel, Change, ChangeBackfill, Clear, ClearLatest, End, Exchange, Heartbeat, JumpBack,
        Late, Lists, LongJump, Lost, Mark, MarkRun, Pass, Pause, Pool, PoolDeleted, Post, Restart, Resume,
        Start, Trigger, Until,
    };
    prop_oneof![
        4 => (0..20_i64).prop_map(Pass),
        1 => (0..100_i64).prop_map(JumpBack),
        4 => any::<bool>().prop_map(Trigger),
        5 => (0..2_u8, 0..3_u8, 0..5_u32).prop_map(|(worker, boot, capacity)| Exchange { worker, boot, capacity }),
        2 => (0..2_u8).prop_map(Heartbeat),
        4 => any::<usize>().prop_map(Start),
        12 => (any::<usize>(), 0..8_usize, any::<bool>(), any::<usize>())
            .prop_map(|(which, outcome, is_final, follow)| End { which, outcome, is_final, follow }),
        2 => any::<usize>().prop_map(Late),
        1 => any::<usize>().prop_map(Lost),
        2 => (any::<usize>(), any::<usize>(), 0..32_u8).prop_map(|(which, task, flags)| Clear { which, task, flags }),
        2 => (any::<usize>(), any::<usize>(), -1..2_i32, any::<bool>())
            .prop_map(|(which, task, element, is_success)| Mark { which, task, element, is_success }),
        1 => prop::option::of(0..4_i64).prop_map(Lists),
        1 => (-9..90_i64).prop_map(Until),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, is_success)| MarkRun { which, is_success }),
        1 => any::<usize>().prop_map(Cancel),
        1 => any::<usize>().prop_map(Resume),
        1 => any::<bool>().prop_map(Pause),
        3 => any::<bool>().prop_map(Post),
        1 => (0..4_u32).prop_map(Pool),
        1 => Just(PoolDeleted),
        1 => any::<u8>().prop_map(Change),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(which, task)| ClearLatest { which, task }),
        1 => (-3..20_i64).prop_map(LongJump),
        2 => (any::<bool>(), 0..60_i64, 0..40_i64, any::<u8>())
            .prop_map(|(first, back, length, how)| Backfill { first, back, length, how }),
        1 => (any::<usize>(), 0..3_usize).prop_map(|(which, how)| ChangeBackfill { which, how }),
        1 => Just(Restart),
    ]
}

fn pick<T: Clone>(items: &[T], index: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[index % items.len()].clone())
}

fn some_run(world: &World, index: usize) -> Option<RunKey> {
    pick(&world.runs.keys().copied().collect::<Vec<_>>(), index)
}

fn some_task(world: &World, run: RunKey, index: usize) -> String {
    let row = &world.runs[&run];
    let tasks = &world.versions[&(row.dag_id.clone(), row.dag_version.clone())].tasks;
    tasks[index % tasks.len()].id.to_string()
}

fn happen(world: &mut World, happening: Happening) {
    let assigned: Vec<(WorkerId, AttemptKey)> = world.assigned.iter().cloned().collect();
    match happening {
        Happening::Pass(seconds) => drop(world.pass(seconds)),
        Happening::JumpBack(seconds) => {
            world.now.wall -= chrono::TimeDelta::seconds(seconds);
            world.tick();
        }
        Happening::Trigger(first) => drop(world.trigger(if first { "x" } else { "y" })),
        Happening::Exchange { worker, boot, capacity } => {
            world.exchange(&format!("w{worker}"), &format!("boot{boot}"), capacity);
        }
        Happening::Heartbeat(worker) => {
            let worker = worker_id(&format!("w{worker}"));
            let attempts = assigned.iter().filter(|(w, _)| *w == worker).map(|(_, a)| a.clone()).collect();
            world.step(Event::Heartbeat { worker, boot_id: "boot0".to_owned(), attempts });
        }
        Happening::Start(index) => {
            if let Some((worker, attempt)) = pick(&assigned, index) {
                let started_at = world.now.wall;
                world.step(Event::AttemptStarted { attempt, worker, started_at });
            }
        }
        Happening::End { which, outcome, is_final, follow } => {
            if let Some((worker, attempt)) = pick(&assigned, which) {
                let names = [vec![], vec![some_task(world, attempt.instance.run, follow)]];
                let follow = Some(names[follow % 2].clone());
                let outcome = TryOutcome::ALL[outcome];
                world.finish(worker, attempt, AttemptResult { is_final, follow, ..result(outcome) });
            }
        }
        Happening::Late(index) => {
            let all: Vec<(WorkerId, AttemptKey)> =
                world.tries.values().map(|row| (row.worker.clone(), row.attempt.clone())).collect();
            if let Some((worker, attempt)) = pick(&all, index) {
                world.finish(worker, attempt, result(TryOutcome::Success));
            }
        }
        Happening::Lost(index) => {
            if let Some((worker, attempt)) = pick(&assigned, index) {
                world.assigned.remove(&(worker.clone(), attempt.clone()));
                let boot_id = "swept".to_owned();
                world.step(Event::AttemptLost { attempt, worker, boot_id, reason: "swept".to_owned() });
            }
        }
        other => operate(world, other),
    }
}

fn operate(world: &mut World, happening: Happening) {
    match happening {
        Happening::Clear { which, task, flags } => {
            let Some(run) = some_run(world, which) else { return };
            let name = some_task(world, run, task);
            let tasks = if flags & 8 == 0 { vec![task_id(&name)] } else { Vec::new() };
            let (upstream, downstream, only_failed) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            let map_index = (flags & 16 != 0).then_some(i32::from(flags & 1));
            world.clear(run, ClearSelection { tasks, map_index, upstream, downstream, only_failed });
        }
        Happening::Lists(length) => {
            let answer = length.ok_or_else(|| "the template is wrong".to_owned());
            world.lists = (0..8).map(|task| (task_id(&format!("t{task}")), answer.clone())).collect();
        }
        Happening::Until(seconds) => {
            world.until = match seconds {
                -1 => "soon".to_owned(),
                _ => (world.now.wall + chrono::TimeDelta::seconds(seconds)).to_rfc3339(),
            };
        }
        Happening::Mark { which, task, element, is_success } => {
            let Some(run) = some_run(world, which) else { return };
            let name = some_task(world, run, task);
            let name = if element < 0 { name } else { format!("{name}[{element}]") };
            world.mark(run, &name, if is_success { TaskState::Success } else { TaskState::Failed });
        }
        Happening::MarkRun { which, is_success } => {
            let Some(run) = some_run(world, which) else { return };
            let (request, finished) = (world.request(), world.finished(run));
            let state = if is_success { RunState::Success } else { RunState::Failed };
            world.step(Event::MarkRun { request, run, state, is_dry_run: false, finished });
        }
        Happening::Cancel(which) => {
            let Some(run) = some_run(world, which) else { return };
            let request = world.request();
            world.step(Event::Cancel { request, run, is_dry_run: false, ended: None });
        }
        Happening::Resume(which) => {
            let Some(run) = some_run(world, which) else { return };
            resume(world, run);
        }
        Happening::Pause(is_paused) => {
            let request = world.request();
            world.step(Event::DagPaused { request, dag_id: dag_id("x"), is_paused });
        }
        Happening::Post(first) => drop(world.post(if first { "p" } else { "q" })),
        Happening::Pool(slots) => {
            let request = world.request();
            let name = PoolName::new("small").unwrap();
            world.step(Event::PoolChanged {
                request,
                pool: PoolRow { name, slots, description: String::new() },
            });
        }
        Happening::PoolDeleted => {
            let request = world.request();
            world.step(Event::PoolDeleted { request, name: PoolName::new("small").unwrap() });
        }
        Happening::Change(how) => {
            // Limits and schedule change, tasks come and go; what is active keeps its own version.
            let mut dag = Dag::clone(&world.newest(&dag_id("x")));
            dag.description = Some(format!("changed {how}"));
            dag.max_active_tasks = 1 + u32::from(how % 4);
            dag.catchup = how & 16 != 0;
            if how & 32 != 0 {
                dag.schedule = Schedule::Every(Duration::from_secs(60));
            }
            if how & 128 != 0 {
                dag.schedule = by_assets(if how & 1 == 0 { &["q"] } else { &["p", "q"] }, how & 2 != 0, None);
            }
            if how & 64 != 0 && !dag.tasks.iter().any(|task| task.id == task_id("new")) {
                dag.tasks.push(Task { max_active_per_dag: Some(1), ..task("new", &["t0"]) });
            }
            world.load(dag);
        }
        Happening::ClearLatest { which, task } => {
            let Some(run) = some_run(world, which) else { return };
            let dag = world.newest(&world.runs[&run].dag_id.clone());
            let tasks = vec![dag.tasks[task % dag.tasks.len()].id.clone()];
            world.clear_latest(run, ClearSelection { tasks, ..ClearSelection::default() });
        }
        Happening::LongJump(minutes) => {
            // Each date that is caught up may be a run with questions of its own.
            world.now.wall += chrono::TimeDelta::minutes(minutes);
            world.tick();
        }
        Happening::Backfill { first, back, length, how } => {
            let from = world.now.wall - chrono::TimeDelta::seconds(back + length);
            world.backfill(
                if first { "x" } else { "y" },
                BackfillSpec {
                    from,
                    to: from + chrono::TimeDelta::seconds(length),
                    reprocess: Reprocess::ALL[usize::from(how) % 3],
                    max_active_runs: 1 + u32::from(how / 3 % 3),
                    run_backwards: how & 128 != 0,
                    conf: std::sync::Arc::default(),
                },
            );
        }
        Happening::ChangeBackfill { which, how } => {
            if let Some(key) = pick(&world.backfills.keys().copied().collect::<Vec<_>>(), which) {
                world.change_backfill(key, BackfillChange::ALL[how]);
            }
        }
        Happening::Restart => {
            world.restart();
            // The wall clock may have been set beyond a deadline meanwhile.
            world.tick();
        }
        _ => {}
    }
}

fn resume(world: &mut World, run: RunKey) {
    let request = world.request();
    let ended = Some(world.runs[&run].state).filter(|state| state.is_terminal());
    world.step(Event::Resume { request, run, is_dry_run: false, ended });
}

/// A person gives a verdict on what failed in a run that a later one waits for.
fn release_the_past(world: &mut World) {
    let active: Vec<RunKey> =
        world.runs.values().filter(|run| !run.state.is_terminal()).map(|r| r.key).collect();
    for run in active {
        let row = world.runs[&run].clone();
        let dag = std::sync::Arc::clone(&world.versions[&(row.dag_id.clone(), row.dag_version)]);
        let keys: Vec<_> = dag.tasks.iter().flat_map(|task| world.instances(run, &task.id)).collect();
        for key in keys {
            let reasons = world.engine.explain(&key, world.now);
            for reason in reasons {
                let WaitReason::PreviousRun { run_id, waiting_for } = reason else { continue };
                let before = world.runs.values().find(|r| r.dag_id == row.dag_id && r.run_id == run_id);
                let before = before.map(|run| run.key).unwrap();
                let ended = waiting_for.iter().filter(|(_, state)| state.is_terminal());
                for (task, _) in ended {
                    world.mark(before, task.as_str(), TaskState::Success);
                }
            }
        }
    }
}

/// Lets everything end well: whatever happened, every run ends when workers work and time passes.
fn heal(world: &mut World) {
    // Circles come to an end.
    world.triggered_per_step = 0;
    let request = world.request();
    let name = PoolName::new("small").unwrap();
    world.step(Event::PoolChanged { request, pool: PoolRow { name, slots: 9, description: String::new() } });
    for dag in ["x", "y"] {
        let request = world.request();
        world.step(Event::DagPaused { request, dag_id: dag_id(dag), is_paused: true });
    }
    for _ in 0..400 {
        let paused = world.backfills.values().filter(|row| row.state == BackfillState::Paused);
        for key in paused.map(|row| row.key).collect::<Vec<_>>() {
            world.change_backfill(key, BackfillChange::Resume);
        }
        let open: Vec<_> = world.backfills.values().filter(|row| !row.state.is_terminal()).collect();
        let is_done = open.is_empty();
        // Its dates were past when it was created; the clock that was set back comes there again.
        if let Some(to) = open.iter().map(|row| row.spec.to).max() {
            world.now.wall = world.now.wall.max(to + chrono::TimeDelta::minutes(1));
            world.tick();
        }
        if is_done && world.runs.values().all(|run| run.state.is_terminal()) {
            return;
        }
        world.exchange("w0", "healed", 50);
        while let Some((worker, attempt)) = world.assigned.first().cloned() {
            let follow = Some(Vec::new());
            world.finish(worker, attempt, AttemptResult { follow, ..result(TryOutcome::Success) });
        }
        release_the_past(world);
        for run in world
            .runs
            .values()
            .filter(|run| run.state == RunState::Paused)
            .map(|run| run.key)
            .collect::<Vec<_>>()
        {
            resume(world, run);
        }
        world.pass(6);
    }
    panic!("runs do not end: {:?}", world.runs.keys().map(|run| world.line(*run)).collect::<Vec<_>>());
}

proptest! {
    // A case costs up to a second: a failure that is made smaller for longer than this would be told by nobody.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(160),
        failure_persistence: None,
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_keeps_every_invariant_and_ends(
        x in any_dag("x"),
        y in any_dag("y"),
        happenings in prop::collection::vec(any_happening(), 1..90),
    ) {
        let mut world = World::new();
        // DAGs that trigger each other go on for ever: one run a step.
        world.triggered_per_step = 1;
        world.load(x);
        world.load(y);
        world.exchange("w0", "boot0", 3);
        for happening in happenings {
            happen(&mut world, happening);
        }
        heal(&mut world);
        prop_assert!(world.steps > 0);
    }
}

/// The order in which rows are loaded changes nothing.
#[test]
fn a_rebuild_does_not_depend_on_the_order_of_rows() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[]), task("b", &["a"]), task("c", &["a"])]));
    world.exchange("w", "b1", 2);
    for _ in 0..4 {
        world.trigger("d");
    }
    let run = *world.runs.keys().next().unwrap();
    world.end(run, "a", TryOutcome::Success);
    let stored = world.stored();
    let mut reversed = stored.clone();
    reversed.runs.reverse();
    reversed.open_tries.reverse();
    for run in &mut reversed.runs {
        run.tasks.reverse();
        run.fences.reverse();
    }
    let (mut one, mut two) = (
        super::super::Engine::restore(stored, world.now),
        super::super::Engine::restore(reversed, world.now),
    );
    assert_eq!(one.durable(), two.durable());
    let event = Event::WorkerExchanged {
        worker: worker_id("v"),
        boot_id: "b".to_owned(),
        has_swept: true,
        capacity: 9,
        queues: vec!["default".to_owned()],
        held: Vec::new(),
        lost: Vec::new(),
    };
    assert_eq!(one.step(event.clone(), world.now), two.step(event, world.now));
}
