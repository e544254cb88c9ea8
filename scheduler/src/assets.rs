//! Assets in the shell: posted events, and the events that templates see.

use std::sync::Arc;

use tidemill_engine::{
    action::Reply,
    asset::{AssetChange, AssetEventRow, AssetStatus},
    event::Event,
    ids::DagId,
    now::Now,
    rows::RunRow,
};
use tidemill_store::ReadError;

use crate::{
    apply::unavailable,
    core::Core,
    error::{CallError, InvalidRequest},
    handle::Handle,
    input::{Input, ReplyTo},
    request::{AdminWrite, AssetPost, PostedEvent},
    round::Waiter,
};

/// How many of the events that caused a run a template sees, the newest of them.
const SEEN: u32 = 1000;

/// How much may be said about a posted event, in bytes of JSON. A quarter of what an output may have: it is kept with the
/// event, shown in lists and given to every task that asks.
pub const EXTRA_LIMIT: usize = 64 * 1024;

impl Handle {
    /// Posts an event on an asset.
    ///
    /// # Errors
    /// [`CallError`]: SCH0215, SCH0230, SCH0231 or unavailable.
    pub async fn post_asset_event(
        &self,
        post: AssetPost,
        side: AdminWrite,
    ) -> Result<PostedEvent, CallError> {
        let size_bytes = serde_json::to_string(&post.extra).map_or(usize::MAX, |text| text.len());
        if size_bytes > EXTRA_LIMIT {
            return Err(InvalidRequest::ExtraTooLarge { size_bytes, limit_bytes: EXTRA_LIMIT }.into());
        }
        self.send(|reply| Input::PostAsset { post: Box::new(post), side, reply }).await
    }

    /// Returns what waits of the assets that a DAG listens to, and why that has made no run. None: it is not known, or
    /// listens to none.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn asset_status(&self, dag_id: DagId) -> Result<Option<AssetStatus>, CallError> {
        self.send(|reply| Input::Assets { dag_id, reply }).await
    }
}

impl Core {
    /// Somebody posts an event.
    pub(crate) async fn post_asset(
        &mut self,
        post: AssetPost,
        side: &AdminWrite,
        reply: ReplyTo<PostedEvent>,
        now: Now,
    ) {
        match self.posted_before(&post).await {
            Ok(None) => {}
            Ok(Some(event)) => {
                let _ = reply.send(Ok(PostedEvent { event, is_repeated: true }));
                return;
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        }
        let request = self.shared.new_request();
        let AssetPost { asset, extra, by, idempotency } = post;
        self.step(Event::AssetPosted { request, asset, extra: Arc::new(extra), by }, now);
        let posted = self.round.answers.iter().rev().find_map(|(id, answer)| match answer {
            Reply::AssetEvent(row) if *id == request => Some(row.id),
            _ => None,
        });
        if let Some(posted) = posted {
            self.round.take_admin(side, &self.known);
            if let Some(key) = &idempotency {
                self.round.take_asset_key(key, posted);
            }
        }
        self.round.waiters.insert(request, Waiter::Post { reply });
    }

    /// Looks for an earlier request with the same idempotency key.
    async fn posted_before(&self, post: &AssetPost) -> Result<Option<AssetEventRow>, CallError> {
        let Some(key) = &post.idempotency else { return Ok(None) };
        let found = self.shared.reader.asset_event_by_key(&key.key_hash).await;
        match found.map_err(|error| unavailable(&error))? {
            None => Ok(None),
            Some((event, request_hash)) if request_hash == key.request_hash => Ok(Some(event)),
            Some(_) => Err(InvalidRequest::IdempotencyConflict.into()),
        }
    }

    /// Returns the events that caused a run, the oldest first. A run of the open round is not stored yet: what it took is
    /// what the store holds in the queue, with what this round has added and taken away before it.
    pub(crate) async fn causes_of(&self, run: &RunRow) -> Result<Vec<AssetEventRow>, ReadError> {
        let reader = &self.shared.reader;
        let writes = &self.round.batch.assets;
        let is_its =
            |change: &AssetChange| matches!(change, AssetChange::Take { run: by, .. } if *by == run.key);
        let Some(place) = writes.iter().position(|write| is_its(&write.change)) else {
            let mut events = reader.run_asset_events(run.key, SEEN).await?;
            events.reverse();
            return Ok(events);
        };
        let mut events = reader.queued_asset_events(&run.dag_id, SEEN).await?;
        events.reverse();
        for write in &writes[..place] {
            match &write.change {
                AssetChange::Event { row, queued_for } if queued_for.contains(&run.dag_id) => {
                    events.push(row.clone());
                }
                AssetChange::Take { dag_id, .. } if *dag_id == run.dag_id => events.clear(),
                AssetChange::Drop { dag_id, assets, .. } if *dag_id == run.dag_id => {
                    events.retain(|row| !assets.contains(&row.asset));
                }
                _ => {}
            }
        }
        let seen = events.len().saturating_sub(SEEN as usize);
        Ok(events.split_off(seen))
    }
}
