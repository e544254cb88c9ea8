//! What a template can see of a try, as plain data.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use minijinja::value::{Serde, Value};
use serde_json::Value as Json;

use super::{RenderError, instant::Instant, mapped_outputs::MappedOutputs, needs::Needs};
use crate::{
    asset::{AssetEventRow, AssetSource},
    connection::{Connection, collect},
    definition::Dag,
    ids::{DagId, RunId, TaskId},
    mask::MIN_BYTES,
    rows::RunRow,
    secret::Secret,
    state::RunType,
};

/// The values that a template can name. Only what [`super::needs()`] lists has to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// The DAG's id.
    pub dag_id: DagId,
    /// The DAG's description.
    pub dag_description: Option<String>,
    /// The DAG's tags.
    pub dag_tags: Vec<String>,
    /// The DAG's owner.
    pub dag_owner: Option<String>,
    /// The zone in which dates without an offset are.
    pub timezone: chrono_tz::Tz,
    /// The task's id; absent for a message of the run itself.
    pub task_id: Option<TaskId>,
    /// The run's id.
    pub run_id: RunId,
    /// How the run came to be.
    pub run_type: RunType,
    /// The date that the run is about.
    pub logical_date: DateTime<Utc>,
    /// Start of the data that the run covers, inclusive.
    pub data_interval_start: DateTime<Utc>,
    /// End of the data that the run covers, exclusive.
    pub data_interval_end: DateTime<Utc>,
    /// Start of the interval of the newest earlier run that succeeded.
    pub prev_data_interval_start_success: Option<DateTime<Utc>>,
    /// End of the interval of the newest earlier run that succeeded.
    pub prev_data_interval_end_success: Option<DateTime<Utc>>,
    /// The try, counted from 1.
    pub try_number: u32,
    /// The lease epoch, which tasks see as `$TIDEMILL_FENCE`.
    pub epoch: u32,
    /// The element of a mapped task, −1 when it is not mapped.
    pub map_index: i32,
    /// The value of the element of a mapped task.
    pub map_value: Option<Json>,
    /// The declared defaults with the run's conf on top.
    pub params: serde_json::Map<String, Json>,
    /// What the trigger overrode.
    pub conf: serde_json::Map<String, Json>,
    /// Outputs: task id → key → value.
    pub outputs: BTreeMap<String, BTreeMap<String, Json>>,
    /// Outputs of mapped tasks: task id → per element key → value; absent where an element has none.
    pub mapped_outputs: BTreeMap<String, MappedOutputs>,
    /// The variables that are needed and exist, by name.
    pub variables: BTreeMap<String, Variable>,
    /// The connections that are needed and exist, by id.
    pub connections: BTreeMap<String, Connection>,
    /// The events that caused the run, by asset, the oldest first; see [`Context::set_asset_events`].
    pub triggering_asset_events: BTreeMap<String, Vec<Json>>,
}

/// A variable as a template sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its value; not secret in every case, and never logged in any.
    pub value: Secret,
    /// Whether it is masked wherever it would show.
    pub is_secret: bool,
}

impl Variable {
    /// Returns what must not show of it: its value, where that is JSON what stands in it, and of an address what a shortened
    /// form of it would still show: who signs in, the path (which is the secret of many webhooks) and the query.
    fn secrets(&self) -> Vec<Secret> {
        let mut found = Vec::new();
        if self.is_secret {
            found.push(self.value.clone());
            if let Ok(value @ (Json::Object(_) | Json::Array(_))) = serde_json::from_str(self.value.reveal())
            {
                collect(&value, true, &mut found);
            }
            let text = self.value.reveal();
            if let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
                let rest = rest.split('#').next().unwrap_or_default();
                let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let (person, _) = host.rsplit_once('@').unwrap_or_default();
                let password = person.split_once(':').map_or("", |(_, password)| password);
                let parts = [password, path.trim_end_matches('/'), query];
                found.extend(parts.into_iter().filter(|part| !part.is_empty()).map(Secret::new));
            }
        }
        found
    }
}

