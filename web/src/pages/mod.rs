//! The pages: server-rendered, complete without a script, one file per page.

pub(crate) mod assets;
pub(crate) mod audit;
pub(crate) mod backfill_form;
pub(crate) mod backfills;
pub(crate) mod calendar;
pub(crate) mod code;
pub(crate) mod confirm;
pub(crate) mod dag;
pub(crate) mod dags;
pub(crate) mod drift;
pub(crate) mod durations;
mod elements;
pub(crate) mod failure;
pub(crate) mod gantt;
pub(crate) mod graph;
pub(crate) mod grid;
mod grid_head;
pub(crate) mod groups;
pub(crate) mod home;
pub(crate) mod login;
pub(crate) mod pools;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod settings;
pub(crate) mod side;
pub(crate) mod task;
pub(crate) mod task_log;
pub(crate) mod trigger;
mod trigger_fields;
pub(crate) mod trouble;
pub(crate) mod vault;
pub(crate) mod workers;

use askama::Template;
use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::{HeaderMap, StatusCode, Uri, header, request::Parts},
    response::{Html, IntoResponse, Redirect, Response},
};
use tidemill_store::access::Role;

use crate::{
    access::{ADMIN, Access, OPERATOR, Table, VIEWER},
    assets::{URLS, Urls},
    auth::{Identity, cookie},
    error::{Problem, Result},
    zone::{self, Choice},
};

/// Mounts the pages.
pub(crate) fn mount(table: Table) -> Table {
    table
        .get("/login", Access::Public, login::show)
        .post("/login", Access::Public, login::sign_in)
        .post("/logout", VIEWER, login::sign_out)
        .post("/theme", VIEWER, login::theme)
        .post("/zone", VIEWER, login::zone)
        .get("/", VIEWER, home::show)
        .get("/dags", VIEWER, dags::show)
        .get("/dags/{dag_id}", VIEWER, grid::show)
        .get("/dags/{dag_id}/cell", VIEWER, side::show)
        .get("/dags/{dag_id}/graph", VIEWER, graph::show)
        .get("/dags/{dag_id}/runs", VIEWER, runs::of_dag)
        .get("/dags/{dag_id}/calendar", VIEWER, calendar::show)
        .get("/dags/{dag_id}/gantt", VIEWER, gantt::show)
        .get("/dags/{dag_id}/durations", VIEWER, durations::show)
        .get("/dags/{dag_id}/code", VIEWER, code::show)
        .get("/dags/{dag_id}/audit", ADMIN, audit::of_dag)
        .get("/dags/{dag_id}/pause", OPERATOR, dag::ask_pause)
        .post("/dags/{dag_id}/pause", OPERATOR, dag::pause)
        .get("/dags/{dag_id}/trigger", OPERATOR, trigger::show)
        .post("/dags/{dag_id}/trigger", OPERATOR, trigger::submit)
        .get("/dags/{dag_id}/backfills", VIEWER, backfills::of_dag)
        .get("/dags/{dag_id}/backfill", OPERATOR, backfill_form::show)
        .post("/dags/{dag_id}/backfill", OPERATOR, backfill_form::submit)
        .get("/backfills", VIEWER, backfills::all)
        .get("/backfills/{id}", VIEWER, backfills::show)
        .get("/backfills/{id}/cancel", OPERATOR, backfills::confirm)
        .post("/backfills/{id}/actions", OPERATOR, backfills::act)
        .get("/runs", VIEWER, runs::all)
        .get("/dags/{dag_id}/runs/{run_id}", VIEWER, run::show)
        .get("/dags/{dag_id}/runs/{run_id}/confirm", OPERATOR, confirm::show)
        .post("/dags/{dag_id}/runs/{run_id}/actions", OPERATOR, confirm::submit)
        .get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}", VIEWER, task::show)
        .get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries/{try_number}/lines", VIEWER, task_log::lines)
        .get("/dags/{dag_id}/assets", VIEWER, assets::of_dag)
        .get("/assets", VIEWER, assets::show)
        .get("/assets/show", VIEWER, assets::one)
        .post("/assets/events", OPERATOR, assets::emit)
        .get("/pools", VIEWER, pools::show)
        .post("/pools", ADMIN, pools::save)
        .post("/pools/{name}/delete", ADMIN, pools::delete)
        .get("/variables", VIEWER, vault::variables)
        .post("/variables", ADMIN, vault::save_variable)
        .post("/variables/{name}/delete", ADMIN, vault::delete_variable)
        .get("/connections", VIEWER, vault::connections)
        .post("/connections", ADMIN, vault::save_connection)
        .post("/connections/{id}/delete", ADMIN, vault::delete_connection)
        .get("/workers", VIEWER, workers::show)
        .get("/settings", ADMIN, settings::show)
        .post("/settings/tokens", ADMIN, settings::create_token)
        .post("/settings/tokens/{id}/revoke", ADMIN, settings::revoke_token)
        .post("/settings/join_tokens", ADMIN, settings::create_join_token)
        .get("/audit", ADMIN, audit::show)
}

const THEME_COOKIE: &str = "tidemill_theme";

