#![doc = include_str!("../README.md")]

pub mod access;
pub mod assets;
mod backfills;
pub mod batch;
mod check;
mod codec;
pub mod error;
pub mod history;
mod lock;
pub mod memory;
pub mod open;
mod pages;
pub mod reader;
mod sql;
pub mod vault;
mod views;
pub mod writer;

pub use batch::{Batch, BatchId, Coalescer};
pub use codec::to_micros;
pub use error::{CommitError, LeadershipError, OpenError, ReadError};
pub use history::HistoryReader;
pub use memory::MemoryStore;
pub use open::{Database, Migrate, Store, open, open_reader};
pub use reader::{Page, Reader};
pub use writer::{Leadership, Loaded, Writer};
