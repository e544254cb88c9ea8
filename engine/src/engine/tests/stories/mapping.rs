//! Mapped tasks: how they get their elements, what is below them, and what becomes of elements that are cleared.

use serde_json::json;

use crate::{
    action::{Action, Refusal},
    definition::{Dag, MapSource, MapSpec, Role, Task},
    engine::tests::world::{
        World, dag, mapped, mapped_over, noop, refusal, result, setup, task, task_id, teardown,
    },
    event::ClearSelection,
    ids::TaskInstanceKey,
    state::{TaskState, TriggerRule, TryOutcome},
    wait_reason::WaitReason,
};

/// `find` → `each` (mapped over what is asked for) → `join`.
fn fan() -> Dag {
    dag("d", vec![task("find", &[]), mapped(task("each", &["find"])), task("join", &["each"])])
}

fn world_with(dag: Dag, capacity: u32) -> World {
    let mut world = World::new();
    world.load(dag);
    world.exchange("w", "b1", capacity);
    world
}

fn reason(world: &World, run: crate::ids::RunKey, task: &str) -> String {
    world.tasks[&World::key(run, task)].reason.clone().unwrap_or_default()
}

#[test]
fn a_list_is_asked_for_when_the_upstreams_have_ended_and_each_element_runs() {
    let mut world = world_with(fan(), 9);
    let run = world.trigger("d");
    world.lists.insert(task_id("each"), Ok(3));
    assert_eq!(world.line(run), "running | find=queued each=no_status join=no_status");
    assert_eq!(world.answered, 0, "nothing is asked before it is due");
    world.end(run, "find", TryOutcome::Success);
    assert_eq!(world.line(run), "running | find=success each=[queued queued queued] join=no_status");
    assert_eq!(world.answered, 1);
    assert_eq!(world.engine.map_value(&World::key(run, "each[2]")), Some(json!(2)));
    assert_eq!(world.engine.map_value(&World::key(run, "find")), None);
    world.end(run, "each[1]", TryOutcome::Success);
    world.end(run, "each[0]", TryOutcome::Success);
    assert_eq!(world.line(run), "running | find=success each=[success success queued] join=no_status");
    world.end(run, "each[2]", TryOutcome::Success);
    assert_eq!(world.line(run), "running | find=success each=[success success success] join=queued");
    world.end(run, "join", TryOutcome::Success);
    assert!(world.line(run).starts_with("success | "));
}

#[test]
fn a_literal_list_needs_no_answer() {
    let mut world = world_with(dag("d", vec![mapped_over(task("each", &[]), 2)]), 9);
    let run = world.trigger("d");
    assert_eq!(world.line(run), "running | each=[queued queued]");
    assert_eq!(world.answered, 0);
}

#[test]
fn a_cross_product_has_an_element_for_every_combination() {
    let list = |items: &[&str]| MapSource::List(items.iter().map(|item| json!(item)).collect());
    let map = MapSpec::Product(vec![
        ("size".to_owned(), list(&["s", "l"])),
        ("day".to_owned(), list(&["mon", "tue", "wed"])),
    ]);
    let each = Task { map: Some(map), ..task("each", &[]) };
    let mut world = world_with(dag("d", vec![each]), 9);
    let run = world.trigger("d");
    let value = |index: &str| world.engine.map_value(&World::key(run, index));
    assert_eq!(value("each[0]"), Some(json!({"size": "s", "day": "mon"})));
    assert_eq!(value("each[4]"), Some(json!({"size": "l", "day": "tue"})));
    assert_eq!(value("each[6]"), None);
}

#[test]
fn an_empty_list_skips_the_task_and_counts_as_one_skipped_upstream() {
    let any = Task { trigger_rule: TriggerRule::NoneFailed, ..task("any", &["each"]) };
    let mut world =
        world_with(dag("d", vec![mapped_over(task("each", &[]), 0), task("all", &["each"]), any]), 9);
    let run = world.trigger("d");
    assert_eq!(world.line(run), "running | each=skipped all=skipped any=queued");
    assert_eq!(reason(&world, run, "each"), "its map is empty");
}

