//! The life of one attempt as a pure state machine: what happened goes in, what must be done comes out.
//!
//! ```text
//! Waiting ──start──▶ Starting ──spawned──▶ Running ──exited──────────────▶ Sweeping ──swept──▶ Draining ──▶ Done
//!    │                  │                     │ stop, timeout                 ▲                    ▲
//!    │ stop             │ cannot start        ▼                               │ killed and swept   │
//!    ▼                  └──────────────┐   Stopping ──group empty, grace over─┴── Killing ─────────┘
//!   Done                               └──────────────────────────────────────────────▶ Draining
//! ```
//!
//! **Invariants:** nothing is reported before the process tree is proven dead (`Swept`) and the log is drained;
//! the first cause of an end is the one that is reported, except that a lost lease silences the report; each
//! effect is asked for once.

use tidemill_protocol::worker::StopReason;

/// Why an attempt is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its own `timeout`.
    TimedOut,
    /// The server wants it stopped.
    Stopped(StopReason),
    /// The worker shuts down.
    WorkerStops,
    /// No contact with the server for too long.
    LostContact,
    /// The server gave the lease away. Nothing is reported.
    Fenced,
}

/// How the main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With a code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is a slot and enough of the lease.
    Start,
    /// The process runs.
    Spawned,
    /// There is no process.
    CannotStart,
    /// The main process ended.
    Exited(Exit),
    /// The worker takes nothing new: give it back unless it has started.
    Drain,
    /// End it: SIGTERM, grace, SIGKILL.
    Stop(Cause),
    /// End it at once.
    Kill(Cause),
    /// Nothing is left in the process group of a stopped attempt.
    GroupEmpty,
    /// The grace is over.
    GraceOver,
    /// Nothing of the process tree lives any more.
    Swept,
    /// The log is shipped up to what rides with the result.
    Drained,
}

/// What must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start the process.
    Spawn,
    /// SIGTERM to the group, and start the grace.
    Terminate,
    /// SIGKILL to everything, repeated until it is proven dead; answered by `Swept`.
    Kill,
    /// Kill what the main process left behind; answered by `Swept`.
    Sweep,
    /// Write the end marker, ship the log; answered by `Drained`.
    Drain(Ending),
    /// Report the result.
    Report(Ending),
    /// Report that it was never started.
    HandBack,
    /// Forget it without a report.
    Forget,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself.
    Exited(Exit),
    /// It never ran.
    CannotStart,
    /// From outside; with the end of its main process, if it had one.
    Caused(Cause, Option<Exit>),
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Starting { cause: Option<Cause>, at_once: bool },
    Running,
    Stopping { cause: Cause, exit: Option<Exit> },
    Killing { cause: Cause, exit: Option<Exit>, is_swept: bool },
    Sweeping { ending: Ending, fenced: bool },
    Draining { ending: Ending },
    Done,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    state: State,
}

impl Machine {
    /// Returns an attempt that waits for a slot.
    pub(crate) const fn new() -> Self {
        Self { state: State::Waiting }
    }

    /// Whether nothing more will happen.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the grace of a stop runs.
    pub(crate) const fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping { .. })
    }

    /// Whether the main process of a stopped attempt has ended, so that only its group is waited for.
    pub(crate) const fn is_waiting_for_group(&self) -> bool {
        matches!(self.state, State::Stopping { exit: Some(_), .. })
    }

    /// Whether the process may still end by itself.
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// Applies one event. An event that has no meaning in the present state changes nothing.
    pub(crate) fn step(&mut self, event: Event) -> Vec<Effect> {
        let (state, effects) = next(self.state, event);
        self.state = state;
        effects
    }
}

