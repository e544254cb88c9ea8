//! A store made of maps: it applies actions, refuses what a database would refuse, and checks the invariants of
//! the engine after every step.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::super::Engine;
use crate::{
    action::{Action, Assign, Refusal, Reply, TaskFence},
    asset::{AssetChange, AssetEventId, AssetEventRow, AssetExtra, AssetQueueRow, AssetWait},
    backfill::{BackfillChange, BackfillDate, BackfillPage, BackfillRow, BackfillSpec, DatedRun},
    definition::{
        Branches, Command, Dag, MapSource, MapSpec, Operator, Poke, RetriesExhausted, Role, RunWait,
        Schedule, Task, TimeWait, TimetableKind, TriggerSpec, Until, WaitFrom, WhichRun,
    },
    event::{AttemptResult, ClearSelection, Event, RequestId},
    ids::{
        AssetName, AttemptKey, BackfillKey, DagId, PoolName, RunId, RunKey, TaskId, TaskInstanceKey, WorkerId,
    },
    mapping::MapValues,
    now::Now,
    preparation::{FoundRun, Preparation, Prepared, RunAsked, TriggerPlan, Unprepared},
    rows::{
        DagRow, EngineSnapshot, FinishedRun, MapRow, PoolRow, PreviousRun, RunRow, RunSnapshot, TaskRow,
        TryRow, VersionHash, directly_below,
    },
    state::{RunState, RunType, TaskState, TriggerRule, TryOutcome, WeightRule},
    wait_reason::WaitReason,
};

/// How many runs there may be before tasks trigger no more.
const MOST_RUNS: usize = 30;

pub(super) fn dag_id(text: &str) -> DagId {
    DagId::new(text).unwrap()
}

pub(super) fn task_id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

pub(super) fn worker_id(text: &str) -> WorkerId {
    WorkerId::new(text).unwrap()
}

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A command task.
pub(super) fn task(id: &str, depends_on: &[&str]) -> Task {
    Task {
        id: task_id(id),
        operator: Operator::Command { command: Command::Shell("true".to_owned()) },
        depends_on: depends_on.iter().map(|id| task_id(id)).collect(),
        trigger_rule: TriggerRule::AllSuccess,
        retries: 0,
        retry_delay: Duration::from_secs(300),
        retry_backoff: 1.0,
        max_retry_delay: Duration::from_secs(86_400),
        max_lost_retries: 3,
        skip_on_exit_code: vec![99],
        fail_on_exit_code: Vec::new(),
        retry_on: None,
        on_retries_exhausted: RetriesExhausted::Fail,
        timeout: None,
        pool: PoolName::new("default_pool").unwrap(),
        pool_slots: 1,
        priority_weight: 1,
        weight_rule: WeightRule::Downstream,
        queue: "default".to_owned(),
        env: BTreeMap::new(),
        max_active_per_dag: None,
        max_active_per_run: None,
        map: None,
        max_map_length: 1024,
        group: None,
        depends_on_past: false,
        wait_for_downstream: false,
        role: Role::Work,
        outlets: Vec::new(),
        owner: None,
        doc: None,
        on_success: Vec::new(),
        on_failure: Vec::new(),
    }
}

/// A sensor that pokes every ten seconds and gives up after a minute.
pub(super) fn sensor(id: &str, depends_on: &[&str]) -> Task {
    let poke = Poke {
        interval: Duration::from_secs(10),
        backoff: 1.0,
        max_interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(60),
        soft_fail: false,
    };
    let operator = Operator::FileSensor { path: "f".to_owned(), poke };
    Task { operator, timeout: Some(Duration::from_secs(60)), ..task(id, depends_on) }
}

/// A sensor that waits in the engine for what the world says, and gives up after a minute.
pub(super) fn time_sensor(id: &str, depends_on: &[&str], soft_fail: bool) -> Task {
    let until = Until::Text { template: "{{ params.until }}".to_owned(), from: WaitFrom::LogicalDate };
    let operator = Operator::TimeSensor { wait: TimeWait { until, soft_fail } };
    Task { operator, timeout: Some(Duration::from_secs(60)), ..task(id, depends_on) }
}

/// A sensor that waits in the engine for so long after the logical date.
pub(super) fn delay_sensor(id: &str, depends_on: &[&str], seconds: u64) -> Task {
    let until = Until::Delay { delay: Duration::from_secs(seconds), from: WaitFrom::LogicalDate };
    let operator = Operator::TimeSensor { wait: TimeWait { until, soft_fail: false } };
    Task { operator, timeout: Some(Duration::from_secs(60)), ..task(id, depends_on) }
}

/// A task that triggers a DAG, and perhaps waits for a minute for its run.
pub(super) fn triggering(id: &str, depends_on: &[&str], dag: &str, wait: bool) -> Task {
    let spec = TriggerSpec {
        dag_id: dag.to_owned(),
        conf: serde_json::Map::new(),
        logical_date: None,
        run_id: None,
        wait,
        allowed_states: vec![RunState::Success],
    };
    let operator = Operator::TriggerDag { spec: Box::new(spec) };
    Task { operator, timeout: Some(Duration::from_secs(60)), ..task(id, depends_on) }
}

/// A sensor that waits for the newest run of a DAG, for at most a minute.
pub(super) fn run_sensor(id: &str, depends_on: &[&str], dag: &str) -> Task {
    let wait = RunWait {
        dag_id: dag.to_owned(),
        which: WhichRun::Latest,
        allowed_states: vec![RunState::Success],
        wait_on_failure: false,
        missing_fails: false,
        soft_fail: false,
    };
    let operator = Operator::DagRunSensor { wait: Box::new(wait) };
    Task { operator, timeout: Some(Duration::from_secs(60)), ..task(id, depends_on) }
}

/// Changes for which run a sensor waits.
pub(super) fn looking(mut task: Task, change: impl FnOnce(&mut RunWait)) -> Task {
    if let Operator::DagRunSensor { wait } = &mut task.operator {
        change(wait);
    }
    task
}

/// Changes how a sensor pokes.
pub(super) fn poking(mut task: Task, change: impl FnOnce(&mut Poke)) -> Task {
    if let Operator::FileSensor { poke, .. } = &mut task.operator {
        change(poke);
    }
    task
}

