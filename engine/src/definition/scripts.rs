//! The files that commands execute, as far as a command says so without doubt.
//!
//! A warning that is wrong is worse than none: whoever gets used to it passes over the right ones. So only a literal,
//! relative path counts, only in a part of the command that runs in a known folder, and not where anything in the DAG may
//! have made the file: a path in a usual folder for what is built, or a file name that also stands elsewhere in a command.

use std::ops::Range;

use super::{
    places,
    problem::{Report, Span},
    tree::{Node, Table, Value},
};

/// A file that a task executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedScript {
    /// The task.
    pub task: String,
    /// The path, relative to the folder of the DAG file.
    pub path: String,
    /// Whether it is started itself, and not read by an interpreter: then it must be executable.
    pub is_program: bool,
    /// Where it stands.
    pub span: Span,
}

/// A file that a command executes, and where in the command it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    path: String,
    is_program: bool,
    range: Range<usize>,
}

/// Programs that read the script that is their first argument.
const INTERPRETERS: &[&str] =
    &["sh", "bash", "dash", "ksh", "zsh", "node", "perl", "php", "python", "ruby", "Rscript"];

/// Commands that make no file and change no folder: what follows them is judged as well.
const HARMLESS: &[&str] = &[
    ".", ":", "date", "echo", "export", "false", "mkdir", "printf", "readonly", "set", "sleep", "source",
    "test", "trap", "true", "ulimit", "umask", "unset",
];

/// What stands before a command and executes it.
const WRAPPERS: &[&str] = &["command", "env", "exec", "nohup", "time"];

/// Folders that are made by a build or an installation.
const BUILT: &[&str] = &[
    "__pycache__",
    "build",
    "dist",
    "env",
    "node_modules",
    "out",
    "output",
    "site-packages",
    "target",
    "tmp",
    "venv",
];

/// Words that make a command conditional or repeat it: nothing after them is certain.
const KEYWORDS: &[&str] =
    &["!", "{", "}", "if", "for", "while", "until", "case", "function", "select", "then", "do", "else"];

/// Finds the files that the tasks of a file execute.
pub(super) fn find(root: &Table<'_>, report: &Report<'_>) -> Vec<NamedScript> {
    let Some(Value::Array { items, .. }) = root.get("task").map(|entry| &entry.node.value) else {
        return Vec::new();
    };
    let mut texts: Vec<&str> = Vec::new();
    let mut scripts: Vec<NamedScript> = Vec::new();
    for item in items {
        let Value::Table(task) = &item.value else { continue };
        let Some(Value::String(id)) = task.get("id").map(|entry| &entry.node.value) else { continue };
        let Some(command) = task.get("command").map(|entry| &entry.node) else { continue };
        let mut note = |node: &Node<'_>, text: &str, used: Use| {
            let (at, _) = places::in_source(report.text(), &node.span, text, &used.range);
            let Use { path, is_program, .. } = used;
            scripts.push(NamedScript { task: id.to_string(), path, is_program, span: report.place(&at) });
        };
        match &command.value {
            Value::String(text) => {
                texts.push(text);
                of_shell(text).into_iter().for_each(|used| note(command, text, used));
            }
            Value::Array { items, is_tables: false } => {
                let words: Vec<&str> = items.iter().map(text_of).collect();
                if let Some((index, used)) = of_argv(&words)
                    && let (Some(node), Some(text)) = (items.get(index), words.get(index))
                {
                    note(node, text, used);
                }
                texts.extend(words);
            }
            _ => {}
        }
    }
    let is_made = |script: &NamedScript| {
        let name = file_name(&script.path);
        let used = scripts.iter().filter(|other| file_name(&other.path) == name).count();
        texts.iter().map(|text| mentions(text, name)).sum::<usize>() > used
    };
    scripts.iter().filter(|script| !is_made(script)).cloned().collect()
}

fn text_of<'n>(node: &'n Node<'_>) -> &'n str {
    match &node.value {
        Value::String(text) => text,
        _ => "",
    }
}

