//! What lies beside a DAG file: the files that its tasks execute, and the dates that are past.
//!
//! The engine says what is to be asked and judges the answer; here is who asks. A page asks anew whenever it is shown, so a
//! file that was put there later is not missed any more.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use chrono::{DateTime, Utc};
use tidemill_engine::{
    definition::{Dag, FileState, Outside, Problem},
    template::NamesOutside,
};
use tidemill_store::ReadError;

use crate::handle::Handle;

/// What is odd about the file of a DAG although it loads, and what is to be asked about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileWarnings {
    /// A coded sentence each.
    pub(crate) sentences: Vec<String>,
    pub(crate) outside: Arc<Outside>,
    /// The folder that tasks run in.
    pub(crate) folder: PathBuf,
}

impl FileWarnings {
    /// Returns every sentence, with what is found when it is looked up now. Blocks for as long as a few looks at files take.
    pub(crate) fn now(&self, dag: &Dag, cursor: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Vec<String> {
        let mut all = self.sentences.clone();
        let missing = self.outside.missing(&|path| look_beside(&self.folder, path));
        all.extend(missing.iter().chain(&self.outside.dates(dag, cursor, now)).map(sentence));
        all
    }
}

impl Handle {
    /// Returns what is odd about the file of a DAG although it loads, a coded sentence each: what the file itself says, and
    /// what is found when the files that its tasks execute and the dates after `cursor` are looked up now.
    pub async fn warnings(&self, dag: &Arc<Dag>, cursor: DateTime<Utc>) -> Vec<String> {
        let found = {
            let warnings = self.shared.warnings.read().unwrap_or_else(PoisonError::into_inner);
            warnings.get(&dag.id).cloned()
        };
        let Some(found) = found else { return Vec::new() };
        let (dag, now) = (Arc::clone(dag), self.shared.clock.now().wall);
        tokio::task::spawn_blocking(move || found.now(&dag, Some(cursor), now)).await.unwrap_or_default()
    }
}

impl Handle {
    /// Says which variables and connections that the tasks of a DAG name do not exist here, a coded sentence each.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn missing_names(&self, dag: &Dag) -> Result<Vec<String>, ReadError> {
        let names = NamesOutside::of(dag);
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let missing = self.shared.vault.missing(&*self.shared.reader, &names).await?;
        Ok(missing.iter().map(sentence).collect())
    }
}

/// Returns what is found at a path relative to a folder. What cannot be looked at counts as there.
#[must_use]
pub fn look_beside(folder: &Path, path: &str) -> FileState {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(folder.join(path)) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 == 0 => FileState::NotExecutable,
        Ok(_) => FileState::There,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => FileState::Missing,
        Err(_) => FileState::There,
    }
}

/// Returns a problem as one sentence.
pub(crate) fn sentence(problem: &Problem) -> String {
    let place = problem.spans.first().map_or_else(String::new, |span| format!(" in line {}", span.line));
    let help = problem.help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
    format!("{}{place}: {}{help}", problem.code, problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_a_file_is_told_apart() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/x.sh"), "").unwrap();
        let look = |path: &str| look_beside(folder.path(), path);
        assert_eq!(look("sub/x.sh"), FileState::NotExecutable);
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path().join("sub/x.sh"), executable).unwrap();
        assert_eq!(look("sub/x.sh"), FileState::There);
        assert_eq!(look("sub"), FileState::There);
        assert_eq!(look("sub/y.sh"), FileState::Missing);
        assert_eq!(look("sub/x.sh/y"), FileState::There, "who can tell");
    }
}
