//! How long a run of a DAG usually takes: what a deadline by the usual time is measured against.

use std::time::Duration;

use tidemill_engine::{ids::DagId, state::RunState};
use tidemill_store::{
    ReadError,
    reader::{PageRequest, Reader, RunQuery},
};

/// So many of the last successful runs are looked at.
const LOOKED_AT: u32 = 20;
/// With fewer of them nothing is usual.
const ENOUGH: usize = 5;

/// Returns the median of the last successful runs; nothing when there are too few.
pub(crate) async fn duration(reader: &dyn Reader, dag_id: DagId) -> Result<Option<Duration>, ReadError> {
    let query = RunQuery {
        page: PageRequest { cursor: None, limit: LOOKED_AT },
        dag_id: Some(dag_id),
        states: vec![RunState::Success],
        ..RunQuery::default()
    };
    let runs = reader.runs(&query).await?.items;
    let took = runs.iter().filter_map(|run| (run.finished_at? - run.started_at?).to_std().ok());
    Ok(median(took.collect()))
}

/// The upper one of two in the middle: a deadline that is a little later tells nothing that is not so.
fn median(mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    (took.len() >= ENOUGH).then(|| took[took.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_runs_make_nothing_usual_and_an_outlier_moves_nothing() {
        let seconds = |values: &[u64]| median(values.iter().copied().map(Duration::from_secs).collect());
        assert_eq!(seconds(&[1, 1, 1, 1]), None);
        assert_eq!(seconds(&[900, 9, 11, 10, 12]), Some(Duration::from_secs(11)));
        assert_eq!(seconds(&[1, 2, 3, 4, 5, 6]), Some(Duration::from_secs(4)));
    }
}
