//! End to end with the real binary.

mod browser;
mod client;
mod kills;
mod logs;
mod python;
mod server;
mod truth;
mod unseen;
mod worker;
