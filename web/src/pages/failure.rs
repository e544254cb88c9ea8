//! The page of an error: what happened, what was kept, what to do.

use askama::Template;
use axum::response::Response;

use super::{Chrome, page as render};
use crate::error::{Problem, Result};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    c: Chrome,
    p: Problem,
    what_now: &'static str,
}

pub(crate) fn page(c: Chrome, p: Problem) -> Result<Response> {
    let what_now = match p.status {
        _ if p.leader.is_some() => {
            "This server stands by: it shows what there is, and only the leader changes anything."
        }
        404 => "Check the address; a run may also have been deleted by retention.",
        403 => "Nothing was changed.",
        409 | 422 => "Nothing was changed. Go back, look at the present state and try again.",
        421 => "Call the server by a name that it knows.",
        429 => "Wait a minute.",
        503 => "Nothing was lost. Try again in a moment.",
        _ => "Nothing that was acknowledged is lost.",
    };
    render(&ErrorPage { c, p, what_now })
}
