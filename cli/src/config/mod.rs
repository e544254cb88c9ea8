//! The configuration: command line over environment over file over default. The only reader of the environment.

pub(crate) mod file;
pub(crate) mod keys;
pub(crate) mod value;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tidemill_outbound::Allow;
use tidemill_scheduler::Definitions;

use self::{
    file::Values,
    keys::{KEYS, Key, Kind},
    value::Value,
};
use crate::error::{CliError, ConfigProblem, Result};

/// The name of the file in the data directory.
pub(crate) const FILE_NAME: &str = "tidemill.toml";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File,
    Environment,
    CommandLine,
}

impl Origin {
    /// Returns the word for `config show`.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::CommandLine => "command line",
        }
    }
}

/// What the command line says, by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    values: Vec<(&'static str, String)>,
    /// Secrets that stand in a file, by key.
    files: Vec<(&'static str, PathBuf)>,
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
}

impl Overrides {
    /// Adds a value where the option was given.
    pub(crate) fn set(&mut self, path: &'static str, value: Option<impl ToString>) {
        self.values.extend(value.map(|value| (path, value.to_string())));
    }

    /// Adds a secret that stands in a file, where the option was given.
    pub(crate) fn set_file(&mut self, path: &'static str, file: Option<&PathBuf>) {
        self.files.extend(file.map(|file| (path, file.clone())));
    }

    /// Whether the command line says something about a key.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.values.iter().any(|(known, _)| *known == path)
    }
}

/// The configuration of this invocation.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    values: BTreeMap<&'static str, (Value, Origin)>,
}

/// The environment as the reader sees it; tests bring their own.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns a variable of the process; one that is not UTF-8 counts as absent.
pub(crate) fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns what the environment defines of variables and connections: `TIDEMILL_VAR_…`, `TIDEMILL_CONN_…`. A variable
/// of the process that is not UTF-8 counts as absent.
///
/// # Errors
/// CFG0320.
pub(crate) fn process_definitions() -> Result<Definitions> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Definitions::read(std::env::vars_os().filter_map(text)).map_err(CliError::Definition)
}

