//! Pools with their load.

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use tidemill_engine::ids::PoolName;

use super::{Chrome, page, see};
use crate::{
    actions,
    api::pools::PoolPath,
    auth::Identity,
    error::{Problem, Result},
    extract::{Form, Ids},
    render::{Markup, chart},
    state::WebState,
    views::PoolBody,
};

struct Row {
    name: String,
    used: u32,
    slots: u32,
    meter: Markup,
    description: String,
}

#[derive(Template)]
#[template(path = "pools.html")]
struct PoolsPage {
    c: Chrome,
    pools: Vec<Row>,
}

/// The list of pools.
pub(crate) async fn show(State(state): State<WebState>, c: Chrome) -> Result<Response> {
    let pools = state.reader().pools().await?;
    let row = |pool: tidemill_store::reader::PoolUse| Row {
        name: pool.name.to_string(),
        used: pool.used,
        slots: pool.slots,
        meter: chart::meter(pool.used, pool.slots),
        description: pool.description,
    };
    page(&PoolsPage { c, pools: pools.into_iter().map(row).collect() })
}

/// Makes or resizes a pool.
pub(crate) async fn save(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    form: Form,
) -> Result<Response> {
    let name = PoolName::new(form.value("name").unwrap_or_default())
        .map_err(|e| Problem::new("WEB0206", format!("the name {e}")))?;
    let slots = form.value("slots").and_then(|s| s.parse().ok());
    let slots = slots.ok_or_else(|| Problem::new("WEB0206", "slots must be a whole number"))?;
    let description = form.value("description").unwrap_or_default().to_owned();
    actions::set_pool(&state, &who, name, PoolBody { slots, description }).await?;
    Ok(see("/pools"))
}

/// Deletes a pool.
pub(crate) async fn delete(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<PoolPath>,
) -> Result<Response> {
    actions::delete_pool(&state, &who, ids.name).await?;
    Ok(see("/pools"))
}
