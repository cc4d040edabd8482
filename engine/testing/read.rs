//! Files of tests, held against the project: every test with all that it takes over from others.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::base::{Diagnostic, Location, Millis, Severity, Source, Span};
use crate::config::{self, ByClock, Case, Expect, Given, Later, Suite, TargetKind, With};
use crate::expr::{Expr, Segment};
use crate::project::Project;

use super::helped;
use super::mocks::Answers;

/// When a test begins unless it says otherwise: 2026-01-01T00:00:00Z.
const START: Millis = Millis(1_767_225_600_000);
/// The variables of `assert`.
const ASSERT_VARIABLES: &[&str] = &["run", "runs", "event"];
/// The variables of a mock's `if`.
const MOCK_VARIABLES: &[&str] = &["request"];
/// The fields of `run`.
pub(super) const RUN_FIELDS: &[&str] = &[
    "id",
    "function",
    "status",
    "output",
    "error",
    "reason",
    "steps",
    "attempts",
    "results",
    "events_sent",
    "logs",
    "calls",
    "published",
    "started_ms",
    "ended_ms",
    "duration_ms",
    "key",
];
/// The fields of `request`, by what is asked.
fn request_fields(kind: TargetKind) -> &'static [&'static str] {
    match kind {
        TargetKind::Http => &["method", "url", "path", "headers", "query", "json", "text", "step", "attempt"],
        TargetKind::Db => &["database", "sql", "params", "step", "attempt"],
        TargetKind::Email => &["to", "cc", "bcc", "from", "reply_to", "subject", "text", "html", "attachments", "step", "attempt"],
        TargetKind::Exec => &["command", "args", "stdin", "step", "attempt"],
    }
}

/// A test, ready to be carried out.
#[derive(Debug)]
pub struct Test {
    /// The file, below the project's folder.
    pub file: String,
    /// What it shows.
    pub name: String,
    /// Where its name stands.
    pub place: Location,
    /// The tested function.
    pub function: Arc<str>,
    /// Why it is left out.
    pub skip: Option<String>,
    /// Whether it is cut off after every commit.
    pub crash_after_each_step: bool,
    /// Whether it is done again with a cut at each commit.
    pub crash_anywhere: bool,
    pub(super) alone: Option<HashSet<Arc<str>>>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) start: Millis,
    /// What happens, in order of time; the start of the run first.
    pub(super) script: Vec<Act>,
    pub(super) answers: Arc<Vec<Answers>>,
    pub(super) expect: Expect,
    pub(super) asserts: Vec<(Expr, Location)>,
}

impl Test {
    /// When it begins, in virtual time.
    pub fn started(&self) -> Millis {
        self.start
    }
}

/// Something that happens to the engine from outside.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) after: Span,
    pub(super) what: What,
    pub(super) place: Location,
}

/// What happens.
#[derive(Debug)]
pub(super) enum What {
    /// An event is sent.
    Event { name: Arc<str>, data: Value, id: Option<Arc<str>> },
    /// A signal is sent.
    Signal { name: String, data: Value },
    /// The clock starts the function, by this one of its schedules, or the first one.
    Clock { schedule: Option<String> },
    /// Somebody cancels the function's run.
    Cancel { reason: String },
}

/// Reads a file of tests; `name` is its path below the project's folder.
///
/// Gives the tests that are sound, and all that is wrong or doubtful with the file.
pub fn read(path: &Path, name: &str, project: &Project) -> (Vec<Test>, Vec<Diagnostic>) {
    held(config::load_suite(path, name), name, project)
}

/// Reads tests that are in no file.
pub(super) fn read_text(name: &str, text: &str, project: &Project) -> (Vec<Test>, Vec<Diagnostic>) {
    held(config::read_suite(Source::new(name, text)), name, project)
}

fn held(loaded: config::LoadedSuite, name: &str, project: &Project) -> (Vec<Test>, Vec<Diagnostic>) {
    let mut problems = loaded.problems;
    let Some(suite) = loaded.suite else { return (Vec::new(), problems) };
    let mut reading = Reading { project, suite: &suite, file: name, problems: Vec::new() };
    let tests = reading.all();
    problems.extend(reading.problems);
    problems.sort_by_key(|problem| problem.places.first().map(|place| place.range.start));
    problems.dedup();
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return (Vec::new(), problems);
    }
    (tests, problems)
}

