//! The keys that values are sealed with, and the file that they stand in.
//!
//! The file holds one key a line, 64 hexadecimal digits; `#` begins a comment. The first key seals, every key opens: a
//! new key is put first, everything is sealed anew, and the old one can go.
//!
//! ```text
//! v1:<id of the key>:<base 64 of nonce and ciphertext>
//! ```
//!
//! The cipher is XChaCha20-Poly1305: its nonces are long enough to be random. The place of a value (table, name, field)
//! is authenticated with it, so that a sealed value that is copied to another row does not open there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use sha2::{Digest, Sha256};
use tidemill_engine::secret::Secret;

use crate::tokens::NoEntropy;

/// The format of sealed values.
const FORMAT: &str = "v1";
/// The length of a nonce, in bytes.
const NONCE_BYTES: usize = 24;
/// A key file is read no further than this, in bytes.
const FILE_LIMIT_BYTES: u64 = 64 * 1024;

/// Why a value was not sealed or opened. It never holds any of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The key that sealed it is not here.
    #[error("{what} was sealed with the key {key}, which is not in the key file of this server")]
    OtherKey {
        /// What was to be opened.
        what: String,
        /// The id of the key.
        key: String,
    },
    /// The key file cannot be used.
    #[error("the key file {path} cannot be used: {why}")]
    KeyFile {
        /// Which.
        path: String,
        /// Why not.
        why: String,
    },
    /// It was changed, or belongs elsewhere.
    #[error("{what} is damaged, or was sealed for another place")]
    Damaged {
        /// What was to be opened.
        what: String,
    },
}

impl VaultError {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OtherKey { .. } => "STO0110",
            Self::KeyFile { .. } => "STO0111",
            Self::Damaged { .. } => "STO0112",
        }
    }
}

struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
}

impl Key {
    fn new(bytes: &[u8; 32]) -> Self {
        let id =
            hex::encode(&Sha256::new().chain_update(b"tidemill key\n").chain_update(bytes).finalize()[..4]);
        Self { id, cipher: XChaCha20Poly1305::new(bytes.into()) }
    }
}

/// The keys of a file, the sealing one first; never empty.
pub(crate) struct Keys(Vec<Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

impl Keys {
    /// Makes a key that nobody keeps, for a store that nobody keeps.
    pub(crate) fn generate() -> Result<Self, NoEntropy> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
        Ok(Self(vec![Key::new(&bytes)]))
    }

    /// Reads the text of a key file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let bytes = hex::decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            let bytes = bytes.ok_or_else(|| format!("line {} is not 64 hexadecimal digits", index + 1))?;
            keys.push(Key::new(&bytes));
        }
        if keys.is_empty() { Err("it holds no key".to_owned()) } else { Ok(Self(keys)) }
    }

    /// Returns the id of the key that seals.
    pub(crate) fn current(&self) -> &str {
        self.0.first().map_or("", |key| key.id.as_str())
    }

    pub(crate) fn seal(&self, place: &str, value: &str) -> Result<String, NoEntropy> {
        let Some(key) = self.0.first() else { return Err(NoEntropy) };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| NoEntropy)?;
        let payload = Payload { msg: value.as_bytes(), aad: place.as_bytes() };
        // Only a message of more than 256 GiB cannot be encrypted.
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| NoEntropy)?;
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed);
        Ok(format!("{FORMAT}:{}:{}", key.id, BASE64_STANDARD.encode(bytes)))
    }

    pub(crate) fn open(&self, place: &str, sealed: &str) -> Result<Secret, VaultError> {
        let damaged = || VaultError::Damaged { what: place.to_owned() };
        let mut parts = sealed.splitn(3, ':');
        let (Some(FORMAT), Some(id), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(damaged());
        };
        let Some(key) = self.0.iter().find(|key| key.id == id) else {
            return Err(VaultError::OtherKey { what: place.to_owned(), key: id.to_owned() });
        };
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| damaged())?;
        let (nonce, message) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let payload = Payload { msg: message, aad: place.as_bytes() };
        let value = key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| damaged())?;
        String::from_utf8(value).map(Secret::new).map_err(|_| damaged())
    }
}

/// Returns a new line for a key file.
fn new_line() -> Result<String, NoEntropy> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(format!("{}\n", hex::encode(bytes)))
}

const HEADER: &str = "# The key of Tidemill's variables and connections. Without this file they cannot be read: keep a copy,\n\
                      # apart from the copies of the database. The first key seals, every key opens.\n";

