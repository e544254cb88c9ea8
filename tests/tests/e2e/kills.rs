//! `kill -9` of the server at any moment and at chosen points, under at least twenty tasks a second.
//!
//! Truth is what the tasks write themselves. Asserted: no missed and no duplicate logical date, no lost retry,
//! every run ends, no two overlapping executions of one instance, and every second execution has a higher fence
//! and a recorded reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    server::{Options, PATIENCE, Server},
    truth::TruthFolder,
};

/// How many kills; CI takes the short form, `make kills` the long one.
fn rounds() -> usize {
    std::env::var("TIDEMILL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(28)
}

/// Where the process stops itself dead; `None` is a kill from outside at a random moment.
const POINTS: [Option<&str>; 7] = [
    None,
    Some("before_commit"),
    Some("after_commit"),
    None,
    Some("before_spawn"),
    Some("before_result"),
    Some("before_release"),
];

/// A small generator, so that a failure can be repeated by its seed.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn write_dag(folder: &Path, truth: &TruthFolder, start: chrono::DateTime<chrono::Utc>) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("quick.sh"), truth.script("true")).unwrap();
    fs::write(folder.join("slow.sh"), truth.script("sleep 0.4")).unwrap();
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
id = "slow"
command = ["/bin/sh", "./slow.sh"]

[[task]]
id = "flaky"
command = ["/bin/sh", "./flaky.sh"]
retries = 3
retry_delay = "1s"

[[task]]
id = "last"
command = ["/bin/sh", "./quick.sh"]
depends_on = ["flaky", "slow"]
"#,
        start.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    );
    for index in 0..18 {
        text.push_str(&format!("\n[[task]]\nid = \"q{index}\"\ncommand = [\"/bin/sh\", \"./quick.sh\"]\n"));
    }
    fs::write(folder.join("kill.toml"), text).unwrap();
}

#[derive(Default)]
struct Counts {
    kills: u64,
    with_task_running: u64,
    in_retry_wait: u64,
    at: BTreeMap<String, u64>,
}

