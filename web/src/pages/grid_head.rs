//! The head of the grid: a bar per run, and its date as far as it differs from the one before.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use tidemill_engine::state::RunState;
use tidemill_store::reader::GridRun;

use crate::{
    render::{Markup, time},
    zone,
};

/// Draws a column head per run, the oldest first.
pub(super) fn draw<'g>(out: &mut Markup, base: &str, runs: impl Iterator<Item = &'g GridRun>) {
    let now = Utc::now();
    let runs: Vec<&GridRun> = runs.collect();
    let took = |run: &GridRun| {
        run.run.started_at.map(|start| (run.run.finished_at.unwrap_or(now) - start).num_milliseconds().max(1))
    };
    let longest = runs.iter().filter_map(|run| took(run)).max().unwrap_or(1);
    let zone = zone::shown();
    let dates: Vec<DateTime<Tz>> = runs.iter().map(|run| run.run.logical_date.with_timezone(&zone)).collect();
    for (index, (run, (tick, period))) in runs.iter().zip(labels(&dates)).enumerate() {
        let bar = &run.run;
        let share = took(run)
            .map_or(0.0, |ms| f64::from(u32::try_from(ms * 1000 / longest).unwrap_or(1000)) / 1000.0);
        let height = 4.0 + share.sqrt() * 44.0;
        let words = took(run).map(time::duration).unwrap_or_default();
        out.raw("<th scope=\"col\"")
            .attr("data-run", bar.run_id.as_str())
            .attr("data-col", &(index + 1).to_string())
            .raw("><a");
        out.attr("href", &format!("{base}{}", bar.run_id));
        let date = time::exact(bar.logical_date);
        out.attr("title", &format!("{}: {} {words}\n{date}", bar.run_id, bar.state)).raw(">");
        out.raw("<svg width=\"20\" height=\"50\" viewBox=\"0 0 20 50\" aria-hidden=\"true\">");
        out.raw("<rect class=\"bar s-").raw(bar.state.as_str());
        out.raw("\" x=\"4\" width=\"12\" rx=\"2\"").num("y", 50.0 - height).num("height", height).raw("/>");
        if bar.state == RunState::Failed {
            out.raw("<path class=\"glyph\" d=\"M7 41l6 6m0 -6l-6 6\"/>");
        }
        out.raw("</svg><span>").text(&tick).raw("</span>");
        if let Some(period) = period {
            out.raw("<span class=\"per\" aria-hidden=\"true\">").text(&period).raw("</span>");
        }
        out.raw("<span class=\"sr\">").text(bar.run_id.as_str()).raw(" ").raw(bar.state.as_str());
        out.raw("</span></a></th>");
    }
}

/// About how many columns of 22 px a text of 11 px takes.
fn columns(text: &str) -> usize {
    text.chars().count().div_ceil(3)
}

/// A tick per date, and where a period begins its name: days and months, or hours and days, or minutes and hours,
/// whatever lies between most of the dates. A name that would run into the next one is left out.
fn labels(dates: &[DateTime<Tz>]) -> Vec<(String, Option<String>)> {
    let mut gaps: Vec<TimeDelta> = dates.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let gap = gaps.get(gaps.len() / 2).copied().unwrap_or(TimeDelta::days(1));
    let (tick, same, period) = if gap >= TimeDelta::hours(20) {
        ("%d", "%Y-%m", "%b")
    } else if gap >= TimeDelta::hours(1) {
        ("%H", "%Y-%m-%d", "%-d %b")
    } else {
        (":%M", "%Y-%m-%d %H", "%-d %b %Hh")
    };
    let text = |date: &DateTime<Tz>, format: &str| date.format(format).to_string();
    let mut labels: Vec<(String, Option<String>)> =
        dates.iter().map(|date| (text(date, tick), None)).collect();
    let is_begin = |at: usize| at == 0 || text(&dates[at], same) != text(&dates[at - 1], same);
    let mut next = usize::MAX;
    for at in (0..dates.len()).rev().filter(|at| is_begin(*at)) {
        let name = text(&dates[at], period);
        if at.saturating_add(columns(&name)) <= next {
            labels[at].1 = Some(name);
        }
        next = at;
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(step: TimeDelta, count: i32, zone: Tz) -> String {
        let begin: DateTime<Utc> = "2026-10-24T22:00:00Z".parse().unwrap();
        let dates: Vec<_> = (0..count).map(|n| (begin + step * n).with_timezone(&zone)).collect();
        let told = labels(&dates).into_iter();
        told.map(|(tick, period)| period.map_or(tick.clone(), |p| format!("{tick}({p})")))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_head_says_what_changes_between_its_columns() {
        assert_eq!(told(TimeDelta::days(1), 10, Tz::UTC), "24(Oct) 25 26 27 28 29 30 31 01(Nov) 02",);
        assert_eq!(told(TimeDelta::hours(1), 4, Tz::UTC), "22(24 Oct) 23 00(25 Oct) 01");
        // The first of two beginnings side by side would run into the second.
        assert_eq!(told(TimeDelta::hours(2), 3, Tz::UTC), "22 00(25 Oct) 02");
        // The hour that comes twice on the day on which the clocks go back.
        assert_eq!(told(TimeDelta::hours(1), 5, Tz::Europe__Berlin), "00(25 Oct) 01 02 02 03");
        assert_eq!(told(TimeDelta::minutes(15), 3, Tz::UTC), ":00(24 Oct 22h) :15 :30");
        assert_eq!(told(TimeDelta::days(1), 1, Tz::UTC), "24(Oct)");
        assert!(labels(&[]).is_empty());
    }
}
