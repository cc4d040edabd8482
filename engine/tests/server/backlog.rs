//! Events while the disk is slow or full.

use futures_util::future::join_all;
use serde_json::json;
use stepwell::base::limits::WAITING_EVENT_BYTES;
use stepwell::exec::NewEvent;
use stepwell::rules::RunState;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn too_much_that_waits_for_the_disk_is_429_and_loses_nothing() {
    let disk = Disk::new(Ingest::Held(Vec::new()));
    let server = Server::on(Arc::clone(&disk) as _, |options| {
        options.any_key = true;
        // Two events fit with their bodies, three do not.
        options.waiting_bytes = 3 * WAITING_EVENT_BYTES - 1;
    })
    .await;
    let mut notices = server.engine.subscribe();
    let event = |n: usize| json!({"name": "app/ping", "data": {"n": n}});
    let answered = std::cell::Cell::new(0);
    let sent = async |n: usize| {
        let ids = server.sent(event(n)).await;
        answered.set(answered.get() + 1);
        ids
    };
    let filling = async { tokio::join!(sent(1), sent(2)) };
    let overflowing = async {
        disk.until_hindered(2).await;
        for _ in 0..3 {
            let refused = server.send(event(3)).await;
            assert!(refused.is_error(429).contains("nothing was stored"), "{}", refused.text);
            assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
        }
        assert_eq!(server.get("/v1/events").await.ids(), Vec::<&str>::new());
        assert_eq!(answered.get(), 0, "nobody is told before the commit");
        disk.open();
    };
    let ((first, second), ()) = tokio::join!(filling, overflowing);
    // It works the moment that what waited is there, and only what was answered with 200 is stored.
    let third = server.sent(event(3)).await;
    let ids = [first, second, third].concat();
    let mut stored: Vec<String> = server.get("/v1/events").await.ids().into_iter().map(str::to_owned).collect();
    stored.sort();
    let mut sorted = ids.clone();
    sorted.sort();
    assert_eq!(stored, sorted);
    for (n, id) in (1..).zip(&ids) {
        assert_eq!(server.get(&format!("/v1/events/{id}")).await.body["data"]["data"]["n"], n);
        let run = server.get(&format!("/v1/events/{id}/runs")).await.body["data"][0].clone();
        if run["state"] != "completed" {
            until(&mut notices, run["run_id"].as_str().unwrap().parse().unwrap(), RunState::Completed).await;
        }
    }
}

/// Were they all in one commit, the server would have nothing to do while that is flushed.
#[tokio::test]
async fn many_requests_at_once_go_to_the_disk_in_parts() {
    const REQUESTS: usize = 40;
    let disk = Disk::new(Ingest::Held(Vec::new()));
    let server = Server::on(Arc::clone(&disk) as _, |_| {}).await;
    // It starts no run, so it is one row.
    let event =
        || NewEvent { name: "app/nap".into(), data: r#"{"skip":true}"#.into(), sender_id: None, dedupe: None, ts: None, extra: None };
    let accepting = join_all((0..REQUESTS).map(|_| server.engine.accept(vec![event()])));
    let looking = async {
        disk.until_hindered(REQUESTS).await;
        let commits: Vec<usize> = match &*disk.ingest.lock().unwrap() {
            Ingest::Held(commits) => commits.iter().map(|(lists, _)| lists.len()).collect(),
            _ => Vec::new(),
        };
        disk.open();
        commits
    };
    let (accepted, commits) = tokio::join!(accepting, looking);
    assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
    assert!(commits.len() > 1, "{commits:?}");
}

#[tokio::test]
async fn a_large_request_is_taken_while_nothing_waits() {
    let server = Server::with(|options| {
        options.any_key = true;
        options.waiting_bytes = 1;
    })
    .await;
    assert_eq!(server.sent((0..50).map(|n| json!({"name": "app/ping", "data": {"n": n}})).collect()).await.len(), 50);
    assert_eq!(server.sent(json!({"name": "app/ping"})).await.len(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_no_run_with_it() {
    let disk = Disk::new(Ingest::Held(Vec::new()));
    let server = Server::on(Arc::clone(&disk) as _, |options| {
        options.any_key = true;
        options.connections = 1;
    })
    .await;
    let mut notices = server.engine.subscribe();
    let body = r#"{"name":"app/ping"}"#;
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let request = format!("POST /e/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    connection.write_all(request.as_bytes()).await.unwrap();
    disk.until_hindered(1).await;
    drop(connection);
    // There is room for one connection, so this answer says that the first one has been given up.
    assert_eq!(server.get("/health").await.status, 200);
    disk.open();
    loop {
        if let Notice::Run { state: RunState::Completed, .. } = notices.recv().await.unwrap() {
            break;
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_507_and_shows_in_health() {
    let disk = Disk::new(Ingest::Full(0));
    let server = Server::on(Arc::clone(&disk) as _, |options| options.any_key = true).await;
    server.send(json!({"name": "app/ping"})).await.is_error(507);
    let health = server.get("/health").await;
    assert!(health.body["reasons"][0].as_str().unwrap().contains("disk is full"), "{}", health.text);
    assert_eq!(server.get("/v1/events").await.ids(), Vec::<&str>::new());
    disk.open();
    server.sent(json!({"name": "app/ping"})).await;
    assert_eq!(server.get("/health").await.body["message"], "OK");
}

#[tokio::test]
async fn a_request_of_which_something_is_stored_is_not_507() {
    let disk = Disk::new(Ingest::Open);
    let server = Server::on(Arc::clone(&disk) as _, |options| options.any_key = true).await;
    let once = json!({"name": "app/once", "data": {"key": "k"}});
    server.sent(once.clone()).await;
    // The first event is stored; the second one's key is taken, so it is decided anew, and meets the full disk then.
    *disk.ingest.lock().unwrap() = Ingest::Full(1);
    let sending = server.sent(json!([{"name": "app/ping"}, once]));
    let (ids, ()) = tokio::join!(sending, async {
        disk.until_hindered(1).await;
        disk.open();
    });
    assert_eq!(ids.len(), 2);
    assert_eq!(server.get("/v1/events").await.ids().len(), 3);
}
