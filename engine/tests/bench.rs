//! `stepwell bench` as a person calls it, with so little work that its figures mean nothing: what is tested is that each
//! figure is there, beside its raw limit from the same run, in both files.

use serde_json::Value;

use crate::cli::support::Place;

/// Every figure, by a part of its name that no other has.
const FIGURES: [&str; 62] = [
    "events accepted, one a request",
    "events accepted, 100 a request",
    "1-step no-op runs, 100 events",
    "3-step no-op runs, 100 events",
    "50-step no-op runs, 100 events",
    "resident memory, idle",
    "resident memory after",
    "disk a 3-step run",
    "one unloaded 1-step run, sent to finished, p50",
    "one unloaded 1-step run, sent to finished, p99",
    "a 20 ms HTTP call in the step, 1,000 runs in flight",
    "a step's commit under load, p50",
    "a step's commit under load, p99",
    "runs beside these commits",
    "start-up to ready, empty",
    "start-up to ready, 1,000 runs that sleep",
    "memory each, 1,000 runs that sleep",
    "most memory while it starts, 1,000 runs that sleep",
    "start-up to ready, 1,000 runs that wait for an event",
    "memory each, 1,000 runs that wait for an event",
    "most memory while it starts, 1,000 runs that wait for an event",
    "memory each, 1,000 runs that hold a key of their own and wait for an event",
    "memory each, 1,000 runs that an event can cancel and that sleep",
    "3-step no-op runs with 1,000 finished ones in the file",
    "the file with 1,000 finished",
    "3-step no-op runs on a slow disk",
    "one unloaded 1-step run on the slow disk",
    "3-step no-op runs beside 100 reads a second",
    "a read of 50 runs or events beside them, p50",
    "a read of 50 runs or events beside them, p99",
    "the runs page, 1,000 runs in the file, p50",
    "the runs page, 1,000 runs in the file, p99",
    "the runs page by a function and a state that few have, 1,000 runs in the file, p50",
    "the runs page by a function and a state that few have, 1,000 runs in the file, p99",
    "the runs page by a condition that most runs fulfil, 1,000 runs in the file, p50",
    "the runs page by a condition that most runs fulfil, 1,000 runs in the file, p99",
    "the runs page by a condition that one of a thousand fulfils, 1,000 runs in the file, p50",
    "the runs page by a condition that one of a thousand fulfils, 1,000 runs in the file, p99",
    "the overview, 1,000 runs in the file, p50",
    "the overview, 1,000 runs in the file, p99",
    "the events page, 1,000 runs in the file, p50",
    "the events page, 1,000 runs in the file, p99",
    "the page of a run of 1,000 steps, its first part, p50",
    "the page of a run of 1,000 steps with all its files",
    "3-step no-op runs beside an open dashboard",
    "1,000 3-step runs a second beside an open dashboard",
    "ten of these events accepted beside an open dashboard, p50",
    "a live part of the dashboard beside 1,000 runs a second, p50",
    "a live part of the dashboard beside 1,000 runs a second, p99",
    "an event accepted while the config is reloaded",
    "a reload beside these events",
    "1-step runs, 1,000 keys with limit 1",
    "1-step runs, one hot key with limit 1, 1,000 of them",
    "these runs, which go one after another",
    "another run beside 1,000 of one hot key",
    "1,000 sleeping runs that wake in one second",
    "an event that one of 1,000 open waits fits, sent to its run's end, p50",
    "an event that one of 1,000 open waits fits, sent to its run's end, p99",
    "memory of an open wait with its run, 1,000 of them",
    "1-step runs beside 1,000 crons",
    "start-up to ready, 1,000 crons",
    "validate a project of 100 functions",
];

const TINY: [&str; 8] = ["bench", "--quick", "--runs", "1000", "--waiting", "1000", "--finished", "1000"];

