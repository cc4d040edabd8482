//! How soon pages are painted, and for how long none of them answers while runs come in fast. Both are the machine's and the browser's, so the test
//! that takes them holds them against nothing. With `STEPWELL_PAINT=FILE` it takes them often and writes them into the page of the dashboard; what
//! stands there is held against the aim, as the figures in BENCHMARKS.md are.

use stepwell::base::Clock as _;
use stepwell::clock::{Stopwatch, SystemClock};

use super::live::{TOGETHER, send_many};
use super::shop::Busy;
use super::*;

/// The heading of the part of the page that is written here; it goes on to the next one of its kind.
const HEADING: &str = "## How soon pages are painted\n";
/// Most milliseconds of each figure.
const MOST_MS: f64 = 300.0;
/// Browsers tell of a task from this length on.
const LEAST_TASK_MS: f64 = 50.0;
/// When a page was painted for the first time, in milliseconds since it was asked for; null as long as it was not.
const PAINTED: &str = "const paint = performance.getEntriesByName('first-contentful-paint')[0]; return paint ? paint.startTime : null";
/// Keeps the longest time for which the page has answered nobody, and how often a part of it has come anew.
const WATCH: &str = "window.longest = 0; window.swaps = 0;
    document.addEventListener('htmx:afterSwap', () => { window.swaps += 1; });
    new PerformanceObserver(list => list.getEntries().forEach(task => { window.longest = Math.max(window.longest, task.duration); }))
        .observe({ type: 'longtask' })";
/// A page none of whose files the browser has.
const FIRST: &str = "`/`, with none of its files in the browser";
/// The same in a browser that does many other things meanwhile, since it has just been started: told, and held against nothing.
const STARTED: &str = "`/`, in a browser that has just been started";
/// Who is looked at while runs come in.
const WATCHED: [&str; 2] = ["/", "/runs"];
/// How often events are sent: a run a millisecond makes 1,000 a second.
const BEAT: Duration = Duration::from_millis(TOGETHER as u64);
/// Least of them that must have been taken for the figure to say something.
const LEAST_RATE: f64 = 950.0;

/// How much work the figures are taken with.
struct Scale {
    /// How often a page is loaded; the middle one counts.
    loads: usize,
    /// How often events are sent.
    beats: usize,
}

/// For figures that count, and to see that they can be taken.
const WHOLE: Scale = Scale { loads: 9, beats: 1_000 };
const LOOK: Scale = Scale { loads: 1, beats: 10 };

/// A page while runs come in.
struct Watched {
    path: &'static str,
    /// Runs a second that were started.
    rate: f64,
    /// The longest task of the page, in milliseconds; 0 where none was long enough to be told.
    longest: f64,
}

/// Loads a page; how long it took until something of it was painted.
async fn paint(browser: &Browser, path: &str) -> f64 {
    browser.go(path).await;
    until_painted(browser, path).await
}

