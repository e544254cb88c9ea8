//! Routes that state who may call them.
//!
//! **Invariant:** [`Table::mount`] is the only way to a route, and it takes an [`Access`]; a handler without a
//! stated role does not compile. The table can be enumerated, and a test calls every row with every credential.

use axum::{
    Router,
    handler::Handler,
    middleware,
    routing::{MethodFilter, on},
};
use tidemill_store::access::Role;

use crate::{auth, state::WebState};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody; at most three paths.
    Public,
    /// A person or a machine with at least this role.
    Role(Role),
    /// A worker with its key.
    Worker,
    /// A worker that has no key yet, with a join token.
    Join,
    /// A worker with its key and the token of the attempt that it writes for.
    Attempt,
}

/// Anybody who is signed in.
pub(crate) const VIEWER: Access = Access::Role(Role::Viewer);
/// Who may act on runs.
pub(crate) const OPERATOR: Access = Access::Role(Role::Operator);
/// Who may change access.
pub(crate) const ADMIN: Access = Access::Role(Role::Admin);

/// The methods in use. Everything but `Get` changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes or does.
    Post,
    /// Appends or replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// Returns the word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{names}`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

/// Routes with their handlers.
pub(crate) struct Table {
    routes: Vec<Route>,
    router: Router<WebState>,
    state: WebState,
}

impl Table {
    pub(crate) fn new(state: &WebState) -> Self {
        Self { routes: Vec::new(), router: Router::new(), state: state.clone() }
    }

    /// Mounts a handler behind the guard of its access.
    pub(crate) fn mount<H, T>(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self
    where
        H: Handler<T, WebState>,
        T: 'static,
    {
        let guard = middleware::from_fn_with_state((self.state.clone(), access), auth::guard);
        self.router = self.router.route(path, on(method.filter(), handler).layer(guard));
        self.routes.push(Route { method, path, access });
        self
    }

    pub(crate) fn get<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, WebState>,
        T: 'static,
    {
        self.mount(Method::Get, path, access, handler)
    }

    pub(crate) fn post<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, WebState>,
        T: 'static,
    {
        self.mount(Method::Post, path, access, handler)
    }

    pub(crate) fn into_parts(self) -> (Vec<Route>, Router<WebState>) {
        (self.routes, self.router)
    }
}
