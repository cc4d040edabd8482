//! The table as definitions for editors: a `*.d.rhai` file, in the form that Rhai's own engine writes and its language server
//! reads.

use super::{Entry, FAMILIES, Form, Where, entries};

/// What a handler finds beside functions.
const VARIABLES: [(&str, &str, &str); 3] = [
    ("event", "Map", "What started the run: `id`, `name`, `data`, `ts`."),
    ("events", "Array", "All events of a batch; of any other run its one event."),
    ("run", "run", "The run itself: `run.id`, `run.attempt`, `run.function`, …"),
];

/// The whole API as one file of definitions.
pub fn definitions() -> String {
    let mut text = String::from(
        "// The handler API of stepwell, for editors. It is made anew by `stepwell init`, `validate` and `dev`.\nmodule static;\n",
    );
    for (name, kind, doc) in VARIABLES {
        text.push_str(&format!("\n/// {doc}\nlet {name}: {kind};\n"));
    }
    let module = |entry: &Entry| entry.name.split_once("::").map(|(module, _)| module);
    for entry in entries().filter(|entry| module(entry).is_none()) {
        text.push_str(&defined(entry, ""));
    }
    let mut modules: Vec<&str> = FAMILIES.iter().flat_map(|family| family.entries).filter_map(module).collect();
    modules.dedup();
    modules.sort_unstable();
    modules.dedup();
    for name in modules {
        text.push_str(&format!("\nmodule {name} {{"));
        for entry in entries().filter(|entry| module(entry) == Some(name)) {
            text.push_str(&defined(entry, "    "));
        }
        text.push_str("}\n");
    }
    text
}

/// An entry, each of its forms with its documentation.
fn defined(entry: &Entry, indent: &str) -> String {
    let mut docs: Vec<String> = vec![entry.doc.to_owned()];
    match entry.place {
        Where::InStep => docs.push("In a step only.".to_owned()),
        Where::BetweenSteps => docs.push("Between steps only.".to_owned()),
        Where::Anywhere => {}
    }
    if !entry.example.is_empty() {
        let gives = if entry.gives.is_empty() { String::new() } else { format!(" // {}", entry.gives) };
        docs.push(format!("```rhai\n{}{gives}\n```", entry.example));
    }
    let docs: Vec<String> = docs.join("\n\n").lines().map(|line| format!("{indent}/// {line}").trim_end().to_owned()).collect();
    let docs = docs.join("\n");
    let forms = entry.calls().into_iter().map(|form| format!("\n{docs}\n{indent}{}\n", signature(entry, &form)));
    forms.collect()
}

fn signature(entry: &Entry, form: &Form) -> String {
    let (owner, name) = match (entry.name.split_once('.'), entry.name.rsplit_once("::")) {
        (Some((owner, name)), _) => (Some(owner), name),
        (None, Some((_, name))) => (None, name),
        (None, None) => (None, entry.name),
    };
    let this = owner.map(|owner| format!("_: {owner}"));
    let result = kind(form.result);
    if form.is_field {
        return format!("fn get {name}({}) -> {result};", this.unwrap_or_default());
    }
    let parameters = form.parameters.iter().map(|parameter| {
        let kinds: Vec<String> = parameter.types.iter().map(|word| kind(word)).collect();
        format!("{}: {}", parameter.name, kinds.join(" | "))
    });
    let all: Vec<String> = this.into_iter().chain(parameters).collect();
    format!("fn {name}({}) -> {result};", all.join(", "))
}

/// A type of the table in Rhai's words.
fn kind(word: &str) -> String {
    let one = |word: &str| {
        match word {
            "text" => "String",
            "whole" => "int",
            "number" => "int | float",
            "flag" => "bool",
            "array" => "Array",
            "map" => "Map",
            "closure" => "Fn",
            "bytes" => "Blob",
            "any" => "?",
            "nothing" => "()",
            map if map.starts_with("#{") => "Map",
            other => return other.to_owned(),
        }
        .to_owned()
    };
    if word.starts_with("#{") { one(word) } else { word.split(" | ").map(|word| one(word.trim())).collect::<Vec<_>>().join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_table_is_defined_in_the_words_of_rhai() {
        let text = definitions();
        assert!(text.contains("\nfn step(name: String, options: Map, body: Fn) -> ?;\n"), "{text}");
        assert!(text.contains("\nfn get ms(_: time) -> int;\n"), "{text}");
        assert!(text.contains("\nfn sleep(duration: duration | String | int | float) -> ();\n"), "{text}");
        assert!(text.contains("\nmodule http {\n") && text.contains("\n    fn post(url: String, options: Map) -> Map;\n"), "{text}");
        let forms: usize = entries().map(|entry| entry.forms.len()).sum();
        assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("fn ")).count(), forms);
        // Everything that is no comment is a definition, the start of a module, or its end.
        let mut is_open = false;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
            let is_known = ["fn ", "let ", "module "].iter().any(|word| line.starts_with(word)) || line == "}";
            assert!(is_known, "{line}");
            assert!(!(line.ends_with('{') && is_open) && (line != "}" || is_open), "{line}");
            is_open = if line.ends_with('{') { true } else { is_open && line != "}" };
        }
        assert!(!is_open);
    }
}
