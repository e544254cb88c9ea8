//! Rendering what a task asks of another service or of a database.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    Context, RenderError, TaskRenderError,
    answer::names_of_condition,
    render::render_text,
    task::RenderedWork,
    value::{render_value, templates_of},
};
use crate::definition::{HttpSpec, Operator, SqlSpec, SqlTask};

/// A condition over what a sensor gets, with what it names of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerCondition {
    /// The template.
    pub template: String,
    /// What it names of the run.
    pub names: Map<String, Json>,
}

/// Adds the templates of what a task asks.
pub(super) fn templates<'a>(operator: &'a Operator, found: &mut Vec<&'a str>) {
    match operator {
        Operator::Http { spec, response_file: more } | Operator::HttpSensor { spec, when: more, .. } => {
            found.push(&spec.url);
            found.extend(spec.headers.values().map(String::as_str));
            spec.query.values().chain(&spec.body).for_each(|value| templates_of(value, found));
            found.extend(more.as_deref());
        }
        Operator::Sql { spec } => {
            of_query(&spec.spec, found);
            found.extend(spec.output_file.as_deref());
        }
        Operator::SqlSensor { spec, when, .. } => {
            of_query(spec, found);
            found.extend(when.as_deref());
        }
        _ => {}
    }
}

fn of_query<'a>(spec: &'a SqlSpec, found: &mut Vec<&'a str>) {
    found.extend(spec.database.as_deref());
    spec.parameters.values().for_each(|value| templates_of(value, found));
}

/// Renders what a task asks; nothing for one that asks nobody.
pub(super) fn work<F: FnOnce(RenderError) -> TaskRenderError>(
    operator: &Operator,
    context: &Context,
    at: impl Fn(&str) -> F,
) -> Result<Option<RenderedWork>, TaskRenderError> {
    Ok(Some(match operator {
        Operator::Http { spec, response_file } => RenderedWork::Http {
            spec: Box::new(request(spec, context, &at)?),
            response_file: optional(response_file.as_deref(), context).map_err(at("response_file"))?,
        },
        Operator::HttpSensor { spec, when, .. } => RenderedWork::HttpSensor {
            spec: Box::new(request(spec, context, &at)?),
            when: condition(when.as_deref(), context).map_err(at("when"))?,
        },
        Operator::Sql { spec } => RenderedWork::Sql {
            spec: Box::new(SqlTask {
                spec: query(&spec.spec, context, &at)?,
                transaction: spec.transaction,
                output_file: optional(spec.output_file.as_deref(), context).map_err(at("output_file"))?,
            }),
        },
        Operator::SqlSensor { spec, when, .. } => RenderedWork::SqlSensor {
            spec: Box::new(query(spec, context, &at)?),
            when: condition(when.as_deref(), context).map_err(at("when"))?,
        },
        _ => return Ok(None),
    }))
}

/// Renders a request; `at` names the key where it fails.
fn request<F: FnOnce(RenderError) -> TaskRenderError>(
    spec: &HttpSpec,
    context: &Context,
    at: &impl Fn(&str) -> F,
) -> Result<HttpSpec, TaskRenderError> {
    let mut headers = BTreeMap::new();
    for (name, template) in &spec.headers {
        let value = render_text(template, context).map_err(at(&format!("headers.{name}")))?;
        headers.insert(name.clone(), value);
    }
    let body = match &spec.body {
        // Text is sent as it is; only inside a table does one placeholder keep the type of its value.
        Some(Json::String(template)) => {
            Some(Json::String(render_text(template, context).map_err(at("body"))?))
        }
        Some(other) => Some(render_value(other, context).map_err(at("body"))?),
        None => None,
    };
    Ok(HttpSpec {
        url: render_text(&spec.url, context).map_err(at("url"))?,
        headers,
        query: values("query", &spec.query, context, at)?,
        body,
        ..spec.clone()
    })
}

/// Renders the parameters of statements; `at` names the key where it fails.
fn query<F: FnOnce(RenderError) -> TaskRenderError>(
    spec: &SqlSpec,
    context: &Context,
    at: &impl Fn(&str) -> F,
) -> Result<SqlSpec, TaskRenderError> {
    Ok(SqlSpec {
        database: optional(spec.database.as_deref(), context).map_err(at("database"))?,
        parameters: values("parameters", &spec.parameters, context, at)?,
        ..spec.clone()
    })
}

fn values<F: FnOnce(RenderError) -> TaskRenderError>(
    key: &str,
    map: &Map<String, Json>,
    context: &Context,
    at: &impl Fn(&str) -> F,
) -> Result<Map<String, Json>, TaskRenderError> {
    map.iter()
        .map(|(name, value)| {
            let rendered = render_value(value, context).map_err(at(&format!("{key}.{name}")))?;
            Ok((name.clone(), rendered))
        })
        .collect()
}

fn optional(template: Option<&str>, context: &Context) -> Result<Option<String>, RenderError> {
    template.map(|template| render_text(template, context)).transpose()
}

fn condition(template: Option<&str>, context: &Context) -> Result<Option<AnswerCondition>, RenderError> {
    template
        .map(|template| {
            let names = names_of_condition(template, context)?;
            Ok(AnswerCondition { template: template.to_owned(), names })
        })
        .transpose()
}