#[test]
fn bench_writes_every_figure_beside_its_raw_limit() {
    let place = Place::new();
    let files = ["--dir", ".", "--figures", "figures.json", "--markdown", "pages/figures.md"];
    std::fs::create_dir(place.path("pages")).unwrap();
    let ran = place.run(&[&TINY[..], &files].concat()).exits(0);
    let report: Value = serde_json::from_str(&place.read("figures.json")).unwrap();
    let page = place.read("pages/figures.md");
    let figures = report["figures"].as_array().unwrap();
    assert_eq!(figures.len(), FIGURES.len(), "{report:#}");
    for name in FIGURES {
        let found: Vec<&Value> = figures.iter().filter(|figure| figure["name"].as_str().unwrap().contains(name)).collect();
        let [figure] = found[..] else { panic!("{name} stands there {} times: {report:#}", found.len()) };
        assert!(figure["raw"].as_f64().unwrap() > 0.0 && figure["limit"] != "", "{figure}");
        // So little memory may come out below nothing; everything else is more.
        let is_more = |what: &str| figure[what].as_f64().unwrap() > 0.0 || name.starts_with("memory ");
        assert!(is_more("value") && is_more("ratio"), "{figure}");
        assert_eq!(figure["met"].is_boolean(), figure["aim"] != "", "{figure}");
        assert!(page.contains(name) && ran.out.contains(name), "{name} is on the page and on stdout");
    }
    assert!(report["machine"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains("cores")), "{report}");
    for plot in ["calls-by-runs-in-flight", "runs-by-file-size"] {
        assert!(page.contains(&format!("](docs/plots/{plot}.svg)")), "{page}");
        let svg = place.read(&format!("pages/docs/plots/{plot}.svg"));
        assert!(svg.matches("<circle").count() >= 3, "{svg}");
    }
    let took = ran.err.lines().last().and_then(|line| line.strip_prefix("taken in ")).unwrap();
    assert!(page.contains(&format!("\nTaken in {took}.\n")) && report["seconds"].as_f64().unwrap() > 0.0, "{page}");
    let mut left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["figures.json", "pages"], "the databases are gone");
}

#[test]
fn bench_tells_the_change_since_the_page_that_is_there_and_takes_rounds() {
    let place = Place::new();
    let head = "- stepwell 0.1.0 (release build), 2026-01-01T00:00:00Z\n- 99 cores, Abacus, 1 GB\n";
    let row = "events accepted, one a request, 64 connections | 1.000 events/s | 50,000 events/s (bare axum) | 0.0001";
    place.write("BENCHMARKS.md", &format!("{head}\n| measure | stepwell | raw limit | ratio |\n|---|---|---|---|\n| {row} |\n"));
    let both = ["--only", "a request", "--times", "3", "--dir", ".", "--markdown", "figures.md"];
    let ran = place.run(&[&TINY[..], &both].concat()).exits(0);
    let ran = ran.says("BENCHMARKS.md was taken ").says("on 99 cores, Abacus (here ").says("with all of the work (here a part)");
    let rounds: Vec<&str> = ran.err.lines().filter(|line| line.ends_with(" of 3) …")).collect();
    let (one, many) = ("1/2 events accepted, one a request", "2/2 events accepted, 100 a request");
    let of = |time: u32| [one, many].map(|name| format!("{name} ({time} of 3) …"));
    assert_eq!(rounds, [of(1), of(2), of(3)].concat(), "{}", ran.err);
    let cells: Vec<&str> = ran.out.lines().find(|line| line.starts_with("events accepted, one")).unwrap().split('\t').collect();
    let [_, _, _, _, spread, aim, _, change, of_ratio] = cells[..] else { panic!("{cells:?}") };
    assert!(spread.contains(" to ") && aim == "≥ 0.6", "{cells:?}");
    assert!([change, of_ratio].iter().all(|told| told.starts_with('+') && told.ends_with(" %")), "{cells:?}");
    let page = place.read("figures.md");
    for text in ["each figure the middle one of 3 takings", "| ratio | least to most | aim |", &format!("| {spread} | ≥ 0.6 |")] {
        assert!(page.contains(text), "{text}\n{page}");
    }
    let once = ["--only", "one a request", "--dir", ".", "--json", "--against", "figures.md"];
    let ran = place.run(&[&TINY[..], &once].concat()).exits(0);
    assert!(!ran.err.contains("was taken"), "the page is this machine's own: {}", ran.err);
    let json = ran.json();
    let figure = &json["figures"][0];
    assert!(figure["before"].as_f64().is_some_and(|before| before > 1.0) && figure["ratio_before"].is_f64(), "{json:#}");
    assert_eq!((&figure["values"], &json["otherwise"]), (&Value::Array(Vec::new()), &Value::Null), "{json:#}");
}

#[test]
fn bench_names_its_figures_where_none_is_meant() {
    Place::new().run(&["bench", "--only", "nothing"]).exits(2).says("--only `nothing` names no figure").says("one hot key");
    Place::new().run(&["bench", "--against", "no.md"]).exits(74).says("no.md");
}

