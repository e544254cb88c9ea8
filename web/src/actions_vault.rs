//! Changes of variables and connections, once for the API and the pages. The audit log gets who changed what, never a
//! value.

use serde_json::json;
use tidemill_engine::{
    connection::Connection,
    ids::{ConnectionId, VariableName},
    secret::Secret,
};
use tidemill_scheduler::{AdminWrite, SetConnection, SetVariable};

use crate::{
    auth::Identity,
    error::{Problem, Result},
    state::WebState,
    views::{ConnectionBody, VariableBody},
};

/// Makes or changes a variable.
pub(crate) async fn set_variable(
    state: &WebState,
    who: &Identity,
    name: VariableName,
    body: VariableBody,
) -> Result<()> {
    let detail = json!({
        "description": body.description,
        "is_secret": body.is_secret,
        "value": if body.value.is_some() { "changed" } else { "kept" },
    });
    let side = AdminWrite::audit(who.did("variable.set", format!("variable/{name}"), detail));
    let VariableBody { value, description, is_secret } = body;
    let set = SetVariable { value: value.map(Secret::new), description, is_secret };
    Ok(state.handle().set_variable(name, set, &who.actor, side).await?)
}

/// Deletes a variable.
pub(crate) async fn delete_variable(state: &WebState, who: &Identity, name: VariableName) -> Result<()> {
    let side = AdminWrite::audit(who.did("variable.delete", format!("variable/{name}"), json!({})));
    Ok(state.handle().delete_variable(name, side).await?)
}

/// Makes or replaces a connection.
pub(crate) async fn set_connection(
    state: &WebState,
    who: &Identity,
    id: ConnectionId,
    body: ConnectionBody,
) -> Result<()> {
    let detail = json!({
        "kind": body.kind, "host": body.host, "port": body.port, "login": body.login, "schema": body.schema,
        "password": match &body.password {
            None => "kept",
            Some(password) if password.is_empty() => "removed",
            Some(_) => "changed",
        },
        "extra": body.extra.keys().collect::<Vec<_>>(),
    });
    let side = AdminWrite::audit(who.did("connection.set", format!("connection/{id}"), detail));
    let text = |value: Option<String>| value.filter(|text| !text.is_empty());
    if body.port == Some(0) {
        return Err(Problem::new("WEB0206", "port must be a number from 1 to 65535"));
    }
    let set = SetConnection {
        is_password_removed: body.password.as_ref().is_some_and(String::is_empty),
        connection: Connection {
            id,
            kind: body.kind,
            description: body.description.unwrap_or_default(),
            host: text(body.host),
            port: body.port,
            login: text(body.login),
            password: text(body.password).map(Secret::new),
            schema: text(body.schema),
            extra: body.extra,
        },
        kept: body.keep,
    };
    Ok(state.handle().set_connection(set, &who.actor, side).await?)
}

/// Deletes a connection.
pub(crate) async fn delete_connection(state: &WebState, who: &Identity, id: ConnectionId) -> Result<()> {
    let side = AdminWrite::audit(who.did("connection.delete", format!("connection/{id}"), json!({})));
    Ok(state.handle().delete_connection(id, side).await?)
}
