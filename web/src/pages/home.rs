//! Is everything fine?

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use tidemill_scheduler::StoreState;
use tidemill_store::reader::{DagFilter, DagQuery, HomeCounts, PageRequest};

use super::{Chrome, page};
use crate::{
    api::dags::next_of,
    error::Result,
    render::{Markup, chart, time},
    state::WebState,
};

struct Number {
    state: &'static str,
    value: u64,
    label: &'static str,
    href: &'static str,
}

struct Need {
    state: &'static str,
    href: String,
    text: String,
}

struct Next {
    dag_id: String,
    schedule: String,
    at: Markup,
}

struct Health {
    label: &'static str,
    state: &'static str,
    text: String,
}

impl Health {
    fn word(&self) -> &'static str {
        match self.state {
            "success" => "ok",
            "paused" => "waiting",
            _ => "not ok",
        }
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    c: Chrome,
    headline: &'static str,
    numbers: Vec<Number>,
    hours: Markup,
    first_hour: String,
    needs: Vec<Need>,
    next: Vec<Next>,
    health: Vec<Health>,
}

/// The home page.
pub(crate) async fn show(State(state): State<WebState>, c: Chrome) -> Result<Response> {
    let now = Utc::now();
    let counts = state.reader().home(now).await?;
    let needs = needs(&state, &counts).await?;
    let health = health(&state).await;
    let is_ill = health.iter().any(|h| h.state == "failed");
    let headline = match (is_ill, needs.is_empty()) {
        (true, _) => "Something is wrong with the server",
        (false, false) => "Something needs a person",
        (false, true) => "Everything is fine",
    };
    let first_hour = counts.hours.first().map(|h| h.hour.format("%H:%M UTC").to_string()).unwrap_or_default();
    page(&HomePage {
        c,
        headline,
        numbers: numbers(&counts),
        hours: chart::hours(&hours(&counts)),
        first_hour,
        needs,
        next: next(&state, now).await?,
        health,
    })
}

fn numbers(counts: &HomeCounts) -> Vec<Number> {
    let number = |state, value, label, href| Number { state, value, label, href };
    vec![
        number("running", counts.runs_running, "runs running", "/runs?state=running"),
        number("queued", counts.runs_queued, "runs queued", "/runs?state=queued"),
        number("failed", counts.runs_failed, "runs failed, 24 h", "/runs?state=failed"),
        number("success", counts.runs_succeeded, "runs succeeded, 24 h", "/runs?state=success"),
        number("failed", counts.tasks_failed, "task instances failed, 24 h", "/runs?state=failed"),
        number("paused", counts.dags_paused, "DAGs paused", "/dags?state=paused"),
    ]
}

fn hours(counts: &HomeCounts) -> Vec<chart::Hour> {
    let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    counts
        .hours
        .iter()
        .map(|h| chart::Hour {
            label: h.hour.format("%Y-%m-%d %H:%M UTC").to_string(),
            success: short(h.success),
            failed: short(h.failed),
            other: short(h.cancelled),
        })
        .collect()
}

async fn needs(state: &WebState, counts: &HomeCounts) -> Result<Vec<Need>> {
    let mut needs = Vec::new();
    for error in state.reader().import_errors().await?.into_iter().take(5) {
        needs.push(Need {
            state: "failed",
            href: "/dags".to_owned(),
            text: format!("{} does not load", error.path),
        });
    }
    if counts.runs_paused > 0 {
        let text = format!("{} paused runs wait for a decision", counts.runs_paused);
        needs.push(Need { state: "paused", href: "/runs?state=paused".to_owned(), text });
    }
    if counts.dags_missing > 0 {
        let text = format!("{} DAG files are missing", counts.dags_missing);
        needs.push(Need { state: "lost", href: "/dags?state=missing".to_owned(), text });
    }
    let failed = DagQuery {
        page: PageRequest { cursor: None, limit: 6 },
        state: Some(DagFilter::Failed),
        last_runs: 1,
        ..DagQuery::default()
    };
    for summary in state.reader().dags(&failed).await?.items {
        let id = summary.dag.dag_id;
        let href = summary
            .last_runs
            .first()
            .map_or_else(|| format!("/dags/{id}"), |run| format!("/dags/{id}/runs/{}", run.run_id));
        needs.push(Need { state: "failed", href, text: format!("the last run of {id} failed") });
    }
    Ok(needs)
}

async fn next(state: &WebState, now: DateTime<Utc>) -> Result<Vec<Next>> {
    let query = DagQuery {
        page: PageRequest { cursor: None, limit: 500 },
        state: Some(DagFilter::Active),
        ..DagQuery::default()
    };
    let page = state.reader().dags(&query).await?;
    let mut next: Vec<_> = page.items.iter().filter_map(|s| next_of(state, s).map(|at| (at, s))).collect();
    next.sort_by_key(|(at, summary)| (*at, summary.dag.dag_id.clone()));
    Ok(next
        .into_iter()
        .take(8)
        .map(|(at, summary)| Next {
            dag_id: summary.dag.dag_id.to_string(),
            schedule: super::dag::schedule_words(state, &summary.dag.dag_id, &summary.schedule),
            at: time::relative(at, now),
        })
        .collect())
}

async fn health(state: &WebState) -> Vec<Health> {
    let health = state.handle().health();
    let scheduler = match (&health.store, health.is_healthy()) {
        (StoreState::Degraded { reason }, _) => ("failed", reason.clone()),
        (_, true) => (
            "success",
            format!(
                "last round {} ago",
                time::duration(i64::try_from(health.last_tick_age.as_millis()).unwrap_or(0))
            ),
        ),
        (_, false) if !health.is_leader => ("paused", "stand-by: another server leads".to_owned()),
        _ => ("failed", "no progress".to_owned()),
    };
    let workers = match state.handle().workers().await {
        Ok(workers) if workers.is_empty() => {
            ("failed", "none is connected: nothing that needs a process runs".to_owned())
        }
        Ok(workers) => {
            let slots: u32 = workers.iter().map(|w| w.slots).sum();
            ("success", format!("{} connected, {slots} slots", workers.len()))
        }
        Err(error) => ("failed", error.to_string()),
    };
    let store = match state.reader().health().await {
        Ok(store) => ("success", format!("{}, {}", store.backend, time::size(store.size_bytes))),
        Err(error) => ("failed", error.to_string()),
    };
    [("Scheduler", scheduler), ("Workers", workers), ("Database", store)]
        .into_iter()
        .map(|(label, (state, text))| Health { label, state, text })
        .collect()
}
