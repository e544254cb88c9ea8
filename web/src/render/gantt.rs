//! Task instances over time: waiting as a thin line, each try as a bar.

use chrono::{DateTime, Utc};

use super::{Markup, plot::axis, scale, time};

/// A try.
pub(crate) struct Bar {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) state: &'static str,
    pub(crate) label: String,
}

/// A task instance.
pub(crate) struct Line {
    pub(crate) href: String,
    pub(crate) label: String,
    pub(crate) state: &'static str,
    pub(crate) is_critical: bool,
    pub(crate) waits: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    pub(crate) bars: Vec<Bar>,
}

const LEFT: f64 = 260.0;
const INNER: f64 = 760.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 26.0;
const HEAD: f64 = 24.0;
/// How many characters of a name fit beside the bars; the whole name is behind it.
const NAME: usize = 34;

/// Draws the lines in their order.
pub(crate) fn draw(lines: &[Line], now: DateTime<Utc>) -> Markup {
    let instants = || {
        let waits = lines.iter().flat_map(|line| line.waits.iter().flat_map(|(from, to)| [*from, *to]));
        waits.chain(lines.iter().flat_map(|line| line.bars.iter().flat_map(|bar| [bar.from, bar.to])))
    };
    let begin = instants().min().unwrap_or(now);
    let span = instants().max().map_or(0, |end| (end - begin).num_milliseconds()).max(1);
    let x =
        |at: DateTime<Utc>| LEFT + scale::real((at - begin).num_milliseconds()) / scale::real(span) * INNER;
    let height = HEAD + f64::from(u32::try_from(lines.len()).unwrap_or(u32::MAX)) * ROW + 4.0;
    let mut out = Markup::with_capacity(lines.len() * 700 + 2_048);
    out.raw("<svg class=\"gantt\" xmlns=\"http://www.w3.org/2000/svg\" role=\"group\" aria-label=\"Task instances over time\"");
    out.num("width", LEFT + INNER + RIGHT).num("height", height).raw(" viewBox=\"0 0 ");
    out.coordinate(LEFT + INNER + RIGHT).raw(" ").coordinate(height).raw("\">");
    let tick = scale::step(span, 8);
    let mut at = 0;
    while at <= span {
        let place = LEFT + scale::real(at) / scale::real(span) * INNER;
        out.raw("<path class=\"axis\" d=\"M").coordinate(place).raw(" ").coordinate(HEAD - 4.0);
        out.raw("V")
            .coordinate(height)
            .raw("\"/><text text-anchor=\"middle\" y=\"14\"")
            .num("x", place)
            .raw(">");
        out.text(&if at == 0 { "0".to_owned() } else { axis(at) }).raw("</text>");
        at = at.saturating_add(tick);
    }
    for (n, line) in (0_u32..).zip(lines) {
        row(&mut out, line, HEAD + f64::from(n) * ROW, &x);
    }
    out.raw("</svg>");
    out
}

fn row(out: &mut Markup, line: &Line, y: f64, x: &impl Fn(DateTime<Utc>) -> f64) {
    out.raw("<a class=\"line").raw(if line.is_critical { " critical" } else { "" }).raw("\"");
    out.attr("href", &line.href).raw("><title>").text(&line.label).raw(": ").raw(line.state);
    for (from, to) in line.waits.iter().filter(|(from, to)| (*to - *from).num_milliseconds() > 0) {
        out.raw("\nwaited ").text(&time::duration((*to - *from).num_milliseconds()));
        out.raw(" from ").text(&time::exact(*from));
    }
    for bar in &line.bars {
        out.raw("\n").text(&bar.label).raw(if bar.label.is_empty() { "" } else { " " });
        out.raw(bar.state).raw(" ").text(&time::duration((bar.to - bar.from).num_milliseconds()));
        out.raw(" from ").text(&time::exact(bar.from));
    }
    out.raw("</title><rect class=\"hit\" x=\"0\"").num("y", y).num("width", LEFT + INNER + RIGHT);
    out.num("height", ROW).raw("/><text class=\"name\" x=\"8\"").num("y", y + 17.0).raw(">");
    if line.label.chars().count() > NAME {
        let short: String = line.label.chars().take(NAME - 1).collect();
        out.text(&short).raw("…");
    } else {
        out.text(&line.label);
    }
    out.raw("</text>");
    for (from, to) in &line.waits {
        let (left, right) = (x(*from), x(*to));
        out.raw("<rect class=\"wait\" height=\"4\" rx=\"2\"").num("x", left).num("y", y + 11.0);
        out.num("width", (right - left).max(0.0)).raw("/>");
    }
    let mut end = LEFT;
    for bar in &line.bars {
        let (left, right) = (x(bar.from), x(bar.to));
        end = right.max(left + 2.0);
        out.raw("<rect class=\"bar s-").raw(bar.state).raw("\" height=\"16\" rx=\"3\"").num("x", left);
        out.num("y", y + 5.0).num("width", (right - left).max(2.0)).raw("/>");
    }
    if let Some(bar) = line.bars.last() {
        out.raw("<text").num("x", end + 6.0).num("y", y + 17.0).raw(">");
        out.text(&time::duration((bar.to - bar.from).num_milliseconds())).raw("</text>");
    }
    out.raw("</a>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_inside_and_hold_no_foreign_markup() {
        let at = |seconds: i64| DateTime::from_timestamp(1_793_836_800 + seconds, 0).unwrap();
        let evil = "\"><img src=x>".to_owned();
        let bar =
            |from: i64, to: i64| Bar { from: at(from), to: at(to), state: "failed", label: evil.clone() };
        let line = Line {
            href: evil.clone(),
            label: evil.clone(),
            state: "failed",
            is_critical: true,
            waits: vec![(at(0), at(3)), (at(5), at(5))],
            bars: vec![bar(3, 5), bar(6, 10)],
        };
        let drawn = draw(&[line], at(10));
        assert!(!drawn.as_str().contains("<img") && !drawn.as_str().contains("style"), "{drawn}");
        assert!(drawn.as_str().contains("critical") && drawn.as_str().contains("waited 3.0s"), "{drawn}");
        // The last bar ends where the drawing does.
        assert!(drawn.as_str().contains("x=\"716\" y=\"29\" width=\"304\""), "{drawn}");
        assert!(draw(&[], at(0)).as_str().ends_with("</svg>"));
    }
}
