//! The other processes of these tests: this test binary, executed again in another role.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};
use tidemill_outbound::Allow;
use tidemill_protocol::worker::{Token, WorkerId};
use tidemill_worker::{CgroupUse, Credential, Options, Stop, guardian, operator, run};

/// What a worker process of a test is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) server_url: String,
    pub(crate) own_exe: PathBuf,
    pub(crate) dags_dir: PathBuf,
    pub(crate) work_dir: PathBuf,
    pub(crate) slots: u32,
    pub(crate) grace_ms: u64,
    pub(crate) drain_ms: u64,
    pub(crate) cgroups: bool,
    pub(crate) join_token: Option<String>,
}

/// Does nothing as a test; in a role it is the process of that role and never returns.
#[test]
fn process() {
    let Ok(role) = std::env::var("TIDEMILL_TEST_ROLE") else { return };
    let argument = std::env::var("TIDEMILL_TEST_ARGUMENT").unwrap_or_default();
    let code = match role.as_str() {
        "guardian" => guardian::main(),
        "operator" => operator::main(&PathBuf::from(argument)),
        "worker" => worker(&serde_json::from_str(&std::fs::read_to_string(argument).unwrap()).unwrap()),
        other => panic!("unknown role {other}"),
    };
    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}

fn worker(config: &Config) -> ExitCode {
    let credential = match &config.join_token {
        Some(token) => Credential::JoinToken(Token(token.clone())),
        None => Credential::Key(Token("worker-key".to_owned())),
    };
    let mut options = Options::new(
        config.server_url.clone(),
        WorkerId::new("w1").unwrap(),
        credential,
        config.dags_dir.clone(),
        config.work_dir.clone(),
    );
    options.own_exe = config.own_exe.clone();
    options.outbound = Allow::read(&["127.0.0.1"]).unwrap();
    options.slots = config.slots;
    options.prefetch = config.slots;
    options.grace = Duration::from_millis(config.grace_ms);
    options.drain = Duration::from_millis(config.drain_ms);
    options.cgroups = if config.cgroups { CgroupUse::Auto } else { CgroupUse::Off };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let result = runtime.block_on(async {
        let (sender, stop) = tokio::sync::watch::channel(Stop::No);
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        tokio::spawn(async move {
            terminate.recv().await;
            sender.send_replace(Stop::Graceful);
            terminate.recv().await;
            sender.send_replace(Stop::Now);
            std::future::pending::<()>().await;
        });
        run(options, stop).await
    });
    match result {
        Ok(summary) => {
            println!("summary {summary:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("error {error}");
            ExitCode::FAILURE
        }
    }
}