impl Context {
    /// Returns everything that must not show: the values of secret variables, and what the connections hide.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let variables = self.variables.values().flat_map(Variable::secrets);
        variables.chain(self.connections.values().flat_map(Connection::secrets)).collect()
    }

    /// Whether a text that was rendered from a template with these needs shows a secret.
    pub(super) fn would_show(&self, needs: &Needs, text: &str) -> bool {
        let variables = needs.variables.iter().filter_map(|name| self.variables.get(name));
        let variables = variables.flat_map(Variable::secrets);
        let connections = needs.connections.iter().filter_map(|id| self.connections.get(id));
        variables
            .chain(connections.flat_map(Connection::secrets))
            .any(|secret| secret.reveal().len() >= MIN_BYTES && text.contains(secret.reveal()))
    }

    /// Returns what `needs` names and this context lacks, or has in another form.
    pub(super) fn lacks(&self, needs: &Needs) -> Option<RenderError> {
        if let Some(name) = needs.variables.iter().find(|name| !self.variables.contains_key(*name)) {
            return Some(RenderError::NoVariable { name: name.clone() });
        }
        if let Some(id) = needs.connections.iter().find(|id| !self.connections.contains_key(*id)) {
            return Some(RenderError::NoConnection { id: id.clone() });
        }
        let broken = needs.json_variables.iter().find(|name| {
            self.variables.get(*name).is_some_and(|variable| {
                serde_json::from_str::<serde::de::IgnoredAny>(variable.value.reveal()).is_err()
            })
        });
        broken.map(|name| RenderError::NoJson { name: name.clone() })
    }

    fn variable_value(&self, needs: &Needs) -> Value {
        let plain = || self.variables.iter().map(|(name, v)| (name.as_str(), Value::from(v.value.reveal())));
        // What is not JSON stays undefined; `lacks` says why.
        let json = needs.json_variables.iter().filter_map(|name| {
            let text = self.variables.get(name)?.value.reveal();
            let value: Json = serde_json::from_str(text).ok()?;
            Some((name.as_str(), Value::from(Serde(value))))
        });
        let mut all: BTreeMap<&str, Value> = plain().collect();
        all.insert("value", Value::from_pairs(plain()));
        all.insert("json", Value::from_pairs(json));
        Value::from_pairs(all)
    }

    /// One that is missing has no fields, so that `conn.a.host | default(…)` works.
    fn connection_value(&self, needs: &Needs) -> Value {
        let missing = needs.connections.iter().filter(|id| !self.connections.contains_key(*id));
        let missing = missing.map(|id| (id.as_str(), Value::from_pairs([] as [(&str, Value); 0])));
        Value::from_pairs(
            self.connections
                .iter()
                .map(|(id, c)| (id.as_str(), Value::from(Serde(c.values()))))
                .chain(missing),
        )
    }
}

impl Context {
    /// Returns the context of a try; outputs and previous intervals are for the caller to fill in.
    #[must_use]
    pub fn of_try(
        dag: &Dag,
        run: &RunRow,
        task: &TaskId,
        try_number: u32,
        epoch: u32,
        map_index: i32,
    ) -> Self {
        Self { task_id: Some(task.clone()), try_number, epoch, map_index, ..Self::of_run(dag, run) }
    }

    /// Returns the context of a run, for its own messages.
    #[must_use]
    pub fn of_run(dag: &Dag, run: &RunRow) -> Self {
        Self {
            dag_id: dag.id.clone(),
            dag_description: dag.description.clone(),
            dag_tags: dag.tags.clone(),
            dag_owner: dag.owner.clone(),
            timezone: dag.timezone,
            task_id: None,
            run_id: run.run_id.clone(),
            run_type: run.run_type,
            logical_date: run.logical_date,
            data_interval_start: run.data_interval_start,
            data_interval_end: run.data_interval_end,
            prev_data_interval_start_success: None,
            prev_data_interval_end_success: None,
            try_number: 0,
            epoch: 0,
            map_index: -1,
            map_value: None,
            params: effective_params(dag, &run.conf),
            conf: (*run.conf).clone(),
            outputs: BTreeMap::new(),
            mapped_outputs: BTreeMap::new(),
            variables: BTreeMap::new(),
            connections: BTreeMap::new(),
            triggering_asset_events: BTreeMap::new(),
        }
    }

