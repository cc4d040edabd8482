//! `:help`: the table of the handler API at the prompt.

use crate::base::Diagnostic;
use crate::base::diagnostic::nearest;
use crate::script::{Entry, FAMILIES, Where, entries};

use super::super::out::{BOLD, DIM, Out, paint};
use super::COMMANDS;

/// Says what a name is; false where there is no such name.
pub fn show(name: &str, out: &Out) -> std::io::Result<bool> {
    let name = name.trim_end_matches("()");
    if name.is_empty() {
        overview(out)?;
        return Ok(true);
    }
    if let Some(entry) = entries().find(|entry| entry.name == name) {
        whole(entry, out)?;
        return Ok(true);
    }
    // A module's functions, a type's members, or what is called so in one of them.
    let prefixes = [format!("{name}::"), format!("{name}.")];
    let suffixes = [format!("::{name}"), format!(".{name}")];
    let is_meant = |entry: &&Entry| {
        prefixes.iter().any(|prefix| entry.name.starts_with(prefix.as_str()))
            || suffixes.iter().any(|suffix| entry.name.ends_with(suffix.as_str()))
    };
    let found: Vec<&Entry> = entries().filter(is_meant).collect();
    match found.as_slice() {
        [] => {
            let problem = Diagnostic::error("E0304", format!("the handler API has no `{name}`"));
            out.problems(&[match nearest(name, entries().map(|entry| entry.name)) {
                Some(right) => problem.help(format!("did you mean `{right}`?")),
                None => problem.help("`:help` lists it"),
            }]);
            return Ok(false);
        }
        [only] => whole(only, out)?,
        several => several.iter().try_for_each(|entry| line(entry, out))?,
    }
    Ok(true)
}

fn overview(out: &Out) -> std::io::Result<()> {
    out.line("A line is a part of a handler: `let a = step(\"one\", || 1)`. Its value is shown. Sleeps take no time, and what acts on the world is refused\nunless a :mock answers.\n")?;
    for (name, rest, what) in COMMANDS {
        let call = format!("{name} {rest}");
        out.line(format!("  {}  {what}", paint(BOLD, format!("{call:<21}"))))?;
    }
    for family in FAMILIES {
        let names: Vec<&str> = family.entries.iter().map(|entry| entry.name).collect();
        out.line(format!("\n{}\n  {}", paint(BOLD, family.title), names.join(", ")))?;
    }
    Ok(())
}

fn line(entry: &Entry, out: &Out) -> std::io::Result<()> {
    let first = entry.signatures().into_iter().next().unwrap_or_default();
    // The first sentence says what it is.
    let doc = entry.doc.split_inclusive(". ").next().unwrap_or(entry.doc).trim_end();
    out.line(format!("{}  {doc}", paint(BOLD, first)))
}

fn whole(entry: &Entry, out: &Out) -> std::io::Result<()> {
    for form in entry.forms {
        let space = if form.starts_with('(') { "" } else { " " };
        out.line(paint(BOLD, format!("{}{space}{form}", entry.name)))?;
    }
    out.line(format!("  {}", entry.doc))?;
    match entry.place {
        Where::InStep => out.line("  In a step only: step(\"name\", || …).")?,
        Where::BetweenSteps => out.line("  Between steps only.")?,
        Where::Anywhere => {}
    }
    if !entry.example.is_empty() {
        let gives = if entry.gives.is_empty() { String::new() } else { format!("  {}", paint(DIM, format!("gives {}", entry.gives))) };
        out.line(format!("  {}{gives}", entry.example))?;
    }
    Ok(())
}
