//! Stories: what a user would tell, one behaviour each. Longer ones, with everything that follows from each step, are
//! `tests/scenarios/*.scn`.

mod assets;
mod attempts;
mod backfill;
mod cleaning;
mod dates;
mod deadlines;
mod files;
mod flow;
mod gates;
mod inside;
mod limits;
mod mapping;
mod other_runs;
mod parked;
mod past;
mod people;
mod sensors;

use super::world::{dag, task};
use crate::definition::Dag;

fn diamond() -> Dag {
    dag("d", vec![task("a", &[]), task("b", &["a"]), task("c", &["a"]), task("e", &["b", "c"])])
}
