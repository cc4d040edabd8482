//! The engine's runs as OpenTelemetry traces: a run is a trace, or a part of the one that its event was sent in; a step is a span.
//!
//! Spans are made of a run's rows once it has ended, on a thread of their own: nothing is noted meanwhile, so a run costs its
//! workers one try to put its id into a queue, and one that the engine was killed in is told whole, once, by the next engine. The
//! queue is bounded: what does not fit is dropped and counted.

mod spans;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::base::{RunId, Span};

use super::{Engine, Inner};

/// Runs that wait to be told of.
const WAITING_MOST: usize = 8_192;
/// Runs that are waited for before any is told of.
const TOGETHER: usize = 128;
/// Spans that make a request; the last run's may be more.
const SPANS_TOGETHER: usize = 2_000;
/// What is read of a collector's answer.
const ANSWER_BYTES: usize = 64 * 1024;
/// Characters that are logged of what a collector says.
const SAID_MOST: usize = 200;
/// How long a run waits for others to be told of with it.
const LINGER: Span = Span::seconds(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Waits before a request is tried again, in milliseconds; after the last one its spans are dropped.
const AGAIN_MS: [i64; 4] = [500, 1_000, 2_000, 4_000];

/// Where traces go, by OTLP over HTTP with JSON (https://opentelemetry.io/docs/specs/otlp/#otlphttp).
#[derive(Debug, Clone)]
pub struct Export {
    /// The whole address, such as `http://127.0.0.1:4318/v1/traces`.
    pub url: String,
    /// Headers that each request has, such as a token.
    pub headers: Vec<(String, String)>,
    /// What is said of this engine as a whole, such as `service.name`.
    pub resource: Vec<(String, String)>,
}

/// The way into the exporter.
pub(super) struct Traces {
    queue: mpsc::Sender<RunId>,
    flush: mpsc::UnboundedSender<oneshot::Sender<()>>,
    counts: Arc<Counts>,
}

/// What became of traces.
#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    fn dropped(&self, runs: usize) {
        self.dropped.fetch_add(runs as u64, Ordering::Relaxed);
    }
}

/// What the exporter's thread has.
pub(super) struct Exporter {
    export: Export,
    http: reqwest::Client,
    queue: mpsc::Receiver<RunId>,
    flush: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    counts: Arc<Counts>,
}

impl Traces {
    /// The two ends of an export.
    ///
    /// # Errors
    /// A sentence, where no client can be made.
    pub(super) fn new(export: Export) -> Result<(Traces, Exporter), String> {
        // Somebody may have installed one before; both are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder().timeout(ANSWER).redirect(reqwest::redirect::Policy::none());
        let host = reqwest::Url::parse(&export.url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()) {
            // A proxy for the outside is not the way to this machine.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| error.to_string())?;
        let (queue, queued) = mpsc::channel(WAITING_MOST);
        let (flush, flushed) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::default());
        let exporter = Exporter { export, http, queue: queued, flush: flushed, counts: Arc::clone(&counts) };
        Ok((Traces { queue, flush, counts }, exporter))
    }

    /// A run has ended.
    pub(super) fn ended(&self, run: RunId) {
        if self.queue.try_send(run).is_err() {
            self.counts.dropped(1);
        }
    }

    /// Spans that a collector has taken, and runs that were dropped.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counts.exported.load(Ordering::Relaxed), self.counts.dropped.load(Ordering::Relaxed))
    }
}

impl Engine {
    /// Is done once everything that has ended was told to the collector, or dropped. The caller bounds the time.
    pub async fn flush_traces(&self) {
        let Some(traces) = &self.inner.traces else { return };
        let (reply, done) = oneshot::channel();
        // An exporter that is gone tells nothing more.
        if traces.flush.send(reply).is_ok() {
            let _ = done.await;
        }
    }
}

impl Exporter {
    /// Tells of runs until the engine is gone.
    pub(super) async fn run(mut self, inner: Arc<Inner>) {
        loop {
            let mut runs = Vec::new();
            let mut flushed = None;
            tokio::select! {
                run = self.queue.recv() => match run {
                    Some(run) => runs.push(run),
                    None => return,
                },
                reply = self.flush.recv() => match reply {
                    Some(reply) => flushed = Some(reply),
                    None => return,
                },
            }
            let mut lingered = inner.clock.sleep_until(inner.clock.now().after(LINGER), false);
            while flushed.is_none() && runs.len() < TOGETHER {
                tokio::select! {
                    run = self.queue.recv() => match run {
                        Some(run) => runs.push(run),
                        None => break,
                    },
                    reply = self.flush.recv() => flushed = reply,
                    () = &mut lingered => break,
                }
            }
            if flushed.is_some() {
                while let Ok(run) = self.queue.try_recv() {
                    runs.push(run);
                }
            }
            self.tell(&inner, &runs).await;
            if let Some(reply) = flushed {
                // Whoever gave up waiting needs no answer.
                let _ = reply.send(());
            }
        }
    }

