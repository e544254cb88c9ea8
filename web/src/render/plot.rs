//! Durations of runs as bars, with the median and the 95th percentile of those that succeeded.

use super::{Markup, scale, time};

/// One bar.
pub(crate) struct Point {
    pub(crate) href: String,
    pub(crate) title: String,
    pub(crate) state: &'static str,
    /// How long it took, or takes so far.
    pub(crate) ms: i64,
    /// Whether it counts for what is usual.
    pub(crate) is_usual: bool,
}

const LEFT: f64 = 64.0;
const TOP: f64 = 12.0;
const HEIGHT: f64 = 240.0;
const RIGHT: f64 = 120.0;

/// Draws the bars, the oldest first.
pub(crate) fn durations(points: &[Point], median: Option<i64>, p95: Option<i64>) -> Markup {
    let step = if points.len() > 200 {
        6.0
    } else if points.len() > 60 {
        10.0
    } else {
        20.0
    };
    let longest = points.iter().map(|p| p.ms).chain(p95).max().unwrap_or(1).max(1);
    let tick = scale::step(longest, 5);
    // The axis ends with a line, so that the longest bar stays below one.
    let top = (longest / tick + 1).saturating_mul(tick);
    let count = u32::try_from(points.len()).unwrap_or(u32::MAX);
    let inner = (f64::from(count) * step).max(480.0);
    let width = LEFT + inner + RIGHT;
    let place = |ms: i64| TOP + HEIGHT - scale::real(ms) / scale::real(top) * HEIGHT;
    let mut out = Markup::with_capacity(points.len() * 320 + 2_048);
    out.raw(
        "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" role=\"group\" aria-label=\"Durations\"",
    );
    out.num("width", width).num("height", TOP + HEIGHT + 8.0).raw(" viewBox=\"0 0 ");
    out.coordinate(width).raw(" ").coordinate(TOP + HEIGHT + 8.0).raw("\">");
    let mut line = 0;
    while line <= top {
        let y = place(line);
        out.raw("<path class=\"axis\" d=\"M").coordinate(LEFT).raw(" ").coordinate(y);
        out.raw("H").coordinate(LEFT + inner).raw("\"/><text text-anchor=\"end\"").num("x", LEFT - 8.0);
        out.num("y", y + 4.0)
            .raw(">")
            .text(&if line == 0 { "0".to_owned() } else { axis(line) })
            .raw("</text>");
        line = line.saturating_add(tick);
    }
    let first = LEFT + inner - f64::from(count) * step;
    for (n, point) in (0_u32..).zip(points) {
        let (x, y) = (first + f64::from(n) * step, place(point.ms).min(TOP + HEIGHT - 2.0));
        out.raw("<a").attr("href", &point.href).raw("><title>").text(&point.title).raw("</title>");
        out.raw("<rect class=\"hit\"")
            .num("x", x)
            .num("y", TOP)
            .num("width", step)
            .num("height", HEIGHT)
            .raw("/>");
        out.raw("<rect class=\"bar s-").raw(point.state).raw("\" rx=\"1.5\"");
        out.num("x", x + step * 0.15)
            .num("y", y)
            .num("width", step * 0.7)
            .num("height", TOP + HEIGHT - y)
            .raw("/>");
        if point.state == "failed" && step > 8.0 {
            out.raw("<path class=\"glyph\" d=\"M").coordinate(x + step / 2.0 - 2.5).raw(" ");
            out.coordinate(TOP + HEIGHT - 8.0).raw("l5 5m0 -5l-5 5\"/>");
        }
        out.raw("</a>");
    }
    // Where both lie close together their names stand apart.
    let is_close = median.zip(p95).is_some_and(|(a, b)| (place(a) - place(b)).abs() < 13.0);
    for (value, class, name, shift) in [(median, "median", "median", 9.0), (p95, "p95", "95 %", -1.0)] {
        let Some(value) = value else { continue };
        let y = place(value);
        out.raw("<path class=\"").raw(class).raw("\" d=\"M").coordinate(LEFT).raw(" ").coordinate(y);
        out.raw("H").coordinate(LEFT + inner + 6.0).raw("\"/><text").num("x", LEFT + inner + 10.0);
        out.num("y", y + if is_close { shift } else { 4.0 }).raw(">").text(name).raw(" ");
        out.text(&time::duration(value)).raw("</text>");
    }
    out.raw("</svg>");
    out
}

/// A duration without the parts that are zero on an axis: `2m`, not `2m 00s`.
pub(crate) fn axis(ms: i64) -> String {
    let words = time::duration(ms);
    for zero in [" 00s", " 00m", " 00h", ".0s"] {
        if let Some(short) = words.strip_suffix(zero) {
            return if zero == ".0s" { format!("{short}s") } else { short.to_owned() };
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(ms: i64, state: &'static str) -> Point {
        let evil = "\"><img src=x>".to_owned();
        Point { href: evil.clone(), title: evil, state, ms, is_usual: state == "success" }
    }

    #[test]
    fn bars_stay_inside_and_hold_no_foreign_markup() {
        let points = [point(0, "success"), point(61_000, "failed"), point(i64::MAX / 4, "running")];
        let drawn = durations(&points, Some(0), Some(61_000));
        assert!(!drawn.as_str().contains("<img") && !drawn.as_str().contains("style"), "{drawn}");
        assert!(!drawn.as_str().contains("NaN") && !drawn.as_str().contains("inf"), "{drawn}");
        assert_eq!(drawn.as_str().matches("class=\"bar s-").count(), 3);
        assert!(drawn.as_str().contains(">median 0ms<") && drawn.as_str().contains(">95 % 1m 01s<"));
    }

    #[test]
    fn nothing_at_all_is_drawn_as_an_empty_axis() {
        assert!(durations(&[], None, None).as_str().ends_with("</svg>"));
    }

    #[test]
    fn an_axis_says_no_zeros() {
        let words: Vec<String> = [500, 2_000, 15_000, 120_000, 90_000, 7_200_000].map(axis).into();
        assert_eq!(words, ["500ms", "2s", "15s", "2m", "1m 30s", "2h"]);
    }
}
