//! Hides secrets in what is shown or stored: logs, rendered work, reasons, outputs on pages.
//!
//! A secret is found as it is and in the forms that programs print it in (`forms`). One shorter than
//! [`MIN_BYTES`] is not looked for: it would blank half of every log and so tell what it is.
//!
//! In a log, where positions count, every byte becomes a star. In other text the whole secret becomes three, so that
//! its length does not show.

mod forms;

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value as Json;

use crate::secret::Secret;

/// Shorter values are not masked, in bytes.
pub const MIN_BYTES: usize = 6;

/// What stands for a secret in text.
const STARS: &str = "***";

/// Finds some secrets.
#[derive(Clone, Default)]
pub struct Masker {
    finder: Option<AhoCorasick>,
    /// Every form, sorted.
    forms: Vec<Vec<u8>>,
    longest: usize,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker").field("forms", &self.forms.len()).finish_non_exhaustive()
    }
}

impl Masker {
    /// Returns a masker of some secrets.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut all: Vec<Vec<u8>> =
            secrets.into_iter().flat_map(|secret| forms::of(secret.reveal())).collect();
        all.sort_unstable();
        all.dedup();
        if all.is_empty() {
            return Self::default();
        }
        let longest = all.iter().map(Vec::len).max().unwrap_or(0);
        // Only sets of patterns of more than some gigabytes do not fit.
        let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&all).ok();
        Self { finder, forms: all, longest }
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Returns how many bytes around a range have to be looked at to know what belongs to a secret.
    #[must_use]
    pub const fn reach(&self) -> usize {
        self.longest.saturating_sub(1)
    }

    /// Replaces secrets by as many stars as they have bytes.
    pub fn mask_bytes(&self, bytes: &mut [u8]) {
        for range in self.find(bytes) {
            if let Some(found) = bytes.get_mut(range) {
                found.fill(b'*');
            }
        }
    }

    /// Returns how many bytes at the end may be the beginning of a secret that is not complete yet.
    #[must_use]
    pub fn pending(&self, bytes: &[u8]) -> usize {
        let most = self.reach().min(bytes.len());
        let is_beginning = |length: &usize| {
            let end = &bytes[bytes.len() - length..];
            let place = self.forms.partition_point(|form| form.as_slice() < end);
            // A form that is the end itself is complete, and the next one may go on from it.
            self.forms[place..].iter().take(2).any(|form| form.len() > end.len() && form.starts_with(end))
        };
        (1..=most).rev().find(is_beginning).unwrap_or(0)
    }

    /// Returns the text with every secret replaced by three stars.
    #[must_use]
    pub fn mask_text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for range in self.find(text.as_bytes()) {
            // Forms are UTF-8, so they begin and end between characters.
            out.push_str(text.get(done..range.start).unwrap_or_default());
            out.push_str(STARS);
            done = range.end;
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }

    /// Replaces secrets in every text of a JSON value, names and numbers included.
    pub fn mask_json(&self, value: &mut Json) {
        self.mask_value(value, true);
    }

    /// As [`Self::mask_json`], and leaves numbers alone.
    pub fn mask_json_texts(&self, value: &mut Json) {
        self.mask_value(value, false);
    }

    fn mask_value(&self, value: &mut Json, with_numbers: bool) {
        if self.is_empty() {
            return;
        }
        match value {
            Json::String(text) => *text = self.mask_text(text),
            Json::Number(number) if with_numbers && !self.find(number.to_string().as_bytes()).is_empty() => {
                *value = Json::from(STARS);
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item, with_numbers)),
            Json::Object(map) => {
                let masked = std::mem::take(map).into_iter().map(|(name, mut value)| {
                    self.mask_value(&mut value, with_numbers);
                    (self.mask_text(&name), value)
                });
                *map = masked.collect();
            }
            _ => {}
        }
    }

    /// Returns where secrets stand, in order and without overlaps.
    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let Some(finder) = &self.finder else { return Vec::new() };
        let mut found: Vec<Range<usize>> =
            finder.find_overlapping_iter(bytes).map(|found| found.start()..found.end()).collect();
        found.sort_unstable_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        Masker::new(&secrets.iter().map(|text| Secret::new(*text)).collect::<Vec<_>>())
    }

    fn masked(masker: &Masker, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        masker.mask_bytes(&mut bytes);
        assert_eq!(bytes.len(), text.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn secrets_that_overlap_or_touch_are_hidden_whole() {
        let masker = masker(&["abcdef", "defghi", "abcdefgh"]);
        assert_eq!(masked(&masker, "x abcdefghi y"), "x ********* y");
        assert_eq!(masked(&masker, "abcdefabcdef!"), "************!");
        assert_eq!(masker.mask_text("x abcdefghi y"), "x *** y");
        assert_eq!(masker.mask_text("abcde"), "abcde");
    }

    #[test]
    fn numbers_are_hidden_or_left_alone_as_asked() {
        let masker = masker(&["100000", "s3cret-path"]);
        let value = serde_json::json!({"rows": 100_000, "s3cret-path": ["of s3cret-path", 7]});
        let (mut all, mut texts) = (value.clone(), value);
        masker.mask_json(&mut all);
        masker.mask_json_texts(&mut texts);
        assert_eq!(all, serde_json::json!({"rows": "***", "***": ["of ***", 7]}));
        assert_eq!(texts, serde_json::json!({"rows": 100_000, "***": ["of ***", 7]}));
    }

    #[test]
    fn short_secrets_are_left_alone() {
        let masker = masker(&["abc", "", "12345"]);
        assert!(masker.is_empty());
        assert_eq!((masker.reach(), masker.pending(b"abc")), (0, 0));
        assert_eq!(masker.mask_text("abc 12345"), "abc 12345");
    }

    #[test]
    fn a_beginning_at_the_end_is_held_back() {
        let masker = masker(&["pass-word", "word-games"]);
        for (text, pending) in [("my p", 1), ("my pass", 4), ("my pass-wor", 8), ("nothing!", 0)] {
            assert_eq!(masker.pending(text.as_bytes()), pending, "{text}");
        }
        // The first is complete, and the second may begin in it.
        assert_eq!(masker.pending(b"my pass-word"), 4);
    }

    #[test]
    fn json_is_masked_in_texts_names_and_numbers() {
        let masker = masker(&["hunter22", "1234567"]);
        let mut value = serde_json::json!({"a": ["x hunter22", 1234567, 1.5, null], "hunter22": {"b": true}});
        masker.mask_json(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["x ***", "***", 1.5, null], "***": {"b": true}}));
    }

    /// However a log is cut into ranges, what is shipped is what masking it whole gives.
    #[test]
    fn cutting_a_log_changes_nothing() {
        let masker = masker(&["pass-word", "word-games", "Ünïcödé"]);
        let text = "a pass-word-games b pass-wor c Ünïcödé pass-word";
        let whole = masked(&masker, text);
        let bytes = text.as_bytes();
        for step in 1..bytes.len() {
            let (mut shipped, mut sent) = (Vec::new(), 0);
            let mut written = 0;
            while sent < bytes.len() {
                written = (written + step).min(bytes.len());
                let is_end = written == bytes.len();
                let end = written - if is_end { 0 } else { masker.pending(&bytes[..written]) };
                if end > sent {
                    let from = sent.saturating_sub(masker.reach());
                    let mut part = bytes[from..written].to_vec();
                    masker.mask_bytes(&mut part);
                    shipped.extend_from_slice(&part[sent - from..end - from]);
                    sent = end;
                }
            }
            assert_eq!(String::from_utf8(shipped).unwrap(), whole, "step {step}");
        }
    }
}
