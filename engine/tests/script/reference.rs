//! The examples of the reference.

use stepwell::script::{Address, Commands, Databases, Entry, Where, entries};

use super::*;

/// A handler with an entry's example as its last expression.
fn bench(entry: &Entry, folder: &Path) -> Bench {
    // What a `catch` would have.
    let before = if entry.example.starts_with("e.") { "let e = json::parse(\"{}\");\n" } else { "" };
    let call = match entry.place {
        Where::InStep => format!("step(\"example\", || {})", entry.example),
        _ => entry.example.to_owned(),
    };
    let mut bench = Bench::new(&format!("{before}{call}")).env("API_BASE", "http://127.0.0.1:1").secret("API_KEY", "a-key-of-the-test");
    let address = Address::Sqlite(folder.join("crm.db"));
    bench.surroundings.databases = Databases::new(BTreeMap::from([("crm".to_owned(), address)]));
    bench.surroundings.commands = Commands { allow: vec!["tr".to_owned()], folder: folder.to_owned() };
    // What waits for the clock alone moves it.
    bench.outside = entry.place == Where::InStep;
    bench
}

#[test]
fn every_example_of_the_reference_gives_what_it_says() {
    let mut wrong = Vec::new();
    for entry in entries() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = bench(entry, folder.path());
        let told: Vec<String> = match bench.compile() {
            Ok(_) if entry.gives.is_empty() => continue,
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.render(false)).collect(),
        };
        if told.is_empty() {
            let end = bench.finish();
            let found = format!("{:?} {:?}", end.row.output, end.row.error);
            if end.row.output.as_deref() != Some(entry.gives) {
                wrong.push(format!("{}: {found} instead of {}", entry.example, entry.gives));
            }
        }
        wrong.extend(told);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
