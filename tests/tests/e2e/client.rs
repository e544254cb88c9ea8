//! The REST API as a test uses it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::PATIENCE;

/// A client with a token.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) token: String,
}

impl Client {
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        Self { http, base: url.to_owned(), token: token.to_owned() }
    }

    pub(crate) async fn try_get(&self, path: &str) -> Result<Value, String> {
        let url = format!("{}/api/v1{path}", self.base);
        let reply =
            self.http.get(url).bearer_auth(&self.token).send().await.map_err(|error| error.to_string())?;
        let status = reply.status();
        let text = reply.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{path}: {status} {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error}: {text}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.try_get(path).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}/api/v1{path}", self.base);
        let reply = self
            .http
            .post(url)
            .bearer_auth(&self.token)
            .json(body)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = reply.status();
        let text = reply.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{path}: {status} {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error}: {text}"))
    }

    /// Triggers a run and returns its id.
    pub(crate) async fn trigger(&self, dag: &str, logical_date: Option<&str>) -> String {
        let body = json!({ "conf": {}, "logical_date": logical_date, "run_id": null });
        let run = self.post(&format!("/dags/{dag}/runs"), &body).await.unwrap();
        run["run_id"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of a run and returns it.
    pub(crate) async fn wait(&self, dag: &str, run_id: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let run = self.get(&format!("/dags/{dag}/runs/{run_id}")).await;
            if matches!(run["state"].as_str(), Some("success" | "failed" | "cancelled")) {
                return run;
            }
            assert!(Instant::now() < until, "run {run_id} does not end: {run}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns all items of a list, over its pages.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                None => self.get(path).await,
                Some(cursor) => self.get(&format!("{path}{separator}cursor={cursor}")).await,
            };
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return items,
            }
        }
    }

    /// The state of a task instance.
    pub(crate) async fn task(&self, dag: &str, run_id: &str, task: &str) -> Value {
        self.get(&format!("/dags/{dag}/runs/{run_id}/tasks/{task}")).await
    }

    /// The raw log of a try.
    pub(crate) async fn log(&self, dag: &str, run_id: &str, task: &str, try_number: u64) -> Vec<u8> {
        let url =
            format!("{}/api/v1/dags/{dag}/runs/{run_id}/tasks/{task}/tries/{try_number}/log", self.base);
        let reply = self.http.get(url).bearer_auth(&self.token).send().await.unwrap();
        assert!(reply.status().is_success(), "{}", reply.status());
        reply.bytes().await.unwrap().to_vec()
    }
}
