//! Loading: the main file, the files that it includes, and the checks over all of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::secretlike::secretlike;
use crate::base::{Diagnostic, Location, Severity, Source};

use super::keys::include;
use super::model::Model;
use super::reader::{Fields, Reader};
use super::spanned::{Spanned, Table};
use super::tree::{self, Node, Shape};
use super::{check, file};

/// What came of loading a config.
#[derive(Debug)]
pub struct Loaded {
    /// The model; there whenever the main file is YAML, also with problems: then what is wrong is left out of it, and it
    /// serves for finding further problems only.
    pub model: Option<Model>,
    /// Whether every file could be read: else a name that is declared nowhere may be declared in one that could not.
    pub is_whole: bool,
    /// All problems, in the order of the files and of their lines.
    pub problems: Vec<Diagnostic>,
    /// The config's folder, which every path in it is relative to.
    pub root: PathBuf,
    /// The main file's text.
    pub source: Option<Arc<Source>>,
    /// The included files, as paths relative to the folder.
    pub included: Vec<String>,
}

impl Loaded {
    /// Whether something is wrong that nothing may start with.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// Loads a config: reads the file and what it includes, and checks all of it. Never panics; reads no environment.
pub fn load(path: &Path) -> Loaded {
    let root = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let mut loader =
        Loader { root, reader: Reader::default(), stack: vec![name.clone()], seen: BTreeSet::new(), sources: Vec::new(), is_whole: true };
    let model = loader.main(path, &name);
    let Loader { root, mut reader, seen, sources, is_whole, .. } = loader;
    if let Some(model) = &model {
        check::check(model, &root, is_whole, &mut reader);
    }
    let source_order = |problem: &Diagnostic| {
        problem.places.first().map(|place| {
            let file = sources.iter().position(|source| Arc::ptr_eq(source, &place.source));
            (file, place.range.start)
        })
    };
    reader.problems.sort_by_key(source_order);
    Loaded { model, is_whole, problems: reader.problems, root, source: sources.into_iter().next(), included: seen.into_iter().collect() }
}

struct Loader {
    root: PathBuf,
    reader: Reader,
    /// The files that lead to the one that is being read, from the main one on.
    stack: Vec<String>,
    /// The included files that have been read.
    seen: BTreeSet<String>,
    sources: Vec<Arc<Source>>,
    is_whole: bool,
}

impl Loader {
    fn main(&mut self, path: &Path, name: &str) -> Option<Model> {
        let source = match file::read(path, name) {
            Ok(source) => source,
            Err(problem) => {
                self.reader.note(problem);
                return None;
            }
        };
        self.sources.push(Arc::clone(&source));
        let node = tree::parse(&source, &mut self.reader.problems)?;
        if node.shape == Shape::Null {
            let problem = Diagnostic::error("E0107", format!("`{name}` is empty")).at(Location::new(&source, 0..0));
            self.reader.note(problem.help("it declares `events` and `functions`; `stepwell init` writes one to begin with"));
            return None;
        }
        secrets_in(None, &node, &mut self.reader);
        let mut model = Model::read(&node, &mut self.reader);
        self.include(&mut model);
        Some(model)
    }

    /// Reads what `model.include` names into `model`.
    fn include(&mut self, model: &mut Model) {
        for entry in model.include.clone() {
            if let Some(problem) = file::path_problem(&entry.value, &entry.place) {
                self.is_whole = false;
                self.reader.note(problem);
            } else if include::is_pattern(&entry.value) {
                let own = self.stack.last().cloned().unwrap_or_default();
                let mut found = include::find(&self.root, &entry.value);
                found.retain(|path| *path != own);
                if found.is_empty() {
                    let problem = Diagnostic::warning("W0120", format!("`{}` fits no file", entry.value));
                    self.reader.note(problem.at(entry.place.clone()));
                }
                for path in found {
                    self.include_one(path, &entry.place, model);
                }
            } else if let Some(problem) = file::file_problem(&self.root, &entry.value, "the included file", &entry.place) {
                self.is_whole = false;
                self.reader.note(problem);
            } else {
                let path = entry.value.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/");
                self.include_one(path, &entry.place, model);
            }
        }
    }

    fn include_one(&mut self, path: String, place: &Location, model: &mut Model) {
        if self.stack.contains(&path) {
            let way = self.stack.iter().chain([&path]).map(String::as_str).collect::<Vec<_>>().join(" → ");
            let problem = Diagnostic::error("E0119", format!("files include each other: {way}")).at(place.clone());
            return self.reader.note(problem.help("remove one of the `include` entries"));
        }
        if !self.seen.insert(path.clone()) {
            return;
        }
        let source = match file::read(&self.root.join(&path), &path) {
            Ok(source) => source,
            Err(problem) => {
                self.is_whole = false;
                return self.reader.note(problem.at(place.clone()));
            }
        };
        self.sources.push(Arc::clone(&source));
        let Some(node) = tree::parse(&source, &mut self.reader.problems) else {
            self.is_whole = false;
            return;
        };
        secrets_in(None, &node, &mut self.reader);
        let mut part = Model::default();
        let Some(mut fields) = Fields::of::<Model>(&node, "an included file", &mut self.reader) else {
            self.is_whole = false;
            return;
        };
        part.read_shared(&mut fields);
        fields.main_file_only();
        self.stack.push(path);
        self.include(&mut part);
        self.stack.pop();
        merge(&mut model.env, part.env, "the variable", &mut self.reader);
        merge(&mut model.events, part.events, "the event", &mut self.reader);
        merge(&mut model.functions, part.functions, "the function", &mut self.reader);
        merge(&mut model.webhooks, part.webhooks, "the webhook", &mut self.reader);
        model.secrets.extend(part.secrets);
    }
}

/// Notes the texts below a value that look like secrets; `name` is the key that it stands under.
fn secrets_in(name: Option<&str>, node: &Node, reader: &mut Reader) {
    match &node.shape {
        Shape::Text(text) => {
            if let Some(what) = secretlike(name, text) {
                let problem = Diagnostic::warning("W0136", format!("this looks like a secret: {what}")).at(node.place.clone());
                reader.note(problem.help("list its name under `secrets`, and set the value in the environment"));
            }
        }
        Shape::List(items) => items.iter().for_each(|item| secrets_in(name, item, reader)),
        Shape::Map(entries) => entries.iter().for_each(|(key, value)| secrets_in(Some(&key.value), value, reader)),
        _ => {}
    }
}

fn merge<T>(into: &mut Table<T>, from: Table<T>, what: &str, reader: &mut Reader) {
    for (name, value) in from.into_entries() {
        match into.entry(&name.value) {
            Some((Spanned { place, .. }, _)) => reader.note(
                Diagnostic::error("E0129", format!("{what} `{}` is declared in two files", name.value))
                    .labelled(name.place, "again here")
                    .labelled(place.clone(), "first here"),
            ),
            None => into.push(name, value),
        }
    }
}
