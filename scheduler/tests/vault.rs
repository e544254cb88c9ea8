//! Variables and connections on their way to a task.

use std::{path::PathBuf, sync::Arc};

use tidemill_engine::{
    connection::Connection,
    ids::{ConnectionId, VariableName},
    secret::Secret,
    state::{RunState, TaskState},
};
use tidemill_scheduler::{
    AdminWrite, CallError, Definitions, Handle, Scheduler, SetConnection, SetVariable, add_key, shown_work,
};
use tidemill_store::vault::VaultChange;

use crate::world::{HandWorker, World, soon, success, trigger, wait_for_run};

const LOAD: &str = r#"
[[task]]
id = "load"
command = "load {{ var.bucket }} as {{ conn.db.login }}"
env = { PGPASSWORD = "{{ conn.db.password }}", TOKEN = "{{ var.api_token }}" }
retries = 1
retry_delay = "1s"
"#;

fn name(text: &str) -> VariableName {
    VariableName::new(text).unwrap()
}

fn key_file(world: &World) -> PathBuf {
    world.folder.path().join("secret.key")
}

async fn start(world: &World, definitions: Definitions) -> Scheduler {
    let mut options = world.options();
    options.secret_key_file = Some(key_file(world));
    options.definitions = definitions;
    let (reader, writer) = (Arc::clone(&world.reader), Arc::clone(&world.writer));
    let started = Scheduler::start(options, reader, writer, Arc::new(world.clock.clone()));
    let scheduler = soon("a start", started).await.unwrap();
    soon("the first round", scheduler.handle().durable()).await.unwrap();
    scheduler
}

async fn set(handle: &Handle, variable: &str, value: &str) -> Result<(), CallError> {
    let set = SetVariable { value: Some(Secret::new(value)), ..SetVariable::default() };
    handle.set_variable(name(variable), set, "ann", AdminWrite::default()).await
}

async fn set_db(handle: &Handle, uri: &str) -> Result<(), CallError> {
    let connection = Connection::from_uri(ConnectionId::new("db").unwrap(), uri).unwrap();
    let set = SetConnection { connection, is_password_removed: false, kept: Vec::new() };
    handle.set_connection(set, "ann", AdminWrite::default()).await
}

fn code(result: Result<(), CallError>) -> &'static str {
    result.unwrap_err().code()
}

