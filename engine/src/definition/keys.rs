//! The one table of every key that a DAG file may have.
//!
//! Validation, suggestions, `docs/dag-files.md` and the trigger form read it; nothing else lists keys. A key of
//! a feature that is not built yet is in here too, so that it is refused by name and never ignored.

use std::{collections::BTreeMap, sync::OnceLock};

use super::drift::{CategoricalMetric, Correction, FeatureRule, KsMethod, NumericMetric, PsiVariant};
use super::http::HttpMethod;
use super::model::{DeadlineFrom, RetriesExhausted, WaitFrom};
use crate::state::{TriggerRule, WeightRule};

pub use super::key_table::KEYS;

/// A table of a DAG file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableId {
    /// The file itself.
    Root,
    /// `[dag]`.
    Dag,
    /// `schedule = { … }`.
    Schedule,
    /// `deadline = { … }`.
    Deadline,
    /// `[params.NAME]`.
    Param,
    /// `[[group]]`.
    Group,
    /// `[[task]]`, for every operator.
    Task,
    /// `[[task]]` with `operator = "command"`.
    Command,
    /// `[[task]]` with `operator = "branch"`.
    Branch,
    /// An arm of `branches`.
    Arm,
    /// `[[task]]` with `operator = "short_circuit"`.
    ShortCircuit,
    /// `[[task]]` with `operator = "drift"`.
    Drift,
    /// `numeric` of a drift task.
    Numeric,
    /// `categorical` of a drift task.
    Categorical,
    /// `rule` of a drift task.
    Rule,
    /// `[[task]]` with `operator = "python"`.
    Python,
    /// `[[task]]` with `operator = "http"` or `"http_sensor"`.
    Request,
    /// `[[task]]` with `operator = "http"`.
    Http,
    /// `[[task]]` with `operator = "sql"` or `"sql_sensor"`.
    Query,
    /// `[[task]]` with `operator = "sql"`.
    Sql,
    /// `[[task]]` with `operator = "notify"`.
    Notify,
    /// `[[task]]` of every sensor.
    Sensor,
    /// `[[task]]` with `operator = "file_sensor"`.
    FileSensor,
    /// `[[task]]` with `operator = "http_sensor"`.
    HttpSensor,
    /// `[[task]]` with `operator = "sql_sensor"`.
    SqlSensor,
    /// `[[task]]` with `operator = "time_sensor"`.
    TimeSensor,
    /// `[[task]]` with `operator = "trigger_dag"`.
    TriggerDag,
    /// `[[task]]` with `operator = "dag_run_sensor"`.
    DagRunSensor,
    /// `on_success` and `on_failure`.
    Notification,
}