    async fn tell(&self, inner: &Inner, runs: &[RunId]) {
        let (mut spans, mut told) = (Vec::new(), 0);
        for run in runs {
            // One at a time: many large ones would not fit into memory together, and of each only its spans are needed.
            match inner.store.load(&[*run]) {
                Ok(loaded) => {
                    let before = spans.len();
                    spans.extend(loaded.iter().flat_map(spans::of));
                    told += usize::from(spans.len() > before);
                }
                Err(error) => {
                    tracing::debug!(%error, "a run that has ended could not be read for its trace");
                    self.counts.dropped(1);
                }
            }
            if spans.len() >= SPANS_TOGETHER {
                self.send(inner, std::mem::take(&mut spans), std::mem::take(&mut told)).await;
            }
        }
        if !spans.is_empty() {
            self.send(inner, spans, told).await;
        }
    }

    /// Sends the spans of so many runs.
    async fn send(&self, inner: &Inner, spans: Vec<Value>, runs: usize) {
        let count = spans.len() as u64;
        // JSON of our own making is always text.
        let body = Bytes::from(serde_json::to_vec(&self.request(spans)).unwrap_or_default());
        for again in AGAIN_MS.iter().map(Some).chain([None]) {
            let why = match self.post(body.clone()).await {
                Ok(rejected) => {
                    self.counts.exported.fetch_add(count.saturating_sub(rejected), Ordering::Relaxed);
                    return;
                }
                Err(Refused { why, again: false }) => {
                    tracing::warn!("the collector refuses traces: {why}");
                    break;
                }
                Err(Refused { why, .. }) => why,
            };
            match again {
                Some(wait) => inner.clock.sleep_until(inner.clock.now().after(Span(*wait)), false).await,
                None => tracing::warn!("traces of {runs} runs are dropped: {why}"),
            }
        }
        self.counts.dropped(runs);
    }

    fn request(&self, spans: Vec<Value>) -> Value {
        let resource: Vec<Value> = self.export.resource.iter().map(|(key, value)| spans::text(key, value)).collect();
        let scope = json!({ "name": "stepwell", "version": env!("CARGO_PKG_VERSION") });
        json!({ "resourceSpans": [{ "resource": { "attributes": resource }, "scopeSpans": [{ "scope": scope, "spans": spans }] }] })
    }

    /// Sends a request once; how many of its spans the collector did not take.
    async fn post(&self, body: Bytes) -> Result<u64, Refused> {
        let mut request = self.http.post(&self.export.url).header("content-type", "application/json").body(body);
        for (name, value) in &self.export.headers {
            request = request.header(name, value);
        }
        // The address may carry what nobody should see.
        let answer = request.send().await.map_err(|error| Refused { why: error.without_url().to_string(), again: true })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(rejected(answer).await);
        }
        // Those that the protocol has tried again; of any other answer it says that it stays the same.
        Err(Refused { why: status.to_string(), again: matches!(status.as_u16(), 429 | 502 | 503 | 504) })
    }
}

/// How many spans an answer says were not taken for good; what cannot be read says nothing.
async fn rejected(mut answer: reqwest::Response) -> u64 {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        if body.len() + piece.len() > ANSWER_BYTES {
            return 0;
        }
        body.extend_from_slice(&piece);
    }
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let partial = &answer["partialSuccess"];
    let said = &partial["rejectedSpans"];
    // A large number is a text in this JSON.
    let count = said.as_u64().or_else(|| said.as_str()?.parse().ok()).unwrap_or(0);
    if count > 0 {
        let why: String = partial["errorMessage"].as_str().unwrap_or_default().chars().take(SAID_MOST).collect();
        tracing::warn!("the collector rejects {count} spans: {why}");
    }
    count
}

/// Why a collector did not take something, and whether it may take it later.
struct Refused {
    why: String,
    again: bool,
}
