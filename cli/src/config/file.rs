//! Reads `tidemill.toml` and reports everything that is wrong with it at once, with places.

use std::{collections::BTreeMap, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys::{self, Key, Kind},
    value::{self, Value},
};
use crate::error::ConfigProblem;

/// The values of a file by the path of their key.
pub(crate) type Values = BTreeMap<&'static str, Value>;

/// Reads the text of a configuration file; relative paths are taken from `folder`.
///
/// # Errors
/// Every problem, in the order of the file.
pub(crate) fn read(text: &str, folder: &Path, has_data_dir: bool) -> Result<Values, Vec<ConfigProblem>> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            return Err(vec![ConfigProblem {
                code: "CFG0002",
                message: error.message().to_owned(),
                help: Some("The file is TOML: `key = value` lines and `[section]` headings.".to_owned()),
                span: error.span(),
            }]);
        }
    };
    let mut reader = Reader { folder, has_data_dir, values: Values::new(), problems: Vec::new() };
    for (name, value) in table.get_ref() {
        let word: &str = name.get_ref();
        if let Some(key) = keys::find(word) {
            reader.value(key, value);
        } else if keys::sections().contains(&word) {
            reader.section(word, value);
        } else {
            reader.unknown("", word, name.span());
        }
    }
    reader.problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    if reader.problems.is_empty() { Ok(reader.values) } else { Err(reader.problems) }
}

struct Reader<'a> {
    folder: &'a Path,
    has_data_dir: bool,
    values: Values,
    problems: Vec<ConfigProblem>,
}

