//! Suggestions for misspelt words: offered only when they are close, never invented.

/// Returns the candidate nearest to `word` when it is near enough: at most max(1, length / 3) edits, counting
/// a swap of neighbours as one. A difference in case, `-` for `_` or blanks alone always counts as near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A very long word is no misspelling, and the distance costs the product of the lengths.
    if word.len() > 200 {
        return None;
    }
    let limit = (word.chars().count() / 3).max(1);
    let folded = fold(word);
    candidates
        .into_iter()
        .filter(|candidate| !candidate.is_empty() && *candidate != word)
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= limit.max(4) * 4)
        .filter_map(|candidate| {
            let distance =
                if fold(candidate) == folded { 0 } else { strsim::damerau_levenshtein(word, candidate) };
            (distance <= limit).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Lower case without separators: what stays the same when only the style of writing differs.
pub(crate) fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ' | '.')).flat_map(char::to_lowercase).collect()
}

/// Makes a text from outside safe to show: no control characters, at most 80 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(80)
        .flat_map(|c| {
            if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                c.escape_unicode().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{nearest, shown};

    #[test]
    fn only_near_words_are_suggested() {
        let words = ["depends_on", "trigger_rule", "retries"];
        assert_eq!(nearest("depend_on", words), Some("depends_on"));
        assert_eq!(nearest("DependsOn", words), Some("depends_on"));
        assert_eq!(nearest("retrise", words), Some("retries"));
        assert_eq!(nearest("x", words), None);
        assert_eq!(nearest("something", words), None);
    }

    #[test]
    fn control_characters_are_never_echoed() {
        assert_eq!(shown("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), 81);
    }
}
