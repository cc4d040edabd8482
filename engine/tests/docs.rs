//! Documentation as tests. What a page shows is done as its reader would do it, through the program under test, so a page
//! that is no longer true fails. (`trycmd` runs console blocks too, but neither writes the files of a walk-through nor
//! keeps a server beside it.)

mod checks;
mod expected;
pub mod fragment;
mod page;
mod reader;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use stepwell::script::{entries, reference};

use crate::program::{repository, stepwell};
use page::{Block, Mark};
use reader::Reader;

/// What pages show and no test runs: it takes minutes, or it is what runs the tests.
const NOT_RUN: &[&str] = &["scripts/test", "scripts/audit", "cargo install --locked --path ."];

/// A test for each page.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(#[test]
        fn $name() {
            Reader::of($path).read(&page::blocks(repository(), $path), NOT_RUN);
        })*
    };
}

pages! {
    the_readme: "README.md",
    add_an_event: "docs/add-an-event.md",
    checks_page: "docs/checks.md",
    commands: "docs/commands.md",
    configuration: "docs/configuration.md",
    dashboard: "docs/dashboard.md",
    guarantees: "docs/guarantees.md",
    handlers: "docs/handlers.md",
    how_it_is_tested: "docs/how-it-is-tested.md",
    from_inngest: "docs/from-inngest.md",
    http: "docs/http.md",
    operating: "docs/operating.md",
    reload_page: "docs/reload.md",
    rhai_for_javascript_people: "docs/rhai-for-javascript-people.md",
    testing: "docs/testing.md",
    webhooks_page: "docs/webhooks.md",
    cancel_on: "examples/cancel-on/README.md",
    concurrency_per_user: "examples/concurrency-per-user/README.md",
    batch: "examples/batch/README.md",
    cron: "examples/cron/README.md",
    debounce: "examples/debounce/README.md",
    defaults: "examples/defaults/README.md",
    delayed_start: "examples/delayed-start/README.md",
    explain: "examples/explain/README.md",
    experiment: "examples/experiment/README.md",
    fan_out: "examples/fan-out/README.md",
    function_events: "examples/function-events/README.md",
    hello: "examples/hello/README.md",
    hold_active: "examples/hold-active/README.md",
    http_call: "examples/http-call/README.md",
    idempotency: "examples/idempotency/README.md",
    invoke: "examples/invoke/README.md",
    kv: "examples/kv/README.md",
    on_failure: "examples/on-failure/README.md",
    operate: "examples/operate/README.md",
    outside: "examples/outside/README.md",
    priority: "examples/priority/README.md",
    race: "examples/race/README.md",
    rate_limit: "examples/rate-limit/README.md",
    realtime: "examples/realtime/README.md",
    replay: "examples/replay/README.md",
    retries: "examples/retries/README.md",
    retry_after: "examples/retry-after/README.md",
    send_events: "examples/send-events/README.md",
    shared_limit: "examples/shared-limit/README.md",
    signal: "examples/signal/README.md",
    singleton: "examples/singleton/README.md",
    sleep_and_resume: "examples/sleep-and-resume/README.md",
    sleep_until: "examples/sleep-until/README.md",
    throttle: "examples/throttle/README.md",
    timeouts: "examples/timeouts/README.md",
    triggers: "examples/triggers/README.md",
    versions: "examples/versions/README.md",
    wait_for_any: "examples/wait-for-any/README.md",
    wait_for_event: "examples/wait-for-event/README.md",
    webhooks: "examples/webhooks/README.md",
}

/// The pages that are there: README.md, docs/*.md, examples/*/README.md.
fn pages() -> BTreeSet<String> {
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(repository().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let docs = names("docs").into_iter().filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let examples = names("examples").into_iter().map(|name| format!("examples/{name}/README.md"));
    docs.chain(examples).chain(["README.md".to_owned()]).collect()
}

fn text(page: &str) -> String {
    fs::read_to_string(repository().join(page)).unwrap()
}

fn every_block() -> impl Iterator<Item = Block> {
    PAGES.iter().flat_map(|page| page::blocks(repository(), page))
}

#[test]
fn every_page_is_a_test() {
    assert_eq!(pages(), PAGES.iter().map(|page| (*page).to_owned()).collect());
}

#[test]
fn what_is_not_run_is_there() {
    let shown: BTreeSet<String> =
        every_block().filter(|block| block.is(&Mark::NotRun)).flat_map(|block| page::commands(&block)).map(|typed| typed.command).collect();
    assert_eq!(shown, NOT_RUN.iter().map(|command| (*command).to_owned()).collect(), "the list and the pages name the same commands");
    for command in NOT_RUN.iter().filter(|command| command.starts_with("scripts/")) {
        assert!(repository().join(command).is_file(), "{command}");
    }
}

#[test]
fn scripts_on_the_pages_run() {
    let fragments = every_block().filter(|block| block.language == "rhai" && block.is_fragment());
    fragment::run_scripts(&fragments.collect::<Vec<_>>());
}

#[test]
fn configs_on_the_pages_are_valid() {
    let fragments = every_block().filter(|block| block.language == "yaml" && block.is_fragment());
    fragment::validate_configs(&fragments.collect::<Vec<_>>());
}

/// The anchors of a page's headings, as forges make them: in small letters, a dash for each space, without any other sign.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut is_block = false;
    let headings = page.lines().filter(|line| {
        is_block ^= line.starts_with("```");
        !is_block && line.starts_with('#')
    });
    let letter = |c: char| match c {
        ' ' => Some('-'),
        _ => (c.is_alphanumeric() || c == '-' || c == '_').then_some(c),
    };
    headings.map(|heading| heading.trim_start_matches('#').trim().to_lowercase().chars().filter_map(letter).collect()).collect()
}

