//! The loop around one attempt: turns timers, the child, the server's wishes and finished chores into events
//! for the machine, and its effects into chores. It decides nothing.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use chrono::Utc;
use tidemill_engine::mask::Masker;
use tidemill_protocol::worker::{Assignment, AttemptKey, MIN_LEASE_TO_START_SECONDS, StartedNote};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    files::Files,
    machine::{Cause, Effect, Ending, Event, Exit, Machine},
    report::{self, Facts},
    slot::Slot,
};
use crate::{
    clock::boottime_ms,
    context::Context,
    log::{LogEnd, Shipper},
    outcome::Problem,
    process::{cgroup, child::Child, tree::Target},
    start::{self, Started},
};

/// A try that is still going after this long gets its start reported and its log shipped while it grows. A
/// shorter one says both with its result, which saves two requests for each.
const NOTE_AFTER: Duration = Duration::from_millis(150);
/// How often the group of a stopped try is looked at.
const GROUP_INTERVAL: Duration = Duration::from_millis(20);

/// What a chore came back with.
enum Done {
    Started(Result<Box<Started>, Problem>),
    Swept,
    Drained(LogEnd),
}

struct Driver {
    context: Arc<Context>,
    assignment: Arc<Assignment>,
    files: Files,
    machine: Machine,
    permit: Option<OwnedSemaphorePermit>,
    child: Option<Child>,
    target: Option<Target>,
    facts: Facts,
    oom_kills_before: u64,
    /// It ended as something ends that the kernel kills when memory runs out.
    was_killed: bool,
    log_end: LogEnd,
    masker: Arc<Masker>,
    pump: Option<(JoinHandle<Shipper>, Arc<Notify>)>,
    chores: mpsc::UnboundedSender<Done>,
    timeout_at: Option<Instant>,
    grace_at: Option<Instant>,
    note_at: Option<Instant>,
    was_started: bool,
}