impl TableId {
    /// Every table, in the order of the reference.
    pub const ALL: &'static [Self] = &[
        Self::Root,
        Self::Dag,
        Self::Schedule,
        Self::Deadline,
        Self::Param,
        Self::Group,
        Self::Task,
        Self::Command,
        Self::Branch,
        Self::Arm,
        Self::ShortCircuit,
        Self::Drift,
        Self::Numeric,
        Self::Categorical,
        Self::Rule,
        Self::Python,
        Self::Request,
        Self::Http,
        Self::Query,
        Self::Sql,
        Self::Notify,
        Self::Sensor,
        Self::FileSensor,
        Self::HttpSensor,
        Self::SqlSensor,
        Self::TimeSensor,
        Self::TriggerDag,
        Self::DagRunSensor,
        Self::Notification,
    ];

    /// Returns how people call it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Root => "the file",
            Self::Dag => "`[dag]`",
            Self::Schedule => "`schedule = { … }`",
            Self::Deadline => "`deadline = { … }`",
            Self::Param => "`[params.NAME]`",
            Self::Group => "`[[group]]`",
            Self::Task => "`[[task]]`",
            Self::Command => "`[[task]]` with `operator = \"command\"`",
            Self::Branch => "`[[task]]` with `operator = \"branch\"`",
            Self::Arm => "an arm of `branches`",
            Self::ShortCircuit => "`[[task]]` with `operator = \"short_circuit\"`",
            Self::Drift => "`[[task]]` with `operator = \"drift\"`",
            Self::Numeric => "`numeric` of a drift task",
            Self::Categorical => "`categorical` of a drift task",
            Self::Rule => "`rule` of a drift task",
            Self::Python => "`[[task]]` with `operator = \"python\"`",
            Self::Request => "`[[task]]` with `operator = \"http\"` or `\"http_sensor\"`",
            Self::Http => "`[[task]]` with `operator = \"http\"`",
            Self::Query => "`[[task]]` with `operator = \"sql\"` or `\"sql_sensor\"`",
            Self::Sql => "`[[task]]` with `operator = \"sql\"`",
            Self::HttpSensor => "`[[task]]` with `operator = \"http_sensor\"`",
            Self::SqlSensor => "`[[task]]` with `operator = \"sql_sensor\"`",
            Self::Notify => "`[[task]]` with `operator = \"notify\"`",
            Self::Sensor => "`[[task]]` of every sensor",
            Self::FileSensor => "`[[task]]` with `operator = \"file_sensor\"`",
            Self::TimeSensor => "`[[task]]` with `operator = \"time_sensor\"`",
            Self::TriggerDag => "`[[task]]` with `operator = \"trigger_dag\"`",
            Self::DagRunSensor => "`[[task]]` with `operator = \"dag_run_sensor\"`",
            Self::Notification => "`on_success`, `on_failure` and `on_deadline`",
        }
    }

    /// Returns the operator whose own keys the table holds.
    #[must_use]
    pub const fn operator(self) -> Option<&'static str> {
        match self {
            Self::Command => Some("command"),
            Self::Branch => Some("branch"),
            Self::ShortCircuit => Some("short_circuit"),
            Self::Drift => Some("drift"),
            Self::Python => Some("python"),
            Self::Http => Some("http"),
            Self::Sql => Some("sql"),
            Self::Notify => Some("notify"),
            Self::FileSensor => Some("file_sensor"),
            Self::HttpSensor => Some("http_sensor"),
            Self::SqlSensor => Some("sql_sensor"),
            Self::TimeSensor => Some("time_sensor"),
            Self::TriggerDag => Some("trigger_dag"),
            Self::DagRunSensor => Some("dag_run_sensor"),
            _ => None,
        }
    }

    /// Returns the operators that share the keys of the table.
    #[must_use]
    pub const fn shared_by(self) -> &'static [&'static str] {
        match self {
            Self::Request => &["http", "http_sensor"],
            Self::Query => &["sql", "sql_sensor"],
            Self::Sensor => SENSORS,
            _ => &[],
        }
    }

    /// Returns the tables whose keys a task of an operator has beside the common ones.
    #[must_use]
    pub fn of_operator(operator: &str) -> Vec<Self> {
        let is_own =
            |table: &Self| table.operator() == Some(operator) || table.shared_by().contains(&operator);
        Self::ALL.iter().copied().filter(is_own).collect()
    }
}

