//! The folder of a try: its log, its record for a later start, its scratch space, its inputs and outputs.
//!
//! ```text
//! WORK_DIR/tries/RUN.TASK.MAP.TRY.EPOCH/
//!   record   what a later start needs to find, kill and report it (holds the attempt's token and secrets: mode 0600)
//!   log      both streams of the process
//!   output   $TIDEMILL_OUTPUT, made by the task
//!   inputs   $TIDEMILL_INPUTS, when there are any
//!   scratch/ $TIDEMILL_WORK_DIR
//!   spec, result   of an operator; runner.py, call.json of a `python` task
//!   killed-by-guardian   the guardian was here
//! ```

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tidemill_protocol::worker::{Assignment, AttemptKey, Secret, Token, Work};

use crate::{operator, options::Options, outcome::Problem, process::tree::Target};

/// The folder below the work folder that holds one folder per try.
pub(crate) const TRIES: &str = "tries";

/// What a later start needs to know about a try.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) attempt: AttemptKey,
    pub(crate) token: Token,
    /// What must not show in its log, which a later start may have to ship.
    #[serde(default)]
    pub(crate) secrets: Vec<Secret>,
    pub(crate) target: Target,
    /// The start of the machine that the processes belong to.
    pub(crate) machine_boot_id: String,
}

/// The folder of a try.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
}

impl Files {
    pub(crate) fn new(options: &Options, attempt: &AttemptKey) -> Self {
        Self { folder: options.work_dir.join(TRIES).join(name(attempt)) }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.folder.join("output")
    }

    pub(crate) fn result(&self) -> PathBuf {
        self.folder.join("result")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.join("scratch")
    }

    /// The guardian touches this before it kills, so that its kill is not taken for the task's own end.
    pub(crate) fn killed_by_guardian(&self) -> PathBuf {
        self.folder.join("killed-by-guardian")
    }

    /// Makes the folder with an empty log in it.
    pub(crate) fn create(&self) -> Result<File, Problem> {
        let problem = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Problem::Prepare { what, error: error.to_string() }
        };
        match fs::create_dir(&self.folder) {
            // A try that was dropped unstarted and is delivered again.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                fs::remove_dir_all(&self.folder).map_err(problem("its folder"))?;
                fs::create_dir(&self.folder).map_err(problem("its folder"))?;
            }
            other => other.map_err(problem("its folder"))?,
        }
        fs::create_dir(self.scratch()).map_err(problem("its scratch folder"))?;
        File::options().create(true).append(true).mode(0o600).open(self.log()).map_err(problem("its log"))
    }

    /// Writes the record; a later call adds the process group.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), Problem> {
        let problem = |error: std::io::Error| Problem::Prepare {
            what: "its record".to_owned(),
            error: error.to_string(),
        };
        let mut text = serde_json::to_vec(record).map_err(|error| problem(error.into()))?;
        text.push(b'\n');
        let path = self.folder.join("record");
        let mut file = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(problem)?;
        file.write_all(&text).map_err(problem)
    }

    /// Adds the process group to the record, and when its leader was started.
    pub(crate) fn add_group(&self, group: i32, since_ticks: Option<u64>) -> std::io::Result<()> {
        let mut file = File::options().append(true).open(self.folder.join("record"))?;
        file.write_all(format!("{group} {}\n", since_ticks.unwrap_or_default()).as_bytes())
    }

    /// Reads the record of an earlier start, as far as it was written.
    pub(crate) fn read_record(&self) -> Option<Record> {
        let text = fs::read_to_string(self.folder.join("record")).ok()?;
        let mut lines = text.lines();
        let mut record: Record = serde_json::from_str(lines.next()?).ok()?;
        if let Some((group, since)) = lines.next().and_then(|line| line.split_once(' ')) {
            record.target.group = group.parse().ok();
            record.target.group_since_ticks = since.parse().ok().filter(|ticks| *ticks > 0);
        }
        Some(record)
    }

    /// Writes what the process reads and returns its command line.
    pub(crate) fn write_work(
        &self,
        options: &Options,
        assignment: &Assignment,
    ) -> Result<Vec<OsString>, Problem> {
        if !assignment.inputs.is_empty() {
            self.write("inputs", &assignment.inputs)?;
        }
        Ok(match &assignment.work {
            Work::Shell { script } => vec!["/bin/sh".into(), "-c".into(), script.into()],
            Work::Exec { argv } => argv.iter().map(OsString::from).collect(),
            _ => {
                let around = operator::Surroundings {
                    connections: assignment.connections.clone(),
                    result: self.result(),
                    work_dir: options.work_dir.clone(),
                    venv_max_age_seconds: options.venv_max_age.as_secs(),
                    outbound: options.outbound.entries(),
                };
                self.write("spec", &operator::Spec { work: assignment.work.clone(), around })?;
                vec![options.own_exe.clone().into(), "operator".into(), self.folder.join("spec").into()]
            }
        })
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Problem> {
        let problem = |error: std::io::Error| Problem::Prepare {
            what: format!("its {name}"),
            error: error.to_string(),
        };
        let text = serde_json::to_vec(value).map_err(|error| problem(error.into()))?;
        let path = self.folder.join(name);
        let mut file = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(problem)?;
        file.write_all(&text).map_err(problem)
    }

    /// The variables that only the worker knows.
    pub(crate) fn environment(
        &self,
        options: &Options,
        assignment: &Assignment,
        marker: &str,
    ) -> Result<Vec<(String, String)>, Problem> {
        let data = options.data_dir.join(assignment.dag_id.as_str());
        fs::create_dir_all(&data).map_err(|error| Problem::Prepare {
            what: "the data folder of its DAG".to_owned(),
            error: error.to_string(),
        })?;
        let inputs = if assignment.inputs.is_empty() {
            options.work_dir.join(NO_INPUTS)
        } else {
            self.folder.join("inputs")
        };
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Ok(vec![
            ("TIDEMILL_OUTPUT".to_owned(), text(self.output())),
            ("TIDEMILL_INPUTS".to_owned(), text(inputs)),
            ("TIDEMILL_WORK_DIR".to_owned(), text(self.scratch())),
            ("TIDEMILL_DATA_DIR".to_owned(), text(data)),
            (crate::process::tree::MARKER.to_owned(), marker.to_owned()),
        ])
    }
}

