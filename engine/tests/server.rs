//! The HTTP API over real sockets, on a real engine with a store in memory.

mod access;
mod again;
mod backlog;
mod channels;
mod connection;
mod look_back;
mod openapi;
mod post;
mod read;
mod sdk;
mod stream;
mod webhooks;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use stepwell::base::{EventId, RunId};
use stepwell::clock::{SystemClock, SystemEntropy};
use stepwell::exec::{Engine, Notice, Setup};
use stepwell::project::{Mode, Project};
use stepwell::rules::{CronRow, EventRow, List, LogRow, OutcomeRow, RunRow, RunState, SourceRow, WaitRow, WindowRow};
use stepwell::script::Host;
use stepwell::server::{ServerOptions, serve};
use stepwell::store::{Answer as Reply, EventQuery, Journal, Lane, Memory, RunQuery, Stats, Store, StoreError, Ticket};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot, watch};

const CONFIG: &str = r#"
version: 1
app: test
events:
  app/ping: {}
  app/nap: {}
  app/fail: {}
  app/pay: {}
  app/once: {}
  app/order:
    schema:
      type: object
      required: [amount]
      properties: { amount: { type: integer, minimum: 1 }, userId: { type: string } }
functions:
  ping: { on: app/ping }
  nap: { on: { event: app/nap, if: "event.data.skip != true" }, concurrency: { limit: 1, key: event.data.userId } }
  stumble: { on: app/fail, retries: 2 }
  pay: { on: app/pay, retries: 0 }
  order: { on: app/order }
  once: { on: app/once, idempotency: event.data.key, handler: handlers/ping.rhai }
secrets: [HOOK_SECRET, NEW_SECRET]
webhooks:
  git: { scheme: github, secret: [NEW_SECRET, HOOK_SECRET], event: "'app/' + headers['x-github-event']", data: "{'action': body.action}" }
  stripe: { scheme: stripe, secret: HOOK_SECRET, event: "body.type == 'noise' ? null : 'app/' + body.type", data: body.data }
  slack: { scheme: slack, secret: HOOK_SECRET, event: "'app/ping'" }
  standard: { scheme: standard, secret: NEW_SECRET, event: "'app/' + body.type" }
"#;

/// The secrets of the webhooks.
fn environment(name: &str) -> Option<String> {
    match name {
        "HOOK_SECRET" => Some("a secret of webhooks".to_owned()),
        "NEW_SECRET" => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        _ => None,
    }
}

const HANDLERS: [(&str, &str); 10] = [
    ("ping", "let one = step(\"one\", || { log::info(\"hello\", event.data); 1 });\nlet at = now();\n#{ one: one, seen: event.data }"),
    ("nap", "step(\"before\", || 1);\nsleep(\"rest\", \"1h\");\n2"),
    ("stumble", "step(\"trip\", || { throw \"no luck\"; });"),
    (
        "pay",
        "let charge = step(\"charge\", || { log::info(\"charging\"); #{ id: \"c1\" } });\n\
         let pack = step(\"pack\", || { if event.data.broken == true { throw \"no box\" } \"packed\" });\n\
         #{ charge: charge.id, pack: pack }",
    ),
    ("order", "step(\"take\", || event.data.amount)"),
    (
        "import",
        "step(\"read\", || {\n\
             publish(\"import:f1\", #{ row: 1 }, #{ topic: \"rows\" });\n\
             publish(\"import:f1\", \"half of it\");\n\
             publish(\"import:f1\", #{ row: 2 }, #{ topic: \"rows\" });\n\
             publish(\"import/f2\", 0);\n\
         });\n\
         sleep(\"rest\", \"1ms\");\n\
         step(\"tell\", || publish(\"import:f1\", [1.50, ()], #{ topic: \"the end, really\" }))",
    ),
    (
        "flood",
        "step(\"flood\", || {\n\
             let text = \"x\";\n\
             while text.len < 60000 { text = text + text; }\n\
             text = text.sub_string(0, 60000);\n\
             for n in 0..1000 { publish(\"flood\", #{ n: n, text: text }); }\n\
         })",
    ),
    ("watch", "wait_for_event(\"app/past\", #{ \"if\": \"async.data.user == event.data.user\", timeout: \"1h\" }).data.n"),
    ("wait", "wait_for_event(\"app/go\");\nsleep(\"rest\", \"1h\")"),
    (
        "branches",
        "parallel(#{\n\
             naps: || sleep(\"nap\", \"20m\"),\n\
             waits: || wait_for_signal(\"go\", #{ timeout: \"1h\" }),\n\
         })",
    ),
];

