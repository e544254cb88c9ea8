//! Every command that a document, a page, a message or a script shows is one that the command line takes.

use std::{fs, path::Path};

use clap::{Arg, Command, CommandFactory};

use crate::args::Cli;

/// A command line as it is shown somewhere.
#[derive(Debug)]
struct Shown {
    place: String,
    /// What follows `tidemill`.
    words: Vec<String>,
    /// It is to be typed as it stands: what is required must be there. In running text a command may be called by
    /// its name alone.
    is_whole: bool,
}

fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    let skipped = ["target", ".git", ".tidemill", "node_modules", "__pycache__", "data", "wheels"];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !skipped.contains(&&*name) {
                files(&path, found);
            }
        } else if ["md", "html", "rs", "toml", "sh"]
            .iter()
            .any(|kind| path.extension() == Some(kind.as_ref()))
            && let Ok(text) = fs::read_to_string(&path)
        {
            found.push((path.display().to_string(), text));
        }
    }
}

/// Splits into words; quotes hold words together.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, c) if c.is_whitespace() => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            (_, c) => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Returns what follows `tidemill` when the text is a call of it, up to what belongs to the shell.
fn call(text: &str) -> Option<Vec<String>> {
    // What a page or a script fills in is one word.
    let mut text = text.trim().trim_start_matches("$ ").trim_start_matches("exec ").to_owned();
    while let Some((before, (_, after))) =
        text.split_once("{{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
    {
        text = format!("{before}VALUE{after}");
    }
    let words = words(&text);
    let at = words.iter().position(|word| !word.contains('='))?;
    let is_own = words[at] == "tidemill" || words[at].ends_with("/tidemill") || words[at] == "$TIDEMILL";
    let ends = |word: &String| matches!(word.as_str(), "#" | "|" | ">" | "&&" | ";" | "\\" | "<");
    is_own.then(|| words[at + 1..].iter().take_while(|word| !ends(word)).cloned().collect())
}

/// Finds the calls of a text: in code spans, in fenced blocks and scripts, in elements of a page.
fn calls(path: &str, text: &str) -> Vec<Shown> {
    let mut found = Vec::new();
    let (mut is_fenced, is_script) = (false, path.ends_with(".sh"));
    for (index, line) in text.lines().enumerate() {
        let place = format!("{path}:{}", index + 1);
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        let is_markdown = path.ends_with(".md");
        if (is_fenced && is_markdown) || is_script || line.trim_start().starts_with("ExecStart=") {
            let line = line.trim_start().trim_start_matches("ExecStart=");
            found.extend(call(line).map(|words| Shown { place, words, is_whole: !words_continue(line) }));
            continue;
        }
        let mark = if path.ends_with(".html") { ["<code>", "</code>"] } else { ["`", "`"] };
        let mut rest = line;
        while let Some((_, after)) = rest.split_once(mark[0]) {
            let Some((span, after)) = after.split_once(mark[1]) else { break };
            found.extend(call(span).map(|words| Shown { place: place.clone(), words, is_whole: false }));
            rest = after;
        }
    }
    found
}

fn words_continue(line: &str) -> bool {
    line.trim_end().ends_with('\\')
}

/// The tables of `docs/cli.md` name commands without the program, with brackets around what may be left out.
fn synopses(path: &str, text: &str) -> Vec<Shown> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with("| `")) {
        // Alternatives are options each; other words with a bar between them are one value.
        let line = line.replace("\\|--", " --").replace("\\|", "/");
        let cell = line.split('|').nth(1).unwrap();
        for span in cell.split('`').skip(1).step_by(2) {
            let plain = span.replace(['[', ']'], " ").replace(['…', '(', ')'], " ");
            let place = format!("{path}:{}", index + 1);
            found.push(Shown { place, words: words(&plain), is_whole: false });
        }
    }
    found
}

fn option<'a>(command: &'a Command, globals: &'a Command, word: &str) -> Option<&'a Arg> {
    let is_meant = |arg: &&Arg| match word.strip_prefix("--") {
        Some(long) => {
            arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
        }
        None => arg.get_short().is_some_and(|short| word == format!("-{short}")),
    };
    let shared = globals.get_arguments().filter(|arg| arg.is_global_set());
    command.get_arguments().chain(shared).find(is_meant)
}

