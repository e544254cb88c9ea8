//! DAGs, their versions and the files that do not load.

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tidemill_engine::{definition::Dag, ids::DagId, timetable::Timetable};
use tidemill_store::reader::{DagFilter, DagQuery, DagSummary};

use crate::{
    actions,
    auth::Identity,
    error::{Problem, Result},
    extract::{Body, DagPath, Ids, Paging, Params, version},
    pages,
    state::WebState,
    views::{
        DagDetailView, DagView, ImportErrorView, List, PatchDagBody, PatchedView, PausePlanView, VersionView,
        task_definitions,
    },
};

/// Which DAGs a list shows.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct DagListParams {
    #[serde(default, alias = "text")]
    pub(crate) q: Option<String>,
    #[serde(default)]
    pub(crate) tag: Option<String>,
    #[serde(default)]
    pub(crate) state: Option<String>,
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

impl DagListParams {
    pub(crate) fn query(&self, default_limit: u32, last_runs: u32) -> Result<DagQuery> {
        let state = match self.state.as_deref().filter(|s| !s.is_empty()) {
            Some(word) => Some(dag_filter(word)?),
            None => None,
        };
        let text = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
        let paging = Paging { cursor: self.cursor.clone(), limit: self.limit };
        Ok(DagQuery {
            page: paging.request(default_limit),
            text: text(&self.q),
            tag: text(&self.tag),
            state,
            last_runs,
        })
    }
}

fn dag_filter(word: &str) -> Result<DagFilter> {
    Ok(match word {
        "active" => DagFilter::Active,
        "paused" => DagFilter::Paused,
        "auto_paused" => DagFilter::AutoPaused,
        "missing" => DagFilter::Missing,
        "running" => DagFilter::Running,
        "success" => DagFilter::Success,
        "failed" => DagFilter::Failed,
        _ => {
            return Err(Problem::new(
                "WEB0206",
                "state must be active, paused, auto_paused, missing, running, success or failed",
            ));
        }
    })
}

/// When the next scheduled run of a DAG is created; absent when none will be.
pub(crate) fn next_run(dag: &Dag, cursor: DateTime<Utc>, created_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let timetable = Timetable::new(dag).ok()?.first_seen(created_at);
    timetable.next_after(cursor.max(Utc::now())).map(|slot| slot.run_after)
}

pub(crate) fn next_of(state: &WebState, summary: &DagSummary) -> Option<DateTime<Utc>> {
    if summary.dag.is_paused || summary.dag.is_missing {
        return None;
    }
    let dag = state.handle().dag(&summary.dag.dag_id)?;
    next_run(&dag, summary.dag.cursor, summary.dag.created_at)
}

/// Lists DAGs by id.
#[utoipa::path(get, path = "/api/v1/dags", tag = "dags", params(("q" = Option<String>, Query, description = "Part of the id or the description"),
    ("tag" = Option<String>, Query), ("state" = Option<String>, Query, description = "active, paused, auto_paused (by the scheduler), missing, running, success or failed"), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = List<DagView>)))]
pub(crate) async fn list(
    State(state): State<WebState>,
    Params(params): Params<DagListParams>,
) -> Result<Json<List<DagView>>> {
    let page = state.reader().dags(&params.query(50, 0)?).await?;
    Ok(Json(List::of(page, |summary| {
        let next = next_of(&state, &summary);
        DagView::of(summary, next)
    })))
}

/// Finds the summary of one DAG.
pub(crate) async fn detail(state: &WebState, dag_id: &DagId) -> Result<(DagView, std::sync::Arc<Dag>)> {
    let found = state.reader().dag(dag_id).await?.ok_or_else(|| Problem::not_found("such DAG"))?;
    let dag = found.definition;
    let summary = DagSummary {
        description: dag.description.clone(),
        owner: dag.owner.clone(),
        tags: dag.tags.clone(),
        schedule: dag.schedule.clone(),
        timezone: dag.timezone.to_string(),
        task_count: u32::try_from(dag.tasks.len()).unwrap_or(u32::MAX),
        last_runs: Vec::new(),
        dag: found.dag,
    };
    let next = next_of(state, &summary);
    Ok((DagView::of(summary, next), dag))
}

