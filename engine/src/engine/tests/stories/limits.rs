//! Pools, limits and priorities.

use crate::{
    definition::{Dag, Task},
    engine::tests::world::{World, dag, dag_id, task, task_id},
    event::Event,
    ids::{PoolName, RunKey},
    rows::PoolRow,
    state::{TaskState, TryOutcome},
    wait_reason::{Holder, WaitReason},
};

#[test]
fn pools_hold_back_by_slots_and_say_so() {
    let mut world = World::new();
    let pool = PoolName::new("gpu").unwrap();
    let heavy = |id: &str, slots| Task { pool: pool.clone(), pool_slots: slots, ..task(id, &[]) };
    world.load(dag("d", vec![heavy("a", 2), heavy("b", 2), heavy("c", 1), heavy("huge", 9)]));
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    let why = |world: &World, task: &str| world.engine.explain(&World::key(run, task), world.now);
    assert_eq!(why(&world, "a"), [WaitReason::PoolUnknown { pool: pool.clone() }]);
    let request = world.request();
    let row = PoolRow { name: pool.clone(), slots: 3, description: String::new() };
    world.step(Event::PoolChanged { request, pool: row });
    assert_eq!(world.line(run), "running | a=queued b=scheduled c=queued huge=scheduled");
    let run_id = world.runs[&run].run_id.clone();
    let holder = |task: &str| Holder {
        dag_id: dag_id("d"),
        run_id: run_id.clone(),
        task: task_id(task),
        map_index: -1,
    };
    let full = WaitReason::PoolFull { pool: pool.clone(), slots: 3, used: 3, wanted: 2 };
    let held_by = WaitReason::HeldBy { holders: vec![holder("c"), holder("a")], more: 0 };
    assert_eq!(why(&world, "b"), [full, held_by.clone()]);
    assert_eq!(held_by.to_string(), format!("held by c of d ({run_id}), a of d ({run_id})"));
    assert_eq!(why(&world, "huge"), [WaitReason::PoolTooSmall { pool, slots: 3, wanted: 9 }]);
    world.end(run, "a", TryOutcome::Success);
    assert_eq!(world.state(run, "b"), TaskState::Queued);
}

#[test]
fn limits_of_one_dag_block_no_other() {
    let mut world = World::new();
    world.load(Dag { max_active_tasks: 1, ..dag("narrow", vec![task("a", &[]), task("b", &[])]) });
    let limited = Task { max_active_per_dag: Some(1), ..task("a", &[]) };
    world.load(dag("wide", vec![limited, task("b", &[])]));
    world.exchange("w", "b1", 8);
    let narrow = world.trigger("narrow");
    let (first, second) = (world.trigger("wide"), world.trigger("wide"));
    assert_eq!(world.line(narrow), "running | a=queued b=scheduled");
    assert_eq!(world.line(first), "running | a=queued b=queued");
    assert_eq!(world.line(second), "running | a=scheduled b=queued");
    let why = |world: &World, run, task: &str| world.engine.explain(&World::key(run, task), world.now);
    let held_by = |world: &World, run: RunKey| {
        let row = &world.runs[&run];
        let (dag_id, run_id) = (row.dag_id.clone(), row.run_id.clone());
        let holder = Holder { dag_id, run_id, task: task_id("a"), map_index: -1 };
        WaitReason::HeldBy { holders: vec![holder], more: 0 }
    };
    assert_eq!(why(&world, narrow, "b"), [WaitReason::DagLimit { limit: 1 }, held_by(&world, narrow)]);
    assert_eq!(why(&world, second, "a"), [WaitReason::TaskLimit { limit: 1 }, held_by(&world, first)]);
    world.end(first, "a", TryOutcome::Success);
    assert_eq!(world.state(second, "a"), TaskState::Queued);
}

#[test]
fn the_heaviest_goes_first_then_the_oldest_date_then_file_order() {
    let mut world = World::new();
    let heavy = Task { priority_weight: 10, ..task("heavy", &[]) };
    world.load(dag("d", vec![task("light", &[]), heavy, task("last", &[])]));
    let (first, second) = (world.trigger("d"), world.trigger("d"));
    let mut order = Vec::new();
    world.exchange("w", "b1", 1);
    for _ in 0..6 {
        let (_, attempt) = world.assigned.first().cloned().unwrap();
        order.push((attempt.instance.run, attempt.instance.task.to_string()));
        world.end(attempt.instance.run, attempt.instance.task.as_str(), TryOutcome::Success);
    }
    let expected: Vec<(RunKey, String)> = [
        (first, "heavy"),
        (second, "heavy"),
        (first, "light"),
        (first, "last"),
        (second, "light"),
        (second, "last"),
    ]
    .map(|(run, task)| (run, task.to_owned()))
    .into();
    assert_eq!(order, expected);
}

/// A run says what holds the whole of it back, or what its instances do; what only waits for others of it is left out.
#[test]
fn a_run_says_why_it_has_not_ended() {
    let mut world = World::new();
    let lonely = Task { queue: "gpu".to_owned(), ..task("lonely", &[]) };
    let tasks = vec![task("a", &[]), lonely, task("last", &["a"])];
    world.load(Dag { max_active_runs: 1, ..dag("d", tasks) });
    world.exchange("w", "b1", 8);
    let [first, second, third] = [world.trigger("d"), world.trigger("d"), world.trigger("d")];
    let told = |world: &World, run| -> Vec<String> {
        world.engine.explain_run(run, world.now).iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told(&world, first),
        ["lonely: no worker that serves queue gpu is connected", "a: starting on worker w"]
    );
    let reasons = world.engine.explain(&World::key(first, "lonely"), world.now);
    assert_eq!(reasons[1].to_string(), "the connected workers serve default");
    let id = |run| world.runs[&run].run_id.clone();
    let limit = "its run waits: 1 of max_active_runs = 1 runs are active";
    let next = format!("active: {}; it is the next one", id(first));
    assert_eq!(told(&world, second), [limit, &next]);
    let later = format!("active: {}; queued before it: {}", id(first), id(second));
    assert_eq!(told(&world, third), [limit, &later]);
}