#[tokio::test]
async fn a_task_gets_exactly_what_it_names_and_what_is_stored_shows_no_secret() {
    let mut world = World::in_sqlite().await;
    let scheduler = start(&world, Definitions::default()).await;
    let handle = scheduler.handle();
    world.define(&handle, "etl", LOAD).await;
    set(&handle, "bucket", "s3://models").await.unwrap();
    set(&handle, "api_token", "tok-raw-98765").await.unwrap();
    set(&handle, "other_token", "never-needed-1").await.unwrap();
    set_db(&handle, "postgres://etl:hunter-two-22@db.example/sales").await.unwrap();
    let run = trigger(&handle, "etl").await;
    let mut worker = HandWorker::new(&handle, "w");
    let assignment = worker.next().await.remove(0);
    assert_eq!(assignment.env["PGPASSWORD"], "hunter-two-22");
    assert_eq!(assignment.env["TOKEN"], "tok-raw-98765");
    assert_eq!(assignment.env["TIDEMILL_V0"], "s3://models");
    let secrets: Vec<&str> = assignment.secrets.iter().map(Secret::reveal).collect();
    assert_eq!(secrets, ["tok-raw-98765", "hunter-two-22"]);
    assert!(assignment.connections.is_empty(), "only an operator's own key sends a whole connection");

    let stored = world.reader.rendered(&assignment.attempt).await.unwrap().unwrap();
    let shown = shown_work(stored.clone());
    assert_eq!(
        (shown["env"]["PGPASSWORD"].as_str(), shown["env"]["TIDEMILL_V0"].as_str()),
        (Some("***"), Some("s3://models"))
    );
    assert!(shown.get("sealed").is_none() && stored.get("sealed").is_some());
    for secret in ["hunter-two-22", "tok-raw-98765"] {
        assert!(!stored.to_string().contains(secret));
    }
    scheduler.stop().await;

    // A server that is started anew delivers the same again, whatever became of the variables meanwhile.
    world.reopen().await;
    let scheduler = start(&world, Definitions::default()).await;
    let handle = scheduler.handle();
    set(&handle, "api_token", "another-token").await.unwrap();
    let mut changes = handle.subscribe();
    worker.reconnect(&handle);
    worker.held.clear();
    let again = worker.next().await.remove(0);
    assert_eq!(
        (again.attempt.clone(), &again.env, &again.secrets),
        (assignment.attempt, &assignment.env, &assignment.secrets)
    );
    worker.exchange(vec![success(&again.attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    scheduler.stop().await;
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(world.folder.path()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("tidemill.sqlite") {
            bytes.extend(std::fs::read(entry.path()).unwrap());
        }
    }
    assert!(bytes.len() > 10_000);
    for secret in ["hunter-two-22", "tok-raw-98765", "never-needed-1", "another-token", "s3://models"] {
        let count = bytes.windows(secret.len()).filter(|window| *window == secret.as_bytes()).count();
        // What is not secret is encrypted too, and shows in what was rendered only.
        assert!(count == 0 || secret == "s3://models", "{secret} stands {count} times in the database");
    }
}

#[tokio::test]
async fn what_is_missing_fails_the_try_by_name_and_a_retry_finds_it() {
    let world = World::in_memory();
    let scheduler = start(&world, Definitions::default()).await;
    let handle = scheduler.handle();
    let task =
        "[[task]]\nid = \"a\"\ncommand = \"echo {{ var.bucket }}\"\nretries = 1\nretry_delay = \"1s\"\n";
    world.define(&handle, "etl", task).await;
    let run = trigger(&handle, "etl").await;
    let mut worker = HandWorker::new(&handle, "w");
    let mut changes = handle.subscribe();
    let request = worker.request(Vec::new());
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(request).await }
    });
    let is_retried = |change: &tidemill_scheduler::Change| {
        matches!(change, tidemill_scheduler::Change::Task { state: TaskState::UpForRetry, .. })
    };
    crate::world::wait_for(&mut changes, "the retry", is_retried).await;
    let row = world.tasks(run.key).await.remove("a").unwrap();
    assert!(row.reason.as_deref().unwrap_or_default().contains("SCH0240"), "{:?}", row.reason);
    set(&handle, "bucket", "s3://models").await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(2));
    let answer = soon("the second try", waiting).await.unwrap().unwrap();
    assert_eq!(answer.assignments[0].env["TIDEMILL_V0"], "s3://models");
    scheduler.stop().await;
}