/// Arms the place where a kill test stops this process: `TIDEMILL_FAILPOINT=point:visits`. Only the libraries of a
/// test build (their feature `failpoints`) have such places; in any other this does nothing. A worker that lives on
/// gets its orders from the file `TIDEMILL_FAILPOINT_ORDERS`.
pub(crate) fn arm_failpoint() {
    if let Some(orders) = process_env("TIDEMILL_FAILPOINT_ORDERS") {
        tidemill_worker::failpoint::obey(Path::new(&orders));
    }
    let Some(text) = process_env("TIDEMILL_FAILPOINT") else { return };
    let (point, visits) = text.split_once(':').unwrap_or((&text, "1"));
    let visits = visits.parse().unwrap_or(1);
    if tidemill_worker::failpoint::POINTS.contains(&point) {
        tidemill_worker::failpoint::arm(point, visits);
    } else {
        tidemill_scheduler::arm_failpoint(point, visits);
    }
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// CFG0001 to CFG0005.
    pub(crate) fn load(overrides: &Overrides, env: Env<'_>) -> Result<Self> {
        let given = given(overrides, env)?;
        let named = overrides.config.clone().or_else(|| env("TIDEMILL_CONFIG").map(PathBuf::from));
        let given_dir = given.get("data_dir").map(|(value, _)| value.path());
        let default_dir = default_data_dir(env);
        let beside = given_dir.unwrap_or_else(|| default_dir.clone()).join(FILE_NAME);
        let file = named.clone().or_else(|| beside.is_file().then_some(beside));
        let mut values: BTreeMap<_, _> = KEYS
            .iter()
            .filter_map(|key| {
                let default = value::from_text(key.kind, key.default).ok()?;
                (!key.default.is_empty()).then_some((key.path, (default, Origin::Default)))
            })
            .collect();
        if let Some(path) = &file {
            let from_file = read_file(path, named.is_none())?;
            values.extend(from_file.into_iter().map(|(path, value)| (path, (value, Origin::File))));
        }
        values.extend(given);
        let data_dir = values.get("data_dir").map_or(default_dir, |(value, _)| value.path());
        let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
        Ok(Self { file, data_dir, values })
    }

    /// Returns the value of a key with its origin, where it has one.
    pub(crate) fn get(&self, path: &str) -> Option<(&Value, &Origin)> {
        self.values.get(path).map(|(value, origin)| (value, origin))
    }

    /// Returns CFG0005 about the value of a key: wrong usage where it stood on the command line.
    pub(crate) fn bad(&self, path: &str, name: &str, why: String) -> CliError {
        self.blame(path, CliError::BadSetting { name: name.to_owned(), why })
    }

    /// Returns an error about the value of a key: wrong usage where it stood on the command line.
    pub(crate) fn blame(&self, path: &str, error: CliError) -> CliError {
        match self.get(path) {
            Some((_, Origin::CommandLine)) => CliError::Usage(Box::new(error)),
            _ => error,
        }
    }

    /// Returns the text of a key.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.get(path).map(|(value, _)| value.text())
    }

    /// Returns a duration that has a default.
    pub(crate) fn duration(&self, path: &str) -> Option<Duration> {
        match self.get(path) {
            Some((Value::Duration(length), _)) => *length,
            _ => None,
        }
    }

    /// Returns a whole number.
    pub(crate) fn integer(&self, path: &str) -> Option<u64> {
        match self.get(path) {
            Some((Value::Integer(number), _)) => Some(*number),
            _ => None,
        }
    }

    /// Returns a list of words.
    pub(crate) fn words(&self, path: &str) -> Vec<String> {
        self.get(path).map(|(value, _)| value.words()).unwrap_or_default()
    }

    /// Returns what may be called although it is not public.
    pub(crate) fn outbound(&self) -> Allow {
        // The words were checked when they were read.
        Allow::read(&self.words("outbound.allow")).unwrap_or_default()
    }

    /// Returns a table of text.
    pub(crate) fn map(&self, path: &str) -> BTreeMap<String, String> {
        match self.get(path) {
            Some((Value::Map(map), _)) => map.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Returns the file of the keys of variables and connections, absolute.
    pub(crate) fn secret_key_file(&self) -> PathBuf {
        let path = self.text("server.secret_key_file").map(PathBuf::from);
        path.map_or_else(
            || self.data_dir.join("secret.key"),
            |path| std::path::absolute(&path).unwrap_or(path),
        )
    }

    /// Returns the DAG folder, absolute.
    pub(crate) fn dags_dir(&self) -> PathBuf {
        let path = PathBuf::from(self.text("dags_dir").unwrap_or("dags"));
        std::path::absolute(&path).unwrap_or(path)
    }
}

/// Returns where data are kept when nobody says so: the same place for every command on this host.
pub(crate) fn default_data_dir(env: Env<'_>) -> PathBuf {
    match (env("XDG_DATA_HOME").filter(|path| Path::new(path).is_absolute()), env("HOME")) {
        (Some(data), _) => PathBuf::from(data).join("tidemill"),
        (None, Some(home)) => PathBuf::from(home).join(".local/share/tidemill"),
        (None, None) => PathBuf::from("tidemill-data"),
    }
}

/// Returns what the environment and, over it, the command line say.
fn given(overrides: &Overrides, env: Env<'_>) -> Result<BTreeMap<&'static str, (Value, Origin)>> {
    let mut given: BTreeMap<&'static str, (Value, Origin)> = BTreeMap::new();
    for key in KEYS {
        let Some(name) = key.env else { continue };
        if let Some(text) = env(name) {
            given.insert(key.path, (read(key, name, &text)?, Origin::Environment));
        } else if key.kind == Kind::Secret {
            let name = format!("{name}_FILE");
            if let Some(file) = env(&name) {
                let value = read(key, &name, &secret_of(&name, Path::new(&file))?)?;
                given.insert(key.path, (value, Origin::Environment));
            }
        }
    }
    let option = |path: &str| format!("--{}", path.rsplit('.').next().unwrap_or(path).replace('_', "-"));
    let wrong = |error| CliError::Usage(Box::new(error));
    for (path, text) in &overrides.values {
        if let Some(key) = keys::find(path) {
            let value = read(key, &option(path), text).map_err(wrong)?;
            given.insert(key.path, (value, Origin::CommandLine));
        }
    }
    for (path, file) in &overrides.files {
        if let Some(key) = keys::find(path) {
            let name = format!("{}-file", option(path));
            let value = secret_of(&name, file).and_then(|text| read(key, &name, &text)).map_err(wrong)?;
            given.insert(key.path, (value, Origin::CommandLine));
        }
    }
    Ok(given)
}

/// Reads the file of a secret: what editors and `echo` put at its end is no part of it.
fn secret_of(name: &str, file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).map_err(|error| CliError::BadSetting {
        name: name.to_owned(),
        why: format!("cannot read {}: {error}", file.display()),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn read(key: &Key, name: &str, text: &str) -> Result<Value> {
    let shown = |why: String| if key.kind == Kind::Secret { "it is empty".to_owned() } else { why };
    value::from_text(key.kind, text)
        .map_err(|why| CliError::BadSetting { name: name.to_owned(), why: shown(why) })
}

fn read_file(path: &Path, is_in_data_dir: bool) -> Result<Values> {
    let source = |source| CliError::ConfigUnreadable { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(source)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let at = error.utf8_error().valid_up_to();
        CliError::Config {
            path: path.to_owned(),
            text: Arc::from(text),
            problems: vec![ConfigProblem {
                code: "CFG0002",
                message: "the file is not UTF-8".to_owned(),
                help: None,
                span: Some(at..at + 1),
            }],
        }
    })?;
    let folder =
        std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    file::read(&text, &folder, is_in_data_dir).map_err(|problems| CliError::Config {
        path: path.to_owned(),
        text: Arc::from(text.as_str()),
        problems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_environment_over_the_file_over_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        std::fs::write(&path, "[server]\nlisten = \"127.0.0.1:1\"\n[worker]\nslots = 1\ngrace = \"1s\"\n")
            .unwrap();
        let env = |name: &str| match name {
            "TIDEMILL_SLOTS" => Some("2".to_owned()),
            "TIDEMILL_GRACE" => Some("2s".to_owned()),
            "HOME" => Some("/home/x".to_owned()),
            _ => None,
        };
        let mut overrides = Overrides { config: Some(path), ..Overrides::default() };
        overrides.set("worker.grace", Some("3s"));
        overrides.set("worker.drain", None::<String>);
        let config = Config::load(&overrides, &env).unwrap();
        assert_eq!(config.text("server.listen"), Some("127.0.0.1:1"));
        assert_eq!(config.integer("worker.slots"), Some(2));
        assert_eq!(config.duration("worker.grace"), Some(Duration::from_secs(3)));
        assert_eq!(config.duration("worker.drain"), Some(Duration::ZERO));
        assert_eq!(config.data_dir, Path::new("/home/x/.local/share/tidemill"));
    }

    #[test]
    fn a_secret_is_not_part_of_its_error() {
        let env = |name: &str| (name == "TIDEMILL_SLOTS").then(|| "many".to_owned());
        let error = Config::load(&Overrides::default(), &env).unwrap_err();
        assert_eq!(error.code(), "CFG0005");
        assert!(error.to_string().contains("TIDEMILL_SLOTS"));
        let env = |name: &str| (name == "TIDEMILL_TOKEN").then(String::new);
        assert!(Config::load(&Overrides::default(), &env).unwrap_err().to_string().contains("it is empty"));
    }

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (token, other) = (file("token", "hush\n"), file("other", "more hush"));
        let missing = folder.path().join("missing");
        let env = |name: &str| match name {
            "TIDEMILL_TOKEN_FILE" => Some(token.display().to_string()),
            "TIDEMILL_JOIN_TOKEN" => Some("plain".to_owned()),
            "TIDEMILL_JOIN_TOKEN_FILE" => Some(missing.display().to_string()),
            _ => None,
        };
        let mut overrides = Overrides::default();
        let config = Config::load(&overrides, &env).unwrap();
        assert_eq!(config.text("client.token"), Some("hush"));
        assert_eq!(config.text("worker.join_token"), Some("plain"), "the variable wins");
        overrides.set_file("client.token", Some(&other));
        assert_eq!(Config::load(&overrides, &env).unwrap().text("client.token"), Some("more hush"));
        overrides.set_file("client.token", Some(&missing));
        let error = Config::load(&overrides, &env).unwrap_err();
        assert_eq!(error.code(), "CFG0005");
        assert!(error.to_string().contains("--token-file"), "{error}");
    }

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            assert!(value::from_text(key.kind, key.default).is_ok(), "{}", key.path);
        }
    }

    #[test]
    fn the_documentation_names_every_key_with_its_default_and_variable() {
        let text = include_str!("../../../docs/configuration.md");
        for key in KEYS {
            let line = text.lines().find(|line| line.starts_with(&format!("| `{}` |", key.path)));
            let line = line.unwrap_or_else(|| panic!("docs/configuration.md lacks {}", key.path));
            assert!(key.env.is_none_or(|name| line.contains(&format!("`{name}`"))), "{line}");
            assert!(line.contains(key.default), "{line}");
        }
        let keys = text.split("\n## ").find(|section| section.starts_with("Keys")).unwrap();
        let rows = keys.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, KEYS.len());
    }
}
