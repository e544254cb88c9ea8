#![doc = include_str!("../README.md")]

pub mod batch;
pub mod error;
pub mod reader;
pub mod writer;

pub use batch::{Batch, BatchId, Coalescer};
pub use error::{CommitError, LeadershipError, OpenError, ReadError};
pub use reader::{Page, Reader};
pub use writer::{EngineSnapshot, Leadership, LoadedRun, Writer};
