//! The DAG folder: what appears, changes, breaks, moves and goes.

use tidemill_engine::state::RunState;
use tidemill_scheduler::{Change, Handle};

use crate::world::{
    CHAIN, HandWorker, World, dag_id, soon, success, trigger, wait_for, wait_for_run, write_whole,
};

fn codes(handle: &Handle, path: &str) -> Vec<String> {
    let errors = handle.import_errors();
    let problems =
        errors.iter().filter(|error| error.path == path).filter_map(|error| error.problems.as_array());
    problems.flatten().filter_map(|problem| problem["code"].as_str().map(str::to_owned)).collect()
}

/// Waits until the import errors are as wanted.
async fn until(handle: &Handle, what: &str, is_wanted: impl Fn(&Handle) -> bool) {
    let mut changes = handle.subscribe();
    while !is_wanted(handle) {
        wait_for(&mut changes, what, |change| matches!(change, Change::ImportErrors | Change::Dag { .. }))
            .await;
    }
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_version_also_across_a_restart() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "etl", CHAIN).await;
    let version = world.reader.dag(&dag_id("etl")).await.unwrap().unwrap().dag.version;
    world.write("etl.toml", "[dag]\nid = \"etl\"\n[[task]]\nid = \"x\"\ncomand = \"oops\"\n");
    until(&handle, "the problem", |handle| !codes(handle, "etl.toml").is_empty()).await;
    let error = handle.import_errors().remove(0);
    assert_eq!(error.dag_id, Some(dag_id("etl")));
    assert!(error.source.contains("comand"));
    let row = world.reader.dag(&dag_id("etl")).await.unwrap().unwrap().dag;
    assert_eq!((row.version, row.is_missing), (version.clone(), false));
    scheduler.kill().await;

    let scheduler = world.start().await;
    let handle = scheduler.handle();
    assert_eq!(handle.import_errors().len(), 1);
    let run = trigger(&handle, "etl").await;
    assert_eq!(run.dag_version, version);
    world.write("etl.toml", format!("# a comment makes no version\n[dag]\nid = \"etl\"\n{CHAIN}"));
    until(&handle, "the repair", |handle| handle.import_errors().is_empty()).await;
    assert_eq!(world.reader.dag(&dag_id("etl")).await.unwrap().unwrap().dag.version, version);
    assert!(world.reader.import_errors().await.unwrap().is_empty());
    scheduler.stop().await;
}

#[tokio::test]
async fn a_file_swapped_in_prefix_by_prefix_never_unschedules_its_dag() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "etl", CHAIN).await;
    let run = trigger(&handle, "etl").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let text = format!("[dag]\nid = \"etl\"\n{CHAIN}");
    let path = world.dags_dir().join("etl.toml");
    let (mut broken, mut whole) = (0, 0);
    for end in 0..=text.len() {
        let prefix = &text[..end];
        let defined = tidemill_engine::definition::load(prefix.as_bytes(), "etl.toml").dag;
        write_whole(&path, prefix.as_bytes());
        // Nothing is asserted of a prefix that was not read.
        until(&handle, prefix, |handle| match &defined {
            Some(defined) => {
                handle.import_errors().is_empty() && handle.dag(&dag_id("etl")).as_deref() == Some(defined)
            }
            None => handle.import_errors().iter().any(|error| error.source == prefix),
        })
        .await;
        *if defined.is_some() { &mut whole } else { &mut broken } += 1;
        let row = world.reader.dag(&dag_id("etl")).await.unwrap().unwrap().dag;
        assert!(!row.is_missing && !row.is_paused, "after {end} bytes");
        assert!(handle.dag(&dag_id("etl")).is_some(), "after {end} bytes");
    }
    println!("{broken} prefixes that do not load and {whole} that do were swapped in");
    assert!(broken > 100 && whole > 0, "{broken} and {whole}");
    // The run that was under way did not notice.
    let mut changes = handle.subscribe();
    let answer = worker.exchange(vec![success(&first.attempt)]).await;
    worker.exchange(vec![success(&answer.assignments[0].attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_run_finishes_on_the_version_that_it_started_with() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "etl", CHAIN).await;
    let old = trigger(&handle, "etl").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    world.define(&handle, "etl", "[[task]]\nid = \"other\"\ncommand = \"echo\"\n").await;
    let new = trigger(&handle, "etl").await;
    assert_ne!(old.dag_version, new.dag_version);
    let mut changes = handle.subscribe();
    let answer = worker.exchange(vec![success(&first.attempt)]).await;
    let mut open = answer.assignments;
    let mut ran = Vec::new();
    soon("both runs", async {
        while ran.len() < 2 {
            while let Some(assignment) = open.pop() {
                ran.push(assignment.attempt.instance.task.to_string());
                open.extend(worker.exchange(vec![success(&assignment.attempt)]).await.assignments);
            }
            if ran.len() < 2 {
                open.extend(worker.next().await);
            }
        }
    })
    .await;
    ran.sort();
    assert_eq!(ran, ["other", "second"]);
    wait_for_run(&mut changes, old.key, RunState::Success).await;
    assert_eq!(world.run(old.key).await.dag_version, old.dag_version);
    scheduler.stop().await;
}

#[tokio::test]
async fn two_files_with_one_id_are_an_error_that_names_both_and_the_loaded_one_stays() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "etl", CHAIN).await;
    let other = "[dag]\nid = \"etl\"\n[[task]]\nid = \"other\"\noperator = \"noop\"\n";
    std::fs::create_dir(world.dags_dir().join("a")).unwrap();
    world.write("a/first.toml", other);
    until(&handle, "the error", |handle| codes(handle, "a/first.toml") == ["SCH0302"]).await;
    let message = handle.import_errors()[0].problems[0]["message"].to_string();
    assert!(message.contains("a/first.toml") && message.contains("etl.toml"), "{message}");
    assert_eq!(handle.dag(&dag_id("etl")).unwrap().tasks.len(), 2);
    // When the loaded one goes, the other takes over.
    std::fs::remove_file(world.dags_dir().join("etl.toml")).unwrap();
    until(&handle, "the take-over", |handle| handle.import_errors().is_empty()).await;
    let row = world.reader.dag(&dag_id("etl")).await.unwrap().unwrap().dag;
    assert_eq!((row.path.as_str(), row.is_missing), ("a/first.toml", false));
    scheduler.stop().await;
}

