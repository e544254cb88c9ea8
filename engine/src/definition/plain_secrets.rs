//! Warns of secrets that stand in a DAG file in plain text.
//!
//! Everybody who may read the DAG reads its file, and it stays in version control and in stored versions. Every text of the
//! file is looked at, whatever key it stands under, so that a new operator needs nothing here. A wrong warning
//! teaches people to overlook the right ones: what is a template, a variable of the shell, a path, a placeholder or a word is no secret.
//!
//! **Invariant:** no message, label or help repeats the value.

use std::{ops::Range, sync::OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};

use super::{
    code::Code,
    problem::{Draft, Problem, Report},
    suggest::shown,
    tree::{Node, Table, Value},
};
use crate::secret::is_sensitive_name;

/// How tokens of well-known services begin, how many characters follow at least, and what they are.
const TOKENS: &[(&str, usize, &str)] = &[
    ("AKIA", 16, "an access key of AWS"),
    ("ASIA", 16, "an access key of AWS"),
    ("AIza", 35, "a key of Google"),
    ("dapi", 32, "a token of Databricks"),
    ("ghp_", 30, "a token of GitHub"),
    ("gho_", 30, "a token of GitHub"),
    ("ghs_", 30, "a token of GitHub"),
    ("ghu_", 30, "a token of GitHub"),
    ("github_pat_", 30, "a token of GitHub"),
    ("glpat-", 20, "a token of GitLab"),
    ("hf_", 30, "a token of Hugging Face"),
    ("npm_", 36, "a token of npm"),
    ("pypi-AgE", 30, "a token of PyPI"),
    ("SG.", 40, "a key of SendGrid"),
    ("sk-", 32, "a key of an API"),
    ("sk_live_", 16, "a key of Stripe"),
    ("xoxb-", 20, "a token of Slack"),
    ("xoxp-", 20, "a token of Slack"),
    ("eyJ", 40, "a JSON web token"),
];
/// What else begins a look: only a text with one of these is read closely.
const HINTS: &[&str] = &[
    "://",
    "PRIVATE KEY",
    "bearer ",
    "basic ",
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "-u ",
    "--user",
];
/// Words that stand for a value.
const PLACEHOLDERS: &[&str] =
    &["changeme", "example", "placeholder", "redacted", "replace", "todo", "your", "xxx", "dummy"];
/// Ends of names that say something about a secret and are none.
const ABOUT: &[&str] = &[
    "count", "dir", "env", "expiry", "file", "folder", "id", "len", "length", "limit", "name", "names",
    "path", "policy", "ref", "size", "tokens", "ttl", "type", "uri", "url", "var", "version",
];

fn hints() -> Option<&'static AhoCorasick> {
    static HINTED: OnceLock<Option<AhoCorasick>> = OnceLock::new();
    let build = || {
        let all = TOKENS.iter().map(|token| token.0).chain(HINTS.iter().copied());
        AhoCorasickBuilder::new().ascii_case_insensitive(true).build(all).ok()
    };
    HINTED.get_or_init(build).as_ref()
}

/// Looks at every text of a file.
pub(crate) fn check(root: &Table<'_>, report: &mut Report<'_>) {
    walk_table(root, "", report);
}

/// `name` is what the values are called: the key, or of a default the param.
fn walk_table(table: &Table<'_>, name: &str, report: &mut Report<'_>) {
    for entry in &table.entries {
        let key = entry.key.as_ref();
        let is_value = matches!(key, "default" | "const" | "enum" | "examples" | "value");
        walk(&entry.node, if is_value && !name.is_empty() { name } else { key }, report);
    }
}

fn walk(node: &Node<'_>, name: &str, report: &mut Report<'_>) {
    match &node.value {
        Value::String(text) => look(text, name, node, report),
        Value::Table(table) => walk_table(table, name, report),
        Value::Array { items, .. } => {
            let mut option: Option<&str> = None;
            for item in items {
                let Value::String(text) = &item.value else {
                    walk(item, name, report);
                    option = None;
                    continue;
                };
                match option.filter(|option| is_name_of_secret(option) && is_secret(option, text)) {
                    Some(option) => told(&named(option), item.span.clone(), report),
                    // What the list is called says nothing about one of its words.
                    None => look(text, "", item, report),
                }
                option = text.strip_prefix("--");
            }
        }
        _ => {}
    }
}

