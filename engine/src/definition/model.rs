//! The canonical definition of a DAG and its tasks.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    DriftSpec, HttpSpec, PythonSpec, SqlSpec, SqlTask,
    map_spec::{MapSpec, default_map_length, is_default_map_length},
    millis,
    retry_on::RetryOn,
};
pub use super::{
    inside::{RunWait, TimeWait, TriggerSpec, Until, WaitFrom, WhichRun},
    waits::{Deadline, DeadlineFrom, Poke},
};
use crate::{
    ids::{AssetName, ConnectionId, DagId, PoolName, TaskId},
    state::{TriggerRule, WeightRule},
};

/// A DAG, complete: every default is filled in, `default_args` are merged into the tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dag {
    /// The DAG's id.
    pub id: DagId,
    /// One line for lists.
    pub description: Option<String>,
    /// When runs are created by themselves.
    pub schedule: Schedule,
    /// What the logical date of a scheduled run is.
    pub timetable: TimetableKind,
    /// The IANA zone in which cron fields and dates without offset are read.
    pub timezone: chrono_tz::Tz,
    /// The first run's data interval does not begin before this instant.
    pub start_date: Option<DateTime<Utc>>,
    /// No logical date is after this instant.
    pub end_date: Option<DateTime<Utc>>,
    /// Whether every missed date since `start_date` is run.
    pub catchup: bool,
    /// At most this many running runs. Default 16.
    pub max_active_runs: u32,
    /// At most this many leased task instances of this DAG. Default 16.
    pub max_active_tasks: u32,
    /// A run that is still going after this long, from its start, ends in `failed`.
    #[serde(with = "millis::option")]
    pub run_timeout: Option<Duration>,
    /// Labels for filters.
    pub tags: Vec<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// Text shown on the DAG's page.
    pub doc: Option<String>,
    /// Sent when a run succeeds.
    pub on_success: Vec<Notification>,
    /// Sent when a run fails.
    pub on_failure: Vec<Notification>,
    /// How long finished runs and their logs are kept; the daemon's default where absent.
    #[serde(with = "millis::option")]
    pub retention: Option<Duration>,
    /// Pauses the DAG after so many failed runs in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_consecutive_failed_runs: Option<u32>,
    /// When a run is late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// Sent once when a run is late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_deadline: Vec<Notification>,
    /// Declared parameters by name, in the file's order of declaration where it matters for the form.
    pub params: Vec<Param>,
    /// The groups that say something about themselves, in file order. Membership stands in the tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<TaskGroup>,
    /// The tasks in file order.
    pub tasks: Vec<Task>,
}

/// What stands before the name of a group where a task id may stand, too.
pub const GROUP_PREFIX: &str = "group:";

/// A group of tasks that says something about itself. What it depends on is written into its roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskGroup {
    /// Its name with those of the groups around it: `load.daily`.
    pub id: String,
    /// Text shown with it.
    pub doc: Option<String>,
}

/// When runs are created by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Never; only triggers.
    Never,
    /// Once, at `start_date` or when the DAG is first seen.
    Once,
    /// A new run as soon as the last one has ended.
    Continuous,
    /// Cron expressions (five fields, or six with leading seconds; presets are expanded). The union of all.
    Cron(Vec<String>),
    /// Every so often, counted from `start_date`, or from the Unix epoch without one.
    Every(#[serde(with = "millis")] Duration),
    /// When assets have had events, perhaps beside dates.
    Assets(AssetSchedule),
}

/// A schedule by assets (`semantics.md` §11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetSchedule {
    /// The assets, sorted; at least one.
    pub assets: Vec<AssetName>,
    /// Whether an event on one of them is enough; otherwise each needs one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any: bool,
    /// The dates on which runs are created, too: `Cron` or `Every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Box<Schedule>>,
}

impl Schedule {
    /// Returns the part that makes dates: the schedule itself, or what stands beside its assets.
    #[must_use]
    pub fn time(&self) -> &Self {
        match self {
            Self::Assets(AssetSchedule { time, .. }) => time.as_deref().unwrap_or(&Self::Never),
            other => other,
        }
    }

    /// Returns the part that listens to assets.
    #[must_use]
    pub const fn assets(&self) -> Option<&AssetSchedule> {
        match self {
            Self::Assets(assets) => Some(assets),
            _ => None,
        }
    }
}

