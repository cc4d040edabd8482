//! The JSON files that schemas are made of: read once, below the config's folder alone, with their `$ref`s resolved to
//! one another.
//!
//! A `$ref` to another file becomes an address of ours, so that nothing is ever fetched while a schema is compiled, and an
//! `$id` cannot turn a file's relative `$ref` into a remote one.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use jsonschema::{Retrieve, Uri};
use serde_json::Value;

use crate::base::{Diagnostic, Location, Source};
use crate::config::Inline;

use super::places::{Places, escaped};

/// Largest schema file, in bytes; larger ones are data, not schemas.
const FILE_MOST_BYTES: u64 = 4 * 1024 * 1024;
const ADDRESS: &str = "stepwell:///";
/// The meta-schema's own address, which the validator knows without fetching it.
const META: &str = "https://json-schema.org/draft/2020-12/";

/// A schema's text and value.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// The value with addresses of ours in its `$ref`s.
    pub value: Arc<Value>,
    /// Where its values stand.
    pub origin: Origin,
}

/// Where the values of a document were written.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A JSON file of its own.
    File(Arc<Source>),
    /// Inline, in a YAML file.
    Inline(Arc<Inline>),
}

impl Origin {
    /// The place of the value at `pointer`, or of the nearest owner that is there.
    pub fn place(&self, pointer: &str) -> Location {
        match self {
            Origin::File(source) => Location::new(source, Places::of(&source.text).at(pointer)),
            Origin::Inline(inline) => inline.place(pointer).cloned().unwrap_or_else(|| Location::new(&Source::new("", ""), 0..0)),
        }
    }
}

/// Every document that was read, by its address.
#[derive(Debug)]
pub(super) struct Documents {
    root: PathBuf,
    read: BTreeMap<String, Option<Document>>,
    /// What is wrong with the documents read so far.
    pub problems: Vec<Diagnostic>,
}

impl Documents {
    /// Documents below `root`, the config's folder.
    pub fn below(root: &Path) -> Documents {
        Documents { root: root.canonicalize().unwrap_or_else(|_| root.to_owned()), read: BTreeMap::new(), problems: Vec::new() }
    }

    /// The document at an address, if it could be read.
    pub fn get(&self, address: &str) -> Option<&Document> {
        self.read.get(address)?.as_ref()
    }

