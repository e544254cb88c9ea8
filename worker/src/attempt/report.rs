//! From the end of a try to what is reported about it and what its log ends with.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use tidemill_engine::mask::Masker;
use tidemill_protocol::worker::{Assignment, AttemptKey, AttemptReport, StopReason, TryOutcome, Work};

use super::{
    files::Files,
    machine::{Cause, Ending, Exit},
};
use crate::{log::LogEnd, operator, outcome::Problem, outputs};

/// What is known about an end beside the [`Ending`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Why it could not be started.
    pub(crate) problem: Option<Problem>,
    /// The kernel killed something for memory while it ran.
    pub(crate) is_out_of_memory: bool,
    pub(crate) started_at: Option<DateTime<Utc>>,
}

/// Returns why a try ended, where it is not simply its own exit.
pub(crate) fn explain(ending: Ending, facts: &Facts, timeout_ms: Option<u64>) -> Option<Problem> {
    match ending {
        Ending::Exited(Exit::Code(code)) if code == 137 && facts.is_out_of_memory => {
            Some(Problem::ChildOutOfMemory { code })
        }
        Ending::Exited(Exit::Code(_)) => None,
        Ending::Exited(Exit::Signal(signal)) => {
            let is_memory = signal == 9 && facts.is_out_of_memory;
            Some(Problem::Signal { signal, guess: if is_memory { " (probably out of memory)" } else { "" } })
        }
        Ending::CannotStart => facts.problem.clone(),
        Ending::Caused(cause, _) => Some(match cause {
            Cause::TimedOut => Problem::TimedOut { timeout: shown(timeout_ms.unwrap_or(0)) },
            Cause::Stopped(reason) => Problem::Stopped { why: stop_words(reason) },
            Cause::WorkerStops => Problem::WorkerStops,
            Cause::LostContact => Problem::LostContact,
            Cause::Fenced => Problem::Fenced,
        }),
    }
}

fn shown(milliseconds: u64) -> String {
    let duration = Duration::from_millis(milliseconds);
    if milliseconds.is_multiple_of(1_000) {
        format!("{}s", duration.as_secs())
    } else {
        format!("{duration:?}")
    }
}

const fn stop_words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Cleared => "it was cleared",
        StopReason::MarkedSuccess => "it was marked as success",
        StopReason::MarkedFailed => "it was marked as failed",
        StopReason::Cancelled => "its run was cancelled",
        StopReason::RunTimedOut => "its run reached its timeout",
    }
}

/// Builds the report of a try that ended.
pub(crate) fn report(
    assignment: &Assignment,
    files: &Files,
    ending: Ending,
    facts: &Facts,
    log: LogEnd,
) -> AttemptReport {
    let problem = explain(ending, facts, assignment.timeout_ms);
    let mut report = AttemptReport {
        attempt: assignment.attempt.clone(),
        outcome: outcome(ending, assignment),
        exit_code: exit_code(ending),
        is_final: false,
        reason: problem.as_ref().map(ToString::to_string),
        follow: None,
        outputs: BTreeMap::new(),
        report: None,
        started_at: facts.started_at,
        finished_at: Utc::now(),
        log_bytes: log.bytes,
        log_tail_offset: log.tail_offset,
        log_tail: log.tail,
    };
    // Neither a larger command nor a NUL byte becomes possible by trying again.
    let is_hopeless = matches!(problem, Some(Problem::TooLarge { .. } | Problem::NulByte { .. }));
    if let Ending::Exited(Exit::Code(code)) = ending {
        report.is_final = assignment.fail_on_exit_code.contains(&code);
        match &assignment.work {
            Work::Shell { .. } | Work::Exec { .. } => add_outputs(&mut report, files),
            Work::Python { .. } => {
                add_exception(&mut report, files);
                add_outputs(&mut report, files);
            }
            _ => add_result(&mut report, files),
        }
        match (report.outcome, &report.reason) {
            (TryOutcome::Failed, None) => report.reason = Some(format!("exited with code {code}")),
            (TryOutcome::Skipped, None) => {
                report.reason = Some(format!("exited with code {code}, which skips (skip_on_exit_code)"));
            }
            _ => {}
        }
    }
    report.is_final |= is_hopeless;
    report
}

/// Hides secrets in what a report says about a try. Its outputs are values that other tasks read, so they stay.
pub(crate) fn masked(mut report: AttemptReport, masker: &Masker) -> AttemptReport {
    if masker.is_empty() {
        return report;
    }
    report.reason = report.reason.map(|reason| masker.mask_text(&reason));
    report.report = report.report.and_then(|found| {
        let mut value = serde_json::to_value(&found).ok()?;
        // Its numbers were measured: one that looks like a secret is none.
        masker.mask_json_texts(&mut value);
        // Where a word of its format is a secret, nothing but the whole can be hidden.
        serde_json::from_value(value).ok()
    });
    report
}

/// Builds the report of a try that was given back without having been started.
pub(crate) fn hand_back(assignment: &Assignment) -> AttemptReport {
    unstarted(&assignment.attempt, TryOutcome::HandedBack, &Problem::WorkerStops)
}

/// Builds the report of a try that is to be stopped and is not here.
pub(crate) fn stopped_unknown(attempt: &AttemptKey, reason: StopReason) -> AttemptReport {
    unstarted(attempt, TryOutcome::Stopped, &Problem::Stopped { why: stop_words(reason) })
}

fn unstarted(attempt: &AttemptKey, outcome: TryOutcome, problem: &Problem) -> AttemptReport {
    AttemptReport {
        attempt: attempt.clone(),
        outcome,
        exit_code: None,
        is_final: false,
        reason: Some(problem.to_string()),
        follow: None,
        outputs: BTreeMap::new(),
        report: None,
        started_at: None,
        finished_at: Utc::now(),
        log_bytes: 0,
        log_tail_offset: 0,
        log_tail: String::new(),
    }
}