/// Reads the key file, and makes it where there is none.
pub(crate) fn load_or_create(path: &Path) -> Result<Keys, VaultError> {
    let unusable = |why: String| VaultError::KeyFile { path: path.display().to_string(), why };
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let line = new_line().map_err(|error| unusable(error.to_string()))?;
            publish(path, &format!("{HEADER}{line}"), false)
                .map_err(|error| unusable(format!("it cannot be made: {error}")))?;
            // Another server may have been faster; its key counts.
            read(path).map_err(unusable)
        }
        _ => read(path).map_err(unusable),
    }
}

/// Reads the key file.
pub(crate) fn read(path: &Path) -> Result<Keys, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    if let Ok(mode) = file.metadata().map(|data| data.permissions().mode())
        && mode & 0o077 != 0
    {
        let mode = format!("{:o}", mode & 0o777);
        tracing::warn!(path = %path.display(), mode, "others may read the key file; it should have mode 600");
    }
    let mut text = String::new();
    file.take(FILE_LIMIT_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Keys::parse(&text)
}

/// Puts a new key first in a key file and returns its id. The old ones stay, so that everything still opens.
///
/// # Errors
/// STO0111.
pub fn add_key(path: &Path) -> Result<String, VaultError> {
    let unusable = |why: String| VaultError::KeyFile { path: path.display().to_string(), why };
    let old = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    Keys::parse(&old).map_err(unusable)?;
    let line = new_line().map_err(|error| unusable(error.to_string()))?;
    let comments: String = old.lines().filter(|l| l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let keys: String = old.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let text = format!("{comments}{line}{keys}");
    publish(path, &text, true).map_err(|error| unusable(error.to_string()))?;
    Keys::parse(&text).map(|keys| keys.current().to_owned()).map_err(unusable)
}

/// Writes a file that only its owner reads, whole or not at all. One that is there stays unless it is to be replaced.
fn publish(path: &Path, text: &str, is_replaced: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside: PathBuf = folder.join(name);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if is_replaced {
            fs::rename(&beside, path)
        } else {
            match fs::hard_link(&beside, path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        }
    })();
    if !is_replaced || written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222222222222222222222222222";

    #[test]
    fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
        let keys = Keys::parse(A).unwrap();
        let sealed = keys.seal("variable/x", "hunter22").unwrap();
        assert!(sealed.starts_with("v1:") && !sealed.contains("hunter22"));
        assert_ne!(sealed, keys.seal("variable/x", "hunter22").unwrap(), "the nonce is random");
        assert_eq!(keys.open("variable/x", &sealed).unwrap().reveal(), "hunter22");
        assert_eq!(keys.open("variable/y", &sealed).unwrap_err().code(), "STO0112");
        for damaged in ["", "v1", "v1:x", "v2:x:y", "hunter22", &sealed[..sealed.len() - 4]] {
            let code = keys.open("variable/x", damaged).unwrap_err().code();
            assert!(["STO0112", "STO0110"].contains(&code), "{damaged}");
        }
        let error = Keys::parse(B).unwrap().open("variable/x", &sealed).unwrap_err();
        assert_eq!(error.code(), "STO0110");
        assert!(error.to_string().contains(keys.current()), "{error}");
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let old = Keys::parse(A).unwrap();
        let sealed = old.seal("p", "value").unwrap();
        let both = Keys::parse(&format!("# comment\n{B} # new\n\n{A}\n")).unwrap();
        assert_eq!(both.open("p", &sealed).unwrap().reveal(), "value");
        assert_ne!(both.current(), old.current());
        let again = both.seal("p", "value").unwrap();
        assert_eq!(Keys::parse(B).unwrap().open("p", &again).unwrap().reveal(), "value");
        assert_eq!(Keys::parse("# nothing\n").unwrap_err(), "it holds no key");
        assert_eq!(Keys::parse("\nabc\n").unwrap_err(), "line 2 is not 64 hexadecimal digits");
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone_and_takes_new_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let first = load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path).unwrap().current(), first.current());
        let sealed = first.seal("p", "x").unwrap();
        let id = add_key(&path).unwrap();
        let second = load_or_create(&path).unwrap();
        assert_eq!(second.current(), id);
        assert_eq!(second.open("p", &sealed).unwrap().reveal(), "x");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, "nonsense").unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert_eq!(error.code(), "STO0111");
        assert!(!error.to_string().contains("nonsense"));
        assert_eq!(load_or_create(&folder.path().join("no/secret.key")).unwrap_err().code(), "STO0111");
    }
}
