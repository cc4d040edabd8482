//! What a branch of a race asks and waits for: whether the race is decided, whether it may begin something new, and whether it has to end
//! since another one was first.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use crate::base::Millis;
use crate::rules::Kind;
use crate::rules::fit::{Instead, is_under};
use crate::rules::run::Outcome;
use crate::script::error::{Fault, terminated};

use super::super::journal::{Found, new_call};
use super::super::{Attempt, Halt};
use super::{Branch, Common, Running};

impl Attempt {
    /// Asks for the next race of this name: for its record, where it is decided, which stands for all that is below it.
    pub(in crate::script) fn ask_race(&self, name: &str) -> Result<Found, Fault> {
        if self.is_halted() {
            return Err(terminated());
        }
        self.demand_place()?;
        let records = &self.call.journal.records;
        let branch = self.branch.as_ref();
        let mut state = self.common.state.borrow_mut();
        let named = branch.map_or_else(|| name.to_owned(), |branch| Attempt::named(branch, name));
        let key = state.next_key(Kind::Race, &named);
        let at = state.fit.race(records, branch.map(|branch| &*branch.path), &key);
        let record = at.map(|at| records[at].clone()).or_else(|| state.find_added(Kind::Race, &key));
        drop(state);
        let Some(record) = record else { return Ok(Found::New(key)) };
        self.common.change();
        match branch {
            Some(branch) => Ok(self.found_in_branch(branch, &record)),
            None => {
                self.operations.set(0);
                self.passes_record(&record);
                Ok(Found::Recorded(record.result))
            }
        }
    }

    /// A race is decided: before anything is made of that, the handler has to ask for all that is recorded. What is recorded below the race
    /// is not needed any more.
    pub(in crate::script) fn demand_all_asked(&self, key: &Arc<str>) -> Result<(), Fault> {
        let missed = {
            let mut state = self.common.state.borrow_mut();
            state.fit.pass_over(&self.call.journal.records, key);
            state.fit.missed()
        };
        self.forget_below(&|_, below| is_under(below, key));
        self.common.change();
        match missed {
            None => {}
            Some(_) if self.is_branch() => self.wait_for_others(Kind::Race, key)?,
            Some(at) => return Err(self.halt(Halt::Stop(self.unfit(at, Instead::Asks(new_call(Kind::Race, key)))))),
        }
        self.go_beyond_records(Kind::Race, key)
    }

    /// When the first thing below a race began; now where there is none.
    pub(in crate::script) fn began_below(&self, race: &str) -> Millis {
        let state = self.common.state.borrow();
        let records = self.call.journal.records.iter().chain(&state.added.records).filter(|record| is_under(&record.key, race));
        let waits = self.common.waits.borrow();
        let opened = waits.iter().filter(|row| is_under(&row.wait.key, race)).map(|row| row.opened);
        records.map(|record| record.started).chain(opened).chain([self.now()]).min().unwrap_or_default()
    }

    /// Whether something holds of this branch, or of one that it is in.
    pub(super) fn any_branch(&self, holds: &mut dyn FnMut(&Branch) -> bool) -> bool {
        let Some(branch) = &self.branch else { return false };
        holds(branch) || branch.above.upgrade().is_some_and(|above| above.any_branch(holds))
    }

    /// Comes to something new. In a race it waits until it is known whether a branch has ended by what is recorded. Where one of them has
    /// no stack to find that out, this one makes room for it.
    pub(super) fn begin_new(&self) -> Result<(), Fault> {
        self.comes_up();
        if !self.is_held() {
            return Ok(());
        }
        let common = &self.common;
        Common::count(&common.arrived, 1);
        common.change();
        let may_begin = self.wait(std::future::poll_fn(|_| {
            if !self.is_held() {
                return Poll::Ready(true);
            }
            // Nobody is left who could come as far.
            if common.quiet.get() && common.is_short_of_stacks() { Poll::Ready(false) } else { Poll::Pending }
        }));
        Common::count(&common.arrived, -1);
        common.change();
        if may_begin? {
            return Ok(());
        }
        // What it begins when it is back must not come to the disk before what it has drawn, say.
        self.commit_records()?;
        Err(self.makes_room())
    }

    /// Whether a race that it is in has its branches wait before they begin something new.
    pub(in crate::script) fn is_held(&self) -> bool {
        self.any_branch(&mut |branch| branch.gate.as_ref().is_some_and(|gate| gate.get()))
    }

    /// Notes that it has come to something new, and so have the branches that it is in.
    pub(super) fn comes_up(&self) {
        let up = &mut |branch: &Branch| {
            branch.is_up.set(true);
            false
        };
        self.any_branch(up);
        self.common.change();
    }

    /// Whether it is still among what is recorded.
    pub(in crate::script) fn is_behind(&self) -> bool {
        self.branch.as_ref().is_some_and(|branch| !branch.is_up.get())
    }

    /// Another branch has ended its race.
    pub(in crate::script) fn leave(&self) {
        if let Some(branch) = &self.branch {
            branch.is_left.set(true);
        }
    }

    /// Whether it ends, since another branch has ended its race, or one around it.
    pub(in crate::script) fn is_left(&self) -> bool {
        self.any_branch(&mut |branch| branch.is_left.get())
    }

    /// Ends the script of a branch whose race is over.
    pub(in crate::script::attempt) fn demand_place(&self) -> Result<(), Fault> {
        if self.is_left() { Err(self.halt(Halt::Stop(Outcome::Interrupted))) } else { Ok(()) }
    }

    /// The branches at work below this one that have to end, since their races are over.
    pub(in crate::script) fn left(&self) -> Vec<Rc<Running>> {
        self.common.change();
        let path = |attempt: &Attempt| attempt.branch.as_ref().map(|branch| Arc::clone(&branch.path));
        let own = path(self);
        let is_below = |attempt: &Attempt| own.as_ref().is_none_or(|own| path(attempt).is_some_and(|path| is_under(&path, own)));
        let is_meant = |running: &&Rc<Running>| running.attempt.is_left() && is_below(&running.attempt);
        self.common.beside.borrow().iter().filter(is_meant).cloned().collect()
    }
}
