//! One feature of a drift report in large: both distributions over each other, and its PSI over the last runs.

use super::Markup;

const WIDTH: f64 = 560.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 12.0;
const HEIGHT: f64 = 180.0;
/// Above this many bins only some of them have their label below.
const LABELLED: usize = 8;

/// The PSI of one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Past {
    /// The page of the task instance that measured it.
    pub(crate) href: String,
    /// Its run with the logical date.
    pub(crate) title: String,
    /// The date below the line.
    pub(crate) date: String,
    pub(crate) psi: f64,
    /// Whether the rule of that run found it large.
    pub(crate) is_large: bool,
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn finite(value: Option<&f64>) -> f64 {
    value.copied().filter(|v| v.is_finite()).unwrap_or(0.0).max(0.0)
}

fn open(out: &mut Markup, label: &'static str) {
    out.raw("<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" role=\"group\" aria-label=\"")
        .raw(label)
        .raw("\"");
    out.num("width", WIDTH).num("height", TOP + HEIGHT + 28.0).raw(" viewBox=\"0 0 ").coordinate(WIDTH);
    out.raw(" ").coordinate(TOP + HEIGHT + 28.0).raw("\">");
}

/// Lines of the axis at round values, each with its words.
fn axis(out: &mut Markup, top: f64, words: impl Fn(f64) -> String) {
    for n in 0..=4_u32 {
        let (share, y) = (f64::from(n) / 4.0, TOP + HEIGHT - f64::from(n) / 4.0 * HEIGHT);
        out.raw("<path class=\"axis\" d=\"M")
            .coordinate(LEFT)
            .raw(" ")
            .coordinate(y)
            .raw("H")
            .coordinate(WIDTH);
        out.raw("\"/><text text-anchor=\"end\"").num("x", LEFT - 8.0).num("y", y + 4.0).raw(">");
        out.text(&words(share * top)).raw("</text>");
    }
}

