//! `retry_on`: which failures are followed by another try.

use serde::{Deserialize, Serialize};

use super::{
    code::Code,
    fields::Fields,
    kinds::wrong_type,
    problem::{Draft, Report},
    suggest::{nearest, shown},
    tree::{Node, Value},
};

/// Which failures are followed by another try.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryOn {
    /// Exit codes, sorted.
    pub exit_codes: Vec<i32>,
    /// The try reached its timeout.
    pub timed_out: bool,
    /// It was killed by a signal, or failed before there was an exit code.
    pub signal: bool,
}

impl RetryOn {
    /// Whether a failed try is one of them.
    #[must_use]
    pub fn includes(&self, result: &crate::event::AttemptResult) -> bool {
        match (result.outcome, result.exit_code) {
            (crate::state::TryOutcome::TimedOut, _) => self.timed_out,
            (_, Some(code)) if code < 128 || self.exit_codes.contains(&code) => {
                self.exit_codes.contains(&code)
            }
            _ => self.signal,
        }
    }
}

const WORDS: [&str; 2] = ["timed_out", "signal"];

/// Reads the list; absent: every failure.
pub(crate) fn read(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<RetryOn> {
    let node = fields.node("retry_on")?;
    let Value::Array { items, is_tables: false } = &node.value else {
        wrong_type("retry_on", "a list of exit codes, `timed_out` and `signal`", node, report);
        return None;
    };
    if items.is_empty() {
        report.push(
            Draft::error(Code::EMPTY_VALUE, "`retry_on` must not be empty", node.span.clone())
                .help("leave it out to retry every failure, or set `retries = 0` to retry none"),
        );
    }
    let mut found = RetryOn::default();
    for item in items {
        element(item, &mut found, report);
    }
    found.exit_codes.sort_unstable();
    found.exit_codes.dedup();
    Some(found)
}

fn element(item: &Node<'_>, found: &mut RetryOn, report: &mut Report<'_>) {
    match &item.value {
        Value::Integer(value) if (1..=255).contains(value) => {
            found.exit_codes.push(i32::try_from(*value).unwrap_or_default());
        }
        Value::Integer(_) => report.push(Draft::error(
            Code::NUMBER_RANGE,
            "an exit code in `retry_on` must be from 1 to 255",
            item.span.clone(),
        )),
        Value::String(text) => match text.as_ref() {
            "timed_out" => found.timed_out = true,
            "signal" => found.signal = true,
            other => {
                let message = format!("`retry_on` does not know `{}`", shown(other));
                let draft = Draft::error(Code::UNKNOWN_WORD, message, item.span.clone());
                report.push(match nearest(other, WORDS) {
                    Some(near) => {
                        draft.help(format!("did you mean `{near}`?")).suggest(Some(format!("\"{near}\"")))
                    }
                    None => draft.help("it is an exit code, `timed_out` or `signal`"),
                });
            }
        },
        _ => wrong_type("an element of retry_on", "an exit code, `timed_out` or `signal`", item, report),
    }
}
