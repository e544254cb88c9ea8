//! Operators: what runs as a child process of the worker but is Tidemill itself.
//!
//! The worker writes a `Spec` and starts `tidemill operator SPEC` under the same supervision as a command.
//! The operator prints what it does (that is the task's log) and writes a result file that the worker reads.

mod branch;
mod call;
mod drift;
mod file_sensor;
mod http;
mod notify;
mod python;
mod sql;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tidemill_engine::template::{self, AnswerCondition};
use tidemill_protocol::worker::{Connection, Report, Work};

use crate::outcome::Problem;

/// The most that a result file may hold, in bytes: a drift report of some thousand features. What it becomes
/// must fit one exchange together with the outputs.
const RESULT_LIMIT_BYTES: u64 = 12 * 1024 * 1024;

/// What an operator is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// What to do.
    pub(crate) work: Work,
    /// What the worker gives it.
    pub(crate) around: Surroundings,
}

/// What the worker gives an operator beside its work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    /// The connections that its keys name, by id. They stand in this file, never among the arguments.
    #[serde(default)]
    pub(crate) connections: BTreeMap<String, Connection>,
    /// Where the result goes, in the folder of the try.
    pub(crate) result: PathBuf,
    /// The worker's own folder.
    pub(crate) work_dir: PathBuf,
    /// How long a virtual environment that nobody uses is kept.
    pub(crate) venv_max_age_seconds: u64,
    /// What may be called although it is not public.
    #[serde(default)]
    pub(crate) outbound: Vec<String>,
}

/// What an operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct OperatorResult {
    /// What a branch follows.
    pub(crate) follow: Option<Vec<String>>,
    /// The evidence.
    pub(crate) report: Option<Report>,
    /// Outputs by key.
    pub(crate) outputs: BTreeMap<String, serde_json::Value>,
    /// Why there was nothing to do: the try ends as skipped.
    #[serde(default)]
    pub(crate) skipped: Option<String>,
    /// Why a sensor has to look again later.
    #[serde(default)]
    pub(crate) not_yet: Option<String>,
    /// Why it failed, coded.
    pub(crate) problem: Option<String>,
    /// Whether another try can only fail in the same way.
    pub(crate) is_final: bool,
}

impl OperatorResult {
    /// A poke that found nothing: one line in the log, and the reason for which the sensor waits.
    fn not_yet(why: String, out: &mut Out) -> Self {
        out.stamped(&why);
        Self { not_yet: Some(why), ..Self::default() }
    }

    fn failed(problem: &Problem, is_final: bool) -> Self {
        Self { problem: Some(problem.to_string()), is_final, ..Self::default() }
    }
}

/// Where an operator's words go: the task's log.
pub(crate) struct Out(std::io::Stdout);

impl Out {
    /// Writes one line. A log that cannot be written fails nothing.
    pub(crate) fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}");
    }

    /// Writes one line with the time: the pokes of a sensor share one log.
    fn stamped(&mut self, text: &str) {
        let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
        self.line(&format!("{now} {text}"));
    }
}

/// Executes the operator that the spec file describes. Returns the exit code of its process.
#[must_use]
pub fn main(spec: &Path) -> ExitCode {
    let mut out = Out(std::io::stdout());
    let Spec { work, around } = match fs::read(spec)
        .map_err(|e| e.to_string())
        .and_then(|text| serde_json::from_slice::<Spec>(&text).map_err(|error| error.to_string()))
    {
        Ok(spec) => spec,
        Err(error) => {
            out.line(&format!("the operator's specification cannot be read: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = match &work {
        Work::Branch { chosen, because, allowed } => branch::execute(chosen, because, allowed, &mut out),
        Work::Python { spec } => python::execute(spec, &around, &mut out),
        Work::Drift { spec, on_drift, on_stable, on_insufficient_data } => {
            drift::execute(spec, on_drift, on_stable, on_insufficient_data.as_deref(), &mut out)
        }
        Work::Notify { webhook, body } => notify::execute(webhook, body, &around, &mut out),
        Work::Http { spec, response_file } => {
            http::execute(spec, response_file.as_deref(), &around, &mut out)
        }
        Work::HttpSensor { spec, when } => http::poke(spec, when.as_ref(), &around, &mut out),
        Work::Sql { spec } => sql::execute(spec, &around, &mut out),
        Work::SqlSensor { spec, when } => sql::poke(spec, when.as_ref(), &around, &mut out),
        Work::FileSensor { path } => file_sensor::poke(path, &mut out),
        Work::Shell { .. } | Work::Exec { .. } => {
            let error = "a command is not an operator".to_owned();
            OperatorResult::failed(&Problem::Operator { error }, true)
        }
    };
    if let Some(problem) = &result.problem {
        out.line(problem);
    }
    let code = u8::from(result.problem.is_some());
    let written = serde_json::to_vec(&result)
        .map_err(std::io::Error::from)
        .and_then(|text| fs::write(&around.result, text));
    if let Err(error) = written {
        out.line(&format!("the result cannot be written: {error}"));
        return ExitCode::FAILURE;
    }
    ExitCode::from(code)
}

/// Judges what a sensor got: without a condition it is what is waited for.
fn judge(answer: Json, when: Option<&AnswerCondition>, what: &str, out: &mut Out) -> OperatorResult {
    let held = match when {
        Some(when) => template::holds(&when.template, &when.names, &answer).map_err(|error| {
            Problem::Condition { what: what.to_owned(), error: format!("{}: {error}", error.code()) }
        }),
        None => Ok(true),
    };
    match held {
        Ok(true) => {
            out.stamped(&format!("{what} are what is waited for"));
            let outputs = match answer {
                Json::Object(map) => map.into_iter().collect(),
                _ => BTreeMap::new(),
            };
            OperatorResult { outputs, ..OperatorResult::default() }
        }
        Ok(false) => OperatorResult::not_yet(format!("{what} are not yet what is waited for"), out),
        Err(problem) => OperatorResult::failed(&problem, false),
    }
}

/// Returns an error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Reads what an operator found.
pub(crate) fn read_result(path: &Path) -> Result<OperatorResult, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > RESULT_LIMIT_BYTES {
        return Err(format!("it has {length} bytes; the limit is {RESULT_LIMIT_BYTES}"));
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}
