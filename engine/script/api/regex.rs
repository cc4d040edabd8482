//! `regex::*`: patterns without back-references, so that one search takes time in proportion to the text.

use std::cell::RefCell;

use regex::{Captures, Regex, RegexBuilder};
use rhai::{Array, Dynamic, Engine, Map, Module};

use crate::base::alloc;

use super::super::attempt::on_progress;
use super::super::error::{Fault, Thrown, terminated};

/// Largest program that a pattern may become, in bytes.
const PROGRAM_BYTES: usize = 1024 * 1024;
/// Largest text that is searched, in bytes: nothing interrupts a search.
const TEXT_BYTES: usize = 1024 * 1024;
/// Patterns that a thread keeps compiled.
const KEPT: usize = 64;

thread_local! {
    /// The patterns that were used last, the newest at the end.
    static COMPILED: RefCell<Vec<(String, Regex)>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("test", |pattern: &str, text: &str| {
        let regex = compiled(pattern, text)?;
        Ok(alloc::uncounted(move || regex.is_match(text)))
    });
    module.set_native_fn("find", |pattern: &str, text: &str| {
        let mut found = Dynamic::UNIT;
        each(pattern, text, |captures| {
            found = captures[0].into();
            false
        })?;
        Ok(found)
    });
    module.set_native_fn("find_all", |pattern: &str, text: &str| {
        let mut found = Array::new();
        each(pattern, text, |captures| {
            found.push(captures[0].into());
            true
        })?;
        Ok(found)
    });
    module.set_native_fn("captures", |pattern: &str, text: &str| {
        let names = names(pattern, text)?;
        let mut found = Dynamic::UNIT;
        each(pattern, text, |captures| {
            found = Dynamic::from_map(groups(captures, &names));
            false
        })?;
        Ok(found)
    });
    module.set_native_fn("replace", |pattern: &str, text: &str, with: &str| {
        let (mut out, mut after) = (String::new(), 0);
        each(pattern, text, |captures| {
            if let Some(whole) = captures.get(0) {
                out.push_str(&text[after..whole.start()]);
                captures.expand(with, &mut out);
                after = whole.end();
            }
            true
        })?;
        out.push_str(&text[after..]);
        Ok(out)
    });
    module.set_native_fn("split", |pattern: &str, text: &str| {
        let (mut parts, mut after) = (Array::new(), 0);
        each(pattern, text, |captures| {
            if let Some(whole) = captures.get(0) {
                parts.push(text[after..whole.start()].into());
                after = whole.end();
            }
            true
        })?;
        parts.push(text[after..].into());
        Ok(parts)
    });
    engine.register_static_module("regex", module.into());
}

/// The compiled pattern. What it allocates outlives the run, also what it allocates while it searches, so it is nobody's.
fn compiled(pattern: &str, text: &str) -> Result<Regex, Fault> {
    if text.len() > TEXT_BYTES {
        return Err(Thrown::last("E0407", format!("a text of {} bytes is too long for regex::*; at most {TEXT_BYTES}", text.len())).fault());
    }
    alloc::uncounted(|| {
        COMPILED
            .with_borrow_mut(|kept| {
                if let Some(at) = kept.iter().position(|(known, _)| known == pattern) {
                    kept[at..].rotate_left(1);
                } else {
                    let regex = build(pattern)?;
                    if kept.len() >= KEPT {
                        kept.remove(0);
                    }
                    kept.push((pattern.to_owned(), regex));
                }
                Ok(kept.last().map(|(_, regex)| regex.clone()))
            })
            .map_err(|error: regex::Error| error.to_string())
    })
    .map_err(|said| Thrown::last("E0407", wrong(pattern, &said)).fault())
    .and_then(|regex| regex.ok_or_else(|| Thrown::last("E0407", "the pattern cannot be kept").fault()))
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(PROGRAM_BYTES).dfa_size_limit(PROGRAM_BYTES).build()
}

/// Whether a text is a pattern, or what is wrong with it.
pub(in crate::script) fn check(pattern: &str) -> Result<(), String> {
    build(pattern).map(|_| ()).map_err(|error| wrong(pattern, &error.to_string()))
}

/// What is wrong with a pattern, in one line, with the position where the crate draws a caret.
fn wrong(pattern: &str, said: &str) -> String {
    let reason = said.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or(said);
    let caret = said.lines().find(|line| line.trim_start().starts_with('^')).and_then(|line| line.find('^'));
    // The crate indents the pattern by four.
    match caret.map(|at| at.saturating_sub(4)) {
        Some(at) => format!("`{pattern}` is not a pattern: {reason}, at position {at}"),
        None => format!("`{pattern}` is not a pattern: {reason}"),
    }
}

/// Calls `found` with each match in turn, until it says that this is enough.
fn each(pattern: &str, text: &str, mut found: impl FnMut(&Captures<'_>) -> bool) -> Result<(), Fault> {
    let regex = compiled(pattern, text)?;
    let mut all = regex.captures_iter(text);
    let done = loop {
        let Some(captures) = alloc::uncounted(|| all.next()) else { break Ok(()) };
        let goes_on = found(&captures);
        alloc::uncounted(|| drop(captures));
        if !goes_on {
            break Ok(());
        }
        // Each match may take as long as the text is, and there may be as many: the run's limits hold between them.
        if on_progress().is_some() {
            break Err(terminated());
        }
    };
    alloc::uncounted(|| drop(all));
    alloc::uncounted(|| drop(regex));
    done
}

/// The names of the groups, where they have one.
fn names(pattern: &str, text: &str) -> Result<Vec<Option<String>>, Fault> {
    let regex = compiled(pattern, text)?;
    let names = regex.capture_names().map(|name| name.map(str::to_owned)).collect();
    alloc::uncounted(|| drop(regex));
    Ok(names)
}

/// The groups by their numbers and by their names; `()` for one that took no part.
fn groups(captures: &Captures<'_>, names: &[Option<String>]) -> Map {
    let mut map = Map::new();
    for (number, name) in names.iter().enumerate() {
        let group = captures.get(number).map_or(Dynamic::UNIT, |group| group.as_str().into());
        if let Some(name) = name {
            map.insert(name.as_str().into(), group.clone());
        }
        map.insert(number.to_string().into(), group);
    }
    map
}
