//! `[[task]]`: the common keys, and the operators that need no file of their own.

use std::{collections::BTreeMap, ops::Range};

use super::{
    code::Code,
    drift_task,
    fields::{Fields, Mode, Placed},
    groups::Groups,
    http_task, inside_task,
    keys::{self, TableId},
    kinds::{clean, filled, wrong_type},
    map_spec::MapSpec,
    mapped,
    model::{BranchArm, Branches, Command, Operator, RetriesExhausted, Role, Task},
    notify,
    problem::{Draft, Report},
    python_task, retry_on, role, sensor, sql_task,
    suggest::nearest,
    tree::{Node, Table, Value},
    values::show_seconds,
};
use crate::{
    ids::{AssetName, PoolName, TaskId},
    state::{TriggerRule, WeightRule},
};

/// A task as far as it could be read; the graph is checked even when a task is broken.
pub(crate) struct TaskDraft<'s> {
    /// The id as written, with its place.
    pub(crate) id: Option<Placed<'s>>,
    /// The header.
    pub(crate) at: Range<usize>,
    /// The upstreams, groups resolved.
    pub(crate) depends_on: Vec<Placed<'s>>,
    /// Whether it prepares what others need.
    pub(crate) is_setup: bool,
    /// The setups that it cleans up after.
    pub(crate) setups: Vec<Placed<'s>>,
    /// Where `depends_on` stands.
    pub(crate) rule: TriggerRule,
    /// Where the task itself gives its rule.
    pub(crate) rule_at: Option<Range<usize>>,
    /// What the graph needs to know of the operator.
    pub(crate) kind: GraphKind<'s>,
    /// The task; absent when something in it is wrong.
    pub(crate) task: Option<Task>,
}

/// What the graph needs to know of an operator.
#[derive(Clone, Debug)]
pub(crate) enum GraphKind<'s> {
    /// Can end in any way.
    Process,
    /// Can only succeed.
    Noop,
    /// Follows one of these choices.
    Branch(Vec<Choice<'s>>),
    /// Decides while it runs.
    OpenBranch,
    /// Follows everything directly below, or nothing.
    Gate,
    /// Not known because the task is broken.
    Unknown,
}

/// One outcome of a branch.
#[derive(Clone, Debug)]
pub(crate) struct Choice<'s> {
    /// The ids that it follows.
    pub(crate) targets: Vec<Placed<'s>>,
}

/// Checks what `default_args` alone can tell.
pub(crate) fn check_defaults(fields: &Fields<'_, '_>, report: &mut Report<'_>) {
    for name in ["on_success", "on_failure"] {
        notify::read(fields, name, report);
    }
    check_codes(fields, report);
    retry_on::read(fields, report);
}

/// What stands around a task: `default_args`, `[dag]`, and the groups of the file.
pub(crate) type Around<'r, 's, 'a> = (&'r Fields<'s, 'a>, &'r Fields<'s, 'a>, &'r Groups<'s>);

