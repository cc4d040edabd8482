//! What was expected, held against what came of it.

use serde_json::{Map, Value, json};

use crate::base::{Diagnostic, Location, Source, Span};
use crate::config::{Inline, SentEvent, Spanned};
use crate::expr::Scope;
use crate::project::Project;
use crate::rules::race::Races;
use crate::rules::row::Recorded;
use crate::rules::{EventRow, Failure, Kind, Record, RunState};
use crate::script::Published;

use super::cut::Cut;
use super::diff::{self, DiffLine};
use super::mocks::Message;
use super::read::Test;
use super::world::{Outcome, Seen};

/// The longest value beside a caret, in characters.
const SHOWN_MOST: usize = 60;

/// Something that is not as expected.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The place in the test, and what is wrong.
    pub diagnostic: Diagnostic,
    /// Where values differ: their lines.
    pub diff: Vec<DiffLine>,
}

impl From<Diagnostic> for Problem {
    fn from(diagnostic: Diagnostic) -> Problem {
        Problem { diagnostic, diff: Vec::new() }
    }
}

/// What is not as expected after a pass without a crash.
pub(super) fn compare(test: &Test, project: &Project, outcome: &Outcome) -> Vec<Problem> {
    let mut problems = Comparing { test, project, outcome, is_cut: false, problems: Vec::new() }.all();
    // What was sent and reached nobody is most likely why.
    if let Some(first) = problems.first_mut() {
        for (at, why) in &outcome.missed {
            let Some(act) = test.script.get(*at) else { continue };
            let (line, _) = act.place.source.position(act.place.range.start);
            let help = format!("{why} {} after the start ({}:{line})", act.after, act.place.source.name);
            first.diagnostic = first.diagnostic.clone().help(help);
        }
    }
    problems
}

/// What is not as expected, or not as without a crash, after a pass with crashes.
pub(super) fn compare_cut(test: &Test, project: &Project, whole: &Outcome, outcome: &Outcome, cut: Cut) -> Vec<Problem> {
    let mut problems = Comparing { test, project, outcome, is_cut: true, problems: Vec::new() }.all();
    if problems.is_empty()
        && let Some(differs) = differs(whole, outcome)
    {
        let problem = Diagnostic::error("E0612", format!("{}: with a crash it ends in another way: {differs}", test.name));
        problems.push(problem.at(test.place.clone()).into());
    }
    let at = match cut {
        Cut::Once { before: true, .. } => format!("the engine was cut off before this was stored: {}", outcome.cut_at),
        Cut::Once { before: false, .. } => format!("the engine was cut off after this was stored: {}", outcome.cut_at),
        Cut::Each => format!("the engine was cut off after every commit, {} times", outcome.crashes),
        Cut::Never => String::new(),
    };
    for problem in &mut problems {
        problem.diagnostic = problem.diagnostic.clone().help(at.clone());
    }
    problems
}

/// What a pass with crashes came to that one without them did not, in words. A step that is done again may honestly draw another
/// `uuid()` or see a later time, so values are only held against what the test expects of them.
fn differs(whole: &Outcome, cut: &Outcome) -> Option<String> {
    if whole.runs.len() != cut.runs.len() {
        return Some(format!("{} runs of the function instead of {}", cut.runs.len(), whole.runs.len()));
    }
    for (whole, cut) in whole.runs.iter().zip(&cut.runs) {
        if whole.run.state != cut.run.state {
            return Some(format!("{} instead of {}", cut.run.state.word(), whole.run.state.word()));
        }
        let (those, these) = (lasting(cut), lasting(whole));
        if !same_steps(&these, &those) {
            return Some(format!("the steps {} instead of {}", those.join(", "), these.join(", ")));
        }
        let names = |seen: &Seen| seen.sent.iter().map(|event| event.name.to_string()).collect::<Vec<_>>();
        if names(whole) != names(cut) {
            return Some(format!("it sent {} instead of {}", names(cut).join(", "), names(whole).join(", ")));
        }
    }
    None
}

/// The steps that a run has recorded, in order of commit.
fn steps(seen: &Seen) -> Vec<String> {
    seen.journal.records.iter().filter(|record| record.kind == Kind::Step).map(|record| record.key.to_string()).collect()
}

