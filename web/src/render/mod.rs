//! Pure drawing: markup, pictures, log colours and words for times. No I/O, no clock.
//!
//! **Invariant:** text from outside reaches HTML only through [`Markup::text`], [`Markup::attr`] or askama's own
//! escaping; every literal of markup is `&'static str`.

pub(crate) mod ansi;
pub(crate) mod chart;
pub(crate) mod graph;
pub(crate) mod markup;
pub(crate) mod time;

pub(crate) use markup::Markup;