    /// The addresses of all documents that were read.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.read.iter().filter(|(_, document)| document.is_some()).map(|(address, _)| address.as_str())
    }

    /// The texts of all files, by path, for the snapshot's hash.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.read.values().flatten().filter_map(|document| match &document.origin {
            Origin::File(source) => Some((source.name.as_str(), source.text.as_str())),
            Origin::Inline(_) => None,
        })
    }

    /// Reads a file and those that it refers to. `written` is where its path stands. Its address, or none where it cannot be read.
    pub fn file(&mut self, path: &str, written: &Location) -> Option<String> {
        let below = match self.below_root(Path::new(""), path) {
            Ok(below) => below,
            Err(help) => {
                let problem = Diagnostic::error("E0205", format!("`{path}` is not below this folder"));
                self.problems.push(problem.at(written.clone()).help(help));
                return None;
            }
        };
        self.read_file(&below, |message, help| {
            let problem = Diagnostic::error("E0201", message).at(written.clone());
            if help.is_empty() { problem } else { problem.help(help) }
        })
    }

    /// Takes the inline schema of an event. Its address.
    pub fn inline(&mut self, event: &str, inline: &Inline) -> String {
        let address = format!("{ADDRESS}.inline/{}", encoded(event));
        self.add(address.clone(), Path::new(""), inline.value.clone(), Origin::Inline(Arc::new(inline.clone())));
        address
    }

    /// A normalised path below the root, or the help for one that leaves it.
    fn below_root(&self, folder: &Path, path: &str) -> Result<PathBuf, String> {
        let refused = || "keep schemas in this folder or below it, with a relative path".to_owned();
        let mut below = PathBuf::new();
        for part in folder.join(path).components() {
            match part {
                Component::Normal(name) => below.push(name),
                Component::CurDir => {}
                Component::ParentDir if below.pop() => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(refused()),
            }
        }
        // A link may lead out of the folder, too.
        match self.root.join(&below).canonicalize() {
            Ok(real) if !real.starts_with(&self.root) => Err(refused()),
            _ => Ok(below),
        }
    }

    fn read_file(&mut self, below: &Path, problem: impl Fn(String, String) -> Diagnostic) -> Option<String> {
        let name = below.to_string_lossy().replace('\\', "/");
        let address = format!("{ADDRESS}{}", encoded(&name));
        if let Some(known) = self.read.get(&address) {
            return known.is_some().then_some(address);
        }
        // Entered first, so that files that refer to each other are read once.
        self.read.insert(address.clone(), None);
        let full = self.root.join(below);
        let size = std::fs::metadata(&full).map(|found| found.len());
        let text = match size {
            Ok(bytes) if bytes > FILE_MOST_BYTES => {
                let message = format!("`{name}` has {bytes} bytes; a schema file has at most {FILE_MOST_BYTES}");
                self.problems.push(problem(message, String::new()));
                return None;
            }
            _ => std::fs::read_to_string(&full),
        };
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                let (message, help) = unreadable(&name, &full, &error);
                self.problems.push(problem(message, help));
                return None;
            }
        };
        let source = Source::new(name, text);
        match serde_json::from_str::<Value>(&source.text) {
            Ok(value) => {
                for (key, range) in Places::of(&source.text).twice {
                    let place = Location::new(&source, range);
                    let problem = Diagnostic::error("E0202", format!("`{key}` is written twice in one object"));
                    self.problems.push(problem.at(place).help("remove one; JSON would keep the last in silence"));
                }
                let folder = below.parent().unwrap_or(Path::new("")).to_owned();
                self.add(address.clone(), &folder, value, Origin::File(source));
                Some(address)
            }
            Err(error) => {
                let place = Location::word_at(&source, error.line().max(1), error.column().max(1));
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                self.problems.push(Diagnostic::error("E0202", format!("this is not JSON: {message}")).at(place));
                None
            }
        }
    }

    fn add(&mut self, address: String, folder: &Path, mut value: Value, origin: Origin) {
        if let Value::Object(map) = &mut value {
            if let Some(Value::String(draft)) = map.get("$schema")
                && !draft.trim_end_matches('#').starts_with(META)
            {
                let problem = Diagnostic::warning("W0209", format!("this names {draft}, and is read as JSON Schema 2020-12"));
                self.problems.push(problem.at(origin.place("/$schema")).help(format!("write \"$schema\": \"{META}schema\"")));
            }
            map.remove("$schema");
            map.remove("$id");
        }
        let whole = value.clone();
        self.references(&mut value, &whole, "", folder, &origin);
        self.read.insert(address, Some(Document { value: Arc::new(value), origin }));
    }

    /// Checks every `$ref` below `value` and turns those to files into addresses.
    fn references(&mut self, value: &mut Value, whole: &Value, pointer: &str, folder: &Path, origin: &Origin) {
        match value {
            Value::Array(list) => {
                for (at, entry) in list.iter_mut().enumerate() {
                    self.references(entry, whole, &format!("{pointer}/{at}"), folder, origin);
                }
            }
            Value::Object(map) => {
                for (key, entry) in map.iter_mut() {
                    let inner = format!("{pointer}/{}", escaped(key));
                    match (key.as_str(), &mut *entry) {
                        ("$ref", Value::String(target)) => {
                            if let Some(address) = self.reference(target, whole, &inner, folder, origin) {
                                *target = address;
                            }
                        }
                        // These hold data, not schemas.
                        ("enum" | "const" | "default" | "examples" | "example", _) => {}
                        _ => self.references(entry, whole, &inner, folder, origin),
                    }
                }
            }
            _ => {}
        }
    }

    /// The address that a `$ref` to a file becomes; none where it stays as it is, or is refused.
    fn reference(&mut self, target: &str, whole: &Value, pointer: &str, folder: &Path, origin: &Origin) -> Option<String> {
        let (file, fragment) = target.split_once('#').map_or((target, None), |(file, fragment)| (file, Some(fragment)));
        if file.is_empty() {
            self.pointed(whole, fragment.unwrap_or_default(), target, pointer, origin);
            return None;
        }
        if target.starts_with(META) {
            return None;
        }
        if file.starts_with("//") || file.split('/').next().is_some_and(|first| first.contains(':')) {
            let problem = Diagnostic::error("E0204", format!("`{target}` is remote, and nothing is fetched for a schema"));
            let help = "save it below this folder and refer to the file, such as \"$ref\": \"common.json\"";
            self.problems.push(problem.at(origin.place(pointer)).help(help));
            return None;
        }
        let place = || origin.place(pointer);
        let below = match self.below_root(folder, file) {
            Ok(below) => below,
            Err(help) => {
                self.problems.push(Diagnostic::error("E0205", format!("`{target}` leaves this folder")).at(place()).help(help));
                return None;
            }
        };
        let problem_at = place();
        let address = self.read_file(&below, |message, help| {
            let problem = Diagnostic::error("E0206", format!("this $ref leads nowhere: {message}")).at(problem_at.clone());
            if help.is_empty() { problem } else { problem.help(help) }
        })?;
        if let (Some(fragment), Some(document)) = (fragment, self.get(&address).cloned()) {
            self.pointed(&document.value, fragment, target, pointer, origin);
        }
        Some(fragment.map_or(address.clone(), |fragment| format!("{address}#{fragment}")))
    }

    /// Notes a pointer that leads nowhere. An anchor is left to the validator.
    fn pointed(&mut self, whole: &Value, fragment: &str, target: &str, pointer: &str, origin: &Origin) {
        if !fragment.is_empty() && fragment.starts_with('/') && whole.pointer(fragment).is_none() {
            let problem = Diagnostic::error("E0206", format!("this $ref leads nowhere: there is no `{target}`"));
            let (owner, name) = fragment.rsplit_once('/').unwrap_or(("", fragment));
            let known = whole.pointer(owner).and_then(Value::as_object).map(|map| map.keys().map(String::as_str).collect::<Vec<_>>());
            self.problems.push(problem.at(origin.place(pointer)).nearest(name, known.unwrap_or_default()));
        }
    }

    /// What the validator may ask for: these documents and nothing else.
    pub fn retriever(&self) -> impl Retrieve + 'static {
        Shelf(self.read.iter().filter_map(|(address, found)| Some((address.clone(), Arc::clone(&found.as_ref()?.value)))).collect())
    }
}

struct Shelf(BTreeMap<String, Arc<Value>>);

impl Retrieve for Shelf {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        match self.0.get(uri.as_str()) {
            Some(value) => Ok((**value).clone()),
            None => Err(format!("{uri} is no file below this folder").into()),
        }
    }
}

fn unreadable(name: &str, full: &Path, error: &std::io::Error) -> (String, String) {
    if error.kind() != std::io::ErrorKind::NotFound {
        return (format!("cannot read `{name}`: {error}"), String::new());
    }
    let wanted = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside: Vec<String> = full
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok())
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    let help = match crate::base::diagnostic::nearest(&wanted, beside.iter().map(String::as_str)) {
        Some(right) => format!("did you mean `{}`?", name.replace(&wanted, right)),
        None => String::new(),
    };
    (format!("there is no file `{name}`"), help)
}

/// A path as it stands in an address.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