/// Shows a DAG with its tasks.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}", tag = "dags", params(("dag_id" = String, Path)), responses((status = 200, body = DagDetailView), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(state): State<WebState>,
    Ids(ids): Ids<DagPath>,
) -> Result<Json<DagDetailView>> {
    let (view, dag) = detail(&state, &ids.dag_id).await?;
    let found = pages::dag::find(&state, &ids.dag_id).await?;
    Ok(Json(DagDetailView {
        warnings: pages::dag::warnings(&state, &found).await?,
        dag: view,
        doc: dag.doc.clone(),
        catchup: dag.catchup,
        max_active_runs: dag.max_active_runs,
        max_active_tasks: dag.max_active_tasks,
        params: dag.params.iter().map(|p| (p.name.clone(), p.schema.clone())).collect(),
        tasks: task_definitions(&dag),
        passed_over: state.reader().passed_over(&ids.dag_id, 20).await?,
    }))
}

/// Pauses or unpauses a DAG. With `dry_run` it only says what would change: then the answer is that, and not the DAG.
#[utoipa::path(patch, path = "/api/v1/dags/{dag_id}", tag = "dags", params(("dag_id" = String, Path)), request_body = PatchDagBody,
    responses((status = 200, body = PatchedView), (status = 404, body = Problem)))]
pub(crate) async fn patch(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<DagPath>,
    Body(body): Body<PatchDagBody>,
) -> Result<Json<PatchedView>> {
    if body.dry_run {
        let plan = state.handle().would_pause(ids.dag_id.clone(), body.is_paused).await?;
        return Ok(Json(PatchedView::Plan(PausePlanView::of(&ids.dag_id, plan))));
    }
    actions::pause(&state, &who, ids.dag_id.clone(), body.is_paused).await?;
    Ok(Json(PatchedView::Dag(Box::new(detail(&state, &ids.dag_id).await?.0))))
}

/// Deletes a DAG whose file is gone, with its runs.
#[utoipa::path(delete, path = "/api/v1/dags/{dag_id}", tag = "dags", params(("dag_id" = String, Path)), responses((status = 204), (status = 409, body = Problem)))]
pub(crate) async fn delete(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<DagPath>,
) -> Result<StatusCode> {
    actions::delete_dag(&state, &who, ids.dag_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `?version=`.
#[derive(Deserialize)]
pub(crate) struct VersionParam {
    #[serde(default)]
    pub(crate) version: Option<String>,
}

/// Shows the TOML text of a version.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/source", tag = "dags", params(("dag_id" = String, Path), ("version" = Option<String>, Query)),
    responses((status = 200, content_type = "text/plain", body = String), (status = 404, body = Problem)))]
pub(crate) async fn source(
    State(state): State<WebState>,
    Ids(ids): Ids<DagPath>,
    Params(query): Params<VersionParam>,
) -> Result<Response> {
    let found = state.reader().dag(&ids.dag_id).await?.ok_or_else(|| Problem::not_found("such DAG"))?;
    let hash = match &query.version {
        Some(text) => version(Some(text)).ok_or_else(|| Problem::not_found("such DAG version"))?,
        None => found.dag.version,
    };
    let row = state.reader().version(&ids.dag_id, &hash).await?;
    let row = row.ok_or_else(|| Problem::not_found("such DAG version"))?;
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, "sandbox")];
    Ok((headers, row.source).into_response())
}

/// Lists the versions of a DAG, the newest first.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/versions", tag = "dags", params(("dag_id" = String, Path)), responses((status = 200, body = List<VersionView>)))]
pub(crate) async fn versions(
    State(state): State<WebState>,
    Ids(ids): Ids<DagPath>,
) -> Result<Json<List<VersionView>>> {
    let versions = state.reader().versions(&ids.dag_id).await?;
    Ok(Json(List::whole(versions.into_iter().map(Into::into).collect())))
}

/// Lists the DAG files that do not load.
#[utoipa::path(get, path = "/api/v1/import_errors", tag = "dags", responses((status = 200, body = List<ImportErrorView>)))]
pub(crate) async fn import_errors(State(state): State<WebState>) -> Result<Json<List<ImportErrorView>>> {
    let errors = state.reader().import_errors().await?;
    Ok(Json(List::whole(errors.into_iter().map(Into::into).collect())))
}
