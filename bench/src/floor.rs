//! What the machine itself does: one durable SQLite commit, one process, many processes.

use std::{path::Path, process::Stdio, time::Instant};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DbErr};

/// Measures `count` single-row commits (WAL, `synchronous=FULL`), in milliseconds each.
///
/// # Errors
/// Those of the database.
pub async fn commits(folder: &Path, count: usize) -> Result<Vec<f64>, DbErr> {
    let url = format!("sqlite://{}?mode=rwc", folder.join("floor.sqlite").display());
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let database = Database::connect(options).await?;
    for statement in [
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE floor (id INTEGER PRIMARY KEY, text TEXT)",
    ] {
        database.execute_unprepared(statement).await?;
    }
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        database.execute_unprepared("INSERT INTO floor (text) VALUES ('a row like ours')").await?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}

/// Measures `count` times spawning `argv` with output to a file and a process group of its own and waiting for
/// its end, one after the other, in milliseconds each.
///
/// # Errors
/// Those of starting a process.
pub async fn spawns(argv: &[&str], folder: &Path, count: usize) -> Result<Vec<f64>, std::io::Error> {
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        spawn_and_wait(argv, folder).await?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}

/// Measures how many `/bin/true` a second a bare loop spawns and reaps with `slots` at a time.
///
/// # Errors
/// Those of starting a process.
pub async fn spawn_rate(folder: &Path, slots: usize, count: usize) -> Result<f64, std::io::Error> {
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for slot in 0..slots {
        let folder = folder.to_owned();
        let share = count / slots + usize::from(slot < count % slots);
        tasks.spawn(async move {
            for _ in 0..share {
                spawn_and_wait(&["/bin/true"], &folder).await?;
            }
            Ok::<(), std::io::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(std::io::Error::other)??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of processes")]
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

async fn spawn_and_wait(argv: &[&str], folder: &Path) -> Result<(), std::io::Error> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let log = std::fs::File::options().create(true).append(true).open(folder.join("floor.log"))?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .process_group(0)
        .spawn()?;
    child.wait().await?;
    Ok(())
}
