//! The few functions of Python that DAG files compute names and dates with.

use super::{
    calls::Arguments,
    value::{Moment, Value},
};

/// Returns the milliseconds of a `timedelta`.
pub(super) fn delta(arguments: &Arguments<'_>) -> Option<i64> {
    // Places as in Python: days, seconds, microseconds, milliseconds, minutes, hours, weeks.
    const UNITS: &[(&str, f64)] = &[
        ("days", 86_400_000.0),
        ("seconds", 1_000.0),
        ("microseconds", 0.001),
        ("milliseconds", 1.0),
        ("minutes", 60_000.0),
        ("hours", 3_600_000.0),
        ("weeks", 604_800_000.0),
    ];
    if arguments.keywords.iter().any(|keyword| !UNITS.iter().any(|(name, _)| *name == keyword.name)) {
        return None;
    }
    let mut sum = 0.0;
    for (place, (name, factor)) in UNITS.iter().enumerate() {
        match arguments.get(name, place) {
            None => {}
            #[expect(clippy::cast_precision_loss, reason = "no delay is that long")]
            Some(Value::Int(value)) => sum += *value as f64 * factor,
            Some(Value::Float(value)) => sum += value * factor,
            Some(_) => return None,
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (sum.abs() < 1e15).then_some(sum.round() as i64)
}

/// Returns what `datetime(…)` says.
pub(super) fn moment(arguments: &Arguments<'_>) -> Option<Moment> {
    let part = |name: &str, place: usize, low: i64, high: i64| {
        let value = arguments.int(name, place);
        match (value, arguments.get(name, place)) {
            (None, None) => Some(low),
            (Some(value), _) if (low..=high).contains(&value) => Some(value),
            _ => None,
        }
    };
    let year = arguments.int("year", 0).filter(|year| (1..=9999).contains(year))?;
    arguments.int("month", 1)?;
    arguments.int("day", 2)?;
    let parts = [
        year,
        part("month", 1, 1, 12)?,
        part("day", 2, 1, 31)?,
        part("hour", 3, 0, 23)?,
        part("minute", 4, 0, 59)?,
        part("second", 5, 0, 59)?,
    ];
    let zone = ["tzinfo", "tz"].iter().find_map(|name| arguments.get(name, 7));
    let zone = match zone {
        None | Some(Value::None) => None,
        Some(Value::Zone(zone) | Value::Str(zone)) => Some(zone.clone()),
        Some(Value::Path(path)) if path.to_lowercase().ends_with(".utc") => Some("UTC".to_owned()),
        Some(_) => return None,
    };
    Some(Moment { parts, zone })
}

/// Returns what a function of Python gives, for those that DAG files compute names with.
pub(super) fn builtin<'a>(name: &str, arguments: &Arguments<'a>) -> Option<Value<'a>> {
    if name == "dict" {
        return dict(arguments);
    }
    let first = arguments.args.first();
    match (name, first?) {
        ("range", Value::Int(_)) => {
            let ints = arguments
                .args
                .iter()
                .map(|value| if let Value::Int(int) = value { Some(*int) } else { None });
            let (start, stop, step) = match *ints.collect::<Option<Vec<i64>>>()? {
                [stop] => (0, stop, 1),
                [start, stop] => (start, stop, 1),
                [start, stop, step] if step > 0 => (start, stop, step),
                _ => return None,
            };
            let step = usize::try_from(step).ok()?;
            Some(Value::List((start..stop).step_by(step).take(10_000).map(Value::Int).collect()))
        }
        ("str", value) => value.text().map(Value::Str),
        ("int", Value::Str(text)) => text.trim().parse().ok().map(Value::Int),
        ("int", Value::Int(value)) => Some(Value::Int(*value)),
        ("bool", value) => value.truth().map(Value::Bool),
        ("len", value) => i64::try_from(value.items()?.len()).ok().map(Value::Int),
        ("list" | "tuple" | "set" | "sorted" | "iter", value) => value.items().map(Value::List),
        ("enumerate", value) => {
            let items = value.items()?.into_iter().zip(0..);
            Some(Value::List(items.map(|(item, index)| Value::List(vec![Value::Int(index), item])).collect()))
        }
        ("zip", _) => {
            let lists = arguments.args.iter().map(Value::items).collect::<Option<Vec<_>>>()?;
            let length = lists.iter().map(Vec::len).min()?;
            let row = |index: usize| {
                Value::List(lists.iter().filter_map(|list| list.get(index).cloned()).collect())
            };
            Some(Value::List((0..length).map(row).collect()))
        }
        _ => None,
    }
}

