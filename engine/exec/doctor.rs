//! Is everything sound? The checks that `stepwell doctor` and the dashboard make of a store and of what is around it; what is wrong says
//! what to do.

mod flush;
mod handlers;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::{Millis, Span, size};
use crate::project::Project;
use crate::store::{Stats, Store, StoreError};

/// Free bytes of the disk below which it is as good as full.
const FREE_LEAST: u64 = 1024 * 1024;
/// Free bytes of the disk below which that is worth a word.
const FREE_LITTLE: u64 = 512 * 1024 * 1024;
/// The share of the disk, in percent, below which free space is worth a word.
const FREE_SHARE: u64 = 10;
/// A write-ahead log of so many bytes is worth a word: something keeps it from being taken into the database.
const LOG_MOST: u64 = 512 * 1024 * 1024;
/// Open files that an engine should be allowed to have: each connection and each call of a handler needs one.
const FILES_LEAST: u64 = 4_096;
/// How far the clock may be behind what is stored.
const CLOCK_BEHIND: Span = Span::seconds(2);

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing is wrong.
    Well,
    /// Worth knowing.
    Note,
    /// Something has to be done.
    Ill,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in one word.
    pub name: &'static str,
    /// How it came out.
    pub finding: Finding,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    /// A check that found nothing wrong.
    pub fn well(name: &'static str, text: impl Into<String>) -> Check {
        Check { name, finding: Finding::Well, text: text.into(), advice: None }
    }

    /// Something worth knowing, and what may be done.
    pub fn note(name: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name, finding: Finding::Note, text: text.into(), advice: Some(advice.into()) }
    }

    /// Something that is wrong, and what to do.
    pub fn ill(name: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name, finding: Finding::Ill, text: text.into(), advice: Some(advice.into()) }
    }
}

/// The checks of a store that could be opened, and of the disk, the files and the clock that it depends on. `deep` reads the whole store
/// for faults, which takes as long as the disk takes to read it. Whether runs can go on is looked up where there are not too many of them, or
/// `deep` says so; `project` is the config that they would go on with. It blocks, and flushes a small file of its own.
pub fn examine(store: &dyn Store, project: Option<&Project>, now: Millis, deep: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    match store.stats() {
        Ok(stats) => {
            let runs = if stats.unfinished == 1 { "1 run" } else { "runs" };
            let count = if stats.unfinished == 1 { String::new() } else { format!("{} ", stats.unfinished) };
            checks.push(Check::well("database", format!("{} opens, {}, {count}{runs} unfinished", stats.place, size(stats.bytes))));
            checks.push(Check::well(
                "version",
                format!("stepwell {}, {}, schema {}", env!("CARGO_PKG_VERSION"), stats.library, stats.version),
            ));
            checks.push(clock(&stats, now));
            if deep || stats.unfinished <= handlers::LOOKED_AT_ONCE {
                checks.extend(handlers::runs(store, project));
            }
            if stats.place != "memory" {
                checks.extend(files(Path::new(&stats.place)));
            }
        }
        Err(error) => checks.push(Check::ill("database", error.to_string(), restore())),
    }
    checks.push(descriptors());
    if deep {
        checks.push(integrity(store.check()));
    }
    checks
}

fn restore() -> &'static str {
    "restore a backup, or move the file away and start anew; the engine never does that by itself"
}

fn integrity(found: Result<Vec<String>, StoreError>) -> Check {
    match found {
        Ok(faults) if faults.is_empty() => Check::well("integrity", "every page and index is sound"),
        Ok(faults) => Check::ill("integrity", faults.join("; "), restore()),
        Err(error) => Check::ill("integrity", error.to_string(), restore()),
    }
}

fn clock(stats: &Stats, now: Millis) -> Check {
    let newest = stats.largest_id.made_at();
    let behind = newest.since(now);
    if stats.largest_id.0 > 0 && behind.0 > CLOCK_BEHIND.0 {
        let text = format!("{} is {} before the newest row that is stored", now.rfc3339(), Span(behind.0 / 1_000 * 1_000));
        return Check::ill("clock", text, "set the clock (a time service such as chrony keeps it); what is due waits until then");
    }
    Check::well("clock", now.rfc3339())
}

/// The checks of the database's file and of its disk.
fn files(database: &Path) -> Vec<Check> {
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut checks = vec![disk(folder), flush::flush(folder), permissions(database, folder)];
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    if let Ok(meta) = std::fs::metadata(&log)
        && meta.len() > LOG_MOST
    {
        let advice = "a long read of another program (a copy, an open `sqlite3`) keeps it; end that, or restart the engine";
        checks.push(Check::note("log", format!("the write-ahead log has {}", size(meta.len())), advice));
    }
    checks
}

