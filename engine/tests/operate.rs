//! What those who run an engine look at, and what they are told to do: figures, logs, traces, the terminal view, the files of docs/.

mod beside;
mod doctor;
mod figures;
mod files;
mod logs;
mod scrape;
mod secrets;
mod sizing;
mod top;
mod traces;

use std::path::Path;

use serde_json::Value;

use super::program::{self, Server};

/// Waits until `found` gives something; the test's own time-out ends a wait for what never comes.
fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = found() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A folder with these files.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// Asks an engine; the status and the body.
fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let (status, _, body) = whole(server, method, path, headers, body);
    (status, body)
}

/// The same with the head of the answer, as it came.
fn whole(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n{headers}", server.port);
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    (status, head.to_owned(), if is_chunked { unchunked(body) } else { body.to_owned() })
}

fn unchunked(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    whole
}

/// Sends one event; its id.
fn send(server: &Server, name: &str, data: Value) -> String {
    let body = serde_json::json!({ "name": name, "data": data }).to_string();
    let (status, answer) = ask(server, "POST", "/e/key", &[("content-type", "application/json")], &body);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["ids"][0].as_str().unwrap().to_owned()
}

/// What a GET answers, as JSON.
fn get(server: &Server, path: &str) -> Value {
    let (status, answer) = ask(server, "GET", path, &[], "");
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

/// The run of an event, once it is in a state.
fn run_in(server: &Server, event: &str, state: &str) -> Value {
    until(|| {
        let runs = get(server, &format!("/v1/events/{event}/runs"));
        runs["data"].as_array().unwrap().iter().find(|run| run["state"] == state).cloned()
    })
}

/// `stepwell run` in a folder.
fn serve(folder: &Path) -> Server {
    Server::start(program::command("stepwell", folder).arg("run"))
}
