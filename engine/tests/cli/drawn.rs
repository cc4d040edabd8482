//! What `graph` and `types` make of a project. `UPDATE_EXPECTED=1` writes the files in `drawn/` anew, and the diff is what is reviewed.

use std::process::Command;

use super::support::Place;
use crate::program::{copy, repository};

fn place() -> Place {
    let place = Place::new();
    copy(&repository().join("engine/tests/cli/drawn/project"), &[], &place.path("."));
    place
}

fn compare(arguments: &[&str], file: &str) -> String {
    let shown = place().run(arguments).exits(0).out;
    let file = repository().join("engine/tests/cli/drawn").join(file);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, &shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(&file).unwrap_or_default(), "{}", file.display());
    shown
}

#[test]
fn a_project_is_drawn() {
    let mermaid = compare(&["graph"], "graph.mmd");
    for edge in ["sends", "waits for", "cancels", "invokes", "on failure", "if event.data.carrier"] {
        assert!(mermaid.contains(edge), "{edge}");
    }
    compare(&["graph", "--format", "dot"], "graph.dot");
    compare(&["graph", "--format", "svg"], "graph.svg");
}

#[test]
fn events_become_types() {
    let ts = compare(&["types", "--lang", "ts"], "events.ts");
    assert!(ts.contains("\"ship-to\": {\n      city: string;"), "a $ref is followed: {ts}");
    let python = compare(&["types", "--lang", "python"], "events.py");
    assert!(python.contains("Literal[\"order/placed\"]"), "{python}");
    place().run(&["types", "--lang", "cobol"]).exits(2);
}

#[test]
fn the_python_module_is_python() {
    let file = repository().join("engine/tests/cli/drawn/events.py");
    let check = "import sys, typing; source = open(sys.argv[1]).read(); code = compile(source, 'events.py', 'exec')\n\
                 if hasattr(typing, 'NotRequired'):\n    names = {}; exec(code, names); assert 'OrderPlaced' in names, sorted(names)";
    let output = Command::new("python3").args(["-c", check]).arg(file).output().expect("python3 is there, as scripts/test sees to");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
