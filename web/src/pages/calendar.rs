//! A year of a DAG as a heat map: a day per square, in the zone of its schedule.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use tidemill_engine::{definition::Dag, state::RunState, timetable::Timetable};
use tidemill_store::{
    history::RunCount,
    reader::{DagDetail, PageRequest, RunQuery},
};

use super::{
    Chrome,
    dag::{DagHead, find},
    dags::query_string,
    page,
};
use crate::{
    error::{Problem, Result},
    extract::{DagPath, Ids, Params},
    render::{
        Markup,
        calendar::{self, Day},
        time,
    },
    state::WebState,
};

/// `?year=`.
#[derive(Deserialize)]
pub(crate) struct CalendarParams {
    #[serde(default)]
    year: Option<i32>,
}

#[derive(Template)]
#[template(path = "dag_calendar.html")]
struct CalendarPage {
    c: Chrome,
    h: DagHead,
    year: i32,
    before: Option<i32>,
    after: Option<i32>,
    zone: String,
    sentence: String,
    calendar: Markup,
    is_empty: bool,
}

/// A year of a DAG.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<CalendarParams>,
) -> Result<Response> {
    let detail = find(&state, &ids.dag_id).await?;
    let zone = detail.definition.timezone;
    let now = Utc::now();
    let year = params.year.unwrap_or_else(|| now.with_timezone(&zone).year());
    let first = NaiveDate::from_ymd_opt(year, 1, 1).filter(|_| (1970..=9998).contains(&year));
    let next = NaiveDate::from_ymd_opt(year.saturating_add(1), 1, 1);
    let (Some(first), Some(next)) = (first, next) else {
        return Err(Problem::new("WEB0206", "year must be from 1970 to 9998"));
    };
    let window = (begin(first, zone), begin(next, zone));
    let counts = state.reader().run_counts(&ids.dag_id, window.0, window.1).await?;
    let mut days = days(&counts, zone);
    plan(&mut days, &detail, (now, window.1));
    let shown: Vec<Day> = first
        .iter_days()
        .take_while(|date| *date < next)
        .map(|date| {
            let day = days.remove(&date).unwrap_or_default();
            Day { href: if day.runs() > 0 { href(&ids, date, zone) } else { String::new() }, date, ..day }
        })
        .collect();
    let has_older = has_run(&state, &ids, None, Some(window.0)).await?;
    let has_newer =
        year < now.with_timezone(&zone).year() || has_run(&state, &ids, Some(window.1), None).await?;
    page(&CalendarPage {
        c,
        h: DagHead::load(&state, &detail, "calendar").await?,
        year,
        before: has_older.then_some(year - 1),
        after: has_newer.then_some(year + 1),
        zone: zone.name().to_owned(),
        sentence: sentence(&shown),
        is_empty: shown.iter().all(|day| day.runs() == 0 && !day.is_planned),
        calendar: calendar::draw(&shown),
    })
}

async fn has_run(
    state: &WebState,
    ids: &DagPath,
    since: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
) -> Result<bool> {
    let query = RunQuery {
        page: PageRequest { cursor: None, limit: 1 },
        dag_id: Some(ids.dag_id.clone()),
        logical_since: since,
        logical_before: before,
        ..RunQuery::default()
    };
    Ok(!state.reader().runs(&query).await?.items.is_empty())
}

/// The instant at which a day begins in a zone: midnight, or where the clocks pass over it the first instant after.
fn begin(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = date.and_time(NaiveTime::MIN);
    // No zone skips more than a day; a quarter of an hour is the smallest step between two offsets.
    let found =
        (0..=96).find_map(|n| zone.from_local_datetime(&(midnight + TimeDelta::minutes(15 * n))).earliest());
    found.map_or_else(|| midnight.and_utc(), |at| at.to_utc())
}

fn href(ids: &DagPath, date: NaiveDate, zone: Tz) -> String {
    let (from, until) = (begin(date, zone), begin(date.succ_opt().unwrap_or(date), zone));
    let query = query_string(&[("from", &time::instant(from)), ("until", &time::instant(until))]);
    format!("/dags/{}/runs?{query}", ids.dag_id)
}

/// Sums spans up to days.
fn days(counts: &[RunCount], zone: Tz) -> BTreeMap<NaiveDate, Day> {
    let mut days: BTreeMap<NaiveDate, Day> = BTreeMap::new();
    for found in counts {
        let day = days.entry(found.from.with_timezone(&zone).date_naive()).or_default();
        match found.state {
            RunState::Success => day.success += found.count,
            RunState::Failed => day.failed += found.count,
            RunState::Cancelled => day.cancelled += found.count,
            RunState::Queued | RunState::Running | RunState::Paused => day.active += found.count,
        }
    }
    days
}

