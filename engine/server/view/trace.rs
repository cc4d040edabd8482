//! A run's steps and attempts in order: what `runs trace` draws as a tree.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Millis;
use crate::rules::race::{self, Races, Won};
use crate::rules::row::Recorded;
use crate::rules::{AttemptRow, EventRow, Failure, Kind, Record, RunRow, RunState, SourceRow, WaitRow, WaitState};
use crate::store::Journal;

use super::schema::{FailureShape, KindWord};
use super::{EventView, Raw, RunView, Time, raw};

/// A run with all that it has recorded.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// The run.
    pub run: RunView,
    /// The event that started it.
    pub event: Option<EventView>,
    /// Its steps in order of commit, then those that are still being tried, then what it waits for. Tiny records are left out.
    pub steps: Vec<StepView>,
    /// Failed attempts of the code between steps.
    pub attempts: Vec<AttemptView>,
    /// The handler's files that errors point into, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, String>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Recorded with a result; it never runs again.
    Completed,
    /// Recorded as failed: its attempts are used up.
    Failed,
    /// A sleep whose end has not come.
    Sleeping,
    /// A wait that nothing has ended yet, or an invoked run that has not ended.
    Waiting,
    /// Its last attempt failed, the next one is due later.
    BackingOff,
    /// Its last attempt failed, and the next one is due or under way.
    Retrying,
    /// The run ended before it was recorded.
    Abandoned,
    /// It is of a branch of a race that another branch ended before it was recorded: it does not go on.
    Left,
}

/// One step of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// Its key: `name`, `name#2`, `branch › name`.
    pub key: String,
    /// What it is.
    #[schemars(with = "KindWord")]
    pub kind: Kind,
    /// Where it stands.
    pub status: StepStatus,
    /// When its first attempt began.
    pub started_at: Time,
    /// When it was recorded; none where it is not yet.
    pub ended_at: Option<Time>,
    /// `file:line` of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Until when it sleeps or slept, or waits at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// What it waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub output: Option<Raw>,
    /// Why it failed, or why its last attempt did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FailureShape>")]
    pub error: Option<Failure>,
    /// Of a race: the branch that ended first, by its name or its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// Of a race that gave a value: the branches that were left, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// Its attempts in order, the recorded one last. A sleep has none.
    pub attempts: Vec<AttemptView>,
}

/// One try of a step, or of the code between steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// From 1.
    pub attempt: u32,
    /// When it began. Of a recorded attempt that is not the first, this is when it was due: its start is not stored.
    pub started_at: Time,
    /// When it ended.
    pub ended_at: Time,
    /// Why it failed; none for the one that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FailureShape>")]
    pub error: Option<Failure>,
    /// When the next one is or was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
}

impl Trace {
    /// The trace of a stored run at `now`, with its waits as they are stored.
    pub fn of(run: &RunRow, event: Option<&EventRow>, journal: &Journal, waits: &[WaitRow], now: Millis) -> Trace {
        let mut tried: HashMap<&str, Vec<&AttemptRow>> = HashMap::new();
        let mut order: Vec<&str> = Vec::new();
        for attempt in &journal.attempts {
            let rows = tried.entry(&attempt.key).or_default();
            if rows.is_empty() {
                order.push(&attempt.key);
            }
            rows.push(attempt);
        }
        let between = tried.remove("").unwrap_or_default();
        let races = Races::of(&journal.records);
        let mut steps: Vec<StepView> = Vec::new();
        for record in journal.records.iter().filter(|record| !record.kind.is_tiny()) {
            let failed = if record.kind == Kind::Sleep { None } else { tried.remove(&*record.key) };
            steps.push(recorded(run, record, &failed.unwrap_or_default(), races.cut_off(record), now));
        }
        let open = order.into_iter().filter_map(|key| {
            let rows = tried.remove(key)?;
            let is_left = rows.last().is_some_and(|last| races.gave_up(last));
            unrecorded(run, key, &rows, is_left, now)
        });
        steps.extend(open);
        steps.extend(waits.iter().filter(|row| !matches!(row.state, WaitState::Recorded(_))).map(waiting));
        let mut view = RunView::of(run, now);
        view.steps = Some(counted(journal));
        Trace {
            run: view,
            event: event.map(EventView::of),
            steps,
            attempts: between.into_iter().map(AttemptView::of).collect(),
            sources: BTreeMap::new(),
        }
    }