/// Returns what is wrong with a call.
fn wrong(shown: &Shown, root: &Command) -> Option<String> {
    let (mut command, mut values) = (root, 0);
    let mut words = shown.words.iter();
    while let Some(word) = words.next() {
        if word == "--help" || word == "--version" {
            return None;
        }
        if word.starts_with('-') && word.len() > 1 && !word[1..].starts_with(|c: char| c.is_ascii_digit()) {
            let (name, value) =
                word.split_once('=').map_or((&**word, None), |(name, value)| (name, Some(value)));
            let Some(arg) = option(command, root, name) else {
                return Some(format!("`{}` has no {name}", command.get_name()));
            };
            if arg.get_action().takes_values() && value.is_none() && words.next().is_none() {
                return Some(format!("{name} has no value"));
            }
        } else if let Some(below) = command.find_subcommand(word) {
            command = below;
        } else if word == "$@" {
            // Whatever the script was given.
        } else if command.has_subcommands() && word.contains('|') {
            // A list of commands: each is one, and nothing follows.
            let unknown = word.split('|').find(|name| command.find_subcommand(name).is_none());
            return unknown.map(|name| format!("`{}` has no command {name}", command.get_name()));
        } else if command.has_subcommands() {
            // A placeholder stands for any command.
            let is_placeholder = word.chars().all(|c| c.is_ascii_uppercase() || c == '…');
            return (!is_placeholder).then(|| format!("`{}` has no command {word}", command.get_name()));
        } else {
            values += 1;
        }
    }
    let takes: Vec<_> = command.get_positionals().collect();
    let most: usize = takes
        .iter()
        .map(|arg| arg.get_num_args().map_or(1, |range| range.max_values()))
        .fold(0, usize::saturating_add);
    let least = takes.iter().filter(|arg| arg.is_required_set()).count();
    if values > most {
        return Some(format!("{values} values where `{}` takes {most}", command.get_name()));
    }
    let is_short = values < least && (shown.is_whole || values > 0);
    is_short.then(|| format!("{values} values where `{}` takes {least}", command.get_name()))
}

#[test]
fn every_command_that_is_shown_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let (mut sources, mut shown) = (Vec::new(), Vec::new());
    files(&folder, &mut sources);
    for (path, text) in &sources {
        // This file shows wrong ones.
        if path.ends_with("cli/src/shown.rs") {
            continue;
        }
        shown.extend(calls(path, text));
        if path.ends_with("docs/cli.md") {
            shown.extend(synopses(path, text));
        }
    }
    let mut root = Cli::command();
    root.build();
    let wrong: Vec<_> = shown
        .iter()
        .filter_map(|shown| {
            Some(format!("{}: {}: {}", shown.place, wrong(shown, &root)?, shown.words.join(" ")))
        })
        .collect();
    println!("{} commands are shown", shown.len());
    assert!(shown.len() > 100, "{} commands found", shown.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let mut root = Cli::command();
    root.build();
    let looks_wrong = |text: &str| {
        let shown = calls("x.md", &format!("```sh\n{text}\n```\n"));
        assert_eq!(shown.len(), 1, "{text}");
        wrong(&shown[0], &root).is_some()
    };
    for bad in [
        "tidemill worker --server URL",
        "$ tidemill tasks clear etl RUN",
        "tidemill tasks clear etl RUN load --task x",
        "tidemill --token T dags list",
        "A=1 tidemill dag list",
        "tidemill explain A B",
        "tidemill pools set gpu",
        "tidemill dags list --url",
    ] {
        assert!(looks_wrong(bad), "{bad}");
    }
    for good in [
        "A=1 tidemill dags list --url http://h | head",
        "tidemill dags trigger etl --params '{\"a\": 1}' --data-dir x   # why",
        "tidemill tasks logs a b c --map-index -1 --follow",
        "tidemill dags check a.toml b.toml",
        "tidemill COMMAND --help",
    ] {
        assert!(!looks_wrong(good), "{good}");
    }
}