pub(super) fn noop(id: &str, depends_on: &[&str]) -> Task {
    Task { operator: Operator::Noop, ..task(id, depends_on) }
}

pub(super) fn branch(id: &str, depends_on: &[&str]) -> Task {
    Task {
        operator: Operator::Branch { branches: Branches::Template(String::new()) },
        ..task(id, depends_on)
    }
}

pub(super) fn short_circuit(id: &str, depends_on: &[&str], ignore_downstream_trigger_rules: bool) -> Task {
    let when = "true".to_owned();
    Task {
        operator: Operator::ShortCircuit { when, ignore_downstream_trigger_rules },
        ..task(id, depends_on)
    }
}

pub(super) fn latest_only(id: &str, depends_on: &[&str]) -> Task {
    Task { operator: Operator::LatestOnly, ..task(id, depends_on) }
}

/// A task that is mapped over a template: the world answers it.
pub(super) fn mapped(task: Task) -> Task {
    Task { map: Some(MapSpec::One(MapSource::Template("{{ params.list }}".to_owned()))), ..task }
}

/// A task that is mapped over so many numbers.
pub(super) fn mapped_over(task: Task, length: i64) -> Task {
    let items = (0..length).map(serde_json::Value::from).collect();
    Task { map: Some(MapSpec::One(MapSource::List(items))), ..task }
}

/// A task that prepares what is below it.
pub(super) fn setup(id: &str, depends_on: &[&str]) -> Task {
    Task { role: Role::Setup, ..task(id, depends_on) }
}

/// A task that cleans up after `of`, which is among its upstreams.
pub(super) fn teardown(id: &str, of: &[&str], depends_on: &[&str]) -> Task {
    let setups = of.iter().map(|id| task_id(id)).collect();
    let role = Role::Teardown { setups, fails_run: false };
    Task { role, trigger_rule: TriggerRule::AllDone, ..task(id, depends_on) }
}

pub(super) fn dag(id: &str, tasks: Vec<Task>) -> Dag {
    Dag {
        id: dag_id(id),
        description: None,
        schedule: Schedule::Never,
        timetable: TimetableKind::Trigger,
        timezone: chrono_tz::UTC,
        start_date: None,
        end_date: None,
        catchup: false,
        max_active_runs: 16,
        max_active_tasks: 16,
        run_timeout: None,
        tags: Vec::new(),
        owner: None,
        doc: None,
        on_success: Vec::new(),
        on_failure: Vec::new(),
        retention: None,
        max_consecutive_failed_runs: None,
        deadline: None,
        on_deadline: Vec::new(),
        params: Vec::new(),
        groups: Vec::new(),
        tasks,
    }
}

/// The engine, its clocks, and the rows that a database would have.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Now,
    pub(super) dags: BTreeMap<DagId, DagRow>,
    pub(super) versions: BTreeMap<(DagId, VersionHash), Arc<Dag>>,
    pub(super) runs: BTreeMap<RunKey, RunRow>,
    pub(super) tasks: BTreeMap<TaskInstanceKey, TaskRow>,
    pub(super) tries: BTreeMap<AttemptKey, TryRow>,
    pub(super) maps: BTreeMap<(RunKey, TaskId), MapRow>,
    /// What the templates of maps give, by task; otherwise a list of two.
    pub(super) lists: BTreeMap<TaskId, Result<i64, String>>,
    /// What the templates of `until` give.
    pub(super) until: String,
    /// Outputs of what never leaves the engine.
    pub(super) outputs: BTreeMap<TaskInstanceKey, BTreeMap<String, serde_json::Value>>,
    /// How many runs are triggered by tasks in one step: DAGs may go round in circles. With none
    /// every trigger fails.
    pub(super) triggered_per_step: usize,
    /// What was asked for and answered.
    pub(super) answered: u64,
    pub(super) pools: BTreeMap<PoolName, PoolRow>,
    pub(super) backfills: BTreeMap<BackfillKey, BackfillRow>,
    pub(super) backfill_dates: BTreeMap<(BackfillKey, DateTime<Utc>), BackfillDate>,
    /// Everything that was assigned and not ended, as its worker sees it.
    pub(super) assigned: BTreeSet<(WorkerId, AttemptKey)>,
    pub(super) passed_over: u64,
    /// The history of assets.
    pub(super) events: Vec<AssetEventRow>,
    /// What is queued for whom, one row an event.
    pub(super) queue: BTreeSet<(DagId, AssetEventId)>,
    /// Which run took which event.
    pub(super) causes: BTreeMap<(DagId, AssetEventId), RunKey>,
    pub(super) steps: u64,
    requests: u64,
    capacity: BTreeMap<WorkerId, (String, u32)>,
}

impl World {
    pub(super) fn new() -> Self {
        let pool =
            PoolRow { name: PoolName::new("default_pool").unwrap(), slots: 128, description: String::new() };
        let now = Now { wall: at("2026-11-01T00:00:30Z"), mono: Duration::from_secs(1000) };
        let pools = BTreeMap::from([(pool.name.clone(), pool)]);
        let mut world = Self {
            engine: Engine::default(),
            now,
            dags: BTreeMap::new(),
            versions: BTreeMap::new(),
            runs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tries: BTreeMap::new(),
            maps: BTreeMap::new(),
            lists: BTreeMap::new(),
            until: "00:01".to_owned(),
            outputs: BTreeMap::new(),
            triggered_per_step: 9,
            answered: 0,
            pools,
            backfills: BTreeMap::new(),
            backfill_dates: BTreeMap::new(),
            assigned: BTreeSet::new(),
            passed_over: 0,
            events: Vec::new(),
            queue: BTreeSet::new(),
            causes: BTreeMap::new(),
            steps: 0,
            requests: 0,
            capacity: BTreeMap::new(),
        };
        world.engine = Engine::restore(world.stored(), now);
        world
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Applies an event and whatever follows, and checks everything.
    pub(super) fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.step_once(event);
        let mut left = self.triggered_per_step;
        // The loop answers at once what the engine has to know.
        let first = self.steps;
        loop {
            assert!(self.steps - first < 20_000, "what follows from one event has no end");
            if let Some((run, dag, date)) = self.engine.unknown_past().into_iter().next() {
                let previous = self.previous(&dag, date).map(Box::new);
                actions.extend(self.step_once(Event::Past { run, previous }));
            } else if let Some(asked) = self.engine.unprepared().into_iter().next() {
                self.answered += 1;
                let result = self.answer(&asked);
                let Unprepared { instance, what } = asked;
                actions.extend(self.step_once(Event::Prepared { instance, what, result }));
            } else if let Some(asked) = self.stored_question(left) {
                left -= usize::from(asked.what == Preparation::Trigger).min(left);
                let result = self.answer(&asked);
                let Unprepared { instance, what } = asked;
                actions.extend(self.step_once(Event::Prepared { instance, what, result }));
            } else if let Some(page) = self.engine.backfill_page(self.now) {
                let before = self.backfills[&page.backfill].clone();
                let event = self.look_up(&page);
                actions.extend(self.step_once(event));
                assert_ne!(self.backfills[&page.backfill], before, "a page that changes nothing");
            } else {
                assert!(!self.engine.is_backfill_due(self.now), "a page is there when it is due");
                break;
            }
        }
        while let Some((run, dag)) = self.engine.unknown_usual().into_iter().next() {
            let duration = self.usual(&dag);
            actions.extend(self.step_once(Event::Usual { run, duration }));
        }
        self.check_reasons();
        actions
    }

