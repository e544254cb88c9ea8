//! End to end with the real binary.

mod browser;
mod cleaning;
mod client;
mod compare;
mod damage;
mod entropy;
mod follow;
mod gates;
mod kills;
mod logs;
mod mapping;
mod metrics;
mod parked;
mod past;
pub(crate) mod python;
mod python_tasks;
mod ready;
mod schema;
mod secrets;
mod sensors;
mod server;
mod signals;
mod standby;
mod trees;
mod truth;
mod unseen;
mod worker;
