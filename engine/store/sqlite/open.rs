//! Opening a file: who owns it, whether it is ours, its version, and the settings of every connection.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{Durability, OpenError, error};

/// Marks a file as ours in SQLite's header: the letters `stpw`.
pub(super) const APPLICATION_ID: i32 = 0x7374_7077;
/// Each brings a file one version further, the first one from an empty file. A released one is never changed.
const MIGRATIONS: [&str; 5] = [
    include_str!("schema.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
    include_str!("schema-6.sql"),
];
/// The version that the first of them makes. No released program has written an older one.
const FIRST_VERSION: u32 = 2;
/// The version of the schema that this program writes.
pub(super) const VERSION: u32 = FIRST_VERSION - 1 + MIGRATIONS.len() as u32;
/// Older versions can lose commits when the write-ahead log is reset (https://www.sqlite.org/releaselog/3_51_3.html).
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long a connection waits for another one before it answers that the file is busy.
const BUSY: Duration = Duration::from_secs(5);
/// Pages that the writer keeps in memory between transactions, in KiB. Within one there are as many as it takes, so that nothing is written
/// to the log twice. More would not be faster: after a page of a tree was split, a commit goes through all of them to drop those past the
/// end of the file (`pcache1TruncateUnsafe`; the split borrows the number of a page that lies far behind it).
const WRITER_CACHE_KIB: i32 = 2 * 1024;
/// The write-ahead log is cut back to this size once it has been copied into the main file, in bytes.
const LOG_KEPT_BYTES: u32 = 64 * 1024 * 1024;

/// The proof that no other process writes to the file; the system lets go of it also after a kill.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `<path>.lock` and writes this process's number into it.
    pub(super) fn take(path: &Path) -> Result<Lock, OpenError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let mut file = private().create(true).truncate(false).open(&path).map_err(|error| OpenError::io(&path, &error))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::Locked { pid: holder(&mut file) }),
            Err(error) => return Err(OpenError::io(&path, &error.into())),
        }
        let text = format!("{}\n", std::process::id());
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(|error| OpenError::io(&path, &error))?;
        Ok(Lock { _file: file })
    }
}

/// The live process that owns the file at `path`; none where nobody does.
pub(super) fn owner(path: &Path) -> Option<u32> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut file = File::open(PathBuf::from(name)).ok()?;
    let pid = holder(&mut file);
    // The lock itself is tried only where its holder seems alive: an engine that starts this moment must not meet ours.
    let raw = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)?;
    if rustix::process::test_kill_process(raw) == Err(rustix::io::Errno::SRCH) {
        return None;
    }
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => Some(pid),
        _ => None,
    }
}

/// Which file stood at a path once.
pub(super) struct Identity {
    path: PathBuf,
    device_and_number: (u64, u64),
}

impl Identity {
    pub(super) fn of(path: &Path) -> Result<Identity, OpenError> {
        let device_and_number = device_and_number(path).map_err(|error| OpenError::io(path, &error))?;
        Ok(Identity { path: path.to_owned(), device_and_number })
    }

