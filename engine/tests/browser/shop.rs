//! The engine that the browser looks at: the real program on a project of a shop.

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::{self, Server, repository};

/// Most bytes of a page with all its files.
pub const BYTES_MOST: usize = 300 * 1024;
/// What opens it as its developers do.
const DEV: [&str; 2] = ["dev", "--no-watch"];

fn serve(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
    let mut command = program::command("stepwell", folder);
    command.args(arguments).envs(variables.iter().copied()).env("STEPWELL_LOG", "warn");
    Server::start(&mut command)
}

/// A running shop.
pub struct Shop {
    server: Server,
    folder: tempfile::TempDir,
    http: reqwest::Client,
}

impl Shop {
    /// Opens it as `stepwell dev`.
    pub fn open() -> Shop {
        Shop::with(&DEV, &[])
    }

    /// Opens it with a command and variables.
    pub fn with(arguments: &[&str], variables: &[(&str, &str)]) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        program::copy(&repository().join("engine/tests/browser/shop"), &[], folder.path());
        let server = serve(folder.path(), arguments, variables);
        // Somebody may have installed one before; both are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Shop { server, folder, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// Kills the engine, has something done in its folder, and opens it there again as `stepwell dev`.
    pub fn killed(self, meanwhile: impl FnOnce(&Path)) -> Shop {
        let Shop { server, folder, http } = self;
        server.kill();
        meanwhile(folder.path());
        Shop { server: serve(folder.path(), &DEV, &[]), folder, http }
    }

    /// Tells the engine to end: it drains, and serves its pages meanwhile.
    pub fn tell_to_stop(&self) {
        self.server.tell_to_stop();
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks the API.
    pub async fn ask(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method, format!("{}{path}", self.url()));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ask(reqwest::Method::GET, path, None).await
    }

    /// Sends an event; its id.
    pub async fn send(&self, name: &str, data: Value) -> String {
        let answer = self.ask(reqwest::Method::POST, "/e/dev", Some(json!({ "name": name, "data": data }))).await;
        answer["ids"][0].as_str().unwrap().to_owned()
    }

    /// Sends an event and gives the run that it starts once that is in one of these states.
    pub async fn run_in(&self, states: &[&str], name: &str, data: Value) -> String {
        let event = self.send(name, data).await;
        let run = loop {
            let runs = self.get(&format!("/v1/events/{event}/runs")).await;
            if let Some(run) = runs["data"][0]["run_id"].as_str() {
                break run.to_owned();
            }
        };
        self.until(&run, states).await;
        run
    }

    /// A run that its newest handler does not fit, and the version that it began on.
    pub async fn parked(&self) -> (String, String) {
        let run = self.run_in(&["waiting"], "parcel/wanted", json!({ "order": "o1" })).await;
        let version = self.get(&format!("/v1/runs/{run}")).await["data"]["function_version"].as_str().unwrap().to_owned();
        let handler = self.folder().join("handlers/pack.rhai");
        let text = std::fs::read_to_string(&handler).unwrap();
        std::fs::write(&handler, text.replace("weigh", "measure")).unwrap();
        self.ask(reqwest::Method::POST, "/v1/reload", None).await;
        self.ask(reqwest::Method::POST, "/v1/signals/packed", None).await;
        self.until(&run, &["parked"]).await;
        (run, version)
    }

    /// A run whose step has called somebody who never answers, and who that is: without him the call fails.
    pub async fn running(&self) -> (String, TcpListener) {
        // Whoever calls it is let in, and never hears anything.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/stock", silent.local_addr().unwrap());
        (self.run_in(&["running"], "warehouse/asked", json!({ "url": url })).await, silent)
    }

    /// Waits until a run is in one of these states.
    pub async fn until(&self, run: &str, states: &[&str]) -> Value {
        let waiting = async {
            loop {
                let found = self.get(&format!("/v1/runs/{run}")).await;
                if states.contains(&found["data"]["state"].as_str().unwrap()) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(super::PATIENCE, waiting).await.unwrap_or_else(|_| panic!("run {run} does not come to be one of {states:?}"))
    }

    /// Runs in many states, as a shop has them.
    pub async fn busy(&self) -> Busy {
        let waiting = self.run_in(&["waiting"], "payment/initiate", json!({ "userId": "u1", "amount": 1200, "currency": "EUR" })).await;
        let event = self.get(&format!("/v1/runs/{waiting}")).await["data"]["event_id"].as_str().unwrap().to_owned();
        for user in ["u9", "u7"] {
            self.send("otp/received", json!({ "userId": user, "code": "123456" })).await;
        }
        let queued = self.run_in(&["queued"], "payment/initiate", json!({ "userId": "u1", "amount": 300 })).await;
        let failed = self.run_in(&["failed"], "payment/initiate", json!({ "userId": "u2", "amount": 990, "card": "declined" })).await;
        for n in 1..=6 {
            self.run_in(&["completed"], "payment/initiate", json!({ "userId": format!("u{}", 20 + n), "amount": 100 * n, "hurry": true }))
                .await;
        }
        let backing_off = self.run_in(&["backing_off"], "refund/wanted", json!({ "payment": "p1", "amount": 300 })).await;
        let sleeping =
            self.run_in(&["sleeping"], "order/placed", json!({ "order": "o1", "items": ["tea", "cup", "spoon"], "later": true })).await;
        let order = self.run_in(&["completed"], "order/placed", json!({ "order": "o2", "items": ["tea", "cup"] })).await;
        let signal = self.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
        self.ask(reqwest::Method::POST, "/v1/functions/export/pause", None).await;
        let paused = self.run_in(&["paused"], "export/wanted", json!({ "steps": 3 })).await;
        let cancelled = self.run_in(&["waiting"], "gate/asked", json!({ "gate": "south" })).await;
        self.ask(reqwest::Method::DELETE, &format!("/v1/runs/{cancelled}?reason=nobody+came"), None).await;
        let (parked, older) = self.parked().await;
        let (running, silent) = self.running().await;
        Busy {
            event,
            waiting,
            queued,
            failed,
            backing_off,
            sleeping,
            order,
            signal,
            paused,
            cancelled,
            parked,
            older,
            running,
            _silent: Some(silent),
        }
    }
}

/// A run of each kind.
#[derive(Default)]
pub struct Busy {
    /// The event of the one that waits.
    pub event: String,
    pub waiting: String,
    pub queued: String,
    pub failed: String,
    pub backing_off: String,
    pub sleeping: String,
    pub order: String,
    pub signal: String,
    pub paused: String,
    pub cancelled: String,
    pub parked: String,
    /// The version of `pack` that the parked one began on.
    pub older: String,
    pub running: String,
    /// Whom the running one has called.
    _silent: Option<TcpListener>,
}

impl Busy {
    /// Every page of the table, and those of one thing of each kind, by their names. `long` is a run of 1,000 steps.
    pub fn pages(&self, long: &str) -> Vec<(String, String)> {
        let mut pages: Vec<(String, String)> = stepwell::web::paths().map(|path| (format!("`{path}`"), path.to_owned())).collect();
        for (name, path) in [
            ("a run of 1,000 steps", format!("/runs/{long}?from=0")),
            ("a run that waits", format!("/runs/{}", self.waiting)),
            ("a run that failed", format!("/runs/{}", self.failed)),
            ("an event", format!("/events/{}", self.event)),
            ("a function", "/functions/charge".to_owned()),
            ("the form of an event", "/send?name=payment/initiate".to_owned()),
        ] {
            pages.push((name.to_owned(), path));
        }
        pages
    }
}
