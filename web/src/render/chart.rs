//! Small pictures: run strips, the outcome of the last hours, histograms, PSI lines, slot meters.

use super::Markup;

/// One run in a strip.
pub(crate) struct Bar {
    pub(crate) href: String,
    pub(crate) state: &'static str,
    /// Seconds; absent while it has not started.
    pub(crate) seconds: Option<f64>,
    pub(crate) title: String,
}

/// The last runs as bars, oldest first: height is duration, colour and shape are state.
pub(crate) fn strip(bars: &[Bar], slots: usize) -> Markup {
    const STEP: f64 = 10.0;
    const HEIGHT: f64 = 28.0;
    let longest = bars.iter().filter_map(|b| b.seconds).fold(0.001, f64::max);
    let count = slots.max(bars.len());
    let width = real(count) * STEP;
    let mut out = Markup::with_capacity(bars.len() * 260);
    out.raw("<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"group\" aria-label=\"Last runs\"");
    out.num("width", width).num("height", HEIGHT).raw(" viewBox=\"0 0 ").coordinate(width).raw(" 28\">");
    for slot in 0..count - bars.len() {
        out.raw("<rect class=\"slot\" width=\"7\" height=\"2\" y=\"26\" rx=\"1\"")
            .num("x", real(slot) * STEP)
            .raw("/>");
    }
    for (index, bar) in bars.iter().enumerate() {
        let x = real(count - bars.len() + index) * STEP;
        // The square root keeps a short run visible beside one that takes a hundred times as long.
        let height = 6.0 + (HEIGHT - 7.0) * (bar.seconds.unwrap_or(0.0).max(0.0) / longest).sqrt().min(1.0);
        let y = HEIGHT - height;
        out.raw("<a").attr("href", &bar.href).raw("><title>").text(&bar.title).raw("</title>");
        out.raw("<rect class=\"hit\" y=\"0\" width=\"10\" height=\"28\"").num("x", x).raw("/>");
        out.raw("<rect class=\"bar s-").raw(bar.state).raw("\" width=\"7\" rx=\"1.5\"");
        out.num("x", x).num("y", y).num("height", height).raw("/>");
        if bar.state == "failed" {
            out.raw("<path class=\"glyph\" d=\"M").coordinate(x + 1.7).raw(" ").coordinate(HEIGHT - 5.5);
            out.raw("l3.6 3.600m0 -3.600l-3.6 3.6\"/>");
        }
        out.raw("</a>");
    }
    out.raw("</svg>");
    out
}

/// One hour of ended runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hour {
    pub(crate) label: String,
    pub(crate) success: u32,
    pub(crate) failed: u32,
    pub(crate) other: u32,
}

/// Ended runs per hour, stacked by outcome.
pub(crate) fn hours(hours: &[Hour]) -> Markup {
    let most = hours.iter().map(|h| h.success + h.failed + h.other).max().unwrap_or(0).max(1);
    let mut out = Markup::default();
    out.raw("<svg class=\"hours\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"Ended runs per hour\" preserveAspectRatio=\"none\" viewBox=\"0 0 ");
    out.coordinate(real(hours.len()) * 30.0).raw(" 96\">");
    for (index, hour) in hours.iter().enumerate() {
        let x = real(index) * 30.0 + 3.0;
        let mut y = 94.0;
        out.raw("<g><title>").text(&hour.label).raw(": ").text(&hour.success.to_string()).raw(" success, ");
        out.text(&hour.failed.to_string())
            .raw(" failed, ")
            .text(&hour.other.to_string())
            .raw(" other</title>");
        out.raw("<rect class=\"slot\" width=\"24\" height=\"2\" y=\"94\"").num("x", x).raw("/>");
        for (count, state) in [(hour.success, "success"), (hour.other, "skipped"), (hour.failed, "failed")] {
            if count > 0 {
                let height = (f64::from(count) / f64::from(most) * 88.0).max(3.0);
                y -= height;
                out.raw("<rect class=\"bar s-").raw(state).raw("\" width=\"24\"");
                out.num("x", x).num("y", y).num("height", height - 0.5).raw("/>");
            }
        }
        out.raw("</g>");
    }
    out.raw("</svg>");
    out
}

/// Shares of both sides per bin: the reference filled, the current data as a line above it.
pub(crate) fn histogram(labels: &[String], reference: &[f64], current: &[f64], has_moved: bool) -> Markup {
    const WIDTH: f64 = 132.0;
    const HEIGHT: f64 = 38.0;
    let count = reference.len().max(current.len());
    let mut out = Markup::default();
    if count == 0 {
        return out;
    }
    let top = reference.iter().chain(current).copied().filter(|v| v.is_finite()).fold(0.001, f64::max);
    let step = WIDTH / real(count);
    out.raw("<svg class=\"hist\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 132 40\" width=\"132\" height=\"40\"><title>");
    for index in 0..count {
        let share = |side: &[f64]| format!("{:.1} %", finite(side.get(index)) * 100.0);
        out.raw(if index > 0 { "\n" } else { "" });
        out.text(labels.get(index).map_or("", String::as_str)).raw(": ").text(&share(reference));
        out.raw(" → ").text(&share(current));
    }
    out.raw("</title>");
    let height = |side: &[f64], i: usize| finite(side.get(i)).max(0.0) / top * HEIGHT;
    for index in 0..count {
        let h = height(reference, index);
        out.raw("<rect class=\"ref\"").num("x", real(index) * step + 0.5).num("y", 39.0 - h);
        out.num("width", step - 1.0).num("height", h).raw("/>");
    }
    out.raw("<path class=\"cur").raw(if has_moved { " moved" } else { "" }).raw("\" d=\"M0 39");
    for index in 0..count {
        out.raw("V").coordinate(39.0 - height(current, index)).raw("H").coordinate(real(index + 1) * step);
    }
    out.raw("V39\"/></svg>");
    out
}

