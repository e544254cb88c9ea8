//! Variables and connections in templates.

use tidemill_engine::{
    connection::Connection,
    ids::ConnectionId,
    secret::Secret,
    template::{Variable, connections_of_task, needs_of_task, render_task},
};

use super::*;

fn stored() -> Context {
    let variable = |value: &str, is_secret| Variable { value: Secret::new(value), is_secret };
    let id = ConnectionId::new("my-db").unwrap();
    let uri = "postgres://ann:hunter22@db.example:5432/sales?sslmode=require&api_token=tok-1234";
    Context {
        variables: BTreeMap::from([
            ("bucket".to_owned(), variable("s3://models", false)),
            ("limits".to_owned(), variable(r#"{"rows": [10, 20], "on": true}"#, false)),
            ("api_key".to_owned(), variable("it's a secret", true)),
        ]),
        triggering_asset_events: BTreeMap::new(),
        connections: BTreeMap::from([("my-db".to_owned(), Connection::from_uri(id, uri).unwrap())]),
        ..context()
    }
}

#[test]
fn every_form_and_every_field_has_its_value() {
    for (expression, expected) in [
        ("var.bucket", "s3://models"),
        ("var['bucket']", "s3://models"),
        ("var.value.bucket", "s3://models"),
        ("var.json.limits.rows[1]", "20"),
        ("var.json.limits.on", "true"),
        ("var.json.limits", r#"{"on":true,"rows":[10,20]}"#),
        ("var.missing | default('none')", "none"),
        ("conn['my-db'].id", "my-db"),
        ("conn['my-db'].conn_id", "my-db"),
        ("conn['my-db'].kind", "postgres"),
        ("conn['my-db'].conn_type", "postgres"),
        ("conn['my-db'].description", ""),
        ("conn['my-db'].host", "db.example"),
        ("conn['my-db'].port", "5432"),
        ("conn['my-db'].login", "ann"),
        ("conn['my-db'].password", "hunter22"),
        ("conn['my-db'].schema", "sales"),
        ("conn['my-db'].extra.sslmode", "require"),
        ("conn['my-db'].extra_dejson['sslmode']", "require"),
        (
            "conn['my-db'].uri",
            "postgres://ann:hunter22@db.example:5432/sales?api_token=tok-1234&sslmode=require",
        ),
        ("conn.missing.host | default('localhost')", "localhost"),
    ] {
        let template = format!("{{{{ {expression} }}}}");
        assert_eq!(render_text(&template, &stored()).as_deref(), Ok(expected), "{expression}");
        assert_eq!(problems(Kind::Text, &template), [], "{expression}");
    }
}

#[test]
fn what_is_missing_says_so_and_only_where_it_is_met() {
    let code = |template: &str| render_text(template, &stored()).unwrap_err().code();
    assert_eq!(code("{{ var.missing }}"), "SCH0240");
    assert_eq!(code("{% set v = var.missing %}{{ v }}"), "SCH0240");
    assert_eq!(code("{{ conn.missing.host }}"), "SCH0241");
    assert_eq!(code("{{ var.json.bucket }}"), "SCH0243");
    assert_eq!(code("{{ outputs.up.nothing }}"), "SCH0701");
    assert_eq!(render_text("{% if false %}{{ var.missing }}{% endif %}x", &stored()).as_deref(), Ok("x"));
    let error = render_text("{{ var.missing }}", &stored()).unwrap_err();
    assert!(error.may_pass_later() && error.to_string().contains("tidemill variables set missing"));
}

#[test]
fn exactly_what_is_named_is_needed() {
    let needed =
        needs("{{ var.a }}{{ var.value.b }}{{ var.json.c.d }}{{ conn.x.host }}{{ conn['y-z'].port }}");
    assert_eq!(needed.variables.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(needed.json_variables.iter().collect::<Vec<_>>(), ["c"]);
    assert_eq!(needed.connections.iter().collect::<Vec<_>>(), ["x", "y-z"]);
}

#[test]
fn a_value_is_data_for_the_shell() {
    let rendered = render_shell("psql -h {{ conn['my-db'].host }} '{{ var.api_key }}'", &stored()).unwrap();
    assert!(!rendered.script.contains("secret") && !rendered.script.contains("db.example"));
    assert_eq!(rendered.env.values().collect::<Vec<_>>(), ["db.example", "it's a secret"]);
}

#[test]
fn no_secret_becomes_an_argument() {
    let task = |argument: &str| {
        let argv = vec!["load".to_owned(), argument.to_owned()];
        task::dag(tidemill_engine::definition::Operator::Command { command: Command::Exec(argv) })
    };
    for argument in
        ["x{{ var.api_key }}", "{{ conn['my-db'].password }}", "{{ conn['my-db'].extra.api_token }}"]
    {
        let dag = task(argument);
        let error = render_task(&dag, &dag.tasks[0], &stored()).unwrap_err();
        assert_eq!(error.code(), "SCH0244", "{argument}");
        assert!(error.to_string().contains("argument 1"), "{error}");
    }
    for argument in ["{{ var.bucket }}", "{{ conn['my-db'].host }}", "--password=hunter22"] {
        let dag = task(argument);
        assert!(render_task(&dag, &dag.tasks[0], &stored()).is_ok(), "{argument}");
    }
    // What stands in a secret document is as secret as the document.
    let mut with_document = stored();
    let value = Secret::new(r#"{"user": "annabel", "auth": {"password": "hunter33", "pin": 1234567}}"#);
    with_document.variables.insert("creds".to_owned(), Variable { value, is_secret: true });
    for argument in ["-p{{ var.json.creds.auth.password }}", "{{ var.json.creds.auth.pin }}"] {
        let dag = task(argument);
        let error = render_task(&dag, &dag.tasks[0], &with_document).unwrap_err();
        assert_eq!(error.code(), "SCH0244", "{argument}");
    }
    let secrets = with_document.secrets();
    for hidden in ["annabel", "hunter33", "1234567"] {
        assert!(secrets.iter().any(|secret| secret.reveal() == hidden), "{hidden}");
    }
    let value = Secret::new("https://ann:pass-1@hooks.example/services/T0/B0/xyz/?wait=true");
    let mut with_hook = stored();
    with_hook.variables.insert("hook".to_owned(), Variable { value, is_secret: true });
    for hidden in ["pass-1", "/services/T0/B0/xyz", "wait=true"] {
        assert!(with_hook.secrets().iter().any(|secret| secret.reveal() == hidden), "{hidden}");
    }
    let dag = task("{{ conn.b.host }}{{ conn.a.host }}");
    assert_eq!(connections_of_task(&dag.tasks[0]).into_iter().collect::<Vec<_>>(), ["a", "b"]);
    assert!(needs_of_task(&dag.tasks[0]).variables.is_empty());
    assert_eq!(stored().secrets().len(), 3, "{:?}", stored().secrets());
}
