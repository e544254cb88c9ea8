//! Rendering what the engine must know before it can act on an instance itself; see [`crate::preparation`].

use serde_json::Value as Json;

use super::{
    Context, Needs, RenderError, TaskRenderError,
    environment::OUTPUT_LIMIT_BYTES,
    needs,
    render::{render_json, render_text},
};
use crate::{
    definition::{MapSource, MapSpec, Operator, Task, TimeWait, Until},
    mapping::MapValues,
    preparation::{Preparation, Prepared},
};

/// Returns what has to be loaded before something can be prepared.
#[must_use]
pub fn needs_of_preparation(task: &Task, what: Preparation) -> Needs {
    let mut all = Needs::default();
    match what {
        Preparation::Map => {
            let mut visit = |template: &str| all.merge(needs(template));
            match &task.map {
                Some(MapSpec::One(source)) => templates(source, &mut visit),
                Some(MapSpec::Product(sources)) => {
                    sources.iter().for_each(|(_, source)| templates(source, &mut visit));
                }
                None => {}
            }
        }
        Preparation::Until => {
            if let Some(template) = until(task) {
                all.merge(needs(template));
            }
        }
        Preparation::Trigger | Preparation::Runs => {
            for template in super::other_runs::templates(&task.operator) {
                all.merge(needs(template));
            }
        }
    }
    all
}

/// Prepares something.
///
/// # Errors
/// [`TaskRenderError`] names the key that could not be rendered: the instance fails with it.
pub fn prepare(task: &Task, what: Preparation, context: &Context) -> Result<Prepared, TaskRenderError> {
    let failed = |(field, error)| TaskRenderError { task: task.id.clone(), field, error };
    match what {
        Preparation::Map => {
            let spec = task.map.as_ref();
            let values = spec.map_or_else(|| Ok(MapValues::List(Vec::new())), |spec| map(spec, context));
            values.map(Prepared::Map).map_err(failed)
        }
        Preparation::Until => {
            let text = render_text(until(task).unwrap_or_default(), context);
            text.map(Prepared::Until).map_err(|error| failed(("until".to_owned(), error)))
        }
        Preparation::Trigger => {
            let plan = super::other_runs::plan(&task.operator, context).map_err(failed)?;
            Ok(Prepared::Trigger(Box::new(plan)))
        }
        Preparation::Runs => {
            let asked = super::other_runs::asked(&task.operator, context).map_err(failed)?;
            Ok(Prepared::Runs(Box::new(asked)))
        }
    }
}

/// Returns the template of a `time_sensor`.
fn until(task: &Task) -> Option<&str> {
    match &task.operator {
        Operator::TimeSensor { wait: TimeWait { until: Until::Text { template, .. }, .. } } => Some(template),
        _ => None,
    }
}

fn map(spec: &MapSpec, context: &Context) -> Result<MapValues, (String, RenderError)> {
    let at = |field: String| |error| (field, error);
    let (values, size) = match spec {
        MapSpec::One(source) => {
            let (items, size) = list(source, context).map_err(at("map".to_owned()))?;
            (MapValues::List(items), size)
        }
        MapSpec::Product(sources) => {
            let mut lists = Vec::with_capacity(sources.len());
            let mut total = 0;
            for (name, source) in sources {
                let (items, size) = list(source, context).map_err(at(format!("map.{name}")))?;
                total += size;
                lists.push((name.clone(), items));
            }
            (MapValues::Product(lists), total)
        }
    };
    if size > OUTPUT_LIMIT_BYTES {
        let what = format!("the elements take {size} bytes together, more than {OUTPUT_LIMIT_BYTES}");
        return Err(("map".to_owned(), RenderError::Limit { what }));
    }
    Ok(values)
}

/// Returns the elements of one source, and how long they are as JSON.
fn list(source: &MapSource, context: &Context) -> Result<(Vec<Json>, usize), RenderError> {
    let items = match source {
        MapSource::List(items) => {
            items.iter().map(|item| inside(item, context)).collect::<Result<Vec<_>, _>>()?
        }
        MapSource::Template(template) => array(render_json(template, context)?)?,
    };
    let size = items.iter().map(|item| item.to_string().len() + 1).sum();
    Ok((items, size))
}

/// Renders the texts inside a value.
fn inside(value: &Json, context: &Context) -> Result<Json, RenderError> {
    Ok(match value {
        Json::String(text) => render_json(text, context)?,
        Json::Array(items) => {
            Json::Array(items.iter().map(|item| inside(item, context)).collect::<Result<_, _>>()?)
        }
        Json::Object(members) => Json::Object(
            members
                .iter()
                .map(|(name, item)| Ok((name.clone(), inside(item, context)?)))
                .collect::<Result<_, RenderError>>()?,
        ),
        other => other.clone(),
    })
}

/// Takes a list, also one that was written as text: `key=value` outputs are text.
fn array(value: Json) -> Result<Vec<Json>, RenderError> {
    let value = match &value {
        Json::String(text) => match serde_json::from_str(text.trim()) {
            Ok(list @ Json::Array(_)) => list,
            _ => value,
        },
        _ => value,
    };
    match value {
        Json::Array(items) => Ok(items),
        other => Err(RenderError::NotAList { found: described(&other) }),
    }
}

fn described(value: &Json) -> String {
    match value {
        Json::Null => "nothing (null)".to_owned(),
        Json::Bool(_) => format!("the boolean {value}"),
        Json::Number(_) => format!("the number {value}"),
        Json::String(text) => format!("the text {:?}", super::error::shorten(text.trim())),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => format!("the object {}", super::error::shorten(&value.to_string())),
    }
}

fn templates(source: &MapSource, visit: &mut dyn FnMut(&str)) {
    match source {
        MapSource::Template(template) => visit(template),
        MapSource::List(items) => items.iter().for_each(|item| texts(item, visit)),
    }
}

fn texts(value: &Json, visit: &mut dyn FnMut(&str)) {
    match value {
        Json::String(text) => visit(text),
        Json::Array(items) => items.iter().for_each(|item| texts(item, visit)),
        Json::Object(members) => members.values().for_each(|item| texts(item, visit)),
        _ => {}
    }
}
