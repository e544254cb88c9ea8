//! Tries: retries, leases, losses, results that come late or twice.

use crate::{
    action::{Action, Reply, Verdict},
    definition::Task,
    engine::tests::world::{World, at, dag, result, task},
    event::Event,
    state::{TaskState, TryOutcome},
    wait_reason::WaitReason,
};

fn verdict(actions: &[Action]) -> Option<Verdict> {
    actions.iter().find_map(|action| match action {
        Action::Answer(answer) => match answer.reply {
            Reply::Verdict(verdict) => Some(verdict),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn retry_waits_until_retry_at_and_survives_a_restart() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { retries: 1, ..task("a", &[]) }]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    assert_eq!(world.state(run, "a"), TaskState::UpForRetry);
    world.pass(200);
    world.restart();
    world.exchange("w", "b1", 1);
    world.pass(99);
    assert_eq!(world.state(run, "a"), TaskState::UpForRetry);
    world.exchange("w", "b1", 1);
    world.pass(1);
    assert_eq!(world.state(run, "a"), TaskState::Queued);
    let (_, attempt) = world.live(run, "a");
    assert_eq!((attempt.try_number, attempt.epoch), (2, 2));
    world.end(run, "a", TryOutcome::Failed);
    assert_eq!(world.line(run), "failed | a=failed");
}

#[test]
fn a_retry_delay_is_never_longer_than_itself_after_a_clock_jump() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { retries: 1, ..task("a", &[]) }]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    world.now.wall = at("2020-01-01T00:00:00Z");
    world.restart();
    world.pass(299);
    world.exchange("w", "b1", 1);
    assert_eq!(world.state(run, "a"), TaskState::UpForRetry);
    world.pass(1);
    assert_eq!(world.state(run, "a"), TaskState::Queued);
}

#[test]
fn losses_have_a_budget_of_their_own() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { max_lost_retries: 1, ..task("a", &[]) }]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    world.pass(31);
    world.exchange("w", "b2", 1);
    assert_eq!(world.live(run, "a").1.epoch, 2, "the lease ended and the task was given out again");
    world.exchange("w", "b3", 1);
    assert_eq!(world.line(run), "failed | a=failed", "the second loss is one too many");
    assert!(world.tasks[&World::key(run, "a")].reason.as_ref().unwrap().starts_with("SCH0112"));
}

#[test]
fn heartbeats_keep_a_lease_and_silence_ends_it() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    for _ in 0..20 {
        let (worker, attempt) = world.live(run, "a");
        world.step(Event::Heartbeat { worker, boot_id: "b1".to_owned(), attempts: vec![attempt] });
        world.pass(25);
    }
    assert_eq!(world.live(run, "a").1.epoch, 1);
    world.pass(6);
    assert_eq!(world.state(run, "a"), TaskState::Scheduled, "{}", world.line(run));
    let reasons = world.engine.explain(&World::key(run, "a"), world.now);
    assert_eq!(reasons, [WaitReason::NoWorker { queue: "default".to_owned() }]);
}

#[test]
fn a_late_result_is_fenced_and_a_repeated_one_is_a_duplicate() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[]), task("b", &["a"])]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    let (worker, first) = world.live(run, "a");
    world.pass(31);
    world.exchange("v", "b1", 1);
    let late = world.finish(worker.clone(), first.clone(), result(TryOutcome::Success));
    assert_eq!(verdict(&late), Some(Verdict::Fenced));
    assert_eq!(world.state(run, "a"), TaskState::Queued);
    let (other, second) = world.live(run, "a");
    assert_ne!(second, first);
    let done = world.finish(other.clone(), second.clone(), result(TryOutcome::Success));
    assert_eq!(verdict(&done), Some(Verdict::Accepted));
    let again = world.finish(other.clone(), second.clone(), result(TryOutcome::Failed));
    assert_eq!(verdict(&again), Some(Verdict::Duplicate));
    assert_eq!(world.state(run, "a"), TaskState::Success);
    world.restart();
    let again = world.finish(other, second, result(TryOutcome::Failed));
    assert_eq!(verdict(&again), Some(Verdict::Duplicate), "known from the stored try after a restart");
    let late = world.finish(worker, first, result(TryOutcome::Success));
    assert_eq!(verdict(&late), Some(Verdict::Fenced));
}

#[test]
fn what_a_worker_should_hold_and_does_not_list_is_delivered_again() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    let live = world.live(run, "a");
    world.assigned.clear();
    let actions = world.exchange("w", "b1", 1);
    let again = actions
        .iter()
        .any(|action| matches!(action, Action::Assign(a) if a.is_redelivery && a.attempt == live.1));
    assert!(again, "{actions:?}");
    assert_eq!(world.tasks[&live.1.instance].try_number, 1);
}

#[test]
fn what_a_sweep_proves_dead_goes_to_the_incarnation_that_swept() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    let (worker, dead) = world.live(run, "a");
    world.assigned.clear();
    // The worker is back and still ships logs: it tells one loss and has not swept everything.
    let exchange = |has_swept, held, lost| Event::WorkerExchanged {
        worker: worker.clone(),
        boot_id: "b2".to_owned(),
        has_swept,
        capacity: 2,
        queues: vec!["default".to_owned()],
        held,
        lost,
    };
    world.step(exchange(false, Vec::new(), vec![(dead.clone(), "swept".to_owned())]));
    let (_, next) = world.live(run, "a");
    assert_eq!((next.epoch, world.tries[&next].boot_id.as_str()), (2, "b2"));
    assert_eq!(world.tries[&dead].reason.as_deref(), Some("swept"));
    // What it was given since is its own: the end of the sweep takes nothing from it.
    world.step(exchange(true, vec![next.clone()], Vec::new()));
    assert_eq!(world.live(run, "a").1, next);
    assert_eq!(world.tasks[&next.instance].losses, 1);
}
