//! Why a call did not come back with an answer.

use std::{net::IpAddr, time::Duration};

/// Why a call did not come back with an answer. URLs show without user, password and query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The host leads to an address that must not be called.
    #[error(
        "NET0001: {host} leads to {address}, which is {what}: calls there are refused unless `outbound.allow` \
         names it"
    )]
    Refused {
        /// The host as written.
        host: String,
        /// Where it leads.
        address: IpAddr,
        /// What kind of address that is.
        what: &'static str,
    },
    /// The text is not a URL that can be called.
    #[error("NET0002: {url} cannot be called: {why}")]
    Address {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers there, or not in HTTP, or without a certificate that can be trusted.
    #[error("NET0003: {url} cannot be reached: {why}")]
    Unreachable {
        /// The URL.
        url: String,
        /// The causes.
        why: String,
    },
    /// It took too long.
    #[error("NET0004: {url} has not answered within {}", seconds(*.after))]
    TimedOut {
        /// The URL.
        url: String,
        /// The longest time.
        after: Duration,
    },
    /// The answer is longer than what is read.
    #[error("NET0005: the answer of {url} is longer than {limit_bytes} bytes")]
    TooLong {
        /// The URL.
        url: String,
        /// How much is read.
        limit_bytes: usize,
    },
    /// It leads on and on.
    #[error("NET0006: {url} leads on more than {limit} times")]
    Redirects {
        /// The first URL.
        url: String,
        /// How often is followed.
        limit: u8,
    },
}

impl CallError {
    /// Whether another call can only end in the same way.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Address { .. } | Self::TooLong { .. })
    }
}

fn seconds(after: Duration) -> String {
    format!("{} s", after.as_secs_f64())
}

/// Returns an error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}