/// A server on a port of its own, with a client.
struct Server {
    url: String,
    address: std::net::SocketAddr,
    http: reqwest::Client,
    engine: Engine,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    _folder: TempDir,
}

impl Server {
    /// A server of `dev`: any key is accepted.
    async fn start() -> Server {
        Server::with(|options| options.any_key = true).await
    }

    async fn with(change: impl FnOnce(&mut ServerOptions)) -> Server {
        Server::on(Arc::new(Memory::new()), change).await
    }

    async fn on(store: Arc<dyn Store>, change: impl FnOnce(&mut ServerOptions)) -> Server {
        Server::of(CONFIG, store, change).await
    }

    /// A server with another config over the same handlers.
    async fn of(yaml: &str, store: Arc<dyn Store>, change: impl FnOnce(&mut ServerOptions)) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("events.yaml");
        fs::write(&config, yaml).unwrap();
        fs::create_dir(folder.path().join("handlers")).unwrap();
        for (name, text) in HANDLERS {
            fs::write(folder.path().join(format!("handlers/{name}.rhai")), text).unwrap();
        }
        let host = Host::new();
        let (project, _) = Project::load(&config, &host, &environment, Mode::Dev).unwrap();
        let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        let engine = Engine::start(Setup { project: Arc::new(project), host, store, clock, entropy, threads: 1 }).unwrap();
        engine.until_ready().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut options = ServerOptions::default();
        change(&mut options);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, engine.clone(), options, stopped));
        // Somebody may have installed one before; both are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Server { url: format!("http://{address}"), address, http, engine, stop: Some(stop), serving: Some(serving), _folder: folder }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// Sends one event or an array of them.
    async fn send(&self, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, "/e/key").json(&body)).await
    }

    /// Sends what is to be accepted; the ids.
    async fn sent(&self, body: Value) -> Vec<String> {
        let answer = self.send(body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["status"], 200);
        answer.body["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Sends one event and gives the run that it starts once that is in `state`.
    async fn run_in(&self, state: RunState, body: Value) -> String {
        let mut notices = self.engine.subscribe();
        let event = self.sent(body).await.remove(0);
        let runs = self.get(&format!("/v1/events/{event}/runs")).await;
        let run = runs.body["data"][0]["run_id"].as_str().unwrap().to_owned();
        until(&mut notices, run.parse().unwrap(), state).await;
        run
    }

    /// Stops the server and waits until it has.
    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.serving.take().unwrap().await.unwrap().unwrap();
        self.engine.drain().await;
    }
}

/// Waits for a run's change to a state.
async fn until(notices: &mut broadcast::Receiver<Notice>, awaited: RunId, wanted: RunState) {
    loop {
        match notices.recv().await.unwrap() {
            Notice::Run { run, state, .. } if run == awaited && state == wanted => return,
            _ => {}
        }
    }
}

/// What a request was answered with.
struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
    /// The body as JSON; null where it is none.
    body: Value,
}

impl Answer {
    async fn of(request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answer { status, headers, body: stepwell::base::json::value(&text).unwrap_or_default(), text }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Whether it is an error of the one shape, with this status.
    #[track_caller]
    fn is_error(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["status"], status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.body["error"].as_str().unwrap_or_else(|| panic!("no `error`: {}", self.text))
    }

    fn ids(&self) -> Vec<&str> {
        let rows = self.body["data"].as_array().unwrap();
        rows.iter().map(|row| ["run_id", "internal_id"].iter().find_map(|key| row[*key].as_str()).unwrap()).collect()
    }
}

/// Gives the events that a look back asks for.
type Past = Box<dyn Fn(&EventQuery) -> Result<Vec<EventRow>, StoreError> + Send>;

/// A store that treats commits of new events as the test wants.
struct Disk {
    memory: Memory,
    ingest: Mutex<Ingest>,
    /// Commits of new events that are held up, or that found the disk full.
    hindered: watch::Sender<usize>,
    /// What came before, where it is not what the memory holds.
    past: Mutex<Option<Past>>,
}

/// What becomes of commits of new events.
enum Ingest {
    /// They are carried out.
    Open,
    /// So many are carried out; then the disk is full.
    Full(usize),
    /// They wait until the disk is opened.
    Held(Vec<(Vec<List>, Reply)>),
}

impl Disk {
    fn new(ingest: Ingest) -> Arc<Disk> {
        Arc::new(Disk { memory: Memory::new(), ingest: Mutex::new(ingest), hindered: watch::Sender::new(0), past: Mutex::default() })
    }

