//! Rendering which run a `trigger_dag` makes and which one a `dag_run_sensor` means.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;

use super::{
    Context, RenderError,
    error::shorten,
    render::render_text,
    value::{render_value, templates_of},
};
use crate::{
    definition::{Operator, WhichRun, moment},
    ids::{DagId, RunId},
    preparation::{RunAsked, TriggerPlan},
};

/// Which key could not be rendered, and why.
type Failed = (String, RenderError);

/// Returns every template of an operator that is about another run.
pub(super) fn templates(operator: &Operator) -> Vec<&str> {
    match operator {
        Operator::TriggerDag { spec } => {
            let mut found = vec![spec.dag_id.as_str()];
            found.extend(spec.logical_date.as_deref());
            found.extend(spec.run_id.as_deref());
            spec.conf.values().for_each(|value| templates_of(value, &mut found));
            found
        }
        Operator::DagRunSensor { wait } => match &wait.which {
            WhichRun::Date { template } => vec![&wait.dag_id, template],
            WhichRun::Offset { .. } | WhichRun::Latest => vec![&wait.dag_id],
        },
        _ => Vec::new(),
    }
}

/// Renders what a `trigger_dag` triggers. What only the shell knows is for the caller to fill in.
pub(super) fn plan(operator: &Operator, context: &Context) -> Result<TriggerPlan, Failed> {
    let Operator::TriggerDag { spec } = operator else { return Err(inconsistent()) };
    let conf = render_value(&Json::Object(spec.conf.clone()), context);
    let Json::Object(conf) = conf.map_err(|error| ("conf".to_owned(), error))? else {
        return Err(inconsistent());
    };
    let logical_date = spec.logical_date.as_ref().map(|template| date("logical_date", template, context));
    let run_id = spec.run_id.as_ref().map(|template| {
        let text = text("run_id", template, context)?;
        RunId::new(&text).map_err(|_| unusable("run_id", &text, "the id of a run"))
    });
    Ok(TriggerPlan {
        dag_id: dag_id(&spec.dag_id, context)?,
        conf: Arc::new(conf),
        logical_date: logical_date.transpose()?,
        run_id: run_id.transpose()?,
        suffix: String::new(),
        is_run_id_taken: false,
    })
}

/// Renders which run a `dag_run_sensor` means; it is for the caller to find.
pub(super) fn asked(operator: &Operator, context: &Context) -> Result<RunAsked, Failed> {
    let Operator::DagRunSensor { wait } = operator else { return Err(inconsistent()) };
    let logical_date = match &wait.which {
        WhichRun::Latest => None,
        WhichRun::Date { template } => Some(date("logical_date", template, context)?),
        WhichRun::Offset { earlier } => {
            let earlier = TimeDelta::from_std(*earlier).unwrap_or_default();
            Some(context.logical_date.checked_sub_signed(earlier).unwrap_or(context.logical_date))
        }
    };
    Ok(RunAsked { dag_id: dag_id(&wait.dag_id, context)?, logical_date, found: None })
}

fn text(key: &str, template: &str, context: &Context) -> Result<String, Failed> {
    let text = render_text(template, context).map_err(|error| (key.to_owned(), error))?;
    Ok(text.trim().to_owned())
}

fn dag_id(template: &str, context: &Context) -> Result<DagId, Failed> {
    let text = text("dag_id", template, context)?;
    DagId::new(&text).map_err(|_| unusable("dag_id", &text, "the id of a DAG"))
}

fn date(key: &str, template: &str, context: &Context) -> Result<DateTime<Utc>, Failed> {
    let text = text(key, template, context)?;
    moment(&text, context.timezone).ok_or_else(|| unusable(key, &text, "a date"))
}

fn unusable(key: &str, text: &str, what: &'static str) -> Failed {
    (key.to_owned(), RenderError::Unusable { text: shorten(text), what })
}

fn inconsistent() -> Failed {
    ("operator".to_owned(), RenderError::Unusable { text: String::new(), what: "about another run" })
}
