//! A hundred secrets, printed in every way that a program finds, through the real binary: none of them is in a log, in
//! the database, on a page, in the API or among the arguments of a process.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::Client,
    server::{Options, PATIENCE, Server, cli},
};

const COUNT: usize = 100;

/// Prints every secret of its environment: as it is, cut into two writes half a second apart, encoded, escaped.
const PRINTER: &str = r#"
import base64, binascii, json, os, sys, time, urllib.parse
values = [v for k, v in sorted(os.environ.items()) if k.startswith("SECRET_")]
out = sys.stdout.buffer
def say(text):
    out.write(text.encode() + b"\n")
    out.flush()
say(f"{len(values)} values")
while not os.path.exists("go"):
    time.sleep(0.02)
for value in values:
    raw = value.encode()
    say("raw " + value)
    for before in (b"", b"u:", b"us:"):
        say("b64 " + base64.b64encode(before + raw + b"@x").decode())
    say("b64 " + base64.urlsafe_b64encode(raw).decode())
    say("json " + json.dumps({"password": value}))
    say("repr " + repr(value))
    say("url " + urllib.parse.quote(value, safe="") + " " + urllib.parse.quote_plus(value))
    say("hex " + binascii.hexlify(raw).decode())
    say("uri " + f"postgres://u:{urllib.parse.quote(value)}@host/db")
value = values[0]
out.write(b"cut " + value[:7].encode()); out.flush()
time.sleep(0.5)
out.write(value[7:].encode() + b"\n"); out.flush()
with open(os.environ["TIDEMILL_OUTPUT"], "a") as file:
    file.write("lines=7\n")
sys.exit("fatal: " + value)
"#;

fn secret(number: usize) -> String {
    // Quotes, blanks, percent signs and letters beyond ASCII: what escapes differ in.
    format!("s3cr3t-{number:03}-\"q'{}%\\ü/+=&Zz{}", "#".repeat(number % 5), number * 7919)
}

async fn put(client: &Client, path: &str, body: &Value) {
    let url = format!("{}/api/v1{path}", client.base);
    let reply = client.http.put(url).bearer_auth(&client.token).json(body).send().await.unwrap();
    let (status, text) = (reply.status(), reply.text().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {text}");
    assert!(!text.contains("s3cr3t-"), "the answer shows what was written: {text}");
}

async fn page(client: &Client, path: &str) -> String {
    let url = format!("{}{path}", client.base);
    let reply =
        client.http.get(url).bearer_auth(&client.token).header("accept", "text/html").send().await.unwrap();
    assert!(reply.status().is_success(), "{path}: {}", reply.status());
    reply.text().await.unwrap()
}

/// Every file below a folder, as one heap of bytes.
fn bytes_below(folder: &Path, found: &mut Vec<u8>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            bytes_below(&path, found)
        } else {
            found.extend(fs::read(&path).unwrap_or_default())
        }
    }
}

/// The arguments of every process of this machine.
fn arguments() -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        all.extend(fs::read(entry.path().join("cmdline")).unwrap_or_default());
    }
    all
}

