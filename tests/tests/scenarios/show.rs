//! How actions and waits read in a story.

use chrono::{DateTime, SecondsFormat, Utc};
use tidemill_engine::{
    action::{Action, Answer, Changed, Reply, RunChange, TaskChange},
    asset::{AssetChange, AssetSource},
    backfill::BackfillRow,
    ids::{AttemptKey, RunKey, TaskInstanceKey},
    rows::VersionHash,
    state::TaskState,
    wait_reason::WaitReason,
};

use super::world::World;

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Runs are numbered in the order of their creation.
pub(super) fn run_name(run: RunKey) -> String {
    format!("r{}", run.0 + 1)
}

fn instance(key: &TaskInstanceKey) -> String {
    format!("{}.{}", run_name(key.run), key.name())
}

fn attempt(key: &AttemptKey) -> String {
    format!("{} try {} fence {}", instance(&key.instance), key.try_number, key.epoch)
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

fn version(world: &World, hash: &VersionHash) -> String {
    let number = world.version_names.iter().position(|known| known == hash).map_or(0, |index| index + 1);
    format!("v{number}")
}

/// Returns the lines of an action; what another line says already gets none.
pub(super) fn action(world: &World, action: &Action) -> Vec<String> {
    match action {
        Action::Dag(row) => {
            let former = world.dags.get(&row.dag_id);
            let mut line = format!("dag {} {}", row.dag_id, version(world, &row.version));
            for (is_so, word) in [(row.is_paused, "paused"), (row.is_missing, "missing")] {
                if is_so {
                    line.push_str(&format!(", {word}"));
                }
            }
            if former.is_none_or(|former| former.cursor != row.cursor) {
                line.push_str(&format!(", dates dealt with until {}", instant(row.cursor)));
            }
            vec![line]
        }
        Action::DeleteDag(id) => vec![format!("dag {id} is deleted")],
        Action::PassedOver(passed) => vec![format!(
            "dag {} passes over {} dates: {} to {}",
            passed.dag_id,
            passed.count,
            instant(passed.first),
            instant(passed.last)
        )],
        Action::Run(change) => vec![run(world, change)],
        Action::Task(change) => vec![task(change)],
        Action::Map(change) => match &change.values {
            Some(values) => {
                vec![format!("{}.{} has {} elements", run_name(change.run), change.task, values.len())]
            }
            None => vec![format!("{}.{} has no elements any more", run_name(change.run), change.task)],
        },
        Action::Outputs(change) => {
            let values: Vec<String> =
                change.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            vec![format!("{} gives {}", instance(&change.attempt.instance), values.join(" "))]
        }
        Action::Try(change) => match change.row.outcome {
            None => Vec::new(),
            Some(outcome) => {
                let code =
                    change.row.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
                let reason = because(change.row.reason.as_deref());
                vec![format!("{} ended as {outcome}{code}{reason}", attempt(&change.row.attempt))]
            }
        },
        Action::Asset(change) => vec![asset(change)],
        Action::Pool(row) => vec![format!("pool {} has {} slots", row.name, row.slots)],
        Action::DeletePool(name) => vec![format!("pool {name} is deleted")],
        Action::Assign(assign) => {
            let again = if assign.is_redelivery { " again" } else { "" };
            vec![format!("-> worker {}: run {}{again}", assign.worker, attempt(&assign.attempt))]
        }
        Action::Cancel(cancel) => {
            vec![format!(
                "-> worker {}: stop {} ({})",
                cancel.worker,
                attempt(&cancel.attempt),
                cancel.reason
            )]
        }
        Action::Notify(notify) => vec![format!("-> message about {} ({})", notify.run_id, notify.state)],
        Action::Backfill(row) => vec![backfill(world, row)],
        Action::BackfillDate(date) => {
            let run = date.run.map(|run| format!(" {}", run_name(run))).unwrap_or_default();
            let reason = because(date.reason.as_deref());
            vec![format!(
                "b{} date {}: {}{run}{reason}",
                date.backfill.0 + 1,
                instant(date.logical_date),
                date.outcome
            )]
        }
        Action::Answer(answer) => reply(answer),
    }
}

fn asset(change: &AssetChange) -> String {
    match change {
        AssetChange::Event { row, queued_for } => {
            let by = match &row.source {
                AssetSource::Task { run, task, .. } => format!("{}.{task}", run_name(*run)),
                AssetSource::Posted { .. } => "a post".to_owned(),
            };
            let whom: Vec<&str> = queued_for.iter().map(|dag_id| dag_id.as_str()).collect();
            let whom = if whom.is_empty() { "nobody".to_owned() } else { whom.join(" ") };
            format!("asset {} has event {} by {by}, queued for {whom}", row.asset, row.id)
        }
        AssetChange::Take { run, count, .. } => format!("run {} takes {count} events", run_name(*run)),
        AssetChange::Drop { dag_id, assets, count } => {
            let names: Vec<&str> = assets.iter().map(|asset| asset.as_str()).collect();
            format!("dag {dag_id} drops {count} events of {}", names.join(" "))
        }
    }
}

/// Backfills are numbered with the runs.
fn backfill(world: &World, row: &BackfillRow) -> String {
    let name = format!("b{}", row.key.0 + 1);
    let Some(former) = world.backfills.get(&row.key) else {
        let (from, to) = (instant(row.spec.from), instant(row.spec.to));
        return format!(
            "backfill {name} is created: {} dates of {}, {from} to {to}",
            row.date_count, row.dag_id
        );
    };
    let mut line = format!("backfill {name} {}", former.state);
    if former.state != row.state {
        line.push_str(&format!(" -> {}", row.state));
    }
    if row.cancel_requested_at.is_some() && former.cancel_requested_at.is_none() {
        line.push_str(", cancel requested");
    }
    if former.dealt_with() != row.dealt_with() || former.date_count != row.date_count {
        line.push_str(&format!(", {} of {} dates dealt with", row.dealt_with(), row.date_count));
    }
    line.push_str(&because(row.reason.as_deref()));
    line
}

fn run(world: &World, change: &RunChange) -> String {
    let row = &change.row;
    let name = run_name(row.key);
    let Some(former) = world.runs.get(&row.key) else {
        let interval = if row.data_interval_start == row.data_interval_end {
            String::new()
        } else {
            format!(", data {} to {}", instant(row.data_interval_start), instant(row.data_interval_end))
        };
        let by = row.origin.as_ref().map(|origin| format!(" by {}", instance(origin))).unwrap_or_default();
        return format!("run {name} {} is created as {}{interval}{by}", row.run_id, row.state);
    };
    let mut line = format!("run {name} {}", former.state);
    if former.state != row.state {
        line.push_str(&format!(" -> {}", row.state));
    }
    if row.with_failures {
        line.push_str(" with failures");
    }
    if row.cancel_requested_at.is_some() && former.cancel_requested_at.is_none() {
        line.push_str(", cancel requested");
    }
    if row.timed_out_at.is_some() && former.timed_out_at.is_none() {
        line.push_str(", timed out");
    }
    if row.dag_version != former.dag_version {
        line.push_str(&format!(", takes {}", version(world, &row.dag_version)));
    }
    line + &because(row.reason.as_deref().filter(|_| former.reason != row.reason))
}

fn task(change: &TaskChange) -> String {
    let row = &change.row;
    let name = instance(&row.key);
    if let (Some(stop), true) = (row.stop, change.from.state == row.state) {
        return format!("{name} {} is to be stopped ({stop})", row.state);
    }
    let mut line = format!("{name} {} -> {}", change.from.state, row.state);
    if change.is_clear {
        line.push_str(" (cleared)");
    }
    if row.state == TaskState::Queued {
        line.push_str(&format!(" try {} fence {}", row.try_number, row.epoch));
    }
    if let Some(at) = row.retry_at {
        line.push_str(&format!(" until {}, failures {}", instant(at), row.failures));
    }
    if let Some(at) = row.next_poke_at {
        line.push_str(&format!(" until {}, pokes {}", instant(at), row.pokes));
    }
    if let Some(follow) = &row.follow {
        let follow: Vec<&str> = follow.iter().map(|id| id.as_str()).collect();
        let follow = if follow.is_empty() { "nothing".to_owned() } else { follow.join(" ") };
        line.push_str(&format!(", follows {follow}"));
    }
    line + &because(row.reason.as_deref().filter(|_| row.state.is_terminal()))
}

fn reply(answer: &Answer) -> Vec<String> {
    let line = match &answer.reply {
        Reply::Done => "<- done".to_owned(),
        Reply::RunCreated(row) => format!("<- {}", run_name(row.key)),
        Reply::Changed(list) => {
            let one = |changed: &Changed| format!("{} {} -> {}", changed.task, changed.from, changed.to);
            let list: Vec<String> = list.iter().map(one).collect();
            format!("<- changes: {}", if list.is_empty() { "none".to_owned() } else { list.join(", ") })
        }
        Reply::AssetEvent(row) => format!("<- event {}", row.id),
        Reply::Verdict(verdict) => format!("<- {verdict:?}").to_lowercase(),
        Reply::Backfill(row, runs) => {
            let runs: Vec<String> = runs.iter().map(|run| run_name(*run)).collect();
            let cancelled =
                if runs.is_empty() { String::new() } else { format!(", cancels {}", runs.join(", ")) };
            format!("<- b{} {}{cancelled}", row.key.0 + 1, row.state)
        }
        Reply::Refused(refusal) => format!("<- refused: {refusal:?}"),
    };
    vec![line]
}

/// Returns what has changed in why DAGs are not run by their assets.
fn asset_waits(world: &mut World) -> Vec<String> {
    let mut now = std::collections::BTreeMap::new();
    for dag_id in world.dags.keys() {
        if let Some(status) = world.engine.asset_status(dag_id, world.now) {
            let reasons: Vec<String> = status.waits.iter().map(ToString::to_string).collect();
            now.insert(dag_id.clone(), reasons.join("; "));
        }
    }
    let is_new = |dag_id, why| world.asset_waits.get(dag_id) != Some(why);
    let told = now.iter().filter(|(dag_id, why)| is_new(*dag_id, *why));
    let told = told.map(|(dag_id, why)| format!("   {dag_id}: {why}")).collect();
    world.asset_waits = now;
    told
}

/// Returns what has changed in who waits for what.
pub(super) fn waits(world: &mut World) -> Vec<String> {
    let mut now = std::collections::BTreeMap::new();
    for row in world.runs.values().filter(|row| !row.state.is_terminal()) {
        let dag = &world.versions[&(row.dag_id.clone(), row.dag_version.clone())];
        for key in dag.tasks.iter().flat_map(|task| world.instances(row.key, &task.id)) {
            let reasons = world.engine.explain(&key, world.now);
            let reason = reasons.first().unwrap_or_else(|| panic!("{key:?} has no reason"));
            let is_quiet = matches!(
                reason,
                WaitReason::Ended { .. } | WaitReason::Running { .. } | WaitReason::Starting { .. }
            );
            if !is_quiet {
                now.insert(key, reason.to_string());
            }
        }
    }
    let told = now
        .iter()
        .filter(|(key, reason)| world.waits.get(*key) != Some(*reason))
        .map(|(key, reason)| format!("   {}: {reason}", instance(key)))
        .collect();
    world.waits = now;
    let mut told: Vec<String> = told;
    told.extend(asset_waits(world));
    told
}
