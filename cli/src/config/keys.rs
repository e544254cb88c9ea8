//! Every key of the configuration: its place in the file, its environment variable, its type and default.
//!
//! This table is the one home of the keys: the reader, `config show` and a test of `docs/configuration.md` go
//! by it.

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A path; relative to the file's folder in a file, else to the current folder.
    Path,
    /// `ADDRESS:PORT`.
    Address,
    /// `http://HOST:PORT`.
    Url,
    /// `http://HOST` or, behind a TLS proxy, `https://HOST`: what people type into a browser.
    PublicUrl,
    /// A duration.
    Duration,
    /// A duration or `forever`.
    Retention,
    /// A whole number within bounds.
    Integer { min: u64, max: u64 },
    /// A list of words; in the environment separated by commas.
    Words,
    /// A list of addresses, networks and host names; in the environment separated by commas.
    Places,
    /// A table of text.
    Map,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// Returns the type in words, for messages.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Text | Self::Secret => "a string".to_owned(),
            Self::Path => "a path in a string".to_owned(),
            Self::Address => "an address and port such as \"127.0.0.1:7373\"".to_owned(),
            Self::Url => "a URL such as \"http://127.0.0.1:7373\"".to_owned(),
            Self::PublicUrl => "a URL such as \"https://mill.example\"".to_owned(),
            Self::Duration => "a duration such as \"90s\", \"5m\" or \"1h30m\"".to_owned(),
            Self::Retention => "a duration such as \"90d\", or \"forever\"".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Words => "a list of strings".to_owned(),
            Self::Places => "a list of addresses, networks and host names such as [\"127.0.0.1\", \"10.0.0.0/8\", \"hooks.internal\"]".to_owned(),
            Self::Map => "a table of strings".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Where it stands in the file: `section.key` or `key`.
    pub(crate) path: &'static str,
    /// Its environment variable.
    pub(crate) env: Option<&'static str>,
    /// Its type.
    pub(crate) kind: Kind,
    /// Its default as it would be written in the file; empty: none, see the documentation.
    pub(crate) default: &'static str,
}

const fn key(path: &'static str, env: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, env: Some(env), kind, default }
}

/// Every key, in the order of the documentation.
pub(crate) const KEYS: &[Key] = &[
    key("data_dir", "TIDEMILL_HOME", Kind::Path, ""),
    key("dags_dir", "TIDEMILL_DAGS_DIR", Kind::Path, "dags"),
    key("log.level", "TIDEMILL_LOG", Kind::Text, "info"),
    key("log.format", "TIDEMILL_LOG_FORMAT", Kind::Choice(&["text", "json"]), "text"),
    key("client.url", "TIDEMILL_URL", Kind::Url, ""),
    key("client.token", "TIDEMILL_TOKEN", Kind::Secret, ""),
    key("server.listen", "TIDEMILL_LISTEN", Kind::Address, "127.0.0.1:7373"),
    key("server.url", "TIDEMILL_SERVER_URL", Kind::PublicUrl, ""),
    key("server.allowed_hosts", "TIDEMILL_ALLOWED_HOSTS", Kind::Words, ""),
    key("server.database", "TIDEMILL_DATABASE", Kind::Secret, ""),
    key("server.secret_key_file", "TIDEMILL_SECRET_KEY_FILE", Kind::Path, ""),
    key("scheduler.rescan_interval", "TIDEMILL_RESCAN_INTERVAL", Kind::Duration, "5s"),
    key("scheduler.delivery_timeout", "TIDEMILL_DELIVERY_TIMEOUT", Kind::Duration, "10s"),
    key("outbound.allow", "TIDEMILL_OUTBOUND_ALLOW", Kind::Places, ""),
    key("retention.runs", "TIDEMILL_RETENTION_RUNS", Kind::Retention, "90d"),
    key("worker.name", "TIDEMILL_WORKER_NAME", Kind::Text, ""),
    key("worker.slots", "TIDEMILL_SLOTS", Kind::Integer { min: 1, max: 10_000 }, ""),
    key("worker.queues", "TIDEMILL_QUEUES", Kind::Words, "default"),
    key("worker.grace", "TIDEMILL_GRACE", Kind::Duration, "10s"),
    key("worker.drain", "TIDEMILL_DRAIN", Kind::Duration, "0s"),
    key("worker.cgroups", "TIDEMILL_CGROUPS", Kind::Choice(&["auto", "off"]), "auto"),
    key("worker.join_token", "TIDEMILL_JOIN_TOKEN", Kind::Secret, ""),
    key("worker.inherit", "TIDEMILL_INHERIT", Kind::Words, ""),
    Key { path: "worker.env", env: None, kind: Kind::Map, default: "" },
];

/// Returns the key at a place in the file.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Returns the names of the sections.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> =
        KEYS.iter().filter_map(|key| key.path.split_once('.').map(|(section, _)| section)).collect();
    sections.dedup();
    sections
}

/// Returns the nearest of some words, when it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    words
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}