/// The figures of the dashboard, by the beginning or the end of their names.
fn is_of_dashboard(name: &str) -> bool {
    ["the runs page", "the overview", "the events page", "the page of a run"].iter().any(|begin| name.starts_with(begin))
        || name.contains("open dashboard")
        || name.starts_with("a live part of the dashboard")
}

/// The number that a cell begins with, where it has one: `1,000 ms (bare axum)` is 1000.
fn number(cell: &str) -> Option<f64> {
    cell.trim().split(' ').next()?.replace(',', "").parse().ok()
}

/// The figures of what limits runs and of what they wait for, with the aims that they have.
const FLOW: [(&str, &str); 10] = [
    ("1-step runs, 100,000 keys with limit 1", "≥ 0.5"),
    ("1-step runs, one hot key with limit 1, 100,000 of them", "≥ 0.5"),
    ("100,000 sleeping runs that wake in one second", "≥ 0.5"),
    ("an event that one of 100,000 open waits fits, sent to its run's end, p50", "≤ 2 ×"),
    ("1-step runs beside 1,000 crons", "≥ 0.5"),
    ("memory of an open wait with its run, 100,000 of them", "≤ 500"),
    ("memory each, 1,000,000 runs that sleep", "≤ 200"),
    ("memory each, 1,000,000 runs that wait for an event", "≤ 200"),
    ("memory each, 1,000,000 runs that hold a key of their own and wait for an event", "≤ 500"),
    ("memory each, 1,000,000 runs that an event can cancel and that sleep", "≤ 500"),
];

fn is_of_flow(name: &str) -> bool {
    FLOW.iter().any(|(figure, _)| *figure == name)
}

/// Holds the figures that are meant against their aims anew, whatever the benchmark says of them: how many have an aim.
fn hold(page: &str, is_meant: fn(&str) -> bool) -> usize {
    assert!(page.contains(" (release build), "), "the figures are those of a release build");
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<String>>();
    let head = page.lines().find(|line| line.starts_with("| measure |")).map(cells).unwrap();
    let at = |column: &str| head.iter().position(|head| head == column).unwrap_or_else(|| panic!("{head:?}"));
    let (value, ratio, aim) = (at("stepwell"), at("ratio"), at("aim"));
    let mut aimed = 0;
    let (figures, _) = page.split_once("<!-- end of the figures -->").unwrap();
    for row in figures.lines().filter(|line| line.starts_with("| ")).map(cells).filter(|row| is_meant(&row[0])) {
        let is_met = match row[aim].split_once(' ') {
            Some(("≤", most)) if !most.ends_with('×') => number(&row[value]).zip(number(most)).map(|(value, most)| value <= most),
            Some(("≤", most)) => number(&row[ratio]).zip(number(most)).map(|(ratio, most)| ratio <= most),
            Some(("≥", least)) => number(&row[ratio]).zip(number(least)).map(|(ratio, least)| ratio >= least),
            _ => continue,
        };
        aimed += 1;
        assert_eq!(is_met, Some(true), "{row:?}");
    }
    aimed
}

fn page_of_figures() -> String {
    std::fs::read_to_string(crate::program::repository().join("BENCHMARKS.md")).unwrap()
}

#[test]
fn no_aim_of_flow_control_and_of_waiting_is_missed_on_the_page_of_figures() {
    let page = page_of_figures();
    for (name, aim) in FLOW {
        let row = page.lines().find(|line| line.starts_with(&format!("| {name} |")));
        assert!(row.is_some_and(|row| row.contains(&format!(" | {aim} | "))), "{name} {aim}: {row:?}");
    }
    assert_eq!(hold(&page, is_of_flow), FLOW.len());
}

#[test]
fn no_aim_of_the_dashboard_is_missed_on_the_page_of_figures() {
    let page = page_of_figures();
    let aimed = hold(&page, is_of_dashboard);
    // Lists under 100 ms at a million runs, a full page under 300 KB, an open dashboard that costs less than 5 %.
    assert!(aimed >= 8, "only {aimed} figures of the dashboard have an aim");
    for name in ["the runs page, 1,000,000 runs in the file, p99", "1,000 3-step runs a second beside an open dashboard"] {
        assert!(page.contains(&format!("| {name} |")), "{name}");
    }
}
