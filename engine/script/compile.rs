//! Handlers from text to programs: the files that a handler imports, Rhai's parser, and the checks that need no run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rhai::{AST, Module, ParseError, ParseErrorType, Scope, Shared};
use sha2::{Digest, Sha256};

use crate::base::{Diagnostic, Json, Location, Severity, Source, hex};
use crate::rules::SourceRow;

use super::attempt::load;
use super::coroutine::Broken;
use super::engine::begin_text;
use super::import::{file_of, with_modules};
use super::{Facts, Host, Program, Refused, Sees, Use, check, entries};

/// Largest handler file, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;
/// Files of one handler.
const FILES_MOST: usize = 100;

/// Reads the files of a handler.
trait Files {
    /// The text of a file below the config's folder, or why it cannot be had.
    fn text(&self, file: &str) -> Result<String, String>;
}

struct Disk<'a>(&'a Path);

impl Files for Disk<'_> {
    fn text(&self, file: &str) -> Result<String, String> {
        let path = self.0.join(file);
        let told = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
            _ => error.to_string(),
        };
        // A link that leads out of the folder is refused like a path that does.
        let (root, real) = (self.0.canonicalize().map_err(told)?, path.canonicalize().map_err(told)?);
        if !real.starts_with(&root) {
            return Err("it lies outside of the config's folder".to_owned());
        }
        let size = std::fs::metadata(&real).map_err(told)?.len();
        if size > FILE_BYTES {
            return Err(format!("it has {size} bytes; a handler has at most {FILE_BYTES}"));
        }
        std::fs::read_to_string(&real).map_err(told)
    }
}

struct Stored(BTreeMap<String, String>);

impl Files for Stored {
    fn text(&self, file: &str) -> Result<String, String> {
        self.0.get(file).cloned().ok_or_else(|| "it is not among the stored files".to_owned())
    }
}

/// A text that is in no file, with files beside it.
struct Typed<'a> {
    name: &'a str,
    text: &'a str,
    disk: Disk<'a>,
}

impl Files for Typed<'_> {
    fn text(&self, file: &str) -> Result<String, String> {
        if file == self.name { Ok(self.text.to_owned()) } else { self.disk.text(file) }
    }
}

/// Compiles a text that is called `name`.
pub(super) fn from_text(
    host: &Host,
    root: &Path,
    name: &str,
    text: &str,
    globals: &'static [&'static str],
) -> Result<Program, Vec<Diagnostic>> {
    compile(host, &Typed { name, text, disk: Disk(root) }, name, globals).map_err(|refused| errors(*refused))
}

/// Compiles what lies on disk.
pub(super) fn from_disk(host: &Host, root: &Path, handler: &str, globals: &'static [&'static str]) -> Result<Program, Box<Refused>> {
    compile(host, &Disk(root), handler, globals)
}

/// Compiles what is stored.
pub(super) fn from_row(host: &Host, row: &SourceRow) -> Result<Program, Vec<Diagnostic>> {
    let files: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&row.files)
        .map_err(|error| vec![Diagnostic::error("E0309", format!("a stored handler cannot be read: {error}"))])?;
    let first = files.keys().next().cloned().unwrap_or_default();
    let files = files.into_iter().filter_map(|(name, text)| Some((name, text.as_str()?.to_owned()))).collect();
    // It compiled once, as what it was then; so all that a script may see is there.
    compile(host, &Stored(files), &first, &["event", "events", "run", "error"]).map_err(|refused| errors(*refused))
}

/// What is an error in a refused handler.
pub(super) fn errors(refused: Refused) -> Vec<Diagnostic> {
    refused.problems.into_iter().filter(|problem| problem.severity == Severity::Error).collect()
}

fn compile(host: &Host, files: &dyn Files, handler: &str, globals: &'static [&'static str]) -> Result<Program, Box<Refused>> {
    let mut compiler = Compiler {
        host,
        files,
        globals,
        sources: Vec::new(),
        modules: BTreeMap::new(),
        open: Vec::new(),
        problems: Vec::new(),
        uses: Vec::new(),
        facts: Facts::default(),
    };
    let main = compiler.file(handler, None);
    let Compiler { sources, modules, problems, uses, mut facts, .. } = compiler;
    match main {
        Some(ast) if !problems.iter().any(|problem| problem.severity == Severity::Error) => {
            let row = row(&sources);
            // Lines count from 1.
            let lines = sources.iter().map(|source| vec![OnceLock::new(); source.text.lines().count() + 1].into()).collect();
            let names = |word: &str| sources.first().is_some_and(|main| main.text.contains(word));
            let sees = Sees { event: names("event"), events: names("events") };
            let engine = Arc::clone(&host.engine);
            Ok(Program { engine, ast, modules, files: sources, row, warnings: problems, uses, facts, lines, sees })
        }
        _ => {
            // What is asked for where nothing could be read is not known, so no value counts as one that nobody has asked for.
            facts.reads.iter_mut().for_each(|read| read.is_shielded = true);
            Err(Box::new(Refused { problems, uses, facts }))
        }
    }
}

