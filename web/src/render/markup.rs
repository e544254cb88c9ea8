//! HTML and SVG text that was escaped while it was built.

use std::fmt::{self, Write};

/// Finished markup; askama prints it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Markup(String);

impl Markup {
    /// Starts with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(String::with_capacity(capacity))
    }

    /// Appends markup that is part of the program.
    pub(crate) fn raw(&mut self, literal: &'static str) -> &mut Self {
        self.0.push_str(literal);
        self
    }

    /// Appends text from anywhere, escaped.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        let mut rest = text;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            self.0.push_str(&rest[..at]);
            self.0.push_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            });
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        self
    }

    /// Appends ` name="value"`, the value escaped.
    pub(crate) fn attr(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// Appends ` name="value"` for a number, with at most one decimal.
    pub(crate) fn num(&mut self, name: &'static str, value: f64) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").coordinate(value).raw("\"")
    }

    /// Appends a number with at most one decimal; what is not finite becomes 0, since a picture has no place for it.
    pub(crate) fn coordinate(&mut self, value: f64) -> &mut Self {
        let value = if value.is_finite() { (value * 10.0).round() / 10.0 } else { 0.0 };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// Appends finished markup.
    pub(crate) fn markup(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// Returns the text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl askama::filters::HtmlSafe for Markup {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_opens_an_element_or_ends_an_attribute() {
        let mut m = Markup::default();
        m.raw("<a").attr("href", "\"><script>'&").raw(">").text("<b>").raw("</a>");
        assert_eq!(m.as_str(), "<a href=\"&quot;&gt;&lt;script&gt;&#39;&amp;\">&lt;b&gt;</a>");
    }

    #[test]
    fn numbers_are_short_and_always_finite() {
        let mut m = Markup::default();
        m.coordinate(1.25).raw(" ").coordinate(f64::NAN).raw(" ").coordinate(3.0);
        assert_eq!(m.as_str(), "1.3 0 3");
    }
}
