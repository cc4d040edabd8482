//! `import "lib/x" as x`: modules by path below `handlers/`, compiled with the handler and part of its version.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rhai::{Engine, EvalAltResult, Module, ModuleResolver, Position, Shared};

use super::attempt;
use super::error::{Fault, Thrown};

thread_local! {
    /// The modules compiled so far for the handler that is being compiled on this thread.
    static COMPILING: RefCell<Option<BTreeMap<String, Shared<Module>>>> = const { RefCell::new(None) };
}

/// Calls `work` with modules that the files it loads may import; gives them back.
pub(super) fn with_modules<T>(modules: &mut BTreeMap<String, Shared<Module>>, work: impl FnOnce() -> T) -> T {
    COMPILING.replace(Some(std::mem::take(modules)));
    let result = work();
    *modules = COMPILING.take().unwrap_or_default();
    result
}

/// Finds a module among those that were compiled with the handler; reads no file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Imports;

impl ModuleResolver for Imports {
    fn resolve(&self, _: &Engine, _: Option<&str>, path: &str, position: Position) -> Result<Shared<Module>, Fault> {
        let find = |modules: &BTreeMap<String, Shared<Module>>| file_of(path).ok().and_then(|file| modules.get(&file).cloned());
        let compiling = COMPILING.with_borrow(|modules| modules.as_ref().and_then(find));
        let found = compiling.or_else(|| attempt::running().and_then(|attempt| find(&attempt.program.modules)));
        found.ok_or_else(|| {
            let inner = Thrown::last("E0303", format!("there is no `{path}` among the files that this handler imports"))
                .help("an import's path is a text in quotes, below handlers/")
                .fault();
            EvalAltResult::ErrorInModule(path.to_owned(), inner, position).into()
        })
    }
}

/// The file of an import's path, below the config's folder.
///
/// # Errors
/// What is wrong with a path that leads out of `handlers/`.
pub(super) fn file_of(path: &str) -> Result<String, &'static str> {
    let path = path.strip_suffix(".rhai").unwrap_or(path);
    if path.is_empty() {
        return Err("the path is empty");
    }
    if path.starts_with('/') || path.contains('\\') || path.contains(':') || path.contains('\0') {
        return Err("an import is a path below handlers/, with `/` between its parts");
    }
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("an import stays below handlers/: no `.`, `..` or empty part in its path");
    }
    Ok(format!("handlers/{path}.rhai"))
}