/// A line over the last runs, oldest first, with its threshold; what was found large has a mark.
pub(crate) fn spark(values: &[(f64, bool)], threshold: Option<f64>) -> Markup {
    let mut out = Markup::default();
    if values.is_empty() {
        return out;
    }
    let top = values
        .iter()
        .map(|(value, _)| *value)
        .chain(threshold)
        .filter(|v| v.is_finite())
        .fold(0.001, f64::max)
        * 1.08;
    let place = |value: f64| 38.0 - (if value.is_finite() { value } else { top }) / top * 36.0;
    let step = 124.0 / real(values.len().saturating_sub(1).max(1));
    out.raw("<svg class=\"spark\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 132 40\" width=\"132\" height=\"40\"><title>");
    for (index, (value, _)) in values.iter().enumerate() {
        out.raw(if index > 0 { ", " } else { "" }).text(&format!("{value:.3}"));
    }
    out.raw("</title>");
    if let Some(threshold) = threshold {
        out.raw("<path class=\"thr\" d=\"M0 ").coordinate(place(threshold)).raw("H132\"/>");
    }
    out.raw("<path class=\"lin\" d=\"");
    for (index, (value, _)) in values.iter().enumerate() {
        out.raw(if index == 0 { "M" } else { "L" })
            .coordinate(4.0 + real(index) * step)
            .raw(" ")
            .coordinate(place(*value));
    }
    out.raw("\"/>");
    for (index, (value, is_large)) in values.iter().enumerate() {
        out.raw("<circle class=\"dot").raw(if *is_large { " over" } else { "" }).raw("\" r=\"");
        out.raw(if index + 1 == values.len() || *is_large { "2.8" } else { "1.5" }).raw("\"");
        out.num("cx", 4.0 + real(index) * step).num("cy", place(*value)).raw("/>");
    }
    out.raw("</svg>");
    out
}

/// Slots taken of all.
pub(crate) fn meter(used: u32, slots: u32) -> Markup {
    let share = if slots == 0 { 0.0 } else { (f64::from(used) / f64::from(slots)).min(1.0) };
    let mut out = Markup::default();
    out.raw("<svg class=\"meter\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 140 10\" width=\"140\" height=\"10\"><title>");
    out.text(&format!("{used} of {slots} slots"))
        .raw("</title><rect class=\"bg\" width=\"140\" height=\"10\" rx=\"3\"/>");
    out.raw("<rect height=\"10\" rx=\"3\" class=\"")
        .raw(if share >= 1.0 { "full" } else { "used" })
        .raw("\"");
    out.num("width", share * 140.0).raw("/></svg>");
    out
}

/// Draws how far something is: its parts by class and name, of a whole.
pub(crate) fn progress(parts: &[(&'static str, &str, u64)], total: u64) -> Markup {
    const WIDTH: f64 = 240.0;
    let mut out = Markup::default();
    out.raw("<svg class=\"progress\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 240 12\" width=\"240\" height=\"12\"><title>");
    let names: Vec<String> = parts.iter().map(|(_, name, count)| format!("{count} {name}")).collect();
    out.text(&format!("{} of {total}", names.join(", ")))
        .raw("</title><rect class=\"bg\" width=\"240\" height=\"12\" rx=\"3\"/>");
    let whole = parts.iter().map(|(.., count)| *count).sum::<u64>().max(total).max(1);
    let share = |count: u64| {
        real(usize::try_from(count).unwrap_or(usize::MAX))
            / real(usize::try_from(whole).unwrap_or(usize::MAX))
    };
    let mut x = 0.0;
    for (class, _, count) in parts.iter().filter(|(.., count)| *count > 0) {
        let width = share(*count) * WIDTH;
        out.raw("<rect height=\"12\" class=\"")
            .raw(class)
            .raw("\"")
            .num("x", x)
            .num("width", width)
            .raw("/>");
        x += width;
    }
    out.raw("</svg>");
    out
}

fn finite(value: Option<&f64>) -> f64 {
    value.copied().filter(|v| v.is_finite()).unwrap_or(0.0)
}

fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_hold_no_style_and_no_foreign_markup() {
        let evil = "\"><img src=x onerror=alert(1)>".to_owned();
        let bar = Bar { href: evil.clone(), state: "failed", seconds: Some(3.0), title: evil.clone() };
        let all = [
            strip(&[bar], 14),
            hours(&[Hour { label: evil.clone(), success: 1, failed: 2, other: 0 }]),
            histogram(&[evil], &[1.0], &[f64::NAN], true),
            spark(&[(0.1, false), (f64::INFINITY, true)], Some(0.2)),
            meter(3, 0),
        ];
        for picture in all {
            assert!(!picture.as_str().contains("<img") && !picture.as_str().contains("style"), "{picture}");
            assert!(!picture.as_str().contains("NaN") && !picture.as_str().contains("inf\""), "{picture}");
        }
    }
}
