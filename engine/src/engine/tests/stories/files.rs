//! DAG files that change and disappear.

use super::diamond;
use crate::{
    action::Refusal,
    engine::tests::world::{World, dag, dag_id, refusal, task},
    event::{ClearSelection, Event},
    state::{RunState, TryOutcome},
};

#[test]
fn a_missing_dag_is_not_scheduled_and_can_be_deleted() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    let delete = |world: &mut World| {
        let request = world.request();
        refusal(&world.step(Event::DagDeleted { request, dag_id: dag_id("d") }))
    };
    assert_eq!(delete(&mut world), Some(Refusal::FileExists("d.toml".to_owned())));
    world.step(Event::DagMissing { dag_id: dag_id("d") });
    assert_eq!(delete(&mut world), Some(Refusal::HasActiveRuns(1)));
    for task in ["a", "b", "c", "e"] {
        world.end(run, task, TryOutcome::Success);
    }
    assert_eq!(world.runs[&run].state, RunState::Success, "its run went on");
    assert_eq!(delete(&mut world), None);
}

#[test]
fn a_run_keeps_the_version_that_it_started_with() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.load(dag("d", vec![task("other", &[])]));
    for task in ["a", "b", "c", "e"] {
        world.end(run, task, TryOutcome::Success);
    }
    assert_eq!(world.runs[&run].state, RunState::Success);
    let next = world.trigger("d");
    assert_eq!(world.line(next), "running | other=queued");
}

#[test]
fn a_finished_run_can_be_cleared_to_the_latest_version() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    for task in ["a", "b", "c", "e"] {
        world.end(run, task, TryOutcome::Success);
    }
    world.load(dag("d", vec![task("a", &[]), task("z", &["a"])]));
    let (request, finished) = (world.request(), world.finished(run));
    let selection = ClearSelection::default();
    world.step(Event::Clear { request, run, selection, is_dry_run: false, finished, latest: true });
    assert_eq!(world.line(run), "running | a=queued z=no_status");
    assert_eq!(world.live(run, "a").1.try_number, 2);
}