/// What a value must be.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// A text without control characters that is not empty.
    Line,
    /// A text with placeholders that is not empty.
    Template,
    /// An id: `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$`.
    Name,
    /// One of the words.
    Word(fn() -> Vec<&'static str>),
    /// A list of words without duplicates, at least one.
    Words(fn() -> Vec<&'static str>),
    /// `true` or `false`.
    Bool,
    /// An integer, ends included.
    Int(i64, i64),
    /// A number, ends included when the flag is set.
    Float(f64, f64, bool),
    /// A duration, both ends in seconds and included.
    Duration(u64, u64),
    /// A TOML date or date-time, or a string.
    Date,
    /// An IANA time zone.
    Zone,
    /// A list of texts without duplicates.
    Lines,
    /// A list of names of assets without duplicates, at least one.
    Assets,
    /// An id, `group:NAME`, or a list of them without duplicates.
    Tasks,
    /// The name of a group with those around it: ids with single dots between them.
    Group,
    /// A list of exit codes 1–255 without duplicates.
    ExitCodes,
    /// A number of at least 1, or `true` for 2.
    Backoff,
    /// A table of environment variables.
    Env,
    /// A table with the keys of another.
    Table(TableId),
    /// A table, or a list of them.
    Tables(TableId),
    /// Checked where it is read; the text says what it is.
    Special(&'static str),
}

impl Kind {
    /// Says what the value is, for the reference and for messages.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Text | Self::Line => "a string".to_owned(),
            Self::Template => "a string (template)".to_owned(),
            Self::Name => "an id".to_owned(),
            Self::Word(words) => one_of(&words()),
            Self::Words(words) => format!("a list of {}", one_of(&words())),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Int(low, i64::MAX) => format!("an integer, at least {low}"),
            Self::Int(low, high) => format!("an integer from {low} to {high}"),
            Self::Float(low, high, false) if high.is_infinite() => format!("a number above {low}"),
            Self::Float(low, high, true) if high.is_infinite() => format!("a number, at least {low}"),
            Self::Float(low, high, true) => format!("a number from {low} to {high}"),
            Self::Float(low, high, false) => format!("a number between {low} and {high}"),
            Self::Duration(low, high) => {
                format!(
                    "a duration from {} to {}",
                    super::values::show_seconds(low),
                    super::values::show_seconds(high)
                )
            }
            Self::Date => "a date or date-time".to_owned(),
            Self::Zone => "an IANA time zone".to_owned(),
            Self::Lines => "a list of strings".to_owned(),
            Self::Assets => "a list of names of assets".to_owned(),
            Self::Tasks => "an id, `group:NAME`, or a list of them".to_owned(),
            Self::Group => "a name with those of the groups around it, joined by dots".to_owned(),
            Self::ExitCodes => "a list of exit codes (1–255)".to_owned(),
            Self::Backoff => "a number from 1 to 100, or `true`".to_owned(),
            Self::Env => "a table of strings (templates)".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Tables(_) => "a table or a list of tables".to_owned(),
            Self::Special(text) => text.to_owned(),
        }
    }
}

pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// What a key means when it is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// It must be given.
    Required,
    /// Nothing.
    None,
    /// A number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text or word.
    Text(&'static str),
    /// A duration in seconds.
    Seconds(u64),
    /// Something that only words can say.
    Said(&'static str),
}

/// Whether the feature behind a key exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Built,
    /// Not yet; the text names the feature.
    NotBuilt(&'static str),
}

/// One key.
#[derive(Clone, Copy)]
pub struct KeySpec {
    /// The table that it stands in.
    pub table: TableId,
    /// Its name.
    pub name: &'static str,
    /// What its value must be.
    pub kind: Kind,
    /// What it means when absent.
    pub default: Default,
    /// What it does, one or two sentences.
    pub doc: &'static str,
    /// A value as it is written.
    pub example: &'static str,
    /// Whether it can be used.
    pub status: Status,
    /// Whether `default_args` may hold it.
    pub in_default_args: bool,
}

pub(crate) const fn key(
    table: TableId,
    name: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> KeySpec {
    KeySpec { table, name, kind, default, doc, example, status: Status::Built, in_default_args: false }
}

impl KeySpec {
    pub(crate) const fn not_built(mut self, feature: &'static str) -> Self {
        self.status = Status::NotBuilt(feature);
        self
    }

    pub(crate) const fn default_arg(mut self) -> Self {
        self.in_default_args = true;
        self
    }
}

/// Operators that are planned and refused by name.
pub const NOT_BUILT_OPERATORS: &[&str] = &["approval", "validate", "gate", "mlflow", "canary"];

/// Operators that exist.
pub const OPERATORS: &[&str] = &[
    "command",
    "python",
    "noop",
    "branch",
    "short_circuit",
    "latest_only",
    "drift",
    "http",
    "sql",
    "notify",
    "file_sensor",
    "http_sensor",
    "sql_sensor",
    "time_sensor",
    "trigger_dag",
    "dag_run_sensor",
];

/// Those of them that poke for something outside of their run.
pub const SENSORS: &[&str] = &["file_sensor", "http_sensor", "sql_sensor"];

/// Those of them that never leave the engine: without a process or a slot.
pub(crate) const IN_ENGINE: &[&str] =
    &["noop", "latest_only", "time_sensor", "trigger_dag", "dag_run_sensor"];

/// Those of these that wait, for at most their `timeout`.
pub(crate) const WAITING_IN_ENGINE: &[&str] = &["time_sensor", "trigger_dag", "dag_run_sensor"];

/// Words of Airflow and of other tools, with the key that does the same here.
pub(crate) const ALIASES: &[(&str, &str)] = &[
    ("schedule_interval", "schedule"),
    ("cron", "schedule"),
    ("dag_id", "id"),
    ("task_id", "id"),
    ("name", "id"),
    ("bash_command", "command"),
    ("cmd", "command"),
    ("run", "command"),
    ("concurrency", "max_active_tasks"),
    ("execution_timeout", "timeout"),
    ("dagrun_timeout", "run_timeout"),
    ("upstream", "depends_on"),
    ("upstream_task_ids", "depends_on"),
    ("needs", "depends_on"),
    ("after", "depends_on"),
    ("dependencies", "depends_on"),
    ("max_active_tis_per_dag", "max_active_per_dag"),
    ("max_active_tis_per_dagrun", "max_active_per_run"),
    ("retry_exponential_backoff", "retry_backoff"),
    ("doc_md", "doc"),
    ("on_failure_callback", "on_failure"),
    ("on_success_callback", "on_success"),
    ("priority", "priority_weight"),
    ("tz", "timezone"),
    ("type", "operator"),
    ("environment", "env"),
    ("url", "webhook"),
    ("endpoint", "url"),
    ("data", "body"),
    ("json", "body"),
    ("http_conn_id", "connection"),
    ("conn_id", "connection"),
    ("postgres_conn_id", "connection"),
    ("sqlite_conn_id", "connection"),
    ("query", "sql"),
    ("text", "message"),
    ("pvalue", "p_value"),
    ("min", "minimum"),
    ("max", "maximum"),
    ("choices", "enum"),
    ("values", "enum"),
    ("threshold", "p_value"),
];

pub(crate) fn words_of<T: Copy>(all: &'static [T], word: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|value| word(*value)).collect()
}

macro_rules! words {
    ($($name:ident: $type:ident;)+) => {
        $(pub(crate) fn $name() -> Vec<&'static str> { words_of($type::ALL, $type::as_str) })+
    };
}

words! {
    trigger_rules: TriggerRule;
    http_methods: HttpMethod;
    deadline_starts: DeadlineFrom;
    wait_starts: WaitFrom;
    weight_rules: WeightRule;
    retries_exhausted: RetriesExhausted;
    numeric_metrics: NumericMetric;
    categorical_metrics: CategoricalMetric;
    psi_variants: PsiVariant;
    ks_methods: KsMethod;
    feature_rules: FeatureRule;
    corrections: Correction;
}

type Index = BTreeMap<&'static str, Vec<&'static KeySpec>>;

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = Index::new();
        for spec in KEYS {
            index.entry(spec.name).or_default().push(spec);
        }
        index
    })
}

/// Returns the keys of that name in all tables.
#[must_use]
pub fn named(name: &str) -> &'static [&'static KeySpec] {
    index().get(name).map_or(&[], Vec::as_slice)
}

/// Returns the key of a table.
#[must_use]
pub fn find(table: TableId, name: &str) -> Option<&'static KeySpec> {
    named(name).iter().find(|spec| spec.table == table).copied()
}

/// Returns every key of a table, in the order of the reference.
pub fn of_table(table: TableId) -> impl Iterator<Item = &'static KeySpec> {
    KEYS.iter().filter(move |spec| spec.table == table)
}
