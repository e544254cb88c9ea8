//! Crontabs: one DAG for each line that fires.
//!
//! The dialect is that of Vixie cron and cronie: comments, `NAME = value` lines that hold for what follows, five fields
//! or a nickname, in a system crontab a user, and a command in which an unescaped `%` ends the command line and begins
//! its standard input.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::{Dag, Entry, Imported, Level, Task, literal, words};

/// How a crontab is read.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Whether lines name a user; `None` guesses.
    pub(crate) is_system: Option<bool>,
    /// The zone of a crontab without `CRON_TZ`.
    pub(crate) timezone: Option<String>,
}

/// Nicknames with what a DAG file says.
const NICKNAMES: &[(&str, &str)] = &[
    ("@yearly", "@yearly"),
    ("@annually", "@annually"),
    ("@monthly", "@monthly"),
    ("@weekly", "@weekly"),
    ("@daily", "@daily"),
    ("@midnight", "@midnight"),
    ("@hourly", "@hourly"),
    ("@every_minute", "* * * * *"),
];

/// The end of the standard input of a command. Quoted, so that no value and no `$` in the text means anything.
const END: &str = "TIDEMILL_STDIN";

/// What the lines so far have set.
#[derive(Debug, Default)]
struct Settings {
    env: BTreeMap<String, String>,
    timezone: Option<String>,
    shell: Option<String>,
}

/// A line that fires.
struct Firing<'a> {
    schedule: String,
    user: Option<&'a str>,
    command: &'a str,
}

struct Reader<'a> {
    options: &'a Options,
    is_system: bool,
    settings: Settings,
    /// The comment directly above.
    above: Vec<String>,
    taken: BTreeSet<String>,
    out: Imported,
}

/// Converts a crontab. `path` decides, where the options do not, whether it is a system crontab.
pub(crate) fn import(text: &str, path: &str, options: &Options) -> Imported {
    let is_system = options.is_system.unwrap_or_else(|| is_system(text, path));
    let mut reader = Reader {
        options,
        is_system,
        settings: Settings::default(),
        above: Vec::new(),
        taken: BTreeSet::new(),
        out: Imported::default(),
    };
    for (index, line) in text.lines().enumerate() {
        reader.line(index + 1, line);
    }
    let has_zone = options.timezone.is_some() || reader.out.dags.iter().all(|dag| has_key(dag, "timezone"));
    if let Some(first) = reader.out.dags.first().filter(|_| !has_zone) {
        let message =
            "cron fires by the machine's clock, a DAG by its `timezone`: UTC was assumed; give --timezone";
        let entry = entry(first.line, Level::Note, None, message);
        reader.out.entries.push(entry);
    }
    reader.out
}

fn has_key(dag: &Dag, name: &str) -> bool {
    dag.keys.iter().any(|(key, _)| key == name)
}

fn entry(line: usize, level: Level, dag_id: Option<&str>, message: impl Into<String>) -> Entry {
    Entry { line, level, dag_id: dag_id.map(str::to_owned), task_id: None, message: message.into() }
}

/// Says whether the lines of a crontab name users: by where it is, or because the sixth word of each is one.
fn is_system(text: &str, path: &str) -> bool {
    if path.ends_with("etc/crontab") || path.contains("etc/cron.d/") {
        return true;
    }
    const USERS: &[&str] =
        &["root", "www-data", "nobody", "daemon", "postgres", "mysql", "backup", "ubuntu", "admin"];
    let mut users = text.lines().filter(|line| !is_setting(line)).filter_map(|line| {
        let (_, rest) = schedule(line.trim())?;
        Some(rest.split_whitespace().next().unwrap_or_default())
    });
    let mut is_any = false;
    users.all(|user| {
        is_any = true;
        USERS.contains(&user)
    }) && is_any
}

/// Splits a line into its schedule and the rest; `None` for what is no entry.
fn schedule(line: &str) -> Option<(String, &str)> {
    let line = line.strip_prefix('-').unwrap_or(line);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    if line.starts_with('@') {
        let (name, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        return Some((name.to_lowercase(), rest.trim_start()));
    }
    let mut rest = line;
    let mut fields = Vec::new();
    for _ in 0..5 {
        let (field, after) = rest.split_once([' ', '\t'])?;
        fields.push(field);
        rest = after.trim_start_matches([' ', '\t']);
    }
    let is_field = |field: &&str| {
        field
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '*' | ',' | '-' | '/' | '~' | '?' | '#'))
    };
    fields.iter().all(is_field).then(|| (fields.join(" "), rest))
}

