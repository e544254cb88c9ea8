//! The guardian of a server that was killed comes late: it kills what its own server had running, and nothing of the
//! server that was started since.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

use crate::e2e::{
    server::{Options, PATIENCE, Server},
    truth::{Truth, TruthFolder},
};

const TASKS: usize = 4;

/// Returns the guardian among the server's children.
fn guardian_of(server: &Server) -> Pid {
    let is_guardian = |pid: i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let parent = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = parent.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok());
        command.ends_with(b"guardian\0") && parent == Some(server.pid())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pid = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| is_guardian(*pid));
    pid.and_then(Pid::from_raw).expect("the server has a guardian")
}

fn until(server: &Server, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for: {what}; the server said:\n{}", server.said());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_guardian_spares_the_tries_of_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let truth = TruthFolder::new(&folder.path().join("truth"));
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    let body = format!(r#"until [ -e "{}/go" ]; do sleep 0.05; done"#, truth.0.display());
    fs::write(dags.join("task.sh"), truth.script(&body)).unwrap();
    let mut text = "[dag]\nid = \"late\"\n".to_owned();
    for index in 0..TASKS {
        text.push_str(&format!("\n[[task]]\nid = \"t{index}\"\ncommand = [\"/bin/sh\", \"./task.sh\"]\n"));
    }
    fs::write(dags.join("late.toml"), text).unwrap();
    let options = Options::new(&dags, &folder.path().join("data"));
    let seen = |is_so: fn(&Truth) -> bool| move |truth: &TruthFolder| is_so(&truth.read());
    // The kernel wakes a stopped process whose group loses its last parent of the same session; as the next parent
    // of orphans this process keeps the guardian asleep.
    set_child_subreaper(Some(getpid())).unwrap();
    let mut server = Server::start(&options);
    let run = server.client.trigger("late", None).await;
    let all_once = seen(|seen| seen.starts.len() == TASKS);
    until(&server, "the first executions", || all_once(&truth));
    let guardian = guardian_of(&server);
    kill_process(guardian, Signal::STOP).unwrap();
    server.kill();
    let server = Server::start(&options);
    let all_twice = seen(|seen| seen.starts.len() == 2 * TASKS);
    until(&server, "the second executions", || all_twice(&truth));
    kill_process(guardian, Signal::CONT).unwrap();
    until(&server, "the end of the guardian", || {
        waitpid(Some(guardian), WaitOptions::NOHANG).is_ok_and(|ended| ended.is_some())
    });
    fs::write(truth.0.join("go"), "").unwrap();
    let row = server.client.wait("late", &run).await;
    assert_eq!(row["state"], "success", "{row}");
    let seen = truth.read();
    assert!(seen.overlaps.is_empty(), "overlapping executions: {:?}", seen.overlaps);
    assert_eq!((seen.starts.len(), seen.ends.len()), (2 * TASKS, TASKS), "{:?}", seen.starts);
}
