//! One file per command family.

pub(crate) mod accept;
pub(crate) mod assets;
pub(crate) mod backfill;
pub(crate) mod browser;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod connections;
pub(crate) mod dags;
pub(crate) mod dags_file;
pub(crate) mod dags_import;
pub(crate) mod dags_test;
pub(crate) mod db;
pub(crate) mod demo;
pub(crate) mod drift;
pub(crate) mod explain;
pub(crate) mod login;
pub(crate) mod on_server;
pub(crate) mod operator;
pub(crate) mod pools;
pub(crate) mod render;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod secrets;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod signals;
pub(crate) mod standalone;
pub(crate) mod tasks;
pub(crate) mod time;
pub(crate) mod tokens;
pub(crate) mod variables;
pub(crate) mod view;
pub(crate) mod worker;

use std::process::ExitCode;

use crate::{
    args::{Cli, Command, Connection},
    client::{Client, block_on},
    config::{Config, Overrides, process_env},
    error::{CliError, Result},
};

/// Runs a command and returns the exit code of the process.
///
/// # Errors
/// Why it did not do what it was asked to do.
pub(crate) fn run(args: Cli) -> Result<ExitCode> {
    let overrides = args.global.overrides();
    match args.command {
        // Those that another of our processes starts go first: they must not depend on any configuration.
        Command::Guardian(args) => return Ok(operator::guardian(&args)),
        Command::Operator(args) => return Ok(operator::operator(&args)),
        Command::Open(args) => return Ok(browser::run(&args)),
        Command::Standalone(args) => standalone::run(&args, overrides)?,
        Command::Server(args) => server::run(&args, overrides)?,
        Command::Worker(args) => worker::run(&args, overrides)?,
        Command::Dags(command) => dags::run(&command, overrides)?,
        Command::Runs(command) => {
            let client = client(command.connection(), overrides)?;
            block_on(runs::run(&command, &client))?;
        }
        Command::Tasks(command) if command.file().is_some() => command.render_file()?,
        Command::Tasks(command) => {
            let client = client(command.connection(), overrides)?;
            block_on(tasks::run(&command, &client))?;
        }
        Command::Backfill(command) => {
            let client = client(command.connection(), overrides)?;
            block_on(backfill::run(&command, &client))?;
        }
        Command::Pools(command) => {
            let client = client(command.connection(), overrides)?;
            block_on(pools::run(&command, &client))?;
        }
        Command::Assets(command) => {
            let client = client(command.connection(), overrides)?;
            block_on(assets::run(&command, &client))?;
        }
        Command::Variables(variables::VariablesCommand::NewKey { key_file }) => {
            variables::new_key(&key_file)?
        }
        Command::Variables(command) => {
            if let Some(connection) = command.connection() {
                let client = client(connection, overrides)?;
                block_on(variables::run(&command, &client))?;
            }
        }
        Command::Connections(command) => {
            let client = client(command.connection(), overrides)?;
            block_on(connections::run(&command, &client))?;
        }
        Command::Tokens(command) => {
            let client = client(command.connection(), overrides)?;
            block_on(tokens::run(&command, &client))?;
        }
        Command::Login(args) => {
            let config = client_config(&args.connection, overrides)?;
            block_on(login::run(&args, &Client::new(&config)?, &config.data_dir))?;
        }
        Command::Drift(command) => drift::run(&command)?,
        Command::Db(command) => db::run(&command, overrides)?,
        Command::Config(command) => config::run(&command, &Config::load(&overrides, &process_env)?)?,
        Command::Explain(args) => explain::run(&args)?,
        Command::Schema(command) => schema::run(&command)?,
        Command::Completions(args) => completions::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn client_config(connection: &Connection, mut overrides: Overrides) -> Result<Config> {
    connection.apply(&mut overrides);
    Config::load(&overrides, &process_env)
}

fn client(connection: &Connection, overrides: Overrides) -> Result<Client> {
    Client::new(&client_config(connection, overrides)?)
}

/// Ends the program as wrong usage, exit code 2, for what clap cannot see in one option alone.
pub(crate) fn usage(message: String) -> CliError {
    crate::report::say(format!("error: {message}\n\nFor more information, try '--help'."));
    CliError::Exit(2)
}
