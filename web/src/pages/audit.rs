//! Who changed what.

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;
use tidemill_store::reader::AuditQuery;

use super::{
    Chrome,
    dag::{DagHead, find},
    dags::query_string,
    page,
};
use crate::{
    api::access::AuditParams,
    error::Result,
    extract::{DagPath, Ids, Params},
    render::{Markup, time},
    state::WebState,
};

struct Row {
    seq: i64,
    at: Markup,
    actor: String,
    action: String,
    subject: String,
    detail: String,
    hash: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    c: Chrome,
    h: Option<DagHead>,
    rows: Vec<Row>,
    subject: String,
    actor: String,
    next_page: Option<String>,
}

/// The audit log.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Params(params): Params<AuditParams>,
) -> Result<Response> {
    let query = params.query(100);
    list(&state, c, None, params, query).await
}

/// The audit log of one DAG and its runs.
pub(crate) async fn of_dag(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<AuditParams>,
) -> Result<Response> {
    let head = DagHead::load(&state, &find(&state, &ids.dag_id).await?, "audit").await?;
    let params = AuditParams { subject: None, ..params };
    let query = AuditQuery { subject: Some(format!("dag/{}", ids.dag_id)), ..params.query(100) };
    list(&state, c, Some(head), params, query).await
}

async fn list(
    state: &WebState,
    c: Chrome,
    h: Option<DagHead>,
    params: AuditParams,
    query: AuditQuery,
) -> Result<Response> {
    let found = state.reader().audit(&query).await?;
    let (subject, actor) = (params.subject.unwrap_or_default(), params.actor.unwrap_or_default());
    let path = h.as_ref().map_or_else(|| "/audit".to_owned(), |h| format!("/dags/{}/audit", h.dag_id));
    let next_page = found.next_cursor.as_ref().map(|cursor| {
        format!("{path}?{}", query_string(&[("subject", &subject), ("actor", &actor), ("cursor", cursor)]))
    });
    let now = Utc::now();
    let rows = found.items.into_iter().map(|row| Row {
        seq: row.seq,
        at: time::relative(row.entry.at, now),
        actor: row.entry.actor,
        action: row.entry.action,
        subject: row.entry.subject,
        detail: row.entry.detail.to_string(),
        hash: row.hash.get(..12).unwrap_or_default().to_owned(),
    });
    page(&AuditPage { c, h, rows: rows.collect(), subject, actor, next_page })
}
