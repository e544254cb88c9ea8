//! What a `sql` task or sensor executes.
//!
//! The same type holds the templates of a definition and, rendered, what a worker is told. The statements themselves are
//! no templates: a value can never become a part of them.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::millis;
use crate::ids::ConnectionId;

/// Statements, where they are executed, and their parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SqlSpec {
    /// The database: SQLite or PostgreSQL by the kind of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// A SQLite file, relative to the folder of the DAG file. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The statements. Not a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// A file with the statements, relative to the folder of the DAG file. Not a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_file: Option<String>,
    /// Values by name; strings in them are templates. `:name` in a statement stands for one.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// The longest time of one statement.
    #[serde(default, with = "millis::option", skip_serializing_if = "Option::is_none")]
    pub statement_timeout: Option<Duration>,
}

/// What a `sql` task does beyond a sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SqlTask {
    /// The statements.
    #[serde(flatten)]
    pub spec: SqlSpec,
    /// Whether all statements happen or none.
    pub transaction: bool,
    /// Where the rows go instead of the outputs: `.csv`, or JSON lines. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_file: Option<String>,
}

/// One statement of a script, cut where its parameters stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// The text before, between and after the parameters: one piece more than there are names.
    pub pieces: Vec<String>,
    /// The names of the parameters in their order; a name may come again.
    pub names: Vec<String>,
}

impl Statement {
    /// Returns its text with something in the place of each parameter.
    #[must_use]
    pub fn fill(&self, mut place: impl FnMut(&str) -> String) -> String {
        let mut text = self.pieces.first().cloned().unwrap_or_default();
        for (name, piece) in self.names.iter().zip(self.pieces.iter().skip(1)) {
            text.push_str(&place(name));
            text.push_str(piece);
        }
        text
    }
}

/// Returns the names that the statements of a script use.
#[must_use]
pub fn names_of(script: &str) -> BTreeSet<String> {
    statements(script).into_iter().flat_map(|statement| statement.names).collect()
}

/// Splits a script at its semicolons and finds its parameters. What stands in quotes, in dollar quotes and in comments
/// is neither. Statements without anything but blanks and comments are left out.
#[must_use]
pub fn statements(script: &str) -> Vec<Statement> {
    let mut all = Vec::new();
    let mut statement = Statement::default();
    let (mut begin, mut at, mut is_filled) = (0, 0, false);
    // `CREATE TRIGGER … BEGIN … END;` holds semicolons of its own.
    let mut words: Vec<String> = Vec::new();
    let mut depth = 0_u32;
    while let Some(c) = script[at..].chars().next() {
        let rest = &script[at..];
        if let Some(width) = opaque(script, at) {
            is_filled |= !(rest.starts_with("--") || rest.starts_with("/*"));
            at += width;
            continue;
        }
        if c == ';' && depth == 0 {
            finish(&mut all, &mut statement, &script[begin..at], is_filled);
            (begin, is_filled) = (at + 1, false);
            words.clear();
            at += 1;
            continue;
        }
        if let Some(range) = parameter(script, at) {
            statement.pieces.push(script[begin..at].to_owned());
            statement.names.push(script[range.clone()].to_owned());
            (begin, at, is_filled) = (range.end, range.end, true);
            continue;
        }
        if c.is_alphabetic() || c == '_' {
            let end =
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
            let word = rest[..end].to_ascii_lowercase();
            let is_trigger = words.first().is_some_and(|word| word == "create")
                && words.iter().take(4).any(|word| word == "trigger");
            match word.as_str() {
                "begin" | "case" if is_trigger => depth += 1,
                "end" if is_trigger => depth = depth.saturating_sub(1),
                _ => {}
            }
            if words.len() < 4 {
                words.push(word);
            }
            is_filled = true;
            at += end;
            continue;
        }
        is_filled |= !c.is_whitespace();
        at += c.len_utf8();
    }
    finish(&mut all, &mut statement, &script[begin..], is_filled);
    all
}

fn finish(all: &mut Vec<Statement>, statement: &mut Statement, last: &str, is_filled: bool) {
    let mut done = std::mem::take(statement);
    if is_filled {
        done.pieces.push(last.to_owned());
        if let Some(first) = done.pieces.first_mut() {
            *first = first.trim_start().to_owned();
        }
        all.push(done);
    }
}