#[tokio::test]
async fn a_link_that_leaves_the_folder_is_refused_without_a_word_of_its_content() {
    let world = World::in_memory();
    std::fs::write(world.folder.path().join("secret.toml"), "password = \"hunter2\"\n").unwrap();
    std::os::unix::fs::symlink(world.folder.path().join("secret.toml"), world.dags_dir().join("x.toml"))
        .unwrap();
    std::os::unix::fs::symlink("nowhere.toml", world.dags_dir().join("y.toml")).unwrap();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    until(&handle, "both refusals", |handle| handle.import_errors().len() == 2).await;
    assert_eq!(codes(&handle, "x.toml"), ["SCH0303"]);
    assert_eq!(codes(&handle, "y.toml"), ["SCH0304"]);
    assert!(!format!("{:?}", handle.import_errors()).contains("hunter2"));
    scheduler.stop().await;
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused() {
    let world = World::in_memory();
    world.write("big.toml", vec![b'#'; 2 * 1024 * 1024]);
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    until(&handle, "the refusal", |handle| !handle.import_errors().is_empty()).await;
    assert_eq!(codes(&handle, "big.toml").len(), 1);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_file_that_moves_keeps_its_dag() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "etl", CHAIN).await;
    let mut changes = handle.subscribe();
    std::fs::rename(world.dags_dir().join("etl.toml"), world.dags_dir().join("renamed.toml")).unwrap();
    wait_for(&mut changes, "the move", |change| matches!(change, Change::Dag { .. })).await;
    let row = world.reader.dag(&dag_id("etl")).await.unwrap().unwrap().dag;
    assert_eq!((row.path.as_str(), row.is_missing), ("renamed.toml", false));
    assert!(handle.import_errors().is_empty());
    scheduler.stop().await;
}

#[tokio::test]
async fn five_thousand_files_are_scheduled_and_known_at_the_next_start() {
    let world = World::in_memory();
    for n in 0..5000 {
        let text = format!("[dag]\nid = \"dag_{n}\"\nschedule = \"@daily\"\n{CHAIN}");
        std::fs::write(world.dags_dir().join(format!("dag_{n}.toml")), text).unwrap();
    }
    let began = std::time::Instant::now();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    let last = dag_id("dag_999");
    until(&handle, "the last DAG", |handle| handle.dag(&last).is_some()).await;
    println!("5000 files scheduled after {:?}", began.elapsed());
    scheduler.stop().await;
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    assert!(handle.dag(&last).is_some(), "known before a file is read");
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}
