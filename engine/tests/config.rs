//! The config as a whole, through real files: what is valid loads, what is wrong is shown as a user sees it.
//!
//! `engine/tests/config/invalid/` holds a folder per mistake, with what is shown beside it in `expected.txt`;
//! `UPDATE_EXPECTED=1` writes those files anew, and the diff is what is reviewed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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
fn the_whole_format_is_read_and_only_what_comes_later_is_refused() {
    let loaded = config::load(&folder("whole").join("events.yaml"));
    let others: Vec<_> = loaded.problems.iter().filter(|problem| problem.code != "E0190").collect();
    assert!(others.is_empty(), "{}", shown(&loaded));
    let refused: BTreeSet<&str> = loaded.problems.iter().map(|problem| problem.message.split('`').nth(1).unwrap()).collect();
    let later = "batch cancel_on cron databases debounce email exec on_failure rate_limit singleton throttle webhooks";
    assert_eq!(refused, later.split(' ').collect());
}
