//! Who holds what, and who may say so.

use std::time::Duration;

use super::world::{World, dag, dag_id, result, task, worker_id};
use crate::{
    action::Action,
    definition::{Dag, Task},
    event::Event,
    ids::PoolName,
    retry,
    rows::PoolRow,
    state::{TaskState, TryOutcome},
};

fn pool(name: &str, slots: u32) -> PoolRow {
    PoolRow { name: PoolName::new(name).unwrap(), slots, description: String::new() }
}

#[test]
fn a_pool_that_is_deleted_and_made_anew_is_still_used_by_what_runs() {
    let mut world = World::new();
    let request = world.request();
    world.step(Event::PoolChanged { request, pool: pool("gpu", 1) });
    let train = |id: &str| Task { pool: PoolName::new("gpu").unwrap(), ..task(id, &[]) };
    world.load(dag("d", vec![train("a"), train("b")]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    assert_eq!(world.line(run), "running | a=queued b=scheduled");
    let request = world.request();
    world.step(Event::PoolDeleted { request, name: PoolName::new("gpu").unwrap() });
    let request = world.request();
    world.step(Event::PoolChanged { request, pool: pool("gpu", 1) });
    assert_eq!(world.line(run), "running | a=queued b=scheduled", "one slot, and it is taken");
    world.end(run, "a", TryOutcome::Success);
    assert_eq!(world.line(run), "running | a=success b=queued");
}

#[test]
fn an_attempt_is_given_up_on_the_word_of_a_later_start_of_its_worker_alone() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    let (worker, attempt) = world.live(run, "a");
    let lost = |worker: &str, boot_id: &str| Event::AttemptLost {
        attempt: attempt.clone(),
        worker: worker_id(worker),
        boot_id: boot_id.to_owned(),
        reason: "swept".to_owned(),
    };
    assert_eq!(world.step(lost("stranger", "b9")), [], "nobody else's business");
    assert_eq!(world.step(lost("w", "b1")), [], "what it runs itself ends with a result");
    assert!(world.engine.has_lease(&attempt, &worker));
    world.assigned.clear();
    world.step(lost("w", "b2"));
    assert_eq!(world.tasks[&World::key(run, "a")].losses, 1);
}

/// An end lets back what it made room for, not everything that waits.
#[test]
fn tasks_with_a_limit_of_their_own_take_turns_in_order_of_urgency() {
    let mut world = World::new();
    let limited =
        |id: &str, weight| Task { max_active_per_dag: Some(1), priority_weight: weight, ..task(id, &[]) };
    let tasks = vec![limited("low", 1), limited("mid", 5), limited("high", 9)];
    world.load(Dag { max_active_tasks: 2, ..dag("d", tasks) });
    world.exchange("w", "b1", 9);
    let (one, two) = (world.trigger("d"), world.trigger("d"));
    assert_eq!(world.line(one), "running | low=scheduled mid=queued high=queued");
    assert_eq!(world.line(two), "running | low=scheduled mid=scheduled high=scheduled");
    world.end(one, "high", TryOutcome::Success);
    assert_eq!(world.line(two), "running | low=scheduled mid=scheduled high=queued");
    world.end(two, "high", TryOutcome::Success);
    assert_eq!(world.line(one), "running | low=queued mid=queued high=success", "mid is limited to one");
    world.end(one, "mid", TryOutcome::Success);
    assert_eq!(world.line(two), "running | low=scheduled mid=queued high=success");
    world.end(one, "low", TryOutcome::Success);
    assert_eq!(world.line(two), "running | low=queued mid=queued high=success");
}

/// What is taken back while it waits makes room for what the same limit held back.
#[test]
fn a_head_that_is_taken_back_does_not_leave_the_others_parked() {
    let mut world = World::new();
    let request = world.request();
    world.step(Event::PoolChanged { request, pool: pool("gpu", 1) });
    let train = |id: &str, weight| Task {
        pool: PoolName::new("gpu").unwrap(),
        priority_weight: weight,
        max_active_per_dag: Some(1),
        ..task(id, &[])
    };
    world.load(Dag { max_active_tasks: 1, ..dag("d", vec![train("a", 9), train("b", 5), train("c", 1)]) });
    world.load(dag("other", vec![Task { priority_weight: 99, ..train("x", 99) }]));
    world.exchange("w", "b1", 9);
    let run = world.trigger("d");
    world.trigger("other");
    // The limit parks `b` and `c`; then the pool is what `b` waits for, and a person ends it.
    world.end(run, "a", TryOutcome::Success);
    let waiting = if world.state(run, "b") == TaskState::Scheduled { "b" } else { "c" };
    world.mark(run, waiting, TaskState::Success);
    for _ in 0..3 {
        while let Some((worker, attempt)) = world.assigned.first().cloned() {
            world.finish(worker, attempt, result(TryOutcome::Success));
        }
    }
    assert!(world.runs.values().all(|run| run.state.is_terminal()), "{}", world.line(run));
}

#[test]
fn an_enormous_back_off_is_a_delay_like_any_other() {
    for (seconds, backoff) in [(0, 100.0), (300, 100.0), (1, f64::MAX), (0, 0.0)] {
        let task = Task {
            retry_delay: Duration::from_secs(seconds),
            retry_backoff: backoff,
            max_retry_delay: Duration::from_secs(7200),
            ..task("a", &[])
        };
        for failures in [1, 2, 156, 157, 400, u32::MAX] {
            let occasion = retry::Occasion {
                dag: &dag_id("d"),
                map_index: -1,
                logical_date: super::world::at("2026-11-01T00:00:00Z"),
                failures,
            };
            let delay = retry::delay(&task, occasion);
            assert!((1..=7200).contains(&delay.as_secs()), "{seconds} × {backoff}^{failures}: {delay:?}");
        }
    }
}

/// `int(hashlib.sha1(b"d#a#-1#2026-11-01T00:00:00+00:00#2").hexdigest(), 16) % 600` in Python.
#[test]
fn the_jitter_is_the_whole_digest_modulo_the_delay() {
    let task = Task {
        retry_delay: Duration::from_secs(300),
        retry_backoff: 2.0,
        max_retry_delay: Duration::from_secs(7200),
        ..task("a", &[])
    };
    let occasion = retry::Occasion {
        dag: &dag_id("d"),
        map_index: -1,
        logical_date: super::world::at("2026-11-01T00:00:00Z"),
        failures: 2,
    };
    assert_eq!(retry::delay(&task, occasion), Duration::from_secs(600 + 261));
}

/// Deciding does not look at what is parked: one end gives one slot away.
#[test]
fn an_end_assigns_no_more_than_it_freed() {
    let mut world = World::new();
    let tasks = (0..60).map(|n| Task { max_active_per_dag: Some(1), ..task(&format!("t{n:02}"), &[]) });
    world.load(Dag { max_active_tasks: 3, ..dag("d", tasks.collect()) });
    world.exchange("w", "b1", 50);
    let run = world.trigger("d");
    for _ in 0..60 {
        let (worker, attempt) = world.assigned.first().cloned().unwrap();
        let actions = world.finish(worker, attempt, result(TryOutcome::Success));
        let assigned = actions.iter().filter(|action| matches!(action, Action::Assign(_))).count();
        assert!(assigned <= 1, "{assigned} for one slot");
    }
    assert!(world.runs[&run].state.is_terminal());
}