/// Reads one task.
pub(crate) fn read<'s, 'a>(
    table: &'s Table<'a>,
    at: Range<usize>,
    (defaults, dag, groups): Around<'_, 's, 'a>,
    report: &mut Report<'_>,
) -> TaskDraft<'s> {
    let errors_before = report.error_count();
    let word = match table.get("operator").map(|entry| &entry.node.value) {
        None => Some("command"),
        Some(Value::String(text)) => keys::OPERATORS.iter().find(|known| *known == text).copied(),
        Some(_) => None,
    };
    let own_tables = word.map(TableId::of_operator).unwrap_or_default();
    let tables: Vec<TableId> = [TableId::Task].into_iter().chain(own_tables).collect();
    let mode = if word.is_some() { Mode::Strict } else { Mode::Lenient };
    let own = Fields::read(table, at.clone(), &tables, mode, report);
    own.require("id", "this task", report);
    let name = own.text("id").map_or_else(|| "this task".to_owned(), |id| format!("the task `{id}`"));
    let (operator, kind) = operator(word, &own, &name, groups, report);
    // The same defaults hold for every task; they were checked once.
    let fields = own.clone().or(defaults);
    let lists = [notify::read(&own, "on_success", report), notify::read(&own, "on_failure", report)];
    if own.field("skip_on_exit_code").is_some() || own.field("fail_on_exit_code").is_some() {
        check_codes(&fields, report);
    }
    check_times(&own, &fields, dag, report);
    check_effects(word, &own, report);
    let (role, setups) = role::read(&own, report);
    let map = mapped::read(word, &own, fields.u32("max_map_length"), report);
    if own.field("retry_on").is_some() {
        retry_on::read(&own, report);
    }
    let rule = match role {
        Role::Teardown { .. } => TriggerRule::AllDone,
        _ => fields.word("trigger_rule").and_then(TriggerRule::parse).unwrap_or(TriggerRule::AllSuccess),
    };
    let id = written_id(table);
    let mut depends_on = groups.upstreams(id.as_ref().map(|(id, _)| *id), fields.texts("depends_on"), report);
    let is_named = |text: &str, list: &[Placed<'_>]| list.iter().any(|(other, _)| *other == text);
    for (setup, at) in &setups {
        if !is_named(setup, &depends_on) {
            depends_on.push((setup, at.clone()));
        }
    }
    let is_setup = role.is_setup();
    let is_good = report.error_count() == errors_before;
    let task = operator.filter(|_| is_good).and_then(|operator| {
        assemble(&fields, defaults, (operator, rule, role, map, &depends_on), lists, dag)
    });
    TaskDraft {
        id,
        at,
        depends_on,
        is_setup,
        setups,
        rule,
        rule_at: own.field("trigger_rule").map(|field| field.node.span.clone()),
        kind,
        task,
    }
}

/// The id even when it or its key is malformed: a dependency on it should not be called unknown.
fn written_id<'s>(table: &'s Table<'_>) -> Option<Placed<'s>> {
    let is_meant = |key: &str| nearest(key, ["id"]).is_some() || matches!(key, "task_id" | "name");
    let entry = table.get("id").or_else(|| table.entries.iter().find(|entry| is_meant(&entry.key)))?;
    match &entry.node.value {
        Value::String(text) => Some((text, entry.node.span.clone())),
        _ => None,
    }
}

