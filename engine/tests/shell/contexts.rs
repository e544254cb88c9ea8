//! Every accepted place: what goes in comes out, byte for byte, and nothing else happens.

use std::{collections::BTreeMap, fs};

use tidemill_engine::template::render_shell;

use super::{Folder, SHELLS, context, corpus::payloads, errors, run};

/// A place: its name, a command that prints what it got, and what it must print for a value.
struct Place {
    name: &'static str,
    template: &'static str,
    expected: fn(&str) -> String,
}

const fn place(name: &'static str, template: &'static str, expected: fn(&str) -> String) -> Place {
    Place { name, template, expected }
}

fn same(v: &str) -> String {
    v.to_owned()
}

fn dotted(v: &str) -> String {
    format!("{v}.")
}

fn yes(_: &str) -> String {
    "yes".to_owned()
}

const PLACES: &[Place] = &[
    place("word", "printf '%s' {{ params.v }}", same),
    place("word of an output", "printf '%s' {{ outputs.up.k }}", same),
    place("part of a word", "printf '%s' --x={{ params.v }}:y", |v| format!("--x={v}:y")),
    place("after a parameter", "A=1; printf '%s' $A{{ params.v }}", |v| format!("1{v}")),
    place("two values in a word", "printf '%s' {{ params.v }}{{ params.v }}", |v| format!("{v}{v}")),
    place("after a tilde", "printf '%s' ~{{ params.v }}", |v| format!("~{v}")),
    place("double quotes", "printf '%s' \"a {{ params.v }} b\"", |v| format!("a {v} b")),
    place("escapes in double quotes", "printf '%s' \"\\\"\\\\{{ params.v }}\\\"\"", |v| format!("\"\\{v}\"")),
    place("parameters in double quotes", "A=1; printf '%s' \"$A{{ params.v }}${A}\"", |v| format!("1{v}1")),
    place("single quotes", "printf '%s' 'a {{ params.v }} b'", |v| format!("a {v} b")),
    place("backslash in single quotes", "printf '%s' '\\{{ params.v }}$'", |v| format!("\\{v}$")),
    place("dollar in single quotes", "printf '%s' '${{ params.v }}'", |v| format!("${v}")),
    place("mixed quotes", "printf '%s' a'b'\"c{{ params.v }}\"'d'{{ params.v }}", |v| format!("abc{v}d{v}")),
    place("escaped quotes", "printf '%s' \\\"{{ params.v }}\\'", |v| format!("\"{v}'")),
    place("assignment", "x={{ params.v }}; printf '%s' \"$x\"", same),
    place("part of an assignment", "x=a'b'{{ params.v }}\"c\"; printf '%s' \"$x\"", |v| format!("ab{v}c")),
    place("quoted assignment", "x=\"{{ params.v }}\" y='{{ params.v }}'; printf '%s' \"$x$y\"", |v| {
        format!("{v}{v}")
    }),
    place("environment of a command", "X={{ params.v }} env sh -c 'printf %s \"$X\"'", same),
    place("export", "export X={{ params.v }}; printf '%s' \"$X\"", same),
    place("readonly", "readonly X=\"{{ params.v }}\"; printf '%s' \"$X\"", same),
    place("local", "f() { local x={{ params.v }}; printf '%s' \"$x\"; }; f", same),
    place("for", "for x in a {{ params.v }} b; do printf '[%s]' \"$x\"; done", |v| format!("[a][{v}][b]")),
    place("body of a loop", "for x in a b\ndo\n  printf '%s' {{ params.v }}\ndone", |v| format!("{v}{v}")),
    place("while", "d=; while [ -z \"$d\" ]; do printf '%s' {{ params.v }}; d=1; done", same),
    place(
        "case word and pattern",
        "case {{ params.v }} in {{ params.v }}) printf yes;; *) printf no;; esac",
        yes,
    ),
    place(
        "case pattern in parentheses",
        "x={{ params.v }}; case \"$x\" in (a|{{ params.v }}) printf yes;; esac",
        yes,
    ),
    place(
        "case pattern of more text",
        "case {{ params.v }}x in {{ params.v }}) printf no;; *) printf yes;; esac",
        yes,
    ),
    place("case branch", "case a in b) ;; a) printf '%s' {{ params.v }} ;; esac", same),
    place("substitution", "printf '%s' \"$(printf '%s.' {{ params.v }})\"", dotted),
    place("quotes in a substitution", "printf '%s' \"a$(printf '%s.' \"{{ params.v }}\")b\"", |v| {
        format!("a{v}.b")
    }),
    place(
        "deep substitution",
        "x=$(y=$(printf '%s.' '{{ params.v }}'); printf '%s' \"$y\"); printf '%s' \"$x\"",
        dotted,
    ),
    place(
        "case in a substitution",
        "x=$(case a in a) printf '%s.' {{ params.v }} ;; esac); printf '%s' \"$x\"",
        dotted,
    ),
    place("heredoc", "cat <<EOF\n{{ params.v }}\nEOF\n", |v| format!("{v}\n")),
    place("text in a heredoc", "cat <<EOF; printf '%s' {{ params.v }}\n'a' \"{{ params.v }}\"\nEOF\n", |v| {
        format!("'a' \"{v}\"\n{v}")
    }),
    place("heredoc with tabs", "cat <<-EOF\n\t{{ params.v }}x\n\tEOF\n", |v| format!("{v}x\n")),
    place(
        "two heredocs",
        "cat <<A; cat <<B\n{{ params.v }}1\nA\n{{ params.v }}2\nB\nprintf '%s' {{ params.v }}",
        |v| format!("{v}1\n{v}2\n{v}"),
    ),
    place(
        "after a quoted heredoc",
        "cat <<'EOF' > /dev/null\n$(' \" `\nEOF\nprintf '%s' {{ params.v }}",
        same,
    ),
    place("substitution in a heredoc", "cat <<EOF\n$(printf '%s.' {{ params.v }})\nEOF\n", |v| {
        format!("{v}.\n")
    }),
    place("heredoc in a substitution", "x=$(cat <<EOF\n{{ params.v }}.\nEOF\n); printf '%s' \"$x\"", dotted),
    place("comment", "printf a # {{ params.v }}\nprintf b", |_| "ab".to_owned()),
    place("argument of a function", "f() { printf '%s' \"$1\"; }; f {{ params.v }}", same),
    place("positional parameters", "set -- {{ params.v }} b; printf '%s' \"$#$1\"", |v| format!("2{v}")),
    place("test -n", "if [ -n {{ params.v }} ]; then printf yes; else printf no; fi", |v| {
        if v.is_empty() { "no".to_owned() } else { "yes".to_owned() }
    }),
    place("test =", "[ {{ params.v }} = {{ params.v }} ] && printf yes", yes),
    place(
        "test x",
        "test x{{ params.v }} = 'x{{ params.v }}' && [ 'a b' != \"{{ params.v }}\" ] && printf yes",
        yes,
    ),
    place("pipe", "printf '%s' {{ params.v }} | cat", same),
    place("and or", "false || true && printf '%s' {{ params.v }}", same),
    place("subshell", "( printf '%s' {{ params.v }} )", same),
    place("group", "{ printf '%s' {{ params.v }}; } 2>&1", same),
    place("line continuation", "printf '%s' \\\n  {{ params.v }}", same),
    place("other settings", "set -u; set -f; IFS=abc; printf '%s' {{ params.v }}", same),
    place("arithmetic elsewhere", "n=$((1 + 2)); printf '%s' \"$n\"{{ params.v }}", |v| format!("3{v}")),
    place("expansions elsewhere", "printf '%s' \"${NO:-a}${NO-\"b\"}\"{{ params.v }}`printf c`", |v| {
        format!("ab{v}c")
    }),
    place("prefixes", "command printf '%s' {{ params.v }}", same),
    place("negation", "! false && printf '%s' {{ params.v }}", same),
    place("descriptors", "printf '%s' {{ params.v }} 2>&1 3>/dev/null", same),
    place(
        "after a condition of bash",
        "if [[ -n a && a == a ]]; then :; fi; printf '%s' {{ params.v }}",
        same,
    ),
    place("loop of the template", "{% for x in params.l %}printf '%s,' {{ x }}; {% endfor %}", |v| {
        format!("{v},{v},")
    }),
    place("arguments from a loop", "printf '%s,'{% for x in params.l %} {{ x }}{% endfor %}", |v| {
        format!("{v},{v},")
    }),
    place(
        "condition of the template",
        "printf '%s'{% if params.n > 2 %} \"{{ params.v }}\"{% else %} b{% endif %}",
        same,
    ),
    place("set in the template", "{% set x = params.v %}printf '%s' {{ x }}", same),
    place("filter", "printf '%s' {{ params.v | replace(\"zz\", \"\") }}", same),
];