/// What the logical date of a scheduled run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimetableKind {
    /// The instant of firing; the data interval ends there.
    #[default]
    Trigger,
    /// The start of the data interval; fired at its end.
    Interval,
}

/// A declared parameter: JSON-Schema keywords that make the trigger form and check `conf`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its name in `params.<name>`.
    pub name: String,
    /// The JSON-Schema keywords as written (`type`, `default`, `minimum`, `enum`, `description`, …).
    pub schema: serde_json::Map<String, serde_json::Value>,
}

/// A message to the outside, sent through the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The webhook that is called with a JSON body by POST.
    pub webhook: String,
    /// The text of the message; a template. Absent: a default sentence.
    pub message: Option<String>,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The task's id.
    pub id: TaskId,
    /// What it does.
    pub operator: Operator,
    /// The direct upstreams, in file order, without duplicates.
    pub depends_on: Vec<TaskId>,
    /// When it may run, given its upstreams.
    pub trigger_rule: TriggerRule,
    /// How many failed tries are followed by another.
    pub retries: u32,
    /// Wait before the next try. Default 5 min.
    #[serde(with = "millis")]
    pub retry_delay: Duration,
    /// Multiplier of the delay per failure; 1.0 is constant. Default 1.0.
    pub retry_backoff: f64,
    /// Cap of the delay. Default 24 h.
    #[serde(with = "millis")]
    pub max_retry_delay: Duration,
    /// How many losses of a worker are followed by another try. Default 3.
    pub max_lost_retries: u32,
    /// Exit codes that end the try as skipped. Default 99.
    pub skip_on_exit_code: Vec<i32>,
    /// Exit codes after which no retry follows.
    pub fail_on_exit_code: Vec<i32>,
    /// Which failures are followed by another try; absent: all but those of `fail_on_exit_code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<RetryOn>,
    /// What follows the last failed try.
    #[serde(default, skip_serializing_if = "RetriesExhausted::is_fail")]
    pub on_retries_exhausted: RetriesExhausted,
    /// Per try; the process tree is stopped then.
    #[serde(with = "millis::option")]
    pub timeout: Option<Duration>,
    /// The pool. Default `default_pool`.
    pub pool: PoolName,
    /// Slots it takes there. Default 1.
    pub pool_slots: u32,
    /// Default 1.
    pub priority_weight: i64,
    /// Default `downstream`.
    pub weight_rule: WeightRule,
    /// The worker queue. Default `default`.
    pub queue: String,
    /// Additional environment; values are templates.
    pub env: BTreeMap<String, String>,
    /// At most this many leased instances of this task over all runs of the DAG.
    pub max_active_per_dag: Option<u32>,
    /// At most this many leased instances of this task in one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_active_per_run: Option<u32>,
    /// What it is mapped over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<MapSpec>,
    /// The most elements that it may have. Default 1024.
    #[serde(default = "default_map_length", skip_serializing_if = "is_default_map_length")]
    pub max_map_length: u32,
    /// The group that it is drawn in, with those around it: `load.daily`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What it prepares or cleans up for other tasks.
    #[serde(default, skip_serializing_if = "Role::is_work")]
    pub role: Role,
    /// Whether it waits for the same task in the run before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub depends_on_past: bool,
    /// Whether it waits for the tasks directly below it in the run before, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait_for_downstream: bool,
    /// The assets on which its success is an event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outlets: Vec<AssetName>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// Text shown on the task's page.
    pub doc: Option<String>,
    /// Sent when an instance succeeds.
    pub on_success: Vec<Notification>,
    /// Sent when an instance fails and no try is left.
    pub on_failure: Vec<Notification>,
}

/// What follows when a failed try was the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetriesExhausted {
    /// The task fails.
    #[default]
    Fail,
    /// The run is parked for a person, who resumes it with new tries, marks the task, or cancels.
    Pause,
}

impl RetriesExhausted {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::Fail, Self::Pause];

    /// Returns the word of a DAG file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Pause => "pause",
        }
    }

    /// Whether the task fails.
    #[must_use]
    pub const fn is_fail(&self) -> bool {
        matches!(self, Self::Fail)
    }
}

/// What a task is to the tasks around it (`semantics.md` §7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It does what the DAG is there for.
    #[default]
    Work,
    /// It prepares what others need.
    Setup,
    /// It cleans up.
    Teardown {
        /// The setups whose success makes it run. Without any it runs when its upstreams have ended.
        setups: Vec<TaskId>,
        /// Whether its failure fails the run.
        fails_run: bool,
    },
}

