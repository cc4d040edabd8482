//! The table of what a script sees: the checks of handlers, the reference of docs/handlers.md, help and editor definitions
//! are made from it. A test holds it against what is registered in Rhai's engine, in both directions.

mod control;
mod definitions;
mod fields;
#[cfg(test)]
mod held;
mod outside;
mod pure;
mod words;

pub use definitions::definitions;
pub(in crate::script) use words::type_words;

/// Where a function may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Everywhere.
    Anywhere,
    /// Inside a step's closure only: it is an effect.
    InStep,
    /// Outside of a step's closure only: it makes a record or ends an attempt of its own.
    BetweenSteps,
}

/// A function of the handler API, or a field or method of one of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name as it is called: `fail`, with its module `log::info`, or with the type that it belongs to `time.format`.
    pub name: &'static str,
    /// How it is called, a form each: `(name: text, body: closure) -> any`; a field's is `-> text`. The types are `text`,
    /// `whole`, `number`, `flag`, `array`, `map`, `closure`, `bytes`, `any`, `nothing` and those of the API, and
    /// `#{a, b}` is a map that takes these keys; `text | number` takes either.
    pub forms: &'static [&'static str],
    /// Where it may be called.
    pub place: Where,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// A call of it, as it stands in a handler (in a step, for an effect).
    pub example: &'static str,
    /// What the example gives, as JSON; empty where that differs from time to time.
    pub gives: &'static str,
}

/// Entries that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its heading.
    pub title: &'static str,
    /// Its entries.
    pub entries: &'static [Entry],
}

/// The whole API, in the order in which it is shown.
pub const FAMILIES: &[Family] = &[
    Family { title: "Steps and the way of a run", entries: control::ENTRIES },
    Family { title: "HTTP", entries: outside::HTTP },
    Family { title: "Values under keys", entries: outside::KV },
    Family { title: "Databases", entries: outside::DB },
    Family { title: "Mail and commands", entries: outside::OTHERS },
    Family { title: "Channels", entries: outside::CHANNELS },
    Family { title: "Environment, secrets and logs", entries: outside::SURROUNDINGS },
    Family { title: "Time and chance", entries: pure::TIME },
    Family { title: "JSON", entries: pure::JSON },
    Family { title: "Texts and bytes", entries: pure::TEXTS },
    Family { title: "Patterns", entries: pure::REGEX },
    Family { title: "Checksums, signatures and tokens", entries: pure::CRYPTO },
    Family { title: "Fields and methods", entries: fields::ENTRIES },
];

/// Every entry of the API.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|family| family.entries)
}

const fn entry(
    name: &'static str,
    forms: &'static [&'static str],
    place: Where,
    doc: &'static str,
    example: &'static str,
    gives: &'static str,
) -> Entry {
    Entry { name, forms, place, doc, example, gives }
}

/// A parameter of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// The types that it takes.
    pub types: Vec<&'static str>,
}

impl Parameter {
    /// How it stands in a call: closures as such, maps with their keys, others by their names.
    fn shown(&self) -> String {
        match (self.types.as_slice(), self.name) {
            (["closure"], "each") => "|item| …".to_owned(),
            (["closure"], _) => "|| …".to_owned(),
            ([map], _) if map.starts_with("#{") => (*map).to_owned(),
            _ => self.name.to_owned(),
        }
    }
}

/// One way to call a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Its parameters; none for a field.
    pub parameters: Vec<Parameter>,
    /// What it gives.
    pub result: &'static str,
    /// Whether it is read as a field.
    pub is_field: bool,
}

impl Form {
    /// Reads a form as `Entry::forms` has it.
    fn of(text: &'static str) -> Form {
        let (call, result) = text.rsplit_once("->").unwrap_or((text, ""));
        let call = call.trim();
        let inner = call.strip_prefix('(').and_then(|call| call.strip_suffix(')')).unwrap_or_default();
        let parameter = |part: &'static str| {
            let (name, types) = part.split_once(':').unwrap_or((part, "any"));
            Parameter { name: name.trim(), types: types.split(" | ").map(str::trim).collect() }
        };
        Form { parameters: parts(inner).into_iter().map(parameter).collect(), result: result.trim(), is_field: call.is_empty() }
    }
}

