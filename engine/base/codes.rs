//! The one registry of diagnostic codes: what each means, with an example and how to mend it. `stepwell explain` prints it.
//!
//! E01xx are the file and its keys, E02xx events, schemas and expressions, E03xx scripts when they are compiled, E04xx
//! scripts when they run, E05xx the engine, the store and the commands, E06xx tests of handlers. A W is a warning, with the number of the error
//! that it is the mild form of, or one of its own. A code keeps its meaning for ever.

mod compile;
mod engine;
mod events;
mod file;
mod request;
mod run;
mod testing;

/// A code and what there is to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `E0102`.
    pub code: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// What it means, an example, and how to mend it.
    pub text: &'static str,
}

const PARTS: [&[Entry]; 7] =
    [file::ENTRIES, events::ENTRIES, compile::ENTRIES, run::ENTRIES, request::ENTRIES, engine::ENTRIES, testing::ENTRIES];

const COUNT: usize = {
    let (mut count, mut part) = (0, 0);
    while part < PARTS.len() {
        count += PARTS[part].len();
        part += 1;
    }
    count
};

/// All codes, sorted by number.
pub static ALL: [Entry; COUNT] = {
    let mut all = [Entry { code: "", title: "", text: "" }; COUNT];
    let (mut to, mut part) = (0, 0);
    while part < PARTS.len() {
        let mut at = 0;
        while at < PARTS[part].len() {
            all[to] = PARTS[part][at];
            (to, at) = (to + 1, at + 1);
        }
        part += 1;
    }
    all
};

/// The entry of a code, written in any case.
pub fn find(code: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.code.eq_ignore_ascii_case(code.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_number_unique_and_say_something() {
        let key = |entry: &Entry| (entry.code[1..].to_owned(), entry.code[..1].to_owned());
        for pair in ALL.windows(2) {
            assert!(key(&pair[0]) < key(&pair[1]), "{} before {}", pair[0].code, pair[1].code);
        }
        for entry in &ALL {
            assert!(entry.code.len() == 5 && matches!(&entry.code[..1], "E" | "W" | "N"), "{}", entry.code);
            assert!(!entry.title.is_empty() && !entry.title.ends_with('.'), "{}: {}", entry.code, entry.title);
            assert!(entry.text.len() > 80 && !entry.text.contains("\n\n\n"), "{} is not explained", entry.code);
        }
        assert_eq!(find(" e0102 ").map(|entry| entry.code), Some("E0102"));
        assert_eq!(find("E9999"), None);
    }
}