impl Role {
    /// Whether it neither prepares nor cleans up.
    #[must_use]
    pub const fn is_work(&self) -> bool {
        matches!(self, Self::Work)
    }

    /// Whether it prepares what others need.
    #[must_use]
    pub const fn is_setup(&self) -> bool {
        matches!(self, Self::Setup)
    }

    /// Whether it cleans up.
    #[must_use]
    pub const fn is_teardown(&self) -> bool {
        matches!(self, Self::Teardown { .. })
    }

    /// Returns the word of a page: `setup`, `teardown`, or nothing.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Work => "",
            Self::Setup => "setup",
            Self::Teardown { .. } => "teardown",
        }
    }
}

/// What a task does, with the operator's own keys. Strings are templates unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Operator {
    /// Runs a process.
    Command {
        /// What to execute.
        command: Command,
    },
    /// Runs Python code.
    Python {
        /// What is called, and in which environment.
        spec: Box<PythonSpec>,
    },
    /// Succeeds in the engine, takes no slot.
    Noop,
    /// Chooses among its direct downstreams.
    Branch {
        /// The choice.
        branches: Branches,
    },
    /// Lets what is below it run, or skips it.
    ShortCircuit {
        /// A template that renders to `true` or `false`.
        when: String,
        /// Whether `false` skips everything below whatever its trigger rule, or only the direct downstreams.
        ignore_downstream_trigger_rules: bool,
    },
    /// Lets its direct downstreams run in the newest run of the schedule only. Succeeds in the engine, takes no slot.
    LatestOnly,
    /// Measures drift and branches on it.
    Drift {
        /// What is measured and how it is judged.
        spec: Box<DriftSpec>,
        /// Followed when the data drifted. Not a template.
        on_drift: Vec<TaskId>,
        /// Followed when they did not. Not a template.
        on_stable: Vec<TaskId>,
        /// Followed when no feature could be tested. Not a template. Default: `on_stable`, with a warning.
        on_insufficient_data: Option<Vec<TaskId>>,
    },
    /// Calls a webhook and fails when it is refused.
    Notify {
        /// What is sent and where.
        notification: Notification,
    },
    /// Asks another service by HTTP.
    Http {
        /// What is asked.
        spec: Box<HttpSpec>,
        /// Where the body of the answer goes instead of an output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        response_file: Option<String>,
    },
    /// Executes statements in a database.
    Sql {
        /// Which, and where.
        spec: Box<SqlTask>,
    },
    /// Waits until another service answers as it should.
    HttpSensor {
        /// What is asked.
        spec: Box<HttpSpec>,
        /// What the answer must be beside its status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<String>,
        /// How it waits.
        poke: Poke,
    },
    /// Waits until a query gives what it should.
    SqlSensor {
        /// The query.
        spec: Box<SqlSpec>,
        /// What it must give; absent: a first value that is neither nothing, 0 nor empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<String>,
        /// How it waits.
        poke: Poke,
    },
    /// Waits until a file is there; its slot is free between pokes.
    FileSensor {
        /// The file, a folder with a file in it, or a pattern; relative to the folder of the DAG file.
        path: String,
        /// How it waits.
        poke: Poke,
    },
    /// Waits for an instant. Never leaves the engine, takes no slot.
    TimeSensor {
        /// Until when.
        wait: TimeWait,
    },
    /// Makes a run of another DAG. Never leaves the engine, takes no slot.
    TriggerDag {
        /// Which.
        spec: Box<TriggerSpec>,
    },
    /// Waits for a run of another DAG. Never leaves the engine, takes no slot.
    DagRunSensor {
        /// For which.
        wait: Box<RunWait>,
    },
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Given to `/bin/sh`; interpolated values arrive as data.
    Shell(String),
    /// Executed as it is; each element is a template of its own.
    Exec(Vec<String>),
}

/// How a `branch` chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branches {
    /// A template that renders to a task id, to a JSON array of ids, or to nothing.
    Template(String),
    /// The first arm whose condition renders to `true`.
    Arms(Vec<BranchArm>),
}

/// One arm of a `branch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchArm {
    /// A template that renders to `true` or `false`; absent: always.
    pub when: Option<String>,
    /// Followed when it holds. Not a template.
    pub then: Vec<TaskId>,
}