fn next(state: State, event: Event) -> (State, Vec<Effect>) {
    use State::{Done, Draining, Killing, Running, Starting, Stopping, Sweeping, Waiting};
    match (state, event) {
        (Waiting, Event::Start) => (Starting { cause: None, at_once: false }, vec![Effect::Spawn]),
        (Waiting, Event::Stop(cause) | Event::Kill(cause)) => (Done, vec![end_unstarted(cause)]),

        (Waiting, Event::Drain) => (Done, vec![Effect::HandBack]),

        // A request that comes while the process is being made is kept until there is one.
        (Starting { cause, at_once }, Event::Stop(new)) => {
            (Starting { cause: Some(first(cause, new)), at_once }, vec![])
        }
        (Starting { cause, .. }, Event::Kill(new)) => {
            (Starting { cause: Some(first(cause, new)), at_once: true }, vec![])
        }
        (Starting { cause: None, .. }, Event::Spawned) => (Running, vec![]),
        (Starting { cause: Some(cause), at_once }, Event::Spawned) => stop(cause, at_once),
        (Starting { cause: Some(Cause::Fenced), .. }, Event::CannotStart) => (Done, vec![Effect::Forget]),
        (Starting { .. }, Event::CannotStart) => drain(Ending::CannotStart),

        (Running, Event::Exited(exit)) => {
            (Sweeping { ending: Ending::Exited(exit), fenced: false }, vec![Effect::Sweep])
        }
        (Running, Event::Stop(cause)) => stop(cause, false),
        (Running, Event::Kill(cause)) => stop(cause, true),

        (Stopping { cause, .. }, Event::Exited(exit)) => (Stopping { cause, exit: Some(exit) }, vec![]),
        (Stopping { cause, exit: Some(exit) }, Event::GroupEmpty) => {
            (Sweeping { ending: Ending::Caused(cause, Some(exit)), fenced: false }, vec![Effect::Sweep])
        }
        (Stopping { cause, exit }, Event::GraceOver) => {
            (Killing { cause, exit, is_swept: false }, vec![Effect::Kill])
        }
        (Stopping { cause, exit }, Event::Kill(new)) => {
            (Killing { cause: first(Some(cause), new), exit, is_swept: false }, vec![Effect::Kill])
        }
        (Stopping { cause, exit }, Event::Stop(new)) => {
            (Stopping { cause: first(Some(cause), new), exit }, vec![])
        }

        (Killing { cause, is_swept: true, .. }, Event::Exited(exit)) => {
            drain(Ending::Caused(cause, Some(exit)))
        }
        (Killing { cause, .. }, Event::Exited(exit)) => {
            (Killing { cause, exit: Some(exit), is_swept: false }, vec![])
        }
        (Killing { cause, exit: Some(exit), .. }, Event::Swept) => drain(Ending::Caused(cause, Some(exit))),
        (Killing { cause, exit: None, .. }, Event::Swept) => {
            (Killing { cause, exit: None, is_swept: true }, vec![])
        }
        (Killing { cause, exit, is_swept }, Event::Kill(new) | Event::Stop(new)) => {
            (Killing { cause: first(Some(cause), new), exit, is_swept }, vec![])
        }

        (Sweeping { ending, fenced: false }, Event::Swept) => drain(ending),
        (Sweeping { ending, fenced: true }, Event::Swept) => {
            let exit = match ending {
                Ending::Exited(exit) | Ending::Caused(_, Some(exit)) => Some(exit),
                Ending::CannotStart | Ending::Caused(_, None) => None,
            };
            drain(Ending::Caused(Cause::Fenced, exit))
        }
        (Sweeping { ending, .. }, Event::Kill(Cause::Fenced)) => (Sweeping { ending, fenced: true }, vec![]),

        (Draining { ending: Ending::Caused(Cause::Fenced, _) }, Event::Drained) => {
            (Done, vec![Effect::Forget])
        }
        (Draining { ending }, Event::Drained) => (Done, vec![Effect::Report(ending)]),
        // A server that cannot be reached must not hold a fenced attempt for ever.
        (Draining { .. }, Event::Kill(Cause::Fenced)) => (Done, vec![Effect::Forget]),

        (state, _) => (state, vec![]),
    }
}

fn stop(cause: Cause, at_once: bool) -> (State, Vec<Effect>) {
    if at_once {
        (State::Killing { cause, exit: None, is_swept: false }, vec![Effect::Kill])
    } else {
        (State::Stopping { cause, exit: None }, vec![Effect::Terminate])
    }
}

