//! `tidemill config show|check`.

use crate::{
    config::{
        Config,
        keys::{KEYS, Kind},
    },
    error::Result,
    output::{Format, FormatArg, Table, print_json},
    report::say,
};

/// Shows and checks the configuration.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// Shows every key with its value and where the value comes from. Secrets are not shown.
    Show(FormatArg),
    /// Reads the configuration as a server would, and reports everything that is wrong with it.
    Check,
}

pub(crate) fn run(command: &ConfigCommand, config: &Config) -> Result {
    let file = config.file.as_ref().map(|path| path.display().to_string());
    let ConfigCommand::Show(format) = command else {
        // Loading it was the check: a problem ends the program before this line.
        match file {
            Some(file) => say(format!("{file}: no problems")),
            None => say("no configuration file; every value is a default or from the environment"),
        }
        return Ok(());
    };
    let shown = KEYS.iter().map(|key| {
        let value = match (key.path, config.get(key.path)) {
            ("data_dir", None) => Some((serde_json::json!(config.data_dir), "default")),
            (_, Some((_, origin))) if key.kind == Kind::Secret => {
                Some((serde_json::json!("<secret>"), origin.as_str()))
            }
            (_, Some((value, origin))) => Some((value.json(), origin.as_str())),
            (_, None) => None,
        };
        (key, value)
    });
    match format.format {
        Format::Table => {
            say(format!("configuration file: {}", file.as_deref().unwrap_or("none")));
            let mut table = Table::new(&["KEY", "VALUE", "ORIGIN", "VARIABLE"]);
            for (key, value) in shown {
                let (value, origin) = value.map_or((String::new(), "not set"), |(v, o)| (v.to_string(), o));
                table.row([key.path, &value, origin, key.env.unwrap_or("")]);
            }
            table.print()?;
        }
        Format::Json => {
            let items: Vec<_> = shown
                .map(|(key, value)| {
                    let (value, origin) = value.map_or((serde_json::Value::Null, "not set"), |v| v);
                    serde_json::json!({
                        "key": key.path, "value": value, "origin": origin, "variable": key.env,
                    })
                })
                .collect();
            print_json(&serde_json::json!({ "file": file, "items": items }))?;
        }
    }
    Ok(())
}
