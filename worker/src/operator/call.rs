//! One call to the outside from an operator's own process.

use tidemill_outbound::{Allow, CallError, Outbound, Request, Response, shown};

use super::{Surroundings, chain};
use crate::outcome::Problem;

/// Returns the way out. `host` is one that a connection names: whoever may define connections chose it, so it may be
/// called wherever it leads.
pub(super) fn outbound(around: &Surroundings, host: Option<&str>) -> Result<Outbound, Problem> {
    let allow =
        Allow::read(&around.outbound).map_err(|error| Problem::Operator { error: error.to_string() })?;
    Ok(Outbound::new(match host {
        Some(host) => allow.and_host(host),
        None => allow,
    }))
}

/// Executes what waits, on the thread of the operator.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::Operator { error: chain(&error) })?;
    Ok(runtime.block_on(future))
}

/// Asks once and reads the answer.
pub(super) fn once(request: Request, around: &Surroundings) -> Result<Response, CallError> {
    let url = shown(&request.url);
    let failed = |problem: Problem| CallError::Unreachable { url: url.clone(), why: problem.to_string() };
    let outbound = outbound(around, None).map_err(failed)?;
    block_on(outbound.call(request)).map_err(failed)?
}

/// Whether a status that is not a success will be the same the next time.
pub(super) const fn is_final(status: u16) -> bool {
    status >= 400 && status < 500 && !matches!(status, 408 | 425 | 429)
}
