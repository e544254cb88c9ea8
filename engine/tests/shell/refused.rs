//! Every refused place, with its code, and what is only warned of.

use tidemill_engine::template::render_shell;

use super::{context, errors, problems};

const REFUSED: &[(&str, &str)] = &[
    ("DAG0711", "echo $(( {{ params.v }} + 1 ))"),
    ("DAG0711", "echo \"$((1 + {{ params.v }}))\""),
    ("DAG0711", "(( {{ params.v }} > 1 )) && echo"),
    ("DAG0711", "RANDOM={{ params.v }}"),
    ("DAG0711", "PS4={{ params.v }}; set -x; true"),
    ("DAG0711", "declare -i n; n={{ params.v }}"),
    ("DAG0711", "while read -r l; do n={{ params.v }}; typeset -i n; done"),
    ("DAG0712", "echo ${{ params.v }}"),
    ("DAG0712", "echo \"${{ params.v }}\""),
    ("DAG0712", "echo ${ {{- params.v }}}"),
    ("DAG0712", "echo \"${x:-{{ params.v }}}\""),
    ("DAG0712", "echo ${x#{{ params.v }}}"),
    ("DAG0712", "echo ${x:-$(echo {{ params.v }})}"),
    ("DAG0712", "export {{ params.v }}=1"),
    ("DAG0712", "export {{ params.v }}"),
    ("DAG0712", "export PS4={{ params.v }}"),
    ("DAG0712", "local -n x={{ params.v }}"),
    ("DAG0712", "read {{ params.v }}"),
    ("DAG0712", "unset {{ params.v }}"),
    ("DAG0712", "declare x={{ params.v }}"),
    ("DAG0712", "let {{ params.v }}"),
    ("DAG0712", "printf -v {{ params.v }} x"),
    ("DAG0712", "for {{ params.v }} in a; do :; done"),
    ("DAG0712", "a[{{ params.v }}]=1"),
    ("DAG0712", "echo x >&{{ params.v }}"),
    ("DAG0712", "exec 3<& {{ params.v }}"),
    ("DAG0713", "cat <<{{ params.v }}\nx\n"),
    ("DAG0713", "cat <<'EOF'\n{{ params.v }}\nEOF\n"),
    ("DAG0713", "cat <<\\EOF\n{{ params.v }}\nEOF\n"),
    ("DAG0714", "echo `echo {{ params.v }}`"),
    ("DAG0714", "echo \"`echo '{{ params.v }}'`\""),
    ("DAG0714", "echo $'{{ params.v }}'"),
    ("DAG0714", "echo $\"{{ params.v }}\""),
    ("DAG0715", "echo \\{{ params.v }}"),
    ("DAG0715", "echo \"\\{{ params.v }}\""),
    ("DAG0715", "cat <<EOF\n\\{{ params.v }}\nEOF\n"),
    ("DAG0716", "[[ {{ params.v }} -eq 1 ]]"),
    ("DAG0716", "[[ -n a && \"{{ params.v }}\" == b ]]"),
    ("DAG0716", "cat <<< {{ params.v }}"),
    ("DAG0717", "{{ params.v }} --version"),
    ("DAG0717", "true; \"{{ params.v }}\""),
    ("DAG0717", "command {{ params.v }}"),
    ("DAG0717", "time -p {{ params.v }} x"),
    ("DAG0717", "if {{ params.v }}; then :; fi"),
    ("DAG0717", "{{ params.v }}=1"),
    ("DAG0717", "x+={{ params.v }}"),
    ("DAG0717", "{{ params.v }}() { :; }"),
    ("DAG0717", "echo $({{ params.v }})"),
    ("DAG0718", "[ {{ params.v }} ]"),
    ("DAG0718", "[ {{ params.v }} {{ params.v }} ]"),
    ("DAG0718", "[ ! {{ params.v }} ]"),
    ("DAG0718", "test {{ params.v }} \"$x\""),
    ("DAG0718", "[ -v {{ params.v }} ]"),
    ("DAG0718", "[ -{{ params.v }} x ]"),
    ("DAG0718", "printf {{ params.v }} x"),
    ("DAG0718", "set {{ params.v }}"),
    ("DAG0719", "function f { echo; }; echo {{ params.v }}"),
    ("DAG0719", "a=(1 2); echo {{ params.v }}"),
    ("DAG0719", "cat <(echo {{ params.v }})"),
    ("DAG0719", "echo a &> {{ params.v }}"),
    ("DAG0719", "alias ls=eval\nls {{ params.v }}"),
    ("DAG0719", "echo $'it\\'s' {{ params.v }}"),
    ("DAG0719", "echo $[1 + {{ params.v }}]"),
    ("DAG0719", "echo $((echo) | cat {{ params.v }})"),
    ("DAG0719", "cat <<EOF \"\n\" {{ params.v }}\nEOF\n"),
    ("DAG0719", "cat <<EOF\na\\\nEOF\n{{ params.v }}\nEOF\n"),
    ("DAG0719", "echo {% if params.n %}\"{% endif %}{{ params.v }}"),
    ("DAG0719", "{% for x in params.l %}echo {{ x }} \"{% endfor %}"),
    ("DAG0719", "echo {{ params.v }} \u{FDD0}"),
    ("DAG0710", "{% set x %}{{ params.v }}{% endset %}echo {{ x }}"),
    ("DAG0710", "{% filter upper %}{{ params.v }}{% endfilter %}"),
    ("DAG0710", "{% macro m(x) %}{{ x }}{% endmacro %}echo {{ m(params.v) }}"),
    ("DAG0710", "{% for x in params.l recursive %}{{ loop(x) }}{% endfor %}"),
];

