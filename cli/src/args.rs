//! The command line: what every command shares, and the list of commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{
        assets, backfill, browser, completions, config as config_command, connections, dags, db, drift,
        explain, login, operator, pools, runs, schema, server, standalone, tasks, tokens, variables, worker,
    },
    config::Overrides,
    report::Color,
};

/// Runs DAGs of tasks on a schedule: a drift check that retrains, and whatever else is due.
///
/// `tidemill standalone` starts everything on this machine. Data go to stdout, everything else to stderr.
/// Exit codes: 0 done, 1 what was asked for failed or problems were found, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The configuration file [default: tidemill.toml in the data directory] [env: TIDEMILL_CONFIG].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The folder of the database, the logs and `admin.token` [default: $XDG_DATA_HOME/tidemill or
    /// ~/.local/share/tidemill] [env: TIDEMILL_HOME].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What the log on stderr shows: off, error, warn, info, debug, trace, or a filter such as
    /// `info,tidemill_worker=debug` [env: TIDEMILL_LOG].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// When messages are coloured; NO_COLOR is honoured.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

impl Global {
    /// Returns what these options override in the configuration.
    pub(crate) fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        overrides.config.clone_from(&self.config);
        overrides.set("data_dir", self.data_dir.as_ref().map(|path| path.display()));
        overrides.set("log.level", self.log.as_ref());
        overrides
    }
}

/// How a command reaches the server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Connection {
    /// The server [default: the one of the data directory, else http://127.0.0.1:7373] [env: TIDEMILL_URL].
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A bearer token [default: admin.token in the data directory] [env: TIDEMILL_TOKEN].
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// A file that holds the token. Unlike `--token` it does not show in the list of processes
    /// [env: TIDEMILL_TOKEN_FILE].
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Standalone(standalone::StandaloneArgs),
    Server(server::ServerArgs),
    Worker(worker::WorkerArgs),
    #[command(subcommand)]
    Dags(dags::DagsCommand),
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    #[command(subcommand)]
    Tasks(tasks::TasksCommand),
    #[command(subcommand)]
    Backfill(backfill::BackfillCommand),
    #[command(subcommand)]
    Pools(pools::PoolsCommand),
    #[command(subcommand)]
    Assets(assets::AssetsCommand),
    #[command(subcommand)]
    Variables(variables::VariablesCommand),
    #[command(subcommand)]
    Connections(connections::ConnectionsCommand),
    #[command(subcommand)]
    Tokens(tokens::TokensCommand),
    Login(login::LoginArgs),
    #[command(subcommand)]
    Drift(drift::DriftCommand),
    #[command(subcommand)]
    Db(db::DbCommand),
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    Explain(explain::ExplainArgs),
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Guardian(operator::GuardianArgs),
    #[command(hide = true)]
    Operator(operator::OperatorArgs),
    #[command(hide = true)]
    Open(browser::OpenArgs),
}
