//! Is everything fine?

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use tidemill_engine::state::RunState;
use tidemill_scheduler::StoreState;
use tidemill_store::reader::{
    DagFilter, DagQuery, DagSummary, HomeCounts, PAGE_LIMIT, PageRequest, RunQuery,
};

use super::{
    Chrome, page,
    trouble::{self, Trouble},
};
use crate::{
    api::dags::next_of,
    error::Result,
    render::{Markup, chart, time},
    state::WebState,
    zone,
};

/// How many of the next runs are shown.
const NEXT_SHOWN: usize = 8;

struct Number {
    state: &'static str,
    value: u64,
    label: &'static str,
    href: &'static str,
}

struct Need {
    word: &'static str,
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
    /// `ok`, `waiting` or `failing`: a part of the server is no run and has no state of one.
    word: &'static str,
    text: String,
}

/// The answer to "is everything fine?", and where it is told in full.
struct Headline {
    text: String,
    href: &'static str,
}

impl Headline {
    /// The gravest that is true. What failed stays the answer for a day, also when the next run was better.
    fn of(is_ill: bool, needs_person: bool, counts: &HomeCounts) -> Self {
        let many = |n: u64, what: &str| {
            format!("{n} {what}{} failed in the last 24 hours", if n == 1 { "" } else { "s" })
        };
        let (text, href) = match (is_ill, needs_person, counts.runs_failed, counts.tasks_failed) {
            (true, ..) => ("Something is wrong with the server".to_owned(), "#health"),
            (_, true, ..) => ("Something needs a person".to_owned(), "#needs"),
            (_, _, 0, 0) => ("Everything is fine".to_owned(), ""),
            (_, _, 0, tasks) => (many(tasks, "task instance"), "#troubles"),
            (_, _, runs, _) => (many(runs, "run"), "#troubles"),
        };
        Self { text, href }
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    c: Chrome,
    headline: Headline,
    numbers: Vec<Number>,
    hours: Markup,
    first_hour: String,
    needs: Vec<Need>,
    troubles: Vec<Trouble>,
    next: Vec<Next>,
    health: Vec<Health>,
}

/// The home page.
pub(crate) async fn show(State(state): State<WebState>, c: Chrome) -> Result<Response> {
    let now = Utc::now();
    let counts = state.reader().home(now).await?;
    let needs = needs(&state, &counts).await?;
    let health = health(&state).await;
    let is_ill = health.iter().any(|part| part.word == "failing");
    let first_hour = counts.hours.first().map(|h| time::hour(h.hour)).unwrap_or_default();
    page(&HomePage {
        c,
        headline: Headline::of(is_ill, !needs.is_empty(), &counts),
        numbers: numbers(&counts),
        hours: chart::hours(&hours(&counts)),
        first_hour,
        needs,
        troubles: trouble::of_the_last_day(&state, now).await?,
        next: next(&state, now).await?,
        health,
    })
}

fn numbers(counts: &HomeCounts) -> Vec<Number> {
    let number = |state, value, label, href| Number { state, value, label, href };
    let failed_tasks =
        if counts.tasks_failed > 0 { "#troubles" } else { "/runs?state=failed&ended_within=24h" };
    vec![
        number("running", counts.runs_running, "runs running", "/runs?state=running"),
        number("queued", counts.runs_queued, "runs queued", "/runs?state=queued"),
        number("failed", counts.runs_failed, "runs failed, 24\u{a0}h", "/runs?state=failed&ended_within=24h"),
        number(
            "success",
            counts.runs_succeeded,
            "runs succeeded, 24\u{a0}h",
            "/runs?state=success&ended_within=24h",
        ),
        number("failed", counts.tasks_failed, "task instances failed, 24\u{a0}h", failed_tasks),
        number("paused", counts.dags_paused, "DAGs paused", "/dags?state=paused"),
    ]
}

fn hours(counts: &HomeCounts) -> Vec<chart::Hour> {
    let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    counts
        .hours
        .iter()
        .map(|h| chart::Hour {
            label: time::exact(h.hour),
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
            word: "broken",
            href: "/dags".to_owned(),
            text: format!("{} does not load", error.path),
        });
    }
    if counts.runs_paused > 0 {
        let (n, s) = (counts.runs_paused, if counts.runs_paused == 1 { " waits" } else { "s wait" });
        let text = format!("{n} paused run{s} for a decision");
        needs.push(Need { word: "paused", href: "/runs?state=paused".to_owned(), text });
    }
    let stopped = DagQuery {
        page: PageRequest { cursor: None, limit: 6 },
        state: Some(DagFilter::AutoPaused),
        ..DagQuery::default()
    };
    for summary in state.reader().dags(&stopped).await?.items {
        let (id, why) = (summary.dag.dag_id, summary.dag.pause_reason.unwrap_or_default());
        let text = format!("{id} was paused by the scheduler: {why}");
        needs.push(Need { word: "paused", href: format!("/dags/{id}"), text });
    }
    let late = RunQuery {
        page: PageRequest { cursor: None, limit: 6 },
        states: vec![RunState::Queued, RunState::Running, RunState::Paused],
        is_late: true,
        ..RunQuery::default()
    };
    for run in state.reader().runs(&late).await?.items {
        let due =
            run.deadline_at.map(|at| format!(": it was due at {}", time::exact(at))).unwrap_or_default();
        needs.push(Need {
            word: "late",
            href: format!("/dags/{}/runs/{}", run.dag_id, run.run_id),
            text: format!("a run of {} is late{due}", run.dag_id),
        });
    }
    if counts.dags_missing > 0 {
        let (n, s) = (counts.dags_missing, if counts.dags_missing == 1 { " is" } else { "s are" });
        let text = format!("{n} DAG file{s} missing");
        needs.push(Need { word: "missing", href: "/dags?state=missing".to_owned(), text });
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
        needs.push(Need { word: "failed", href, text: format!("the last run of {id} failed") });
    }
    Ok(needs)
}