fn named(name: &str) -> String {
    format!("`{}` has what looks like a secret, in plain text", shown(name))
}

fn told(message: &str, at: Range<usize>, report: &mut Report<'_>) {
    report.push(Draft::warning(Code::PLAIN_SECRET, message, at).help(
        "keep it in a variable or a connection and write `{{ var.NAME }}` or `{{ conn.ID.password }}`; then it is encrypted and masked",
    ));
}

/// Reports the first secret of a text.
fn look(text: &str, name: &str, node: &Node<'_>, report: &mut Report<'_>) {
    let is_named = !name.is_empty() && is_name_of_secret(name);
    if !is_named && !hints().is_some_and(|hints| hints.is_match(text)) {
        return;
    }
    let found = if is_named && is_secret(name, text) {
        Some((named(name), text))
    } else {
        token(text)
            .or_else(|| private_key(text))
            // A webhook has a problem of its own for it.
            .or_else(|| if name == "webhook" { None } else { address(text) })
            .or_else(|| words(text))
    };
    if let Some((message, part)) = found {
        let source = report.text().get(node.span.clone()).unwrap_or_default();
        // Where the text is written with escapes the whole of it is marked.
        let at = source.find(part).filter(|_| !part.is_empty()).map_or(node.span.clone(), |from| {
            let start = node.span.start + from;
            start..start + part.len()
        });
        told(&message, at, report);
    }
}

fn token(text: &str) -> Option<(String, &str)> {
    for (prefix, least, what) in TOKENS {
        for (at, _) in text.match_indices(prefix) {
            let before = text.get(..at).and_then(|head| head.chars().next_back());
            if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
                continue;
            }
            let rest = text.get(at + prefix.len()..).unwrap_or_default();
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let body = rest.get(..length).unwrap_or_default();
            let is_aws = *least == 16 && prefix.ends_with("IA");
            let fits = if is_aws {
                length == 16 && body.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            } else {
                length >= *least && body.bytes().any(|b| b.is_ascii_digit())
            };
            if fits
                && is_varied(body)
                && !is_placeholder(body)
                && (*prefix != "eyJ" || body.matches('.').count() == 2)
            {
                let whole = text.get(at..at + prefix.len() + length).unwrap_or_default();
                return Some((format!("this looks like {what}, in plain text"), whole));
            }
        }
    }
    None
}

fn private_key(text: &str) -> Option<(String, &str)> {
    let begin = text.find("-----BEGIN ")?;
    let head = text.get(begin..)?.lines().next()?;
    (head.contains("PRIVATE KEY-----") && text.get(begin + head.len()..)?.trim().len() > 20)
        .then(|| ("this is a private key, in plain text".to_owned(), text))
}

