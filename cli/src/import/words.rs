//! Names: ids, file names, slugs.

use std::collections::BTreeSet;

/// The longest id.
const LONGEST: usize = 200;

/// Returns an id that DAG files allow and that is like the name.
pub(crate) fn id(name: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut id: String = name.chars().map(|c| if is_allowed(c) { c } else { '_' }).take(LONGEST).collect();
    if !id.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        id.insert(0, '_');
        id.truncate(LONGEST);
    }
    id
}

/// Returns words as an id: lower case, `_` between them.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
    }
    slug.truncate(60);
    slug.trim_end_matches('_').to_owned()
}

/// Returns the name, or the name with a number when it is taken, and takes it.
pub(crate) fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut unique = name.to_owned();
    let mut number = 2;
    while !taken.insert(unique.clone()) {
        let tail = format!("_{number}");
        unique = format!("{}{tail}", name.get(..LONGEST - tail.len()).unwrap_or(name));
        number += 1;
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids() {
        assert_eq!(id("größe 1"), "gr__e_1");
        assert_eq!(id(".hidden"), "_.hidden");
        assert_eq!(id(""), "_");
        assert_eq!(slug("Nightly back-up of /srv!"), "nightly_back_up_of_srv");
        let mut taken = BTreeSet::new();
        assert_eq!(
            [unique("a", &mut taken), unique("a", &mut taken), unique("a", &mut taken)],
            ["a", "a_2", "a_3"]
        );
    }
}
