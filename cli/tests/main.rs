//! The real binary: help, shapes of output, wrong input, exit codes, and a server from start to stop.

mod client;
mod configuration;
mod files;
mod help;
mod mill;
mod server;
mod standalone;
