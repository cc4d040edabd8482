//! `http::*` against a server of the test's own, and the address guard.

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};

use stepwell::rules::row::AskedBy;

use super::*;

/// A server that answers each request by a function of its number and text, and remembers the requests.
pub struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn new(answer: impl Fn(usize, &str) -> String + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read(&mut stream);
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request.clone());
                    seen.len()
                };
                // A client that has gone away is part of some tests.
                let _ = stream.write_all(answer(number, &request).as_bytes());
            }
        });
        Server { port, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// A bench for a script in which `URL` stands for the server.
    pub fn bench(&self, script: &str) -> Bench {
        let mut bench = Bench::new(&script.replace("URL", &format!("http://127.0.0.1:{}", self.port)));
        bench.surroundings.http.private_allowed = true;
        bench.outside = true;
        bench
    }
}

fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return text,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

pub fn ok(body: &str) -> String {
    answer("200 OK", "content-type: application/json\r\n", body)
}

#[test]
fn a_request_sends_what_its_options_say_and_gives_a_map() {
    let server = Server::new(|_, _| answer("201 Created", "content-type: application/json\r\nx-a: 1\r\nx-a: 2\r\n", r#"{"id":7}"#));
    let mut bench = server.bench(
        r#"step("pay", || {
            let res = http::post("URL/charges?x=1", #{
                json: #{ amount: 5, note: "é" }, query: #{ q: "a b", n: [1, 2] }, headers: #{ "x-key": secret("KEY"), "x-n": 5 }, auth: secret("KEY"),
            });
            [res.status, res.ok, res.json.id, res.headers["x-a"], res.text, type_of(res.ms)]
        })"#,
    );
    bench = bench.secret("KEY", "sk_live_1234567890");
    let end = bench.finish();
    assert_eq!(end.output(), r#"[201,true,7,"1, 2","{\"id\":7}","i64"]"#);
    let request = &server.requests()[0];
    let lower = request.to_lowercase();
    assert!(request.starts_with("POST /charges?x=1&n=1&n=2&q=a+b HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"amount\":5,\"note\":\"é\"}"), "{request}");
    for header in [
        "content-type: application/json",
        "authorization: bearer sk_live_1234567890",
        "x-key: sk_live_1234567890",
        "x-n: 5",
        &format!("idempotency-key: {}.pay", end.row.id),
    ] {
        assert!(lower.contains(&format!("\r\n{header}\r\n")), "{header}: {request}");
    }
}

