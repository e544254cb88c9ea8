//! One call to the outside from an operator's own process.

use tidemill_outbound::{Allow, CallError, Outbound, Request, Response, shown};

use super::{Surroundings, chain};

/// Asks once. `host` is one that a connection names: whoever may define connections chose it, so it may be called
/// wherever it leads.
pub(super) fn once(
    request: Request,
    around: &Surroundings,
    host: Option<&str>,
) -> Result<Response, CallError> {
    let failed = |why: String| CallError::Unreachable { url: shown(&request.url), why };
    let allow = Allow::read(&around.outbound).map_err(|error| failed(error.to_string()))?;
    let allow = match host {
        Some(host) => allow.and_host(host),
        None => allow,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(chain(&error)))?;
    runtime.block_on(Outbound::new(allow).call(request))
}

/// Whether a status that is not a success will be the same the next time.
pub(super) const fn is_final(status: u16) -> bool {
    status >= 400 && status < 500 && !matches!(status, 408 | 425 | 429)
}