#[test]
fn a_list_that_is_too_long_fails_the_task_by_name_and_size() {
    let mut world = world_with(fan(), 9);
    world.lists.insert(task_id("each"), Ok(1025));
    let run = world.trigger("d");
    world.end(run, "find", TryOutcome::Success);
    assert_eq!(world.line(run), "failed | find=success each=failed join=upstream_failed");
    assert_eq!(
        reason(&world, run, "each"),
        "SCH0113: `map` has 1025 elements, more than max_map_length = 1024"
    );
    // It is one instance still: a clear asks again.
    world.lists.insert(task_id("each"), Ok(1));
    let downstream = true;
    world
        .clear(run, ClearSelection { tasks: vec![task_id("each")], downstream, ..ClearSelection::default() });
    assert_eq!(world.line(run), "running | find=success each=[queued] join=no_status");
}

#[test]
fn a_list_that_cannot_be_had_fails_the_task_with_the_reason() {
    let mut world = world_with(fan(), 9);
    world.lists.insert(task_id("each"), Err("SCH0720: it is a number".to_owned()));
    let run = world.trigger("d");
    world.end(run, "find", TryOutcome::Success);
    assert_eq!(world.line(run), "failed | find=success each=failed join=upstream_failed");
    assert_eq!(reason(&world, run, "each"), "SCH0720: it is a number");
}

#[test]
fn one_failed_element_fails_the_join_at_once_and_the_others_go_on() {
    let mut world = world_with(dag("d", vec![mapped_over(task("each", &[]), 3), task("join", &["each"])]), 9);
    let run = world.trigger("d");
    world.end(run, "each[1]", TryOutcome::Failed);
    assert_eq!(world.line(run), "running | each=[queued failed queued] join=upstream_failed");
    assert_eq!(reason(&world, run, "join"), "trigger rule all_success: each[1] is failed");
    world.end(run, "each[0]", TryOutcome::Success);
    world.end(run, "each[2]", TryOutcome::Success);
    assert!(world.line(run).starts_with("failed | "));
}

#[test]
fn one_success_needs_one_element_and_does_not_wait_for_the_list_of_another() {
    let one = Task { trigger_rule: TriggerRule::OneSuccess, ..task("one", &["each", "other"]) };
    let tasks =
        vec![task("slow", &[]), mapped_over(task("each", &[]), 2), mapped(task("other", &["slow"])), one];
    let mut world = world_with(dag("d", tasks), 9);
    let run = world.trigger("d");
    world.end(run, "each[1]", TryOutcome::Success);
    assert_eq!(world.line(run), "running | slow=queued each=[queued success] other=no_status one=queued");
}

#[test]
fn a_mapped_task_below_a_mapped_task_waits_for_all_of_it() {
    let second = mapped_over(task("second", &["first"]), 2);
    let mut world = world_with(dag("d", vec![mapped_over(task("first", &[]), 2), second]), 9);
    let run = world.trigger("d");
    world.end(run, "first[0]", TryOutcome::Success);
    assert_eq!(world.line(run), "running | first=[success queued] second=no_status");
    world.end(run, "first[1]", TryOutcome::Success);
    assert_eq!(world.line(run), "running | first=[success success] second=[queued queued]");
}

#[test]
fn an_element_is_retried_by_itself() {
    let each = Task { retries: 1, ..mapped_over(task("each", &[]), 2) };
    let mut world = world_with(dag("d", vec![each]), 9);
    let run = world.trigger("d");
    world.end(run, "each[0]", TryOutcome::Failed);
    assert_eq!(world.line(run), "running | each=[up_for_retry queued]");
    world.end(run, "each[1]", TryOutcome::Success);
    world.restart();
    world.pass(300);
    world.exchange("w", "b1", 9);
    assert_eq!(world.line(run), "running | each=[queued success]");
    assert_eq!(world.live(run, "each[0]").1.try_number, 2);
}

