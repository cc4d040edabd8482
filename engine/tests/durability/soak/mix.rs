//! What the soak's engine has to do: its project, and the events that are sent to it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::super::EFFECT;
use super::super::ledger::{Entry, Ledger};
use super::super::load::{CLIENTS, Event};
use crate::cli::support::Place;

/// Events of one request, and the users that they are about, one request after the other.
pub const TOGETHER: u64 = 5;
const USERS: u64 = 20 * CLIENTS;
/// As the project below declares them.
pub const BATCH: usize = 3;
pub const THROTTLE_MS: i64 = 10;
pub const THROTTLE_BURST: i64 = 2;
pub const RATE: usize = 2;
pub const RATE_PERIOD_MS: i64 = 10_000;

const CONFIG: &str = r#"
version: 1
app: soak
env: { LEDGER: "LEDGER_URL", LIFE: "0" }
http: { timeout: 20s, allow: ["127.0.0.0/8"] }
retention: { completed: 15s, failed: 15s, cancelled: 15s, events: 15s }
defaults: { retries: { attempts: 9, backoff: fixed, initial: 50ms, jitter: 0 } }
events:
  soak/plain: {}
  soak/keyed: {}
  soak/asked: {}
  soak/answer: {}
  soak/parts: {}
  soak/family: {}
  soak/sent: {}
  soak/collected: {}
  soak/limited: {}
  soak/doomed: {}
  soak/doom: {}
  soak/counted: {}
functions:
  stepped: { on: soak/plain }
  retried: { on: soak/plain }
  failing: { on: { event: soak/plain, if: "event.data.n % 7 == 0" } }
  keyed: { on: soak/keyed, concurrency: { limit: 1, key: event.data.user } }
  asked: { on: soak/asked }
  parts: { on: soak/parts }
  parent: { on: soak/family }
  child: { on: { event: soak/answer, if: "false" } }
  hearing: { on: soak/sent }
  batched: { on: soak/collected, batch: { size: 3, timeout: 300ms, key: event.data.user } }
  debounced: { on: soak/collected, debounce: { period: 100ms, timeout: 400ms, key: event.data.user } }
  throttled: { on: soak/limited, throttle: { limit: 100, period: 1s, burst: 2 } }
  limited: { on: soak/limited, rate_limit: { limit: 2, period: 10s, key: event.data.user } }
  single: { on: soak/limited, singleton: { key: event.data.user, mode: skip } }
  doomed: { on: soak/doomed, cancel_on: [{ event: soak/doom, if: "async.data.n == event.data.n" }] }
  counted: { on: soak/counted }
  ticking: { cron: { schedule: "* * * * * *", missed: run-all } }
"#;

/// How a handler tells the ledger who and when it is.
const TELL_MODULE: &str = r#"
fn soak(url, run, step, user, more) {
    http::post(`${url}/effect`, #{ json: #{ run: run, step: step, part: 1, user: user, more: more } }).status
}
"#;

/// A function of the project.
pub struct Function {
    pub name: &'static str,
    /// Its handler: `TELL("step")` and `TELL("step", value)` are an effect.
    script: &'static str,
    /// The steps that have an effect in a whole run of it, in their order.
    pub steps: &'static [&'static str],
}

const fn function(name: &'static str, script: &'static str, steps: &'static [&'static str]) -> Function {
    Function { name, script, steps }
}

