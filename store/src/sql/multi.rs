//! Multi-row statements: a thousand rows in a handful of statements.
//!
//! A statement's text depends on its number of rows, and a prepared statement is only found again by its text. So
//! rows go out in chunks of powers of two: at most nine texts per kind of statement, whatever sizes batches have.

use std::{collections::HashMap, hash::Hash};

use sea_orm::{
    ActiveModelTrait, ConnectionTrait, IntoActiveModel, ModelTrait, PrimaryKeyToColumn, sea_query::OnConflict,
};
use sea_orm::{DatabaseTransaction, DbBackend, DbErr, EntityTrait, Iterable, Statement, Value};

/// Splits changes so that no wave has a row twice; within a row the order stays.
pub(super) fn waves<'a, T, K: Eq + Hash>(changes: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<Vec<&'a T>> {
    let mut seen: HashMap<K, usize> = HashMap::with_capacity(changes.len());
    let mut waves: Vec<Vec<&'a T>> = Vec::new();
    for change in changes {
        let wave = seen.entry(key(change)).and_modify(|wave| *wave += 1).or_insert(0);
        match waves.get_mut(*wave) {
            Some(changes) => changes.push(change),
            None => waves.push(vec![change]),
        }
    }
    waves
}

/// The most rows of one statement. Larger ones gained nothing in the probe and cost more to parse once.
const MAX_ROWS: usize = 256;

/// The most rows of one deletion: a chain of `OR` costs planning for each link.
const MAX_DELETES: usize = 32;

/// Rows of values on their way into one kind of statement.
pub(super) struct Rows {
    width: usize,
    values: Vec<Value>,
}

impl Rows {
    pub(super) fn new(width: usize) -> Self {
        Self { width, values: Vec::new() }
    }

    pub(super) fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.width, "a row has the width of its statement");
        self.values.extend(row);
    }

    /// A row and what an update carries beside it.
    pub(super) fn push_with<const N: usize, const M: usize>(&mut self, row: [Value; N], more: [Value; M]) {
        debug_assert_eq!(N + M, self.width, "a row has the width of its statement");
        self.values.extend(row);
        self.values.extend(more);
    }

    fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Sends the rows through `sql`, which gets the text of the `VALUES` list, and returns how many rows the
    /// database says it touched.
    pub(super) async fn execute(
        self,
        db: &DatabaseTransaction,
        sql: impl Fn(&str) -> String,
    ) -> Result<u64, DbErr> {
        let backend = db.get_database_backend();
        let mut left = self.len();
        let mut values = self.values.into_iter();
        let mut touched = 0;
        while left > 0 {
            let rows = chunk(left, MAX_ROWS);
            let text = sql(&placeholders(backend, rows, self.width));
            let chunk: Vec<Value> = values.by_ref().take(rows * self.width).collect();
            touched +=
                db.execute_raw(Statement::from_sql_and_values(backend, text, chunk)).await?.rows_affected();
            left -= rows;
        }
        Ok(touched)
    }

    /// Deletes what equals the rows in the given columns and returns how many there were.
    pub(super) async fn delete(
        self,
        db: &DatabaseTransaction,
        table: &str,
        columns: &[&str],
    ) -> Result<u64, DbErr> {
        let backend = db.get_database_backend();
        let mut left = self.len();
        let mut values = self.values.into_iter();
        let mut touched = 0;
        while left > 0 {
            let rows = chunk(left, MAX_DELETES);
            let text = delete_sql(backend, table, columns, rows);
            let chunk: Vec<Value> = values.by_ref().take(rows * self.width).collect();
            touched +=
                db.execute_raw(Statement::from_sql_and_values(backend, text, chunk)).await?.rows_affected();
            left -= rows;
        }
        Ok(touched)
    }
}

