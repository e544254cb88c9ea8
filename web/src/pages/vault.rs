//! Variables and connections. What is secret in them is never on a page, not even for who wrote it.

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use chrono::Utc;
use serde::Deserialize;
use tidemill_engine::ids::{ConnectionId, VariableName};
use tidemill_scheduler::{ConnectionView, Origin, VariableView};

use super::{Chrome, page, see};
use crate::{
    actions_vault as actions,
    api::vault::{ConnectionPath, VariablePath},
    auth::Identity,
    error::{Problem, Result},
    extract::{Form, Ids, Params},
    render::{Markup, time},
    state::WebState,
    views::{ConnectionBody, VariableBody},
};

/// `?edit=`: what the form is filled with.
#[derive(Default, Deserialize)]
pub(crate) struct Edit {
    #[serde(default)]
    edit: String,
}

struct VariableLine {
    name: String,
    value: String,
    is_secret: bool,
    problem: String,
    description: String,
    is_stored: bool,
    changed: Markup,
}

#[derive(Template)]
#[template(path = "variables.html")]
struct VariablesPage {
    c: Chrome,
    variables: Vec<VariableLine>,
    edited: Option<VariableLine>,
}

struct ConnectionLine {
    id: String,
    kind: String,
    description: String,
    host: String,
    port: String,
    login: String,
    schema: String,
    extra: String,
    hidden: String,
    has_password: bool,
    problem: String,
    is_stored: bool,
    changed: Markup,
}

#[derive(Template)]
#[template(path = "connections.html")]
struct ConnectionsPage {
    c: Chrome,
    connections: Vec<ConnectionLine>,
    edited: Option<ConnectionLine>,
}

fn changed(origin: &Origin) -> (bool, Markup) {
    let mut text = Markup::default();
    match origin {
        Origin::Environment => {
            text.raw("by the environment of the server");
            (false, text)
        }
        Origin::Stored { by, at } => {
            text.markup(&time::relative(*at, Utc::now())).raw(" by ").text(by);
            (true, text)
        }
    }
}

fn variable_line(found: VariableView) -> VariableLine {
    let (is_stored, changed) = changed(&found.origin);
    VariableLine {
        name: found.name.to_string(),
        value: found.value.unwrap_or_default(),
        is_secret: found.is_secret,
        problem: found.problem.unwrap_or_default(),
        description: found.description,
        is_stored,
        changed,
    }
}

/// The variables.
pub(crate) async fn variables(
    State(state): State<WebState>,
    c: Chrome,
    Params(edit): Params<Edit>,
) -> Result<Response> {
    let all = state.handle().variables().await?;
    let edited = all.iter().find(|v| v.name.as_str() == edit.edit).cloned().map(variable_line);
    let variables = all.into_iter().map(variable_line).collect();
    page(&VariablesPage { c, variables, edited: edited.filter(|line| line.is_stored) })
}

/// Makes or changes a variable.
pub(crate) async fn save_variable(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    form: Form,
) -> Result<Response> {
    let text = |name: &str| form.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let name = VariableName::new(text("name").unwrap_or_default())
        .map_err(|e| Problem::new("WEB0206", format!("the name {e}")))?;
    // Browsers end lines of a text area with CR LF.
    let value = text("value").unwrap_or_default().replace("\r\n", "\n");
    let is_kept = value.is_empty() && form.is_set("keep");
    let body = VariableBody {
        value: (!is_kept).then_some(value),
        description: text("description"),
        is_secret: match text("kind").as_deref() {
            Some("secret") => Some(true),
            Some("plain") => Some(false),
            _ => None,
        },
    };
    actions::set_variable(&state, &who, name, body).await?;
    Ok(see("/variables"))
}

/// Deletes a variable.
pub(crate) async fn delete_variable(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<VariablePath>,
) -> Result<Response> {
    actions::delete_variable(&state, &who, ids.name).await?;
    Ok(see("/variables"))
}

fn connection_line(found: ConnectionView) -> ConnectionLine {
    let (is_stored, changed) = changed(&found.origin);
    let connection = found.connection;
    ConnectionLine {
        id: connection.id.to_string(),
        kind: connection.kind,
        description: connection.description,
        host: connection.host.unwrap_or_default(),
        port: connection.port.map(|port| port.to_string()).unwrap_or_default(),
        login: connection.login.unwrap_or_default(),
        schema: connection.schema.unwrap_or_default(),
        extra: match connection.extra.is_empty() {
            true => String::new(),
            false => serde_json::to_string_pretty(&connection.extra).unwrap_or_default(),
        },
        hidden: found.hidden.join(", "),
        has_password: found.has_password,
        problem: found.problem.unwrap_or_default(),
        is_stored,
        changed,
    }
}

/// The connections.
pub(crate) async fn connections(
    State(state): State<WebState>,
    c: Chrome,
    Params(edit): Params<Edit>,
) -> Result<Response> {
    let all = state.handle().connections().await?;
    let edited = all.iter().find(|c| c.connection.id.as_str() == edit.edit).cloned().map(connection_line);
    let connections = all.into_iter().map(connection_line).collect();
    page(&ConnectionsPage { c, connections, edited: edited.filter(|line| line.is_stored) })
}

/// Makes or replaces a connection.
pub(crate) async fn save_connection(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    form: Form,
) -> Result<Response> {
    let invalid = |what: String| Problem::new("WEB0206", what);
    let text = |name: &str| form.value(name).map(str::to_owned);
    let id = ConnectionId::new(text("id").unwrap_or_default()).map_err(|e| invalid(format!("the id {e}")))?;
    let port = text("port").map(|port| port.parse().map_err(|_| port)).transpose();
    let extra = match text("extra").map(|extra| serde_json::from_str(&extra)) {
        None => serde_json::Map::new(),
        Some(Ok(map)) => map,
        Some(Err(error)) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            return Err(invalid(format!("extra must be a JSON object ({place})")));
        }
    };
    let body = ConnectionBody {
        kind: text("kind").unwrap_or_default(),
        description: text("description"),
        host: text("host"),
        port: port.map_err(|port| invalid(format!("the port {port:?} is no number from 1 to 65535")))?,
        login: text("login"),
        password: if form.is_set("no_password") { Some(String::new()) } else { text("password") },
        schema: text("schema"),
        extra,
        keep: text("keep").unwrap_or_default().split(", ").map(str::to_owned).collect(),
    };
    actions::set_connection(&state, &who, id, body).await?;
    Ok(see("/connections"))
}

/// Deletes a connection.
pub(crate) async fn delete_connection(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<ConnectionPath>,
) -> Result<Response> {
    actions::delete_connection(&state, &who, ids.id).await?;
    Ok(see("/connections"))
}
