#![doc = include_str!("../README.md")]

mod apply;
mod assets;
mod assign;
mod backfill;
mod beside;
mod change;
mod clear;
mod clock;
mod commit;
mod core;
mod effect;
mod error;
mod failpoint;
mod folder;
mod handle;
mod housekeeping;
mod input;
mod known;
mod load;
mod logs;
mod meter;
mod options;
mod outage;
mod outbox;
mod outputs;
mod panics;
mod prepare;
mod preview;
mod quarantine;
mod question;
mod rendered;
mod request;
mod resume;
mod round;
mod scan;
mod service;
mod sessions;
mod tokens;
mod usual;
mod vault;
mod view;

pub use assets::EXTRA_LIMIT;
pub use backfill::{BackfillPreview, BackfillRequest, CreatedBackfill};
pub use beside::look_beside;
pub use change::Change;
pub use clock::{Clock, ManualClock, Sleep, SystemClock};
pub use effect::{Effect, TaskEffect};
pub use error::{CallError, InvalidRequest, Unavailable, refusal_code, refusal_text};
pub use failpoint::POINTS as FAILPOINTS;
pub use failpoint::arm as arm_failpoint;
pub use handle::{CHANGE_LIMIT, Handle, QUEUE_LIMIT};
pub use housekeeping::{rows_per_run, runs_per_write};
pub use logs::{LogError, LogSlice, LogStore, READ_LIMIT_BYTES};
pub use meter::describe_metrics;
pub use options::{Options, OptionsError};
pub use preview::{Preview, PreviewError};
pub use rendered::shown_work;
pub use request::{
    AdminWrite, AssetPost, ClearRequest, IdempotencyKey, MarkRequest, PostedEvent, TriggerRequest, Triggered,
};
pub use service::{Scheduler, StartError};
pub use tokens::{InstanceSecret, NoEntropy, is_token, random_suffix, random_token, token_hash};
pub use vault::{
    CONNECTION_PREFIX, ConnectionView, DefinitionError, Definitions, Origin, SetConnection, SetVariable,
    VARIABLE_PREFIX, VariableView, VaultError, add_key,
};
pub use view::{Health, StoreState, WorkerView};
