//! `http`, `http_sensor`, `sql` and `sql_sensor` through the real binary, against a service, a SQLite file and a real
//! PostgreSQL.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::server::{Options, Server};
use crate::postgres;

/// What the service was asked: head and body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

async fn service() -> (u16, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            tokio::spawn(serve(stream, seen));
        }
    });
    (port, asked)
}

async fn serve(mut stream: TcpStream, asked: Asked) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
    let looks = {
        let mut asked = asked.lock().unwrap();
        asked.push((head, body));
        asked.iter().filter(|(head, _)| head.contains(&format!(" {path}"))).count()
    };
    let (status, more, body) = match path.as_str() {
        "/v1/exports" => (
            "201 Created",
            "content-type: application/json; charset=utf-8\r\nx-rate: 9\r\n",
            json!({"id": 7, "list": [1, 2]}).to_string(),
        ),
        "/v1/state" if looks < 3 => {
            ("200 OK", "content-type: application/json\r\n", json!({"state": "busy"}).to_string())
        }
        "/v1/state" => (
            "200 OK",
            "content-type: application/json\r\n",
            json!({"state": "done", "day": "2026-11-01"}).to_string(),
        ),
        "/v1/away" if looks < 2 => ("404 Not Found", "", String::new()),
        "/v1/down" => ("503 Service Unavailable", "", "try again, hunter22 said".to_owned()),
        "/v1/big" => ("200 OK", "content-type: text/plain\r\n", "x".repeat(300_000)),
        "/v1/leads" => ("302 Found", "location: /v1/exports\r\n", String::new()),
        _ => ("200 OK", "", "plain".to_owned()),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

const HTTP: &str = r#"[dag]
id = "http"

[params.n]
type = "integer"
default = 3

[[task]]
id = "post"
operator = "http"
connection = "api"
method = "POST"
url = "exports"
query = { text = "a&b=c d#é", many = [1, "{{ ds }}"] }
headers = { X-Run = "{{ ds }}" }
body = { day = "{{ ds }}", n = "{{ params.n }}", text = "n is {{ params.n }}" }

[[task]]
id = "use"
command = "echo 'id {{ outputs.post.body.id }} of {{ outputs.post.status }} at {{ outputs.post.headers[\"x-rate\"] }}'"
depends_on = ["post"]

[[task]]
id = "state"
operator = "http_sensor"
connection = "api"
url = "state"
when = "{{ answer.body.state == 'done' and answer.body.day == ds }}"
poke_interval = "1s"

[[task]]
id = "away"
operator = "http_sensor"
connection = "api"
url = "away"
poke_interval = "1s"

[[task]]
id = "misjudged"
operator = "http_sensor"
connection = "api"
url = "exports"
when = "{{ answer.body.missing == 1 }}"

[[task]]
id = "down"
operator = "http"
connection = "api"
url = "down"
retries = 1
retry_delay = 0

[[task]]
id = "expected"
operator = "http"
connection = "api"
url = "down"
expected_status = [200, "500-503"]

[[task]]
id = "big"
operator = "http"
connection = "api"
url = "big"

[[task]]
id = "big_file"
operator = "http"
connection = "api"
url = "big"
response_file = "answers/{{ ds }}.txt"

[[task]]
id = "nowhere"
operator = "http"
connection = "api"
url = "plain"
response_file = "http.toml/answer.txt"

[[task]]
id = "leads"
operator = "http"
connection = "api"
url = "leads"

[[task]]
id = "follows"
operator = "http"
connection = "api"
url = "leads"
follow_redirects = true

[[task]]
id = "inside"
operator = "http"
url = "http://127.0.0.1:PORT/v1/plain"

[[task]]
id = "stranger"
operator = "http"
connection = "api"
url = "https://evil.example/"
"#;

const SQL: &str = r#"[dag]
id = "sql"

[params.name]
type = "string"
default = "x'); DROP TABLE t; --"

[[task]]
id = "lite"
operator = "sql"
database = "sqlite:data.sqlite?mode=rwc"
sql = '''
CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, score REAL, note TEXT);
-- a comment; with a semicolon and :no_parameter
INSERT INTO t (name, score) VALUES (:name, 1.5), ('semi;colon', :score);
SELECT id, name, score, note FROM t ORDER BY id;
'''
parameters = { name = "{{ params.name }}", score = 2 }

[[task]]
id = "lite_file"
operator = "sql"
database = "data.sqlite"
sql_file = "rows.sql"
parameters = { least = 0 }
output_file = "out/{{ ds }}.csv"
depends_on = ["lite"]

[[task]]
id = "lite_undone"
operator = "sql"
database = "data.sqlite"
sql = "DELETE FROM t; SELECT nonsense FROM t"
depends_on = ["lite_file"]

[[task]]
id = "lite_still"
operator = "sql_sensor"
database = "data.sqlite"
sql = "SELECT count(*) FROM t"
when = "{{ answer.value == 2 and answer.row_count == 1 }}"
depends_on = ["lite_undone"]
trigger_rule = "all_done"

[[task]]
id = "lite_zero"
operator = "sql_sensor"
database = "data.sqlite"
sql = "SELECT 0"
poke_interval = "1s"
timeout = "2s"
soft_fail = true
depends_on = ["lite"]

[[task]]
id = "absent"
operator = "sql"
database = "no_such.sqlite"
sql = "SELECT 1"

[[task]]
id = "pg"
operator = "sql"
connection = "warehouse"
sql = '''
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE t (id bigserial, day date, amount numeric(12, 2), at timestamptz, doc jsonb, tags text[], ok bool, m mood, u uuid, f float8, big numeric);
INSERT INTO t (day, amount, at, doc, tags, ok, m, u, f, big)
VALUES (:day, :amount, :at, :doc, ARRAY[:name, 'b'], :ok, 'good', '00010203-0405-0607-0809-0a0b0c0d0e0f', 0.5, 123456789012345678901234567890.5);
SELECT day, amount, at, doc, tags, ok, m, u, f, big, id, null AS nothing, -0.05::numeric AS small, :name AS name
FROM t WHERE day = :day AND id = :id AND day::text = :day;
'''
parameters = { day = "{{ ds }}", amount = 12.5, at = "2026-11-01T10:00:00+01:00", doc = { a = [1, "{{ ds }}"] }, name = "{{ params.name }}", ok = true, id = 1 }

[[task]]
id = "pg_file"
operator = "sql"
connection = "warehouse"
sql = "SELECT g AS n, 'row ' || g AS text FROM generate_series(1, :many) AS g"
parameters = { many = 50000 }
output_file = "out/rows.jsonl"
depends_on = ["pg"]

[[task]]
id = "pg_many"
operator = "sql"
connection = "warehouse"
sql = "SELECT g AS n, 'row ' || g AS text FROM generate_series(1, 50000) AS g"
depends_on = ["pg"]

[[task]]
id = "pg_undone"
operator = "sql"
connection = "warehouse"
sql = "DELETE FROM t; SELECT 1 / 0"
depends_on = ["pg"]

[[task]]
id = "pg_still"
operator = "sql_sensor"
connection = "warehouse"
sql = "SELECT count(*) FROM t"
depends_on = ["pg_undone"]
trigger_rule = "all_done"

[[task]]
id = "pg_slow"
operator = "sql"
connection = "warehouse"
sql = "SELECT pg_sleep(600)"
statement_timeout = "1s"

[[task]]
id = "pg_rare"
operator = "sql"
connection = "warehouse"
sql = "SELECT interval '1 day' AS span"

[[task]]
id = "pg_vacuum"
operator = "sql"
connection = "warehouse"
sql = "VACUUM t"
transaction = false
depends_on = ["pg_undone"]
trigger_rule = "all_done"
"#;

async fn outputs(server: &Server, dag: &str, run: &str, task: &str) -> Value {
    server.client.get(&format!("/dags/{dag}/runs/{run}/tasks/{task}/outputs")).await
}

/// Checks how the tasks of a run ended, with the beginning of the reason of those that failed.
async fn check(server: &Server, dag: &str, run: &str, expected: &[(&str, &str, &str)]) {
    for (task, state, reason) in expected {
        let seen = server.client.task(dag, run, task).await;
        assert_eq!(seen["state"], *state, "{task}: {seen}");
        let why = seen["reason"].as_str().unwrap_or_default();
        assert!(why.contains(reason), "{task}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_asked_and_waited_for_and_no_login_leaves_its_host() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    let (port, asked) = service().await;
    fs::write(dags.join("http.toml"), HTTP.replace("PORT", &port.to_string())).unwrap();
    let mut options = Options::new(&dags, &folder.path().join("data"));
    let connection = json!({
        "kind": "http", "host": format!("http://127.0.0.1:{port}/v1"), "login": "ann", "password": "hunter22",
        "extra": {"headers": {"X-Team": "ml"}},
    });
    options.env.insert("TIDEMILL_CONN_API".to_owned(), connection.to_string());
    let server = Server::start(&options);
    let run = server.client.trigger("http", Some("2026-11-01T00:00:00Z")).await;
    assert_eq!(server.client.wait("http", &run).await["state"], "failed");
    let expected = [
        ("post", "success", ""),
        ("use", "success", ""),
        ("state", "success", ""),
        ("away", "success", ""),
        ("misjudged", "failed", "WRK0351"),
        ("down", "failed", "WRK0320: "),
        ("expected", "success", ""),
        ("big", "failed", "NET0005"),
        ("big_file", "success", ""),
        ("nowhere", "failed", "WRK0322"),
        ("leads", "failed", "/v1/leads answers 302"),
        ("follows", "success", ""),
        ("inside", "failed", "NET0001"),
        ("stranger", "failed", "WRK0321"),
    ];
    check(&server, "http", &run, &expected).await;
    let asked = asked.lock().unwrap().clone();
    let (head, body) = asked.iter().find(|(head, _)| head.starts_with("POST ")).unwrap();
    assert!(
        head.starts_with("POST /v1/exports?many=1&many=2026-11-01&text=a%26b%3Dc+d%23%C3%A9 HTTP/1.1\r\n"),
        "{head}"
    );
    let lower = head.to_lowercase();
    for line in [
        "x-run: 2026-11-01",
        "x-team: ml",
        "content-type: application/json",
        "authorization: basic yw5uomh1bnrlcjiy",
    ] {
        assert!(lower.contains(line), "{line}: {head}");
    }
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({"day": "2026-11-01", "n": 3, "text": "n is 3"}));
    let used = server.client.log("http", &run, "use", 1).await;
    assert_eq!(String::from_utf8(used).unwrap(), "id 7 of 201 at 9\n");
    let written = fs::read(dags.join("answers/2026-11-01.txt")).unwrap();
    assert_eq!(written.len(), 300_000);
    assert_eq!(server.client.task("http", &run, "down").await["try_number"], 2);
    assert!(server.client.task("http", &run, "state").await["pokes"].as_u64() >= Some(2));
    let mut masked = 0;
    for (task, _, _) in expected {
        let log = String::from_utf8(server.client.log("http", &run, task, 1).await).unwrap();
        assert!(!log.contains("hunter22"), "{task}: {log}");
        masked += log.matches("***").count();
    }
    assert!(masked > 0, "what the service said shows that there was something to mask");
    let log = String::from_utf8(server.client.log("http", &run, "post", 1).await).unwrap();
    assert!(log.contains(&format!("POST http://127.0.0.1:{port}/v1/exports\n")), "{log}");
    assert!(log.contains("answered 201 in "), "{log}");
    println!(
        "{{\"requests\":{},\"tasks\":{},\"passwords_in_logs\":0,\"masked\":{masked}}}",
        asked.len(),
        expected.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_executed_whole_with_bound_values_in_both_databases() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("sql.toml"), SQL).unwrap();
    fs::write(dags.join("rows.sql"), "SELECT name, note, score FROM t WHERE score > :least ORDER BY id;\n")
        .unwrap();
    let url = postgres::new_database();
    let (database, host) =
        url.trim_start_matches("postgres://postgres@localhost/").split_once("?host=").unwrap();
    let connection = json!({"kind": "postgres", "host": host, "login": "postgres", "schema": database});
    let mut options = Options::new(&dags, &folder.path().join("data"));
    options.env.insert("TIDEMILL_CONN_WAREHOUSE".to_owned(), connection.to_string());
    let server = Server::start(&options);
    let run = server.client.trigger("sql", Some("2026-11-01T00:00:00Z")).await;
    server.client.wait("sql", &run).await;
    let expected = [
        ("lite", "success", ""),
        ("lite_file", "success", ""),
        ("lite_undone", "failed", "WRK0330: the database refuses: statement 2 of 2"),
        ("lite_still", "success", ""),
        ("lite_zero", "skipped", "the query gives 0"),
        ("absent", "failed", "WRK0330: the database refuses: cannot open no_such.sqlite"),
        ("pg", "success", ""),
        ("pg_file", "success", ""),
        ("pg_many", "failed", "WRK0206"),
        ("pg_undone", "failed", "division by zero"),
        ("pg_still", "success", ""),
        ("pg_slow", "failed", "statement timeout"),
        ("pg_rare", "failed", "WRK0331: the statements cannot be executed: the column \"span\""),
        ("pg_vacuum", "success", ""),
    ];
    check(&server, "sql", &run, &expected).await;
    let hostile = "x'); DROP TABLE t; --";
    let lite = outputs(&server, "sql", &run, "lite").await;
    let text = lite.to_string();
    let rows = json!([
        {"id": 1, "name": hostile, "score": 1.5, "note": null},
        {"id": 2, "name": "semi;colon", "score": 2.0, "note": null},
    ]);
    assert!(text.contains(&rows.to_string()), "{text}");
    let csv = fs::read_to_string(dags.join("out/2026-11-01.csv")).unwrap();
    assert_eq!(csv, "name,note,score\r\nx'); DROP TABLE t; --,,1.5\r\nsemi;colon,,2.0\r\n");
    let pg = outputs(&server, "sql", &run, "pg").await.to_string();
    let row = json!([{
        "day": "2026-11-01", "amount": 12.50, "at": "2026-11-01T09:00:00Z", "doc": {"a": [1, "2026-11-01"]},
        "tags": [hostile, "b"], "ok": true, "m": "good", "u": "00010203-0405-0607-0809-0a0b0c0d0e0f", "f": 0.5,
        "big": "123456789012345678901234567890.5", "id": 1, "nothing": null, "small": -0.05, "name": hostile,
    }]);
    assert!(pg.contains(&row.to_string()), "{pg}\n{row}");
    let lines = fs::read_to_string(dags.join("out/rows.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 50_000);
    assert_eq!(lines.lines().last(), Some("{\"n\":50000,\"text\":\"row 50000\"}"));
    println!(
        "{{\"tasks\":{},\"databases\":2,\"rows_in_files\":50002,\"values_that_became_syntax\":0}}",
        expected.len()
    );
}