/// `dict(a=1, **other)`, also with a dictionary to begin with.
fn dict<'a>(arguments: &Arguments<'a>) -> Option<Value<'a>> {
    let mut items = match arguments.args.first() {
        None => Vec::new(),
        Some(Value::Dict(items)) => items.clone(),
        Some(_) => return None,
    };
    for keyword in &arguments.keywords {
        if keyword.name == "**" {
            return None;
        }
        items.retain(|(name, _)| name.as_str() != Some(&keyword.name));
        items.push((Value::Str(keyword.name.clone()), keyword.value.clone()));
    }
    Some(Value::Dict(items))
}

/// Returns what a method of a text or a dictionary gives.
pub(super) fn text_method<'a>(value: &Value<'a>, name: &str, arguments: &Arguments<'a>) -> Option<Value<'a>> {
    let text = |place: usize| arguments.args.get(place).and_then(Value::as_str);
    match (value, name) {
        (Value::Str(own), "upper") => Some(Value::Str(own.to_uppercase())),
        (Value::Str(own), "lower") => Some(Value::Str(own.to_lowercase())),
        (Value::Str(own), "strip") if arguments.args.is_empty() => Some(Value::Str(own.trim().to_owned())),
        (Value::Str(own), "replace") => Some(Value::Str(own.replace(text(0)?, text(1)?))),
        (Value::Str(own), "split") => {
            let parts: Vec<&str> = match text(0) {
                Some(separator) if !separator.is_empty() => own.split(separator).collect(),
                _ => own.split_whitespace().collect(),
            };
            Some(Value::List(parts.into_iter().map(|part| Value::Str(part.to_owned())).collect()))
        }
        (Value::Str(own), "join") => {
            let items = arguments.args.first()?.items()?;
            let items =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?;
            Some(Value::Str(items.join(own)))
        }
        (Value::Str(own), "format") => format(own, arguments).map(Value::Str),
        (Value::Dict(items), "items") => Some(Value::List(
            items.iter().map(|(key, value)| Value::List(vec![key.clone(), value.clone()])).collect(),
        )),
        (Value::Dict(items), "keys") => Some(Value::List(items.iter().map(|(key, _)| key.clone()).collect())),
        (Value::Dict(items), "values") => {
            Some(Value::List(items.iter().map(|(_, value)| value.clone()).collect()))
        }
        (Value::Dict(_), "copy") => Some(value.clone()),
        (Value::Dict(items), "get") => {
            let key = arguments.args.first()?;
            let found =
                items.iter().find(|(name, _)| name.equals(key) == Some(true)).map(|(_, value)| value.clone());
            Some(found.or_else(|| arguments.args.get(1).cloned()).unwrap_or(Value::None))
        }
        _ => None,
    }
}

/// `"…{}…{name}".format(…)`, without formats.
fn format(own: &str, arguments: &Arguments<'_>) -> Option<String> {
    let (mut out, mut rest, mut place) = (String::new(), own, 0);
    while let Some(at) = rest.find(['{', '}']) {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        if let Some(after) = tail.strip_prefix("{{").or_else(|| tail.strip_prefix("}}")) {
            out.push_str(tail.get(..1)?);
            rest = after;
            continue;
        }
        let (name, after) = tail.strip_prefix('{')?.split_once('}')?;
        let value = if name.is_empty() {
            place += 1;
            arguments.args.get(place - 1)
        } else if let Ok(place) = name.parse::<usize>() {
            arguments.args.get(place)
        } else {
            arguments.keywords.iter().find(|keyword| keyword.name == name).map(|keyword| &keyword.value)
        };
        out.push_str(&value?.text()?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}
