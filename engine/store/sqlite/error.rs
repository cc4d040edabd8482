//! SQLite's errors in the words of a store.

use rusqlite::{ErrorCode, ffi};

use super::super::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        let text = error.to_string();
        if does_not_fit(&error) {
            return StoreError::Corrupt(text);
        }
        match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => StoreError::Full,
                // The index of the write-ahead log could not grow: that is how a full disk shows there.
                _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => StoreError::Full,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation => StoreError::Corrupt(text),
                _ => StoreError::Io(text),
            },
            // A stored value is of another type, or a text is not UTF-8: the file does not hold what was written.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows => StoreError::Corrupt(text),
            _ => StoreError::Io(text),
        }
    }
}

/// Whether somebody else holds the write lock.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether one of our own statements does not fit the file, which has another schema than the one that was written.
pub(super) fn does_not_fit(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || matches!(error, rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == ffi::SQLITE_ERROR)
}