/// Whether a line is `NAME = value`.
fn is_setting(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim().trim_matches(['"', '\'']);
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Takes one pair of quotes off.
fn unquoted(value: &str) -> &str {
    let value = value.trim();
    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

impl Reader<'_> {
    fn line(&mut self, number: usize, raw: &str) {
        let line = raw.trim();
        if let Some(comment) = line.strip_prefix('#') {
            self.above.push(comment.trim_matches(['#', ' ', '\t', '-', '=']).to_owned());
            return;
        }
        let above = std::mem::take(&mut self.above);
        if line.is_empty() {
            return;
        }
        if is_setting(line) {
            self.setting(number, line);
            return;
        }
        match self.firing(line) {
            Ok(firing) => self.dag(number, line, &above, &firing),
            Err(why) => self.out.entries.push(entry(number, Level::Problem, None, format!("{why}: {line}"))),
        }
    }

    fn setting(&mut self, number: usize, line: &str) {
        let Some((name, value)) = line.split_once('=') else { return };
        let (name, value) = (name.trim().trim_matches(['"', '\'']), unquoted(value).to_owned());
        let mut report = |level, message: &str| self.out.entries.push(entry(number, level, None, message));
        match name {
            "CRON_TZ" => self.settings.timezone = Some(value),
            "SHELL" => self.settings.shell = Some(value).filter(|shell| shell != "/bin/sh"),
            "MAILTO" | "MAILFROM" if value.is_empty() => {}
            "MAILTO" => report(
                Level::Problem,
                "MAILTO: output is not mailed, it is kept as the log of each try; `on_failure = { webhook = … }` tells \
                 somebody about failures",
            ),
            "MAILFROM" | "CONTENT_TYPE" | "CONTENT_TRANSFER_ENCODING" => {
                report(Level::Note, &format!("{name} is about mails, which are not sent"));
            }
            "RANDOM_DELAY" | "START_HOURS_RANGE" => {
                report(Level::Problem, &format!("{name}: schedules here fire exactly when they say"));
            }
            _ if name.starts_with("TIDEMILL_") => {
                report(Level::Problem, &format!("{name}: the product sets variables of this name itself"));
            }
            _ => {
                self.settings.env.insert(name.to_owned(), value);
            }
        }
    }

    fn firing<'a>(&self, line: &'a str) -> Result<Firing<'a>, &'static str> {
        let (schedule, mut rest) =
            schedule(line).ok_or("this is neither a setting nor five fields and a command")?;
        let schedule = if schedule.starts_with('@') {
            if schedule == "@reboot" {
                return Err(
                    "@reboot has no counterpart: start it with the machine (systemd), or trigger a DAG from there",
                );
            }
            let known = NICKNAMES.iter().find(|(name, _)| *name == schedule);
            known.ok_or("unknown nickname")?.1.to_owned()
        } else {
            if schedule.contains('~') {
                return Err("a random time (`~`) has no counterpart: choose one");
            }
            schedule
        };
        let user = if self.is_system {
            let (user, after) = rest.split_once([' ', '\t']).ok_or("there is no command after the user")?;
            rest = after.trim_start();
            Some(user)
        } else {
            None
        };
        if rest.is_empty() {
            return Err("there is no command");
        }
        Ok(Firing { schedule, user, command: rest })
    }

    fn dag(&mut self, number: usize, line: &str, above: &[String], firing: &Firing<'_>) {
        let title = title(above);
        let named = title.as_deref().map(words::slug).filter(|slug| !slug.is_empty() && slug.len() <= 40);
        let id = named.unwrap_or_else(|| program(firing.command));
        let id = words::unique(&words::id(&id), &mut self.taken);
        let mut dag = Dag { id, line: number, ..Dag::default() };
        dag.comments.push(format!("Line {number} of the crontab:"));
        dag.comments.push(format!("  {line}"));
        let mut set = |name: &str, value: Value| dag.keys.push((name.to_owned(), value));
        if let Some(title) = title {
            set("description", Value::from(title));
        }
        set("schedule", Value::from(firing.schedule.as_str()));
        if let Some(zone) = self.settings.timezone.as_ref().or(self.options.timezone.as_ref()) {
            set("timezone", Value::from(zone.as_str()));
        }
        let mut task =
            Task { id: "run".to_owned(), line: number, origin: line.to_owned(), ..Task::default() };
        task.set("command", self.command(firing.command));
        if !self.settings.env.is_empty() {
            let env =
                self.settings.env.iter().map(|(name, value)| (name.clone(), Value::from(literal(value))));
            task.set("env", Value::Table(env.collect()));
        }
        if let Some(user) = firing.user {
            let message = format!("it ran as the user `{user}`; a task runs as the user of the worker");
            dag.comments.push(format!("NOT CONVERTED: {message}"));
            self.out.entries.push(entry(number, Level::Problem, Some(&dag.id), message));
        }
        if line.starts_with('-') {
            let message = "the leading `-` (do not log) is left out: every try has a log";
            self.out.entries.push(entry(number, Level::Note, Some(&dag.id), message));
        }
        dag.tasks.push(task);
        self.out.dags.push(dag);
    }

    /// Returns the command as cron runs it: in the home folder, by the shell, with what follows the first `%` as its
    /// standard input.
    fn command(&self, command: &str) -> Value {
        let (command, input) = split_input(command);
        // A command that goes elsewhere by itself does not care where it starts.
        let home = if command.starts_with("cd /") { "" } else { "cd && " };
        let script = match input {
            None => format!("{home}{command}"),
            Some(input) => {
                let input = input.strip_suffix('\n').unwrap_or(&input);
                format!("{home}{{ {command}\n}} <<'{END}'\n{input}\n{END}\n")
            }
        };
        match &self.settings.shell {
            Some(shell) => Value::from(vec![shell.clone(), "-c".to_owned(), literal(&script)]),
            None => Value::from(literal(&script)),
        }
    }
}

