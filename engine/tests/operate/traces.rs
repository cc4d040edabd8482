//! Traces, as a collector gets them from a real engine.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{ask, get, project, run_in, until};
use crate::program::{self, Server};

const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A request that somebody made: its path, its headers by lower-case name, its body.
#[derive(Debug, Clone)]
pub(super) struct Got {
    path: String,
    headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// What a collector answers.
struct Answers {
    /// So many requests are refused.
    refuse: usize,
    /// With this status.
    status: &'static str,
    /// What it says of those that it takes.
    taken: &'static str,
}

impl Default for Answers {
    fn default() -> Answers {
        Answers { refuse: 0, status: "503 Service Unavailable", taken: "{}" }
    }
}

/// A server that keeps what it gets, unless it is told to refuse it.
pub(super) struct Collector {
    pub(super) url: String,
    got: Arc<Mutex<Vec<Got>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Collector {
    pub(super) fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (got, answers): (Arc<Mutex<Vec<Got>>>, Arc<Mutex<Answers>>) = Default::default();
        let (kept, told) = (Arc::clone(&got), Arc::clone(&answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, told) = (Arc::clone(&kept), Arc::clone(&told));
                std::thread::spawn(move || serve(stream, &kept, &told));
            }
        });
        Collector { url, got, answers }
    }

    /// What it has got at paths that begin so.
    pub(super) fn at(&self, path: &str) -> Vec<Got> {
        self.got.lock().unwrap().iter().filter(|got| got.path.starts_with(path)).cloned().collect()
    }

    /// Every span of it.
    fn spans(&self) -> Vec<Value> {
        let mut spans = Vec::new();
        for got in self.at("/v1/traces") {
            assert_eq!(got.headers["content-type"], "application/json");
            let body: Value = serde_json::from_str(&got.body).unwrap();
            let resource = &body["resourceSpans"][0];
            assert!(attribute(&resource["resource"], "service.name").is_string(), "{body}");
            spans.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
        }
        spans
    }

    /// The spans of a run, once its own one is there.
    pub(super) fn of(&self, run: &str) -> Vec<Value> {
        until(|| {
            let spans: Vec<Value> = self.spans().into_iter().filter(|span| attribute(span, "stepwell.run.id") == run).collect();
            spans.iter().any(|span| span["kind"] == 5).then_some(spans)
        })
    }
}

fn serve(stream: TcpStream, got: &Mutex<Vec<Got>>, answers: &Mutex<Answers>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (is_refused, status, said) = {
            let mut answers = answers.lock().unwrap();
            let is_refused = answers.refuse > 0;
            answers.refuse -= usize::from(is_refused);
            if is_refused { (true, answers.status, "{}") } else { (false, "200 OK", answers.taken) }
        };
        if !is_refused {
            got.lock().unwrap().push(Got { path, headers, body: String::from_utf8(body).unwrap() });
        }
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}", said.len());
        // The other side may have hung up.
        let _ = write!(reader.get_mut(), "{head}\r\n\r\n{said}");
    }
}

/// The value of an attribute.
fn attribute(span: &Value, key: &str) -> Value {
    let found = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == key);
    let value = found.map(|attribute| attribute["value"].clone()).unwrap_or_default();
    value.get("stringValue").or_else(|| value.get("intValue")).cloned().unwrap_or_default()
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let found: Vec<&Value> = spans.iter().filter(|span| span["name"] == name).collect();
    assert_eq!(found.len(), 1, "spans called {name} in {spans:#?}");
    found[0]
}

fn nanos(value: &Value) -> i128 {
    value.as_str().unwrap().parse().unwrap()
}

const CONFIG: &str = r#"
version: 1
app: shop
env: { PEER: "http://127.0.0.1:1" }
http: { allow: ["127.0.0.0/8"] }
events:
  app/pay: {}
  app/paid: {}
  app/check: {}
functions:
  pay: { on: app/pay, retries: { attempts: 3, backoff: fixed, initial: 1ms, jitter: 0 } }
  thank: { on: app/paid }
  check: { on: app/check }
"#;

