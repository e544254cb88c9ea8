//! `python` tasks with a real interpreter, real environments and a real package.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tidemill_protocol::{
    operators::{PythonSpec, PythonTarget},
    worker::{Assignment, AttemptReport, TryOutcome, Work},
};

use crate::support::{Server, Setup, assignment};

fn python(task: &str, target: PythonTarget, requirements: &[&str]) -> Assignment {
    let requirements = requirements.iter().map(|line| (*line).to_owned()).collect();
    let spec = PythonSpec { target, requirements, requirements_file: None, python: None };
    assignment(task, Work::Python { spec: Box::new(spec) })
}

fn call(file: &str, function: &str, args: Value, kwargs: Value) -> PythonTarget {
    let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else { panic!("arguments") };
    PythonTarget::Callable { file: file.to_owned(), function: function.to_owned(), args, kwargs }
}

fn script(path: &str, args: &[&str]) -> PythonTarget {
    PythonTarget::Script { path: path.to_owned(), args: args.iter().map(|arg| (*arg).to_owned()).collect() }
}

fn log(server: &Server, task: &str) -> String {
    // The operator is this test binary here, whose harness says so first.
    let text = { server.with(|state| String::from_utf8_lossy(&state.log(task)).into_owned()) };
    text.strip_prefix("\nrunning 1 test\n").unwrap_or(&text).to_owned()
}

fn reason(report: &AttemptReport) -> &str {
    report.reason.as_deref().unwrap_or_default()
}

const LIBRARY: &str = r#"
import datetime, os, pathlib, sys
from helper import double

def echo(*args, **kwargs):
    print("called", flush=False)
    return {"args": list(args), "kwargs": kwargs, "not a key": double(4)}

class Model:
    @staticmethod
    async def score(at):
        return [datetime.date(2026, 11, 5), pathlib.Path("a/b"), at]

def nothing():
    with open(os.environ["TIDEMILL_OUTPUT"], "a") as file:
        file.write("by_hand=yes")

def beside():
    nothing()
    return 7

def unprintable():
    return object()

def fails(n):
    raise ValueError("no rows for " + n)

number = 3
"#;

#[test]
fn a_callable_gets_its_arguments_as_data_and_what_it_returns_becomes_outputs() {
    let server = Server::start();
    let setup = Setup::new(&server);
    fs::create_dir(setup.config.dags_dir.join("lib")).unwrap();
    fs::write(setup.config.dags_dir.join("lib/work.py"), LIBRARY).unwrap();
    fs::write(setup.config.dags_dir.join("lib/helper.py"), "def double(n): return 2 * n\n").unwrap();
    let mut worker = setup.start();
    let none = json!([]);
    let hostile = "'; import os; os._exit(3) #\n\"\"\" {{ x }} $(exit 1)";
    server.assign([
        python(
            "echo",
            call("lib/work.py", "echo", json!([1, hostile, null]), json!({"a": {"b": [true]}})),
            &[],
        ),
        python("async", call("lib/work.py", "Model.score", json!([0.5]), json!({})), &[]),
        python("none", call("lib/work.py", "nothing", none.clone(), json!({})), &[]),
        python("beside", call("lib/work.py", "beside", none.clone(), json!({})), &[]),
    ]);
    let echo = server.report("echo");
    assert_eq!(echo.outcome, TryOutcome::Success, "{:?} {}", echo.reason, log(&server, "echo"));
    let expected = json!({"args": [1, hostile, null], "kwargs": {"a": {"b": [true]}}, "not a key": 8});
    assert_eq!(echo.outputs["return_value"], expected);
    assert_eq!(echo.outputs["kwargs"], expected["kwargs"]);
    assert!(!echo.outputs.contains_key("not a key"));
    assert_eq!(log(&server, "echo"), "called\n");
    assert_eq!(server.report("async").outputs["return_value"], json!(["2026-11-05", "a/b", 0.5]));
    assert_eq!(json!(server.report("none").outputs), json!({"by_hand": "yes"}));
    assert_eq!(json!(server.report("beside").outputs), json!({"by_hand": "yes", "return_value": 7}));
    // An import does not write into the folder of DAG files.
    assert!(!setup.config.dags_dir.join("lib/__pycache__").exists());
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn every_way_to_fail_says_why() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let dags = &setup.config.dags_dir;
    fs::write(dags.join("work.py"), LIBRARY.replace("from helper import double", "")).unwrap();
    fs::write(dags.join("exit.py"), "import sys\nsys.exit(int(sys.argv[1]))\n").unwrap();
    fs::write(dags.join("broken.py"), "def f(:\n").unwrap();
    fs::write(dags.join("json.py"), "import json as j\ndef f(): return j.loads('[1]')\n").unwrap();
    let mut worker = setup.start();
    let function = |name: &str| call("work.py", name, json!([]), json!({}));
    let mut missing_file = python("list", function("nothing"), &[]);
    let mut no_interpreter = python("interpreter", function("nothing"), &[]);
    if let Work::Python { spec } = &mut missing_file.work {
        spec.requirements_file = Some("absent.txt".to_owned());
    }
    if let Work::Python { spec } = &mut no_interpreter.work {
        spec.python = Some("python9.9".to_owned());
    }
    server.assign([
        python("raises", call("work.py", "fails", json!(["2026-11-05"]), json!({})), &[]),
        python("syntax", call("broken.py", "f", json!([]), json!({})), &[]),
        python("unprintable", function("unprintable"), &[]),
        python("absent", function("absent"), &[]),
        python("number", function("number"), &[]),
        python("file", script("absent.py", &[]), &[]),
        python("skips", script("exit.py", &["99"]), &[]),
        python("exits", script("exit.py", &["7"]), &[]),
        python("shadow", call("json.py", "f", json!([]), json!({})), &[]),
        missing_file,
        no_interpreter,
    ]);
    for (task, start) in [
        ("raises", "WRK0312: ValueError: no rows for 2026-11-05"),
        ("syntax", "WRK0312: SyntaxError"),
        (
            "unprintable",
            "WRK0313: what the callable returned cannot be an output: a value of the type object",
        ),
        ("absent", "WRK0314: there is no `absent` in work.py"),
        ("number", "WRK0314: `number` in work.py is not callable, it is a int"),
        ("file", "WRK0314: there is no file absent.py in the folder of the DAG file"),
        ("exits", "exited with code 7"),
        ("list", "WRK0315: the requirements file absent.txt cannot be read"),
        ("interpreter", "WRK0311: the interpreter python9.9 cannot be used"),
    ] {
        let report = server.report(task);
        assert_eq!(report.outcome, TryOutcome::Failed, "{task}");
        assert!(reason(&report).starts_with(start), "{task}: {:?}\n{}", report.reason, log(&server, task));
    }
    let text = log(&server, "raises");
    assert!(
        text.contains("Traceback") && text.contains("work.py\", line") && !text.contains("runner.py"),
        "{text}"
    );
    let skips = server.report("skips");
    assert_eq!((skips.outcome, skips.exit_code), (TryOutcome::Skipped, Some(99)), "{:?}", skips.reason);
    assert_eq!(server.report("shadow").outputs["return_value"], json!([1]), "{}", log(&server, "shadow"));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_script_is_main_and_a_timeout_kills_it() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let text = "import multiprocessing, pickle, sys, time\n\
                class Point: pass\n\
                def work(n): return n + 1\n\
                if __name__ == '__main__':\n    \
                    pickle.loads(pickle.dumps(Point()))\n    \
                    print(sys.argv[1:], multiprocessing.get_context('spawn').Pool(1).map(work, [1]))\n    \
                    sys.stdout.write('no line feed')\n    \
                    time.sleep(600 if 'sleep' in sys.argv else 0)\n";
    fs::write(setup.config.dags_dir.join("main.py"), text).unwrap();
    let mut worker = setup.start();
    let mut slow = python("slow", script("main.py", &["sleep"]), &[]);
    slow.timeout_ms = Some(20_000);
    server.assign([python("quick", script("main.py", &["a b", ""]), &[]), slow]);
    let quick = server.report("quick");
    assert_eq!(quick.outcome, TryOutcome::Success, "{}", log(&server, "quick"));
    assert_eq!(log(&server, "quick"), "['a b', ''] [2]\nno line feed");
    assert_eq!(server.report("slow").outcome, TryOutcome::TimedOut);
    // Unbuffered: what was written before the kill is there.
    assert!(log(&server, "slow").starts_with("['sleep'] [2]\nno line feed"), "{}", log(&server, "slow"));
    assert_eq!(worker.stop(), Some(0));
}