/// Bytes that are free on the disk of a folder, and all that it has.
///
/// # Errors
/// Those of the system.
pub fn disk_free(folder: &Path) -> std::io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(folder)?;
    Ok((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

fn disk(folder: &Path) -> Check {
    let (free, all) = match disk_free(folder) {
        Ok(found) => found,
        Err(error) => return Check::note("disk", format!("{}: {error}", folder.display()), "look at the folder and its permissions"),
    };
    let text = format!("{} of {} free", size(free), size(all));
    let advice = "make room, shorten `retention`, or move the database; at a full disk events are refused and checkpoints wait";
    match free {
        _ if free < FREE_LEAST => Check::ill("disk", text, advice),
        _ if free < FREE_LITTLE || free / FREE_SHARE < all / 100 => Check::note("disk", text, advice),
        _ => Check::well("disk", text),
    }
}

/// What follows the name of a database in those of the files beside it: its log, the log's index, and the lock of who owns it.
const BESIDE: [&str; 3] = ["-wal", "-shm", ".lock"];

/// The database and the files beside it that are there, each with who may open it.
fn own_files(database: &Path) -> std::io::Result<Vec<(PathBuf, u32)>> {
    let mode = |path: &Path| std::fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777);
    let mut files = vec![(database.to_owned(), mode(database)?)];
    for end in BESIDE {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        let path = PathBuf::from(name);
        // They come and go with those that have the database open.
        match mode(&path) {
            Ok(mode) => files.push((path, mode)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

fn permissions(database: &Path, folder: &Path) -> Check {
    let files = match own_files(database) {
        Ok(files) => files,
        Err(error) => return Check::note("rights", format!("{}: {error}", database.display()), "look at the path and its folder"),
    };
    let shown = |files: &[&(PathBuf, u32)]| files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>();
    if rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_err() {
        let text = format!("this user may not write into {}", folder.display());
        return Check::ill("rights", text, "the engine makes its log there: give the folder to the engine's user");
    }
    let both = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    let (closed, open): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| rustix::fs::access(path, both).is_err());
    if !closed.is_empty() {
        let text = format!("this user may not write {}", shown(&closed).join(", "));
        return Check::ill("rights", text, "give what is named to the engine's user");
    }
    let (bare, _): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, mode)| mode & 0o077 != 0);
    if !bare.is_empty() {
        let modes: Vec<String> = bare.iter().map(|(path, mode)| format!("{} (mode {mode:03o})", path.display())).collect();
        let advice = format!("every event's data go through them: chmod 600 {}", shown(&bare).join(" "));
        return Check::note("rights", format!("others may open {}", modes.join(", ")), advice);
    }
    Check::well("rights", "the engine's user alone opens the database and the files beside it")
}

fn descriptors() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.maximum {
        Some(most) if most < FILES_LEAST => Check::note(
            "files",
            format!("at most {most} files may be open at once"),
            format!("raise it to {FILES_LEAST} or more: `LimitNOFILE=` of a systemd unit, `ulimit -n` of a shell"),
        ),
        Some(most) => Check::well("files", format!("{most} files may be open at once")),
        None => Check::well("files", "any number of files may be open at once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    #[test]
    fn a_clock_behind_what_is_stored_is_told() {
        let stats = Stats { largest_id: Id::first_at(Millis(1_800_000_100_000)), ..Stats::default() };
        let check = clock(&stats, Millis(1_800_000_000_000));
        assert_eq!(check.finding, Finding::Ill);
        assert!(check.text.contains("1m40s before"), "{check:?}");
        assert_eq!(clock(&stats, Millis(1_800_000_100_500)).finding, Finding::Well);
        assert_eq!(clock(&Stats::default(), Millis(0)).finding, Finding::Well, "nothing is stored yet");
    }

    #[test]
    fn a_database_that_others_may_open_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.db");
        for beside in ["x.db", "x.db-wal", "x.db-shm", "x.db.lock"].map(|name| folder.path().join(name)) {
            std::fs::write(&beside, "").expect("a file");
            for (mode, finding) in [(0o644, Finding::Note), (0o600, Finding::Well)] {
                std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).expect("a mode");
                assert_eq!(permissions(&file, folder.path()).finding, finding, "{} {mode:o}", beside.display());
            }
        }
        assert_eq!(disk(folder.path()).name, "disk");
    }
}
