//! The states of dag runs, task instances and tries, and which transition is legal.
//!
//! The words here are the words of the database, of JSON, of logs and of CSS classes. The store builds its
//! transition tables from [`TaskState::transitions`] and [`RunState::transitions`], so the database refuses
//! what the engine refuses.

use serde::{Deserialize, Serialize};

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the stable word used by the database, JSON, logs and CSS.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Returns the value that the word stands for.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use word_enum;

word_enum! {
    /// The state of a dag run.
    RunState {
        /// Created, waiting for `max_active_runs`. Entered at creation and by a clear of a finished run.
        Queued = "queued",
        /// Its task instances are being decided and executed. A crash leaves it here; rebuild goes on.
        Running = "running",
        /// Parked for a person by a policy; goes on as `running` or ends as `cancelled`.
        Paused = "paused",
        /// Every leaf ended in success or skipped.
        Success = "success",
        /// A leaf failed, nothing could move any more, or the run timed out.
        Failed = "failed",
        /// A person cancelled it and everything it held has stopped.
        Cancelled = "cancelled",
    }
}

impl RunState {
    /// Whether the run has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Cancelled)
    }

    /// Every legal pair (from, to) of single steps; creation is `queued`.
    #[must_use]
    pub fn transitions() -> Vec<(Self, Self)> {
        use RunState::{Cancelled, Failed, Paused, Queued, Running, Success};
        vec![
            (Queued, Running),
            (Queued, Cancelled),
            (Queued, Success),
            (Queued, Failed),
            (Running, Success),
            (Running, Failed),
            (Running, Cancelled),
            (Running, Paused),
            (Paused, Running),
            (Paused, Cancelled),
            // A mark, or the end of the run's time.
            (Paused, Success),
            (Paused, Failed),
            (Success, Queued),
            (Failed, Queued),
            (Cancelled, Queued),
            // A mark on a finished run replaces its verdict.
            (Success, Failed),
            (Failed, Success),
            (Cancelled, Success),
            (Cancelled, Failed),
        ]
    }
}

word_enum! {
    /// How a dag run came to be; part of the unique key of scheduled and backfill runs.
    RunType {
        /// Created by the timetable.
        Scheduled = "scheduled",
        /// Triggered by a person or over the API.
        Manual = "manual",
        /// Created by a backfill.
        Backfill = "backfill",
        /// Created by asset events.
        Asset = "asset",
        /// Created by a metric policy.
        Policy = "policy",
    }
}

word_enum! {
    /// The state of a task instance.
    TaskState {
        /// Exists in the graph, nothing decided. Never stored: absence says it. A clear returns here.
        NoStatus = "no_status",
        /// Its trigger rule holds; waits for a slot, a limit or a worker.
        Scheduled = "scheduled",
        /// Assigned to a worker and leased; its start is not yet reported.
        Queued = "queued",
        /// Start reported, lease held.
        Running = "running",
        /// A try failed and the next one waits for its time.
        UpForRetry = "up_for_retry",
        /// A sensor waits for its next poke.
        UpForReschedule = "up_for_reschedule",
        /// Waits for a person.
        AwaitingInput = "awaiting_input",
        /// Done.
        Success = "success",
        /// Failed and no try is left.
        Failed = "failed",
        /// Deliberately not executed.
        Skipped = "skipped",
        /// Not executed because an upstream failed.
        UpstreamFailed = "upstream_failed",
        /// Its task is not in the DAG version any more.
        Removed = "removed",
    }
}

