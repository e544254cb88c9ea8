#![doc = include_str!("../README.md")]
// Tests may unwrap; nothing that comes from outside may.
pub mod action;
pub mod asset;
pub mod backfill;
pub mod connection;
pub mod definition;
pub mod engine;
pub mod event;
pub mod graph;
pub mod ids;
pub mod mapping;
pub mod mask;
pub mod now;
pub mod preparation;
pub mod retry;
pub mod rows;
mod scopes;
pub mod secret;
pub mod state;
pub mod template;
pub mod timetable;
pub mod trigger_rule;
pub mod wait_reason;
