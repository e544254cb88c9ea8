//! The log on the task page: the end of it at once, what comes after as finished HTML lines.

use std::convert::Infallible;

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response, Sse, sse},
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tidemill_engine::{
    ids::AttemptKey,
    rows::{RunRow, TryRow},
};

use crate::{
    api::{
        events::{self, EventParams},
        instances::attempt,
        logs::last_event_id,
    },
    error::Result,
    extract::{Ids, MapIndex, Params, TryPath},
    live::LogTail,
    render::{Markup, ansi, time},
    state::WebState,
};

/// How much of the end of a log a page shows, in bytes. A log of any size opens as fast as this.
const SHOWN_BYTES: u64 = 256 * 1024;
/// A line without an end is shown in pieces of this size, so that it cannot grow in memory.
const LONGEST_LINE: usize = 64 * 1024;

/// The log as a page shows it.
pub(crate) struct Shown {
    pub(crate) try_number: u32,
    pub(crate) size: String,
    pub(crate) is_cut: bool,
    pub(crate) lines: Markup,
    pub(crate) href: String,
    pub(crate) stream: String,
    pub(crate) is_live: bool,
}

/// Reads the end of a log, beginning with a whole line.
pub(crate) async fn shown(
    state: &WebState,
    run: &RunRow,
    attempt: &AttemptKey,
    tries: &[TryRow],
) -> Result<Shown> {
    let size = state.handle().read_log(attempt.clone(), 0, 0).await?.size_bytes;
    let from = size.saturating_sub(SHOWN_BYTES);
    let limit = usize::try_from(size - from).unwrap_or(0);
    let bytes = state.handle().read_log(attempt.clone(), from, limit).await?.bytes;
    let skip = if from == 0 { 0 } else { bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1) };
    // An unfinished line at the end is left to the stream, which knows how it goes on.
    let is_live = tries.iter().any(|t| t.attempt == *attempt && t.outcome.is_none());
    let end = if is_live {
        bytes.iter().rposition(|b| *b == b'\n').map_or(skip, |at| at + 1).max(skip)
    } else {
        bytes.len()
    };
    let body = &bytes[skip..end];
    let first_line = (from == 0).then_some(1);
    let next_line =
        first_line.map(|n: u64| n + u64::try_from(body.iter().filter(|b| **b == b'\n').count()).unwrap_or(0));
    let instance = &attempt.instance;
    let base = format!(
        "/dags/{}/runs/{}/tasks/{}/tries/{}",
        run.dag_id, run.run_id, instance.task, attempt.try_number
    );
    let at =
        if instance.map_index >= 0 { format!("&map_index={}", instance.map_index) } else { String::new() };
    let offset = from + u64::try_from(end).unwrap_or(0);
    let stream = format!(
        "{base}/lines?epoch={}&offset={offset}{}{at}",
        attempt.epoch,
        next_line.map(|n| format!("&line={n}")).unwrap_or_default()
    );
    Ok(Shown {
        try_number: attempt.try_number,
        size: time::size(size),
        is_cut: from > 0,
        lines: ansi::block(body, first_line),
        href: format!("/api/v1{base}/log?epoch={}{at}", attempt.epoch),
        stream: if is_live { stream } else { String::new() },
        is_live,
    })
}

/// Where a stream of lines begins.
#[derive(Deserialize)]
pub(crate) struct LineParams {
    #[serde(default)]
    map_index: Option<i32>,
    #[serde(default)]
    epoch: Option<u32>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    line: Option<u64>,
}

struct Lines {
    tail: LogTail,
    style: ansi::Style,
    number: Option<u64>,
    rest: Vec<u8>,
}

impl Lines {
    /// Renders what is new: whole lines, then what there is of the next one.
    fn render(&mut self, bytes: &[u8]) -> Markup {
        self.rest.extend_from_slice(bytes);
        let mut out = Markup::with_capacity(bytes.len() * 2);
        let mut begin = 0;
        while begin < self.rest.len() {
            let piece = &self.rest[begin..];
            let (length, used) = match piece.iter().position(|b| *b == b'\n') {
                Some(at) => (at, at + 1),
                None if piece.len() > LONGEST_LINE => (piece.len(), piece.len()),
                None => break,
            };
            ansi::line(&mut out, self.number, &piece[..length], &mut self.style, false);
            self.number = self.number.map(|n| n + 1);
            begin += used;
        }
        self.rest.drain(..begin);
        if !self.rest.is_empty() {
            // Drawn with a copy of the style: the whole line comes again once it has ended.
            let mut style = self.style;
            ansi::line(&mut out, self.number, &self.rest, &mut style, true);
        }
        out
    }
}

/// Streams the lines of a log as HTML: `lines` events, then `end`. In between come the `change` events of the run, so
/// that a page with a log needs one stream: a browser has six connections to a server for all of its tabs.
pub(crate) async fn lines(
    State(state): State<WebState>,
    Ids(ids): Ids<TryPath>,
    Params(params): Params<LineParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let changes = events::changes(&state, EventParams::of_run(&ids.dag_id, &ids.run_id));
    let attempt = attempt(&state, &ids, &MapIndex { map_index: params.map_index }, params.epoch).await?;
    // A stream that broke off goes on where it was, but the number of that line is not known any more.
    let resumed = last_event_id(&headers);
    let start = Lines {
        tail: LogTail::new(&state, attempt, resumed.or(params.offset).unwrap_or(0)),
        style: ansi::Style::default(),
        number: if resumed.is_some() { None } else { params.line },
        rest: Vec::new(),
    };
    let lines = stream::unfold(Some(start), |lines| async move {
        let mut lines = lines?;
        match lines.tail.next().await {
            Some(bytes) => {
                let html = lines.render(&bytes);
                // The id points before the unfinished line, so that a new stream shows it whole.
                let id = lines.tail.offset() - u64::try_from(lines.rest.len()).unwrap_or(0);
                let event = sse::Event::default().event("lines").id(id.to_string()).data(html.as_str());
                Some((event, Some(lines)))
            }
            None if lines.tail.has_ended() => Some((sse::Event::default().event("end").data("end"), None)),
            None => None,
        }
    });
    // With the lines the changes end too.
    let lines = lines.map(Some).chain(stream::once(std::future::ready(None)));
    let events = stream::select(lines, changes.map(Some))
        .take_while(|event| std::future::ready(event.is_some()))
        .filter_map(|event| std::future::ready(event.map(Ok::<_, Infallible>)));
    Ok(Sse::new(events).keep_alive(sse::KeepAlive::default()).into_response())
}