    /// Whether the same file stands there still; yes where the system does not say.
    pub(super) fn is_in_place(&self) -> bool {
        match device_and_number(&self.path) {
            Ok(found) => found == self.device_and_number,
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }
}

fn device_and_number(path: &Path) -> std::io::Result<(u64, u64)> {
    let file = std::fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// The number in a lock file; 0 while its owner has not written it yet.
fn holder(file: &mut File) -> u32 {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}

pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Makes an empty file that only its owner may read, where there is none. SQLite gives its side files the same mode.
pub(super) fn create_private(path: &Path) -> std::io::Result<bool> {
    match private().create_new(true).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// The connection that writes, with the file brought to this program's version, and whether its last owner ended
/// without closing it.
pub(super) fn writer(path: &Path, durability: Durability) -> Result<(Connection, bool), OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::TooOldSqlite);
    }
    create_private(path).map_err(|error| OpenError::io(path, &error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    settle(&connection)?;
    // What is not ours is recognised before anything is written to it.
    let found = identify(&connection)?;
    if connection.is_readonly("main")? {
        // Either it may not be written, or its header names a format that SQLite only reads.
        private().open(path).map_err(|error| OpenError::io(path, &error))?;
        return Err(OpenError::Corrupt("its header names a format that cannot be written".to_owned()));
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    let synchronous = match durability {
        Durability::Full => "full",
        Durability::Normal => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "cache_spill", false)?;
    copy_log(&connection)?;
    let was_open = migrate(&mut connection, found)?;
    Ok((connection, was_open))
}

/// Copies what lies in the log into the main file, and flushes that, before anything is added to the log: an owner whose flush failed leaves
/// one that looks whole, but of which a part may be in the system's memory alone. In a power cut that would be lost, with all that had been
/// added behind it since. A full disk has no room for the copy, and none for what would be added; what another program reads at this moment
/// (a database shell) stays in the log.
fn copy_log(connection: &Connection) -> rusqlite::Result<()> {
    match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => Ok(()),
        outcome => outcome,
    }
}

/// The connection that copies the write-ahead log into the main file.
pub(super) fn checkpointer(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    settle(&connection)?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    settle(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A reader for a file that this process may not own, if it is ours and of a version that this program knows.
pub(super) fn foreign_reader(path: &Path) -> Result<Connection, OpenError> {
    if !path.exists() {
        return Err(OpenError::Missing);
    }
    let connection = reader(path)?;
    match identify(&connection)? {
        VERSION => Ok(connection),
        0 => Err(OpenError::NotOurs),
        found => Err(OpenError::Older { found, known: VERSION }),
    }
}

/// What every connection is set to.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Without it a statement is compiled anew whenever a value is bound that a partial index might be chosen by.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// The version of a file's schema, 0 for an empty file.
fn identify(connection: &Connection) -> Result<u32, OpenError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = number("application_id")?;
    let version = number("user_version")?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(OpenError::NotOurs);
    }
    match u32::try_from(version) {
        Ok(version) if (FIRST_VERSION..=VERSION).contains(&version) => Ok(version),
        Ok(version) if (1..FIRST_VERSION).contains(&version) => {
            Err(OpenError::Io(format!("its schema is version {version}, which no release has written; move the file away")))
        }
        _ => Err(OpenError::Newer { found: version, known: VERSION }),
    }
}

/// Brings the file to this program's version and marks it as open, in one transaction; says whether it was so marked.
fn migrate(connection: &mut Connection, found: u32) -> Result<bool, OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in MIGRATIONS.iter().skip((found + 1).saturating_sub(FIRST_VERSION) as usize) {
        transaction.execute_batch(migration)?;
    }
    if found != VERSION {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    let was_open = transaction
        .query_row("SELECT value FROM meta WHERE key = 'open'", [], |row| row.get::<_, i64>(0))
        .or_else(|error| if error == rusqlite::Error::QueryReturnedNoRows { Ok(0) } else { Err(error) })?
        != 0;
    mark_open(&transaction, true)?;
    transaction.commit()?;
    Ok(was_open)
}

/// Sets or clears the mark that tells an unclean end from a clean one.
pub(super) fn mark_open(connection: &Connection, open: bool) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('open', ?1)", [i64::from(open)])?;
    Ok(())
}

impl OpenError {
    pub(super) fn io(path: &Path, error: &std::io::Error) -> OpenError {
        OpenError::Io(format!("{}: {error}", path.display()))
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> OpenError {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::NotOurs,
            Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupt(error.to_string()),
            // So it is with a number in the header that SQLite does not know, too.
            _ if error::does_not_fit(&error) => OpenError::Corrupt(error.to_string()),
            _ => OpenError::Io(error.to_string()),
        }
    }
}