/// The file in the work folder that `$TIDEMILL_INPUTS` names when there are none.
pub(crate) const NO_INPUTS: &str = "no-inputs.json";

/// Returns the name of an attempt in a path. Ids hold nothing that could leave the folder.
pub(crate) fn name(attempt: &AttemptKey) -> String {
    let instance = &attempt.instance;
    format!(
        "{}.{}.{}.{}.{}",
        instance.run, instance.task, instance.map_index, attempt.try_number, attempt.epoch
    )
}

/// Returns the folder of a DAG file under the DAG folder. Neither `..` nor a link may lead out of it.
pub(crate) fn task_folder(dags_dir: &Path, dag_file: &str) -> Result<PathBuf, Problem> {
    let refuse = |why: String| Problem::Folder { file: dag_file.to_owned(), why };
    let relative = Path::new(dag_file);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(refuse("it leaves the DAG folder".to_owned()));
    }
    let root =
        fs::canonicalize(dags_dir).map_err(|error| refuse(format!("{}: {error}", dags_dir.display())))?;
    let folder = root.join(relative.parent().unwrap_or(Path::new("")));
    let folder =
        fs::canonicalize(&folder).map_err(|error| refuse(format!("{}: {error}", folder.display())))?;
    if !folder.starts_with(&root) {
        return Err(refuse("it leaves the DAG folder through a link".to_owned()));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_runs_in_the_folder_of_its_file_and_never_outside_the_dag_folder() {
        let root = tempfile::tempdir().unwrap();
        let dags = root.path().join("dags");
        fs::create_dir_all(dags.join("team/deep")).unwrap();
        std::os::unix::fs::symlink("/", dags.join("out")).unwrap();
        let dags = fs::canonicalize(dags).unwrap();
        assert_eq!(task_folder(&dags, "a.toml").unwrap(), dags);
        assert_eq!(task_folder(&dags, "team/deep/a.toml").unwrap(), dags.join("team/deep"));
        for file in ["../a.toml", "/etc/a.toml", "team/../../a.toml", "out/etc/a.toml", "missing/a.toml"] {
            let refused = task_folder(&dags, file).unwrap_err().to_string();
            assert!(refused.starts_with("WRK0103"), "{file}: {refused}");
        }
    }
}
