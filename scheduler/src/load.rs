//! What the events of people need of stored rows, loaded just before their step.

use tidemill_engine::{event::Event, ids::RunKey, rows::FinishedRun};
use tidemill_store::ReadError;

use crate::core::Core;

impl Core {
    /// Fills in what an event needs of rows that the engine does not hold.
    pub(crate) async fn load_for(&mut self, event: &mut Event) -> Result<(), ReadError> {
        match event {
            Event::Clear { run, finished, .. }
            | Event::MarkTask { run, finished, .. }
            | Event::MarkRun { run, finished, .. } => *finished = self.load_finished(*run).await?,
            Event::Cancel { run, ended, .. } | Event::Resume { run, ended, .. }
                if !self.known.runs.contains_key(run) =>
            {
                let row = self.shared.reader.run_by_key(*run).await?;
                *ended = row.map(|row| row.state).filter(|state| state.is_terminal());
            }
            Event::BackfillChanged { backfill, ended, .. } => {
                let item = self.shared.reader.backfill(*backfill).await?;
                *ended = item.map(|item| item.row.state).filter(|state| state.is_terminal());
            }
            _ => {}
        }
        Ok(())
    }

    /// Loads a run that the engine does not hold because it has ended.
    async fn load_finished(&mut self, run: RunKey) -> Result<Option<Box<FinishedRun>>, ReadError> {
        if self.known.runs.contains_key(&run) {
            return Ok(None);
        }
        let Some(loaded) = self.writer.load_run(run).await? else { return Ok(None) };
        if !loaded.snapshot.run.state.is_terminal() {
            // It is set aside; the engine must not see it.
            return Ok(None);
        }
        self.known.visit(&loaded.snapshot.run, &loaded.dag);
        Ok(Some(Box::new(FinishedRun { snapshot: loaded.snapshot, dag: loaded.dag })))
    }
}
