//! `tidemill schema dag`.

use tidemill_engine::definition::json_schema;

use crate::{error::Result, output::print_json};

/// Prints JSON Schemas for editors.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SchemaCommand {
    /// Prints the JSON Schema (draft 7) of DAG files, for Taplo and Even Better TOML.
    Dag,
}

pub(crate) fn run(command: &SchemaCommand) -> Result {
    match command {
        SchemaCommand::Dag => print_json(&json_schema())?,
    }
    Ok(())
}