/// Writes a deletion of rows by some columns. Not `IN (VALUES …)`: values in a list have no type for SQLite, which
/// then compares by other rules than the index and scans the whole table; each `OR` finds its rows by the index.
pub(super) fn delete_sql(backend: DbBackend, table: &str, columns: &[&str], rows: usize) -> String {
    let mut parameter = 0;
    let mut row = || {
        let equal: Vec<String> = columns
            .iter()
            .map(|column| {
                parameter += 1;
                match backend {
                    DbBackend::Postgres => format!("{column} = ${parameter}"),
                    _ => format!("{column} = ?"),
                }
            })
            .collect();
        format!("({})", equal.join(" AND "))
    };
    let rows: Vec<String> = (0..rows).map(|_| row()).collect();
    format!("DELETE FROM {table} WHERE {}", rows.join(" OR "))
}

/// Returns the greatest power of two that is not above `left` and the limit.
fn chunk(left: usize, limit: usize) -> usize {
    let left = left.min(limit);
    1 << (usize::BITS - 1 - left.leading_zeros())
}

/// Writes `(?, ?), (?, ?)`, numbered where the database wants numbers.
pub(super) fn placeholders(backend: DbBackend, rows: usize, width: usize) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(rows * width * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            if column > 0 {
                text.push_str(", ");
            }
            if backend == DbBackend::Postgres {
                // Writing to a string cannot fail.
                let _ = write!(text, "${}", row * width + column + 1);
            } else {
                text.push('?');
            }
        }
        text.push(')');
    }
    text
}

/// Inserts rows of a small table, or replaces those whose primary key is there. Of two rows with one key the later
/// one stays: PostgreSQL refuses both in one statement, so they go out one after the other.
pub(super) async fn upsert<E>(db: &DatabaseTransaction, models: Vec<E::Model>) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::Model: ModelTrait<Entity = E> + IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E> + Send,
{
    let keys: Vec<E::Column> = E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column).collect();
    let is_key = |column: &E::Column| keys.iter().any(|key| format!("{key:?}") == format!("{column:?}"));
    let rest: Vec<E::Column> = E::Column::iter().filter(|column| !is_key(column)).collect();
    for wave in waves(&models, |model| format!("{:?}", model.get_primary_key_value())) {
        for chunk in wave.chunks(MAX_ROWS) {
            let mut conflict = OnConflict::columns(keys.iter().copied());
            conflict.update_columns(rest.iter().copied());
            let rows = chunk.iter().map(|model| (*model).clone().into_active_model());
            E::insert_many(rows).on_conflict(conflict).exec_without_returning(db).await?;
        }
    }
    Ok(())
}

/// Inserts rows of a small table; a primary key that is there is a constraint error.
pub(super) async fn insert<E>(db: &DatabaseTransaction, models: Vec<E::Model>) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: ActiveModelTrait<Entity = E> + Send,
{
    for chunk in models.chunks(MAX_ROWS) {
        let rows = chunk.iter().cloned().map(IntoActiveModel::into_active_model);
        E::insert_many(rows).exec_without_returning(db).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sea_orm::DbBackend;

    use super::{chunk, delete_sql, placeholders};

    #[test]
    fn chunks_are_powers_of_two_and_add_up() {
        for total in 1..2000 {
            let (mut left, mut statements) = (total, 0);
            while left > 0 {
                let rows = chunk(left, 256);
                assert!(rows.is_power_of_two() && rows <= 256);
                left -= rows;
                statements += 1;
            }
            assert!(statements <= total / 256 + 8);
        }
    }

    #[test]
    fn deletions_are_chains_of_keys() {
        let sql = delete_sql(DbBackend::Postgres, "t", &["a", "b"], 2);
        assert_eq!(sql, "DELETE FROM t WHERE (a = $1 AND b = $2) OR (a = $3 AND b = $4)");
        assert_eq!(delete_sql(DbBackend::Sqlite, "t", &["a"], 1), "DELETE FROM t WHERE (a = ?)");
    }

    #[test]
    fn placeholders_are_numbered_for_postgresql_only() {
        assert_eq!(placeholders(DbBackend::Postgres, 2, 2), "($1, $2), ($3, $4)");
        assert_eq!(placeholders(DbBackend::Sqlite, 2, 2), "(?, ?), (?, ?)");
    }
}
