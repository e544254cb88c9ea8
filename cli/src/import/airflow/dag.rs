//! Converts what is said about a DAG as a whole: its schedule, dates, defaults and params.

use std::collections::BTreeSet;

use ruff_text_size::TextRange;
use tidemill_engine::definition::keys::{KEYS, TableId};
use toml::Value as Toml;

use super::{
    assets,
    common::{self, Mapped},
    interp::{DagDraft, Interp},
    params::{constant, param},
    tasks,
    value::{Keyword, Moment, Object, Value},
};
use crate::import::{Dag, Entry, Level, is_built, words};

/// Arguments of `DAG` that say nothing here.
const IDLE: &[&str] = &[
    "dag_id",
    "schedule",
    "schedule_interval",
    "timetable",
    "start_date",
    "end_date",
    "catchup",
    "default_args",
    "params",
    "_function",
    "description",
    "max_active_runs",
    "max_active_tasks",
    "concurrency",
    "dagrun_timeout",
    "tags",
    "doc_md",
    "max_consecutive_failed_dag_runs",
];

struct Making<'c, 'a> {
    interp: &'c Interp<'a>,
    draft: &'c DagDraft<'a>,
    dag: Dag,
    entries: Vec<Entry>,
    /// Airflow 3 has other defaults.
    is_three: bool,
    zone: String,
}

/// Converts every DAG of a file.
pub(super) fn convert(interp: &Interp<'_>, name: &str, entries: &mut Vec<Entry>, dags: &mut Vec<Dag>) {
    let mut taken = BTreeSet::new();
    for (index, draft) in interp.dags.iter().enumerate() {
        let id = words::unique(&words::id(&draft.id), &mut taken);
        let line = interp.source.line_of(draft.range);
        let mut dag = Dag { id, line, ..Dag::default() };
        dag.comments.push(format!("Converted from line {line} of {name}, a DAG file of Airflow."));
        let is_three = interp.source.text.contains("airflow.sdk");
        let mut making = Making { interp, draft, dag, entries: Vec::new(), is_three, zone: "UTC".to_owned() };
        if making.dag.id != draft.id {
            let message = format!("the id {:?} becomes `{}`", draft.id, making.dag.id);
            making.report(Level::Problem, draft.range, message);
        }
        making.all();
        let tasks = tasks::convert(interp, index, &making.dag.id, &mut making.entries);
        making.dag.tasks = tasks;
        if making.dag.tasks.is_empty() {
            making.report(
                Level::Problem,
                draft.range,
                "not converted: the DAG has no tasks that could be read".to_owned(),
            );
        } else {
            dags.push(making.dag);
        }
        entries.append(&mut making.entries);
    }
}