/// `scheme://user:password@host`.
fn address(text: &str) -> Option<(String, &str)> {
    for (at, _) in text.match_indices("://") {
        let rest = text.get(at + 3..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`'));
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let Some((user, _)) = authority.rsplit_once('@') else { continue };
        let Some((_, password)) = user.split_once(':') else { continue };
        if is_literal(password) && !is_placeholder(password) && password.len() >= 3 {
            return Some(("this address has a password in plain text".to_owned(), password));
        }
    }
    None
}

/// What stands behind an option or a name in a command: `--password x`, `PGPASSWORD=x`, `-u user:x`, `Bearer x`.
fn words(text: &str) -> Option<(String, &str)> {
    let is_end =
        |c: char| c.is_whitespace() || matches!(c, ';' | '"' | '\'' | '(' | ')' | '|' | '&' | '`' | ',');
    let mut words = text.split(is_end).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let next = words.peek().copied();
        if let Some((name, value)) = word.split_once('=') {
            let name = name.trim_start_matches('-');
            // `KEY="x"`: the value is the next word.
            let is_quoted = || ['"', '\''].iter().any(|quote| text.contains(&format!("{word}{quote}")));
            let value = if value.is_empty() && is_quoted() { next.unwrap_or_default() } else { value };
            if is_name_of_secret(name) && is_secret(name, value) {
                return Some((named(name), value));
            }
        }
        let Some(next) = next else { continue };
        if let Some(name) = word.strip_prefix("--")
            && is_name_of_secret(name)
            && is_secret(name, next)
        {
            return Some((named(name), next));
        }
        if matches!(word, "-u" | "--user")
            && let Some((_, password)) = next.split_once(':')
            && is_literal(password)
            && !is_placeholder(password)
            && password.len() >= 4
            && password.bytes().any(|b| !b.is_ascii_digit())
        {
            return Some((named(word), password));
        }
        let is_scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        if is_scheme
            && next.len() >= 16
            && is_literal(next)
            && is_varied(next)
            && next.bytes().any(|b| b.is_ascii_digit())
        {
            return Some((named(word), next));
        }
    }
    None
}

fn is_name_of_secret(name: &str) -> bool {
    if name.len() > 100 || !is_sensitive_name(name) {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    let last = lower.rsplit(['_', '-', '.']).next().unwrap_or_default();
    !ABOUT.contains(&last) && !lower.starts_with("max") && !lower.contains("tokeniz")
}

/// Whether the value under such a name is the secret itself.
fn is_secret(name: &str, value: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_password = ["pass", "pwd"].iter().any(|part| lower.contains(part));
    // A secret or a token of letters alone is the name of one.
    let is_word =
        value.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':'));
    is_literal(value)
        && !is_placeholder(value)
        && value.len() >= if is_password { 4 } else { 8 }
        && (is_password || !is_word)
        && !matches!(value, "true" | "false" | "none" | "null")
        && (is_password || value.parse::<f64>().is_err())
}

/// Whether a text is neither a template nor a name, a path or a pattern of something.
fn is_literal(value: &str) -> bool {
    let is_variable = value.contains('_')
        && value.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    !value.is_empty()
        && !value.contains(['{', '}', '$', '<', '>', '*', '`', '%', '\n'])
        && !value.contains(char::is_whitespace)
        && !value.contains("://")
        && !value.starts_with(['/', '.', '~', '@', '-', '='])
        && !is_variable
}

fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| lower.contains(word))
        || matches!(lower.as_str(), "password" | "passwd" | "secret" | "token" | "pass" | "..." | "…")
}

/// Whether a text has more than a few different characters: `xxxxxxxx` and `00000000` stand for something.
fn is_varied(text: &str) -> bool {
    let mut seen: Vec<u8> = text.bytes().collect();
    seen.sort_unstable();
    seen.dedup();
    seen.len() >= 6
}