/// The sources as they are stored.
fn row(sources: &[Arc<Source>]) -> SourceRow {
    let mut hash = Sha256::new();
    let mut files = serde_json::Map::new();
    for source in sources {
        for part in [&source.name, &source.text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        files.insert(source.name.clone(), source.text.clone().into());
    }
    SourceRow { hash: hex::encode(&hash.finalize()).into(), files: Json::from(serde_json::Value::Object(files).to_string()) }
}

struct Compiler<'a> {
    host: &'a Host,
    files: &'a dyn Files,
    /// The variables that the handler finds.
    globals: &'static [&'static str],
    sources: Vec<Arc<Source>>,
    modules: BTreeMap<String, Shared<Module>>,
    /// The files that are being compiled, each importing the next.
    open: Vec<String>,
    problems: Vec<Diagnostic>,
    uses: Vec<Use>,
    facts: Facts,
}

/// What parsing a text gives.
struct Parsed {
    /// What is run; none where something is wrong.
    runs: Option<AST>,
    /// What is checked: not simplified, so that all that was written is there with its place.
    checked: Option<AST>,
}

impl Compiler<'_> {
    /// Parses a file and everything that it imports; `from` is the import that led here.
    fn file(&mut self, name: &str, from: Option<&Location>) -> Option<AST> {
        let at = |problem: Diagnostic| from.map_or(problem.clone(), |place| problem.at(place.clone()));
        let text = match self.files.text(name) {
            Ok(text) => text,
            Err(why) => {
                self.problems.push(at(Diagnostic::error("E0309", format!("cannot read {name}: {why}"))));
                return None;
            }
        };
        if self.sources.len() >= FILES_MOST {
            self.problems.push(at(Diagnostic::error("E0303", format!("a handler has at most {FILES_MOST} files"))));
            return None;
        }
        let source = Source::new(name, text);
        self.sources.push(Arc::clone(&source));
        let mut scope = Scope::new();
        if from.is_none() {
            // As variables, not as constants: Rhai would put a constant's value into the program.
            for name in self.globals {
                scope.push(*name, ());
            }
        }
        let Parsed { runs, checked } = self.parse(&source, scope);
        let checked = checked?;
        self.open.push(name.to_owned());
        let imports = self.imports(&checked, &source);
        self.open.pop();
        let globals = from.is_none().then_some(self.globals);
        let found = check::check(&self.host.names, &checked, &source, globals, &imports, runs.is_none());
        // What the parser has told of a place is not told twice.
        let told = |problem: &Diagnostic| self.problems.iter().any(|known| known.code == problem.code && known.places == problem.places);
        let new: Vec<Diagnostic> = found.problems.into_iter().filter(|problem| !told(problem)).collect();
        self.problems.extend(new);
        self.uses.extend(found.uses);
        self.facts.extend(found.facts);
        let mut ast = runs?;
        ast.set_source(name);
        Some(ast)
    }

    /// Parses a text. Rhai stops at the first variable that is not there; it is told, then counts as there, so that all
    /// that are missing, and everything else that is wrong, come in one go.
    fn parse(&mut self, source: &Arc<Source>, mut scope: Scope<'static>) -> Parsed {
        let checked = |scope: &Scope<'static>| {
            begin_text();
            self.host.reader.compile_with_scope(scope, &source.text).ok()
        };
        loop {
            begin_text();
            let error = match self.host.engine.compile_with_scope(&scope, &source.text) {
                Ok(ast) => return Parsed { checked: checked(&scope).or_else(|| Some(ast.clone())), runs: Some(ast) },
                Err(error) => error,
            };
            let missing = match error.err_type() {
                ParseErrorType::VariableUndefined(name) => Some(name.to_string()),
                _ => None,
            };
            match missing {
                // A `fn` sees no scope: what is missing there stays missing, and has been told.
                Some(name) if scope.contains(&name) => return Parsed { runs: None, checked: checked(&scope) },
                Some(name) => {
                    self.problems.push(syntax(source, &error));
                    scope.push(name, ());
                }
                None => {
                    let is_module = matches!(error.err_type(), ParseErrorType::ModuleUndefined(_));
                    self.problems.push(syntax(source, &error));
                    return Parsed { runs: None, checked: is_module.then(|| checked(&scope)).flatten() };
                }
            }
        }
    }

    /// Compiles what a file imports; the modules by the names that the file gives to them, none where one does not compile.
    fn imports(&mut self, ast: &AST, source: &Arc<Source>) -> BTreeMap<String, Option<Shared<Module>>> {
        let mut named = BTreeMap::new();
        for (path, name, position) in imports_of(ast) {
            let place = Location::word_at(source, position.line().unwrap_or(1), position.position().unwrap_or(1));
            let Some(path) = path else {
                let problem = Diagnostic::error("E0302", "an import's path has to be a text in quotes").at(place);
                self.problems.push(problem.help("import \"lib/x\" as x;"));
                continue;
            };
            let file = match file_of(&path) {
                Ok(file) => file,
                Err(why) => {
                    self.problems.push(Diagnostic::error("E0302", format!("cannot import `{path}`: {why}")).at(place));
                    continue;
                }
            };
            if self.open.contains(&file) {
                let circle = format!("{file} imports itself: {} → {file}", self.open.join(" → "));
                self.problems.push(Diagnostic::error("E0303", circle).at(place));
                continue;
            }
            if let Some(module) = self.modules.get(&file) {
                named.insert(name, Some(Shared::clone(module)));
                continue;
            }
            named.insert(name.clone(), None);
            let before = self.problems.len();
            let Some(ast) = self.file(&file, Some(&place)) else { continue };
            let (engine, tree) = (Arc::clone(&self.host.engine), ast.clone());
            let evaluate = move || Module::eval_ast_as_new(Scope::new(), &tree, &engine);
            let loaded = match with_modules(&mut self.modules, || load(evaluate)) {
                Ok(Ok(module)) => Ok(module),
                Ok(Err(error)) => Err(super::error::verdict(&error, &file).failure.message),
                Err(Broken::Panicked(message)) => Err(format!("a function of the engine panicked: {message}")),
                Err(Broken::Starved) => Err("it asks for too much memory".to_owned()),
                Err(Broken::NoStack) => Err("there is no memory to load it".to_owned()),
            };
            match loaded {
                Ok(module) => {
                    let module = Shared::new(module);
                    named.insert(name, Some(Shared::clone(&module)));
                    self.modules.insert(file, module);
                }
                // It fails for what is wrong with it, which has been told.
                Err(_) if self.problems[before..].iter().any(|problem| problem.severity == Severity::Error) => {}
                Err(why) => {
                    let problem = Diagnostic::error("E0303", format!("loading {file} failed: {why}")).at(place);
                    self.problems.push(problem.help("outside of its functions, an imported file can only define constants"));
                }
            }
        }
        named
    }
}

