//! Runs that no date makes: a person or a task asks for them.

use super::{Engine, Out, schedule::Wanted};
use crate::{
    action::{Refusal, Reply},
    event::RequestId,
    ids::{DagId, RunId},
    rows::RunRow,
    state::RunType,
};

impl Engine {
    /// Creates a manual run.
    pub(super) fn run_requested(
        &mut self,
        request: RequestId,
        dag_id: &DagId,
        wanted: Wanted,
        out: &mut Out,
    ) {
        match self.request_run(dag_id, wanted, out) {
            Ok(row) => out.answer(request, Reply::RunCreated(Box::new(row))),
            Err(refusal) => out.refuse(request, refusal),
        }
    }

    /// Creates the run that a person or a task asks for.
    pub(super) fn request_run(
        &mut self,
        dag_id: &DagId,
        wanted: Wanted,
        out: &mut Out,
    ) -> Result<RunRow, Refusal> {
        let entry = self.dags.get(dag_id).ok_or(Refusal::UnknownDag)?;
        if entry.row.is_missing {
            return Err(Refusal::MissingDag);
        }
        let logical_date = wanted.logical_date.unwrap_or(out.now.wall);
        if entry.graph.dag.end_date.is_some_and(|end| logical_date > end) {
            return Err(Refusal::OutsideDates);
        }
        let run_id = wanted.run_id.clone().or_else(|| {
            let text = format!("manual__{}__{}", logical_date.format("%Y-%m-%dT%H:%M:%SZ"), wanted.suffix);
            RunId::new(text).ok()
        });
        let run_id = run_id.ok_or(Refusal::OutsideDates)?;
        if wanted.is_run_id_taken || entry.run_ids.contains(&run_id) {
            return Err(Refusal::RunIdTaken(run_id));
        }
        let interval = entry.timetable.manual_interval(logical_date);
        let wanted = Wanted { logical_date: Some(logical_date), ..wanted };
        self.create_run(dag_id, run_id, RunType::Manual, interval, wanted, out).ok_or(Refusal::UnknownDag)
    }
}