/// Drives one attempt from its assignment to its report.
pub(crate) async fn drive(
    context: Arc<Context>,
    assignment: Assignment,
    mut control: mpsc::UnboundedReceiver<Event>,
    slot: Slot,
) {
    let (chores, mut done) = mpsc::unbounded_channel();
    let files = Files::new(&context.options, &assignment.attempt);
    let masker = Arc::new(Masker::new(&assignment.secrets));
    let mut driver = Driver {
        context: context.clone(),
        assignment: Arc::new(assignment),
        files,
        machine: Machine::new(),
        permit: None,
        child: None,
        target: None,
        facts: Facts::default(),
        oom_kills_before: 0,
        was_killed: false,
        log_end: LogEnd::default(),
        masker,
        pump: None,
        chores,
        timeout_at: None,
        grace_at: None,
        note_at: None,
        was_started: false,
    };
    let attempt = driver.assignment.attempt.clone();
    let mut gate = Box::pin(wait_for_start(context, attempt, slot));
    let mut is_waiting = true;
    while !driver.machine.is_done() {
        let is_group_watched = driver.machine.is_waiting_for_group();
        tokio::select! {
            // The server's wishes first: a fence must not wait behind anything.
            biased;
            Some(event) = control.recv() => driver.apply(event),
            permit = &mut gate, if is_waiting => {
                is_waiting = false;
                driver.permit = permit;
                driver.apply(Event::Start);
            }
            Some(chore) = done.recv() => driver.finish_chore(chore),
            exit = wait(&mut driver.child) => driver.exited(exit),
            () = at(driver.grace_at), if driver.machine.is_stopping() => driver.apply(Event::GraceOver),
            () = at(driver.timeout_at), if driver.machine.is_running() => {
                driver.apply(Event::Stop(Cause::TimedOut));
            }
            () = at(driver.note_at) => driver.note(),
            () = tokio::time::sleep(GROUP_INTERVAL), if is_group_watched => {
                if driver.is_group_empty() {
                    driver.apply(Event::GroupEmpty);
                }
            }
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

async fn wait(child: &mut Option<Child>) -> Exit {
    let Some(running) = child else { return pending().await };
    let exit = running.wait().await;
    *child = None;
    exit.unwrap_or_else(|error| {
        // Only when somebody else has read the exit code, which no code here does.
        tracing::error!(%error, "the exit code of a try is lost");
        Exit::Signal(0)
    })
}

/// Waits for a slot and for enough of the lease.
async fn wait_for_start(
    context: Arc<Context>,
    attempt: AttemptKey,
    slot: Slot,
) -> Option<OwnedSemaphorePermit> {
    let permit = slot.acquire().await;
    loop {
        let renewed = context.ledger.renewed.notified();
        let Some(until) = context.ledger.lease_until_ms(&attempt) else { return permit };
        if until.saturating_sub(boottime_ms()) >= MIN_LEASE_TO_START_SECONDS * 1_000 {
            return permit;
        }
        context.ledger.beat_now.notify_one();
        let _ = tokio::time::timeout(Duration::from_secs(1), renewed).await;
    }
}

impl Driver {
    fn apply(&mut self, event: Event) {
        for effect in self.machine.step(event) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn => self.spawn(),
            Effect::Terminate => self.terminate(),
            Effect::Kill | Effect::Sweep => self.sweep(effect == Effect::Sweep),
            Effect::Drain(ending) => self.drain(ending),
            Effect::Report(ending) => {
                let log = std::mem::take(&mut self.log_end);
                let report = report::report(&self.assignment, &self.files, ending, &self.facts, log);
                let report = report::masked(report, &self.masker);
                tracing::info!(
                    dag.id = %self.assignment.dag_id, run.id = %self.assignment.run_id,
                    task.id = %self.assignment.attempt.instance.task,
                    try.number = self.assignment.attempt.try_number,
                    outcome = %report.outcome, reason = report.reason, "a try has ended"
                );
                self.context.counts.count(report.outcome);
                self.context.ledger.finish(report, self.was_started.then(|| self.files.folder.clone()));
            }
            Effect::HandBack => {
                let report = report::hand_back(&self.assignment);
                self.context.counts.count(report.outcome);
                self.context.ledger.finish(report, None);
            }
            Effect::Forget => {
                if self.was_started {
                    self.context.remove_folder(self.files.folder.clone());
                }
                self.context.ledger.forget(&self.assignment.attempt, self.was_started);
            }
        }
    }

    fn spawn(&mut self) {
        self.was_started = true;
        self.oom_kills_before = self.context.oom_kills.load(Ordering::Relaxed);
        let (context, assignment, files) =
            (self.context.clone(), self.assignment.clone(), self.files.clone());
        let chores = self.chores.clone();
        tokio::task::spawn_blocking(move || {
            let started = start::start(&context, &assignment, &files).map(Box::new);
            let _ = chores.send(Done::Started(started));
        });
    }

    fn finish_chore(&mut self, chore: Done) {
        match chore {
            Done::Started(Ok(started)) => {
                let now = Instant::now();
                self.timeout_at = self.assignment.timeout_ms.map(|ms| now + Duration::from_millis(ms));
                self.note_at = Some(now + NOTE_AFTER);
                self.facts.started_at = Some(Utc::now());
                self.child = Some(started.child);
                self.target = Some(started.target);
                self.apply(Event::Spawned);
            }
            Done::Started(Err(problem)) => {
                self.facts.problem = Some(problem);
                self.apply(Event::CannotStart);
            }
            Done::Swept => {
                if let Some(target) = self.target.take() {
                    self.facts.is_out_of_memory = self.was_killed
                        && target.cgroup.as_deref().and_then(cgroup::oom_kills).map_or_else(
                            || cgroup::oom_kills_around() > self.oom_kills_before,
                            |kills| kills > 0,
                        );
                    start::release(&self.context, &self.assignment.attempt, &target);
                }
                // The process tree is gone, so the next try may have the slot while the log is shipped.
                self.permit = None;
                self.apply(Event::Swept);
            }
            Done::Drained(end) => {
                self.log_end = end;
                self.apply(Event::Drained);
            }
        }
    }

    fn exited(&mut self, exit: Exit) {
        if let Some(group) = self.target.as_ref().and_then(|target| target.group) {
            self.context.children.remove(group);
        }
        self.was_killed = matches!(exit, Exit::Signal(9) | Exit::Code(137));
        if matches!(exit, Exit::Signal(9)) && self.files.killed_by_guardian().exists() {
            self.apply(Event::Kill(Cause::LostContact));
        }
        self.apply(Event::Exited(exit));
    }

    fn terminate(&mut self) {
        self.grace_at = Some(Instant::now() + self.context.options.grace);
        // The main process is not waited for yet or still runs, so the number of its group is still its own.
        let group = self.target.as_ref().and_then(|target| target.group);
        if let (Some(_), Some(group)) = (&self.child, group.and_then(rustix::process::Pid::from_raw)) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        }
    }

    fn is_group_empty(&self) -> bool {
        // Dead orphans count as members until somebody reads their exit codes.
        self.context.children.orphans();
        let group = self.target.as_ref().and_then(|target| target.group);
        group
            .and_then(rustix::process::Pid::from_raw)
            .is_none_or(|group| rustix::process::test_kill_process_group(group).is_err())
    }

    /// Proves that nothing of the try lives, killing what does.
    fn sweep(&self, main_has_ended: bool) {
        let Some(target) = self.target.clone() else {
            let _ = self.chores.send(Done::Swept);
            return;
        };
        if main_has_ended && start::is_clean(&self.context, &target) {
            let _ = self.chores.send(Done::Swept);
            return;
        }
        let (context, attempt) = (self.context.clone(), self.assignment.attempt.clone());
        let chores = self.chores.clone();
        tokio::task::spawn_blocking(move || {
            start::kill(&context, &attempt, &target);
            let _ = chores.send(Done::Swept);
        });
    }

    fn note(&mut self) {
        self.note_at = None;
        if self.child.is_none() {
            return;
        }
        if let Ok(shipper) = self.open_log() {
            let finish = Arc::new(Notify::new());
            self.pump = Some((tokio::spawn(shipper.pump(finish.clone())), finish));
        }
        let note = StartedNote {
            worker: self.context.options.worker.clone(),
            attempt: self.assignment.attempt.clone(),
            started_at: self.facts.started_at.unwrap_or_else(Utc::now),
        };
        let context = self.context.clone();
        tokio::spawn(async move {
            if let Err(error) = context.client.started(&note).await {
                tracing::debug!(%error, "a start could not be reported; the result will say it");
            }
        });
    }

    fn open_log(&self) -> std::io::Result<Shipper> {
        let (attempt, token) = (self.assignment.attempt.clone(), self.assignment.token.clone());
        Shipper::open(self.context.client.clone(), attempt, token, &self.files.log(), self.masker.clone())
    }

    fn drain(&mut self, ending: Ending) {
        let pump = self.pump.take();
        let fresh = if pump.is_none() { self.open_log().ok() } else { None };
        let why = report::explain(ending, &self.facts, self.assignment.timeout_ms);
        let is_fenced = matches!(ending, Ending::Caused(Cause::Fenced, _));
        let chores = self.chores.clone();
        tokio::spawn(async move {
            let shipper = match pump {
                Some((task, finish)) => {
                    finish.notify_one();
                    task.await.ok()
                }
                None => fresh,
            };
            let mut end = LogEnd::default();
            if let Some(mut shipper) = shipper {
                if let Some(why) = why {
                    shipper.write_marker(&why.to_string());
                }
                if is_fenced {
                    shipper.finish_all().await;
                } else {
                    end = shipper.finish().await;
                }
            }
            let _ = chores.send(Done::Drained(end));
        });
    }
}
