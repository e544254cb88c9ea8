#![doc = include_str!("../README.md")]

mod allow;
mod call;
mod connect;
mod error;

pub use allow::{Allow, AllowError};
pub use call::{Answer, Outbound, Request, Response, shown};
pub use error::CallError;
pub use hyper::{HeaderMap, Method, header};
pub use url::Url;
