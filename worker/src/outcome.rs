//! How a try ended when it is Tidemill that has something to say about it: each with a code and a page.

use tidemill_outbound::CallError;

use crate::outputs::OutputError;

/// A reason for the end of a try that is more than its own exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The program cannot be executed.
    #[error("WRK0101: cannot start {program:?}: {error}")]
    CannotStart { program: String, error: String },
    /// The kernel's limit for arguments and environment.
    #[error(
        "WRK0102: {what} is too large for the system ({bytes} bytes); pass large values through $TIDEMILL_INPUTS"
    )]
    TooLarge { what: String, bytes: usize },
    /// The folder of the DAG file.
    #[error("WRK0103: the folder of {file:?} cannot be used: {why}")]
    Folder { file: String, why: String },
    /// A byte that no argument or variable can hold.
    #[error("WRK0104: {what} holds a NUL byte or has an impossible name")]
    NulByte { what: String },
    /// A file of the try cannot be written.
    #[error("WRK0105: cannot prepare the try: {what}: {error}")]
    Prepare { what: String, error: String },
    /// Its own `timeout`.
    #[error("WRK0106: stopped after its timeout of {timeout}")]
    TimedOut { timeout: String },
    /// A signal that was not ours.
    #[error("WRK0107: killed by signal {signal}{guess}")]
    Signal { signal: i32, guess: &'static str },
    /// The worker stops.
    #[error("WRK0108: stopped because its worker is shutting down")]
    WorkerStops,
    /// No contact with the server.
    #[error("WRK0109: stopped because its worker lost contact with the server")]
    LostContact,
    /// The server gave the lease away.
    #[error("WRK0110: killed because its lease has ended")]
    Fenced,
    /// A person or a rule stopped it.
    #[error("WRK0111: stopped: {why}")]
    Stopped { why: &'static str },
    /// Found by the sweep of a later start.
    #[error("WRK0112: lost: the worker ended without reporting the try")]
    LostByWorker,
    /// Exit code of a shell whose child was killed for memory.
    #[error("WRK0113: exited with {code}: something in it was killed by signal 9 (probably out of memory)")]
    ChildOutOfMemory { code: i32 },
    /// The server answers that it cannot read the result.
    #[error("WRK0114: the server does not take the result of the try: {detail}")]
    ResultRefused { detail: String },
    /// The outputs.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The branch operator.
    #[error("WRK0301: the branch chose {chosen}, which is not directly below it; allowed: {allowed}")]
    Branch { chosen: String, allowed: String },
    /// The notify operator.
    #[error("WRK0302: the webhook {url} could not be called: {error}")]
    Webhook { url: String, error: String },
    /// The notify operator.
    #[error("WRK0303: the webhook {url} answered {status}")]
    WebhookStatus { url: String, status: u16 },
    /// The python operator: its virtual environment.
    #[error("WRK0310: the virtual environment {name} cannot be built:\n{error}")]
    PythonVenv { name: String, error: String },
    /// The python operator: its interpreter.
    #[error("WRK0311: the interpreter {program} cannot be used: {error}")]
    PythonInterpreter { program: String, error: String },
    /// The python operator: what is called is not there.
    #[error("WRK0314: {error}")]
    PythonTarget { error: String },
    /// The python operator: its requirements file.
    #[error("WRK0315: the requirements file {file} cannot be read: {error}")]
    PythonRequirements { file: String, error: String },
    /// A call to the outside.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The http operator: the answer.
    #[error("WRK0320: {why} answers {status}; expected: {expected}")]
    HttpStatus { status: u16, why: String, expected: String },
    /// The http operator: the request.
    #[error("WRK0321: the request cannot be made: {why}")]
    HttpRequest { why: String },
    /// A file for what an operator got.
    #[error("WRK0322: {path} cannot be written: {error}")]
    OutputFile { path: String, error: String },
    /// The sql operator: what the database says.
    #[error("WRK0330: the database refuses: {why}")]
    Sql { why: String },
    /// The sql operator: what is asked of it.
    #[error("WRK0331: the statements cannot be executed: {why}")]
    SqlRequest { why: String },
    /// A sensor cannot judge what it got.
    #[error("WRK0351: `when` cannot judge {what}: {error}")]
    Condition { what: String, error: String },
    /// The file sensor cannot look.
    #[error("WRK0350: cannot look for {path:?}: {error}")]
    FileSensor { path: String, error: String },
    /// An operator ended without a result.
    #[error("WRK0305: the operator ended without a readable result: {error}")]
    Operator { error: String },
}