fn assemble(
    fields: &Fields<'_, '_>,
    defaults: &Fields<'_, '_>,
    (operator, rule, role, map, upstreams): (Operator, TriggerRule, Role, Option<MapSpec>, &[Placed<'_>]),
    lists: [Vec<super::model::Notification>; 2],
    dag: &Fields<'_, '_>,
) -> Option<Task> {
    let [on_success, on_failure] = lists;
    // Defaults have been reported once already; this report is thrown away.
    let mut quiet = Report::new("", 0);
    let mut inherited = |name: &str, own: Vec<_>| match (fields.field(name), defaults.field(name)) {
        (None, Some(_)) => notify::read(defaults, name, &mut quiet),
        _ => own,
    };
    let on_success = inherited("on_success", on_success);
    let on_failure = inherited("on_failure", on_failure);
    let depends_on: Vec<TaskId> =
        upstreams.iter().map(|(text, _)| TaskId::new(text).ok()).collect::<Option<_>>()?;
    // A task adds to the environment of `default_args` instead of replacing it.
    let mut env = BTreeMap::new();
    for (name, node) in defaults.env("env").into_iter().chain(fields.env("env")) {
        if let Value::String(text) = &node.value {
            env.insert(name.to_owned(), text.to_string());
        }
    }
    let is_sensor = fields.duration("poke_interval").is_some() || operator.waits_in_engine();
    Some(Task {
        id: TaskId::new(fields.text("id")?).ok()?,
        operator,
        depends_on,
        trigger_rule: rule,
        retries: fields.u32("retries")?,
        retry_delay: fields.duration("retry_delay")?,
        retry_backoff: fields.float("retry_backoff")?,
        max_retry_delay: fields.duration("max_retry_delay")?,
        max_lost_retries: fields.u32("max_lost_retries")?,
        skip_on_exit_code: fields.codes("skip_on_exit_code").unwrap_or_else(|| vec![99]),
        fail_on_exit_code: fields.codes("fail_on_exit_code").unwrap_or_default(),
        retry_on: retry_on::read(fields, &mut quiet),
        on_retries_exhausted: match fields.word("on_retries_exhausted") {
            Some("pause") => RetriesExhausted::Pause,
            _ => RetriesExhausted::Fail,
        },
        timeout: fields.duration("timeout").or_else(|| is_sensor.then_some(sensor::TIMEOUT)),
        pool: PoolName::new(fields.text_or_default("pool")).ok()?,
        pool_slots: fields.u32("pool_slots")?,
        priority_weight: fields.int("priority_weight")?,
        weight_rule: fields.word("weight_rule").and_then(WeightRule::parse)?,
        queue: fields.text_or_default("queue").to_owned(),
        env,
        max_active_per_dag: fields.u32("max_active_per_dag"),
        max_active_per_run: fields.u32("max_active_per_run"),
        map,
        max_map_length: fields.u32("max_map_length")?,
        group: fields.string("group"),
        depends_on_past: fields.bool("depends_on_past"),
        wait_for_downstream: fields.bool("wait_for_downstream"),
        role,
        outlets: fields
            .texts("outlets")
            .into_iter()
            .filter_map(|(text, _)| AssetName::new(text).ok())
            .collect(),
        owner: fields.string("owner").or_else(|| dag.string("owner")),
        doc: fields.string("doc"),
        on_success,
        on_failure,
    })
}

fn check_codes(fields: &Fields<'_, '_>, report: &mut Report<'_>) {
    let skip = fields.codes("skip_on_exit_code").unwrap_or_else(|| vec![99]);
    let fail = fields.codes("fail_on_exit_code").unwrap_or_default();
    let Some(both) = fail.iter().find(|code| skip.contains(code)) else { return };
    let (Some(at), other) = (fields.field("fail_on_exit_code"), fields.field("skip_on_exit_code")) else {
        return;
    };
    let mut draft = Draft::error(
        Code::EXIT_CODE_TWICE,
        format!("the exit code {both} ends a try as skipped and as failed"),
        at.node.span.clone(),
    )
    .label("failed without a retry");
    match other {
        Some(other) => draft = draft.also(other.node.span.clone(), "skipped"),
        None => draft = draft.help("99 means skipped unless `skip_on_exit_code` says otherwise"),
    }
    report.push(draft);
}

fn check_times(own: &Fields<'_, '_>, fields: &Fields<'_, '_>, dag: &Fields<'_, '_>, report: &mut Report<'_>) {
    if let (Some(delay), Some(cap)) = (fields.duration("retry_delay"), fields.duration("max_retry_delay"))
        && delay > cap
        && let Some(field) = own.field("retry_delay").or_else(|| own.field("max_retry_delay"))
    {
        report.push(
            Draft::warning(
                Code::DELAY_ABOVE_CAP,
                format!(
                    "a retry waits {}, not {}: `max_retry_delay` caps it",
                    show_seconds(cap.as_secs()),
                    show_seconds(delay.as_secs())
                ),
                field.node.span.clone(),
            )
            .help("raise `max_retry_delay` or lower `retry_delay`"),
        );
    }
    if let (Some(field), Some(timeout), Some(run)) =
        (own.field("timeout"), own.duration("timeout"), dag.duration("run_timeout"))
        && timeout > run
    {
        report.push(
            Draft::warning(
                Code::TIMEOUT_ABOVE_RUN,
                format!("the run is stopped after {}, before this timeout", show_seconds(run.as_secs())),
                field.node.span.clone(),
            )
            .help("raise `run_timeout` or lower `timeout`"),
        );
    }
}

/// Keys that do nothing for what never leaves the engine.
const IGNORED_IN_ENGINE: &[&str] = &[
    "retries",
    "retry_delay",
    "retry_backoff",
    "max_retry_delay",
    "max_lost_retries",
    "skip_on_exit_code",
    "fail_on_exit_code",
    "retry_on",
    "on_retries_exhausted",
    "timeout",
    "pool",
    "pool_slots",
    "queue",
    "env",
    "max_active_per_dag",
    "max_active_per_run",
];

fn check_effects(word: Option<&str>, own: &Fields<'_, '_>, report: &mut Report<'_>) {
    let Some(word) = word.filter(|word| keys::IN_ENGINE.contains(word)) else { return };
    let is_ignored = |name: &str| name != "timeout" || !keys::WAITING_IN_ENGINE.contains(&word);
    for name in IGNORED_IN_ENGINE.iter().filter(|name| is_ignored(name)) {
        if let Some(field) = own.field(name) {
            report.push(
                Draft::warning(
                    Code::NO_EFFECT,
                    format!("`{name}` has no effect on a {word}"),
                    field.key_span.clone(),
                )
                .help(format!("a {word} ends inside the scheduler: it has no process and takes no slot")),
            );
        }
    }
}

fn operator<'s>(
    word: Option<&'static str>,
    fields: &Fields<'s, '_>,
    name: &str,
    groups: &Groups<'s>,
    report: &mut Report<'_>,
) -> (Option<Operator>, GraphKind<'s>) {
    match word {
        Some("noop") => (Some(Operator::Noop), GraphKind::Noop),
        Some("command") => {
            let is_misspelt = fields.is_misspelt("command") || fields.is_misspelt("operator");
            if is_misspelt {
                // Said already.
            } else if fields.field("command").is_none() && fields.field("operator").is_none() {
                report.push(
                    Draft::error(
                        Code::MISSING_KEY,
                        format!("{name} has neither `command` nor `operator`"),
                        fields.at.clone(),
                    )
                    .absence()
                    .help("add `command = \"…\"`, or `operator = \"noop\"` for a task that does nothing"),
                );
            } else {
                fields.require("command", name, report);
            }
            (command(fields, report).map(|command| Operator::Command { command }), GraphKind::Process)
        }
        Some("python") => {
            let spec = python_task::read(fields, name, report);
            (spec.map(|spec| Operator::Python { spec: Box::new(spec) }), GraphKind::Process)
        }
        Some("http") => (http_task::operator(fields, name, report), GraphKind::Process),
        Some("sql") => (sql_task::operator(fields, name, report), GraphKind::Process),
        Some("branch") => branch(fields, name, groups, report),
        Some("short_circuit") => {
            fields.require("when", name, report);
            let ignore_downstream_trigger_rules = fields.bool("ignore_downstream_trigger_rules");
            let operator = fields
                .string("when")
                .map(|when| Operator::ShortCircuit { when, ignore_downstream_trigger_rules });
            (operator, GraphKind::Gate)
        }
        Some("latest_only") => (Some(Operator::LatestOnly), GraphKind::Gate),
        Some("time_sensor") => inside_task::time(fields, name, report),
        Some("trigger_dag") => inside_task::trigger(fields, name, report),
        Some("dag_run_sensor") => inside_task::dag_run(fields, name, report),
        Some("drift") => drift_task::read(fields, name, groups, report),
        Some(sensor) if keys::SENSORS.contains(&sensor) => sensor::read(sensor, fields, name, report),
        Some("notify") => {
            let notification = notify::notification(fields, name, true, report);
            (notification.map(|notification| Operator::Notify { notification }), GraphKind::Process)
        }
        _ => (None, GraphKind::Unknown),
    }
}

fn command(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Command> {
    let node = fields.node("command")?;
    match &node.value {
        Value::String(text) => {
            let is_good = filled("command", text, node, report) && clean("command", text, node, true, report);
            is_good.then(|| Command::Shell(text.to_string()))
        }
        Value::Array { items, is_tables: false } => exec(items, node, report),
        _ => {
            wrong_type("command", "a string or a list of strings", node, report);
            None
        }
    }
}

fn exec(items: &[Node<'_>], node: &Node<'_>, report: &mut Report<'_>) -> Option<Command> {
    if items.is_empty() {
        report.push(
            Draft::error(Code::EMPTY_VALUE, "`command` must not be empty", node.span.clone())
                .help("the first element is the program"),
        );
        return None;
    }
    let mut words = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match &item.value {
            // Only the program must be there; an empty argument means something.
            Value::String(text) => {
                let is_good = (index > 0 || filled("command", text, item, report))
                    && clean("command", text, item, true, report);
                words.push(is_good.then(|| text.to_string()));
            }
            _ => {
                wrong_type("an element of command", "a string", item, report);
                words.push(None);
            }
        }
    }
    words.into_iter().collect::<Option<Vec<_>>>().map(Command::Exec)
}

fn branch<'s>(
    fields: &Fields<'s, '_>,
    name: &str,
    groups: &Groups<'s>,
    report: &mut Report<'_>,
) -> (Option<Operator>, GraphKind<'s>) {
    if !fields.require("branches", name, report) {
        return (None, GraphKind::Unknown);
    }
    let Some(node) = fields.node("branches") else { return (None, GraphKind::Unknown) };
    match &node.value {
        Value::String(text) => {
            let is_good =
                filled("branches", text, node, report) && clean("branches", text, node, true, report);
            let branches = Branches::Template(text.to_string());
            (is_good.then_some(Operator::Branch { branches }), GraphKind::OpenBranch)
        }
        Value::Array { items, .. } => {
            let (arms, choices) = arms(items, node, groups, report);
            (arms.map(|arms| Operator::Branch { branches: Branches::Arms(arms) }), GraphKind::Branch(choices))
        }
        _ => {
            wrong_type("branches", "a string or a list of arms", node, report);
            (None, GraphKind::Unknown)
        }
    }
}

fn arms<'s>(
    items: &'s [Node<'_>],
    node: &Node<'_>,
    groups: &Groups<'s>,
    report: &mut Report<'_>,
) -> (Option<Vec<BranchArm>>, Vec<Choice<'s>>) {
    if items.is_empty() {
        report.push(Draft::error(Code::EMPTY_VALUE, "`branches` must not be empty", node.span.clone()));
    }
    let mut arms: Option<Vec<BranchArm>> = (!items.is_empty()).then(Vec::new);
    let mut choices = Vec::new();
    let mut always: Option<Range<usize>> = None;
    for item in items {
        let Value::Table(table) = &item.value else {
            wrong_type("an arm of branches", "a table", item, report);
            arms = None;
            continue;
        };
        if let Some(first) = &always {
            report.push(
                Draft::warning(Code::UNREACHABLE_ARM, "this arm is never reached", item.span.clone())
                    .also(first.clone(), "this one always holds"),
            );
        }
        let fields = Fields::read(table, item.span.clone(), &[TableId::Arm], Mode::Strict, report);
        let is_there = fields.require("then", "this arm", report);
        let written = fields.texts("then");
        if is_there && written.is_empty() && fields.node("then").is_some() {
            report.push(
                Draft::error(
                    Code::EMPTY_VALUE,
                    "`then` must not be empty",
                    fields.node("then").map_or(0..0, |n| n.span.clone()),
                )
                .help("leave the arm out: what no arm chooses is skipped"),
            );
        }
        let targets = groups.targets(written, report);
        if fields.field("when").is_none() && always.is_none() {
            always = Some(item.span.clone());
        }
        let then: Option<Vec<TaskId>> = targets.iter().map(|(text, _)| TaskId::new(text).ok()).collect();
        match (&mut arms, then) {
            (Some(arms), Some(then)) => arms.push(BranchArm { when: fields.string("when"), then }),
            _ => arms = None,
        }
        choices.push(Choice { targets });
    }
    (arms, choices)
}