#[test]
fn elements_get_slots_in_the_order_of_the_list_and_no_more_than_they_may() {
    let each = Task { max_active_per_run: Some(2), ..mapped_over(task("each", &[]), 4) };
    let mut world = world_with(dag("d", vec![each, task("beside", &[])]), 3);
    let run = world.trigger("d");
    assert_eq!(world.line(run), "running | each=[queued queued scheduled scheduled] beside=queued");
    let why = world.engine.explain(&World::key(run, "each[2]"), world.now);
    assert_eq!(why, [WaitReason::RunTaskLimit { limit: 2 }]);
    let other = world.trigger("d");
    assert_eq!(
        world.line(other),
        "running | each=[scheduled scheduled scheduled scheduled] beside=scheduled"
    );
    world.end(run, "each[1]", TryOutcome::Success);
    assert_eq!(world.line(run), "running | each=[queued success queued scheduled] beside=queued");
    world.end(run, "beside", TryOutcome::Success);
    assert_eq!(
        world.line(other),
        "running | each=[queued scheduled scheduled scheduled] beside=scheduled",
        "the limit of one run is not that of another"
    );
}

#[test]
fn an_element_that_is_cleared_alone_runs_again_with_the_same_value() {
    let mut world = world_with(fan(), 9);
    let run = world.trigger("d");
    world.end(run, "find", TryOutcome::Success);
    world.end(run, "each[0]", TryOutcome::Success);
    world.end(run, "each[1]", TryOutcome::Failed);
    assert_eq!(world.line(run), "failed | find=success each=[success failed] join=upstream_failed");
    world.lists.insert(task_id("each"), Ok(7));
    world.clear_task(run, "each[1]");
    assert_eq!(world.line(run), "running | find=success each=[success queued] join=upstream_failed");
    assert_eq!(world.answered, 1, "the list stays");
    let attempt = world.live(run, "each[1]").1;
    assert_eq!((attempt.try_number, attempt.epoch), (2, 2));
    assert_eq!(world.engine.map_value(&attempt.instance), Some(json!(1)));
}

#[test]
fn a_task_that_is_cleared_gets_its_elements_anew_and_what_is_beyond_is_removed() {
    let mut world = world_with(fan(), 9);
    world.lists.insert(task_id("each"), Ok(3));
    let run = world.trigger("d");
    world.end(run, "find", TryOutcome::Success);
    for task in ["each[0]", "each[1]", "each[2]", "join"] {
        world.end(run, task, TryOutcome::Success);
    }
    world.lists.insert(task_id("each"), Ok(1));
    world.clear_task(run, "each");
    assert_eq!(world.line(run), "running | find=success each=[queued] join=success");
    assert_eq!(world.state(run, "each[1]"), TaskState::Removed);
    assert_eq!(reason(&world, run, "each[2]"), "its map has only 1 elements now");
    world.end(run, "each[0]", TryOutcome::Success);
    assert!(world.line(run).starts_with("success | "), "what is removed decides nothing");
    // A longer list brings them back, with higher fences.
    world.lists.insert(task_id("each"), Ok(2));
    world.clear_task(run, "each");
    assert_eq!(world.line(run), "running | find=success each=[queued queued] join=success");
    assert_eq!(world.live(run, "each[1]").1.epoch, 2);
    assert_eq!(world.state(run, "each[2]"), TaskState::Removed);
}

#[test]
fn a_new_list_waits_until_what_still_runs_of_the_old_one_is_dead() {
    let mut world = world_with(fan(), 9);
    let run = world.trigger("d");
    world.end(run, "find", TryOutcome::Success);
    world.end(run, "each[0]", TryOutcome::Success);
    world.lists.insert(task_id("each"), Ok(1));
    world.clear_task(run, "each");
    assert_eq!(world.line(run), "running | find=success each=[no_status queued] join=no_status");
    let why = world.engine.explain(&World::key(run, "each[0]"), world.now);
    assert_eq!(why, [WaitReason::Remapping]);
    world.restart();
    world.exchange("w", "b1", 9);
    world.end(run, "each[1]", TryOutcome::Stopped);
    assert_eq!(world.line(run), "running | find=success each=[queued] join=no_status");
    assert_eq!(world.state(run, "each[1]"), TaskState::Removed);
}

