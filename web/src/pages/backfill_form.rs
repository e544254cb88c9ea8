//! The form of a new backfill, and what it would do before it does it.

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};

use super::{Chrome, dag::find, page, see};
use crate::{
    auth::Identity,
    backfills,
    error::{Problem, Result},
    extract::{DagPath, Form, Ids},
    render::{Markup, time},
    state::WebState,
    views::backfills::{BackfillBody, BackfillPreviewView},
};

/// How many dates the preview lists.
const LISTED: usize = 200;

struct DateRow {
    date: Markup,
    outcome: String,
    reason: String,
}

/// What would become of the dates.
struct Preview {
    date_count: u64,
    from: Markup,
    to: Markup,
    rows: Vec<DateRow>,
    /// How many dates there are beside those that are listed.
    more: u64,
}

#[derive(Template)]
#[template(path = "backfill_form.html")]
struct FormPage {
    c: Chrome,
    dag_id: String,
    timezone: String,
    problems: Vec<String>,
    from: String,
    to: String,
    reprocess: String,
    max_active_runs: String,
    run_backwards: bool,
    conf: String,
    preview: Option<Preview>,
}

impl FormPage {
    fn choices(&self) -> [(&'static str, &'static str, bool); 3] {
        let is = |word: &str| self.reprocess == word;
        [
            ("none", "none: pass over dates that have a run", is("none")),
            ("failed", "failed: run those again that did not succeed", is("failed")),
            ("completed", "completed: run all of them again", is("completed")),
        ]
    }
}

fn body(dag_id: &str, form: &Form) -> Result<BackfillBody> {
    let invalid = |text: String| Problem::new("WEB0206", text);
    let text = |name: &str| form.value(name).unwrap_or_default().to_owned();
    let limit = match form.value("max_active_runs") {
        Some(text) => {
            Some(text.parse().map_err(|_| invalid(format!("max_active_runs is {text:?}, not a number")))?)
        }
        None => None,
    };
    let conf = match form.value("conf").map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => {
            serde_json::from_str(text).map_err(|error| invalid(format!("conf is no JSON object: {error}")))?
        }
        None => serde_json::Map::new(),
    };
    Ok(BackfillBody {
        dag_id: dag_id.to_owned(),
        from: text("from"),
        to: text("to"),
        reprocess: form.value("reprocess").map(ToOwned::to_owned),
        max_active_runs: limit,
        run_backwards: form.is_set("run_backwards"),
        conf,
        ..BackfillBody::default()
    })
}

impl From<BackfillPreviewView> for Preview {
    fn from(view: BackfillPreviewView) -> Self {
        let rows: Vec<DateRow> = view
            .items
            .into_iter()
            .map(|item| DateRow {
                date: time::absolute(item.logical_date),
                outcome: item.outcome,
                reason: item.reason.unwrap_or_default(),
            })
            .collect();
        Self {
            date_count: view.date_count,
            from: time::absolute(view.from),
            to: time::absolute(view.to),
            more: view.date_count.saturating_sub(rows.len() as u64),
            rows,
        }
    }
}

async fn form_page(
    state: &WebState,
    c: Chrome,
    ids: DagPath,
    form: &Form,
    problems: Vec<String>,
    preview: Option<Preview>,
) -> Result<Response> {
    let detail = find(state, &ids.dag_id).await?;
    let text = |name: &str| form.value(name).unwrap_or_default().to_owned();
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    page(&FormPage {
        c,
        dag_id: ids.dag_id.to_string(),
        timezone: detail.definition.timezone.name().to_owned(),
        problems,
        from: text("from"),
        to: text("to"),
        reprocess: or(text("reprocess"), "none"),
        max_active_runs: or(text("max_active_runs"), &backfills::DEFAULT_LIMIT.to_string()),
        run_backwards: form.is_set("run_backwards"),
        conf: text("conf"),
        preview,
    })
}

/// Shows the form.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
) -> Result<Response> {
    form_page(&state, c, ids, &Form(Vec::new()), Vec::new(), None).await
}

/// Shows what the backfill would do, or creates it.
pub(crate) async fn submit(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    form: Form,
) -> Result<Response> {
    let is_sure = form.value("step") == Some("create");
    let outcome = decide(&state, &who, &ids, &form, is_sure).await;
    match outcome {
        Ok(Ok(id)) => Ok(see(&format!("/backfills/{id}"))),
        Ok(Err(preview)) => form_page(&state, c, ids, &form, Vec::new(), Some(preview)).await,
        Err(problem) if problem.status < 500 && problem.status != 404 => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
            let mut problems = vec![format!("{}: {}", problem.code, problem.detail)];
            problems.extend(problem.errors.iter().map(ToString::to_string));
            let mut response = form_page(&state, c, ids, &form, problems, None).await?;
            *response.status_mut() = status;
            Ok(response)
        }
        Err(problem) => Err(problem),
    }
}

/// Returns the number of a new backfill, or what one would do.
async fn decide(
    state: &WebState,
    who: &Identity,
    ids: &DagPath,
    form: &Form,
    is_sure: bool,
) -> Result<Result<i64, Preview>> {
    let body = body(ids.dag_id.as_str(), form)?;
    let spec = backfills::spec(state, &ids.dag_id, &body).await?;
    if is_sure {
        let made = backfills::create(state, who, ids.dag_id.clone(), spec, None).await?;
        return Ok(Ok(made.row.key.0));
    }
    let preview = backfills::preview(state, &ids.dag_id, &spec, None, LISTED).await?;
    Ok(Err(preview.into()))
}
