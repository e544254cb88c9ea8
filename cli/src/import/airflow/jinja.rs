//! Translates Airflow's templates into those of DAG files.

use ruff_python_ast::Expr;

/// A translated template.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) text: String,
    /// The outputs that it names: task and key.
    pub(super) pulls: Vec<(String, String)>,
    /// What of it has no counterpart.
    pub(super) problems: Vec<String>,
}

/// Names with what they are called here.
const NAMES: &[(&str, &str)] = &[
    ("execution_date", "logical_date"),
    ("next_execution_date", "data_interval_end"),
    ("next_ds", "(data_interval_end | ds)"),
    ("next_ds_nodash", "(data_interval_end | ds_nodash)"),
    ("prev_data_interval_start_success", "prev_data_interval_start_success"),
    ("yesterday_ds", "macros.ds_add(ds, -1)"),
    ("tomorrow_ds", "macros.ds_add(ds, 1)"),
    ("yesterday_ds_nodash", "(macros.ds_add(ds, -1) | ds_nodash)"),
    ("tomorrow_ds_nodash", "(macros.ds_add(ds, 1) | ds_nodash)"),
    ("task_instance", "ti"),
    ("True", "true"),
    ("False", "false"),
    ("None", "none"),
];

/// Whether a text is a template.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Translates a template; text outside of the braces stays as it is.
pub(super) fn translate(text: &str) -> Translated {
    let mut out = Translated::default();
    let mut rest = text;
    while let Some((at, close)) = next_block(rest) {
        let (head, tail) = rest.split_at(at);
        out.text.push_str(head);
        let (open, body) = tail.split_at(2);
        let Some(end) = body.find(close) else {
            out.text.push_str(tail);
            return out;
        };
        let (inner, after) = body.split_at(end);
        out.text.push_str(open);
        expression(inner, &mut out);
        out.text.push_str(close);
        rest = after.get(close.len()..).unwrap_or_default();
    }
    out.text.push_str(rest);
    out
}

fn next_block(text: &str) -> Option<(usize, &'static str)> {
    let expression = text.find("{{").map(|at| (at, "}}"));
    let statement = text.find("{%").map(|at| (at, "%}"));
    match (expression, statement) {
        (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// Translates what is between braces: word by word, strings untouched.
fn expression(inner: &str, out: &mut Translated) {
    let mut rest = inner;
    let mut last = ' ';
    while let Some(c) = rest.chars().next() {
        if c == '"' || c == '\'' {
            let length = rest
                .char_indices()
                .skip(1)
                .find(|(_, other)| *other == c)
                .map_or(rest.len(), |(at, c)| at + c.len_utf8());
            let (string, after) = rest.split_at(length);
            out.text.push_str(string);
            (rest, last) = (after, c);
            continue;
        }
        if !(c.is_alphabetic() || c == '_') || last == '.' || last.is_alphanumeric() || last == '_' {
            out.text.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            last = c;
            continue;
        }
        let word_end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end);
        if let Some((text, used)) = special(rest, out) {
            out.text.push_str(&text);
            rest = rest.get(used..).unwrap_or_default();
        } else {
            let known = NAMES.iter().find(|(name, _)| *name == word).map_or(word, |(_, here)| here);
            out.text.push_str(known);
            rest = after;
        }
        last = 'x';
    }
}

/// Translates a call at the start of a text; returns what it is here and how much it took.
fn special(text: &str, out: &mut Translated) -> Option<(String, usize)> {
    let heads: [(&str, bool); 4] = [
        ("ti.xcom_pull", true),
        ("task_instance.xcom_pull", true),
        ("dag_run.conf.get", false),
        ("params.get", false),
    ];
    let (head, is_pull) = heads.into_iter().find(|(head, _)| text.starts_with(&format!("{head}(")))?;
    let length = call_length(text)?;
    let parsed = ruff_python_parser::parse_expression(text.get(..length)?).ok()?;
    let Expr::Call(call) = &*parsed.syntax().body else { return None };
    let argument = |name: &str, place: usize| call.arguments.find_argument_value(name, place);
    if !is_pull {
        let Some(Expr::StringLiteral(key)) = argument("key", 0) else { return None };
        let place = head.trim_end_matches(".get");
        let mut here = format!("{place}[{:?}]", key.value.to_str());
        if let Some(default) = argument("default", 1) {
            let range = ruff_text_size::Ranged::range(default);
            let default = text.get(range.start().to_usize()..range.end().to_usize())?;
            let default = NAMES.iter().find(|(name, _)| *name == default).map_or(default, |(_, here)| here);
            here = format!("({here} | default({default}))");
        }
        return Some((here, length));
    }
    let key = match argument("key", 2) {
        Some(Expr::StringLiteral(key)) => key.value.to_str().to_owned(),
        None => "return_value".to_owned(),
        Some(_) => return None,
    };
    let mut reference = |id: &str| {
        out.pulls.push((id.to_owned(), key.clone()));
        format!("outputs[{id:?}][{key:?}]")
    };
    match argument("task_ids", 0) {
        Some(Expr::StringLiteral(id)) => Some((reference(id.value.to_str()), length)),
        Some(Expr::List(list)) => {
            let mut items = Vec::new();
            for item in &list.elts {
                let Expr::StringLiteral(id) = item else { return None };
                items.push(reference(id.value.to_str()));
            }
            Some((format!("[{}]", items.join(", ")), length))
        }
        _ => {
            out.problems.push("`xcom_pull` without the task that it pulls from".to_owned());
            None
        }
    }
}

/// Returns how long a call is, up to its closing parenthesis.
fn call_length(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_u32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_translated() {
        for (airflow, here) in [
            ("echo {{ ds }}", "echo {{ ds }}"),
            ("{{ execution_date }} execution_date", "{{ logical_date }} execution_date"),
            ("{{ ti.xcom_pull(task_ids='a') }}", r#"{{ outputs["a"]["return_value"] }}"#),
            ("{{ task_instance.xcom_pull('a', key=\"k\")[0] }}", r#"{{ outputs["a"]["k"][0] }}"#),
            (
                "{{ ti.xcom_pull(task_ids=['a', 'b']) }}",
                r#"{{ [outputs["a"]["return_value"], outputs["b"]["return_value"]] }}"#,
            ),
            ("{{ dag_run.conf.get('x', 'y') }}", r#"{{ (dag_run.conf["x"] | default('y')) }}"#),
            ("{% if params.x is None %}a{% endif %}", "{% if params.x is none %}a{% endif %}"),
            ("{{ yesterday_ds }} {{ 'next_ds' }}", "{{ macros.ds_add(ds, -1) }} {{ 'next_ds' }}"),
            ("{{ ", "{{ "),
            ("{{ 'ä' ~ xé }}", "{{ 'ä' ~ xé }}"),
        ] {
            assert_eq!(translate(airflow).text, here);
        }
        assert_eq!(translate("{{ ti.xcom_pull('a') }}").pulls, [("a".to_owned(), "return_value".to_owned())]);
        assert_eq!(translate("{{ ti.xcom_pull(key='k') }}").problems.len(), 1);
    }
}
