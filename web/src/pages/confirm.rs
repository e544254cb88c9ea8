//! Asks once before something changes, and lists what it would change: a dry run of the same call.

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use serde::Deserialize;
use tidemill_engine::{rows::RunRow, state::RunState};

use super::{Chrome, page, see};
use crate::{
    actions,
    auth::Identity,
    error::{Problem, Result},
    extract::{self, Form, Ids, Params, RunPath},
    state::WebState,
    views::{ChangeView, ClearBody, MarkBody},
};

/// A button that leads to the question.
pub(crate) struct Offer {
    pub(crate) label: &'static str,
    pub(crate) href: String,
    pub(crate) is_primary: bool,
    pub(crate) is_danger: bool,
}

/// What is asked for; the same fields in the query and in the form.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Wish {
    #[serde(default)]
    action: String,
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    map_index: Option<i32>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    only_failed: Option<bool>,
    #[serde(default)]
    upstream: Option<bool>,
    #[serde(default)]
    downstream: Option<bool>,
    #[serde(default)]
    latest: Option<bool>,
    #[serde(default)]
    past: Option<bool>,
    #[serde(default)]
    future: Option<bool>,
}

impl Wish {
    fn from_form(form: &Form) -> Self {
        let text = |name: &str| form.value(name).map(ToOwned::to_owned);
        Self {
            action: text("action").unwrap_or_default(),
            task: text("task"),
            map_index: form.value("map_index").and_then(|index| index.parse().ok()),
            state: text("state"),
            only_failed: form.is_set("only_failed").then_some(true),
            upstream: form.is_set("upstream").then_some(true),
            downstream: form.is_set("downstream").then_some(true),
            latest: form.is_set("latest").then_some(true),
            past: form.is_set("past").then_some(true),
            future: form.is_set("future").then_some(true),
        }
    }

    fn tasks(&self) -> Vec<String> {
        self.task.clone().filter(|t| !t.is_empty()).into_iter().collect()
    }

    fn clear(&self, dry_run: bool) -> ClearBody {
        ClearBody {
            tasks: self.tasks(),
            map_index: self.map_index,
            upstream: self.upstream == Some(true),
            downstream: self.downstream == Some(true),
            only_failed: self.only_failed == Some(true),
            past: self.past == Some(true),
            future: self.future == Some(true),
            dry_run,
            latest: self.latest == Some(true),
        }
    }

    fn mark(&self, dry_run: bool) -> MarkBody {
        MarkBody {
            tasks: self.tasks(),
            map_index: self.map_index,
            state: self.state.clone().unwrap_or_default(),
            dry_run,
        }
    }

    fn words(&self) -> Result<(String, &'static str, &'static str)> {
        let what = match (self.task.as_deref().filter(|t| !t.is_empty()), self.map_index) {
            (Some(task), Some(index)) => format!("{task}[{index}]"),
            (Some(task), None) => task.to_owned(),
            (None, _) => "the run".to_owned(),
        };
        Ok(match self.action.as_str() {
            "clear" if self.only_failed == Some(true) => (
                "Retry from failure".to_owned(),
                "What failed, and what was held back by it, runs again. What succeeded stays.",
                "Nothing has failed, so nothing would change.",
            ),
            "clear" => (
                format!("Clear {what}"),
                "Cleared task instances run again, with a new try. A running one is stopped first.",
                "Nothing is there to clear.",
            ),
            "mark" => (
                format!("Mark {what} as {}", self.state.as_deref().unwrap_or("?")),
                "The verdict is replaced by hand and written to the audit log. A running process is stopped first.",
                "Its task instances stay as they are.",
            ),
            "cancel" => (
                "Cancel the run".to_owned(),
                "Running processes are stopped with their grace; what has not started never starts.",
                "No task instance is left to stop or to skip.",
            ),
            "resume" => (
                "Resume the run".to_owned(),
                "What had no try left gets new ones, and everything else goes on.",
                "Nothing waits for a person.",
            ),
            _ => return Err(Problem::new("WEB0206", "action must be clear, mark, cancel or resume")),
        })
    }

