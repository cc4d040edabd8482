//! Every diagnostic code that the sources use is in the registry, and the other way round.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stepwell::base::codes;

/// The codes that stand as literals in a text.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    let code = |word: &&str| word.len() == 5 && word.starts_with(['E', 'W', 'N']) && word[1..].chars().all(|c| c.is_ascii_digit());
    text.split('"').filter(code)
}

#[test]
fn the_sources_and_the_registry_know_the_same_codes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine");
    let mut used: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let registry = path.starts_with(root.join("base/codes")) || path == root.join("base/codes.rs");
            if registry || path == root.join("tests") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                literals(product).for_each(|code| drop(used.insert(code.to_owned(), path.clone())));
            }
        }
    }
    let unknown: Vec<_> = used.iter().filter(|(code, _)| codes::find(code).is_none()).collect();
    assert!(unknown.is_empty(), "used, and not in engine/base/codes: {unknown:#?}");
    let idle: Vec<_> = codes::ALL.iter().map(|entry| entry.code).filter(|code| !used.contains_key(*code)).collect();
    assert!(idle.is_empty(), "in engine/base/codes, and used nowhere: {idle:?}");
}
