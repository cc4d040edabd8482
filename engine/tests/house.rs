//! The house rules that can be read off the sources: who imports whom, what may stand where, and how long a file gets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, and what each may import: the table of ARCHITECTURE.md.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("rules", &["base"]),
    ("expr", &["base"]),
    ("config", &["base", "rules", "expr"]),
    ("store", &["base", "rules"]),
    ("script", &["base", "expr", "rules", "store"]),
    ("project", &["base", "rules", "expr", "config", "script"]),
    ("exec", &["base", "rules", "expr", "config", "store", "script", "project", "clock"]),
    ("server", &["exec", "project", "store", "base", "rules"]),
    ("web", &["server", "exec", "project", "store", "base", "rules", "config", "expr"]),
    ("testing", &["base", "rules", "expr", "config", "store", "script", "project", "exec", "clock"]),
    (
        "cli",
        &[
            "base", "rules", "expr", "config", "store", "script", "project", "exec", "server", "web", "testing", "clock", "crash",
            "resident",
        ],
    ),
    ("clock", &["base"]),
    ("crash", &[]),
    ("resident", &[]),
];

/// Crates that a room never sees, whatever it may import.
const UNSEEN: &[(&str, &[&str])] = &[
    ("base", &["tokio", "rusqlite", "rhai", "axum", "serde_saphyr", "reqwest", "std::fs", "std::net"]),
    ("rules", &["tokio", "rusqlite", "rhai", "axum", "serde_saphyr", "reqwest", "std::fs", "std::net"]),
    ("expr", &["tokio", "rusqlite", "rhai", "axum", "serde_saphyr", "reqwest", "std::fs", "std::net"]),
    ("config", &["tokio", "rusqlite", "rhai", "axum", "reqwest"]),
    ("store", &["rhai", "axum", "serde_saphyr", "reqwest"]),
    ("script", &["rusqlite", "axum", "serde_saphyr"]),
    ("project", &["rusqlite", "axum"]),
    ("exec", &["rusqlite", "axum"]),
    ("server", &["rusqlite", "rhai"]),
    ("web", &["rusqlite", "rhai", "serde_saphyr", "reqwest"]),
    ("testing", &["rusqlite", "rhai", "axum", "serde_saphyr"]),
];

/// The only files where `unsafe` may stand, each block argued.
const UNSAFE: &[&str] = &["script/coroutine.rs", "base/alloc.rs", "crash.rs", "resident.rs"];

/// The most lines of one file.
const LINES: usize = 800;

/// A source file: its path below `engine/`, its whole text, and its code with comments and texts blanked out.
struct File {
    path: String,
    text: String,
    code: String,
}

impl File {
    /// The room that the file belongs to; none for the library's and the program's root.
    fn room(&self) -> Option<&str> {
        match self.path.split_once('/') {
            Some((room, _)) => Some(room),
            None => self.path.strip_suffix(".rs").filter(|name| !matches!(*name, "lib" | "main")),
        }
    }

    /// Whether all of the file is test code.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code before the file's own tests.
    fn product(&self) -> &str {
        self.code.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    /// The 1-based line of an offset into the code.
    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine");
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        File { path, code: code_of(&text), text }
    };
    paths.into_iter().map(read).collect()
}

/// The text with every comment, string and character literal blanked out, line breaks kept.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = raw_string(rest) {
            raw
        } else if rest.starts_with('"') {
            quoted(rest.as_bytes(), b'"')
        } else if rest.starts_with('\'') && is_character(rest) {
            quoted(rest.as_bytes(), b'\'')
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        for byte in &mut code[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length;
    }
    String::from_utf8(code).unwrap()
}

fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("r").or_else(|| rest.strip_prefix("br"))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inner = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - inner.len();
    Some(inner.find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Tells `'a'` from the lifetime `'a`.
fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands as a word of its own.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back().is_some_and(is_word);
        let after = code[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

/// The first names after `crate::`, also of `crate::{a::b, c}`, with their offsets.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        let Some(rest) = code[at..].strip_prefix("crate::") else { continue };
        let Some(group) = rest.strip_prefix('{') else {
            found.push((at, rest.chars().take_while(|c| is_word(*c)).collect()));
            continue;
        };
        let mut depth = 0;
        let mut name = String::new();
        let mut first = true;
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.push((at, std::mem::take(&mut name)));
                    first = true;
                }
                c if first && depth == 0 && is_word(c) => name.push(c),
                c if c.is_whitespace() && name.is_empty() => {}
                _ => first = false,
            }
        }
        if !name.is_empty() {
            found.push((at, name));
        }
    }
    found
}

fn report(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}\n  {}", broken.join("\n  "));
}

