//! Figures beside their raw limits and aims, and how they are written down.

use std::fmt::Write as _;

use serde::Serialize;

use super::plot::Curve;

/// Where the part of a page begins that is written here, and where it ends; what stands outside is left alone.
const BEGIN: &str = "<!-- figures: written by `stepwell bench --markdown` -->";
const END: &str = "<!-- end of the figures -->";

/// What a figure is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// Nothing: it stands there to be known.
    None,
    /// At least this share of its raw limit.
    Share(f64),
    /// At most so many times its raw limit.
    Times(f64),
    /// At most this, in its own unit.
    AtMost(f64),
}

impl Aim {
    /// As people read it.
    fn text(self) -> String {
        match self {
            Aim::None => String::new(),
            Aim::Share(least) => format!("≥ {least}"),
            Aim::Times(most) => format!("≤ {most} ×"),
            Aim::AtMost(most) => format!("≤ {}", short(most)),
        }
    }
}

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured: its own within a report.
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
    pub aim: String,
    /// Whether it is reached; none where nothing is aimed at.
    pub met: Option<bool>,
    /// The value on the page that this report is compared with.
    pub before: Option<f64>,
    /// The ratio there.
    pub ratio_before: Option<f64>,
    /// `value` of each taking, in order, where there were several.
    pub values: Vec<f64>,
    /// `ratio` of each taking likewise.
    pub ratios: Vec<f64>,
    #[serde(skip)]
    aims_at: Aim,
}

impl Figure {
    /// A figure that stands for itself.
    pub fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Figure {
        Figure {
            name: name.into(),
            unit,
            value,
            raw: None,
            limit: "",
            ratio: None,
            aim: String::new(),
            met: None,
            before: None,
            ratio_before: None,
            values: Vec::new(),
            ratios: Vec::new(),
            aims_at: Aim::None,
        }
    }

    /// The same beside its raw limit.
    #[must_use]
    pub fn against(self, raw: f64, limit: &'static str) -> Figure {
        Figure { raw: Some(raw), limit, ratio: Some(self.value / raw), ..self }.judged()
    }

    /// The same with an aim.
    #[must_use]
    pub fn aims(self, aim: Aim) -> Figure {
        Figure { aims_at: aim, aim: aim.text(), ..self }.judged()
    }

    fn judged(mut self) -> Figure {
        self.met = match self.aims_at {
            Aim::None => None,
            Aim::Share(least) => self.ratio.map(|ratio| ratio >= least),
            Aim::Times(most) => self.ratio.map(|ratio| ratio <= most),
            Aim::AtMost(most) => Some(self.value <= most),
        };
        self
    }

    /// Whether its ratio is what counts: where one is there, and the aim is not about the value alone.
    fn goes_by_ratio(&self) -> bool {
        self.ratio.is_some() && !matches!(self.aims_at, Aim::AtMost(_))
    }

    /// What decides which of several takings is the middle one.
    fn rank(&self) -> f64 {
        self.ratio.filter(|_| self.goes_by_ratio()).unwrap_or(self.value)
    }

    /// The least and the most of several takings, of what decides which is the middle one: ratios without a unit, or values.
    fn spread(&self) -> Option<String> {
        let takings = if self.goes_by_ratio() { &self.ratios } else { &self.values };
        let least = takings.iter().copied().reduce(f64::min)?;
        let most = takings.iter().copied().reduce(f64::max)?;
        Some(if self.goes_by_ratio() {
            format!("{least:.2} to {most:.2}")
        } else {
            format!("{} to {} {}", number(least), number(most), self.unit)
        })
    }

    /// The cells of its row, as `HEADS` names them.
    fn cells(&self) -> [String; 9] {
        let with_unit = |value: f64| format!("{} {}", number(value), self.unit);
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        [
            self.name.clone(),
            with_unit(self.value),
            self.raw.map(with_unit).unwrap_or_default(),
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            self.spread().unwrap_or_default(),
            self.aim.clone(),
            met.to_owned(),
            change(Some(self.value), self.before),
            change(self.ratio, self.ratio_before),
        ]
    }
}

/// What stands above the cells of a figure.
const HEADS: [&str; 9] = ["measure", "stepwell", "raw limit", "ratio", SPREAD, "aim", "", "change", "change of the ratio"];
/// The head of the cell that is there where each figure was taken several times.
const SPREAD: &str = "least to most";

/// How something has changed since `before`, in percent.
fn change(now: Option<f64>, before: Option<f64>) -> String {
    let before = before.filter(|before| *before != 0.0);
    now.zip(before).map(|(now, before)| format!("{:+.1} %", (now / before - 1.0) * 100.0)).unwrap_or_default()
}