/// The parts between the commas that lie in no brackets.
fn parts(text: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

impl Entry {
    /// The ways to call it.
    pub fn calls(&self) -> Vec<Form> {
        self.forms.iter().map(|form| Form::of(form)).collect()
    }

    /// The numbers of arguments that it takes.
    pub fn arguments(&self) -> Vec<usize> {
        self.calls().iter().map(|form| form.parameters.len()).collect()
    }

    /// How it is called, a text for each form: `step(name, || …)`.
    pub fn signatures(&self) -> Vec<String> {
        let shown = |form: Form| {
            let parameters: Vec<String> = form.parameters.iter().map(Parameter::shown).collect();
            format!("{}({})", self.name, parameters.join(", "))
        };
        self.calls().into_iter().map(|form| if form.is_field { self.name.to_owned() } else { shown(form) }).collect()
    }

    /// Whether it belongs to values of a type: `time.format`.
    pub fn is_member(&self) -> bool {
        self.name.contains('.')
    }
}

/// The reference of the whole API as Markdown, from its first heading to its last line.
pub fn reference() -> String {
    let mut text = String::new();
    for family in FAMILIES {
        text.push_str(&format!("\n### {}\n\n", family.title));
        for entry in family.entries {
            text.push_str(&line(entry));
        }
    }
    text
}

/// An entry as a point of a list.
fn line(entry: &Entry) -> String {
    let forms: Vec<String> = entry
        .forms
        .iter()
        .map(|form| {
            let form = form.replace("->", "→");
            let space = if form.starts_with('(') { "" } else { " " };
            format!("`{}{space}{form}`", entry.name)
        })
        .collect();
    let place = match entry.place {
        Where::InStep => " *In a step.*",
        Where::BetweenSteps => " *Between steps.*",
        Where::Anywhere => "",
    };
    let example = match (entry.example, entry.gives) {
        ("", _) => String::new(),
        (example, "") => format!("  \n  {}", quoted(example)),
        (example, gives) => format!("  \n  {} gives {}", quoted(example), quoted(gives)),
    };
    format!("- {}: {}{place}{example}\n", forms.join(", "), entry.doc)
}

/// Code within a line: with more backticks around it than it has in it.
fn quoted(code: &str) -> String {
    if code.contains('`') { format!("`` {code} ``") } else { format!("`{code}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_with_its_types() {
        let form = Form::of("(name: text, options: #{retries, backoff: #{kind}}, body: closure) -> any");
        let names: Vec<&str> = form.parameters.iter().map(|parameter| parameter.name).collect();
        assert_eq!((names.as_slice(), form.result, form.is_field), (["name", "options", "body"].as_slice(), "any", false));
        assert_eq!(form.parameters[1].types, ["#{retries, backoff: #{kind}}"]);
        assert_eq!(Form::of("(a: text | number) -> text").parameters[0].types, ["text", "number"]);
        assert_eq!(Form::of("() -> time").parameters, []);
        assert!(Form::of("-> text").is_field);
    }

    #[test]
    fn every_entry_is_described() {
        let mut names = std::collections::BTreeSet::new();
        for entry in entries() {
            assert!(names.insert(entry.name), "{} is there twice", entry.name);
            assert!(!entry.forms.is_empty() && entry.doc.ends_with('.') && !entry.example.is_empty(), "{}", entry.name);
            assert!(entry.calls().iter().all(|form| !form.result.is_empty()), "{} gives nothing", entry.name);
            assert!(entry.is_member() || entry.example.contains(&format!("{}(", entry.name)), "{}: {}", entry.name, entry.example);
        }
    }
}
