//! `standalone --demo`: the fortnight of `continuous_training`, a day after the other, whatever the clock says.

use std::{path::Path, time::Duration};

use chrono::{Days, NaiveDate, NaiveDateTime};
use serde_json::Map;
use tidemill_engine::{
    action::Refusal,
    ids::{DagId, RunId},
    rows::RunRow,
};
use tidemill_scheduler::{AdminWrite, CallError, Handle, TriggerRequest};
use tidemill_store::Store;

use crate::{
    commands::dags_file,
    error::{CliError, Result},
    report::say,
};

/// The DAG that is shown.
const DAG: &str = "continuous_training";
/// The first day with data.
const FIRST: (i32, u32, u32) = (2026, 11, 1);
/// How many days have data.
const DAYS: u64 = 14;
/// How long the DAG file may take to be found.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the state is asked for when nothing reports a change.
const GLANCE: Duration = Duration::from_millis(500);

fn missing() -> CliError {
    CliError::NoDemo { dag: DAG }
}

/// Checks that the DAG folder has the demo's DAG, before anything starts.
///
/// # Errors
/// CFG0302, CFG0305.
pub(crate) fn check(dags_dir: &Path) -> Result {
    if dags_file::has_dag(dags_dir, DAG)? { Ok(()) } else { Err(missing()) }
}

/// Runs the fortnight. A day that was run before is passed over, so that a second start goes on.
pub(crate) async fn run(handle: &Handle, store: &Store) -> Result {
    let dag_id = DagId::new(DAG).map_err(|_| missing())?;
    let found = async {
        while handle.dag(&dag_id).is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.map_err(|_| missing())?;
    let (year, month, day) = FIRST;
    let first = NaiveDate::from_ymd_opt(year, month, day).ok_or_else(missing)?;
    for date in (0..DAYS).filter_map(|offset| first.checked_add_days(Days::new(offset))) {
        let run_id = RunId::new(format!("demo__{date}")).map_err(|_| missing())?;
        let request = TriggerRequest {
            dag_id: dag_id.clone(),
            run_id: Some(run_id.clone()),
            logical_date: Some(NaiveDateTime::from(date).and_utc()),
            conf: Map::new(),
            triggered_by: Some("demo".to_owned()),
            idempotency: None,
        };
        match handle.trigger(request, AdminWrite::default()).await {
            Ok(_) => {}
            Err(CallError::Refused(Refusal::RunIdTaken(_))) => {}
            Err(error) => return Err(error.into()),
        }
        let run = wait(handle, store, &dag_id, &run_id).await?;
        let branch = branch(store, &run).await?;
        say(format!("demo: {date} {}{branch}", run.state));
    }
    say("demo: the fortnight is over");
    Ok(())
}

async fn wait(handle: &Handle, store: &Store, dag_id: &DagId, run_id: &RunId) -> Result<RunRow> {
    let mut changes = handle.subscribe();
    loop {
        if let Some(run) = store.reader.run(dag_id, run_id).await?.filter(|run| run.state.is_terminal()) {
            return Ok(run);
        }
        // A change only wakes: what it says may lag behind. A missed one costs a glance.
        let _ = tokio::time::timeout(GLANCE, changes.recv()).await;
    }
}

/// Names what the branches of a run followed.
async fn branch(store: &Store, run: &RunRow) -> Result<String> {
    let rows = store.reader.tasks(run.key).await?;
    let followed: Vec<_> =
        rows.iter().filter_map(|row| row.follow.as_ref()).flatten().map(|task| task.to_string()).collect();
    Ok(if followed.is_empty() { String::new() } else { format!(" → {}", followed.join(", ")) })
}
