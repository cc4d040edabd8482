//! Projects as a whole, through real files: what is valid becomes a snapshot, what is wrong is shown as a user sees it.
//!
//! `engine/tests/project/invalid/` and `warnings/` hold a folder per mistake, with what is shown in `expected.txt`; `silent/`
//! holds what looks like one and is none;
//! `UPDATE_EXPECTED=1` writes those files anew, and the diff is what is reviewed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use stepwell::base::{Diagnostic, EventId, Json, Millis, Severity, Span, codes};
use stepwell::project::{EventProblem, Mode, Project};
use stepwell::rules::matching::Candidate;
use stepwell::rules::{Backoff, EventRow, Retry};
use stepwell::script::Host;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/project").join(kind)
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(kind)).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {kind}");
    cases
}

/// The environment of every test: one good secret, one short one.
fn environment(name: &str) -> Option<String> {
    match name {
        "PRESENT_KEY" => Some("a-good-long-secret".into()),
        "SHORT_KEY" => Some("short".into()),
        _ => None,
    }
}

fn load(path: &Path, mode: Mode) -> Result<(Project, Vec<Diagnostic>), Vec<Diagnostic>> {
    Project::load(&path.join("events.yaml"), &Host::new(), &environment, mode)
}

fn shown(problems: &[Diagnostic]) -> String {
    problems.iter().map(|problem| format!("{problem}\n\n")).collect()
}

fn valid() -> Project {
    match load(&folder("valid/whole"), Mode::Run) {
        Ok((project, problems)) => {
            assert!(problems.is_empty(), "{}", shown(&problems));
            project
        }
        Err(problems) => panic!("{}", shown(&problems)),
    }
}

