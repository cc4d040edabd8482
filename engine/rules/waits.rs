//! The life of a wait: a run opens it, one thing resolves it (an event, a signal, another run's end, its time-out), and
//! the run records what came of it.
//!
//! A wait is open until a list with `Expect::WaitOpen` resolves it; whoever comes second finds it closed. Its row stays
//! until the run ends, since it says which event the run has had from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::{EventId, Id, Json, Millis, RunId};

use super::row::{Failure, Kind, RunRow};
use super::write::{Expect, List, Write};

/// Which wait of which run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitKey {
    /// The run that waits.
    pub run: RunId,
    /// `Wait` or `Invoke`.
    pub kind: Kind,
    /// The key of the record that it comes to.
    pub key: Arc<str>,
}

/// A wait as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitRow {
    /// Which one.
    pub wait: WaitKey,
    /// What for.
    pub what: Arc<What>,
    /// When it was opened.
    pub opened: Millis,
    /// When it is given up; none for never.
    pub until: Option<Millis>,
    /// Where it stands.
    pub state: WaitState,
    /// What a store finds it by while it is open; none where nothing but its name is known of what it waits for.
    pub pin: Option<Pinned>,
}

/// A value that a field of an event has to have: open waits stay in the store, and are found there by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// A text that names the event and the field. To a store it is a name like others.
    pub field: Arc<str>,
    /// A hash of the value. What has the same one need not be the same.
    pub value: i64,
}

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The first event that fits one of these.
    Events(Vec<Wanted>),
    /// A signal of this name.
    Signal(Arc<str>),
    /// The end of a run that it invoked.
    Run(RunId),
}

/// Events that a wait takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Their name.
    pub event: Arc<str>,
    /// The `if` over `event` and `async`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Arc<str>>,
    /// As much of the run's own event as the `if` reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Json>,
}

/// Where a wait stands.
#[derive(Debug, Clone, PartialEq)]
pub enum WaitState {
    /// Nothing has come.
    Open,
    /// It is decided; the run has yet to record it.
    Resolved(Resolution),
    /// The run has recorded it; the event that it came by, if one did.
    Recorded(Option<EventId>),
}

/// What a wait came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// An event.
    Event(EventId),
    /// The data of a signal, or the result of another run.
    Value(Json),
    /// The other run failed, or was cancelled.
    Failed(Arc<Failure>),
    /// Nothing came in time.
    TimedOut,
}

impl What {
    /// What it is, in words: "event `a/b` with `async.data.n > 1`".
    pub fn words(&self) -> String {
        match self {
            What::Events(wanted) => {
                let one = |wanted: &Wanted| match &wanted.condition {
                    Some(condition) => format!("event `{}` with `{condition}`", wanted.event),
                    None => format!("event `{}`", wanted.event),
                };
                wanted.iter().map(one).collect::<Vec<_>>().join(" or ")
            }
            What::Signal(name) => format!("signal `{name}`"),
            What::Run(run) => format!("run {run}"),
        }
    }
}

impl WaitRow {
    /// It is not open any more, so nothing finds it by its pin.
    pub fn becomes(&mut self, state: WaitState) {
        self.state = state;
        self.pin = None;
    }

    /// The event that it has had.
    pub fn event(&self) -> Option<EventId> {
        match self.state {
            WaitState::Resolved(Resolution::Event(event)) => Some(event),
            WaitState::Recorded(event) => event,
            _ => None,
        }
    }
}

/// What a run does where its script asks for a wait that it has not recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// Opens it.
    Open,
    /// Suspends itself; the wait is given up then.
    Suspend(Option<Millis>),
    /// Gives it up, if nothing has come before.
    TimeOut,
    /// Records what it came to, and goes on.
    Record(Resolution),
}

/// Decides what a run does at a wait. A wait that is recorded has a record, which the script gets without asking here;
/// one whose record is lost with the commit that was to make it durable cannot be.
pub fn turn(wait: Option<&WaitRow>, now: Millis) -> Turn {
    match wait.map(|wait| (&wait.state, wait.until)) {
        None | Some((WaitState::Recorded(_), _)) => Turn::Open,
        Some((WaitState::Open, Some(until))) if until <= now => Turn::TimeOut,
        Some((WaitState::Open, until)) => Turn::Suspend(until),
        Some((WaitState::Resolved(with), _)) => Turn::Record(with.clone()),
    }
}

/// When a wait came to what it came to, as far as that is known; none where it has come to nothing that waits to be recorded.
pub fn came(wait: &WaitRow) -> Option<Millis> {
    match &wait.state {
        WaitState::Resolved(Resolution::Event(event)) => Some(event.made_at()),
        WaitState::Resolved(Resolution::TimedOut) => wait.until,
        // When that was, nobody has written down. It was before any time-out that was still to come.
        WaitState::Resolved(Resolution::Value(_) | Resolution::Failed(_)) => Some(wait.opened),
        WaitState::Open | WaitState::Recorded(_) => None,
    }
}

