//! The elements of a mapped task (`semantics.md` §7): what a run has found its `map` to be, element by element.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::definition::{MapSource, MapSpec};

/// The elements of one expanded task. Never empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapValues {
    /// One element after the other.
    List(Vec<Json>),
    /// Every combination of one value from each list; the last list runs fastest. Kept as it was written: a
    /// thousand combinations of large values take the room of their lists.
    Product(Vec<(String, Vec<Json>)>),
}

impl MapValues {
    /// Returns how many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::List(items) => items.len(),
            Self::Product(lists) => lists.iter().map(|(_, items)| items.len()).fold(1, usize::saturating_mul),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the value of an element; of a cross product an object with one value of each list.
    #[must_use]
    pub fn value(&self, index: usize) -> Option<Json> {
        match self {
            Self::List(items) => items.get(index).cloned(),
            Self::Product(lists) => {
                if index >= self.len() {
                    return None;
                }
                let mut rest = index;
                let mut found: Vec<(String, Json)> = Vec::with_capacity(lists.len());
                for (name, items) in lists.iter().rev() {
                    found.push((name.clone(), items[rest % items.len()].clone()));
                    rest /= items.len();
                }
                Some(Json::Object(found.into_iter().rev().collect::<Map<_, _>>()))
            }
        }
    }
}

impl MapSpec {
    /// Returns the elements when nothing has to be rendered to know them.
    #[must_use]
    pub fn literal(&self) -> Option<MapValues> {
        match self {
            Self::One(source) => source.literal().map(|items| MapValues::List(items.to_vec())),
            Self::Product(sources) => {
                let lists =
                    sources.iter().map(|(name, source)| Some((name.clone(), source.literal()?.to_vec())));
                lists.collect::<Option<_>>().map(MapValues::Product)
            }
        }
    }
}

impl MapSource {
    fn literal(&self) -> Option<&[Json]> {
        match self {
            Self::List(items) => (!items.iter().any(has_template)).then_some(items),
            Self::Template(_) => None,
        }
    }
}

/// Whether a text inside a value is a template.
fn has_template(value: &Json) -> bool {
    match value {
        Json::String(text) => crate::template::is_dynamic(text),
        Json::Array(items) => items.iter().any(has_template),
        Json::Object(members) => members.values().any(has_template),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cross_product_counts_like_a_clock() {
        let lists = vec![
            ("size".to_owned(), vec![json!("s"), json!("l")]),
            ("day".to_owned(), vec![json!(1), json!(2), json!(3)]),
        ];
        let product = MapValues::Product(lists);
        assert_eq!(product.len(), 6);
        let printed: Vec<String> = (0..6).map(|index| product.value(index).unwrap().to_string()).collect();
        assert_eq!(
            printed,
            [
                r#"{"day":1,"size":"s"}"#,
                r#"{"day":2,"size":"s"}"#,
                r#"{"day":3,"size":"s"}"#,
                r#"{"day":1,"size":"l"}"#,
                r#"{"day":2,"size":"l"}"#,
                r#"{"day":3,"size":"l"}"#,
            ]
        );
        assert_eq!(product.value(6), None);
    }

    #[test]
    fn one_empty_list_makes_an_empty_product() {
        let lists = vec![("a".to_owned(), vec![json!(1)]), ("b".to_owned(), Vec::new())];
        assert!(MapValues::Product(lists).is_empty());
    }

    #[test]
    fn a_list_without_templates_needs_nothing() {
        let plain = MapSpec::One(MapSource::List(vec![json!(1), json!({"a": ["b"]})]));
        assert_eq!(plain.literal().unwrap().value(1), Some(json!({"a": ["b"]})));
        let rendered = MapSpec::One(MapSource::List(vec![json!({"a": ["{{ ds }}"]})]));
        assert_eq!(rendered.literal(), None);
    }
}
