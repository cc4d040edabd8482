//! How the results of tests are told: to people, as JSON, and as JUnit XML.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::{Diagnostic, Millis, Span};
use crate::project::Project;
use crate::rules::RunState;
use crate::server::view::{LogView, Trace};
use crate::testing::{Problem, Report, Seen, Side, Test};

use super::super::exit::Trouble;
use super::super::live::log_line;
use super::super::out::{BOLD, GREEN, Out, RED, YELLOW, count, paint, short, shown, xml};
use super::super::tree;
use super::dim;

/// A test and what came of it; no report where it was left out.
#[derive(Debug)]
pub struct Ended<'t> {
    /// The test.
    pub test: &'t Test,
    /// What came of it.
    pub report: Option<Report>,
}

impl Ended<'_> {
    /// Whether something is not as expected.
    pub fn has_failed(&self) -> bool {
        self.report.as_ref().is_some_and(|report| !report.problems.is_empty())
    }

    fn word(&self) -> &'static str {
        match &self.report {
            None => "skipped",
            Some(report) if report.problems.is_empty() => "passed",
            Some(_) => "failed",
        }
    }

    fn line(&self) -> usize {
        self.test.place.source.position(self.test.place.range.start).0
    }

    fn problems(&self) -> &[Problem] {
        self.report.as_ref().map_or(&[], |report| &report.problems)
    }
}

/// Tells people.
pub struct Printer<'a> {
    /// Where to.
    pub out: &'a Out,
    /// What the tests were run on.
    pub project: &'a Project,
    /// Whether to show the runs of tests that passed.
    pub verbose: bool,
    /// Whether to say nothing until the end.
    pub quiet: bool,
}

impl Printer<'_> {
    /// Tells of one test, in a line.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn one(&self, ended: &Ended<'_>, is_first_of_file: bool) -> Result<(), Trouble> {
        if self.quiet {
            return Ok(());
        }
        if is_first_of_file {
            self.out.line(format!("{} {}", paint(BOLD, shown(&ended.test.file)), dim(&ended.test.function)))?;
        }
        let name = shown(&ended.test.name);
        let Some(report) = &ended.report else {
            let why = ended.test.skip.as_deref().unwrap_or_default();
            self.out.line(format!("  {} {name}  {}", paint(YELLOW, "-"), dim(format!("left out: {}", shown(why)))))?;
            return Ok(());
        };
        let mut times = format!("{} in {}", passed(report, ended.test), short(report.took));
        if report.crashes > 0 {
            let word = if report.crashes == 1 { "crash" } else { "crashes" };
            times = format!("{times}, {} {word}", report.crashes);
        }
        let mark = if report.problems.is_empty() { paint(GREEN, "✓") } else { paint(RED, "✗") };
        self.out.line(format!("  {mark} {name}  {}", dim(times)))?;
        if self.verbose {
            self.runs(report, true)?;
        }
        Ok(())
    }

    /// Says of every test that failed what is not as expected, and counts.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn conclude(&self, ended: &[Ended<'_>], took: Duration) -> Result<(), Trouble> {
        for failed in ended.iter().filter(|ended| ended.has_failed()) {
            let Some(report) = &failed.report else { continue };
            for problem in &report.problems {
                self.out.line("")?;
                self.problem(problem)?;
            }
            if !self.verbose {
                self.out.line("")?;
                self.runs(report, false)?;
            }
            self.error(report)?;
        }
        let number = |word: &str| ended.iter().filter(|ended| ended.word() == word).count();
        let (failed, skipped) = (number("failed"), number("skipped"));
        let mut parts = vec![paint(GREEN, format!("{} passed", number("passed")))];
        if failed > 0 {
            parts.push(paint(RED, format!("{failed} failed")));
        }
        if skipped > 0 {
            parts.push(paint(YELLOW, format!("{skipped} left out")));
        }
        let took = short(Span(i64::try_from(took.as_millis()).unwrap_or(i64::MAX)));
        self.out.line(format!("\n{}: {}  {}", count(ended.len(), "test"), parts.join(", "), dim(format!("in {took}"))))?;
        Ok(())
    }

    fn problem(&self, problem: &Problem) -> Result<(), Trouble> {
        self.out.line(problem.diagnostic.render(true))?;
        if problem.diff.is_empty() {
            return Ok(());
        }
        self.out.line(format!("   {}  {}", paint(RED, "- expected"), paint(GREEN, "+ got")))?;
        for line in &problem.diff {
            let text = shown(&line.text);
            self.out.line(match line.side {
                Side::Both => format!("     {text}"),
                Side::Expected => format!("   {}", paint(RED, format!("- {text}"))),
                Side::Got => format!("   {}", paint(GREEN, format!("+ {text}"))),
                Side::Skipped => format!("     {}", dim(text)),
            })?;
        }
        Ok(())
    }

    /// The runs of a test as trees, those of other functions behind.
    fn runs(&self, report: &Report, with_logs: bool) -> Result<(), Trouble> {
        for seen in report.outcome.runs.iter().chain(&report.outcome.others) {
            for line in tree::lines(&self.trace(seen, report.outcome.now), &[], report.outcome.now) {
                self.out.line(format!("    {line}"))?;
            }
            if with_logs {
                for line in &seen.logs {
                    self.out.line(format!("      {}", log_line(&LogView::of(line))))?;
                }
            }
        }
        Ok(())
    }

    /// The error of the run, with its script, where nobody expected one.
    fn error(&self, report: &Report) -> Result<(), Trouble> {
        let Some(seen) = report.outcome.runs.first().filter(|seen| seen.run.state == RunState::Failed) else { return Ok(()) };
        let Some(error) = &seen.run.error else { return Ok(()) };
        let trace = self.trace(seen, report.outcome.now);
        // What was not mocked has been shown at its place.
        if error.code != "E0611" {
            self.out.line("")?;
            self.out.line(tree::problem(error, &tree::files(&trace.sources)).render(true))?;
        }
        Ok(())
    }

    fn trace(&self, seen: &Seen, now: Millis) -> Trace {
        let mut trace = Trace::of(&seen.run, seen.event.as_ref(), &seen.journal, &seen.waits, now);
        let program = self.project.programs().find(|program| seen.run.version.as_ref() == Some(program.hash()));
        trace.add_sources(program.map(|program| program.source()));
        trace
    }
}