impl Task {
    /// Whether it waits for something in the run before.
    #[must_use]
    pub const fn asks_past(&self) -> bool {
        self.depends_on_past || self.wait_for_downstream
    }

    /// How it waits, when it is a sensor.
    #[must_use]
    pub const fn poke(&self) -> Option<&Poke> {
        match &self.operator {
            Operator::FileSensor { poke, .. }
            | Operator::HttpSensor { poke, .. }
            | Operator::SqlSensor { poke, .. } => Some(poke),
            _ => None,
        }
    }

    /// Whether it is a sensor that is skipped where it would fail; absent: it is no sensor.
    #[must_use]
    pub const fn soft_fail(&self) -> Option<bool> {
        match (&self.operator, self.poke()) {
            (_, Some(poke)) => Some(poke.soft_fail),
            (Operator::TimeSensor { wait }, _) => Some(wait.soft_fail),
            (Operator::DagRunSensor { wait }, _) => Some(wait.soft_fail),
            (Operator::TriggerDag { spec }, _) if spec.wait => Some(false),
            _ => None,
        }
    }

    /// Whether it belongs to a group or to one inside it.
    #[must_use]
    pub fn is_in_group(&self, group: &str) -> bool {
        let rest = self.group.as_deref().and_then(|own| own.strip_prefix(group));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl Operator {
    /// Returns the word that a DAG file uses.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Command { .. } => "command",
            Self::Python { .. } => "python",
            Self::Noop => "noop",
            Self::Branch { .. } => "branch",
            Self::ShortCircuit { .. } => "short_circuit",
            Self::LatestOnly => "latest_only",
            Self::Drift { .. } => "drift",
            Self::Http { .. } => "http",
            Self::Sql { .. } => "sql",
            Self::HttpSensor { .. } => "http_sensor",
            Self::SqlSensor { .. } => "sql_sensor",
            Self::Notify { .. } => "notify",
            Self::FileSensor { .. } => "file_sensor",
            Self::TimeSensor { .. } => "time_sensor",
            Self::TriggerDag { .. } => "trigger_dag",
            Self::DagRunSensor { .. } => "dag_run_sensor",
        }
    }

    /// Returns the connections that its own keys name. They are loaded and sent to the worker with the task; those
    /// that only templates name are not.
    #[must_use]
    pub fn connections(&self) -> Vec<&ConnectionId> {
        match self {
            Self::Http { spec, .. } | Self::HttpSensor { spec, .. } => spec.connection.iter().collect(),
            Self::Sql { spec } => spec.spec.connection.iter().collect(),
            Self::SqlSensor { spec, .. } => spec.connection.iter().collect(),
            Self::Command { .. }
            | Self::Noop
            | Self::LatestOnly
            | Self::ShortCircuit { .. }
            | Self::Branch { .. }
            | Self::Drift { .. }
            | Self::Python { .. }
            | Self::Notify { .. }
            | Self::FileSensor { .. }
            | Self::TimeSensor { .. }
            | Self::TriggerDag { .. }
            | Self::DagRunSensor { .. } => Vec::new(),
        }
    }

    /// Whether an instance never leaves the engine and takes no slot.
    #[must_use]
    pub const fn is_in_engine(&self) -> bool {
        matches!(self, Self::Noop | Self::LatestOnly) || self.waits_in_engine()
    }

    /// Whether it may wait in the engine.
    #[must_use]
    pub const fn waits_in_engine(&self) -> bool {
        matches!(self, Self::TimeSensor { .. } | Self::TriggerDag { .. } | Self::DagRunSensor { .. })
    }

    /// Whether an instance may have outputs.
    #[must_use]
    pub const fn has_outputs(&self) -> bool {
        !self.is_in_engine() || matches!(self, Self::TriggerDag { .. })
    }

    /// Whether a success carries a branch verdict.
    #[must_use]
    pub const fn is_branch(&self) -> bool {
        matches!(
            self,
            Self::Branch { .. } | Self::ShortCircuit { .. } | Self::LatestOnly | Self::Drift { .. }
        )
    }

    /// Whether it follows all of its direct downstreams or none, instead of choosing among them.
    #[must_use]
    pub const fn is_gate(&self) -> bool {
        matches!(self, Self::ShortCircuit { .. } | Self::LatestOnly)
    }
}
