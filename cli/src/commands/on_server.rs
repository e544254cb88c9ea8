//! What of DAG files a server does not have: `tidemill dags check --with-server`.

use std::collections::BTreeSet;

use serde_json::Value;
use tidemill_engine::{
    definition::{Code, Problem, Severity},
    ids::PoolName,
    template::NamesOutside,
    wait_reason::pool_waits,
};

use crate::{
    client::Client,
    commands::dags_file::Files,
    error::{CliError, Result},
};

/// Adds a warning for each variable, connection and pool that the files name and the server does not have.
pub(crate) async fn look(files: &mut Files, client: &Client) -> Result {
    let pools = client.list(&["pools"], &[], u32::MAX).await?;
    let pools = pools.iter().filter_map(|pool| {
        let slots = u32::try_from(pool.get("slots")?.as_u64()?).ok()?;
        Some((PoolName::new(pool.get("name")?.as_str()?).ok()?, slots))
    });
    let pools = pools.collect();
    let (mut variables, mut connections) = (BTreeSet::new(), BTreeSet::new());
    let named: Vec<NamesOutside> = files.dags().map(|(dag, _)| NamesOutside::of(dag)).collect();
    for names in &named {
        there("variables", names.variables.keys(), &mut variables, client).await?;
        there("connections", names.connections.keys(), &mut connections, client).await?;
    }
    for ((dag, problems), names) in files.dags().zip(&named) {
        problems.extend(names.missing(|name| variables.contains(name), |id| connections.contains(id)));
        problems.extend(pool_waits(dag, &pools).into_iter().map(|(task, why)| Problem {
            code: Code::NOT_ON_SERVER,
            severity: Severity::Warning,
            message: format!("`{task}` will wait: {why}"),
            help: Some("make it with `tidemill pools set NAME SLOTS`".to_owned()),
            suggestion: None,
            spans: Vec::new(),
        }));
    }
    Ok(())
}

/// Adds those of the names that exist. Asked one by one: the server knows under which spellings its environment defines them.
async fn there<'a>(
    what: &str,
    names: impl Iterator<Item = &'a String>,
    found: &mut BTreeSet<String>,
    client: &Client,
) -> Result {
    for name in names {
        if found.contains(name) {
            continue;
        }
        match client.get::<Value>(&[what, name], &[]).await {
            Ok(_) => drop(found.insert(name.clone())),
            Err(CliError::Coded { code, .. }) if code == "WEB0201" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
