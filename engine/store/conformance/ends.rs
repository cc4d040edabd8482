//! What a store is: what hangs on a run that has not ended, and paused functions.

use super::{NOW, begun, commit, end, event, ids, plain, put, reads_back, run, start};
use crate::base::{Id, Span};
use crate::rules::{Conflict, Expect, List, PauseRow, RunRow, RunState, Write};
use crate::store::Store;

pub(super) fn what_hangs_on_an_open_run_is_left_out_once_it_has_ended(store: &dyn Store) {
    let row = begun(store);
    let ids = ids();
    let other = |id| Write::CreateRun(run(id, row.event));
    let later = NOW.after(Span::seconds(1));
    let cancel = |id| vec![Write::IfOpen { run: row.id, writes: vec![end(row.id, RunState::Cancelled, later), other(id)] }];
    let expects = |writes| List { expect: vec![Expect::NotEnded(row.id)], writes };
    let (first, second, third) = (ids.next(later), ids.next(later), ids.next(later));
    assert_eq!(commit(store, vec![expects(cancel(first))]), Ok(vec![Ok(())]));
    let ended = RunRow { state: RunState::Cancelled, ended: Some(later), rev: row.rev + 1, ..row.clone() };
    reads_back(store, &ended);
    assert_eq!(store.run(first).map(|run| run.is_some()), Ok(true), "also what comes after the end within");
    put(store, cancel(second));
    reads_back(store, &ended);
    assert_eq!(store.run(second), Ok(None), "it had ended before");
    let moved = Conflict::RunMoved { rev: ended.rev, state: RunState::Cancelled };
    assert_eq!(commit(store, vec![expects(vec![other(third)])]), Ok(vec![Err(moved)]));
    let nobody = Id(row.id.0 - 1);
    let gone = List { expect: vec![Expect::NotEnded(nobody)], writes: Vec::new() };
    assert_eq!(commit(store, vec![gone]), Ok(vec![Err(Conflict::RunGone)]));
    put(store, vec![Write::IfOpen { run: nobody, writes: vec![other(third)] }]);
    assert_eq!(store.run(third), Ok(None));
}

pub(super) fn a_list_about_a_running_run_is_left_out_where_it_is_not(store: &dyn Store) {
    let row = begun(store);
    let expects = |run| List { expect: vec![Expect::Running(run)], writes: Vec::new() };
    let queued = Conflict::RunMoved { rev: row.rev, state: RunState::Queued };
    let ended = Conflict::RunMoved { rev: row.rev + 2, state: RunState::Cancelled };
    let (starts, ends) = (plain(vec![start(row.id)]), plain(vec![end(row.id, RunState::Cancelled, NOW)]));
    let lists = vec![expects(row.id), starts, expects(row.id), ends, expects(row.id), expects(Id(row.id.0 - 1))];
    let verdicts = vec![Err(queued), Ok(()), Ok(()), Ok(()), Err(ended), Err(Conflict::RunGone)];
    assert_eq!(commit(store, lists), Ok(verdicts));
}

pub(super) fn a_list_that_comes_after_the_end_of_a_run_is_left_out_before(store: &dyn Store) {
    let row = begun(store);
    let (under_way, over) = (Conflict::RunUnderWay(row.id), |run| List { expect: vec![Expect::RunOver(run)], writes: Vec::new() });
    assert_eq!(commit(store, vec![over(row.id)]), Ok(vec![Err(under_way.clone())]));
    let lists = vec![over(row.id), plain(vec![end(row.id, RunState::Completed, NOW)]), over(row.id)];
    assert_eq!(commit(store, lists), Ok(vec![Err(under_way), Ok(()), Ok(())]), "a list before it may end the run");
    assert_eq!(commit(store, vec![over(Id(row.id.0 - 1))]), Ok(vec![Ok(())]), "one that is not there is over as well");
}

pub(super) fn an_event_has_to_be_stored_where_that_is_expected(store: &dyn Store) {
    let ids = ids();
    let row = event(ids.next(NOW));
    let expects = || List { expect: vec![Expect::EventStored(row.id)], writes: Vec::new() };
    assert_eq!(commit(store, vec![expects()]), Ok(vec![Err(Conflict::EventGone)]));
    let lists = vec![plain(vec![Write::InsertEvent(row.clone())]), expects()];
    assert_eq!(commit(store, lists), Ok(vec![Ok(()), Ok(())]), "a list before it may store it");
}

pub(super) fn a_function_is_paused_until_it_is_resumed(store: &dyn Store) {
    assert_eq!(store.pauses(), Ok(Vec::new()));
    let pause = |function: &str, paused, seconds| PauseRow { function: function.into(), paused, since: NOW.after(Span::seconds(seconds)) };
    put(store, vec![Write::Pause(pause("b", true, 1)), Write::Pause(pause("a", true, 2))]);
    assert_eq!(store.pauses(), Ok(vec![pause("a", true, 2), pause("b", true, 1)]));
    put(store, vec![Write::Pause(pause("b", false, 3))]);
    assert_eq!(store.pauses(), Ok(vec![pause("a", true, 2), pause("b", false, 3)]));
}
