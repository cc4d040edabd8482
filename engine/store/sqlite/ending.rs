//! How the last owner of a file ended: a mark in the file says whether it closed it, and a note beside the file what it
//! could still tell where it did not.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Ending, OpenError, open};

/// What the note of an owner says that was told to stop.
const TOLD: &str = "told to stop\n";
/// What it says, with anything before or after it, where the owner crashed.
const CRASHED: &str = "crashed";

/// The note: `<database>.end`. There is none while nothing happens.
pub(super) struct Note(PathBuf);

impl Note {
    pub(super) fn beside(database: &Path) -> Note {
        let mut name = database.as_os_str().to_owned();
        name.push(".end");
        Note(PathBuf::from(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the note and takes it away. A file that was closed needs none.
    pub(super) fn take(&self, was_open: bool) -> Result<Ending, OpenError> {
        let text = match std::fs::read(&self.0) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(OpenError::io(&self.0, &error)),
        };
        self.remove().map_err(|error| OpenError::io(&self.0, &error))?;
        Ok(match () {
            () if !was_open => Ending::Clean,
            () if text.contains(CRASHED) => Ending::Crashed,
            () if text.contains(TOLD) => Ending::Told,
            () => Ending::Killed,
        })
    }

    /// Notes that the owner was told to stop.
    pub(super) fn told(&self) {
        let written = open::private().create(true).append(true).open(&self.0).and_then(|mut file| file.write_all(TOLD.as_bytes()));
        if let Err(error) = written {
            // Then an end by force counts like any other, which takes nine of them to harm anybody.
            tracing::warn!(path = %self.0.display(), %error, "cannot note that the engine was told to stop");
        }
    }

    pub(super) fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
