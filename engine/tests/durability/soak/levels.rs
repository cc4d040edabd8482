//! What an engine takes over time, and whether that levels off.
//!
//! The lives that end with a kill after a minute show what grows from one life to the next, which is in the file. What grows in the
//! process itself shows in the last life alone, which lasts for a third of the whole time.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::support::Engine;

/// From the second quarter to the last one, what lies in the middle may grow by this share, and by so many more MB or
/// descriptors. What varies without any growth: how many pages SQLite's caches have seen, what the allocator keeps for later,
/// and how many of the file's pages were free when it grew.
const MAY_GROW: f64 = 0.1;
const MAY_GROW_MB: f64 = 6.0;
const MAY_GROW_DESCRIPTORS: f64 = 4.0;
/// The log begins anew once it has more than 64 MB, which is looked at now and then: that is a bound, and no level.
const LOG_MOST_MB: f64 = 128.0;

/// What the engine takes at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Whose life it is, and what had been done by then.
    pub life: u64,
    pub events: usize,
    pub effects: usize,
    pub resident_mb: f64,
    pub descriptors: f64,
    pub database_mb: f64,
    pub log_mb: f64,
}

impl Sample {
    /// None where the engine is no more.
    pub fn of(engine: &Engine, database: &Path) -> Option<Sample> {
        let process = format!("/proc/{}", engine.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
        let kb: f64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().split(' ').next()?.parse().ok()?;
        let descriptors = std::fs::read_dir(format!("{process}/fd")).ok()?.count() as f64;
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let mb_of = |path: &Path| std::fs::metadata(path).map_or(0.0, |file| file.len() as f64 / 1_048_576.0);
        let (database_mb, log_mb) = (mb_of(database), mb_of(Path::new(&log)));
        Some(Sample { resident_mb: kb / 1024.0, descriptors, database_mb, log_mb, ..Sample::default() })
    }
}

/// A figure: its name, how it is read off a sample, and how much it may grow.
type Figure = (&'static str, fn(&Sample) -> f64, f64);
const MEMORY: Figure = ("resident memory, MB", |sample| sample.resident_mb, MAY_GROW_MB);
const DESCRIPTORS: Figure = ("descriptors", |sample| sample.descriptors, MAY_GROW_DESCRIPTORS);
const DATABASE: Figure = ("database, MB", |sample| sample.database_mb, MAY_GROW_MB);

/// The samples of a soak, and of its parts.
struct Parts<'a> {
    all: Vec<&'a Sample>,
    /// Of the lives that ended with a kill, and of the last one, where there was one that went on for longer.
    killed: Vec<&'a Sample>,
    last: Vec<&'a Sample>,
}

impl Parts<'_> {
    fn of(samples: &[Sample], last_life: Option<u64>) -> Parts<'_> {
        let (last, killed) = samples.iter().partition(|sample| Some(sample.life) == last_life);
        Parts { all: samples.iter().collect(), killed, last }
    }
}

fn quarters<'s, 'a>(samples: &'s [&'a Sample]) -> impl Iterator<Item = &'s [&'a Sample]> {
    samples.chunks(samples.len().div_ceil(4).max(1))
}

/// What lies in the middle of the samples, and the most. There is at least one.
fn middle_and_most(samples: &[&Sample], read: fn(&Sample) -> f64) -> (f64, f64) {
    let mut values: Vec<f64> = samples.iter().copied().map(read).collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}

/// What goes on growing after the first quarter, in which everything fills up for the first time; nothing, where all is well.
pub fn what_grows(samples: &[Sample], last_life: Option<u64>) -> Vec<String> {
    let Parts { all, killed, last } = Parts::of(samples, last_life);
    let judged = [
        ("over the whole time", &all, DATABASE),
        ("over the lives of a minute", &killed, MEMORY),
        ("over the lives of a minute", &killed, DESCRIPTORS),
        ("in the last life", &last, MEMORY),
        ("in the last life", &last, DESCRIPTORS),
    ];
    let mut growing = Vec::new();
    for (when, samples, (name, read, slack)) in judged {
        let middles: Vec<f64> = quarters(samples).map(|quarter| middle_and_most(quarter, read).0).collect();
        if let [_, second, .., fourth] = middles[..]
            && fourth > second * (1.0 + MAY_GROW) + slack
        {
            growing.push(format!("{name} did not level off {when}; the middles of the quarters are {middles:.1?}"));
        }
    }
    let log = all.iter().map(|sample| sample.log_mb).fold(0.0, f64::max);
    if log > LOG_MOST_MB {
        growing.push(format!("the log had {log:.1} MB, which is more than {LOG_MOST_MB}"));
    }
    growing
}

/// The samples by quarters, in Markdown: of the whole time, and of the last life by itself. The log is shown by its most.
pub fn table(samples: &[Sample], last_life: Option<u64>) -> String {
    let Parts { all, last, .. } = Parts::of(samples, last_life);
    let mut text = String::from(
        "| quarter | kills | events | effects | resident MB | at most | descriptors | at most | database MB | log MB at most |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let names = ["first", "second", "third", "last"];
    for (of, samples) in [("", &all), (" of the last life", &last)] {
        for (name, quarter) in names.into_iter().zip(quarters(samples)) {
            let (resident, resident_most) = middle_and_most(quarter, MEMORY.1);
            let (descriptors, descriptors_most) = middle_and_most(quarter, DESCRIPTORS.1);
            let (database, _) = middle_and_most(quarter, DATABASE.1);
            let (_, log_most) = middle_and_most(quarter, |sample| sample.log_mb);
            let Sample { life, events, effects, .. } = quarter[quarter.len() - 1];
            let done = format!("{} | {} | {}", life - 1, thousands(*events), thousands(*effects));
            let open = format!("{descriptors} | {descriptors_most}");
            writeln!(text, "| {name}{of} | {done} | {resident:.1} | {resident_most:.1} | {open} | {database:.1} | {log_most:.1} |")
                .unwrap();
        }
    }
    text
}

/// A number with a comma before each three digits.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn growth_is_told_from_what_levels_off() {
    // Two lives of 60 samples, and one of 60.
    let sample = |at: usize, over_all: f64, in_life: f64| Sample {
        life: 1 + at as u64 / 60,
        events: at * 1000,
        resident_mb: 50.0 + over_all * at as f64 + in_life * (at % 60) as f64,
        descriptors: 20.0,
        database_mb: at.min(40) as f64,
        ..Sample::default()
    };
    let samples = |over_all, in_life| -> Vec<Sample> { (0..180).map(|at| sample(at, over_all, in_life)).collect() };
    let steady = samples(0.01, 0.1);
    assert_eq!(what_grows(&steady, Some(3)), Vec::<String>::new());
    let table = table(&steady, Some(3));
    assert_eq!(table.lines().count(), 2 + 4 + 4, "{table}");
    assert!(table.contains("| last of the last life | 2 | 179,000 | 0 | 56.9 | 57.7 | 20 | 20 | 40.0 | 0.0 |"), "{table}");
    let leaking = what_grows(&samples(0.0, 0.5), Some(3));
    assert!(matches!(&leaking[..], [one] if one.starts_with("resident memory, MB did not level off in the last life")), "{leaking:?}");
    let carried_on = what_grows(&samples(0.3, 0.0), Some(3));
    assert!(carried_on[0].starts_with("resident memory, MB did not level off over the lives"), "{carried_on:?}");
}
