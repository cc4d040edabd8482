//! No option is in an example for show: each is taken out of one of them, and what holds that example must fail.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use stepwell::base::Span;
use stepwell::rules::cron::SCHEDULED;
use stepwell::store::{EventQuery, RunQuery, Store};

use super::{ask, example, runs_of, start, until};
use crate::engine::{Jumping, block_on};
use crate::program::{Server, stepwell};

/// Tries in an example's folder what its option is there for; an error says what is different.
type Scenario = fn(&Path) -> Result<(), String>;

/// An example, the place of an option in its file, and what holds it: none where the example's own tests do. In tests there is no jitter,
/// and nobody pauses a function or reloads.
const DELETIONS: &[(&str, &str, Option<Scenario>)] = &[
    ("triggers", "functions.copy-contact.on.1.if", None),
    ("priority", "functions.write-report.concurrency", None),
    ("concurrency-per-user", "functions.pack-order.concurrency.0.key", Some(it_is_valid)),
    ("hold-active", "functions.subtitle.concurrency.hold", None),
    ("shared-limit", "functions.pay-back.concurrency.shared", None),
    ("defaults", "defaults", None),
    ("on-failure", "functions.ship.retries", None),
    ("defaults", "defaults.retries.attempts", None),
    ("defaults", "functions.tell-customer.retries.backoff", None),
    ("http-call", "functions.summarise-ticket.retries.initial", None),
    ("defaults", "defaults.retries.max", None),
    ("defaults", "functions.tell-customer.retries.jitter", Some(waits_are_drawn)),
    ("function-events", "functions.compute.timeouts", None),
    ("timeouts", "functions.bake.timeouts.start", None),
    ("timeouts", "functions.bake.timeouts.finish", None),
    ("timeouts", "functions.print-label.timeouts.step", None),
    ("idempotency", "functions.charge.idempotency", None),
    ("priority", "functions.write-report.priority", None),
    ("rate-limit", "functions.mail-link.rate_limit", None),
    ("rate-limit", "functions.mail-link.rate_limit.key", None),
    ("throttle", "functions.copy-contact.throttle", None),
    ("throttle", "functions.copy-contact.throttle.burst", None),
    ("throttle", "functions.copy-contact.throttle.key", None),
    ("debounce", "functions.publish-page.debounce", None),
    ("debounce", "functions.publish-page.debounce.key", None),
    ("debounce", "functions.publish-page.debounce.timeout", None),
    ("batch", "functions.store-clicks.batch", None),
    ("batch", "functions.store-clicks.batch.key", None),
    ("batch", "functions.store-clicks.batch.if", None),
    ("singleton", "functions.warm-cache.singleton", None),
    ("singleton", "functions.rebuild.singleton.key", None),
    ("singleton", "functions.rebuild.singleton.mode", None),
    ("cancel-on", "functions.remind.cancel_on", None),
    ("cancel-on", "functions.remind.cancel_on.0.if", None),
    ("cancel-on", "functions.remind.cancel_on.1.timeout", None),
    ("on-failure", "functions.ship.on_failure", Some(a_failure_is_refunded)),
    ("cron", "functions.weekday-report.cron.tz", None),
    ("cron", "functions.weekday-report.cron.jitter", Some(the_clock_starts)),
    ("cron", "functions.bill-day.cron.missed", Some(the_clock_starts)),
    ("cron", "functions.open-shop.cron.1", Some(the_clock_starts)),
    ("versions", "functions.trial.versions", Some(a_run_is_parked)),
];

/// The options with options of their own, and what the config's schema calls those.
const FORMS: [(&str, &str); 11] = [
    ("on", "Trigger"),
    ("concurrency", "Concurrency"),
    ("retries", "Retries"),
    ("timeouts", "Timeouts"),
    ("rate_limit", "RateLimit"),
    ("throttle", "Throttle"),
    ("debounce", "Debounce"),
    ("batch", "Batch"),
    ("singleton", "Singleton"),
    ("cancel_on", "Cancel"),
    ("cron", "Cron"),
];

/// Takes what stands at this place out of the config of an example.
fn delete(folder: &Path, place: &str) {
    let file = folder.join("events.yaml");
    let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let pointer = format!("/{}", place.replace('.', "/"));
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let taken = match config.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.shift_remove(name),
        Some(Value::Array(items)) => name.parse::<usize>().ok().filter(|at| *at < items.len()).map(|at| items.remove(at)),
        _ => None,
    };
    assert!(taken.is_some(), "there is no {place} in {}", file.display());
    // JSON is YAML as well.
    std::fs::write(&file, config.to_string()).unwrap();
}