#[test]
fn a_cleared_upstream_with_what_is_below_gives_a_new_list() {
    let mut world = world_with(fan(), 9);
    let run = world.trigger("d");
    for task in ["find", "each[0]", "each[1]", "join"] {
        world.end(run, task, TryOutcome::Success);
    }
    world.lists.insert(task_id("each"), Ok(3));
    let downstream = true;
    world
        .clear(run, ClearSelection { tasks: vec![task_id("find")], downstream, ..ClearSelection::default() });
    assert_eq!(world.line(run), "running | find=queued each=no_status join=no_status");
    world.end(run, "find", TryOutcome::Success);
    assert_eq!(world.line(run), "running | find=success each=[queued queued queued] join=no_status");
}

#[test]
fn a_question_that_nobody_needs_answered_any_more_is_dropped() {
    let mut world = world_with(fan(), 9);
    let run = world.trigger("d");
    world.end(run, "find", TryOutcome::Success);
    let mut engine = world.engine.clone();
    let late = crate::event::Event::Prepared {
        instance: World::key(run, "each"),
        what: crate::preparation::Preparation::Map,
        result: Err("too late".to_owned()),
    };
    assert_eq!(engine.step(late, world.now), [], "it was answered");
}

#[test]
fn one_element_or_all_can_be_marked() {
    let mut world = world_with(fan(), 0);
    let run = world.trigger("d");
    world.mark(run, "find", TaskState::Success);
    assert_eq!(world.line(run), "running | find=success each=[scheduled scheduled] join=no_status");
    world.mark(run, "each[1]", TaskState::Failed);
    assert_eq!(world.line(run), "running | find=success each=[scheduled failed] join=upstream_failed");
    world.mark(run, "each", TaskState::Success);
    assert_eq!(world.line(run), "running | find=success each=[success success] join=scheduled");
    let refused = world.mark(run, "each[2]", TaskState::Success);
    assert_eq!(refusal(&refused), Some(Refusal::UnknownElement("each[2]".to_owned())));
    let refused = world.clear_task(run, "find[0]");
    assert_eq!(refusal(&refused), Some(Refusal::UnknownElement("find[0]".to_owned())));
}

#[test]
fn a_task_that_is_marked_before_it_is_expanded_stays_one_instance() {
    let mut world = world_with(fan(), 9);
    let run = world.trigger("d");
    world.mark(run, "each", TaskState::Success);
    world.end(run, "find", TryOutcome::Success);
    assert_eq!(world.line(run), "running | find=success each=success join=queued");
    assert_eq!(world.answered, 0);
}

#[test]
fn a_cancel_stops_the_elements_and_skips_the_rest() {
    let mut world = world_with(fan(), 1);
    let run = world.trigger("d");
    world.end(run, "find", TryOutcome::Success);
    let request = world.request();
    world.step(crate::event::Event::Cancel { request, run, is_dry_run: false, ended: None });
    assert_eq!(world.line(run), "running | find=success each=[queued skipped] join=skipped");
    world.end(run, "each[0]", TryOutcome::Stopped);
    assert_eq!(world.line(run), "cancelled | find=success each=[skipped skipped] join=skipped");
}

#[test]
fn what_never_runs_is_not_expanded() {
    let mut world = world_with(fan(), 9);
    let run = world.trigger("d");
    world.end(run, "find", TryOutcome::Failed);
    assert_eq!(world.line(run), "failed | find=failed each=upstream_failed join=upstream_failed");
    assert_eq!(world.answered, 0);
}

