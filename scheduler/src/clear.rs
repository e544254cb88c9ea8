//! Clearing, in one run or also in the runs before and after it.

use std::collections::BTreeSet;

use tidemill_engine::{
    action::{Changed, Refusal},
    event::Event,
    ids::{RunKey, TaskId},
    rows::RunRow,
};
use tidemill_store::reader::{PAGE_LIMIT, PageRequest, RunQuery};

use crate::{
    error::{CallError, Unavailable},
    handle::{Handle, chain, changed},
    request::{AdminWrite, ClearRequest},
};

impl Handle {
    /// Clears task instances so that they run again; returns what changed, or would: first in the run itself, then
    /// in the others by their dates.
    ///
    /// With `past` and `future` every run is asked first what would change, and nothing is cleared where one of them
    /// refuses. Each run is a commit of its own: a server that stops in between has cleared the first ones.
    ///
    /// # Errors
    /// [`CallError`]: SCH0203, SCH0204, SCH0216, SCH0217 or unavailable.
    pub async fn clear(&self, clear: ClearRequest, side: AdminWrite) -> Result<Vec<Changed>, CallError> {
        if !clear.past && !clear.future {
            return self.clear_one(clear, side).await;
        }
        let mut found = self.clear_one(dry(&clear), AdminWrite::default()).await?;
        let mut others = Vec::new();
        for run in self.runs_beside(&clear).await? {
            let Some((other, changes)) = self.clear_beside(&clear, run).await? else { continue };
            found.extend(changes);
            others.push(other);
        }
        if clear.is_dry_run {
            return Ok(found);
        }
        let mut done = self.clear_one(clear, side).await?;
        for other in others {
            done.extend(self.clear_one(other, AdminWrite::default()).await?);
        }
        Ok(done)
    }

    async fn clear_one(&self, clear: ClearRequest, side: AdminWrite) -> Result<Vec<Changed>, CallError> {
        let ClearRequest { run, selection, is_dry_run, latest, .. } = clear;
        self.request(side, |request| Event::Clear {
            request,
            run,
            selection,
            is_dry_run,
            finished: None,
            latest,
        })
        .await
        .map(changed)
    }

    /// Asks another run what the same clear would change there. A task that its version does not have is left out;
    /// none at all leaves the run out.
    async fn clear_beside(
        &self,
        clear: &ClearRequest,
        run: RunKey,
    ) -> Result<Option<(ClearRequest, Vec<Changed>)>, CallError> {
        let mut other = ClearRequest { run, ..clear.clone() };
        let is_of_tasks = !other.selection.tasks.is_empty();
        let mut absent: BTreeSet<TaskId> = BTreeSet::new();
        loop {
            other.selection.tasks.retain(|task| !absent.contains(task));
            if is_of_tasks && other.selection.tasks.is_empty() {
                return Ok(None);
            }
            match self.clear_one(dry(&other), AdminWrite::default()).await {
                Ok(changes) => return Ok((!changes.is_empty()).then_some((other, changes))),
                Err(CallError::Refused(Refusal::UnknownTask(task))) => match TaskId::new(&task) {
                    Ok(task) if absent.insert(task.clone()) => {}
                    _ => return Err(CallError::Refused(Refusal::UnknownTask(task))),
                },
                // Thrown away by the retention since it was listed.
                Err(CallError::Refused(Refusal::UnknownRun)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the runs of the same DAG with an earlier (`past`) or later (`future`) logical date, oldest first.
    async fn runs_beside(&self, clear: &ClearRequest) -> Result<Vec<RunKey>, CallError> {
        let reader = &self.shared.reader;
        let unavailable =
            |error: tidemill_store::ReadError| CallError::from(Unavailable::Store { reason: chain(&error) });
        let own = reader.run_by_key(clear.run).await.map_err(unavailable)?;
        let own = own.ok_or(CallError::Refused(Refusal::UnknownRun))?;
        let is_beside = |run: &RunRow| {
            (clear.past && run.logical_date < own.logical_date)
                || (clear.future && run.logical_date > own.logical_date)
        };
        let mut found: Vec<RunRow> = Vec::new();
        let mut cursor = None;
        loop {
            let query = RunQuery {
                page: PageRequest { cursor, limit: PAGE_LIMIT },
                dag_id: Some(own.dag_id.clone()),
                ..RunQuery::default()
            };
            let page = reader.runs(&query).await.map_err(unavailable)?;
            found.extend(page.items.into_iter().filter(|run| is_beside(run)));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        found.sort_by_key(|run| (run.logical_date, run.key));
        Ok(found.into_iter().map(|run| run.key).collect())
    }
}

fn dry(clear: &ClearRequest) -> ClearRequest {
    ClearRequest { is_dry_run: true, ..clear.clone() }
}
