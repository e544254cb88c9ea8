//! The vocabulary of templates: which names exist and what they hold.

use super::instant;

/// What a name stands for, as far as a check can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Text or a number: nothing below it.
    Plain,
    /// A datetime.
    Instant,
    /// A map with these keys.
    Fields(&'static [(&'static str, Shape)]),
    /// `params`.
    Params,
    /// `outputs`.
    Outputs,
    /// `var`.
    Variables,
    /// `conn`.
    Connections,
    /// Any JSON.
    Any,
    /// A function.
    Function,
}

const DAG: &[(&str, Shape)] =
    &[("dag_id", Shape::Plain), ("description", Shape::Plain), ("tags", Shape::Any), ("owner", Shape::Plain)];
const DAG_RUN: &[(&str, Shape)] = &[
    ("run_id", Shape::Plain),
    ("run_type", Shape::Plain),
    ("logical_date", Shape::Instant),
    ("data_interval_start", Shape::Instant),
    ("data_interval_end", Shape::Instant),
    ("conf", Shape::Any),
];
const TASK: &[(&str, Shape)] = &[("task_id", Shape::Plain)];
const TI: &[(&str, Shape)] = &[
    ("dag_id", Shape::Plain),
    ("run_id", Shape::Plain),
    ("task_id", Shape::Plain),
    ("try_number", Shape::Plain),
    ("map_index", Shape::Plain),
];
const MAP: &[(&str, Shape)] = &[("value", Shape::Any), ("index", Shape::Plain)];
const MACROS: &[(&str, Shape)] = &[("ds_add", Shape::Function), ("ds_format", Shape::Function)];

/// Every name, with what it holds and whether it exists in the messages of a DAG too.
pub(super) const NAMES: &[(&str, Shape, bool)] = &[
    ("ds", Shape::Plain, true),
    ("ds_nodash", Shape::Plain, true),
    ("ts", Shape::Plain, true),
    ("ts_nodash", Shape::Plain, true),
    ("ts_nodash_with_tz", Shape::Plain, true),
    ("logical_date", Shape::Instant, true),
    ("data_interval_start", Shape::Instant, true),
    ("data_interval_end", Shape::Instant, true),
    ("prev_data_interval_start_success", Shape::Instant, false),
    ("prev_data_interval_end_success", Shape::Instant, false),
    ("run_id", Shape::Plain, true),
    ("dag", Shape::Fields(DAG), true),
    ("dag_run", Shape::Fields(DAG_RUN), true),
    ("task", Shape::Fields(TASK), false),
    ("ti", Shape::Fields(TI), false),
    ("try_number", Shape::Plain, false),
    ("map_index", Shape::Plain, false),
    ("map", Shape::Fields(MAP), false),
    ("params", Shape::Params, true),
    ("outputs", Shape::Outputs, false),
    ("var", Shape::Variables, true),
    ("conn", Shape::Connections, true),
    ("triggering_asset_events", Shape::Any, false),
    ("macros", Shape::Fields(MACROS), true),
    ("ds_add", Shape::Function, true),
    ("ds_format", Shape::Function, true),
    ("range", Shape::Function, true),
    ("dict", Shape::Function, true),
    ("namespace", Shape::Function, true),
];

/// Names of Airflow that mean something else here, with what to write.
const ELSEWHERE: &[(&str, &str)] = &[
    ("execution_date", "it is called `logical_date`"),
    ("next_execution_date", "use `data_interval_end`"),
    ("prev_execution_date", "use `prev_data_interval_start_success`"),
    ("next_ds", "use `data_interval_end | ds`"),
    ("prev_ds", "use `macros.ds_add(ds, -1)`"),
    ("yesterday_ds", "use `macros.ds_add(ds, -1)`"),
    ("tomorrow_ds", "use `macros.ds_add(ds, 1)`"),
    ("task_instance", "it is called `ti`"),
    ("triggering_dataset_events", "it is called `triggering_asset_events`"),
    ("conf", "what a trigger overrode is in `dag_run.conf`; the result is in `params`"),
    ("xcom_pull", "use `outputs.<task>.<key>`"),
    ("inputs", "use `outputs.<task>.<key>`"),
    ("env", "read environment variables in the command itself"),
];

/// Returns what a name holds, and whether it exists without a task.
pub(super) fn lookup(name: &str) -> Option<(Shape, bool)> {
    NAMES.iter().find(|entry| entry.0 == name).map(|entry| (entry.1, entry.2))
}

/// Returns what to write instead of a name of another product.
pub(super) fn elsewhere(name: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|entry| entry.0 == name).map(|entry| entry.1)
}

/// Returns the attributes and methods of a datetime.
pub(super) fn instant_members() -> impl Iterator<Item = &'static str> + Clone {
    instant::ATTRIBUTES.iter().chain(instant::METHODS).copied()
}

/// Returns the candidate that was probably meant, if one is near enough.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| (1..=limit).contains(distance) && *distance < name.chars().count())
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}