async fn until_painted(browser: &Browser, path: &str) -> f64 {
    let painting = async {
        loop {
            if let Some(ms) = browser.run(PAINTED, &[]).await.as_f64() {
                return ms;
            }
        }
    };
    tokio::time::timeout(PATIENCE, painting).await.unwrap_or_else(|_| panic!("{path} is not painted"))
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// When each page is painted, and which browser it was.
async fn painted(scale: &Scale) -> (Vec<(String, f64)>, String) {
    let shop = Shop::open();
    let long = shop.run_in(&["completed"], "export/wanted", json!({ "steps": 1000 })).await;
    // The lists are full.
    for _ in 0..3 {
        send_many(&shop).await;
    }
    let busy = shop.busy().await;
    let mut started = Vec::new();
    for _ in 0..scale.loads.div_ceil(3) {
        let browser = Browser::open(Kind::Wide, &shop.url()).await;
        // A browser that has just been started has more to do than to paint a page: it paints another one first, which has no files.
        paint(&browser, "/health").await;
        started.push(paint(&browser, "/").await);
        browser.close().await;
    }
    let mut figures = vec![(STARTED.to_owned(), middle(started))];
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    let agent = browser.run("return navigator.userAgent", &[]).await;
    let version = agent.as_str().unwrap().split("Chrome/").nth(1).and_then(|rest| rest.split('.').next()).unwrap_or("?").to_owned();
    // The files come once, as they do for somebody who looks at one page after the other.
    browser.go("/").await;
    let mut first = Vec::new();
    for load in 0..scale.loads {
        browser.go_as(&format!("load-{load}"), "/").await;
        first.push(until_painted(&browser, "/").await);
    }
    figures.push((FIRST.to_owned(), middle(first)));
    for (name, path) in busy.pages(&long) {
        let mut taken = Vec::new();
        for _ in 0..scale.loads {
            taken.push(paint(&browser, &path).await);
        }
        figures.push((name, middle(taken)));
    }
    browser.close().await;
    (figures, version)
}

/// Looks at a page while 1,000 runs a second come in.
async fn watched(path: &'static str, scale: &Scale) -> Watched {
    let shop = Shop::open();
    for _ in 0..3 {
        send_many(&shop).await;
    }
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go(path).await;
    browser.run(WATCH, &[]).await;
    let watch = Stopwatch::start();
    let mut beat = tokio::time::interval(BEAT);
    for _ in 0..scale.beats {
        // One that is late is followed by the next one at once.
        beat.tick().await;
        send_many(&shop).await;
    }
    let rate = (scale.beats * TOGETHER) as f64 / watch.elapsed().as_secs_f64();
    browser.until_true("return window.swaps > 0", &[]).await;
    let longest = browser.run("return window.longest", &[]).await.as_f64().unwrap();
    browser.close().await;
    Watched { path, rate, longest }
}

/// Which build of the program is looked at, as it tells itself in the shortest report that it makes.
fn build() -> String {
    let folder = tempfile::tempdir().unwrap();
    let report = crate::program::stepwell(folder.path(), ["bench", "--quick", "--runs", "1000", "--only", "validate", "--json"]);
    assert_eq!(report.exit, 0, "{}", report.stderr);
    serde_json::from_str::<serde_json::Value>(&report.stdout).unwrap()["build"].as_str().unwrap().to_owned()
}

/// The part of the page that tells the figures.
fn written(scale: &Scale, build: &str, version: &str, painted: &[(String, f64)], watched: &[Watched]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let taken = SystemClock::default().now().rfc3339();
    let mut part = format!(
        "{HEADING}
Until the first paint that shows something (`first-contentful-paint`), since the page was asked for on loopback, with the engine beside the
browser on one machine: the middle one of {} loads. The aim is {MOST_MS:.0} ms, and a test fails where a figure here is above it, but for the first
one: a browser that has just been started does much else besides.
`STEPWELL_PAINT=docs/dashboard.md STEPWELL_TESTED=target/release cargo nextest run pages_are_painted` takes them anew with the program of that folder,
and writes this part of the page.

- stepwell {} ({build} build), {taken}
- {cores} cores, Chromium {version}

| page | first paint |
|---|---:|
",
        scale.loads,
        env!("CARGO_PKG_VERSION"),
    );
    for (name, ms) in painted {
        part.push_str(&format!("| {name} | {ms:.0} ms |\n"));
    }
    part.push_str(&format!(
        "
While 1,000 runs a second come in, the longest time for which an open page answers nobody (a task of {LEAST_TASK_MS:.0} ms or more, as the browser tells it):

| page | runs a second | longest task |
|---|---:|---:|
"
    ));
    for Watched { path, rate, longest } in watched {
        let longest = if *longest < LEAST_TASK_MS { format!("under {LEAST_TASK_MS:.0} ms") } else { format!("{longest:.0} ms") };
        part.push_str(&format!("| `{path}` | {rate:.0} | {longest} |\n"));
    }
    part.push('\n');
    part
}

/// A page with that part in the place of the one that it has.
fn replaced(page: &str, part: &str) -> String {
    let (before, rest) = page.split_once(HEADING).unwrap_or_else(|| panic!("the page has no heading {HEADING}"));
    let after = rest.find("\n## ").map_or("", |at| &rest[at + 1..]);
    format!("{before}{part}{after}")
}

#[tokio::test]
async fn pages_are_painted_and_answer_while_runs_come_in() {
    let file = std::env::var_os("STEPWELL_PAINT").map(PathBuf::from);
    let scale = if file.is_some() { WHOLE } else { LOOK };
    let (painted, version) = painted(&scale).await;
    let mut rows = Vec::new();
    for path in WATCHED {
        rows.push(watched(path, &scale).await);
    }
    // To ask takes a second or two.
    let build = if file.is_some() { build() } else { "some".to_owned() };
    let part = written(&scale, &build, &version, &painted, &rows);
    println!("{part}");
    let told = figures(&part);
    assert_eq!(told.len(), Busy::default().pages("").len() + 2 + WATCHED.len(), "{part}");
    let page = format!("# One\n\n{HEADING}\nold\n\n## Two\n\nstays\n");
    assert_eq!(replaced(&page, &part), format!("# One\n\n{part}## Two\n\nstays\n"));
    if let Some(file) = file {
        let page = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, replaced(&page, &part)).unwrap();
    }
}

/// Each row of the tables in that part: the page, what stands between, and the milliseconds.
fn figures(part: &str) -> Vec<(String, String, f64)> {
    let rows = part.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" ms |"));
    let row = |row: &str| {
        let (head, ms) = row.rsplit_once(" | ").unwrap_or_else(|| panic!("{row}"));
        let (name, between) = head.split_once(" | ").unwrap_or((head, ""));
        (name.to_owned(), between.to_owned(), ms.trim_start_matches("under ").parse().unwrap_or_else(|_| panic!("{row}")))
    };
    rows.map(row).collect()
}

#[test]
fn no_page_takes_longer_to_be_painted_or_to_answer_than_it_may_as_the_docs_tell() {
    let page = std::fs::read_to_string(crate::program::repository().join("docs/dashboard.md")).unwrap();
    let part = page.split_once(HEADING).unwrap_or_else(|| panic!("no heading {HEADING}")).1.split("\n## ").next().unwrap();
    assert!(part.contains(" (release build), "), "the figures are those of a release build: {part}");
    let figures = figures(part);
    for (name, _, ms) in figures.iter().filter(|(name, ..)| name != STARTED) {
        assert!(*ms < MOST_MS, "{name}: {ms} ms");
    }
    let names = Busy::default().pages("").into_iter().map(|(name, _)| name);
    for name in names.chain([FIRST.to_owned()]) {
        assert!(figures.iter().any(|(known, between, _)| *known == name && between.is_empty()), "{name} was not taken");
    }
    for path in WATCHED {
        let rate = figures.iter().find(|(name, between, _)| *name == format!("`{path}`") && !between.is_empty());
        let rate: f64 = rate.unwrap_or_else(|| panic!("{path} was not looked at while runs came in")).1.parse().unwrap();
        assert!(rate >= LEAST_RATE, "only {rate} runs a second came in while {path} was looked at");
    }
}