/// Marks the days to come on which the schedule fires, up to `end`.
fn plan(days: &mut BTreeMap<NaiveDate, Day>, detail: &DagDetail, (now, end): (DateTime<Utc>, DateTime<Utc>)) {
    let dag: &Dag = &detail.definition;
    let Ok(timetable) = Timetable::new(dag) else { return };
    if detail.dag.is_paused || detail.dag.is_missing {
        return;
    }
    let timetable = timetable.first_seen(detail.dag.created_at);
    // The next run that is not dealt with, then the first one of each day after that: a schedule of every second
    // costs 366 look-ups, too.
    let mut slot = timetable.next_after(detail.dag.cursor.max(now));
    while let Some(next) = slot {
        let date = next.logical_date.with_timezone(&dag.timezone).date_naive();
        if next.logical_date >= end {
            break;
        }
        days.entry(date).or_default().is_planned = true;
        let Some(tomorrow) = date.succ_opt() else { break };
        slot = timetable.from_logical_date(begin(tomorrow, dag.timezone)).next();
    }
}

fn sentence(days: &[Day]) -> String {
    let sum = |count: fn(&Day) -> u64| days.iter().map(count).sum::<u64>();
    let runs = sum(Day::runs);
    let mut parts = vec![format!("{runs} run{}", if runs == 1 { "" } else { "s" })];
    for (count, word) in [
        (sum(|day| day.success), "success"),
        (sum(|day| day.failed), "failed"),
        (sum(|day| day.cancelled), "cancelled"),
        (sum(|day| day.active), "not ended"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use tidemill_engine::definition::load;
    use tidemill_engine::rows::{DagRow, VersionHash};

    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_begins_at_the_first_instant_that_its_zone_has() {
        let told = |text, zone| begin(date(text), zone).to_rfc3339();
        assert_eq!(told("2026-03-29", Tz::Europe__Berlin), "2026-03-28T23:00:00+00:00");
        // Midnight does not occur: the clocks go from 23:59 to 01:00.
        assert_eq!(told("2026-03-08", Tz::America__Havana), "2026-03-08T05:00:00+00:00");
        // A whole day does not occur.
        assert_eq!(told("2011-12-30", Tz::Pacific__Apia), "2011-12-30T10:00:00+00:00");
    }

    #[test]
    fn spans_belong_to_the_day_of_the_zone() {
        let count = |at: &str, state, count| RunCount { from: at.parse().unwrap(), state, count };
        let counts = [
            count("2026-11-05T18:15:00Z", RunState::Success, 2),
            count("2026-11-05T18:00:00Z", RunState::Failed, 1),
            count("2026-11-05T18:15:00Z", RunState::Paused, 1),
        ];
        // Nepal is 5 h 45 min ahead.
        let found = days(&counts, Tz::Asia__Kathmandu);
        assert_eq!((found[&date("2026-11-05")].failed, found.len()), (1, 2));
        let later = &found[&date("2026-11-06")];
        assert_eq!((later.success, later.active, later.runs()), (2, 1, 3));
        assert_eq!(
            sentence(&found.into_values().collect::<Vec<_>>()),
            "4 runs · 2 success · 1 failed · 1 not ended"
        );
    }

    #[test]
    fn the_days_to_come_are_marked_unless_nothing_will_run() {
        let source = "[dag]\nid = \"x\"\nschedule = \"0 12 * * 1\"\ntimezone = \"Europe/Berlin\"\n[[task]]\nid = \"a\"\noperator = \"noop\"\n";
        let dag = load(source.as_bytes(), "x.toml").dag.unwrap();
        let now: DateTime<Utc> = "2026-12-01T00:00:00Z".parse().unwrap();
        let mut detail = DagDetail {
            dag: DagRow {
                dag_id: dag.id.clone(),
                version: VersionHash("0".into()),
                path: "x.toml".to_owned(),
                is_paused: false,
                is_missing: false,
                failed_runs: 0,
                pause_reason: None,
                cursor: now,
                created_at: now,
            },
            definition: std::sync::Arc::new(dag),
        };
        let end = begin(date("2027-01-01"), Tz::Europe__Berlin);
        let mut found = BTreeMap::new();
        plan(&mut found, &detail, (now, end));
        let planned: Vec<String> = found.keys().map(ToString::to_string).collect();
        assert_eq!(planned, ["2026-12-07", "2026-12-14", "2026-12-21", "2026-12-28"]);
        detail.dag.is_paused = true;
        let mut found = BTreeMap::new();
        plan(&mut found, &detail, (now, end));
        assert!(found.is_empty());
    }
}