fn compare(case: &Path, problems: &[Diagnostic]) -> Option<String> {
    let (shown, file) = (shown(problems), case.join("expected.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, &shown).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    (shown != expected).then(|| format!("{}\n--- expected\n{expected}--- found\n{shown}", case.display()))
}

#[test]
fn what_is_wrong_is_shown_as_expected() {
    let mut different = Vec::new();
    for case in cases("invalid") {
        match load(&case, Mode::Run) {
            Ok(_) => different.push(format!("{} loads", case.display())),
            Err(problems) => different.extend(compare(&case, &problems)),
        }
    }
    for case in cases("warnings") {
        match load(&case, Mode::Run) {
            Ok((_, problems)) => different.extend(compare(&case, &problems)),
            Err(problems) => different.push(format!("{}\n{}", case.display(), shown(&problems))),
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn what_is_right_stays_silent() {
    for case in cases("silent") {
        match load(&case, Mode::Run) {
            Ok((_, problems)) => assert!(problems.is_empty(), "{}\n{}", case.display(), shown(&problems)),
            Err(problems) => panic!("{}\n{}", case.display(), shown(&problems)),
        }
    }
}

#[test]
fn every_code_of_the_room_has_a_case() {
    let mut told = BTreeSet::new();
    for case in cases("invalid").into_iter().chain(cases("warnings")) {
        let text = fs::read_to_string(case.join("expected.txt")).unwrap();
        told.extend(text.split(['[', ']']).filter(|word| word.len() == 5).map(str::to_owned));
    }
    // What is wrong with events when they come, and what is a note in other modes alone, has tests of its own.
    let elsewhere = ["E0220", "E0221", "E0222", "E0223", "N0213"];
    // Warnings have letters of their own for the same numbers.
    let of_project = |code: &str| ["02", "03"].contains(&&code[1..3]) || ["W0410", "W0411", "E0430", "E0431", "E0432"].contains(&code);
    let wanted = codes::ALL.iter().map(|entry| entry.code).filter(|code| of_project(code) && !elsewhere.contains(code));
    let missing: Vec<&str> = wanted.filter(|code| !told.contains(*code)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn a_missing_secret_is_as_bad_as_the_mode_says() {
    let case = folder("invalid/secret-missing");
    let severity = |mode| match load(&case, mode) {
        Ok((_, problems)) => problems.first().map(|problem| problem.severity),
        Err(problems) => problems.first().map(|problem| problem.severity),
    };
    assert_eq!(severity(Mode::Run), Some(Severity::Error));
    assert_eq!(severity(Mode::Dev), Some(Severity::Error));
    assert_eq!(severity(Mode::Check), Some(Severity::Note));
    assert_eq!(severity(Mode::Plan), Some(Severity::Note));
    assert_eq!(severity(Mode::Try), None);
    assert!(load(&folder("invalid/secret-too-short"), Mode::Try).is_err());
}

#[test]
fn the_environment_wins_over_what_env_gives() {
    let set = |name: &str| if name == "API_BASE" { Some("https://elsewhere.example".to_owned()) } else { environment(name) };
    let (project, _) = Project::load(&folder("valid/whole/events.yaml"), &Host::new(), &set, Mode::Run).unwrap();
    assert_eq!(project.surroundings.env["API_BASE"], "https://elsewhere.example");
    assert_eq!(valid().surroundings.env["API_BASE"], "https://example.com");
}

#[test]
fn a_number_counts_retries_and_the_long_form_attempts() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("handlers")).unwrap();
    fs::write(folder.path().join("handlers/f.rhai"), "1").unwrap();
    let of = |retries: &str| {
        let yaml = format!("events: {{ a/b: {{}} }}\nfunctions: {{ f: {{ on: a/b{retries} }} }}\n");
        fs::write(folder.path().join("events.yaml"), yaml).unwrap();
        let (project, _) = load(folder.path(), Mode::Run).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
        project.functions[0].retry.clone()
    };
    for (text, attempts) in [("", 4), (", retries: 3", 4), (", retries: 0", 1), (", retries: { attempts: 3 }", 3), (", retries: {}", 4)] {
        assert_eq!(of(text), Retry { attempts, backoff: Backoff::Table }, "{text}");
    }
    let (initial, max, jitter) = (Span::seconds(15), Span::seconds(7_200), 0.2);
    let long = Span::seconds(3 * 3_600);
    for (text, backoff) in [
        ("backoff: exponential", Backoff::Exponential { initial, max, jitter }),
        ("jitter: 0.2", Backoff::Exponential { initial, max, jitter }),
        ("backoff: linear, max: 1m", Backoff::Linear { initial, max: Span::seconds(60), jitter }),
        ("backoff: fixed, initial: 3s, jitter: 0", Backoff::Fixed { initial: Span::seconds(3), jitter: 0.0 }),
        ("initial: 3h", Backoff::Exponential { initial: long, max: long, jitter }),
    ] {
        assert_eq!(of(&format!(", retries: {{ {text} }}")).backoff, backoff, "{text}");
    }
}

#[test]
fn an_event_is_checked_by_name_and_schema() {
    let project = valid();
    let told = |name: &str, data: Value| -> Vec<String> {
        let line = |problem: EventProblem| {
            format!(
                "{} {} {}{}",
                problem.code,
                problem.pointer,
                problem.message,
                problem.help.map(|help| format!(" ({help})")).unwrap_or_default()
            )
        };
        project.check_event(name, &data).err().unwrap_or_default().into_iter().map(line).collect()
    };
    let nothing: [String; 0] = [];
    assert_eq!(told("payment/initiate", json!({"userId": "u1", "amount": 1, "payer": {"id": "p"}})), nothing);
    assert_eq!(told("user/deleted", json!({"any": "thing"})), nothing);
    assert_eq!(told("stripe/charge.paid", json!({"livemode": true})), nothing);
    assert_eq!(told("stripe/charge.failed", json!({})), nothing);
    assert_eq!(told("stripe/charge.paid", json!({})), ["E0221 /data `livemode` is missing"]);
    assert_eq!(
        told("payment/initiate", json!({"userId": 1, "amount": 1.5, "payer": {"id": 3}, "x": 1})),
        [
            "E0221 /data/userId expected a string, found 1",
            "E0221 /data/amount expected an integer, found 1.5",
            "E0221 /data/payer/id expected a string, found 3",
            "E0221 /data/x there is no property `x` (the schema has `amount`, `payer`, `paymentId`, `plan`, `userId`)",
        ]
    );
    assert_eq!(
        told("otp/received", json!({"userId": "u", "code": "12"})),
        ["E0221 /data/code \"12\" does not match the pattern ^[0-9]{6}$"]
    );
    assert_eq!(
        told("payment/initate", json!({})),
        ["E0222 /name no event `payment/initate` is declared (did you mean `payment/initiate`?)"]
    );
    assert_eq!(told("stepwell/cron", json!({})), ["E0223 /name `stepwell/cron` is reserved: names under `stepwell/` are the engine's own"]);
    assert_eq!(told("", json!({})), ["E0220 /name the event's name is empty"]);
    assert!(told("a b", json!({}))[0].starts_with("E0220 /name"));
    assert!(told(&"x".repeat(600), json!({}))[0].starts_with("E0220 /name"));
    assert_eq!(
        told("user/deleted", json!([1])),
        ["E0220 /data expected an object, found a list (put the value into a field: {\"value\": …})"]
    );
}

#[test]
fn unknown_events_are_taken_where_the_config_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("events.yaml"), "unknown_events: accept\nevents: { a/b: {} }\n").unwrap();
    let (project, _) = load(folder.path(), Mode::Run).unwrap();
    assert_eq!(project.check_event("x/y", &json!({})), Ok(()));
    assert!(project.check_event("stepwell/x", &json!({})).is_err());
}

fn candidates(project: &Project, name: &str, data: Value) -> Vec<Candidate> {
    project.candidates(&row(name, &data), &data)
}

fn row(name: &str, data: &Value) -> EventRow {
    let data: Json = data.to_string().into();
    EventRow { id: EventId::default(), name: Arc::from(name), data, sender_id: None, ts: Millis(0), accepted: Millis(0), extra: None }
}

#[test]
fn an_event_gives_its_candidates_with_their_expressions_evaluated() {
    let project = valid();
    let good = json!({"userId": "u1", "amount": 5, "plan": "pro", "paymentId": "p1"});
    let found = candidates(&project, "payment/initiate", good);
    assert_eq!(found.len(), 1);
    assert!(found[0].applies);
    assert_eq!(found[0].keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["\"u1\""]);
    assert_eq!((found[0].priority_ms, found[0].idempotency.as_deref()), (120_000, Some("\"p1\"")));
    // Out of range, and a missing idempotency key.
    let slow = candidates(&project, "payment/initiate", json!({"userId": "u1", "amount": 5, "plan": "slow"}));
    assert_eq!((slow[0].priority_ms, &slow[0].idempotency), (-600_000, &None));
    // Two integers beyond 64 bits may be one number here, so they must not suppress each other.
    let large: Value = serde_json::from_str(r#"{"amount": 1, "paymentId": 123456789012345678901234567890}"#).unwrap();
    assert_eq!(candidates(&project, "payment/initiate", large)[0].idempotency, None);
    assert!(!candidates(&project, "payment/initiate", json!({"userId": "u1", "amount": 0}))[0].applies);
    // `null > 0` fails, and counts as false.
    assert!(!candidates(&project, "payment/initiate", json!({}))[0].applies);
}

#[test]
fn a_function_is_a_candidate_once_whatever_number_of_its_triggers_match() {
    let project = valid();
    let ids = |name: &str, data: Value| -> Vec<(String, bool)> {
        candidates(&project, name, data).into_iter().map(|candidate| (candidate.function.to_string(), candidate.applies)).collect()
    };
    assert_eq!(ids("user/deleted", json!({"force": true})), [("g".to_owned(), true)]);
    assert_eq!(ids("stripe/charge.paid", json!({})), [("g".to_owned(), true)]);
    assert_eq!(ids("stripe/", json!({})), []);
    assert_eq!(ids("unheard/of", json!({})), []);
    let both = candidates(&project, "otp/received", json!({}));
    assert_eq!(both[0].keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["null", "\"otp/received\""]);
}

#[test]
fn a_long_key_is_kept_as_its_hash() {
    let project = valid();
    let key = |id: String| candidates(&project, "payment/initiate", json!({"userId": id, "amount": 1}))[0].keys[0].to_string();
    let (first, second) = (key("x".repeat(100_000)), key(format!("{}y", "x".repeat(99_999))));
    assert!(first.starts_with("\"sha256:") && first.len() < 100, "{first}");
    assert_ne!(first, second);
}

#[test]
fn explain_says_why_a_function_did_not_start() {
    let project = valid();
    let why = |data: Value| project.explain(&row("payment/initiate", &data), &data).remove(0).why;
    assert_eq!(why(json!({"amount": 1})), None);
    assert_eq!(why(json!({"amount": 0})), Some("`if: event.data.amount > 0` is false".into()));
    assert_eq!(
        why(json!({})),
        Some("`if: event.data.amount > 0` counts as false: `>` does not take null and an integer; `event.data.amount` is null".into())
    );
}

#[test]
fn explain_notes_every_option_that_does_not_apply_to_an_event() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("handlers")).unwrap();
    let functions = [
        ("i", "idempotency: event.data.k"),
        ("s", "singleton: { key: event.data.k }"),
        ("d", "debounce: { period: 1m, key: event.data.k }"),
        ("b", "batch: { size: 2, timeout: 1m, key: event.data.k }"),
        ("r", "rate_limit: { limit: 1, period: 1m, key: event.data.k }"),
    ];
    let mut yaml = "version: 1\nevents: { a/b: {} }\nfunctions:\n".to_owned();
    for (id, option) in functions {
        yaml.push_str(&format!("  {id}: {{ on: a/b, {option} }}\n"));
        fs::write(folder.path().join(format!("handlers/{id}.rhai")), "1").unwrap();
    }
    fs::write(folder.path().join("events.yaml"), yaml).unwrap();
    let (project, _) = load(folder.path(), Mode::Run).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    let notes = |data: &str| -> Vec<String> {
        let data: Value = serde_json::from_str(data).unwrap();
        project.explain(&row("a/b", &data), &data).into_iter().flat_map(|function| function.notes).collect()
    };
    let expected = |why: &str| -> Vec<String> {
        let note = |option: &str| format!("`{option}` does not apply to this event: its key `event.data.k` {why}");
        ["idempotency", "singleton", "debounce"].map(note).to_vec()
    };
    // For a batch and a rate limit, null is a value like others.
    assert_eq!(notes("{}"), expected("is null"));
    assert_eq!(notes(r#"{"k": 123456789012345678901234567890}"#), expected("holds a number beyond 64 bits (send it as text)"));
    assert_eq!(notes(r#"{"k": "123456789012345678901234567890"}"#), Vec::<String>::new());
}

#[test]
fn a_snapshot_knows_its_functions_and_events() {
    let project = valid();
    let function = project.function("g").unwrap();
    assert_eq!(function.events().map(|name| &**name).collect::<Vec<_>>(), ["otp/received", "user/deleted", "user/deleted", "stripe/*"]);
    assert_eq!(function.limits.len(), 2);
    assert_eq!(project.function("f").unwrap().retry.attempts, 4);
    assert_eq!(function.place.source.name, "events.yaml");
    assert!(project.function("h").is_none());
    assert_eq!(project.example("payment/initiate").unwrap()["userId"], json!("user123"));
    assert_eq!(project.schema("payment/initiate").unwrap()["required"], json!(["userId", "amount"]));
    assert_eq!(project.typed_value("payment/initiate", "userId", "123"), json!("123"));
    assert_eq!(project.typed_value("payment/initiate", "amount", "123"), json!(123));
    assert_eq!(project.surroundings.env["API_BASE"], "https://example.com");
    assert!(!project.surroundings.http.private_allowed);
    assert_eq!(project.surroundings.limits.steps, 50);
}

#[test]
fn the_hash_covers_every_file() {
    let copy = tempfile::tempdir().unwrap();
    let files = [
        "events.yaml",
        "handlers/f.rhai",
        "schemas/payment.json",
        "schemas/parts/payer.json",
        "schemas/parts/id.json",
        "schemas/parts/code.json",
    ];
    for file in files {
        let target = copy.path().join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(folder("valid/whole").join(file), target).unwrap();
    }
    let hash = || load(copy.path(), Mode::Run).unwrap().0.hash;
    let mut seen = BTreeSet::from([hash()]);
    assert_eq!(hash(), *seen.first().unwrap());
    for file in files {
        let path = copy.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\n")).unwrap();
        assert!(seen.insert(hash()), "{file} is not in the hash");
    }
}

#[test]
fn the_project_that_comes_with_the_engine_loads_and_takes_its_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (project, problems) = load(root, Mode::Run).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    assert!(problems.is_empty(), "{}", shown(&problems));
    for (event, started) in [("payment/initiate", 1), ("otp/received", 0), ("payment/expired", 0)] {
        let example = project.example(event).unwrap().clone();
        assert_eq!(project.check_event(event, &example), Ok(()), "{event}");
        let found = candidates(&project, event, example);
        assert_eq!(found.len(), started, "{event}");
        assert!(found.iter().all(|candidate| candidate.applies && *candidate.keys[0] == *"\"user123\""), "{found:?}");
    }
    let function = project.function("payment-initiated").unwrap();
    assert_eq!((function.limits[0].limit, function.retry.attempts), (1, 4));
    // Neither a secret nor a network.
    assert!(project.config.secrets.is_empty());
}
