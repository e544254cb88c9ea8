//! Every byte that a task wrote before it was killed is readable afterwards, and nothing else is.
//!
//! The task writes a stream that is known by construction (numbered lines, among them bytes that are no UTF-8, and
//! no newline at the end), and after each flush it records outside the product how much it has written.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    follow::{Place, follow},
    server::{Options, PATIENCE, Server, lasting_port},
    worker::Worker,
};

/// The writer: a stream that depends on nothing but its length, flushed in pieces, its progress recorded after
/// each flush. Given a folder, it stops before each sixth of its lines until a file with that number is there.
const WRITER: &str = r#"
import os, sys, time
lines, record, gates = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
out, written, pieces = sys.stdout.buffer, 0, []
progress = os.open(f"{record}.{os.environ['TIDEMILL_TRY_NUMBER']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in range(lines):
    if gates and number % (lines // 6) == 0:
        while not os.path.exists(f"{gates[0]}/{number // (lines // 6)}"):
            time.sleep(0.01)
    end = b"" if number == lines - 1 else b"\n"
    pieces.append(b"line %d \xff\xfe \xf0\x9f\x8c\x8a" % number + end)
    if len(pieces) == 2000 or number == lines - 1:
        block = b"".join(pieces)
        pieces.clear()
        out.write(block)
        out.flush()
        written += len(block)
        os.write(progress, b"%d\n" % written)
"#;

fn stream(lines: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..lines {
        bytes.extend_from_slice(format!("line {number} ").as_bytes());
        bytes.extend_from_slice(b"\xff\xfe \xf0\x9f\x8c\x8a");
        if number + 1 < lines {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn write_dag(dags: &Path, record: &Path, lines: usize, gates: Option<&Path>) {
    fs::create_dir_all(dags).unwrap();
    fs::write(dags.join("writer.py"), WRITER).unwrap();
    let paths: Vec<String> = [record].into_iter().chain(gates).map(|path| format!("{path:?}")).collect();
    let text = format!(
        "[dag]\nid = \"logs\"\n\n[[task]]\nid = \"write\"\nmax_lost_retries = 100\ncommand = [\"python3\", \"writer.py\", \"{lines}\", {}]\n",
        paths.join(", ")
    );
    fs::write(dags.join("logs.toml"), text).unwrap();
}

fn recorded(record: &Path, try_number: u64) -> Option<usize> {
    let text = fs::read_to_string(format!("{}.{try_number}", record.display())).ok()?;
    // The last line may be cut by the kill.
    text.lines().filter_map(|line| line.parse().ok()).max()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_lines_arrive_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (dags, record) = (folder.path().join("dags"), folder.path().join("record"));
    let lines = 1_000_000;
    write_dag(&dags, &record, lines, None);
    let server = Server::start(&Options::new(&dags, &folder.path().join("data")));
    let run = server.client.trigger("logs", None).await;
    // Followed from the first byte on, over streams that are dropped again and again.
    let followed = tokio::spawn(follow(Place::of(&server), of_try(&run, 1), 3_000_000));
    let run_row = server.client.wait("logs", &run).await;
    assert_eq!(run_row["state"], "success", "{run_row}");
    let log = server.client.log("logs", &run, "write", 1).await;
    let expected = stream(lines);
    assert_eq!(log.len(), expected.len());
    let (got, wanted) = (hex::encode(Sha256::digest(&log)), hex::encode(Sha256::digest(&expected)));
    assert_eq!(got, wanted);
    let followed = followed.await.unwrap();
    assert_eq!(hex::encode(Sha256::digest(&followed.bytes)), wanted, "the event stream differs");
    assert!(followed.streams > 5, "only {} streams", followed.streams);
    println!(
        "{}",
        json!({ "id": "logs_whole", "lines": lines, "bytes": log.len(), "sha256": got, "streams": followed.streams })
    );
}

fn of_try(run: &str, try_number: u64) -> String {
    format!("/dags/logs/runs/{run}/tasks/write/tries/{try_number}")
}

/// How many kills land while the task writes.
fn rounds() -> u64 {
    std::env::var("TIDEMILL_LOG_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_written_before_a_kill_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let (dags, record) = (folder.path().join("dags"), folder.path().join("record"));
    let lines = 4_000_000;
    write_dag(&dags, &record, lines, None);
    let options = Options::new(&dags, &folder.path().join("data"));
    let mut server = Server::start(&options);
    let run = server.client.trigger("logs", None).await;
    let place = Place::of(&server);
    let mut streams = Vec::new();
    for round in 1..=rounds() {
        streams.push(tokio::spawn(follow(place.clone(), of_try(&run, round), usize::MAX)));
        wait_until_written(&server, &record, round, 50_000 * (1 + round as usize % 7));
        server.kill();
        server = Server::start(&options);
        place.moved(&server);
    }
    // The try that is live now is stopped by a cancel; those before it were killed.
    let cancel = format!("/dags/logs/runs/{run}/cancel");
    server.client.post(&cancel, &json!({})).await.unwrap();
    server.client.wait("logs", &run).await;
    let expected = stream(lines);
    let (mut landed, mut bytes, mut resumed) = (0, 0, 0);
    for (round, stream) in (1..=rounds()).zip(streams) {
        let log = server.client.log("logs", &run, "write", round).await;
        let followed = stream.await.unwrap();
        let (rest, sse) = (Sha256::digest(&log), Sha256::digest(&followed.bytes));
        assert_eq!(hex::encode(sse), hex::encode(rest), "try {round}: the event stream and the route differ");
        resumed += u32::from(followed.streams > 1);
        let written = recorded(&record, round).unwrap_or(0);
        assert!(written > 0 && written < expected.len(), "try {round} was not killed while it wrote");
        let same = log.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        assert!(same >= written, "try {round}: {same} of {written} bytes are readable");
        let marker = String::from_utf8_lossy(&log[same..]).into_owned();
        assert!(
            marker.len() < 400 && marker.trim_start().starts_with('['),
            "try {round} ends with {marker:?}"
        );
        landed += 1;
        bytes += written;
    }
    println!(
        "{}",
        json!({ "id": "logs_kills", "kills_while_writing": landed, "bytes": bytes, "missing": 0, "streams_resumed": resumed })
    );
    assert_eq!(landed, rounds());
    assert!(resumed > 0, "no kill broke a stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_outlives_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let (dags, record, gates) =
        (folder.path().join("dags"), folder.path().join("record"), folder.path().join("gates"));
    let lines = 600_000;
    fs::create_dir_all(&gates).unwrap();
    write_dag(&dags, &record, lines, Some(&gates));
    let mut options = Options::new(&dags, &folder.path().join("data"));
    options.command = "server";
    options.listen = format!("127.0.0.1:{}", lasting_port());
    let mut server = Server::start(&options);
    let mut worker = Worker::start(&server, "lasting", &dags, &folder.path().join("work"), 2, &[]);
    let run = server.client.trigger("logs", None).await;
    let place = Place::of(&server);
    let followed = tokio::spawn(follow(place.clone(), of_try(&run, 1), usize::MAX));
    let expected = stream(lines);
    for gate in 0..6 {
        fs::write(gates.join(gate.to_string()), "").unwrap();
        // Somewhere in this sixth, while the task writes and its worker ships.
        wait_until_written(&server, &record, 1, expected.len() / 6 * gate + 100_000);
        server.kill();
        server = Server::start(&options);
        place.moved(&server);
    }
    let row = server.client.wait("logs", &run).await;
    assert_eq!(row["state"], "success", "{row}");
    assert!(worker.has_ended().is_none(), "{}", worker.said());
    let log = server.client.log("logs", &run, "write", 1).await;
    let followed = followed.await.unwrap();
    let wanted = hex::encode(Sha256::digest(&expected));
    assert_eq!(hex::encode(Sha256::digest(&log)), wanted, "the route differs");
    assert_eq!(hex::encode(Sha256::digest(&followed.bytes)), wanted, "the event stream differs");
    assert!(followed.streams > 1, "no kill broke the stream");
    println!(
        "{}",
        json!({ "id": "logs_outlive", "kills": 6, "bytes": log.len(), "streams": followed.streams, "sha256": wanted })
    );
}

fn wait_until_written(server: &Server, record: &Path, try_number: u64, bytes: usize) {
    let until = Instant::now() + PATIENCE;
    while recorded(record, try_number).is_none_or(|written| written < bytes) {
        assert!(
            Instant::now() < until,
            "try {try_number} does not write; the server said:\n{}",
            server.said()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
