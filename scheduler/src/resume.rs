//! What people ask of a run that is parked for them.

use tidemill_engine::{action::Changed, event::Event, ids::RunKey};

use crate::{
    error::CallError,
    handle::{Handle, changed},
    request::AdminWrite,
};

impl Handle {
    /// Lets a parked run go on; returns what changed.
    ///
    /// # Errors
    /// [`CallError`]: SCH0203, SCH0206, SCH0218 or unavailable.
    pub async fn resume(&self, run: RunKey, side: AdminWrite) -> Result<Vec<Changed>, CallError> {
        let is_dry_run = false;
        self.request(side, |request| Event::Resume { request, run, is_dry_run, ended: None })
            .await
            .map(changed)
    }

    /// Returns what [`Handle::resume`] would change.
    ///
    /// # Errors
    /// [`CallError`]: SCH0203, SCH0206, SCH0218 or unavailable.
    pub async fn would_resume(&self, run: RunKey) -> Result<Vec<Changed>, CallError> {
        let (side, is_dry_run) = (AdminWrite::default(), true);
        self.request(side, |request| Event::Resume { request, run, is_dry_run, ended: None })
            .await
            .map(changed)
    }
}
