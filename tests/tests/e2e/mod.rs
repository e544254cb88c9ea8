//! End to end with the real binary.

mod client;
mod kills;
mod server;
mod truth;
