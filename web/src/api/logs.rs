//! Logs of tries: byte ranges and a stream that follows.
//!
//! Both give the bytes as the task wrote them. The range route streams, so a log of any size costs one chunk
//! of memory. The event stream carries base 64, because an event is text and a log need not be.

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response, Sse, sse},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tidemill_engine::ids::AttemptKey;

use super::instances::attempt;
use crate::{
    error::{Problem, Result},
    extract::{Ids, MapIndex, Params, TryPath},
    live::LogTail,
    state::WebState,
};

/// How much is read at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// Which part of a log.
#[derive(Deserialize)]
pub(crate) struct LogParams {
    #[serde(default)]
    pub(crate) map_index: Option<i32>,
    #[serde(default)]
    pub(crate) epoch: Option<u32>,
    /// From this byte.
    #[serde(default)]
    pub(crate) offset: Option<u64>,
    /// At most so many bytes.
    #[serde(default)]
    pub(crate) limit: Option<u64>,
    /// The last so many bytes.
    #[serde(default)]
    pub(crate) tail: Option<u64>,
    /// Saved as a file by a browser.
    #[serde(default)]
    pub(crate) download: Option<String>,
}

/// First byte and end (exclusive) of what is wanted, and whether it was a `Range`.
fn wanted(params: &LogParams, range: Option<&HeaderValue>, size: u64) -> Result<(u64, u64, bool)> {
    if let Some(tail) = params.tail {
        return Ok((size.saturating_sub(tail), size, false));
    }
    if params.offset.is_some() || params.limit.is_some() {
        let from = params.offset.unwrap_or(0).min(size);
        return Ok((from, params.limit.map_or(size, |limit| from.saturating_add(limit).min(size)), false));
    }
    let Some(range) = range.and_then(|r| r.to_str().ok()).and_then(|r| r.strip_prefix("bytes=")) else {
        return Ok((0, size, false));
    };
    // Several ranges, or something unreadable: the whole is a valid answer.
    let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else {
        return Ok((0, size, false));
    };
    let outside = || Problem::new("WEB0205", format!("the log has {size} bytes"));
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last && first < size => {
            Ok((first, last.saturating_add(1).min(size), true))
        }
        (Ok(first), Err(_)) if last.trim().is_empty() && first < size => Ok((first, size, true)),
        (Err(_), Ok(count)) if first.trim().is_empty() && count > 0 && size > 0 => {
            Ok((size.saturating_sub(count), size, true))
        }
        (Ok(_), _) | (Err(_), Ok(_)) => Err(outside()),
        (Err(_), Err(_)) => Ok((0, size, false)),
    }
}

/// Reads bytes of a log: `Range`, `offset` and `limit`, or `tail`.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries/{try_number}/log", tag = "logs",
    params(("dag_id" = String, Path), ("run_id" = String, Path), ("task_id" = String, Path), ("try_number" = u32, Path), ("map_index" = Option<i32>, Query),
        ("epoch" = Option<u32>, Query), ("offset" = Option<u64>, Query), ("limit" = Option<u64>, Query), ("tail" = Option<u64>, Query), ("Range" = Option<String>, Header)),
    responses((status = 200, content_type = "text/plain", body = String), (status = 206, content_type = "text/plain", body = String), (status = 416, body = Problem)))]
