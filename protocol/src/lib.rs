#![doc = include_str!("../README.md")]

pub mod drift;
pub mod operators;
pub mod worker;
