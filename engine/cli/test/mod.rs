//! `stepwell test`: the tests of handlers, in parallel, on a clock that jumps.

mod report;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use crate::base::diagnostic::nearest;
use crate::base::{Diagnostic, Severity};
use crate::clock::Stopwatch;
use crate::project::{Mode, Project};
use crate::script::Host;
use crate::testing::{self, Report};

use super::exit::{Exit, Trouble};
use super::out::{DIM, Out, paint};
use super::place::{self, ConfigOption};
use super::watch::Watch;
use report::{Ended, Printer};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub struct Test {
    /// Only tests whose file, function or name contains this
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Show what every run did, with its log, also where all is well
    #[arg(short, long)]
    verbose: bool,
    /// Run them again whenever a file of the project has changed, until ctrl-c
    #[arg(long, conflicts_with_all = ["json", "junit"])]
    watch: bool,
    /// Write the results as JUnit XML too, for CI
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print one JSON document instead
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

impl Test {
    /// Runs the tests that are meant.
    ///
    /// # Errors
    /// With `--watch` exit 74 where nothing can be watched or written. Else exit 1 where one fails, 4 where there is none, 78 for a project or a file of tests that is not valid.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        if !self.watch {
            return self.once(out, &path);
        }
        let mut watch = Watch::needed(place::root(&path))?;
        let runtime = super::runtime()?;
        loop {
            match self.once(out, &path) {
                // A reader that has gone away wants no further run.
                Err(trouble) if trouble.problems.is_empty() => return Err(trouble),
                // What is not valid is mended while this waits.
                Err(trouble) => out.problems(&trouble.problems),
                Ok(_) => {}
            }
            out.say(dim("a change of a file runs the tests again, ctrl-c ends"));
            // What has changed meanwhile is told at once.
            if runtime.block_on(watch.next()).is_none() {
                return Ok(Exit::Done);
            }
            out.say("");
        }
    }

    /// Runs them once.
    fn once(&self, out: &Out, path: &Path) -> Result<Exit, Trouble> {
        let watch = Stopwatch::start();
        let host = Host::new();
        let (project, notes) = Project::load(path, &host, &|_| None, Mode::Test).map_err(Trouble::invalid)?;
        if self.verbose {
            out.problems(&notes);
        }
        let root = place::root(path);
        let tests = self.tests(out, root, &project)?;
        let printer = Printer { out, project: &project, verbose: self.verbose, quiet: self.json };
        let ended = all(&tests, &project, &host, &printer)?;
        if let Some(file) = &self.junit {
            std::fs::write(file, report::junit(&ended)).map_err(|error| Trouble::file(file, "write", &error))?;
        }
        if self.json {
            out.json(&report::json(&ended, watch.elapsed()))?;
        } else {
            printer.conclude(&ended, watch.elapsed())?;
        }
        Ok(if ended.iter().any(Ended::has_failed) { Exit::Failed } else { Exit::Done })
    }

    /// The tests that are meant, in the order of their files.
    fn tests(&self, out: &Out, root: &Path, project: &Project) -> Result<Vec<testing::Test>, Trouble> {
        let folder = root.join("tests");
        let files = testing::files(root).map_err(|error| Trouble::file(&folder, "read", &error))?;
        let (mut tests, mut problems) = (Vec::new(), Vec::new());
        for name in &files {
            let (found, wrong) = testing::read(&root.join(name), name, project);
            tests.extend(found);
            problems.extend(wrong);
        }
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(Trouble::invalid(problems));
        }
        out.problems(&problems);
        let meant = |test: &testing::Test, filter: &str| {
            format!("{} {} {}", test.file, test.function, test.name).to_lowercase().contains(&filter.to_lowercase())
        };
        let Some(filter) = &self.filter else {
            return if tests.is_empty() { Err(nothing(&folder)) } else { Ok(tests) };
        };
        let names: Vec<String> = tests.iter().flat_map(|test| [test.function.to_string(), test.name.clone()]).collect();
        tests.retain(|test| meant(test, filter));
        if tests.is_empty() {
            let problem = Diagnostic::error("E0615", format!("no test has `{filter}` in its file, function or name"));
            let problem = match nearest(filter, names.iter().map(String::as_str)) {
                Some(right) => problem.help(format!("did you mean `{right}`?")),
                None => problem,
            };
            return Err(Trouble::new(Exit::NothingMatched, problem));
        }
        Ok(tests)
    }
}

fn nothing(folder: &Path) -> Trouble {
    let problem = Diagnostic::error("E0615", format!("there are no tests: no {}/*.test.yaml", folder.display()));
    let help = "a test is some lines of YAML: `stepwell explain E0615` shows one";
    Trouble::new(Exit::NothingMatched, problem.help(help))
}

/// Runs tests, as many at once as the machine has processors; tells of each in the order of the files.
fn all<'t>(tests: &'t [testing::Test], project: &Project, host: &Arc<Host>, printer: &Printer<'_>) -> Result<Vec<Ended<'t>>, Trouble> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(tests.len()).max(1);
    let next = AtomicUsize::new(0);
    let mut reports: Vec<Option<Report>> = tests.iter().map(|_| None).collect();
    let mut ended: Vec<Ended<'t>> = Vec::with_capacity(tests.len());
    std::thread::scope(|scope| {
        let (done, came) = mpsc::channel();
        for _ in 0..count {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                while let Some((at, test)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, tests.get(at)?))) {
                    let report = test.skip.is_none().then(|| testing::run(test, project, host));
                    // Nobody listens any more where stdout is gone.
                    if done.send((at, report)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut told: Vec<bool> = vec![false; tests.len()];
        for (at, report) in came {
            reports[at] = report;
            told[at] = true;
            // One that is faster than those before it waits for them.
            while let Some(test) = tests.get(ended.len()).filter(|_| told[ended.len()]) {
                let report = reports[ended.len()].take();
                let is_first = ended.last().is_none_or(|last| last.test.file != test.file);
                let one = Ended { test, report };
                printer.one(&one, is_first)?;
                ended.push(one);
            }
        }
        Ok::<_, Trouble>(())
    })?;
    Ok(ended)
}

/// A line that stands behind.
fn dim(text: impl std::fmt::Display) -> String {
    paint(DIM, text)
}
