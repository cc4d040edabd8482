//! A prompt: lines of a handler, one after the other, as one run on the virtual clock.
//!
//! Each new line does the whole session again from its first line, as a run does that goes on. Time, chance and answers are the same
//! each time, so nobody sees that, and what a line made of the world (keys, waits, records) is there for the next one.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::base::{Diagnostic, Location, Source, codes};
use crate::project::{EventProblem, Project, SCRATCH};
use crate::rules::{Failure, LogRow, RunState, WaitState};
use crate::script::{Host, Program};

use super::cut::Cut;
use super::read;
use super::world::{self, Seen};

/// What the lines are called in messages.
const NAME: &str = "prompt";
/// What further settings are called in messages.
const SETTINGS: &str = "setting";

/// Lines of a handler, and what they find.
#[derive(Debug)]
pub struct Session<'a> {
    project: &'a Project,
    host: &'a Arc<Host>,
    event: String,
    data: Option<Value>,
    lines: Vec<String>,
    /// Mocks, as tests have them.
    mocks: Vec<String>,
    /// What comes later, as `send` of tests has it.
    later: Vec<String>,
    /// How many lines of the log have been told.
    told: usize,
}

/// What came of a line.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Its value; null for a statement.
    pub value: Value,
    /// What it wrote to the log.
    pub logs: Vec<LogRow>,
    /// What is wrong with it: then it is no part of the session.
    pub problems: Vec<Diagnostic>,
}

impl Said {
    fn wrong(problems: Vec<Diagnostic>) -> Said {
        Said { problems, ..Said::default() }
    }
}