fn venvs(setup: &Setup) -> Vec<PathBuf> {
    let entries = fs::read_dir(setup.config.work_dir.join("venvs")).unwrap().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn an_environment_is_built_once_for_all_who_need_it_and_never_used_half_built() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let dags = &setup.config.dags_dir;
    let text = "import sys, iniconfig\ndef f(): return [iniconfig.__name__, sys.prefix != sys.base_prefix]\n";
    fs::write(dags.join("work.py"), text).unwrap();
    fs::write(dags.join("slow.py"), "import time\ndef f(): time.sleep(600)\n").unwrap();
    let mut worker = setup.start();
    let function = || call("work.py", "f", json!([]), json!({}));
    let needs = ["iniconfig==2.0.0"];
    // A build that is killed by the time limit of its task leaves something half built.
    let mut killed = python("killed", function(), &needs);
    killed.timeout_ms = Some(1);
    server.assign([killed]);
    assert_eq!(server.late_report("killed").outcome, TryOutcome::TimedOut);
    server.assign(["one", "two", "three"].map(|task| python(task, function(), &needs)));
    let mut built = 0;
    for task in ["one", "two", "three"] {
        let report = server.late_report(task);
        let log = log(&server, task);
        assert_eq!(report.outcome, TryOutcome::Success, "{:?}\n{log}", report.reason);
        assert_eq!(report.outputs["return_value"], json!(["iniconfig", true]));
        built += log.matches(": built in ").count();
    }
    assert_eq!((built, venvs(&setup).len()), (1, 1));
    let ready = venvs(&setup)[0].join("ready");
    // Without its mark it is not used, whatever else is there.
    fs::remove_file(&ready).unwrap();
    server.assign([python("again", function(), &needs)]);
    assert_eq!(server.late_report("again").outcome, TryOutcome::Success);
    assert!(log(&server, "again").contains(": built in "), "{}", log(&server, "again"));
    server.assign([python("reused", function(), &needs)]);
    assert_eq!(server.late_report("reused").outcome, TryOutcome::Success);
    assert!(log(&server, "reused").contains("(built before)"), "{}", log(&server, "reused"));
    // What cannot be installed fails with the end of what was said.
    server.assign([python("impossible", function(), &["./not-there"])]);
    let impossible = server.late_report("impossible");
    assert_eq!(impossible.outcome, TryOutcome::Failed);
    let why = reason(&impossible);
    assert!(why.starts_with("WRK0310: the virtual environment ") && why.contains("not-there"), "{why}");
    println!("{{\"tries\":7,\"built\":2,\"killed\":1}}");
    assert!(ready.exists());
    assert_eq!(worker.stop(), Some(0));
}
