//! The dashboard's pages as the program serves them: what each says, and what its forms do.

mod drawn;
mod looks;
mod sending;

use std::path::Path;

use crate::program::{Server, command, stepwell};

const CONFIG: &str = r#"version: 1
app: shop
secrets: [SHOP_TOKEN]
events:
  order/placed:
    schema:
      type: object
      required: [userId, amount]
      additionalProperties: false
      properties:
        userId: { type: string, description: Who has ordered. }
        amount: { type: integer, minimum: 1 }
        currency: { enum: [EUR, USD] }
        gift: { type: boolean }
        to: { type: object, required: [city], properties: { city: { type: string }, zip: { type: string } } }
        items: { type: array, items: { type: string } }
    example: { userId: u1, amount: 12, currency: EUR, items: [book] }
  order/paid: {}
  mail/asked: {}
functions:
  # Takes the money.
  charge:
    on: { event: order/placed, if: event.data.amount < 1000 }
    concurrency: { limit: 1, key: event.data.userId }
    throttle: { limit: 10, period: 1m, burst: 4 }
  hold: { on: mail/asked, concurrency: { limit: 1, key: event.data.to, hold: run }, rate_limit: { limit: 3, period: 1h } }
  digest: { on: order/paid, batch: { size: 5, timeout: 1h } }
  nightly: { cron: { schedule: "30 2 * * *", tz: Europe/Berlin }, handler: handlers/digest.rhai }
"#;

const CHARGE: &str = "log::info(`charging ${secret(\"SHOP_TOKEN\")} for ${event.data.userId}`);\nlet id = step(\"charge\", || \"c1\");\n\
    send_event(\"order/paid\", #{ id: id });\nid\n";

/// A shop with its engine.
struct Shop {
    folder: tempfile::TempDir,
    server: Server,
}

impl Shop {
    fn open() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("handlers")).unwrap();
        std::fs::write(folder.path().join("events.yaml"), CONFIG).unwrap();
        for (name, text) in [("charge", CHARGE), ("hold", "wait_for_signal(\"go\")\n"), ("digest", "events.len()\n")] {
            std::fs::write(folder.path().join(format!("handlers/{name}.rhai")), text).unwrap();
        }
        let mut program = command("stepwell", folder.path());
        program.args(["dev", "--no-watch"]).env("SHOP_TOKEN", "tk-very-secret-73");
        let server = Server::start(&mut program);
        Shop { folder, server }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A page: its status and its text.
    fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask(reqwest::Method::GET, path, &[]);
        (status, body)
    }

    /// A page that must be there.
    fn page(&self, path: &str) -> String {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The answer to a form: its status, where it leads, and its text.
    fn post(&self, path: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
        self.ask(reqwest::Method::POST, path, fields)
    }

    fn ask(&self, method: reqwest::Method, path: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // A second installation changes nothing.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
            let mut request = client.request(method.clone(), format!("{}{path}", self.server.url()));
            if method == reqwest::Method::POST {
                request = request.form(fields).header("origin", self.server.url());
            }
            let answer = request.send().await.unwrap();
            let leads = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default();
            (answer.status().as_u16(), leads, answer.text().await.unwrap())
        })
    }

    /// Runs a command against the engine; what it prints.
    fn run(&self, arguments: &[&str]) -> String {
        let url = self.server.url();
        let ended = stepwell(self.path(), arguments.iter().copied().chain(["--url", url.as_str()]));
        assert_eq!(ended.exit, 0, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout.trim().to_owned()
    }

    /// Sends an event, and gives its id.
    fn send(&self, name: &str, data: &str) -> String {
        self.run(&["send", name, "--data", data])
    }

    /// Sends an event, waits until its runs have ended, and gives nothing: they must have completed.
    fn send_and_wait(&self, name: &str, data: &str) {
        self.run(&["send", name, "--data", data, "--wait", "--json"]);
    }

    /// Waits until a page says something.
    fn until(&self, path: &str, text: &str) -> String {
        loop {
            let page = self.page(path);
            if page.contains(text) {
                return page;
            }
            std::thread::yield_now();
        }
    }
}