fn drain(ending: Ending) -> (State, Vec<Effect>) {
    (State::Draining { ending }, vec![Effect::Drain(ending)])
}

/// The first cause counts, but a fence silences the report whenever it comes.
fn first(earlier: Option<Cause>, new: Cause) -> Cause {
    match (earlier, new) {
        (_, Cause::Fenced) => Cause::Fenced,
        (Some(cause), _) => cause,
        (None, cause) => cause,
    }
}

fn end_unstarted(cause: Cause) -> Effect {
    match cause {
        // The server renews nothing that it has given away, and what it has not it delivers again.
        Cause::Fenced | Cause::LostContact => Effect::Forget,
        Cause::WorkerStops => Effect::HandBack,
        Cause::Stopped(_) | Cause::TimedOut => Effect::Report(Ending::Caused(cause, None)),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(events: &[Event], expected: Expect) {
        let mut machine = Machine::new();
        let lines: Vec<String> =
            events.iter().map(|event| format!("{event:?} -> {:?}\n", machine.step(*event))).collect();
        expected.assert_eq(&lines.concat());
    }

    const STOP: Event = Event::Stop(Cause::Stopped(StopReason::Cancelled));

    #[test]
    fn an_end_by_itself_is_swept_and_drained_before_it_is_reported() {
        check(
            &[Event::Start, Event::Spawned, Event::Exited(Exit::Code(0)), Event::Swept, Event::Drained, STOP],
            expect![[r#"
                Start -> [Spawn]
                Spawned -> []
                Exited(Code(0)) -> [Sweep]
                Swept -> [Drain(Exited(Code(0)))]
                Drained -> [Report(Exited(Code(0)))]
                Stop(Stopped(Cancelled)) -> []
            "#]],
        );
    }

    #[test]
    fn a_stop_waits_for_the_whole_group_and_keeps_its_first_cause() {
        check(
            &[
                Event::Start,
                Event::Spawned,
                Event::Stop(Cause::TimedOut),
                STOP,
                Event::GroupEmpty,
                Event::Exited(Exit::Signal(15)),
                Event::GroupEmpty,
                Event::Swept,
                Event::Drained,
            ],
            expect![[r#"
                Start -> [Spawn]
                Spawned -> []
                Stop(TimedOut) -> [Terminate]
                Stop(Stopped(Cancelled)) -> []
                GroupEmpty -> []
                Exited(Signal(15)) -> []
                GroupEmpty -> [Sweep]
                Swept -> [Drain(Caused(TimedOut, Some(Signal(15))))]
                Drained -> [Report(Caused(TimedOut, Some(Signal(15))))]
            "#]],
        );
    }

    #[test]
    fn a_stubborn_process_is_killed_and_the_end_needs_both_proofs() {
        check(
            &[
                Event::Start,
                Event::Spawned,
                STOP,
                Event::GraceOver,
                Event::Swept,
                Event::Exited(Exit::Signal(9)),
                Event::Drained,
            ],
            expect![[r#"
                Start -> [Spawn]
                Spawned -> []
                Stop(Stopped(Cancelled)) -> [Terminate]
                GraceOver -> [Kill]
                Swept -> []
                Exited(Signal(9)) -> [Drain(Caused(Stopped(Cancelled), Some(Signal(9))))]
                Drained -> [Report(Caused(Stopped(Cancelled), Some(Signal(9))))]
            "#]],
        );
    }

    #[test]
    fn a_fence_silences_the_report_wherever_it_comes() {
        let fence = Event::Kill(Cause::Fenced);
        check(
            &[
                Event::Start,
                Event::Spawned,
                fence,
                Event::Exited(Exit::Signal(9)),
                Event::Swept,
                Event::Drained,
            ],
            expect![[r#"
                Start -> [Spawn]
                Spawned -> []
                Kill(Fenced) -> [Kill]
                Exited(Signal(9)) -> []
                Swept -> [Drain(Caused(Fenced, Some(Signal(9))))]
                Drained -> [Forget]
            "#]],
        );
        check(
            &[
                Event::Start,
                Event::Spawned,
                Event::Exited(Exit::Code(0)),
                fence,
                Event::Swept,
                Event::Drained,
            ],
            expect![[r#"
                Start -> [Spawn]
                Spawned -> []
                Exited(Code(0)) -> [Sweep]
                Kill(Fenced) -> []
                Swept -> [Drain(Caused(Fenced, Some(Code(0))))]
                Drained -> [Forget]
            "#]],
        );
    }

    #[test]
    fn what_was_not_started_is_handed_back_stopped_or_forgotten() {
        check(&[Event::Stop(Cause::WorkerStops)], expect![["Stop(WorkerStops) -> [HandBack]\n"]]);
        check(&[Event::Drain], expect![["Drain -> [HandBack]\n"]]);
        check(&[Event::Start, Event::Drain], expect![["Start -> [Spawn]\nDrain -> []\n"]]);
        check(&[Event::Kill(Cause::LostContact)], expect![["Kill(LostContact) -> [Forget]\n"]]);
        check(
            &[STOP, Event::Start],
            expect![[r#"
                Stop(Stopped(Cancelled)) -> [Report(Caused(Stopped(Cancelled), None))]
                Start -> []
            "#]],
        );
        check(
            &[Event::Start, STOP, Event::CannotStart, Event::Drained],
            expect![[r#"
                Start -> [Spawn]
                Stop(Stopped(Cancelled)) -> []
                CannotStart -> [Drain(CannotStart)]
                Drained -> [Report(CannotStart)]
            "#]],
        );
        check(
            &[Event::Start, STOP, Event::Spawned],
            expect![[r#"
                Start -> [Spawn]
                Stop(Stopped(Cancelled)) -> []
                Spawned -> [Terminate]
            "#]],
        );
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let cause = prop_oneof![
            Just(Cause::TimedOut),
            Just(Cause::Stopped(StopReason::Cleared)),
            Just(Cause::WorkerStops),
            Just(Cause::LostContact),
            Just(Cause::Fenced),
        ];
        let exit = prop_oneof![(0..3i32).prop_map(Exit::Code), Just(Exit::Signal(9))];
        prop_oneof![
            Just(Event::Start),
            Just(Event::Spawned),
            Just(Event::CannotStart),
            exit.prop_map(Event::Exited),
            cause.clone().prop_map(Event::Stop),
            cause.prop_map(Event::Kill),
            Just(Event::GroupEmpty),
            Just(Event::Drain),
            Just(Event::GraceOver),
            Just(Event::Swept),
            Just(Event::Drained),
        ]
    }

    proptest! {
        /// Whatever order events come in: one spawn, one last word, no report of a process that was not proven
        /// dead, none after a fence.
        #[test]
        fn every_order_of_events_keeps_the_invariants(events in prop::collection::vec(any_event(), 0..40)) {
            let mut machine = Machine::new();
            let (mut spawns, mut ends, mut is_made, mut spawned) = (0, 0, false, false);
            let (mut swept, mut fenced) = (false, false);
            for event in events {
                let was_done = machine.is_done();
                let effects = machine.step(event);
                prop_assert!(!was_done || effects.is_empty());
                // Only the first answer to a spawn counts, and only a proof after it.
                if spawns == 1 && !is_made && matches!(event, Event::Spawned | Event::CannotStart) {
                    is_made = true;
                    spawned = event == Event::Spawned;
                }
                swept |= spawned && event == Event::Swept;
                // A fence that comes when all is said cannot take it back.
                fenced |= matches!(event, Event::Kill(Cause::Fenced)) && !was_done;
                for effect in effects {
                    match effect {
                        Effect::Spawn => spawns += 1,
                        Effect::Report(_) => {
                            ends += 1;
                            prop_assert!(!spawned || swept);
                            prop_assert!(!fenced);
                        }
                        Effect::HandBack => {
                            ends += 1;
                            prop_assert!(!spawned);
                        }
                        Effect::Forget => ends += 1,
                        Effect::Terminate | Effect::Kill | Effect::Sweep | Effect::Drain(_) => {}
                    }
                }
            }
            prop_assert!(spawns <= 1 && ends <= 1);
            prop_assert_eq!(machine.is_done(), ends == 1);
        }
    }
}