#[test]
fn every_refused_place_has_its_code_when_the_file_loads() {
    for (code, template) in REFUSED {
        let found = errors(template);
        assert!(found.iter().any(|problem| problem.code == *code), "{template:?} wants {code}: {found:#?}");
        for problem in &found {
            assert!(template.get(problem.range.clone()).is_some(), "{template:?}: {problem:?}");
        }
    }
    println!("refused places {}", REFUSED.len());
}

#[test]
fn a_refused_place_is_refused_when_it_is_rendered_too() {
    for (code, template) in REFUSED {
        let error = match render_shell(template, &context("value")) {
            // Only the branch that is taken counts then, and it may be harmless.
            Ok(_) if *code == "DAG0719" && template.contains("{%") => continue,
            Ok(rendered) => panic!("{template:?} became {:?}", rendered.script),
            Err(error) => error,
        };
        assert_eq!(error.code(), "SCH0708", "{template:?}: {error}");
    }
}

#[test]
fn nested_interpreters_get_a_warning() {
    let warned = [
        "sh -c \"echo {{ params.v }}\"",
        "bash -lc 'echo {{ params.v }}'",
        "env A=1 timeout 5 /usr/bin/python3 -c 'print({{ params.v }})'",
        "perl -e 'print {{ params.v }}'",
        "eval echo {{ params.v }}",
        "trap 'echo {{ params.v }}' EXIT",
        "ssh host ls {{ params.v }}",
        "python3 - <<EOF\nprint('{{ params.v }}')\nEOF\n",
        ". {{ params.v }}",
    ];
    for template in warned {
        let found = problems(template);
        assert_eq!(
            found.iter().map(|p| (p.code, p.is_warning)).collect::<Vec<_>>(),
            [("DAG0720", true)],
            "{template}"
        );
    }
    let quiet = [
        "sh -c 'echo \"$1\"' sh {{ params.v }}",
        "python3 train.py --date {{ params.v }}",
        "python3 train.py -c {{ params.v }}",
        "echo {{ params.v }} | python3 train.py",
    ];
    for template in quiet {
        assert_eq!(problems(template), [], "{template}");
    }
}

#[test]
fn a_variable_that_may_be_calculated_with_gets_a_warning() {
    let codes = |template| problems(template).iter().map(|p| (p.code, p.is_warning)).collect::<Vec<_>>();
    assert_eq!(codes("n={{ params.v }}; echo $((n + 1))"), [("DAG0721", true)]);
    assert_eq!(codes("n={{ params.v }}; [[ $n -eq 1 ]]"), [("DAG0721", true)]);
    assert_eq!(codes("n={{ params.v }}; echo ${!n}"), [("DAG0721", true)]);
    assert_eq!(codes("n={{ params.v | int }}; echo $((n + 1))"), []);
    assert_eq!(codes("echo {{ params.v }} $((1 + 1))"), []);
}