/// How much virtual time went by.
fn passed(report: &Report, test: &Test) -> String {
    match report.outcome.now.since(test.started()) {
        Span(0) => "0s".to_owned(),
        span => short(span),
    }
}

/// One JSON document of all results.
pub fn json(ended: &[Ended<'_>], took: Duration) -> Value {
    let tests: Vec<Value> = ended
        .iter()
        .map(|one| {
            let report = one.report.as_ref();
            json!({
                "file": one.test.file,
                "line": one.line(),
                "name": one.test.name,
                "function": &*one.test.function,
                "status": one.word(),
                "skipped": one.test.skip,
                "took_ms": report.map_or(0, |report| report.took.0),
                "virtual_ms": report.map_or(0, |report| report.outcome.now.since(one.test.started()).0),
                "crashes": report.map_or(0, |report| report.crashes),
                "problems": one.problems().iter().map(problem_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    let number = |word: &str| ended.iter().filter(|ended| ended.word() == word).count();
    json!({
        "tests": tests,
        "passed": number("passed"),
        "failed": number("failed"),
        "skipped": number("skipped"),
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}

fn problem_json(problem: &Problem) -> Value {
    let told = &problem.diagnostic;
    let (file, line, column) = told.position().unwrap_or(("", 0, 0));
    json!({
        "code": told.code,
        "message": told.message,
        "file": file,
        "line": line,
        "column": column,
        "label": told.places.first().map_or("", |place| place.label.as_str()),
        "help": told.helps,
        "diff": diff(problem),
    })
}

fn diff(problem: &Problem) -> Vec<String> {
    let sign = |side| match side {
        Side::Both => ' ',
        Side::Expected => '-',
        Side::Got => '+',
        Side::Skipped => '…',
    };
    problem.diff.iter().map(|line| format!("{} {}", sign(line.side), if line.side == Side::Skipped { "" } else { &line.text })).collect()
}

/// The results in the form that CI systems read: a suite for each file.
pub fn junit(ended: &[Ended<'_>]) -> String {
    let mut files: BTreeMap<&str, Vec<&Ended<'_>>> = BTreeMap::new();
    ended.iter().for_each(|one| files.entry(&one.test.file).or_default().push(one));
    let seconds =
        |ended: &[&Ended<'_>]| ended.iter().filter_map(|one| one.report.as_ref()).map(|report| report.took.0).sum::<i64>() as f64 / 1000.0;
    let number = |ended: &[&Ended<'_>], word: &str| ended.iter().filter(|ended| ended.word() == word).count();
    let all: Vec<&Ended<'_>> = ended.iter().collect();
    let head = |ended: &[&Ended<'_>]| {
        let (tests, failures, skipped) = (ended.len(), number(ended, "failed"), number(ended, "skipped"));
        format!("tests=\"{tests}\" failures=\"{failures}\" skipped=\"{skipped}\" time=\"{:.3}\"", seconds(ended))
    };
    let mut text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"stepwell\" {}>\n", head(&all));
    for (file, tests) in &files {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  <testsuite name=\"{}\" {}>", xml(file), head(tests));
        for one in tests {
            let (name, class, line) = (xml(&one.test.name), xml(&one.test.function), one.line());
            let took = seconds(&[one]);
            let _ = write!(
                text,
                "    <testcase name=\"{name}\" classname=\"{class}\" file=\"{}\" line=\"{line}\" time=\"{took:.3}\"",
                xml(file)
            );
            match &one.report {
                None => {
                    let why = xml(one.test.skip.as_deref().unwrap_or_default());
                    let _ = writeln!(text, ">\n      <skipped message=\"{why}\"/>\n    </testcase>");
                }
                Some(report) if report.problems.is_empty() => text.push_str("/>\n"),
                Some(report) => {
                    text.push_str(">\n");
                    for problem in &report.problems {
                        let Diagnostic { code, message, .. } = &problem.diagnostic;
                        let whole = format!("{}\n{}", problem.diagnostic.render(false), diff(problem).join("\n"));
                        let _ = writeln!(text, "      <failure type=\"{code}\" message=\"{}\">{}</failure>", xml(message), xml(&whole));
                    }
                    text.push_str("    </testcase>\n");
                }
            }
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}
