//! What finishing one task costs in the engine, whatever else is active.
//!
//! The claim of the design is that the cost is the task's downstream edges and a logarithm: the three cases
//! below must be close to each other.

#![expect(clippy::expect_used, reason = "a benchmark of fixed input: what cannot happen ends it")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tidemill_engine::{
    action::Action,
    definition::{load, version_hash},
    engine::Engine,
    event::{AttemptResult, Event, RequestId},
    ids::{AttemptKey, DagId, PoolName, WorkerId},
    now::Now,
    rows::{EngineSnapshot, PoolRow},
    state::TryOutcome,
};

fn now(seconds: i64) -> Now {
    Now {
        wall: chrono::DateTime::from_timestamp(1_790_000_000 + seconds, 0).expect("a valid instant"),
        mono: Duration::from_secs(1_000 + seconds.unsigned_abs()),
    }
}

/// A root with `width` tasks below it.
fn dag_text(id: &str, width: usize) -> String {
    let mut text = format!(
        "[dag]\nid = \"{id}\"\nmax_active_tasks = 10000\nmax_active_runs = 10000\n\n[[task]]\nid = \"root\"\ncommand = \"true\"\n"
    );
    for index in 0..width {
        text.push_str(&format!(
            "\n[[task]]\nid = \"t{index}\"\ncommand = \"true\"\ndepends_on = [\"root\"]\n"
        ));
    }
    text
}

/// An engine with `runs` runs of a DAG of `width` tasks, one worker with room for `capacity`, roots finished, and
/// one live attempt to finish.
fn prepared(runs: usize, width: usize) -> (Engine, AttemptKey) {
    let pool = PoolRow {
        name: PoolName::new("default_pool").expect("a name"),
        slots: 1_000_000,
        description: String::new(),
    };
    let mut engine =
        Engine::restore(EngineSnapshot { pools: vec![pool], ..EngineSnapshot::default() }, now(0));
    let loaded = load(dag_text("bench", width).as_bytes(), "bench.toml");
    let dag = Arc::new(loaded.dag.expect("a valid file"));
    let version = version_hash(&dag);
    engine.step(Event::DagChanged { dag, version, path: "bench.toml".to_owned() }, now(0));
    for index in 0..runs {
        engine.step(
            Event::RunRequested {
                request: RequestId(0),
                dag_id: DagId::new("bench").expect("an id"),
                run_id: None,
                logical_date: None,
                conf: Arc::default(),
                triggered_by: None,
                suffix: format!("{index:06}"),
                is_run_id_taken: false,
            },
            now(1),
        );
    }
    let worker = WorkerId::new("w").expect("an id");
    let mut live: Option<AttemptKey> = None;
    let offer = |held: Vec<AttemptKey>| Event::WorkerExchanged {
        worker: worker.clone(),
        boot_id: "b".to_owned(),
        has_swept: true,
        capacity: u32::try_from(runs).unwrap_or(u32::MAX) + 8,
        queues: vec!["default".to_owned()],
        held,
        lost: Vec::new(),
    };
    let mut held = Vec::new();
    for action in engine.step(offer(Vec::new()), now(2)) {
        if let Action::Assign(assign) = action {
            held.push(assign.attempt);
        }
    }
    for attempt in held {
        for action in engine.step(finish(attempt, &worker), now(3)) {
            if let Action::Assign(assign) = action {
                live = Some(assign.attempt);
            }
        }
    }
    (engine, live.expect("something is live"))
}

fn finish(attempt: AttemptKey, worker: &WorkerId) -> Event {
    Event::AttemptFinished {
        request: None,
        attempt,
        worker: worker.clone(),
        result: AttemptResult {
            outcome: TryOutcome::Success,
            exit_code: Some(0),
            is_final: false,
            reason: None,
            follow: None,
            started_at: None,
        },
        stored: None,
    }
}

fn finishing(criterion: &mut Criterion) {
    let worker = WorkerId::new("w").expect("an id");
    let mut group = criterion.benchmark_group("finish_one_task");
    for (name, runs, width) in [("small", 1, 10), ("one_run_of_10000", 1, 9_999), ("1000_runs", 1_000, 10)] {
        let (engine, attempt) = prepared(runs, width);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || engine.clone(),
                |mut engine| {
                    let actions = engine.step(finish(attempt.clone(), &worker), now(4));
                    // The engine is given back so that dropping it is not measured.
                    (black_box(actions), engine)
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, finishing);
criterion_main!(benches);
