//! The stream of notices.

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use stepwell::rules::RunState;
use stepwell::server::view::NoticeView;

use super::*;

/// A client of the stream.
struct Stream {
    response: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: String,
}

impl Stream {
    async fn open(server: &Server, query: &str) -> Stream {
        let response = server.request(Method::GET, &format!("/v1/stream{query}")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream { response: Box::pin(response.bytes_stream()), buffer: String::new() }
    }

    /// The next notice; none at the end.
    async fn next(&mut self) -> Option<NoticeView> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let data = block.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                let kind = block.lines().find_map(|line| line.strip_prefix("event: ")).map(str::to_owned);
                self.buffer = rest.to_owned();
                if let Some(data) = data {
                    let notice: NoticeView = serde_json::from_str(&data).unwrap();
                    assert_eq!(kind.as_deref(), Some(notice.kind()));
                    return Some(notice);
                }
            }
            let chunk = self.response.next().await?.ok()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn a_stream_tells_a_runs_life_in_order() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server, "").await;
    server.sent(json!({"name": "app/ping"})).await;
    let mut told = Vec::new();
    loop {
        let notice = stream.next().await.unwrap();
        told.push(match &notice {
            NoticeView::Run { state, .. } => state.word().to_owned(),
            NoticeView::Log { message, step, .. } => format!("{step}: {message}"),
            NoticeView::StepBegun { key, .. } => format!("begun {key}"),
            NoticeView::Recorded { key, .. } => format!("recorded {key}"),
            other => panic!("{other:?}"),
        });
        if matches!(notice, NoticeView::Run { state: RunState::Completed, .. }) {
            break;
        }
    }
    let at = |what: &str| told.iter().position(|one| one == what).unwrap_or_else(|| panic!("no `{what}` in {told:?}"));
    let order = ["queued", "running", "begun one", "one: hello", "recorded one", "completed"].map(at);
    assert!(order.is_sorted(), "{told:?}");
}

#[tokio::test]
async fn a_stream_of_one_run_tells_of_no_other() {
    let server = Server::start().await;
    let asleep = server.run_in(RunState::Sleeping, json!({"name": "app/nap"})).await;
    let mut stream = Stream::open(&server, &format!("?run={asleep}")).await;
    server.run_in(RunState::Completed, json!({"name": "app/ping"})).await;
    Answer::of(server.request(Method::DELETE, &format!("/v1/runs/{asleep}"))).await;
    match stream.next().await.unwrap() {
        NoticeView::Run { run, state, .. } => assert_eq!((run.to_string(), state), (asleep, RunState::Cancelled)),
        other => panic!("{other:?}"),
    }
    server.get("/v1/stream?run=x").await.is_error(400);
}

#[tokio::test]
async fn a_stop_ends_the_streams() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server, "").await;
    server.stop().await;
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn streams_are_counted() {
    let server = Server::with(|options| {
        options.any_key = true;
        options.streams = 1;
    })
    .await;
    let _first = Stream::open(&server, "").await;
    let refused = server.get("/v1/stream").await;
    refused.is_error(429);
    assert!(refused.header("retry-after").is_some());
}
