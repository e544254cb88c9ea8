//! `bash_command`s. Airflow runs them in bash; a string of a DAG file goes to `/bin/sh`.

use toml::Value;

/// What only bash understands, as far as words tell.
const BASH: &[&str] = &[
    "[[",
    "((",
    "<<<",
    "<(",
    ">(",
    "&>",
    "|&",
    "$'",
    "$\"",
    "source ",
    "pipefail",
    "function ",
    "declare ",
    "typeset ",
    "let ",
    "shopt ",
    "mapfile ",
    "readarray ",
    "=(",
    "+=",
    "${BASH",
    "$RANDOM",
    "$SECONDS",
    "pushd ",
    "popd",
    "echo -e",
    "select ",
    "coproc ",
    "${!",
    "//",
    "^^}",
    ",,}",
    "[@]",
    "[*]",
    "set -E",
    "trap ",
];

fn needs_bash(script: &str) -> bool {
    let has_braces = script.split('{').skip(1).any(|part| {
        part.split('}')
            .next()
            .is_some_and(|inner| inner.contains("..") && !inner.contains(char::is_whitespace))
    });
    has_braces || BASH.iter().any(|mark| script.replace("://", "").contains(mark))
}

/// Returns the command of a translated script. A value of a template never becomes syntax of the shell: in bash it comes
/// as an argument.
pub(super) fn command(script: &str) -> Value {
    if !needs_bash(script) {
        return Value::from(script);
    }
    let parts = if super::jinja::is_template(script) {
        positional(script)
    } else {
        Some((script.to_owned(), Vec::new()))
    };
    match parts {
        Some((script, values)) => {
            let mut words = vec!["bash".to_owned(), "-c".to_owned(), script];
            if !values.is_empty() {
                words.push("bash".to_owned());
                words.extend(values);
            }
            Value::from(words)
        }
        // The engine says what it thinks of it.
        None => Value::from(script),
    }
}

/// Puts `"$1"`, `"$2"`, … in the place of templates. `None` where the place of one is not a plain word.
fn positional(script: &str) -> Option<(String, Vec<String>)> {
    if ["{%", "<<", "$((", "`", "\\{{", "let ", "(("].iter().any(|mark| script.contains(mark)) {
        return None;
    }
    let (mut out, mut values): (String, Vec<String>) = (String::new(), Vec::new());
    let mut quote = None;
    let mut rest = script;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("{{") {
            let end = rest.find("}}")? + 2;
            let (template, after) = rest.split_at(end);
            let number = values.iter().position(|value| value == template).unwrap_or_else(|| {
                values.push(template.to_owned());
                values.len() - 1
            }) + 1;
            match quote {
                None => out.push_str(&format!("\"${{{number}}}\"")),
                Some('"') => out.push_str(&format!("${{{number}}}")),
                Some(_) => out.push_str(&format!("'\"${{{number}}}\"'")),
            }
            rest = after;
            continue;
        }
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => {
                out.push(c);
                rest = rest.get(1..)?;
                let next = rest.chars().next()?;
                out.push(next);
                rest = rest.get(next.len_utf8()..)?;
                continue;
            }
            _ => {}
        }
        out.push(c);
        rest = rest.get(c.len_utf8()..)?;
    }
    quote.is_none().then_some((out, values))
}

/// Returns a script that also pushes the last line of its output, as the operator of Airflow does, and keeps its exit code.
pub(super) fn with_return_value(script: &str) -> String {
    format!(
        "{{ (\n{script}\n); echo \"$?\" > \"$TIDEMILL_WORK_DIR/.code\"; }} | tee \"$TIDEMILL_WORK_DIR/.out\"\n\
         printf 'return_value=%s\\n' \"$(tail -n 1 \"$TIDEMILL_WORK_DIR/.out\")\" >> \"$TIDEMILL_OUTPUT\"\n\
         exit \"$(cat \"$TIDEMILL_WORK_DIR/.code\")\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bash_gets_what_only_bash_understands_and_values_as_arguments() {
        assert_eq!(command("echo {{ ds }}"), Value::from("echo {{ ds }}"));
        assert_eq!(command("curl https://x/"), Value::from("curl https://x/"));
        assert_eq!(
            command("for i in {1..3}; do x; done"),
            Value::from(vec!["bash", "-c", "for i in {1..3}; do x; done"])
        );
        assert_eq!(
            command("set -o pipefail; a {{ ds }} \"{{ ds }}\" '{{ x }}'"),
            Value::from(vec![
                "bash",
                "-c",
                "set -o pipefail; a \"${1}\" \"${1}\" ''\"${2}\"''",
                "bash",
                "{{ ds }}",
                "{{ x }}"
            ])
        );
        assert!(command("set -o pipefail; a $(( {{ x }} ))").is_str());
    }
}