pub static FUNCTIONS: [Function; 17] = [
    function(
        "stepped",
        r#"step("reserve", || TELL("reserve")); sleep("nap", "1s"); step("confirm", || TELL("confirm"));"#,
        &["reserve", "confirm"],
    ),
    function("retried", r#"step("unsure", || TELL("unsure"));"#, &["unsure"]),
    function("failing", r#"step("note", || TELL("note")); fail("as it should");"#, &["note"]),
    function("keyed", r#"step("open", || TELL("open")); step("close", || TELL("close"));"#, &["open", "close"]),
    function(
        "asked",
        r#"step("ask", || TELL("ask"));
        wait_for_event("soak/answer", #{ "if": "async.data.n == event.data.n" });
        step("answered", || TELL("answered"));"#,
        &["ask", "answered"],
    ),
    function(
        "parts",
        r#"parallel(["left", "middle", "right"], |side| step(side, || TELL(side))); step("done", || TELL("done"));"#,
        &["left", "middle", "right", "done"],
    ),
    function(
        "parent",
        r#"let twice = invoke("child", #{ n: event.data.n, from: run.id });
        send_event("soak/sent", #{ n: event.data.n, from: run.id });
        step("sum", || TELL("sum", twice.n));"#,
        &["sum"],
    ),
    function("child", r#"step("double", || TELL("double", event.data.from)); #{ n: event.data.n * 2 }"#, &["double"]),
    function("hearing", r#"step("hear", || TELL("hear", event.data.from));"#, &["hear"]),
    function("batched", r#"let all = events.map(|one| one.data.n); step("store", || TELL("store", all));"#, &["store"]),
    function("debounced", r#"step("last", || TELL("last"));"#, &["last"]),
    function("throttled", r#"step("slow", || TELL("slow", #{ ts: event.ts, started: run.started_at.ms }));"#, &["slow"]),
    function("limited", r#"step("pass", || TELL("pass", #{ ts: event.ts, started: run.started_at.ms }));"#, &["pass"]),
    function("single", r#"step("enter", || TELL("enter")); sleep("nap", "150ms"); step("leave", || TELL("leave"));"#, &["enter", "leave"]),
    // It is cancelled once it has begun.
    function("doomed", r#"step("begin", || TELL("begin")); sleep("long", "1h"); step("never", || TELL("never"));"#, &["begin"]),
    function(
        "counted",
        r#"let total = step("count", || { TELL("count"); kv::incr(`count ${event.data.user}`) });
        step("total", || TELL("total", total));"#,
        &["count", "total"],
    ),
    function("ticking", r#"step("tick", || TELL("tick"));"#, &["tick"]),
];

impl Function {
    /// The function with this name.
    pub fn named(name: &str) -> &'static Function {
        FUNCTIONS.iter().find(|function| function.name == name).unwrap()
    }

    /// Its handler. An effect is written out in each step: a closure of its own would be captured by it.
    fn handler(&self) -> String {
        let mut written = String::from("import \"lib/effect\" as effect;\n");
        for (at, part) in self.script.split("TELL(").enumerate() {
            let Some((told, rest)) = part.split_once(')').filter(|_| at > 0) else {
                written.push_str(part);
                continue;
            };
            let (step, value) = told.split_once(", ").unwrap_or((told, "()"));
            // Under a limit of one run a key, that is the key.
            let user = match self.name {
                "keyed" => "`keyed ${event.data.user}`",
                "single" => "`single ${event.data.user}`",
                _ => "()",
            };
            // A start by the clock goes by its time.
            let n = if self.name == "ticking" { "event.ts" } else { "event.data.n" };
            let more = format!("#{{ function: \"{}\", n: {n}, value: {value}, life: env(\"LIFE\") }}", self.name);
            write!(written, "effect::soak(env(\"LEDGER\"), run.id, {step}, {user}, {more}){rest}").unwrap();
        }
        written
    }
}

pub fn project(ledger: &Ledger) -> Place {
    let place = Place::new();
    place.write("events.yaml", &CONFIG.replace("LEDGER_URL", &ledger.url));
    place.write("handlers/lib/effect.rhai", &format!("{EFFECT}{TELL_MODULE}"));
    for function in &FUNCTIONS {
        place.write(&format!("handlers/{}.rhai", function.name), &function.handler());
    }
    place
}

/// The functions that an event starts, whatever else there is.
pub fn started_by(name: &str, n: u64) -> &'static [&'static str] {
    match name {
        "soak/plain" if n.is_multiple_of(7) => &["stepped", "retried", "failing"],
        "soak/plain" => &["stepped", "retried"],
        "soak/keyed" => &["keyed"],
        "soak/asked" => &["asked"],
        "soak/parts" => &["parts"],
        "soak/family" => &["parent"],
        "soak/limited" => &["throttled"],
        "soak/doomed" => &["doomed"],
        "soak/counted" => &["counted"],
        _ => &[],
    }
}

/// The functions that an event may start a run of, or may be left out of.
pub fn may_be_started_by(name: &str) -> &'static [&'static str] {
    match name {
        "soak/collected" => &["debounced"],
        "soak/limited" => &["limited", "single"],
        _ => &[],
    }
}

/// The user that an event is about.
pub fn user_of(n: u64) -> String {
    format!("user-{}", n / TOGETHER % USERS)
}

/// The events of a request. One in ten has an id of its sender's: those are remembered for a day, which a soak is too short
/// to see the end of.
pub fn events(job: u64) -> Vec<Event> {
    // A user's events come from one client, so that there is one order in which they are accepted. Three kinds of requests, since
    // that many do not divide the users: each user has all of them.
    let names = match job % 3 {
        0 => ["soak/plain", "soak/keyed", "soak/asked", "soak/parts", "soak/plain"],
        1 => ["soak/collected", "soak/collected", "soak/collected", "soak/collected", "soak/family"],
        _ => ["soak/limited", "soak/limited", "soak/limited", "soak/doomed", "soak/counted"],
    };
    let event = |(n, name): (u64, &'static str)| Event { name, n, user: user_of(n), has_id: n.is_multiple_of(10) };
    (job * TOGETHER..).zip(names).map(event).collect()
}

/// What runs want to hear: an answer to those that ask, and the end of those that are to be cancelled.
#[derive(Default)]
pub struct Replies {
    /// Entries of the ledger that were looked through.
    looked: usize,
    runs: BTreeSet<String>,
}

impl Replies {
    /// The replies to what has come since the last look. A run gets one, however often its effect came. An event that was sent
    /// twice may have two runs, of which the second one wants its reply later.
    pub fn due(&mut self, ledger: &Ledger) -> Vec<Event> {
        let mut due = Vec::new();
        for entry in ledger.entries_from(self.looked) {
            self.looked += 1;
            let Entry::Effect(effect) = entry else { continue };
            let name = match effect.step.as_str() {
                "ask" => "soak/answer",
                "begin" => "soak/doom",
                _ => continue,
            };
            if self.runs.insert(effect.run.clone()) {
                due.push(Event { name, n: effect.more["n"].as_u64().unwrap(), user: "somebody".to_owned(), has_id: false });
            }
        }
        due
    }
}
