//! Help of every command, suggestions, codes, completions.

use crate::mill::Mill;

/// Returns the commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // A description that is continued stands further right than a name.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[test]
fn every_command_has_help() {
    let mill = Mill::new();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = Vec::new();
    while let Some(path) = open.pop() {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let done = mill.run(&args).exits(0);
        assert!(done.out.contains("Usage: tidemill"), "{path:?}: {}", done.out);
        assert!(!done.out.starts_with("Usage"), "{path:?} says nothing about itself");
        for name in listed(&done.out) {
            open.push(path.iter().cloned().chain([name]).collect());
        }
        seen.push(path.join(" "));
    }
    for wanted in [
        "standalone",
        "server",
        "worker",
        "login",
        "explain",
        "completions",
        "dags check",
        "dags next",
        "dags test",
        "dags list",
        "dags show",
        "dags trigger",
        "dags pause",
        "dags unpause",
        "dags delete",
        "runs list",
        "runs show",
        "runs cancel",
        "runs clear",
        "runs wait",
        "tasks list",
        "tasks logs",
        "tasks explain",
        "tasks clear",
        "tasks mark",
        "tasks render",
        "pools list",
        "pools set",
        "tokens create",
        "tokens list",
        "tokens revoke",
        "drift compare",
        "db migrate",
        "db check",
        "db backup",
        "db clean",
        "config show",
        "config check",
    ] {
        assert!(seen.iter().any(|path| path == wanted), "{wanted}");
    }
    println!("{} commands with help", seen.len());
}

#[test]
fn wrong_usage_exits_with_2_and_suggests() {
    let mill = Mill::new();
    for (args, hint) in [
        (&["dags", "chek", "x"][..], "check"),
        (&["standalone", "--lisen", "x"], "--listen"),
        (&["runs", "list", "--format", "yaml"], "table"),
        (&["tasks", "clear", "d", "r", "t", "--map-index", "-2"], "--map-index"),
        (&["tasks", "mark", "d", "r", "t", "--state", "failed", "--map-index", "x"], "--map-index"),
        (&["dags", "next", "x.toml", "--from", "yesterday"], "2026-11-01"),
        (&["dags", "trigger", "x", "--conf", "[1]"], "JSON object"),
        (&["drift", "compare", "--reference", "a", "--current", "b", "--metrics", "kss"], "ks"),
        (&["drift", "compare", "--reference", "a", "--current", "b", "--rule", "{\"feture\":1}"], "feature"),
        (
            &["drift", "compare", "--reference", "a", "--current", "b", "--metrics", "kl", "--rule", "{}"],
            "needs both a test",
        ),
        (&[], "Usage"),
    ] {
        let done = mill.run(args).exits(2);
        assert!(done.err.contains(hint), "{args:?}: {}", done.err);
        assert_eq!(done.out, "");
    }
}

#[test]
fn codes_are_explained() {
    let mill = Mill::new();
    let page = mill.run(&["explain", "cfg0101"]).exits(0);
    assert!(page.out.starts_with("# CFG0101: the port is in use"));
    let list = mill.run(&["explain", "--format", "json"]).exits(0).json();
    let codes: Vec<_> = list.as_array().unwrap().iter().map(|item| item["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"CFG0001") && codes.is_sorted());
    let unknown = mill.run(&["explain", "CFG0110"]).fails_with("CFG0301");
    assert!(unknown.err.contains("Did you mean CFG0101"), "{}", unknown.err);
    println!("{} codes are explained", codes.len());
}

#[test]
fn completions_and_version_are_printed() {
    let mill = Mill::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = mill.run(&["completions", shell]).exits(0).out;
        assert!(script.contains("standalone") && script.contains("tidemill"), "{shell}");
    }
    let version = mill.run(&["--version"]).exits(0).out;
    assert_eq!(version, format!("tidemill {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_that_stops_is_none() {
    let mill = Mill::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = mill.command(&["explain"]).stdout(full).stderr(std::process::Stdio::piped()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("CFG0304"));

    let mut child = mill.command(&["explain"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn colour_is_used_only_where_it_is_wanted() {
    let mill = Mill::new();
    let escape = '\u{1b}';
    assert!(!mill.run(&["explain", "X"]).err.contains(escape));
    assert!(mill.run(&["explain", "X", "--color", "always"]).err.contains(escape));
    assert!(!mill.run(&["explain", "X", "--color", "never"]).err.contains(escape));
}