impl<'a> Session<'a> {
    /// An empty session, which sees the first event of the project that has an example, or an event `prompt/line` without data.
    pub fn new(project: &'a Project, host: &'a Arc<Host>) -> Session<'a> {
        let with_example = project.config.events.names().find(|name| project.example(name).is_some());
        let event = with_example.or_else(|| project.config.events.names().find(|name| !name.ends_with('*')));
        Session {
            project,
            host,
            event: event.unwrap_or("prompt/line").to_owned(),
            data: None,
            lines: Vec::new(),
            mocks: Vec::new(),
            later: Vec::new(),
            told: 0,
        }
    }

    /// The name and data of the event.
    pub fn event(&self) -> (&str, Value) {
        let example = || self.project.example(&self.event).cloned().unwrap_or_else(|| json!({}));
        (&self.event, self.data.clone().unwrap_or_else(example))
    }

    /// Has the lines see another event; its example where no data are given. The lines so far are forgotten: they saw the other one.
    ///
    /// # Errors
    /// What is wrong with the event.
    pub fn set_event(&mut self, name: &str, data: Option<Value>) -> Result<(), Vec<Diagnostic>> {
        let given = data.clone().or_else(|| self.project.example(name).cloned()).unwrap_or_else(|| json!({}));
        if let Err(problems) = self.project.check_event(name, &given) {
            let told = |problem: EventProblem| {
                let pointer = problem.pointer.strip_prefix("/data").filter(|pointer| !pointer.is_empty());
                let at = pointer.map(|pointer| format!("{pointer}: ")).unwrap_or_default();
                super::helped(Diagnostic::error(problem.code, format!("{at}{}", problem.message)), problem.help)
            };
            return Err(problems.into_iter().map(told).collect());
        }
        name.clone_into(&mut self.event);
        self.data = data;
        self.reset();
        Ok(())
    }

    /// Adds a mock, as tests have it: `{ http: "GET *", reply: {} }`. It is asked before those that are there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add_mock(&mut self, mock: &str) -> Result<(), Vec<Diagnostic>> {
        self.mocks.insert(0, mock.to_owned());
        self.try_settings().inspect_err(|_| drop(self.mocks.remove(0)))
    }

    /// Adds something that comes later, as `send` of tests has it: `{ at: 5m, name: otp/received }`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add_later(&mut self, later: &str) -> Result<(), Vec<Diagnostic>> {
        self.later.push(later.to_owned());
        self.try_settings().inspect_err(|_| drop(self.later.pop()))
    }

    /// The mocks, the first one that is asked first.
    pub fn mocks(&self) -> &[String] {
        &self.mocks
    }

    /// The lines so far.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Forgets the lines.
    pub fn reset(&mut self) {
        self.lines.clear();
        self.told = 0;
    }

    /// Takes the last line back; false where there is none.
    pub fn undo(&mut self) -> bool {
        self.told = 0;
        let undone = self.lines.pop().is_some();
        if let Ok((_, seen)) = self.pass(&self.text("")) {
            self.told = seen.logs.len();
        }
        undone
    }

    /// Does a line.
    pub fn say(&mut self, line: &str) -> Said {
        let text = self.text(line);
        let (program, seen) = match self.pass(&text) {
            Ok(passed) => passed,
            Err(problems) => return Said::wrong(problems),
        };
        let logs: Vec<LogRow> = seen.logs.iter().skip(self.told).cloned().collect();
        let problem = match (seen.run.state, &seen.run.error) {
            (RunState::Completed, _) => {
                self.lines.push(line.to_owned());
                self.told = seen.logs.len();
                let value = seen.run.output.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
                return Said { value, logs, problems: Vec::new() };
            }
            (_, Some(error)) => failed(error, &program),
            (RunState::Waiting, None) => {
                let open = seen.waits.iter().filter(|wait| wait.state == WaitState::Open);
                let what: Vec<String> = open.map(|wait| wait.what.words()).collect();
                let problem = Diagnostic::error("E0614", format!("it waits for the {}, and nothing comes", what.join(" and the ")));
                problem.help(":send { at: 5m, name: otp/received } sends an event, :send { at: 5m, signal: approve } a signal")
            }
            (state, None) => Diagnostic::error("E0610", format!("the run is {}", state.word())),
        };
        Said { value: Value::Null, logs, problems: vec![problem] }
    }

    /// The session as one text, with a line more.
    fn text(&self, line: &str) -> String {
        // A line may end without a semicolon, and in a comment; and its value is not that of a line after it that has none.
        let before: String = self.lines.iter().map(|line| format!("{line}\n;();\n")).collect();
        format!("{before}{line}")
    }

    /// The test that the session is, as its file would have it.
    fn suite(&self) -> String {
        let (name, data) = self.event();
        let event = json!({ "name": name, "data": data });
        format!(
            "{{ \"function\": {}, \"tests\": [{{ \"name\": line, \"event\": {event}, \"mocks\": [{}], \"send\": [{}] }}] }}",
            Value::from(SCRATCH),
            self.mocks.join(", "),
            self.later.join(", "),
        )
    }

    /// Whether mocks and what comes later can be read.
    fn try_settings(&self) -> Result<(), Vec<Diagnostic>> {
        let project = self.project.with_scratch(self.host, &self.event, NAME, "")?;
        self.test(&project).map(|_| ())
    }

    fn test(&self, project: &Project) -> Result<super::Test, Vec<Diagnostic>> {
        let (tests, problems) = read::read_text(SETTINGS, &self.suite(), project);
        tests.into_iter().next().ok_or_else(|| problems.into_iter().map(without_place).collect())
    }

    fn pass(&self, text: &str) -> Result<(Arc<Program>, Seen), Vec<Diagnostic>> {
        let project = self.project.with_scratch(self.host, &self.event, NAME, text)?;
        let test = self.test(&project)?;
        let outcome = world::pass(&test, &project, self.host, Cut::Never);
        if let Some(why) = outcome.stuck {
            return Err(vec![Diagnostic::error("E0613", why)]);
        }
        let program = project.function(SCRATCH).map(|function| Arc::clone(&function.program));
        match (program, outcome.runs.into_iter().next()) {
            (Some(program), Some(seen)) => Ok((program, seen)),
            _ => Err(vec![Diagnostic::error("E0614", format!("`{}` started no run", self.event))]),
        }
    }
}

/// A problem of the text that the session makes of its settings, of which nobody has seen the lines.
fn without_place(problem: Diagnostic) -> Diagnostic {
    let helps = problem.helps.clone();
    helps.into_iter().fold(Diagnostic::error(problem.code, problem.message), Diagnostic::help)
}

