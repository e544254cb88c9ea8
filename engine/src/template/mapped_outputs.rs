//! Outputs of a mapped task, as templates see them.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::value::{Enumerator, Object, ObjectRepr, Serde, Value};
use serde_json::Value as Json;

/// One entry for each element: its outputs, or nothing where it has none.
///
/// A list: `outputs.t[0].rows`, `outputs.t | length`, `{% for one in outputs.t %}`. And by the name of a key the list
/// of what the elements have under it, by their indices: `outputs.t.rows`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MappedOutputs(pub Vec<Option<Arc<BTreeMap<String, Json>>>>);

impl MappedOutputs {
    /// Returns them as JSON: a list of objects, null where an element has none.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let one = |values: &Option<Arc<BTreeMap<String, Json>>>| {
            let members = |values: &Arc<BTreeMap<String, Json>>| {
                Json::Object(values.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
            };
            values.as_ref().map_or(Json::Null, members)
        };
        Json::Array(self.0.iter().map(one).collect())
    }
}

impl Object for MappedOutputs {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        if let Some(name) = key.as_str() {
            // A key that no element has is undefined, as it is for a task without `map`.
            let has_any = self.0.iter().flatten().any(|values| values.contains_key(name));
            let of_one = |values: &Option<Arc<BTreeMap<String, Json>>>| {
                let value = values.as_ref().and_then(|values| values.get(name));
                value.map_or_else(|| Value::from(()), |value| Value::from(Serde(value)))
            };
            return has_any.then(|| Value::from(self.0.iter().map(of_one).collect::<Vec<_>>()));
        }
        let values = self.0.get(usize::try_from(key.clone()).ok()?)?;
        // As for a task that was skipped: an empty map, so that `| default(…)` works.
        let none = BTreeMap::new();
        Some(Value::from(Serde(values.as_deref().unwrap_or(&none))))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}