    fn answer(&self, asked: &Unprepared) -> Result<Prepared, String> {
        match asked.what {
            Preparation::Map => {
                let length = self.lists.get(&asked.instance.task).cloned().unwrap_or(Ok(2))?;
                Ok(Prepared::Map(MapValues::List((0..length).map(serde_json::Value::from).collect())))
            }
            Preparation::Until => Ok(Prepared::Until(self.until.clone())),
            // What triggers itself would fill the world with runs.
            Preparation::Trigger if self.triggered_per_step == 0 || self.runs.len() >= MOST_RUNS => {
                Err("nothing is triggered".to_owned())
            }
            Preparation::Trigger => {
                let Operator::TriggerDag { spec } = self.operator(&asked.instance) else { unreachable!() };
                let run_id = spec.run_id.as_deref().map(|id| RunId::new(id).unwrap());
                let dag = dag_id(&spec.dag_id);
                let is_run_id_taken =
                    self.runs.values().any(|row| row.dag_id == dag && Some(&row.run_id) == run_id.as_ref());
                Ok(Prepared::Trigger(Box::new(TriggerPlan {
                    dag_id: dag,
                    conf: Arc::new(spec.conf.clone()),
                    logical_date: spec.logical_date.as_deref().map(at),
                    run_id,
                    suffix: format!("t{:05}", self.steps),
                    is_run_id_taken,
                })))
            }
            Preparation::Runs => {
                let Operator::DagRunSensor { wait } = self.operator(&asked.instance) else { unreachable!() };
                let logical_date = match &wait.which {
                    WhichRun::Latest => None,
                    WhichRun::Date { template } => Some(at(template)),
                    WhichRun::Offset { earlier } => {
                        let of = self.runs[&asked.instance.run].logical_date;
                        Some(of - TimeDelta::from_std(*earlier).unwrap())
                    }
                };
                let dag_id = dag_id(&wait.dag_id);
                let of_dag = self.runs.values().filter(|row| row.dag_id == dag_id);
                let found = match logical_date {
                    None => of_dag.max_by_key(|row| (row.logical_date, row.key)),
                    Some(date) => {
                        of_dag.filter(|row| row.logical_date == date).max_by_key(|row| FoundRun::rank(row))
                    }
                };
                let found = found.map(FoundRun::of);
                Ok(Prepared::Runs(Box::new(RunAsked { dag_id, logical_date, found })))
            }
        }
    }

    /// The next question to the store; of those that make a run only so many.
    fn stored_question(&self, left: usize) -> Option<Unprepared> {
        let asked = self.engine.unprepared_stored().into_iter().next()?;
        let is_answered = asked.what != Preparation::Trigger || left > 0 || self.triggered_per_step == 0;
        is_answered.then_some(asked)
    }

    fn operator(&self, key: &TaskInstanceKey) -> &Operator {
        let row = &self.runs[&key.run];
        let dag = &self.versions[&(row.dag_id.clone(), row.dag_version.clone())];
        &dag.tasks.iter().find(|task| task.id == key.task).unwrap().operator
    }

    /// The median of the successful runs of a DAG, when there are two; the real loop wants five.
    fn usual(&self, dag: &DagId) -> Option<Duration> {
        let ended = self.runs.values().filter(|run| run.dag_id == *dag && run.state == RunState::Success);
        let mut took: Vec<Duration> =
            ended.filter_map(|run| (run.finished_at? - run.started_at?).to_std().ok()).collect();
        took.sort();
        (took.len() >= 2).then(|| took[took.len() / 2])
    }

    /// What the loop finds for a page of dates.
    fn look_up(&self, page: &BackfillPage) -> Event {
        let is_dated = |run: &&RunRow| {
            run.dag_id == page.dag_id
                && matches!(run.run_type, RunType::Scheduled | RunType::Backfill)
                && page.dates.contains(&run.logical_date)
        };
        let found: Vec<DatedRun> = self
            .runs
            .values()
            .filter(is_dated)
            .map(|run| DatedRun {
                run: run.key,
                run_id: run.run_id.clone(),
                run_type: run.run_type,
                state: run.state,
                logical_date: run.logical_date,
                unreadable: None,
            })
            .collect();
        let finished = page.to_load(&found).into_iter().filter_map(|run| self.finished(run)).map(|run| *run);
        let finished = finished.collect();
        Event::BackfillDates { backfill: page.backfill, dates: page.dates.clone(), found, finished }
    }