    /// Adds the files that the trace's errors point into, of the version that the run is on.
    pub fn add_sources(&mut self, source: Option<&SourceRow>) {
        let errors = self.run.error.iter().chain(self.steps.iter().filter_map(|step| step.error.as_ref()));
        let named: Vec<&str> = errors.flat_map(|error| &error.trace).map(|place| place.file.as_str()).collect();
        // The engine wrote this object itself; a damaged one costs the pictures, not the trace.
        let files: BTreeMap<String, String> = source.and_then(|source| serde_json::from_str(&source.files).ok()).unwrap_or_default();
        self.sources = files.into_iter().filter(|(name, _)| named.contains(&name.as_str())).collect();
    }
}

/// How many records people are shown.
pub(in crate::server) fn counted(journal: &Journal) -> usize {
    journal.records.iter().filter(|record| !record.kind.is_tiny()).count()
}

impl AttemptView {
    fn of(row: &AttemptRow) -> AttemptView {
        AttemptView {
            attempt: row.attempt,
            started_at: Time(row.started),
            ended_at: Time(row.ended),
            error: Some((*row.error).clone()),
            next_at: row.next.map(Time),
        }
    }
}

/// A record; `left` is when its race was over, where it is a sleep that was not over by then.
fn recorded(run: &RunRow, record: &Record, failed: &[&AttemptRow], left: Option<Millis>, now: Millis) -> StepView {
    let won = Won::of(record);
    let (status, until, output, error) = match &record.result {
        Recorded::Value(json) => (StepStatus::Completed, None, Some(won.as_ref().map_or_else(|| raw(json), shown)), None),
        Recorded::Failed(failure) => (StepStatus::Failed, None, None, Some((**failure).clone())),
        Recorded::Until(_) if left.is_some() => (StepStatus::Left, left.map(Time), None, None),
        // The run was ended in its sleep.
        Recorded::Until(until) if run.ended.is_some_and(|ended| ended < *until) => (StepStatus::Abandoned, Some(Time(*until)), None, None),
        Recorded::Until(until) if *until > now => (StepStatus::Sleeping, Some(Time(*until)), None, None),
        Recorded::Until(until) => (StepStatus::Completed, Some(Time(*until)), None, None),
    };
    let mut attempts: Vec<AttemptView> = failed.iter().map(|row| AttemptView::of(row)).collect();
    // The attempt that was recorded has no row of its own, unless it is the last of those that failed.
    let is_there = attempts.iter().any(|attempt| attempt.attempt == record.attempts);
    if !matches!(record.result, Recorded::Until(_)) && !is_there {
        let started_at = attempts.last().and_then(|attempt| attempt.next_at).unwrap_or(Time(record.started));
        let ended_at = Time(record.ended);
        attempts.push(AttemptView { attempt: record.attempts, started_at, ended_at, error: error.clone(), next_at: None });
    }
    StepView {
        key: record.key.to_string(),
        kind: record.kind,
        status,
        started_at: Time(record.started),
        ended_at: Some(Time(record.ended)),
        line: record.line.as_deref().map(str::to_owned),
        until,
        waits_for: None,
        output,
        error,
        first: (record.kind == Kind::Race).then(|| race::first(record)).flatten(),
        left: won.map(|won| won.left).unwrap_or_default(),
        attempts,
    }
}

/// What a script got of a race.
fn shown(won: &Won) -> Raw {
    let seen = Won { name: won.name.clone(), index: won.index, value: won.value.clone(), left: Vec::new() };
    // It was read from JSON, so it can be written.
    raw(&serde_json::to_string(&seen).unwrap_or_default())
}

/// A step that has failed attempts and no record yet; `is_left` says that its race is over.
fn unrecorded(run: &RunRow, key: &str, rows: &[&AttemptRow], is_left: bool, now: Millis) -> Option<StepView> {
    let (first, last) = (rows.first()?, rows.last()?);
    let status = match last.next {
        _ if is_left => StepStatus::Left,
        _ if run.state.is_terminal() => StepStatus::Abandoned,
        Some(next) if next > now && run.state == RunState::BackingOff => StepStatus::BackingOff,
        _ => StepStatus::Retrying,
    };
    Some(StepView {
        key: key.to_owned(),
        kind: Kind::Step,
        status,
        started_at: Time(first.started),
        ended_at: None,
        line: last.line.as_deref().map(str::to_owned),
        until: None,
        waits_for: None,
        output: None,
        error: Some((*last.error).clone()),
        first: None,
        left: Vec::new(),
        attempts: rows.iter().map(|row| AttemptView::of(row)).collect(),
    })
}

