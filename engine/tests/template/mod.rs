//! Templates as text: names, filters, limits, load-time problems, whole tasks.

mod stored;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeZone, Utc};
use serde_json::{Value as Json, json};
use tidemill_engine::{
    definition::{BranchArm, Branches, Command, Notification},
    ids::{DagId, RunId, TaskId},
    state::RunType,
    template::{
        CheckScope, Context, Kind, OutputNeed, RenderError, check, needs, render_condition, render_message,
        render_shell, render_text, shell::nested_interpreter,
    },
};

mod mapped;
mod other_runs;

fn context() -> Context {
    let at = |day, hour| Utc.with_ymd_and_hms(2026, 11, day, hour, 30, 0).unwrap();
    let object = |json: Json| json.as_object().cloned().unwrap();
    Context {
        dag_id: DagId::new("dag-1").unwrap(),
        dag_description: Some("about".to_owned()),
        dag_tags: vec!["ml".to_owned(), "daily".to_owned()],
        dag_owner: None,
        timezone: chrono_tz::UTC,
        task_id: Some(TaskId::new("train").unwrap()),
        run_id: RunId::new("scheduled__2026-11-05T06:30:00Z").unwrap(),
        run_type: RunType::Scheduled,
        logical_date: at(5, 6),
        data_interval_start: at(5, 6),
        data_interval_end: at(6, 6),
        prev_data_interval_start_success: Some(at(4, 6)),
        prev_data_interval_end_success: None,
        try_number: 2,
        epoch: 7,
        map_index: -1,
        map_value: None,
        mapped_outputs: BTreeMap::new(),
        params: object(json!({"p": 0.5, "s": "it's <b>", "n": null, "l": [1, {"a": true}], "t": true})),
        conf: object(json!({"p": 0.5})),
        outputs: BTreeMap::from([
            (
                "up".to_owned(),
                BTreeMap::from([("score".to_owned(), json!(0.25)), ("path".to_owned(), json!("a b"))]),
            ),
            ("my-task".to_owned(), BTreeMap::from([("k".to_owned(), json!("v"))])),
        ]),
        variables: BTreeMap::new(),
        connections: BTreeMap::new(),
        triggering_asset_events: BTreeMap::from([(
            "wh/a".to_owned(),
            vec![json!({"asset": "wh/a", "extra": {"rows": 3}})],
        )]),
    }
}

