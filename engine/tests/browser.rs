//! The dashboard in a real browser: Chromium, which `scripts/test` installs, driven through its own driver.

mod commands;
mod keyboard;
mod live;
mod look;
mod measured;
mod pages;
mod scenes;
mod sending;
pub mod shop;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use thirtyfour::prelude::*;

use shop::Shop;

/// How long a test waits for something that should come at once, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What kind of browser a test looks through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A wide screen, with light colours.
    Wide,
    /// A wide screen, with dark colours.
    Dark,
    /// A telephone, 375 pixels wide.
    Narrow,
}

/// A driver of the test's own, on a free port; it ends with the test, and the browsers that it has started with it.
struct Driver {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // They may have ended by themselves.
        let _ = rustix::process::kill_process_group(rustix::process::Pid::from_child(&self.process), rustix::process::Signal::KILL);
        let _ = self.process.wait();
    }
}

/// A program by a variable, or where it usually is.
fn program(variable: &str, names: &[&str]) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {} in PATH: scripts/test installs chromium and chromium-driver; or set {variable}", names[0]))
}

impl Driver {
    fn start() -> Driver {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("CHROMEDRIVER", &["chromedriver"]));
        // What the browser keeps goes with the folder.
        command.arg("--port=0").env("HOME", folder.path()).env("TMPDIR", folder.path()).process_group(0);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = "ChromeDriver was started successfully on port ";
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix(said)?.trim_end_matches('.').parse().ok());
        // The pipe is read on, so that the driver never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Driver { process, port: port.expect("the driver says its port"), _folder: folder }
    }
}

/// A browser that looks at a dashboard.
struct Browser {
    driver: WebDriver,
    base: String,
    _process: Driver,
}

