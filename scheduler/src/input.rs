//! What reaches the loop: one closed enum, so that everything that may change state is visible in one place.

use std::sync::Arc;

use tidemill_engine::{
    action::Reply,
    asset::AssetStatus,
    backfill::BackfillWait,
    definition::Dag,
    event::{Event, RequestId},
    ids::{BackfillKey, DagId, TaskInstanceKey},
    rows::{EngineSnapshot, VersionHash},
    wait_reason::WaitReason,
};
use tidemill_protocol::worker::{
    ExchangeRequest, ExchangeResponse, HeartbeatRequest, HeartbeatResponse, StartedNote,
};
use tidemill_store::access::Session;
use tidemill_store::batch::{ImportErrorChange, OutboxChange};
use tokio::sync::oneshot;

use crate::{
    backfill::{BackfillRequest, CreatedBackfill},
    error::{CallError, Unavailable},
    question::Question,
    request::{AdminWrite, AssetPost, PostedEvent, TriggerRequest, Triggered},
    view::WorkerView,
};

/// Where an answer goes. The caller may have gone away; nobody minds.
pub(crate) type ReplyTo<T> = oneshot::Sender<Result<T, CallError>>;

/// One message to the loop.
pub(crate) enum Input {
    /// A request of a person or a program; the event carries `request`.
    Request { request: RequestId, event: Event, side: AdminWrite, reply: ReplyTo<Reply> },
    /// Somebody asks for a run.
    Trigger { trigger: Box<TriggerRequest>, suffix: String, side: AdminWrite, reply: ReplyTo<Triggered> },
    /// Somebody posts an event on an asset.
    PostAsset { post: Box<AssetPost>, side: AdminWrite, reply: ReplyTo<PostedEvent> },
    /// Somebody asks why a DAG is not run by its assets.
    Assets { dag_id: DagId, reply: ReplyTo<Option<AssetStatus>> },
    /// Somebody asks for a backfill.
    Backfill { request: Box<BackfillRequest>, side: AdminWrite, reply: ReplyTo<CreatedBackfill> },
    /// Somebody asks why a backfill makes no run.
    ExplainBackfill { backfill: BackfillKey, reply: ReplyTo<Option<BackfillWait>> },
    /// Something is written that the engine has no say in.
    Admin { write: Box<AdminWrite>, reply: ReplyTo<()> },
    /// A login link is used, once.
    Redeem { hash: String, session: Box<Session>, reply: ReplyTo<bool> },
    /// Deliveries of the outbox ended.
    Outbox { changes: Vec<OutboxChange>, reply: ReplyTo<()> },
    /// A worker exchanges.
    Exchange { request: Box<ExchangeRequest>, reply: ReplyTo<ExchangeResponse> },
    /// A worker renews its leases.
    Heartbeat { request: HeartbeatRequest, reply: ReplyTo<HeartbeatResponse> },
    /// A worker reports a start.
    Started { note: StartedNote, reply: ReplyTo<()> },
    /// Somebody asks why a task instance is not running.
    Explain { key: TaskInstanceKey, reply: ReplyTo<Vec<WaitReason>> },
    /// Somebody asks something else of the engine.
    Ask(Question),
    /// Somebody asks who is connected.
    Workers { reply: ReplyTo<Vec<WorkerView>> },
    /// Somebody compares the engine with the store.
    Durable { reply: ReplyTo<Box<EngineSnapshot>> },
    /// The DAG folder changed.
    Folder(Vec<FolderNews>),
}

impl Input {
    /// Whether applying it reads rows that an open round may have changed.
    pub(crate) fn needs_clean_store(&self) -> bool {
        match self {
            Self::Request { event, .. } => matches!(
                event,
                Event::Clear { .. }
                    | Event::MarkTask { .. }
                    | Event::MarkRun { .. }
                    | Event::Cancel { .. }
                    | Event::Resume { .. }
                    | Event::DagDeleted { .. }
                    | Event::BackfillChanged { .. }
            ),
            Self::Trigger { trigger, .. } => trigger.run_id.is_some() || trigger.idempotency.is_some(),
            Self::PostAsset { post, .. } => post.idempotency.is_some(),
            Self::Backfill { .. } | Self::Redeem { .. } | Self::Durable { .. } | Self::Ask(_) => true,
            // A DAG that is deleted and comes back must not share a batch with its deletion.
            Self::Folder(_) => true,
            _ => false,
        }
    }

    /// Answers with an error.
    pub(crate) fn refuse(self, error: &Unavailable) {
        if let Self::Ask(question) = self {
            return question.refuse(error);
        }
        let error = || CallError::from(error.clone());
        match self {
            Self::Request { reply, .. } => drop(reply.send(Err(error()))),
            Self::Trigger { reply, .. } => drop(reply.send(Err(error()))),
            Self::PostAsset { reply, .. } => drop(reply.send(Err(error()))),
            Self::Assets { reply, .. } => drop(reply.send(Err(error()))),
            Self::Admin { reply, .. } => drop(reply.send(Err(error()))),
            Self::Redeem { reply, .. } => drop(reply.send(Err(error()))),
            Self::Exchange { reply, .. } => drop(reply.send(Err(error()))),
            Self::Heartbeat { reply, .. } => drop(reply.send(Err(error()))),
            Self::Started { reply, .. } => drop(reply.send(Err(error()))),
            Self::Backfill { reply, .. } => drop(reply.send(Err(error()))),
            Self::ExplainBackfill { reply, .. } => drop(reply.send(Err(error()))),
            Self::Explain { reply, .. } => drop(reply.send(Err(error()))),
            Self::Workers { reply } => drop(reply.send(Err(error()))),
            Self::Durable { reply } => drop(reply.send(Err(error()))),
            Self::Outbox { reply, .. } => drop(reply.send(Err(error()))),
            Self::Folder(_) | Self::Ask(_) => {}
        }
    }
}

/// One change of the DAG folder that the engine has to know.
#[derive(Clone, Debug)]
pub(crate) enum FolderNews {
    /// A DAG appeared or its definition or path changed.
    Loaded { dag: Arc<Dag>, version: VersionHash, path: String, source: Arc<str> },
    /// The file of a DAG is gone.
    Missing { dag_id: DagId },
    /// A file has problems, or has none any more.
    Problems(ImportErrorChange),
}
