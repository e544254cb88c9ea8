//! The rows of the key table; see [`super::keys`].

use super::schema::format_words;

use super::keys::{
    Default::{Bool, Float, Int, None, Required, Said, Seconds, Text},
    KeySpec, Kind,
    TableId::{
        Arm, Branch, Categorical, Command, Dag, DagRunSensor, Deadline, Drift, FileSensor, Group, Http,
        HttpSensor, Notification, Notify, Numeric, Param, Python, Query, Request, Root, Rule, Schedule,
        Sensor, ShortCircuit, Sql, SqlSensor, Task, TimeSensor, TriggerDag,
    },
    categorical_metrics, corrections, deadline_starts, feature_rules, http_methods, key, ks_methods,
    numeric_metrics, psi_variants, retries_exhausted, trigger_rules, wait_starts, weight_rules,
};

use crate::state::RunState;

const DAY: u64 = 86_400;
/// The longest wait or timeout: a year and a day.
const LONG: u64 = 366 * DAY;

fn timetables() -> Vec<&'static str> {
    vec!["trigger", "interval"]
}

fn operators() -> Vec<&'static str> {
    super::keys::OPERATORS.to_vec()
}

fn missing_rules() -> Vec<&'static str> {
    vec!["drop"]
}

fn run_ends() -> Vec<&'static str> {
    RunState::ALL.iter().filter(|state| state.is_terminal()).map(|state| state.as_str()).collect()
}

fn missing_runs() -> Vec<&'static str> {
    vec!["wait", "fail"]
}

