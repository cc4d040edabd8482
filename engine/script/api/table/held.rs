//! The table against Rhai's engine: what is registered stands in the table with its types, and the other way round.

use std::any::TypeId;
use std::collections::BTreeSet;

use rhai::{Dynamic, Engine};

use super::super::super::effects::{email, exec, http};
use super::super::super::engine::{bare, build};
use super::super::{bytes, parallel, publish, race, steps};
use super::{Entry, Form, entries, type_words};

/// Operators and conversions, which the page of the types tells of.
const OPERATORS: [&str; 14] = ["+", "-", "*", "/", "==", "!=", "<", "<=", ">", ">=", "to_string", "to_debug", "to_text", "in"];
/// Functions of Rhai's own that are replaced by careful ones, or by an error.
const REPLACED: [&str; 3] = ["blob", "pad", "exit"];

/// Whether a registered parameter takes values of the type that a word of the table names.
fn takes(registered: TypeId, word: &str) -> bool {
    let word = if word.starts_with("#{") { "map" } else { word };
    registered == TypeId::of::<Dynamic>() || type_words().contains(&(word, registered))
}

fn word_of(registered: TypeId) -> &'static str {
    type_words().into_iter().find(|(_, id)| *id == registered).map_or("any", |(word, _)| word)
}

type Native = (String, Vec<TypeId>);

fn natives(engine: &Engine) -> BTreeSet<Native> {
    let all = engine.collect_fn_metadata(
        None,
        |info| {
            let space = if info.namespace.is_empty() { String::new() } else { format!("{}::", info.namespace) };
            Some((format!("{space}{}", info.metadata.name), info.metadata.param_types.iter().copied().collect()))
        },
        true,
    );
    all.into_iter().collect()
}

/// What the API adds to Rhai, without what the table leaves out on purpose.
fn registered() -> Vec<Native> {
    let rhai = natives(&bare());
    let (engine, _) = build(|_| {});
    let is_ours = |(name, types): &Native| {
        let plain = name.rsplit("::").next().unwrap_or(name);
        !rhai.contains(&(name.clone(), types.clone())) && !OPERATORS.contains(&plain) && !REPLACED.contains(&plain)
    };
    natives(&engine).into_iter().filter(is_ours).collect()
}

/// The entry that a native belongs to, and its parameters as the table counts them.
fn find(name: &str, types: &[TypeId]) -> Option<(Entry, Vec<TypeId>, bool)> {
    let find = |name: &str| entries().find(|entry| entry.name == name).copied();
    if let Some(field) = name.strip_prefix("get$") {
        return Some((find(&format!("{}.{field}", word_of(*types.first()?)))?, Vec::new(), true));
    }
    let member = types.first().and_then(|first| find(&format!("{}.{name}", word_of(*first))));
    match member {
        Some(entry) => Some((entry, types[1..].to_vec(), false)),
        None => Some((find(name)?, types.to_vec(), false)),
    }
}

fn fits(form: &Form, types: &[TypeId], is_field: bool) -> bool {
    let all = form.parameters.iter().zip(types).all(|(parameter, id)| parameter.types.iter().any(|word| takes(*id, word)));
    form.is_field == is_field && form.parameters.len() == types.len() && all
}

#[test]
fn what_is_registered_stands_in_the_table() {
    let mut wrong = Vec::new();
    for (name, types) in registered() {
        let words: Vec<&str> = types.iter().map(|id| word_of(*id)).collect();
        match find(&name, &types) {
            None => wrong.push(format!("{name}({}) is not in the table", words.join(", "))),
            Some((entry, types, is_field)) => {
                if !entry.calls().iter().any(|form| fits(form, &types, is_field)) {
                    wrong.push(format!("{name}({}) is no form of {:?}", words.join(", "), entry.forms));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_stands_in_the_table_is_registered() {
    let all = registered();
    let mut wrong = Vec::new();
    // `print` is a hook of Rhai's.
    for entry in entries().filter(|entry| entry.name != "print") {
        let own: Vec<(Vec<TypeId>, bool)> = all
            .iter()
            .filter_map(|(name, types)| find(name, types))
            .filter(|(found, ..)| found.name == entry.name)
            .map(|(_, types, is_field)| (types, is_field))
            .collect();
        for form in entry.calls() {
            for at in 0..form.parameters.len().max(1) {
                let words = form.parameters.get(at).map(|parameter| parameter.types.clone()).unwrap_or(vec!["any"]);
                for word in words {
                    let takes_it = |types: &[TypeId]| types.get(at).is_none_or(|id| takes(*id, word));
                    if !own.iter().any(|(types, is_field)| fits(&form, types, *is_field) && takes_it(types)) {
                        wrong.push(format!("{}{:?}: nothing is registered that takes {word} there", entry.name, form.parameters));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The keys that the table gives the map of a function.
fn keys(name: &str) -> BTreeSet<&'static str> {
    let named = entries().filter(|entry| entry.name == name);
    let words = named.flat_map(|entry| entry.calls()).flat_map(|form| form.parameters).flat_map(|parameter| parameter.types);
    words.filter_map(|word| word.strip_prefix("#{")?.strip_suffix('}')).flat_map(|keys| keys.split(", ")).collect()
}

#[test]
fn the_keys_of_the_table_are_those_that_are_taken() {
    let all: [(&str, &[&str]); 13] = [
        ("step", &steps::OPTIONS),
        ("parallel", &parallel::OPTIONS),
        ("race", &race::OPTIONS),
        ("publish", &publish::OPTIONS),
        ("email::send", &email::FIELDS),
        ("exec::run", &exec::OPTIONS),
        ("url::build", &bytes::PARTS),
        ("http::get", &http::OPTIONS),
        ("http::post", &http::OPTIONS),
        ("http::put", &http::OPTIONS),
        ("http::patch", &http::OPTIONS),
        ("http::delete", &http::OPTIONS),
        ("http::head", &http::OPTIONS),
    ];
    for (name, taken) in all {
        assert_eq!(keys(name), taken.iter().copied().collect(), "{name}");
    }
}