const PAY: &str = r#"
let charge = step("charge", || {
    if run.attempt == 1 { throw "no luck" }
    http::post(env("PEER") + "/charge").status
});
sleep("rest", "50ms");
let checked = invoke("check", #{ amount: 7 });
send_event("app/paid", #{ amount: 7 });
if event.data.lose == true { step("lose", || fail("lost")) }
charge
"#;

fn files() -> tempfile::TempDir {
    project(&[
        ("events.yaml", CONFIG),
        ("handlers/pay.rhai", PAY),
        ("handlers/thank.rhai", "step(\"mail\", || 1)"),
        ("handlers/check.rhai", "step(\"look\", || http::get(env(\"PEER\") + \"/look\").status)"),
    ])
}

/// The config with the function `pay` alone.
fn alone() -> String {
    CONFIG.replace("  thank: { on: app/paid }\n  check: { on: app/check }\n", "")
}

fn start(folder: &std::path::Path, collector: &Collector) -> Server {
    let mut command = program::command("stepwell", folder);
    command.args(["run", "--otlp", &collector.url]).env("PEER", &collector.url).env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=7");
    Server::start(&mut command)
}

fn send(server: &Server, data: Value, traceparent: Option<&str>) -> String {
    let body = json!({"name": "app/pay", "data": data, "v": "1"}).to_string();
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(traceparent.map(|value| ("traceparent", value)));
    let (status, answer) = ask(server, "POST", "/e/key", &headers, &body);
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["ids"][0].as_str().unwrap().to_owned()
}

fn id_of(run: &Value) -> String {
    run["run_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_is_a_part_of_the_trace_that_its_event_was_sent_in_and_a_step_is_a_span() {
    let collector = Collector::start();
    let folder = files();
    let server = start(folder.path(), &collector);
    let event = send(&server, json!({}), Some(HEADER));
    assert_eq!(get(&server, &format!("/v1/events/{event}"))["data"]["traceparent"], HEADER);
    let run = run_in(&server, &event, "completed");
    let spans = collector.of(&id_of(&run));
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    assert!(spans.iter().all(|span| span["traceId"] == trace), "{spans:#?}");
    let whole = named(&spans, "pay");
    assert_eq!(
        (&whole["parentSpanId"], &whole["status"]["code"], attribute(whole, "stepwell.run.state")),
        (&json!(parent), &json!(1), json!("completed"))
    );
    assert_eq!(attribute(whole, "stepwell.event.id"), json!(event));
    assert_eq!(spans.len(), 5, "the run, a step, a sleep, an invoke, a send: {spans:#?}");
    for span in &spans {
        assert!(nanos(&span["startTimeUnixNano"]) <= nanos(&span["endTimeUnixNano"]), "{span}");
        assert!(span["spanId"].as_str().is_some_and(|id| id.len() == 16), "{span}");
        if span != whole {
            assert_eq!(span["parentSpanId"], whole["spanId"]);
        }
    }
    let charge = named(&spans, "charge");
    assert_eq!((attribute(charge, "stepwell.step.attempts"), attribute(charge, "stepwell.step.kind")), (json!("2"), json!("step")));
    assert_eq!((attribute(charge, "code.file.path"), attribute(charge, "code.line.number")), (json!("handlers/pay.rhai"), json!("2")));
    assert_eq!(attribute(&charge["events"][0], "exception.message"), "no luck");
    let rest = named(&spans, "rest");
    assert!(nanos(&rest["endTimeUnixNano"]) - nanos(&rest["startTimeUnixNano"]) >= 50_000_000, "{rest}");
    // What the step called was told where it belongs, and so were the runs that came of this one.
    let called = collector.at("/charge");
    assert_eq!(called[0].headers["traceparent"], format!("00-{trace}-{}-01", charge["spanId"].as_str().unwrap()));
    assert_eq!(collector.at("/v1/traces")[0].headers["x-tenant"], "7");
    let others = |function: &str| {
        let runs = get(&server, &format!("/v1/runs?function={function}"));
        until(|| Some(runs["data"][0].clone()).filter(|run| run.is_object()))
    };
    let checked = collector.of(&id_of(&others("check")));
    assert_eq!(
        (&named(&checked, "check")["traceId"], &named(&checked, "check")["parentSpanId"]),
        (&json!(trace), &named(&spans, "check")["spanId"])
    );
    let thanked = collector.of(&id_of(&until(|| {
        let runs = get(&server, "/v1/runs?function=thank&status=completed");
        Some(runs["data"][0].clone()).filter(Value::is_object)
    })));
    assert_eq!(
        (&named(&thanked, "thank")["traceId"], &named(&thanked, "thank")["parentSpanId"]),
        (&json!(trace), &named(&spans, "app/paid")["spanId"])
    );

    // A failed run says why, in a trace of its own where nobody sent one.
    let event = send(&server, json!({"lose": true}), None);
    let lost = collector.of(&id_of(&run_in(&server, &event, "failed")));
    let whole = named(&lost, "pay");
    assert!(whole.get("parentSpanId").is_none() && whole["traceId"] != trace, "{whole}");
    assert_eq!((&whole["status"]["code"], &named(&lost, "lose")["status"]), (&json!(2), &json!({"code": 2, "message": "lost"})));
    // One whose sender does not want it kept is kept nowhere; what it calls is told so.
    let event = send(&server, json!({}), Some(&HEADER.replace("-01", "-00")));
    let run = id_of(&run_in(&server, &event, "completed"));
    let (_, printed) = server.stop();
    assert!(collector.spans().iter().all(|span| attribute(span, "stepwell.run.id") != json!(run)), "{printed}");
    assert!(collector.at("/charge").last().unwrap().headers["traceparent"].ends_with("-00"));
}

#[test]
fn after_a_kill_a_run_is_told_whole_and_once_under_the_same_ids() {
    let collector = Collector::start();
    let folder = project(&[
        ("events.yaml", &alone()),
        (
            "handlers/pay.rhai",
            "step(\"first\", || http::get(env(\"PEER\") + \"/first\").status);\nwait_for_event(\"app/paid\", #{ timeout: \"1h\" });\nstep(\"second\", || 2)",
        ),
    ]);
    let server = start(folder.path(), &collector);
    let event = send(&server, json!({}), None);
    let run = id_of(&run_in(&server, &event, "waiting"));
    server.kill();
    let server = start(folder.path(), &collector);
    let (status, _) = ask(&server, "POST", "/e/key", &[("content-type", "application/json")], r#"{"name":"app/paid"}"#);
    assert_eq!(status, 200);
    run_in(&server, &event, "completed");
    // The last ones are told before the engine is gone.
    let (_, printed) = server.stop();
    let spans: Vec<Value> = collector.spans().into_iter().filter(|span| attribute(span, "stepwell.run.id") == json!(run)).collect();
    assert_eq!(spans.len(), 4, "the run, two steps, a wait, each once: {spans:#?}\n{printed}");
    let first = named(&spans, "first");
    let called = &collector.at("/first")[0].headers["traceparent"];
    assert_eq!(*called, format!("00-{}-{}-01", first["traceId"].as_str().unwrap(), first["spanId"].as_str().unwrap()));
}

#[test]
fn a_context_survives_a_kill_and_is_passed_on_by_an_engine_that_exports_nothing() {
    let peer = Collector::start();
    let folder = project(&[
        ("events.yaml", &alone()),
        (
            "handlers/pay.rhai",
            "wait_for_event(\"app/paid\", #{ timeout: \"1h\" });\nstep(\"call\", || http::get(env(\"PEER\") + \"/call\", #{ headers: #{} }).status);\nstep(\"own\", || http::get(env(\"PEER\") + \"/own\", #{ headers: #{ traceparent: \"mine\" } }).status);\nevent.v",
        ),
    ]);
    let serve = || Server::start(program::command("stepwell", folder.path()).arg("run").env("PEER", &peer.url));
    let server = serve();
    // Goes on with the run of an event, which waits.
    let finished = |server: &Server, event: &str| {
        run_in(server, event, "waiting");
        super::send(server, "app/paid", json!({}));
        run_in(server, event, "completed")
    };
    let event = send(&server, json!({}), Some(HEADER));
    run_in(&server, &event, "waiting");
    server.kill();
    let server = serve();
    let run = finished(&server, &event);
    assert_eq!(run["output"], "1");
    assert_eq!(peer.at("/call")[0].headers["traceparent"], HEADER);
    assert_eq!(peer.at("/own")[0].headers["traceparent"], "mine");
    assert_eq!(peer.at("/v1/traces").len(), 0);
    // A header that is none is no reason to lose an event.
    let event = send(&server, json!({}), Some("nonsense"));
    finished(&server, &event);
    assert!(!peer.at("/call").last().unwrap().headers.contains_key("traceparent"));
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_one_that_is_gone_costs_no_run() {
    let collector = Collector::start();
    let folder = project(&[("events.yaml", &alone()), ("handlers/pay.rhai", "step(\"one\", || 1)")]);
    collector.answers.lock().unwrap().refuse = 1;
    let server = start(folder.path(), &collector);
    let event = send(&server, json!({}), None);
    assert_eq!(collector.of(&id_of(&run_in(&server, &event, "completed"))).len(), 2);
    let figures = |server: &Server| super::scrape::Page::read(&ask(server, "GET", "/metrics", &[], "").1);
    until(|| Some(()).filter(|()| figures(&server).value("stepwell_spans_exported_total", &[]) == 2.0));
    server.stop();

    let gone = Collector { url: "http://127.0.0.1:9".to_owned(), got: Arc::default(), answers: Arc::default() };
    let server = start(folder.path(), &gone);
    let event = send(&server, json!({}), None);
    run_in(&server, &event, "completed");
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");
}

#[test]
fn what_a_collector_refuses_for_good_is_not_sent_again_and_what_it_rejects_is_not_counted() {
    let collector = Collector::start();
    let folder = project(&[("events.yaml", &alone()), ("handlers/pay.rhai", "step(\"one\", || 1)")]);
    *collector.answers.lock().unwrap() = Answers {
        refuse: 1,
        status: "500 Internal Server Error",
        taken: r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}"#,
    };
    let server = start(folder.path(), &collector);
    let value = |name: &str| super::scrape::Page::read(&ask(&server, "GET", "/metrics", &[], "").1).value(name, &[]);
    let refused = send(&server, json!({}), None);
    let refused = id_of(&run_in(&server, &refused, "completed"));
    until(|| (value("stepwell_traces_dropped_total") == 1.0).then_some(()));
    let taken = send(&server, json!({}), None);
    assert_eq!(collector.of(&id_of(&run_in(&server, &taken, "completed"))).len(), 2);
    until(|| (value("stepwell_spans_exported_total") == 1.0).then_some(()));
    assert!(collector.spans().iter().all(|span| attribute(span, "stepwell.run.id") != json!(refused)));
    let (_, printed) = server.stop();
    assert!(printed.contains("rejects 1 spans: too old") && printed.contains("refuses traces: 500"), "{printed}");
}

#[test]
fn many_spans_are_told_in_several_requests() {
    let collector = Collector::start();
    let folder = project(&[("events.yaml", &alone()), ("handlers/pay.rhai", "for n in 0..100 { step(`s${n}`, || n); }")]);
    let server = start(folder.path(), &collector);
    let events: Vec<String> = (0..45).map(|_| send(&server, json!({}), None)).collect();
    events.iter().for_each(|event| drop(run_in(&server, event, "completed")));
    let (_, printed) = server.stop();
    let sizes: Vec<usize> = collector.at("/v1/traces").iter().map(|got| got.body.matches("\"spanId\"").count()).collect();
    assert_eq!(collector.spans().len(), 45 * 101, "{printed}");
    // Where there are enough of them they are sent, with those of the run that they are found full at.
    assert!(sizes.iter().all(|size| *size < 2_000 + 101), "{sizes:?}");
}

#[test]
fn a_replay_tells_only_what_it_did_itself() {
    let collector = Collector::start();
    let handler = "step(\"first\", || 1);\nstep(\"second\", || 2)";
    let folder = project(&[("events.yaml", &alone()), ("handlers/pay.rhai", handler)]);
    let server = start(folder.path(), &collector);
    let event = send(&server, json!({}), None);
    let run = id_of(&run_in(&server, &event, "completed"));
    let json_type = [("content-type", "application/json")];
    let (status, answer) = ask(&server, "POST", &format!("/v1/runs/{run}/replay"), &json_type, r#"{"from_step":"second"}"#);
    assert_eq!(status, 200, "{answer}");
    let replayed = id_of(&serde_json::from_str::<Value>(&answer).unwrap()["data"]);
    let spans = collector.of(&replayed);
    assert_eq!(spans.len(), 2, "the run and its second step: {spans:#?}");
    named(&spans, "second");
    assert_eq!(collector.of(&run).len(), 3);
}