    /// Sets the events that caused the run, the oldest first.
    pub fn set_asset_events<'a>(&mut self, events: impl IntoIterator<Item = &'a AssetEventRow>) {
        self.triggering_asset_events.clear();
        for event in events {
            let seen = match &event.source {
                AssetSource::Task { dag_id, run_id, task, map_index, .. } => serde_json::json!({
                    "asset": event.asset,
                    "timestamp": Instant::utc(event.at).iso(),
                    "extra": *event.extra,
                    "source_dag_id": dag_id,
                    "source_run_id": run_id,
                    "source_task_id": task,
                    "source_map_index": map_index,
                }),
                AssetSource::Posted { by } => serde_json::json!({
                    "asset": event.asset,
                    "timestamp": Instant::utc(event.at).iso(),
                    "extra": *event.extra,
                    "source_dag_id": null,
                    "source_run_id": null,
                    "source_task_id": null,
                    "source_map_index": null,
                    "posted_by": by,
                }),
            };
            self.triggering_asset_events.entry(event.asset.to_string()).or_default().push(seen);
        }
    }

    /// Builds the template value. An upstream that a template names and that has no outputs is an empty map,
    /// so that `outputs.a.b | default(…)` works when `a` was skipped.
    pub(super) fn value(&self, needs: &Needs) -> Value {
        let date = |at: DateTime<Utc>| Instant::utc(at).value();
        let optional = |at: Option<DateTime<Utc>>| at.map_or_else(|| Value::from(()), date);
        let logical = Instant::utc(self.logical_date);
        let print = |format: &str| Value::from(logical.0.format(format).to_string());
        let mut outputs: BTreeMap<&str, Value> =
            self.outputs.iter().map(|(task, keys)| (task.as_str(), Value::from(Serde(keys)))).collect();
        for (task, elements) in &self.mapped_outputs {
            outputs.insert(task, Value::from_object(elements.clone()));
        }
        for task in needs.outputs.keys() {
            outputs.entry(task).or_insert_with(|| Value::from(Serde(BTreeMap::<String, Json>::new())));
        }
        let task_id = self.task_id.as_ref().map_or_else(|| Value::from(()), |id| Value::from(id.as_str()));
        let pairs = [
            ("ds", print("%F")),
            ("ds_nodash", print("%Y%m%d")),
            ("ts", Value::from(logical.iso())),
            ("ts_nodash", print("%Y%m%dT%H%M%S")),
            ("ts_nodash_with_tz", print("%Y%m%dT%H%M%S%z")),
            ("logical_date", logical.value()),
            ("data_interval_start", date(self.data_interval_start)),
            ("data_interval_end", date(self.data_interval_end)),
            ("prev_data_interval_start_success", optional(self.prev_data_interval_start_success)),
            ("prev_data_interval_end_success", optional(self.prev_data_interval_end_success)),
            ("run_id", Value::from(self.run_id.as_str())),
            ("try_number", Value::from(self.try_number)),
            ("map_index", Value::from(self.map_index)),
            ("params", Value::from(Serde(&self.params))),
            ("outputs", Value::from_pairs(outputs)),
            ("var", self.variable_value(needs)),
            ("conn", self.connection_value(needs)),
            ("triggering_asset_events", Value::from(Serde(&self.triggering_asset_events))),
            ("dag", self.dag_value()),
            ("dag_run", self.run_value()),
            ("task", Value::from_pairs([("task_id", task_id.clone())])),
            ("ti", self.instance_value(task_id)),
        ];
        // Elsewhere `map` is undefined, so that what could not be checked in `default_args` fails by name.
        let map = self.map_value.as_ref().map(|value| {
            let pairs = [("value", Value::from(Serde(value))), ("index", Value::from(self.map_index))];
            ("map", Value::from_pairs(pairs))
        });
        Value::from_pairs(pairs.into_iter().chain(map))
    }

    fn dag_value(&self) -> Value {
        Value::from_pairs([
            ("dag_id", Value::from(self.dag_id.as_str())),
            ("description", Value::from(self.dag_description.clone().unwrap_or_default())),
            ("tags", Value::from(self.dag_tags.clone())),
            ("owner", Value::from(self.dag_owner.clone().unwrap_or_default())),
        ])
    }

    fn run_value(&self) -> Value {
        Value::from_pairs([
            ("run_id", Value::from(self.run_id.as_str())),
            ("run_type", Value::from(self.run_type.as_str())),
            ("logical_date", Instant::utc(self.logical_date).value()),
            ("data_interval_start", Instant::utc(self.data_interval_start).value()),
            ("data_interval_end", Instant::utc(self.data_interval_end).value()),
            ("conf", Value::from(Serde(&self.conf))),
        ])
    }

    fn instance_value(&self, task_id: Value) -> Value {
        Value::from_pairs([
            ("dag_id", Value::from(self.dag_id.as_str())),
            ("run_id", Value::from(self.run_id.as_str())),
            ("task_id", task_id),
            ("try_number", Value::from(self.try_number)),
            ("map_index", Value::from(self.map_index)),
        ])
    }
}

/// Returns the declared defaults with `conf` on top.
#[must_use]
pub fn effective_params(dag: &Dag, conf: &serde_json::Map<String, Json>) -> serde_json::Map<String, Json> {
    let mut params: serde_json::Map<String, Json> = dag
        .params
        .iter()
        .filter_map(|param| param.schema.get("default").map(|value| (param.name.clone(), value.clone())))
        .collect();
    params.extend(conf.iter().map(|(name, value)| (name.clone(), value.clone())));
    params
}