/// Returns the source with every secret that was found made of stars, so that it can be printed. Bytes keep their places.
#[must_use]
pub fn masked_source(source: &str, problems: &[Problem]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for span in problems.iter().filter(|problem| problem.code == Code::PLAIN_SECRET).flat_map(|p| &p.spans) {
        for byte in bytes.get_mut(span.bytes.clone()).into_iter().flatten().filter(|byte| **byte != b'\n') {
            *byte = b'*';
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::load;

    fn found(task: &str) -> Vec<String> {
        let text = format!("[dag]\nid = \"x\"\n[[task]]\nid = \"a\"\n{task}\n");
        let loaded = load(text.as_bytes(), "x.toml");
        let mut out = Vec::new();
        for problem in loaded.problems.iter().filter(|p| p.code == Code::PLAIN_SECRET) {
            let span = &problem.spans[0];
            let part = text.get(span.bytes.clone()).unwrap().to_owned();
            assert!(!problem.message.contains(&part) && !problem.is_error(), "{problem:?}");
            assert!(!masked_source(&text, std::slice::from_ref(problem)).contains(&part));
            out.push(part);
        }
        out
    }

    /// Made here, so that no scanner of repositories takes them for real.
    fn made(prefix: &str, length: usize) -> String {
        let alphabet = b"A1B2C3D4E5F6G7H8J9K0";
        prefix.chars().chain((0..length).map(|i| char::from(alphabet[i % alphabet.len()]))).collect()
    }

    #[test]
    fn secrets_are_found_and_marked() {
        let jwt = format!("{}.{}.{}", made("eyJ", 20), made("eyJ", 20), made("", 20));
        let table = [
            ("command = \"x\"\nenv = { PGPASSWORD = \"hunter2\" }".to_owned(), "hunter2".to_owned()),
            ("command = \"x\"\nenv = { API_KEY = \"9f8e7d6c5b4a\" }".to_owned(), "9f8e7d6c5b4a".to_owned()),
            ("command = \"PGPASSWORD=hunter2 psql -h db\"".to_owned(), "hunter2".to_owned()),
            ("command = \"export DB_PASSWORD='hunter2'\"".to_owned(), "DB_PASSWORD='hunter2'".to_owned()),
            ("command = \"load --password hunter2 --rows 5\"".to_owned(), "hunter2".to_owned()),
            ("command = \"load --api-key=9f8e7d6c5b4a\"".to_owned(), "9f8e7d6c5b4a".to_owned()),
            ("command = [\"load\", \"--password\", \"hunter2\"]".to_owned(), "\"hunter2\"".to_owned()),
            ("command = \"curl -u ann:hunter2 http://x\"".to_owned(), "hunter2".to_owned()),
            ("command = \"psql postgres://ann:hunter2@db/x\"".to_owned(), "hunter2".to_owned()),
            (format!("command = \"curl -H 'Authorization: Bearer {}'\"", made("", 24)), made("", 24)),
            (format!("command = \"x {}\"", made("ghp_", 36)), made("ghp_", 36)),
            (format!("command = \"x\"\ndoc = \"see {}\"", made("AKIA", 16)), made("AKIA", 16)),
            (format!("command = [\"x\", \"{jwt}\"]"), jwt.clone()),
            (format!("command = \"x\"\nenv = {{ A = \"{}\" }}", made("xoxb-", 30)), made("xoxb-", 30)),
            ("command = \"x\"\n[params.db_password]\ndefault = \"hunter2\"".to_owned(), "hunter2".to_owned()),
        ];
        for (task, part) in &table {
            let found = found(task);
            assert_eq!(found.len(), 1, "{task}: {found:?}");
            assert!(part.contains(&found[0]) && found[0].len() > 4, "{task}: {found:?}");
        }
        println!("{{\"secrets\": {}}}", table.len());
    }

    #[test]
    fn what_only_looks_like_a_secret_is_let_alone() {
        let table = [
            "command = \"x\"\nenv = { PGPASSWORD = \"{{ conn.db.password }}\" }",
            "command = \"x\"\nenv = { PGPASSWORD = \"{{ var.pw }}\" }",
            "command = \"PGPASSWORD=$PW psql\"",
            "command = \"PGPASSWORD=${PW} psql\"",
            "command = \"load --password-file /run/secrets/db\"",
            "command = \"load --password /run/secrets/db\"",
            "command = \"load --token-name=abc12345678\"",
            "command = \"load --max-tokens 4096\"",
            "command = \"load --tokenizer bert-base-12345678\"",
            "command = \"load --secret my-kubernetes-secret\"",
            "command = \"x\"\nenv = { TOKEN_URL = \"https://idp/token12345\" }",
            "command = \"x\"\nenv = { PASSWORD = \"changeme\" }",
            "command = \"x\"\nenv = { PASSWORD = \"<your password>\" }",
            "command = \"x\"\nenv = { SECRET_NAME = \"prod/db-12345678\" }",
            "command = \"x\"\nenv = { AWS_ACCESS_KEY_ID_VAR = \"PROD_KEY_1\" }",
            "command = \"psql postgres://ann@db/x\"",
            "command = \"psql postgres://ann:$PW@db/x\"",
            "command = \"psql postgres://{{ conn.db.login }}:{{ conn.db.password }}@db/x\"",
            "command = \"curl -H 'Authorization: Bearer {{ var.token }}'\"",
            "command = \"docker run -u 1000:1000 x\"",
            "command = \"keyboard --key enter12345\"",
            "command = \"x ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
            "command = \"git show sk-learn-model\"",
            "command = \"x\"\ndoc = \"The password is kept in the connection `db`; rotate the token on Mondays.\"",
            "command = \"echo AKIATOOSHORT\"",
            "command = \"openssl req -keyout PRIVATE KEY\"",
        ];
        for task in table {
            assert_eq!(found(task), Vec::<String>::new(), "{task}");
        }
        println!("{{\"let_alone\": {}}}", table.len());
    }
}
