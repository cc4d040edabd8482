//! Runs that invoke each other: what the end of one means for the one that waits for it, the cancel of a run with all
//! that it has started, and what an invoked run can never get past: a slot of its own ancestor, or of runs that wait for others in
//! the same line (`rules::deadlock` finds those).

use std::sync::Arc;

use crate::base::{Json, Millis};

use super::policy::Hold;
use super::queue::Want;
use super::row::{Failure, RunRow, RunState};
use super::waits::{Resolution, WaitKey, resolve};
use super::write::{Expect, List, Write};

/// The name of the event that an invoked run has.
pub const INVOKED: &str = "stepwell/invoked";

/// Why a run is cancelled that another one waited for until its own end: `fail` in one branch ends the run, whatever the others wait for.
pub const WITHOUT_IT: &str = "the run that invoked it ended without it";

/// How a run ended, for the one that waits for it.
pub fn outcome(run: &RunRow, state: RunState, output: Option<&Json>, error: Option<&Failure>, reason: Option<&str>) -> Resolution {
    let function = &run.function;
    match (state, error) {
        (RunState::Completed, _) => Resolution::Value(output.cloned().unwrap_or_else(|| Json::from("null"))),
        (RunState::Failed, Some(error)) => Resolution::Failed(Arc::new(Failure {
            message: format!("run {} of `{function}` failed: {}", run.id, error.message),
            code: "E0426".to_owned(),
            data: error.data.clone(),
            ..Failure::default()
        })),
        _ => Resolution::Failed(Arc::new(Failure {
            message: format!("run {} of `{function}` was cancelled: {}", run.id, reason.unwrap_or("no reason was given")),
            code: "E0426".to_owned(),
            ..Failure::default()
        })),
    }
}

/// The list that ends a run, with the wait of the run that invoked it resolved.
pub fn end_with(mut list: List, run: &RunRow, parent: &WaitKey) -> List {
    let end = list.writes.iter().find_map(|write| match write {
        Write::End { run: ended, state, output, error, reason, .. } if *ended == run.id => {
            Some(outcome(run, *state, output.as_ref(), error.as_deref(), reason.as_deref()))
        }
        _ => None,
    });
    if let Some(with) = end {
        let part = resolve(parent, with);
        list.expect.extend(part.expect);
        list.writes.extend(part.writes);
    }
    list
}

/// A run that is to be cancelled, with what its end tells others.
#[derive(Debug, Clone, PartialEq)]
pub struct Doomed {
    /// The run.
    pub run: RunRow,
    /// Why.
    pub reason: Arc<str>,
    /// Written with its end.
    pub told: Vec<Write>,
}

/// Why each run of a tree is cancelled: the first one for `reason`, those that it has started, over however many
/// generations, because of it.
pub fn reason(at: usize, reason: &str) -> Arc<str> {
    if at == 0 { Arc::from(reason) } else { Arc::from(format!("the run that invoked it was cancelled: {reason}")) }
}

/// The list that cancels runs; `parent` waits for the first one. It holds whatever revision they are at, as long as the
/// first one has not ended: one of the others may end meanwhile, and is left as it is.
pub fn cancel(tree: Vec<Doomed>, parent: Option<&WaitKey>, now: Millis) -> List {
    let mut list = List { expect: tree.first().map(|first| Expect::NotEnded(first.run.id)).into_iter().collect(), writes: Vec::new() };
    for (at, Doomed { run, reason, told }) in tree.into_iter().enumerate() {
        let mut writes = vec![Write::DropWaits(run.id)];
        if let Some(parent) = parent.filter(|_| at == 0) {
            let with = outcome(&run, RunState::Cancelled, None, None, Some(&reason));
            writes.push(Write::ResolveWait { wait: parent.clone(), with });
        }
        let state = RunState::Cancelled;
        writes.push(Write::End { run: run.id, state, at: now, output: None, error: None, reason: Some(reason) });
        writes.extend(told);
        list.writes.push(Write::IfOpen { run: run.id, writes });
    }
    list
}

/// The slot that an invoked run would wait for for ever: its ancestors hold all of it for as long as they wait for it.
pub fn deadlock<'w>(wants: &'w [Want], ancestors: &[Vec<Want>]) -> Option<&'w Want> {
    let held_by = |wanted: &Want| {
        let is_it = |want: &&Want| want.scope == wanted.scope && want.key == wanted.key && want.hold == Hold::Run;
        ancestors.iter().filter(|wants| wants.iter().any(|want| is_it(&want))).count()
    };
    wants.iter().find(|want| held_by(want) >= want.limit as usize)
}