#[tokio::test]
async fn the_environment_comes_first_and_cannot_be_changed() {
    let world = World::in_memory();
    let environment = [
        ("TIDEMILL_VAR_BUCKET", "from the environment"),
        ("TIDEMILL_VAR_API_TOKEN", "tok-env-1"),
        ("TIDEMILL_CONN_DB", "postgres://env:pw-of-env@h/s"),
    ];
    let definitions = Definitions::read(environment.map(|(a, b)| (a.to_owned(), b.to_owned()))).unwrap();
    let scheduler = start(&world, definitions).await;
    let handle = scheduler.handle();
    world.define(&handle, "etl", LOAD).await;
    assert_eq!(code(set(&handle, "bucket", "x").await), "SCH0247");
    assert_eq!(code(set_db(&handle, "http://h").await), "SCH0247");
    trigger(&handle, "etl").await;
    let assignment = HandWorker::new(&handle, "w").next().await.remove(0);
    assert_eq!(assignment.env["TIDEMILL_V0"], "from the environment");
    assert_eq!(assignment.env["PGPASSWORD"], "pw-of-env");
    let listed = handle.variables().await.unwrap();
    let values: Vec<_> = listed.iter().map(|v| (v.name.as_str(), v.value.as_deref())).collect();
    assert_eq!(values, [("api_token", None), ("bucket", Some("from the environment"))]);
    scheduler.stop().await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_and_a_secret_is_never_read_back() {
    let world = World::in_memory();
    let scheduler = start(&world, Definitions::default()).await;
    let handle = scheduler.handle();
    assert_eq!(code(set(&handle, "json", "x").await), "SCH0248");
    assert_eq!(code(set(&handle, "big", &"x".repeat(70_000)).await), "SCH0248");
    assert_eq!(code(set(&handle, "nul", "a\0b").await), "SCH0248");
    let gone = handle.delete_variable(name("x"), AdminWrite::default()).await;
    assert_eq!(code(gone), "SCH0245");
    set(&handle, "api_token", "tok-1").await.unwrap();
    let plain = SetVariable { is_secret: Some(false), ..SetVariable::default() };
    let made_plain = handle.set_variable(name("api_token"), plain, "ann", AdminWrite::default()).await;
    assert_eq!(code(made_plain), "SCH0248", "that would show it");
    set_db(&handle, "http://ann:hunter22@h?token=tok-2&region=eu").await.unwrap();
    let shown = handle.connections().await.unwrap().remove(0);
    assert_eq!((shown.has_password, shown.hidden.as_slice()), (true, &["token".to_owned()][..]));
    assert_eq!(shown.connection.password, None);
    assert_eq!(shown.connection.extra.keys().collect::<Vec<_>>(), ["region"]);
    // A form that shows no password changes the host and keeps it, with what else it could not show.
    let connection = Connection { host: Some("h2".to_owned()), ..shown.connection };
    let set = SetConnection { connection, is_password_removed: false, kept: shown.hidden };
    handle.set_connection(set, "ann", AdminWrite::default()).await.unwrap();
    let again = handle.connections().await.unwrap().remove(0);
    assert_eq!(
        (again.has_password, again.hidden.len(), again.connection.host.as_deref()),
        (true, 1, Some("h2"))
    );
    scheduler.stop().await;
}

#[tokio::test]
async fn another_key_is_told_and_nothing_is_lost() {
    let world = World::in_memory();
    let scheduler = start(&world, Definitions::default()).await;
    set(&scheduler.handle(), "api_token", "tok-1").await.unwrap();
    set_db(&scheduler.handle(), "http://ann:hunter22@h").await.unwrap();
    scheduler.stop().await;
    let kept = std::fs::read_to_string(key_file(&world)).unwrap();

    std::fs::remove_file(key_file(&world)).unwrap();
    let scheduler = start(&world, Definitions::default()).await;
    let handle = scheduler.handle();
    let listed = handle.variables().await.unwrap().remove(0);
    assert!(listed.problem.is_some_and(|problem| problem.starts_with("STO0110")));
    assert!(handle.connections().await.unwrap().remove(0).problem.is_some());
    assert_eq!(handle.seal_anew(AdminWrite::default()).await.unwrap_err().code(), "STO0110");
    world.define(&handle, "plain", "[[task]]\nid = \"a\"\ncommand = \"true\"\n").await;
    trigger(&handle, "plain").await;
    assert_eq!(HandWorker::new(&handle, "w").next().await.len(), 1, "what needs no secret goes on");

    // The old key comes back beside the new one; then everything is sealed anew and the old one can go.
    let new = std::fs::read_to_string(key_file(&world)).unwrap();
    std::fs::write(key_file(&world), format!("{new}{kept}")).unwrap();
    assert_eq!(handle.variables().await.unwrap().remove(0).problem, None);
    add_key(&key_file(&world)).unwrap();
    let (key, count) = handle.seal_anew(AdminWrite::default()).await.unwrap();
    assert_eq!((key.len(), count), (8, 2));
    let first = std::fs::read_to_string(key_file(&world)).unwrap();
    let only = first.lines().find(|line| !line.starts_with('#')).unwrap().to_owned();
    std::fs::write(key_file(&world), only).unwrap();
    handle.seal_anew(AdminWrite::default()).await.unwrap();
    assert_eq!(handle.variables().await.unwrap().remove(0).problem, None);

    // A file that is no key file is told to who needs it; what was read before is still there. A value that was moved does
    // not open.
    std::fs::write(key_file(&world), "nonsense").unwrap();
    assert_eq!(handle.seal_anew(AdminWrite::default()).await.unwrap_err().code(), "STO0111");
    assert_eq!(handle.variables().await.unwrap().remove(0).problem, None);
    std::fs::write(key_file(&world), first).unwrap();
    handle.seal_anew(AdminWrite::default()).await.unwrap();
    let mut row = world.reader.variables(&[]).await.unwrap().remove(0);
    row.name = name("moved");
    let write = AdminWrite { vault: vec![VaultChange::SetVariable(row)], ..AdminWrite::default() };
    handle.write(write).await.unwrap();
    let moved = handle.variables().await.unwrap().pop().unwrap();
    assert!(moved.problem.is_some_and(|problem| problem.starts_with("STO0112")));
    scheduler.stop().await;
}
