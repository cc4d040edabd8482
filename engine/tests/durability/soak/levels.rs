//! What an engine takes over time, and whether that levels off.
//!
//! The lives that end with a kill after a minute show what grows from one life to the next, which is in the file. What grows in the
//! process itself shows in the last life alone, which lasts for a third of the whole time.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::support::Engine;

/// So much memory and file may grow in a minute, in MB, and so much besides, however long it takes. What varies without any growth:
/// how many pages SQLite's caches have seen, what the allocator keeps for later, and how many of the file's pages were free when it
/// grew; a step of 4 MB, once, counts for up to 6.
const MAY_GROW_MB_A_MINUTE: f64 = 0.25;
const VARIES_MB: f64 = 6.0;
/// From the second quarter to the last one, what lies in the middle of the descriptors may grow by this share, and by so many more.
const MAY_GROW: f64 = 0.1;
const MAY_GROW_DESCRIPTORS: f64 = 4.0;
/// The most descriptors of any quarter are at most so many times those of the second one, and so many more: at a moment there may be
/// many calls.
const PEAK_TIMES: f64 = 2.0;
const PEAK_DESCRIPTORS: f64 = 64.0;
/// The log begins anew once it has more than 64 MB, which is looked at now and then: that is a bound, and no level.
const LOG_MOST_MB: f64 = 128.0;

/// What the engine takes at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Since the beginning of the soak.
    pub minutes: f64,
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

/// How a figure is read off a sample.
type Read = fn(&Sample) -> f64;
const MEMORY: Read = |sample| sample.resident_mb;
const DESCRIPTORS: Read = |sample| sample.descriptors;
const DATABASE: Read = |sample| sample.database_mb;

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
fn middle_and_most(samples: &[&Sample], read: Read) -> (f64, f64) {
    let mut values: Vec<f64> = samples.iter().copied().map(read).collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}

/// A figure at each sample: minutes, and what it was.
fn each(samples: &[&Sample], read: Read) -> Vec<(f64, f64)> {
    samples.iter().map(|sample| (sample.minutes, read(sample))).collect()
}

/// What lay in the middle of each life: within one it begins anew, which is no growth.
fn each_life(samples: &[&Sample], read: Read) -> Vec<(f64, f64)> {
    let lives = samples.chunk_by(|one, next| one.life == next.life);
    lives.map(|life| (life[0].minutes, middle_and_most(life, read).0)).collect()
}

/// By how much a figure grew after the first third of its time, in which everything fills up for the first time, and in how many minutes:
/// by the straight line that lies closest (least squares), so that neither end of it counts for more than what is between them.
fn growth(points: &[(f64, f64)]) -> (f64, f64) {
    let settled = &points[points.len() / 3..];
    let [(first, _), .., (last, _)] = settled else { return (0.0, 0.0) };
    let count = settled.len() as f64;
    let middle = settled.iter().map(|(minutes, _)| minutes).sum::<f64>() / count;
    let level = settled.iter().map(|(_, value)| value).sum::<f64>() / count;
    let spread: f64 = settled.iter().map(|(minutes, _)| (minutes - middle).powi(2)).sum();
    let together: f64 = settled.iter().map(|(minutes, value)| (minutes - middle) * (value - level)).sum();
    let lasted = last - first;
    (if spread > 0.0 { together / spread * lasted } else { 0.0 }, lasted)
}