/// Why an invoked run is cancelled that would stand in line for ever, and what the one is told that waits for it. `limit` says what the
/// limit allows.
pub fn deadlocked(run: &RunRow, limit: &str) -> (String, Failure) {
    let circle = format!("deadlock: {limit}, and all that have a slot wait for runs that wait for one");
    let help = "`hold: active` frees the slot while a run waits; a higher limit, or a `timeout` of `invoke`, helps as well";
    let message = format!("{circle}; run {} of `{}` was cancelled", run.id, run.function);
    let failure = Failure { message, code: "E0424".to_owned(), help: Some(help.to_owned()), ..Failure::default() };
    (format!("{circle}; {help}"), failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;
    use crate::rules::Kind;
    use crate::rules::run::example;

    fn parent() -> WaitKey {
        WaitKey { run: Id(1), kind: Kind::Invoke, key: "pay".into() }
    }

    #[test]
    fn the_end_of_a_run_resolves_the_wait_for_it_in_the_same_list() {
        let run = example();
        let failure = Arc::new(Failure { message: "no money".into(), data: Some(serde_json::json!(7)), ..Failure::default() });
        let end = |state, output: Option<&str>, error, reason: Option<&str>| Write::End {
            run: run.id,
            state,
            at: Millis(1),
            output: output.map(Json::from),
            error,
            reason: reason.map(Arc::from),
        };
        let resolved = |write: Write| {
            let list = end_with(List { expect: Vec::new(), writes: vec![write] }, &run, &parent());
            assert_eq!(list.expect, [Expect::WaitOpen { wait: parent(), event: None }]);
            match list.writes.last() {
                Some(Write::ResolveWait { with, .. }) => with.clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(resolved(end(RunState::Completed, Some("[1]"), None, None)), Resolution::Value("[1]".into()));
        let Resolution::Failed(failed) = resolved(end(RunState::Failed, None, Some(failure), None)) else { panic!("it failed") };
        assert_eq!((failed.message.as_str(), &failed.data), ("run 0000000000007 of `pay` failed: no money", &Some(serde_json::json!(7))));
        let Resolution::Failed(failed) = resolved(end(RunState::Cancelled, None, None, Some("enough"))) else { panic!("it failed") };
        assert_eq!(failed.message, "run 0000000000007 of `pay` was cancelled: enough");
    }

    #[test]
    fn a_cancel_ends_the_run_and_all_that_it_has_started_together() {
        let doomed = |at: usize, id| Doomed { run: RunRow { id: Id(id), ..example() }, reason: reason(at, "enough"), told: Vec::new() };
        let list = cancel(vec![doomed(0, 1), doomed(1, 2)], Some(&parent()), Millis(9));
        assert_eq!(list.expect, [Expect::NotEnded(Id(1))]);
        let [Write::IfOpen { run: Id(1), writes: first }, Write::IfOpen { run: Id(2), writes: second }] = &list.writes[..] else {
            panic!("{:?}", list.writes)
        };
        let why = |write: &Write| match write {
            Write::End { reason: Some(reason), state: RunState::Cancelled, .. } => reason.to_string(),
            other => panic!("{other:?}"),
        };
        let [Write::DropWaits(Id(1)), Write::ResolveWait { wait, with: Resolution::Failed(_) }, end] = &first[..] else {
            panic!("{first:?}")
        };
        assert_eq!((wait, why(end)), (&parent(), "enough".to_owned()));
        let [Write::DropWaits(Id(2)), end] = &second[..] else { panic!("{second:?}") };
        assert_eq!(why(end), "the run that invoked it was cancelled: enough");
    }

    #[test]
    fn a_deadlock_names_the_limit_and_the_way_out_of_it() {
        let (reason, failure) = deadlocked(&example(), "pay allows 2 runs at a time");
        let circle = "deadlock: pay allows 2 runs at a time, and all that have a slot wait for runs that wait for one";
        assert!(reason.starts_with(circle) && reason.contains("`hold: active`"), "{reason}");
        let said = (failure.message, &*failure.code, failure.help.is_some_and(|help| help.contains("`hold: active`")));
        assert_eq!(said, (format!("{circle}; run 0000000000007 of `pay` was cancelled"), "E0424", true));
    }

    #[test]
    fn a_run_cannot_wait_for_a_slot_that_its_ancestors_hold() {
        let want = |scope: &str, key: &str, limit, hold| Want { scope: scope.into(), key: key.into(), limit, hold, throttle: None };
        let one = want("f#0", "1", 1, Hold::Run);
        let two = want("f#0", "1", 2, Hold::Run);
        let active = want("f#0", "1", 1, Hold::Active);
        let cases = [
            ("the parent holds the only slot", vec![one.clone()], vec![vec![one.clone()]], true),
            ("another key", vec![want("f#0", "2", 1, Hold::Run)], vec![vec![one.clone()]], false),
            ("another limit", vec![want("g#0", "1", 1, Hold::Run)], vec![vec![one.clone()]], false),
            ("there is a second slot", vec![two.clone()], vec![vec![two.clone()]], false),
            ("the ancestors hold both", vec![two.clone()], vec![vec![two.clone()], vec![], vec![two]], true),
            ("the parent lets it go while it waits", vec![active.clone()], vec![vec![active]], false),
            ("no limit", vec![], vec![vec![one]], false),
        ];
        for (what, wants, ancestors, expected) in cases {
            assert_eq!(deadlock(&wants, &ancestors).is_some(), expected, "{what}");
        }
    }
}