impl TaskState {
    /// Whether nothing more happens without a clear or a mark.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Skipped | Self::UpstreamFailed | Self::Removed)
    }

    /// Whether a worker holds a lease. A lease exists exactly in `queued` and `running`.
    #[must_use]
    pub const fn has_lease(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }

    /// Every legal pair (from, to) of a committed batch. A batch coalesces several single steps of one row,
    /// so this is the closure over what one batch can do; a clear always passes through `no_status`, and a
    /// row that a clear touches is written with `no_status` as its previous state.
    #[must_use]
    pub fn transitions() -> Vec<(Self, Self)> {
        use TaskState::{
            AwaitingInput, Failed, NoStatus, Queued, Removed, Running, Scheduled, Skipped, Success,
            UpForReschedule, UpForRetry, UpstreamFailed,
        };
        let waiting = [Scheduled, UpForRetry, UpForReschedule, AwaitingInput];
        let ends = [Success, Failed, Skipped, UpstreamFailed, Removed];
        let mut pairs = Vec::new();
        // From nothing decided, one batch can decide, assign, or end (noop, skip, mark).
        for to in waiting.into_iter().chain([Queued]).chain(ends) {
            pairs.push((NoStatus, to));
        }
        for from in waiting {
            for to in waiting.into_iter().filter(|to| *to != from).chain([Queued]).chain(ends) {
                pairs.push((from, to));
            }
        }
        // A leased instance starts, ends, waits again, or is given to another worker within one batch. It
        // never becomes `scheduled` without its try having ended; that end is a row of its own.
        pairs.push((Queued, Running));
        for from in [Queued, Running] {
            for to in waiting.into_iter().chain([Success, Failed, Skipped]) {
                pairs.push((from, to));
            }
        }
        // Another worker's assignment in the same batch: same word, higher epoch.
        pairs.push((Queued, Queued));
        pairs.push((Running, Queued));
        // A mark on a finished instance replaces its verdict.
        for from in [Success, Failed, Skipped, UpstreamFailed] {
            for to in [Success, Failed, Skipped] {
                if from != to {
                    pairs.push((from, to));
                }
            }
        }
        pairs
    }
}

word_enum! {
    /// How a try ended.
    TryOutcome {
        /// Exit code 0, or the operator's own success.
        Success = "success",
        /// Any other end by itself.
        Failed = "failed",
        /// Ended itself as skip (`skip_on_exit_code`).
        Skipped = "skipped",
        /// Killed at its `timeout`.
        TimedOut = "timed_out",
        /// The worker, its machine or its lease was lost.
        Lost = "lost",
        /// Stopped by a clear, a mark, a cancel or a run timeout.
        Stopped = "stopped",
        /// The worker gave it back without having started it.
        HandedBack = "handed_back",
        /// A poke of a sensor found nothing yet, and the try goes on. Said by a worker, never stored as the end of a try.
        Rescheduled = "rescheduled",
    }
}

word_enum! {
    /// When a task instance may run, given its direct upstreams (`semantics.md` §1).
    TriggerRule {
        /// Every upstream succeeded.
        AllSuccess = "all_success",
        /// Every upstream failed or is upstream_failed.
        AllFailed = "all_failed",
        /// Every upstream ended.
        AllDone = "all_done",
        /// Every upstream ended and at least one succeeded.
        AllDoneMinOneSuccess = "all_done_min_one_success",
        /// Every upstream was skipped.
        AllSkipped = "all_skipped",
        /// One upstream succeeded; does not wait for the rest.
        OneSuccess = "one_success",
        /// One upstream failed; does not wait for the rest.
        OneFailed = "one_failed",
        /// One upstream succeeded or failed; does not wait for the rest.
        OneDone = "one_done",
        /// No upstream failed.
        NoneFailed = "none_failed",
        /// No upstream failed and at least one succeeded.
        NoneFailedMinOneSuccess = "none_failed_min_one_success",
        /// No upstream was skipped.
        NoneSkipped = "none_skipped",
        /// At once, whatever the upstreams do.
        Always = "always",
    }
}

word_enum! {
    /// Why a leased attempt is being stopped.
    StopReason {
        /// A clear: the new try starts once the old one is known to be dead.
        Cleared = "cleared",
        /// Marked as success by a person.
        MarkedSuccess = "marked_success",
        /// Marked as failed by a person.
        MarkedFailed = "marked_failed",
        /// Its run was cancelled.
        Cancelled = "cancelled",
        /// Its run reached `run_timeout`.
        RunTimedOut = "run_timed_out",
    }
}

word_enum! {
    /// How the scheduler assigns weights in a pool.
    WeightRule {
        /// Own weight plus that of all tasks below.
        Downstream = "downstream",
        /// Own weight plus that of all tasks above.
        Upstream = "upstream",
        /// Own weight alone.
        Absolute = "absolute",
    }
}