impl Reader<'_> {
    fn section(&mut self, section: &str, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(&format!("`{section}` is a section: write `[{section}]`"), None, value.span());
            return;
        };
        for (name, value) in table {
            let word: &str = name.get_ref();
            match keys::find(&format!("{section}.{word}")) {
                Some(key) => self.value(key, value),
                None => self.unknown(section, word, name.span()),
            }
        }
    }

    fn unknown(&mut self, section: &str, word: &str, span: Range<usize>) {
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        let here: Vec<&str> = keys::KEYS.iter().filter_map(|key| key.path.strip_prefix(&prefix)).collect();
        let near = if section.is_empty() {
            keys::nearest(word, here.into_iter().filter(|path| !path.contains('.')).chain(keys::sections()))
        } else {
            keys::nearest(word, here)
        };
        // The same key in another section, or without one.
        let elsewhere = keys::KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(word));
        let help = match (near, elsewhere) {
            (Some(near), _) => format!("Did you mean `{near}`?"),
            (None, Some(key)) => format!("The key is `{}`.", key.path),
            (None, None) => "`tidemill config show` lists every key.".to_owned(),
        };
        let place = if section.is_empty() { String::new() } else { format!(" in `[{section}]`") };
        self.problems.push(ConfigProblem {
            code: "CFG0003",
            message: format!("unknown key `{word}`{place}"),
            help: Some(help),
            span: Some(span),
        });
    }

    fn wrong(&mut self, message: &str, help: Option<String>, span: Range<usize>) {
        self.problems.push(ConfigProblem {
            code: "CFG0004",
            message: message.to_owned(),
            help,
            span: Some(span),
        });
    }

    fn value(&mut self, key: &'static Key, value: &Spanned<DeValue<'_>>) {
        if key.path == "data_dir" && self.has_data_dir {
            let help = "Only a file that --config names may say where the data directory is.";
            self.wrong(
                "`data_dir` cannot stand in the data directory's own file",
                Some(help.to_owned()),
                value.span(),
            );
            return;
        }
        let read = match (key.kind, value.get_ref()) {
            (Kind::Words | Kind::Places, DeValue::Array(items)) => {
                let words = items.iter().map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    _ => Err(item.span()),
                });
                match words.collect::<Result<Vec<_>, _>>() {
                    Ok(words) => value::words_of(key.kind, words),
                    Err(span) => return self.wrong_type(key, span),
                }
            }
            (Kind::Map, DeValue::Table(table)) => {
                let mut map = BTreeMap::new();
                for (name, item) in table {
                    let DeValue::String(text) = item.get_ref() else {
                        return self.wrong_type(key, item.span());
                    };
                    map.insert(name.get_ref().to_string(), text.to_string());
                }
                Ok(Value::Map(map))
            }
            (Kind::Words | Kind::Places | Kind::Map, _) => return self.wrong_type(key, value.span()),
            (kind @ Kind::Integer { .. }, DeValue::Integer(number)) => {
                value::from_text(kind, &number.to_string())
            }
            (kind @ (Kind::Duration | Kind::Retention), DeValue::Integer(number)) => {
                value::from_text(kind, &number.to_string())
            }
            (Kind::Integer { .. }, _) => return self.wrong_type(key, value.span()),
            (Kind::Path, DeValue::String(text)) if !text.is_empty() => {
                Ok(Value::Text(self.folder.join(text.as_ref()).to_string_lossy().into_owned()))
            }
            (kind, DeValue::String(text)) => value::from_text(kind, text),
            _ => return self.wrong_type(key, value.span()),
        };
        match read {
            Ok(read) => {
                self.values.insert(key.path, read);
            }
            Err(why) => {
                let help = format!("`{}` takes {}.", key.path, key.kind.describe());
                self.wrong(&format!("`{}`: {why}", key.path), Some(help), value.span());
            }
        }
    }

    fn wrong_type(&mut self, key: &Key, span: Range<usize>) {
        self.wrong(&format!("`{}` must be {}", key.path, key.kind.describe()), None, span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read(text, Path::new("/etc"), true)
            .unwrap_err()
            .into_iter()
            .map(|p| {
                let place = p.span.clone().and_then(|span| text.get(span)).unwrap_or_default();
                format!("{} {place:?} {} {}", p.code, p.message, p.help.unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn values_are_read_and_paths_are_taken_from_the_folder_of_the_file() {
        let text = "dags_dir = \"dags\"\n[worker]\nslots = 3\ngrace = 5\nenv = { A = \"1\" }\n[retention]\nruns = \"forever\"\n";
        let values = read(text, Path::new("/etc"), true).unwrap();
        assert_eq!(values["dags_dir"].text(), "/etc/dags");
        assert_eq!(values["worker.slots"], Value::Integer(3));
        assert_eq!(values["worker.grace"].json(), "5s");
        assert_eq!(values["worker.env"].json(), serde_json::json!({ "A": "1" }));
        assert_eq!(values["retention.runs"], Value::Duration(None));
    }

    #[test]
    fn every_problem_is_reported_with_its_place_and_a_suggestion() {
        let found = problems(
            "dag_dir = \"x\"\ndata_dir = \"y\"\nlisten = \"x\"\n[server]\nlisten = \"x\"\nport = 1\n[worker]\nslot = 3\nslots = 0\nqueues = [1]\nenv = { A = 1 }\n[serve]\n",
        );
        assert_eq!(
            found,
            [
                "CFG0003 \"dag_dir\" unknown key `dag_dir` Did you mean `dags_dir`?",
                "CFG0004 \"\\\"y\\\"\" `data_dir` cannot stand in the data directory's own file Only a file that --config names may say where the data directory is.",
                "CFG0003 \"listen\" unknown key `listen` The key is `server.listen`.",
                "CFG0004 \"\\\"x\\\"\" `server.listen`: \"x\" is not an address and port such as \"127.0.0.1:7373\" `server.listen` takes an address and port such as \"127.0.0.1:7373\".",
                "CFG0003 \"port\" unknown key `port` in `[server]` `tidemill config show` lists every key.",
                "CFG0003 \"slot\" unknown key `slot` in `[worker]` Did you mean `slots`?",
                "CFG0004 \"0\" `worker.slots`: \"0\" is not a whole number from 1 to 10000 `worker.slots` takes a whole number from 1 to 10000.",
                "CFG0004 \"1\" `worker.queues` must be a list of strings ",
                "CFG0004 \"1\" `worker.env` must be a table of strings ",
                "CFG0003 \"serve\" unknown key `serve` Did you mean `server`?",
            ]
        );
    }

    #[test]
    fn a_file_that_is_not_toml_is_one_problem() {
        assert!(problems("a = = 1\n")[0].starts_with("CFG0002"));
    }
}
