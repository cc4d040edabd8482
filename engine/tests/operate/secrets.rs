//! A secret that is sent through every output, and looked for in all of them: no output shows it, in whatever dress.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use super::top::Following;
use super::traces::Collector;
use super::{project, until, whole};
use crate::program::{self, Server};

const CONFIG: &str = r#"
version: 1
app: shop
secrets: [API_KEY]
env: { LEAK: nothing, PEER: nobody }
http: { allow: ["127.0.0.0/8"] }
databases: { crm: { url: "sqlite:crm.db" } }
email: { smtp: "smtp://MAIL", from: shop@example.com }
exec: { allow: [cat, ls] }
webhooks:
  git: { scheme: github, secret: API_KEY, event: "'app/heard'" }
events:
  app/spill: {}
  app/give: {}
  app/hold: {}
  app/heard: {}
functions:
  spill: { on: app/spill, on_failure: handlers/sorry.rhai, retries: { attempts: 2, backoff: fixed, initial: 1ms, jitter: 0 } }
  give: { on: app/give, retries: 0 }
  hold: { on: app/hold, retries: { attempts: 6, backoff: fixed, initial: 1h } }
  other: { on: app/heard }
"#;

/// Each way out that a handler has. `env` gives the secret's value as plain text, of which the handler does not know what it is; the peer gives
/// back what it was sent.
const SPILL: &str = r#"
let key = env("LEAK");
let seen = [];
let tried = |name, way| { try { way.call(); log::info("went out: " + name); } catch (error) { seen.push(`${error}`); log::warn(name, #{ error: `${error}` }); } };
log::info("said " + key, #{ secret: secret("API_KEY"), text: key });
log::debug(key);
print(secret("API_KEY"));
print("printed " + key);
tried.call("calls", || step("call", || {
    let answer = http::post(env("PEER") + "/echo/" + key + "?key=" + key, #{ json: #{ key: key }, headers: #{ "X-Key": key }, auth: secret("API_KEY") });
    log::info(answer.text, answer.headers);
    answer.status
}));
tried.call("answers", || step("answer", || http::get(env("PEER") + "/echo", #{ auth: secret("API_KEY") }).text));
tried.call("addresses", || step("nobody", || http::get("http://user:" + key + "@127.0.0.1:1/" + key)));
tried.call("texts of commands", || step("cat", || exec::run("cat", [], #{ stdin: "it is " + key }).stdout));
tried.call("errors of commands", || step("ls", || exec::run("ls", ["/nowhere/" + key])));
tried.call("tables", || step("table", || db::exec("crm", "CREATE TABLE IF NOT EXISTS t (x)")));
tried.call("rows", || step("rows", || db::query("crm", "SELECT ? AS x, ? AS y", [key, "it is " + key])));
tried.call("errors of databases", || step("sql", || db::query("crm", "SELECT nobody FROM t WHERE x = 1 " + key)));
tried.call("addresses of mails", || step("to", || email::send(#{ to: key + "@example.com", subject: "x", text: "x" })));
tried.call("refused mails", || step("mail", || email::send(#{ to: "ada@example.com", subject: key, text: key })));
tried.call("results", || step("keep", || key));
tried.call("maps", || step("map", || #{ deep: [#{ text: "so " + key }] }));
tried.call("keys of maps", || { let map = #{}; map[key] = 1; step("keyed", || map) });
tried.call("base64", || step("encoded", || base64::encode("user:" + key)));
tried.call("names of steps", || step("named " + key, || 1));
tried.call("names of sleeps", || sleep("slept " + key, "1ms"));
tried.call("ids of events", || send_event([#{ name: "app/heard", data: #{}, id: key }]));
tried.call("conditions", || wait_for_event("app/heard", #{ "if": "async.data.text == '" + key + "'", timeout: "1ms", id: "c" }));
tried.call("signals", || wait_for_signal(key, #{ timeout: "1ms", id: "s" }));
tried.call("kept values", || step("kept", || { kv::set("name", key); 1 }));
tried.call("keys of kept values", || step("key", || { kv::set(key, 1); 1 }));
tried.call("channels", || step("told", || { publish("spills", #{ text: "it is " + key, key: secret("API_KEY") }, #{ topic: "t" }); 1 }));
tried.call("names of channels", || step("channel", || publish("spills/" + key, 1)));
tried.call("topics", || step("topic", || publish("spills", 1, #{ topic: key })));
tried.call("events", || send_event("app/heard", #{ text: key }));
tried.call("sent signals", || send_signal("signal", key));
tried.call("invokes", || invoke("other", #{ text: key }));
throw #{ message: "gave up with " + key, seen: seen, key: key };
"#;

const FILES: [(&str, &str); 6] = [
    ("events.yaml", CONFIG),
    ("handlers/spill.rhai", SPILL),
    ("handlers/sorry.rhai", "log::error(`${error.message}`, #{ all: `${error}` }); error.message"),
    ("handlers/give.rhai", "#{ key: env(\"LEAK\") }"),
    ("handlers/hold.rhai", "step(\"trip\", || { throw \"not with \" + env(\"LEAK\"); });"),
    ("handlers/other.rhai", "1"),
];

/// A text that nobody can guess, and that is written in another way in JSON, HTML and addresses.
struct Secret {
    whole: String,
    /// What is looked for: none of it is longer than what any of those ways leaves as it is.
    parts: Vec<String>,
}

impl Secret {
    fn new(name: &str) -> Secret {
        let random = || {
            let mut bytes = [0_u8; 12];
            std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let (head, tail) = (random(), random());
        let whole = format!("{name}{head}<&\"{tail}");
        let base64 = (0..3).map(|skip| {
            use base64::Engine as _;
            let padded = [vec![0; skip], whole.as_bytes().to_vec()].concat();
            base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded)[8..24].to_owned()
        });
        let parts = base64.chain([head.clone(), tail.clone()]).collect();
        Secret { whole, parts }
    }

    #[track_caller]
    fn is_not_in(&self, what: &str, text: &str) {
        for part in &self.parts {
            if let Some(at) = text.find(part.as_str()) {
                let from = (0..=at.saturating_sub(300)).rev().find(|from| text.is_char_boundary(*from)).unwrap_or(0);
                panic!("{what} shows the secret: {}", text[from..].chars().take(600).collect::<String>());
            }
        }
    }
}

/// A server that gives back all that it was sent, as its body and in a header.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || give_back(stream));
        }
    });
    url
}

fn give_back(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut said, mut given, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            match name.to_lowercase().as_str() {
                "authorization" => given = value.to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        said.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    said.push_str(&String::from_utf8_lossy(&body));
    // The other side may have hung up.
    let _ = write!(
        reader.get_mut(),
        "HTTP/1.1 200 OK\r\nx-given: {given}\r\nset-cookie: {given}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{said}",
        said.len()
    );
}

/// A mail server that refuses every mail, with all that it was told; its address.
fn mail() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || refuse(stream));
        }
    });
    address
}

fn refuse(mut stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    // The other side may have hung up.
    let mut answer = |text: &str| drop(stream.write_all(format!("{text}\r\n").as_bytes()));
    answer("220 test");
    let mut said: Option<String> = None;
    for line in lines.map_while(Result::ok) {
        said = match said {
            Some(mail) if line == "." => {
                answer(&format!("554 not with {mail}"));
                None
            }
            Some(mail) => Some(format!("{mail}{line} ")),
            None if line == "DATA" => {
                answer("354 go on");
                Some(String::new())
            }
            None => {
                answer("250 ok");
                None
            }
        };
    }
}

/// Follows a stream of an engine until that ends; gives what has come.
fn follow(server: &Server, path: &str, header: &str) -> std::thread::JoinHandle<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n{header}\r\n\r\n", server.port);
    stream.write_all(head.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).unwrap();
    assert!(first.contains("200"), "{path}: {first}");
    std::thread::spawn(move || {
        let mut text = Vec::new();
        // It ends with the engine.
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Everything that the files of a folder hold.
fn all_files(folder: &Path, text: &mut String) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            all_files(&path, text);
        } else {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
}

#[test]
fn no_output_shows_a_secret() {
    let [key, event_key, admin, reader] = ["sk_live_", "evt_", "adm_", "read_"].map(Secret::new);
    let collector = Collector::start();
    let folder = project(&FILES);
    let peer = echo();
    std::fs::write(folder.path().join("events.yaml"), CONFIG.replace("MAIL", &mail())).unwrap();
    let mut command = program::command("stepwell", folder.path());
    command.args(["run", "--log-format", "json", "--otlp", &collector.url]).env("STEPWELL_LOG", "trace").env("PEER", &peer);
    command.env("API_KEY", &key.whole).env("LEAK", &key.whole);
    command
        .env("STEPWELL_EVENT_KEYS", &event_key.whole)
        .env("STEPWELL_ADMIN_TOKEN", &admin.whole)
        .env("STEPWELL_READ_TOKEN", &reader.whole);
    let server = Server::start(&mut command);
    let bearer = |secret: &Secret| format!("Bearer {}", secret.whole);
    let json_type = ("content-type", "application/json");
    let mut outputs: Vec<(String, String)> = Vec::new();

    // Who follows what happens, from before it does.
    let followed = follow(&server, "/v1/stream", &format!("authorization: {}", bearer(&admin)));
    let channel = follow(&server, "/v1/channels/spills", &format!("authorization: {}", bearer(&admin)));
    let (status, head, made) =
        whole(&server, "POST", "/v1/channels/spills/token", &[json_type, ("authorization", bearer(&admin).as_str())], "{}");
    assert_eq!(status, 200, "{made}");
    outputs.push(("a channel's token".to_owned(), [head, made].concat()));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let token: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", &admin.whole).finish();
    let (_, answer, _) = whole(&server, "POST", "/login", &form, &token);
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap_or_else(|| panic!("{answer}"));
    outputs.push(("the cookie".to_owned(), cookie.to_owned()));
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let live = follow(&server, "/live", &format!("cookie: {cookie}"));
    let page = |path: &str| {
        let (status, head, body) = whole(&server, "GET", path, &[("cookie", cookie.as_str()), ("accept", "text/html")], "");
        assert!(status == 200, "{path}: {status} {body}");
        [head, body].concat()
    };

    let get = |path: &str| {
        let (status, _, body) = whole(&server, "GET", path, &[("authorization", bearer(&admin).as_str())], "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    };
    let sent = |name: &str| {
        let body = json!({ "name": name }).to_string();
        let (status, _, answer) = whole(&server, "POST", "/e", &[json_type, ("authorization", bearer(&event_key).as_str())], &body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["ids"][0].as_str().unwrap().to_owned()
    };
    let runs = |path: &str| serde_json::from_str::<Value>(&get(path)).unwrap()["data"].as_array().unwrap().clone();
    // Commands that follow, each of which has told something before what matters comes.
    let tails = [["events", "tail"], ["runs", "tail"]].map(|tail| {
        ["--json", ""].map(|option| {
            let arguments: Vec<&str> = tail.into_iter().chain(Some(option).filter(|option| !option.is_empty())).collect();
            let following = Following::with(folder.path(), &server, &arguments, &[("STEPWELL_ADMIN_TOKEN", &admin.whole)]);
            let first = following.line(|| drop(sent("app/heard")));
            (format!("stepwell {}", arguments.join(" ")), first, following)
        })
    });
    let events = ["app/spill", "app/give", "app/hold"].map(sent);
    let mut shown = Vec::new();
    for (event, state) in events.iter().zip(["failed", "failed", "backing_off"]) {
        let path = format!("/v1/events/{event}/runs");
        let run = until(|| runs(&path).into_iter().find(|run| run["state"] == state));
        shown.push(run["run_id"].as_str().unwrap().to_owned());
    }
    let sorry = until(|| runs("/v1/runs?function=spill.on_failure&status=Completed").pop());
    shown.push(sorry["run_id"].as_str().unwrap().to_owned());
    // What comes with a wrong signature, a wrong key, or to a wrong place, is told of as well.
    for (path, headers) in [
        ("/webhooks/git", [("x-hub-signature-256", "sha256=00"), json_type]),
        ("/e/wrong", [json_type, json_type]),
        ("/v1/reload", [json_type, ("authorization", "Bearer wrong")]),
    ] {
        let (status, head, body) = whole(&server, "POST", path, &headers, "{}");
        assert!(status >= 400, "{path}: {body}");
        outputs.push((path.to_owned(), [head, body].concat()));
    }

    for path in stepwell::web::paths() {
        outputs.push((format!("the page {path}"), page(path)));
    }
    let mut parts = vec!["/events?tab=refused".to_owned(), "/config?part=plan".to_owned(), "/functions/spill".to_owned()];
    let of_ours = runs("/v1/events?limit=200").into_iter().filter(|event| !event["name"].as_str().unwrap().starts_with("stepwell/"));
    let all: Vec<String> = of_ours.map(|event| event["internal_id"].as_str().unwrap().to_owned()).collect();
    assert!(events.iter().all(|event| all.contains(event)), "{all:?}");
    parts.extend(all.iter().flat_map(|event| ["/events/", "/send?from="].map(|path| format!("{path}{event}"))));
    for run in &shown {
        let trace: Value = serde_json::from_str(&get(&format!("/v1/runs/{run}/trace"))).unwrap();
        for step in trace["data"]["steps"].as_array().unwrap() {
            let id = format!("{}.{}", step["kind"].as_str().unwrap(), step["key"].as_str().unwrap());
            let id: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("step", &id).finish();
            parts.extend(["output", "error", "http", "logs", "code"].map(|tab| format!("/runs/{run}?{id}&tab={tab}")));
        }
        parts.extend([format!("/runs/{run}"), format!("/runs/{run}?part=json"), format!("/logs?run={run}")]);
    }
    for path in parts {
        outputs.push((format!("the page {path}"), page(&path)));
    }
    let mut paths: Vec<String> =
        ["/metrics", "/health", "/v1/config", "/v1/plan", "/v1/runs", "/v1/events", "/v1/functions", "/openapi.json"]
            .map(str::to_owned)
            .into();
    for run in &shown {
        paths.extend(["", "/trace", "/logs"].map(|rest| format!("/v1/runs/{run}{rest}")));
    }
    paths.extend(events.iter().map(|event| format!("/v1/events/{event}/explain")));
    for path in &paths {
        outputs.push((path.clone(), get(path)));
    }

    // The command line asks the engine, or makes its own copy of the config with the same environment.
    let mut lines: Vec<String> = [
        "runs ls",
        "runs ls --json",
        "events ls",
        "events ls --json",
        "functions ls",
        "functions get spill",
        "config",
        "config --json",
        "plan",
        "doctor",
        "doctor --json",
        "validate",
        "graph",
        "top --once",
        "replay --status failed --dry-run",
        "reload",
        "backup copy.db",
        "sql 'select * from runs'",
        "sql 'select * from logs'",
        "sql 'select * from events'",
        "sql 'select * from steps'",
    ]
    .map(str::to_owned)
    .into();
    for run in &shown {
        lines.extend(["get", "get --json", "trace", "trace --json", "logs", "logs --json"].map(|what| format!("runs {what} {run}")));
    }
    lines.extend(events.iter().flat_map(|event| ["", " --explain"].map(|more| format!("events get {event}{more}"))));
    for line in lines {
        let mut called = program::command("sh", folder.path());
        called.args(["-c", &format!("stepwell {line}")]).env("STEPWELL_URL", server.url()).env("PEER", &peer);
        called.env("API_KEY", &key.whole).env("LEAK", &key.whole).env("STEPWELL_ADMIN_TOKEN", &admin.whole);
        let output = called.output().unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        // The config has a webhook and runs that stand still, which some of them tell by their exit.
        assert!(!matches!(output.status.code(), None | Some(2 | 69 | 77)), "{line}: {printed}");
        outputs.push((format!("stepwell {line}"), printed));
    }

    let (_, printed) = server.stop();
    // The run that backs off has not ended, so nothing is told of it.
    for run in &shown[..2] {
        collector.of(run);
    }
    let told: String = collector.at("/v1/traces").iter().map(|got| got.body.as_str()).collect();
    let mut files = String::new();
    all_files(folder.path(), &mut files);
    for (what, first, following) in tails.into_iter().flatten() {
        outputs.push((what, [vec![first], following.rest()].concat().join("\n")));
    }
    outputs.extend([
        ("the stream".to_owned(), followed.join().unwrap()),
        ("the channel".to_owned(), channel.join().unwrap()),
        ("the live pages".to_owned(), live.join().unwrap()),
        ("the log".to_owned(), printed),
        ("the traces".to_owned(), told),
        ("the files".to_owned(), files),
    ]);
    for (what, text) in &outputs {
        [&key, &event_key, &admin, &reader].into_iter().for_each(|secret| secret.is_not_in(what, text));
    }
    // What came through each of them has been hidden there, and has not been left out before.
    for what in [
        "/v1/runs",
        "the stream",
        "the channel",
        "the log",
        "the traces",
        "the files",
        "the page /logs",
        "the page /runs",
        "runs ls --json",
        "runs tail",
        "runs tail --json",
    ] {
        assert!(outputs.iter().any(|(name, text)| name.ends_with(what) && text.contains("«secret API_KEY»")), "{what} tells nothing");
    }
}
