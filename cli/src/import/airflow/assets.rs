//! Assets (datasets) of Airflow: names in schedules and outlets.

use tidemill_engine::ids::AssetName;
use toml::Value as Toml;

use super::value::{Object, Value};

/// What a schedule by assets says.
pub(super) struct Listened {
    pub(super) names: Vec<String>,
    pub(super) any: bool,
}

fn class<'o>(object: &'o Object<'_>) -> &'o str {
    object.path.rsplit('.').next().unwrap_or_default()
}

fn argument<'o, 'a>(object: &'o Object<'a>, name: &str, place: usize) -> Option<&'o Value<'a>> {
    let keyword = object.keywords.iter().find(|keyword| keyword.name == name).map(|keyword| &keyword.value);
    keyword.or_else(|| object.args.get(place))
}

/// Returns the name of an asset: what Airflow calls it, else its URI.
fn name(value: &Value<'_>) -> Option<String> {
    let Value::Object(object) = value else { return None };
    if !matches!(class(object), "Asset" | "Dataset" | "Model") {
        return None;
    }
    let text = argument(object, "name", 0).or_else(|| argument(object, "uri", 1))?.as_str()?;
    AssetName::new(text).ok().map(|name| name.to_string())
}

/// Returns the names of a list of assets. None: one of them only Python can tell, or its name cannot be one here.
pub(super) fn names(value: &Value<'_>) -> Option<Vec<String>> {
    let items = match value {
        Value::List(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut names = Vec::new();
    for found in items.iter().map(name) {
        let found = found?;
        if !names.contains(&found) {
            names.push(found);
        }
    }
    (!names.is_empty()).then_some(names)
}

/// Reads `[Asset("x")]`, `AssetAll(…)` and `AssetAny(…)`; one inside another has no counterpart.
pub(super) fn listened(value: &Value<'_>) -> Option<Listened> {
    let any = match value {
        Value::Object(object) => match class(object) {
            "AssetAny" | "DatasetAny" => true,
            "AssetAll" | "DatasetAll" => false,
            _ => return names(value).map(|names| Listened { names, any: false }),
        },
        _ => return names(value).map(|names| Listened { names, any: false }),
    };
    let Value::Object(object) = value else { return None };
    let mut found = Vec::new();
    for one in &object.args {
        let one = name(one)?;
        if !found.contains(&one) {
            found.push(one);
        }
    }
    (!found.is_empty()).then_some(Listened { any: any && found.len() > 1, names: found })
}

/// The assets and the timetable of `AssetOrTimeSchedule`.
pub(super) fn with_time<'o, 'a>(object: &'o Object<'a>) -> Option<(Listened, &'o Object<'a>)> {
    if !matches!(class(object), "AssetOrTimeSchedule" | "DatasetOrTimeSchedule") {
        return None;
    }
    let assets = argument(object, "assets", 1).or_else(|| argument(object, "datasets", 1))?;
    match argument(object, "timetable", 0)? {
        Value::Object(timetable) => Some((listened(assets)?, timetable)),
        _ => None,
    }
}

/// Whether a value is about assets, so that it deserves its own words when it cannot be converted.
pub(super) fn is_about_assets(value: &Value<'_>) -> bool {
    match value {
        Value::Object(object) => {
            let class = class(object);
            class.starts_with("Asset") || class.starts_with("Dataset")
        }
        Value::List(items) => !items.is_empty() && items.iter().any(is_about_assets),
        _ => false,
    }
}

/// Writes names as the value of a key.
pub(super) fn toml(names: &[String]) -> Toml {
    Toml::Array(names.iter().map(|name| Toml::from(name.as_str())).collect())
}

/// Writes a schedule by assets, with a cron expression where there is one beside it.
pub(super) fn schedule(listened: &Listened, cron: Option<&str>) -> Toml {
    let mut table = toml::Table::new();
    table.insert("assets".to_owned(), toml(&listened.names));
    if listened.any {
        table.insert("any".to_owned(), Toml::from(true));
    }
    if let Some(cron) = cron {
        table.insert("cron".to_owned(), Toml::from(cron));
    }
    Toml::Table(table)
}
