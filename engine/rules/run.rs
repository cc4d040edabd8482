//! What comes next for a run once an attempt of its script has stopped.

use std::sync::Arc;

use crate::base::{Json, Millis, RunId, Span};

use super::fit::Unfit;
use super::policy::Retry;
use super::retry;
use super::row::{AskedBy, AttemptRow, Failure, RunRow, RunState};
use super::write::{Expect, List, Write};

/// How an attempt of a script stopped.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The script came to its end with this result.
    Completed(Json),
    /// The script has to wait: it sleeps, waits, or backs off from a failed attempt of a step.
    Suspended {
        /// Sleeping, waiting or backing off.
        state: RunState,
        /// When it goes on by itself.
        wake: Option<Millis>,
        /// The failure that it backs off from.
        error: Option<Arc<Failure>>,
    },
    /// It ended for good: `fail`, or a StepError that nobody caught.
    Failed(Arc<Failure>),
    /// The code between steps threw; it is tried again while it has attempts left.
    Threw {
        /// What was thrown.
        error: Arc<Failure>,
        /// The wait that was asked for, and by whom.
        retry_after: Option<(Span, AskedBy)>,
    },
    /// It was stopped from outside (drain): the attempt does not count.
    Interrupted,
    /// A commit found the run moved on (cancelled): it writes nothing more.
    Lost,
    /// Its journal does not fit its handler, or the handler is gone.
    Unfit(Unfit),
}

/// An attempt that has stopped, with what it still has to store.
#[derive(Debug, Clone, PartialEq)]
pub struct Stopped {
    /// How it stopped.
    pub outcome: Outcome,
    /// Buffered records, failed attempts and log lines, in order.
    pub pending: Vec<Write>,
    /// The number of this attempt of the code between steps: `RunRow::attempt`, or 1 after a new record.
    pub attempt: u32,
    /// When this attempt of the code between steps began.
    pub began: Millis,
    /// Whether it has recorded anything, in `pending` or before.
    pub recorded: bool,
    /// Whether the run has waits that are stored, in whatever state.
    pub waited: bool,
}

/// The state that a run goes to, and the list that takes it there.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The state afterwards.
    pub state: RunState,
    /// When it goes on by itself.
    pub wake: Option<Millis>,
    /// To be committed.
    pub list: List,
}

/// The list that starts a run, which is at this revision.
pub fn start(run: RunId, rev: u32, at: Millis, version: &Arc<str>) -> List {
    let write = Write::Start { run, at, version: Arc::clone(version) };
    List { expect: vec![Expect::RunRev { run, rev }], writes: vec![write] }
}

/// Makes a run's row what the list that starts it has made of the stored one.
pub fn started(run: &mut RunRow, at: Millis, version: &Arc<str>) {
    run.rev += 1;
    run.state = RunState::Running;
    run.wake = None;
    run.started.get_or_insert(at);
    run.version.get_or_insert_with(|| Arc::clone(version));
}

/// Decides what follows. `unit` gives a random number from 0 to 1 for the jitter, where one is needed. None where there is
/// nothing to write.
pub fn next(run: &RunRow, stopped: Stopped, policy: &Retry, now: Millis, unit: impl FnOnce() -> f64) -> Option<Transition> {
    let id = run.id;
    let mut writes = stopped.pending;
    let end = |state, output, error, reason| Write::End { run: id, state, at: now, output, error, reason };
    let (state, wake) = match stopped.outcome {
        Outcome::Lost => return None,
        Outcome::Completed(output) => {
            writes.push(end(RunState::Completed, Some(output), None, None));
            (RunState::Completed, None)
        }
        Outcome::Failed(error) => {
            writes.push(end(RunState::Failed, None, Some(error), None));
            (RunState::Failed, None)
        }
        Outcome::Suspended { state, wake, error } => {
            writes.push(Write::Suspend { run: id, state, wake, attempt: stopped.attempt, error });
            (state, wake)
        }
        Outcome::Threw { error, retry_after } => {
            let (wait, asked) = retry_after.unzip();
            let next = retry::next(policy, stopped.attempt, now, unit(), wait);
            let error = match next {
                Some(_) => Arc::new(Failure { allowed: Some(policy.attempts), asked, ..Arc::unwrap_or_clone(error) }),
                None => error,
            };
            writes.push(Write::Attempt {
                run: id,
                attempt: AttemptRow {
                    key: Arc::from(""),
                    attempt: stopped.attempt,
                    started: stopped.began,
                    ended: now,
                    error: Arc::clone(&error),
                    next,
                    line: None,
                },
            });
            match next {
                Some(at) => {
                    let attempt = stopped.attempt + 1;
                    writes.push(Write::Suspend { run: id, state: RunState::BackingOff, wake: Some(at), attempt, error: Some(error) });
                    (RunState::BackingOff, Some(at))
                }
                None => {
                    writes.push(end(RunState::Failed, None, Some(error), None));
                    (RunState::Failed, None)
                }
            }
        }
        Outcome::Interrupted => {
            // `run` is as it was before the attempt; a record has cleared it since of any suspicion.
            let suspects = if stopped.recorded { 0 } else { run.suspects };
            writes.push(Write::Requeue { run: id, suspects });
            (RunState::Queued, None)
        }
        Outcome::Unfit(why) => {
            let reason = match why {
                Unfit::Differs(_) => Arc::from(format!("its record does not fit the handler: {why}")),
                Unfit::Other(why) => why,
            };
            writes.push(Write::Park { run: id, reason });
            (RunState::Parked, None)
        }
    };
    if stopped.waited && state.is_terminal() {
        // Before the end: nothing is written about a run that has ended.
        writes.insert(writes.len() - 1, Write::DropWaits(id));
    }
    let list = List { expect: vec![Expect::RunRev { run: id, rev: run.rev }], writes };
    Some(Transition { state, wake, list })
}