/// The next runs of all DAGs: read page by page, of which no more is kept than is shown.
async fn next(state: &WebState, now: DateTime<Utc>) -> Result<Vec<Next>> {
    let mut query = DagQuery {
        page: PageRequest { cursor: None, limit: PAGE_LIMIT },
        state: Some(DagFilter::Active),
        ..DagQuery::default()
    };
    let mut next: Vec<(DateTime<Utc>, DagSummary)> = Vec::new();
    loop {
        let page = state.reader().dags(&query).await?;
        next.extend(page.items.into_iter().filter_map(|summary| Some((next_of(state, &summary)?, summary))));
        next.sort_by(|(a, of_a), (b, of_b)| (a, &of_a.dag.dag_id).cmp(&(b, &of_b.dag.dag_id)));
        next.truncate(NEXT_SHOWN);
        query.page.cursor = page.next_cursor;
        if query.page.cursor.is_none() {
            break;
        }
    }
    Ok(next
        .into_iter()
        .map(|(at, summary)| Next {
            schedule: super::dag::schedule_words(state, &summary.dag.dag_id, &summary.schedule),
            at: time::relative_in(at, now, zone::shown_of(state, &summary.dag.dag_id)),
            dag_id: summary.dag.dag_id.to_string(),
        })
        .collect())
}

async fn health(state: &WebState) -> Vec<Health> {
    let health = state.handle().health();
    let scheduler = match (&health.store, health.is_healthy()) {
        (StoreState::Degraded { reason }, _) => ("failing", reason.clone()),
        (_, true) => (
            "ok",
            format!(
                "last round {} ago",
                time::duration(i64::try_from(health.last_tick_age.as_millis()).unwrap_or(0))
            ),
        ),
        (_, false) if !health.is_leader => ("waiting", "stand-by: another server leads".to_owned()),
        _ => ("failing", "no progress".to_owned()),
    };
    let workers = match state.handle().workers().await {
        Ok(workers) if workers.is_empty() => {
            ("failing", "none is connected: nothing that needs a process runs".to_owned())
        }
        Ok(workers) => {
            let slots: u32 = workers.iter().map(|w| w.slots).sum();
            ("ok", format!("{} connected, {slots} slots", workers.len()))
        }
        Err(error) => ("failing", error.to_string()),
    };
    let store = match state.reader().health().await {
        Ok(store) => ("ok", format!("{}, {}", store.backend, time::size(store.size_bytes))),
        Err(error) => ("failing", error.to_string()),
    };
    [("Scheduler", scheduler), ("Workers", workers), ("Database", store)]
        .into_iter()
        .map(|(label, (word, text))| Health { label, word, text })
        .collect()
}