/// The same without those of branches that a race has left: how far these come hangs on what happens at the same time.
fn lasting(seen: &Seen) -> Vec<String> {
    let records = &seen.journal.records;
    let races = Races::of(records);
    let lasts = |record: &&Record| record.kind == Kind::Step && !races.is_left(record);
    records.iter().filter(lasts).map(|record| record.key.to_string()).collect()
}

/// What stands between a branch and what is in it, in a record's key.
const BRANCH: &str = " › ";

/// Whether a step's key is meant by `name`: the whole key, or its name without the branches around it.
fn means(name: &str, key: &str) -> bool {
    name == key || key.rsplit(BRANCH).next() == Some(name)
}

/// Whether the steps are those that are named, in order. Those of branches that run side by side may come in any order
/// between the steps before and behind them.
fn same_steps(names: &[String], keys: &[String]) -> bool {
    let mut at = 0;
    if names.len() != keys.len() {
        return false;
    }
    while at < keys.len() {
        let side_by_side = keys[at..].iter().take_while(|key| key.contains(BRANCH)).count();
        let end = at + side_by_side.max(1);
        let mut open: Vec<&String> = keys[at..end].iter().collect();
        for name in &names[at..end] {
            // The whole key says more than the name, so it has the first choice.
            let found = open.iter().position(|key| *key == name).or_else(|| open.iter().position(|key| means(name, key)));
            match found {
                Some(found) => drop(open.remove(found)),
                None => return false,
            }
        }
        at = end;
    }
    true
}

/// The attempts of a step, whether it is recorded or not.
fn attempts(seen: &Seen, step: &str) -> Option<u32> {
    let is_it = |key: &str| means(step, key);
    let recorded = seen.journal.records.iter().find(|record| record.kind == Kind::Step && is_it(&record.key));
    let failed = seen.journal.attempts.iter().filter(|attempt| is_it(&attempt.key)).map(|attempt| attempt.attempt).max();
    recorded.map(|record| record.attempts).or(failed)
}

/// From a run's first start to its end, or to the test's.
fn duration(seen: &Seen, outcome: &Outcome) -> Span {
    seen.run.started.map_or(Span(0), |started| seen.run.ended.unwrap_or(outcome.now).since(started))
}

fn parsed(json: Option<&str>) -> Value {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// A run as `assert` sees it.
fn view(seen: &Seen, test: &Test, outcome: &Outcome) -> Value {
    let after = |at: Option<crate::base::Millis>| at.map(|at| at.0 - test.started().0);
    let attempts: Map<String, Value> =
        steps(seen).into_iter().map(|step| (step.clone(), Value::from(attempts(seen, &step).unwrap_or_default()))).collect();
    let mut results = Map::new();
    for record in seen.journal.records.iter().filter(|record| record.kind == Kind::Step) {
        if let Recorded::Value(json) = &record.result {
            results.insert(record.key.to_string(), parsed(Some(json)));
        }
    }
    let sent: Vec<Value> = seen.sent.iter().map(|event| json!({ "name": &*event.name, "data": parsed(Some(&event.data)) })).collect();
    let calls: Vec<Value> = outcome.calls.iter().filter(|call| call.run == seen.run.id).map(|call| call.request.clone()).collect();
    let published = |message: &Message| {
        let Published { channel, topic, data, .. } = &message.published;
        json!({ "channel": &**channel, "topic": topic.as_deref(), "data": parsed(Some(data)), "step": message.step })
    };
    let messages = outcome.messages.iter().filter(|message| message.published.run == seen.run.id).map(published).collect::<Vec<_>>();
    let logs: Vec<Value> = seen
        .logs
        .iter()
        .map(|line| json!({ "level": line.level, "message": &*line.message, "data": parsed(line.data.as_deref()), "step": &*line.step }))
        .collect();
    json!({
        "id": seen.run.id.to_string(),
        "function": &*seen.run.function,
        "status": seen.run.state.word(),
        "output": parsed(seen.run.output.as_deref()),
        "error": seen.run.error.as_deref().map(|error| json!(error)),
        "reason": seen.run.reason.as_deref(),
        "key": seen.run.keys.first().map(|key| parsed(Some(key))),
        "steps": steps(seen),
        "attempts": attempts,
        "results": results,
        "events_sent": sent,
        "logs": logs,
        "calls": calls,
        "published": messages,
        "started_ms": after(seen.run.started),
        "ended_ms": after(seen.run.ended),
        "duration_ms": duration(seen, outcome).0,
    })
}

fn event_view(event: &EventRow) -> Value {
    json!({ "id": event.id.to_string(), "name": &*event.name, "data": parsed(Some(&event.data)), "ts": event.ts.0 })
}

struct Comparing<'a> {
    test: &'a Test,
    project: &'a Project,
    outcome: &'a Outcome,
    /// Whether the engine was cut off.
    is_cut: bool,
    problems: Vec<Problem>,
}