/// What stands around every page.
pub(crate) struct Chrome {
    pub(crate) urls: &'static Urls,
    /// `light`, `dark`, or empty: as the system says.
    pub(crate) theme: &'static str,
    pub(crate) zone: Choice,
    pub(crate) is_signed_in: bool,
    pub(crate) actor: String,
    pub(crate) role: &'static str,
    pub(crate) can_operate: bool,
    pub(crate) is_admin: bool,
    pub(crate) here: String,
    pub(crate) section: &'static str,
    pub(crate) version: &'static str,
}

impl Chrome {
    fn new(identity: Option<&Identity>, headers: &HeaderMap, uri: &Uri) -> Self {
        let here = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let role = identity.map(|i| i.role);
        Self {
            urls: &URLS,
            theme: theme_word(cookie(headers, THEME_COOKIE).unwrap_or_default()),
            zone: zone::choice(),
            is_signed_in: identity.is_some(),
            actor: identity.map(|i| i.actor.clone()).unwrap_or_default(),
            role: role.map_or("", Role::as_str),
            can_operate: role.is_some_and(|r| r >= Role::Operator),
            is_admin: role == Some(Role::Admin),
            section: section(&here),
            here,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    pub(crate) fn nav(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut items = vec![
            ("home", "/", "Home"),
            ("dags", "/dags", "DAGs"),
            ("runs", "/runs", "Runs"),
            ("backfills", "/backfills", "Backfills"),
            ("assets", "/assets", "Assets"),
            ("pools", "/pools", "Pools"),
            ("variables", "/variables", "Variables"),
            ("connections", "/connections", "Connections"),
            ("workers", "/workers", "Workers"),
        ];
        if self.is_admin {
            items.extend([("audit", "/audit", "Audit"), ("settings", "/settings", "Settings")]);
        }
        items
    }

    /// Returns the tabs of a DAG: key, path, label. The audit log is for administrators.
    pub(crate) fn dag_tabs(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut tabs = vec![
            ("grid", "", "Grid"),
            ("graph", "/graph", "Graph"),
            ("runs", "/runs", "Runs"),
            ("backfills", "/backfills", "Backfills"),
            ("calendar", "/calendar", "Calendar"),
            ("gantt", "/gantt", "Gantt"),
            ("durations", "/durations", "Durations"),
            ("assets", "/assets", "Assets"),
            ("code", "/code", "Code"),
        ];
        if self.is_admin {
            tabs.push(("audit", "/audit", "Audit"));
        }
        tabs
    }

    pub(crate) fn theme_name(&self) -> &'static str {
        match self.theme {
            "light" => "Light",
            "dark" => "Dark",
            _ => "Auto",
        }
    }

    /// The theme after this one.
    pub(crate) fn other_theme(&self) -> &'static str {
        match self.theme {
            "light" => "dark",
            "dark" => "auto",
            _ => "light",
        }
    }
}

fn theme_word(word: &str) -> &'static str {
    match word {
        "light" => "light",
        "dark" => "dark",
        _ => "",
    }
}

fn section(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
    [
        "dags",
        "runs",
        "backfills",
        "assets",
        "pools",
        "variables",
        "connections",
        "workers",
        "audit",
        "settings",
    ]
    .into_iter()
    .find(|s| *s == first)
    .unwrap_or("home")
}

impl<S: Send + Sync> FromRequestParts<S> for Chrome {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let uri =
            parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.clone(), |uri| uri.0.clone());
        Ok(Self::new(parts.extensions.get::<Identity>(), &parts.headers, &uri))
    }
}

/// Renders a template.
pub(crate) fn page(template: &impl Template) -> Result<Response> {
    let text = template.render().map_err(|e| Problem::internal(&e))?;
    Ok(Html(text).into_response())
}

/// Goes on with a `GET` after something was done.
pub(crate) fn see(path: &str) -> Response {
    // A path that no header can carry came from no page of ours.
    let path = if path.bytes().all(|b| b.is_ascii_graphic()) { path } else { "/" };
    Redirect::to(path).into_response()
}

/// Whether whoever asked shows pages.
pub(crate) fn wants_page(headers: &HeaderMap, path: &str) -> bool {
    let is_page = !["/api/", "/worker/", "/static/"].iter().any(|prefix| path.starts_with(prefix))
        && path != "/metrics";
    is_page
        && headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).is_some_and(|a| a.contains("text/html"))
}

/// Makes a page of a problem; for somebody who is not signed in it is the page to sign in.
pub(crate) fn problem_page(
    problem: Problem,
    headers: &HeaderMap,
    uri: &Uri,
    identity: Option<&Identity>,
) -> Response {
    let chrome = Chrome::new(identity, headers, uri);
    let status = problem.status();
    let made = if status == StatusCode::UNAUTHORIZED {
        login::form(chrome, None)
    } else {
        failure::page(chrome, problem)
    };
    match made {
        Ok(mut response) => {
            *response.status_mut() = status;
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Lines of a JSON value for a page.
pub(crate) fn json_lines(value: &serde_json::Value) -> Vec<String> {
    serde_json::to_string_pretty(value).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}