pub(crate) async fn range(
    State(state): State<WebState>,
    Ids(ids): Ids<TryPath>,
    Params(params): Params<LogParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let at = MapIndex { map_index: params.map_index };
    let attempt = attempt(&state, &ids, &at, params.epoch).await?;
    let size = state.handle().read_log(attempt.clone(), 0, 0).await?.size_bytes;
    let (from, to, is_range) = wanted(&params, headers.get(header::RANGE), size)?;
    let mut response = Body::from_stream(chunks(state, attempt, from, to)).into_response();
    if is_range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let disposition = if params.download.is_some() { "attachment" } else { "inline" };
    let file = format!("{disposition}; filename=\"{}.{}.{}.log\"", ids.dag_id, ids.task_id, ids.try_number);
    let pairs = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_LENGTH, (to - from).to_string()),
        (header::CONTENT_SECURITY_POLICY, "sandbox".to_owned()),
        (header::CONTENT_DISPOSITION, file),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", to.saturating_sub(1))),
    ];
    for (name, value) in pairs {
        if let Ok(value) = HeaderValue::from_str(&value)
            && (is_range || name != header::CONTENT_RANGE)
        {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

fn chunks(
    state: WebState,
    attempt: AttemptKey,
    from: u64,
    to: u64,
) -> impl futures_util::Stream<Item = std::result::Result<Bytes, std::io::Error>> {
    stream::try_unfold((state, attempt, from), move |(state, attempt, at)| async move {
        if at >= to {
            return Ok(None);
        }
        let want = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
        let slice =
            state.handle().read_log(attempt.clone(), at, want).await.map_err(std::io::Error::other)?;
        if slice.bytes.is_empty() {
            // Retention took it meanwhile; the length that was announced says so to the client.
            return Err(std::io::Error::other("the log ended early"));
        }
        let next = at + u64::try_from(slice.bytes.len()).unwrap_or(0);
        Ok(Some((Bytes::from(slice.bytes), (state, attempt, next))))
    })
}

/// Follows a log: `bytes` events with base 64, an `end` event once the try has ended. The event id is the
/// offset after it, so that `Last-Event-ID` continues exactly there.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries/{try_number}/log/events", tag = "logs",
    params(("dag_id" = String, Path), ("run_id" = String, Path), ("task_id" = String, Path), ("try_number" = u32, Path), ("map_index" = Option<i32>, Query), ("epoch" = Option<u32>, Query), ("offset" = Option<u64>, Query)),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn follow(
    State(state): State<WebState>,
    Ids(ids): Ids<TryPath>,
    Params(params): Params<LogParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let at = MapIndex { map_index: params.map_index };
    let attempt = attempt(&state, &ids, &at, params.epoch).await?;
    let from = last_event_id(&headers).or(params.offset).unwrap_or(0);
    let tail = LogTail::new(&state, attempt, from);
    let events = stream::unfold(Some(tail), |tail| async move {
        let mut tail = tail?;
        let offset = tail.offset();
        match tail.next().await {
            Some(bytes) => {
                let data = json!({ "offset": offset, "bytes": STANDARD.encode(&bytes) });
                let event =
                    sse::Event::default().event("bytes").id(tail.offset().to_string()).data(data.to_string());
                Some((Ok::<_, Infallible>(event), Some(tail)))
            }
            None if tail.has_ended() => {
                let data = json!({ "size_bytes": offset });
                Some((Ok(sse::Event::default().event("end").data(data.to_string())), None))
            }
            None => None,
        }
    });
    Ok(Sse::new(events).keep_alive(sse::KeepAlive::default()).into_response())
}

/// Where a stream that broke off goes on.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> LogParams {
        LogParams { map_index: None, epoch: None, offset: None, limit: None, tail: None, download: None }
    }

    #[test]
    fn ranges_mean_what_the_standard_says() {
        let ask = |text: &str, size| {
            let header = HeaderValue::from_str(text).unwrap();
            wanted(&whole(), Some(&header), size).map_err(|problem| problem.code)
        };
        assert_eq!(ask("bytes=0-3", 10).unwrap(), (0, 4, true));
        assert_eq!(ask("bytes=4-", 10).unwrap(), (4, 10, true));
        assert_eq!(ask("bytes=-3", 10).unwrap(), (7, 10, true));
        assert_eq!(ask("bytes=-99", 10).unwrap(), (0, 10, true));
        assert_eq!(ask("bytes=8-99", 10).unwrap(), (8, 10, true));
        assert_eq!(ask("bytes=10-", 10), Err("WEB0205"));
        assert_eq!(ask("bytes=5-4", 10), Err("WEB0205"));
        assert_eq!(ask("bytes=0-1,3-4", 10).unwrap(), (0, 10, false));
        assert_eq!(ask("lines=0-1", 10).unwrap(), (0, 10, false));
        assert_eq!(ask("bytes=-5", 0), Err("WEB0205"));
    }

    #[test]
    fn a_tail_is_the_end_and_an_offset_the_rest() {
        assert_eq!(wanted(&LogParams { tail: Some(4), ..whole() }, None, 10).unwrap(), (6, 10, false));
        assert_eq!(
            wanted(&LogParams { offset: Some(4), limit: Some(2), ..whole() }, None, 10).unwrap(),
            (4, 6, false)
        );
        assert_eq!(wanted(&LogParams { offset: Some(40), ..whole() }, None, 10).unwrap(), (10, 10, false));
    }
}