impl Browser {
    async fn open(kind: Kind, base: &str) -> Browser {
        // Somebody may have installed one before; both are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let process = Driver::start();
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(program("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]).to_str().unwrap()).unwrap();
        let mut arguments =
            vec!["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1280,960"];
        if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            arguments.push("--no-sandbox");
        }
        if kind == Kind::Dark {
            arguments.push("--blink-settings=preferredColorScheme=0");
        }
        for argument in arguments {
            wanted.add_arg(argument).unwrap();
        }
        if kind == Kind::Narrow {
            let screen = json!({ "deviceMetrics": { "width": 375, "height": 812, "pixelRatio": 2.0, "mobile": true } });
            wanted.add_experimental_option("mobileEmulation", screen).unwrap();
        }
        wanted.set_browser_log_level(thirtyfour::LoggingPrefsLogLevel::All).unwrap();
        let driver = WebDriver::new(format!("http://127.0.0.1:{}", process.port), wanted).await.expect("a browser starts");
        Browser { driver, base: base.to_owned(), _process: process }
    }

    async fn go(&self, path: &str) {
        self.driver.goto(format!("{}{path}", self.base)).await.unwrap();
    }

    /// The same by another name of the engine's, under which the browser has nothing of it yet: those of `.localhost` lead to this machine.
    async fn go_as(&self, host: &str, path: &str) {
        let port = self.base.rsplit(':').next().unwrap();
        self.driver.goto(format!("http://{host}.localhost:{port}{path}")).await.unwrap();
    }

    /// Runs a script; what it returns.
    async fn run(&self, script: &str, arguments: &[&str]) -> Value {
        let arguments: Vec<Value> = arguments.iter().map(|argument| json!(argument)).collect();
        self.driver.execute(script, arguments).await.unwrap_or_else(|error| panic!("{error} in {script}")).json().clone()
    }

    /// Waits until a script gives true.
    #[track_caller]
    fn until_true<'a>(&'a self, script: &'a str, arguments: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        let place = std::panic::Location::caller();
        async move {
            // A page that is on its way to another one cannot be asked.
            let ask = async || {
                let arguments: Vec<Value> = arguments.iter().map(|argument| json!(argument)).collect();
                self.driver.execute(script, arguments).await.is_ok_and(|found| found.json() == &json!(true))
            };
            let waiting = async { while !ask().await {} };
            if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
                panic!("{place}: {arguments:?} did not come to be at {}:\n{}", self.url().await, self.text("body").await);
            }
        }
    }

    /// Waits until there is what a selector means.
    #[track_caller]
    fn find<'a>(&'a self, selector: &'a [&'a str; 1]) -> impl Future<Output = WebElement> + 'a {
        let waiting = self.until_true("return document.querySelector(arguments[0]) !== null", selector);
        async move {
            waiting.await;
            self.driver.find(By::Css(selector[0])).await.unwrap()
        }
    }

    #[track_caller]
    fn click<'a>(&'a self, selector: &'a [&'a str; 1]) -> impl Future<Output = ()> + 'a {
        let waiting = self.find(selector);
        let place = std::panic::Location::caller();
        async move {
            waiting.await;
            // A live part may be a new one by the time that it is pressed.
            let pressing = async { while !self.pressed(By::Css(selector[0])).await {} };
            assert!(tokio::time::timeout(PATIENCE, pressing).await.is_ok(), "{place}: {} cannot be pressed", selector[0]);
        }
    }

    /// Whether something was there to press, and was pressed.
    async fn pressed(&self, by: By) -> bool {
        match self.driver.find(by).await {
            Ok(element) => element.click().await.is_ok(),
            Err(_) => false,
        }
    }

    /// Presses what a selector means and says this.
    #[track_caller]
    fn press<'a>(&'a self, words: &'a [&'a str; 2]) -> impl Future<Output = ()> + 'a {
        const FIND: &str = "return Array.from(document.querySelectorAll(arguments[0])).find(e => e.textContent.trim() === arguments[1])";
        let there = self.until_true(
            "return Array.from(document.querySelectorAll(arguments[0])).some(e => e.textContent.trim() === arguments[1] && e.getClientRects().length > 0)",
            words,
        );
        let place = std::panic::Location::caller();
        async move {
            there.await;
            let press = async || match self.driver.execute(FIND, vec![json!(words[0]), json!(words[1])]).await {
                Ok(found) if !found.json().is_null() => found.element().unwrap().click().await.is_ok(),
                _ => false,
            };
            let pressing = async { while !press().await {} };
            assert!(tokio::time::timeout(PATIENCE, pressing).await.is_ok(), "{place}: {words:?} cannot be pressed");
        }
    }

    /// Waits until something that a selector means holds a text.
    #[track_caller]
    fn until<'a>(&'a self, words: &'a [&'a str; 2]) -> impl Future<Output = ()> + 'a {
        self.until_true("return Array.from(document.querySelectorAll(arguments[0])).some(e => e.textContent.includes(arguments[1]))", words)
    }

    /// The text of what a selector means now.
    async fn text(&self, selector: &str) -> String {
        let script = "const found = document.querySelector(arguments[0]); return found ? found.innerText : ''";
        // A page that is on its way to another one has none.
        let found = self.driver.execute(script, vec![json!(selector)]).await;
        found.ok().and_then(|found| found.json().as_str().map(str::to_owned)).unwrap_or_default()
    }

    async fn url(&self) -> String {
        self.driver.current_url().await.map(|url| url.to_string()).unwrap_or_default()
    }

    /// Presses keys as somebody does who looks at the page.
    async fn keys(&self, keys: &str) {
        // Chromium drops what is typed before a page is painted for the first time.
        self.until_true("return performance.getEntriesByType('paint').length > 0", &[]).await;
        self.driver.action_chain().send_keys(keys.to_owned()).perform().await.unwrap();
    }

    /// Keeps a picture of the page where STEPWELL_PICTURES names a folder.
    async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("STEPWELL_PICTURES") else { return };
        let picture = self.driver.screenshot_as_png().await.unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
    }

    /// What keeps people from using the page, as axe-core finds it: each problem with the elements that have it.
    async fn barriers(&self) -> Vec<String> {
        const AXE: &str = include_str!("browser/axe.min.js");
        const ASK: &str = "const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ['violations'] }).then(
                found => done(found.violations.filter(v => v.impact === 'serious' || v.impact === 'critical')
                    .map(v => v.id + ': ' + v.help + ' — ' + v.nodes.slice(0, 3).map(n => n.html + ' ' + n.failureSummary).join(' | '))),
                error => done([String(error)]));";
        self.driver.execute(AXE, Vec::new()).await.unwrap();
        self.driver.execute_async(ASK, Vec::new()).await.unwrap().convert().unwrap()
    }

    /// Ends the browser, which must have had nothing to complain of: no script that failed, nothing that the policy forbids.
    async fn close(self) {
        let complaints: Vec<String> =
            self.driver.browser_log().await.unwrap().into_iter().filter(|line| line.level == "SEVERE").map(|line| line.message).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        self.driver.quit().await.unwrap();
    }
}
