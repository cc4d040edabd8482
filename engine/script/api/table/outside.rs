//! What a step may do to the world, and what a script sees of its surroundings.

use super::Where::{Anywhere, InStep};
use super::{Entry, entry};

#[rustfmt::skip]
pub(super) const SURROUNDINGS: &[Entry] = &[
    entry("env", &["(name: text) -> text"], Anywhere, "The value of a variable that is listed under `env` in events.yaml.",
        r#"env("API_BASE")"#, ""),
    entry("secret", &["(name: text) -> secret"], Anywhere,
        "A secret that is listed under `secrets` in events.yaml. It prints as «secret NAME», and is never stored.",
        r#"secret("API_KEY")"#, ""),
    entry("log::debug", &["(message: any) -> nothing", "(message: any, data: any) -> nothing"], Anywhere,
        "Writes a line to the run's log, at level debug.", r#"log::debug("looked it up", #{ rows: 3 })"#, "null"),
    entry("log::info", &["(message: any) -> nothing", "(message: any, data: any) -> nothing"], Anywhere,
        "Writes a line to the run's log.", r#"log::info("packed", #{ items: 2 })"#, "null"),
    entry("log::warn", &["(message: any) -> nothing", "(message: any, data: any) -> nothing"], Anywhere,
        "Writes a line to the run's log, as a warning.", r#"log::warn("it took long")"#, "null"),
    entry("log::error", &["(message: any) -> nothing", "(message: any, data: any) -> nothing"], Anywhere,
        "Writes a line to the run's log, as an error.", r#"log::error("nobody is there")"#, "null"),
    entry("print", &["(value: any) -> nothing"], Anywhere, "Writes a line to the run's log, as log::info.", r#"print("done")"#, "null"),
];

const FORMS: &[&str] = &[
    "(url: text) -> map",
    "(url: text, options: #{json, form, body, headers, query, auth, basic, timeout, follow, allow_status, idempotency_key}) -> map",
];

#[rustfmt::skip]
pub(super) const HTTP: &[Entry] = &[
    entry("http::get", FORMS, InStep,
        "Makes a request, and gives `status`, `ok`, `headers`, `json`, `text` and `ms`. Network errors, 5xx and 429 are tried again; another 4xx ends the step, unless `allow_status` lists it.",
        r#"http::get("https://api.example.com/users/1", #{ auth: secret("API_KEY") }).json"#, ""),
    entry("http::post", FORMS, InStep, "As http::get, with a body, and an `Idempotency-Key` that is the same in every attempt.",
        r#"http::post("https://api.example.com/users", #{ json: #{ name: "Ada" } })"#, ""),
    entry("http::put", FORMS, InStep, "As http::post.", r#"http::put("https://api.example.com/users/1", #{ json: #{ name: "Ada" } })"#, ""),
    entry("http::patch", FORMS, InStep, "As http::post.", r#"http::patch("https://api.example.com/users/1", #{ json: #{ name: "Ada" } })"#, ""),
    entry("http::delete", FORMS, InStep, "As http::post.", r#"http::delete("https://api.example.com/users/1")"#, ""),
    entry("http::head", FORMS, InStep, "As http::get, for the status and the headers alone.", r#"http::head("https://api.example.com/").status"#, ""),
];

#[rustfmt::skip]
pub(super) const KV: &[Entry] = &[
    entry("kv::get", &["(key: text) -> any", "(key: text, default: any) -> any"], InStep,
        "The value under a key of the engine's own store, as this step has changed it; () or the default where there is none.",
        r#"kv::get("visits", 0)"#, "0"),
    entry("kv::set", &["(key: text, value: any) -> nothing", "(key: text, value: any, options: #{ttl}) -> nothing"], InStep,
        "Stores a value together with the step's result: both or neither. With `ttl` it is gone after that time.",
        r#"kv::set("seen/u1", true, #{ ttl: "7d" })"#, "null"),
    entry("kv::incr", &["(key: text) -> whole", "(key: text, by: whole) -> whole", "(key: text, by: whole, options: #{ttl}) -> whole"], InStep,
        "Adds 1, or `by`, to the whole number under a key (0 where there is none), and gives the sum. Each step that is recorded counts once. `ttl` counts from the first one.",
        r#"kv::incr("visits", 2)"#, "2"),
    entry("kv::delete", &["(key: text) -> flag"], InStep, "Deletes the value under a key; gives whether there was one.", r#"kv::delete("visits")"#, "false"),
    entry("kv::update", &["(key: text, each: closure) -> any", "(key: text, each: closure, options: #{ttl}) -> any"], InStep,
        "Puts what the closure makes of the value under a key, () where there is none, in its place, and gives it; () deletes. No other step changes it meanwhile.",
        r#"kv::update("last", |old| (if old == () { 0 } else { old }) + 1)"#, "1"),
];

const ANSWER: &[&str] = &["(database: text, sql: text) -> array", "(database: text, sql: text, parameters: array) -> array"];
const CHANGED: &[&str] = &["(database: text, sql: text) -> whole", "(database: text, sql: text, parameters: array) -> whole"];

#[rustfmt::skip]
pub(super) const DB: &[Entry] = &[
    entry("db::query", ANSWER, InStep,
        "The rows that a statement gives, each a map by the names of its columns. Values go as parameters: `?` in SQLite, `$1` in PostgreSQL. At most 10,000 rows of 16 MB.",
        r#"db::query("crm", "SELECT 1 + ? AS sum", [2])"#, r#"[{"sum":3}]"#),
    entry("db::exec", CHANGED, InStep,
        "Runs a statement that changes rows, and gives how many. It is done anew where the process dies before the step is recorded: a key that is `run.idempotency_key` makes that harmless.",
        r#"db::exec("crm", "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY)")"#, "0"),
];

#[rustfmt::skip]
pub(super) const CHANNELS: &[Entry] = &[
    entry("publish", &["(channel: text, data: any) -> nothing", "(channel: text, data: any, options: #{topic}) -> nothing"], InStep,
        "Tells everybody who listens to the channel at that moment, by `GET /v1/channels/NAME`. Nothing is kept of it, and nobody is waited for.",
        r#"publish("import:f1", #{ done: 3 }, #{ topic: "progress" })"#, "null"),
];

#[rustfmt::skip]
pub(super) const OTHERS: &[Entry] = &[
    entry("email::send", &["(mail: #{to, cc, bcc, from, reply_to, subject, text, html, attachments}) -> map"], InStep,
        "Hands a mail to the SMTP server of events.yaml, and gives its `id`, which is the same in every attempt. `to`, `cc`, `bcc` and `reply_to` are an address or a list of them; an attachment is `#{name, content, type}`.",
        r#"email::send(#{ to: "ada@example.com", subject: "Your order", text: "It is on its way." })"#, ""),
    entry("exec::run", &["(command: text) -> map", "(command: text, arguments: array) -> map", "(command: text, arguments: array, options: #{stdin, timeout, env, allow_status}) -> map"], InStep,
        "Runs a command that events.yaml allows by name, without a shell, and gives `status`, `stdout`, `stderr` and `ms`. Another status than 0 is an error, unless `allow_status` lists it.",
        r#"exec::run("tr", ["a-z", "A-Z"], #{ stdin: "abc" }).stdout"#, r#""ABC""#),
];