    fn previous(&self, dag: &DagId, before: DateTime<Utc>) -> Option<PreviousRun> {
        let is_dated = |run: &&RunRow| matches!(run.run_type, RunType::Scheduled | RunType::Backfill);
        let earlier = self.runs.values().filter(|run| run.dag_id == *dag && run.logical_date < before);
        let newest = earlier
            .filter(is_dated)
            .max_by_key(|run| (run.logical_date, run.run_type == RunType::Scheduled))?;
        let dag = &self.versions[&(dag.clone(), newest.dag_version.clone())];
        let is_well = |state| matches!(state, TaskState::Success | TaskState::Skipped | TaskState::Removed);
        let mut states = BTreeMap::new();
        for row in self.rows_of(newest.key) {
            if !is_well(row.state) || !states.contains_key(&row.key.task) {
                states.insert(row.key.task.clone(), row.state);
            }
        }
        for task in &dag.tasks {
            states.entry(task.id.clone()).or_insert(TaskState::NoStatus);
        }
        Some(PreviousRun {
            run: newest.key,
            run_id: newest.run_id.clone(),
            logical_date: newest.logical_date,
            states,
            below: directly_below(dag),
        })
    }

    fn step_once(&mut self, event: Event) -> Vec<Action> {
        let before = self.engine.clone();
        let again = self.engine.clone().step(event.clone(), self.now);
        let actions = self.engine.step(event.clone(), self.now);
        assert_eq!(actions, again, "the same event on the same engine gave different actions");
        self.check_pause(&event, &actions, &before);
        self.apply(&actions);
        self.steps += 1;
        self.check(&event);
        self.check_assigned(&actions);
        actions
    }

    /// What a pause was said to change is what it changed.
    fn check_pause(&self, event: &Event, actions: &[Action], before: &Engine) {
        let Event::DagPaused { dag_id, is_paused, .. } = event else { return };
        let Some(plan) = before.plan_pause(dag_id, *is_paused, self.now) else { return };
        let changes = actions.iter().any(|action| matches!(action, Action::Dag(_)));
        assert_eq!(plan.has_effect(), changes, "{plan:?}");
        let passed = actions.iter().find_map(|action| match action {
            Action::PassedOver(passed) => Some(passed),
            _ => None,
        });
        assert_eq!(plan.missed.as_ref().filter(|_| !plan.is_caught_up), passed, "{plan:?}");
        assert!(!plan.sentences().is_empty());
    }

    /// Lets time pass on both clocks and ticks.
    pub(super) fn pass(&mut self, seconds: i64) -> Vec<Action> {
        self.now.wall += TimeDelta::seconds(seconds);
        self.now.mono += Duration::from_secs(seconds.unsigned_abs());
        self.tick()
    }

    pub(super) fn tick(&mut self) -> Vec<Action> {
        let due = self.engine.due_dates(self.now);
        let taken = due.into_iter().filter(|(dag, date)| self.has_scheduled(dag, *date)).collect();
        self.step(Event::Tick { taken })
    }

    fn has_scheduled(&self, dag: &DagId, date: DateTime<Utc>) -> bool {
        self.runs
            .values()
            .any(|run| run.dag_id == *dag && run.run_type == RunType::Scheduled && run.logical_date == date)
    }

