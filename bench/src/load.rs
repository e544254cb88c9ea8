//! Load on the real binary: it is started on a fresh data directory, driven over REST, and measured by the marks
//! that the tasks write themselves and by the product's own timestamps.

use std::{
    fmt::Write as _,
    fs, io,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// What can go wrong while measuring.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or process.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The HTTP client.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The product did something else than expected.
    #[error("{0}")]
    Unexpected(String),
}

/// A running `tidemill standalone` on a fresh data directory.
pub struct Product {
    child: Child,
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Product {
    /// Starts `binary` with the DAG files of `dags`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(binary: &Path, dags: &Path, data: &Path, slots: usize) -> Result<Self, Error> {
        let mut child = Command::new(binary)
            .arg("standalone")
            .arg("--dags-dir")
            .arg(dags)
            .arg("--data-dir")
            .arg(data)
            .args(["--listen", "127.0.0.1:0", "--slots", &slots.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(data.with_extension("stderr"))?)
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Error::Unexpected("no stdout".to_owned()))?;
        let mut lines = BufReader::new(stdout).lines();
        let url = loop {
            let line =
                lines.next().ok_or_else(|| Error::Unexpected("it ended before it listened".to_owned()))??;
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        let token = fs::read_to_string(data.join("admin.token"))?.trim().to_owned();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(120)).build()?;
        Ok(Self { child, http, url, token })
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn get(&self, path: &str) -> Result<Value, Error> {
        let url = format!("{}/api/v1{path}", self.url);
        Ok(self.http.get(url).bearer_auth(&self.token).send().await?.error_for_status()?.json().await?)
    }

    /// Waits until a DAG is known.
    ///
    /// # Errors
    /// When it does not become known.
    pub async fn wait_for_dag(&self, dag: &str) -> Result<(), Error> {
        let until = Instant::now() + Duration::from_secs(30);
        while self.get(&format!("/dags/{dag}")).await.is_err() {
            if Instant::now() > until {
                return Err(Error::Unexpected(format!("{dag} does not appear")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Triggers a run, waits for its end and returns it.
    ///
    /// # Errors
    /// When it does not end in success.
    pub async fn run(&self, dag: &str) -> Result<Value, Error> {
        let url = format!("{}/api/v1/dags/{dag}/runs", self.url);
        let body = json!({ "conf": {}, "logical_date": null, "run_id": null });
        let made: Value = self
            .http
            .post(url)
            .bearer_auth(&self.token)
            .json(&body)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let run_id = made["run_id"].as_str().unwrap_or_default().to_owned();
        let until = Instant::now() + Duration::from_secs(300);
        loop {
            let run = self.get(&format!("/dags/{dag}/runs/{run_id}")).await?;
            match run["state"].as_str() {
                Some("success") => return Ok(run),
                Some("failed" | "cancelled") => return Err(Error::Unexpected(format!("{dag}: {run}"))),
                _ if Instant::now() > until => {
                    return Err(Error::Unexpected(format!("{dag} does not end: {run}")));
                }
                _ => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the span between two instants of a run, in seconds.
#[must_use]
pub fn span(run: &Value, from: &str, to: &str) -> Option<f64> {
    let at = |key: &str| run[key].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    Some((at(to)? - at(from)?).as_seconds_f64())
}

/// Writes a chain of `length` tasks that mark their start and end in `marks`.
///
/// # Errors
/// Those of writing the file.
pub fn write_chain(folder: &Path, marker: &Path, marks: &Path, length: usize) -> Result<(), Error> {
    let mut text = String::from("[dag]\nid = \"chain\"\n");
    for index in 0..length {
        let _ =
            write!(text, "\n[[task]]\nid = \"t{index}\"\ncommand = [{:?}, \"mark\", {:?}]\n", marker, marks);
        if index > 0 {
            let _ = writeln!(text, "depends_on = [\"t{}\"]", index - 1);
        }
    }
    Ok(fs::write(folder.join("chain.toml"), text)?)
}

/// Writes a fan-out of `width` tasks of one kind between two `noop` ones.
///
/// # Errors
/// Those of writing the file.
pub fn write_fan_out(folder: &Path, id: &str, width: usize, body: &str) -> Result<(), Error> {
    let mut text = format!(
        "[dag]\nid = \"{id}\"\nmax_active_tasks = 10000\n\n[[task]]\nid = \"first\"\noperator = \"noop\"\n"
    );
    for index in 0..width {
        let _ = write!(text, "\n[[task]]\nid = \"t{index}\"\n{body}\ndepends_on = [\"first\"]\n");
    }
    Ok(fs::write(folder.join(format!("{id}.toml")), text)?)
}

/// Returns the gaps between the end of one marked task and the start of the next, in milliseconds.
///
/// # Errors
/// When the marks cannot be read.
pub fn gaps(marks: &Path) -> Result<Vec<f64>, Error> {
    let text = fs::read_to_string(marks)?;
    let mut spans: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)))
        .collect();
    spans.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a measurement")]
    Ok(spans.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1) as f64 / 1e6).collect())
}

/// Writes one mark: start and end of this process in nanoseconds of the wall clock, in one append.
///
/// # Errors
/// Those of writing the file.
pub fn mark(path: &Path) -> Result<(), Error> {
    use std::io::Write as _;
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map(|since| since.as_nanos())
            .unwrap_or_default()
    };
    let start = now();
    let mut file = fs::File::options().create(true).append(true).open(path)?;
    Ok(file.write_all(format!("{start} {}\n", now()).as_bytes())?)
}

/// Returns the binary beside this one.
///
/// # Errors
/// When it was not built.
pub fn binary() -> Result<PathBuf, Error> {
    let path = std::env::current_exe()?.with_file_name("tidemill");
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::Unexpected(format!("{} is missing: build it with the same profile", path.display())))
    }
}