/// What goes on growing once everything has filled up for the first time; nothing, where all is well.
pub fn what_grows(samples: &[Sample], last_life: Option<u64>) -> Vec<String> {
    let Parts { all, killed, last } = Parts::of(samples, last_life);
    let mut growing = Vec::new();
    let sizes = [
        ("database", "over the whole time", each(&all, DATABASE)),
        ("resident memory", "over the lives of a minute", each_life(&killed, MEMORY)),
        ("resident memory", "in the last life", each(&last, MEMORY)),
        ("database", "in the last life", each(&last, DATABASE)),
    ];
    for (name, when, points) in sizes {
        let (grown, minutes) = growth(&points);
        let most = minutes * MAY_GROW_MB_A_MINUTE + VARIES_MB;
        if grown > most {
            growing.push(format!("{name} grew by {grown:.1} MB in {minutes:.1} minutes {when}; {most:.1} are not told from what varies"));
        }
    }
    for (when, samples) in [("over the lives of a minute", &killed), ("in the last life", &last)] {
        let (middles, peaks): (Vec<f64>, Vec<f64>) = quarters(samples).map(|quarter| middle_and_most(quarter, DESCRIPTORS)).unzip();
        if let [_, second, .., fourth] = middles[..]
            && fourth > second * (1.0 + MAY_GROW) + MAY_GROW_DESCRIPTORS
        {
            growing.push(format!("descriptors did not level off {when}; the middles of the quarters are {middles:.1?}"));
        }
        if let [_, second, ..] = peaks[..]
            && peaks.iter().any(|most| *most > second * PEAK_TIMES + PEAK_DESCRIPTORS)
        {
            growing.push(format!("descriptors went far beyond those of the second quarter {when}; the most of the quarters are {peaks:?}"));
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
            let (resident, resident_most) = middle_and_most(quarter, MEMORY);
            let (descriptors, descriptors_most) = middle_and_most(quarter, DESCRIPTORS);
            let (database, _) = middle_and_most(quarter, DATABASE);
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

/// Two lives of ten minutes that are killed, and one of ten minutes, of 60 samples each, as they are where nothing grows; changed.
fn soak(change: impl Fn(usize, &mut Sample)) -> Vec<Sample> {
    let sample = |at: usize| {
        let mut sample = Sample {
            minutes: at as f64 / 6.0,
            life: 1 + at as u64 / 60,
            events: at * 1000,
            resident_mb: 50.0 + 0.002 * at as f64 + 0.03 * (at % 60) as f64,
            descriptors: 20.0,
            database_mb: at.min(40) as f64,
            ..Sample::default()
        };
        change(at, &mut sample);
        sample
    };
    (0..180).map(sample).collect()
}

#[test]
fn what_varies_and_levels_off_is_no_growth() {
    let steady = soak(|_, _| {});
    assert_eq!(what_grows(&steady, Some(3)), Vec::<String>::new());
    let table = table(&steady, Some(3));
    assert_eq!(table.lines().count(), 2 + 4 + 4, "{table}");
    assert!(table.contains("| last of the last life | 2 | 179,000 | 0 | 51.9 | 52.1 | 20 | 20 | 40.0 | 0.0 |"), "{table}");
    // A step such as one that was measured, in the last life's third quarter; many calls at a moment; a log that is about to begin anew.
    let varying = soak(|at, sample| {
        sample.resident_mb = if at < 150 { 71.6 } else { 75.7 };
        sample.descriptors = if at == 170 { 100.0 } else { 41.0 };
        sample.log_mb = 127.0;
    });
    assert_eq!(what_grows(&varying, Some(3)), Vec::<String>::new());
    assert_eq!(what_grows(&[], None), Vec::<String>::new());
}

/// Holds the one thing that goes on growing against what is said of it.
#[track_caller]
fn is_told(said: &str, change: impl Fn(usize, &mut Sample)) {
    let told = what_grows(&soak(change), Some(3));
    assert!(matches!(&told[..], [one] if one.starts_with(said)), "{said}: {told:#?}");
}

#[test]
fn each_figure_that_goes_on_growing_is_told() {
    // 1.2 MB a minute within a life, and 9 MB from one life to the next.
    is_told("resident memory grew by 8.0 MB in 6.5 minutes in the last life", |at, sample| {
        sample.resident_mb = 50.0 + 1.23 * at.saturating_sub(120) as f64 / 6.0;
    });
    is_told("resident memory grew by 9.0 MB in 10.0 minutes over the lives of a minute", |at, sample| {
        sample.resident_mb = 50.0 + (at.min(60) / 60 * 9) as f64;
    });
    is_told("database grew by 11.9 MB in 19.8 minutes over the whole time", |_, sample| sample.database_mb = 2.0 + 0.6 * sample.minutes);
}

#[test]
fn descriptors_and_a_log_that_grow_are_told() {
    is_told("descriptors did not level off in the last life", |at, sample| {
        sample.descriptors = 20.0 + 0.3 * at.saturating_sub(120) as f64;
    });
    is_told("descriptors did not level off over the lives of a minute", |at, sample| {
        sample.descriptors = if at < 90 { 20.0 } else { 27.0 };
    });
    is_told("descriptors went far beyond those of the second quarter in the last life", |at, sample| {
        sample.descriptors = if at == 170 { 105.0 } else { 20.0 };
    });
    is_told("descriptors went far beyond those of the second quarter over the lives of a minute", |at, sample| {
        sample.descriptors = if at == 3 { 105.0 } else { 20.0 };
    });
    is_told("the log had 128.5 MB", |at, sample| sample.log_mb = if at == 77 { 128.5 } else { 64.0 });
}
