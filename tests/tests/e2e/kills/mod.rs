//! `kill -9` of the server at any moment and at chosen points, under at least twenty tasks a second.
//!
//! Three forms: `standalone`, whose tasks die with it; a `server` whose worker lives on and goes on with its tasks; a
//! `worker` whose server lives on.
//! Truth is what the tasks write themselves. Asserted: no missed and no duplicate logical date, no lost retry,
//! every run ends, no two overlapping executions of one instance, and every second execution has a higher fence
//! and a recorded reason.

mod check;
mod guardian;
mod load;
mod paused;
mod server;
mod standalone;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::check::Achieved;
use super::{
    server::{PATIENCE, Server},
    truth::{Execution, TruthFolder},
    worker::Worker,
};

/// The least number of executions a second that counts as load.
const LOAD_PER_SECOND: f64 = 20.0;

/// How many kills; CI takes the short form, `make kills` the long one.
fn rounds() -> usize {
    std::env::var("TIDEMILL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(21)
}

/// Where the server dies; `None` is a kill from outside at a random moment.
const POINTS: [Option<&str>; 7] = [
    None,
    Some("before_commit"),
    Some("after_commit"),
    None,
    Some("before_spawn"),
    Some("before_result"),
    Some("before_release"),
];

/// A process that is killed again and again.
trait Victim {
    /// Whether it has ended by itself.
    fn is_dead(&mut self) -> bool;
    /// Ends it as `kill -9` does.
    fn kill(&mut self);
    fn said(&self) -> String;
}

impl Victim for Server {
    fn is_dead(&mut self) -> bool {
        self.has_ended().is_some()
    }

    fn kill(&mut self) {
        Self::kill(self);
    }

    fn said(&self) -> String {
        Self::said(self)
    }
}

impl Victim for Worker {
    fn is_dead(&mut self) -> bool {
        self.has_ended().is_some()
    }

    fn kill(&mut self) {
        Self::kill(self);
    }

    fn said(&self) -> String {
        Self::said(self)
    }
}

/// A small generator, so that a failure can be repeated by its seed.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Returns the executions that are under way. What an earlier kill ended never records its own end, so only what began
/// since then counts.
fn open_since(truth: &TruthFolder, seen_at_start: usize) -> Vec<Execution> {
    let seen = truth.read();
    seen.starts[seen_at_start..].iter().filter(|start| seen.is_open(start)).cloned().collect()
}

/// What the kills hit.
struct Counts {
    kills: u64,
    /// How long a victim was there to be killed.
    up: Duration,
    with_task_running: BTreeMap<&'static str, u64>,
    in_retry_wait: u64,
    at: BTreeMap<&'static str, u64>,
    /// Executions that were under way at a kill.
    hit: BTreeSet<Execution>,
    /// Executions per second of that time.
    rate: f64,
}

impl Counts {
    fn new() -> Self {
        Self {
            kills: 0,
            up: Duration::ZERO,
            with_task_running: BTreeMap::new(),
            in_retry_wait: 0,
            at: BTreeMap::new(),
            hit: BTreeSet::new(),
            rate: 0.0,
        }
    }

    /// Waits until the victim is dead: by a failpoint, or killed from outside when `wait` is over and a task runs.
    /// Without the latter the machine's speed would decide how many kills find a task; the failpoints find the victim
    /// without one often enough.
    fn kill(
        &mut self,
        victim: &mut impl Victim,
        point: Option<&'static str>,
        wait: Duration,
        truth: &TruthFolder,
        seen_at_start: usize,
    ) {
        let began = Instant::now();
        let until = began + wait;
        while !victim.is_dead() {
            let now = Instant::now();
            if now > until && point.is_none() && !open_since(truth, seen_at_start).is_empty() {
                break;
            }
            let is_patient = now < began + wait + PATIENCE;
            assert!(
                is_patient,
                "{:?} was never reached; it said:\n{}",
                point.unwrap_or("a task"),
                victim.said()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        victim.kill();
        self.up += began.elapsed();
        let open = open_since(truth, seen_at_start);
        let at = point.unwrap_or("at_random");
        *self.at.entry(at).or_default() += 1;
        self.kills += 1;
        *self.with_task_running.entry(at).or_default() += u64::from(!open.is_empty());
        self.in_retry_wait += u64::from(truth.read().has_retry_wait("flaky"));
        self.hit.extend(open);
        self.rate = truth.read().starts.len() as f64 / self.up.as_secs_f64();
    }

    /// How many kills hit a running task.
    fn running(&self) -> u64 {
        self.with_task_running.values().sum()
    }

    /// The five moments that the kills must have hit.
    fn moments(&self) -> [(&'static str, u64); 5] {
        let at = |point: &str| self.at.get(point).copied().unwrap_or(0);
        [
            ("before_commit", at("before_commit")),
            ("commit_before_reply", at("after_commit") + at("before_release")),
            ("assigned_before_spawn", at("before_spawn")),
            ("retry_wait", self.in_retry_wait),
            ("result_not_sent", at("before_result")),
        ]
    }

    fn report(&self, id: &str, achieved: &Achieved) -> Value {
        let moments: BTreeMap<_, _> = self.moments().into_iter().collect();
        json!({
            "id": id, "kills": self.kills, "with_task_running": self.running(), "with_task_running_at": self.with_task_running, "moments": moments,
            "at": self.at, "tasks_per_second": (self.rate * 10.0).round() / 10.0,
            "executions_hit": self.hit.len(), "dates": achieved.dates, "executions": achieved.executions,
            "failed_by_design": achieved.failed_by_design, "instances_by_executions": achieved.by_executions,
            "repeated": achieved.repeated, "overlaps": 0, "missed": 0, "duplicates": 0, "lost_retries": 0,
        })
    }

    /// Of 200 kills at least 150 hit a running task and at least 10 each of the five moments, under load; of fewer in
    /// proportion.
    fn assert_shares(&self) {
        let running = &self.with_task_running;
        assert!(self.running() * 4 >= self.kills * 3, "{} with a task running: {running:?}", self.running());
        assert!(self.rate >= LOAD_PER_SECOND, "the load was {} tasks a second", self.rate);
        self.assert_moments(&[]);
    }

    /// At least one kill in twenty hit each of the moments, except those that the victim does not pass.
    fn assert_moments(&self, not_passed: &[&str]) {
        assert_eq!(self.kills, rounds() as u64);
        for (moment, count) in self.moments().into_iter().filter(|(moment, _)| !not_passed.contains(moment)) {
            assert!(count * 20 >= self.kills, "{moment} was hit {count} times in {} kills", self.kills);
        }
    }
}
