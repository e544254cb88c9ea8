//! Random histories of triggers, results, operations, crashes and failing commits: after each of them a rebuild
//! from the store equals the engine that wrote it.

use std::time::Duration;

use tidemill_engine::{
    event::ClearSelection,
    ids::RunKey,
    rows::EngineSnapshot,
    state::{RunState, TaskState, TryOutcome},
};
use tidemill_protocol::worker::{AttemptReport, ExchangeResponse};
use tidemill_scheduler::{AdminWrite, ClearRequest, Handle, MarkRequest, Scheduler, StoreState};
use tidemill_store::memory::Fault;

use crate::world::{HandWorker, World, report, soon, task_id, trigger_of};

const DIAMOND: &str = r#"
max_active_runs = 2
[[task]]
id = "top"
command = "x"
retries = 2
retry_delay = "3s"
[[task]]
id = "left"
command = "x {{ outputs.top.path | default('') }}"
depends_on = ["top"]
retries = 1
retry_delay = "5s"
[[task]]
id = "right"
operator = "branch"
branches = "{{ 'good' if try_number == 1 else 'bad' }}"
depends_on = ["top"]
[[task]]
id = "good"
operator = "noop"
depends_on = ["right"]
[[task]]
id = "bad"
command = "x"
depends_on = ["right"]
[[task]]
id = "join"
command = "x"
depends_on = ["left", "good", "bad"]
trigger_rule = "none_failed_min_one_success"
"#;

const OFTEN: &str = r#"
schedule = "* * * * *"
start_date = 2026-11-01
catchup = false
[[task]]
id = "only"
command = "x"
"#;

/// A small generator; what it gives depends on the seed alone.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

struct History {
    world: World,
    /// Absent only while it is being restarted.
    scheduler: Option<Scheduler>,
    workers: Vec<HandWorker>,
    runs: Vec<RunKey>,
    dice: Dice,
    kills: u32,
    faults: u32,
    results: u32,
}

impl History {
    async fn new(world: World, seed: u64) -> Self {
        let scheduler = world.start().await;
        let handle = scheduler.handle();
        world.define(&handle, "diamond", DIAMOND).await;
        world.define(&handle, "often", OFTEN).await;
        let workers = ["w1", "w2"].map(|id| HandWorker::new(&handle, id)).into();
        let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let scheduler = Some(scheduler);
        Self { world, scheduler, workers, runs: Vec::new(), dice, kills: 0, faults: 0, results: 0 }
    }

    fn handle(&self) -> Handle {
        self.scheduler.as_ref().unwrap().handle()
    }

    async fn restart(&mut self) {
        self.scheduler.take().unwrap().kill().await;
        self.scheduler = Some(self.world.start().await);
    }

    /// Exchanges and takes the answer if there is one by now.
    async fn exchange(&mut self, index: usize, results: Vec<AttemptReport>) -> Option<ExchangeResponse> {
        let handle = self.handle();
        let request = self.workers[index].request(results);
        let exchange = tokio::spawn({
            let handle = handle.clone();
            async move { handle.exchange(request).await }
        });
        self.settle().await;
        // Whatever the exchange was given is on its way; one that is still held is given up.
        tokio::task::yield_now().await;
        if !exchange.is_finished() {
            exchange.abort();
        }
        exchange.await.ok().and_then(Result::ok)
    }

    /// Waits until everything that was asked so far is committed; the clock moves while the store fails.
    async fn settle(&self) -> EngineSnapshot {
        loop {
            let handle = self.handle();
            // Refused while the store fails; then it is asked again.
            if let Ok(engine) = self.drive(async move { handle.durable().await }).await {
                return engine;
            }
        }
    }

