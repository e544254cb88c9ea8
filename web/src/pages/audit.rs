//! Who changed what.

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;

use super::{Chrome, dags::query_string, page};
use crate::{
    api::access::AuditParams,
    error::Result,
    extract::Params,
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
    let found = state.reader().audit(&params.query(100)).await?;
    let (subject, actor) = (params.subject.unwrap_or_default(), params.actor.unwrap_or_default());
    let next_page = found.next_cursor.as_ref().map(|cursor| {
        format!("/audit?{}", query_string(&[("subject", &subject), ("actor", &actor), ("cursor", cursor)]))
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
    page(&AuditPage { c, rows: rows.collect(), subject, actor, next_page })
}