impl Comparing<'_> {
    fn all(mut self) -> Vec<Problem> {
        if let Some(why) = &self.outcome.stuck {
            let problem = Diagnostic::error("E0613", format!("{}: {why}", self.test.name));
            self.problems.push(problem.at(self.test.place.clone()).into());
        }
        self.unmocked();
        if let Some(runs) = &self.test.expect.runs {
            self.number(runs, self.outcome.runs.len() as u64, "runs");
        }
        self.calls();
        match self.outcome.runs.first() {
            Some(first) => self.run(first),
            None if self.expects_a_run() => self.no_run(),
            None => {}
        }
        self.asserts();
        self.problems
    }

    /// The requests that nobody answered, each kind once.
    fn unmocked(&mut self) {
        let mut told: Vec<&str> = Vec::new();
        for call in &self.outcome.calls {
            let Some(missing) = &call.missing else { continue };
            let wanted = call.what.as_str();
            if told.contains(&wanted) {
                continue;
            }
            told.push(wanted);
            let problem = Diagnostic::error("E0611", format!("{}: {wanted} is not mocked", self.test.name));
            let failure = self.seen().find(|seen| seen.run.id == call.run).and_then(|seen| failure_of(seen, wanted));
            let absent = failure.and_then(|failure| failure.message.rsplit_once("there is ")).map_or("nothing", |(_, absent)| absent);
            let problem = match failure.and_then(|failure| self.script(failure)) {
                Some(place) => problem.labelled(place, format!("there is {absent}")),
                None => problem.at(self.test.place.clone()).help(format!("step `{}` of {} asked for it", call.step, call.function)),
            };
            self.problems.push(problem.help(missing.clone()).into());
        }
    }

    fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.outcome.runs.iter().chain(&self.outcome.others)
    }

    /// Where a failure happened in its script.
    fn script(&self, failure: &Failure) -> Option<Location> {
        let place = failure.trace.first()?;
        let files = self.project.programs().flat_map(|program| program.files());
        let source = files.into_iter().find(|source: &&std::sync::Arc<Source>| source.name == place.file)?;
        Some(Location::word_at(source, place.line as usize, (place.column as usize).max(1)))
    }

    fn expects_a_run(&self) -> bool {
        let expect = &self.test.expect;
        expect.runs.as_ref().is_none_or(|runs| runs.value > 0)
    }

    fn no_run(&mut self) {
        let mut problem = Diagnostic::error("E0614", format!("{}: no run of `{}` started", self.test.name, self.test.function));
        problem = problem.at(self.test.script.first().map_or_else(|| self.test.place.clone(), |act| act.place.clone()));
        let explained =
            self.outcome.first.as_ref().map(|event| self.project.explain(event, &parsed(Some(&event.data)))).unwrap_or_default();
        let own = explained.into_iter().find(|one| *one.function == *self.test.function);
        let help = match own {
            Some(one) => one.why,
            None => Some(format!("this event does not start it; it is started by {}", self.triggers())),
        };
        self.problems.push(super::helped(problem.help("where that is meant, expect `runs: 0`"), help).into());
    }

    fn triggers(&self) -> String {
        let function = self.project.function(&self.test.function);
        let names: Vec<&str> = function.iter().flat_map(|function| function.events()).map(|event| &**event).collect();
        if names.is_empty() { "its schedule alone".to_owned() } else { names.join(", ") }
    }

    fn run(&mut self, seen: &Seen) {
        let expect = &self.test.expect;
        let run = &seen.run;
        if let Some(status) = &expect.status
            && status.value != run.state.word()
        {
            let mut problem = self.wrong(&status.place, "status", &format!("got {}", run.state.word()));
            if let Some(reason) = &run.reason {
                problem = problem.help(reason.to_string());
            }
            self.problems.push(problem.into());
        } else if expect.status.is_none() && run.state == RunState::Failed && expect.error.is_none() && self.problems.is_empty() {
            // A test that says nothing of how its run ends means that it ends well.
            let message = run.error.as_ref().map_or_else(String::new, |error| format!(": {}", error.message));
            let problem = Diagnostic::error("E0610", format!("{}: the run failed{message}", self.test.name));
            let problem = problem.at(self.test.place.clone()).help("where that is meant, expect `status: failed`");
            self.problems.push(problem.into());
        }
        self.steps(seen);
        for (step, wanted) in expect.attempts.iter() {
            let Some(got) = attempts(seen, &step.value) else {
                let known = steps(seen);
                let problem = self.wrong(&step.place, &format!("attempts of `{}`", step.value), "no such step was recorded");
                self.problems.push(problem.nearest(&step.value, known.iter().map(String::as_str)).into());
                continue;
            };
            self.number(wanted, u64::from(got), &format!("attempts of `{}`", step.value));
        }
        let output = parsed(run.output.as_deref());
        if let Some(wanted) = &expect.output {
            self.value(wanted, &output, false, "output");
        }
        if let Some(wanted) = &expect.output_includes {
            self.value(wanted, &output, true, "output");
        }
        if let Some(words) = &expect.error {
            let said = run.error.as_ref().map(|error| format!("{} {}", error.message, error.code));
            let said = said.or_else(|| run.reason.as_ref().map(ToString::to_string));
            if !said.as_ref().is_some_and(|said| said.contains(&words.value)) {
                let got = said.map_or_else(|| "there was no error".to_owned(), |said| format!("got: {}", cut(&said)));
                self.problems.push(self.wrong(&words.place, "error", &got).into());
            }
        }
        if let Some(wanted) = &expect.duration {
            let got = duration(seen, self.outcome);
            // An attempt that is made again takes its time again.
            if if self.is_cut { got < wanted.value } else { got != wanted.value } {
                self.problems.push(self.wrong(&wanted.place, "duration", &format!("got {got}")).into());
            }
        }
        if let Some(wanted) = &expect.events_sent {
            self.sent(wanted, seen);
        }
        if let Some(wanted) = &expect.logs {
            self.logs(wanted, seen);
        }
    }

    fn steps(&mut self, seen: &Seen) {
        let Some(wanted) = &self.test.expect.steps else { return };
        let names: Vec<String> = wanted.value.iter().map(|step| step.value.clone()).collect();
        let got = steps(seen);
        if same_steps(&names, &got) {
            return;
        }
        // The caret stands under the first step that is another one.
        let at = names.iter().zip(&got).position(|(one, other)| !means(one, other)).unwrap_or(names.len().min(got.len()));
        let place = wanted.value.get(at).map_or(&wanted.place, |step| &step.place);
        let label = match (names.get(at), got.get(at)) {
            (Some(_), Some(other)) => format!("got `{other}`"),
            (Some(_), None) => "this one was not recorded".to_owned(),
            (None, other) => format!("then came `{}`", other.map_or("", |step| step)),
        };
        let diagnostic = self.wrong(place, "steps", &label);
        self.problems.push(Problem { diagnostic, diff: diff::lines(&json!(names), &json!(got)) });
    }

    fn sent(&mut self, wanted: &Spanned<Vec<SentEvent>>, seen: &Seen) {
        let name = |event: &SentEvent| event.name.as_ref().map(|name| name.value.clone()).unwrap_or_default();
        let names: Vec<String> = wanted.value.iter().map(name).collect();
        let got: Vec<String> = seen.sent.iter().map(|event| event.name.to_string()).collect();
        if names != got {
            let label = if got.is_empty() { "it sent none".to_owned() } else { format!("got {}", cut(&got.join(", "))) };
            let diagnostic = self.wrong(&wanted.place, "events_sent", &label);
            return self.problems.push(Problem { diagnostic, diff: diff::lines(&json!(names), &json!(got)) });
        }
        for (wanted, event) in wanted.value.iter().zip(&seen.sent) {
            let data = parsed(Some(&event.data));
            let what = format!("data of {}", event.name);
            if let Some(whole) = &wanted.data {
                self.value(whole, &data, false, &what);
            }
            if let Some(part) = &wanted.data_includes {
                self.value(part, &data, true, &what);
            }
        }
    }

    fn logs(&mut self, wanted: &Spanned<Vec<Spanned<String>>>, seen: &Seen) {
        let mut lines = seen.logs.iter();
        for words in &wanted.value {
            if !lines.any(|line| line.message.contains(&words.value)) {
                let diagnostic = self.wrong(&words.place, "logs", "no such line, or not in this order");
                let got: Vec<&str> = seen.logs.iter().map(|line| &*line.message).collect();
                let wanted: Vec<&str> = wanted.value.iter().map(|words| words.value.as_str()).collect();
                return self.problems.push(Problem { diagnostic, diff: diff::lines(&json!(wanted), &json!(got)) });
            }
        }
    }

    fn calls(&mut self) {
        // What cannot be read was refused with the test, so the places are those of the pass.
        for (at, (target, wanted)) in self.test.expect.calls.iter().enumerate() {
            let got = self.outcome.calls.iter().filter(|call| call.counts.contains(&at)).count();
            self.number(wanted, got as u64, &format!("calls of {}", target.value));
        }
    }

    fn asserts(&mut self) {
        let runs: Vec<Value> = self.outcome.runs.iter().map(|seen| view(seen, self.test, self.outcome)).collect();
        let run = runs.first().cloned().unwrap_or_default();
        let runs = Value::Array(runs);
        let event = self.outcome.first.as_ref().map(event_view).unwrap_or_default();
        let values = [("run", &run), ("runs", &runs), ("event", &event)];
        let scope = Scope { values: &values, ..Scope::default() };
        for (expr, place) in &self.test.asserts {
            let label = match expr.holds(&scope) {
                Ok(true) => continue,
                Ok(false) => "this is false".to_owned(),
                Err(error) => error.to_string(),
            };
            let mut problem = self.wrong(place, "assertion", &label);
            for (path, value) in expr.seen(&scope) {
                problem = problem.help(format!("{path} is {}", cut(&value.to_string())));
            }
            self.problems.push(problem.into());
        }
    }

    fn number(&mut self, wanted: &Spanned<u32>, got: u64, what: &str) {
        if u64::from(wanted.value) != got {
            self.problems.push(self.wrong(&wanted.place, what, &format!("got {got}")).into());
        }
    }

    fn value(&mut self, wanted: &Spanned<Inline>, got: &Value, part: bool, what: &str) {
        let expected = &wanted.value.value;
        let Some(pointer) = diff::first(expected, got, part) else { return };
        let place = if pointer.is_empty() { &wanted.place } else { wanted.value.place(&pointer).unwrap_or(&wanted.place) };
        let label = match got.pointer(&pointer) {
            None => "is not there".to_owned(),
            Some(other) if other.is_object() || other.is_array() => "differs".to_owned(),
            Some(other) => format!("got {}", cut(&other.to_string())),
        };
        let diagnostic = self.wrong(place, what, &label);
        let compared = if part { diff::part(expected, got) } else { got.clone() };
        self.problems.push(Problem { diagnostic, diff: diff::lines(expected, &compared) });
    }

    fn wrong(&self, place: &Location, what: &str, label: &str) -> Diagnostic {
        Diagnostic::error("E0610", format!("{}: {what} not as expected", self.test.name)).labelled(place.clone(), label)
    }
}

