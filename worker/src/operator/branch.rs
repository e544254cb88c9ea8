//! `branch`: the server has evaluated the choice; here it is checked and recorded.

use tidemill_protocol::worker::{Report, TaskId};

use super::{OperatorResult, Out};
use crate::outcome::Problem;

pub(super) fn execute(chosen: &[String], because: &str, allowed: &[TaskId], out: &mut Out) -> OperatorResult {
    out.line(&format!("chosen: {}", list(chosen)));
    out.line(&format!("because: {because}"));
    if let Some(unknown) = chosen.iter().find(|id| !allowed.iter().any(|task| task.as_str() == id.as_str())) {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let problem = Problem::Branch { chosen: format!("{unknown:?}"), allowed: list(&allowed) };
        return OperatorResult::failed(&problem, false);
    }
    OperatorResult {
        follow: Some(chosen.to_vec()),
        report: Some(Report::Branch { chosen: chosen.to_vec(), because: because.to_owned() }),
        ..OperatorResult::default()
    }
}

fn list(ids: &[String]) -> String {
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}
