//! `kind://login:password@host:port/schema?extra=value`, as Airflow writes connections into its environment.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::Connection;
use crate::{ids::ConnectionId, secret::Secret};

/// Why a text is no URI of a connection. It never repeats the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No `kind://`.
    #[error("it does not begin with `kind://`")]
    Scheme,
    /// The port is none.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// A `%` without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("a `%` in it is not followed by two hexadecimal digits of UTF-8 text; write `%25` for `%`")]
    Encoding,
    /// `__extra__` holds no JSON object.
    #[error("its `__extra__` is not a JSON object")]
    Extra,
}

/// The parameter whose value is all of `extra`, for what no list of pairs can say.
const WHOLE_EXTRA: &str = "__extra__";

pub(super) fn parse(id: ConnectionId, text: &str) -> Result<Connection, UriError> {
    let text = text.trim();
    let (kind, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
    let is_kind = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '.');
    if kind.is_empty() || !kind.chars().all(is_kind) {
        return Err(UriError::Scheme);
    }
    // Airflow writes the kind with dashes where its name has underscores.
    let mut connection = Connection::new(id, kind.replace('-', "_"));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    // A password may hold a slash only when it is encoded, so the first one ends the authority.
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = authority.rsplit_once('@').map_or(("", authority), |(user, place)| (user, place));
    if !user.is_empty() {
        let (login, password) = user.split_once(':').map_or((user, None), |(login, p)| (login, Some(p)));
        connection.login = non_empty(decode(login)?);
        connection.password = password.map(decode).transpose()?.and_then(non_empty).map(Secret::new);
    }
    let (host, port) = host_and_port(place)?;
    connection.host = non_empty(decode(host)?);
    connection.port = port;
    connection.schema = non_empty(decode(path)?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?);
        if name == WHOLE_EXTRA {
            let Ok(Json::Object(map)) = serde_json::from_str(&value) else { return Err(UriError::Extra) };
            connection.extra.extend(map);
        } else {
            connection.extra.insert(name, Json::from(value));
        }
    }
    Ok(connection)
}

/// Splits `host:port`; an address in brackets keeps its colons.
fn host_and_port(place: &str) -> Result<(&str, Option<u16>), UriError> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or(UriError::Port)?),
        None => None,
    };
    Ok((host, port))
}

pub(super) fn print(connection: &Connection) -> String {
    let mut text = format!("{}://", connection.kind.replace('_', "-"));
    let password = connection.password.as_ref().map(Secret::reveal);
    if connection.login.is_some() || password.is_some() {
        text.push_str(&encode(connection.login.as_deref().unwrap_or_default()));
        if let Some(password) = password {
            text.push(':');
            text.push_str(&encode(password));
        }
        text.push('@');
    }
    match connection.host.as_deref() {
        // Only an address of version 6 has colons.
        Some(host) if host.contains(':') && !host.contains('/') => {
            let _ = write!(text, "[{host}]");
        }
        Some(host) => text.push_str(&encode(host)),
        None => {}
    }
    if let Some(port) = connection.port {
        let _ = write!(text, ":{port}");
    }
    if let Some(schema) = &connection.schema {
        text.push('/');
        text.push_str(&encode(schema));
    }
    if !connection.extra.is_empty() {
        text.push('?');
        text.push_str(&query(connection));
    }
    text
}

/// Pairs where every value is text, else all of it in one parameter.
fn query(connection: &Connection) -> String {
    let pairs: Option<Vec<String>> = connection
        .extra
        .iter()
        .map(|(name, value)| value.as_str().map(|value| format!("{}={}", encode(name), encode(value))))
        .collect();
    pairs.filter(|_| !connection.extra.contains_key(WHOLE_EXTRA)).map_or_else(
        || format!("{WHOLE_EXTRA}={}", encode(&Json::Object(connection.extra.clone()).to_string())),
        |pairs| pairs.join("&"),
    )
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Encodes everything but the characters that no URI gives a meaning.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn decode(text: &str) -> Result<String, UriError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push(u8::try_from(high * 16 + low).unwrap_or_default()),
            _ => return Err(UriError::Encoding),
        }
    }
    String::from_utf8(bytes).map_err(|_| UriError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Connection, UriError> {
        parse(ConnectionId::new("x").unwrap(), text)
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for text in [
            "postgres://ann:p%40ss@db.example:5432/sales",
            "postgres://ann:p%3Aa%2Fs%3Fs@db.example:5432/sales?sslmode=require",
            "http://https%3A%2F%2Fapi.example%2Fv1",
            "sqlite:///%2Fdata%2Fx.sqlite",
            "redis://:secret@[::1]:6379/0",
            "aws://AKIA:abc@/?region_name=eu-central-1",
            "google-cloud-platform://?__extra__=%7B%22project%22%3A%22x%22%2C%22n%22%3A1%7D",
        ] {
            let connection = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read(&connection.uri()).unwrap(), connection, "{text} {}", connection.uri());
        }
    }

    #[test]
    fn parts_land_in_their_fields() {
        let connection = read("postgres://ann:p%40s%20s@db.example:5432/sales?a=b+c").unwrap();
        assert_eq!((connection.kind.as_str(), connection.port), ("postgres", Some(5432)));
        assert_eq!(connection.password.as_ref().map(Secret::reveal), Some("p@s s"));
        assert_eq!(connection.extra["a"], "b c");
        let connection = read("google-cloud-platform://").unwrap();
        assert_eq!((connection.kind.as_str(), &connection.host), ("google_cloud_platform", &None));
    }

    #[test]
    fn what_is_no_uri_says_why_and_not_what_it_held() {
        for (text, error) in [
            ("hunter22", UriError::Scheme),
            ("://x", UriError::Scheme),
            ("pg://h:99999", UriError::Port),
            ("pg://h:0", UriError::Port),
            ("pg://a:b%zz@h", UriError::Encoding),
            ("pg://a:%ff@h", UriError::Encoding),
            ("pg://h?__extra__=%5B%5D", UriError::Extra),
        ] {
            assert_eq!(read(text).unwrap_err(), error, "{text}");
            assert!(!error.to_string().contains("hunter22"));
        }
    }
}
