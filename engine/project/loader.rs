//! The way to the newest snapshot: what a project is loaded from, again and again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::Diagnostic;
use crate::script::Host;

use super::{Mode, Project};

/// What a project is loaded from.
#[derive(Debug, Clone)]
pub struct Loader {
    path: PathBuf,
    host: Arc<Host>,
    env: fn(&str) -> Option<String>,
    mode: Mode,
    has_clock: bool,
}

impl Loader {
    /// Loads the config at `path`; `env` reads the environment.
    pub fn new(path: impl Into<PathBuf>, host: Arc<Host>, env: fn(&str) -> Option<String>, mode: Mode) -> Loader {
        Loader { path: path.into(), host, env, mode, has_clock: true }
    }

    /// The same, for projects that the clock starts nothing of: one that jumps would start schedules without end.
    #[must_use]
    pub fn without_clock(self) -> Loader {
        Loader { has_clock: false, ..self }
    }

    /// The config.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The script host that compiles it.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The project as its files are now, with warnings and notes.
    ///
    /// # Errors
    /// As `Project::load`.
    pub fn load(&self) -> Result<(Project, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (project, notes) = Project::load(&self.path, &self.host, &self.env, self.mode)?;
        Ok((Project { has_clock: self.has_clock, ..project }, notes))
    }
}
