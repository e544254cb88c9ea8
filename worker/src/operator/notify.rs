//! `notify`: one POST of a JSON body. An address that renders to nothing skips the task.

use tidemill_outbound::{Method, Request, Url, header, shown};

use super::{OperatorResult, Out, Surroundings, call};
use crate::outcome::Problem;

pub(super) fn execute(
    webhook: &str,
    body: &serde_json::Value,
    around: &Surroundings,
    out: &mut Out,
) -> OperatorResult {
    // A DAG that is handed on takes its address from a parameter, and not everybody has one.
    if webhook.trim().is_empty() {
        let why = "the address of the webhook is empty: nobody is notified".to_owned();
        out.line(&why);
        return OperatorResult { skipped: Some(why), ..OperatorResult::default() };
    }
    let url = match Url::parse(webhook.trim()) {
        Ok(url) => url,
        Err(error) => {
            // What cannot be read may be a secret from end to end.
            let problem = Problem::Webhook { url: "of this task".to_owned(), error: error.to_string() };
            return OperatorResult::failed(&problem, true);
        }
    };
    // The query may carry a secret, and the log is read by many.
    let shown = shown(&url);
    out.line(&format!("POST {shown}"));
    let mut request = Request::new(Method::POST, url);
    request.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    request.body = body.to_string().into_bytes();
    match call::once(request, around) {
        Ok(response) if response.is_success() => {
            out.line(&format!("answered {}", response.status));
            OperatorResult {
                outputs: [("status".to_owned(), response.status.into())].into(),
                ..OperatorResult::default()
            }
        }
        // A webhook that does not like what it gets will not like it the next time either.
        Ok(response) => {
            let status = response.status;
            OperatorResult::failed(&Problem::WebhookStatus { url: shown, status }, call::is_final(status))
        }
        Err(error) => {
            let is_final = error.is_final();
            OperatorResult::failed(&Problem::Webhook { url: shown, error: error.to_string() }, is_final)
        }
    }
}
