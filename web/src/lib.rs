#![doc = include_str!("../README.md")]

mod access;
mod actions;
mod actions_vault;
mod api;
mod assets;
mod auth;
mod backfills;
mod error;
mod extract;
mod live;
mod meters;
mod pages;
mod render;
mod server;
mod state;
pub mod views;
mod zone;

pub use access::{Access, Method, Route};
pub use api::openapi::document as openapi;
pub use auth::security::{CONTENT_SECURITY_POLICY, HEADERS};
pub use error::{CODES, Problem};
pub use meters::install as install_metrics;
pub use metrics_exporter_prometheus::PrometheusHandle as MetricsHandle;
pub use server::{router, routes};
pub use state::{Options, WebState};