/// The option at a place: without the function, and which one of several it is.
fn option(place: &str) -> String {
    let below = place.strip_prefix("functions.").and_then(|rest| rest.split_once('.')).map(|(_, below)| below);
    let below = below.or_else(|| place.strip_prefix("defaults.")).unwrap_or(place);
    below.split('.').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".")
}

/// Two limits without a key would count the same runs, which `validate` refuses.
fn it_is_valid(folder: &Path) -> Result<(), String> {
    let ended = stepwell(folder, ["validate"]);
    if ended.exit == 0 { Ok(()) } else { Err(ended.stderr) }
}

/// Whether an example without the option at this place fails; an error says how it does not.
fn fails_without(name: &str, place: &str, scenario: Option<Scenario>) -> Result<(), String> {
    let folder = example(name);
    delete(folder.path(), place);
    if let Some(scenario) = scenario {
        return scenario(folder.path()).err().map(drop).ok_or_else(|| format!("{name} does the same without {place}"));
    }
    let ended = stepwell(folder.path(), ["test", "--json"]);
    // 1 is a test that failed; a config that is none any more would be something else.
    match ended.exit {
        1 => Ok(()),
        0 => Err(format!("{name} passes its tests without {place}")),
        exit => Err(format!("{name} without {place}: exit {exit}\n{}", ended.stderr)),
    }
}