#[test]
fn a_mapped_setup_makes_its_teardown_run_when_one_element_succeeded() {
    let prepare = mapped_over(setup("prepare", &[]), 2);
    let tasks =
        vec![prepare, task("work", &["prepare"]), teardown("clean", &["prepare"], &["prepare", "work"])];
    let mut world = world_with(dag("d", tasks), 9);
    let run = world.trigger("d");
    world.end(run, "prepare[0]", TryOutcome::Success);
    world.end(run, "prepare[1]", TryOutcome::Failed);
    assert_eq!(world.line(run), "running | prepare=[success failed] work=upstream_failed clean=queued");
}

#[test]
fn a_mapped_teardown_cleans_up_for_each_element() {
    let clean = mapped_over(teardown("clean", &["prepare"], &["prepare", "work"]), 2);
    assert!(matches!(clean.role, Role::Teardown { .. }));
    let mut world = world_with(dag("d", vec![setup("prepare", &[]), task("work", &["prepare"]), clean]), 9);
    let run = world.trigger("d");
    world.end(run, "prepare", TryOutcome::Success);
    let request = world.request();
    world.step(crate::event::Event::Cancel { request, run, is_dry_run: false, ended: None });
    world.end(run, "work", TryOutcome::Stopped);
    assert_eq!(world.line(run), "running | prepare=success work=skipped clean=[queued queued]");
}

#[test]
fn the_run_before_counts_as_a_whole() {
    let each = Task { depends_on_past: true, ..mapped_over(task("each", &[]), 2) };
    let dag = Dag {
        schedule: crate::definition::Schedule::Every(std::time::Duration::from_secs(60)),
        ..dag("d", vec![each])
    };
    let mut world = world_with(dag, 9);
    world.pass(60);
    world.pass(60);
    world.exchange("w", "b1", 9);
    let runs: Vec<_> = world.runs.keys().copied().collect();
    world.end(runs[0], "each[0]", TryOutcome::Success);
    assert_eq!(world.line(runs[1]), "running | each=no_status");
    world.end(runs[0], "each[1]", TryOutcome::Success);
    assert_eq!(world.line(runs[1]), "running | each=[queued queued]");
}

#[test]
fn a_noop_of_a_thousand_elements_ends_in_one_step() {
    let tasks = vec![mapped_over(noop("each", &[]), 1000), task("join", &["each"])];
    let mut world = world_with(dag("d", tasks), 9);
    let run = world.trigger("d");
    assert_eq!(world.state(run, "each[999]"), TaskState::Success);
    assert_eq!(world.state(run, "join"), TaskState::Queued);
}

/// What one end changes does not grow with the elements on either side: it is counted by the actions it gives.
#[test]
fn the_end_of_an_element_touches_its_edges_and_nothing_else() {
    for length in [10, 1000] {
        let tasks =
            vec![mapped_over(task("each", &[]), length), mapped_over(task("below", &["each"]), length)];
        let dag = Dag { max_active_tasks: 2000, ..dag("d", tasks) };
        let mut world = world_with(dag, 1);
        let run = world.trigger("d");
        let actions = world.end(run, "each[0]", TryOutcome::Success);
        let touched: Vec<&TaskInstanceKey> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Task(change) => Some(&change.row.key),
                _ => None,
            })
            .collect();
        assert_eq!(touched, [&World::key(run, "each[0]"), &World::key(run, "each[1]")]);
    }
}

#[test]
fn a_newer_version_may_drop_the_map() {
    let mut world = world_with(dag("d", vec![mapped_over(task("each", &[]), 2)]), 9);
    let run = world.trigger("d");
    world.end(run, "each[0]", TryOutcome::Success);
    world.end_with(run, "each[1]", result(TryOutcome::Failed));
    world.load(dag("d", vec![task("each", &[])]));
    world.clear_latest(run, ClearSelection { tasks: vec![task_id("each")], ..ClearSelection::default() });
    assert_eq!(world.line(run), "running | each=queued");
    assert!(world.maps.is_empty());
    world.end(run, "each", TryOutcome::Success);
    assert_eq!(world.line(run), "success | each=success");
}
