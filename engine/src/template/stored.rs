//! References to variables and connections: their names have to stand in the file, because only those are loaded.

use super::{
    TemplateProblem,
    check::{
        COMPUTED_NAME, SECRET_ARGUMENT, UNKNOWN_FUNCTION, UNKNOWN_NAME, WHOLE, error, unknown_member,
        value_method,
    },
    facts::{Reference, Step},
    needs::RESERVED_VARIABLES,
};
use crate::{
    connection,
    ids::{ConnectionId, VariableName},
    secret::is_sensitive_name,
};

/// Methods of Airflow's objects, with what to write here.
const METHODS: &[(&str, &str)] = &[
    ("get", "write `{{ var.<name> | default(\"…\") }}`"),
    ("get_uri", "write `conn.<id>.uri`"),
    ("get_password", "write `conn.<id>.password`"),
    ("get_extra", "write `conn.<id>.extra`"),
];

/// Checks a use of `var`: `var.name`, or `var.value.name` and `var.json.name` as Airflow writes it.
pub(super) fn check_variable(reference: &Reference, problems: &mut Vec<TemplateProblem>) {
    let path = match reference.path.split_first() {
        Some((Step::Name(form), rest)) if RESERVED_VARIABLES.contains(&form.as_str()) => rest,
        _ => reference.path.as_slice(),
    };
    let is_json = matches!(reference.path.first(), Some(Step::Name(form)) if form == "json");
    match path {
        _ if reference.is_call => problems.push(method(reference)),
        [] => problems.push(whole(reference, "a variable", "var.<name>")),
        [Step::Computed, ..] => problems.push(computed(reference)),
        [Step::Name(name), below @ ..] => {
            if let Err(why) = VariableName::new(name) {
                problems.push(bad_name(reference, &format!("the name of a variable {why}")));
            } else if !below.is_empty() && !is_json {
                let message = format!("`{name}` is text and has nothing below it");
                let mut problem = error(UNKNOWN_NAME, reference.range.clone(), message);
                problem.help = Some(format!("if its value is JSON, write `var.json.{name}.…`"));
                problems.push(problem);
            }
        }
    }
}

/// Checks a use of `conn`: `conn.id.field`.
pub(super) fn check_connection(reference: &Reference, problems: &mut Vec<TemplateProblem>) {
    match reference.path.as_slice() {
        _ if reference.is_call => problems.push(method(reference)),
        [] => problems.push(whole(reference, "a connection and a field of it", "conn.<id>.host")),
        [Step::Computed, ..] => problems.push(computed(reference)),
        [Step::Name(id)] => {
            let field = format!("conn.{id}.host");
            problems.push(whole(
                reference,
                "a field of the connection: all of it would hold the password",
                &field,
            ));
        }
        [Step::Name(id), field, ..] => {
            if let Err(why) = ConnectionId::new(id) {
                problems.push(bad_name(reference, &format!("the id of a connection {why}")));
            }
            match field {
                Step::Computed => problems.push(computed(reference)),
                Step::Name(field) if !connection::FIELDS.contains(&field.as_str()) => {
                    problems.push(unknown_member(reference, field, connection::FIELDS.iter().copied()));
                }
                Step::Name(_) => {}
            }
        }
    }
}

/// Refuses what is secret in a connection among the arguments of a process.
pub(super) fn check_argument(reference: &Reference) -> Option<TemplateProblem> {
    let (Step::Name(field), below) = (reference.path.get(1)?, reference.path.get(2)) else { return None };
    let is_secret = match (field.as_str(), below) {
        ("password" | "uri", _) | ("extra" | "extra_dejson", None) => true,
        ("extra" | "extra_dejson", Some(Step::Name(name))) => is_sensitive_name(name),
        _ => false,
    };
    if reference.root != "conn" || !is_secret {
        return None;
    }
    let message =
        format!("every user of the machine can read arguments: `{field}` of a connection is secret");
    let mut problem = error(SECRET_ARGUMENT, reference.range.clone(), message);
    problem.help = Some("pass it in `env`, and let the program read it there".to_owned());
    Some(problem)
}

fn computed(reference: &Reference) -> TemplateProblem {
    let message = format!(
        "`{}[…]` with a computed name: only names that can be read from the file are loaded",
        reference.root
    );
    error(COMPUTED_NAME, reference.range.clone(), message)
}

fn whole(reference: &Reference, what: &str, example: &str) -> TemplateProblem {
    let mut problem = error(WHOLE, reference.range.clone(), format!("name {what}"));
    problem.help = Some(format!("such as `{example}`"));
    problem
}

fn bad_name(reference: &Reference, message: &str) -> TemplateProblem {
    error(UNKNOWN_NAME, reference.range.clone(), message.to_owned())
}

fn method(reference: &Reference) -> TemplateProblem {
    let name = match reference.path.last() {
        Some(Step::Name(name)) => name.as_str(),
        _ => "",
    };
    if reference.path.is_empty() {
        let message = format!("`{}` is not a function", reference.root);
        return error(UNKNOWN_FUNCTION, reference.range.clone(), message);
    }
    let mut problem = value_method(reference);
    if let Some((_, help)) = METHODS.iter().find(|(method, _)| *method == name) {
        problem.help = Some((*help).to_owned());
    }
    problem
}