#[test]
fn every_link_leads_to_a_file_and_its_heading() {
    let mut broken = Vec::new();
    for page in PAGES.iter().copied().chain(["ARCHITECTURE.md", "BENCHMARKS.md", "CHANGELOG.md"]) {
        let (whole, here) = (text(page), repository().join(page));
        for target in whole.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { here.clone() } else { here.parent().unwrap().join(file) };
            let has_heading = || fs::read_to_string(&path).is_ok_and(|page| anchors(&page).contains(anchor));
            if !target.contains("://") && !(path.exists() && (anchor.is_empty() || has_heading())) {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n  {}", broken.join("\n  "));
}

/// Gathers the keys of the config's format, each behind those that it stands below: `functions`, `cron`, `jitter`.
fn keys(schema: &Value, node: &Value, above: &[String], found: &mut BTreeSet<Vec<String>>) {
    if node.is_null() {
        return;
    }
    if let Some(name) = node["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        keys(schema, &schema["$defs"][name], above, found);
    }
    for (key, below) in node["properties"].as_object().into_iter().flatten() {
        let path = [above, std::slice::from_ref(key)].concat();
        keys(schema, below, &path, found);
        found.insert(path);
    }
    for below in ["items", "additionalProperties"] {
        keys(schema, &node[below], above, found);
    }
    for below in node["anyOf"].as_array().into_iter().flatten() {
        keys(schema, below, above, found);
    }
}

/// The headings of a page, each with what stands between it and the next one.
fn sections(page: &str) -> Vec<(&str, String)> {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for line in page.lines() {
        if line.starts_with("## ") || line.starts_with("### ") {
            sections.push((line, String::new()));
        } else if let Some((_, text)) = sections.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    sections
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let folders = ["engine/", "docs/", "scripts/", "examples/"];
    let mut missing = Vec::new();
    for page in PAGES.iter().copied().chain(["ARCHITECTURE.md", "CHANGELOG.md"]) {
        let named = text(page);
        let named = named.split('`').skip(1).step_by(2).filter(|name| folders.iter().any(|folder| name.starts_with(folder)));
        missing.extend(named.filter(|name| !repository().join(name).exists()).map(|name| format!("{page}: {name}")));
    }
    assert!(missing.is_empty(), "files that are not there:\n  {}", missing.join("\n  "));
}

#[test]
fn every_guarantee_has_its_test() {
    let mut sources = String::new();
    let mut folders = vec![repository().join("engine")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => sources.push_str(&fs::read_to_string(&path).unwrap()),
                _ if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    let page = text("docs/guarantees.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.contains("| what holds |"));
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit_once("| ").unwrap().1;
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test for: {row}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "there is no test `{name}`, which is to hold: {row}");
        }
    }
}

#[test]
fn every_key_of_the_config_is_on_its_page() {
    let schema = stepwell::config::schema();
    let mut found = BTreeSet::new();
    keys(&schema, &schema, &[], &mut found);
    assert!(found.contains(["functions", "cron", "jitter"].map(str::to_owned).as_slice()), "{found:?}");
    let page = text("docs/configuration.md");
    let sections = sections(&page);
    let is_told = |path: &&Vec<String>| {
        let Some((key, above)) = path.split_last() else { return true };
        let key = format!("`{key}`");
        // What `defaults` may hold is explained where functions have it.
        let above = if above.len() > 1 && above[0] == "defaults" { &above[1..] } else { above };
        // In the section of what the key stands below: another option may have a key of the same name.
        let of = |owner: &String| sections.iter().find(|(heading, _)| heading.contains(&format!("`{owner}`")));
        let functions = || sections.iter().find(|(heading, _)| *heading == "## `functions`");
        match above.iter().rev().find_map(of) {
            Some((_, section)) => section.contains(&key),
            None if above.is_empty() => page.contains(&key),
            None => functions().is_some_and(|(_, section)| section.contains(&key)),
        }
    };
    let missing: Vec<_> = found.iter().filter(|path| !is_told(path)).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not say in their sections what these keys are: {missing:?}");
}

/// docs/handlers.md before its reference, and the reference, which is the rest of it from its first heading on.
fn handlers_page() -> (String, String) {
    let page = text("docs/handlers.md");
    let (before, rest) = page.split_once("\n## Reference\n").unwrap();
    let (introduction, _) = rest.split_once("\n### ").unwrap_or((rest, ""));
    let at = before.len() + "\n## Reference\n".len() + introduction.len();
    (page[..at].to_owned(), page[at..].to_owned())
}

#[test]
fn the_reference_of_handlers_is_made_from_the_table() {
    let (before, there) = handlers_page();
    let made = reference();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(repository().join("docs/handlers.md"), format!("{before}{made}")).unwrap();
    } else {
        assert!(there == made, "docs/handlers.md has an old reference: UPDATE_EXPECTED=1 writes it anew");
    }
}

#[test]
fn every_function_of_handlers_is_explained_on_its_page() {
    let (page, _) = handlers_page();
    let mut missing = Vec::new();
    for entry in entries().filter(|entry| !entry.is_member()) {
        // The functions of a module may stand in one list: `http::get`, `post`.
        let (module, function) = entry.name.rsplit_once("::").unwrap_or_default();
        let is_named = page.contains(&format!("`{}`", entry.name)) || page.contains(&format!("`{}(", entry.name));
        let in_a_list = !module.is_empty() && page.contains(&format!("`{module}::")) && page.contains(&format!("`{function}`"));
        if !is_named && !in_a_list {
            missing.push(entry.name);
        }
    }
    assert!(missing.is_empty(), "docs/handlers.md says nothing of {missing:?}");
}

/// Whether a name in the table of commands is of a command below another one: `runs ls`, `get`, …
fn is_below(name: &str) -> bool {
    ["ls", "get", "trace", "logs", "tail", "cancel", "retry-now", "migrate", "pause", "resume", "invoke"].contains(&name)
}

#[test]
fn every_command_is_on_its_page() {
    let help = stepwell(repository(), ["--help"]).stdout;
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let page = text("docs/commands.md");
    let lines = list.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let there: BTreeSet<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
    let table = page.split_once("|---|---|\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = table.lines().flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let told: BTreeSet<&str> =
        names.filter_map(|name| name.split(' ').next()).filter(|name| there.contains(name) || !is_below(name)).collect();
    assert_eq!(told, there, "the commands of docs/commands.md, and those of the program");
}

/// The examples that a test runs through a scenario: those that `examples.rs` names, and the files beside it.
fn examples_that_run() -> BTreeSet<String> {
    let tests = repository().join("engine/tests");
    let beside = fs::read_dir(tests.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let source: String = beside.chain([tests.join("examples.rs")]).map(|file| fs::read_to_string(file).unwrap()).collect();
    source.split("example(\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_row_of_the_translation_has_an_example_that_runs() {
    let runs = examples_that_run();
    let page = text("docs/from-inngest.md");
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| Inngest");
    let (_, translation) = page.split_once("## What becomes of a function").unwrap();
    let rows: Vec<&str> = translation.lines().filter(is_row).collect();
    assert!(rows.len() > 15, "{rows:#?}");
    for row in rows {
        let links: Vec<&str> = row.split("](../examples/").skip(1).filter_map(|rest| rest.split_once(')')).map(|(name, _)| name).collect();
        assert!(!links.is_empty(), "no example for: {row}");
        for link in links {
            assert!(runs.contains(link), "no test runs examples/{link}: {row}");
        }
    }
}

/// The examples that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let links = text.split("](../examples/").skip(1).filter_map(|rest| rest.split_once(')'));
    links.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_option_of_a_function_and_every_kind_of_step_has_an_example_that_runs() {
    let (runs, config, handlers) = (examples_that_run(), text("docs/configuration.md"), text("docs/handlers.md"));
    let functions = config.split_once("## `functions`").unwrap().1.split_once("\n### ").unwrap().0;
    let options: Vec<&str> = functions.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(options.len() >= 16, "{options:#?}");
    // Where a script lies, and which version of it counts, is no pattern of its own.
    let has_none = |row: &&str| !row.starts_with("| `handler`") && !row.starts_with("| `versions`");
    let sections = ["Steps", "Sleeping", "Sending events", "Waiting", "Invoking functions", "Branches", "Races", "Channels"];
    let section = |name: &str| {
        let rest = handlers.split_once(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no section {name}")).1;
        rest.split("\n## ").next().unwrap_or_default().to_owned()
    };
    let texts = options.into_iter().filter(has_none).map(str::to_owned).chain(sections.map(section));
    for text in texts {
        let examples = named(&text);
        assert!(!examples.is_empty(), "no example for: {text}");
        for example in examples {
            assert!(runs.contains(&example), "no test runs examples/{example}: {text}");
        }
    }
}

#[test]
fn the_readme_is_short() {
    let lines = text("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
}