/// The rows of ARCHITECTURE.md's table: a room, and the rooms that it may import.
fn rows_of_the_page() -> Vec<(String, Vec<String>)> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` |"));
    let listed: Vec<(&str, &str)> = cells.filter_map(|(room, rest)| Some((room, rest.rsplit('|').next()?.trim()))).collect();
    let name = |room: &str| room.strip_suffix(".rs").unwrap_or(room).to_owned();
    for (room, imports) in &listed {
        let mut allowed = Vec::new();
        for import in imports.split(", ").map(|import| import.split(" (").next().unwrap()) {
            match import {
                "–" => {}
                "all" => allowed.extend(listed.iter().map(|(other, _)| name(other)).filter(|other| *other != name(room))),
                "all above" => allowed.extend(rows.iter().map(|(above, _)| above.clone())),
                one => allowed.push(name(one)),
            }
        }
        allowed.sort();
        rows.push((name(room), allowed));
    }
    rows
}

#[test]
fn the_table_of_rooms_is_the_one_on_the_page() {
    let mut held: Vec<(String, Vec<String>)> = Vec::new();
    for (room, allowed) in ROOMS {
        let mut allowed: Vec<String> = allowed.iter().map(|import| (*import).to_owned()).collect();
        allowed.sort();
        held.push(((*room).to_owned(), allowed));
    }
    assert_eq!(rows_of_the_page(), held);
}

#[test]
fn a_room_imports_only_what_its_row_allows() {
    let rooms: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut broken = Vec::new();
    for file in files().iter().filter(|file| !file.path.starts_with("tests/")) {
        let Some(room) = file.room() else { continue };
        let Some(allowed) = rooms.get(room) else {
            broken.push(format!("{}: the room `{room}` is not in the table", file.path));
            continue;
        };
        for (at, name) in imports(&file.code) {
            if name != room && rooms.contains_key(name.as_str()) && !allowed.contains(&name.as_str()) {
                broken.push(format!("{}:{}: `{room}` imports `{name}`", file.path, file.line(at)));
            }
        }
        // A chain of `super` that leaves the room would pass by the table.
        let depth = file.path.matches('/').count() + usize::from(!file.path.ends_with("mod.rs"));
        let chain = "super::".repeat(depth.max(1));
        if depth > 1
            && let Some(at) = file.product().find(&chain)
        {
            broken.push(format!("{}:{}: `super` leaves the room", file.path, file.line(at)));
        }
    }
    report("a room imports only what its row in ARCHITECTURE.md names:", broken);
}

#[test]
fn a_room_never_sees_what_is_not_its_business() {
    let unseen: BTreeMap<&str, &[&str]> = UNSEEN.iter().copied().collect();
    let mut broken = Vec::new();
    for file in files() {
        if file.is_test() {
            continue;
        }
        for name in file.room().and_then(|room| unseen.get(room)).copied().unwrap_or_default() {
            // Handlers reach SQLite files of the user's own, which have nothing to do with the store.
            if *name == "rusqlite" && file.path.ends_with("script/effects/db/sqlite.rs") {
                continue;
            }
            for at in words(file.product(), name).filter(|at| file.code[at + name.len()..].starts_with("::")) {
                broken.push(format!("{}:{}: sees `{name}`", file.path, file.line(at)));
            }
        }
        if file.room() == Some("script") {
            for inside in ["store::sqlite", "store::memory"] {
                for at in words(file.product(), inside) {
                    broken.push(format!("{}:{}: knows `{inside}`, not the trait alone", file.path, file.line(at)));
                }
            }
        }
    }
    report("a room never sees these:", broken);
}

#[test]
fn unsafe_stands_in_few_files_alone() {
    let mut broken = Vec::new();
    for file in files().iter().filter(|file| !UNSAFE.contains(&file.path.as_str())) {
        for at in words(&file.code, "unsafe") {
            broken.push(format!("{}:{}", file.path, file.line(at)));
        }
    }
    report(&format!("`unsafe` stands in {} alone:", UNSAFE.join(", ")), broken);
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut broken = Vec::new();
    for file in files().iter().filter(|file| !file.is_test()) {
        for (at, _) in file.product().match_indices(".unwrap()") {
            broken.push(format!("{}:{}", file.path, file.line(at)));
        }
    }
    report("`unwrap` stands in tests alone:", broken);
}

#[test]
fn no_file_grows_beyond_reading() {
    let long = |file: &File| Some(file.text.lines().count()).filter(|lines| *lines > LINES);
    let broken = files().iter().filter_map(|file| long(file).map(|lines| format!("{}: {lines} lines", file.path))).collect();
    report(&format!("at most {LINES} lines a file:"), broken);
}

/// The tests of `engine/tests`, each behind the modules that it is in.
fn tests() -> Vec<String> {
    let mut tests = Vec::new();
    for file in files() {
        let Some(path) = file.path.strip_prefix("tests/").and_then(|path| path.strip_suffix(".rs")) else { continue };
        let module = path.strip_suffix("/mod").unwrap_or(path).replace('/', "::");
        for (at, _) in file.code.match_indices("#[test]") {
            let name = file.code[at..].split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).map_or("", |(name, _)| name);
            tests.push(format!("{module}::{name}"));
        }
    }
    tests
}

/// Where a name fits no test, cargo runs none and calls it a success.
#[test]
fn what_scripts_run_by_its_name_is_there() {
    let tests = tests();
    let names_in = |script: &str, before: &str| -> Vec<String> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(script)).unwrap();
        let names = text.split(before).skip(1).map(|rest| rest.chars().take_while(|c| is_word(*c) || *c == ':').collect::<String>());
        names.filter(|name| !name.is_empty()).collect()
    };
    let exact = names_in("scripts/soak", " what=");
    let modules = names_in("scripts/audit", "--test main ");
    assert_eq!((exact.len(), modules.len()), (4, 1), "{exact:?} {modules:?}");
    let no_test = exact.iter().filter(|name| !tests.contains(name)).cloned();
    let empty = modules.iter().filter(|module| !tests.iter().any(|test| test.starts_with(&format!("{module}::")))).cloned();
    report("there is nothing of this name to run:", no_test.chain(empty).collect());
}

#[test]
fn the_reader_of_sources_knows_comments_texts_and_groups() {
    let code = code_of(
        "use crate::{base::Id, rules::{row, run}, store}; // crate::server\nlet a = \"crate::cli\"; let b: &'a str = r#\"crate::x\"#;",
    );
    let names: Vec<String> = imports(&code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["base", "rules", "store"]);
    assert!(code.contains("&'a str"), "{code}");
}
