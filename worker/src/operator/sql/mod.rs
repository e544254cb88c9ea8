//! `sql`: statements in a SQLite or PostgreSQL database; and `sql_sensor`: whether their answer is what is waited for.
//!
//! Values are bound, never written into a statement. Outputs: `rows` (a list of objects), `row_count`, `value` (the first
//! column of the first row), or `file` and `row_count` where the rows go to a file.

mod postgres;
mod rows;
mod sqlite;

use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};
use tidemill_engine::{
    definition::{SqlSpec, SqlTask, Statement, statements},
    template::AnswerCondition,
};
use tidemill_protocol::worker::Connection;

use self::rows::{Kept, Rows, Written};
use super::{OperatorResult, Out, Surroundings, call, http::Target};
use crate::outcome::Problem;

/// How long a database may take to answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of a statement the log shows.
const SHOWN_CHARS: usize = 200;

/// Where statements go.
enum Database {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// What a statement did.
struct Done {
    /// How many rows it returned.
    rows: u64,
    /// How many rows it changed.
    changed: u64,
    /// Whether it is one that returns rows.
    returns_rows: bool,
}

pub(super) fn execute(task: &SqlTask, around: &Surroundings, out: &mut Out) -> OperatorResult {
    let written = task.output_file.as_deref().map(|path| {
        let target = Target::create(path).map_err(|error| Target::problem(path, &error))?;
        Ok(Written::new(target, path))
    });
    let result = written.transpose().and_then(|written| {
        let mut rows = match written {
            Some(written) => Rows::Written(written),
            None => Rows::Kept(Kept::default()),
        };
        let count = run(&task.spec, task.transaction, around, &mut rows, &mut |line| out.line(line))?;
        rows.outputs(count)
    });
    match result {
        Ok(outputs) => OperatorResult { outputs: outputs.into_iter().collect(), ..OperatorResult::default() },
        Err(problem) => failed(&problem),
    }
}

pub(super) fn poke(
    spec: &SqlSpec,
    when: Option<&AnswerCondition>,
    around: &Surroundings,
    out: &mut Out,
) -> OperatorResult {
    let mut rows = Rows::Kept(Kept::default());
    let outputs = run(spec, true, around, &mut rows, &mut |_| {}).and_then(|count| rows.outputs(count));
    let outputs = match outputs {
        Ok(outputs) => outputs,
        Err(problem) => return failed(&problem),
    };
    if when.is_none() && !is_truthy(outputs.get("value").unwrap_or(&Json::Null)) {
        let value = outputs.get("value").map_or_else(|| "no row".to_owned(), Json::to_string);
        return OperatorResult::not_yet(format!("the query gives {value}"), out);
    }
    super::judge(Json::Object(outputs), when, "the rows", out)
}

/// As in Airflow: nothing, zero, an empty text and `false` are not yet.
fn is_truthy(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !matches!(text.as_str(), "" | "0"),
        Json::Array(items) => !items.is_empty(),
        Json::Object(map) => !map.is_empty(),
    }
}

fn failed(problem: &Problem) -> OperatorResult {
    let is_final = matches!(problem, Problem::SqlRequest { .. } | Problem::Output(_));
    OperatorResult::failed(problem, is_final)
}

/// Executes the statements and returns how many rows the last query returned or, without any, the last statement changed.
fn run(
    spec: &SqlSpec,
    is_transaction: bool,
    around: &Surroundings,
    rows: &mut Rows,
    say: &mut dyn FnMut(&str),
) -> Result<u64, Problem> {
    let script = match (&spec.sql, &spec.sql_file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| Problem::SqlRequest { why: format!("cannot read {file}: {error}") })?,
        (None, None) => return Err(Problem::SqlRequest { why: "there is no statement".to_owned() }),
    };
    let statements = statements(&script);
    check(&statements, &spec.parameters)?;
    call::block_on(async {
        let mut database = open(spec, around, say).await?;
        if is_transaction {
            database.plain("BEGIN").await?;
        }
        let (mut count, mut has_rows) = (0, false);
        for (index, statement) in statements.iter().enumerate() {
            let started = Instant::now();
            let text = shown(statement);
            // Only the rows of the last statement that has any are the answer.
            rows.begin();
            let step = database.execute(statement, &spec.parameters, spec.statement_timeout, rows).await;
            let done = step.map_err(|error| numbered(error, index, statements.len(), &text))?;
            if done.returns_rows || !has_rows {
                count = if done.returns_rows { done.rows } else { done.changed };
            }
            has_rows |= done.returns_rows;
            let (n, what) =
                if done.returns_rows { (done.rows, "returned") } else { (done.changed, "changed") };
            say(&format!("{text}\n  {n} rows {what} in {} ms", started.elapsed().as_millis()));
        }
        if is_transaction {
            database.plain("COMMIT").await?;
        }
        Ok(count)
    })?
}