/// Runs one place with every payload and returns what went wrong.
fn try_place(place: &Place, payloads: &[String]) -> Vec<String> {
    let folder = Folder::new();
    assert_eq!(errors(place.template), [], "{}", place.name);
    let mut wrong = Vec::new();
    for value in payloads {
        let rendered = render_shell(place.template, &context(value)).unwrap();
        for shell in &SHELLS[..2] {
            let (printed, _) = run(*shell, &rendered.script, &rendered.env, &folder);
            if printed != (place.expected)(value).as_bytes() || !folder.files().is_empty() {
                let printed = String::from_utf8_lossy(&printed).chars().take(80).collect::<String>();
                wrong.push(format!("{} {shell:?}: {value:.60?} printed {printed:?}", place.name));
            }
        }
    }
    wrong
}

#[test]
fn every_payload_arrives_byte_for_byte_in_every_place() {
    let payloads = payloads();
    let halves = PLACES.split_at(PLACES.len() / 2);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let spawn = |places: &'static [Place]| {
            let payloads = &payloads;
            scope
                .spawn(move || places.iter().flat_map(|place| try_place(place, payloads)).collect::<Vec<_>>())
        };
        let (first, second) = (spawn(halves.0), spawn(halves.1));
        [first.join().unwrap(), second.join().unwrap()].concat()
    });
    let runs = payloads.len() * PLACES.len() * 2;
    println!(
        "payloads {}, places {}, shells 2, runs {runs}, wrong {}",
        payloads.len(),
        PLACES.len(),
        wrong.len()
    );
    assert!(payloads.len() >= 40);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_gets_exactly_the_name_that_the_value_says() {
    let names: Vec<String> = payloads()
        .into_iter()
        .filter(|name| !name.contains('/') && !["", ".", ".."].contains(&&**name) && name.len() <= 200)
        .collect();
    let mut runs = 0;
    for template in
        ["printf ok > {{ params.v }}", "printf ok >> \"{{ params.v }}\"", "printf ok 1>|'{{ params.v }}'"]
    {
        assert_eq!(errors(template), []);
        for name in &names {
            for shell in SHELLS {
                let folder = Folder::new();
                let rendered = render_shell(template, &context(name)).unwrap();
                let (_, is_success) = run(*shell, &rendered.script, &rendered.env, &folder);
                assert!(is_success, "{template} {name:?}");
                assert_eq!(folder.files().into_iter().collect::<Vec<_>>(), [name.as_bytes()], "{template}");
                runs += 1;
            }
        }
    }
    println!("file names {}, runs {runs}", names.len());
}