/// Kills the server once: from outside after a while, or by itself at a point.
fn kill_once(
    server: &mut Server,
    point: Option<&str>,
    wait: Duration,
    truth: &TruthFolder,
    counts: &mut Counts,
) {
    let until = Instant::now() + if point.is_some() { PATIENCE } else { wait };
    loop {
        if server.has_ended().is_some() {
            *counts.at.entry(point.unwrap_or("by itself").to_owned()).or_default() += 1;
            break;
        }
        if Instant::now() > until {
            assert!(point.is_none(), "{point:?} was never reached; the server said:\n{}", server.said());
            *counts.at.entry("at random".to_owned()).or_default() += 1;
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    server.kill();
    let seen = truth.read();
    counts.kills += 1;
    counts.with_task_running += u64::from(seen.starts.iter().any(|start| seen.is_open(start)));
    counts.in_retry_wait += u64::from(seen.has_retry_wait("flaky"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_standalone_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let truth = TruthFolder::new(&folder.path().join("truth"));
    let start = chrono::Utc::now();
    let dags = folder.path().join("dags");
    write_dag(&dags, &truth, start);
    let mut options = Options::new(&dags, &folder.path().join("data"));
    let mut seeded = Seeded(0x7469_6465);
    let mut counts = Counts::default();
    let began = Instant::now();
    for round in 0..rounds() {
        let point = POINTS[round % POINTS.len()];
        options.env.remove("TIDEMILL_FAILPOINT");
        if let Some(point) = point {
            options.env.insert("TIDEMILL_FAILPOINT".to_owned(), format!("{point}:{}", 3 + seeded.below(40)));
        }
        let mut server = Server::start(&options);
        let wait = Duration::from_millis(150 + seeded.below(1200));
        kill_once(&mut server, point, wait, &truth, &mut counts);
    }
    let seconds = began.elapsed().as_secs_f64();
    options.env.remove("TIDEMILL_FAILPOINT");
    let server = Server::start(&options);
    let achieved = check_everything(&server, &truth).await;
    let rate = achieved.executions as f64 / seconds;
    println!(
        "{}",
        json!({
            "id": "kills_standalone", "kills": counts.kills, "with_task_running": counts.with_task_running,
            "in_retry_wait": counts.in_retry_wait, "at": counts.at, "dates": achieved.dates,
            "executions": achieved.executions, "executions_per_second": rate, "repeated": achieved.repeated,
            "overlaps": 0, "missed": 0, "duplicates": 0,
        })
    );
    assert_eq!(counts.kills as usize, rounds());
    assert!(
        counts.with_task_running * 4 >= counts.kills * 3,
        "{} with a task running",
        counts.with_task_running
    );
}

struct Achieved {
    dates: usize,
    executions: usize,
    repeated: usize,
}

/// Lets everything end and compares what the tasks recorded with what the product says.
async fn check_everything(server: &Server, truth: &TruthFolder) -> Achieved {
    let client = &server.client;
    let url = format!("{}/api/v1/dags/kill", client.base);
    let paused =
        client.http.patch(url).bearer_auth(&client.token).json(&json!({ "is_paused": true })).send().await;
    assert!(paused.unwrap().status().is_success());
    let until = Instant::now() + 4 * PATIENCE;
    let runs = loop {
        let runs = client.all("/dags/kill/runs?limit=100").await;
        if runs.iter().all(|run| matches!(run["state"].as_str(), Some("success" | "failed" | "cancelled"))) {
            break runs;
        }
        assert!(Instant::now() < until, "runs do not end; the server said:\n{}", server.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let mut dates: Vec<chrono::DateTime<chrono::Utc>> =
        runs.iter().map(|run| run["logical_date"].as_str().unwrap().parse().unwrap()).collect();
    dates.sort_unstable();
    for pair in dates.windows(2) {
        assert_eq!((pair[1] - pair[0]).num_milliseconds(), 1000, "missed or duplicate between {pair:?}");
    }
    let seen = truth.read();
    assert!(seen.overlaps.is_empty(), "{:?}", seen.overlaps);
    let by_instance = seen.by_instance();
    let mut repeated = 0;
    for run in &runs {
        assert_eq!(run["state"], "success", "{run}");
        let run_id = run["run_id"].as_str().unwrap();
        for task in client.all(&format!("/dags/kill/runs/{run_id}/tasks")).await {
            assert_eq!(task["state"], "success", "{run_id}: {task}");
            let date: chrono::DateTime<chrono::Utc> = run["logical_date"].as_str().unwrap().parse().unwrap();
            let name = task["task_id"].as_str().unwrap();
            let executions = by_instance
                .iter()
                .find(|((d, t), _)| t == name && d.parse::<chrono::DateTime<chrono::Utc>>() == Ok(date))
                .map(|(_, executions)| executions)
                .unwrap_or_else(|| panic!("{run_id} {name} is success and never ran"));
            repeated += check_instance(server, &seen, run_id, &task, executions).await;
        }
    }
    Achieved { dates: dates.len(), executions: seen.starts.len(), repeated }
}

/// Checks one instance: fences rise, its last execution ended well, and a repetition has a recorded reason.
async fn check_instance(
    server: &Server,
    seen: &super::truth::Truth,
    run_id: &str,
    task: &Value,
    executions: &[super::truth::Execution],
) -> usize {
    let name = task["task_id"].as_str().unwrap();
    let fences: Vec<u32> = executions.iter().map(|execution| execution.fence).collect();
    assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "{run_id} {name}: fences {fences:?}");
    let last = executions.last().unwrap();
    assert!(seen.ends.contains(last), "{run_id} {name}: the last execution did not end well");
    if executions.len() > 1 {
        let tries = server.client.get(&format!("/dags/kill/runs/{run_id}/tasks/{name}/tries")).await;
        let known: BTreeSet<u64> =
            tries["items"].as_array().unwrap().iter().filter_map(|t| t["try_number"].as_u64()).collect();
        for earlier in &executions[..executions.len() - 1] {
            assert!(
                known.contains(&u64::from(earlier.try_number)),
                "{run_id} {name}: no record of {earlier:?}"
            );
        }
        for row in tries["items"].as_array().unwrap() {
            assert!(row["outcome"].is_string(), "{run_id} {name}: {row}");
        }
        if name == "flaky" {
            assert!(executions.iter().any(|e| seen.fails.contains(e)), "{run_id}: flaky never failed");
        }
        return usize::from(executions.iter().filter(|e| !seen.fails.contains(e)).count() > 1);
    }
    0
}