/// How often a command names a file, in whatever folder.
fn mentions(text: &str, name: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
    text.split(|c| !is_part(c)).filter(|path| file_name(path) == name).count()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns a path without `./`, if it is one that can be judged.
fn judged(path: &str, folder: &str) -> Option<String> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@=, ".contains(c);
    if path.is_empty() || path.starts_with('/') || path.ends_with('/') || !path.chars().all(is_plain) {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => return None,
            part if part.starts_with('.') || BUILT.contains(&part) => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn is_interpreter(word: &str) -> bool {
    let name = file_name(word);
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&name) || bare == "python"
}

/// Returns which of the words names a file that is executed, and whether it is the program itself.
fn script_of(words: &[&str]) -> Option<(usize, bool)> {
    let first = *words.first()?;
    if !is_interpreter(first) {
        let is_runner = matches!((first, words.get(1)), ("uv" | "poetry", Some(&"run")));
        return match is_runner {
            true => script_of(words.get(2..)?)
                .map(|(index, is_program)| (index + 2, is_program))
                .or_else(|| words.get(2).filter(|word| word.ends_with(".py")).map(|_| (2, false))),
            false => first.contains('/').then_some((0, true)),
        };
    }
    let is_python = file_name(first).starts_with("python");
    let is_shell = file_name(first).ends_with("sh");
    let mut index = 1;
    while let Some(word) = words.get(index) {
        let Some(letters) = word.strip_prefix('-') else {
            // A shell looks for a plain name in the PATH, too.
            let is_file = !is_shell || word.contains('/') || word.contains('.');
            return is_file.then_some((index, false));
        };
        let takes_value = match letters {
            "W" | "X" if is_python => true,
            _ if is_python && !letters.is_empty() && letters.chars().all(|c| "uBEIsSObvqi".contains(c)) => {
                false
            }
            _ if is_shell && !letters.is_empty() && letters.chars().all(|c| "eufxnbmvo".contains(c)) => {
                letters.ends_with('o')
            }
            // Code in an argument, a module, or an option that is not known here.
            _ => return None,
        };
        index += 1 + usize::from(takes_value);
    }
    None
}

/// Returns the file that an array command executes, and in which element it stands.
fn of_argv(words: &[&str]) -> Option<(usize, Use)> {
    let plain: Vec<&str> = words.iter().map(|word| if is_template(word) { "" } else { *word }).collect();
    let (index, is_program) = script_of(&plain)?;
    let word = *plain.get(index)?;
    Some((index, Use { path: judged(word, "")?, is_program, range: 0..word.len() }))
}

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|open| text.contains(open))
}

/// Returns the files that a script for the shell executes before anything happens that could make files.
fn of_shell(script: &str) -> Vec<Use> {
    let mut found = Vec::new();
    let mut folder = String::new();
    for command in commands(script) {
        let is_assignment = |word: &Word| {
            let name = script[word.range.clone()].split_once('=').map_or("", |(name, _)| name);
            !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
        };
        let skipped = command
            .iter()
            .take_while(|word| {
                is_assignment(word) || word.text.as_deref().is_some_and(|text| WRAPPERS.contains(&text))
            })
            .count();
        let words = &command[skipped..];
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_deref().unwrap_or("")).collect();
        let Some(name) = texts.first().copied() else { continue };
        if KEYWORDS.contains(&name) || name.is_empty() {
            break;
        }
        if name == "cd" {
            match texts.as_slice() {
                [_, path] if !path.is_empty() => match judged(path, &folder) {
                    Some(path) => folder = path,
                    None => break,
                },
                _ => break,
            }
            continue;
        }
        if HARMLESS.contains(&name) {
            continue;
        }
        if let Some((index, is_program)) = script_of(&texts)
            && let Some(word) = words.get(index)
            && let Some(path) = judged(texts[index], &folder)
        {
            found.push(Use { path, is_program, range: word.range.clone() });
        }
        break;
    }
    found
}