/// How often a secret stands in some bytes: as it is, as JSON, as HTML, in base 64 or percent-encoded.
fn hits(bytes: &[u8]) -> usize {
    (0..COUNT)
        .map(|number| {
            let value = secret(number);
            let quoted = json!(value).to_string();
            let html = value.replace('&', "&#38;").replace('"', "&#34;").replace('\'', "&#39;");
            let percent = value.bytes().fold(String::new(), |mut text, byte| {
                if byte.is_ascii_alphanumeric() || byte == b'-' {
                    text.push(char::from(byte));
                } else {
                    let _ = write!(text, "%{byte:02X}");
                }
                text
            });
            // The middle of each form, so that what stands before and after does not matter. In base 64 of the
            // three alignments these are the digits of the number, which no two secrets share.
            let forms = [value.as_str(), &quoted[1..quoted.len() - 1], &html, &percent];
            forms.iter().filter(|form| contains(bytes, form.as_bytes())).count()
        })
        .sum()
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

fn write_dag(dags: &Path) {
    let mut env = String::new();
    for number in 0..COUNT {
        let name = if number % 2 == 0 {
            format!("var.token_{number}")
        } else {
            format!("conn.db_{number}.password")
        };
        let _ = writeln!(env, "SECRET_{number:03} = \"{{{{ {name} }}}}\"");
    }
    let dag = format!(
        "[dag]\nid = \"leaky\"\n\n[[task]]\nid = \"print\"\ncommand = \"python3 printer.py\"\n\n[task.env]\n{env}"
    );
    fs::write(dags.join("printer.py"), PRINTER).unwrap();
    fs::write(dags.join("leaky.toml"), dag).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_secrets_are_nowhere_to_be_found() {
    let folder = tempfile::tempdir().unwrap();
    let (dags, data) = (folder.path().join("dags"), folder.path().join("data"));
    fs::create_dir_all(&dags).unwrap();
    write_dag(&dags);
    let mut server = Server::start(&Options::new(&dags, &data));
    let client = server.client.clone();
    for number in 0..COUNT {
        if number % 2 == 0 {
            let body = json!({ "value": secret(number), "is_secret": true });
            put(&client, &format!("/variables/token_{number}"), &body).await;
        } else {
            let body = json!({ "kind": "postgres", "host": "db", "password": secret(number) });
            put(&client, &format!("/connections/db_{number}"), &body).await;
        }
    }
    let run = client.trigger("leaky", None).await;
    let until = Instant::now() + PATIENCE;
    while client.task("leaky", &run, "print").await["state"] != "running" {
        assert!(Instant::now() < until, "the task does not start: {}", server.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let in_arguments = hits(&arguments());
    fs::write(dags.join("go"), "").unwrap();
    let ended = client.wait("leaky", &run).await;
    assert_eq!(ended["state"], "failed", "{ended}");

    let log = client.log("leaky", &run, "print", 1).await;
    let text = String::from_utf8(log.clone()).unwrap();
    assert!(text.starts_with("100 values\n"), "{text:.200}");
    assert!(
        text.lines().count() > COUNT * 9 && text.contains("cut ****"),
        "the task did not print: {text:.400}"
    );
    let base64_lines = text.lines().filter(|line| line.starts_with("b64 "));
    let base64_shown = base64_lines.filter(|line| line.matches('*').count() < line.len() / 2).count();
    let in_log = hits(&log);

    let task = format!("/dags/leaky/runs/{run}/tasks/print");
    let mut api = String::new();
    for path in [
        &*task,
        &format!("{task}/tries"),
        &format!("{task}/tries/1/rendered"),
        "/variables",
        "/connections",
        "/variables/token_0",
        "/connections/db_1",
        "/audit?limit=1000",
        "/dags/leaky/runs",
    ] {
        api += &client.get(path).await.to_string();
    }
    assert!(api.contains("\"SECRET_000\":\"***\""), "what was rendered is shown, but for its secrets");
    let mut pages = String::new();
    for path in
        [&*task, "/variables", "/connections", "/variables?edit=token_0", "/connections?edit=db_1", "/audit"]
    {
        pages += &page(&client, path).await;
    }
    let (code, listed, said) = cli(&server, &["variables", "get", "token_0"]);
    assert!(code == 1 && said.contains("CFG0322"), "{listed}{said}");
    assert_eq!(server.stop().code(), Some(0));
    let mut stored = Vec::new();
    bytes_below(&data, &mut stored);
    stored.extend(server.said().into_bytes());
    let (in_api, in_pages, in_data) = (hits(api.as_bytes()), hits(pages.as_bytes()), hits(&stored));
    println!(
        "{}",
        json!({"secrets": COUNT, "log_bytes": log.len(), "log": in_log, "base64_shown": base64_shown,
            "arguments": in_arguments, "api": in_api, "pages": in_pages, "data_bytes": stored.len(), "data": in_data})
    );
    assert_eq!([in_log, base64_shown, in_arguments, in_api, in_pages, in_data], [0; 6]);
    assert_eq!(
        fs::metadata(data.join("secret.key"))
            .map(|file| {
                use std::os::unix::fs::PermissionsExt;
                file.permissions().mode() & 0o777
            })
            .unwrap(),
        0o600
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_and_a_variable_reach_a_task_and_the_environment_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let (dags, data) = (folder.path().join("dags"), folder.path().join("data"));
    fs::create_dir_all(&dags).unwrap();
    let dag = r#"[dag]
id = "load"

[[task]]
id = "load"
command = "test \"$PGPASSWORD\" = 'p@ss word' && echo {{ conn.wh.login }}@{{ conn.wh.host }}:{{ conn.wh.port }} {{ var.bucket }} {{ var.json.limits.rows }}"
env = { PGPASSWORD = "{{ conn.wh.password }}" }

[[task]]
id = "missing"
command = "echo {{ var.nowhere }}"
"#;
    fs::write(dags.join("load.toml"), dag).unwrap();
    let mut options = Options::new(&dags, &data);
    options.env.insert("TIDEMILL_VAR_BUCKET".to_owned(), "from-the-environment".to_owned());
    let server = Server::start(&options);
    let uri = folder.path().join("uri");
    fs::write(&uri, "postgres://etl:p%40ss%20word@db.example:5432/sales\n").unwrap();
    let (code, _, said) = cli(&server, &["connections", "set", "wh", "--uri-file", uri.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(cli(&server, &["variables", "set", "limits", "{\"rows\": 7}"]).0, 0);
    let (code, _, said) = cli(&server, &["variables", "set", "bucket", "x"]);
    assert!(code == 1 && said.contains("SCH0247"), "{said}");
    let run = server.client.trigger("load", None).await;
    let ended = server.client.wait("load", &run).await;
    assert_eq!(ended["state"], "failed", "one task has no variable");
    let log = String::from_utf8(server.client.log("load", &run, "load", 1).await).unwrap();
    assert_eq!(log, "etl@db.example:5432 from-the-environment 7\n");
    let missing = server.client.task("load", &run, "missing").await;
    assert!(missing["reason"].as_str().unwrap_or_default().contains("SCH0240"), "{missing}");
    let (code, listed, _) = cli(&server, &["connections", "list", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, &listed[0]["id"], &listed[0]["has_password"]), (0, &json!("wh"), &json!(true)));
    println!("{}", json!({"tasks": 2, "rendered": 1, "missing": 1, "refused": 1}));
}