/// The list that resolves a wait, if it is open and its run has not had the same event from another wait.
pub fn resolve(wait: &WaitKey, with: Resolution) -> List {
    let event = match with {
        Resolution::Event(event) => Some(event),
        _ => None,
    };
    List { expect: vec![Expect::WaitOpen { wait: wait.clone(), event }], writes: vec![Write::ResolveWait { wait: wait.clone(), with }] }
}

/// The first event that a run's waits look back to.
pub fn looks_back_to(run: &RunRow) -> EventId {
    Id::first_at(run.started.unwrap_or(run.created))
}

/// Whether a wait may take an event that it finds when it looks back: one accepted since the run began, other than the
/// run's own and those that its waits have had.
pub fn may_look_at(run: &RunRow, had: &[EventId], event: EventId) -> bool {
    event >= looks_back_to(run) && event != run.event && !had.contains(&event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(run: i64, key: &str) -> WaitKey {
        WaitKey { run: Id(run), kind: Kind::Wait, key: key.into() }
    }

    fn row(state: WaitState, until: Option<i64>) -> WaitRow {
        let what = Arc::new(What::Signal("s".into()));
        WaitRow { wait: key(1, "a"), what, opened: Millis(10), until: until.map(Millis), state, pin: None }
    }

    #[test]
    fn a_wait_goes_from_open_to_resolved_to_recorded() {
        let event = Resolution::Event(Id(5));
        let cases = [
            ("not opened", None, Turn::Open),
            ("open, in time", Some(row(WaitState::Open, Some(101))), Turn::Suspend(Some(Millis(101)))),
            ("open, without an end", Some(row(WaitState::Open, None)), Turn::Suspend(None)),
            ("open, its time is over", Some(row(WaitState::Open, Some(100))), Turn::TimeOut),
            ("resolved in time", Some(row(WaitState::Resolved(event.clone()), Some(200))), Turn::Record(event.clone())),
            ("resolved, and its time is over since", Some(row(WaitState::Resolved(event.clone()), Some(50))), Turn::Record(event)),
            ("timed out", Some(row(WaitState::Resolved(Resolution::TimedOut), Some(50))), Turn::Record(Resolution::TimedOut)),
        ];
        for (what, wait, expected) in cases {
            assert_eq!(turn(wait.as_ref(), Millis(100)), expected, "{what}");
        }
    }

    #[test]
    fn what_ends_a_wait_came_when_it_came_and_not_when_it_is_seen() {
        let at = Millis(crate::base::id::EPOCH_MS + 70);
        let resolved = |with| row(WaitState::Resolved(with), Some(50));
        assert_eq!(came(&resolved(Resolution::Event(Id::first_at(at)))), Some(at));
        assert_eq!(came(&resolved(Resolution::TimedOut)), Some(Millis(50)));
        assert_eq!(came(&resolved(Resolution::Value("1".into()))), Some(Millis(10)));
        assert_eq!(came(&row(WaitState::Open, Some(50))), None);
    }

    #[test]
    fn an_event_that_resolves_a_wait_must_not_have_resolved_another_one_of_the_run() {
        let list = resolve(&key(1, "a"), Resolution::Event(Id(7)));
        assert_eq!(list.expect, [Expect::WaitOpen { wait: key(1, "a"), event: Some(Id(7)) }]);
        let list = resolve(&key(1, "a"), Resolution::TimedOut);
        assert_eq!(list.expect, [Expect::WaitOpen { wait: key(1, "a"), event: None }]);
        assert_eq!(list.writes, [Write::ResolveWait { wait: key(1, "a"), with: Resolution::TimedOut }]);
    }

    #[test]
    fn looking_back_ends_at_the_first_start_and_leaves_out_what_the_run_has_had() {
        let began = Millis(crate::base::id::EPOCH_MS + 1_000);
        let run = RunRow { started: Some(began), event: Id(Id::first_at(began).0 + 1), ..super::super::run::example() };
        let first = Id::first_at(began).0;
        let cases = [
            ("before the run's start", first - 1, false),
            ("in the millisecond of its start", first, true),
            ("its own event", first + 1, false),
            ("one that a wait has had", first + 2, false),
            ("another one", first + 3, true),
        ];
        for (what, event, expected) in cases {
            assert_eq!(may_look_at(&run, &[Id(first + 2)], Id(event)), expected, "{what}");
        }
    }

    #[test]
    fn what_is_waited_for_is_stored_as_json_and_read_back() {
        let wanted = Wanted { event: "a/b".into(), condition: Some("async.data.x == 1".into()), bound: Some("{}".into()) };
        for what in [What::Events(vec![wanted]), What::Signal("s".into()), What::Run(Id(77))] {
            let text = serde_json::to_string(&what).unwrap();
            assert_eq!(serde_json::from_str::<What>(&text).unwrap(), what, "{text}");
        }
    }
}
