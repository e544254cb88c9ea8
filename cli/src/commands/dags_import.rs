//! `tidemill dags import crontab|airflow`: writes DAG files from what other schedulers run.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    commands::usage,
    error::{CliError, Result},
    import::{
        Imported, Level,
        accept::accept,
        airflow, crontab,
        write::{Scripts, Written},
    },
    output::{Format, FormatArg, Table, print, print_json},
    report::say,
};

/// Converts a crontab or a DAG file of Airflow.
///
/// What cannot be converted is listed with its line, and the exit code is 1 then. Without --out the DAG file goes to
/// stdout.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImportCommand {
    /// Converts a crontab: a DAG for each line that fires.
    Crontab {
        #[command(flatten)]
        args: ImportArgs,
        /// Each line names a user, as in /etc/crontab. By default the place and the lines decide.
        #[arg(long, conflicts_with = "user")]
        system: bool,
        /// No line names a user, as in the output of `crontab -l`.
        #[arg(long)]
        user: bool,
        /// The zone of the machine whose crontab it is.
        #[arg(long, value_name = "ZONE")]
        timezone: Option<String>,
    },
    /// Converts a DAG file of Airflow. It is read as text and never executed.
    Airflow {
        #[command(flatten)]
        args: ImportArgs,
    },
}

/// What is converted, and where the result goes.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The file.
    file: PathBuf,
    /// Write `DAG_ID.toml` files, and the scripts of Python tasks, into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite files that exist.
    #[arg(long, requires = "out")]
    force: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// A file that is to be written.
struct Output {
    path: PathBuf,
    text: String,
}

pub(crate) fn run(command: &ImportCommand) -> Result {
    let (args, mut imported) = match command {
        ImportCommand::Crontab { args, system, user, timezone } => {
            if let Some(zone) = timezone.as_ref().filter(|zone| !is_zone(zone)) {
                return Err(usage(format!("{zone:?} is not an IANA time zone")));
            }
            let is_system = (*system || *user).then_some(*system);
            let options = crontab::Options { is_system, timezone: timezone.clone() };
            (args, crontab::import(&read(&args.file)?, &args.file.to_string_lossy(), &options))
        }
        ImportCommand::Airflow { args } => {
            let name =
                args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let imported = airflow::import(&read(&args.file)?, &name).map_err(|error| {
                CliError::NotImportable { path: args.file.clone(), line: error.line, why: error.why }
            })?;
            (args, imported)
        }
    };
    if args.out.is_none() && imported.dags.len() > 1 && args.format.format == Format::Table {
        return Err(usage(format!(
            "{} holds {} DAGs, each a file of its own: say where with --out DIR",
            args.file.display(),
            imported.dags.len()
        )));
    }
    let scripts = if args.out.is_some() { Scripts::Beside } else { Scripts::Inside };
    let files = accept(&mut imported, scripts);
    let outputs = outputs(&imported, &files, args.out.as_deref());
    if args.out.is_some() {
        write(&outputs, args.force)?;
    }
    show(args, &imported, &files, &outputs)?;
    if imported.dags.is_empty() {
        return Err(CliError::NothingToImport { path: args.file.clone() });
    }
    if imported.has_problems() { Err(CliError::Exit(1)) } else { Ok(()) }
}

fn is_zone(zone: &str) -> bool {
    let file = format!(
        "[dag]\nid = \"x\"\ntimezone = {}\n[[task]]\nid = \"x\"\ncommand = \"x\"\n",
        toml::Value::from(zone)
    );
    !tidemill_engine::definition::load(file.as_bytes(), "x").has_errors()
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|source| CliError::Unreadable { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        CliError::NotImportable { path: path.to_owned(), line, why: "it is not UTF-8".to_owned() }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Returns what is to be written: the DAG files, then the scripts.
fn outputs(imported: &Imported, files: &[Written], out: Option<&Path>) -> Vec<Output> {
    let folder = out.unwrap_or(Path::new(""));
    let dags = imported
        .dags
        .iter()
        .zip(files)
        .map(|(dag, file)| Output { path: folder.join(format!("{}.toml", dag.id)), text: file.text.clone() });
    let scripts = imported.dags.iter().flat_map(|dag| &dag.tasks).filter_map(|task| task.script.as_ref());
    let scripts = scripts.map(|script| Output { path: folder.join(&script.name), text: script.text.clone() });
    if out.is_some() { dags.chain(scripts).collect() } else { dags.collect() }
}

/// Writes all files or none that exists already.
fn write(outputs: &[Output], force: bool) -> Result {
    if let Some(output) = outputs.iter().find(|output| !force && output.path.symlink_metadata().is_ok()) {
        return Err(CliError::FileExists { path: output.path.clone() });
    }
    for output in outputs {
        let failed = |source| CliError::Unwritable { path: output.path.clone(), source };
        if let Some(folder) = output.path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(!force).create(true).truncate(true);
        let mut file = options.open(&output.path).map_err(failed)?;
        file.write_all(output.text.as_bytes()).map_err(failed)?;
    }
    Ok(())
}

fn show(args: &ImportArgs, imported: &Imported, files: &[Written], outputs: &[Output]) -> Result {
    match args.format.format {
        Format::Json => {
            let dags: Vec<_> = imported
                .dags
                .iter()
                .zip(files)
                .zip(outputs)
                .map(|((dag, file), output)| {
                    json!({
                        "dag_id": dag.id,
                        "line": dag.line,
                        "path": args.out.as_ref().map(|_| &output.path),
                        "tasks": dag.tasks.iter().map(|task| &task.id).collect::<Vec<_>>(),
                        "scripts": dag.tasks.iter().filter_map(|task| task.script.as_ref()).map(|script| &script.name).collect::<Vec<_>>(),
                        "toml": if args.out.is_none() { Some(&file.text) } else { None },
                    })
                })
                .collect();
            print_json(&json!({ "path": args.file, "dags": dags, "report": imported.entries }))?;
        }
        Format::Table => {
            for entry in &imported.entries {
                let what = if entry.level == Level::Problem { "problem" } else { "note" };
                let whose: Vec<&str> =
                    [&entry.dag_id, &entry.task_id].into_iter().flatten().map(String::as_str).collect();
                let whose = if whose.is_empty() { String::new() } else { format!(" {}:", whose.join(".")) };
                say(format!("{}:{}: {what}:{whose} {}", args.file.display(), entry.line, entry.message));
            }
            match (&args.out, files) {
                (None, [file]) => print(&file.text)?,
                (None, _) => {}
                (Some(_), _) => {
                    let mut table = Table::new(&["DAG", "LINE", "TASKS", "SCRIPTS", "FILE"]);
                    for (dag, output) in imported.dags.iter().zip(outputs) {
                        let scripts = dag.tasks.iter().filter(|task| task.script.is_some()).count();
                        let (line, tasks) = (dag.line.to_string(), dag.tasks.len().to_string());
                        table.row([
                            dag.id.clone(),
                            line,
                            tasks,
                            scripts.to_string(),
                            output.path.display().to_string(),
                        ]);
                    }
                    if !table.is_empty() {
                        table.print()?;
                    }
                }
            }
        }
    }
    Ok(())
}