#[test]
fn every_name_prints_as_documented() {
    let rows = [
        ("ds", "2026-11-05"),
        ("ds_nodash", "20261105"),
        ("ts", "2026-11-05T06:30:00+00:00"),
        ("ts_nodash", "20261105T063000"),
        ("ts_nodash_with_tz", "20261105T063000+0000"),
        ("logical_date", "2026-11-05T06:30:00+00:00"),
        ("data_interval_start", "2026-11-05T06:30:00+00:00"),
        ("data_interval_end", "2026-11-06T06:30:00+00:00"),
        ("prev_data_interval_start_success", "2026-11-04T06:30:00+00:00"),
        ("prev_data_interval_end_success", "null"),
        ("triggering_asset_events[\"wh/a\"][0].extra.rows", "3"),
        ("run_id", "scheduled__2026-11-05T06:30:00Z"),
        ("try_number", "2"),
        ("map_index", "-1"),
        ("dag.dag_id", "dag-1"),
        ("dag.description", "about"),
        ("dag.owner", ""),
        ("dag.tags", r#"["ml","daily"]"#),
        ("task.task_id", "train"),
        ("ti.try_number", "2"),
        ("ti.task_id ~ ti.run_id ~ ti.dag_id ~ ti.map_index", "trainscheduled__2026-11-05T06:30:00Zdag-1-1"),
        ("dag_run.run_type", "scheduled"),
        ("dag_run.run_id", "scheduled__2026-11-05T06:30:00Z"),
        ("dag_run.conf", r#"{"p":0.5}"#),
        ("dag_run.logical_date | ds", "2026-11-05"),
        ("params.p", "0.5"),
        ("params.s", "it's <b>"),
        ("params.n", "null"),
        ("params.t", "true"),
        ("params.l", r#"[1,{"a":true}]"#),
        ("params.l[1].a", "true"),
        ("outputs.up.score", "0.25"),
        ("outputs.up", r#"{"path":"a b","score":0.25}"#),
        ("outputs['my-task'].k", "v"),
    ];
    for (expression, expected) in rows {
        let template = format!("{{{{ {expression} }}}}");
        assert_eq!(render_text(&template, &context()).as_deref(), Ok(expected), "{expression}");
        assert_eq!(problems(Kind::Text, &template), [], "{expression}");
    }
}

#[test]
fn filters_macros_and_methods_of_dates_work() {
    let rows = [
        ("data_interval_end | ds", "2026-11-06"),
        ("data_interval_end | ds_nodash", "20261106"),
        ("data_interval_end | ts", "2026-11-06T06:30:00+00:00"),
        ("data_interval_end | ts_nodash", "20261106T063000"),
        ("data_interval_end | ts_nodash_with_tz", "20261106T063000+0000"),
        ("'2026-01-02' | ds_nodash", "20260102"),
        ("'2026-01-02T03:04:05+02:00' | ts", "2026-01-02T01:04:05+00:00"),
        ("macros.ds_add(ds, -5)", "2026-10-31"),
        ("ds_add('2026-02-28', 1)", "2026-03-01"),
        ("macros.ds_format(ds, '%Y-%m-%d', '%d.%m.%y')", "05.11.26"),
        ("ds_format('05/11/2026 10:00', '%d/%m/%Y %H:%M', '%H')", "10"),
        ("logical_date.strftime('%Y/%j')", "2026/309"),
        ("logical_date.add(days=1, hours=2)", "2026-11-06T08:30:00+00:00"),
        ("logical_date.subtract(weeks=1) | ds", "2026-10-29"),
        ("logical_date.in_timezone('Europe/Vienna')", "2026-11-05T07:30:00+01:00"),
        ("logical_date.isoformat()", "2026-11-05T06:30:00+00:00"),
        ("logical_date.date()", "2026-11-05"),
        ("logical_date.timestamp()", "1793860200"),
        ("logical_date.weekday()", "3"),
        ("logical_date.isoweekday()", "4"),
        ("logical_date.year + logical_date.month", "2037"),
        ("data_interval_end > logical_date", "true"),
        ("data_interval_start == logical_date", "true"),
        ("params.l | tojson", r#"[1,{"a":true}]"#),
        ("params.s | tojson", r#""it's <b>""#),
        ("logical_date | tojson", r#""2026-11-05T06:30:00+00:00""#),
        ("params.s | upper", "IT'S <B>"),
        ("params.missing | default('none')", "none"),
        ("outputs.skipped.key | default('none')", "none"),
        ("'a' if params.t else 'b'", "a"),
        ("'a' if not params.t", ""),
        ("range(3) | join(',')", "0,1,2"),
    ];
    for (expression, expected) in rows {
        let template = format!("{{{{ {expression} }}}}");
        assert_eq!(render_text(&template, &context()).as_deref(), Ok(expected), "{expression}");
        assert_eq!(problems(Kind::Text, &template), [], "{expression}");
    }
}

#[test]
fn text_without_template_syntax_and_final_newlines_stay_as_they_are() {
    assert_eq!(render_text("a } b %} {x}\n\n", &context()).as_deref(), Ok("a } b %} {x}\n\n"));
    assert_eq!(render_text("{{ ds }}\n", &context()).as_deref(), Ok("2026-11-05\n"));
    assert_eq!(render_text("{% raw %}{{ ds }}{% endraw %}{# note #}", &context()).as_deref(), Ok("{{ ds }}"));
}

#[test]
fn a_value_is_never_rendered_again() {
    let mut context = context();
    for payload in ["{{ ds }}", "{% for x in range(9) %}x{% endfor %}", "{# x #}", "{{ outputs }}"] {
        context.params.insert("s".to_owned(), json!(payload));
        assert_eq!(render_text("<{{ params.s }}>", &context), Ok(format!("<{payload}>")));
    }
}

fn code(template: &str) -> &'static str {
    render_text(template, &context()).unwrap_err().code()
}

#[test]
fn rendering_fails_with_a_code_and_a_place() {
    assert_eq!(code("{{ outputs.up.nothing }}"), "SCH0701");
    assert_eq!(code("{{ outputs.skipped.key.more }}"), "SCH0701");
    assert_eq!(code("{{ unknown }}"), "SCH0701");
    assert_eq!(code("{% if params.missing %}{% endif %}"), "SCH0701");
    assert_eq!(code("{{ params.s.upper() }}"), "SCH0702");
    assert_eq!(code("{{ params.s + 1 }}"), "SCH0702");
    assert_eq!(code("{{ 'x' | ds }}"), "SCH0702");
    assert_eq!(code("{{ ds_add('x', 1) }}"), "SCH0702");
    assert_eq!(code("{{ ds_add(ds, 99999999999) }}"), "SCH0702");
    assert_eq!(code("{{ logical_date.strftime('%Q') }}"), "SCH0702");
    assert_eq!(code("{{ logical_date.add(days=9223372036854775807) }}"), "SCH0702");
    assert_eq!(code("{{ logical_date.in_timezone('Mars') }}"), "SCH0702");
    assert_eq!(code("{{ "), "SCH0702");
    let error = render_text("a {{ outputs.up.nothing }}", &context()).unwrap_err();
    assert_eq!(error.to_string(), "undefined value: `outputs.up.nothing`");
    assert!(matches!(error, RenderError::Undefined { range: Some(range), .. } if range == (5..23)));
}

#[test]
fn a_template_has_a_bounded_cost() {
    for template in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ 'x' * 100000000000 }}",
        "{% set ns = namespace(x=[1,1,1,1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x' * 1100000 }}",
    ] {
        let error = render_text(template, &context()).unwrap_err();
        let is_bounded = error.code() == "SCH0703" || error.to_string().contains("recursion");
        assert!(is_bounded, "{template}: {error:?}");
    }
}

#[test]
fn nothing_outside_the_context_can_be_read() {
    for template in
        ["{% include 'x' %}", "{% import 'x' as x %}", "{% extends 'x' %}", "{{ debug() }}", "{{ env.HOME }}"]
    {
        assert!(render_text(template, &context()).is_err(), "{template}");
        assert!(!problems(Kind::Text, template).is_empty(), "{template}");
    }
}

#[test]
fn a_condition_is_true_or_false() {
    assert_eq!(render_condition("{{ outputs.up.score < 0.5 }}", &context()), Ok(true));
    assert_eq!(render_condition(" {{ outputs.up.score > 0.5 }}\n", &context()), Ok(false));
    assert_eq!(render_condition("True", &context()), Ok(true));
    let error = render_condition("{{ outputs.up.score }}", &context()).unwrap_err();
    assert_eq!(error.code(), "SCH0706");
}

#[test]
fn what_no_process_can_be_given_is_refused() {
    let mut context = context();
    context.params.insert("s".to_owned(), json!("a\0b"));
    assert_eq!(render_shell("echo {{ params.s }}", &context).unwrap_err().code(), "SCH0705");
    context.params.insert("s".to_owned(), json!("x".repeat(140_000)));
    assert_eq!(render_shell("echo {{ params.s }}", &context).unwrap_err().code(), "SCH0704");
    context.params.insert("s".to_owned(), json!("x".repeat(120_000)));
    let many = "echo {% for i in range(10) %} {{ params.s }}{% endfor %}";
    assert_eq!(render_shell(many, &context).unwrap_err().code(), "SCH0704");
    assert_eq!(render_shell(&format!("# {}", "x".repeat(140_000)), &context).unwrap_err().code(), "SCH0704");
    assert_eq!(render_shell("echo `{{ ds }}`", &context).unwrap_err().code(), "SCH0708");
}

fn problems(kind: Kind, template: &str) -> Vec<(&'static str, String, String)> {
    let params: BTreeSet<String> = ["p", "s", "n", "l", "t"].map(str::to_owned).into();
    let tasks: BTreeSet<String> = ["up", "my-task", "skipped", "train", "later"].map(str::to_owned).into();
    let is_upstream = |id: &str| !["train", "later"].contains(&id);
    let scope = CheckScope {
        params: &params,
        tasks: &tasks,
        task: Some("train"),
        is_mapped: false,
        has_answer: false,
        is_upstream: &is_upstream,
    };
    check(kind, template, &scope)
        .into_iter()
        .map(|problem| {
            let hint = problem.suggestion.or(problem.help).unwrap_or_default();
            (problem.code, template[problem.range].to_owned(), hint)
        })
        .collect()
}

#[test]
fn every_problem_of_a_template_is_found_when_the_file_loads() {
    let rows = [
        ("DAG0701", "{{ ds", "ds", ""),
        ("DAG0701", "{% if %}", "%}", ""),
        (
            "DAG0701",
            "{% include 'x' %}",
            "include",
            "a template reads nothing but its context: there is no include, import or extends",
        ),
        ("DAG0702", "{{ dss }}", "dss", "ds"),
        ("DAG0702", "{{ execution_date }}", "execution_date", "it is called `logical_date`"),
        ("DAG0702", "{{ dag.id }}", "dag.id", "it has `dag_id`, `description`, `tags`, `owner`"),
        (
            "DAG0702",
            "{{ ds.year }}",
            "ds.year",
            "text and numbers have no attributes or methods: use a filter, such as `| replace(\"-\", \"\")`",
        ),
        ("DAG0702", "{{ logical_date.yaer }}", "logical_date.yaer", "year"),
        ("DAG0702", "{{ p }}", "p", "a param is written `params.p`"),
        ("DAG0702", "{{ up.score }}", "up.score", "an output is written `outputs.up.<key>`"),
        ("DAG0702", "{% if x is defined %}{% endif %}", "x", ""),
        ("DAG0703", "{{ ds | uper }}", "uper", "upper"),
        ("DAG0703", "{{ ds | safe }}", "safe", ""),
        ("DAG0704", "{{ ds is strnig }}", "strnig", "string"),
        ("DAG0705", "{{ now() }}", "now()", ""),
        ("DAG0705", "{{ macros.ds_ad(ds, 1) }}", "macros.ds_ad(ds, 1)", "ds_add"),
        (
            "DAG0705",
            "{{ ds.upper() }}",
            "ds.upper()",
            "text and numbers have no attributes or methods: use a filter, such as `| replace(\"-\", \"\")`",
        ),
        (
            "DAG0705",
            "{{ params.s.upper() }}",
            "params.s.upper()",
            "use a filter, such as `| upper` or `| items`",
        ),
        ("DAG0705", "{{ ti.xcom_pull('up') }}", "ti.xcom_pull('up')", "use `outputs.<task>.<key>`"),
        ("DAG0705", "{{ macros.ds_add }}", "macros.ds_add", ""),
        ("DAG0706", "{{ outputs.upp.x }}", "outputs.upp.x", "up"),
        ("DAG0706", "{{ outputs.later.x }}", "outputs.later.x", "add \"later\" to its `depends_on`"),
        ("DAG0706", "{{ outputs['train'].x }}", "outputs['train'].x", "add \"train\" to its `depends_on`"),
        ("DAG0707", "{{ params.q }}", "params.q", "declare it: `[params.q]`"),
        ("DAG0708", "{{ outputs[params.s].x }}", "outputs[params.s].x", ""),
        ("DAG0708", "{{ var[params.s] }}", "var[params.s]", ""),
        ("DAG0709", "{{ var }}", "var", "such as `var.<name>`"),
        ("DAG0709", "{{ var.json }}", "var.json", "such as `var.<name>`"),
        ("DAG0709", "{{ conn.db }}", "conn.db", "such as `conn.db.host`"),
        ("DAG0702", "{{ conn.db.hots }}", "conn.db.hots", "host"),
        (
            "DAG0702",
            "{{ var.limits.rows }}",
            "var.limits.rows",
            "if its value is JSON, write `var.json.limits.…`",
        ),
        ("DAG0702", "{{ var['a b'] }}", "var['a b']", ""),
        (
            "DAG0705",
            "{{ var.value.get('x') }}",
            "var.value.get('x')",
            "write `{{ var.<name> | default(\"…\") }}`",
        ),
        ("DAG0705", "{{ conn.db.get_uri() }}", "conn.db.get_uri()", "write `conn.<id>.uri`"),
        ("DAG0705", "{{ var('x') }}", "var('x')", ""),
        ("DAG0708", "{{ conn[params.s].host }}", "conn[params.s].host", ""),
    ];
    let mut wrong = Vec::new();
    for (code, template, place, hint) in rows {
        let found = problems(Kind::Text, template);
        let is_same = |problem: &(&str, String, String)| {
            problem.0 == code && problem.1 == place && (hint.is_empty() || problem.2 == hint)
        };
        if !found.iter().any(is_same) {
            wrong.push(format!("{template}: wanted {code} at {place:?} with {hint:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(problems(Kind::Condition, "params.p > 1")[0].0, "DAG0722");
    assert_eq!(problems(Kind::Condition, "TRUE"), []);
    assert_eq!(problems(Kind::Shell, "{% set x %}a{% endset %}echo {{ x }}")[0].0, "DAG0710");
}

#[test]
fn all_problems_come_at_once_in_order_of_place() {
    let found = problems(Kind::Shell, "echo {{ dss }} `{{ params.q }}` {{ ds | uper }} $(( {{ ds }} ))");
    let codes: Vec<_> = found.iter().map(|problem| problem.0).collect();
    assert_eq!(codes, ["DAG0702", "DAG0707", "DAG0714", "DAG0703", "DAG0711"]);
}

#[test]
fn what_the_template_defines_itself_is_known() {
    for template in [
        "{% set x = 1 %}{{ x }}",
        "{% for a, b in params.l | items %}{{ loop.index }}{{ a }}{{ b }}{% endfor %}",
        "{% with y = 2 %}{{ y }}{% endwith %}",
        "{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}",
        "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
        "{{ params.maybe is defined }}{{ params.maybe | default(1) }}",
    ] {
        assert_eq!(problems(Kind::Text, template), [], "{template}");
    }
    assert_eq!(problems(Kind::Text, "{% for a in params.l %}{% endfor %}{{ a }}")[0].0, "DAG0702");
}

#[test]
fn a_message_of_the_dag_knows_no_task() {
    let empty = BTreeSet::new();
    let scope = CheckScope {
        params: &empty,
        tasks: &empty,
        task: None,
        is_mapped: false,
        has_answer: false,
        is_upstream: &|_| false,
    };
    let codes =
        |template: &str| check(Kind::Text, template, &scope).iter().map(|p| p.code).collect::<Vec<_>>();
    assert_eq!(codes("{{ ds }} {{ run_id }} {{ dag.dag_id }}"), [""; 0]);
    for name in ["task.task_id", "ti.try_number", "try_number", "outputs.a.b", "map_index"] {
        assert_eq!(codes(&format!("{{{{ {name} }}}}")), ["DAG0702"], "{name}");
    }
}

#[test]
fn needs_names_exactly_what_has_to_be_loaded() {
    let needed = needs("{{ outputs.up.score }}{{ outputs['my-task'] }}{{ outputs.up.path | upper }}{{ ds }}");
    let keys = BTreeSet::from(["score".to_owned(), "path".to_owned()]);
    let expected =
        BTreeMap::from([("up".to_owned(), OutputNeed::Keys(keys)), ("my-task".to_owned(), OutputNeed::All)]);
    assert_eq!(needed.outputs, expected);
    assert!(!needed.all_outputs && !needed.previous_success);
    assert!(needs("{% for t in outputs %}{{ t }}{% endfor %}").all_outputs);
    assert!(needs("{{ prev_data_interval_end_success }}").previous_success);
    assert!(needs("{{ ds }} outputs.up.x").is_empty());
}

#[test]
fn a_notification_says_who_speaks() {
    let notification =
        Notification { webhook: "http://x".to_owned(), message: Some("{{ ds }} \"done\"".to_owned()) };
    let body = render_message(&notification, &context(), "default").unwrap();
    assert_eq!(body["text"], "2026-11-05 \"done\"");
    assert_eq!(
        (&body["dag_id"], &body["task_id"], &body["try_number"]),
        (&json!("dag-1"), &json!("train"), &json!(2))
    );
    let silent = Notification { message: None, ..notification };
    assert_eq!(render_message(&silent, &context(), "default").unwrap()["text"], "default");
}

#[test]
fn an_array_command_with_code_in_it_is_found() {
    let found = |argv: &[&str]| {
        nested_interpreter(argv.iter().copied()).map(|argument| (argument.index, argument.is_shell))
    };
    assert_eq!(found(&["/bin/bash", "-c", "echo {{ ds }}"]), Some((2, true)));
    assert_eq!(found(&["env", "A=b", "sh", "-ec", "echo {{ ds }}"]), Some((4, true)));
    assert_eq!(found(&["python3", "-c", "print({{ ds }})"]), Some((2, false)));
    assert_eq!(found(&["sh", "-c", "echo \"$1\"", "sh", "{{ ds }}"]), None);
    assert_eq!(found(&["python3", "-c", "print(1)", "{{ ds }}"]), None);
    assert_eq!(found(&["python3", "train.py", "{{ ds }}"]), None);
}

mod task {
    //! Whole tasks.

    use std::time::Duration;

    use tidemill_engine::{
        definition::{Dag, Operator, PythonSpec, PythonTarget, Schedule, Task, TimetableKind},
        ids::PoolName,
        state::{TriggerRule, WeightRule},
        template::{RenderedTask, RenderedWork, TaskRenderError, needs_of_task, render_task},
    };

    use super::*;

    pub(super) fn dag(operator: Operator) -> Dag {
        Dag {
            id: DagId::new("dag-1").unwrap(),
            description: None,
            schedule: Schedule::Never,
            timetable: TimetableKind::Trigger,
            timezone: chrono_tz::UTC,
            start_date: None,
            end_date: None,
            catchup: false,
            max_active_runs: 1,
            max_active_tasks: 1,
            run_timeout: None,
            tags: Vec::new(),
            owner: None,
            doc: None,
            on_success: Vec::new(),
            on_failure: Vec::new(),
            retention: None,
            max_consecutive_failed_runs: None,
            deadline: None,
            on_deadline: Vec::new(),
            params: Vec::new(),
            groups: Vec::new(),
            tasks: vec![Task {
                id: TaskId::new("train").unwrap(),
                operator,
                depends_on: Vec::new(),
                trigger_rule: TriggerRule::AllSuccess,
                retries: 0,
                retry_delay: Duration::from_secs(1),
                retry_backoff: 1.0,
                max_retry_delay: Duration::from_secs(1),
                max_lost_retries: 3,
                skip_on_exit_code: Vec::new(),
                fail_on_exit_code: Vec::new(),
                retry_on: None,
                on_retries_exhausted: tidemill_engine::definition::RetriesExhausted::Fail,
                timeout: None,
                pool: PoolName::new("default_pool").unwrap(),
                pool_slots: 1,
                priority_weight: 1,
                weight_rule: WeightRule::Downstream,
                queue: "default".to_owned(),
                env: BTreeMap::from([("DATE".to_owned(), "{{ ds }}".to_owned())]),
                max_active_per_dag: None,
                max_active_per_run: None,
                map: None,
                max_map_length: 1024,
                group: None,
                depends_on_past: false,
                wait_for_downstream: false,
                role: tidemill_engine::definition::Role::Work,
                outlets: Vec::new(),
                owner: None,
                doc: None,
                on_success: Vec::new(),
                on_failure: Vec::new(),
            }],
        }
    }

    fn rendered(operator: Operator) -> Result<RenderedTask, TaskRenderError> {
        let dag = dag(operator);
        render_task(&dag, &dag.tasks[0], &context())
    }

    fn shell(script: &str) -> Operator {
        Operator::Command { command: Command::Shell(script.to_owned()) }
    }

    #[test]
    fn a_shell_command_gets_its_identity_its_env_and_its_data() {
        let task = rendered(shell("train --date {{ ds }} '{{ params.s }}'")).unwrap();
        let script = "train --date \"${TIDEMILL_V0}\" ''\"${TIDEMILL_V1}\"''".to_owned();
        assert_eq!(task.work, Some(RenderedWork::Shell { script }));
        let expected = [
            ("DATE", "2026-11-05"),
            ("TIDEMILL_DAG_ID", "dag-1"),
            ("TIDEMILL_DATA_INTERVAL_END", "2026-11-06T06:30:00+00:00"),
            ("TIDEMILL_DATA_INTERVAL_START", "2026-11-05T06:30:00+00:00"),
            ("TIDEMILL_DS", "2026-11-05"),
            ("TIDEMILL_FENCE", "7"),
            ("TIDEMILL_LOGICAL_DATE", "2026-11-05T06:30:00+00:00"),
            ("TIDEMILL_MAP_INDEX", "-1"),
            ("TIDEMILL_PARAMS", r#"{"l":[1,{"a":true}],"n":null,"p":0.5,"s":"it's <b>","t":true}"#),
            ("TIDEMILL_RUN_ID", "scheduled__2026-11-05T06:30:00Z"),
            ("TIDEMILL_TASK_ID", "train"),
            ("TIDEMILL_TRY_NUMBER", "2"),
            ("TIDEMILL_V0", "2026-11-05"),
            ("TIDEMILL_V1", "it's <b>"),
        ];
        let env: Vec<(&str, &str)> = task.env.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(env, expected);
    }

    #[test]
    fn arguments_of_python_keep_their_types() {
        let kwargs = serde_json::json!({
            "list": "{{ params.l }}", "text": "{{ params.l }}!", "null": "{{ params.n }}", "half": "{{ params.p }}",
            "date": "{{ logical_date }}", "plain": "{{ params.s }}", "deep": [{"t": "{{ params.t }}", "n": 3}],
        });
        let target = |kwargs: &serde_json::Value| PythonTarget::Callable {
            file: "a.py".to_owned(),
            function: "f".to_owned(),
            args: vec!["{{ params.p + 1 }}".into()],
            kwargs: kwargs.as_object().unwrap().clone(),
        };
        let operator = |target| Operator::Python {
            spec: Box::new(PythonSpec {
                target,
                requirements: vec![],
                requirements_file: None,
                python: None,
            }),
        };
        let task = rendered(operator(target(&kwargs))).unwrap();
        let Some(RenderedWork::Python { spec }) = task.work else { panic!("{task:?}") };
        let PythonTarget::Callable { args, kwargs, .. } = spec.target else { panic!() };
        assert_eq!(args, [serde_json::json!(1.5)]);
        let expected = serde_json::json!({
            "list": [1, {"a": true}], "text": "[1,{\"a\":true}]!", "null": null, "half": 0.5,
            "date": "2026-11-05T06:30:00+00:00", "plain": "it's <b>", "deep": [{"t": true, "n": 3}],
        });
        assert_eq!(serde_json::Value::Object(kwargs), expected);
        let undefined = serde_json::json!({"a": "{{ params.nobody }}"});
        let error = rendered(operator(target(&undefined))).unwrap_err();
        assert_eq!((error.code(), &*error.field), ("SCH0701", "kwargs.a"));
    }

    #[test]
    fn an_array_command_is_rendered_element_by_element() {
        let words = ["train", "--out={{ outputs.up.path }}", ""].map(str::to_owned).to_vec();
        let task = rendered(Operator::Command { command: Command::Exec(words) }).unwrap();
        let argv = ["train", "--out=a b", ""].map(str::to_owned).to_vec();
        assert_eq!(task.work, Some(RenderedWork::Exec { argv }));
    }

    #[test]
    fn a_branch_chooses_by_template_or_by_its_first_arm_that_holds() {
        let choose = |template: &str| -> Result<Vec<String>, TaskRenderError> {
            let branches = Branches::Template(template.to_owned());
            match rendered(Operator::Branch { branches })?.work {
                Some(RenderedWork::Branch { chosen, .. }) => Ok(chosen),
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!(choose(" {{ 'a' if params.t else 'b' }} "), Ok(vec!["a".to_owned()]));
        assert_eq!(choose("{{ ['a', 'b'] }}"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(choose("{% if not params.t %}a{% endif %}"), Ok(Vec::new()));
        assert_eq!(choose("{{ 'a b' }}").unwrap_err().code(), "SCH0707");
        assert_eq!(choose("[1]").unwrap_err().code(), "SCH0707");
        let arm = |when: Option<&str>, then: &str| BranchArm {
            when: when.map(str::to_owned),
            then: vec![TaskId::new(then).unwrap()],
        };
        let arms = vec![
            arm(Some("{{ outputs.up.score > 1 }}"), "a"),
            arm(Some("{{ params.t }}"), "b"),
            arm(None, "c"),
        ];
        let task = rendered(Operator::Branch { branches: Branches::Arms(arms) }).unwrap();
        let because = "arm 2 held: `{{ params.t }}`".to_owned();
        assert_eq!(task.work, Some(RenderedWork::Branch { chosen: vec!["b".to_owned()], because }));
    }

    #[test]
    fn a_short_circuit_follows_everything_directly_below_or_nothing() {
        let ended = |when: &str| {
            let operator =
                Operator::ShortCircuit { when: when.to_owned(), ignore_downstream_trigger_rules: true };
            let mut dag = dag(operator);
            let below = |id: &str, above: &str| Task {
                id: TaskId::new(id).unwrap(),
                operator: Operator::Noop,
                depends_on: vec![TaskId::new(above).unwrap()],
                ..dag.tasks[0].clone()
            };
            let more = [below("load", "train"), below("report", "load"), below("score", "train")];
            dag.tasks.extend(more);
            render_task(&dag, &dag.tasks[0], &context()).map(|task| task.work)
        };
        let work = |chosen: &[&str], because: &str| {
            let chosen = chosen.iter().map(|id| (*id).to_owned()).collect();
            Ok(Some(RenderedWork::Branch { chosen, because: because.to_owned() }))
        };
        assert_eq!(
            ended("{{ params.t }}"),
            work(&["load", "score"], "the condition holds: `{{ params.t }}`")
        );
        assert_eq!(
            ended("{{ not params.t }}"),
            work(&[], "the condition does not hold: `{{ not params.t }}`")
        );
        let error = ended("{{ 'maybe' }}").unwrap_err();
        assert_eq!((error.code(), error.field.as_str()), ("SCH0706", "when"));
    }

    #[test]
    fn a_failure_names_the_key_and_the_code() {
        let error = rendered(shell("echo {{ outputs.up.nothing }}")).unwrap_err();
        assert_eq!(error.code(), "SCH0701");
        let text = "SCH0701: `command` of task `train`: undefined value: `outputs.up.nothing`";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_task_needs_what_its_templates_name_together() {
        let dag = dag(shell("echo {{ outputs.up.score }} {{ prev_data_interval_start_success }}"));
        let needs = needs_of_task(&dag.tasks[0]);
        assert!(needs.previous_success);
        assert_eq!(needs.outputs.keys().collect::<Vec<_>>(), ["up"]);
    }
}

#[test]
fn the_reference_lists_every_name_filter_and_test() {
    let page = include_str!("../../../docs/templates.md");
    let known = |word: &str| page.contains(&format!("`{word}`")) || page.contains(&format!("`{word}("));
    for name in
        ["ds", "ts_nodash_with_tz", "outputs.<task>.<key>", "macros", "dag_run", "ti", "ds_add", "subtract"]
    {
        assert!(known(name), "{name}");
    }
    // Whatever the page calls a filter or a test exists, and the other way round.
    let words = |from: &str, to: &str| {
        let part = page.split(from).nth(1).and_then(|rest| rest.split(to).next()).unwrap();
        part.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for filter in words("\nFilters: ", ", and the date filters") {
        let template = format!("{{{{ ds | {filter} }}}}");
        assert_eq!(problems(Kind::Text, &template), [], "{filter}");
        let is_unknown = |error: RenderError| error.to_string().contains("unknown");
        assert!(!render_text(&template, &context()).is_err_and(is_unknown), "{filter}");
    }
    for test in words("\nTests: ", "\n\n") {
        let argument = if test == "divisibleby" { "(2)" } else { "" };
        let template = format!("{{{{ ds is {test}{argument} }}}}");
        assert_eq!(problems(Kind::Text, &template), [], "{test}");
        let is_unknown = |error: RenderError| error.to_string().contains("unknown");
        assert!(!render_text(&template, &context()).is_err_and(is_unknown), "{test}");
    }
    for code in (1..=22).map(|number| format!("DAG07{number:02}")) {
        let is_shell = ("DAG0710".."DAG0722").contains(&&*code) || code == "DAG0709";
        assert!(!is_shell || page.contains(&code), "{code}");
    }
}