fn outcome(ending: Ending, assignment: &Assignment) -> TryOutcome {
    match ending {
        Ending::Exited(Exit::Code(0)) => TryOutcome::Success,
        Ending::Exited(Exit::Code(code)) if assignment.skip_on_exit_code.contains(&code) => {
            TryOutcome::Skipped
        }
        Ending::Exited(_) | Ending::CannotStart => TryOutcome::Failed,
        Ending::Caused(Cause::TimedOut, _) => TryOutcome::TimedOut,
        Ending::Caused(Cause::Stopped(_), _) => TryOutcome::Stopped,
        Ending::Caused(Cause::WorkerStops | Cause::LostContact | Cause::Fenced, _) => TryOutcome::Lost,
    }
}

const fn exit_code(ending: Ending) -> Option<i32> {
    match ending {
        Ending::Exited(Exit::Code(code)) | Ending::Caused(_, Some(Exit::Code(code))) => Some(code),
        _ => None,
    }
}

/// Adds the outputs. Bad ones fail a try that would have succeeded: its downstreams count on them.
fn add_outputs(report: &mut AttemptReport, files: &Files) {
    match outputs::read(&files.output()) {
        Ok(outputs) => report.outputs = outputs,
        Err(error) if report.outcome == TryOutcome::Success => {
            report.outcome = TryOutcome::Failed;
            report.reason = Some(Problem::Output(error).to_string());
        }
        Err(error) => tracing::debug!(%error, "outputs of a try that did not succeed are left out"),
    }
}

/// Adds why Python code failed: the result file of a `python` task holds that or is not there. The exit code has
/// decided what the end means.
fn add_exception(report: &mut AttemptReport, files: &Files) {
    if report.outcome == TryOutcome::Failed && files.result().exists() {
        report.reason = operator::read_result(&files.result()).ok().and_then(|result| result.problem);
    }
}

/// Adds what an operator found.
fn add_result(report: &mut AttemptReport, files: &Files) {
    match operator::read_result(&files.result()) {
        Ok(result) => {
            report.follow = result.follow;
            report.report = result.report;
            match outputs::check(result.outputs) {
                Ok(outputs) => report.outputs = outputs,
                Err(error) if report.outcome == TryOutcome::Success => {
                    report.outcome = TryOutcome::Failed;
                    report.reason = Some(Problem::Output(error).to_string());
                }
                Err(error) => tracing::debug!(%error, "outputs of a try that did not succeed are left out"),
            }
            if let (Some(why), TryOutcome::Success) = (result.skipped, report.outcome) {
                report.outcome = TryOutcome::Skipped;
                report.reason = Some(why);
            }
            if let (Some(why), TryOutcome::Success) = (result.not_yet, report.outcome) {
                report.outcome = TryOutcome::Rescheduled;
                report.reason = Some(why);
            }
            if let Some(problem) = result.problem {
                report.outcome = TryOutcome::Failed;
                report.reason = Some(problem);
                report.is_final = result.is_final;
            }
        }
        Err(error) => {
            report.outcome = TryOutcome::Failed;
            report.reason = Some(Problem::Operator { error }.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_while_memory_ran_out_is_guessed_to_be_that() {
        let text = |ending, is_out_of_memory| {
            let facts = Facts { is_out_of_memory, ..Facts::default() };
            explain(ending, &facts, None).map(|problem| problem.to_string())
        };
        let killed = Ending::Exited(Exit::Signal(9));
        assert_eq!(
            text(killed, true).as_deref(),
            Some("WRK0107: killed by signal 9 (probably out of memory)")
        );
        assert_eq!(text(killed, false).as_deref(), Some("WRK0107: killed by signal 9"));
        assert_eq!(
            text(Ending::Exited(Exit::Signal(11)), true).as_deref(),
            Some("WRK0107: killed by signal 11")
        );
        let reported = Ending::Exited(Exit::Code(137));
        assert!(text(reported, true).is_some_and(|text| text.starts_with("WRK0113")));
        assert_eq!(text(reported, false), None);
    }

    #[test]
    fn a_report_that_cannot_be_hidden_in_part_is_hidden_whole() {
        let secret = |text: &str| Masker::new(&[tidemill_engine::secret::Secret::new(text)]);
        let report = || {
            let chosen = vec!["retrain".to_owned()];
            let found = tidemill_protocol::worker::Report::Branch {
                chosen,
                because: "the token is tok-123456".to_owned(),
            };
            let attempt = AttemptKey {
                instance: tidemill_engine::ids::TaskInstanceKey {
                    run: tidemill_engine::ids::RunKey(1),
                    task: tidemill_engine::ids::TaskId::new("t").unwrap(),
                    map_index: -1,
                },
                try_number: 1,
                epoch: 1,
            };
            AttemptReport {
                report: Some(found),
                ..unstarted(&attempt, TryOutcome::Success, &Problem::WorkerStops)
            }
        };
        let shown = masked(report(), &secret("tok-123456")).report;
        assert!(
            matches!(shown, Some(tidemill_protocol::worker::Report::Branch { because, .. }) if because == "the token is ***")
        );
        // A secret that is a word of the format itself.
        assert_eq!(masked(report(), &secret("because")).report, None);
    }

    #[test]
    fn timeouts_are_shown_as_people_write_them() {
        assert_eq!(shown(7_200_000), "7200s");
        assert_eq!(shown(1_500), "1.5s");
    }
}
