//! `notify`: one POST of a JSON body. An address that renders to nothing skips the task.

use std::time::Duration;

use super::{OperatorResult, Out};
use crate::outcome::Problem;

/// How long the webhook may take in all.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn execute(webhook: &str, body: &serde_json::Value, out: &mut Out) -> OperatorResult {
    // A DAG that is handed on takes its address from a parameter, and not everybody has one.
    if webhook.trim().is_empty() {
        let why = "the address of the webhook is empty: nobody is notified".to_owned();
        out.line(&why);
        return OperatorResult { skipped: Some(why), ..OperatorResult::default() };
    }
    // The query may carry a secret, and the log is read by many.
    let shown = webhook.split('?').next().unwrap_or(webhook).to_owned();
    let failed = |error: String| Problem::Webhook { url: shown.clone(), error };
    let url = match reqwest::Url::parse(webhook) {
        Ok(url) if url.scheme() == "http" => url,
        Ok(_) => return OperatorResult::failed(&Problem::WebhookScheme { url: shown }, true),
        Err(error) => return OperatorResult::failed(&failed(error.to_string()), true),
    };
    out.line(&format!("POST {shown}"));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return OperatorResult::failed(&failed(error.to_string()), false),
    };
    match runtime.block_on(post(url, body)) {
        Ok(status) if (200..300).contains(&status) => {
            out.line(&format!("answered {status}"));
            OperatorResult {
                outputs: [("status".to_owned(), status.into())].into(),
                ..OperatorResult::default()
            }
        }
        // A webhook that does not like what it gets will not like it the next time either.
        Ok(status) => {
            let is_final = (400..500).contains(&status) && !matches!(status, 408 | 425 | 429);
            OperatorResult::failed(&Problem::WebhookStatus { url: shown, status }, is_final)
        }
        Err(error) => OperatorResult::failed(&failed(error), false),
    }
}

async fn post(url: reqwest::Url, body: &serde_json::Value) -> Result<u16, String> {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| super::chain(&error))?;
    let response =
        client.post(url).json(body).send().await.map_err(|error| super::chain(&error.without_url()))?;
    Ok(response.status().as_u16())
}