/// The failure of a request that was not mocked.
fn failure_of<'a>(seen: &'a Seen, wanted: &str) -> Option<&'a Failure> {
    let recorded = seen.journal.records.iter().filter_map(|record| match &record.result {
        Recorded::Failed(failure) => Some(&**failure),
        _ => None,
    });
    let failed = seen.journal.attempts.iter().map(|attempt| &*attempt.error);
    recorded.chain(failed).find(|failure| failure.code == "E0611" && failure.message.starts_with(wanted))
}

fn cut(text: &str) -> String {
    if text.chars().count() <= SHOWN_MOST {
        return text.to_owned();
    }
    let kept: String = text.chars().take(SHOWN_MOST - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_may_come_in_any_order_and_others_may_not() {
        let same = |names: &[&str], keys: &[&str]| {
            let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            same_steps(&owned(names), &owned(keys))
        };
        let keys = ["a", "x › b", "y › c", "y › c#2", "d"];
        assert!(same(&["a", "b", "c", "c#2", "d"], &keys));
        assert!(same(&["a", "c#2", "y › c", "x › b", "d"], &keys));
        assert!(!same(&["b", "a", "c", "c#2", "d"], &keys), "before the branches");
        assert!(!same(&["a", "b", "c", "d", "c#2"], &keys), "behind them");
        assert!(!same(&["a", "b", "b", "c#2", "d"], &keys), "one of them twice");
        assert!(!same(&["a", "b", "c", "c#2"], &keys), "one is missing");
    }
}
