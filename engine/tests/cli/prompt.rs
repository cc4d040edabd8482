//! `eval` and `repl`: expressions and lines of handlers, tried without an engine.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use super::support::{Engine, Place};

const CONFIG: &str = "\
version: 1
env: { API_BASE: https://api.example.com }
events:
  order/placed: { example: { user: { id: u1 }, amount: 12, items: [tea] } }
  order/paid: {}
functions:
  pack: { on: order/placed }
";

fn place() -> Place {
    let place = Place::new();
    place.write("events.yaml", CONFIG);
    place.write("handlers/pack.rhai", "step(\"pack\", || event.data.amount)\n");
    place
}

#[test]
fn cel_is_evaluated_on_an_example_a_file_or_a_text() {
    let place = place();
    let value = |arguments: &[&str]| place.run(&[&["eval"], arguments].concat()).exits(0).json();
    assert_eq!(value(&["event.data.amount * 2"]), 24);
    assert_eq!(value(&["event.data.items.size() == 1 && event.name == 'order/placed'", "--event", "example"]), true);
    assert_eq!(value(&["event.data", "--event", "order/placed"])["user"], json!({"id": "u1"}));
    assert_eq!(value(&["event.data.none"]), json!(null));
    place.write("event.json", r#"{"name": "order/paid", "data": {"user": {"id": "u2"}}, "ts": 5}"#);
    let both = ["async.data.user.id == event.data.user.id", "--async", "event.json"];
    assert_eq!(value(&both), false);
    assert_eq!(value(&["[event.name, event.ts]", "--event", "event.json"]), json!(["order/paid", 5]));
    let piped = place.run_with(&["eval", "event.data.a + 1", "--event", "-"], &[], "{\"a\": 1}").exits(0);
    assert_eq!(piped.json(), 2);
    let told = value(&["event.data.amount > 10", "--json"]);
    assert_eq!(told, json!({"value": true, "seen": {"event.data.amount": 12}}));
    // No project is needed where the event is given.
    let bare = Place::new().run_with(&["eval", "event.data.a", "--event", "-"], &[], "{\"a\": [1]}").exits(0);
    assert_eq!(bare.json(), json!([1]));
}

#[test]
fn what_is_wrong_with_an_expression_is_shown_at_its_place() {
    let place = place();
    place.run(&["eval", "evnt.data.amount"]).exits(2).says("error[E0212]").says("did you mean `event`?").says("expression:1:1");
    place.run(&["eval", "event.data.amount +"]).exits(2).says("error[E0211]");
    place.run(&["eval", "event.data.none > 1"]).exits(1).says("event.data.none is null");
    place.run(&["eval", "1", "--event", "order/plased"]).exits(3).says("did you mean `order/placed`?");
    place.run(&["eval", "1", "--event", "order/paid"]).exits(2).says("has no example");
}

#[test]
fn a_stored_event_is_found_by_its_id() {
    let place = place();
    let engine = Engine::dev(&place, &["--ephemeral"]);
    let sent = place.ask(&engine, &["send", "order/placed", "amount=7"]).exits(0);
    let value = place.ask(&engine, &["eval", "event.data.amount", "--event", sent.out.trim()]).exits(0);
    assert_eq!(value.json(), 7);
    place.ask(&engine, &["eval", "1", "--event", "zzzzzzzzzzzzz"]).exits(3);
}

#[test]
fn rhai_is_evaluated_as_a_handler_has_it() {
    let place = place();
    let script = "sleep(\"30d\"); log::info(\"hi\"); step(\"double\", || event.data.amount * 2)";
    let ran = place.run(&["eval", "--rhai", script]).exits(0).says("hi");
    assert_eq!(ran.json(), 24);
    let refused = "step(\"call\", || http::get(env(\"API_BASE\")).status)";
    place.run(&["eval", "--rhai", refused]).exits(1).says("error[E0611]").says(":mock { http: \"GET https://api.example.com/\"");
    place.run(&["eval", "--rhai", "setp(1)"]).exits(1).says("did you mean `step`?");
    assert_eq!(Place::new().run(&["eval", "--rhai", "[1, 2].map(|x| x * 2)"]).exits(0).json(), json!([2, 4]));
}

#[test]
fn lines_of_a_pipe_are_one_handler() {
    let place = place();
    let input = "\
let price = event.data.amount
let double = |x| x * 2
double.call(price)
let found = step(\"find\", || {
    let answer = http::get(`${env(\"API_BASE\")}/find`, #{
        query: #{ user: event.data.user.id },
    });
    answer.json.name
})
:mock { http: \"GET https://api.example.com/find\", if: request.query.user == 'u1', reply: { json: { name: Ada } } }
let found = step(\"find\", || http::get(`${env(\"API_BASE\")}/find`, #{ query: #{ user: event.data.user.id } }).json.name)
`Hello, ${found}`
:cel event.data.amount > 10
:event order/placed amount=3
event.data.amount
:send { at: 5m, name: order/paid, data: { by: card } }
wait_for_event(\"order/paid\").data.by
:hlep
:help step
";
    let ran = place.run_with(&["repl"], &[], input).exits(1);
    let lines: Vec<&str> = ran.out.lines().collect();
    let event = r#"order/placed {"user":{"id":"u1"},"amount":3,"items":["tea"]}"#;
    assert_eq!(&lines[..6], ["24", "\"Hello, Ada\"", "true", event, "3", "\"card\""], "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("step(name: text, body: closure) -> any") && ran.out.contains("Between steps only."), "{}", ran.out);
    let ran = ran.says("E0611").says("did you mean `:help`?");
    assert_eq!(ran.err.matches("error[").count(), 2, "{}", ran.err);
    place.run_with(&["repl"], &[], "1 + 1\n:quit\nsetp(1)\n").exits(0).prints("2");
    let field = ":event order/placed amount 3\n";
    place.run_with(&["repl"], &[], field).exits(1).says("error[E0536]: `amount` is not a field").says("name=value");
}

#[test]
fn help_finds_functions_modules_and_methods() {
    let place = Place::new();
    let help = |name: &str| place.run_with(&["repl"], &[], &format!(":help {name}\n"));
    help("").exits(0).prints(":mock { … }").prints("Databases");
    help("http::post").exits(0).prints("In a step only");
    help("kv").exits(0).prints("kv::incr(");
    help("sha256").exits(0).prints("hash::sha256(").prints("hmac::sha256(");
    help("wait_for_evnt").exits(1).says("did you mean `wait_for_event`?");
}

/// Types a sum and the word to quit at a terminal of its own, which `script` makes; what is drawn there.
fn at_a_terminal(place: &Place, command: &str) -> String {
    let line = format!("{} {command}", place.command().get_program().display());
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(place.path("")).env_clear().env("PATH", std::env::var("PATH").unwrap());
    let mut child = script.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"40 + 2\n:quit\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let drawn = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{drawn}");
    drawn
}

#[test]
fn a_terminal_has_a_prompt_and_a_history() {
    let place = place();
    let drawn = at_a_terminal(&place, "repl");
    assert!(drawn.contains("42") && drawn.contains("order/placed"), "{drawn}");
    assert_eq!(place.read(".stepwell/prompt_history"), "40 + 2\n:quit\n");
}

#[test]
fn a_terminal_without_a_terminal_for_the_prompt_is_read_as_a_pipe() {
    let place = place();
    let drawn = at_a_terminal(&place, "repl 2>errors");
    assert!(drawn.contains("42"), "{drawn}");
    assert!(!place.read("errors").contains("Lines of a handler"), "nothing is drawn where nobody looks");
}

#[test]
fn dev_can_run_on_the_clock_that_jumps() {
    let place = place();
    place.write("handlers/pack.rhai", "sleep(\"30d\");\nstep(\"pack\", || event.data.amount)\n");
    let engine = Engine::dev(&place, &["--fast-forward"]);
    let ran = place.ask(&engine, &["send", "order/placed", "amount=7", "--wait", "--timeout", "60s"]).exits(0);
    assert_eq!(ran.json(), 7);
    assert!(!place.path(".stepwell/stepwell.db").exists(), "times that have not come are not kept");
    place.run(&["dev", "--fast-forward", "--database", "x.db"]).exits(2);
}