/// A word of a command: its text where nothing in it is expanded, and its place.
#[derive(Clone, Debug)]
struct Word {
    text: Option<String>,
    range: Range<usize>,
}

/// Splits a script into simple commands, up to the first thing that is more than that.
fn commands(script: &str) -> Vec<Vec<Word>> {
    let mut all: Vec<Vec<Word>> = vec![Vec::new()];
    let mut word: Option<Word> = None;
    let mut chars = script.char_indices().peekable();
    let mut quote: Option<char> = None;
    let mut is_target = false;
    while let Some((at, c)) = chars.next() {
        let rest = script.get(at..).unwrap_or_default();
        if rest.starts_with("{%") || rest.starts_with("{#") {
            word = None;
            break;
        }
        if rest.starts_with("{{") {
            let width = rest.find("}}").map_or(rest.len(), |end| end + 2);
            let open = word.get_or_insert(Word { text: None, range: at..at });
            (open.text, open.range.end) = (None, at + width);
            while chars.next_if(|(next, _)| *next < at + width).is_some() {}
            continue;
        }
        let is_dynamic = is_expanded(quote, c);
        match (quote, c) {
            (Some(open), c) if c == open => {
                quote = None;
                if let Some(word) = &mut word {
                    word.range.end = at + 1;
                }
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert(Word { text: Some(String::new()), range: at..at + 1 });
            }
            (None, '#') if word.is_none() => while chars.next_if(|(_, next)| *next != '\n').is_some() {},
            (None, '(' | ')' | '`') => {
                word = None;
                break;
            }
            (None, '<' | '>') => {
                if rest.starts_with("<<") {
                    word = None;
                    break;
                }
                end(&mut word, &mut all, is_target);
                is_target = true;
            }
            // `>&2` is no end of a command.
            (None, '&') if is_target && word.is_none() => {}
            (None, ' ' | '\t' | '\n' | ';' | '&' | '|') => {
                let had_word = word.is_some();
                end(&mut word, &mut all, is_target);
                is_target = is_target && !had_word;
                if !matches!(c, ' ' | '\t') {
                    is_target = false;
                    all.push(Vec::new());
                }
            }
            _ => {
                let open = grown(&mut word, at, c, is_dynamic);
                if rest.starts_with("$(") && is_dynamic {
                    break;
                }
                if c == '\\' && is_dynamic {
                    open.range.end += chars.next().map_or(0, |(_, escaped)| escaped.len_utf8());
                }
            }
        }
    }
    end(&mut word, &mut all, is_target);
    all
}

/// Whether the shell does more with a character than to take it as it is.
fn is_expanded(quote: Option<char>, c: char) -> bool {
    matches!(c, '$' | '`') && quote != Some('\'')
        || (quote.is_none() && matches!(c, '*' | '?' | '[' | '~' | '\\'))
        || (quote == Some('"') && c == '\\')
}

/// Adds a character to a word, or begins one with it.
fn grown(word: &mut Option<Word>, at: usize, c: char, is_dynamic: bool) -> &mut Word {
    let open = word.get_or_insert(Word { text: Some(String::new()), range: at..at });
    open.range.end = at + c.len_utf8();
    match &mut open.text {
        Some(text) if !is_dynamic => text.push(c),
        _ => open.text = None,
    }
    open
}

