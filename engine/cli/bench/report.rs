//! Figures beside their raw limits, and how they are written down.

use std::fmt::Write as _;

use serde::Serialize;

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The unit of `value` and `raw`.
    pub unit: &'static str,
    /// The engine's figure.
    pub value: f64,
    /// The raw limit's, from the same run.
    pub raw: Option<f64>,
    /// What the raw limit is.
    pub limit: &'static str,
    /// `value` over `raw`.
    pub ratio: Option<f64>,
    /// What is aimed at, in words.
    pub aim: &'static str,
}

impl Figure {
    /// A figure with its raw limit.
    pub fn against(name: impl Into<String>, unit: &'static str, value: f64, raw: f64, limit: &'static str, aim: &'static str) -> Figure {
        Figure { name: name.into(), unit, value, raw: Some(raw), limit, ratio: Some(value / raw), aim }
    }

    /// A figure that stands for itself.
    pub fn alone(name: impl Into<String>, unit: &'static str, value: f64, aim: &'static str) -> Figure {
        Figure { name: name.into(), unit, value, raw: None, limit: "", ratio: None, aim }
    }
}

/// All figures of one run, with the machine they were taken on.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// stepwell's version.
    pub version: &'static str,
    /// When it was taken, RFC 3339 UTC.
    pub taken: String,
    /// `release` or `debug`.
    pub build: &'static str,
    /// Processor, cores, memory, kernel, file system: a line each.
    pub machine: Vec<String>,
    /// The figures, in order.
    pub figures: Vec<Figure>,
}

/// A number with as many digits as it deserves: 12,345 or 1.234.
pub fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.3}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl Report {
    /// The report as a page.
    pub fn markdown(&self) -> String {
        let mut page = String::from(
            "# Benchmarks\n\nWritten by `stepwell bench`: each figure stands beside its raw limit from the same run, on the same machine.\nRatios are what counts; absolute figures depend on the machine and on what else it does.\n\n",
        );
        // Writing to a String does not fail.
        let _ = writeln!(page, "- stepwell {} ({} build), {}", self.version, self.build, self.taken);
        for line in &self.machine {
            let _ = writeln!(page, "- {line}");
        }
        page.push_str("\n| measure | stepwell | raw limit | ratio | aim |\n|---|---:|---:|---:|---|\n");
        for figure in &self.figures {
            let raw = figure.raw.map_or_else(|| "–".to_owned(), |raw| format!("{} {} ({})", number(raw), figure.unit, figure.limit));
            let ratio = figure.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(page, "| {} | {} {} | {raw} | {ratio} | {} |", figure.name, number(figure.value), figure.unit, figure.aim);
        }
        page
    }
}

/// What can be known of the machine without asking anybody else: a line each.
pub fn machine(database_folder: &std::path::Path) -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory_kb: f64 =
        value(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or_default();
    let load = read("/proc/loadavg");
    let mut lines = vec![
        format!("{cores} cores, {processor}, {} GB", number(memory_kb / 1_048_576.0)),
        format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("load average before the run: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ];
    if let Some(kind) = file_system(&read("/proc/mounts"), database_folder) {
        lines.push(format!("database on {kind}"));
    }
    lines
}

/// The file system that holds a folder: the longest mount point that its path begins with.
fn file_system(mounts: &str, folder: &std::path::Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    let fitting = mounts.lines().filter_map(mount).filter(|(point, _)| folder.starts_with(point));
    fitting.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_the_page_has_a_row_a_figure() {
        assert_eq!((number(1_234_567.0), number(12.34), number(0.5)), ("1,234,567".to_owned(), "12.3".to_owned(), "0.500".to_owned()));
        let report = Report {
            version: "0",
            taken: "now".into(),
            build: "release",
            machine: vec!["2 cores".into()],
            figures: vec![Figure::against("runs", "runs/s", 500.0, 1000.0, "rusqlite", "0.5"), Figure::alone("memory", "MB", 20.0, "30")],
        };
        let page = report.markdown();
        assert!(page.contains("| runs | 500 runs/s | 1,000 runs/s (rusqlite) | 0.50 | 0.5 |"), "{page}");
        assert!(page.contains("| memory | 20.0 MB | – | – | 30 |"), "{page}");
    }
}