impl<'a> Making<'_, 'a> {
    fn report(&mut self, level: Level, at: TextRange, message: String) {
        if level == Level::Problem {
            self.dag.comments.push(format!("NOT CONVERTED: {message}"));
        }
        let line = self.interp.source.line_of(at);
        self.entries.push(Entry { line, level, dag_id: Some(self.dag.id.clone()), task_id: None, message });
    }

    fn keyword(&self, name: &str) -> Option<Keyword<'a>> {
        self.draft.keywords.iter().rev().find(|keyword| keyword.name == name).cloned()
    }

    fn default(&self, name: &str) -> Option<Keyword<'a>> {
        let defaults = self.keyword("default_args")?;
        let Value::Dict(items) = &defaults.value else { return None };
        let (_, value) = items.iter().rev().find(|(key, _)| key.as_str() == Some(name))?;
        Some(Keyword { name: name.to_owned(), value: value.clone(), range: defaults.range })
    }

    fn set(&mut self, name: &str, value: impl Into<Toml>) {
        self.dag.keys.push((name.to_owned(), value.into()));
    }

    fn has(&self, name: &str) -> bool {
        self.dag.keys.iter().any(|(key, _)| key == name)
    }

    fn unknown(&mut self, keyword: &Keyword<'a>) {
        let message = format!("`{}` has a value that only Python can tell", keyword.name);
        self.report(Level::Problem, keyword.range, message);
    }

    fn all(&mut self) {
        self.text("description", "description");
        let start = self.keyword("start_date").or_else(|| self.default("start_date"));
        if let Some(Value::Moment(Moment { zone: Some(zone), .. })) = start.as_ref().map(|start| &start.value)
        {
            self.zone.clone_from(zone);
        }
        self.schedule();
        if self.zone != "UTC" {
            let zone = self.zone.clone();
            self.set("timezone", zone);
        }
        self.dates(start);
        if let Some(keyword) = self.keyword("max_consecutive_failed_dag_runs") {
            match keyword.value {
                Value::None | Value::Int(0) => {}
                Value::Int(int) if is_built(TableId::Dag, "max_consecutive_failed_runs") => {
                    self.set("max_consecutive_failed_runs", int);
                }
                _ => {
                    let message = "`max_consecutive_failed_dag_runs` is left out".to_owned();
                    self.report(Level::Problem, keyword.range, message);
                }
            }
        }
        for (theirs, ours) in [
            ("max_active_runs", "max_active_runs"),
            ("max_active_tasks", "max_active_tasks"),
            ("concurrency", "max_active_tasks"),
        ] {
            match self.keyword(theirs) {
                Some(Keyword { value: Value::Int(int), .. }) if !self.has(ours) => self.set(ours, int),
                Some(keyword) if !matches!(keyword.value, Value::None | Value::Int(_)) => {
                    self.unknown(&keyword)
                }
                _ => {}
            }
        }
        if let Some(keyword) =
            self.keyword("dagrun_timeout").filter(|keyword| !matches!(keyword.value, Value::None))
        {
            match common::delay(&keyword.value) {
                Some(delay) => self.set("run_timeout", delay),
                None => self.unknown(&keyword),
            }
        }
        if let Some(keyword) = self.keyword("tags").filter(|keyword| !matches!(keyword.value, Value::None)) {
            let tags =
                keyword.value.items().map(|items| items.iter().map(Value::text).collect::<Option<Vec<_>>>());
            match tags.flatten() {
                Some(mut tags) => {
                    let mut seen = BTreeSet::new();
                    tags.retain(|tag| seen.insert(tag.clone()));
                    self.set("tags", tags);
                }
                None => self.unknown(&keyword),
            }
        }
        self.text("doc_md", "doc");
        self.function_doc();
        self.default_args();
        self.params();
        self.rest();
    }

    fn text(&mut self, theirs: &str, ours: &str) {
        match self.keyword(theirs) {
            Some(Keyword { value: Value::Str(text), .. }) if !text.is_empty() => self.set(ours, text.trim()),
            Some(Keyword { value: Value::None | Value::Str(_), .. }) | None => {}
            // `doc_md = __doc__`
            Some(keyword) => match (theirs, self.interp.module_doc()) {
                ("doc_md", Some(doc)) if self.interp.source.slice(keyword.range).contains("__doc__") => {
                    self.set(ours, doc)
                }
                _ => self.unknown(&keyword),
            },
        }
    }

    fn function_doc(&mut self) {
        let Some(Keyword { value: Value::Function(function), .. }) = self.keyword("_function") else {
            return;
        };
        if let Some(text) = self.interp.doc_of(&function.body).filter(|_| !self.has("doc")) {
            let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
            self.set("doc", lines.join("\n"));
        }
    }

    fn schedule(&mut self) {
        let keyword =
            ["schedule", "schedule_interval", "timetable"].iter().find_map(|name| self.keyword(name));
        let Some(keyword) = keyword else {
            if !self.is_three {
                self.set("schedule", every("1d"));
                self.set("timetable", "interval");
                self.report(
                    Level::Note,
                    self.draft.range,
                    "no schedule is given: Airflow 2 takes one day".to_owned(),
                );
            }
            return;
        };
        let mut timetable = if self.is_three { None } else { Some("interval") };
        match &keyword.value {
            Value::None => return,
            Value::Str(text) => {
                if ["@once", "@continuous"].contains(&text.as_str()) {
                    timetable = None;
                }
                self.set("schedule", cron(text));
            }
            Value::Delta(_) | Value::Int(_) | Value::Float(_) => match common::delay(&keyword.value) {
                Some(delay) => self.set("schedule", every(&delay)),
                None => return self.unknown(&keyword),
            },
            about if assets::is_about_assets(about) => return self.by_assets(about, keyword.range),
            Value::Object(object) => match self.timetable(object) {
                Some(found) => timetable = found,
                None => return,
            },
            _ => {
                let message = "a schedule that only Python can tell: only triggers start a run";
                return self.report(Level::Problem, keyword.range, message.to_owned());
            }
        }
        if let Some(timetable) = timetable {
            self.set("timetable", timetable);
        }
    }

    /// Sets a schedule by assets.
    fn by_assets(&mut self, value: &Value<'a>, range: TextRange) {
        let both = match value {
            Value::Object(object) => assets::with_time(object),
            _ => None,
        };
        if let Some((listened, object)) = both {
            let class = object.path.rsplit('.').next().unwrap_or_default();
            let expression = object.args.first().and_then(Value::as_str);
            if let ("CronTriggerTimetable", Some(expression)) = (class, expression) {
                return self.set("schedule", assets::schedule(&listened, Some(&cron(expression))));
            }
        } else if let Some(listened) = assets::listened(value) {
            return self.set("schedule", assets::schedule(&listened, None));
        }
        let message = "the schedule is by assets in a way that has no counterpart (one condition inside another, a name \
            that only Python can tell): only triggers start a run";
        self.report(Level::Problem, range, message.to_owned());
    }

    /// Sets the schedule that a timetable class says; returns the `timetable`, or `None` when it has no counterpart.
    fn timetable(&mut self, object: &Object<'a>) -> Option<Option<&'static str>> {
        let class = object.path.rsplit('.').next().unwrap_or_default();
        let named = |name: &str| {
            object.keywords.iter().find(|keyword| keyword.name == name).map(|keyword| keyword.value.clone())
        };
        let first = object.args.first().cloned().or_else(|| named("cron")).or_else(|| named("delta"));
        if let Some(Value::Zone(zone) | Value::Str(zone)) =
            named("timezone").or_else(|| object.args.get(1).cloned())
        {
            self.zone = zone;
        }
        let timetable = if class.ends_with("TriggerTimetable") { None } else { Some("interval") };
        match (class, first) {
            ("CronTriggerTimetable" | "CronDataIntervalTimetable", Some(Value::Str(text))) => {
                self.set("schedule", cron(&text))
            }
            ("MultipleCronTriggerTimetable", _) => {
                let crons =
                    object.args.iter().map(|value| value.as_str().map(cron)).collect::<Option<Vec<_>>>()?;
                self.set("schedule", crons);
            }
            ("DeltaTriggerTimetable" | "DeltaDataIntervalTimetable", Some(value)) => {
                let delay = common::delay(&value)?;
                self.set("schedule", every(&delay));
            }
            ("NullTimetable", _) => return None,
            _ => {
                let message = format!("the timetable {class} has no counterpart: only triggers start a run");
                self.report(Level::Problem, object.range, message);
                return None;
            }
        }
        Some(timetable)
    }

    fn dates(&mut self, start: Option<Keyword<'a>>) {
        let end = self.keyword("end_date").or_else(|| self.default("end_date"));
        for (name, keyword) in [("start_date", start), ("end_date", end)] {
            let Some(keyword) = keyword else { continue };
            match &keyword.value {
                Value::None => {}
                Value::Moment(moment) => {
                    let zone = moment.zone.clone().unwrap_or_else(|| "UTC".to_owned());
                    if zone == self.zone {
                        self.set(name, date(&moment.toml()));
                    } else if zone == "UTC" {
                        let [year, month, day, hour, minute, second] = moment.parts;
                        self.set(
                            name,
                            date(&format!(
                                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
                            )),
                        );
                    } else {
                        let message = format!("`{name}` is in the zone {zone}, the DAG in {}", self.zone);
                        self.report(Level::Problem, keyword.range, message);
                    }
                }
                _ => {
                    let text = self.interp.source.slice(keyword.range);
                    let text: String = text.chars().take(60).collect();
                    let message = format!(
                        "`{name}` is left out: it depends on when the file is read, or only Python can tell it: {text}"
                    );
                    self.report(Level::Problem, keyword.range, message);
                }
            }
        }
        match self.keyword("catchup").map(|keyword| (keyword.value.truth(), keyword)) {
            Some((Some(truth), keyword)) => {
                if truth && !self.has("start_date") {
                    let message = "`catchup` is left out: there is no start_date to catch up from".to_owned();
                    self.report(Level::Problem, keyword.range, message);
                } else {
                    self.set("catchup", truth);
                }
            }
            Some((None, keyword)) => self.unknown(&keyword),
            None if !self.is_three && self.has("timetable") && self.has("start_date") => {
                self.set("catchup", true);
                let message = "`catchup` is not given: Airflow 2 takes true".to_owned();
                self.report(Level::Note, self.draft.range, message);
            }
            None => {}
        }
    }

    fn default_args(&mut self) {
        let Some(keyword) = self.keyword("default_args") else { return };
        let Value::Dict(items) = &keyword.value else { return self.unknown(&keyword) };
        let mut table = toml::Table::new();
        for (name, value) in items {
            let Some(name) = name.as_str() else { continue };
            match common::map(name, value) {
                Mapped::Set(key, value) if is_default_arg(key) => drop(table.insert(key.to_owned(), value)),
                Mapped::Set(key, _) => {
                    let message = format!("`{key}` cannot stand in default_args");
                    self.report(Level::Problem, keyword.range, message);
                }
                Mapped::Nothing => {}
                Mapped::Note(text) => self.report(Level::Note, keyword.range, text),
                Mapped::Problem(text) => {
                    self.report(Level::Problem, keyword.range, format!("default_args: {text}"))
                }
                Mapped::Unknown => {
                    self.report(Level::Problem, keyword.range, format!("default_args: `{name}` is left out"));
                }
            }
        }
        if !table.is_empty() {
            self.set("default_args", Toml::Table(table));
        }
    }

    fn params(&mut self) {
        let mut params: Vec<(String, Value<'a>, TextRange)> = Vec::new();
        if let Some(keyword) = self.keyword("params") {
            match &keyword.value {
                Value::Dict(items) => params.extend(items.iter().filter_map(|(name, value)| {
                    Some((name.as_str()?.to_owned(), value.clone(), keyword.range))
                })),
                _ => self.unknown(&keyword),
            }
        }
        if let Some(Keyword { value: Value::Function(function), range, .. }) = self.keyword("_function") {
            for parameter in function.parameters.iter_non_variadic_params() {
                let name = parameter.parameter.name.as_str().to_owned();
                match parameter.default.as_deref().and_then(constant) {
                    Some(value) => params.push((name, value, range)),
                    None => self.report(
                        Level::Problem,
                        function.range,
                        format!("the param `{name}` has no plain default"),
                    ),
                }
            }
        }
        for (name, value, range) in params {
            match param(&value) {
                Some(keys) => self.dag.params.push((name, keys)),
                None => self.report(
                    Level::Problem,
                    range,
                    format!("the param `{name}` is left out: only Python can tell it"),
                ),
            }
        }
    }

    fn rest(&mut self) {
        let keywords: Vec<Keyword<'a>> = self.draft.keywords.clone();
        for keyword in keywords.iter().filter(|keyword| !IDLE.contains(&keyword.name.as_str())) {
            match (keyword.name.as_str(), &keyword.value) {
                (_, Value::None)
                | (
                    "is_paused_upon_creation" | "render_template_as_native_obj" | "fail_stop" | "fail_fast",
                    Value::Bool(false),
                ) => {}
                ("is_paused_upon_creation", _) => {
                    self.report(
                        Level::Note,
                        keyword.range,
                        "`is_paused_upon_creation`: pause it with `tidemill dags pause`".to_owned(),
                    );
                }
                (
                    "access_control" | "auto_register" | "dag_display_name" | "default_view" | "orientation"
                    | "owner_links",
                    _,
                ) => {
                    self.report(Level::Note, keyword.range, format!("`{}` is left out", keyword.name));
                }
                (name, value) => match common::map(name, value) {
                    Mapped::Problem(text) => self.report(Level::Problem, keyword.range, text),
                    _ => self.report(Level::Problem, keyword.range, format!("`{name}` has no counterpart")),
                },
            }
        }
    }
}

fn is_default_arg(key: &str) -> bool {
    KEYS.iter().any(|spec| spec.table == TableId::Task && spec.name == key && spec.in_default_args)
}

fn every(delay: &str) -> Toml {
    Toml::Table(toml::Table::from_iter([("every".to_owned(), Toml::from(delay))]))
}

fn date(text: &str) -> Toml {
    text.parse().map_or_else(|_| Toml::from(text), Toml::Datetime)
}

/// Returns a cron expression: Airflow writes seconds last.
fn cron(text: &str) -> String {
    let fields: Vec<&str> = text.split_whitespace().collect();
    match fields.as_slice() {
        [rest @ .., seconds] if rest.len() == 5 => format!("{seconds} {}", rest.join(" ")),
        fields => fields.join(" "),
    }
}
