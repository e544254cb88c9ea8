//! A year as weeks of squares: colour is the worst that happened, strength how much.

use chrono::{Datelike, NaiveDate};

use super::Markup;

/// A day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Day {
    pub(crate) date: NaiveDate,
    /// Where its runs are listed; empty where it has none.
    pub(crate) href: String,
    pub(crate) success: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    /// Runs that have not ended.
    pub(crate) active: u64,
    pub(crate) is_planned: bool,
}

impl Day {
    /// Returns how many runs it has.
    pub(crate) const fn runs(&self) -> u64 {
        self.success + self.failed + self.cancelled + self.active
    }

    /// What needs attention first.
    const fn state(&self) -> &'static str {
        if self.failed > 0 {
            "failed"
        } else if self.active > 0 {
            "running"
        } else if self.success > 0 {
            "success"
        } else if self.cancelled > 0 {
            "cancelled"
        } else {
            "none"
        }
    }

    /// How strong the colour is, from 1 to 4: by the share that failed, else by the runs of the busiest day.
    fn strength(&self, busiest: u64) -> &'static str {
        let (part, whole) = if self.failed > 0 { (self.failed, self.runs()) } else { (self.runs(), busiest) };
        match part * 4 / whole.max(1) {
            0 => "q1",
            1 => "q2",
            2 => "q3",
            _ => "q4",
        }
    }
}

const STEP: f64 = 17.0;
const LEFT: f64 = 40.0;
const TOP: f64 = 22.0;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Draws the days of one year, in order.
pub(crate) fn draw(days: &[Day]) -> Markup {
    let busiest = days.iter().map(Day::runs).max().unwrap_or(1).max(1);
    let lead = days.first().map_or(0, |day| day.date.weekday().num_days_from_monday());
    let (width, height) = (LEFT + 54.0 * STEP, TOP + 7.0 * STEP + 4.0);
    let mut out = Markup::with_capacity(days.len() * 260 + 2_048);
    out.raw("<svg class=\"calendar\" xmlns=\"http://www.w3.org/2000/svg\" role=\"group\" aria-label=\"Runs by day\"");
    out.num("width", width).num("height", height).raw(" viewBox=\"0 0 ").coordinate(width);
    out.raw(" ").coordinate(height).raw("\">");
    for (row, name) in [(0.0, "Mon"), (2.0, "Wed"), (4.0, "Fri")] {
        out.raw("<text x=\"6\"").num("y", TOP + row * STEP + 12.0).raw(">").raw(name).raw("</text>");
    }
    for (index, day) in (0_u32..).zip(days) {
        let x = LEFT + f64::from((index + lead) / 7) * STEP;
        let y = TOP + f64::from((index + lead) % 7) * STEP;
        if day.date.day() == 1 {
            let month = usize::try_from(day.date.month0()).unwrap_or(0);
            out.raw("<text y=\"14\"")
                .num("x", x)
                .raw(">")
                .raw(MONTHS.get(month).copied().unwrap_or(""))
                .raw("</text>");
        }
        square(&mut out, day, (x, y), busiest);
    }
    out.raw("</svg>");
    out
}

fn square(out: &mut Markup, day: &Day, (x, y): (f64, f64), busiest: u64) {
    let is_link = !day.href.is_empty();
    if is_link {
        out.raw("<a").attr("href", &day.href).raw(">");
    } else {
        out.raw("<g>");
    }
    out.raw("<title>").text(&day.date.to_string()).raw(": ");
    let counts = [
        (day.success, "success"),
        (day.failed, "failed"),
        (day.cancelled, "cancelled"),
        (day.active, "not ended"),
    ];
    let words: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    out.text(&if words.is_empty() { "no run".to_owned() } else { words.join(", ") });
    out.raw(if day.is_planned { ", planned" } else { "" }).raw("</title>");
    let state = day.state();
    out.raw("<rect width=\"14\" height=\"14\" rx=\"3\" class=\"day s-").raw(state).raw(" ");
    out.raw(match (state, day.is_planned) {
        ("none", true) => "planned",
        ("none", false) => "q0",
        _ => day.strength(busiest),
    });
    out.raw("\"").num("x", x).num("y", y).raw("/>");
    // Not by colour alone.
    match state {
        "failed" => {
            out.raw("<path class=\"glyph\" d=\"M").coordinate(x + 4.5).raw(" ").coordinate(y + 4.5);
            out.raw("l5 5m0 -5l-5 5\"/>");
        }
        "running" => {
            out.raw("<circle class=\"glyph\" r=\"3\"").num("cx", x + 7.0).num("cy", y + 7.0).raw("/>");
        }
        _ => {}
    }
    out.raw(if is_link { "</a>" } else { "</g>" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_has_a_square_per_day_in_rows_of_weekdays() {
        let first: NaiveDate = "2027-01-01".parse().unwrap();
        let mut days: Vec<Day> =
            first.iter_days().take(365).map(|date| Day { date, ..Day::default() }).collect();
        days[0] = Day { success: 1, failed: 1, href: "\"><img src=x>".to_owned(), ..days[0].clone() };
        days[1].is_planned = true;
        let drawn = draw(&days);
        assert_eq!(drawn.as_str().matches("class=\"day ").count(), 365);
        assert!(!drawn.as_str().contains("<img") && !drawn.as_str().contains("style"), "{drawn}");
        // The first of January 2027 is a Friday: the fifth row of the first column.
        let friday = "<title>2027-01-01: 1 success, 1 failed</title><rect width=\"14\" height=\"14\" rx=\"3\" class=\"day s-failed q3\" x=\"40\" y=\"90\"/>";
        assert!(drawn.as_str().contains(friday), "{drawn}");
        assert!(drawn.as_str().contains("2027-01-02: no run, planned"));
        assert!(draw(&[]).as_str().ends_with("</svg>"));
    }
}
