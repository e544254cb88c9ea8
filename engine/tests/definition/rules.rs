//! Trigger rules that can hold: none of these files may be warned of.

use tidemill_engine::{definition::load, state::TriggerRule};

fn codes(text: &str) -> Vec<String> {
    load(text.as_bytes(), "x.toml").problems.iter().map(|problem| problem.code.to_string()).collect()
}

/// A command may end in every way, so below two of them every rule may hold.
#[test]
fn below_commands_every_rule_may_hold() {
    let mut count = 0;
    for rule in TriggerRule::ALL {
        for upstream in ["command = \"true\"", "operator = \"latest_only\""] {
            let file = format!(
                "[dag]\nid = \"x\"\n[[task]]\nid = \"a\"\ncommand = \"true\"\n[[task]]\nid = \"b\"\n{upstream}\n\
                 depends_on = \"a\"\n[[task]]\nid = \"c\"\noperator = \"noop\"\ndepends_on = \"b\"\n\
                 [[task]]\nid = \"d\"\ncommand = \"true\"\ndepends_on = [\"b\", \"c\"]\ntrigger_rule = \"{rule}\"\n"
            );
            assert_eq!(codes(&file), Vec::<String>::new(), "{file}");
            count += 1;
        }
    }
    assert_eq!(count, 24);
}

/// What is below a gate may be skipped whatever its rule, so `all_skipped` may hold further down.
#[test]
fn a_short_circuit_may_skip_what_is_far_below() {
    let file = "[dag]\nid = \"x\"\n[[task]]\nid = \"gate\"\noperator = \"short_circuit\"\nwhen = \"{{ ds == '2026-01-01' }}\"\n\
                [[task]]\nid = \"a\"\noperator = \"noop\"\ndepends_on = \"gate\"\n\
                [[task]]\nid = \"b\"\noperator = \"noop\"\ndepends_on = \"a\"\ntrigger_rule = \"all_done\"\n\
                [[task]]\nid = \"start\"\ncommand = \"true\"\n\
                [[task]]\nid = \"alarm\"\ncommand = \"true\"\ndepends_on = [\"b\", \"start\"]\ntrigger_rule = \"all_skipped\"\n";
    assert_eq!(codes(file), Vec::<String>::new());
}

/// A failed setup ends what lies below it as upstream_failed, whatever its rule.
#[test]
fn below_a_setup_a_noop_may_fail() {
    let file = "[dag]\nid = \"x\"\n[[task]]\nid = \"up\"\ncommand = \"true\"\nsetup = true\n\
                [[task]]\nid = \"work\"\noperator = \"noop\"\ndepends_on = \"up\"\ntrigger_rule = \"all_done\"\n\
                [[task]]\nid = \"alarm\"\ncommand = \"true\"\ndepends_on = \"work\"\ntrigger_rule = \"one_failed\"\n\
                [[task]]\nid = \"down\"\ncommand = \"true\"\nteardown = \"up\"\ndepends_on = \"work\"\n";
    assert_eq!(codes(file), Vec::<String>::new());
}

#[test]
fn ten_thousand_tasks_below_one_branch_are_judged_at_once() {
    let mut file = "[dag]\nid = \"x\"\n[[task]]\nid = \"choose\"\noperator = \"branch\"\nbranches = [{ then = \"t0\" }]\n".to_owned();
    for index in 0..9_000 {
        file.push_str(&format!(
            "[[task]]\nid = \"t{index}\"\noperator = \"noop\"\ndepends_on = \"{}\"\n",
            if index < 4_500 { "choose".to_owned() } else { format!("t{}", index - 4_500) }
        ));
    }
    let start = std::time::Instant::now();
    let loaded = load(file.as_bytes(), "x.toml");
    assert!(loaded.dag.is_some());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
