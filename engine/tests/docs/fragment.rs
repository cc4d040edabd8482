//! Scripts and pieces of config that stand alone on a page: each is made into a whole project and tried.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::page::Block;
use crate::program;

/// The event that starts a page's scripts, and what they may use.
const PROJECT: &str = r#"
env:
  API_BASE: "http://127.0.0.1:1"
secrets: [API_KEY]
http: { allow: ["127.0.0.0/8"] }
databases: { crm: { url: "sqlite:data/crm.db" } }
email: { smtp: "smtp://MAIL", from: shop@example.com }
exec: { allow: [tr] }
events:
  order/placed:
    schema:
      type: object
      required: [userId, amount, items]
      properties:
        userId: { type: string }
        amount: { type: integer }
        items: { type: array, items: { type: string } }
    example: { userId: user123, amount: 1200, items: [tea, cup] }
  payment/received: {}
  order/cancelled: {}
  mail/wanted: {}
functions:
  fragment: { on: order/placed }
  price: { on: order/placed }
"#;

/// Declarations that the pieces of config on the pages refer to.
const EVENTS: &str = r#"
events:
  payment/initiate: { example: { userId: user123, amount: 1200, paymentId: p1, plan: pro } }
  payment/expired: {}
"#;
const FUNCTIONS: &str = "functions:\n  charge: { on: payment/initiate }\n";
const HANDLERS: &[&str] = &["charge", "refund", "notify"];

/// Runs each script as a handler: it completes, unless it is wrong on purpose.
pub fn run_scripts(fragments: &[Block]) {
    let (server, mail) = (echo_server(), mail_server());
    hold(fragments, |block, folder| {
        write(folder, "events.yaml", &PROJECT.replace("MAIL", &mail));
        write(folder, "handlers/fragment.rhai", &block.text);
        write(folder, "handlers/price.rhai", "event.data.amount\n");
        write(folder, "handlers/lib/fees.rhai", "fn fee(amount) { amount * 2 / 100 }\n");
        let mut run = program::command("stepwell", folder);
        run.args(["try", "order/placed", "--example", "--fast-forward"]).env("API_BASE", &server).env("API_KEY", "a-key-of-the-test");
        run
    });
}

/// Validates each piece of config, completed to a whole: without a warning, unless it is wrong on purpose.
pub fn validate_configs(fragments: &[Block]) {
    hold(fragments, |block, folder| {
        let has = |section: &str| block.text.lines().any(|line| line.starts_with(section));
        let events = if has("events:") { "" } else { EVENTS };
        let functions = if has("functions:") { "" } else { FUNCTIONS };
        write(folder, "events.yaml", &format!("{}\n{events}{functions}", block.text));
        for handler in HANDLERS {
            write(folder, &format!("handlers/{handler}.rhai"), "event.data\n");
        }
        write(folder, "schemas/payment-initiate.json", "{ \"type\": \"object\" }\n");
        let mut validate = program::command("stepwell", folder);
        validate.args(["validate", "--deny-warnings"]);
        validate
    });
}

/// Runs a command for each block in a folder of its own, and tells of all blocks that are not what they should be.
fn hold(fragments: &[Block], prepare: impl Fn(&Block, &Path) -> Command) {
    assert!(!fragments.is_empty());
    let mut broken = Vec::new();
    for block in fragments {
        let folder = tempfile::tempdir().unwrap();
        let output = prepare(block, folder.path()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // A script may say on its last line what it gives.
        let gives = block.text.lines().last().and_then(|line| line.strip_prefix("// gives "));
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        let is_given = gives.is_none_or(|gives| {
            json(gives).is_some() && json(gives) == json(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default())
        });
        let holds = match block.wrong() {
            None => output.status.success() && is_given,
            Some(expected) => !output.status.success() && said.contains(expected),
        };
        if !holds {
            broken.push(format!("{}, {}:\n{}\n{said}", block.at, block.wrong().unwrap_or("sound"), block.text));
        }
    }
    assert!(broken.is_empty(), "not what the pages say:\n{}", broken.join("\n----\n"));
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A mail server that takes everything. It lives as long as the test.
pub fn mail_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let _ = stream.write_all(b"220 test\r\n");
            let mut in_mail = false;
            while let Some(Ok(line)) = lines.next() {
                let answer: &[u8] = match line.as_str() {
                    "." if in_mail => b"250 taken\r\n",
                    _ if in_mail => continue,
                    "DATA" => b"354 go on\r\n",
                    _ => b"250 ok\r\n",
                };
                in_mail = line == "DATA";
                let _ = stream.write_all(answer);
            }
        }
    });
    address.to_string()
}

/// A server that answers each request with what it was: method, path and whether it had an idempotency key. A path that
/// is a number is the status that is wanted. It lives as long as the test.
fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                request.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&request).into_owned();
            let headers: BTreeMap<String, &str> =
                head.lines().filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value)).collect();
            let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            let _ = stream.read_exact(&mut body);
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let status = path.rsplit('/').next().and_then(|last| last.parse::<u16>().ok()).unwrap_or(200);
            let key = headers.contains_key("idempotency-key");
            let answer = format!(r#"{{"id":"ch_1","method":"{method}","path":"{path}","has_key":{key}}}"#);
            let _ = write!(
                stream,
                "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    format!("http://{address}")
}
