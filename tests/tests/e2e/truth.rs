//! What tasks record themselves, outside the product: an append-only file that they write with `O_APPEND`.
//!
//! `start DATE TASK TRY FENCE`, then `end …` or `fail …` with the same words. Each execution holds a lock of its
//! task instance for as long as any of its processes lives; one that finds it taken writes `overlap`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// One execution of a task instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Execution {
    pub(crate) date: String,
    pub(crate) task: String,
    pub(crate) try_number: u32,
    pub(crate) fence: u32,
}

/// Everything recorded so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) starts: Vec<Execution>,
    pub(crate) ends: BTreeSet<Execution>,
    pub(crate) fails: BTreeSet<Execution>,
    pub(crate) overlaps: Vec<String>,
    /// The line of the first start, and that of the first good end, by (date, task).
    first_start: BTreeMap<(String, String), usize>,
    first_end: BTreeMap<(String, String), usize>,
}

/// The folder of a truth file.
#[derive(Clone, Debug)]
pub(crate) struct TruthFolder(pub PathBuf);

impl TruthFolder {
    pub(crate) fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("locks")).unwrap();
        Self(folder.to_owned())
    }

    /// A shell script that records an execution around `body`.
    pub(crate) fn script(&self, body: &str) -> String {
        let folder = self.0.display();
        format!(
            r#"#!/bin/sh
words="$TIDEMILL_LOGICAL_DATE $TIDEMILL_TASK_ID $TIDEMILL_TRY_NUMBER $TIDEMILL_FENCE"
exec 9>>"{folder}/locks/$TIDEMILL_LOGICAL_DATE.$TIDEMILL_TASK_ID"
flock -n 9 || echo "overlap $words" >> "{folder}/truth"
echo "start $words" >> "{folder}/truth"
{body}
code=$?
if [ $code = 0 ]; then echo "end $words" >> "{folder}/truth"; else echo "fail $words" >> "{folder}/truth"; fi
exit $code
"#
        )
    }

    pub(crate) fn read(&self) -> Truth {
        let text = fs::read_to_string(self.0.join("truth")).unwrap_or_default();
        let mut truth = Truth::default();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, date, task, try_number, fence] = words[..] else { continue };
            let execution = Execution {
                date: date.to_owned(),
                task: task.to_owned(),
                try_number: try_number.parse().unwrap(),
                fence: fence.parse().unwrap(),
            };
            let instance = (execution.date.clone(), execution.task.clone());
            match what {
                "start" => {
                    truth.first_start.entry(instance).or_insert(number);
                    truth.starts.push(execution);
                }
                "end" => {
                    truth.first_end.entry(instance).or_insert(number);
                    truth.ends.insert(execution);
                }
                "fail" => drop(truth.fails.insert(execution)),
                _ => truth.overlaps.push(line.to_owned()),
            }
        }
        truth
    }
}

impl Truth {
    /// Executions by task instance, in the order of their starts.
    pub(crate) fn by_instance(&self) -> BTreeMap<(String, String), Vec<Execution>> {
        let mut map: BTreeMap<(String, String), Vec<Execution>> = BTreeMap::new();
        for start in &self.starts {
            map.entry((start.date.clone(), start.task.clone())).or_default().push(start.clone());
        }
        map
    }

    /// Whether an execution has not recorded an end.
    pub(crate) fn is_open(&self, execution: &Execution) -> bool {
        !self.ends.contains(execution) && !self.fails.contains(execution)
    }

    /// Whether a task began before another of the same date had ended well.
    pub(crate) fn is_early(&self, date: &str, task: &str, upstream: &str) -> bool {
        let at = |map: &BTreeMap<(String, String), usize>, task: &str| {
            map.get(&(date.to_owned(), task.to_owned())).copied()
        };
        at(&self.first_start, task) < at(&self.first_end, upstream)
    }

    /// Whether some instance's newest execution failed and its next one has not started.
    pub(crate) fn has_retry_wait(&self, task: &str) -> bool {
        self.by_instance()
            .iter()
            .filter(|((_, name), _)| name == task)
            .any(|(_, executions)| executions.last().is_some_and(|last| self.fails.contains(last)))
    }
}