/// A run under way, for the tests of this room.
#[cfg(test)]
pub(super) fn example() -> RunRow {
    use crate::base::Id;
    RunRow {
        id: Id(7),
        rev: 3,
        function: "pay".into(),
        event: Id(6),
        state: RunState::Running,
        keys: Arc::from([]),
        priority_ms: 0,
        created: Millis(0),
        enter: Millis(0),
        started: Some(Millis(0)),
        ended: None,
        wake: None,
        attempt: 1,
        suspects: 1,
        version: None,
        output: None,
        error: None,
        reason: None,
        idempotency: None,
        replay_of: None,
        invoked_by: None,
        gates: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;
    use crate::rules::Backoff;

    fn decide(outcome: Outcome, attempt: u32) -> Option<Transition> {
        let policy = Retry { attempts: 2, backoff: Backoff::Fixed { initial: Span::seconds(5), jitter: 0.0 } };
        let stopped = Stopped { outcome, pending: Vec::new(), attempt, began: Millis(900), recorded: false, waited: false };
        next(&example(), stopped, &policy, Millis(1_000), || 0.0)
    }

    fn failure(message: &str) -> Arc<Failure> {
        Arc::new(Failure { message: message.into(), ..Failure::default() })
    }

    #[test]
    fn every_transition_expects_the_revision_that_was_run() {
        for outcome in [Outcome::Completed("1".into()), Outcome::Failed(failure("no")), Outcome::Interrupted, Outcome::Unfit("x".into())] {
            let transition = decide(outcome, 1).expect("there is something to write");
            assert_eq!(transition.list.expect, [Expect::RunRev { run: Id(7), rev: 3 }]);
        }
    }

    #[test]
    fn code_between_steps_is_tried_again_until_its_attempts_are_used_up() {
        let threw = || Outcome::Threw { error: failure("no"), retry_after: None };
        let first = decide(threw(), 1).expect("a transition");
        assert_eq!((first.state, first.wake), (RunState::BackingOff, Some(Millis(6_000))));
        assert!(matches!(first.list.writes[..], [Write::Attempt { .. }, Write::Suspend { attempt: 2, .. }]), "{:?}", first.list.writes);
        let last = decide(threw(), 2).expect("a transition");
        assert_eq!(last.state, RunState::Failed);
        let [Write::Attempt { attempt, .. }, Write::End { state: RunState::Failed, .. }] = &last.list.writes[..] else {
            panic!("{:?}", last.list.writes)
        };
        assert_eq!(attempt.next, None);
    }

    #[test]
    fn an_interrupted_attempt_counts_neither_as_a_try_nor_as_a_crash() {
        let transition = decide(Outcome::Interrupted, 2).expect("a transition");
        assert_eq!(transition.list.writes, [Write::Requeue { run: Id(7), suspects: 1 }]);
    }

    #[test]
    fn an_interrupted_attempt_that_recorded_something_is_no_suspect_any_more() {
        let policy = Retry { attempts: 2, backoff: Backoff::Table };
        let stopped =
            Stopped { outcome: Outcome::Interrupted, pending: Vec::new(), attempt: 1, began: Millis(900), recorded: true, waited: false };
        let transition = next(&example(), stopped, &policy, Millis(1_000), || 0.0).expect("a transition");
        assert_eq!(transition.list.writes, [Write::Requeue { run: Id(7), suspects: 0 }]);
    }

    #[test]
    fn the_waits_of_a_run_go_with_its_end_alone() {
        let policy = Retry { attempts: 2, backoff: Backoff::Table };
        let decide = |outcome| {
            let stopped = Stopped { outcome, pending: Vec::new(), attempt: 1, began: Millis(900), recorded: false, waited: true };
            next(&example(), stopped, &policy, Millis(1_000), || 0.0).expect("a transition").list.writes
        };
        let drop = Write::DropWaits(Id(7));
        assert_eq!(decide(Outcome::Completed("1".into()))[0], drop);
        assert_eq!(decide(Outcome::Failed(failure("no")))[0], drop);
        assert!(!decide(Outcome::Suspended { state: RunState::Waiting, wake: None, error: None }).contains(&drop));
        assert!(!decide(Outcome::Interrupted).contains(&drop));
        assert!(!decide(Outcome::Unfit("x".into())).contains(&drop));
    }

    #[test]
    fn a_run_that_somebody_else_moved_on_writes_nothing() {
        assert_eq!(decide(Outcome::Lost, 1), None);
    }

    #[test]
    fn only_the_mark_of_a_start_may_be_lost_in_a_power_cut() {
        let version = Arc::from("v1");
        let start = start(Id(7), 0, Millis(1), &version);
        assert!(start.may_be_lost());
        let ended = decide(Outcome::Completed("1".into()), 1).expect("there is something to write").list;
        assert!(!ended.may_be_lost());
        let mut with_more = start;
        with_more.writes.push(Write::DropWaits(Id(7)));
        assert!(!with_more.may_be_lost(), "what comes with it has to last");
    }
}
