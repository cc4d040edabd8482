//! The config as a whole, through real files: what is valid loads, what is wrong is shown as a user sees it.
//!
//! `engine/tests/config/invalid/` holds a folder per mistake, with what is shown beside it in `expected.txt`;
//! `UPDATE_EXPECTED=1` writes those files anew, and the diff is what is reviewed.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use stepwell::base::codes;
use stepwell::config::{self, Loaded};

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/config").join(kind)
}

/// The folders of a kind, sorted by name, so that failures come in one order.
fn cases(kind: &str) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder(kind)).expect("the cases are there").flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {kind}");
    cases
}

fn shown(loaded: &Loaded) -> String {
    loaded.problems.iter().map(|problem| format!("{problem}\n\n")).collect()
}

#[test]
fn what_is_valid_loads_without_a_problem() {
    for case in cases("valid") {
        let loaded = config::load(&case.join("events.yaml"));
        assert!(loaded.problems.is_empty(), "{}\n{}", case.display(), shown(&loaded));
        assert!(loaded.model.is_some(), "{}", case.display());
    }
}

#[test]
fn the_whole_format_is_read() {
    let loaded = config::load(&folder("whole").join("events.yaml"));
    assert!(loaded.problems.is_empty(), "{}", shown(&loaded));
}

/// What is shown for a case, with the case's own folder left out of paths.
fn shown_in(case: &Path) -> (Loaded, String) {
    let loaded = config::load(&case.join("events.yaml"));
    let text = shown(&loaded).replace(&format!("{}/", case.display()), "");
    (loaded, text)
}

#[test]
fn what_is_wrong_is_shown_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut different = Vec::new();
    for case in cases("invalid") {
        let (loaded, text) = shown_in(&case);
        assert!(!loaded.problems.is_empty(), "{}: no problem is found", case.display());
        let expected = case.join("expected.txt");
        if update {
            fs::write(&expected, &text).unwrap();
        } else if fs::read_to_string(&expected).ok().as_ref() != Some(&text) {
            different.push(format!("{}:\n{text}", case.display()));
        }
    }
    assert!(different.is_empty(), "UPDATE_EXPECTED=1 writes these anew:\n{}", different.join("\n"));
}

#[test]
fn every_code_of_the_file_has_a_case() {
    let found: BTreeSet<&str> = cases("invalid").iter().flat_map(|case| shown_in(case).0.problems).map(|problem| problem.code).collect();
    let file = |code: &str| code[1..].starts_with("01");
    let registered: BTreeSet<&str> = codes::ALL.iter().map(|entry| entry.code).filter(|code| file(code)).collect();
    assert_eq!(found, registered);
}

/// A config as JSON, as an editor's YAML server sees it.
fn as_json(path: &Path) -> Option<serde_json::Value> {
    let options = serde_saphyr::options! {
        strict_booleans: true, leading_zero_numbers_as_strings: true, underscored_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(&fs::read_to_string(path).ok()?, options).ok()
}

#[test]
fn editors_agree_with_the_reader() {
    let schema = jsonschema::draft202012::new(&config::schema()).unwrap();
    for case in cases("valid").into_iter().chain([folder("whole")]) {
        let json = as_json(&case.join("events.yaml")).unwrap();
        let wrong: Vec<String> = schema.iter_errors(&json).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", case.display());
    }
    for case in ["unknown-keys", "wrong-types", "keys-missing", "bad-durations", "words-that-are-not-allowed", "bad-sizes"] {
        let json = as_json(&folder("invalid").join(case).join("events.yaml")).unwrap();
        assert!(!schema.is_valid(&json), "{case} is valid for an editor");
    }
    let empty = as_json(&folder("invalid").join("a-list-without-entries").join("events.yaml")).unwrap();
    let refused: BTreeSet<String> = schema.iter_errors(&empty).map(|error| error.instance_path().to_string()).collect();
    let lists = ["/functions/pay/on", "/functions/ship/cancel_on", "/functions/ship/concurrency", "/include"];
    assert_eq!(refused, BTreeSet::from(lists.map(str::to_owned)));
}

/// Numbers from a seed (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

const PIECES: [&[u8]; 30] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\t",
    b"&a ",
    b"*a",
    b"\xc3\xa9",
    b"\xff",
    b"\0",
    b": ",
    b"- ",
    b"\n",
    b"!!x ",
    b"~",
    b"? ",
    b"<<: ",
    b"99999999999999999999999",
    b"\"",
    b"'",
    b"|\n",
    b">-\n ",
    b"# ",
    b"\r\n",
    b"---\n",
    b"...",
    b"\xef\xbb\xbf",
    b"5m",
    b"..",
    b"stepwell/",
];

