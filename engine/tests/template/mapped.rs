//! What a task is mapped over, rendered; and what templates see of a mapped task.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value as Json, json};
use tidemill_engine::{
    definition::{MapSource, MapSpec, load},
    preparation::{Preparation, Prepared},
    template::{MappedOutputs, needs_of_preparation, prepare, render_json, render_shell, render_text},
};

use super::context;

fn task(map: MapSpec) -> tidemill_engine::definition::Task {
    let loaded = load(b"[dag]\nid = \"x\"\n[[task]]\nid = \"a\"\ncommand = \"true\"\n", "x.toml");
    let mut task = loaded.dag.unwrap().tasks.remove(0);
    task.map = Some(map);
    task
}

fn mapped(map: MapSpec) -> Result<Vec<Json>, String> {
    let prepared = prepare(&task(map), Preparation::Map, &context()).map_err(|error| error.to_string())?;
    let Prepared::Map(values) = prepared else { panic!("{prepared:?}") };
    Ok((0..values.len()).map(|index| values.value(index).unwrap()).collect())
}

fn template(text: &str) -> MapSpec {
    MapSpec::One(MapSource::Template(text.to_owned()))
}

#[test]
fn a_single_expression_keeps_its_type_and_everything_else_is_text() {
    let context = context();
    for (template, value) in [
        ("{{ params.l }}", json!([1, {"a": true}])),
        (" {{ params.p }} ", json!(0.5)),
        ("{{ params.s }}", json!("it's <b>")),
        ("{{ params.n }}", json!(null)),
        ("{{ params.p }}{{ params.p }}", json!("0.50.5")),
        ("x {{ params.p }}", json!("x 0.5")),
        ("{% for i in [1] %}{{ i }}{% endfor %}", json!("1")),
        ("plain", json!("plain")),
    ] {
        assert_eq!(render_json(template, &context).unwrap(), value, "{template}");
    }
}

#[test]
fn a_map_is_a_list_or_text_that_is_one() {
    assert_eq!(mapped(template("{{ params.l }}")), Ok(vec![json!(1), json!({"a": true})]));
    assert_eq!(mapped(template("[{{ params.p }}, 2]")), Ok(vec![json!(0.5), json!(2)]));
    assert_eq!(mapped(template("{{ '[1, 2]' }}")), Ok(vec![json!(1), json!(2)]));
    let product = MapSpec::Product(vec![
        ("l".to_owned(), MapSource::Template("{{ params.l }}".to_owned())),
        ("text".to_owned(), MapSource::List(vec![json!({"day": ["{{ ds }}"]})])),
    ]);
    let values = mapped(product).unwrap();
    assert_eq!(values[1], json!({"l": {"a": true}, "text": {"day": ["2026-11-05"]}}));
    for (text, found) in [
        ("{{ params.s }}", "the text \"it's <b>\""),
        ("{{ params.p }}", "the number 0.5"),
        ("{{ params.n }}", "nothing (null)"),
        ("{{ params.t }}", "the boolean true"),
        ("{{ params.l[1] }}", "the object {\"a\":true}"),
    ] {
        let error = mapped(template(text)).unwrap_err();
        assert_eq!(error, format!("SCH0720: `map` of task `a`: it is {found} and not a list"));
    }
    let undefined = mapped(template("{{ params.none }}")).unwrap_err();
    assert!(undefined.contains("SCH0701"), "{undefined}");
}

#[test]
fn a_map_needs_what_its_templates_name() {
    let spec = MapSpec::Product(vec![
        ("a".to_owned(), MapSource::Template("{{ outputs.up.files }}".to_owned())),
        ("b".to_owned(), MapSource::List(vec![json!(["{{ outputs.other.x }}"])])),
    ]);
    let needs = needs_of_preparation(&task(spec), Preparation::Map);
    assert_eq!(needs.outputs.keys().collect::<Vec<_>>(), ["other", "up"]);
}

#[test]
fn an_element_is_data_in_a_command() {
    let mut context = context();
    context.map_index = 3;
    context.map_value = Some(json!({"file": "a; rm -rf /"}));
    assert_eq!(
        render_text("{{ map.index }} {{ map.value }}", &context).unwrap(),
        r#"3 {"file":"a; rm -rf /"}"#
    );
    let rendered = render_shell("cat {{ map.value.file }}", &context).unwrap();
    assert!(!rendered.script.contains("rm"), "{}", rendered.script);
    assert_eq!(rendered.env.values().collect::<Vec<_>>(), ["a; rm -rf /"]);
    context.map_value = None;
    assert!(render_text("{{ map.value }}", &context).is_err(), "an unmapped task has no element");
}

#[test]
fn the_outputs_of_a_mapped_task_are_a_list_and_a_list_by_key() {
    let one = |rows: i64| Some(Arc::new(BTreeMap::from([("rows".to_owned(), json!(rows))])));
    let outputs = MappedOutputs(vec![one(5), None, one(7)]);
    assert_eq!(outputs.to_json(), json!([{"rows": 5}, null, {"rows": 7}]));
    let mut context = context();
    context.mapped_outputs.insert("up".to_owned(), outputs);
    for (template, text) in [
        ("{{ outputs.up[2].rows }}", "7"),
        ("{{ outputs.up | length }}", "3"),
        ("{{ outputs.up.rows }}", "[5,null,7]"),
        ("{{ outputs.up.rows | select | sum }}", "12"),
        ("{% for one in outputs.up %}{{ one.rows | default(0) }},{% endfor %}", "5,0,7,"),
        ("{{ outputs.up | tojson }}", r#"[{"rows":5},{},{"rows":7}]"#),
        ("{{ outputs.up.other | default('none') }}", "none"),
    ] {
        assert_eq!(render_text(template, &context).unwrap(), text, "{template}");
    }
}