#[test]
fn a_program_gets_exactly_the_path_that_the_value_completes() {
    use std::os::unix::fs::PermissionsExt;
    let template = "./tool-{{ params.v }} {{ params.v }}";
    assert_eq!(errors(template), []);
    for value in ["a b", "$(touch pwned)", "';touch pwned;#", "*"] {
        for shell in SHELLS {
            let folder = Folder::new();
            let path = folder.0.join(format!("tool-{value}"));
            fs::write(&path, "#!/bin/sh\nprintf '%s' \"$1\"\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            let rendered = render_shell(template, &context(value)).unwrap();
            let (printed, _) = run(*shell, &rendered.script, &rendered.env, &folder);
            assert_eq!(printed, value.as_bytes());
            assert_eq!(folder.files().len(), 1);
        }
    }
}

#[test]
fn the_script_does_not_depend_on_the_values() {
    for place in PLACES {
        let scripts: std::collections::BTreeSet<String> = payloads()
            .iter()
            .map(|value| render_shell(place.template, &context(value)).unwrap().script)
            .collect();
        assert_eq!(scripts.len(), 1, "{}", place.name);
    }
}

#[test]
fn the_environment_holds_the_values_as_they_are() {
    let template = "printf '%s' {{ params.v }} \"{{ params.n }}\" '{{ params.l }}' # {{ 'constant' }}";
    for value in payloads().into_iter().filter(|value| value.len() < 50_000) {
        let rendered = render_shell(template, &context(&value)).unwrap();
        let list = serde_json::to_string(&[&value, &value]).unwrap();
        let expected = [
            ("TIDEMILL_V0", &*value),
            ("TIDEMILL_V1", "3"),
            ("TIDEMILL_V2", &*list),
            ("TIDEMILL_V3", "constant"),
        ];
        let expected: BTreeMap<String, String> =
            expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(rendered.env, expected);
    }
}

#[test]
fn a_value_at_the_limit_reaches_a_real_process_and_one_byte_more_is_refused() {
    let room = 131_071 - "TIDEMILL_V0=".len();
    let folder = Folder::new();
    let rendered = render_shell("printf '%s' {{ params.v }} | wc -c", &context(&"x".repeat(room))).unwrap();
    for shell in SHELLS {
        let (printed, is_success) = run(*shell, &rendered.script, &rendered.env, &folder);
        assert!(is_success);
        assert_eq!(String::from_utf8_lossy(&printed).trim(), room.to_string());
    }
    let error = render_shell("printf '%s' {{ params.v }}", &context(&"x".repeat(room + 1))).unwrap_err();
    assert_eq!(error.code(), "SCH0704");
    assert!(error.to_string().contains("$TIDEMILL_INPUTS"), "{error}");
}
