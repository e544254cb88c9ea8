//! The minijinja environment: what a template can call, and how much it may cost.

use std::{fmt::Write as _, io};

use minijinja::{
    Environment, Error, ErrorKind, Output, State, UndefinedBehavior,
    machinery::{ast::Stmt, parse},
    syntax::SyntaxConfig,
    value::{Rest, Value, ValueKind},
};

use super::instant;

/// Work that one rendering may do, in minijinja's unit: about one per instruction and one per 64 bytes. It
/// stops a nested loop within tens of milliseconds and far below the output limit of honest templates.
const FUEL: u64 = 400_000;
/// Nesting of blocks and macros.
const RECURSION: usize = 100;
/// The most that one template may print, in bytes.
pub(super) const OUTPUT_LIMIT_BYTES: usize = 1024 * 1024;
/// The longest template, in bytes.
pub(super) const SOURCE_LIMIT_BYTES: usize = 1024 * 1024;

/// Filters of ours, beside minijinja's.
pub(super) const OWN_FILTERS: &[&str] = &["ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz"];
/// Filters of minijinja. `safe` and `escape` are left out: nothing here is HTML.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];
/// Tests of minijinja.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
];
fn syntax() -> SyntaxConfig {
    // A builder without delimiters cannot fail; the default strips a final newline, which a heredoc needs.
    SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default()
}

/// Parses a template; the tree borrows it.
pub(super) fn parse_template(source: &str) -> Result<Stmt<'_>, Error> {
    if source.len() > SOURCE_LIMIT_BYTES {
        return Err(Error::new(ErrorKind::SyntaxError, "the template is longer than 1 MiB"));
    }
    parse(source, "template", syntax())
}

/// Builds an environment whose `{{ … }}` print through `print`.
pub(super) fn environment<'source>(
    print: impl Fn(&mut Output<'_>, &Value) -> Result<(), Error> + Send + Sync + 'static,
) -> Environment<'source> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_syntax(syntax());
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_debug(true);
    for name in ["safe", "escape", "e"] {
        env.remove_filter(name);
    }
    for name in ["safe", "escaped"] {
        env.remove_test(name);
    }
    env.remove_global("debug");
    env.add_filter("tojson", |value: &Value| to_json(value));
    env.add_filter("ds", |value: &Value| instant::ds(value));
    env.add_filter("ds_nodash", |value: &Value| instant::ds_nodash(value));
    env.add_filter("ts", |value: &Value| instant::ts(value));
    env.add_filter("ts_nodash", |value: &Value| instant::ts_nodash(value));
    env.add_filter("ts_nodash_with_tz", |value: &Value| instant::ts_nodash_with_tz(value));
    let ds_add = Value::from_function(|date: &str, days: i64| instant::ds_add(date, days));
    let ds_format = Value::from_function(|text: &str, input: &str, output: &str, rest: Rest<Value>| {
        instant::ds_format(text, input, output, rest)
    });
    env.add_global(
        "macros",
        Value::from_pairs([("ds_add", ds_add.clone()), ("ds_format", ds_format.clone())]),
    );
    env.add_global("ds_add", ds_add);
    env.add_global("ds_format", ds_format);
    env.set_formatter(move |out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value| print(out, value));
    env
}

/// Returns how a value prints: text as it is, everything else as compact JSON. An `if` expression without
/// `else` prints nothing; other undefined values were refused before.
pub(super) fn print_value(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(String::new()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => to_json(value),
        _ => {
            let mut text = String::new();
            write!(text, "{value}").map_err(|_| Error::from(ErrorKind::WriteFailure))?;
            Ok(text)
        }
    }
}

/// Filter `tojson`. minijinja's own escapes `<`, `&` and `'` for HTML, which would change the value.
pub(super) fn to_json(value: &Value) -> Result<String, Error> {
    let mut out = Capped(Vec::new());
    serde_json::to_writer(&mut out, value).map_err(|error| {
        let kind = if error.is_io() { ErrorKind::WriteFailure } else { ErrorKind::BadSerialization };
        Error::new(kind, error.to_string())
    })?;
    String::from_utf8(out.0).map_err(|_| Error::from(ErrorKind::BadSerialization))
}

/// A buffer with an end: a list that holds another one twice, thirty levels deep, is small until printed.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_LIMIT_BYTES {
            return Err(io::Error::other("the value prints more than 1 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