#[test]
fn an_example_fails_without_its_option() {
    let all = |some: &[(&str, &str, Option<Scenario>)]| {
        let wrong = some.iter().filter_map(|(name, place, scenario)| fails_without(name, place, *scenario).err());
        wrong.collect::<Vec<String>>()
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = DELETIONS.chunks(DELETIONS.len().div_ceil(4)).map(|some| scope.spawn(move || all(some))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_option_that_may_be_left_out_is_taken_out_of_an_example() {
    let ended = stepwell(example("hello").path(), ["schema"]);
    assert_eq!(ended.exit, 0, "{}", ended.stderr);
    let schema: Value = serde_json::from_str(&ended.stdout).unwrap();
    let free = |form: &str| -> Vec<String> {
        let form = &schema["$defs"][form];
        let needed = |name: &&String| form["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name.as_str()));
        let names = form["properties"].as_object().unwrap_or_else(|| panic!("{form}")).keys();
        names.filter(|name| !needed(name)).cloned().collect()
    };
    // Without an event or a schedule nothing starts a function: of several schedules one is taken out. And where its script lies is
    // nothing that it does.
    let mut options: BTreeSet<String> = free("Function").into_iter().filter(|name| !["on", "handler"].contains(&&**name)).collect();
    options.extend(FORMS.iter().flat_map(|(option, form)| free(form).into_iter().map(move |name| format!("{option}.{name}"))));
    options.insert("defaults".to_owned());
    let deleted: BTreeSet<String> = DELETIONS.iter().map(|(_, place, _)| option(place)).collect();
    assert_eq!(deleted, options);
    assert_eq!(deleted.len(), DELETIONS.len(), "one of each");
}

#[test]
fn the_scenarios_of_the_examples_are_as_they_say() {
    let scenarios: [(&str, Scenario); 4] =
        [("defaults", waits_are_drawn), ("on-failure", a_failure_is_refunded), ("cron", the_clock_starts), ("versions", a_run_is_parked)];
    for (name, scenario) in scenarios {
        if let Err(different) = scenario(example(name).path()) {
            panic!("{name}: {different}");
        }
    }
}

/// The waits after the first attempts of a function's runs, in milliseconds, once all of them back off.
fn first_waits(folder: &Path, server: &Server, function: &str, count: usize) -> Vec<i64> {
    let runs = loop {
        let runs = runs_of(folder, server, function);
        if runs.len() == count && runs.iter().all(|run| run["state"] == "backing_off") {
            break runs;
        }
        std::thread::yield_now();
    };
    let ms = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let wait = |run: &Value| {
        let trace = ask(folder, server, &["runs", "trace", run["run_id"].as_str().unwrap()]);
        let first = &trace["steps"][0]["attempts"][0];
        ms(&first["next_at"]) - ms(&first["ended_at"])
    };
    runs.iter().map(wait).collect()
}

/// Of `jitter: 0` and `jitter: 0.5`.
fn waits_are_drawn(folder: &Path) -> Result<(), String> {
    // That all of these waits are drawn from the middle two fifths happens once in two million times.
    const PARCELS: usize = 16;
    let server = start(folder);
    let parcels: Vec<Value> =
        (0..PARCELS).map(|number| json!({"name": "parcel/packed", "data": {"parcel": format!("p{number}")}})).collect();
    let answer = server.post("/e/any", &[], &Value::from(parcels).to_string());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let exact = first_waits(folder, &server, "call-carrier", PARCELS);
    let drawn = first_waits(folder, &server, "tell-customer", PARCELS);
    let is_wide = drawn.iter().all(|ms| (60_000..=180_000).contains(ms)) && drawn.iter().any(|ms| !(96_000..=144_000).contains(ms));
    let is_as_said = is_wide && exact.iter().all(|ms| *ms == 60_000);
    is_as_said.then_some(()).ok_or_else(|| format!("exactly a minute {exact:?}, one to three {drawn:?}"))
}

/// Of `on_failure`.
fn a_failure_is_refunded(folder: &Path) -> Result<(), String> {
    let ended = stepwell(folder, ["try", "order/paid", "--example", "--fast-forward"]);
    ended.stdout.contains("refunded").then_some(()).ok_or(ended.stderr)
}

/// Of `jitter`, of `missed: run-all` and of a second schedule: ten days on a clock that jumps, in the first four of which the bills are
/// paused. Runs are kept for a week.
fn the_clock_starts(folder: &Path) -> Result<(), String> {
    const DAY: Span = Span(86_400_000);
    // A thousand looks after the doors would only take their time.
    delete(folder, "functions.check-doors");
    let jumping = Jumping::start(folder);
    block_on(async {
        let paused = jumping.engine.pause("bill-day", true).await.unwrap().since;
        jumping.until(paused.after(Span(4 * DAY.0))).await;
        jumping.engine.pause("bill-day", false).await.unwrap();
        jumping.until(paused.after(Span(10 * DAY.0))).await;
        jumping.engine.drain().await;
    });
    let store = jumping.store;
    let outputs = |function: &str| -> Vec<Value> {
        let runs = store.runs(&RunQuery { function: Some(function.into()), ..RunQuery::default() }).unwrap();
        runs.iter().filter_map(|run| serde_json::from_str(run.output.as_deref()?).ok()).collect()
    };
    let loaves: BTreeSet<i64> = outputs("open-shop").iter().filter_map(|day| day["loaves"].as_i64()).collect();
    if loaves != BTreeSet::from([20, 60]) {
        return Err(format!("the shop is not open on weekdays and at weekends: {loaves:?}"));
    }
    let bills = outputs("bill-day");
    if bills.is_empty() || bills.iter().any(|bill| bill["missed"] != 0) {
        return Err(format!("not each day has its bill: {bills:?}"));
    }
    let events = store.events(&EventQuery { name: Some(SCHEDULED.into()), ..EventQuery::default() }).unwrap();
    let late = events.iter().filter(|event| event.data.contains("0 7 * * MON-FRI")).map(|event| event.accepted.since(event.ts));
    // Of two minutes; that all of six or more starts are drawn from the first ten seconds happens once in three million times.
    let is_drawn = late.clone().any(|late| late > Span::seconds(10));
    is_drawn.then_some(()).ok_or_else(|| format!("the reports come at once: {:?}", late.collect::<Vec<_>>()))
}

/// Of `versions: latest`.
fn a_run_is_parked(folder: &Path) -> Result<(), String> {
    let server = start(folder);
    ask(folder, &server, &["send", "trial/begun", "--example"]);
    until(folder, &server, "trial", "waiting");
    let handler = folder.join("handlers/trial.rhai");
    let text = std::fs::read_to_string(&handler).unwrap();
    std::fs::write(&handler, text.replace("step(\"open\"", "step(\"register\"")).unwrap();
    ask(folder, &server, &["reload"]);
    ask(folder, &server, &["send", "trial/decided", "--example"]);
    loop {
        let run = runs_of(folder, &server, "trial")[0].clone();
        match run["state"].as_str() {
            Some("parked") => return Ok(()),
            Some("completed") => return Err(format!("it went on: {run}")),
            _ => std::thread::yield_now(),
        }
    }
}
