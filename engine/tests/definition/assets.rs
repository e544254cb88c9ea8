//! What several files say together about assets.

use tidemill_engine::definition::{Loaded, Schedule, check_assets, load};

fn file(id: &str, listens: &str, updates: &str) -> Loaded {
    let schedule = match listens {
        "" => String::new(),
        list => format!("schedule = {{ assets = [{list}] }}\n"),
    };
    let outlets = match updates {
        "" => String::new(),
        list => format!("outlets = [{list}]\n"),
    };
    let text = format!("[dag]\nid = \"{id}\"\n{schedule}[[task]]\nid = \"t\"\ncommand = \"true\"\n{outlets}");
    load(text.as_bytes(), id)
}

fn problems(files: &[Loaded], is_whole: bool) -> Vec<String> {
    let found = check_assets(&files.iter().collect::<Vec<_>>(), is_whole);
    let line = |(index, problem): &(usize, tidemill_engine::definition::Problem)| {
        let at = problem.place();
        format!("{} {} {}:{}", files[*index].dag_id.as_deref().unwrap(), problem.code, at.0, at.1)
    };
    found.iter().map(line).collect()
}

#[test]
fn dags_that_make_runs_of_each_other_are_named_where_they_wait() {
    let files = [
        file("a", "\"z\", \"other\"", "\"x\""),
        file("b", "\"x\"", "\"y\""),
        file("c", "\"y\"", "\"z\""),
        file("d", "\"x\"", "\"w\""),
    ];
    assert_eq!(problems(&files, false), ["a DAG0221 3:24", "b DAG0221 3:24", "c DAG0221 3:24"]);
    assert_eq!(problems(&files[1..], false), Vec::<String>::new());
}

#[test]
fn an_asset_without_a_source_is_told_of_a_whole_folder_only() {
    let files = [file("a", "\"x\", \"y\"", ""), file("b", "", "\"x\"")];
    assert_eq!(problems(&files, true), ["a DAG0222 3:29"]);
    assert_eq!(problems(&files, false), Vec::<String>::new());
}

#[test]
fn the_order_of_assets_makes_no_new_version() {
    let (one, two) = (file("a", "\"x\", \"y\"", ""), file("a", "\"y\", \"x\"", ""));
    assert_eq!(one.dag, two.dag);
    let Some(Schedule::Assets(schedule)) = one.dag.map(|dag| dag.schedule) else { panic!("no assets") };
    assert_eq!(serde_json::to_string(&schedule).unwrap(), r#"{"assets":["x","y"]}"#);
}
