//! Pure drawing: markup, pictures, log colours and words for times. No I/O, no clock; the one thing that is taken from
//! around it is the zone of the page ([`crate::zone`]).
//!
//! **Invariant:** text from outside reaches HTML only through [`Markup::text`], [`Markup::attr`] or askama's own
//! escaping; every literal of markup is `&'static str`.

pub(crate) mod ansi;
pub(crate) mod calendar;
pub(crate) mod chart;
pub(crate) mod distribution;
pub(crate) mod gantt;
pub(crate) mod graph;
pub(crate) mod markup;
pub(crate) mod plot;
pub(crate) mod scale;
pub(crate) mod time;

pub(crate) use markup::Markup;

/// Text of a DAG file as paragraphs: an empty line ends one, an item of a list begins a line, and what stands
/// between backticks is code.
pub(crate) fn prose(text: &str) -> Markup {
    let mut out = Markup::default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for paragraph in lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty()) {
        out.raw("<p>");
        for (index, line) in paragraph.iter().enumerate() {
            let is_item = line.starts_with("- ") || line.starts_with("* ");
            out.raw(match (index, is_item) {
                (0, _) => "",
                (_, true) => "<br>",
                (_, false) => " ",
            });
            let mut parts = line.split('`').peekable();
            let mut is_code = false;
            while let Some(part) = parts.next() {
                // A backtick without its partner is a backtick.
                if is_code && parts.peek().is_none() {
                    out.text("`").text(part);
                } else if is_code {
                    out.raw("<code>").text(part).raw("</code>");
                } else {
                    out.text(part);
                }
                is_code = !is_code;
            }
        }
        out.raw("</p>");
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn prose_has_paragraphs_items_and_code_and_stays_text() {
        let made = super::prose("\na `b<` c\nd\n- e\n\n<f> `g\n");
        assert_eq!(made.as_str(), "<p>a <code>b&lt;</code> c d<br>- e</p><p>&lt;f&gt; `g</p>");
    }
}
