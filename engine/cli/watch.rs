//! The files of a project, watched while somebody writes them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::base::Diagnostic;

use super::exit::{Exit, Trouble};

/// How long it has to be quiet after a change: editors write a file in several steps, and git many files.
const QUIET: Duration = Duration::from_millis(200);
/// The longest that changes which go on and on are waited for.
const LONGEST: Duration = Duration::from_secs(2);
/// Folders beside the config that hold no sources of ours.
const FOREIGN: &[&str] = &["node_modules", "target"];
/// Stands for every file of the folder: where it is not known which have changed.
const ALL: &str = "events.yaml";
/// What the files are called that a project may be made of.
const EXTENSIONS: &[&str] = &["yaml", "yml", "rhai", "json"];

/// Watches the config's folder and those below it.
pub struct Watch {
    root: PathBuf,
    watcher: RecommendedWatcher,
    /// Paths that have changed.
    changed: mpsc::UnboundedReceiver<PathBuf>,
}

impl Watch {
    /// Begins to watch, for a command that does nothing else.
    ///
    /// # Errors
    /// Exit 74 where the system does not let it.
    pub fn needed(root: &Path) -> Result<Watch, Trouble> {
        Watch::new(root)
            .map_err(|error| Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("the files cannot be watched: {error}"))))
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// Where the system does not let it, as when all of its watches are taken.
    pub fn new(root: &Path) -> notify::Result<Watch> {
        // What it is told of has whole paths.
        let root = root.canonicalize().map_err(notify::Error::io)?;
        let (sender, changed) = mpsc::unbounded_channel();
        let all = root.join(ALL);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            // A watcher that has lost track tells of no path, and then all may have changed.
            let lost = event.need_rescan().then(|| all.clone());
            // Reading a file is no change.
            let paths = if matches!(event.kind, EventKind::Access(_)) { Vec::new() } else { event.paths };
            for path in lost.into_iter().chain(paths) {
                // Nobody listens any more once the engine ends.
                let _ = sender.send(path);
            }
        })?;
        let mut watch = Watch { root, watcher, changed };
        let root = watch.root.clone();
        watch.watcher.watch(&root, RecursiveMode::NonRecursive)?;
        for entry in std::fs::read_dir(&root).map_err(notify::Error::io)?.flatten() {
            watch.below(&entry.path())?;
        }
        Ok(watch)
    }

    /// Watches a folder beside the config with all that is in it, unless it is none of ours.
    fn below(&mut self, folder: &Path) -> notify::Result<()> {
        if self.is_ours(folder) && folder.parent() == Some(&self.root) && folder.is_dir() {
            self.watcher.watch(folder, RecursiveMode::Recursive)?;
        }
        Ok(())
    }

    /// Whether a path lies where sources may lie.
    fn is_ours(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.root) else { return false };
        let foreign = |name: &str| name.starts_with('.') || FOREIGN.contains(&name);
        below.iter().all(|part| part.to_str().is_some_and(|name| !foreign(name)))
    }

    /// Whether a path may be a source, or a folder of them that has come or gone.
    fn matters(&self, path: &Path) -> bool {
        let is_source = match path.extension().and_then(|extension| extension.to_str()) {
            Some(extension) => EXTENSIONS.contains(&extension),
            None => !path.is_file(),
        };
        is_source && path != self.root && self.is_ours(path)
    }

    /// Is done once something has changed and it is quiet again; none where nothing is watched any more.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            let path = self.changed.recv().await?;
            if self.note(&path) {
                break;
            }
        }
        let over = tokio::time::sleep(LONGEST);
        let mut over = std::pin::pin!(over);
        let quiet = tokio::time::sleep(QUIET);
        let mut quiet = std::pin::pin!(quiet);
        loop {
            tokio::select! {
                () = &mut over => return Some(()),
                () = &mut quiet => return Some(()),
                path = self.changed.recv() => {
                    // The database is written all the time: that does not make it less quiet.
                    if self.note(&path?) {
                        quiet.set(tokio::time::sleep(QUIET));
                    }
                }
            }
        }
    }

    fn note(&mut self, path: &Path) -> bool {
        if path.is_dir() && self.below(path).is_err() {
            tracing::warn!("{} cannot be watched: reload by hand after a change there", path.display());
        }
        self.matters(path)
    }
}
