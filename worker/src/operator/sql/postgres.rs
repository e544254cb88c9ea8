//! Statements in a PostgreSQL database.
//!
//! A parameter is sent as text and cast by the server to the type that its place asks for. So `:day` fits a date, a
//! number or a text without a word in the statement, and it is a value whatever is in it.

use std::{str::FromStr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, Utc};
use futures_util::TryStreamExt;
use serde_json::{Map, Number, Value as Json};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column, Connection as _, Either, Executor, PgConnection, Row, SqlSafeStr,
    Statement as _, TypeInfo, ValueRef,
    postgres::{PgArguments, PgConnectOptions, PgRow, PgSslMode, PgTypeInfo},
};
use tidemill_engine::definition::Statement;
use tidemill_protocol::worker::Connection;

use super::{Done, Rows, said};
use crate::outcome::Problem;

/// An open connection.
pub(super) struct Postgres(PgConnection);

fn wrong(error: sqlx::Error) -> Problem {
    Problem::Sql { why: said(&error) }
}

impl Postgres {
    /// Connects. What the connection does not say is as the server has it, never as this machine's environment does.
    pub(super) async fn open(connection: &Connection, timeout: Option<Duration>) -> Result<Self, Problem> {
        let extra = |name: &str| connection.extra.get(name).and_then(Json::as_str);
        let login = connection.login.as_deref().unwrap_or("postgres");
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(connection.host.as_deref().unwrap_or("localhost"))
            .port(connection.port.unwrap_or(5432))
            .username(login)
            .database(connection.schema.as_deref().filter(|name| !name.is_empty()).unwrap_or(login))
            .application_name("tidemill")
            .statement_cache_capacity(0);
        if let Some(password) = &connection.password {
            options = options.password(password.reveal());
        }
        if let Some(mode) = extra("sslmode") {
            let mode =
                PgSslMode::from_str(mode).map_err(|error| Problem::SqlRequest { why: said(&error) })?;
            options = options.ssl_mode(mode);
        }
        if let Some(path) = extra("sslrootcert") {
            options = options.ssl_root_cert(path);
        }
        if let Some(timeout) = timeout {
            options = options.options([("statement_timeout", timeout.as_millis().to_string())]);
        }
        PgConnection::connect_with(&options).await.map(Self).map_err(wrong)
    }

    pub(super) async fn plain(&mut self, sql: &'static str) -> Result<(), Problem> {
        self.0.execute(sql).await.map(drop).map_err(wrong)
    }