/// Of several takings of the same figures, the middle one of each: by its ratio, or by its value where it has none or the aim is
/// about that alone. It knows what the others came to.
pub fn middle(takings: Vec<Vec<Figure>>) -> Vec<Figure> {
    let mut columns: Vec<Vec<Figure>> = Vec::new();
    for taking in takings {
        for (at, figure) in taking.into_iter().enumerate() {
            match columns.get_mut(at) {
                Some(column) => column.push(figure),
                None => columns.push(vec![figure]),
            }
        }
    }
    let of = |mut column: Vec<Figure>| {
        let (mut values, mut ratios) = (Vec::new(), Vec::new());
        if column.len() > 1 {
            values.extend(column.iter().map(|figure| figure.value));
            ratios.extend(column.iter().filter_map(|figure| figure.ratio));
        }
        column.sort_by(|a, b| a.rank().total_cmp(&b.rank()));
        Figure { values, ratios, ..column.swap_remove(column.len() / 2) }
    };
    columns.into_iter().map(of).collect()
}

/// All figures of one run, with the machine they were taken on.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// stepwell's version.
    pub version: &'static str,
    /// When it was taken, RFC 3339 UTC.
    pub taken: String,
    /// `release` or `debug`.
    pub build: &'static str,
    /// How often each figure was taken; the middle one is told.
    pub times: u32,
    /// Whether there was less work than usual (`--quick`).
    pub quick: bool,
    /// How long all of it took, in seconds.
    pub seconds: f64,
    /// How the page that this is compared with was taken, where that was otherwise, as what is said of the page.
    pub otherwise: Option<String>,
    /// Cores with processor and memory, kernel, load, file system: a line each.
    pub machine: Vec<String>,
    /// The figures, in order.
    pub figures: Vec<Figure>,
    /// What is drawn.
    pub curves: Vec<Curve>,
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

