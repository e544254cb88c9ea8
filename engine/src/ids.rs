//! Identifiers: validated names for what people name, numbers for what the engine numbers.
//!
//! **Invariant:** a value of a name type always satisfies the pattern of DESIGN §5, so it is safe in a path
//! segment, a URL segment and a log line.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Longer than 200 characters.
    #[error("must not be longer than 200 characters (it has {0})")]
    TooLong(usize),
    /// `.` or `..`.
    #[error("must not be `.` or `..`")]
    Dots,
    /// A character outside the pattern.
    #[error(
        "must not contain {0:?}: only letters, digits, `_`, `-`, `.` are allowed, and the first must be a letter, a digit or `_`"
    )]
    Character(char),
    /// The same for a pattern that allows more.
    #[error(
        "must not contain {0:?}: letters, digits, `_` and the characters `- . / : @ + = % ~ ,` are allowed, and the first must be a letter, a digit or `_`"
    )]
    AssetCharacter(char),
}

/// What the name of an asset may have beside what an id may: enough for a path and for most URIs.
const ASSET_CHARACTERS: &[char] = &['/', ':', '@', '+', '=', '%', '~', ','];

fn check_name(text: &str, extra: &[char]) -> Result<(), NameError> {
    let length = text.chars().count();
    if length == 0 {
        return Err(NameError::Empty);
    }
    if length > 200 {
        return Err(NameError::TooLong(length));
    }
    if text == "." || text == ".." {
        return Err(NameError::Dots);
    }
    for (index, c) in text.chars().enumerate() {
        let is_word = c.is_ascii_alphanumeric() || c == '_';
        let is_inner = index > 0 && (c == '.' || c == '-' || extra.contains(&c));
        if !is_word && !is_inner {
            return Err(match extra.len() {
                0 | 1 => NameError::Character(c),
                _ => NameError::AssetCharacter(c),
            });
        }
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $extra:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the pattern and wraps it.
            ///
            /// # Errors
            /// [`NameError`] when the text does not match the pattern.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                check_name(text.as_ref(), $extra)?;
                Ok(Self(Arc::from(text.as_ref())))
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// The id of a DAG: `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$`, not `.` or `..`.
    DagId,
    &[]
);
name_type!(
    /// The id of a task, unique in its DAG; the same pattern as [`DagId`].
    TaskId,
    &[]
);
name_type!(
    /// The id of a dag run, unique in its DAG; the pattern of [`DagId`] plus `:`.
    RunId,
    &[':']
);
name_type!(
    /// The name of a pool; the same pattern as [`DagId`].
    PoolName,
    &[]
);
name_type!(
    /// The name of a variable; the same pattern as [`DagId`].
    VariableName,
    &[]
);
name_type!(
    /// The id of a connection; the same pattern as [`DagId`].
    ConnectionId,
    &[]
);
name_type!(
    /// The name of an asset: up to 200 letters, digits and `_ - . / : @ + = % ~ ,`, the first a letter, a digit or `_`.
    /// Nothing in it is normalised: two names are the same asset when they are the same text.
    AssetName,
    ASSET_CHARACTERS
);
name_type!(
    /// The name of a worker, unique among the connected ones; the same pattern as [`DagId`].
    WorkerId,
    &[]
);

impl RunId {
    /// Whether it begins like an id that is made: `scheduled__`, `manual__`, …
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let kinds = crate::state::RunType::ALL.iter();
        kinds.filter_map(|kind| self.as_str().strip_prefix(kind.as_str())).any(|rest| rest.starts_with("__"))
    }
}

/// The engine's number for a dag run. Assigned by the engine in creation order and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunKey(pub i64);

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of a backfill, from the same row of numbers as [`RunKey`]: never used again either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackfillKey(pub i64);

impl fmt::Display for BackfillKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Identifies a task instance: a task of a dag run, and its element when it is mapped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskInstanceKey {
    /// The dag run.
    pub run: RunKey,
    /// The task.
    pub task: TaskId,
    /// The element of a mapped task from 0, or −1 when the task is not mapped.
    pub map_index: i32,
}

impl TaskInstanceKey {
    /// Returns what people call it within its run: `task`, or `task[3]` for an element.
    #[must_use]
    pub fn name(&self) -> String {
        match self.map_index {
            -1 => self.task.to_string(),
            index => format!("{}[{index}]", self.task),
        }
    }
}

/// Identifies one attempt of a task instance; this is the fence that every write of a worker carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The task instance.
    #[serde(flatten)]
    pub instance: TaskInstanceKey,
    /// The try, counted from 1; it only grows, across clears too.
    pub try_number: u32,
    /// The lease epoch (`$TIDEMILL_FENCE`): strictly increasing per task instance.
    pub epoch: u32,
}