    pub(super) async fn execute(
        &mut self,
        statement: &Statement,
        parameters: &Map<String, Json>,
        rows: &mut Rows,
    ) -> Result<Done, Problem> {
        if statement.names.is_empty() && !statement.pieces.iter().any(|piece| is_query(piece)) {
            // What cannot be prepared, such as `VACUUM` and `CREATE DATABASE`, has no rows and no parameters.
            let sql = statement.fill(|_| String::new());
            let result = self.0.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map_err(wrong)?;
            return Ok(Done { rows: 0, changed: result.rows_affected(), returns_rows: false });
        }
        let mut number = 0;
        let asked = statement.fill(|_| {
            number += 1;
            format!("${number}")
        });
        let prepared = self.0.prepare(AssertSqlSafe(asked).into_sql_str()).await.map_err(wrong)?;
        let names: Vec<String> = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
        let types: Vec<PgTypeInfo> = match prepared.parameters() {
            Some(Either::Left(types)) => types.to_vec(),
            _ => Vec::new(),
        };
        let mut arguments = PgArguments::default();
        let mut index = 0;
        let sql = statement.fill(|name| {
            // A text can always be encoded.
            let _ = arguments.add(text_of(parameters.get(name)));
            let kind = types.get(index).map_or("text", |kind| kind.name()).to_owned();
            index += 1;
            format!("CAST(CAST(${index} AS text) AS {kind})")
        });
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

/// Whether a statement is of those that can be prepared.
fn is_query(sql: &str) -> bool {
    const WORDS: [&str; 10] =
        ["select", "insert", "update", "delete", "merge", "values", "with", "table", "show", "explain"];
    let mut rest = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    // Comments before it are no part of it.
    while rest.starts_with("--") || rest.starts_with("/*") {
        let end = if rest.starts_with("--") {
            rest.find('\n').map(|end| end + 1)
        } else {
            rest.find("*/").map(|end| end + 2)
        };
        let Some(end) = end else { return false };
        rest = rest[end..].trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    WORDS.contains(&word.to_ascii_lowercase().as_str())
}

/// How a value is written for the server to read.
fn text_of(value: Option<&Json>) -> Option<String> {
    match value? {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn values(row: &PgRow) -> Result<Vec<Json>, Problem> {
    row.columns().iter().enumerate().map(|(index, column)| value(row, index, column.name())).collect()
}

fn value(row: &PgRow, index: usize, name: &str) -> Result<Json, Problem> {
    let raw = row.try_get_raw(index).map_err(wrong)?;
    if raw.is_null() {
        return Ok(Json::Null);
    }
    let kind = raw.type_info().name().to_owned();
    let utc = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let found: Result<Json, sqlx::Error> = match kind.as_str() {
        "BOOL" => row.try_get::<bool, _>(index).map(Json::from),
        "INT2" => row.try_get::<i16, _>(index).map(Json::from),
        "INT4" => row.try_get::<i32, _>(index).map(Json::from),
        "INT8" => row.try_get::<i64, _>(index).map(Json::from),
        "FLOAT4" => row.try_get::<f32, _>(index).map(|value| float(value.into())),
        "FLOAT8" => row.try_get::<f64, _>(index).map(float),
        "DATE" => row.try_get::<NaiveDate, _>(index).map(|value| value.to_string().into()),
        "TIME" => row.try_get::<NaiveTime, _>(index).map(|value| value.to_string().into()),
        "TIMESTAMP" => {
            row.try_get::<NaiveDateTime, _>(index).map(|at| at.format("%FT%T%.f").to_string().into())
        }
        "TIMESTAMPTZ" => row.try_get::<DateTime<Utc>, _>(index).map(|at| utc(at).into()),
        "JSON" | "JSONB" => row.try_get::<Json, _>(index),
        "BYTEA" => row.try_get::<Vec<u8>, _>(index).map(|bytes| STANDARD.encode(bytes).into()),
        "TEXT[]" | "VARCHAR[]" | "NAME[]" => row.try_get::<Vec<Option<String>>, _>(index).map(Json::from),
        "INT4[]" => row.try_get::<Vec<Option<i32>>, _>(index).map(Json::from),
        "INT8[]" => row.try_get::<Vec<Option<i64>>, _>(index).map(Json::from),
        "FLOAT8[]" => row.try_get::<Vec<Option<f64>>, _>(index).map(Json::from),
        "BOOL[]" => row.try_get::<Vec<Option<bool>>, _>(index).map(Json::from),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "\"CHAR\"" | "citext" | "UNKNOWN" => {
            row.try_get_unchecked::<String, _>(index).map(Json::from)
        }
        "NUMERIC" => return bytes(&raw).and_then(numeric).ok_or_else(|| unknown(name, &kind)),
        "UUID" => return bytes(&raw).and_then(uuid).ok_or_else(|| unknown(name, &kind)),
        // An enumeration of the user's is a text on the wire.
        _ if is_enumeration(&raw.type_info()) => row.try_get_unchecked::<String, _>(index).map(Json::from),
        _ => return Err(unknown(name, &kind)),
    };
    found.map_err(wrong)
}

fn is_enumeration(kind: &PgTypeInfo) -> bool {
    matches!(kind.kind(), sqlx::postgres::PgTypeKind::Enum(_))
}

fn unknown(name: &str, kind: &str) -> Problem {
    Problem::SqlRequest {
        why: format!("the column {name:?} is of the type {kind}, which has no form here: cast it to text"),
    }
}

fn bytes<'r>(raw: &sqlx::postgres::PgValueRef<'r>) -> Option<&'r [u8]> {
    raw.as_bytes().ok()
}

/// JSON has no infinity.
fn float(value: f64) -> Json {
    Number::from_f64(value).map_or_else(|| Json::String(value.to_string()), Json::Number)
}

/// Reads the wire form of `numeric`: a number where it loses nothing as one, otherwise its text.
fn numeric(bytes: &[u8]) -> Option<Json> {
    let part = |at: usize| Some(i16::from_be_bytes(bytes.get(2 * at..2 * at + 2)?.try_into().ok()?));
    let (count, weight, sign, scale) = (part(0)?, part(1)?, part(2)?.cast_unsigned(), part(3)?);
    match sign {
        0x0000 | 0x4000 => {}
        0xc000 => return Some("NaN".into()),
        0xd000 => return Some("Infinity".into()),
        0xf000 => return Some("-Infinity".into()),
        _ => return None,
    }
    let digit = |place: i16| -> Option<i16> {
        match weight.checked_sub(place).filter(|at| (0..count).contains(at)) {
            Some(at) => part(4 + usize::try_from(at).ok()?),
            None => Some(0),
        }
    };
    let mut text = String::new();
    if sign == 0x4000 {
        text.push('-');
    }
    let mut whole = String::new();
    for place in (0..=weight.max(0)).rev() {
        whole.push_str(&format!("{:04}", digit(place)?));
    }
    let trimmed = whole.trim_start_matches('0');
    text.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        let wanted = usize::try_from(scale).ok()?;
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < wanted {
            fraction.push_str(&format!("{:04}", digit(place)?));
            place -= 1;
        }
        fraction.truncate(wanted);
        text.push('.');
        text.push_str(&fraction);
    }
    // Fifteen digits are exact in every reader of JSON.
    let digits = text.chars().filter(char::is_ascii_digit).count();
    match serde_json::from_str::<Number>(&text) {
        Ok(number) if digits <= 15 => Some(Json::Number(number)),
        _ => Some(Json::String(text)),
    }
}

fn uuid(bytes: &[u8]) -> Option<Json> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes.len() == 16).then(|| {
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        parts.join("-").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_prepared_is_known_by_its_first_word() {
        for sql in [" select 1", "-- x\nSELECT 1", "/* a */ (WITH x AS (SELECT 1) TABLE x)", "insert into t"]
        {
            assert!(is_query(sql), "{sql}");
        }
        for sql in ["VACUUM", "create table t ()", "-- select", "", "BEGIN", "selectx"] {
            assert!(!is_query(sql), "{sql}");
        }
    }

    #[test]
    fn a_uuid_has_its_usual_form() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes), Some("00010203-0405-0607-0809-0a0b0c0d0e0f".into()));
        assert_eq!(uuid(&[1]), None);
    }
}