fn mutate(text: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(text.len());
    let end = (at + numbers.below(12)).min(text.len());
    match numbers.below(5) {
        0 => drop(text.drain(at..end)),
        1 => {
            let piece = PIECES[numbers.below(PIECES.len())];
            text.splice(at..at, piece.iter().copied());
        }
        2 => {
            let copy = text[at..end].to_vec();
            let to = numbers.below(text.len());
            text.splice(to..to, copy);
        }
        3 => text.truncate(at),
        _ => {
            let piece = PIECES[numbers.below(PIECES.len())];
            text.splice(at..end, piece.iter().copied());
        }
    }
}

#[test]
fn no_text_makes_it_panic() {
    let given = std::env::var("STEPWELL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| RandomState::new().build_hasher().finish()) | 1;
    println!("STEPWELL_SEED={seed}");
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("events.yaml");
    let mut numbers = Numbers(seed);
    let files: Vec<PathBuf> = cases("valid").into_iter().chain([folder("whole")]).map(|case| case.join("events.yaml")).collect();
    for round in 0..500 {
        let mut text = fs::read(&files[numbers.below(files.len())]).unwrap();
        for _ in 0..=numbers.below(6) {
            mutate(&mut text, &mut numbers);
        }
        fs::write(&path, &text).unwrap();
        let done = std::panic::catch_unwind(|| {
            let loaded = config::load(&path);
            let shown = shown(&loaded);
            assert!(loaded.problems.is_empty() || !shown.is_empty());
            loaded.model.as_ref().map(|model| config::effective(model).len())
        });
        assert!(done.is_ok(), "STEPWELL_SEED={seed}, round {round}:\n{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn effective_options_say_where_they_come_from() {
    let case = folder("valid").join("included-files");
    let loaded = config::load(&case.join("events.yaml"));
    let settings = config::effective(loaded.model.as_ref().unwrap());
    let shown = |path: &str| {
        let found = settings.iter().find(|setting| setting.path == path).unwrap();
        format!("{} from {}", found.value, found.origin)
    };
    assert_eq!(shown("engine.listen"), "\"127.0.0.1:8288\" from default");
    assert_eq!(shown("env.A"), "\"x\" from parts/deep/functions.yaml:3");
    assert_eq!(shown("functions.pay.on"), "\"a/b\" from parts/deep/functions.yaml:2");
    assert_eq!(shown("functions.pay.handler"), "\"handlers/pay.rhai\" from default");
    assert_eq!(shown("functions.pay.retries.attempts"), "4 from default");
    assert_eq!(loaded.included, ["last.yaml", "parts/deep/functions.yaml", "parts/events.yaml"]);
}

#[test]
fn effective_options_of_one_of_several_carry_its_number() {
    let loaded = config::load(&folder("valid").join("every-long-form/events.yaml"));
    let settings = config::effective(loaded.model.as_ref().unwrap());
    let paths: Vec<&str> = settings.iter().map(|setting| setting.path.as_str()).collect();
    let unique: BTreeSet<&str> = paths.iter().copied().filter(|path| *path != "http.allow").collect();
    assert_eq!(unique.len(), paths.iter().filter(|path| **path != "http.allow").count(), "{paths:#?}");
    for path in ["functions.pay.on.1.if", "functions.pay.concurrency.0.key", "functions.pay.concurrency.1.shared"] {
        assert!(unique.contains(path), "{path}");
    }
}