/// Splits a command at its first `%` that has no backslash; later ones are line breaks, `\%` is a percent sign.
fn split_input(command: &str) -> (String, Option<String>) {
    let mut parts = vec![String::new()];
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'%') => {
                chars.next();
                parts.last_mut().into_iter().for_each(|part| part.push('%'));
            }
            '%' => parts.push(String::new()),
            other => parts.last_mut().into_iter().for_each(|part| part.push(other)),
        }
    }
    let command = parts.remove(0);
    (command, (!parts.is_empty()).then(|| parts.join("\n")))
}

/// Returns the comment directly above an entry, when it is about it: not a heading of columns, not a switched-off entry.
fn title(above: &[String]) -> Option<String> {
    let last = above.last()?;
    let is_text = last.chars().any(char::is_alphabetic) && !last.is_empty() && last.chars().count() <= 120;
    let is_heading = last.starts_with("m h") || last.contains("dom mon") || last.contains("day of month");
    let is_entry = schedule(last).is_some_and(|(schedule, _)| !schedule.chars().all(char::is_alphabetic))
        && last.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '*' | '@'));
    (is_text && !is_heading && !is_entry && !is_setting(last)).then(|| last.clone())
}

/// Words that start another program.
const WRAPPERS: &[&str] = &[
    "sudo", "nice", "ionice", "nohup", "env", "exec", "time", "timeout", "flock", "chronic", "cronic", "sh",
    "bash", "dash", "zsh", "python", "python2", "python3", "perl", "ruby", "php", "node", "setsid", "chrt",
    "test", "[", "(", "{", "command", "root", "if", "then", "cronitor", "stdbuf",
];

/// Returns a name for a command: that of the program it is about.
fn program(command: &str) -> String {
    let mut name = String::new();
    'parts: for part in command.split(['&', '|', ';']) {
        let mut words = part.trim_start_matches(['(', '{', ' ', '\t']).split_whitespace().peekable();
        if words.peek() == Some(&"cd") || words.peek() == Some(&"test") || words.peek() == Some(&"[") {
            continue;
        }
        while let Some(word) = words.next() {
            let base =
                word.trim_matches(['"', '\'', '(', ')', '{', '}']).rsplit('/').next().unwrap_or_default();
            let is_argument =
                word.starts_with('-') || word.contains('=') || word.starts_with(|c: char| c.is_ascii_digit());
            if is_argument || base.is_empty() || WRAPPERS.contains(&base) {
                if base == "flock" {
                    // Its first argument is the file of the lock.
                    while words.peek().is_some_and(|word| word.starts_with('-')) {
                        words.next();
                    }
                    words.next();
                }
                // `python3 -m package` names the package.
                continue;
            }
            base.split('.').next().unwrap_or(base).clone_into(&mut name);
            break 'parts;
        }
    }
    let slug = words::slug(&name);
    if slug.is_empty() { "cron".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_follow_cron() {
        assert_eq!(split_input("date +\\%F"), ("date +%F".to_owned(), None));
        assert_eq!(split_input("mail a%Hello%you\\%"), ("mail a".to_owned(), Some("Hello\nyou%".to_owned())));
        assert_eq!(split_input("cat%"), ("cat".to_owned(), Some(String::new())));
    }

    #[test]
    fn a_command_has_a_name() {
        for (command, name) in [
            ("/usr/local/bin/backup.sh --full", "backup"),
            ("cd /srv/app && ./bin/clean-up --all", "clean_up"),
            ("test -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily )", "run_parts"),
            ("/usr/bin/flock -n /tmp/a.lock /opt/sync", "sync"),
            ("FOO=1 nice -n 19 python3 /opt/report.py", "report"),
            ("%", "cron"),
        ] {
            assert_eq!(program(command), name, "{command}");
        }
    }

    #[test]
    fn a_system_crontab_is_known_by_its_place_or_its_users() {
        assert!(is_system("", "/etc/cron.d/php"));
        assert!(is_system("PATH=/bin\n17 * * * * root run-parts\n@daily root true", "x"));
        assert!(!is_system("17 * * * * backup-all\n* * * * * root x", "x"));
        assert!(!is_system("", "x"));
    }
}
