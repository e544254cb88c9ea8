//! `tidemill dags check|next`: what needs no server.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use miette::NamedSource;
use serde_json::json;
use tidemill_engine::{
    definition::{Dag, Loaded, Problem, check_assets, load, masked_source},
    timetable::{Slot, Timetable},
};
use tidemill_scheduler::look_beside;

use crate::{
    error::{CliError, Result},
    output::{Format, Table, instant, print_json},
    report::{Shown, render, say},
};

/// A DAG file that was read, with everything that is wrong with it.
struct Checked {
    path: String,
    text: String,
    loaded: Loaded,
}

/// Returns the DAG files that a path means: the file itself, or every `*.toml` below a folder.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |source| CliError::Unreadable { path: path.to_owned(), source };
    if !path.metadata().map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            // Links are followed for files only: a link to a folder above would never end.
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.extend((!is_hidden).then(|| entry.path()));
            } else if !is_hidden && entry.path().extension().is_some_and(|e| e == "toml") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Checked> {
    let bytes =
        std::fs::read(path).map_err(|source| CliError::Unreadable { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    let mut loaded = load(&bytes, &name);
    if let Some(dag) = &loaded.dag {
        let folder = path.parent().unwrap_or(Path::new(""));
        loaded.problems.extend(loaded.outside.missing(&|script| look_beside(folder, script)));
        loaded.problems.extend(loaded.outside.dates(dag, None, Utc::now()));
        loaded.problems.sort_by_key(Problem::place);
    }
    Ok(Checked { path: name, text: String::from_utf8_lossy(&bytes).into_owned(), loaded })
}

/// Loads a file that must be a valid DAG; its problems are shown.
pub(crate) fn load_valid(path: &Path) -> Result<(Dag, String)> {
    let checked = read(path)?;
    match checked.loaded.dag {
        Some(dag) => Ok((dag, checked.text)),
        None => {
            show(&checked);
            Err(CliError::Exit(1))
        }
    }
}

/// The same without a word about one that is not valid.
pub(crate) fn load_quietly(path: &Path) -> Result<(Dag, String)> {
    let checked = read(path)?;
    checked.loaded.dag.map(|dag| (dag, checked.text)).ok_or(CliError::Exit(1))
}

/// Whether a valid file below a folder defines a DAG.
pub(crate) fn has_dag(folder: &Path, dag_id: &str) -> Result<bool> {
    for file in files(folder)? {
        if read(&file)?.loaded.dag.is_some_and(|dag| dag.id.as_str() == dag_id) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn show(checked: &Checked) {
    // What is warned of as a secret is not printed once more.
    let source = masked_source(&checked.text, &checked.loaded.problems);
    for problem in &checked.loaded.problems {
        let severity = if problem.is_error() { miette::Severity::Error } else { miette::Severity::Warning };
        let mut help: Vec<String> = problem.help.iter().cloned().collect();
        if let Some(suggestion) = &problem.suggestion {
            help.push(format!("did you mean `{suggestion}`?"));
        }
        // A file that is not UTF-8 has other places in its repaired text.
        let fits = |problem: &Problem| problem.spans.iter().all(|s| s.bytes.end <= checked.text.len());
        let labels = if fits(problem) {
            problem.spans.iter().map(|span| (span.bytes.clone(), span.label.clone())).collect()
        } else {
            Vec::new()
        };
        let shown = Shown {
            code: problem.code.as_str(),
            severity,
            message: problem.message.clone(),
            help: (!help.is_empty()).then(|| help.join("; ")),
            labels,
            source: Some(NamedSource::new(&checked.path, source.clone())),
        };
        say(render(&shown).trim_end());
    }
}

/// DAG files that were read together.
pub(crate) struct Files(Vec<Checked>);

/// Reads DAG files and checks them, each and together.
pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Files> {
    let mut all = Vec::new();
    for path in paths {
        for file in files(path)? {
            all.push(read(&file)?);
        }
    }
    // What is not there is worth a word only where everything is.
    check_together(&mut all, paths.iter().any(|path| path.is_dir()));
    Ok(Files(all))
}

impl Files {
    /// Returns every DAG that can be used, with what is wrong with its file.
    pub(crate) fn dags(&mut self) -> impl Iterator<Item = (&Dag, &mut Vec<Problem>)> {
        self.0.iter_mut().filter_map(|checked| {
            let Loaded { dag, problems, .. } = &mut checked.loaded;
            Some((dag.as_ref()?, problems))
        })
    }

    /// Prints everything that is wrong. The exit code is 1 when there is an error.
    pub(crate) fn print(&self, format: Format) -> Result {
        let all = &self.0;
        match format {
            Format::Json => {
                let files: Vec<_> = all
                    .iter()
                    .map(|checked| {
                        json!({
                            "path": checked.path,
                            "dag_id": checked.loaded.dag_id,
                            "problems": checked.loaded.problems,
                        })
                    })
                    .collect();
                print_json(&json!({ "files": files }))?;
            }
            Format::Table => {
                let mut table = Table::new(&["FILE", "DAG", "ERRORS", "WARNINGS"]);
                for checked in all {
                    show(checked);
                    let errors = checked.loaded.problems.iter().filter(|p| p.is_error()).count();
                    let warnings = checked.loaded.problems.len() - errors;
                    let dag = checked.loaded.dag_id.clone().unwrap_or_else(|| "-".to_owned());
                    table.row([checked.path.clone(), dag, errors.to_string(), warnings.to_string()]);
                }
                if table.is_empty() {
                    say("no DAG files were found");
                } else {
                    table.print()?;
                }
            }
        }
        if all.iter().any(|checked| checked.loaded.has_errors()) { Err(CliError::Exit(1)) } else { Ok(()) }
    }
}

/// Adds what the files say together.
fn check_together(all: &mut [Checked], is_whole: bool) {
    let loaded: Vec<&Loaded> = all.iter().map(|checked| &checked.loaded).collect();
    for (index, problem) in check_assets(&loaded, is_whole) {
        if let Some(checked) = all.get_mut(index) {
            let problems = &mut checked.loaded.problems;
            let place = problems.partition_point(|other| other.place() <= problem.place());
            problems.insert(place, problem);
        }
    }
}

/// Loads the source of a DAG that a server gave.
pub(crate) fn load_source(dag_id: &str, source: &str) -> Result<Dag> {
    load(source.as_bytes(), dag_id).dag.ok_or_else(|| CliError::BadAnswer {
        is_passing: false,
        url: dag_id.to_owned(),
        why: "the DAG's source does not load with this version".to_owned(),
    })
}

/// Prints the slots whose logical date is at or after `from`.
pub(crate) fn next(dag: &Dag, from: DateTime<Utc>, count: usize, format: Format) -> Result {
    // A DAG that was loaded has a schedule that was checked.
    let timetable = Timetable::new(dag).map_err(|error| CliError::BadSetting {
        name: "the schedule".to_owned(),
        why: format!("{error}. {}", error.help()),
    })?;
    let timetable = timetable.first_seen(from);
    let slots: Vec<Slot> = timetable.from_logical_date(from).take(count).collect();
    match format {
        Format::Json => {
            let items: Vec<_> = slots
                .iter()
                .map(|slot| {
                    json!({
                        "logical_date": instant(slot.logical_date),
                        "data_interval_start": instant(slot.data_interval_start),
                        "data_interval_end": instant(slot.data_interval_end),
                        "run_after": instant(slot.run_after),
                    })
                })
                .collect();
            print_json(&items)?;
        }
        Format::Table => {
            say(format!("{}: {}", dag.id, timetable.describe()));
            let mut table =
                Table::new(&["LOGICAL DATE", "DATA INTERVAL START", "DATA INTERVAL END", "RUN AFTER"]);
            for slot in &slots {
                table.row(
                    [slot.logical_date, slot.data_interval_start, slot.data_interval_end, slot.run_after]
                        .map(instant),
                );
            }
            table.print()?;
        }
    }
    Ok(())
}
