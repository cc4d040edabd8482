//! What strace wrote down of an engine: the calls that change the files of its database, and what it said on sockets, in one
//! order.

use std::collections::HashMap;

/// The main file of a database, and its write-ahead log.
pub const MAIN: &str = "stepwell.db";
pub const LOG: &str = "stepwell.db-wal";
/// The files that a power cut leaves something of; what SQLite keeps in `-shm` it makes anew.
pub const FILES: [&str; 3] = [MAIN, LOG, "stepwell.db-journal"];
/// The folder that they are in; a flush of it is one of their names.
pub const FOLDER: &str = ".stepwell";

/// What strace has to write down. What the kernel of another machine does not have is passed over.
pub const CALLS: &str = "?openat,?open,?creat,pwrite64,?pwritev,?pwritev2,write,writev,sendto,sendmsg,ftruncate,?truncate,\
    ?fallocate,fdatasync,fsync,?sync_file_range,?unlink,unlinkat,?rename,?renameat,?renameat2";

/// A call that changes what a disk holds, or what somebody outside was told. Its times are lines of the log.
pub struct Call {
    /// From when on it counts: a flush and a new file from its return, all else from its beginning.
    pub at: usize,
    pub begun: usize,
    /// When it had returned; `usize::MAX` where its thread was killed before.
    pub done: usize,
    pub what: What,
}

/// Files go by their names in `FILES`.
pub enum What {
    /// It is opened, and made where there was none.
    Open(&'static str),
    Write {
        file: &'static str,
        from: usize,
        bytes: Vec<u8>,
    },
    Resize {
        file: &'static str,
        length: usize,
    },
    /// Of a file, or of `FOLDER`.
    Flush(&'static str),
    Remove(&'static str),
    /// Sent to a client or to the ledger.
    Say {
        socket: String,
        bytes: Vec<u8>,
    },
}

/// Reads a log whose first line has this number. The calls come in the order in which they count.
///
/// The order of the lines can be relied on: strace writes a call's return down before its thread goes on, and its beginning
/// before the kernel carries it out.
pub fn read(text: &str, first: usize) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut under_way: HashMap<&str, (usize, &str)> = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let now = first + number;
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix(" <unfinished ...>") {
            under_way.insert(thread, (now, head));
        } else if let Some(tail) = rest.strip_prefix("<... ") {
            let (begun, head) = under_way.remove(thread).unwrap();
            let (_, tail) = tail.split_once(" resumed>").unwrap();
            calls.extend(call(&format!("{head}{tail}"), begun, now));
        } else if !rest.starts_with("+++") && !rest.starts_with("---") {
            calls.extend(call(rest, now, now));
        }
    }
    calls.extend(under_way.into_values().filter_map(|(begun, head)| call(&format!("{head}) = ?"), begun, usize::MAX)));
    calls.sort_by_key(|call| call.at);
    calls
}

/// A call that is whole, as `name(arguments) = result`; none where it failed or is of no interest.
fn call(text: &str, begun: usize, done: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    // A thread that was killed meanwhile has a question mark for a result.
    let result: Option<i64> = result.split([' ', '<']).next().and_then(|number| number.parse().ok());
    if result.is_some_and(|result| result < 0) {
        return None;
    }
    let (mut bytes, tail) = texts(arguments);
    let numbers: Vec<usize> = tail.trim_end().trim_end_matches(')').split(", ").filter_map(|number| number.parse().ok()).collect();
    let on = opened(arguments);
    let mut cut_to_what_was_taken = || bytes.truncate(result.map_or(usize::MAX, |taken| taken as usize));
    let what = match name {
        "write" | "writev" | "sendto" | "sendmsg" => {
            assert!(on.and_then(known).is_none(), "the disk of this test knows no such call: {name} of {on:?}");
            let socket = on.filter(|on| on.starts_with("socket:"))?.to_owned();
            cut_to_what_was_taken();
            What::Say { socket, bytes }
        }
        "openat" => {
            result?;
            let file = known(std::str::from_utf8(&bytes).ok()?)?;
            if !arguments.contains("O_CREAT") {
                return None;
            }
            assert!(!arguments.contains("O_TRUNC"), "the disk of this test knows no such call: {text}");
            What::Open(file)
        }
        // The kill comes before the kernel has done anything (the ends of lives are compared with the files that are there).
        "pwrite64" => {
            let file = known(on?)?;
            result?;
            cut_to_what_was_taken();
            What::Write { file, from: numbers[1], bytes }
        }
        "ftruncate" => {
            let file = known(on?)?;
            result?;
            What::Resize { file, length: numbers[0] }
        }
        "fdatasync" | "fsync" => {
            let file = known(on?).or_else(|| on?.ends_with(&format!("/{FOLDER}")).then_some(FOLDER))?;
            result?;
            What::Flush(file)
        }
        "unlink" | "unlinkat" => {
            result?;
            What::Remove(known(std::str::from_utf8(&bytes).ok()?)?)
        }
        _ => {
            let about = on.and_then(known).or_else(|| known(std::str::from_utf8(&bytes).ok()?));
            assert!(about.is_none(), "the disk of this test knows no such call: {name} of {about:?}");
            return None;
        }
    };
    let at = if matches!(what, What::Flush(_) | What::Open(_)) { done } else { begun };
    Some(Call { at, begun, done, what })
}

/// The file of a database that a path leads to.
fn known(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next()?;
    FILES.into_iter().find(|file| *file == name)
}

/// What the descriptor is that a call is about; none for a file that has been removed.
fn opened(arguments: &str) -> Option<&str> {
    let (path, rest) = arguments.split_once('<')?.1.split_once('>')?;
    (!rest.starts_with("(deleted)")).then_some(path)
}

/// The bytes of all texts among the arguments, one after the other, and what follows the last text (all where there is none).
fn texts(arguments: &str) -> (Vec<u8>, &str) {
    let raw = arguments.as_bytes();
    let mut bytes = Vec::with_capacity(raw.len() / 2);
    let (mut at, mut end, mut inside) = (0, 0, false);
    while at < raw.len() {
        let byte = raw[at];
        at += 1;
        match byte {
            b'"' => {
                inside = !inside;
                end = at;
            }
            b'\\' if inside => {
                let (value, length) = escaped(&raw[at..]);
                bytes.push(value);
                at += length;
            }
            _ if inside => bytes.push(byte),
            _ => {}
        }
    }
    let tail = &arguments[end..];
    assert!(!tail.starts_with("..."), "strace was to write whole texts down");
    (bytes, if end == 0 { tail.split_once(", ").map_or("", |(_, tail)| tail) } else { tail })
}

/// The byte that stands behind a backslash, and by how many characters.
fn escaped(rest: &[u8]) -> (u8, usize) {
    match rest[0] {
        b'n' => (b'\n', 1),
        b't' => (b'\t', 1),
        b'r' => (b'\r', 1),
        b'v' => (0x0b, 1),
        b'f' => (0x0c, 1),
        b'0'..=b'7' => {
            let digits = rest.iter().take(3).take_while(|digit| (b'0'..=b'7').contains(*digit));
            let (value, length) = digits.fold((0_u32, 0), |(value, length), digit| (value * 8 + u32::from(digit - b'0'), length + 1));
            (value as u8, length)
        }
        other => (other, 1),
    }
}
