//! What a store is: runs that an engine leaves in it when it starts.

use super::{NOW, commit, event, ids, put, run, suspended};
use crate::base::{Millis, RunId, Span};
use crate::rules::{Dormant, List, RunRow, RunState, Write};
use crate::store::{Store, TakeUp};

/// Leaves the dormant runs for which `may` holds.
pub struct Leaver<F> {
    may: F,
    /// Every dormant run that was told.
    pub told: Vec<Dormant>,
    /// Every run that was to be taken up.
    pub taken: Vec<RunRow>,
}

impl<F: FnMut(&Dormant) -> bool> Leaver<F> {
    /// One that leaves those.
    pub fn new(may: F) -> Leaver<F> {
        Leaver { may, told: Vec::new(), taken: Vec::new() }
    }
}

impl<F: FnMut(&Dormant) -> bool> TakeUp for Leaver<F> {
    fn leaves(&mut self, run: &Dormant) -> bool {
        self.told.push(run.clone());
        (self.may)(run)
    }

    fn take_up(&mut self, run: RunRow) {
        self.taken.push(run);
    }
}

/// What an engine that leaves all that it may is told: the dormant runs, and those that it takes up.
fn told(store: &dyn Store) -> (Vec<Dormant>, Vec<RunId>) {
    let mut leaver = Leaver::new(|_| true);
    assert_eq!(store.start_from(&mut leaver, &mut |_| {}), Ok(()));
    (leaver.told, leaver.taken.iter().map(|row| row.id).collect())
}

fn suspend(store: &dyn Store, run: RunId, state: RunState, wake: Option<Millis>) {
    let write = Write::Suspend { run, state, wake, attempt: 1, error: None };
    assert_eq!(commit(store, vec![List { expect: Vec::new(), writes: vec![write] }]), Ok(vec![Ok(())]));
}

pub(super) fn a_suspended_run_that_nothing_hangs_on_can_be_left_where_it_is(store: &dyn Store) {
    let ids = ids();
    let event = event(ids.next(NOW));
    let soon = Some(NOW.after(Span::seconds(9)));
    let [queued, sleeping, ended, waiting, backing_off] = std::array::from_fn(|_| run(ids.next(NOW), event.id));
    let [gated, invoked] = std::array::from_fn(|_| suspended(ids.next(NOW), event.id, queued.id));
    let ended = RunRow { state: RunState::Completed, ended: Some(NOW), ..ended };
    let gated = RunRow { invoked_by: None, ..gated };
    let invoked = RunRow { gates: None, ..invoked };
    put(store, vec![Write::InsertEvent(event)]);
    let all = [&queued, &sleeping, &ended, &waiting, &backing_off, &gated, &invoked];
    put(store, all.map(|run| Write::CreateRun(run.clone())).into());
    assert_eq!(told(store), (Vec::new(), [&queued, &sleeping, &waiting, &backing_off, &gated, &invoked].map(|run| run.id).into()));
    suspend(store, sleeping.id, RunState::Sleeping, soon);
    suspend(store, waiting.id, RunState::Waiting, None);
    suspend(store, backing_off.id, RunState::BackingOff, soon);
    let dormant = |run: &RunRow, state, wake| Dormant { run: run.id, function: run.function.clone(), state, wake };
    let left = [
        dormant(&sleeping, RunState::Sleeping, soon),
        dormant(&waiting, RunState::Waiting, None),
        dormant(&backing_off, RunState::BackingOff, soon),
    ];
    assert_eq!(told(store), (left.to_vec(), [&queued, &gated, &invoked].map(|run| run.id).into()));
    // One that is not left comes with the others, in order.
    let mut leaver = Leaver::new(|run: &Dormant| run.state != RunState::Waiting);
    assert_eq!(store.start_from(&mut leaver, &mut |_| {}), Ok(()));
    let taken: Vec<RunId> = leaver.taken.iter().map(|row| row.id).collect();
    assert_eq!((leaver.told, taken), (left.to_vec(), [&queued, &waiting, &gated, &invoked].map(|run| run.id).into()));
    // They are read by their ids once they are asked for; what has ended or was never there is left out.
    let outlines = store.outlines(&[backing_off.id, ended.id, RunId::first_at(NOW.after(Span::seconds(99))), sleeping.id]).expect("a read");
    let whole = |run: &RunRow| store.run(run.id).expect("a read").map(RunRow::outline);
    assert_eq!(outlines.into_iter().map(Some).collect::<Vec<_>>(), [whole(&backing_off), whole(&sleeping)]);
    // What goes on is not dormant any more.
    let requeue = Write::Requeue { run: backing_off.id, suspects: 0 };
    assert_eq!(commit(store, vec![List { expect: Vec::new(), writes: vec![requeue] }]), Ok(vec![Ok(())]));
    assert_eq!(told(store), (left[..2].to_vec(), [&queued, &backing_off, &gated, &invoked].map(|run| run.id).into()));
}