    /// Waits for an answer; the clock moves while the store fails, because the loop waits for it.
    async fn drive<T: Send + 'static>(&self, answer: impl Future<Output = T> + Send + 'static) -> T {
        let answer = tokio::spawn(answer);
        soon("an answer", async {
            while !answer.is_finished() {
                if self.handle().health().store != StoreState::Ok {
                    self.world.clock.advance(Duration::from_millis(50));
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        answer.await.unwrap()
    }

    async fn work(&mut self) {
        let index = usize::try_from(self.dice.roll(2)).unwrap();
        let held = self.workers[index].held.clone();
        let mut results = Vec::new();
        for attempt in &held {
            let outcome = match self.dice.roll(8) {
                0..=3 => TryOutcome::Success,
                4 => TryOutcome::Failed,
                5 => TryOutcome::HandedBack,
                6 => TryOutcome::Skipped,
                _ => continue,
            };
            let mut result = report(attempt, outcome, i32::from(outcome != TryOutcome::Success));
            result.outputs.insert("path".into(), serde_json::json!(attempt.epoch));
            if attempt.instance.task == task_id("right") {
                result.follow = Some(vec![if self.dice.roll(2) == 0 { "good" } else { "bad" }.into()]);
            }
            results.push(result);
        }
        self.results += u32::try_from(results.len()).unwrap();
        let reported: Vec<_> = results.iter().map(|result| result.attempt.clone()).collect();
        match self.exchange(index, results.clone()).await {
            Some(answer) => {
                let worker = &mut self.workers[index];
                for assignment in answer.assignments {
                    if !worker.held.contains(&assignment.attempt) && !reported.contains(&assignment.attempt) {
                        worker.held.push(assignment.attempt);
                    }
                }
                for cancellation in answer.cancellations {
                    self.workers[index].held.retain(|held| *held != cancellation.attempt);
                    let stopped = report(&cancellation.attempt, TryOutcome::Stopped, 143);
                    let _ = self.exchange(index, vec![stopped]).await;
                }
            }
            // Without an answer nothing is known: what was reported is reported again.
            None => self.workers[index].held = held,
        }
        if let Ok(fenced) = self.workers[index].heartbeat().await {
            self.workers[index].held.retain(|held| !fenced.contains(held));
        }
    }

    async fn operate(&mut self) {
        let Some(count) = u64::try_from(self.runs.len()).ok().filter(|count| *count > 0) else { return };
        let run = self.runs[usize::try_from(self.dice.roll(count)).unwrap()];
        let handle = self.handle();
        let none = AdminWrite::default;
        match self.dice.roll(4) {
            0 => drop(self.drive(async move { handle.cancel(run, none()).await }).await),
            1 => {
                let selection =
                    ClearSelection { only_failed: self.dice.roll(2) == 0, ..ClearSelection::default() };
                let clear = ClearRequest::new(run, selection);
                drop(self.drive(async move { handle.clear(clear, none()).await }).await);
            }
            2 => {
                let tasks =
                    vec![task_id(["top", "left", "join"][usize::try_from(self.dice.roll(3)).unwrap()])];
                let state = if self.dice.roll(2) == 0 { TaskState::Success } else { TaskState::Failed };
                drop(
                    self.drive(async move {
                        handle
                            .mark_task(
                                MarkRequest { run, tasks, map_index: None, state, is_dry_run: false },
                                none(),
                            )
                            .await
                    })
                    .await,
                );
            }
            _ => drop(self.drive(async move { handle.mark_run(run, RunState::Success, none()).await }).await),
        }
    }

    async fn step(&mut self) {
        match self.dice.roll(12) {
            0 | 1 => {
                self.settle().await;
                let handle = self.handle();
                let asked = async move { handle.trigger(trigger_of("diamond"), AdminWrite::default()).await };
                let run = self.drive(asked).await.unwrap().run.key;
                self.runs.push(run);
            }
            2..=7 => self.work().await,
            8 => {
                let by = Duration::from_millis(self.dice.roll(8_000));
                self.world.clock.advance(by);
                self.settle().await;
            }
            9 => self.operate().await,
            10 => {
                if let Some(store) = &self.world.memory {
                    let all = [Fault::Unavailable, Fault::LostBefore, Fault::LostAfter];
                    store.inject(all[usize::try_from(self.dice.roll(3)).unwrap()]);
                    self.faults += 1;
                    self.work().await;
                }
                self.settle().await;
            }
            _ => {
                self.world.compare(self.settle().await).await;
                self.restart().await;
                let handle = self.handle();
                for worker in &mut self.workers {
                    worker.reconnect(&handle);
                }
                self.kills += 1;
            }
        }
    }
}

async fn check(make: impl AsyncFn() -> World, seeds: std::ops::Range<u64>, steps: u32) {
    let (mut kills, mut faults, mut results) = (0, 0, 0);
    for seed in seeds.clone() {
        let mut history = History::new(make().await, seed).await;
        for step in 0..steps {
            history.step().await;
            if step % 10 == 9 {
                history.world.compare(history.settle().await).await;
            }
        }
        assert_eq!(history.handle().health().quarantined_runs, 0, "seed {seed}");
        (kills, faults, results) =
            (kills + history.kills, faults + history.faults, results + history.results);
        history.scheduler.take().unwrap().stop().await;
    }
    let count = seeds.end - seeds.start;
    println!(
        "{count} histories of {steps} steps: {kills} restarts, {faults} failing commits, {results} results"
    );
    assert!(kills > 0 && results > 50, "the histories are too quiet to prove anything");
}

#[tokio::test]
async fn a_rebuild_equals_the_engine_after_any_history_in_memory() {
    check(async || World::in_memory(), 1..13, 120).await;
}

#[tokio::test]
async fn a_rebuild_equals_the_engine_after_any_history_in_sqlite() {
    check(World::in_sqlite, 101..104, 80).await;
}