/// Every key of every table.
// One row per line: it is a table, and it is read as one.
#[rustfmt::skip]
pub const KEYS: &[KeySpec] = &[
    key(Root, "dag", Kind::Table(Dag), Required, "[dag]", "What holds for the whole DAG. One per file."),
    key(Root, "params", Kind::Special("a table of tables"), None, "[params.p_value]", "The parameters of a run, one table for each; they become the trigger form."),
    key(Root, "group", Kind::Special("a list of tables"), None, "[[group]]", "What is to be said about a group of tasks. A group needs no table of its own: tasks name it."),
    key(Root, "task", Kind::Special("a list of tables"), Required, "[[task]]", "The tasks, in the order in which they are shown."),
    key(Root, "policy", Kind::Special("a list of tables"), None, "[[policy]]", "Starts runs when a metric of a model goes wrong.").not_built("metric policies"),
    // [dag]
    key(Dag, "id", Kind::Name, Required, "\"continuous_training\"", "The DAG's id, unique among all files."),
    key(Dag, "description", Kind::Text, None, "\"Retrains when the inputs moved\"", "One line for lists."),
    key(Dag, "schedule", Kind::Special("a preset, a cron expression, a list of cron expressions, or a table"), Said("never; only triggers start a run"), "\"@daily\"", "When runs are created by themselves: `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@quarterly`, `@yearly`, `@annually`, `@once`, `@continuous`, a cron expression of five fields (or six with leading seconds), a list of them (the union), or `{ every = \"15m\" }`."),
    key(Dag, "timetable", Kind::Word(timetables), Text("trigger"), "\"interval\"", "What the logical date of a scheduled run is: `trigger`, the instant of firing; `interval`, the start of the data interval, which ends at the instant of firing."),
    key(Dag, "timezone", Kind::Zone, Text("UTC"), "\"Europe/Berlin\"", "The zone of cron fields and of dates without an offset."),
    key(Dag, "start_date", Kind::Date, None, "2026-01-01", "The first run's data interval does not begin before it."),
    key(Dag, "end_date", Kind::Date, None, "2026-12-31T23:59:59Z", "No logical date is after it."),
    key(Dag, "catchup", Kind::Bool, Bool(false), "false", "Whether every missed date since `start_date` is run; otherwise only the newest one that was missed while the DAG was active. A date less than ten seconds late was not missed: it fires."),
    key(Dag, "max_active_runs", Kind::Int(1, 1000), Int(16), "1", "At most this many running dag runs."),
    key(Dag, "max_active_tasks", Kind::Int(1, 10_000), Int(16), "8", "At most this many running task instances over all runs of the DAG."),
    key(Dag, "run_timeout", Kind::Duration(1, LONG), None, "\"6h\"", "A run that is still going this long after its start is stopped and fails."),
    key(Dag, "tags", Kind::Lines, None, "[\"ml\"]", "Labels for filters."),
    key(Dag, "owner", Kind::Line, None, "\"ml-team\"", "Whom to ask."),
    key(Dag, "doc", Kind::Text, None, "\"Runs after the nightly load.\"", "Text, shown as it is on the DAG's page."),
    key(Dag, "default_args", Kind::Special("a table of task keys"), None, "{ retries = 1, retry_delay = \"5m\" }", "Values for every task that does not give its own."),
    key(Dag, "on_success", Kind::Tables(Notification), None, "{ webhook = \"http://hooks.internal/dag\" }", "Sent when a run succeeds."),
    key(Dag, "on_failure", Kind::Tables(Notification), None, "{ webhook = \"http://hooks.internal/dag\" }", "Sent when a run fails."),
    key(Dag, "retention", Kind::Duration(3600, 36_500 * DAY), Said("the daemon's own"), "\"90d\"", "How long finished runs and their logs are kept."),
    key(Dag, "max_consecutive_failed_runs", Kind::Int(1, 1000), None, "5", "Pauses the DAG after so many failed runs in a row, whatever made them. A run that succeeds and unpausing begin the count anew; a cancelled one says nothing."),
    key(Dag, "deadline", Kind::Special("a duration or a table"), None, "\"2h\"", "When a run that has not ended is late. It goes on; `on_deadline` is sent once, and pages and the API say it. A duration counts from when the run was created or cleared. A deadline that is over by then is none, and runs of a backfill have none."),
    key(Dag, "on_deadline", Kind::Tables(Notification), None, "{ webhook = \"http://hooks.internal/dag\" }", "Sent once when a run is late."),
    // deadline = { … }
    key(Deadline, "within", Kind::Duration(1, LONG), None, "\"2h\"", "How long after `from`."),
    key(Deadline, "from", Kind::Word(deadline_starts), Text("queued"), "\"data_interval_end\"", "From when it counts: `queued`, when the run was created or cleared; `logical_date` or `data_interval_end`, for scheduled runs alone."),
    key(Deadline, "usual", Kind::Float(1.0, 100.0, true), None, "1.5", "Instead of `within`: so many times the usual time, from the start of the run. Usual is the median of the last 20 successful runs; with fewer than 5 there is no deadline."),
    // schedule = { … }
    key(Schedule, "every", Kind::Duration(1, LONG), None, "\"15m\"", "A run every so often, counted from `start_date`, or from the Unix epoch without one."),
    key(Schedule, "cron", Kind::Special("a cron expression or a list of them"), None, "\"0 6 * * MON\"", "The same as the plain form."),
    key(Schedule, "assets", Kind::Assets, None, "[\"warehouse/features\"]", "A run when each of the assets has had an event since the last run that these made. With `cron` or `every` beside it, also on those dates."),
    key(Schedule, "any", Kind::Bool, None, "true", "With `assets`: an event on one of them is enough."),
    // [params.NAME]
    key(Param, "type", Kind::Special("`string`, `integer`, `number`, `boolean`, `array`, `object`, `null`, or a list of them"), Said("that of the default"), "\"number\"", "The type of the value."),
    key(Param, "default", Kind::Special("a value of the type"), None, "0.01", "The value where a run gives none. A DAG with a schedule needs one for every parameter."),
    key(Param, "title", Kind::Line, Said("the name"), "\"Significance\"", "The label in the trigger form."),
    key(Param, "description", Kind::Text, None, "\"Below it a change counts\"", "A hint in the trigger form."),
    key(Param, "enum", Kind::Special("a list of values"), None, "[\"small\", \"large\"]", "The only values that are allowed."),
    key(Param, "const", Kind::Special("a value"), None, "\"prod\"", "The only value that is allowed."),
    key(Param, "examples", Kind::Special("a list of values"), None, "[0.01, 0.05]", "Proposals in the trigger form; other values are allowed."),
    key(Param, "minimum", Kind::Special("a number"), None, "0.0", "The least number."),
    key(Param, "maximum", Kind::Special("a number"), None, "1.0", "The greatest number."),
    key(Param, "exclusiveMinimum", Kind::Special("a number"), None, "0.0", "The number must be above it."),
    key(Param, "exclusiveMaximum", Kind::Special("a number"), None, "1.0", "The number must be below it."),
    key(Param, "multipleOf", Kind::Special("a number above 0"), None, "5", "The number must be a multiple of it."),
    key(Param, "minLength", Kind::Int(0, 1_000_000), None, "1", "The least number of characters."),
    key(Param, "maxLength", Kind::Int(0, 1_000_000), None, "80", "The greatest number of characters."),
    key(Param, "format", Kind::Word(format_words), None, "\"date\"", "How a string is written; also chooses the field in the trigger form."),
    key(Param, "minItems", Kind::Int(0, 1_000_000), None, "1", "The least number of elements."),
    key(Param, "maxItems", Kind::Int(0, 1_000_000), None, "10", "The greatest number of elements."),
    key(Param, "uniqueItems", Kind::Bool, None, "true", "Whether elements must differ."),
    key(Param, "items", Kind::Table(Param), None, "{ type = \"string\" }", "The schema of every element of an array."),
    key(Param, "pattern", Kind::Line, None, "\"^[a-z]+$\"", "A regular expression of which the string must have a match; with `^` and `$` it is the whole string. Written as in JavaScript, without looking ahead or behind."),
    key(Param, "properties", Kind::Special("a table of schemas"), None, "{ depth = { type = \"integer\" } }", "The schemas of the members of an object."),
    key(Param, "required", Kind::Lines, None, "[\"depth\"]", "The members that an object must have."),
    key(Param, "additionalProperties", Kind::Special("`true`, `false` or a schema"), Bool(true), "false", "Whether an object may have members that `properties` does not name, or their schema."),
    // [[group]]
    key(Group, "id", Kind::Group, Required, "\"load.daily\"", "The group's name, with those of the groups around it."),
    key(Group, "depends_on", Kind::Tasks, None, "[\"extract\"]", "What is upstream of every task of the group that has no upstream in it."),
    key(Group, "doc", Kind::Text, None, "\"The nightly load.\"", "Text shown with the group."),
    // [[task]]
    key(Task, "id", Kind::Name, Required, "\"retrain\"", "The task's id, unique in the DAG."),
    key(Task, "operator", Kind::Word(operators), Text("command"), "\"drift\"", "What the task does."),
    key(Task, "depends_on", Kind::Tasks, None, "[\"extract\"]", "The tasks directly upstream. `group:NAME` stands for the last tasks of a group: those below which the group has nothing but teardowns."),
    key(Task, "trigger_rule", Kind::Word(trigger_rules), Text("all_success"), "\"none_failed_min_one_success\"", "When the task may run, given the states of its upstreams.").default_arg(),
    key(Task, "retries", Kind::Int(0, 1000), Int(0), "2", "How many failed tries are followed by another.").default_arg(),
    key(Task, "retry_delay", Kind::Duration(0, LONG), Seconds(300), "\"5m\"", "The wait before the next try.").default_arg(),
    key(Task, "retry_backoff", Kind::Backoff, Float(1.0), "2.0", "Multiplies the delay with every failure; `true` means 2.0.").default_arg(),
    key(Task, "max_retry_delay", Kind::Duration(1, LONG), Seconds(86_400), "\"1h\"", "The longest wait before a try.").default_arg(),
    key(Task, "max_lost_retries", Kind::Int(0, 100), Int(3), "3", "How many losses of a worker are followed by another try. They do not count as retries.").default_arg(),
    key(Task, "skip_on_exit_code", Kind::ExitCodes, Said("`[99]`"), "[99]", "Exit codes that end the task as skipped.").default_arg(),
    key(Task, "fail_on_exit_code", Kind::ExitCodes, None, "[2]", "Exit codes after which no retry follows.").default_arg(),
    key(Task, "timeout", Kind::Duration(1, LONG), None, "\"2h\"", "The longest time of one try; its processes are stopped then. For a sensor it is the time that it waits in all, from its first look over all tries (default `\"7d\"`); no retry follows its end.").default_arg(),
    key(Task, "pool", Kind::Name, Text("default_pool"), "\"gpu\"", "The pool whose slots it takes.").default_arg(),
    key(Task, "pool_slots", Kind::Int(1, 10_000), Int(1), "1", "How many slots it takes.").default_arg(),
    key(Task, "priority_weight", Kind::Int(-1_000_000, 1_000_000), Int(1), "10", "Who goes first in a pool: the higher weight.").default_arg(),
    key(Task, "weight_rule", Kind::Word(weight_rules), Text("downstream"), "\"absolute\"", "Whose weights are added to its own.").default_arg(),
    key(Task, "queue", Kind::Name, Text("default"), "\"gpu\"", "The label of the workers that may execute it.").default_arg(),
    key(Task, "env", Kind::Env, None, "{ MODE = \"full\" }", "Additional environment variables.").default_arg(),
    key(Task, "max_active_per_dag", Kind::Int(1, 10_000), None, "1", "At most this many running instances of the task over all runs.").default_arg(),
    key(Task, "owner", Kind::Line, Said("that of the DAG"), "\"ml-team\"", "Whom to ask.").default_arg(),
    key(Task, "doc", Kind::Text, None, "\"Takes two hours on one GPU.\"", "Text, shown as it is on the task's page."),
    key(Task, "on_success", Kind::Tables(Notification), None, "{ webhook = \"http://hooks.internal/task\" }", "Sent when the task succeeds.").default_arg(),
    key(Task, "on_failure", Kind::Tables(Notification), None, "{ webhook = \"http://hooks.internal/task\" }", "Sent when the task fails and no try is left.").default_arg(),
    key(Task, "retry_on", Kind::Special("a list of exit codes (1–255), `timed_out` and `signal`"), Said("every failure"), "[75, \"timed_out\"]", "Which failures are followed by another try: these exit codes, a timeout, a death by a signal.").default_arg(),
    key(Task, "on_retries_exhausted", Kind::Word(retries_exhausted), Text("fail"), "\"pause\"", "What follows the last failed try: `fail`, or `pause`, which parks the run until a person resumes it with new tries, marks the task, or cancels the run. `on_failure` is sent then; `run_timeout` goes on meanwhile.").default_arg(),
    key(Task, "depends_on_past", Kind::Bool, Bool(false), "true", "Whether it waits until the same task in the previous run succeeded or was skipped. Previous is the scheduled or backfill run with the next earlier logical date; without one, or without such a task in it, nothing is waited for.").default_arg(),
    key(Task, "wait_for_downstream", Kind::Bool, Bool(false), "true", "The same, and it also waits until the tasks directly below it in the previous run succeeded or were skipped.").default_arg(),
    key(Task, "map", Kind::Special("a list, a template, or a table of them"), None, "[1, 2, 3]", "Runs the task once for each element of a list: `map.value` is the element and `map.index` its number from 0. A template gives a list when the upstreams have ended: `\"{{ outputs.find.files }}\"`. A table of lists gives every combination, `{ size = [\"s\", \"l\"], day = [1, 2] }`, and `map.value.size` is one value of it. An empty list skips the task. For what is below, `outputs.<task>` is a list."),
    key(Task, "max_map_length", Kind::Int(1, 10_000), Int(1024), "5000", "The most elements that `map` may have; with more the task fails."),
    key(Task, "max_active_per_run", Kind::Int(1, 10_000), None, "4", "At most this many running instances of a mapped task in one run."),
    key(Task, "group", Kind::Group, None, "\"load.daily\"", "The group that the task is drawn in. `group:load.daily` in `depends_on` stands for its last tasks, and where a branch chooses for its first."),
    key(Task, "setup", Kind::Bool, None, "true", "Whether it prepares what the tasks below it need: they run only when it succeeded, and it runs again when one of them is cleared."),
    key(Task, "teardown", Kind::Special("an id, a list of ids, or `true`"), None, "\"start_cluster\"", "Cleans up after these setups: runs when its upstreams have ended, however, and one of the setups succeeded, also when the run is cancelled. With `true` it runs when its upstreams have ended. The setups become upstreams."),
    key(Task, "on_failure_fail_run", Kind::Bool, None, "true", "Whether a failure of this teardown fails the run. Otherwise teardowns do not decide how a run ends."),
    key(Task, "outlets", Kind::Assets, None, "[\"warehouse/features\"]", "The assets that it updates: its success is an event on each, and makes runs of the DAGs whose `schedule` names them. Not a template."),
    // command
    key(Command, "command", Kind::Special("a string or a list of strings (templates)"), Required, "\"python3 train.py --date {{ ds }}\"", "A string goes to `/bin/sh`; a list is executed as it is, without a shell. It runs in the folder of the DAG file."),
    // branch
    key(Branch, "branches", Kind::Special("a string (template) or a list of arms"), Required, "[{ when = \"{{ params.full }}\", then = \"full\" }, { then = \"quick\" }]", "Chooses among the tasks directly below. A template gives a task id, a JSON list of ids, or nothing; with a list of arms the first whose condition is `true` is taken."),
    key(Arm, "when", Kind::Template, Said("always"), "\"{{ params.full }}\"", "The condition: a template that gives `true` or `false`."),
    key(Arm, "then", Kind::Tasks, Required, "\"full\"", "What follows when it holds. Not a template."),
    // short_circuit
    key(ShortCircuit, "when", Kind::Template, Required, "\"{{ params.full }}\"", "The condition: a template that gives `true` or `false`. Where it gives `false`, what is below is skipped."),
    key(ShortCircuit, "ignore_downstream_trigger_rules", Kind::Bool, Bool(true), "false", "Whether everything below is skipped, whatever its trigger rule. With `false` only the tasks directly below are, and the rest follows its trigger rules."),
    // drift
    key(Drift, "reference", Kind::Template, Required, "\"data/reference.parquet\"", "The data to compare with: a CSV, Parquet or JSON-lines file, or a folder of them."),
    key(Drift, "current", Kind::Template, Required, "\"data/live/date={{ ds }}/\"", "The data to be judged; the same formats."),
    key(Drift, "features", Kind::Lines, Said("every column of the reference"), "[\"age\", \"income\"]", "The columns that are looked at."),
    key(Drift, "exclude", Kind::Lines, None, "[\"diagnosis\"]", "Columns that are left out."),
    key(Drift, "min_samples", Kind::Int(0, 1_000_000_000), Int(100), "100", "A feature with so many values or fewer on either side is not tested."),
    key(Drift, "missing", Kind::Word(missing_rules), Text("drop"), "\"drop\"", "What happens to missing values: they are left out and counted."),
    key(Drift, "missing_share", Kind::Float(0.0, 1.0, true), Float(0.2), "0.2", "A rise of a feature's share of missing values above this gives a warning."),
    key(Drift, "numeric", Kind::Table(Numeric), None, "{ metrics = [\"ks\", \"psi\"], p_value = 0.01, psi = 0.2 }", "How numeric features are measured."),
    key(Drift, "categorical", Kind::Table(Categorical), None, "{ metrics = [\"chi2\", \"psi\"] }", "How categorical features are measured."),
    key(Drift, "rule", Kind::Table(Rule), None, "{ feature = \"all\", dataset_share = 0.2 }", "When a feature and the whole data set count as drifted."),
    key(Drift, "on_drift", Kind::Tasks, Required, "\"retrain\"", "Followed when the data drifted. Not a template."),
    key(Drift, "on_stable", Kind::Tasks, Required, "\"no_op\"", "Followed when they did not. Not a template."),
    key(Drift, "on_insufficient_data", Kind::Tasks, Said("`on_stable`, with a warning"), "\"ask\"", "Followed when no feature could be tested. Not a template."),
    key(Numeric, "columns", Kind::Lines, None, "[\"age\"]", "Columns that are numeric whatever they look like."),
    key(Numeric, "metrics", Kind::Words(numeric_metrics), Said("`[\"ks\", \"psi\"]`"), "[\"ks\", \"psi\"]", "What is computed."),
    key(Numeric, "p_value", Kind::Float(0.0, 1.0, false), Float(0.01), "0.01", "Test: significant when the corrected p-value of `ks` is below it."),
    key(Numeric, "ks_statistic", Kind::Float(0.0, 1.0, false), None, "0.1", "Size: large when D is at least this."),
    key(Numeric, "psi", Kind::Float(0.0, f64::INFINITY, false), Said("0.2 where `psi` is measured"), "0.2", "Size: large when PSI is above this."),
    key(Numeric, "js", Kind::Float(0.0, 0.8326, false), None, "0.1", "Size: large when the Jensen–Shannon distance is above this."),
    key(Numeric, "kl", Kind::Float(0.0, f64::INFINITY, false), None, "0.1", "Size: large when KL(reference‖current) is above this."),
    key(Numeric, "wasserstein", Kind::Float(0.0, f64::INFINITY, false), None, "0.1", "Size: large when the normed Wasserstein distance is above this."),
    key(Numeric, "psi_variant", Kind::Word(psi_variants), Text("atoms"), "\"atoms\"", "Which PSI."),
    key(Numeric, "ks_method", Kind::Word(ks_methods), Text("auto"), "\"auto\"", "Which p-value of `ks`."),
    key(Categorical, "columns", Kind::Lines, None, "[\"city\"]", "Columns that are categorical whatever they look like."),
    key(Categorical, "metrics", Kind::Words(categorical_metrics), Said("`[\"chi2\", \"psi\"]`"), "[\"chi2\", \"psi\"]", "What is computed."),
    key(Categorical, "p_value", Kind::Float(0.0, 1.0, false), Float(0.01), "0.01", "Test: significant when the corrected p-value of `chi2` is below it."),
    key(Categorical, "psi", Kind::Float(0.0, f64::INFINITY, false), Said("0.2 where `psi` is measured"), "0.2", "Size: large when PSI is above this."),
    key(Categorical, "js", Kind::Float(0.0, 0.8326, false), None, "0.1", "Size: large when the Jensen–Shannon distance is above this."),
    key(Categorical, "kl", Kind::Float(0.0, f64::INFINITY, false), None, "0.1", "Size: large when KL(reference‖current) is above this."),
    key(Rule, "feature", Kind::Word(feature_rules), Text("all"), "\"all\"", "What makes a feature drifted: `all`, significant and large; `any`, one of them."),
    key(Rule, "correction", Kind::Word(corrections), Text("benjamini_hochberg"), "\"benjamini_hochberg\"", "The correction of p-values for testing many features at once."),
    key(Rule, "dataset_share", Kind::Float(0.0, 1.0, true), Float(0.2), "0.2", "The data set drifted when at least one feature did and at least this share of the tested ones."),
    key(Rule, "columns", Kind::Lines, None, "[\"age\"]", "The data set also drifted when one of these features did."),
    // python
    key(Python, "script", Kind::Template, None, "\"train.py\"", "A Python file that is run as `__main__`. Relative to the folder of the DAG file. Give this or `callable`."),
    key(Python, "callable", Kind::Line, None, "\"lib/train.py:main\"", "A function in a Python file, which is called with `args` and `kwargs`. What it returns becomes the output `return_value`, and the members of a dict become outputs of their own names, too."),
    key(Python, "args", Kind::Special("a list; of strings (templates) for a script"), None, "[\"--date\", \"{{ ds }}\"]", "The arguments of the script, or the positional arguments of the callable. A string that is one placeholder and nothing else gives a callable the value itself: a list stays a list."),
    key(Python, "kwargs", Kind::Special("a table; strings in it are templates"), None, "{ date = \"{{ ds }}\", rounds = 3 }", "The keyword arguments of the callable, with the same rule."),
    key(Python, "requirements", Kind::Lines, None, "[\"polars==1.30.0\"]", "The packages of a virtual environment of its own, as in a requirements file. It is built once on each worker and used again by every task that asks for the same."),
    key(Python, "requirements_file", Kind::Line, None, "\"requirements.txt\"", "The same from a file, relative to the folder of the DAG file. When the file changes, so does the environment."),
    key(Python, "python", Kind::Line, Text("python3"), "\"python3.11\"", "The interpreter: a name that is found in `PATH`, or a path."),
    // http, http_sensor
    key(Request, "url", Kind::Template, None, "\"https://api.example.org/report?day={{ ds }}\"", "What is asked: a whole URL, or with `connection` what is added to that of the connection. Required without `connection`."),
    key(Request, "method", Kind::Word(http_methods), Text("GET"), "\"POST\"", "The method."),
    key(Request, "connection", Kind::Name, None, "\"api\"", "The connection that gives the host, a login or a token, and headers."),
    key(Request, "headers", Kind::Special("a table of strings (templates)"), None, "{ Accept = \"application/json\" }", "Headers, over those of the connection."),
    key(Request, "query", Kind::Special("a table of texts (templates), numbers and lists of them"), None, "{ day = \"{{ ds }}\", limit = 100 }", "What is added to the query of the URL, encoded; a list is repeated."),
    key(Request, "body", Kind::Special("a string (template), or a table or list that is sent as JSON; strings in it are templates"), None, "{ day = \"{{ ds }}\", attempt = \"{{ try_number }}\" }", "The body. A string in a table that is one placeholder and nothing else becomes the value itself: a list stays a list."),
    key(Request, "expected_status", Kind::Special("a status, a range such as `\"200-299\"`, or a list of them"), Said("`\"200-299\"`"), "[200, 404]", "Which answers are good."),
    key(Request, "request_timeout", Kind::Duration(1, DAY), Seconds(30), "\"2m\"", "The longest time of the whole request."),
    key(Request, "follow_redirects", Kind::Bool, Bool(false), "true", "Whether redirects of `GET` and `HEAD` are followed, at most five. Headers and login stay with the first host."),
    key(Http, "response_file", Kind::Template, None, "\"answers/{{ ds }}.json\"", "The file that the body of the answer is written to instead of the output `body`. Relative to the folder of the DAG file."),
    // sql, sql_sensor
    key(Query, "connection", Kind::Name, None, "\"warehouse\"", "The connection that leads to the database; its kind is `postgres` or `sqlite`. Give this or `database`."),
    key(Query, "database", Kind::Template, None, "\"data/features.sqlite\"", "A SQLite file. Relative to the folder of the DAG file. With `sqlite:` before it and `?mode=rwc` behind it, it is made where there is none."),
    key(Query, "sql", Kind::Text, None, "\"SELECT count(*) AS n FROM orders WHERE day = :day\"", "The statements, with semicolons between them. Not a template: `:name` stands for a parameter. Give this or `sql_file`."),
    key(Query, "sql_file", Kind::Line, None, "\"queries/features.sql\"", "A file with the statements, relative to the folder of the DAG file. Not a template either."),
    key(Query, "parameters", Kind::Special("a table; strings in it are templates"), None, "{ day = \"{{ ds }}\", least = 3 }", "The values of the parameters. They are bound, so that a value can never become a part of a statement."),
    key(Query, "statement_timeout", Kind::Duration(1, DAY), None, "\"5m\"", "The longest time of one statement."),
    key(Sql, "transaction", Kind::Bool, Bool(true), "false", "Whether all statements happen or none. Without it each is final by itself, which `VACUUM` and its like ask for."),
    key(Sql, "output_file", Kind::Template, None, "\"rows/{{ ds }}.csv\"", "The file that the rows are written to instead of the output `rows`: CSV when its name ends so, otherwise JSON lines."),
    // notify, notifications
    key(Notify, "webhook", Kind::Template, Required, "\"http://hooks.internal/ml\"", "The address that is called with a JSON body by POST. When it renders to nothing, the task is skipped."),
    key(Notify, "message", Kind::Template, Said("a sentence that names the dag run"), "\"{{ run_id }} is done\"", "The text."),
    // every sensor
    key(Sensor, "poke_interval", Kind::Duration(1, DAY), Seconds(60), "\"5m\"", "The wait between two pokes. While it waits, a sensor has no process and takes no slot."),
    key(Sensor, "poke_backoff", Kind::Backoff, Float(1.0), "2.0", "Multiplies the wait with every poke that found nothing; `true` means 2.0."),
    key(Sensor, "max_poke_interval", Kind::Duration(1, 30 * DAY), Seconds(3600), "\"30m\"", "The longest wait between two pokes."),
    key(Sensor, "poke_timeout", Kind::Duration(1, DAY), Seconds(60), "\"10s\"", "The longest time of one poke; it fails then, which `retries` may follow."),
    key(Sensor, "soft_fail", Kind::Bool, Bool(false), "true", "Whether the sensor is skipped where it would fail: when its `timeout` is over, or a poke failed and no try is left."),
    // file_sensor
    key(FileSensor, "path", Kind::Template, Required, "\"incoming/{{ ds }}/*.csv\"", "What is waited for: a file, a folder with a file in it, or a pattern with `*`, `?`, `[…]` or `**`. Relative to the folder of the DAG file."),
    // time_sensor
    key(TimeSensor, "until", Kind::Template, None, "\"14:30\"", "Until when it waits: a time of day, a date or a date-time, or a template that gives one. Without an offset they are in the DAG's time zone. A time of day is that of the day of `from`. What is over already is not waited for. Give this or `delay`."),
    key(TimeSensor, "delay", Kind::Duration(0, LONG), None, "\"2h\"", "So long after `from` it goes on."),
    key(TimeSensor, "from", Kind::Word(wait_starts), Text("data_interval_end"), "\"logical_date\"", "The date of the run that `delay` counts from, and on whose day a time of day is."),
    key(TimeSensor, "soft_fail", Kind::Bool, Bool(false), "true", "Whether it is skipped where it would fail: when its `timeout` is over."),
    // http_sensor, sql_sensor
    key(HttpSensor, "when", Kind::Template, None, "\"{{ answer.body.state == 'done' }}\"", "A template that gives `true` or `false`: what is waited for beside the status. `answer` has `status`, `headers` and `body`."),
    key(SqlSensor, "when", Kind::Template, Said("the first column of the first row is there and neither 0 nor empty"), "\"{{ answer.value >= 1000 }}\"", "A template that gives `true` or `false`: what is waited for. `answer` has `rows`, `row_count` and `value`."),
    // trigger_dag
    key(TriggerDag, "dag_id", Kind::Template, Required, "\"load\"", "The DAG of which a run is made."),
    key(TriggerDag, "conf", Kind::Special("a table; strings in it are templates"), None, "{ day = \"{{ ds }}\", rows = 3 }", "Overrides the params of that DAG, and is checked against them. A string that is one placeholder and nothing else gives the value itself: a list stays a list."),
    key(TriggerDag, "logical_date", Kind::Template, Said("the instant of the trigger"), "\"{{ logical_date }}\"", "The logical date of the run."),
    key(TriggerDag, "run_id", Kind::Template, Said("one is made"), "\"of-{{ ds }}\"", "The id of the run. There may be none with it yet."),
    key(TriggerDag, "wait", Kind::Bool, Bool(false), "true", "Whether the task waits for the end of the run, and ends as it does. It waits for at most its `timeout`."),
    key(TriggerDag, "allowed_states", Kind::Words(run_ends), Said("`[\"success\"]`"), "[\"success\", \"failed\"]", "The ends of the run with which a task that waits succeeds; with another one it fails."),
    // dag_run_sensor
    key(DagRunSensor, "dag_id", Kind::Template, Required, "\"load\"", "The DAG whose run is waited for."),
    key(DagRunSensor, "logical_date", Kind::Template, Said("that of this run"), "\"{{ data_interval_end }}\"", "The logical date of the run. Of several with the same one a scheduled one counts first, then one of a backfill, then the newest."),
    key(DagRunSensor, "offset", Kind::Duration(0, LONG), None, "\"1d\"", "Instead of `logical_date`: so much earlier than that of this run."),
    key(DagRunSensor, "latest", Kind::Bool, Bool(false), "true", "Instead of `logical_date`: the run with the newest one."),
    key(DagRunSensor, "allowed_states", Kind::Words(run_ends), Said("`[\"success\"]`"), "[\"success\", \"failed\"]", "The ends of the run with which the sensor succeeds."),
    key(DagRunSensor, "wait_on_failure", Kind::Bool, Bool(false), "true", "Whether it waits on when the run has ended in another way, until somebody clears or marks that. Otherwise it fails."),
    key(DagRunSensor, "missing", Kind::Word(missing_runs), Text("wait"), "\"fail\"", "What it does while there is no such run."),
    key(DagRunSensor, "soft_fail", Kind::Bool, Bool(false), "true", "Whether it is skipped where it would fail."),
    key(Notification, "webhook", Kind::Line, Required, "\"http://hooks.internal/ml\"", "The address that is called with a JSON body by POST."),
    key(Notification, "message", Kind::Template, Said("a sentence that says what happened"), "\"{{ run_id }} failed\"", "The text."),
];