#[test]
fn forms_texts_and_basic_credentials() {
    let server = Server::new(|_, _| ok("{}"));
    let mut bench = server.bench(
        r#"step("a", || { http::put("URL/f", #{ form: #{ a: "1 2", b: "é" }, basic: ["user", "pass"], idempotency_key: false }).status });
        step("b", || { http::patch("URL/t", #{ body: "plain", idempotency_key: "mine" }).status });
        step("d", || { http::post("URL/b", #{ body: hex::decode_bytes("6162"), idempotency_key: false }).status });
        step("c", || [http::get("URL/g").status, http::head("URL/h").text, http::delete("URL/d").status])"#,
    );
    assert_eq!(bench.finish().output(), r#"[200,"",200]"#);
    let requests = server.requests();
    assert!(requests[0].ends_with("\r\n\r\na=1+2&b=%C3%A9") && requests[0].contains("Basic dXNlcjpwYXNz"), "{}", requests[0]);
    assert!(!requests[0].contains("idempotency-key") && requests[1].contains("idempotency-key: mine"), "{requests:?}");
    assert!(requests[2].contains("application/octet-stream") && requests[2].ends_with("\r\n\r\nab"), "{requests:?}");
    assert!(!requests[3].contains("idempotency-key") && requests[5].contains("idempotency-key: "), "{requests:?}");
}

#[test]
fn the_idempotency_key_stays_in_each_attempt_and_counts_the_requests() {
    let server = Server::new(|number, _| if number == 2 { answer("503 Busy", "", "") } else { ok("{}") });
    let mut bench = server.bench(r#"step("x", || { http::post("URL/1"); http::post("URL/2"); 1 })"#);
    let end = bench.finish();
    let keys: Vec<String> = server
        .requests()
        .iter()
        .map(|request| request.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap().to_owned())
        .collect();
    let id = end.row.id;
    assert_eq!(keys, [format!("{id}.x"), format!("{id}.x.2"), format!("{id}.x"), format!("{id}.x.2")]);
}

#[test]
fn busy_servers_are_asked_again_when_they_say_and_other_refusals_are_final() {
    let server = Server::new(|number, _| match number {
        1 => answer("429 Too Many Requests", "retry-after: 90\r\n", "slow down"),
        2 => answer("500 Oops", "", ""),
        3 => answer("503 Busy", "retry-after: Thu, 01 Jan 2026 00:05:00 GMT\r\n", ""),
        _ => ok("{}"),
    });
    let mut bench = server.bench(r#"step("x", || http::get("URL/").status)"#);
    let end = bench.finish();
    assert_eq!(end.output(), "200");
    let next: Vec<i64> = end.journal.attempts.iter().map(|row| row.next.unwrap().0 - START).collect();
    assert_eq!(next, [90_000, 100_000, 300_000]);
    let asked: Vec<_> = end.journal.attempts.iter().map(|row| row.error.asked).collect();
    assert_eq!(asked, [Some(AskedBy::Server), None, Some(AskedBy::Server)]);
    assert_eq!(end.journal.attempts[0].error.code, "E0419");

    let server = Server::new(|_, _| answer("402 Payment Required", "", r#"{"why":"declined"}"#));
    let mut bench = server.bench(r#"step("x", || http::get("URL/pay").status)"#);
    let end = bench.finish();
    assert_eq!((end.code(), end.journal.attempts.len()), ("E0419", 1));
    assert!(end.message().ends_with("/pay: 402 Payment Required"), "{}", end.message());
    assert_eq!(end.row.error.as_ref().unwrap().data.as_ref().unwrap()["text"], r#"{"why":"declined"}"#);
    let mut bench = server.bench(r#"step("x", || http::get("URL/pay", #{ allow_status: [402] }).json.why)"#);
    assert_eq!(bench.finish().output(), "\"declined\"");
    let mut bench = server
        .bench(r#"let seen = (); try { step("x", || http::get("URL/pay").status); } catch (e) { seen = [e.step, e.data.status]; } seen"#);
    assert_eq!(bench.finish().output(), r#"["x",402]"#);
    let mut bench = server.bench(r#"step("x", || { let s = 0; try { http::get("URL/pay"); } catch (e) { s = e.data.status; } s })"#);
    assert_eq!(bench.finish().output(), "402");
}

#[test]
fn redirects_are_followed_unless_told_not_to() {
    let server = Server::new(|_, request| match request.split(' ').nth(1) {
        Some("/a") => answer("302 Found", "location: /b\r\n", ""),
        Some("/b") => ok("{\"at\":\"b\"}"),
        _ => answer("302 Found", "location: /round\r\n", ""),
    });
    let mut bench = server.bench(r#"step("x", || [http::get("URL/a").json.at, http::get("URL/a", #{ follow: false }).status])"#);
    assert_eq!(bench.finish().output(), r#"["b",302]"#);
    let end = server.bench(r#"step("x", || http::get("URL/round").status)"#).finish();
    assert!(end.message().contains("more than 10 redirects"), "{}", end.message());
}

#[test]
fn a_connection_is_kept_for_the_next_call_and_opened_anew_where_the_server_has_closed_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kept = format!("http://{}", listener.local_addr().unwrap());
    let (closed, is_closed) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            // Two requests are answered by the number of their connection, and then it is closed without a word.
            for _ in 0..2 {
                read(&mut stream);
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}").as_bytes());
            }
            drop(stream);
            let _ = closed.send(());
        }
    });
    let is_closed = Mutex::new(is_closed);
    let other = Server::new(move |_, _| {
        let _ = is_closed.lock().unwrap().recv();
        ok("{}")
    });
    let script = r#"step("x", || {
        let said = [http::get("KEPT/").text, http::get("KEPT/").text];
        http::get("URL/until-it-is-closed");
        said.push(http::get("KEPT/").text);
        said
    })"#;
    let end = other.bench(&script.replace("KEPT", &kept)).attempts(1).finish();
    assert_eq!(end.output(), r#"["0","0","1"]"#);
}

#[test]
fn a_server_that_is_silent_or_breaks_off_fails_the_attempt() {
    let (answer_it, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let server = Server::new(move |_, _| {
        let _ = wait.lock().unwrap().recv();
        String::new()
    });
    let mut bench = server.bench(r#"step("x", || http::get("URL/", #{ timeout: "5s" }).status)"#).attempts(1);
    bench.outside = false;
    let end = bench.finish();
    assert_eq!(end.code(), "E0418");
    assert!(end.message().ends_with("no answer within 5s"), "{}", end.message());
    let mut bench = server.bench(r#"step("x", #{ timeout: "3s" }, || http::get("URL/").status)"#).attempts(1);
    bench.outside = false;
    assert_eq!(bench.finish().code(), "E0414");
    drop(answer_it);

    let server = Server::new(|_, _| "HTTP/1.1 200 OK\r\ncontent-length: 500\r\nconnection: close\r\n\r\nshort".to_owned());
    let end = server.bench(r#"step("x", || http::get("URL/").status)"#).attempts(1).finish();
    assert_eq!(end.code(), "E0418");
    let server = Server::new(|_, _| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", 1_u64 << 40));
    let end = server.bench(r#"step("x", || http::get("URL/").status)"#).attempts(1).finish();
    assert_eq!(end.code(), "E0421");
}

#[test]
fn bodies_have_a_cap_in_both_directions() {
    // An answer that says nothing of its length is given up where it becomes too large.
    let server = Server::new(|_, _| format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(16 * 1024 * 1024 + 1)));
    let end = server.bench(r#"step("x", || http::get("URL/").status)"#).finish();
    assert_eq!((end.code(), end.journal.attempts.len()), ("E0421", 1));
    // 2^24 letters are as many as may be sent, in whatever form.
    let server = Server::new(|_, _| ok("{}"));
    let large = |options: &str| {
        let script =
            format!(r#"step("x", || {{ let t = "x"; for n in 0..24 {{ t += t; }} t += "x"; http::post("URL/", {options}).status }})"#);
        server.bench(&script).attempts(1).finish()
    };
    for options in ["#{ body: t }", "#{ json: t }"] {
        let end = large(options);
        assert_eq!(end.journal.attempts.len(), 1, "{options}: {}", end.message());
        assert!(!end.code().is_empty() && end.message().contains("16"), "{options}: {} {}", end.code(), end.message());
    }
    assert!(server.requests().is_empty());
}

#[test]
fn private_addresses_are_refused_unless_listed_also_behind_a_name_and_a_redirect() {
    let server = Server::new(|_, request| match request.split(' ').nth(1) {
        Some("/away") => answer("302 Found", "location: http://169.254.169.254/latest/meta-data\r\n", ""),
        _ => ok("{}"),
    });
    let run = |script: &str, allow: &str| {
        let mut bench = server.bench(script).attempts(1);
        bench.surroundings.http.private_allowed = false;
        bench.surroundings.http.allow = if allow.is_empty() { vec![] } else { vec![allow.parse().unwrap()] };
        bench.finish()
    };
    let get = r#"step("x", || http::get("URL/").status)"#;
    let end = run(get, "");
    assert_eq!(end.code(), "E0420");
    assert!(end.row.error.as_ref().unwrap().help.as_ref().unwrap().contains(r#"allow: ["127.0.0.1"]"#));
    assert_eq!(run(get, "127.0.0.0/8").output(), "200");
    let named = format!(r#"step("x", || http::get("http://localhost:{}/").status)"#, server.port);
    assert_eq!(run(&named, "").code(), "E0420");
    assert_eq!(run(r#"step("x", || http::get("URL/away").status)"#, "127.0.0.0/8").code(), "E0420");
    assert!(server.requests().iter().all(|request| request.contains("host: 127.0.0.1")));
}

#[test]
fn bad_options_are_told_before_anything_is_sent() {
    let server = Server::new(|_, _| ok("{}"));
    for (options, word) in [
        ("{ let o = #{ jsn: 1 }; o }", "did you mean `json`?"),
        ("#{ json: 1, body: \"x\" }", "one body"),
        ("#{ headers: #{ \"bad name\": 1 } }", "not the name of a header"),
        ("#{ headers: #{ \"x-a\": \"1\\r\\nx-b: 2\" } }", "line break"),
        ("#{ headers: #{ host: \"evil\" } }", "follows from the request"),
        ("#{ json: || 1 }", "a closure"),
        ("#{ json: secret(\"KEY\") }", "secret KEY"),
        ("#{ query: #{ k: secret(\"KEY\") } }", "secret does not belong"),
        ("{ let o = #{ timeout: \"soon\" }; o }", "not a duration"),
        ("#{ basic: \"user\" }", "[user, password]"),
        ("#{ follow: 1 }", "true or false"),
    ] {
        let script = format!("step(\"x\", || http::post(\"URL/\", {options}).status)");
        let end = server.bench(&script).secret("KEY", "sk_live_1234567890").finish();
        let error = end.row.error.as_ref().unwrap();
        let told = format!("{} | {}", error.message, error.help.as_deref().unwrap_or_default());
        assert!(told.contains(word), "{options}: {told}");
        assert_eq!(end.journal.attempts.len(), 1, "{options}");
    }
    for url in ["nowhere", "ftp://example.com/", "http://", "file:///etc/passwd"] {
        let end = Bench::new(&format!("step(\"x\", || http::get(\"{url}\").status)")).finish();
        assert_eq!(end.code(), "E0407", "{url}: {}", end.message());
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_call_is_noted_as_no_script_can_note_one_and_shows_little() {
    let server = Server::new(|_, _| {
        let many: String = (0..60).map(|number| format!("x-{number}: 1\r\n")).collect();
        answer("302 Found", &format!("location: /b?token=sesame\r\nserver: {}\r\n{many}", "s".repeat(1_000)), "")
    });
    let script = r#"step("x", || {
        log::debug("mine", #{ http: #{ method: "GET", url: "https://example.com/", ms: 1 } });
        http::get("URL/a?key=sesame", #{ follow: false }).status
    })"#;
    let end = server.bench(script).finish();
    assert_eq!(end.output(), "302");
    let [mine, noted] = end.logs.as_slice() else { panic!("{:#?}", end.logs) };
    assert!(!mine.is_call() && noted.is_call(), "{:#?}", end.logs);
    assert!(noted.message.contains("/a → 302 in "), "{}", noted.message);
    let data = noted.data.as_deref().unwrap();
    assert!(!data.contains("sesame"), "{data}");
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let headers = data["http"]["answer_headers"].as_object().unwrap();
    assert!(headers.len() <= 40, "{headers:#?}");
    assert!(headers.values().all(|value| value.as_str().unwrap().chars().count() <= 200), "{headers:#?}");
}

#[test]
fn lines_and_calls_take_no_room_of_each_other() {
    let server = Server::new(|_, _| ok("{}"));
    let script = r#"step("x", || {
        let t = "x";
        for n in 0..16 { t += t; }
        for n in 0..20 { log::info(t); }
        http::get("URL/").status
    })"#;
    let end = server.bench(script).finish();
    assert_eq!(end.output(), "200");
    assert!(end.log().iter().any(|line| line.starts_with("more lines follow here")), "{}", end.logs.len());
    assert_eq!(end.logs.iter().filter(|line| line.is_call()).count(), 1);
}