struct Reading<'a> {
    project: &'a Project,
    suite: &'a Suite,
    file: &'a str,
    problems: Vec<Diagnostic>,
}

impl Reading<'_> {
    fn all(&mut self) -> Vec<Test> {
        let Some(function) = &self.suite.function else { return Vec::new() };
        let id = self.function(&function.value, &function.place);
        let alone = self.alone(&function.value);
        self.variables(&self.suite.env);
        let shared: Vec<Answers> = self.suite.mocks.iter().filter_map(|mock| self.answers(mock)).collect();
        let shared = Arc::new(shared);
        let mut tests = Vec::with_capacity(self.suite.tests.len());
        for case in &self.suite.tests {
            self.variables(&case.env);
            let test = self.test(case, &function.value, alone.as_ref(), &shared);
            tests.extend(test.filter(|_| id));
        }
        tests
    }

    /// Notes a function that is not there.
    fn function(&mut self, id: &str, place: &Location) -> bool {
        let is_there = self.project.function(id).is_some();
        if !is_there {
            let problem = Diagnostic::error("E0601", format!("there is no function `{id}`")).at(place.clone());
            self.problems.push(problem.nearest(id, self.project.functions.iter().map(|function| &*function.id)));
        }
        is_there
    }

    fn alone(&mut self, function: &str) -> Option<HashSet<Arc<str>>> {
        let mut alone: HashSet<Arc<str>> = HashSet::from([Arc::from(function)]);
        match self.suite.with.as_ref().map(|with| &with.value) {
            Some(With::All) => return None,
            Some(With::These(ids)) => {
                for id in ids {
                    self.function(&id.value, &id.place);
                    alone.insert(Arc::from(id.value.as_str()));
                }
            }
            None => {}
        }
        Some(alone)
    }

    /// Notes variables that the config does not list: scripts could not read them.
    fn variables(&mut self, env: &config::Table<config::Spanned<String>>) {
        let config = &self.project.config;
        let known: Vec<&str> = config.env.names().chain(config.secrets.iter().map(|name| name.value.as_str())).collect();
        for (name, value) in env.iter() {
            if !known.contains(&name.value.as_str()) {
                let problem = Diagnostic::error("E0606", format!("events.yaml lists no variable and no secret `{}`", name.value));
                self.problems.push(problem.at(name.place.clone()).nearest(&name.value, known.iter().copied()));
            } else if config.secrets.iter().any(|secret| secret.value == name.value)
                && value.value.len() < crate::base::limits::SECRET_LEAST_BYTES
            {
                let problem = Diagnostic::error("E0214", format!("the secret `{}` has {} bytes", name.value, value.value.len()));
                let least = crate::base::limits::SECRET_LEAST_BYTES;
                self.problems.push(problem.at(value.place.clone()).help(format!("at least {least} are needed, in tests too")));
            }
        }
    }

    /// The test and those that it extends, itself first.
    fn line(&self, case: &Case) -> Vec<Case> {
        let mut line = vec![case.clone()];
        while let Some(next) = line.last().and_then(|last| self.suite.case(&last.extends.as_ref()?.value)) {
            if line.len() > self.suite.tests.len() {
                break;
            }
            line.push(next.clone());
        }
        line
    }

    fn test(&mut self, case: &Case, function: &str, alone: Option<&HashSet<Arc<str>>>, shared: &Arc<Vec<Answers>>) -> Option<Test> {
        let line = self.line(case);
        let first = |given: fn(&Case) -> bool| line.iter().find(|case| given(case));
        let mut script = Vec::new();
        match first(|case| case.event.is_some() || case.cron.is_some()) {
            Some(Case { cron: Some(cron), .. }) if cron.value != ByClock::No => script.extend(self.by_clock(cron, function)),
            Some(Case { event: Some(given), place, .. }) => script.extend(self.event(given, place)),
            _ => {
                let problem = Diagnostic::error("E0607", format!("nothing starts the test `{}`", case.name.value)).at(case.place.clone());
                self.problems.push(problem.help("give it an `event`, `cron: true`, or a test that it `extends`"));
            }
        }
        for later in first(|case| case.send.is_some()).and_then(|case| case.send.clone()).unwrap_or_default() {
            script.extend(self.later(&later, &case.place));
        }
        script.sort_by_key(|act| act.after);
        let start = first(|case| case.now.is_some()).and_then(|case| case.now.as_ref()).or(self.suite.now.as_ref());
        let start = match start.map(|now| (now.value.parse::<jiff::Timestamp>(), &now.place)) {
            None => START,
            Some((Ok(now), _)) => Millis(now.as_millisecond()),
            Some((Err(_), place)) => {
                let problem = Diagnostic::error("E0608", "this is not a time").at(place.clone());
                self.problems.push(problem.help("write it as RFC 3339: 2026-01-01T00:00:00Z"));
                START
            }
        };
        let mut env = BTreeMap::new();
        for table in [&self.suite.env].into_iter().chain(line.iter().rev().map(|case| &case.env)) {
            env.extend(table.iter().map(|(name, value)| (name.value.clone(), value.value.clone())));
        }
        let mut answers: Vec<Answers> = line.iter().flat_map(|case| &case.mocks).filter_map(|mock| self.answers(mock)).collect();
        answers.extend(shared.iter().cloned());
        let expect = line.iter().skip(1).fold(case.expect.clone(), |expect, case| expect.over(&case.expect));
        self.calls(&case.expect);
        self.names(&case.expect);
        let asserts = expect.assert.iter().filter_map(|text| self.expression(text, "assertion", ASSERT_VARIABLES, &[])).collect();
        let own = |flag: fn(&Case) -> Option<bool>| line.iter().find_map(flag).unwrap_or(false);
        Some(Test {
            file: self.file.to_owned(),
            name: case.name.value.clone(),
            place: case.place.clone(),
            function: Arc::from(function),
            skip: case.skip.as_ref().map(|why| why.value.clone()),
            crash_after_each_step: own(|case| case.crash_after_each_step.as_ref().map(|flag| flag.value)),
            crash_anywhere: own(|case| case.crash_anywhere.as_ref().map(|flag| flag.value)),
            alone: alone.cloned(),
            env,
            start,
            script,
            answers: Arc::new(answers),
            expect,
            asserts,
        })
    }

    fn by_clock(&mut self, cron: &config::Spanned<ByClock>, function: &str) -> Option<Act> {
        let schedule = match &cron.value {
            ByClock::Named(schedule) => Some(schedule.clone()),
            ByClock::First | ByClock::No => None,
        };
        if let Some(found) = self.project.function(function).filter(|found| found.cron(schedule.as_deref()).is_none()) {
            let known: Vec<String> = found.crons.iter().map(|cron| format!("`{}`", cron.schedule.text())).collect();
            let (message, help) = match &schedule {
                Some(schedule) if !known.is_empty() => {
                    (format!("`{schedule}` is no schedule of the function `{function}`"), format!("it has {}", known.join(", ")))
                }
                _ => (format!("the function `{function}` has no `cron`"), "start it with an `event`".to_owned()),
            };
            self.problems.push(Diagnostic::error("E0607", message).at(cron.place.clone()).help(help));
            return None;
        }
        Some(Act { after: Span(0), what: What::Clock { schedule }, place: cron.place.clone() })
    }

    fn event(&mut self, given: &Given, place: &Location) -> Option<Act> {
        let name = given.name.as_ref()?;
        let data = self.data(&name.value, &name.place, given.data.as_ref())?;
        let id = given.id.as_ref().map(|id| Arc::from(id.value.as_str()));
        let what = What::Event { name: Arc::from(name.value.as_str()), data, id };
        Some(Act { after: Span(0), what, place: place.clone() })
    }

    fn later(&mut self, later: &Later, place: &Location) -> Option<Act> {
        let after = later.at.as_ref().map_or(Span(0), |at| at.value);
        if let Some(signal) = &later.signal {
            let data = later.data.as_ref().map_or(Value::Null, |data| data.value.value.clone());
            let what = What::Signal { name: signal.value.clone(), data };
            return Some(Act { after, what, place: signal.place.clone() });
        }
        if let Some(reason) = &later.cancel {
            return Some(Act { after, what: What::Cancel { reason: reason.value.clone() }, place: reason.place.clone() });
        }
        let given = Given { name: later.name.clone(), data: later.data.clone(), id: later.id.clone() };
        let place = later.name.as_ref().map_or(place, |name| &name.place);
        Some(Act { after, ..self.event(&given, place)? })
    }

    /// The data of an event: what is given, else its example; checked as the engine would.
    fn data(&mut self, event: &str, place: &Location, given: Option<&config::Spanned<config::Inline>>) -> Option<Value> {
        let data = match given {
            Some(given) => given.value.value.clone(),
            None => match self.project.example(event) {
                Some(example) => example.clone(),
                None => Value::Object(serde_json::Map::new()),
            },
        };
        let Err(problems) = self.project.check_event(event, &data) else { return Some(data) };
        for problem in problems {
            let pointer = problem.pointer.strip_prefix("/data").unwrap_or_default();
            let at = given.filter(|_| problem.pointer != "/name").and_then(|given| given.value.place(pointer).or(Some(&given.place)));
            let shown = if pointer.is_empty() { String::new() } else { format!("{pointer}: ") };
            let told = Diagnostic::error(problem.code, format!("{event} is refused: {shown}{}", problem.message));
            self.problems.push(helped(told.at(at.unwrap_or(place).clone()), problem.help));
        }
        None
    }

    fn answers(&mut self, mock: &config::Mock) -> Option<Answers> {
        let target = mock.target()?.value.clone();
        let condition = match &mock.r#if {
            Some(text) => Some(self.expression(text, "condition", MOCK_VARIABLES, request_fields(target.kind()))?.0),
            None => None,
        };
        Some(Answers::of(mock, target, condition.map(Arc::new)))
    }

    /// Notes expected calls that are not written as a mock has them.
    fn calls(&mut self, expect: &Expect) {
        for (target, _) in expect.calls.iter() {
            if let Err((why, help)) = super::mocks::target(&target.value) {
                self.problems.push(helped(Diagnostic::error("E0603", why).at(target.place.clone()), help));
            }
        }
    }

    /// Notes expected events that nobody could send.
    fn names(&mut self, expect: &Expect) {
        for sent in expect.events_sent.iter().flat_map(|sent| &sent.value) {
            let Some(name) = &sent.name else { continue };
            // Data that are right in any case leave the name as what may be wrong.
            let wrong = self.project.check_event(&name.value, &Value::Object(serde_json::Map::new())).err().unwrap_or_default();
            for problem in wrong.into_iter().filter(|problem| problem.pointer == "/name") {
                self.problems.push(helped(Diagnostic::error(problem.code, problem.message).at(name.place.clone()), problem.help));
            }
        }
    }

    fn expression(&mut self, text: &config::Spanned<String>, what: &str, variables: &[&str], request: &[&str]) -> Option<(Expr, Location)> {
        let expr = match Expr::parse(&text.value, variables) {
            Ok(expr) => expr,
            Err(errors) => {
                for error in errors {
                    let code = if error.message.starts_with("unknown") { "E0212" } else { "E0211" };
                    let problem = Diagnostic::error(code, format!("in this {what}: {}", error.message));
                    self.problems.push(helped(problem.at(text.place.within(&text.value, error.range)), error.help));
                }
                return None;
            }
        };
        for path in expr.paths() {
            let fields = match path.root.as_str() {
                "run" => RUN_FIELDS,
                "request" => request,
                _ => continue,
            };
            let Some(Segment::Field(field)) = path.segments.first() else { continue };
            if !fields.contains(&field.as_str()) {
                let problem = Diagnostic::error("E0609", format!("`{}` has no `{field}`", path.root));
                let problem = problem.at(text.place.within(&text.value, path.range.clone()));
                self.problems.push(match crate::base::diagnostic::nearest(field, fields.iter().copied()) {
                    Some(right) => problem.help(format!("did you mean `{}.{right}`?", path.root)),
                    None => problem.help(format!("it has {}", fields.join(", "))),
                });
            }
        }
        Some((expr, text.place.clone()))
    }
}