fn numbered(error: Problem, index: usize, count: usize, text: &str) -> Problem {
    match error {
        Problem::Sql { why } if count > 1 => {
            Problem::Sql { why: format!("statement {} of {count} ({text}): {why}", index + 1) }
        }
        other => other,
    }
}

/// The beginning of a statement on one line, with the names of its parameters.
fn shown(statement: &Statement) -> String {
    let text = statement.fill(|name| format!(":{name}"));
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = text.chars().take(SHOWN_CHARS).collect();
    if text.chars().count() > SHOWN_CHARS {
        short.push('…');
    }
    short
}

fn check(statements: &[Statement], parameters: &Map<String, Json>) -> Result<(), Problem> {
    let wrong = |why: String| Err(Problem::SqlRequest { why });
    if statements.is_empty() {
        return wrong("there is no statement".to_owned());
    }
    for name in statements.iter().flat_map(|statement| &statement.names) {
        if !parameters.contains_key(name) {
            return wrong(format!("a statement names `:{name}`, which `parameters` does not give"));
        }
    }
    Ok(())
}

async fn open(spec: &SqlSpec, around: &Surroundings, say: &mut dyn FnMut(&str)) -> Result<Database, Problem> {
    if let Some(path) = &spec.database {
        say(&format!("SQLite, {}", path.split('?').next().unwrap_or_default()));
        return sqlite::Sqlite::open(path).await.map(Database::Sqlite);
    }
    let connection = spec.connection.as_ref().and_then(|id| around.connections.get(id.as_str()));
    let Some(connection) = connection else {
        return Err(Problem::SqlRequest { why: "there is neither a connection nor a database".to_owned() });
    };
    match connection.kind.to_ascii_lowercase().as_str() {
        "sqlite" | "sqlite3" => {
            let path = sqlite_path(connection).ok_or_else(|| Problem::SqlRequest {
                why: format!("the connection {} names no file", connection.id),
            })?;
            say(&format!("SQLite, {path}, by the connection {}", connection.id));
            sqlite::Sqlite::open(&path).await.map(Database::Sqlite)
        }
        "postgres" | "postgresql" => {
            say(&format!("PostgreSQL, by the connection {}", connection.id));
            let timeout = spec.statement_timeout;
            let opening = postgres::Postgres::open(connection, timeout);
            match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
                Ok(opened) => opened.map(Database::Postgres),
                Err(_) => Err(Problem::Sql { why: "the database does not answer".to_owned() }),
            }
        }
        other => Err(Problem::SqlRequest {
            why: format!(
                "the connection {} is of the kind {other:?}; `sql` knows sqlite and postgres",
                connection.id
            ),
        }),
    }
}

/// Airflow keeps the path in the host; a URI has it behind the host.
fn sqlite_path(connection: &Connection) -> Option<String> {
    let host = connection.host.as_deref().unwrap_or_default();
    let schema = connection.schema.as_deref().unwrap_or_default();
    let path = match (host, schema) {
        ("", schema) => schema.to_owned(),
        (host, "") => host.to_owned(),
        (host, schema) => format!("{host}/{schema}"),
    };
    (!path.is_empty()).then_some(path)
}

impl Database {
    /// Executes one of the statements around a transaction.
    async fn plain(&mut self, sql: &'static str) -> Result<(), Problem> {
        match self {
            Self::Sqlite(database) => database.plain(sql).await,
            Self::Postgres(database) => database.plain(sql).await,
        }
    }

    async fn execute(
        &mut self,
        statement: &Statement,
        parameters: &Map<String, Json>,
        timeout: Option<Duration>,
        rows: &mut Rows,
    ) -> Result<Done, Problem> {
        match self {
            Self::Sqlite(database) => {
                let running = database.execute(statement, parameters, rows);
                match timeout {
                    // What it has begun is rolled back: this process ends now.
                    Some(longest) => match tokio::time::timeout(longest, running).await {
                        Ok(done) => done,
                        Err(_) => Err(Problem::Sql { why: "stopped by its statement_timeout".to_owned() }),
                    },
                    None => running.await,
                }
            }
            // The server stops it.
            Self::Postgres(database) => database.execute(statement, parameters, rows).await,
        }
    }
}

/// Returns what a database says, on one line.
fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(found) => {
            let code = found.code().map(|code| format!(" ({code})")).unwrap_or_default();
            format!("{}{code}", found.message())
        }
        other => super::chain(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_yet_is_as_in_airflow() {
        for (value, expected) in [
            (json!(null), false),
            (json!(0), false),
            (json!(0.0), false),
            (json!("0"), false),
            (json!(""), false),
            (json!(false), false),
            (json!(1), true),
            (json!("no"), true),
            (json!(-0.5), true),
        ] {
            assert_eq!(is_truthy(&value), expected, "{value}");
        }
    }
}
