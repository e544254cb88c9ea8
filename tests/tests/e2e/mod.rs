//! End to end with the real binary.

mod browser;
mod client;
mod kills;
mod logs;
mod unseen;
mod python;
mod server;
mod truth;
