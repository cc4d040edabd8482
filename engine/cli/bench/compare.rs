//! The page that a run is compared with: its figures, and how they were taken.

use super::report::{Figure, Report};

/// What a page holds that was written by a report before.
#[derive(Debug, Default)]
pub struct Page {
    rows: Vec<Row>,
    /// None where the page does not say it.
    circumstances: Option<Circumstances>,
}

/// A figure of the page.
#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    value: f64,
    /// None where the figure stood for itself.
    ratio: Option<f64>,
}

/// What makes figures others, as a page's head tells it.
#[derive(Debug, PartialEq, Eq)]
struct Circumstances {
    build: String,
    /// Cores and processor.
    machine: String,
    quick: bool,
}

impl Circumstances {
    fn new(build: &str, machine: &str, quick: bool) -> Circumstances {
        // The memory stands last, and is not what figures are short of.
        let machine = machine.rsplit_once(", ").map_or(machine, |(cores, _memory)| cores);
        Circumstances { build: build.to_owned(), machine: machine.to_owned(), quick }
    }

    /// From the first two lines of a page's head.
    fn read(page: &str) -> Option<Circumstances> {
        let mut lines = page.lines().skip_while(|line| !line.starts_with("- stepwell "));
        let (first, machine) = (lines.next()?, lines.next()?.strip_prefix("- ")?);
        let (build, _) = first.split_once('(')?.1.split_once(" build)")?;
        Some(Circumstances::new(build, machine, first.contains("(`--quick`)")))
    }

    fn of(report: &Report) -> Circumstances {
        Circumstances::new(report.build, report.machine.first().map_or("", String::as_str), report.quick)
    }

    fn work(&self) -> &'static str {
        if self.quick { "a part" } else { "all" }
    }
}

impl Page {
    /// Reads a page; whatever is no row of figures is left alone.
    pub fn read(page: &str) -> Page {
        let rows = page.lines().filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let (name, value) = (cells.next()?, cells.next()?);
            let value = value.split(' ').next()?.replace(',', "").parse().ok()?;
            // The raw limit stands between; it has been measured anew.
            let ratio = cells.nth(1).and_then(|ratio| ratio.parse().ok());
            Some(Row { name: name.to_owned(), value, ratio })
        });
        Page { rows: rows.collect(), circumstances: Circumstances::read(page) }
    }

    /// Tells each figure of the report what it was on the page, and the report what else was otherwise.
    pub fn tell(&self, report: &mut Report) {
        for figure in &mut report.figures {
            if let Some(row) = self.rows.iter().find(|row| row.name == figure.name) {
                figure.before = Some(row.value);
                figure.ratio_before = row.ratio;
            }
        }
        if report.figures.iter().any(|figure: &Figure| figure.before.is_some()) {
            report.otherwise = self.otherwise(&Circumstances::of(report));
        }
    }

    /// How the page was taken, where that was otherwise than `here`, as what is said of it.
    fn otherwise(&self, here: &Circumstances) -> Option<String> {
        let Some(there) = &self.circumstances else { return Some("does not say how its figures were taken".to_owned()) };
        let mut differing = Vec::new();
        if there.build != here.build {
            differing.push(format!("by a {} build (here a {} one)", there.build, here.build));
        }
        if there.machine != here.machine {
            differing.push(format!("on {} (here {})", there.machine, here.machine));
        }
        if there.quick != here.quick {
            differing.push(format!("with {} of the work (here {})", there.work(), here.work()));
        }
        (!differing.is_empty()).then(|| format!("was taken {}", differing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Aim;
    use super::*;

    fn report(build: &'static str, machine: &str, quick: bool) -> Report {
        let figures = vec![
            Figure::new("runs", "runs/s", 1500.0).against(2000.0, "rusqlite").aims(Aim::Share(0.8)),
            Figure::new("memory", "MB", 20.0).aims(Aim::AtMost(30.0)),
        ];
        let machine = vec![machine.to_owned(), "Linux 6".to_owned()];
        Report { build, machine, quick, figures, ..Report::default() }
    }

    const HERE: &str = "2 cores, AMD EPYC, 23.5 GB";

    #[test]
    fn a_page_that_was_written_is_read_back() {
        let page = Page::read(&report("release", HERE, true).markdown(None));
        let row = |name: &str, value, ratio| Row { name: name.to_owned(), value, ratio };
        assert_eq!(page.rows, [row("runs", 1500.0, Some(0.75)), row("memory", 20.0, None)]);
        assert_eq!(page.circumstances, Some(Circumstances::new("release", HERE, true)));
    }

    #[test]
    fn figures_are_told_what_they_were_and_what_else_was_otherwise() {
        let told = |page: &str, mut report: Report| {
            Page::read(page).tell(&mut report);
            (report.figures[0].before, report.figures[0].ratio_before, report.otherwise)
        };
        let page = report("release", HERE, false).markdown(None);
        let same = (Some(1500.0), Some(0.75), None);
        assert_eq!(told(&page, report("release", HERE, false)), same);
        assert_eq!(told(&page, report("release", "2 cores, AMD EPYC, 24.0 GB", false)), same, "memory is no difference");
        let cases = [
            (report("debug", HERE, false), "was taken by a release build (here a debug one)"),
            (report("release", "4 cores, Intel, 8 GB", false), "was taken on 2 cores, AMD EPYC (here 4 cores, Intel)"),
            (report("release", HERE, true), "was taken with all of the work (here a part)"),
            (report("debug", HERE, true), "was taken by a release build (here a debug one), with all of the work (here a part)"),
        ];
        for (report, otherwise) in cases {
            assert_eq!(told(&page, report).2.as_deref(), Some(otherwise));
        }
        let bare = "| measure |\n| runs | 5 runs/s |\n";
        let silent = Some("does not say how its figures were taken".to_owned());
        assert_eq!(told(bare, report("release", HERE, false)), (Some(5.0), None, silent));
        assert_eq!(
            told("# Nothing\n", report("release", HERE, false)),
            (None, None, None),
            "with nothing to compare there is nothing to say"
        );
    }
}
