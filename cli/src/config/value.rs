//! Values of the configuration: one type for what comes from the file, the environment and the command line.

use std::{collections::BTreeMap, net::ToSocketAddrs, path::PathBuf, time::Duration};

use tidemill_engine::definition::values::{parse_duration, show_seconds};

use super::keys::Kind;

/// A value, checked against its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Text, secrets, paths, addresses, URLs and choices.
    Text(String),
    /// A duration; absent: for ever.
    Duration(Option<Duration>),
    /// A whole number.
    Integer(u64),
    /// A list of words.
    Words(Vec<String>),
    /// A table of text.
    Map(BTreeMap<String, String>),
}

/// Reads a value of the environment or the command line.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn from_text(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text | Kind::Secret | Kind::Path if text.is_empty() => Err("it is empty".to_owned()),
        Kind::Text | Kind::Secret | Kind::Path => Ok(Value::Text(text.to_owned())),
        Kind::Address => address(text).map(Value::Text),
        Kind::Url => url(text).map(Value::Text),
        Kind::PublicUrl => public_url(text).map(Value::Text),
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Retention if text == "forever" => Ok(Value::Duration(None)),
        Kind::Duration | Kind::Retention => duration(text).map(|length| Value::Duration(Some(length))),
        Kind::Integer { min, max } => match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            _ => Err(format!("{text:?} is not {}", kind.describe())),
        },
        Kind::Words | Kind::Places => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            words_of(kind, words.map(str::to_owned).collect())
        }
        Kind::Map | Kind::Choice(_) => Err(format!("{text:?} is not {}", kind.describe())),
    }
}

/// Makes a list of words, checked against its kind.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn words_of(kind: Kind, words: Vec<String>) -> Result<Value, String> {
    if kind == Kind::Places {
        tidemill_outbound::Allow::read(&words).map_err(|error| error.to_string())?;
    }
    Ok(Value::Words(words))
}

fn address(text: &str) -> Result<String, String> {
    let is_address =
        text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !is_address {
        return Err(format!("{text:?} is not {}", Kind::Address.describe()));
    }
    // A host name is looked up when the server binds; here only the form of numbers is checked.
    if text.starts_with('[') && text.to_socket_addrs().is_err() {
        return Err(format!("{text:?} is not {}", Kind::Address.describe()));
    }
    Ok(text.to_owned())
}

fn url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if url.scheme() == "http" && url.has_host() => Ok(text.trim_end_matches('/').to_owned()),
        Ok(url) if url.scheme() == "https" => {
            Err("https is not supported: put a TLS proxy or a tunnel in between".to_owned())
        }
        _ => Err(format!("{text:?} is not {}", Kind::Url.describe())),
    }
}

/// The `Origin` of a page is compared with scheme and host alone, so a path would promise what is not served.
fn public_url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/" => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("{text:?} is not {}", Kind::PublicUrl.describe())),
    }
}

/// Reads `90s`, `5m`, `1h30m`, `2d` or an integer of seconds.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    seconds
        .map(Duration::from_secs)
        .or_else(|| parse_duration(text))
        .ok_or_else(|| format!("{text:?} is not {}", Kind::Duration.describe()))
}

impl Value {
    /// Returns the value as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Duration(None) => "forever".into(),
            Self::Duration(Some(length)) => show_seconds(length.as_secs()).into(),
            Self::Integer(number) => (*number).into(),
            Self::Words(words) => words.clone().into(),
            Self::Map(map) => serde_json::json!(map),
        }
    }

    /// Returns the text; empty for other values.
    pub(crate) fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    /// Returns the path that the text stands for.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(self.text())
    }

    /// Returns the words; none for other values.
    pub(crate) fn words(&self) -> Vec<String> {
        if let Self::Words(words) = self { words.clone() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_in_falling_order() {
        let seconds = |text| duration(text).map(|length| length.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("1h30m"), Ok(5_400));
        assert_eq!(seconds("2d"), Ok(172_800));
        assert_eq!(seconds("45"), Ok(45));
        for wrong in ["", "s", "1m1h", "1h1h", "-5s", "1.5h", "5 m", "99999999999999999999d"] {
            assert!(seconds(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn addresses_and_urls_have_a_port_and_a_scheme() {
        assert!(from_text(Kind::Address, "127.0.0.1:0").is_ok());
        assert!(from_text(Kind::Address, "[::1]:80").is_ok());
        assert!(from_text(Kind::Address, "localhost:80").is_ok());
        for wrong in ["localhost", ":80", "127.0.0.1:x", "127.0.0.1:70000", "[::1:80"] {
            assert!(from_text(Kind::Address, wrong).is_err(), "{wrong}");
        }
        assert_eq!(from_text(Kind::Url, "http://h:1/"), Ok(Value::Text("http://h:1".to_owned())));
        assert!(from_text(Kind::Url, "https://h").is_err_and(|why| why.contains("TLS")));
        assert!(from_text(Kind::Url, "h:1").is_err());
        assert_eq!(from_text(Kind::PublicUrl, "https://h/"), Ok(Value::Text("https://h".to_owned())));
        for wrong in ["h", "ftp://h", "https://h/below"] {
            assert!(from_text(Kind::PublicUrl, wrong).is_err(), "{wrong}");
        }
    }
}
