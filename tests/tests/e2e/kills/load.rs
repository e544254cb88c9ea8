//! The DAG under which the server is killed: a run every second.

use std::{fs, path::Path};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::e2e::truth::TruthFolder;

/// Short tasks per run.
const QUICK: usize = 30;

/// Long tasks per run, so that nearly every kill finds one.
const SLOW: usize = 2;

/// The task at the end of every run.
pub(super) const LAST: &str = "last";

/// What it waits for.
pub(super) fn upstreams_of_last() -> Vec<String> {
    (0..SLOW).map(|index| format!("slow{index}")).chain(["flaky".to_owned()]).collect()
}

/// Writes the DAG file and its scripts. Every run has tasks that take a while, one whose first try fails, one
/// below all these, and many short ones.
pub(super) fn write_dag(folder: &Path, truth: &TruthFolder, start: DateTime<Utc>) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("quick.sh"), truth.script("true")).unwrap();
    fs::write(folder.join("slow.sh"), truth.script("sleep 1.6")).unwrap();
    fs::write(
        folder.join("flaky.sh"),
        truth.script(r#"[ "$(grep -c "^fail $TIDEMILL_LOGICAL_DATE flaky " "$0.truth")" -gt 0 ]"#),
    )
    .unwrap();
    std::os::unix::fs::symlink(truth.0.join("truth"), folder.join("flaky.sh.truth")).unwrap();
    let mut text = format!(
        r#"[dag]
id = "kill"
schedule = {{ every = "1s" }}
timetable = "trigger"
start_date = "{}"
catchup = true
max_active_runs = 6
max_active_tasks = 64
default_args = {{ max_lost_retries = 100 }}

[[task]]
id = "flaky"
command = ["/bin/sh", "./flaky.sh"]
retries = 3
retry_delay = "1s"

[[task]]
id = "{LAST}"
command = ["/bin/sh", "./quick.sh"]
depends_on = {:?}
"#,
        start.to_rfc3339_opts(SecondsFormat::Secs, true),
        upstreams_of_last()
    );
    let mut add = |id: String, script: &str| {
        text.push_str(&format!("\n[[task]]\nid = \"{id}\"\ncommand = [\"/bin/sh\", \"./{script}\"]\n"));
    };
    (0..SLOW).for_each(|index| add(format!("slow{index}"), "slow.sh"));
    (0..QUICK).for_each(|index| add(format!("q{index}"), "quick.sh"));
    fs::write(folder.join("kill.toml"), text).unwrap();
}
