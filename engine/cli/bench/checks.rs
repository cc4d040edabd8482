//! `stepwell validate` on a project of a hundred functions, each with an event, a schema and a handler of its own.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clock::Stopwatch;

use super::Taken;
use super::project::{Part, Site};
use super::report::{Aim, Figure};

const FUNCTIONS: usize = 100;
/// Runs of the check, of which the middle one is told.
const TIMES: Part<usize> = Part { whole: 9, quick: 3 };

/// What a handler of the project looks like: reads, steps, a loop, a wait, what is sent.
const HANDLER: &str = r#"let data = event.data;
let total = 0;
for item in data.items {
    total += step(`price-of-${item.sku}`, #{ retries: 5, timeout: "20s" }, || item.price * item.count);
}
let charge = step("charge", || {
    let answer = http::post(`${env("API_BASE")}/charges`, #{
        json: #{ total: total, user: event.data.userId, city: event.data.address?.city },
        allow_status: [402],
        timeout: "10s",
    });
    if answer.status == 402 { fail("declined", #{ user: event.data.userId }); }
    answer.json
});
let paid = wait_for_event("paid/NUMBER", #{ "if": "async.data.userId == event.data.userId", timeout: "1d" });
if paid == () {
    send_event("order/NUMBER", #{ userId: event.data.userId, items: [], note: "again" });
    return #{ status: "expired" };
}
let out = parallel(#{
    mail: || step("mail", || regex::replace("\\s+", `${paid.data.by} paid ${total}`, " ")),
    due: || step("due", || (now() + "14d").format("%Y-%m-%d", "Europe/Berlin")),
});
#{ charge: charge, mail: out.mail, due: out.due, names: data.items.map(|item| item.sku.to_upper()) }
"#;

const SCHEMA: &str = r##"{
  "type": "object", "required": ["userId", "items"], "additionalProperties": false,
  "properties": {
    "userId": { "type": "string" }, "note": { "type": "string" },
    "address": { "$ref": "#/$defs/address" },
    "items": { "type": "array", "items": { "type": "object", "required": ["sku", "price", "count"], "additionalProperties": false,
      "properties": { "sku": { "type": "string" }, "price": { "type": "integer" }, "count": { "type": "integer" } } } }
  },
  "$defs": { "address": { "type": "object", "properties": { "city": { "type": "string" } } } }
}
"##;

/// The whole time of the command, beside that of a process that does nothing.
pub fn hundred(site: &Site) -> io::Result<Taken> {
    let folder = site.folder().join("checked");
    write(&folder)?;
    let (mut checks, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..site.scale.of(TIMES) {
        bare.push(run(&["--version"], &folder)?);
        checks.push(run(&["validate", "--format", "json", "--deny-warnings"], &folder)?);
    }
    fs::remove_dir_all(&folder)?;
    let middle = |times: &mut [Duration]| super::percentile(times, 0.5);
    let figure = Figure::new(format!("validate a project of {FUNCTIONS} functions"), "ms", middle(&mut checks));
    Ok(figure.against(middle(&mut bare), "the process alone (`stepwell --version`)").aims(Aim::AtMost(200.0)).into())
}

fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.join("handlers"))?;
    fs::create_dir_all(folder.join("schemas"))?;
    let (mut events, mut functions) = (String::new(), String::new());
    for number in 0..FUNCTIONS {
        events.push_str(&format!(
            "  order/{number}: {{ schema: schemas/order-{number}.json }}\n  paid/{number}: {{ schema: {{ type: object, required: [userId, by], properties: {{ userId: {{ type: string }}, by: {{ type: string }} }} }} }}\n"
        ));
        functions.push_str(&format!(
            "  order-{number}: {{ on: {{ event: order/{number}, if: \"event.data.items.size() > 0\" }}, concurrency: {{ limit: 1, key: event.data.userId, hold: active }} }}\n"
        ));
        fs::write(folder.join(format!("handlers/order-{number}.rhai")), HANDLER.replace("NUMBER", &number.to_string()))?;
        fs::write(folder.join(format!("schemas/order-{number}.json")), SCHEMA)?;
    }
    fs::write(
        folder.join("events.yaml"),
        format!("version: 1\nenv: {{ API_BASE: \"https://api.example.com\" }}\nevents:\n{events}functions:\n{functions}"),
    )
}

fn run(arguments: &[&str], folder: &Path) -> io::Result<Duration> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped());
    let watch = Stopwatch::start();
    let output = command.output()?;
    let elapsed = watch.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(io::Error::other(format!("the check of a sound project found something: {said}")));
    }
    Ok(elapsed)
}