fn end(word: &mut Option<Word>, all: &mut [Vec<Word>], is_target: bool) {
    if let (Some(word), Some(last), false) = (word.take(), all.last_mut(), is_target) {
        last.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        let mark = |used: Use| {
            assert!(script.get(used.range.clone()).is_some(), "{script}");
            format!("{}{}", if used.is_program { "*" } else { "" }, used.path)
        };
        of_shell(script).into_iter().map(mark).collect()
    }

    #[test]
    fn what_a_command_executes_without_doubt_is_found() {
        for (script, path) in [
            ("python3 train.py --date {{ ds }}", "train.py"),
            ("python3.12 -u train.py", "train.py"),
            ("python -W ignore -X dev lib/train.py", "lib/train.py"),
            ("./x.sh", "*x.sh"),
            ("bin/run --fast", "*bin/run"),
            ("bash x.sh", "x.sh"),
            ("bash -eu ./x.sh", "x.sh"),
            ("bash -euo pipefail scripts/x.sh", "scripts/x.sh"),
            ("set -e; python3 train.py", "train.py"),
            ("set -euo pipefail\npython3 train.py\n", "train.py"),
            ("echo begins\npython3 train.py", "train.py"),
            ("MODE=full python3 train.py", "train.py"),
            ("MODE={{ params.mode }} exec python3 train.py", "train.py"),
            ("env MODE=full ./x.sh", "*x.sh"),
            ("cd scripts && ./x.sh", "*scripts/x.sh"),
            ("cd scripts/daily; python3 ../../x.py || true; ./y.sh", ""),
            ("python3 'train model.py'", "train model.py"),
            ("python3 \"train.py\" > log.txt 2>&1", "train.py"),
            ("# says what it does\n./x.sh", "*x.sh"),
            ("node app/main.js", "app/main.js"),
            ("uv run train.py", "train.py"),
            ("uv run python train.py", "train.py"),
            ("mkdir -p results && python3 train.py", "train.py"),
            (". ./settings.sh && python3 train.py", "train.py"),
            (".venv/bin/python train.py", "train.py"),
            ("echo {{ ds }} > stamp; python3 train.py", "train.py"),
        ] {
            let wanted: Vec<&str> = [path].into_iter().filter(|path| !path.is_empty()).collect();
            assert_eq!(shell(script), wanted, "{script}");
        }
    }

    #[test]
    fn what_may_be_made_or_lie_elsewhere_is_left_alone() {
        for script in [
            "true",
            "train --fast",
            "python3 -c 'import x'",
            "python3 -m pkg.train train.py",
            "python3 - < x.py",
            "python3",
            "python3 {{ params.script }}",
            "python3 train_{{ ds }}.py",
            "python3 $SCRIPT",
            "python3 \"$HOME/train.py\"",
            "python3 ~/train.py",
            "python3 /opt/train.py",
            "/usr/bin/thing",
            "../shared/x.sh",
            "bash x",
            "bash -c './x.sh'",
            "sh -s x.sh",
            "cd \"$TIDEMILL_WORK_DIR\" && ./x.sh",
            "cd {{ params.folder }} && ./x.sh",
            "cd /srv; ./x.sh",
            "git clone https://host/repo && repo/run.sh",
            "tar xf a.tar && ./x.sh",
            "make; ./x.sh",
            "if true; then ./x.sh; fi",
            "for f in a b; do ./x.sh; done",
            "(cd a; ./x.sh)",
            "cat > x.sh <<EOF\necho 1\nEOF\nbash x.sh",
            "build/x.sh",
            "node_modules/.bin/tsc",
            "venv/bin/python3 -m x",
            "./target/release/x",
            "python3 *.py",
            "python3 train?.py",
            "{% if params.fast %}./x.sh{% endif %}",
            "python3 --version train.py",
            "$(which python3) train.py",
            "x=$(./make.sh) && python3 train.py",
            "",
            "   ",
            "'",
            "echo \"",
        ] {
            assert_eq!(shell(script), Vec::<String>::new(), "{script}");
        }
    }

    #[test]
    fn array_commands_name_their_file_in_an_element() {
        let argv = |words: &[&str]| of_argv(words).map(|(index, used)| (index, used.path, used.is_program));
        assert_eq!(argv(&["python3", "-u", "a.py", "{{ ds }}"]), Some((2, "a.py".to_owned(), false)));
        assert_eq!(argv(&["./run", "x"]), Some((0, "run".to_owned(), true)));
        for words in [&["python3", "{{ ds }}.py"][..], &["bash", "-c", "x.sh"], &["true"], &[], &["", "x.py"]]
        {
            assert_eq!(argv(words), None, "{words:?}");
        }
    }
}