/// Why a line failed, at its place.
fn failed(error: &Failure, program: &Program) -> Diagnostic {
    let code = codes::find(&error.code).map_or("", |entry| entry.code);
    let message = match &error.step {
        Some(step) => format!("{} (step `{step}`)", error.message),
        None => error.message.clone(),
    };
    let place = error.trace.first().and_then(|place| {
        let source: &Arc<Source> = program.files().iter().find(|source| source.name == place.file)?;
        Some(Location::word_at(source, place.line as usize, (place.column as usize).max(1)))
    });
    let mut problem = Diagnostic::error(code, message);
    if let Some(place) = place {
        problem = problem.at(place);
    }
    if let Some(data) = &error.data {
        problem = problem.help(format!("thrown: {data}"));
    }
    // What a test's file would have is said at a prompt in another way.
    let help = error.help.as_ref().map(|help| match help.strip_prefix("add to the test: mocks: [") {
        Some(mock) => format!(":mock {}", mock.strip_suffix(']').unwrap_or(mock)),
        None => help.clone(),
    });
    super::helped(problem, help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Mode;

    fn project(host: &Arc<Host>) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let config =
            "events:\n  order/placed: { example: { amount: 12 } }\n  otp/received: {}\ndatabases: { shop: { url: \"sqlite:shop.db\" } }\n";
        std::fs::write(folder.path().join("events.yaml"), config).unwrap();
        let (project, _) = Project::load(&folder.path().join("events.yaml"), host, &|_| None, Mode::Test).unwrap();
        (folder, project)
    }

    #[track_caller]
    fn value(session: &mut Session<'_>, line: &str) -> Value {
        let said = session.say(line);
        assert!(said.problems.is_empty(), "{line}: {}", said.problems[0]);
        said.value
    }

    #[test]
    fn lines_go_on_where_the_ones_before_ended() {
        let host = Host::new();
        let (_folder, project) = project(&host);
        let mut session = Session::new(&project, &host);
        assert_eq!(value(&mut session, "let a = event.data.amount // the example"), Value::Null);
        assert_eq!(value(&mut session, "let f = |x| { x * 2 }"), Value::Null);
        assert_eq!(value(&mut session, "f.call(a)"), 24);
        let drawn = value(&mut session, "let id = uuid(); id");
        assert_eq!(value(&mut session, "fn twice(x) { x * 2 }"), Value::Null);
        assert_eq!(value(&mut session, "id"), drawn, "chance is the same each time");
        let said = session.say("log::info(\"one\"); twice(a)");
        assert_eq!((said.value, said.logs.len()), (json!(24), 1));
        let said = session.say("log::info(\"two\")");
        assert_eq!(said.logs.len(), 1, "what was told is not told again");
        assert_eq!(value(&mut session, "sleep(\"30d\"); now() > date(\"2026-01-30T00:00:00Z\")"), true);
        assert!(session.undo());
        assert_eq!(session.say("log::info(\"three\")").logs.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_no_part_of_the_session() {
        let host = Host::new();
        let (_folder, project) = project(&host);
        let mut session = Session::new(&project, &host);
        for (line, code) in [
            ("let a = ", "E0301"),
            ("b + 1", "E0306"),
            ("setp(1)", "E0304"),
            ("step(\"s\", || throw \"no\")", ""),
            ("db::query(\"shop\", \"select 1\")", "E0307"),
        ] {
            let said = session.say(line);
            assert_eq!(said.problems.first().map(|problem| problem.code), Some(code), "{line}: {:?}", said.problems);
        }
        assert!(session.lines().is_empty());
        assert_eq!(value(&mut session, "1 + 1"), 2);
    }

    #[test]
    fn effects_are_mocked_or_refused_and_events_come_later() {
        let host = Host::new();
        let (_folder, project) = project(&host);
        let mut session = Session::new(&project, &host);
        let line = "step(\"look\", || db::query(\"shop\", \"select 1 as one\")[0].one)";
        let refused = session.say(line).problems.remove(0);
        assert_eq!(refused.code, "E0611");
        assert_eq!(refused.helps, [":mock { db: \"shop select 1 as one\", reply: { rows: [] } }"]);
        session.add_mock("{ db: \"shop select *\", reply: { rows: [{ one: 7 }] } }").unwrap();
        assert_eq!(value(&mut session, line), 7);
        assert!(session.add_mock("{ dp: \"shop select *\", reply: {} }").is_err());
        assert!(session.add_mock("{ db: ").is_err());
        let wait = "wait_for_event(\"otp/received\").data.code";
        assert!(session.say(wait).problems[0].helps[0].starts_with(":send"));
        session.add_later("{ at: 5m, name: otp/received, data: { code: \"1\" } }").unwrap();
        assert_eq!(value(&mut session, wait), "1");
        assert!(session.set_event("order/plased", None).is_err());
        session.set_event("order/placed", Some(json!({"amount": 3}))).unwrap();
        assert_eq!(value(&mut session, "event.data.amount"), 3);
    }
}