/// The same, without the digits that say nothing: 12,345, 0.5 or 30.
pub fn short(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Report {
    /// The report as a table: its heads, and a row a figure.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        // A column that is empty in every row is left out.
        let is_told = |head: &str| self.times > 1 || head != SPREAD;
        let row = |figure: &Figure| {
            HEADS.into_iter().zip(figure.cells()).filter(|(head, _)| is_told(head)).map(|(_, cell)| cell).collect::<Vec<String>>()
        };
        (HEADS.into_iter().filter(|head| is_told(head)).collect(), self.figures.iter().map(row).collect())
    }

    /// The report as a page; in place of the figures that `page` holds already, where it holds some.
    pub fn markdown(&self, page: Option<&str>) -> String {
        let figures = format!("{BEGIN}\n\n{}\n{END}", self.figures_as_markdown());
        let around = page.and_then(|page| {
            let (before, rest) = page.split_once(BEGIN)?;
            Some((before, rest.split_once(END)?.1))
        });
        match around {
            Some((before, after)) => format!("{before}{figures}{after}"),
            None => format!(
                "# Benchmarks\n\n`stepwell bench` takes these figures: each stands beside its raw limit, or the same without what it is about,\nfrom the same run on the same machine. Ratios are what counts; absolute figures depend on the machine and on what else it does.\n\n{figures}\n"
            ),
        }
    }

    /// How long all of it took, as people read it.
    pub fn took(&self) -> String {
        format!("{} s", short(self.seconds.round()))
    }

    fn figures_as_markdown(&self) -> String {
        let mut page = String::new();
        let times = match self.times {
            0 | 1 => String::new(),
            times => format!(", each figure the middle one of {times} takings in as many rounds"),
        };
        let quick = if self.quick { ", with a part of the work (`--quick`)" } else { "" };
        // Writing to a String does not fail.
        let _ = writeln!(page, "- stepwell {} ({} build), {}{times}{quick}", self.version, self.build, self.taken);
        for line in &self.machine {
            let _ = writeln!(page, "- {line}");
        }
        let (head, rule) = if self.times > 1 { (format!(" {SPREAD} |"), "---|") } else { (String::new(), "") };
        let _ = writeln!(page, "\n| measure | stepwell | raw limit | ratio |{head} aim | |\n|---|---:|---:|---:|{rule}---|---|");
        for figure in &self.figures {
            let [name, value, raw, ratio, spread, aim, met, ..] = figure.cells();
            let spread = if self.times > 1 { format!(" {spread} |") } else { String::new() };
            let dash = |text: String| if text.is_empty() { "–".to_owned() } else { text };
            let raw = if figure.limit.is_empty() { raw } else { format!("{raw} ({})", figure.limit) };
            let met = if figure.met == Some(false) { format!("**{met}**") } else { met };
            let _ = writeln!(page, "| {name} | {value} | {} | {} |{spread} {} | {met} |", dash(raw), dash(ratio), dash(aim));
        }
        for curve in &self.curves {
            let _ = writeln!(page, "\n![{}]({})", curve.title, curve.link());
        }
        let _ = writeln!(page, "\nTaken in {}.", self.took());
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

    fn report(figures: Vec<Figure>) -> Report {
        Report {
            version: "0",
            taken: "now".into(),
            build: "release",
            times: 1,
            machine: vec!["2 cores".into()],
            figures,
            ..Report::default()
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!((number(1_234_567.0), number(12.34), number(0.5)), ("1,234,567".to_owned(), "12.3".to_owned(), "0.500".to_owned()));
        assert_eq!((short(400.0), short(30.0), short(2.5)), ("400".to_owned(), "30".to_owned(), "2.5".to_owned()));
    }

    #[test]
    fn an_aim_is_judged_by_what_it_is_about() {
        let taken = |aim| Figure::new("x", "ms", 6.0).against(2.0, "raw").aims(aim).met;
        let cases = [
            (Aim::None, None),
            (Aim::Share(3.0), Some(true)),
            (Aim::Share(3.1), Some(false)),
            (Aim::Times(3.0), Some(true)),
            (Aim::Times(2.9), Some(false)),
            (Aim::AtMost(6.0), Some(true)),
            (Aim::AtMost(5.9), Some(false)),
        ];
        for (aim, met) in cases {
            assert_eq!(taken(aim), met, "{aim:?}");
        }
        assert_eq!(Figure::new("x", "ms", 6.0).aims(Aim::Times(3.0)).against(2.0, "raw").met, Some(true), "in either order");
    }

    #[test]
    fn a_page_has_a_row_a_figure() {
        let figures = vec![
            Figure::new("runs", "runs/s", 1500.0).against(2000.0, "rusqlite").aims(Aim::Share(0.8)),
            Figure::new("memory", "MB", 20.0).aims(Aim::AtMost(30.0)),
            Figure::new("keys", "runs/s", 5.0),
        ];
        let page = report(figures).markdown(None);
        for row in [
            "| runs | 1,500 runs/s | 2,000 runs/s (rusqlite) | 0.75 | ≥ 0.8 | **missed** |",
            "| memory | 20.0 MB | – | – | ≤ 30 | met |",
            "| keys | 5.000 runs/s | – | – | – |  |",
        ] {
            assert!(page.contains(row), "{row}\n{page}");
        }
        let whole = Report { seconds: 43.4, ..report(Vec::new()) }.markdown(None);
        assert!(whole.ends_with("\nTaken in 43 s.\n\n<!-- end of the figures -->\n"), "{whole}");
    }

    #[test]
    fn what_people_wrote_around_the_figures_stays() {
        let first = report(vec![Figure::new("old", "ms", 1.0)]).markdown(None);
        let page = first.replace("# Benchmarks", "# Ours") + "\n## What was tried\n";
        let second = report(vec![Figure::new("new", "ms", 2.0)]).markdown(Some(&page));
        assert!(second.starts_with("# Ours\n") && second.ends_with("\n## What was tried\n"), "{second}");
        assert!(second.contains("| new |") && !second.contains("| old |"), "{second}");
    }

    #[test]
    fn the_middle_of_several_takings_is_told() {
        let taking = |value: f64, raw: f64| vec![Figure::new("a", "ms", value).against(raw, "raw"), Figure::new("b", "ms", value)];
        let figures = middle(vec![taking(1.0, 1.0), taking(9.0, 3.0), taking(4.0, 2.0)]);
        assert_eq!((figures[0].value, figures[1].value), (4.0, 4.0));
    }

    #[test]
    fn several_takings_stand_beside_the_middle_one() {
        let taking = |value: f64, raw: f64| {
            let of_memory = Figure::new("memory", "MB", value).against(raw, "raw").aims(Aim::AtMost(30.0));
            vec![Figure::new("rate", "runs/s", value).against(raw, "raw"), of_memory]
        };
        let figures = middle(vec![taking(20.0, 10.0), taking(30.0, 30.0), taking(25.0, 5.0)]);
        assert_eq!((figures[0].value, figures[1].value), (20.0, 25.0), "a value that is aimed at is not chosen by its ratio");
        let page = Report { times: 3, ..report(figures) }.markdown(None);
        for text in [
            ", now, each figure the middle one of 3 takings in as many rounds\n",
            "| measure | stepwell | raw limit | ratio | least to most | aim | |\n|---|---:|---:|---:|---|---|---|\n",
            "| rate | 20.0 runs/s | 10.0 runs/s (raw) | 2.00 | 1.00 to 5.00 | – |  |",
            "| memory | 25.0 MB | 5.000 MB (raw) | 5.00 | 20.0 to 30.0 MB | ≤ 30 | met |",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
    }

    #[test]
    fn a_change_is_told_in_percent() {
        let figure = Figure::new("a", "runs/s", 100.0).against(200.0, "raw");
        let report = report(vec![Figure { before: Some(80.0), ratio_before: Some(1.0), ..figure }, Figure::new("b", "ms", 1.0)]);
        let (heads, rows) = report.table();
        assert_eq!(heads, ["measure", "stepwell", "raw limit", "ratio", "aim", "", "change", "change of the ratio"]);
        assert_eq!(
            (&rows[0][6..], &rows[1][6..]),
            (&["+25.0 %".to_owned(), "-50.0 %".to_owned()][..], &[String::new(), String::new()][..])
        );
    }
}
