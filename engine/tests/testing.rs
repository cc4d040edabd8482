//! `stepwell test` through the real binary: what it shows of tests that pass and fail, and the tests of every example.
//!
//! `engine/tests/testing/cases/` holds files of tests for the project beside it, each with what is shown in a `.txt`;
//! `UPDATE_EXPECTED=1` writes those files anew, and the diff is what is reviewed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::cli::support::{PATIENCE, Place, Ran};
use crate::program::{copy, repository};

fn here() -> PathBuf {
    repository().join("engine/tests/testing")
}

/// A folder with the project of the cases, and these files of tests.
fn project(cases: &[&str]) -> Place {
    let place = Place::new();
    copy(&here().join("project"), &[], &place.path("."));
    for case in cases {
        place.write(&format!("tests/{case}.test.yaml"), &fs::read_to_string(here().join(format!("cases/{case}.test.yaml"))).unwrap());
    }
    place
}

/// The text without the time that it took on this machine.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for at in 1..words.len() {
            let word = words[at].trim_end_matches(',');
            let is_time = word.ends_with('s') && word.starts_with(|c: char| c.is_ascii_digit() || c == '<');
            if is_time && words[at - 1] == "in" && (line.contains('✓') || line.contains('✗') || line.contains(" passed")) {
                let comma = if words[at].ends_with(',') { "," } else { "" };
                words[at] = format!("TIME{comma}");
            }
        }
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

