//! Whatever crosses crates: the real binary, real processes, real signals, and what a machine can check of the
//! house.

#[cfg(test)]
mod e2e;
#[cfg(test)]
#[path = "../support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod timetable;
