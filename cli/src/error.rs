//! Why a command did not do what it was asked to do, each with its code, and the exit code that follows.

use std::{error::Error as StdError, io, ops::Range, path::PathBuf, sync::Arc};

use tidemill_scheduler::DefinitionError;

/// The result of a command.
pub(crate) type Result<T = (), E = CliError> = std::result::Result<T, E>;

/// A problem in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigProblem {
    /// CFG0002, CFG0003 or CFG0004.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
    /// Where, in bytes.
    pub(crate) span: Option<Range<usize>>,
}

/// Why a command did not do what it was asked to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// CFG0001.
    #[error("cannot read the configuration file {path}", path = path.display())]
    ConfigUnreadable { path: PathBuf, source: io::Error },
    /// CFG0002, CFG0003, CFG0004: everything that is wrong with the file.
    #[error("the configuration file {path} has {count} problem{s}", path = path.display(), count = problems.len(),
        s = if problems.len() == 1 { "" } else { "s" })]
    Config { path: PathBuf, text: Arc<str>, problems: Vec<ConfigProblem> },
    /// CFG0005.
    #[error("the value of {name} cannot be used: {why}")]
    BadSetting { name: String, why: String },
    /// The same error, and what it is about stood on the command line.
    #[error(transparent)]
    Usage(Box<CliError>),
    /// CFG0320.
    #[error(transparent)]
    Definition(DefinitionError),
    /// CFG0101.
    #[error("{address} is in use by {owner}")]
    PortBusy { address: String, owner: String },
    /// CFG0102.
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    /// CFG0103.
    #[error("the data directory {path} is in use by {owner}", path = path.display())]
    DataDirLocked { path: PathBuf, owner: String },
    /// CFG0104.
    #[error("cannot use {path} in the data directory", path = path.display())]
    DataDir { path: PathBuf, source: io::Error },
    /// CFG0105.
    #[error("there is no DAG folder {path}", path = path.display())]
    NoDagsDir { path: PathBuf },
    /// CFG0106.
    #[error("cannot set up the process: {what}")]
    Setup { what: &'static str, source: io::Error },
    /// CFG0107.
    #[error("`standalone` keeps its state in SQLite, and another database is configured: {database}")]
    NotStandalone { database: String },
    /// CFG0201.
    #[error("no server answers at {url}")]
    NoServer { url: String, source: Option<reqwest::Error> },
    /// CFG0202.
    #[error("the answer of {url} cannot be understood: {why}")]
    BadAnswer { url: String, why: String, is_passing: bool },
    /// CFG0203.
    #[error("there is no token for {url}")]
    NoToken { url: String },
    /// CFG0204.
    #[error("{what} did not end within {seconds} s")]
    WaitedTooLong { what: String, seconds: u64 },
    /// CFG0301.
    #[error("there is no error code {code:?}")]
    UnknownCode { code: String, near: Vec<String> },
    /// CFG0302.
    #[error("cannot read {path}", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// CFG0303.
    #[error("cannot write {path}", path = path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    /// CFG0304.
    #[error("cannot write to the standard output")]
    Output(#[from] io::Error),
    /// CFG0305.
    #[error("the demo needs the DAG `{dag}`, which is not in the DAG folder")]
    NoDemo { dag: &'static str },
    /// CFG0321.
    #[error("{path} cannot be used: {why}", path = path.display())]
    NotAnObject { path: PathBuf, why: String },
    /// CFG0322.
    #[error("the variable {name} is secret, so its value is not shown")]
    SecretValue { name: String },
    /// CFG0306.
    #[error("{path}, line {line}, cannot be read: {why}", path = path.display())]
    NotImportable { path: PathBuf, line: usize, why: String },
    /// CFG0307.
    #[error("{path} exists", path = path.display())]
    FileExists { path: PathBuf },
    /// CFG0308.
    #[error("{path} holds nothing that could be converted", path = path.display())]
    NothingToImport { path: PathBuf },
    /// CFG0330.
    #[error("{path} has no task `{task}`", path = path.display())]
    NoSuchTask { path: PathBuf, task: String, tasks: Vec<String> },
    /// The code of another crate, or of the server.
    #[error("{message}")]
    Coded { code: String, message: String, help: Option<String>, causes: Vec<String>, is_passing: bool },
    /// Everything there is to say was said; only the exit code is left.
    #[error("exit code {0}")]
    Exit(u8),
}

impl CliError {
    /// Returns the code of the error's page.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::ConfigUnreadable { .. } => "CFG0001",
            Self::Config { problems, .. } => problems.first().map_or("CFG0002", |problem| problem.code),
            Self::BadSetting { .. } => "CFG0005",
            Self::Usage(error) => error.code(),
            Self::Definition(_) => "CFG0320",
            Self::PortBusy { .. } => "CFG0101",
            Self::Listen { .. } => "CFG0102",
            Self::DataDirLocked { .. } => "CFG0103",
            Self::DataDir { .. } => "CFG0104",
            Self::NoDagsDir { .. } => "CFG0105",
            Self::Setup { .. } => "CFG0106",
            Self::NotStandalone { .. } => "CFG0107",
            Self::NoServer { .. } => "CFG0201",
            Self::BadAnswer { .. } => "CFG0202",
            Self::NoToken { .. } => "CFG0203",
            Self::WaitedTooLong { .. } => "CFG0204",
            Self::UnknownCode { .. } => "CFG0301",
            Self::Unreadable { .. } => "CFG0302",
            Self::Unwritable { .. } => "CFG0303",
            Self::Output(_) => "CFG0304",
            Self::NoDemo { .. } => "CFG0305",
            Self::NotImportable { .. } => "CFG0306",
            Self::FileExists { .. } => "CFG0307",
            Self::NothingToImport { .. } => "CFG0308",
            Self::NotAnObject { .. } => "CFG0321",
            Self::SecretValue { .. } => "CFG0322",
            Self::NoSuchTask { .. } => "CFG0330",
            Self::Coded { code, .. } => code,
            Self::Exit(_) => "",
        }
    }

    /// Returns what to do about it.
    pub(crate) fn help(&self) -> Option<String> {
        let text = match self {
            Self::ConfigUnreadable { .. } => "Check the path given by --config or TIDEMILL_CONFIG.",
            Self::Definition(_) => {
                "Write `kind://login:password@host:port/schema` with every part percent-encoded, or a JSON object."
            }
            Self::PortBusy { .. } => {
                "Stop it, or choose another port with --listen; port 0 takes a free one."
            }
            Self::Listen { .. } => "--listen takes ADDRESS:PORT, for example 127.0.0.1:7373.",
            Self::DataDirLocked { .. } => "Stop it, or give this one a folder of its own with --data-dir.",
            Self::DataDir { .. } => "Check who owns the folder and whether the disk is full.",
            Self::NoDagsDir { .. } => "Make the folder, or name another one with --dags-dir.",
            Self::NotStandalone { .. } => {
                "Start `tidemill server` and `tidemill worker`, or take `server.database` away."
            }
            Self::NoServer { .. } => {
                "Start one with `tidemill standalone`, or say where it is with --url or TIDEMILL_URL."
            }
            Self::BadAnswer { .. } => "Is it a Tidemill server of this version? Check --url.",
            Self::NoToken { .. } => {
                "Give one with --token or TIDEMILL_TOKEN. On the server's host --data-dir finds `admin.token`."
            }
            Self::NoDemo { .. } => "Start it in the repository, or give its folder with --dags-dir.",
            Self::NotAnObject { .. } => {
                "Variables: {\"name\": \"value\"}. Connections: {\"id\": \"kind://login:password@host:port/schema\"}."
            }
            Self::SecretValue { .. } => {
                "A task gets it with `{{ var.name }}`; `tidemill variables set` gives it another value."
            }
            Self::FileExists { .. } => "Choose another folder, or overwrite it with --force.",
            Self::NothingToImport { .. } => "Is it a crontab, or a file that makes an Airflow DAG?",
            Self::UnknownCode { near, .. } if near.is_empty() => "`tidemill explain` lists all codes.",
            Self::UnknownCode { near, .. } => return Some(format!("Did you mean {}?", near.join(" or "))),
            Self::Coded { help, .. } => return help.clone(),
            Self::Usage(error) => return error.help(),
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Returns the causes, outermost first.
    pub(crate) fn causes(&self) -> Vec<String> {
        match self {
            Self::Coded { causes, .. } => causes.clone(),
            Self::Usage(error) => error.causes(),
            other => causes_of(other),
        }
    }

    /// Returns the exit code: 2 for wrong usage, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Exit(code) => *code,
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Whether the server may answer the same request later: nobody was there, or it said that it cannot now.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::NoServer { .. } => true,
            Self::BadAnswer { is_passing, .. } | Self::Coded { is_passing, .. } => *is_passing,
            _ => false,
        }
    }

    /// Wraps an error of another crate of ours.
    pub(crate) fn coded(code: impl Into<String>, error: &dyn StdError, help: Option<String>) -> Self {
        let (code, message, causes) = (code.into(), error.to_string(), causes_of(error));
        Self::Coded { code, message, help, causes, is_passing: false }
    }
}

pub(crate) fn causes_of(error: &dyn StdError) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

impl From<tidemill_store::OpenError> for CliError {
    fn from(error: tidemill_store::OpenError) -> Self {
        Self::coded(error.code(), &error, None)
    }
}

impl From<tidemill_store::ReadError> for CliError {
    fn from(error: tidemill_store::ReadError) -> Self {
        Self::coded(error.code(), &error, None)
    }
}