/// Shortens a label to what fits below a bin.
fn short(label: &str, most: usize) -> String {
    if label.chars().count() <= most {
        return label.to_owned();
    }
    label.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Shares of both sides per bin: the reference filled, the current data as a line over it.
pub(crate) fn overlaid(labels: &[String], reference: &[f64], current: &[f64], has_moved: bool) -> Markup {
    let bins = reference.len().max(current.len());
    let mut out = Markup::default();
    if bins == 0 {
        return out;
    }
    let top = reference.iter().chain(current).copied().filter(|v| v.is_finite()).fold(0.001, f64::max);
    let step = (WIDTH - LEFT) / count(bins);
    let y = |side: &[f64], bin: usize| TOP + HEIGHT - finite(side.get(bin)) / top * HEIGHT;
    open(&mut out, "Reference and current data");
    axis(&mut out, top, |share| format!("{:.1} %", share * 100.0));
    for bin in 0..bins {
        let x = LEFT + count(bin) * step;
        let label = labels.get(bin).map_or("", String::as_str);
        let share = |side: &[f64]| format!("{:.1} %", finite(side.get(bin)) * 100.0);
        out.raw("<g><title>").text(label).raw(": ").text(&share(reference)).raw(" → ").text(&share(current));
        out.raw("</title><rect class=\"hit\"")
            .num("x", x)
            .num("y", TOP)
            .num("width", step)
            .num("height", HEIGHT);
        out.raw("/><rect class=\"ref\"").num("x", x + 1.0).num("y", y(reference, bin));
        out.num("width", (step - 2.0).max(0.5)).num("height", TOP + HEIGHT - y(reference, bin)).raw("/></g>");
        let every = bins.div_ceil(LABELLED);
        if bin % every == 0 {
            // Some 7 px a character, but a handful at least, else the label says nothing.
            let most = (504 * every / bins / 7).max(4);
            out.raw("<text text-anchor=\"middle\"")
                .num("x", x + step / 2.0)
                .num("y", TOP + HEIGHT + 16.0)
                .raw(">");
            out.text(&short(label, most)).raw("</text>");
        }
    }
    out.raw("<path class=\"cur").raw(if has_moved { " moved" } else { "" }).raw("\" d=\"M").coordinate(LEFT);
    out.raw(" ").coordinate(TOP + HEIGHT);
    for bin in 0..bins {
        out.raw("V").coordinate(y(current, bin)).raw("H").coordinate(LEFT + count(bin + 1) * step);
    }
    out.raw("V").coordinate(TOP + HEIGHT).raw("\"/></svg>");
    out
}

/// The PSI over the last runs, the oldest first, with the threshold of the present rule.
pub(crate) fn history(past: &[Past], threshold: Option<f64>) -> Markup {
    let mut out = Markup::default();
    if past.is_empty() {
        return out;
    }
    let values = past.iter().map(|p| p.psi).chain(threshold);
    let top = values.filter(|v| v.is_finite()).fold(0.001, f64::max) * 1.1;
    let y =
        |psi: f64| TOP + HEIGHT - (if psi.is_finite() { psi.clamp(0.0, top) } else { top }) / top * HEIGHT;
    let room = WIDTH - LEFT - 24.0;
    let step = room / count(past.len().saturating_sub(1).max(1));
    let x = |at: usize| LEFT + 12.0 + count(at) * step;
    open(&mut out, "PSI of the last runs");
    axis(&mut out, top, |psi| format!("{psi:.2}"));
    out.raw("<path class=\"lin\" d=\"");
    for (at, point) in past.iter().enumerate() {
        out.raw(if at == 0 { "M" } else { "L" }).coordinate(x(at)).raw(" ").coordinate(y(point.psi));
    }
    out.raw("\"/>");
    if let Some(threshold) = threshold {
        out.raw("<path class=\"thr\" d=\"M").coordinate(LEFT).raw(" ").coordinate(y(threshold)).raw("H");
        out.coordinate(WIDTH).raw("\"/><text class=\"bad\" text-anchor=\"end\"").num("x", WIDTH - 4.0);
        out.num("y", y(threshold) - 5.0).raw(">").text(&format!("threshold {threshold}")).raw("</text>");
    }
    for (at, point) in past.iter().enumerate() {
        out.raw("<a").attr("href", &point.href).raw("><title>").text(&point.title).raw(": PSI ");
        out.text(&format!("{:.3}", point.psi))
            .raw(if point.is_large { ", large" } else { "" })
            .raw("</title>");
        out.raw("<rect class=\"hit\"")
            .num("x", x(at) - 8.0)
            .num("y", TOP)
            .num("width", 16.0)
            .num("height", HEIGHT);
        out.raw("/><circle class=\"dot").raw(if point.is_large { " over" } else { "" }).raw("\"");
        out.num("r", if point.is_large || at + 1 == past.len() { 4.5 } else { 3.0 });
        out.num("cx", x(at)).num("cy", y(point.psi)).raw("/></a>");
    }
    for at in [0, past.len() - 1] {
        if at == 0 || past.len() > 1 {
            out.raw("<text text-anchor=\"").raw(if at == 0 { "start" } else { "end" }).raw("\"");
            out.num("x", if at == 0 { LEFT } else { WIDTH - 4.0 }).num("y", TOP + HEIGHT + 16.0).raw(">");
            out.text(&past[at].date).raw("</text>");
        }
    }
    out.raw("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pictures_hold_no_foreign_markup_and_stay_finite() {
        let evil = "\"><img src=x>".to_owned();
        let past = |psi, is_large| Past {
            href: evil.clone(),
            title: evil.clone(),
            date: evil.clone(),
            psi,
            is_large,
        };
        let drawn = [
            overlaid(&[evil.clone(), "b".to_owned()], &[1.0, f64::NAN], &[0.2], true),
            history(&[past(0.1, false), past(f64::INFINITY, true)], Some(0.2)),
            history(&[past(0.0, false)], None),
        ];
        for picture in &drawn {
            let text = picture.as_str();
            assert!(!text.contains("<img") && !text.contains("style") && text.ends_with("</svg>"), "{text}");
            assert!(!text.contains("\"NaN") && !text.contains("\"inf"), "{text}");
        }
        assert!(drawn[1].as_str().contains("threshold 0.2") && drawn[1].as_str().contains("dot over"));
        assert_eq!((overlaid(&[], &[], &[], false).as_str(), history(&[], None).as_str()), ("", ""));
    }

    #[test]
    fn many_bins_have_few_labels_and_long_ones_are_cut() {
        let labels: Vec<String> = (0..40).map(|n| format!("a rather long category {n}")).collect();
        let shares = vec![1.0 / 40.0; 40];
        let drawn = overlaid(&labels, &shares, &shares, false);
        assert_eq!(drawn.as_str().matches("text-anchor=\"middle\"").count(), 8);
        assert!(drawn.as_str().contains("…</text>"));
    }
}
