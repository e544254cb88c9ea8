//! What has to be loaded before a template can be rendered.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, Step};

/// `var.value.name` and `var.json.name` are how Airflow writes it, so no variable has these names.
pub const RESERVED_VARIABLES: [&str; 2] = ["value", "json"];

/// What of one upstream's outputs a template names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputNeed {
    /// All of them.
    All,
    /// These keys.
    Keys(BTreeSet<String>),
}

/// Which values that are not part of the run's own row a template refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Outputs by task.
    pub outputs: BTreeMap<String, OutputNeed>,
    /// It walks over `outputs` itself: the outputs of every upstream.
    pub all_outputs: bool,
    /// `prev_data_interval_start_success` or `prev_data_interval_end_success`.
    pub previous_success: bool,
    /// Variables by name.
    pub variables: BTreeSet<String>,
    /// Those of them that are read as JSON.
    pub json_variables: BTreeSet<String>,
    /// Connections by id.
    pub connections: BTreeSet<String>,
    /// `triggering_asset_events`.
    pub asset_events: bool,
}

impl Needs {
    /// Whether nothing has to be loaded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what `other` needs.
    pub fn merge(&mut self, other: Self) {
        self.all_outputs |= other.all_outputs;
        self.previous_success |= other.previous_success;
        self.variables.extend(other.variables);
        self.json_variables.extend(other.json_variables);
        self.connections.extend(other.connections);
        self.asset_events |= other.asset_events;
        for (task, need) in other.outputs {
            match (self.outputs.get_mut(&task), need) {
                (Some(OutputNeed::Keys(mine)), OutputNeed::Keys(keys)) => mine.extend(keys),
                (Some(mine), OutputNeed::All) => *mine = OutputNeed::All,
                (Some(OutputNeed::All), _) => {}
                (None, need) => {
                    self.outputs.insert(task, need);
                }
            }
        }
    }

    pub(super) fn of(facts: &Facts) -> Self {
        let mut needs = Self::default();
        for reference in &facts.references {
            match reference.root.as_str() {
                "prev_data_interval_start_success" | "prev_data_interval_end_success" => {
                    needs.previous_success = true
                }
                "triggering_asset_events" => needs.asset_events = true,
                "outputs" => needs.add_output(&reference.path),
                "var" => needs.add_variable(&reference.path),
                "conn" => {
                    if let [Step::Name(id), ..] = reference.path.as_slice() {
                        needs.connections.insert(id.clone());
                    }
                }
                _ => {}
            }
        }
        needs
    }

    fn add_variable(&mut self, path: &[Step]) {
        match path {
            [Step::Name(form), Step::Name(name), ..] if form == "value" => {
                self.variables.insert(name.clone());
            }
            [Step::Name(form), Step::Name(name), ..] if form == "json" => {
                self.variables.insert(name.clone());
                self.json_variables.insert(name.clone());
            }
            [Step::Name(name), ..] if !RESERVED_VARIABLES.contains(&name.as_str()) => {
                self.variables.insert(name.clone());
            }
            _ => {}
        }
    }

    fn add_output(&mut self, path: &[Step]) {
        let one = match path {
            [Step::Name(task), Step::Name(key), ..] => {
                (task.clone(), OutputNeed::Keys(BTreeSet::from([key.clone()])))
            }
            [Step::Name(task), ..] => (task.clone(), OutputNeed::All),
            _ => {
                self.all_outputs = true;
                return;
            }
        };
        self.merge(Self { outputs: BTreeMap::from([one]), ..Self::default() });
    }
}
