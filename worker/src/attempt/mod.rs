//! One attempt: a pure machine that decides, files and a process around it, a loop that drives them.

mod driver;
pub(crate) mod files;
pub(crate) mod machine;
mod report;
mod slot;

pub(crate) use driver::drive;
pub(crate) use report::stopped_unknown;
pub(crate) use slot::Slot;