/// Returns the range of the name of a parameter that begins at a colon.
fn parameter(script: &str, at: usize) -> Option<Range<usize>> {
    let rest = script[at..].strip_prefix(':')?;
    let is_cast = rest.starts_with(':') || script[..at].ends_with(':');
    let first = rest.chars().next()?;
    if is_cast || !(first.is_ascii_alphabetic() || first == '_') {
        return None;
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    Some(at + 1..at + 1 + end)
}

/// Returns the length of a quoted text, a dollar-quoted text or a comment that begins here.
fn opaque(script: &str, at: usize) -> Option<usize> {
    let rest = &script[at..];
    let first = rest.chars().next()?;
    if rest.starts_with("--") {
        return Some(rest.find('\n').map_or(rest.len(), |end| end + 1));
    }
    if rest.starts_with("/*") {
        return Some(comment(rest));
    }
    match first {
        '\'' | '"' | '`' => {
            let has_escapes = first == '\'' && is_escape_string(&script[..at]);
            Some(quoted(rest, first, has_escapes))
        }
        '$' => {
            // `a$1$` is the middle of a name.
            if script[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                return None;
            }
            let tag = rest[1..].find('$').map(|end| &rest[..end + 2])?;
            let is_tag = tag[1..tag.len() - 1]
                .chars()
                .enumerate()
                .all(|(index, c)| c == '_' || c.is_alphabetic() || (index > 0 && c.is_alphanumeric()));
            is_tag.then(|| rest[tag.len()..].find(tag).map_or(rest.len(), |end| end + 2 * tag.len()))
        }
        _ => None,
    }
}

/// Whether a text in quotes that begins here is PostgreSQL's `E'…'`, in which a backslash escapes.
fn is_escape_string(before: &str) -> bool {
    let mut last = before.chars().rev();
    matches!(last.next(), Some('e' | 'E')) && !last.next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// The length of a comment; PostgreSQL nests them.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(c) = rest[at..].chars().next() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += c.len_utf8();
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char, has_escapes: bool) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if has_escapes && c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + c.len_utf8();
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(script: &str) -> Vec<String> {
        statements(script).iter().map(|s| s.fill(|name| format!("<{name}>")).trim().to_owned()).collect()
    }

    #[test]
    fn parameters_are_found_where_sql_has_no_other_use_for_a_colon() {
        for (script, expected) in [
            ("SELECT * FROM t WHERE a = :a AND b=:b_2", "SELECT * FROM t WHERE a = <a> AND b=<b_2>"),
            ("SELECT :a::date, x::text", "SELECT <a>::date, x::text"),
            ("SELECT ':a', \":b\", `:c` -- :d", "SELECT ':a', \":b\", `:c` -- :d"),
            ("SELECT 'it''s :a', :b", "SELECT 'it''s :a', <b>"),
            ("SELECT E'it\\'s :a', :b", "SELECT E'it\\'s :a', <b>"),
            ("SELECT e'\\\\', :b", "SELECT e'\\\\', <b>"),
            ("SELECT type'\\', :b", "SELECT type'\\', <b>"),
            ("SELECT $$:a;$$, $x$ $$ :b; $x$, :c", "SELECT $$:a;$$, $x$ $$ :b; $x$, <c>"),
            ("SELECT a$1, $1, :c", "SELECT a$1, $1, <c>"),
            ("SELECT /* :a /* ; */ :b */ :c", "SELECT /* :a /* ; */ :b */ <c>"),
            ("SELECT a[1:2], b[:x]", "SELECT a[1:2], b[<x>]"),
            ("SELECT x := 1", "SELECT x := 1"),
            ("SELECT 'ä:a', :ä", "SELECT 'ä:a', :ä"),
            ("SELECT 'never ends :a", "SELECT 'never ends :a"),
        ] {
            assert_eq!(shown(script), [expected], "{script}");
        }
    }

    #[test]
    fn a_script_is_cut_at_its_own_semicolons() {
        assert_eq!(shown("a; b ;\n-- only words;\n;c -- x;\n"), ["a", "b", "c -- x;"]);
        assert_eq!(shown(""), [""; 0]);
        assert_eq!(shown("/* nothing */ ; ;"), [""; 0]);
        let trigger = "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN UPDATE b SET c = CASE WHEN 1 THEN 2 END; DELETE FROM d; END";
        assert_eq!(shown(&format!("{trigger}; SELECT 1")), [trigger, "SELECT 1"]);
        assert_eq!(shown("BEGIN; SELECT 1; END"), ["BEGIN", "SELECT 1", "END"]);
        let function = "CREATE FUNCTION f() RETURNS int AS $$ BEGIN RETURN 1; END; $$ LANGUAGE plpgsql";
        assert_eq!(shown(&format!("{function};SELECT f()")), [function, "SELECT f()"]);
        let names: Vec<String> = names_of("a :x; b :y :x").into_iter().collect();
        assert_eq!(names, ["x", "y"]);
    }
}
