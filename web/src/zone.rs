//! In which time zone a page tells its times: UTC, the zone of the DAG that it is about, or the one of the browser.
//!
//! The choice belongs to the request (a cookie, or `?zone=` in the address) and holds for every time on the page, so it
//! is put around the handler by a layer and not handed through every function that prints a time
//! (`docs/decisions/0031-the-zone-belongs-to-the-request.md`). Outside of a request times are told in UTC.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Uri},
    middleware::Next,
    response::Response,
};
use chrono_tz::Tz;
use tidemill_engine::ids::DagId;

use crate::{auth::cookie, state::WebState};

/// The cookie that remembers the choice.
pub(crate) const COOKIE: &str = "tidemill_zone";

/// What a person chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// UTC.
    #[default]
    Utc,
    /// The zone of the DAG that a time is about.
    Dag,
    /// The zone of the browser: only a script knows it. Without one the times stay in UTC, and say so.
    Local,
}

impl Choice {
    /// Reads the word of a cookie, an address or a form.
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "dag" => Self::Dag,
            "local" => Self::Local,
            _ => Self::Utc,
        }
    }

    /// Returns the word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Utc => "utc",
            Self::Dag => "dag",
            Self::Local => "local",
        }
    }

    /// Returns what a person reads.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::Dag => "DAG zone",
            Self::Local => "Local",
        }
    }

    /// Returns the choice after this one.
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Utc => Self::Dag,
            Self::Dag => Self::Local,
            Self::Local => Self::Utc,
        }
    }

    fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        let asked = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("zone="));
        Self::parse(asked.or_else(|| cookie(headers, COOKIE)).unwrap_or_default())
    }
}

#[derive(Clone, Copy, Debug)]
struct Shown {
    choice: Choice,
    /// The zone of the DAG that the address names.
    dag: Tz,
}

tokio::task_local! {
    static SHOWN: Shown;
}

fn current() -> Shown {
    SHOWN.try_with(|shown| *shown).unwrap_or(Shown { choice: Choice::Utc, dag: Tz::UTC })
}

/// Puts the choice around a request.
pub(crate) async fn layer(State(state): State<WebState>, request: Request, next: Next) -> Response {
    let choice = Choice::of(request.headers(), request.uri());
    let mut parts = request.uri().path().trim_start_matches('/').split('/');
    let dag = match (parts.next(), parts.next()) {
        (Some("dags"), Some(id)) => id.parse::<DagId>().ok().map(|id| of(&state, &id)),
        _ => None,
    };
    SHOWN.scope(Shown { choice, dag: dag.unwrap_or(Tz::UTC) }, next.run(request)).await
}

/// Returns the choice of this request.
pub(crate) fn choice() -> Choice {
    current().choice
}

/// Returns the zone in which the times of this page are told.
pub(crate) fn shown() -> Tz {
    let shown = current();
    if shown.choice == Choice::Dag { shown.dag } else { Tz::UTC }
}

/// Returns the zone in which a time about a DAG is told on a page about many.
pub(crate) fn shown_of(state: &WebState, dag_id: &DagId) -> Tz {
    if choice() == Choice::Dag { of(state, dag_id) } else { Tz::UTC }
}

/// Returns the zone of a DAG: that of its newest version.
pub(crate) fn of(state: &WebState, dag_id: &DagId) -> Tz {
    state.handle().dag(dag_id).map_or(Tz::UTC, |dag| dag.timezone)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_address_wins_over_the_cookie_and_nonsense_is_utc() {
        let mut headers = HeaderMap::new();
        let of = |headers: &HeaderMap, uri: &'static str| Choice::of(headers, &Uri::from_static(uri));
        assert_eq!(of(&headers, "/dags?zone=dag"), Choice::Dag);
        assert_eq!(of(&headers, "/dags?zone=mars"), Choice::Utc);
        headers.insert("cookie", HeaderValue::from_static("a=b; tidemill_zone=local"));
        assert_eq!(of(&headers, "/dags"), Choice::Local);
        assert_eq!(of(&headers, "/dags?q=x&zone=utc"), Choice::Utc);
    }

    #[test]
    fn three_presses_lead_around() {
        let mut choice = Choice::Utc;
        for word in ["dag", "local", "utc"] {
            choice = choice.next();
            assert_eq!((choice.as_str(), Choice::parse(word)), (word, choice));
        }
    }
}