/// A wait that its run has not recorded.
fn waiting(row: &WaitRow) -> StepView {
    StepView {
        key: row.wait.key.to_string(),
        kind: row.wait.kind,
        status: StepStatus::Waiting,
        started_at: Time(row.opened),
        ended_at: None,
        line: None,
        until: row.until.map(Time),
        waits_for: Some(row.what.words()),
        output: None,
        error: None,
        first: None,
        left: Vec::new(),
        attempts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::row;
    use super::*;

    fn record(index: u32, key: &str, kind: Kind, result: Recorded, attempts: u32) -> Record {
        Record { index, key: Arc::from(key), kind, result, attempts, started: Millis(10), ended: Millis(90), line: None }
    }

    fn failed(key: &str, attempt: u32, next: Option<i64>) -> AttemptRow {
        let error = Arc::new(Failure { message: format!("no {attempt}"), ..Failure::default() });
        let (started, ended, next) = (Millis(10), Millis(20), next.map(Millis));
        AttemptRow { key: Arc::from(key), attempt, started, ended, error, next, line: Some(Arc::from("a.rhai:3")) }
    }

    #[test]
    fn a_trace_shows_steps_with_their_attempts_and_hides_tiny_records() {
        let value = || Recorded::Value(Arc::from("1"));
        let journal = Journal {
            records: vec![
                record(0, "charge", Kind::Step, value(), 2),
                record(1, "now", Kind::Now, value(), 1),
                record(2, "cool", Kind::Sleep, Recorded::Until(Millis(500)), 1),
            ],
            attempts: vec![failed("", 1, Some(5)), failed("charge", 1, Some(30)), failed("mail", 1, Some(300))],
        };
        let trace = Trace::of(&row(RunState::BackingOff), None, &journal, &[], Millis(100));
        let keys: Vec<_> = trace.steps.iter().map(|step| (step.key.as_str(), step.status)).collect();
        let expected = [("charge", StepStatus::Completed), ("cool", StepStatus::Sleeping), ("mail", StepStatus::BackingOff)];
        assert_eq!(keys, expected);
        let charge = &trace.steps[0].attempts;
        assert_eq!(charge.iter().map(|attempt| (attempt.attempt, attempt.error.is_some())).collect::<Vec<_>>(), [(1, true), (2, false)]);
        assert_eq!(charge[1].started_at, Time(Millis(30)));
        assert!(trace.steps[1].attempts.is_empty());
        assert_eq!(trace.steps[2].line.as_deref(), Some("a.rhai:3"));
        assert_eq!(trace.attempts.len(), 1);
        assert_eq!(trace.run.steps, Some(2));
    }

    #[test]
    fn what_a_run_waits_for_stands_last() {
        use crate::base::{Id, RunId};
        use crate::rules::{Resolution, WaitKey, What};
        let wait = |key: &str, state| WaitRow {
            wait: WaitKey { run: RunId::default(), kind: Kind::Wait, key: Arc::from(key) },
            what: Arc::new(What::Signal(Arc::from("go"))),
            opened: Millis(95),
            until: Some(Millis(500)),
            state,
            pin: None,
        };
        let waits = [
            wait("recorded", WaitState::Recorded(Some(Id(7)))),
            wait("open", WaitState::Open),
            wait("come", WaitState::Resolved(Resolution::TimedOut)),
        ];
        let journal = Journal { records: vec![record(0, "recorded", Kind::Wait, Recorded::Value(Arc::from("1")), 1)], attempts: vec![] };
        let trace = Trace::of(&row(RunState::Waiting), None, &journal, &waits, Millis(100));
        let seen: Vec<_> = trace.steps.iter().map(|step| (step.key.as_str(), step.status, step.waits_for.as_deref())).collect();
        let go = Some("signal `go`");
        assert_eq!(seen, [("recorded", StepStatus::Completed, None), ("open", StepStatus::Waiting, go), ("come", StepStatus::Waiting, go)]);
        assert_eq!(trace.steps[1].until, Some(Time(Millis(500))));
    }

    #[test]
    fn the_last_failed_attempt_of_a_failed_step_is_shown_once() {
        let failure = Arc::new(Failure { message: "no 2".into(), ..Failure::default() });
        let journal = Journal {
            records: vec![record(0, "charge", Kind::Step, Recorded::Failed(failure), 2)],
            attempts: vec![failed("charge", 1, Some(30)), failed("charge", 2, None)],
        };
        let trace = Trace::of(&row(RunState::Failed), None, &journal, &[], Millis(100));
        assert_eq!(trace.steps[0].status, StepStatus::Failed);
        assert_eq!(trace.steps[0].attempts.len(), 2);
    }

    #[test]
    fn a_sleep_that_was_refused_is_shown_as_one_failed_attempt() {
        let failure = Arc::new(Failure { message: "more than a year away".into(), ..Failure::default() });
        let journal = Journal { records: vec![record(0, "nap", Kind::Sleep, Recorded::Failed(failure), 1)], attempts: vec![] };
        let trace = Trace::of(&row(RunState::Running), None, &journal, &[], Millis(100));
        assert_eq!((trace.steps[0].status, trace.steps[0].until, trace.steps[0].attempts.len()), (StepStatus::Failed, None, 1));
    }

    #[test]
    fn a_race_says_who_was_first_and_what_it_left_behind_does_not_go_on() {
        let won = Recorded::Value(Arc::from(r#"{"name":"paid","value":7,"left":["late","trips"]}"#));
        let race = Record { ended: Millis(95), ..record(2, "race", Kind::Race, won, 1) };
        let failure = Arc::new(Failure { step: Some("r2 › 1".into()), message: "no".into(), ..Failure::default() });
        let journal = Journal {
            records: vec![
                record(0, "race › late › sleep", Kind::Sleep, Recorded::Until(Millis(500)), 1),
                record(1, "race › paid › ask", Kind::Step, Recorded::Value(Arc::from("7")), 1),
                race,
                record(3, "r2", Kind::Race, Recorded::Failed(failure), 1),
            ],
            attempts: vec![failed("race › trips › ask", 1, Some(300))],
        };
        let trace = Trace::of(&row(RunState::BackingOff), None, &journal, &[], Millis(100));
        let seen: Vec<_> = trace.steps.iter().map(|step| (step.key.as_str(), step.status, step.first.as_deref())).collect();
        let expected = [
            ("race › late › sleep", StepStatus::Left, None),
            ("race › paid › ask", StepStatus::Completed, None),
            ("race", StepStatus::Completed, Some("paid")),
            ("r2", StepStatus::Failed, Some("1")),
            ("race › trips › ask", StepStatus::Left, None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(trace.steps[0].until, Some(Time(Millis(95))), "it slept until then");
        let race = &trace.steps[2];
        assert_eq!(race.output.as_ref().map(|raw| raw.get()), Some(r#"{"name":"paid","value":7}"#), "what the script got");
        assert_eq!(race.left, ["late", "trips"]);
    }

    #[test]
    fn a_step_that_the_end_of_its_run_cut_off_is_abandoned() {
        let journal = Journal { records: vec![], attempts: vec![failed("charge", 1, Some(3_000))] };
        assert_eq!(Trace::of(&row(RunState::Cancelled), None, &journal, &[], Millis(100)).steps[0].status, StepStatus::Abandoned);
        assert_eq!(Trace::of(&row(RunState::Queued), None, &journal, &[], Millis(9_000)).steps[0].status, StepStatus::Retrying);
        let asleep = Journal { records: vec![record(0, "nap", Kind::Sleep, Recorded::Until(Millis(500)), 1)], attempts: vec![] };
        let status = |ended, now| {
            let run = RunRow { ended: Some(Millis(ended)), ..row(RunState::Cancelled) };
            Trace::of(&run, None, &asleep, &[], Millis(now)).steps[0].status
        };
        assert_eq!(
            (status(200, 300), status(200, 900), status(600, 900)),
            (StepStatus::Abandoned, StepStatus::Abandoned, StepStatus::Completed)
        );
    }
}