    pub(super) fn load(&mut self, dag: Dag) -> Vec<Action> {
        let text = serde_json::to_string(&dag).unwrap();
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let version = VersionHash(format!("{:032x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)).into());
        let dag = Arc::new(dag);
        self.versions.insert((dag.id.clone(), version.clone()), Arc::clone(&dag));
        self.step(Event::DagChanged { path: format!("{}.toml", dag.id), dag, version })
    }

    /// The newest definition of a DAG.
    pub(super) fn newest(&self, id: &DagId) -> Arc<Dag> {
        Arc::clone(&self.versions[&(id.clone(), self.dags[id].version.clone())])
    }

    /// Connects a worker, or lets it exchange again with what it holds.
    pub(super) fn exchange(&mut self, worker: &str, boot_id: &str, capacity: u32) -> Vec<Action> {
        let worker = worker_id(worker);
        if self.capacity.get(&worker).is_some_and(|(boot, _)| boot != boot_id) {
            self.assigned.retain(|(holder, _)| *holder != worker);
        }
        self.capacity.insert(worker.clone(), (boot_id.to_owned(), capacity));
        let held =
            self.assigned.iter().filter(|(holder, _)| *holder == worker).map(|(_, a)| a.clone()).collect();
        self.step(Event::WorkerExchanged {
            worker,
            boot_id: boot_id.to_owned(),
            has_swept: true,
            capacity,
            queues: vec!["default".to_owned()],
            held,
            lost: Vec::new(),
        })
    }

    /// A worker is heard of and renews its leases.
    pub(super) fn hear(&mut self, worker: &str, boot_id: &str) {
        let worker = worker_id(worker);
        let attempts = self.assigned.iter().filter(|(w, _)| *w == worker).map(|(_, a)| a.clone()).collect();
        self.step(Event::Heartbeat { worker, boot_id: boot_id.to_owned(), attempts });
    }

    pub(super) fn trigger(&mut self, dag: &str) -> RunKey {
        let request = self.request();
        let actions = self.step(Event::RunRequested {
            request,
            dag_id: dag_id(dag),
            run_id: None,
            logical_date: None,
            conf: Arc::default(),
            triggered_by: None,
            suffix: format!("{:06}", self.requests),
            is_run_id_taken: false,
        });
        actions
            .iter()
            .find_map(|action| match action {
                Action::Answer(answer) => match &answer.reply {
                    Reply::RunCreated(row) => Some(row.key),
                    reply => panic!("{reply:?}"),
                },
                _ => None,
            })
            .unwrap()
    }

    /// Asks for a backfill.
    pub(super) fn backfill(&mut self, dag: &str, spec: BackfillSpec) -> Vec<Action> {
        let (request, created_by) = (self.request(), Some("ann".to_owned()));
        self.step(Event::BackfillRequested { request, dag_id: dag_id(dag), spec: Box::new(spec), created_by })
    }

    /// Pauses, resumes or cancels a backfill.
    pub(super) fn change_backfill(&mut self, backfill: BackfillKey, change: BackfillChange) -> Vec<Action> {
        let request = self.request();
        let ended = self.backfills.get(&backfill).map(|row| row.state).filter(|state| state.is_terminal());
        self.step(Event::BackfillChanged { request, backfill, change, is_dry_run: false, ended })
    }

    pub(super) fn key(run: RunKey, task: &str) -> TaskInstanceKey {
        // `m[3]` is an element.
        match task.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
            Some((task, index)) => {
                TaskInstanceKey { run, task: task_id(task), map_index: index.parse().unwrap() }
            }
            None => TaskInstanceKey { run, task: task_id(task), map_index: -1 },
        }
    }

    /// The instances that a task has, in the order of their elements.
    pub(super) fn instances(&self, run: RunKey, task: &TaskId) -> Vec<TaskInstanceKey> {
        let length = self.maps.get(&(run, task.clone())).map(|row| row.values.len());
        let key = |map_index| TaskInstanceKey { run, task: task.clone(), map_index };
        match length {
            None => vec![key(-1)],
            Some(length) => (0..i32::try_from(length).unwrap()).map(key).collect(),
        }
    }

    fn shown(&self, run: RunKey, task: &TaskId) -> String {
        let keys = self.instances(run, task);
        let state = |key: &TaskInstanceKey| self.tasks.get(key).map_or(TaskState::NoStatus, |row| row.state);
        match keys.as_slice() {
            [key] if key.map_index == -1 => format!("{task}={}", state(key)),
            keys => {
                let states: Vec<&str> = keys.iter().map(|key| state(key).as_str()).collect();
                format!("{task}=[{}]", states.join(" "))
            }
        }
    }

    pub(super) fn state(&self, run: RunKey, task: &str) -> TaskState {
        self.tasks.get(&Self::key(run, task)).map_or(TaskState::NoStatus, |row| row.state)
    }

    /// The states of all tasks of a run in file order, as one line.
    pub(super) fn line(&self, run: RunKey) -> String {
        let row = &self.runs[&run];
        let dag = &self.versions[&(row.dag_id.clone(), row.dag_version.clone())];
        let tasks: Vec<String> = dag.tasks.iter().map(|t| self.shown(run, &t.id)).collect();
        format!("{} | {}", row.state, tasks.join(" "))
    }

    /// The live attempt of an instance.
    pub(super) fn live(&self, run: RunKey, task: &str) -> (WorkerId, AttemptKey) {
        let key = Self::key(run, task);
        self.assigned.iter().find(|(_, attempt)| attempt.instance == key).cloned().unwrap_or_else(|| {
            panic!("{task} is not assigned: {}", self.line(run));
        })
    }

    /// Ends an instance's live attempt.
    pub(super) fn end(&mut self, run: RunKey, task: &str, outcome: TryOutcome) -> Vec<Action> {
        self.end_with(run, task, result(outcome))
    }

    pub(super) fn end_with(&mut self, run: RunKey, task: &str, result: AttemptResult) -> Vec<Action> {
        let (worker, attempt) = self.live(run, task);
        self.finish(worker, attempt, result)
    }

    pub(super) fn finish(
        &mut self,
        worker: WorkerId,
        attempt: AttemptKey,
        result: AttemptResult,
    ) -> Vec<Action> {
        let request = self.request();
        let stored = (!self.engine.has_lease(&attempt, &worker))
            .then(|| self.tries.get(&attempt).and_then(|row| row.outcome))
            .flatten();
        self.assigned.remove(&(worker.clone(), attempt.clone()));
        self.step(Event::AttemptFinished { request: Some(request), attempt, worker, result, stored })
    }

    pub(super) fn finished(&self, run: RunKey) -> Option<Box<FinishedRun>> {
        let row = self.runs.get(&run).filter(|row| row.state.is_terminal())?;
        let dag = Arc::clone(self.versions.get(&(row.dag_id.clone(), row.dag_version.clone()))?);
        Some(Box::new(FinishedRun { snapshot: self.snapshot(row), dag }))
    }

    pub(super) fn clear(&mut self, run: RunKey, selection: ClearSelection) -> Vec<Action> {
        let (request, finished) = (self.request(), self.finished(run));
        self.step(Event::Clear { request, run, selection, is_dry_run: false, finished, latest: false })
    }

    pub(super) fn clear_latest(&mut self, run: RunKey, selection: ClearSelection) -> Vec<Action> {
        let (request, finished) = (self.request(), self.finished(run));
        self.step(Event::Clear { request, run, selection, is_dry_run: false, finished, latest: true })
    }

    pub(super) fn mark(&mut self, run: RunKey, task: &str, state: TaskState) -> Vec<Action> {
        let (request, finished) = (self.request(), self.finished(run));
        let key = Self::key(run, task);
        let map_index = (key.map_index >= 0).then_some(key.map_index);
        let tasks = vec![key.task];
        self.step(Event::MarkTask { request, run, tasks, map_index, state, is_dry_run: false, finished })
    }

    /// Clears a task, or with `m[3]` an element of one.
    pub(super) fn clear_task(&mut self, run: RunKey, task: &str) -> Vec<Action> {
        let key = Self::key(run, task);
        let map_index = (key.map_index >= 0).then_some(key.map_index);
        self.clear(run, ClearSelection { tasks: vec![key.task], map_index, ..ClearSelection::default() })
    }

    /// Forgets the engine and builds it from the rows, as a crash does.
    pub(super) fn restart(&mut self) {
        self.now.mono = Duration::from_secs(5);
        let before = self.engine.durable();
        self.engine = Engine::restore(self.stored(), self.now);
        assert_eq!(self.engine.durable(), before, "a rebuild is not what wrote the rows");
        let actions = self.engine.resume(self.now);
        assert_eq!(actions, [], "a rebuild had something left to do");
    }

    /// Before everything of a run in the order of keys.
    fn first_of(run: RunKey) -> TaskInstanceKey {
        TaskInstanceKey { run, task: task_id("0"), map_index: i32::MIN }
    }

    /// The task rows of a run.
    fn rows_of(&self, run: RunKey) -> impl Iterator<Item = &TaskRow> {
        self.tasks.range(Self::first_of(run)..).map(|(_, row)| row).take_while(move |row| row.key.run == run)
    }

    fn snapshot(&self, row: &RunRow) -> RunSnapshot {
        let tasks = self.rows_of(row.key).cloned().collect();
        let mut fences: BTreeMap<TaskInstanceKey, AttemptKey> = BTreeMap::new();
        let first = Self::first_of(row.key);
        let attempts = self.tries.range(AttemptKey { instance: first, try_number: 0, epoch: 0 }..);
        for (attempt, _) in attempts.take_while(|(attempt, _)| attempt.instance.run == row.key) {
            fences.insert(attempt.instance.clone(), attempt.clone());
        }
        let maps = self.maps.iter().filter(|((run, _), _)| *run == row.key).map(|(_, map)| map.clone());
        RunSnapshot { run: row.clone(), tasks, maps: maps.collect(), fences: fences.into_values().collect() }
    }

    /// What a store would load.
    pub(super) fn stored(&self) -> EngineSnapshot {
        let active: Vec<&RunRow> = self.runs.values().filter(|run| !run.state.is_terminal()).collect();
        EngineSnapshot {
            dags: self
                .dags
                .values()
                .map(|row| {
                    let version = (row.dag_id.clone(), row.version.clone());
                    (row.clone(), Arc::clone(&self.versions[&version]))
                })
                .collect(),
            versions: active
                .iter()
                .map(|run| (run.dag_id.clone(), run.dag_version.clone()))
                .map(|id| (id.clone(), Arc::clone(&self.versions[&id])))
                .collect(),
            runs: active.iter().map(|row| self.snapshot(row)).collect(),
            open_tries: self.tries.values().filter(|row| row.outcome.is_none()).cloned().collect(),
            undefined: Vec::new(),
            pools: self.pools.values().cloned().collect(),
            backfills: self.backfills.values().filter(|row| !row.state.is_terminal()).cloned().collect(),
            next_run_key: {
                let run = self.runs.keys().next_back().map(|key| key.0);
                run.max(self.backfills.keys().next_back().map(|key| key.0)).map_or(0, |key| key + 1)
            },
            asset_queue: self.queue_rows(),
            next_asset_event: self.events.last().map_or(0, |row| row.id.0 + 1),
        }
    }

    fn queue_rows(&self) -> Vec<AssetQueueRow> {
        let mut rows: BTreeMap<(DagId, AssetName), AssetQueueRow> = BTreeMap::new();
        for (dag_id, id) in &self.queue {
            let event = self.events.iter().find(|row| row.id == *id).unwrap();
            rows.entry((dag_id.clone(), event.asset.clone()))
                .and_modify(|row| row.add(event))
                .or_insert_with(|| AssetQueueRow::of(dag_id.clone(), event));
        }
        rows.into_values().collect()
    }

    fn apply_asset(&mut self, change: &AssetChange) {
        match change {
            AssetChange::Event { row, queued_for } => {
                assert!(self.events.iter().all(|known| known.id < row.id), "a number was used again");
                self.events.push(row.clone());
                for dag_id in queued_for {
                    assert!(self.queue.insert((dag_id.clone(), row.id)));
                }
            }
            AssetChange::Take { dag_id, run, count } => {
                let taken: Vec<_> = self.queue.extract_if(.., |(dag, _)| dag == dag_id).collect();
                assert_eq!(taken.len() as u64, *count, "queue guard");
                assert!(self.runs.contains_key(run));
                for key in taken {
                    assert_eq!(self.causes.insert(key, *run), None, "an event was counted twice");
                }
            }
            AssetChange::Drop { dag_id, assets, count } => {
                let events = &self.events;
                let is_of = |id| assets.contains(&events.iter().find(|row| row.id == id).unwrap().asset);
                let gone = self.queue.extract_if(.., |(dag, id)| dag == dag_id && is_of(*id)).count();
                assert_eq!(gone as u64, *count, "queue guard");
            }
        }
    }

    /// Posts an event on an asset.
    pub(super) fn post(&mut self, asset: &str) -> Vec<Action> {
        let request = self.request();
        let asset = AssetName::new(asset).unwrap();
        self.step(Event::AssetPosted { request, asset, extra: AssetExtra::default(), by: None })
    }

    /// The runs of a DAG that assets made, with the assets of the events that they took.
    pub(super) fn by_assets(&self, dag: &str) -> Vec<String> {
        let runs = self.runs.values().filter(|run| run.dag_id.as_str() == dag);
        runs.filter(|run| run.run_type == RunType::Asset)
            .map(|run| {
                let causes = self.causes.iter().filter(|(_, cause)| **cause == run.key);
                let name = |id| self.events.iter().find(|row| row.id == id).unwrap().asset.to_string();
                causes.map(|((_, id), _)| name(*id)).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    /// Nothing that may make a run waits, and what is queued is listened to.
    fn check_assets(&self) {
        for (id, row) in &self.dags {
            let dag = &self.versions[&(id.clone(), row.version.clone())];
            let Some(status) = self.engine.asset_status(id, self.now) else {
                assert!(dag.schedule.assets().is_none());
                continue;
            };
            let queued: u64 = status.assets.iter().map(|queued| queued.count).sum();
            let stored = self.queue.iter().filter(|(dag, _)| dag == id).count();
            assert_eq!(queued, stored as u64, "{id}");
            assert!(!status.waits.is_empty());
            let missing = status.assets.iter().filter(|queued| queued.count == 0).count();
            let is_met = if status.any { missing < status.assets.len() } else { missing == 0 };
            let waits_for_assets = status.waits.iter().any(|wait| matches!(wait, AssetWait::Assets { .. }));
            assert_eq!(is_met, !waits_for_assets, "{status:?}");
        }
    }

    fn apply(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Dag(row) => drop(self.dags.insert(row.dag_id.clone(), row.clone())),
                Action::DeleteDag(id) => {
                    self.dags.remove(id);
                    self.queue.retain(|(dag, _)| dag != id);
                }
                Action::PassedOver(passed) => self.passed_over += passed.count,
                Action::Run(change) => {
                    let stored = self.runs.get(&change.row.key).map(|row| row.state);
                    assert_eq!(stored, change.from, "run guard");
                    if let Some(from) = change.from.filter(|from| *from != change.row.state) {
                        let pair = (from, change.row.state);
                        assert!(RunState::transitions().contains(&pair), "illegal {pair:?}");
                    }
                    assert_eq!(change.row.state.is_terminal(), change.row.finished_at.is_some());
                    let is_twin = |run: &RunRow| {
                        run.run_type == change.row.run_type
                            && matches!(run.run_type, RunType::Scheduled | RunType::Backfill)
                            && (&run.dag_id, run.logical_date)
                                == (&change.row.dag_id, change.row.logical_date)
                    };
                    let twins =
                        self.runs.values().filter(|run| run.key != change.row.key && is_twin(run)).count();
                    assert_eq!(twins, 0, "two scheduled or two backfill runs for one date");
                    let is_same_id = |run: &&RunRow| {
                        run.key != change.row.key
                            && (&run.dag_id, &run.run_id) == (&change.row.dag_id, &change.row.run_id)
                    };
                    assert_eq!(self.runs.values().find(is_same_id), None, "two runs with one id");
                    self.runs.insert(change.row.key, change.row.clone());
                }
                Action::Task(change) => self.apply_task(change),
                Action::Map(change) => {
                    let key = (change.run, change.task.clone());
                    match &change.values {
                        Some(values) => {
                            assert!(!values.is_empty(), "an empty map is not stored");
                            let row = MapRow { task: change.task.clone(), values: Arc::clone(values) };
                            assert!(self.maps.insert(key, row).is_none(), "expanded twice");
                        }
                        None => assert!(self.maps.remove(&key).is_some(), "it was not expanded"),
                    }
                }
                Action::Try(change) => {
                    let former = self.tries.remove(&change.stored_attempt());
                    self.tries.insert(change.row.attempt.clone(), change.row.clone());
                    assert_eq!(former.is_none(), change.is_new, "try guard");
                    assert!(former.is_none_or(|row| row.outcome.is_none()), "an ended try was changed");
                }
                Action::Outputs(change) => {
                    self.outputs.insert(change.attempt.instance.clone(), change.values.clone());
                }
                Action::Asset(change) => self.apply_asset(change),
                Action::Pool(row) => drop(self.pools.insert(row.name.clone(), row.clone())),
                Action::DeletePool(name) => drop(self.pools.remove(name)),
                Action::Assign(Assign { attempt, worker, .. }) => {
                    self.assigned.insert((worker.clone(), attempt.clone()));
                }
                Action::Backfill(row) => {
                    let former = self.backfills.insert(row.key, BackfillRow::clone(row));
                    assert!(former.is_none_or(|row| !row.state.is_terminal()), "an ended backfill changes");
                    assert_eq!(row.state.is_terminal(), row.finished_at.is_some());
                }
                Action::BackfillDate(date) => {
                    let key = (date.backfill, date.logical_date);
                    let former = self.backfill_dates.insert(key, date.clone());
                    assert_eq!(former, None, "a date was dealt with twice");
                }
                Action::Cancel(_) | Action::Notify(_) | Action::Answer(_) => {}
            }
        }
    }

    fn apply_task(&mut self, change: &crate::action::TaskChange) {
        let row = &change.row;
        let stored = self.tasks.get(&row.key).map_or(
            TaskFence { state: TaskState::NoStatus, try_number: 0, epoch: 0 },
            |row| TaskFence { state: row.state, try_number: row.try_number, epoch: row.epoch },
        );
        assert_eq!(stored, change.from, "task guard of {:?}", row.key);
        if change.is_clear {
            assert_eq!(row.state, TaskState::NoStatus);
        } else if change.from.state != row.state {
            let pair = (change.from.state, row.state);
            assert!(TaskState::transitions().contains(&pair), "illegal {pair:?}");
        }
        assert_eq!(row.state.is_terminal(), row.finished_at.is_some(), "{row:?}");
        assert_eq!(row.state == TaskState::UpForRetry, row.retry_at.is_some(), "{row:?}");
        assert_eq!(row.state == TaskState::UpForReschedule, row.next_poke_at.is_some(), "{row:?}");
        assert!(!row.state.has_lease() || row.worker.is_some(), "{row:?}");
        assert!(row.stop.is_none() || row.state.has_lease(), "{row:?}");
        if row.state == TaskState::NoStatus {
            self.tasks.remove(&row.key);
        } else {
            self.tasks.insert(row.key.clone(), row.clone());
        }
    }

    /// The invariants of `style.md`, after every step.
    fn check(&mut self, event: &Event) {
        assert_eq!(
            self.engine.durable(),
            Engine::restore(self.stored(), self.now).durable(),
            "after {event:?}"
        );
        let quiet = self.engine.clone().step(Event::Tick { taken: Vec::new() }, self.now);
        if self.engine.due_dates(self.now).is_empty() {
            assert_eq!(quiet, [], "not quiescent after {event:?}");
        }
        for row in self.tasks.values().filter(|row| row.state != TaskState::Removed) {
            let place = &row.key;
            assert!(self.instances(place.run, &place.task).contains(place), "{place:?} is not in its map");
        }
        let mut live: BTreeMap<&TaskInstanceKey, u32> = BTreeMap::new();
        for row in self.tries.values().filter(|row| row.outcome.is_none()) {
            *live.entry(&row.attempt.instance).or_default() += 1;
            let task = self.tasks.get(&row.attempt.instance);
            let state = task.map(|row| row.state);
            // The try of a sensor goes on between its pokes.
            let is_open = task.is_some_and(|row| {
                row.first_poke_at.is_some()
                    && matches!(row.state, TaskState::UpForReschedule | TaskState::Scheduled)
            });
            assert!(is_open || state.is_some_and(TaskState::has_lease), "a live try of a {state:?} instance");
            let newest = task.map(TaskRow::attempt);
            assert_eq!(newest.as_ref(), Some(&row.attempt), "the live try is not the newest");
        }
        assert!(live.values().all(|count| *count == 1), "two live tries of one instance");
        for row in self.tasks.values().filter(|row| row.state.has_lease()) {
            assert!(live.contains_key(&row.key), "a lease without a live try");
        }
        self.check_assets();
        let leased = live.keys().filter(|key| self.tasks[**key].state.has_lease());
        self.check_limits(&leased.map(|key| (*key).clone()).collect::<Vec<_>>());
    }

    fn check_limits(&self, live: &[TaskInstanceKey]) {
        let is_moving = |run: &&RunRow| {
            run.state == RunState::Running && self.rows_of(run.key).any(|row| !row.state.is_terminal())
        };
        let lane = |run: &RunRow| {
            run.backfill.filter(|key| self.backfills.get(key).is_some_and(|row| !row.state.is_terminal()))
        };
        for (key, row) in &self.backfills {
            let of = self.runs.values().filter(|run| lane(run) == Some(*key)).filter(is_moving);
            assert!(of.count() <= row.spec.max_active_runs as usize, "max_active_runs of backfill {key}");
            let dates = self.backfill_dates.keys().filter(|(backfill, _)| backfill == key).count() as u64;
            assert_eq!(dates, row.dealt_with(), "backfill {key} counts its dates");
        }
        for (id, row) in &self.dags {
            let dag = &self.versions[&(id.clone(), row.version.clone())];
            // One that stands still until an earlier run has gone on makes room for that.
            let own = self.runs.values().filter(|run| run.dag_id == *id && lane(run).is_none());
            let running = own.filter(is_moving);
            // A lowered limit takes effect as runs end.
            if self.versions.keys().filter(|(dag, _)| dag == id).count() == 1 {
                assert!(running.count() <= dag.max_active_runs as usize);
                let leased = live.iter().filter(|key| self.runs[&key.run].dag_id == *id).count();
                assert!(leased <= dag.max_active_tasks as usize, "max_active_tasks");
            }
        }
    }

    /// What was given away just now was there to give: what is lowered later takes nothing back, so each limit is
    /// checked where something new counts against it.
    fn check_assigned(&self, actions: &[Action]) {
        let is_leased = |row: &&TryRow| self.tasks[&row.attempt.instance].state.has_lease();
        let live: Vec<&TryRow> =
            self.tries.values().filter(|row| row.outcome.is_none()).filter(is_leased).collect();
        let task_of = |key: &TaskInstanceKey| {
            let run = &self.runs[&key.run];
            let dag = &self.versions[&(run.dag_id.clone(), run.dag_version.clone())];
            (run.dag_id.clone(), dag.tasks.iter().find(|task| task.id == key.task).unwrap())
        };
        for action in actions {
            let Action::Assign(Assign { attempt, worker, is_redelivery: false }) = action else { continue };
            let held = live.iter().filter(|row| row.worker == *worker).count();
            let (_, capacity) = &self.capacity[worker];
            assert!(held <= *capacity as usize, "{worker} holds {held} of {capacity}");
            let (dag_id, task) = task_of(&attempt.instance);
            let of_pool =
                live.iter().map(|row| task_of(&row.attempt.instance).1).filter(|t| t.pool == task.pool);
            let used: u32 = of_pool.map(|task| task.pool_slots).sum();
            let slots = self.pools[&task.pool].slots;
            assert!(used <= slots, "{used} of {slots} slots of {} are used", task.pool);
            let newest = self.newest(&dag_id);
            let of_dag =
                || live.iter().map(|row| task_of(&row.attempt.instance)).filter(|(id, _)| *id == dag_id);
            assert!(of_dag().count() <= newest.max_active_tasks as usize, "max_active_tasks");
            if let Some(limit) = task.max_active_per_run {
                let same = |row: &&&TryRow| {
                    row.attempt.instance.run == attempt.instance.run && row.attempt.instance.task == task.id
                };
                assert!(
                    live.iter().filter(same).count() <= limit as usize,
                    "max_active_per_run of {}",
                    task.id
                );
            }
            let limit = newest.tasks.iter().find(|t| t.id == task.id).and_then(|t| t.max_active_per_dag);
            if let Some(limit) = limit.filter(|_| task.max_active_per_dag.is_some()) {
                let of_task =
                    of_dag().filter(|(_, t)| t.id == task.id && t.max_active_per_dag.is_some()).count();
                assert!(of_task <= limit as usize, "max_active_per_dag of {}", task.id);
            }
        }
    }

    /// Whatever kinds of instances there are: those that the engine holds and those that are stored.
    fn check_open(&self, run: RunKey) {
        let all: BTreeMap<TaskInstanceKey, WaitReason> =
            self.engine.explain_all(run, usize::MAX, self.now).into_iter().collect();
        let open = self.rows_of(run).filter(|row| !row.state.is_terminal());
        for row in open {
            let reason = all.get(&row.key).unwrap_or_else(|| panic!("{:?} has no reason", row.key));
            let is_leased = matches!(
                reason,
                WaitReason::Running { .. } | WaitReason::Starting { .. } | WaitReason::Stopping { .. }
            );
            assert_eq!(row.state.has_lease(), is_leased, "{:?}: {reason}", row.key);
        }
        for (key, reason) in &all {
            let is_idle = matches!(
                reason,
                WaitReason::Inconsistent { .. } | WaitReason::Next | WaitReason::Ended { .. }
            );
            assert!(!is_idle, "{key:?}: {reason} in {}", self.line(run));
        }
        let told = self.engine.explain_run(run, self.now);
        assert!(!told.is_empty(), "{run:?} is active and nobody says why: {}", self.line(run));
    }

    /// Every unfinished instance of an active run has a lease or a reason, and so has every active run.
    fn check_reasons(&self) {
        for run in self.runs.values().filter(|run| !run.state.is_terminal()) {
            self.check_open(run.key);
            let dag = &self.versions[&(run.dag_id.clone(), run.dag_version.clone())];
            for key in dag.tasks.iter().flat_map(|task| self.instances(run.key, &task.id)) {
                let reasons = self.engine.explain(&key, self.now);
                assert!(!reasons.is_empty(), "{key:?} has no reason");
                let bad = reasons.iter().any(|r| matches!(r, WaitReason::Inconsistent { .. }));
                assert!(!bad, "{key:?}: {reasons:?} in {}", self.line(run.key));
                assert!(
                    !reasons.contains(&WaitReason::Next),
                    "{key:?} is next and nobody takes it: {}",
                    self.line(run.key)
                );
            }
        }
    }
}

pub(super) fn result(outcome: TryOutcome) -> AttemptResult {
    AttemptResult { outcome, exit_code: None, is_final: false, reason: None, follow: None, started_at: None }
}

pub(super) fn following(ids: &[&str]) -> AttemptResult {
    let follow = Some(ids.iter().map(|id| (*id).to_owned()).collect());
    AttemptResult { follow, ..result(TryOutcome::Success) }
}

pub(super) fn refusal(actions: &[Action]) -> Option<Refusal> {
    actions.iter().find_map(|action| match action {
        Action::Answer(answer) => match &answer.reply {
            Reply::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        },
        _ => None,
    })
}