#[test]
fn what_is_shown_is_as_expected() {
    let mut cases: Vec<PathBuf> = fs::read_dir(here().join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    let mut different = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap().trim_end_matches(".test.yaml");
        let Ran { code, out, err } = project(&[name]).run(&["test"]);
        let shown = format!("exit {code}\n--- stdout\n{}--- stderr\n{}", without_times(&out), without_times(&err));
        let file = case.with_file_name(format!("{name}.txt"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&file, &shown).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if shown != expected {
            different.push(format!("{name}\n--- expected\n{expected}\n--- found\n{shown}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn every_example_has_tests_that_pass() {
    let examples = fs::read_dir(repository().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut wrong = Vec::new();
    for folder in examples.chain([repository().to_owned()]) {
        let place = Place::new();
        copy(&folder, &["events.yaml", "handlers", "schemas", "tests", "functions"], &place.path("."));
        let ran = place.run(&["test", "--json"]);
        let name = folder.display();
        if ran.code != 0 {
            wrong.push(format!("{name}: exit {}\n{}\n{}", ran.code, place.run(&["test"]).out, ran.err));
            continue;
        }
        let told = ran.json();
        let tested: Vec<&str> = told["tests"].as_array().unwrap().iter().filter_map(|test| test["function"].as_str()).collect();
        let listed = place.run(&["functions", "ls", "--json"]).json();
        let functions = listed.as_array().or(listed["items"].as_array()).unwrap_or_else(|| panic!("{listed}"));
        for function in functions.iter().filter_map(|function| function["id"].as_str()) {
            let invoked = ["reserve-stock"];
            if !tested.contains(&function) && !invoked.contains(&function) {
                wrong.push(format!("{name}: no test of {function}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crashes_are_many_and_counted() {
    let told = project(&["passes"]).run(&["test", "--json", "crash"]).exits(0).json();
    let crashes: Vec<u64> = told["tests"].as_array().unwrap().iter().map(|test| test["crashes"].as_u64().unwrap()).collect();
    // Sources, event, start, failed attempt, back-off, start, step, wait, its end, start, two steps, sleep, start, end.
    let [after_each, anywhere] = crashes.as_slice() else { panic!("{told}") };
    assert!(*after_each >= 12, "{crashes:?}");
    assert!(*anywhere >= 24, "one before and one after each commit: {crashes:?}");
    assert_eq!(told["tests"][0]["virtual_ms"], 3_900_000);
}

#[test]
fn a_filter_chooses_by_file_function_and_name() {
    let place = project(&["passes", "no-end"]);
    let names = |filter: &str| -> Vec<String> {
        let told = place.run(&["test", "--json", filter]).json();
        told["tests"].as_array().unwrap().iter().map(|test| test["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("IS STOPPED"), ["is stopped"]);
    assert_eq!(names("no-end").len(), 3);
    assert_eq!(names("forever").len(), 3);
    assert_eq!(names("passes.test.yaml").len(), 9);
    place.run(&["test", "is stoped"]).exits(4).says("did you mean `is stopped`?");
    project(&[]).run(&["test"]).exits(4).says("there are no tests");
}

#[test]
fn ci_gets_junit() {
    let place = project(&["passes", "not-mocked"]);
    place.run(&["test", "--junit", "out.xml"]).exits(1);
    let xml = place.read("out.xml");
    assert!(
        xml.starts_with(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"stepwell\" tests=\"12\" failures=\"3\" skipped=\"1\""
        ),
        "{xml}"
    );
    assert!(xml.contains("<testsuite name=\"tests/not-mocked.test.yaml\" tests=\"3\" failures=\"3\""), "{xml}");
    assert!(xml.contains("<failure type=\"E0611\" message=\"has no mock: GET https://reports.example.com/lines is not mocked\">"), "{xml}");
    assert!(xml.contains("<skipped message=\"the provider has no such case\"/>"), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 12);
}

#[test]
fn json_has_places_and_differences() {
    let told = project(&["not-as-expected"]).run(&["test", "--json"]).exits(1).json();
    let problems = told["tests"][0]["problems"].as_array().unwrap();
    let output = problems.iter().find(|problem| problem["message"] == "pays: output not as expected").unwrap();
    assert_eq!((output["line"].as_u64(), &output["label"]), (Some(13), &Value::from("got \"ch_1\"")));
    let lines: Vec<&str> = output["diff"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(lines.contains(&"-   \"charge\": \"ch_2\"") && lines.contains(&"+   \"charge\": \"ch_1\""), "{lines:?}");
    assert_eq!((&told["passed"], &told["failed"]), (&Value::from(0), &Value::from(1)));
}

#[test]
fn a_verbose_test_shows_every_run_with_its_log() {
    let place = project(&[]);
    let text =
        "function: report\ntests:\n  - name: a\n    event: report/wanted\n    mocks: [{ http: GET *, reply: { json: { lines: [] } } }]\n";
    place.write("tests/deep/down/a.test.yaml", text);
    place.run(&["test", "-v"]).exits(0).prints("tests/deep/down/a.test.yaml").prints("✓ fetch").prints("info  fetched  {\"lines\":0}");
}

#[test]
fn thirty_days_and_a_machine_without_the_secret_are_no_matter() {
    let place = project(&[]);
    place.write("handlers/report.rhai", "sleep(\"30d\");\nstep(\"a\", || now().to_string())");
    place.write("tests/a.test.yaml", "function: report\nnow: 2026-03-01T00:00:00Z\ntests:\n  - name: a\n    event: report/wanted\n    expect: { output: 2026-03-31T00:00:00.000Z, duration: 30d }\n");
    place.run(&["test"]).exits(0);
}

#[test]
fn the_schema_knows_the_tests() {
    let place = project(&[]);
    let schema = place.run(&["schema", "--tests"]).exits(0).json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    // Every case that the program reads without an error fits it, and those of the examples do.
    let yaml = |path: &Path| -> Value { serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    for name in ["passes", "not-as-expected", "not-mocked", "no-end"] {
        let value = yaml(&here().join(format!("cases/{name}.test.yaml")));
        let wrong: Vec<String> = validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
    assert!(!validator.is_valid(&serde_json::json!({ "function": "f", "tests": [{ "name": "a", "evnt": "b/c" }] })));
}

#[test]
fn a_change_runs_the_tests_again() {
    let place = project(&[]);
    let test = |wanted: u32| format!("function: toss\ntests:\n  - {{ name: a, event: coin/tossed, expect: {{ runs: {wanted} }} }}\n");
    place.write("tests/a.test.yaml", &test(1));
    let mut command = place.command();
    let mut child = command.args(["test", "--watch"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (lines, came) = std::sync::mpsc::channel();
    let streams: [Box<dyn std::io::Read + Send>; 2] = [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for stream in streams {
        let lines = lines.clone();
        std::thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
    }
    let until = |text: &str| while !came.recv_timeout(PATIENCE).unwrap().contains(text) {};
    until("1 passed");
    place.write("tests/a.test.yaml", &test(23));
    until("got 1");
    place.write("tests/a.test.yaml", "function: tos\n");
    until("did you mean `toss`?");
    place.write("tests/a.test.yaml", &test(1));
    until("1 passed");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_test_can_leave_out_what_the_one_that_it_extends_sends() {
    let place = project(&[]);
    let text = "function: charge\nmocks: [{ http: \"POST https://api.example.com/*\", reply: { json: { id: c } } }]\ntests:\n  \
                - { name: pays, event: payment/initiate, send: [{ at: 5m, name: otp/received, data: { userId: u1 } }], expect: { output_includes: { status: paid } } }\n  \
                - { name: nothing comes, extends: pays, send: [], expect: { output_includes: { status: expired } } }\n";
    place.write("tests/left-out.test.yaml", text);
    place.run(&["test"]).exits(0).prints("2 tests: 2 passed");
}
