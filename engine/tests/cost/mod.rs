//! Finishing one task costs its downstream edges and a logarithm, whatever else is active.
//!
//! The engines are measured in turns, in one process, and their medians are compared: what else the machine does meets all of
//! them. A cost that grows with the tasks of a run, or with the active runs, would show as a factor of hundreds.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

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

/// How often each engine is asked.
const SAMPLES: usize = 600;
/// How much dearer the median may be. The two that are compared differ by a factor of 500 in tasks, and of 1 000 in runs.
const BOUND: f64 = 3.0;

fn now(seconds: u64) -> Now {
    let wall = chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap() + Duration::from_secs(seconds);
    Now { wall, mono: Duration::from_secs(1_000 + seconds) }
}

/// Pairs of tasks: ending the first of a pair decides the second, which takes its place at the worker.
fn dag_text(pairs: usize) -> String {
    let mut text = "[dag]\nid = \"cost\"\nmax_active_tasks = 10000\nmax_active_runs = 1000\n".to_owned();
    for index in 0..pairs {
        text.push_str(&format!(
            "[[task]]\nid = \"a{index}\"\ncommand = \"true\"\n\
             [[task]]\nid = \"b{index}\"\ncommand = \"true\"\ndepends_on = \"a{index}\"\n"
        ));
    }
    text
}

/// An engine with active runs, and the attempts that are live in it.
struct Subject {
    name: &'static str,
    engine: Engine,
    live: VecDeque<AttemptKey>,
    tasks: usize,
    runs: usize,
    costs: Vec<Duration>,
}

impl Subject {
    fn new(name: &'static str, runs: usize, pairs: usize) -> Self {
        let name_of = |text: &str| PoolName::new(text).unwrap();
        let pool = PoolRow { name: name_of("default_pool"), slots: 1_000_000, description: String::new() };
        let snapshot = EngineSnapshot { pools: vec![pool], ..EngineSnapshot::default() };
        let mut engine = Engine::restore(snapshot, now(0));
        let dag = Arc::new(load(dag_text(pairs).as_bytes(), "cost.toml").dag.unwrap());
        let version = version_hash(&dag);
        engine.step(Event::DagChanged { dag, version, path: "cost.toml".to_owned() }, now(0));
        let mut subject =
            Self { name, engine, live: VecDeque::new(), tasks: 2 * pairs, runs, costs: Vec::new() };
        for index in 0..runs {
            subject.trigger(index);
        }
        // Room for a few only, so that thousands wait for it all the while.
        let offer = Event::WorkerExchanged {
            worker: WorkerId::new("w").unwrap(),
            boot_id: "b".to_owned(),
            has_swept: true,
            capacity: 8,
            queues: vec!["default".to_owned()],
            held: Vec::new(),
            lost: Vec::new(),
        };
        subject.step(offer);
        subject
    }

    fn trigger(&mut self, index: usize) {
        self.step(Event::RunRequested {
            request: RequestId(0),
            dag_id: DagId::new("cost").unwrap(),
            run_id: None,
            logical_date: None,
            conf: Arc::default(),
            triggered_by: None,
            suffix: format!("{index:06}"),
            is_run_id_taken: false,
        });
    }

    fn step(&mut self, event: Event) -> Duration {
        let start = Instant::now();
        let actions = self.engine.step(event, now(1));
        let cost = start.elapsed();
        for action in actions {
            if let Action::Assign(assign) = action {
                self.live.push_back(assign.attempt);
            }
        }
        cost
    }

    /// Ends the attempt that is live for longest.
    fn finish(&mut self) {
        let attempt = self.live.pop_front().expect("something is live");
        let result = AttemptResult {
            outcome: TryOutcome::Success,
            exit_code: Some(0),
            is_final: false,
            reason: None,
            follow: None,
            started_at: None,
        };
        let worker = WorkerId::new("w").unwrap();
        let cost = self.step(Event::AttemptFinished { request: None, attempt, worker, result, stored: None });
        self.costs.push(cost);
        assert_eq!(self.live.len(), 8, "{}: one ended and another took its place", self.name);
    }

    fn median(&self) -> Duration {
        let mut costs = self.costs.clone();
        costs.sort_unstable();
        costs[costs.len() / 2]
    }
}

#[test]
fn finishing_a_task_costs_the_same_in_a_huge_run_and_among_a_thousand_runs() {
    let mut subjects = [
        Subject::new("one run of 10 000 tasks", 1, 5_000),
        Subject::new("1 000 active runs", 1_000, 10),
        Subject::new("ten active runs", 10, 200),
    ];
    for _ in 0..SAMPLES {
        for subject in &mut subjects {
            subject.finish();
        }
    }
    let medians: Vec<f64> = subjects.iter().map(|subject| subject.median().as_secs_f64() * 1e6).collect();
    let (least, most) =
        medians.iter().fold((f64::MAX, 0.0_f64), |(low, high), m| (low.min(*m), high.max(*m)));
    let shown: Vec<String> = subjects
        .iter()
        .zip(&medians)
        .map(|(subject, median)| {
            let Subject { name, runs, tasks, .. } = subject;
            format!(
                "{{\"case\": \"{name}\", \"runs\": {runs}, \"tasks\": {tasks}, \"median_us\": {median:.1}}}"
            )
        })
        .collect();
    println!("{{\"samples\": {SAMPLES}, \"cases\": [{}], \"ratio\": {:.2}}}", shown.join(", "), most / least);
    assert!(most / least <= BOUND, "{medians:?}");
}
