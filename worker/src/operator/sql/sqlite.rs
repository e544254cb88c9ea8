//! Statements in a SQLite file.

use std::{str::FromStr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::TryStreamExt;
use serde_json::{Map, Value as Json};
use sqlx::Arguments as _;
use sqlx::{
    AssertSqlSafe, Column, Connection as _, Either, Executor, Row, SqliteConnection, TypeInfo, ValueRef,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow},
};
use tidemill_engine::definition::Statement;

use super::{Done, Rows, said};
use crate::outcome::Problem;

/// How long another process may hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// An open file.
pub(super) struct Sqlite(SqliteConnection);

impl Sqlite {
    /// Opens a file: a path, or `sqlite:` with a path and options. It is not made unless the options say `mode=rwc`.
    pub(super) async fn open(path: &str) -> Result<Self, Problem> {
        let options = match path.starts_with("sqlite:") {
            true => SqliteConnectOptions::from_str(path)
                .map_err(|error| Problem::SqlRequest { why: said(&error) })?,
            false => SqliteConnectOptions::new().filename(path),
        };
        let options = options.busy_timeout(BUSY_TIMEOUT);
        let opened = SqliteConnection::connect_with(&options).await;
        let shown = path.split('?').next().unwrap_or_default();
        opened
            .map(Self)
            .map_err(|error| Problem::Sql { why: format!("cannot open {shown}: {}", said(&error)) })
    }

    pub(super) async fn plain(&mut self, sql: &'static str) -> Result<(), Problem> {
        // Whoever writes later anyway must not fail because another one began to.
        let sql = if sql == "BEGIN" { "BEGIN IMMEDIATE" } else { sql };
        self.0.execute(sql).await.map(drop).map_err(|error| Problem::Sql { why: said(&error) })
    }

    pub(super) async fn execute(
        &mut self,
        statement: &Statement,
        parameters: &Map<String, Json>,
        rows: &mut Rows,
    ) -> Result<Done, Problem> {
        let wrong = |error: sqlx::Error| Problem::Sql { why: said(&error) };
        let mut arguments = SqliteArguments::default();
        let mut number = 0;
        let sql = statement.fill(|name| {
            number += 1;
            // It is only a value that cannot be encoded that fails, and each of these can.
            let _ = match parameters.get(name) {
                Some(Json::Bool(value)) => arguments.add(*value),
                Some(Json::Number(value)) if value.is_i64() => arguments.add(value.as_i64()),
                Some(Json::Number(value)) => arguments.add(value.as_f64()),
                Some(Json::String(text)) => arguments.add(text.clone()),
                Some(other @ (Json::Array(_) | Json::Object(_))) => arguments.add(other.to_string()),
                Some(Json::Null) | None => arguments.add(None::<String>),
            };
            format!("?{number}")
        });
        let names = names_of(&mut self.0, &sql).await.map_err(wrong)?;
        let mut done = Done { rows: 0, changed: 0, returns_rows: !names.is_empty() };
        if done.returns_rows {
            rows.columns(&names)?;
        }
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        let mut found = self.0.fetch_many(query);
        while let Some(step) = found.try_next().await.map_err(wrong)? {
            match step {
                Either::Left(result) => done.changed += result.rows_affected(),
                Either::Right(row) => {
                    done.rows += 1;
                    rows.push(&names, values(&row)?)?;
                }
            }
        }
        Ok(done)
    }
}

async fn names_of(connection: &mut SqliteConnection, sql: &str) -> Result<Vec<String>, sqlx::Error> {
    use sqlx::{SqlSafeStr, Statement as _};
    let prepared = connection.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await?;
    Ok(prepared.columns().iter().map(|column| column.name().to_owned()).collect())
}

fn values(row: &SqliteRow) -> Result<Vec<Json>, Problem> {
    (0..row.len())
        .map(|index| {
            let raw = row.try_get_raw(index)?;
            if raw.is_null() {
                return Ok(Json::Null);
            }
            // The type of the value, not that of the column, which SQLite does not enforce.
            Ok(match raw.type_info().name() {
                "INTEGER" | "BIGINT" | "INT4" | "INT8" => row.try_get_unchecked::<i64, _>(index)?.into(),
                "REAL" => row.try_get_unchecked::<f64, _>(index)?.into(),
                "BOOLEAN" => row.try_get_unchecked::<bool, _>(index)?.into(),
                "BLOB" => STANDARD.encode(row.try_get_unchecked::<Vec<u8>, _>(index)?).into(),
                _ => row.try_get_unchecked::<String, _>(index)?.into(),
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .map_err(|error| Problem::Sql { why: said(&error) })
}
