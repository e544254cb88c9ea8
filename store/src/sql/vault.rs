//! Variables and connections in a database.

use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder};
use tidemill_engine::ids::{ConnectionId, VariableName};

use super::{
    SqlReader,
    commit_rows::clean,
    entity::{connection, variable},
    multi::upsert,
    rows::{Row, micros},
};
use crate::{
    error::ReadError,
    vault::{ConnectionRow, VariableRow, VaultChange},
};

pub(super) async fn write(db: &DatabaseTransaction, change: &VaultChange) -> Result<(), DbErr> {
    match change {
        VaultChange::SetVariable(row) => upsert::<variable::Entity>(db, vec![variable_model(row)]).await,
        VaultChange::DeleteVariable(name) => {
            variable::Entity::delete_by_id(name.to_string()).exec(db).await.map(drop)
        }
        VaultChange::SetConnection(row) => {
            upsert::<connection::Entity>(db, vec![connection_model(row)]).await
        }
        VaultChange::DeleteConnection(id) => {
            connection::Entity::delete_by_id(id.to_string()).exec(db).await.map(drop)
        }
    }
}

pub(super) async fn variables(
    reader: &SqlReader,
    names: &[VariableName],
) -> Result<Vec<VariableRow>, ReadError> {
    let mut select = variable::Entity::find();
    if !names.is_empty() {
        select = select.filter(variable::Column::Name.is_in(names.iter().map(VariableName::as_str)));
    }
    let models = select.order_by_asc(variable::Column::Name).all(&reader.db).await?;
    models.into_iter().map(variable_row).collect()
}

pub(super) async fn connections(
    reader: &SqlReader,
    ids: &[ConnectionId],
) -> Result<Vec<ConnectionRow>, ReadError> {
    let mut select = connection::Entity::find();
    if !ids.is_empty() {
        select = select.filter(connection::Column::Id.is_in(ids.iter().map(ConnectionId::as_str)));
    }
    let models = select.order_by_asc(connection::Column::Id).all(&reader.db).await?;
    models.into_iter().map(connection_row).collect()
}

fn variable_model(row: &VariableRow) -> variable::Model {
    variable::Model {
        name: row.name.to_string(),
        description: clean(row.description.clone()),
        is_secret: row.is_secret,
        value: row.value.clone(),
        updated_by: clean(row.updated_by.clone()),
        updated_at: micros(row.updated_at),
    }
}

fn variable_row(model: variable::Model) -> Result<VariableRow, ReadError> {
    let row = Row::new("variable", &model.name);
    Ok(VariableRow {
        name: row.name(&model.name)?,
        description: model.description,
        is_secret: model.is_secret,
        value: model.value,
        updated_by: model.updated_by,
        updated_at: row.at(model.updated_at)?,
    })
}

fn connection_model(row: &ConnectionRow) -> connection::Model {
    let text = |value: &Option<String>| value.clone().map(clean);
    connection::Model {
        id: row.id.to_string(),
        kind: clean(row.kind.clone()),
        description: clean(row.description.clone()),
        host: text(&row.host),
        port: row.port.map(i64::from),
        login: text(&row.login),
        db_schema: text(&row.schema),
        password: row.password.clone(),
        extra: row.extra.clone(),
        updated_by: clean(row.updated_by.clone()),
        updated_at: micros(row.updated_at),
    }
}

fn connection_row(model: connection::Model) -> Result<ConnectionRow, ReadError> {
    let row = Row::new("connection", &model.id);
    Ok(ConnectionRow {
        id: row.name(&model.id)?,
        kind: model.kind,
        description: model.description,
        host: model.host,
        port: model.port.map(|port| row.number(port)).transpose()?,
        login: model.login,
        schema: model.db_schema,
        password: model.password,
        extra: model.extra,
        updated_by: model.updated_by,
        updated_at: row.at(model.updated_at)?,
    })
}