    /// Carries out what waits, and whatever comes.
    fn open(&self) {
        let before = std::mem::replace(&mut *self.ingest.lock().unwrap(), Ingest::Open);
        if let Ingest::Held(commits) = before {
            commits.into_iter().for_each(|(lists, reply)| reply.give(self.memory.apply(lists)));
        }
    }

    /// Waits until so many lists have been hindered: one an event.
    async fn until_hindered(&self, count: usize) {
        self.hindered.subscribe().wait_for(|hindered| *hindered >= count).await.unwrap();
    }
}

impl Store for Disk {
    fn commit(&self, lane: Lane, lists: Vec<List>) -> Ticket {
        if lane == Lane::Steps {
            return self.memory.commit(lane, lists);
        }
        let (reply, ticket) = Ticket::new();
        match &mut *self.ingest.lock().unwrap() {
            Ingest::Open => reply.give(self.memory.apply(lists)),
            Ingest::Full(0) => {
                self.hindered.send_modify(|hindered| *hindered += lists.len());
                reply.give(Err(StoreError::Full));
            }
            Ingest::Full(left) => {
                *left -= 1;
                reply.give(self.memory.apply(lists));
            }
            Ingest::Held(commits) => {
                self.hindered.send_modify(|hindered| *hindered += lists.len());
                commits.push((lists, reply));
            }
        }
        ticket
    }
    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.memory.event(id)
    }
    fn events(&self, query: &EventQuery) -> Result<Vec<EventRow>, StoreError> {
        match &*self.past.lock().unwrap() {
            Some(past) if query.oldest_first => past(query),
            _ => self.memory.events(query),
        }
    }
    fn outcomes(&self, event: EventId) -> Result<Vec<OutcomeRow>, StoreError> {
        self.memory.outcomes(event)
    }
    fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.memory.run(id)
    }
    fn runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.memory.runs(query)
    }
    fn unfinished(&self, each: &mut dyn FnMut(RunRow)) -> Result<(), StoreError> {
        self.memory.unfinished(each)
    }
    fn journal(&self, run: RunId) -> Result<Journal, StoreError> {
        self.memory.journal(run)
    }
    fn batch(&self, run: RunId) -> Result<Vec<EventId>, StoreError> {
        self.memory.batch(run)
    }
    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        self.memory.waits(run)
    }
    fn all_waits(&self, each: &mut dyn FnMut(WaitRow)) -> Result<(), StoreError> {
        self.memory.all_waits(each)
    }
    fn crons(&self) -> Result<Vec<CronRow>, StoreError> {
        self.memory.crons()
    }
    fn all_windows(&self, each: &mut dyn FnMut(WindowRow)) -> Result<(), StoreError> {
        self.memory.all_windows(each)
    }

    fn value(&self, key: &str) -> Result<Option<stepwell::rules::KvRow>, StoreError> {
        self.memory.value(key)
    }
    fn pauses(&self) -> Result<Vec<stepwell::rules::PauseRow>, StoreError> {
        self.memory.pauses()
    }
    fn logs(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<LogRow>, StoreError> {
        self.memory.logs(run, from, limit)
    }
    fn source(&self, hash: &str) -> Result<Option<SourceRow>, StoreError> {
        self.memory.source(hash)
    }
    fn stats(&self) -> Result<Stats, StoreError> {
        self.memory.stats()
    }
    fn backup(&self, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        self.memory.backup(to, progress)
    }
    fn check(&self) -> Result<Vec<String>, StoreError> {
        self.memory.check()
    }
}