    /// What becomes of the run itself: its state now and then.
    fn of_run(&self, run: &RunRow, is_nothing_cleared: bool) -> Option<(&'static str, String)> {
        let is_of_task = self.task.as_deref().is_some_and(|t| !t.is_empty());
        let then = match self.action.as_str() {
            "cancel" => RunState::Cancelled.as_str().to_owned(),
            "resume" => RunState::Running.as_str().to_owned(),
            "mark" if !is_of_task => self.state.clone()?,
            "clear" if run.state.is_terminal() && !is_nothing_cleared => RunState::Queued.as_str().to_owned(),
            _ => return None,
        };
        (then != run.state.as_str()).then_some((run.state.as_str(), then))
    }

    /// What a clear selects beyond what is named, each with a label and whether it is chosen.
    fn options(&self) -> [(&'static str, &'static str, bool); 6] {
        let is_set = |option: Option<bool>| option == Some(true);
        [
            ("only_failed", "only what failed or was held back by it", is_set(self.only_failed)),
            ("upstream", "everything above", is_set(self.upstream)),
            ("downstream", "everything below", is_set(self.downstream)),
            ("past", "in every earlier run too", is_set(self.past)),
            ("future", "in every later run too", is_set(self.future)),
            ("latest", "with the newest version of the DAG", is_set(self.latest)),
        ]
    }

    /// Returns what a form that changes the options says besides.
    fn subject(&self) -> Vec<(&'static str, String)> {
        self.hidden()
            .into_iter()
            .filter(|(name, _)| matches!(*name, "action" | "task" | "map_index"))
            .collect()
    }

    fn hidden(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("action", self.action.clone())];
        fields.extend(self.task.clone().map(|t| ("task", t)));
        fields.extend(self.map_index.map(|index| ("map_index", index.to_string())));
        fields.extend(self.state.clone().map(|s| ("state", s)));
        let options = self.options().map(|(name, _, is_set)| (name, is_set));
        fields
            .extend(options.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (*name, "true".to_owned())));
        fields
    }
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    c: Chrome,
    dag_id: String,
    run_id: String,
    of_run: Option<(&'static str, String)>,
    title: String,
    explanation: &'static str,
    when_empty: &'static str,
    changes: Vec<ChangeView>,
    has_other_runs: bool,
    /// Of a clear: what else it may select.
    options: Vec<(&'static str, &'static str, bool)>,
    subject: Vec<(&'static str, String)>,
    hidden: Vec<(&'static str, String)>,
}

/// Lists what would change.
pub(crate) async fn show(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    c: Chrome,
    Ids(ids): Ids<RunPath>,
    Params(wish): Params<Wish>,
) -> Result<Response> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let (title, explanation, when_empty) = wish.words()?;
    let changed = match wish.action.as_str() {
        "clear" => actions::clear(&state, &who, &run, &wish.clear(true)).await?,
        "mark" => actions::mark(&state, &who, &run, &wish.mark(true)).await?,
        "resume" => actions::resume(&state, &who, &run, true).await?,
        _ => actions::cancel(&state, &who, &run, true).await?,
    };
    let changes = actions::changes(&state, &run, changed, true).await?.changed;
    page(&ConfirmPage {
        c,
        dag_id: ids.dag_id.to_string(),
        run_id: ids.run_id.to_string(),
        of_run: wish.of_run(&run, changes.is_empty()),
        title,
        explanation,
        when_empty,
        has_other_runs: changes.iter().any(|change| change.run_id != run.run_id.as_str()),
        changes,
        options: if wish.action == "clear" { wish.options().to_vec() } else { Vec::new() },
        subject: wish.subject(),
        hidden: wish.hidden(),
    })
}

/// Does it.
pub(crate) async fn submit(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<RunPath>,
    form: Form,
) -> Result<Response> {
    let wish = Wish::from_form(&form);
    wish.words()?;
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    match wish.action.as_str() {
        "clear" => actions::clear(&state, &who, &run, &wish.clear(false)).await?,
        "mark" => actions::mark(&state, &who, &run, &wish.mark(false)).await?,
        "resume" => actions::resume(&state, &who, &run, false).await?,
        _ => actions::cancel(&state, &who, &run, false).await?,
    };
    let back = match wish
        .task
        .as_deref()
        .filter(|t| !t.is_empty() && matches!(wish.action.as_str(), "clear" | "mark"))
    {
        Some(task) => super::run::task_href(&run, task, -1),
        None => format!("/dags/{}/runs/{}", run.dag_id, run.run_id),
    };
    Ok(see(&back))
}