/// The imports of a file: the literal path (none where it is computed), the name it is given, and the place.
fn imports_of(ast: &AST) -> Vec<(Option<String>, String, rhai::Position)> {
    let mut found = Vec::new();
    ast.walk(&mut |path| {
        if let Some(rhai::ASTNode::Stmt(rhai::Stmt::Import(import, position))) = path.last() {
            let (literal, at) = match &import.0 {
                rhai::Expr::StringConstant(text, at) => (Some(text.to_string()), *at),
                _ => (None, *position),
            };
            found.push((literal, import.1.name.to_string(), at));
        }
        true
    });
    found
}

/// What Rhai's parser says, in our form.
fn syntax(source: &Arc<Source>, error: &ParseError) -> Diagnostic {
    let position = error.position();
    let place = Location::word_at(source, position.line().unwrap_or(1), position.position().unwrap_or(1));
    let word = source.text.get(place.range.clone()).unwrap_or_default().to_owned();
    let rest = source.text.get(place.range.end..).unwrap_or_default().to_owned();
    match error.err_type() {
        ParseErrorType::VariableUndefined(name) => {
            let problem = Diagnostic::error("E0306", format!("there is no variable `{name}`")).at(place);
            match name.as_str() {
                "event" | "events" | "run" => problem.help("an imported file does not see it: pass it as an argument"),
                "error" => problem.help("the script of an `on_failure` sees it, the handler does not; a `catch (e)` names its own"),
                _ => problem.nearest(name, variables(&source.text)),
            }
        }
        ParseErrorType::ModuleUndefined(name) => {
            let problem = Diagnostic::error("E0304", format!("there is no module `{name}`")).at(place);
            problem.nearest(name, entries().filter_map(|entry| entry.name.split_once("::").map(|(module, _)| module)))
        }
        other => {
            let mut message = other.to_string();
            if let Some(first) = message.get(..1).map(str::to_lowercase) {
                message.replace_range(..1, &first);
            }
            let problem = Diagnostic::error("E0301", message).at(place);
            match advice(&word, &rest) {
                Some(help) => problem.help(help),
                None => problem,
            }
        }
    }
}

/// What people trip over who know other languages.
fn advice(word: &str, rest: &str) -> Option<String> {
    if rest.trim_start().starts_with(':') && !rest.trim_start().starts_with("::") && word.chars().all(char::is_alphanumeric) {
        return Some(format!("in #{{…}} a reserved word is quoted: \"{word}\": …"));
    }
    match word {
        "eval" => Some("scripts cannot run text as code".to_owned()),
        "try" => Some("try is a statement: declare a variable before it, and set it inside".to_owned()),
        "?" => Some("there is no ?: in Rhai; write if a { b } else { c }".to_owned()),
        "'" => Some("texts stand in \"…\" or in `…` with ${…}".to_owned()),
        _ => None,
    }
}

/// The words of a text that may be names of variables.
fn variables(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
    let mut names = Vec::new();
    for pair in words.windows(2) {
        if matches!(pair[0], "let" | "const" | "for") {
            names.push(pair[1]);
        }
    }
    words.clear();
    names.extend(["event", "events", "run"]);
    names
}
