//! Files as texts, and paths that must stay below the config's folder.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path};
use std::sync::Arc;

use crate::base::diagnostic::nearest;
use crate::base::{Diagnostic, Location, Source};

use super::limits::FILE_MOST_BYTES;

/// The text of a file; `name` is how it is shown.
pub(super) fn read(path: &Path, name: &str) -> Result<Arc<Source>, Diagnostic> {
    let shown = path.display();
    let meta = fs::metadata(path).map_err(|error| unreadable(&shown.to_string(), &error))?;
    if meta.is_dir() {
        let problem = Diagnostic::error("E0101", format!("`{shown}` is a folder, not a file"));
        let inside = path.join("events.yaml");
        return Err(if inside.is_file() { problem.help(format!("name the file: {}", inside.display())) } else { problem });
    }
    if !meta.is_file() {
        return Err(Diagnostic::error("E0101", format!("`{shown}` is not a regular file")));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| unreadable(&shown.to_string(), &error))?;
    file.take(FILE_MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&shown.to_string(), &error))?;
    if bytes.len() as u64 > FILE_MOST_BYTES {
        return Err(Diagnostic::error("E0107", format!("`{shown}` is larger than 8MB")));
    }
    text(bytes, name)
}

fn text(bytes: Vec<u8>, name: &str) -> Result<Arc<Source>, Diagnostic> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Diagnostic::error("E0107", format!("`{name}` is UTF-16, and not UTF-8")).help("save it as UTF-8"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text.strip_prefix('\u{feff}').unwrap_or(&text))),
        Err(error) => {
            // What is valid before the bad byte stands at the same offset in the text that is shown.
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            let source = Source::new(name, String::from_utf8_lossy(error.as_bytes()));
            let place = Location::new(&source, at..at + char::REPLACEMENT_CHARACTER.len_utf8());
            Err(Diagnostic::error("E0107", format!("`{name}` is not UTF-8 text"))
                .labelled(place, format!("the byte 0x{byte:02x}"))
                .help("save the file as UTF-8"))
        }
    }
}

fn unreadable(shown: &str, error: &io::Error) -> Diagnostic {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let problem = Diagnostic::error("E0101", format!("there is no file `{shown}`"));
            let beside = near_file(Path::new(shown));
            match beside {
                Some(right) => problem.help(format!("did you mean `{right}`?")),
                None => problem.help("`stepwell init` makes a project; `-c FILE` names another config"),
            }
        }
        io::ErrorKind::PermissionDenied => Diagnostic::error("E0101", format!("no permission to read `{shown}`")),
        _ => Diagnostic::error("E0101", format!("`{shown}` cannot be read: {error}")),
    }
}

/// The file in the same folder whose name is nearest, as a path like the one given.
fn near_file(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let wanted = path.file_name()?.to_str()?;
    let names: Vec<String> =
        fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    let right = nearest(wanted, names.iter().map(String::as_str))?;
    Some(folder.map_or_else(|| right.to_owned(), |folder| folder.join(right).display().to_string()))
}

/// What is wrong with a path that is written in the file, without looking at the disk: it has to stay below the folder.
pub(super) fn path_problem(path: &str, place: &Location) -> Option<Diagnostic> {
    let problem = |text: String| Some(Diagnostic::error("E0117", text).at(place.clone()));
    if path.is_empty() {
        return problem("the path is empty".to_owned());
    }
    if path.contains('\\') {
        return problem(format!("`{path}`: a path is written with `/`")).map(|p| p.help(format!("`{}`", path.replace('\\', "/"))));
    }
    if path.chars().any(char::is_control) {
        return problem(format!("`{}` contains a control character", path.escape_debug()));
    }
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return problem(format!("`{path}` leaves the config's folder"))
            .map(|p| p.help("give a path below it, without `..` and without `/` at the start"));
    }
    None
}

/// What is wrong with the file that a path of the file names: `what` it is, for people.
pub(super) fn file_problem(root: &Path, path: &str, what: &str, place: &Location) -> Option<Diagnostic> {
    if let Some(problem) = path_problem(path, place) {
        return Some(problem);
    }
    let full = root.join(path);
    let Ok(meta) = fs::metadata(&full) else {
        let problem = Diagnostic::error("E0118", format!("{what} `{path}` is not there")).labelled(place.clone(), "no such file");
        return Some(match near_file(&full).and_then(|near| Some(Path::new(&near).strip_prefix(root).ok()?.display().to_string())) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        });
    };
    if !meta.is_file() {
        return Some(Diagnostic::error("E0118", format!("{what} `{path}` is a folder, not a file")).at(place.clone()));
    }
    match (full.canonicalize(), root.canonicalize()) {
        (Ok(full), Ok(root)) if !full.starts_with(&root) => {
            Some(Diagnostic::error("E0117", format!("{what} `{path}` is a link that leaves the config's folder")).at(place.clone()))
        }
        _ => None,
    }
}
